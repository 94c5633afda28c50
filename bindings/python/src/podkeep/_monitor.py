"""Monitor: the lives of pods, as they happen."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
import weakref
import select
from ctypes import byref, c_int, c_void_p, sizeof
from types import TracebackType
from typing import TYPE_CHECKING, Any, AsyncIterator, Iterator, List, Optional, Type, Union

from . import _abi, _errors, _failure, _kept, _wait
from ._failure import Failure
from ._group import Group
from ._times import longest_ms, of_wait
from ._words import Phase, State, Status

if TYPE_CHECKING:
    from ._pod import Pod


@dataclasses.dataclass(frozen=True)
class Event:
    """A pod changed its state; ``from_`` equal to ``to`` is the state found when the monitor was made."""

    #: Grows with every event of the process.
    sequence: int
    #: On the clock of ``time.monotonic_ns()``.
    time_ns: int
    name: str
    from_: State
    to: State
    incarnation: int
    #: Earlier events of this pod merged into this one, because the reader was slow.
    missed: int
    #: Of that incarnation, when ``to`` follows one.
    failure: Optional[Failure]
    #: The Pod, while this process still holds one.
    pod: "Optional[Pod]" = dataclasses.field(compare=False, repr=False, default=None)


class Monitor:
    """The states of one pod, of a group's members, or of every pod of the process: first the present ones, then each change, in order.

    Iterate over it, with ``for`` or ``async for``: that of one pod or group ends when that has ended, and each when it is
    closed. Or watch ``fileno()`` in an event loop of your own and read with ``next(timeout=0)`` until it gives None.
    """

    def __init__(self, pod: "Union[Pod, Group, None]" = None) -> None:
        handle = c_void_p()
        of_group = isinstance(pod, Group)
        make = _abi.lib.podkeep_monitor_new_group if of_group else _abi.lib.podkeep_monitor_new
        self._handle, self._home, self._closed = handle, _kept.home, False
        # Before there is anything to free: a Ctrl-C may come between any two lines.
        self._free = weakref.finalize(self, _free, _kept.home, handle)
        self._free.atexit = False  # type: ignore[misc]
        _errors.check(make(None if pod is None else pod._kept.pod, byref(handle)))
        # What an event points to lives until the next one is read, so reading is one step.
        self._lock = threading.Lock()
        self._event = _abi.Event()

    def fileno(self) -> int:
        """A descriptor that is readable while events wait, and once none can follow; that of a group's monitor also when the
        group's own ``state`` has changed. Only poll it; close() closes it. Raises Error when there is none to be had."""
        out = c_int()
        _errors.check(_abi.lib.podkeep_monitor_fd(self._handle, byref(out)))
        return out.value

    def next(self, timeout: Optional[float] = None) -> Optional[Event]:
        """The next event; None when so many seconds have passed. Raises PodEnded when the pod or group has
        ended and all is read, and when the monitor is closed meanwhile."""
        limit = of_wait(timeout)
        until = None if limit == _abi.FOREVER else time.monotonic() + limit / 1000
        found = self._read(0)
        if found is not None or limit == 0:
            return found
        longest = longest_ms()
        with self._waiting() as fd:
            bell = select.poll()
            if fd >= 0:
                bell.register(fd, select.POLLIN)
            while found is None:
                left = longest if until is None else min(longest, max(0, int((until - time.monotonic()) * 1000) + 1))
                if fd >= 0:
                    bell.poll(left)
                    found = self._read(0)
                else:
                    found = self._read(min(left, _wait.SLICE_MS))
                if until is not None and time.monotonic() >= until:
                    break
        return found

    async def next_async(self) -> Event:
        """The next event, for asyncio."""
        import asyncio

        found = self._read(0)
        if found is not None:
            return found
        loop = asyncio.get_running_loop()
        bell = asyncio.Event()
        with self._waiting() as fd:
            try:
                if fd >= 0:
                    loop.add_reader(fd, bell.set)
                while found is None:
                    if fd >= 0:
                        await bell.wait()
                        bell.clear()
                    else:
                        await asyncio.sleep(_wait.SLICE_MS / 1000)
                    found = self._read(0)
            finally:
                if fd >= 0 and not loop.is_closed():
                    loop.remove_reader(fd)
        return found

    def close(self) -> None:
        """Gives it back; whoever waits in it gets PodEnded, and who iterates over it is through."""
        self._closed = True
        # Not by calling the finalizer, which does nothing once weakref's own exit handler has run; and in this order: a Ctrl-C
        # between the two leaves the monitor to it, and freeing twice is harmless.
        _free(self._home, self._handle)
        self._free.detach()

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], reason: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        try:
            found = self.next()
        except _errors.Error as error:
            if self._is_over(error):
                raise StopIteration from None
            raise
        assert found is not None
        return found

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.next_async()
        except _errors.Error as error:
            if self._is_over(error):
                raise StopAsyncIteration from None
            raise

    def _is_over(self, error: _errors.Error) -> bool:
        """For a loop over it: whoever closes it may come at any moment, also between two events."""
        return isinstance(error, _errors.PodEnded) or (error.status is Status.INVALID_HANDLE and self._closed)

    @contextlib.contextmanager
    def _waiting(self) -> Iterator[int]:
        """A wait: with a descriptor that is readable when it is time to read, or -1 where none is to be had.

        It is the wait's own, a duplicate: when the monitor is closed, its own descriptor may at once be another one's, which
        a poll or a loop would then watch, or fail to. The library's last signal wakes whoever polls the duplicate.
        """
        mine: List[int] = []
        try:
            try:
                # In one step, in which no Ctrl-C can come between the descriptor and its place.
                mine.extend(map(os.dup, (self.fileno(),)))
            except OSError:
                pass
            except _errors.Error as error:
                if error.status is not Status.RESOURCES:
                    raise
            # Only now: of a monitor that was not closed after the dup it was the right one.
            if self._closed:
                raise _errors.Error("the monitor was closed", Status.INVALID_HANDLE)
            yield mine[0] if mine else -1
        except _errors.Error as error:
            if error.status is Status.INVALID_HANDLE and self._closed:
                raise _errors.PodEnded("the monitor was closed") from None
            raise
        finally:
            for fd in mine:
                os.close(fd)

    def _read(self, ms: int) -> Optional[Event]:
        """One native read, of at most ms."""
        if self._home is not _kept.home:
            # In a forked child the lock may be one's who is not there. The library refuses without it as well.
            self.fileno()
        with self._lock:
            raw = self._event
            raw.struct_size = sizeof(raw)
            status = _abi.lib.podkeep_monitor_next(self._handle, byref(raw), ms)
            if status == Status.TIMEOUT:
                return None
            _errors.check(status)
            pod = _kept.home.pods.get(raw.pod or 0)

            def origin(incarnation: int, phase: Phase, data: bytes) -> Optional[BaseException]:
                return None if pod is None else pod._kept.exception(incarnation, phase, data)

            failure = None
            if raw.failure:
                try:
                    failure = _failure.read(raw.failure, origin)
                finally:
                    # It is lent until the monitor is closed, which may have been meanwhile: then it reads as nothing.
                    if self._closed:
                        raise _errors.Error("the monitor was closed", Status.INVALID_HANDLE)
            return Event(
                sequence=raw.sequence,
                time_ns=raw.time_ns,
                name=_abi.text(raw.name),
                from_=State(getattr(raw, "from")),
                to=State(raw.to),
                incarnation=raw.incarnation,
                missed=raw.missed,
                failure=failure,
                pod=pod,
            )


def _free(home: Any, handle: c_void_p) -> None:
    # Not in a forked child, whose copy is nobody's.
    if home is _kept.home:
        _abi.lib.podkeep_monitor_free(handle)
