"""What a runtime sees from inside."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Optional

from . import _abi, _errors, _times
from ._words import Status

if TYPE_CHECKING:
    import asyncio

# How often cancelled_async looks when the pod could get no descriptor (RLIMIT_NOFILE).
_LOOK = 0.02


class Context:
    """One incarnation, seen from inside. Usable on any thread of the process; after the end it reads cancelled."""

    __slots__ = ("_address", "_asked_async", "__weakref__")

    def __init__(self, address: int) -> None:
        self._address = address
        # Whether the runtime has asked for the cancel by cancelled_async; see AsyncRuntime.
        self._asked_async = False

    @property
    def cancelled(self) -> bool:
        """A stop was asked for, by anybody, for any reason."""
        return bool(_abi.lib.podkeep_context_cancelled(self._address))

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Sleeps until cancelled, or for so many seconds; returns whether it is cancelled. Other Python threads run."""
        limit = _times.of_wait(timeout)
        if limit == 0 or not _times.in_main():
            return self._wait(limit)
        # The native wait sleeps through signals; between two of them Python runs its handlers.
        until = None if limit == _abi.FOREVER else time.monotonic() + limit / 1000
        longest = _times.longest_ms()
        while not self._wait(longest if until is None else min(longest, _times.left_ms(until))):
            if until is not None and time.monotonic() >= until:
                return False
        return True

    def _wait(self, ms: int) -> bool:
        status = _abi.lib.podkeep_context_wait(self._address, ms)
        if status == Status.TIMEOUT:
            return False
        _errors.check(status)
        return True

    @property
    def fd(self) -> int:
        """A descriptor that is readable once cancelled; only poll it, the pod closes it. -1: none was to be had."""
        return int(_abi.lib.podkeep_context_fd(self._address))

    async def cancelled_async(self) -> None:
        """Returns once cancelled, for any running asyncio loop; any number of tasks may wait, and may be cancelled."""
        self._asked_async = True
        await watch(self)

    @property
    def time_left(self) -> Optional[float]:
        """Seconds until the grace is spent; None: not cancelled, or no limit."""
        left = int(_abi.lib.podkeep_context_time_left(self._address))
        return None if left < 0 else left / 1000

    def ready(self) -> None:
        """Says that the pod is ready; needed with ``ready="notify"``, harmless otherwise."""
        _errors.check(_abi.lib.podkeep_context_ready(self._address))

    def heartbeat(self) -> None:
        """Feeds the watchdog."""
        _errors.check(_abi.lib.podkeep_context_heartbeat(self._address))

    def extend(self, seconds: float) -> None:
        """Asks for more time in the present phase: the limit becomes at least now + seconds, within ``extend_max``."""
        _errors.check(_abi.lib.podkeep_context_extend(self._address, _times.of_option("seconds", seconds)))

    def status(self, text: str) -> None:
        """What the runtime is doing, in a few words; a timeout's sentence shows it."""
        _errors.check(_abi.lib.podkeep_context_status(self._address, _abi.utf8("status", text)))

    def fail(self, code: int, message: str) -> int:
        """Stores a failure and returns its code (-1 for 0): ``return ctx.fail(3, "no disk")`` from run_forever."""
        if isinstance(code, bool) or not isinstance(code, int):
            raise TypeError(f"code must be an int, not {type(code).__name__}")
        if not -(2**31) <= code < 2**31:
            raise ValueError(f"code must fit 32 bits: {code}")
        return int(_abi.lib.podkeep_context_fail(self._address, code, _abi.utf8("message", message)))

    @property
    def incarnation(self) -> int:
        """0 for the pod's first life, 1 for the next."""
        return int(_abi.lib.podkeep_context_incarnation(self._address))

    @property
    def name(self) -> str:
        """The pod's name."""
        return _abi.text(_abi.lib.podkeep_context_name(self._address))

    def __repr__(self) -> str:
        return f"<podkeep.Context of {self.name!r}{' cancelled' if self.cancelled else ''}>"


async def watch(context: Context) -> None:
    """Waits for the cancel without marking the runtime as one that asks for it."""
    import asyncio

    # A descriptor of this wait's own: a loop keeps one reader a descriptor, and the pod may close its own meanwhile.
    mine = -1
    try:
        fd = context.fd
        mine = os.dup(fd) if fd >= 0 else -1
    except OSError:
        pass
    # Only now: a context that was not over after the dup gave the right descriptor.
    if context.cancelled:
        if mine >= 0:
            os.close(mine)
        return
    if mine < 0:
        while not context.cancelled:
            await asyncio.sleep(_LOOK)
        return
    loop = asyncio.get_running_loop()
    woken: "asyncio.Future[None]" = loop.create_future()

    def wake() -> None:
        loop.remove_reader(mine)
        if not woken.done():
            woken.set_result(None)

    try:
        loop.add_reader(mine, wake)
        await woken
    finally:
        # A coroutine that is thrown away with its closed loop has no reader left.
        if not loop.is_closed():
            loop.remove_reader(mine)
        os.close(mine)
