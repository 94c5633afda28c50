"""Process pods: the same runtime in a process of its own, its steps, its options, what it sees."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import time
import warnings

import pytest
import runtimes
from conftest import Idle, alive, children, content, status_of, until

import podkeep
from podkeep import Kind, Phase, Pod, State, Status


def steps(path):
    """(step, process, thread) of each line."""
    return [tuple(line.split()) for line in path.read_text().splitlines()]


def reported(path, *args, **options):
    """What runtimes.reports finds in a pod's process."""
    Pod(runtimes.reports, args=(str(path), *args), host="process", **options).start(wait=False).join()
    return json.loads(path.read_text())


# --- its life ---------------------------------------------------------------------------------------------------------


def test_L1_all_steps_are_on_the_main_thread_of_one_process(tmp_path):
    path = tmp_path / "marks"
    pod = Pod(runtimes.Marks, args=(str(path),), host="process")
    assert pod.state is State.NEW and pod.id is None and pod.name == "Marks"
    with pod:
        assert pod.state is State.RUNNING
        pid = pod.id
        assert children() == [pid] and pid != os.getpid()
        until(lambda: len(steps(path)) == 2)
    assert pod.state is State.STOPPED and pod.failure is None and pod.id is None
    assert steps(path) == [
        ("init", str(pid), "main"),
        ("run", str(pid), "main"),
        ("cancel", str(pid), "beside"),
        ("teardown", str(pid), "main"),
    ]
    assert status_of(pid) is None


def test_arguments_travel(tmp_path):
    seen = reported(tmp_path / "seen", 1, "two", [3.0], None, **{"name": "given"})
    assert seen["args"] == [1, "two", [3.0], None] and seen["name"] == "given"
    Pod(
        runtimes.reports,
        (str(tmp_path / "kw"), {"a": 1}),
        {"key": "caf\u00e9", "lines": list(range(100_000))},
        host="process",
    ).start(wait=False).join()
    seen = json.loads((tmp_path / "kw").read_text())
    assert seen["args"] == [{"a": 1}] and seen["kwargs"] == {"key": "caf\u00e9", "lines": list(range(100_000))}


def test_arguments_are_taken_when_the_pod_is_made(tmp_path):
    given = [1]
    pod = Pod(runtimes.reports, args=(str(tmp_path / "seen"), given), host="process")
    given.append(2)
    pod.start(wait=False).join()
    assert json.loads((tmp_path / "seen").read_text())["args"] == [[1]]


def test_the_process_is_this_program_again(tmp_path):
    seen = reported(tmp_path / "seen", name="web")
    assert seen["argv"] == sys.argv and seen["path"] == [place or os.getcwd() for place in sys.path]
    assert seen["cwd"] == os.getcwd()
    assert seen["flags"] == [sys.flags.dev_mode, sys.flags.optimize]
    assert (seen["thread"], seen["main"], seen["process"]) == ("MainThread", True, "web")
    assert seen["incarnation"] == 0


def test_the_process_has_a_footprint_of_its_own(tmp_path):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        seen = reported(tmp_path / "seen")
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
    assert seen["group"] == seen["pid"] != os.getpid()
    assert seen["stdin"] == "/dev/null"
    assert seen["blocked"] == []
    assert "PODKEEP_CHILD" not in seen["env"]


def test_no_descriptor_is_inherited_but_those_meant(tmp_path):
    before = reported(tmp_path / "before")["fds"]
    mine = [os.dup(2) for _ in range(50)]
    try:
        for fd in mine:
            os.set_inheritable(fd, True)
        assert len(reported(tmp_path / "seen")["fds"]) == len(before)
    finally:
        for fd in mine:
            os.close(fd)


def test_env_and_cwd_are_the_childs_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("PODKEEP_TRY_KEPT", "kept")
    monkeypatch.setenv("PODKEEP_TRY_OVER", "host")
    (tmp_path / "place").mkdir()
    env = {"PODKEEP_TRY_OVER": "child", "PODKEEP_TRY_NEW": "caf\u00e9 = x"}
    seen = reported(tmp_path / "seen", env=env, cwd=tmp_path / "place")
    assert seen["cwd"] == str(tmp_path / "place")
    found = {name: value for name, value in seen["env"].items() if name.startswith("PODKEEP_TRY_")}
    assert found == {"PODKEEP_TRY_KEPT": "kept", **env}
    assert os.environ["PODKEEP_TRY_OVER"] == "host" and "PODKEEP_TRY_NEW" not in os.environ


def test_a_function_a_coroutine_and_an_async_runtime(tmp_path):
    Pod(runtimes.returns, kwargs={"what": None}, host="process").start(wait=False).join()
    with Pod(runtimes.ticks, args=(0.001,), host="process") as pod:
        assert pod.name == "ticks"
    path = tmp_path / "torn"
    with Pod(runtimes.Loop, args=(str(path),), host="process", ready="notify"):
        assert not path.exists()
    assert path.read_text() == "torn down\n"


def test_a_class_within_a_class_and_one_of_podkeeps_own_subclasses():
    with Pod(runtimes.Marks.Nested, host="process") as pod:
        assert pod.name == "Nested"


def test_ready_is_the_runtimes_own_word(tmp_path):
    path = tmp_path / "go"
    pod = Pod(runtimes.ready_when_told, args=(str(path),), host="process", ready="notify").start(wait=False)
    with pytest.raises(podkeep.PodTimeout) as caught:
        pod.wait_ready(timeout=0.3)
    assert caught.value.state is State.STARTING
    path.touch()
    pod.wait_ready()
    assert pod.state is State.RUNNING
    pod.close()


def test_a_timeout_tells_the_childs_status():
    pod = Pod(runtimes.has_status, host="process", grace=0.2, kill_after=0.2).start()
    until(lambda: "counting sheep" in str(pytest.raises(podkeep.PodTimeout, pod.join, timeout=0).value))
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.close()
    assert (caught.value.kind, caught.value.phase) == (Kind.TIMEOUT, Phase.RUN)
    assert "counting sheep" in caught.value.message and pod.state is State.FAILED


def test_the_events_of_a_process_pod():
    pod = Pod(runtimes.Idle, host="process")
    with podkeep.Monitor(pod) as monitor:
        with pod:
            pass
        assert [event.to for event in monitor] == [
            State.NEW,
            State.STARTING,
            State.RUNNING,
            State.STOPPING,
            State.STOPPED,
        ]


def test_event_loops_are_not_blocked(tmp_path):
    beats = []

    async def beat():
        while True:
            beats.append(time.monotonic())
            await asyncio.sleep(0.005)

    async def main():
        task = asyncio.ensure_future(beat())
        async with Pod(runtimes.Idle, host="process") as pod:
            assert pod.state is State.RUNNING
        failing = Pod(runtimes.returns, args=(3,), host="process").start(wait=False)
        with pytest.raises(podkeep.PodFailed) as caught:
            await failing.joined()
        assert caught.value.code == 3
        task.cancel()

    asyncio.run(main())
    # An interpreter takes longer to start than ten beats.
    assert len(beats) > 10


def test_twenty_at_a_time():
    pods = [Pod(runtimes.Idle, host="process", name=f"pod{number}").start(wait=False) for number in range(20)]
    for pod in pods:
        pod.wait_ready()
    assert len({pod.id for pod in pods}) == 20
    for pod in pods:
        pod.cancel()
    for pod in pods:
        pod.join()


def test_a_forgotten_process_pod_warns_and_ends():
    pod = Pod(runtimes.Idle, host="process").start()
    pid = pod.id
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pod
        gc.collect()
    assert [str(warning.message) for warning in caught] == ["pod 'Idle' was forgotten while running: it is cancelled"]
    assert caught[0].category is ResourceWarning
    until(lambda: status_of(pid) is None)


def test_cancel_before_start_and_close_twice():
    pod = Pod(runtimes.Idle, host="process")
    pod.cancel()
    assert pod.state is State.STOPPED
    with pytest.raises(podkeep.Error) as caught:
        pod.start()
    assert caught.value.status is Status.INVALID_STATE
    pod = Pod(runtimes.Idle, host="process").start()
    pod.close()
    pod.close()


def test_L5_cancel_during_init_is_bounded_by_the_grace(tmp_path):
    path = tmp_path / "pid"
    pod = Pod(runtimes.SlowInit, args=(str(path),), host="process", grace=0.1, kill_after=0.1).start(wait=False)
    pid = int(content(path))
    begun = time.monotonic()
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.close()
    assert (caught.value.phase, caught.value.kind) == (Phase.INIT, Kind.TIMEOUT)
    assert time.monotonic() - begun < 5 and not alive(pid)


# --- force ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", [runtimes.HogsTheGil, runtimes.IgnoresAll])
def test_close_is_bounded_whatever_the_child_does(runtime):
    pod = Pod(runtime, host="process", ready="notify", grace=0.3, kill_after=0.3).start()
    pid = pod.id
    begun = time.monotonic()
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.close()
    # Grace, kill_after and one second is the promise; the rest is for a loaded machine.
    assert time.monotonic() - begun < 5
    assert (caught.value.kind, caught.value.phase) == (Kind.TIMEOUT, Phase.RUN)
    assert pod.state is State.FAILED and status_of(pid) is None


def test_close_of_a_stopped_child_is_bounded():
    pod = Pod(runtimes.Idle, host="process", grace=0.3, kill_after=0.3).start()
    os.kill(pod.id, signal.SIGSTOP)
    until(lambda: status_of(pod.id)[0] == "T")
    begun = time.monotonic()
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.close()
    assert caught.value.kind is Kind.TIMEOUT and time.monotonic() - begun < 5


def test_the_whole_group_ends_with_the_child(tmp_path):
    path = tmp_path / "pids"
    with Pod(runtimes.starts_a_group, args=(str(path),), host="process"):
        pids = [int(pid) for pid in content(path).split()]
        assert all(alive(pid) for pid in pids)
    for pid in pids:
        until(lambda: not alive(pid))


# --- within -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_multiprocessing_works_in_a_pods_process(tmp_path, method):
    path = tmp_path / "found"
    Pod(runtimes.multiprocesses, args=(str(path), method), host="process").start(wait=False).join()
    assert path.read_text() == repr([number * number for number in range(10)])


def test_a_pods_process_keeps_pods_of_its_own(tmp_path):
    path = tmp_path / "found"
    with Pod(runtimes.keeps_a_pod, args=(str(path),), host="process") as pod:
        inner, state = content(path).split()
        assert state == "running" and status_of(inner)[1] == pod.id
    until(lambda: not alive(inner))


def test_pythons_signal_handlers_run_in_a_pods_process(tmp_path):
    path = tmp_path / "signals"
    with Pod(runtimes.handles_signals, args=(str(path),), host="process", ready="notify") as pod:
        os.kill(pod.id, signal.SIGUSR1)
        assert content(path) == "signal\n"


def test_python_waits_for_the_childs_own_threads():
    Pod(runtimes.leaves_a_thread, host="process").start(wait=False).join()


def test_an_exit_that_spoils_a_clean_end_is_a_failure_in_teardown():
    pod = Pod(runtimes.exits_badly, host="process").start(wait=False)
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert (caught.value.phase, caught.value.kind, caught.value.code) == (Phase.TEARDOWN, Kind.EXIT, 9)


def test_thread_and_process_pods_side_by_side():
    with Pod(Idle) as thread, Pod(runtimes.Idle, host="process") as process:
        waiting = threading.Thread(target=process.join)
        waiting.start()
        assert thread.state is process.state is State.RUNNING
        process.cancel()
        waiting.join(60)
        assert not waiting.is_alive() and thread.state is State.RUNNING


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [{"stack_size": 1 << 20}, {"kick_signal": 10}, {"ready": "port"}], ids=str)
def test_what_does_not_apply_to_a_process_is_refused_by_name(option):
    with pytest.raises(podkeep.Error) as caught:
        Pod(runtimes.Idle, host="process", **option)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert next(iter(option)) in str(caught.value)


@pytest.mark.parametrize("option", [{"env": {"A": "b"}}, {"cwd": "/"}], ids=str)
def test_what_does_not_apply_to_a_thread_is_refused_by_name(option):
    with pytest.raises(podkeep.Error) as caught:
        Pod(Idle, **option)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert next(iter(option)) in str(caught.value)


def test_env_is_checked():
    for env in ({"": "x"}, {"A=B": "x"}, {"A": "x\0y"}):
        with pytest.raises(ValueError):
            Pod(runtimes.Idle, host="process", env=env)
    for env in ({"A": 1}, {1: "a"}):
        with pytest.raises(TypeError, match="env"):
            Pod(runtimes.Idle, host="process", env=env)


def test_a_cwd_that_is_not_there_is_a_failure_to_spawn(tmp_path):
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(runtimes.Idle, host="process", cwd=tmp_path / "none").start()
    assert caught.value.phase is Phase.SPAWN
