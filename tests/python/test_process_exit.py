"""The end of a program with process pods running, and forks beside them: the thread pods' promises hold."""

from __future__ import annotations

import os
import signal
import time

import pytest
from conftest import PROGRAMS, alive, until

MORE = {"PYTHONPATH": os.pathsep.join([str(PROGRAMS.parent), os.environ.get("PYTHONPATH", "")])}


def teardowns(path):
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[0] for line in lines].count("teardown")


def pids_of(path):
    return sorted({int(line.split()[1]) for line in path.read_text().splitlines()})


@pytest.mark.parametrize(
    "how, code, err",
    [
        ("return", 0, ""),
        ("exit", 7, ""),
        ("raise", 1, "RuntimeError: end of the program"),
        ("forget", 0, ""),
        ("shutdown", 9, ""),
        ("in-thread", 0, ""),
        ("daemon", 0, ""),
    ],
)
def test_process_pods_are_torn_down_and_the_code_is_the_programs(program, tmp_path, how, code, err):
    marks = tmp_path / "marks"
    ran = program("processes.py", how, marks, **MORE).end()
    assert ran.code == code, ran.err
    assert ran.err.splitlines()[-1:] == ([err] if err else [])
    assert teardowns(marks) == 5
    # The host waited for them: they are not only told to end, they have ended.
    assert not [pid for pid in pids_of(marks) if alive(pid)]


@pytest.mark.parametrize("host", ["thread", "process"])
def test_the_ends_of_pods_are_told_until_the_last_moment(program, host):
    """To a thread that Python does not wait for, and to handlers that run after podkeep's own."""
    ran = program(
        r"""
import atexit, contextlib, sys, threading, podkeep, runtimes
def late():
    print(pod.state, pod.join(), group.state, group.join(), member.state, failed.state, flush=True)
    for wait in (failed.join, failed.close):
        try:
            wait()
        except podkeep.PodFailed as error:
            print(error.failure.code, flush=True)
    busy.set()
    again.wait()
def asks():
    while True:
        pod.join(), pod.state, pod.failure, pod.restarts, group.state
        if busy.is_set():
            again.set()
if __name__ == "__main__":
    atexit.register(late)
    busy, again = threading.Event(), threading.Event()
    pod = podkeep.Pod(runtimes.Idle, host=sys.argv[1]).start()
    failed = podkeep.Pod(runtimes.fails, args=(7, "why"), host=sys.argv[1]).start(wait=False)
    with contextlib.suppress(podkeep.PodFailed):
        failed.join()
    member = podkeep.Pod(runtimes.Idle, host=sys.argv[1], name="member")
    group = podkeep.Group()
    group.add(member)
    group.start()
    threading.Thread(target=asks, daemon=True).start()
    threading.Thread(target=group.join, daemon=True).start()
""",
        host,
        **MORE,
    ).end()
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == ["stopped None stopped None stopped failed", "7", "7"]


def test_ctrl_c_ends_the_program_as_python_does(program, tmp_path):
    marks = tmp_path / "marks"
    running = program("processes.py", "join", marks, **MORE)
    assert running.line() == "up"
    running.interrupt()
    ran = running.end()
    assert ran.code == -signal.SIGINT and ran.err.splitlines()[-1] == "KeyboardInterrupt"
    assert teardowns(marks) == 5 and not [pid for pid in pids_of(marks) if alive(pid)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
def test_a_host_that_is_killed_leaves_nobody(program, tmp_path, number):
    marks = tmp_path / "marks"
    running = program("processes.py", "join", marks, **MORE)
    assert running.line() == "up"
    pids = pids_of(marks)
    assert len(pids) == 5 and all(alive(pid) for pid in pids)
    running.child.send_signal(number)
    running.child.wait(60)
    for pid in pids:
        until(lambda: not alive(pid), what=f"the end of {pid}")


def test_a_host_that_leaves_by_os_exit_leaves_nobody(program, tmp_path):
    marks = tmp_path / "marks"
    ran = program("processes.py", "os._exit", marks, **MORE).end()
    assert ran.code == 6
    for pid in pids_of(marks):
        until(lambda: not alive(pid), what=f"the end of {pid}")


def test_a_killed_host_that_has_forked_leaves_nobody(program, tmp_path):
    """The fork holds the channels open; nothing of the pods may hang on that."""
    marks = tmp_path / "marks"
    running = program("processes.py", "fork", marks, **MORE)
    assert running.line() == "up"
    copy = int(running.line())
    pids = pids_of(marks)
    running.child.kill()
    running.child.wait(60)
    for pid in pids:
        until(lambda: not alive(pid), what=f"the end of {pid}")
    assert alive(copy)
    os.kill(copy, signal.SIGKILL)


def test_an_exit_is_bounded_by_the_grace_of_a_child_that_ignores_all(program, tmp_path):
    marks = tmp_path / "marks"
    begun = time.monotonic()
    ran = program("processes.py", "deaf", marks, **MORE).end()
    assert ran.code == 5, ran.err
    assert time.monotonic() - begun < 15 and not [pid for pid in pids_of(marks) if alive(pid)]


def test_a_forked_copy_has_pods_of_its_own_only(program, tmp_path):
    ran = program("processes.py", "fork-use", tmp_path / "marks", **MORE).end()
    assert ran.code == 0, ran.err
    assert ran.lines == ["up", "forked Forked", "child's own stopped", "child left with 3", "still running"]
    assert teardowns(tmp_path / "marks") == 5


def test_many_exits_in_a_row(program, tmp_path):
    for number in range(10):
        ran = program("processes.py", "at-once", tmp_path / f"marks{number}", **MORE).end()
        assert (ran.code, ran.err) == (4, "")


def test_a_pod_that_fails_beside_the_exit_is_silent(program, tmp_path):
    ran = program("processes.py", "sore", tmp_path / "marks", **MORE).end()
    assert ran.code == 0, ran.err
