"""podkeep.run: a pod as the main process. SIGTERM, SIGINT, the exit code, and Python as it was afterwards."""

from __future__ import annotations

import signal
import threading

import pytest
import runtimes
from conftest import PROGRAMS, Idle, alive, until

import podkeep
from podkeep import Pod, State, Status


@pytest.mark.parametrize("host", ["thread", "process"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_and_the_end_is_clean(program, host, number):
    running = program("main.py", "wait", host)
    assert running.line() == "up in the main thread"
    running.child.send_signal(number)
    ran = running.end()
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines == ["cancel", "teardown", "after: 0"]


@pytest.mark.parametrize("host", ["thread", "process"])
@pytest.mark.parametrize(
    "how, code, said",
    [
        ("init", 1, "PodFailed: pod 'Main' failed in init (exception, code -1): OSError: no disk"),
        ("raise", 1, "PodFailed: pod 'Main' failed in run (exception, code -1): OSError: no disk"),
        ("exit", 7, "PodFailed: pod 'Main' failed in run (exception, code 7): SystemExit: 7"),
        ("return", 5, "PodFailed: pod 'Main' failed in run (returned, code 5): "),
    ],
)
def test_the_exit_code_is_the_failures_and_the_reason_is_on_stderr(program, host, how, code, said):
    ran = program("main.py", how, host).end()
    assert ran.code == code and said in ran.err, ran.err
    assert "after" not in ran.out
    if how in ("init", "raise"):
        # The runtime's own traceback, from wherever it ran.
        assert 'raise OSError("no disk")' in ran.err


def test_a_natural_end_is_0(program):
    ran = program("main.py", "end", "thread").end()
    assert (ran.code, ran.err) == (0, "") and ran.lines[-2:] == ["teardown", "after: 0"]


def test_a_child_that_dies_gives_128_and_its_signal(program):
    ran = program("main.py", "die", "process").end()
    assert ran.code == 128 + signal.SIGKILL and "killed by signal 9" in ran.err


@pytest.mark.parametrize("how, code", [("deaf", 128 + signal.SIGTERM), ("natural-deaf", 124)])
def test_grace_spent_ends_the_process(program, how, code):
    running = program("main.py", how, "thread")
    assert running.line() == "up in the main thread"
    if how == "deaf":
        running.child.terminate()
    assert running.end().code == code


def test_a_second_signal_ends_the_process_at_once(program):
    running = program("main.py", "slow", "thread")
    assert running.line() == "up in the main thread"
    running.child.terminate()
    assert running.line() == "cancelled"
    running.child.send_signal(signal.SIGINT)
    assert running.end().code == 128 + signal.SIGINT


def test_pythons_own_handlers_are_back_afterwards_and_others_run_meanwhile(program):
    running = program("main.py", "handlers", "thread")
    assert running.line() == "up in the main thread"
    running.child.send_signal(signal.SIGUSR1)
    assert running.line() == "SIGUSR1 in the main thread"
    running.child.terminate()
    assert running.line() == "SIGTERM cancelled"
    assert running.line() == "again"
    running.child.terminate()
    assert running.line() == "SIGTERM is Python's"
    running.interrupt()
    ran = running.end()
    assert ran.code == -signal.SIGINT and ran.err.splitlines()[-1] == "KeyboardInterrupt"


def test_other_threads_run_meanwhile(program):
    ran = program("main.py", "threads", "thread").end()
    assert (ran.code, ran.lines[-1], ran.err) == (0, "after: 0", "")


def test_an_async_runtime_as_the_main_process(program):
    running = program("main.py", "async", "thread")
    assert running.line() == "up in the main thread"
    running.child.terminate()
    ran = running.end()
    assert (ran.code, ran.lines, ran.err) == (0, ["teardown", "after: 0"], "")


def test_a_command_as_the_main_process(program):
    running = program("main.py", "command", "process")
    pid = int(running.line())
    running.child.terminate()
    ran = running.end()
    assert (ran.code, ran.err) == (0, "") and not alive(pid)


def test_pod_run_gives_the_code_and_says_nothing(capfd):
    pod = Pod(runtimes.Raises, args=(["run"], SystemExit(9)))
    # Any thread may be the one.
    codes = []
    thread = threading.Thread(target=lambda: codes.append(pod.run()), name="mine")
    thread.start()
    thread.join(60)
    assert codes == [9] and pod.state is State.FAILED and pod.failure.code == 9
    assert isinstance(pod.failure.exception, SystemExit) and thread.name == "mine"
    assert capfd.readouterr() == ("", "")


def test_a_pod_that_was_started_is_refused():
    with Pod(Idle) as pod:
        with pytest.raises(podkeep.Error) as caught:
            pod.run()
        assert caught.value.status is Status.INVALID_STATE
    with pytest.raises(TypeError, match="options already"):
        podkeep.run(Pod(Idle), grace=3)
    with pytest.raises(TypeError, match="graze"):
        podkeep.run(Idle, graze=3)


def test_it_can_be_cancelled_from_another_thread():
    pod = Pod(Idle)

    def cancel():
        until(lambda: pod.state is State.RUNNING)
        pod.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert podkeep.run(pod) == 0
    thread.join(60)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert before == [signal.default_int_handler, signal.SIG_DFL]


