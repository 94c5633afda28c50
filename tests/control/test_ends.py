"""The end of a server, of its process, and what a forked child has to do with it."""

import os
import signal
import time

import grpc
import support
from asking import LIMIT, Client, Host, at_end, beside, connect, directory, host, refusal, state_name
from google.protobuf import message_factory
from test_hostile import PREFACE, SETTINGS, frame


def code_of(stream):
    """How a stream ends, whatever it tells before."""
    try:
        for _ in stream:
            pass
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_freed_with_streams_and_calls_open_each_ends_unavailable():
    with host() as h:
        number, address = h.serve()
        h.do("pod a ignore 60000")
        with Client(address) as client, connect(address) as silent:
            streams = [client.ask("Watch"), client.ask("Watch", name="a"), client.watch_health("a"), client.watch_health("live")]
            for stream in streams:
                next(stream)
            call = client.begin("Terminate", name="a")
            while client.state("a") != "STOPPING":
                time.sleep(0.001)
            took = float(h.do(f"unserve {number}"))
            assert took < 4000, f"{took} ms: its thread was left to itself, or nearly"
            assert [code_of(stream) for stream in streams] == ["UNAVAILABLE"] * 4
            assert call.exception(timeout=LIMIT).code().name == "UNAVAILABLE"
            assert at_end(silent)
        with Client(h.serve()[1]) as client:
            assert client.state("a") == "STOPPING", "the pods go on"


def test_a_process_that_is_killed_during_a_call_is_unavailable():
    with directory() as d:
        h = Host()
        address = h.serve(f"unix:{d}/control.sock")[1]
        h.do("pod a ignore 60000")
        with Client(address) as client:
            call = client.begin("Terminate", name="a")
            told = client.ask("Watch")
            next(told)
            h.process.kill()
            assert call.exception(timeout=LIMIT).code().name == "UNAVAILABLE"
            assert code_of(told) == "UNAVAILABLE"
        h.process.wait()


def test_after_a_fork_the_parent_serves_and_its_end_is_seen():
    with host() as h:
        h.do("pod a wait")
        places = [h.serve(), h.serve("tcp:127.0.0.1:0")]
        clients = [Client(address) for _, address in places]
        told = [client.ask("Watch") for client in clients]
        for stream in told:
            next(stream)
        child = int(h.do("fork"))
        for client in clients:
            assert client.check("a") == 1
        for number, address in places:
            bare = connect(address)
            h.do(f"unserve {number}")
            assert at_end(bare), "although the child holds the connection"
            bare.close()
            try:
                connect(address).close()
                raise AssertionError(f"{address} lets in after its end")
            except OSError:
                pass
        assert [code_of(stream) for stream in told] == ["UNAVAILABLE"] * 2
        for client in clients:
            client.channel.close()
        os.kill(child, signal.SIGKILL)


def test_servers_come_and_go_while_clients_ask():
    with host() as h:
        h.do("pod a wait")
        for _ in range(20):
            number, address = h.serve()
            with Client(address) as client:
                assert client.check("a") == 1
                asking = [beside(lambda: refusal_or_answer(client)) for _ in range(4)]
                h.do(f"unserve {number}")
                for answer in asking:
                    assert answer() in (1, "UNAVAILABLE")


def refusal_or_answer(client):
    try:
        return client.check("a")
    except grpc.RpcError as error:
        return error.code().name


def test_a_command_that_has_ended_is_told_with_its_end():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod c command")
        os.kill(int(h.do("id c")), signal.SIGKILL)
        told = client.ask("Watch", name="c")
        for event in told:
            if state_name(event, "to") == "FAILED":
                break
        pod = client.ask("GetPod", name="c")
        assert pod.failures[0].kind == 5 and pod.failures[0].code == signal.SIGKILL and pod.id == 0
        assert refusal(lambda: client.ask("GetPod", name="d"))[0] == "NOT_FOUND"
        told.cancel()


class Watcher:
    """A call of Watch on a bare connection. It only reads: however late it is, it hears all that the service has said."""

    def __init__(self, address, event):
        headers = b"\x83\x86\x41\x01a\x04\x19/podkeep.v1.Control/Watch" + b"\x0f\x10\x10application/grpc\0\x02te\x08trailers"
        self.event, self.frames, self.messages, self.ended = event, b"", b"", False
        self.connection = connect(address)
        self.connection.sendall(PREFACE + SETTINGS + frame(1, 4, 1, headers) + frame(0, 1, 1, bytes(5)))

    def read(self):
        """False: there is no more."""
        try:
            more = self.connection.recv(65536)
        except ConnectionResetError:
            more = b""  # the service had not read all of what was said to it
        self.frames += more
        while len(self.frames) >= 9 and len(self.frames) >= 9 + (length := int.from_bytes(self.frames[:3], "big")):
            kind, flags, said = self.frames[3], self.frames[4], self.frames[9 : 9 + length]
            self.messages += said if kind == 0 else b""
            self.ended |= kind == 1 and flags & 1 != 0
            self.frames = self.frames[9 + length :]
        return more

    def take(self):
        """The next event that was read; None: there is none."""
        length = int.from_bytes(self.messages[1:5], "big")
        if len(self.messages) < 5 or len(self.messages) < 5 + length:
            return None
        event = self.event.FromString(self.messages[5 : 5 + length])
        self.messages = self.messages[5 + length :]
        return event.name, state_name(event, "to")


def test_all_that_had_happened_before_the_end_is_told_to_each_watcher():
    # Also by a process that is kept from running in the middle of it: what is late is not left out.
    for stalled_after in (None, None, None, 0, 0.0002, 0.0005, 0.001, 0.002, 0.005):
        with host() as h:
            number, address = h.serve()
            for name in "abc":
                h.do(f"pod {name} wait")
            with Client(address) as client:
                event = message_factory.GetMessageClass(client.service.methods_by_name["Watch"].output_type)
            watchers = [Watcher(address, event) for _ in range(40)]
            for watcher in watchers:
                running = set()
                while running != set("abc"):
                    while (told := watcher.take()) is None:
                        assert watcher.read(), "its first words"
                    running |= {told[0]} if told[1] == "RUNNING" else set()
            h.send(f"close a\nclose b\nclose c\nunserve {number}")
            if stalled_after is not None:
                time.sleep(stalled_after)
                h.process.send_signal(signal.SIGSTOP)
                time.sleep(0.3)  # longer than the end takes
                h.process.send_signal(signal.SIGCONT)
            for watcher in watchers:
                while watcher.read():
                    pass
                watcher.connection.close()
                seen = list(iter(watcher.take, None))
                assert seen == [(name, state) for name in "abc" for state in ("STOPPING", "STOPPED")], (stalled_after, seen)
                assert watcher.ended, f"{stalled_after}: the connection has ended, and nobody has said so"
            for _ in range(4):
                assert support.line(h.process).startswith("OK")
