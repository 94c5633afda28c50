"""Waits: Ctrl-C is answered, other threads run, descriptors come back, and without any it still works."""

from __future__ import annotations

import gc
import os
import resource
import signal
import threading
import time

import pytest
from conftest import ANSWERED, PROMPT, Idle, descriptors, until

import podkeep
from podkeep import Pod, State, _wait


@podkeep.runtime
def busy(ctx):
    """Takes the GIL a thousand times a second."""
    while not ctx.wait(0.001):
        pass


@pytest.fixture
def unready():
    """A pod that runs and never becomes ready, so that both waits last."""
    pod = Pod(Idle, ready="notify").start(wait=False)
    yield pod
    pod.close()


def slowest_answer(interrupted, wait, moments):
    """To Ctrl-C at so many moments. A late one is asked for again, up to three times: on a machine that has other things to
    do an answer may be late once, and that of a wait that cannot be interrupted is late each time."""
    slowest = 0.0
    for step in range(moments):
        for _ in range(3):
            took = interrupted(wait, 0.02 + 0.017 * step)
            if took < ANSWERED:
                break
        slowest = max(slowest, took)
    return slowest


@pytest.mark.parametrize("name", ["join", "wait_ready"])
def test_ctrl_c_is_answered_within_a_fifth_of_a_second(interrupted, unready, name, capsys):
    others = [Pod(busy).start() for _ in range(3)]
    took = slowest_answer(interrupted, getattr(unready, name), 12)
    for other in others:
        other.close()
    with capsys.disabled():
        print(f" [Ctrl-C in {name} answered in at most {took * 1000:.1f} ms]", end="")
    assert took < ANSWERED


@pytest.mark.parametrize("name", ["join", "wait_ready"])
def test_ctrl_c_is_answered_in_a_groups_waits(interrupted, name):
    with podkeep.Group() as group:
        group.add(Pod(Idle, ready="notify"))
        group.start(wait=False)
        took = slowest_answer(interrupted, getattr(group, name), 6)
    assert took < ANSWERED


def test_ctrl_c_in_a_block_closes_the_pod(interrupted):
    pods = []
    entered = threading.Event()

    def block():
        with Pod(Idle) as pod:
            pods.append(pod)
            entered.set()
            pod.join()

    interrupted(block, 0.05, entered)
    assert pods[0].state is State.STOPPED


def test_ctrl_c_while_entering_a_block_closes_the_pod(interrupted):
    started = threading.Event()

    @podkeep.runtime
    def never_ready(ctx):
        started.set()
        ctx.wait()

    pod = Pod(never_ready, ready="notify")

    def block():
        with pod:
            raise AssertionError("entered")

    interrupted(block, 0.05, started)
    assert pod.state is State.STOPPED


def test_ctrl_c_in_close_ends_the_wait_and_not_the_grace(interrupted):
    go = threading.Event()

    stopping = threading.Event()

    @podkeep.runtime
    def slow(ctx):
        ctx.wait()
        stopping.set()
        assert go.wait(60)

    pod = Pod(slow, grace=60).start()
    assert interrupted(pod.close, 0.05, stopping) < PROMPT
    assert pod.state is State.STOPPING
    go.set()
    pod.join()


def test_ctrl_c_at_any_moment_of_a_monitors_life_leaves_nothing_behind():
    pod = Pod(Idle).start()
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def life():
        with podkeep.Monitor(pod) as monitor:
            monitor.next()
            monitor.next(timeout=0.0005)

    begun = time.perf_counter()
    life()
    usual = time.perf_counter() - begun
    try:
        for step in range(2000):
            try:
                signal.setitimer(signal.ITIMER_REAL, usual * (0.02 + step % 100 / 100))
                life()
                until(lambda: False, 2, "a signal")
            except KeyboardInterrupt:
                pass
    finally:
        signal.signal(signal.SIGALRM, before)
        pod.close()


def test_ctrl_c_in_a_monitor(interrupted, unready):
    with podkeep.Monitor(unready) as monitor:
        list(iter(lambda: monitor.next(timeout=0), None))
        assert interrupted(monitor.next, 0.05) < PROMPT


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("at_once", [True, False])
def test_ctrl_c_at_any_moment_of_a_pods_life_is_raised(monkeypatch, at_once):
    """Also where the library is at work on the thread that called it. Nothing is left behind, also of longer waits."""
    if not at_once:
        monkeypatch.setattr(_wait, "_FIRST_MS", 0)
    pods = []

    def life():
        with Pod(Idle) as pod:
            pods.append(pod)

    def timed():
        begun = time.perf_counter()
        life()
        return time.perf_counter() - begun

    usual = sorted(timed() for _ in range(50))[25]
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    lost = []
    try:
        for step in range(3000):
            after = usual * (0.2 + step % 50 / 50)
            try:
                signal.setitimer(signal.ITIMER_REAL, after)
                life()
                until(lambda: False, 2, "a signal")  # it comes at once, if it has not yet
            except AssertionError:
                lost.append(after)
            except KeyboardInterrupt:
                pass
            # Those that were interrupted before they were closed; the others let it pass.
            while pods:
                pods.pop().close()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert lost == []


def test_another_signals_handler_runs_and_the_wait_goes_on(unready):
    heard, cancelled = [], []

    def send():
        time.sleep(0.05)  # any moment of the wait will do
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: heard)
        time.sleep(0.05)  # for a wait that ends with the signal
        cancelled.append(time.monotonic())
        unready.cancel()

    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(time.monotonic()))
    try:
        sender = threading.Thread(target=send)
        sender.start()
        unready.join(timeout=60)
        ended = time.monotonic()
        sender.join()
        assert len(heard) == 1 and heard[0] < cancelled[0] < ended
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("name", ["join", "wait_ready"])
def test_other_threads_run_meanwhile(unready, name):
    """A wait that kept them out would keep its own end from coming."""

    def count():
        for _ in range(5):
            time.sleep(0.001)
        unready.cancel()

    thread = threading.Thread(target=count)
    thread.start()
    if name == "join":
        unready.join(timeout=60)
    else:
        with pytest.raises(podkeep.PodEnded):
            unready.wait_ready(timeout=60)
    thread.join()


def test_the_collector_does_not_take_a_waits_sentence_away(unready, monkeypatch):
    """It may come between the native wait and its sentence, and find a pod there that was only half made."""

    class Knot:
        pass

    def close(watch):
        real(watch)
        gc.collect()

    real = _wait._Watch.close
    monkeypatch.setattr(_wait._Watch, "close", close)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(podkeep.Error) as caught:
            Pod(Idle, grace=-5)
        knot = Knot()
        knot.itself, knot.error = knot, caught.value
        del knot, caught
        with pytest.raises(podkeep.PodTimeout, match="Idle"):
            unready.join(timeout=0.05)
    finally:
        gc.enable()


@pytest.mark.parametrize("timeout", [0, 0.0005, 0.001, 0.05])
def test_a_timeout_is_no_earlier_and_says_why(unready, timeout):
    begun = time.monotonic()
    with pytest.raises(podkeep.PodTimeout) as caught:
        unready.join(timeout=timeout)
    assert time.monotonic() - begun >= timeout
    assert "Idle" in str(caught.value) and "starting" in str(caught.value).lower()


def test_a_wait_leaves_no_descriptor_behind(unready):
    before = descriptors()
    for _ in range(20):
        with pytest.raises(podkeep.PodTimeout):
            unready.join(timeout=0.005)
    assert descriptors() == before


def test_many_threads_wait_for_one_pod():
    for _ in range(10):
        pod = Pod(Idle).start()
        done = []

        def wait(pod=pod, done=done):
            pod.join()
            done.append(1)

        threads = [threading.Thread(target=wait) for _ in range(20)]
        for thread in threads:
            thread.start()
        pod.cancel()
        for thread in threads:
            thread.join(60)
        assert len(done) == 20


def test_a_thread_that_waits_is_woken_at_once():
    took = []
    for _ in range(20):
        pod = Pod(Idle).start()
        woken = []

        def wait(pod=pod, woken=woken):
            pod.join()
            woken.append(time.monotonic())

        thread = threading.Thread(target=wait)
        thread.start()
        # Long enough that it sleeps on the descriptor.
        time.sleep(0.01)
        begun = time.monotonic()
        pod.cancel()
        thread.join()
        took.append(woken[0] - begun)
    assert sorted(took)[10] < 0.05


def test_without_descriptors_to_be_had_waits_still_work(interrupted):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    go = threading.Event()

    @podkeep.runtime
    def waits(ctx):
        assert ctx.wait(0.01) is False
        go.wait(60)
        ctx.ready()
        ctx.wait()

    pod = Pod(waits, ready="notify").start(wait=False)
    try:
        # Every number below is in use.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        with pytest.raises(podkeep.PodTimeout):
            pod.wait_ready(timeout=0.1)
        assert interrupted(pod.join, 0.05) < PROMPT
        monitor = podkeep.Monitor(pod)
        assert monitor.next(timeout=1).to is State.STARTING
        with pytest.raises(podkeep.Error) as caught:
            monitor.fileno()
        assert caught.value.status is podkeep.Status.RESOURCES
        go.set()
        assert monitor.next(timeout=60).to is State.RUNNING
        monitor.close()
        pod.wait_ready()
        threading.Timer(0.05, pod.cancel).start()
        pod.join()
        assert pod.state is State.STOPPED
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)
