"""Waiting for a pod or a group: the library tells with a poll how it stands, a monitor's descriptor tells when to ask again.

One monitor a wait, made when the first poll did not answer, and given back with it. A shared one would need a thread, or a
leader among the waiters, to read for the others, and each event would wake everybody; with one of its own a waiter is
woken by its pod or group alone, threads and event loops need not know of each other, and a cancelled wait leaves nothing behind. The
price is one descriptor for as long as the wait lasts; where none is to be had, short native waits take turns with Python.
"""

from __future__ import annotations

import math
import select
import time
import weakref
from ctypes import byref, c_int, c_void_p, sizeof
from typing import Callable, Optional

from . import _abi
from ._kept import Waited
from ._times import longest_ms, of_wait
from ._words import State, Status

# A native wait may not be interrupted, so it is never longer than this many milliseconds. The first one is shorter still:
# most starts are over by then, and need no monitor.
SLICE_MS = 20
_FIRST_MS = 2

Call = Callable[[int, int], int]


class _Watch:
    """A monitor of one pod or group, as a bell."""

    def __init__(self) -> None:
        self._monitor = c_void_p()
        # A Ctrl-C may come between any two lines, also of what is done finally. What it kept from being freed goes with this.
        self._spare = weakref.finalize(self, _abi.lib.podkeep_monitor_free, self._monitor)
        self._spare.atexit = False  # type: ignore[misc]
        self.fd = -1
        self.live = False
        self._event = _abi.Event(struct_size=sizeof(_abi.Event))

    def open(self, kept: Waited) -> None:
        """From here on it rings, unless there is no monitor or descriptor to be had."""
        if kept.watch(byref(self._monitor)) != Status.OK:
            return
        fd = c_int()
        if _abi.lib.podkeep_monitor_fd(self._monitor, byref(fd)) == Status.OK and fd.value >= 0:
            self.fd = fd.value
            self.live = True

    def quiet(self) -> None:
        """Reads what has happened, so that the descriptor is readable again only for something new."""
        status = Status.OK.value
        while self.live and status == Status.OK:
            status = _abi.lib.podkeep_monitor_next(self._monitor, byref(self._event), 0)
        # Ended and all read, or broken: it rings no more.
        self.live = status == Status.TIMEOUT

    def close(self) -> None:
        """Gives the monitor back."""
        _abi.lib.podkeep_monitor_free(self._monitor)  # once more is harmless
        self._spare.detach()


def _ask(kept: Waited, call: Call, timeout: Optional[float], ms: int) -> Optional[int]:
    """One poll of at most ms; None: not yet."""
    status = call(kept.pod, ms)
    if status != Status.TIMEOUT:
        return status
    if timeout is None and kept.state() is State.ABANDONED:
        # A wait without a limit is answered at once there, with a sentence (or with the end, if it has come meanwhile).
        # Asked by a poll: the group of an abandoned member may go on meanwhile, and nothing native may block here.
        return call(kept.pod, 0)
    return None


def wait(kept: Waited, call: Call, timeout: Optional[float]) -> int:
    """Blocks this thread; Ctrl-C is answered and other threads run. The status; last_error() holds its sentence."""
    limit = of_wait(timeout)
    if limit == _abi.FOREVER:
        timeout = None
    until = time.monotonic() + limit / 1000
    status = _ask(kept, call, timeout, _FIRST_MS if timeout is None else min(limit, _FIRST_MS))
    if status is not None:
        return status
    longest = longest_ms()
    watch = _Watch()
    try:
        watch.open(kept)
        bell = select.poll()
        if watch.live:
            bell.register(watch.fd, select.POLLIN)
        while timeout is None or time.monotonic() < until:
            watch.quiet()
            left = longest if timeout is None else max(0, min(longest, math.ceil((until - time.monotonic()) * 1000)))
            status = _ask(kept, call, timeout, 0 if watch.live else min(left, SLICE_MS))
            if status is not None:
                return status
            if watch.live:
                bell.poll(left)
        status = _ask(kept, call, timeout, 0)
        return Status.TIMEOUT if status is None else status
    finally:
        watch.close()


async def wait_async(kept: Waited, call: Call, timeout: Optional[float]) -> int:
    """The same in a running event loop, which is never blocked."""
    # Here and wherever else it is needed: importing it takes longer than all of podkeep, and each process pod would pay.
    import asyncio

    limit = of_wait(timeout)
    if limit == _abi.FOREVER:
        timeout = None
    status = _ask(kept, call, timeout, 0)
    if status is not None:
        return status
    loop = asyncio.get_running_loop()
    bell = asyncio.Event()
    late = limit == 0

    def over() -> None:
        nonlocal late
        late = True
        bell.set()

    # Its word counts, and no look at the loop's clock: that may be a coarse one, which still shows a moment before.
    timer = None if timeout is None else loop.call_later(limit / 1000, over)
    watch, reading = _Watch(), False
    try:
        watch.open(kept)
        reading = watch.live
        if reading:
            loop.add_reader(watch.fd, bell.set)
        while not late:
            bell.clear()
            watch.quiet()
            status = _ask(kept, call, timeout, 0)
            if status is not None:
                return status
            if watch.live:
                await bell.wait()
                continue
            if reading:
                reading = not loop.remove_reader(watch.fd)
            await asyncio.sleep(SLICE_MS / 1000)
        status = _ask(kept, call, timeout, 0)
        return Status.TIMEOUT if status is None else status
    finally:
        # The reader goes before its descriptor does. A loop that was closed meanwhile has none.
        if reading and not loop.is_closed():
            loop.remove_reader(watch.fd)
        if timer is not None:
            timer.cancel()
        watch.close()
