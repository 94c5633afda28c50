"""Runtime: what to run."""

from __future__ import annotations

import inspect
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Type

from ._context import Context


class Runtime:
    """What to run. Subclass it: all of one life is called on one thread, the pod's own.

    ``__init__`` gets the pod's ``args`` and ``kwargs`` and may raise: then nothing else is called. ``teardown`` is
    called exactly once when ``__init__`` returned, however ``run_forever`` ended.
    """

    # The steps return Any so that those of an AsyncRuntime may be coroutines.

    def run_forever(self, ctx: Context) -> Any:
        """Blocks until cancelled. None and 0 are a clean end; another int, or an exception, is a failure."""
        raise NotImplementedError(f"{type(self).__name__} has no run_forever")

    # How Pod tells a class that has none of its own.
    setattr(run_forever, "_missing", True)

    def cancel(self) -> Any:
        """Override it to unblock what cannot poll: called at most once, beside run_forever, on a library thread."""

    def teardown(self) -> Any:
        """Override it to give back what ``__init__`` took."""

    @classmethod
    def _driver(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Driver":
        return Driver(cls, args, kwargs)


class Driver:
    """Carries out a pod's callbacks on a Runtime; one a pod, all steps but the hook on the pod's thread."""

    #: It runs an event loop.
    looped = False

    def __init__(self, cls: Type[Runtime], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.cls = cls
        self.args = tuple(args)
        self.kwargs: Dict[str, Any] = dict(kwargs)
        self.runtime: Optional[Runtime] = None

    @property
    def hooked(self) -> bool:
        """Whether the library shall call ``cancel``; without one it needs no thread for it."""
        return self.cls.cancel is not Runtime.cancel

    def make(self, ctx: Context) -> None:
        self.runtime = self.cls(*self.args, **self.kwargs)

    def run(self, ctx: Context) -> object:
        assert self.runtime is not None
        return self.runtime.run_forever(ctx)

    def cancel(self) -> None:
        assert self.runtime is not None
        self.runtime.cancel()

    def teardown(self, ctx: Context) -> None:
        runtime, self.runtime = self.runtime, None
        assert runtime is not None
        runtime.teardown()


def runtime(function: Callable[..., Any]) -> Type[Runtime]:
    """Makes a function a Runtime: ``def ticker(ctx, every)``; the pod's args and kwargs follow the context.

    An ``async def`` function becomes an AsyncRuntime, in an event loop of its own.
    """
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"podkeep.runtime takes a function, not {function!r}; a class subclasses podkeep.Runtime")
    signature = inspect.signature(function)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        # Arguments that do not fit fail in init, as a class's do, and not when run_forever is already shown as running.
        signature.bind(None, *args, **kwargs)
        self._arguments = args, kwargs

    name = getattr(function, "__name__", type(function).__name__)
    body: Dict[str, Any] = {
        "__init__": __init__,
        "__module__": getattr(function, "__module__", __name__),
        "__qualname__": getattr(function, "__qualname__", name),
        "__doc__": function.__doc__,
    }
    base: Type[Runtime]
    if inspect.iscoroutinefunction(function):
        from ._async_runtime import AsyncRuntime as base

        async def run_async(self: Any, ctx: Context) -> Any:
            args, kwargs = self._arguments
            return await function(ctx, *args, **kwargs)

        body["run_forever"] = run_async
    else:
        base = Runtime

        def run_forever(self: Any, ctx: Context) -> Any:
            args, kwargs = self._arguments
            return function(ctx, *args, **kwargs)

        body["run_forever"] = run_forever
    return type(name, (base,), body)
