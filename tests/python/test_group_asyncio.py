"""Groups in an event loop: nothing polls, nothing blocks it, a wait that is given up leaves nothing behind."""

from __future__ import annotations

import asyncio
import threading

import pytest
import runtimes
from conftest import Idle, descriptors

import podkeep
from podkeep import Group, Monitor, Pod, State, _wait


@pytest.fixture(autouse=True)
def never_polls(monkeypatch):
    """Where there is no descriptor a wait looks again after this time: here it would never."""
    monkeypatch.setattr(_wait, "SLICE_MS", 3_600_000)


def run(main):
    """With a safety net."""
    return asyncio.run(asyncio.wait_for(main, 60))


@podkeep.runtime
def marks(ctx, log):
    log.append(f"+{ctx.name}")
    ctx.ready()
    ctx.wait()
    log.append(f"-{ctx.name}")


@podkeep.runtime
def falls(ctx, event):
    event.wait()
    raise runtimes.Boom("by itself", 5)


def test_a_block():
    log = []

    async def main():
        async with Group() as group:
            first = group.add(Pod(marks, args=(log,), name="one", ready="notify"))
            group.add(Pod(marks, args=(log,), name="two", ready="notify"), after=[first])
            group.start(wait=False)
            await group.ready()
            assert group.state is State.RUNNING
            with pytest.raises(podkeep.PodTimeout):
                await group.joined(timeout=0.05)
        assert group.state is State.STOPPED
        await group.joined()
        await group.closed()

    run(main())
    assert log == ["+one", "+two", "-two", "-one"]


def test_a_failure_is_raised_by_all_who_wait_and_at_the_end_of_the_block():
    async def main():
        event = threading.Event()
        with pytest.raises(podkeep.PodFailed) as caught:
            async with Group() as group:
                other = group.add(Pod(Idle))
                group.add(Pod(falls, args=(event,), name="bad"))
                group.start(wait=False)
                await group.ready()
                waits = [asyncio.ensure_future(group.joined()) for _ in range(10)]
                await asyncio.sleep(0)
                event.set()
                found = await asyncio.gather(*waits, return_exceptions=True)
                assert {type(error) for error in found} == {podkeep.PodFailed}
        assert caught.value.pod_name == "bad" and isinstance(caught.value.__cause__, runtimes.Boom)
        assert other.state is State.STOPPED
        # Never masking: it is a note on what is on its way.
        with pytest.raises(ZeroDivisionError) as masked:
            async with group:
                raise ZeroDivisionError
        assert any("bad" in note for note in masked.value.__notes__)

    run(main())


def test_a_start_that_fails():
    async def main():
        event = threading.Event()
        event.set()
        async with Group() as group:
            bad = group.add(Pod(falls, args=(event,), name="bad", ready="notify"))
            group.add(Pod(Idle), after=[bad])
            group.start(wait=False)
            await group.ready()

    with pytest.raises(podkeep.PodFailed) as caught:
        run(main())
    assert caught.value.pod_name == "bad" and not hasattr(caught.value, "__notes__")


def test_many_groups_lose_no_wake():
    async def live(number):
        event = threading.Event()
        group = Group(strategy="one_for_all")
        group.add(Pod(Idle, name="a", restart="always"))
        group.add(Pod(falls, args=(event,), name="b", restart="on-failure", max_restarts=1, backoff=0.001))
        group.start(wait=False)
        await group.ready()
        if number % 2:
            event.set()
            with pytest.raises(podkeep.PodFailed):
                await group.joined()
        else:
            threading.Thread(target=group.cancel).start()
            event.set()
            # It may have failed before it was cancelled.
            try:
                await group.joined()
            except podkeep.PodFailed:
                pass
        assert group.state.final

    async def main():
        for _ in range(5):
            await asyncio.gather(*map(live, range(20)))

    run(main())


def test_a_cancelled_await_leaves_the_group_and_nothing_behind():
    async def main():
        group = Group()
        group.add(Pod(Idle))
        group.start(wait=False)
        await group.ready()
        before = descriptors()
        for _ in range(10):
            task = asyncio.ensure_future(group.joined())
            await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(group.joined(), 0.002)
        assert descriptors() == before and group.state is State.RUNNING
        await group.closed()

    run(main())


def test_a_cancelled_block_closes_the_group():
    async def main():
        group = Group()
        inside = asyncio.Event()

        async def block():
            async with group:
                group.add(Pod(Idle))
                group.start(wait=False)
                await group.ready()
                inside.set()
                await group.joined()

        task = asyncio.ensure_future(block())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert group.state is State.STOPPED

    run(main())


def test_a_monitor_ends_with_its_group():
    async def main():
        group = Group()
        group.add(Pod(Idle, name="only"))
        with Monitor(group) as monitor:
            group.start(wait=False)
            seen = []
            async for event in monitor:
                seen.append(event.to)
                if event.to is State.RUNNING:
                    group.cancel()
        assert seen == [State.NEW, State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED]

    run(main())


def test_ctrl_c_gets_through_and_the_block_closes_the_group(program):
    one = program(
        """
import asyncio, podkeep
@podkeep.runtime
def idle(ctx):
    ctx.wait()
async def main():
    global group
    async with podkeep.Group() as group:
        group.add(podkeep.Pod(idle))
        group.start(wait=False)
        await group.ready()
        print("ready", flush=True)
        await group.joined()
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
print(group.state)
"""
    )
    assert one.line() == "ready"
    one.interrupt()
    ran = one.end()
    assert (ran.code, ran.lines, ran.err) == (0, ["interrupted", "stopped"], "")
