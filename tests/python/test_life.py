"""A pod's life, by the promises of the contract (L1 to L6, L8, L9, L11, L15)."""

from __future__ import annotations

import contextvars
import gc
import logging
import threading
import time
import warnings

import pytest
from conftest import Idle, until

import podkeep
from podkeep import Kind, Phase, Pod, State, _kept


class Recorder(podkeep.Runtime):
    """Writes down what is called, and on which thread."""

    def __init__(self, log, *, greeting="hello"):
        self.log = log
        self.log.append(("init", threading.get_native_id(), greeting))

    def run_forever(self, ctx):
        self.log.append(("run", threading.get_native_id(), ctx.name))
        ctx.wait()

    def teardown(self):
        self.log.append(("teardown", threading.get_native_id(), None))


def test_L1_all_on_the_pods_own_thread_in_order_with_its_arguments():
    log = []
    pod = Pod(Recorder, args=(log,), kwargs={"greeting": "hi"}, name="rec")
    assert pod.name == "rec" and pod.state is State.NEW and pod.id is None and pod.restarts == 0 and pod.failure is None
    assert pod.start() is pod
    assert pod.state is State.RUNNING
    assert pod.id == log[0][1] != threading.get_native_id()
    pod.cancel()
    pod.join()
    assert pod.state is State.STOPPED
    assert [entry[0] for entry in log] == ["init", "run", "teardown"]
    assert {entry[1] for entry in log} == {log[0][1]}
    assert log[0][2] == "hi" and log[1][2] == "rec"


def test_default_names_are_the_classs_and_the_functions():
    @podkeep.runtime
    def ticker(ctx):
        ctx.wait()

    assert Pod(Idle).name == "Idle"
    assert Pod(ticker).name == "ticker"
    assert issubclass(ticker, podkeep.Runtime)


def test_a_long_name_is_whole_and_the_threads_is_cut():
    seen = []

    @podkeep.runtime
    def named(ctx):
        with open("/proc/thread-self/comm", encoding="utf-8") as file:
            seen.append(file.read().rstrip("\n"))
        seen.append(threading.current_thread().name)

    name = "a-name-far-longer-than-fifteen-bytes"
    pod = Pod(named, name=name).start()
    pod.join()
    assert pod.name == name
    assert seen == [name[:15], name]


def test_a_function_is_a_runtime_with_args_and_kwargs():
    seen = []

    @podkeep.runtime
    def ticker(ctx, every, *, word):
        """Ticks."""
        while not ctx.wait(every):
            seen.append(word)

    assert ticker.__doc__ == "Ticks." and ticker.__name__ == "ticker"
    with Pod(ticker, args=(0.001,), kwargs={"word": "tick"}):
        until(lambda: len(seen) >= 3)
    assert set(seen) == {"tick"}


def test_a_functions_wrong_arguments_fail_in_init_as_a_classs_do():
    @podkeep.runtime
    def one(ctx, a):
        ctx.wait()

    for runtime in (one, Recorder):
        with pytest.raises(podkeep.PodFailed) as caught:
            Pod(runtime, kwargs={"nonsense": 1}).start()
        assert caught.value.phase is Phase.INIT and isinstance(caught.value.__cause__, TypeError)


def test_a_natural_end_is_clean_and_reads_uncancelled_in_teardown():
    seen = []

    class Short(podkeep.Runtime):
        def run_forever(self, ctx):
            return 0

        def teardown(self):
            seen.append(podkeep.current_context().cancelled)

    pod = Pod(Short).start()
    pod.join()
    pod.wait_ready()
    assert pod.state is State.STOPPED and seen == [False]


def test_L4_cancel_before_the_start_calls_nothing():
    log = []
    pod = Pod(Recorder, args=(log,))
    pod.cancel()
    assert pod.state is State.STOPPED
    with pytest.raises(podkeep.Error) as caught:
        pod.start()
    assert caught.value.status is podkeep.Status.INVALID_STATE
    pod.join()
    assert log == []


def test_L3_a_pod_closed_before_its_start_is_done_with_when_close_returns():
    # The keeper hears of the cancel as well, on another thread.
    pods = [Pod(Idle) for _ in range(300)]
    for pod in pods:
        pod.close()
        assert pod._kept.number not in _kept.home.table


def test_a_pod_starts_once():
    with Pod(Idle) as pod:
        with pytest.raises(podkeep.Error) as caught:
            pod.start()
        assert caught.value.status is podkeep.Status.INVALID_STATE


def test_join_and_wait_ready_before_the_start_are_invalid():
    pod = Pod(Idle)
    for wait in (pod.join, pod.wait_ready):
        with pytest.raises(podkeep.Error) as caught:
            wait(timeout=1)
        assert caught.value.status is podkeep.Status.INVALID_STATE


def test_L5_cancel_during_init_is_seen_there_and_run_is_skipped():
    log = []
    entered = threading.Event()

    class Slow(podkeep.Runtime):
        def __init__(self):
            entered.set()
            log.append(podkeep.current_context().wait(60))

        def run_forever(self, ctx):
            log.append("run")

        def teardown(self):
            log.append("teardown")

    pod = Pod(Slow).start(wait=False)
    assert entered.wait(60)
    pod.cancel()
    assert pod.state in (State.STOPPING, State.STOPPED)
    with pytest.raises(podkeep.PodEnded):
        pod.wait_ready(60)
    pod.join()
    assert log == [True, "teardown"] and pod.failure is None


def test_L9_the_hook_unblocks_what_cannot_poll():
    class Blocked(podkeep.Runtime):
        def __init__(self):
            self.go = threading.Event()
            self.hooked = []

        def run_forever(self, ctx):
            assert self.go.wait(60)

        def cancel(self):
            self.hooked.append(threading.get_native_id())
            assert podkeep.current_context().cancelled
            self.go.set()

        def teardown(self):
            hooks.append((self.hooked, threading.get_native_id()))

    hooks = []
    with Pod(Blocked) as pod:
        pod.cancel()
        pod.cancel()
        pod.join()
    ((hooked, own),) = hooks
    assert len(hooked) == 1 and hooked[0] not in (own, threading.get_native_id())


def test_ready_notify_is_the_runtimes_word():
    go = threading.Event()

    class Notifies(podkeep.Runtime):
        def run_forever(self, ctx):
            assert go.wait(60)
            ctx.ready()
            ctx.wait()

    pod = Pod(Notifies, ready="notify").start(wait=False)
    with pytest.raises(podkeep.PodTimeout) as caught:
        pod.wait_ready(timeout=0.05)
    assert caught.value.state is State.STARTING and isinstance(caught.value, TimeoutError)
    assert "Notifies" in str(caught.value)
    go.set()
    pod.wait_ready(timeout=60)
    assert pod.state is State.RUNNING
    pod.close()


def test_ready_timeout_is_a_failure():
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(Idle, ready="notify", ready_timeout=0.05).start()
    assert caught.value.phase is Phase.READY and caught.value.kind is Kind.TIMEOUT


def test_ended_without_having_been_ready():
    @podkeep.runtime
    def never(ctx):
        return 0

    with pytest.raises(podkeep.PodEnded) as caught:
        Pod(never, ready="notify").start()
    assert caught.value.status is podkeep.Status.ENDED


def test_close_before_the_start_twice_and_after_is_harmless():
    log = []
    pod = Pod(Recorder, args=(log,))
    pod.close()
    pod.close()
    assert log == []
    with Pod(Idle) as pod:
        pod.close()
        pod.close()
    pod.close()
    assert pod.state is State.STOPPED


def test_with_takes_a_pod_that_was_started():
    with Pod(Idle).start(wait=False) as pod:
        assert pod.state is State.RUNNING


def test_L11_waits_from_inside_are_refused_without_effect():
    found = []

    class Selfish(podkeep.Runtime):
        def run_forever(self, ctx):
            for wait in (pod.join, pod.close, pod.wait_ready, podkeep.shutdown):
                try:
                    wait()
                except podkeep.Error as error:
                    found.append((wait.__name__, error.status, ctx.cancelled))
            # The hook begins only while this has not returned.
            assert hooked.wait(60)

        def cancel(self):
            try:
                pod.join()
            except podkeep.Error as error:
                found.append(("hook", error.status, True))
            hooked.set()

    hooked = threading.Event()
    pod = Pod(Selfish)
    pod.start()
    until(lambda: len(found) == 4)
    pod.close()
    status = podkeep.Status.DEADLOCK
    assert found == [
        ("join", status, False),
        ("close", status, False),
        ("wait_ready", status, False),
        ("shutdown", status, False),
        ("hook", status, True),
    ]


def test_L12_a_pod_that_ignores_the_cancel_is_abandoned_and_may_come_back():
    go = threading.Event()

    class Deaf(podkeep.Runtime):
        def run_forever(self, ctx):
            ctx.status("not listening")
            said.set()
            assert go.wait(60)

        def teardown(self):
            late.append(True)

    late = []
    said = threading.Event()
    pod = Pod(Deaf, grace=0.05).start()
    assert said.wait(60)
    with pytest.raises(podkeep.PodTimeout) as caught:
        pod.close()
    assert caught.value.state is State.ABANDONED and pod.state is State.ABANDONED
    assert caught.value.failure.kind is Kind.TIMEOUT and caught.value.failure.phase is Phase.RUN
    assert "not listening" in caught.value.failure.message
    assert podkeep.abandoned() == 1
    with pytest.raises(podkeep.PodTimeout):
        pod.join()
    with pytest.raises(podkeep.PodFailed):
        pod.wait_ready()
    begun = time.monotonic()
    with pytest.raises(podkeep.PodTimeout):
        pod.join(timeout=0.05)
    assert time.monotonic() - begun >= 0.05
    go.set()
    with pytest.raises(podkeep.PodFailed):
        pod.join(timeout=60)
    assert pod.state is State.FAILED and late == [True] and podkeep.abandoned() == 0


def test_the_context_from_inside():
    seen = {}
    go = threading.Event()

    class Looks(podkeep.Runtime):
        def __init__(self):
            seen["init"] = podkeep.current_context().incarnation

        def run_forever(self, ctx):
            seen["before"] = ctx.cancelled, ctx.time_left, ctx.wait(0), ctx.wait(0.001)
            assert repr(ctx) == "<podkeep.Context of 'looks'>" and podkeep.current_context().name == ctx.name
            ctx.heartbeat()
            ctx.extend(0.1)
            ctx.status("waiting")
            seen["ctx"] = ctx
            go.set()
            assert ctx.fd >= 0 and ctx.wait()
            seen["after"] = ctx.cancelled, ctx.wait(0)
            seen["left"] = ctx.time_left

    pod = Pod(Looks, name="looks", grace=30).start()
    assert go.wait(60)
    pod.close()
    assert seen["init"] == 0
    assert seen["before"] == (False, None, False, False) and seen["after"] == (True, True)
    assert 0 < seen["left"] <= 30
    ctx = seen["ctx"]
    assert ctx.cancelled and ctx.wait(60)
    with pytest.raises(podkeep.Error) as caught:
        ctx.ready()
    assert caught.value.status is podkeep.Status.INVALID_STATE
    with pytest.raises(podkeep.Error, match="no pod's callback"):
        podkeep.current_context()


def test_thread_locals_and_context_variables_last_a_whole_life():
    local = threading.local()
    variable = contextvars.ContextVar("variable")
    seen = []

    class Keeps(podkeep.Runtime):
        def __init__(self):
            local.value = 1
            variable.set(2)

        def run_forever(self, ctx):
            seen.append((local.value, variable.get(), threading.current_thread().name))

        def teardown(self):
            seen.append((local.value, variable.get(), threading.current_thread().name))

    for _ in range(3):
        with Pod(Keeps) as pod:
            pod.join()
    assert seen == [(1, 2, "Keeps")] * 6
    assert not hasattr(local, "value")


def test_logging_and_threading_show_the_pods_name_and_forget_it(caplog):
    @podkeep.runtime
    def speaker(ctx):
        logging.getLogger("speaker").warning("here")

    with Pod(speaker) as pod:
        pod.join()
    assert [record.threadName for record in caplog.records] == ["speaker"]
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "speaker"])


def test_L3_arguments_are_let_go_with_the_pod():
    class Weighty:
        pass

    import weakref

    weighty = Weighty()
    seen = weakref.ref(weighty)

    @podkeep.runtime
    def holds(ctx, thing):
        ctx.wait()

    with Pod(holds, args=(weighty,)) as pod:
        del weighty
        assert seen() is not None
    del pod
    until(lambda: gc.collect() is not None and seen() is None)


def test_a_forgotten_running_pod_warns_and_is_cancelled_without_blocking():
    ended = threading.Event()

    class Left(podkeep.Runtime):
        def run_forever(self, ctx):
            ctx.wait()
            ended.set()

    with pytest.warns(ResourceWarning, match="pod 'Left' was forgotten while running"):
        Pod(Left).start()
        gc.collect()
    assert ended.wait(60)


def test_a_pod_that_ended_or_never_began_is_forgotten_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pod = Pod(Idle).start()
        pod.close()
        del pod
        Pod(Idle)
        gc.collect()


def test_cancel_from_many_threads_at_once():
    log = []
    with Pod(Recorder, args=(log,)) as pod:
        threads = [threading.Thread(target=lambda: [pod.cancel() for _ in range(50)]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pod.join()
    assert [entry[0] for entry in log] == ["init", "run", "teardown"]


def test_two_hundred_pods_side_by_side():
    up = []

    @podkeep.runtime
    def member(ctx, number):
        up.append(number)
        ctx.wait()
        time.sleep(0.2)  # a teardown that takes time: all of them together must take the time of the slowest

    pods = [Pod(member, args=(number,), name=f"m{number}", grace=60).start(wait=False) for number in range(200)]
    for pod in pods:
        pod.wait_ready(60)
    begun = time.monotonic()
    for pod in pods:
        pod.cancel()
    for pod in pods:
        pod.close()
    # One after the other they would take 40 s.
    assert time.monotonic() - begun < 20
    assert sorted(up) == list(range(200))
    assert all(pod.state is State.STOPPED for pod in pods)
