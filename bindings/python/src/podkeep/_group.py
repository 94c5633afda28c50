"""Group: pods that live together."""

from __future__ import annotations

import ctypes
import threading
import warnings
from ctypes import byref, c_int32, c_void_p
from types import TracebackType
from typing import Any, Iterable, List, Optional, Type, TypeVar, Union

from . import _abi, _errors, _exit, _failure, _kept, _process, _times, _wait
from ._failure import Failure, Origin
from ._options import word
from ._pod import Pod
from ._words import Phase, State, Status

_Self = TypeVar("_Self", bound="Group")

_STRATEGIES = {"one_for_one": 0, "one_for_all": 1, "rest_for_one": 2}


class _Members:
    """The group as waits and the program's end know it; it holds its pods until all of them have ended."""

    def __init__(self, name: str) -> None:
        self.home = _kept.home
        self.name = name
        self.pod = 0
        self.pods: List[Pod] = []

    def watch(self, out: Any) -> int:
        """Makes a monitor of its members, which also rings when the group itself shows another state."""
        return int(_abi.lib.podkeep_monitor_new_group(self.pod, out))

    def state(self) -> Optional[State]:
        found = c_int32()
        if not self.pod or _abi.lib.podkeep_group_state(self.pod, byref(found)) != Status.OK:
            return None
        return State(found.value)

    def origin(self, name: str) -> Origin:
        """How a member's exceptions are found."""
        for pod in self.pods:
            if pod._kept.name == name:
                return pod._kept.exception
        return _nobodys

    def end(self) -> None:
        """All have ended: their runtimes go."""
        for pod in self.pods:
            pod._kept.end()

    def free(self) -> None:
        group, self.pod = self.pod, 0
        if group:
            _abi.lib.podkeep_group_free(group)
        self.pods = []


def _nobodys(incarnation: int, phase: Phase, data: bytes) -> Optional[BaseException]:
    return None


class Group:
    """Pods that live together: started in order, stopped in reverse order, and what becomes of the others when one fails.

        with podkeep.Group(strategy="one_for_all") as group:
            db = group.add(podkeep.Pod.command("redis-server", ready_port=6379))
            group.add(podkeep.Pod(Web), after=[db])
            group.start()
            group.join()

    * ``strategy``: what the restart of a member takes along: ``"one_for_one"`` itself, ``"one_for_all"`` all,
      ``"rest_for_one"`` those that were added later. Whether a member is restarted is said by its own ``restart``;
    * ``keep_going``: a member that failed for good leaves the others alone; otherwise it stops the group;
    * ``grace``: one budget for the whole stop; by default the longest chain of the members' own.

    Its members are started and stopped by the group alone. Leaving the block closes the group.
    """

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        strategy: str = "one_for_one",
        keep_going: bool = False,
        grace: Optional[float] = None,
    ) -> None:
        name = "group" if name is None else name
        options = _abi.GroupOptions(struct_size=ctypes.sizeof(_abi.GroupOptions))
        options.name = _abi.utf8("name", name)
        options.strategy = word("strategy", strategy, _STRATEGIES)
        options.keep_going = bool(keep_going)
        options.grace_ms = _times.of_option("grace", grace)
        _kept.home.sweep()
        _exit.hook()
        handle = c_void_p()
        _errors.check(_abi.lib.podkeep_group_new(byref(options), byref(handle)))
        self._kept = _Members(name)
        self._kept.pod = handle.value or 0
        with self._kept.home.lock:
            self._kept.home.groups.add(self._kept)
        _exit.refuse_late(self._kept.free)

    def add(self, pod: Pod, *, after: Iterable[Union[Pod, str]] = (), significant: bool = False) -> Pod:
        """Makes a NEW pod a member, and returns it.

        ``after``: members, or their names, that must be ready before it is started, and are stopped after it. When a
        ``significant`` one ends, without a failure too, the group stops.
        """
        if not isinstance(pod, Pod):
            raise TypeError(f"add takes a Pod, not {pod!r}")
        if isinstance(after, (str, Pod)):
            raise TypeError("after takes a list of members or their names")
        options = _abi.MemberOptions(struct_size=ctypes.sizeof(_abi.MemberOptions))
        after = list(after)
        for one in after:
            # By its name alone it could be taken for another.
            if isinstance(one, Pod) and one not in self._kept.pods:
                raise _errors.NotFound(f"after has pod {one._kept.name!r}, which is no member of this group")
        names = [_abi.utf8("after", one._kept.name if isinstance(one, Pod) else one) for one in after]
        options.after = _abi.strings(names) if names else None
        options.significant = bool(significant)
        _errors.check(_abi.lib.podkeep_group_add(self._kept.pod, pod._kept.pod, byref(options)))
        pod._kept.grouped = True
        self._kept.pods.append(pod)
        return pod

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._kept.name

    @property
    def pods(self) -> List[Pod]:
        """Its members, in the order in which they were added."""
        return list(self._kept.pods)

    @property
    def state(self) -> State:
        """Where it is in its life, now."""
        out = c_int32()
        _errors.check(_abi.lib.podkeep_group_state(self._kept.pod, byref(out)))
        return State(out.value)

    @property
    def failure(self) -> Optional[Failure]:
        """Of the member that failed first for good; None when none did."""
        status, failure = _failure.of_group(self._kept.pod, self._kept.origin)
        _errors.check(status)
        return failure

    def __repr__(self) -> str:
        state = self._kept.state()
        return f"<podkeep.Group {self.name!r} {'forked' if state is None else state}>"

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self: _Self, wait: bool = True) -> _Self:
        """Starts the members and, unless told otherwise, waits until all are ready or raises what went wrong.

        In an event loop: ``start(wait=False)``, then ``await ready()``.
        """
        if any(pod._process for pod in self._kept.pods):
            _process.refuse_while_importing()
        _errors.check(_abi.lib.podkeep_group_start(self._kept.pod))
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: Optional[float] = None) -> None:
        """Returns when all are ready or have ended cleanly; raises PodFailed, PodEnded, or PodTimeout."""
        self._outcome(_wait.wait(self._kept, _abi.lib.podkeep_group_wait_ready, timeout))

    def cancel(self) -> None:
        """Asks all to stop, in reverse order, and returns at once; any number of times."""
        _errors.check(_abi.lib.podkeep_group_cancel(self._kept.pod))

    def join(self, timeout: Optional[float] = None) -> None:
        """Returns when all have ended, none with a failure; raises PodFailed, or PodTimeout when the time is up."""
        self._outcome(_wait.wait(self._kept, _abi.lib.podkeep_group_join, timeout), ended=True)

    def close(self) -> None:
        """Cancels it and waits until all have ended, within the grace; harmless before the start and twice."""
        self._refuse_own_thread()
        self.cancel()
        self.join()

    def __enter__(self: _Self) -> _Self:
        """Starts nothing: ``start`` does, when the members are there."""
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], reason: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Closes it. Never masks an exception on its way: how the group failed is a note on that one then."""
        try:
            self.close()
        except _errors.Error as error:
            _errors.note_or_raise(error, reason)

    # --- the same in an event loop ----------------------------------------------------------------------------------

    async def ready(self, timeout: Optional[float] = None) -> None:
        """``wait_ready`` for asyncio."""
        self._refuse_own_thread()
        self._outcome(await _wait.wait_async(self._kept, _abi.lib.podkeep_group_wait_ready, timeout))

    async def joined(self, timeout: Optional[float] = None) -> None:
        """``join`` for asyncio."""
        self._refuse_own_thread()
        self._outcome(await _wait.wait_async(self._kept, _abi.lib.podkeep_group_join, timeout), ended=True)

    async def closed(self) -> None:
        """``close`` for asyncio."""
        self._refuse_own_thread()
        self.cancel()
        await self.joined()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], reason: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        try:
            await self.closed()
        except _errors.Error as error:
            _errors.note_or_raise(error, reason)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _refuse_own_thread(self) -> None:
        """From a member's own callbacks a wait would never end; the library says so, in a call that blocks."""
        ident = threading.get_ident()
        if any(ident in pod._kept.threads for pod in self._kept.pods):
            _errors.check(_abi.lib.podkeep_group_close(self._kept.pod))

    def _outcome(self, status: int, ended: bool = False) -> None:
        if ended and status in (Status.OK, Status.FAILED):
            self._kept.end()
        if status == Status.OK:
            return
        if status == Status.FAILED:
            failure = self.failure
            if failure is not None:
                raise _errors.PodFailed(failure)
        elif status == Status.TIMEOUT:
            sentence = _abi.last_error()
            raise _errors.PodTimeout(sentence, self.state, self.failure)
        _errors.fail(status)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        kept: Optional[_Members] = getattr(self, "_kept", None)
        if kept is None or kept.home is not _kept.home or kept.home.ended:
            return
        state = kept.state()
        if state is State.NEW or state is None or state.final:
            kept.free()
            return
        _abi.lib.podkeep_group_cancel(kept.pod)
        kept.home.forgotten.append(kept)
        if state not in (State.STOPPING, State.ABANDONED):
            _warn(f"group {kept.name!r} was forgotten while {state}: it is cancelled", ResourceWarning, source=self)
