"""Monitors, and the log."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from pathlib import Path

import pytest
from conftest import Idle, descriptors, is_open, until

import podkeep
from podkeep import Monitor, Pod, State


class Boom(Exception):
    pass


def test_one_pods_life_in_order():
    pod = Pod(Idle, name="one")
    with Monitor(pod) as monitor:
        before = time.monotonic_ns()
        first = monitor.next(timeout=60)
        assert (first.from_, first.to, first.name, first.incarnation, first.missed) == (State.NEW, State.NEW, "one", 0, 0)
        pod.start()
        pod.close()
        events = list(monitor)
        assert [event.to for event in events] == [State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED]
        assert [event.from_ for event in events] == [State.NEW, State.STARTING, State.RUNNING, State.STOPPING]
        assert all(event.pod is pod and event.failure is None for event in events)
        times = [event.time_ns for event in events]
        assert times == sorted(times) and before <= times[0] and times[-1] <= time.monotonic_ns()
        assert [event.sequence for event in events] == sorted({event.sequence for event in events})
        with pytest.raises(podkeep.PodEnded):
            monitor.next()


def test_an_event_brings_the_failure_with_its_exception():
    error = Boom("x")

    @podkeep.runtime
    def fails(ctx):
        raise error

    pod = Pod(fails)
    with Monitor(pod) as monitor:
        pod.start(wait=False)
        last = list(monitor)[-1]
    assert last.to is State.FAILED and last.failure.exception is error
    assert last.failure == pod.failure


def test_an_all_pods_monitor_hears_of_later_ones():
    with Monitor() as monitor:
        list(iter(lambda: monitor.next(timeout=0), None))
        with Pod(Idle, name="later"):
            pass
        seen = []
        while not seen or seen[-1][1] is not State.STOPPED:
            event = monitor.next(timeout=60)
            seen.append((event.name, event.to))
    assert seen == [("later", state) for state in (State.NEW, State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED)]


def test_next_gives_none_when_the_time_is_up():
    with Pod(Idle) as pod, Monitor(pod) as monitor:
        assert monitor.next(timeout=0).to is State.RUNNING
        begun = time.monotonic()
        assert monitor.next(timeout=0) is None and monitor.next(timeout=0.05) is None
        assert time.monotonic() - begun >= 0.05


def test_async_iteration_does_not_block_the_loop():
    async def main():
        came = 0

        async def tick():
            nonlocal came
            while True:
                await asyncio.sleep(0.001)
                came += 1
                if came == 6:
                    pod.cancel()

        pod = Pod(Idle).start()
        states = []
        with Monitor(pod) as monitor:
            async for event in monitor:
                states.append(event.to)
                if event.to is State.RUNNING:
                    ticking = asyncio.ensure_future(tick())
        ticking.cancel()
        assert states == [State.RUNNING, State.STOPPING, State.STOPPED]

    asyncio.run(main())


def test_a_cancelled_async_read_loses_nothing():
    async def main():
        pod = Pod(Idle).start()
        with Monitor(pod) as monitor:
            assert (await monitor.next_async()).to is State.RUNNING
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(monitor.next_async(), 0.01)
            pod.cancel()
            assert [event.to async for event in monitor] == [State.STOPPING, State.STOPPED]

    asyncio.run(main())


def test_closing_twice_and_forgetting_is_harmless():
    before = descriptors()
    monitor = Monitor()
    monitor.fileno()
    monitor.close()
    monitor.close()
    with pytest.raises(podkeep.Error) as caught:
        monitor.next(timeout=0)
    assert caught.value.status is podkeep.Status.INVALID_HANDLE
    Monitor().fileno()
    gc.collect()
    assert descriptors() == before


def polls(thread):
    """Whether it sleeps in the monitor's wait, and not on a lock of Python's."""
    call = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0]
    return call in ("7", "271")  # poll, ppoll


@pytest.mark.parametrize("read", ["next", "for"])
def test_close_wakes_a_thread_that_waits(read):
    monitor = Monitor()
    list(iter(lambda: monitor.next(timeout=0), None))
    came = []

    def wait():
        try:
            came.extend(monitor if read == "for" else [monitor.next()])
            came.append("over")
        except podkeep.Error as error:
            came.append(type(error))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: all(polls(thread) for thread in threads))
    monitor.close()
    for thread in threads:
        thread.join(30)  # a wait that is not woken looks again after 60 s
    assert came == ["over" if read == "for" else podkeep.PodEnded] * 3


def test_a_loop_over_a_monitor_that_is_closed_ends():
    with Pod(Idle) as pod, Monitor(pod) as monitor:
        for event in monitor:
            monitor.close()
        assert event.to is State.RUNNING

        async def main():
            async for _ in monitor:
                raise AssertionError("an event")

        asyncio.run(main())


@pytest.mark.parametrize("where", ["here", "in a thread"])
def test_close_wakes_tasks_that_wait_and_leaves_their_loop_whole(where):
    async def main():
        loop = asyncio.get_running_loop()
        monitor = Monitor()
        list(iter(lambda: monitor.next(timeout=0), None))

        async def iterate():
            return [event async for event in monitor]

        waiting = [asyncio.ensure_future(work) for work in (iterate(), iterate(), monitor.next_async())]
        await asyncio.sleep(0.01)
        fd = monitor.fileno()
        if where == "here":
            monitor.close()
        else:
            await loop.run_in_executor(None, monitor.close)
        # Whoever gets the number next, while the tasks have not run yet: the loop must see what comes in there.
        inner, outer = os.pipe()
        taken = is_open(fd)  # by the pipe, or by a thread meanwhile
        if not taken:
            os.dup2(inner, fd)
            os.close(inner)
            inner = fd
        read = asyncio.Event()
        loop.add_reader(inner, read.set)
        first, second, third = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
        assert first == second == [] and isinstance(third, podkeep.PodEnded)
        assert not read.is_set()
        os.write(outer, b"x")
        await asyncio.wait_for(read.wait(), 60)
        loop.remove_reader(inner)
        os.close(inner)
        os.close(outer)

    asyncio.run(main())


def test_an_event_goes_to_one_of_the_tasks_that_wait():
    async def main():
        pod = Pod(Idle)
        with Monitor(pod) as monitor:
            assert (await monitor.next_async()).to is State.NEW
            waiting = [asyncio.ensure_future(monitor.next_async()) for _ in range(4)]
            await asyncio.sleep(0.01)
            pod.start()
            pod.close()
            events = await asyncio.wait_for(asyncio.gather(*waiting), 60)
            assert {event.to for event in events} == {State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED}

    asyncio.run(main())


def test_an_event_of_a_pod_nobody_holds_has_none():
    with Monitor() as monitor:
        list(iter(lambda: monitor.next(timeout=0), None))
        with pytest.warns(ResourceWarning):
            Pod(Idle, name="nobody").start()
            gc.collect()
        last = None
        while last is None or last.to is not State.STOPPED:
            last = monitor.next(timeout=60)
        assert last.name == "nobody" and last.pod is None


# --- the log ----------------------------------------------------------------------------------------------------------


class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def records():
    logger = logging.getLogger("podkeep.test")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    handler = Records()
    logger.addHandler(handler)
    yield handler.records
    podkeep.set_log(None)
    logger.removeHandler(handler)


def test_the_librarys_messages_are_records_of_logging(records):
    podkeep.set_log("podkeep.test", logging.DEBUG)
    go = threading.Event()

    @podkeep.runtime
    def deaf(ctx):
        go.wait(60)

    with pytest.raises(podkeep.PodTimeout):
        with Pod(deaf, name="loud", grace=0.02) as pod:
            pass
    go.set()
    # Without a limit an abandoned pod answers at once.
    with pytest.raises(podkeep.PodFailed):
        pod.join(timeout=60)
    until(lambda: any(record.pod == "loud" for record in records))
    assert {record.levelno for record in records} <= {logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG}
    assert all(record.name == "podkeep.test" and record.getMessage() for record in records)


def test_the_level_is_the_librarys_and_none_takes_it_back(records):
    podkeep.set_log(logging.getLogger("podkeep.test"), logging.ERROR)
    with Pod(Idle):
        pass
    podkeep.set_log(None)
    podkeep.set_log(None)
    with Pod(Idle):
        pass
    assert all(record.levelno >= logging.ERROR for record in records)


def test_a_handler_that_raises_harms_nothing(records):
    class Raises(logging.Handler):
        def emit(self, record):
            heard.append(record)
            raise RuntimeError("bad handler")

    heard = []
    logger = logging.getLogger("podkeep.test")
    handler = Raises()
    logger.addHandler(handler)
    try:
        podkeep.set_log(logger, logging.DEBUG)
        with Pod(Idle):
            pass
        until(lambda: heard)
    finally:
        logger.removeHandler(handler)
