"""Pod.command and Pod.from_library: what is no Python class."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import pytest
from conftest import PROGRAMS, ROOT, alive, content, status_of, until

import podkeep
from podkeep import Kind, Phase, Pod, State, Status

#: Where the library of these tests finds it.
PROGRAM = pathlib.Path(os.environ["PODKEEP_LIBRARY"]).parents[1] / "bin/podkeep"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def server(port, *more, **options):
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    return Pod.command(*command, *more, ready_port=port, **options)


def test_any_program_its_name_its_arguments_and_its_end(tmp_path):
    path = tmp_path / "said"
    pod = Pod.command("sh", "-c", 'printf "%s\\n" "$0" "$@" > "$OUT"', "a b", "", "caf\u00e9", b"\xff", env={"OUT": str(path)})
    assert pod.name == "sh" and repr(pod) == "<podkeep.Pod 'sh' new>"
    pod.start(wait=False).join()
    assert path.read_bytes() == b"a b\n\ncaf\xc3\xa9\n\xff\n"
    assert Pod.command(pathlib.Path("/bin/sh"), name="shell").name == "shell"


def test_a_cancel_is_the_stop_signal():
    with Pod.command("sleep", "3600") as pod:
        assert pod.state is State.RUNNING and alive(pod.id)
    trap = "trap 'exit 0' USR1; echo up; while :; do sleep 0.01; done"
    pod = Pod.command("sh", "-c", trap, stop_signal=signal.SIGUSR1, grace=30)
    with pod:
        pass
    # USR1 before the trap ends it as well: the stop signal is a clean end.
    assert pod.state is State.STOPPED


def test_a_code_that_is_not_0_is_a_failure():
    pod = Pod.command("sh", "-c", "echo no disk >&2; exit 3").start(wait=False)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    error = caught.value
    assert (error.kind, error.code, error.__cause__) == (Kind.EXIT, 3, None)
    assert "exited with code 3" in str(error) and error.stderr == "no disk\n" and "no disk" in error.message


@pytest.mark.parametrize("words, code", [(["podkeep-no-such-program"], 127), ([str(ROOT / "README.md")], 126)])
def test_a_program_that_cannot_be_started_is_a_failure_to_spawn(words, code):
    pod = Pod.command(*words)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.start()
    assert (caught.value.phase, caught.value.kind, caught.value.code) == (Phase.SPAWN, Kind.EXIT, code)


def test_a_server_is_ready_when_it_listens():
    port = free_port()
    with server(port, ready_timeout=30) as pod:
        assert pod.name == os.path.basename(sys.executable)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.status == 200
    assert pod.state is State.STOPPED
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=30)


def test_a_busy_port_is_the_servers_own_words_and_the_first_stays_ready():
    port = free_port()
    with server(port, name="first") as first:
        with pytest.raises(podkeep.PodFailed) as caught:
            server(port, name="second").start()
        assert "ddress already in use" in caught.value.stderr and caught.value.pod_name == "second"
        assert caught.value.phase is Phase.READY
        assert first.state is State.RUNNING


def test_sd_notify_says_when_it_is_ready(tmp_path):
    go = tmp_path / "go"
    pod = Pod.command(sys.executable, PROGRAMS / "notifies.py", go, ready="notify").start(wait=False)
    with pytest.raises(podkeep.PodTimeout):
        pod.wait_ready(timeout=0.2)
    until(lambda: "warming up" in str(pytest.raises(podkeep.PodTimeout, pod.wait_ready, timeout=0).value))
    go.touch()
    pod.wait_ready()
    pod.close()


def test_a_program_that_is_never_ready_is_stopped():
    pod = Pod.command("sleep", "3600", ready="notify", ready_timeout=0.2)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.start()
    assert (caught.value.phase, caught.value.kind) == (Phase.READY, Kind.TIMEOUT)
    with pytest.raises(podkeep.PodFailed):
        pod.join()


def test_a_program_that_ignores_the_signal_is_killed(tmp_path):
    up = tmp_path / "up"
    script = "trap '' TERM; echo $$ > \"$0\"; while :; do sleep 1; done"
    pod = Pod.command("sh", "-c", script, up, grace=0.2, kill_after=0.2).start()
    pid = int(content(up))
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.close()
    assert caught.value.kind is Kind.TIMEOUT and status_of(pid) is None


def test_redis_by_sd_notify():
    if not shutil.which("redis-server"):
        pytest.skip("redis-server is not there")
    port = free_port()
    words = ["--port", str(port), "--save", "", "--bind", "127.0.0.1", "--supervised", "systemd"]
    with Pod.command("redis-server", *words, ready="notify", ready_timeout=30):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"


def test_options_are_checked():
    with pytest.raises(TypeError, match="program"):
        Pod.command()
    for unknown in ({"graze": 1}, {"stack_size": 1 << 20}, {"host": "thread"}):
        with pytest.raises(TypeError, match=next(iter(unknown))):
            Pod.command("true", **unknown)
    with pytest.raises(ValueError, match="NUL"):
        Pod.command("true", "a\0b")
    with pytest.raises(ValueError, match="ready_port"):
        Pod.command("true", ready_port=65536)
    for bad in ({"ready": "port"}, {"ready": "run", "ready_port": 80}, {"stop_signal": 1000}):
        with pytest.raises(podkeep.Error) as caught:
            Pod.command("true", **bad)
        assert caught.value.status is Status.INVALID_ARGUMENT


def test_a_subclass_makes_its_own():
    class Mine(Pod):
        pass

    assert type(Mine.command("true")) is Mine


# --- the podkeep program ----------------------------------------------------------------------------------------------


def test_without_the_podkeep_program_nothing_is_started(tmp_path, program):
    ran = program(
        f"""
import podkeep
if __name__ == "__main__":
    pod = podkeep.Pod.command("true")
    try:
        pod.start()
    except podkeep.Error as error:
        print(error.status, pod.state)
    try:
        podkeep.set_program({str(tmp_path / "none")!r})
    except podkeep.Error as error:
        print(error)
    podkeep.set_program({str(PROGRAM)!r})
    pod.start(wait=False).join()
    print(pod.state)
""",
        PODKEEP_PROGRAM=str(tmp_path / "nowhere"),
    ).end()
    assert ran.code == 0, ran.err
    assert ran.lines[0] == "not_found new" and "none" in ran.lines[1] and ran.lines[2] == "stopped"


# --- shared libraries -------------------------------------------------------------------------------------------------

WORKER = """
#include <podkeep.h>
#include <stdio.h>
#include <string.h>
static int32_t run(podkeep_context *ctx, void *state) {
  size_t size = 0;
  const char *args = podkeep_context_args(ctx, &size);
  (void)state;
  if (size == 4 && memcmp(args, "fail", 4) == 0) return podkeep_context_fail(ctx, 4, "as it was told");
  podkeep_context_ready(ctx);
  podkeep_context_wait(ctx, PODKEEP_FOREVER);
  return 0;
}
const podkeep_runtime_spec *worker(void);
const podkeep_runtime_spec *worker(void) {
  static podkeep_runtime_spec spec = PODKEEP_RUNTIME_SPEC_INIT;
  spec.name = "worker";
  spec.run_forever = run;
  return &spec;
}
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    place = tmp_path_factory.mktemp("worker")
    (place / "worker.c").write_text(WORKER)
    library = os.environ["PODKEEP_LIBRARY"]
    command = ["cc", "-shared", "-fPIC", "-I", str(ROOT / "include"), "-o", str(place / "libworker.so")]
    command += [str(place / "worker.c"), library, f"-Wl,-rpath,{os.path.dirname(library)}"]
    subprocess.run(command, check=True)
    return place / "libworker.so"


@pytest.mark.parametrize("host", ["thread", "process"])
def test_a_runtime_of_a_shared_library(worker, host):
    with Pod.from_library(worker, "worker", host=host, ready="notify") as pod:
        assert pod.name == "worker" and pod.state is State.RUNNING
    pod = Pod.from_library(str(worker), "worker", b"fail", name="told", host=host).start(wait=False)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert (caught.value.pod_name, caught.value.code, caught.value.message) == ("told", 4, "as it was told")


def test_a_library_or_a_symbol_that_is_not_there(worker, tmp_path):
    for path, symbol in ((tmp_path / "none.so", "worker"), (worker, "nobody")):
        with pytest.raises(podkeep.Error) as caught:
            Pod.from_library(path, symbol).start()
        assert symbol in str(caught.value) or "none.so" in str(caught.value)
    with pytest.raises(TypeError, match="bytes"):
        Pod.from_library(worker, "worker", "text")


def test_threads_may_make_commands_at_the_same_time():
    ended = []

    def many():
        for _ in range(5):
            Pod.command("true").start(wait=False).join()
            ended.append(1)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 20
