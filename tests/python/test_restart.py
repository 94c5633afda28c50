"""Restarts and the watchdog, in a thread and in a process: each life is a runtime made anew."""

from __future__ import annotations

import contextlib

import pytest
import runtimes
from conftest import content, until

import podkeep
from podkeep import Kind, Monitor, Phase, Pod, State

HOSTS = pytest.mark.parametrize("host", ["thread", "process"])
#: Soon enough for a test.
SOON = {"backoff": 0.001, "backoff_max": 0.001}


def lines(path):
    return path.read_text().splitlines()


@HOSTS
def test_after_a_failure_another_life_with_a_runtime_of_its_own(tmp_path, host):
    path = tmp_path / "lives"
    pod = Pod(runtimes.FailsAtFirst, args=(str(path), 2), host=host, restart="on-failure", **SOON)
    with pod:
        until(lambda: path.exists() and lines(path)[-1:] == ["2 run 1"])
        # What the child has done its host may still have to hear.
        until(lambda: pod.state is State.RUNNING)
        assert pod.restarts == 2 and pod.failure is None
    # The counter on the runtime is 1 each time: no runtime has two lives.
    steps = [f"{life} {step} 1" for life in range(3) for step in ("init", "run", "teardown")]
    assert lines(path) == steps
    assert pod.state is State.STOPPED and pod.restarts == 2


@HOSTS
def test_enough_is_enough(tmp_path, host):
    path = tmp_path / "lives"
    pod = Pod(runtimes.FailsAtFirst, args=(str(path), 99), host=host, restart="on-failure", max_restarts=2, **SOON)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.start(wait=False).join()
    assert pod.restarts == 2 and pod.state is State.FAILED
    error = caught.value
    assert (error.incarnation, error.phase, error.kind) == (2, Phase.RUN, Kind.EXCEPTION)
    # The last life's own exception.
    assert isinstance(error.__cause__, runtimes.Boom) and error.__cause__.number == 2


@HOSTS
def test_always_is_after_a_clean_end_too_but_not_after_a_cancel(tmp_path, host):
    path = tmp_path / "lives"
    pod = Pod(runtimes.ends_at_first, args=(str(path), 1), host=host, restart="always", **SOON)
    with pod:
        until(lambda: path.exists() and lines(path) == ["0", "1"])
    assert lines(path) == ["0", "1"] and pod.restarts == 1 and pod.state is State.STOPPED


@HOSTS
def test_a_clean_end_is_no_failure(tmp_path, host):
    path = tmp_path / "lives"
    pod = Pod(runtimes.ends_at_first, args=(str(path), 1), host=host, restart="on-failure", **SOON)
    pod.start(wait=False).join()
    assert lines(path) == ["0"] and pod.restarts == 0


@HOSTS
def test_a_cancel_between_two_lives_ends_it(host):
    pod = Pod(runtimes.returns, args=(3,), host=host, restart="on-failure", backoff=3600, backoff_max=3600)
    pod.start(wait=False)
    until(lambda: pod.state is State.RESTARTING)
    assert pod.restarts == 0 and pod.failure is not None and pod.failure.code == 3
    pod.cancel()
    pod.join()
    # It was stopped as it was told, and the last life's failure is kept.
    assert pod.state is State.STOPPED and pod.failure.code == 3 and pod.failure.incarnation == 0


def test_a_process_that_dies_is_restarted_with_another(tmp_path):
    path = tmp_path / "pids"
    pod = Pod(runtimes.dies_at_first, args=(str(path), 1), host="process", restart="on-failure", **SOON)
    with pod, Monitor(pod) as monitor:
        until(lambda: path.exists() and len(lines(path)) == 2)
        first, second = lines(path)
        until(lambda: pod.state is State.RUNNING)
        assert first != second == str(pod.id)
        event = monitor.next(timeout=0)
        seen = [event]
        while event is not None:
            event = monitor.next(timeout=0)
            seen += [event] if event else []
    failures = [event.failure for event in seen if event.failure is not None]
    # Merged into later ones when this reader was slow; what is there tells of the first life.
    assert all((one.incarnation, one.kind, one.code) == (0, Kind.SIGNAL, 9) for one in failures)


def test_a_command_is_restarted(tmp_path):
    path = tmp_path / "lives"
    script = f'echo life >> "{path}"; test "$(wc -l < "{path}")" -ge 3 && exec sleep 3600; exit 4'
    with Pod.command("sh", "-c", script, restart="on-failure", **SOON) as pod:
        until(lambda: pod.restarts == 2)
        until(lambda: lines(path) == ["life"] * 3)


@HOSTS
def test_exceptions_are_those_of_their_life(tmp_path, host):
    path = tmp_path / "lives"
    pod = Pod(runtimes.FailsAtFirst, args=(str(path), 12), host=host, restart="on-failure", max_restarts=99, **SOON)
    with pod:
        until(lambda: path.exists() and lines(path)[-1:] == ["12 run 1"])
    # Those of lives long past are not kept.
    assert len(pod._kept.exceptions) <= 9


@HOSTS
def test_the_watchdog_is_fed_by_heartbeats(host):
    pod = Pod(runtimes.beats, args=(0.01,), host=host, watchdog=30)
    with pod:
        assert not pod.state.final
    assert pod.failure is None


@HOSTS
def test_a_missed_heartbeat_is_a_failure(tmp_path, host):
    path = tmp_path / "context"
    pod = Pod(runtimes.forgets_to_beat, args=(str(path),), host=host, watchdog=0.2)
    pod.start(wait=False)  # it may fail before a wait has seen that it was ready
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert (caught.value.phase, caught.value.kind) == (Phase.RUN, Kind.WATCHDOG)
    # What is told to stop sees a cancel.
    assert content(path) == "cancelled"


@HOSTS
def test_the_watchdog_leads_to_another_life(tmp_path, host):
    path = tmp_path / "context"
    pod = Pod(runtimes.forgets_to_beat, args=(str(path),), host=host, watchdog=0.2, restart="on-failure", **SOON)
    pod.start(wait=False)
    until(lambda: pod.restarts >= 1)
    # The life that it meets may be one that has just failed, too.
    with contextlib.suppress(podkeep.PodFailed):
        pod.close()
    assert pod.state in (State.STOPPED, State.FAILED)


def test_an_event_loop_is_made_anew_too(tmp_path):
    path = tmp_path / "lives"
    pod = Pod(runtimes.fails_at_first_async, args=(str(path), 1), restart="on-failure", **SOON)
    with pod:
        until(lambda: path.exists() and lines(path) == ["0", "1"])
    assert pod.restarts == 1


def test_wait_ready_is_for_this_life(tmp_path):
    path = tmp_path / "lives"
    pod = Pod(
        runtimes.FailsAtFirst,
        args=(str(path), 1),
        ready="notify",
        restart="on-failure",
        **SOON,
    )
    pod.start(wait=False)
    until(lambda: pod.restarts == 1)
    pod.wait_ready(timeout=60)
    assert pod.state is State.RUNNING and pod.failure is None
    pod.close()


def test_a_finalizer_of_a_life_long_past_may_close_a_pod():
    """The exceptions of old lives go on the pod's thread, with no lock held that another pod's callbacks wait for."""
    from conftest import Idle

    other = Pod(Idle).start()
    closed = []

    class Last(Exception):
        def __del__(self):
            if not closed:
                closed.append(None)
                other.close()
                closed[0] = other.state

    @podkeep.runtime
    def fails_nine_times(ctx):
        if ctx.incarnation < 9:
            raise Last()
        ctx.ready()
        ctx.wait()

    with Pod(fails_nine_times, ready="notify", restart="on-failure", max_restarts=20, **SOON):
        pass
    assert closed == [State.STOPPED]
