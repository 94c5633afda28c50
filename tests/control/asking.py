"""What the cases of the control service share: the host that serves, and stock gRPC clients of it."""

import contextlib
import os
import socket
import tempfile
import threading
import time

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import support
from support import LIMIT

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Refused(Exception):
    """The host's library said no: the status and its sentence."""


class Host:
    """The program host.c, or another that takes lines and answers each by one."""

    def __init__(self, *argv, **options):
        argv = argv or [support.BUILD / "host"]
        self.process = support.start(*argv, stdin=support.subprocess.PIPE, stderr=None, **options)
        self.pid = self.process.pid

    def send(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def do(self, line):
        """The words that follow the OK."""
        self.send(line)
        answer = support.line(self.process).rstrip("\n")
        status, _, rest = answer.partition(" ")
        if status != "OK":
            raise Refused(answer)
        return rest

    def serve(self, address="-", *files):
        """Its number and its address."""
        number, address = self.do(" ".join(["serve", address, *map(str, files)])).split(" ", 1)
        return number, address

    def refusal(self, line):
        """Of a line that is refused."""
        try:
            said = self.do(line)
        except Refused as refused:
            return str(refused)
        raise AssertionError(f"{line!r} was not refused: {said}")

    def end(self):
        """It ends by itself, and well."""
        self.send("end")
        code = self.process.wait(timeout=LIMIT)
        assert code == 0, f"the host ended with {code}"


@contextlib.contextmanager
def host():
    host = Host()
    yield host
    host.end()


@contextlib.contextmanager
def directory():
    with tempfile.TemporaryDirectory(prefix="podkeep-control-") as path:
        yield path


class Client:
    """A stock channel, and what reflection tells about podkeep's own service."""

    def __init__(self, address, credentials=None, options=()):
        target = address.removeprefix("tcp:")
        options = [("grpc.use_local_subchannel_pool", 1), *options]  # no connection of another case
        if credentials is None:
            self.channel = grpc.insecure_channel(target, options=options)
        else:
            self.channel = grpc.secure_channel(target, credentials, options=options)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self._service = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    @property
    def service(self):
        if self._service is None:
            self.known = ProtoReflectionDescriptorDatabase(self.channel)
            self._service = DescriptorPool(self.known).FindServiceByName("podkeep.v1.Control")
        return self._service

    def _call(self, name, fields):
        method = self.service.methods_by_name[name]
        asked = message_factory.GetMessageClass(method.input_type)
        answered = message_factory.GetMessageClass(method.output_type)
        make = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        path = f"/podkeep.v1.Control/{name}"
        call = make(path, request_serializer=asked.SerializeToString, response_deserializer=answered.FromString)
        return call, asked(**fields)

    def ask(self, name, /, limit=LIMIT, **fields):
        """Calls and waits; for a stream, begins."""
        call, request = self._call(name, fields)
        return call(request, timeout=limit)

    def begin(self, name, /, **fields):
        """A call under way."""
        call, request = self._call(name, fields)
        return call.future(request, timeout=LIMIT)

    def terminate(self, name, grace=None, **more):
        if grace is not None:
            more["grace"] = {"seconds": int(grace), "nanos": int(grace % 1 * 1e9)}
        return self.ask("Terminate", name=name, **more)

    def state(self, name):
        return state_name(self.ask("GetPod", name=name))

    def check(self, service=""):
        return self.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT).status

    def watch_health(self, service):
        return self.health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=LIMIT)


def state_name(message, field="state"):
    """RUNNING, of a message that has a state."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    return kind.values_by_number[getattr(message, field)].name.removeprefix("STATE_")


def refusal(call):
    """The code and the text of a call that is refused."""
    try:
        answer = call()
        answer = list(answer) if hasattr(answer, "__next__") else answer
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError(f"not refused: {answer}")


def until(condition, what, limit=LIMIT):
    """Waits for what nobody tells of."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise support.Late(what)
        time.sleep(0.005)


def holds(limit, round_of, what, rounds=3):
    """A bound on time, on a machine that has other things to do as well: one whole round keeps it. A service that is held up
    is late in each of them."""
    took = []
    while not took or took[-1] >= limit:
        assert len(took) < rounds, f"{what}: {', '.join(f'{t * 1e3:.1f} ms' for t in took)}"
        took.append(round_of())


def connect(address):
    """A bare connection."""
    if address.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(LIMIT)
        connection.connect(address.removeprefix("unix:"))
        return connection
    name, port = address.removeprefix("tcp:").rsplit(":", 1)
    return socket.create_connection((name, int(port)), timeout=LIMIT)


def at_end(connection):
    """Whether the other side ends it within the limit; what it says before is read."""
    try:
        while connection.recv(65536):
            pass
        return True
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def beside(body):
    """Runs it in a thread of its own; its result when called."""
    found = []

    def run():
        try:
            found.append((body(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(LIMIT)
        assert found, "it did not end"
        value, error = found[0]
        if error:
            raise error
        return value

    return result
