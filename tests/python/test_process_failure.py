"""Failures of process pods: the exception that crosses, and what is known of a death without a word."""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import sys
import time

import pytest
import runtimes
from conftest import alive, content, until

import podkeep
from podkeep import Kind, Phase, Pod, State


def failed(runtime, *args, **options):
    """What joining a process pod raises."""
    pod = Pod(runtime, args=args, host="process", **options).start(wait=False)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert pod.state is State.FAILED and pod.failure == caught.value.failure
    return caught.value


def notes(error):
    return "\n".join(getattr(error, "__notes__", []))


# --- exceptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["init", "run", "teardown"])
def test_the_exception_arrives_with_its_type_and_its_traceback(where):
    pod = Pod(runtimes.Raises, args=([where], runtimes.Boom("my-secret", 7)), host="process", name="web")
    with pytest.raises(podkeep.PodFailed) as caught:
        with pod:
            if where == "run":
                pod.join()
    error = caught.value
    assert (error.phase, error.kind, error.code) == (Phase[where.upper()], Kind.EXCEPTION, -1)
    assert error.message == "runtimes.Boom: my-secret (7)"
    assert str(error) == f"pod 'web' failed in {where} (exception, code -1): runtimes.Boom: my-secret (7)"
    cause = error.__cause__
    assert type(cause) is runtimes.Boom and cause.args == ("my-secret", 7) and cause.number == 7
    note = notes(cause)
    assert note.startswith("In the process of pod 'web':\nTraceback (most recent call last):")
    assert "in at\n" in note and note.endswith("runtimes.Boom: my-secret (7)")
    # From the user's code on, as from a thread.
    assert "_callbacks.py" not in note
    assert pod.failure.exception is cause and "my-secret" in pod.failure.traceback


def test_the_same_object_however_often_it_is_raised():
    pod = Pod(runtimes.Raises, args=(["run"], ValueError("once")), host="process").start(wait=False)
    causes = [pytest.raises(podkeep.PodFailed, pod.join).value.__cause__ for _ in range(3)]
    assert causes[0] is causes[1] is causes[2] and len(causes[0].__notes__) == 1


def test_the_causes_of_an_exception_are_in_the_text():
    error = failed(runtimes.raises_from)
    assert type(error.__cause__) is runtimes.Boom
    assert "KeyError: 'key'" in notes(error.__cause__) and "direct cause" in notes(error.__cause__)


@pytest.mark.parametrize(
    "kind, text",
    [("local", "Local: of a function"), ("reduce", "Unpicklable: as it is"), ("rebuild", "Stubborn: 1 and 2")],
)
def test_an_exception_that_does_not_come_back_leaves_its_traceback(kind, text):
    error = failed(runtimes.raises_unpicklable, kind)
    assert error.kind is Kind.EXCEPTION and text in error.message
    assert error.failure.exception is None
    assert "Traceback (most recent call last)" in notes(error) and text in notes(error)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and notes(again) == notes(error)


def test_an_exception_of_megabytes_is_a_failure_all_the_same():
    error = failed(runtimes.raises_unpicklable, "large")
    assert error.kind is Kind.EXCEPTION and error.message == "ValueError: " + "x" * (3 << 20)
    assert error.failure.exception is None and len(notes(error)) < 2 << 20


def test_the_traceback_is_shown_where_the_failure_is_printed(program):
    ran = program(
        """
import podkeep, runtimes
if __name__ == "__main__":
    podkeep.Pod(runtimes.Raises, args=(["run"], runtimes.Boom("shown")), host="process").start(wait=False).join()
""",
        PYTHONPATH=os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]),
    ).end()
    assert ran.code == 1 and "in at\n" in ran.err and "runtimes.Boom: shown (0)" in ran.err
    assert "PodFailed: pod 'Raises' failed in run" in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    "error, code", [(SystemExit(3), 3), (SystemExit(0), -1), (KeyboardInterrupt(), -1), (MemoryError("none"), -1)]
)
def test_exits_inside_a_runtime_are_failures_as_in_a_thread(error, code):
    told = failed(runtimes.Raises, ["run"], error)
    assert (told.kind, told.code) == (Kind.EXCEPTION, code)
    assert type(told.__cause__) is type(error) and told.__cause__.args == error.args


def test_L7_later_failures_hang_on_the_first():
    error = failed(runtimes.Raises, ["run", "teardown"], runtimes.Boom("sore"))
    later = error.secondary
    assert (error.phase, later.phase, later.secondary) == (Phase.RUN, Phase.TEARDOWN, None)
    assert type(later.exception) is runtimes.Boom and "in at\n" in later.traceback
    assert later.exception is not error.__cause__


def test_what_the_hook_raises_counts(tmp_path):
    # Only the grace ends it: long enough for the hook to be called, and for what it raises to be told, before.
    pod = Pod(runtimes.Marks, args=(str(tmp_path / "marks"), "cancel"), host="process", grace=3, kill_after=0.2).start()
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.close()
    assert (caught.value.phase, caught.value.kind) == (Phase.CANCEL, Kind.EXCEPTION)
    assert type(caught.value.__cause__) is runtimes.Boom


def test_codes_and_sentences_cross():
    for code in (1, -7, 2**31 - 1):
        error = failed(runtimes.returns, code)
        assert (error.kind, error.code, error.__cause__) == (Kind.RETURNED, code, None)
    assert isinstance(failed(runtimes.returns, "done").__cause__, TypeError)
    error = failed(runtimes.fails, 3, "the disk is full: \u00fc")
    assert (error.kind, error.code, error.message) == (Kind.RETURNED, 3, "the disk is full: \u00fc")


def test_arguments_that_do_not_fit_are_a_failure_of_init():
    error = failed(runtimes.Idle, 1, 2, 3)
    assert error.phase is Phase.INIT and isinstance(error.__cause__, TypeError)


def test_the_failure_in_an_event():
    pod = Pod(runtimes.Raises, args=(["run"], runtimes.Boom("event")), host="process")
    with podkeep.Monitor(pod) as monitor:
        pod.start(wait=False)
        (failure,) = [event.failure for event in monitor if event.to is State.FAILED]
    assert type(failure.exception) is runtimes.Boom


# --- death without a word ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how, code, kind",
    [
        ("exit", 3, Kind.EXIT),
        ("exit", 0, Kind.EXIT),
        ("signal", signal.SIGKILL, Kind.SIGNAL),
        ("signal", signal.SIGSEGV, Kind.SIGNAL),
        ("signal", signal.SIGTERM, Kind.SIGNAL),
    ],
)
@pytest.mark.parametrize("runtime, phase", [(runtimes.dies, Phase.RUN), (runtimes.DiesInInit, Phase.INIT)])
def test_a_child_that_dies_is_known_with_its_code_and_phase(runtime, phase, how, code, kind):
    error = failed(runtime, how, int(code), env={"PYTHONFAULTHANDLER": ""})
    assert (error.phase, error.kind, error.code) == (phase, kind, code)
    assert error.__cause__ is None


def test_sigkill_of_a_ready_child_is_known_at_once():
    took = []
    for _ in range(10):
        pod = Pod(runtimes.Idle, host="process").start()
        begun = time.monotonic()
        os.kill(pod.id, signal.SIGKILL)
        with pytest.raises(podkeep.PodFailed) as caught:
            pod.join()
        took.append(time.monotonic() - begun)
        assert (caught.value.kind, caught.value.code, caught.value.phase) == (Kind.SIGNAL, 9, Phase.RUN)
        assert "SIGKILL" in caught.value.message
        assert pod.state is State.FAILED and pod.id is None
    # The promise is 50 ms, measured on a quiet machine by the C tests; here the machine may be busy.
    assert statistics.median(took) < 1


def test_sigkill_in_teardown(tmp_path):
    path = tmp_path / "marks"
    pod = Pod(runtimes.Marks, args=(str(path),), kwargs={"wait": 3600.0}, host="process").start()
    pid = pod.id
    pod.cancel()
    until(lambda: "cancel" in path.read_text())
    # Between the cancel and the sleep in teardown is a moment; the phase tells which side it was.
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert (caught.value.kind, caught.value.code) == (Kind.SIGNAL, 9)
    assert caught.value.phase in (Phase.RUN, Phase.CANCEL, Phase.TEARDOWN)


def test_an_interpreter_that_cannot_start_the_child_says_why():
    error = failed(runtimes.Idle, env={"PYTHONHOME": "/nonexistent"})
    assert (error.phase, error.kind) == (Phase.SPAWN, Kind.EXIT)
    assert "Python" in error.stderr and "Python" in error.message


# --- what the child says ----------------------------------------------------------------------------------------------


def test_the_last_words_are_kept_and_passed_through(capfd):
    error = failed(runtimes.talks_and_dies, 5000)
    assert "line 4999 of the child's last words" in error.message
    assert error.stderr.endswith("line 4999 of the child's last words\n")
    assert 32 << 10 < len(error.stderr) <= 64 << 10
    assert "line 0 of the child's last words" not in error.stderr
    said = capfd.readouterr().err
    assert said.count("of the child's last words") == 5000


def test_stderr_is_kept_for_an_exception_too_and_the_message_stays_as_it_is(tmp_path):
    error = failed(runtimes.Raises, ["run"], ValueError("plain"), env={"PYTHONVERBOSE": "1"})
    assert error.message == "ValueError: plain"
    assert "import" in error.stderr and error.failure.stderr == error.stderr


def test_output_and_logging(capfd, caplog):
    podkeep.set_log("pods", level=20)
    try:
        with caplog.at_level("INFO", logger="pods"), Pod(runtimes.talks, host="process", name="talker"):
            until(lambda: "to the log" in caplog.text)
    finally:
        podkeep.set_log(None)
    out, err = capfd.readouterr()
    assert out == "to stdout\n"
    assert "to stderr\n" in err and "to the log\n" in err
    records = [(record.pod, record.levelname) for record in caplog.records if "to stderr" in record.getMessage()]
    assert records == [("talker", "INFO")]


def test_a_thread_pod_has_no_stderr():
    pod = Pod(runtimes.Raises, args=(["run"], ValueError("here"))).start(wait=False)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert caught.value.stderr == "" and caught.value.failure.traceback == ""


def test_a_child_that_is_killed_leaves_nobody(tmp_path):
    path = tmp_path / "pids"
    pod = Pod(runtimes.starts_a_group, args=(str(path),), host="process").start()
    pids = [int(pid) for pid in content(path).split()]
    os.kill(pod.id, signal.SIGKILL)
    with pytest.raises(podkeep.PodFailed):
        pod.join()
    for pid in pids:
        until(lambda: not alive(pid))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="add_note came with 3.11")
def test_notes_of_its_own_come_along():
    noted = ValueError("noted")
    noted.add_note("by the runtime")
    first, second = failed(runtimes.Raises, ["run"], noted).__cause__.__notes__
    assert first == "by the runtime" and second.startswith("In the process of pod")
