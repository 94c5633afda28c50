"""Event loops: waits that do not block the caller's, and the AsyncRuntime's own."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest
from conftest import Idle, descriptors, until

import podkeep
from podkeep import Kind, Phase, Pod, State


class Ticks:
    """How often the loop came round, and the longest it did not."""

    def __init__(self):
        self.count, self.longest = 0, 0.0

    async def __aenter__(self):
        self.task = asyncio.ensure_future(self.tick())
        await asyncio.sleep(0)
        return self

    async def tick(self):
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.count, self.longest, last = self.count + 1, max(self.longest, now - last), now

    async def __aexit__(self, *_):
        self.task.cancel()


def test_async_with_and_joined():
    @podkeep.runtime
    def ticker(ctx, every):
        for _ in range(3):
            ctx.wait(every)

    async def main():
        async with Pod(ticker, kwargs={"every": 0.01}) as pod:
            await pod.joined()
            assert pod.state is State.STOPPED

    asyncio.run(main())


def test_waits_do_not_block_the_loop():
    async def main():
        pod = Pod(Idle, ready="notify").start(wait=False)
        async with Ticks() as ticks:
            with pytest.raises(podkeep.PodTimeout):
                await pod.ready(timeout=2)
            with pytest.raises(podkeep.PodTimeout):
                await pod.joined(timeout=2)
            waits = [asyncio.ensure_future(pod.joined()) for _ in range(10)]
            await asyncio.sleep(0.05)
            await pod.closed()
            await asyncio.gather(*waits)
        return ticks

    # A wait that blocked would stop the loop for its whole two seconds, each time.
    longest = []
    while not longest or longest[-1] >= 1.8:
        assert len(longest) < 3, longest
        ticks = asyncio.run(main())
        assert ticks.count > 20
        longest.append(ticks.longest)


def test_a_loop_whose_clock_is_coarse_ends_waits_too():
    """Its timers may ring a moment before its clock shows their time."""

    class Coarse(asyncio.SelectorEventLoop):
        def time(self):
            return super().time() // 0.02 * 0.02

    async def main():
        with Pod(Idle) as pod:
            for ms in range(30, 40):
                with pytest.raises(podkeep.PodTimeout):
                    await asyncio.wait_for(pod.joined(ms / 1000), 60)

    loop = Coarse()
    loop._clock_resolution = 0.02
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_cancelled_await_leaves_the_pod_and_nothing_behind():
    async def main():
        pod = Pod(Idle).start()
        before = descriptors()
        for _ in range(10):
            task = asyncio.ensure_future(pod.joined())
            await asyncio.sleep(0.002)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pod.joined(), 0.002)
        assert descriptors() == before and pod.state is State.RUNNING
        await pod.closed()

    asyncio.run(main())


def test_an_await_thrown_away_with_its_loop_leaves_nothing_behind():
    pod = Pod(Idle).start()
    before = descriptors()
    loop = asyncio.new_event_loop()
    waits = pod.joined()
    task = loop.create_task(waits)
    loop.run_until_complete(asyncio.sleep(0.002))
    task._log_destroy_pending = False
    loop.close()
    waits.close()
    del task, waits, loop
    gc.collect()
    assert descriptors() <= before
    pod.close()


def test_failures_come_through_with_their_cause():
    error = KeyError("x")

    @podkeep.runtime
    def fails(ctx):
        raise error

    async def main():
        with pytest.raises(podkeep.PodFailed) as caught:
            async with Pod(fails) as pod:
                await pod.joined()
        assert caught.value.__cause__ is error
        with pytest.raises(ValueError) as caught:
            async with Pod(fails):
                raise ValueError("mine")
        return caught.value

    # The failure may have come before the block was entered.
    try:
        mine = asyncio.run(main())
        assert "pod 'fails' failed in run" in mine.__notes__[0]
    except podkeep.PodFailed as failed:
        assert failed.__cause__ is error


def test_leaving_an_async_block_never_masks():
    class Sore(podkeep.Runtime):
        def run_forever(self, ctx):
            ctx.wait()

        def teardown(self):
            raise KeyError("late")

    async def main():
        async with Pod(Sore):
            raise ValueError("mine")

    with pytest.raises(ValueError) as caught:
        asyncio.run(main())
    assert caught.value.__notes__[0].startswith("pod 'Sore' failed in teardown")


def test_a_cancelled_block_closes_the_pod():
    async def main():
        pod = Pod(Idle)

        async def block():
            async with pod:
                await pod.joined()

        task = asyncio.ensure_future(block())
        while pod.state is not State.RUNNING:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pod.state is State.STOPPED

    asyncio.run(main())


def test_an_async_block_that_cannot_be_entered_closes_the_pod():
    async def main():
        pod = Pod(Idle, ready="notify", ready_timeout=0.02)
        with pytest.raises(podkeep.PodFailed) as caught:
            async with pod:
                raise AssertionError("entered")
        assert caught.value.phase is Phase.READY and pod.state is State.FAILED

    asyncio.run(main())


def test_two_hundred_pods_in_one_loop():
    async def main():
        pods = [Pod(Idle, name=f"p{number}").start(wait=False) for number in range(200)]
        await asyncio.gather(*(pod.ready() for pod in pods))
        joins = [asyncio.ensure_future(pod.joined()) for pod in pods]
        await asyncio.sleep(0)
        async with Ticks() as ticks:
            await asyncio.sleep(0.05)
            for pod in pods:
                pod.cancel()
            await asyncio.gather(*joins)
        return ticks

    assert asyncio.run(main()).longest < 5


def test_an_abandoned_pod_answers_a_wait_without_limit():
    go = threading.Event()

    @podkeep.runtime
    def deaf(ctx):
        go.wait(60)

    async def main():
        pod = Pod(deaf, grace=0.05).start()
        with pytest.raises(podkeep.PodTimeout) as caught:
            await pod.closed()
        assert caught.value.state is State.ABANDONED
        go.set()
        with pytest.raises(podkeep.PodFailed):
            await pod.joined(timeout=60)

    asyncio.run(main())


# --- AsyncRuntime -----------------------------------------------------------------------------------------------------


def test_an_async_runtime_waits_for_the_cancel():
    seen = []

    class Loop(podkeep.AsyncRuntime):
        def __init__(self):
            self.event = asyncio.Event()
            seen.append(threading.get_native_id())

        async def run_forever(self, ctx):
            seen.append(threading.get_native_id())
            tasks = [asyncio.ensure_future(ctx.cancelled_async()) for _ in range(5)]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(ctx.cancelled_async(), 0.01)
            timed_out.set()
            await asyncio.gather(*tasks)
            seen.append("cancelled")

        async def teardown(self):
            await asyncio.sleep(0)
            seen.append(threading.get_native_id())

    timed_out = threading.Event()
    with Pod(Loop) as pod:
        assert timed_out.wait(60)
        own = pod.id
        assert own is not None
    assert seen == [own, own, "cancelled", own]


def test_the_context_of_init_is_that_of_run_forever():
    contexts, seen = [], []

    class Loop(podkeep.AsyncRuntime):
        def __init__(self):
            self.ctx = podkeep.current_context()

        async def run_forever(self, ctx):
            contexts.append((self.ctx, ctx))
            if ctx.incarnation == 0:
                raise ValueError("once more")
            ctx.ready()
            await self.ctx.cancelled_async()  # which counts: no CancelledError comes
            seen.append("cancelled")

    with Pod(Loop, ready="notify", restart="on-failure", backoff=0.001):
        pass
    assert seen == ["cancelled"]
    (first, same), (second, as_well) = contexts
    assert first is same and second is as_well and first is not second


def test_one_that_never_asks_is_cancelled_as_asyncio_does_it():
    seen = []

    class Serves(podkeep.AsyncRuntime):
        async def run_forever(self, ctx):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

    with Pod(Serves) as pod:
        pod.cancel()
        pod.join()
    assert seen == ["cancelled"] and pod.failure is None


@pytest.mark.parametrize("asynchronous", [False, True])
def test_its_own_cancel_runs_in_the_loop(asynchronous):
    seen = []

    class Own(podkeep.AsyncRuntime):
        def __init__(self):
            self.stop = asyncio.Event()

        async def run_forever(self, ctx):
            await self.stop.wait()
            seen.append(threading.get_native_id())

    def cancel(self):
        asyncio.get_running_loop()
        seen.append(threading.get_native_id())
        self.stop.set()

    async def cancel_async(self):
        await asyncio.sleep(0.001)
        cancel(self)

    Own.cancel = cancel_async if asynchronous else cancel
    with Pod(Own) as pod:
        own = pod.id
    assert seen == [own, own]


def test_a_cancel_that_raises_fails_the_pod():
    class Own(podkeep.AsyncRuntime):
        async def run_forever(self, ctx):
            await asyncio.sleep(3600)

        def cancel(self):
            raise KeyError("bad cancel")

    with pytest.raises(podkeep.PodFailed) as caught:
        with Pod(Own):
            pass
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_async_function_is_an_async_runtime():
    @podkeep.runtime
    async def ticker(ctx, every, log):
        while True:
            log.append(ctx.name)
            await asyncio.sleep(every)

    log = []
    assert issubclass(ticker, podkeep.AsyncRuntime)
    with Pod(ticker, args=(0.001,), kwargs={"log": log}):
        until(lambda: len(log) > 3)
    assert set(log) == {"ticker"}


def test_returns_raises_and_exits_are_as_in_a_runtime():
    error = KeyError("x")

    @podkeep.runtime
    async def does(ctx, what):
        await asyncio.sleep(0)
        if isinstance(what, BaseException):
            raise what
        return what

    Pod(does, args=(0,)).start().join()
    Pod(does, args=(None,)).start().join()
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(does, args=(3,)).start().join()
    assert (caught.value.kind, caught.value.code) == (Kind.RETURNED, 3)
    for raised in (error, SystemExit(4), KeyboardInterrupt(), asyncio.CancelledError()):
        with pytest.raises(podkeep.PodFailed) as caught:
            Pod(does, args=(raised,)).start().join()
        assert caught.value.phase is Phase.RUN and isinstance(caught.value.__cause__, type(raised))


def test_its_tasks_generators_and_executor_end_with_it():
    seen = []

    class Leaves(podkeep.AsyncRuntime):
        async def run_forever(self, ctx):
            async def forever():
                try:
                    await asyncio.sleep(3600)
                finally:
                    seen.append("task")

            async def generator():
                try:
                    yield 1
                finally:
                    seen.append("generator")

            self.task = asyncio.ensure_future(forever())
            self.generator = generator()
            await self.generator.__anext__()
            await asyncio.get_running_loop().run_in_executor(None, seen.append, "executor")

        def teardown(self):
            asyncio.get_running_loop()
            assert not self.task.done()
            seen.append("teardown")

    before = threading.active_count()
    with Pod(Leaves) as pod:
        pod.join()
    assert seen == ["executor", "teardown", "task", "generator"]
    until(lambda: threading.active_count() <= before)


def test_an_async_runtimes_init_that_fails_leaves_no_loop():
    class Fails(podkeep.AsyncRuntime):
        def __init__(self):
            asyncio.ensure_future(asyncio.sleep(3600), loop=asyncio.get_event_loop_policy().get_event_loop())
            raise KeyError("no")

        async def run_forever(self, ctx):
            pass

    before = descriptors()
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(Fails).start()
    assert caught.value.phase is Phase.INIT
    until(lambda: descriptors() <= before)


def test_a_loop_that_waits_for_its_own_pod_is_refused():
    found = []

    class Selfish(podkeep.AsyncRuntime):
        async def run_forever(self, ctx):
            for wait in (pod.joined, pod.ready, pod.closed):
                try:
                    await wait()
                except podkeep.Error as error:
                    found.append(error.status)

    pod = Pod(Selfish)
    pod.start()
    pod.join()
    assert found == [podkeep.Status.DEADLOCK] * 3


def test_a_runtime_may_run_a_loop_of_its_own():
    @podkeep.runtime
    def own_loop(ctx):
        async def main():
            await ctx.cancelled_async()

        asyncio.run(main())

    with Pod(own_loop) as pod:
        pass
    assert pod.failure is None


def test_pods_inside_pods():
    @podkeep.runtime
    async def outer(ctx):
        async with Pod(Idle, name="inner") as inner:
            seen.append(inner.state)
            await ctx.cancelled_async()
        seen.append(inner.state)

    seen = []
    with Pod(outer):
        until(lambda: seen)
    assert seen == [State.RUNNING, State.STOPPED]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["run_forever", "task", "cancel"])
def test_an_exit_in_a_loop_leaves_the_teardown_whole(kind, where):
    done, error = [], kind(3)

    class Exits(podkeep.AsyncRuntime):
        async def run_forever(self, ctx):
            if where == "run_forever":
                raise error
            if where == "task":
                self.task = asyncio.ensure_future(self.exits())
            try:
                await asyncio.sleep(3600)
            finally:
                done.append("run_forever")

        async def exits(self):
            raise error

        async def cancel(self):
            if where == "cancel":
                raise error

        async def teardown(self):
            await asyncio.sleep(0.001)
            done.append("teardown")

    pod = Pod(Exits).start(wait=False)
    if where == "cancel":
        until(lambda: pod.state is not State.STARTING)
        pod.cancel()
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    assert caught.value.__cause__ is error and caught.value.secondary is None
    assert caught.value.code == (3 if isinstance(error, SystemExit) else -1)
    assert done == (["teardown"] if where == "run_forever" else ["run_forever", "teardown"])


def test_asyncio_is_imported_by_those_who_use_it(program):
    # A process pod pays for each import at its start.
    ran = program(
        """
import sys, podkeep
@podkeep.runtime
def idle(ctx):
    ctx.wait()
with podkeep.Pod(idle):
    pass
print("asyncio" in sys.modules, "subprocess" in sys.modules)
from podkeep import AsyncRuntime
print(issubclass(podkeep.AsyncRuntime, podkeep.Runtime), AsyncRuntime is podkeep.AsyncRuntime, "asyncio" in sys.modules)
print(set(podkeep.__all__) <= set(dir(podkeep)))
try:
    podkeep.Nothing
except AttributeError as error:
    print(error)
"""
    ).end()
    assert ran.err == ""
    assert ran.lines == ["False False", "True True True", "True", "module 'podkeep' has no attribute 'Nothing'"]
