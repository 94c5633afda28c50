"""AsyncRuntime: a Runtime with an asyncio event loop of its own in the pod's thread."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Mapping, Optional, Sequence, Tuple, Type

from . import _abi
from ._context import Context, watch
from ._runtime import Driver, Runtime


class AsyncRuntime(Runtime):
    """As Runtime, with ``async def run_forever``; ``cancel`` and ``teardown`` may be coroutines, too.

    Everything runs in the pod's own loop: ``cancel`` as well, so it needs no locks. Without a ``cancel`` of its own a
    runtime that has awaited ``ctx.cancelled_async()`` ends by itself; one that has not gets asyncio's CancelledError in
    ``run_forever``, which is a clean end.
    """

    async def run_forever(self, ctx: Context) -> Any:
        """Runs until cancelled. None and 0 are a clean end; another int, or an exception, is a failure."""
        raise NotImplementedError(f"{type(self).__name__} has no run_forever")

    setattr(run_forever, "_missing", True)

    def cancel(self) -> Any:
        """Override it to end run_forever in a way of your own."""

    def teardown(self) -> Any:
        """Override it to give back what ``__init__`` took; the loop still runs."""

    @classmethod
    def _driver(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Driver:
        return _AsyncDriver(cls, args, kwargs)


class _AsyncDriver(Driver):
    looped = True

    def __init__(self, cls: Type[Runtime], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        super().__init__(cls, args, kwargs)
        self.loop: Optional[asyncio.AbstractEventLoop] = None

    @property
    def hooked(self) -> bool:
        # The loop watches the pod's descriptor instead: no thread beside it.
        return False

    def make(self, ctx: Context) -> None:
        loop = asyncio.new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            super().make(ctx)
        except BaseException:
            _end(loop)
            raise
        self.loop = loop

    def run(self, ctx: Context) -> object:
        assert self.loop is not None
        main = self.loop.create_task(self._main(ctx))
        try:
            return self.loop.run_until_complete(main)
        except BaseException:
            _settle(self.loop, main)
            raise

    async def _main(self, ctx: Context) -> object:
        runtime = self.runtime
        assert runtime is not None
        loop = asyncio.get_running_loop()
        work = loop.create_task(_caught(runtime.run_forever(ctx)))
        asked = loop.create_task(watch(ctx))
        try:
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                try:
                    if type(runtime).cancel is not AsyncRuntime.cancel:
                        await _awaited(runtime.cancel())
                    elif not ctx._asked_async:
                        work.cancel()
                except BaseException:
                    work.cancel()
                    await asyncio.wait({work})
                    raise
                await asyncio.wait({work})
        except asyncio.CancelledError:
            # By _settle.
            work.cancel()
            await asyncio.wait({work})
            raise
        finally:
            asked.cancel()
        if work.cancelled() and ctx.cancelled:
            return _abi.CANCELLED
        result, error = work.result()
        if error is not None:
            raise error
        return result

    def teardown(self, ctx: Context) -> None:
        loop, self.loop = self.loop, None
        runtime, self.runtime = self.runtime, None
        assert loop is not None and runtime is not None

        async def last() -> None:
            await _awaited(runtime.teardown())

        try:
            loop.run_until_complete(last())
        finally:
            _end(loop)


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _caught(value: Any) -> "Tuple[Any, Optional[BaseException]]":
    """What a task must not raise, since that stops the loop and leaves whoever waits for the task to raise it once more."""
    try:
        return await _awaited(value), None
    except (SystemExit, KeyboardInterrupt) as error:
        return None, error


def _settle(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[Any]") -> None:
    """SystemExit of a task of the user's own stopped the loop with the main task in it: that ends before the teardown."""
    while not main.done():
        main.cancel()
        try:
            loop.run_until_complete(asyncio.wait({main}))
        except (SystemExit, KeyboardInterrupt):
            # Of yet another task; the first one is the failure.
            continue
    if not main.cancelled():
        # Seen, or asyncio would complain of it.
        main.exception()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio.run ends: what is left is cancelled, then generators and the executor go, then the loop."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        try:
            loop.run_until_complete(loop.shutdown_default_executor())
        except RuntimeError:
            # It starts a thread, and at the interpreter's exit (from 3.12 on) none can be started any more.
            executor = getattr(loop, "_default_executor", None)
            if executor is not None:
                executor.shutdown(wait=True)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
