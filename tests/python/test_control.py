"""Control: pods reached by an address, from here and from another process; waits that answer Ctrl-C; what is left behind."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import threading

import pytest
import runtimes
from conftest import PROMPT, ROOT, Idle, alive, until

import podkeep
from podkeep import Control, Pod, State, Status, query, terminate


@pytest.fixture
def deaf():
    """A pod that hears of no cancel until the test is over."""
    go = threading.Event()

    @podkeep.runtime
    def deaf(ctx):
        go.wait()

    pod = Pod(deaf, grace=600.0).start()
    pod.let_go = go.set
    yield pod
    go.set()
    pod.close()
    # Calls that were interrupted have their answer now.
    until(lambda: not any(thread.name == "podkeep-call" for thread in threading.enumerate()))


def test_a_pod_is_seen_and_ended_by_its_address():
    with Control() as control, Pod(Idle, name="web") as pod:
        assert control.address.startswith("unix:")
        assert query(control.address, "web") is State.RUNNING
        terminate(control.address, "web", timeout=60)
        assert pod.state is State.STOPPED
        assert query(control.address, "web", timeout=60) is State.STOPPED
        terminate(control.address, "web")  # it has ended: so be it


def test_a_group_goes_by_its_name():
    with Control() as control, podkeep.Group("site") as group:
        group.add(Pod(Idle))
        group.start()
        assert query(control.address, "site") is State.RUNNING
        terminate(control.address, "site", timeout=60)
        assert group.state is State.STOPPED


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pod(runtimes.Idle, name="web", host="process"),
        lambda: Pod.command("sleep", "3600", name="web"),
    ],
    ids=["process", "command"],
)
def test_a_process_is_reached_through_its_parent(make):
    with Control() as control, make() as pod:
        pid = pod.id
        assert query(control.address, "web", timeout=60) is State.RUNNING
        terminate(control.address, "web", timeout=60)
        assert pod.state is State.STOPPED and pod.failure is None and not alive(pid)


def test_a_port_is_told():
    with Control("tcp:127.0.0.1:0") as control, Pod(Idle):
        scheme, host, port = control.address.split(":")
        assert (scheme, host) == ("tcp", "127.0.0.1") and int(port) > 0
        assert query(control.address, "Idle") is State.RUNNING


def test_closing_ends_the_service_and_not_the_pods(tmp_path):
    path = tmp_path / "web.sock"
    with Pod(Idle) as pod:
        with Control(f"unix:{path}") as control:
            address = control.address
            assert address == f"unix:{path}" and path.is_socket()
        control.close()
        assert not path.exists() and pod.state is State.RUNNING
        with pytest.raises(podkeep.Error) as caught:
            control.address
        assert caught.value.status is Status.INVALID_HANDLE
        with pytest.raises(podkeep.Unreachable):
            query(address, "Idle", timeout=60)


def test_a_forgotten_one_is_closed(tmp_path):
    path = tmp_path / "web.sock"
    Control(f"unix:{path}")
    gc.collect()
    until(lambda: not path.exists())


def test_what_is_refused(tmp_path):
    with Control() as control:
        for call in (query, terminate):
            with pytest.raises(podkeep.NotFound, match="nobody") as caught:
                call(control.address, "nobody", timeout=60)
            assert caught.value.status is Status.NOT_FOUND
            with pytest.raises(podkeep.Unreachable) as caught:
                call(f"unix:{tmp_path}/none.sock", "web", timeout=60)
            assert caught.value.status is Status.UNREACHABLE
            with pytest.raises(podkeep.Error, match="nonsense") as caught:
                call("nonsense", "web", timeout=60)
            assert caught.value.status is Status.INVALID_ARGUMENT
            with pytest.raises(TypeError, match="address must be a str"):
                call(8080, "web")
            with pytest.raises(ValueError, match="NUL"):
                call(control.address, "w\0b")
    with pytest.raises(podkeep.Error) as caught:
        Control("nonsense")
    assert caught.value.status is Status.INVALID_ARGUMENT
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(podkeep.Error) as caught:
            Control(f"tcp:127.0.0.1:{taken.getsockname()[1]}")
        assert caught.value.status is Status.INVALID_STATE
    with pytest.raises(podkeep.NotFound, match="none") as caught:
        Control(f"unix:{tmp_path}/none/of/these.sock")
    assert caught.value.status is Status.NOT_FOUND
    none = tmp_path / "none.pem"
    with pytest.raises(podkeep.Error, match="none.pem") as caught:
        Control("tcp:127.0.0.1:0", tls_cert=none, tls_key=none, tls_client_ca=none)
    assert caught.value.status is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("address", ["tcp:0.0.0.0:0", "tcp:[::]:0"])
def test_other_machines_are_let_in_with_tls_alone(address):
    with pytest.raises(podkeep.Denied, match="TLS") as caught:
        Control(address)
    assert caught.value.status is Status.DENIED


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    place = tmp_path_factory.mktemp("tls")
    script = ROOT / "tests/control/certificates.sh"
    subprocess.run(["sh", str(script), str(place)], check=True, capture_output=True, timeout=60)
    return place


def as_client(control, place, name):
    """The address for the client of that certificate."""
    return f"{control.address},cert={place}/{name}.pem,key={place}/{name}.key,ca={place}/ca.pem"


def test_tls_lets_in_whom_the_authority_knows(certificates):
    server = {"tls_cert": certificates / "server.pem", "tls_key": str(certificates / "server.key")}
    with Control("tcp:127.0.0.1:0", **server, tls_client_ca=certificates / "ca.pem") as control, Pod(Idle) as pod:
        known = as_client(control, certificates, "client")
        assert query(known, "Idle", timeout=60) is State.RUNNING
        bad = [as_client(control, certificates, name) for name in ("stranger", "client-expired")]
        for refused in (*bad, control.address):
            for call in (query, terminate):
                with pytest.raises(podkeep.Denied) as caught:
                    call(refused, "Idle", timeout=60)
                assert caught.value.status is Status.DENIED and control.address in str(caught.value)
        assert pod.state is State.RUNNING
        terminate(known, "Idle", timeout=60)
        assert pod.state is State.STOPPED
    with pytest.raises(podkeep.Error, match="tls_client_ca") as caught:
        Control("tcp:127.0.0.1:0", **server)
    assert caught.value.status is Status.INVALID_ARGUMENT


def test_one_that_fails_says_so_in_a_sentence():
    class Sore(podkeep.Runtime):
        def run_forever(self, ctx):
            ctx.wait()

        def teardown(self):
            raise runtimes.Boom("sore", 3)

    with Control() as control:
        pod = Pod(Sore).start()
        with pytest.raises(podkeep.Error, match="Sore") as caught:
            terminate(control.address, "Sore", timeout=60)
        assert caught.value.status is Status.FAILED and pod.state is State.FAILED


def test_one_that_is_late(deaf):
    with Control() as control:
        with pytest.raises(podkeep.PodTimeout):
            terminate(control.address, "deaf", timeout=0)  # asks, whatever that takes, and waits for nothing
        assert deaf.state is State.STOPPING
        with pytest.raises(podkeep.PodTimeout):
            terminate(control.address, "deaf", timeout=0.05)
        assert query(control.address, "deaf") is State.STOPPING


def test_ctrl_c_is_answered(deaf, interrupted):
    with Control() as control:
        took = [interrupted(lambda: terminate(control.address, "deaf"), 0.02 + 0.017 * step) for step in range(6)]
        assert sorted(took)[-3] < 0.2 and max(took) < PROMPT
        assert deaf.state is State.STOPPING


def test_other_threads_wait_beside_each_other(deaf):
    with Control() as control:
        found = []

        def wait():
            terminate(control.address, "deaf", timeout=60)
            found.append(query(control.address, "deaf"))

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: deaf.state is State.STOPPING)
        assert found == []
        deaf.let_go()
        for thread in threads:
            thread.join(60)
        assert found == [State.STOPPED] * 4


SERVES = """
import sys, podkeep
@podkeep.runtime
def web(ctx):
    ctx.wait()
    print("torn down", flush=True)
control = podkeep.Control("unix:" + sys.argv[1])
with podkeep.Pod(web) as pod:
    print(control.address, flush=True)
    pod.join()
"""


def test_a_pod_of_another_process(program, tmp_path):
    other = program(SERVES, tmp_path / "web.sock")
    address = other.line()
    assert query(address, "web", timeout=60) is State.RUNNING
    terminate(address, "web", timeout=60)
    ran = other.end()
    # Closed by nobody: the interpreter's end has taken the socket away.
    assert (ran.code, ran.lines, ran.err) == (0, ["torn down"], "") and not (tmp_path / "web.sock").exists()


HOLDS = """
import ctypes, os, select, sys, podkeep
sys.setswitchinterval(1000)
class Fds(ctypes.Structure):
    _fields_ = [("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short)]
@podkeep.runtime
def holds(ctx):
    libc, fds = ctypes.PyDLL(None), Fds(os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK), select.POLLIN)
    libc.write(1, b"held\\n", 5)
    libc.poll(ctypes.byref(fds), 1, 60000)
control = podkeep.Control()
print(control.address, flush=True)
with podkeep.Pod(holds, grace=600.0) as pod:
    pod.join()
print(pod.state, flush=True)
"""


def test_a_pod_that_holds_the_interpreter_is_answered_for(program, tmp_path):
    """In the way that no switch interval ends: in C code that does not let go. No thread runs Python meanwhile."""
    go = tmp_path / "go"
    os.mkfifo(go)
    other = program(HOLDS, go)
    address = other.line()
    assert other.line() == "held"
    for _ in range(50):
        assert query(address, "holds", timeout=60) is State.RUNNING
    with pytest.raises(podkeep.PodTimeout):
        terminate(address, "holds", timeout=0)
    assert query(address, "holds", timeout=60) is State.STOPPING
    go.write_bytes(b"!")
    ran = other.end()
    assert (ran.code, ran.lines, ran.err) == (0, ["stopped"], "")


LEAVES = """
import atexit, sys, threading, time, podkeep
leaving = threading.Event()
class Web(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
    def teardown(self):
        print("asked", flush=True)
        leaving.wait(60)
        time.sleep(0.2)  # stands for work that takes its time
pod = podkeep.Pod(Web, name="web", grace=60.0).start()
control = podkeep.Control("unix:" + sys.argv[1])
print("up", flush=True)
open(sys.argv[2]).read()
atexit.register(leaving.set)
sys.exit(5)
"""


def test_a_program_that_leaves_meanwhile_answers_first(program, tmp_path):
    """Its pods are ended by its exit; its service only after them, in whatever order they were made."""
    path, go = tmp_path / "web.sock", tmp_path / "go"
    os.mkfifo(go)
    other = program(LEAVES, path, go)
    assert other.line() == "up"
    found = []

    def ask():
        terminate(f"unix:{path}", "web", timeout=60)
        found.append("ended")

    asking = threading.Thread(target=ask)
    asking.start()
    assert other.line() == "asked"
    go.write_bytes(b"!")
    ran = other.end()
    asking.join(60)
    assert found == ["ended"] and not path.exists()
    assert (ran.code, ran.lines, ran.err) == (5, [], "")


def test_a_call_on_a_daemon_thread_keeps_nobody_from_leaving(program, deaf, tmp_path):
    """As any thread of this kind it is left where it is, in the library."""
    go = tmp_path / "go"
    os.mkfifo(go)
    with Control() as control:
        running = program(
            """
import podkeep, sys, threading
threading.Thread(target=podkeep.terminate, args=(sys.argv[1], "deaf"), daemon=True).start()
open(sys.argv[2]).read()
sys.exit(5)
""",
            control.address,
            go,
        )
        until(lambda: deaf.state is State.STOPPING)
        go.write_bytes(b"!")
        ran = running.end()
        assert (ran.code, ran.lines, ran.err) == (5, [], "")


def test_after_a_shutdown_there_is_no_new_one(program, tmp_path):
    ran = program(
        """
import sys, podkeep
control = podkeep.Control("unix:" + sys.argv[1])
podkeep.shutdown()
try:
    podkeep.Control()
except podkeep.Error as error:
    print(error.status)
try:
    podkeep.query(control.address, "web", timeout=60)
except podkeep.NotFound:
    print("answers")
""",
        tmp_path / "web.sock",
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["invalid_state", "answers"], "") and not (tmp_path / "web.sock").exists()


def test_an_interrupted_call_keeps_nobody_from_leaving(program, deaf):
    with Control() as control:
        running = program(
            """
import sys, podkeep
print("up", flush=True)
try:
    podkeep.terminate(sys.argv[1], "deaf")
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.exit(5)
""",
            control.address,
        )
        assert running.line() == "up"
        until(lambda: deaf.state is State.STOPPING)
        running.interrupt()
        ran = running.end()
        assert (ran.code, ran.lines, ran.err) == (5, ["interrupted"], "")


def test_at_the_interpreters_end_it_is_called_all_the_same(program, tmp_path):
    """No thread can be had there from 3.12 on."""
    ran = program(
        """
import atexit, sys, podkeep
@atexit.register
def last():
    try:
        podkeep.query("unix:" + sys.argv[1], "web", timeout=1)
    except podkeep.Unreachable:
        print("unreachable")
""",
        tmp_path / "none.sock",
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["unreachable"], "")


# What 3.12 and later say of any fork beside threads.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_it_is_dead_and_the_parents_goes_on():
    with Control() as control, Pod(Idle, name="web"):
        address = control.address
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                try:
                    control.address
                except podkeep.Forked:
                    code = 2
                control.close()
                with Control() as own, Pod(Idle, name="own"):
                    if query(own.address, "own", timeout=60) is State.RUNNING and code == 2:
                        code = 3
                # The parent's pods are another process's, as those of any.
                if query(address, "web", timeout=60) is State.RUNNING and code == 3:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert query(control.address, "web", timeout=60) is State.RUNNING
