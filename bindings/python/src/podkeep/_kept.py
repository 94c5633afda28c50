"""The table of this process's pods: what a callback's user data, a number, stands for."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import weakref
from ctypes import byref, c_int32
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Protocol, Set, Tuple

from . import _abi, _trace
from ._context import Context
from ._runtime import Driver, Runtime
from ._words import Phase, State, Status

if TYPE_CHECKING:
    from ._control import Control
    from ._pod import Pod


# From this many pods on, those that have ended unseen are looked for.
_SWEEP = 64
# So many lives of a pod keep their exceptions, for a monitor that reads late.
_LIVES = 8


class Waited(Protocol):
    """What can be waited for, a pod or a group; ``pod`` is its handle."""

    pod: int

    def watch(self, out: Any) -> int:
        """Makes a monitor whose descriptor tells when to ask again."""

    def state(self) -> Optional[State]:
        """None: the library does not know it any more, or not in this process."""

    def free(self) -> None:
        """Gives back what is final or NEW."""


class Kept:
    """One pod as the callbacks know it. It is in the table from before the library knows it until it has ended.

    It does not know its Pod, so that a Pod nobody holds can be collected while its thread runs. ``pickles``: its
    exceptions cross from a process to its host.
    """

    def __init__(self, driver: Optional[Driver], name: str, pickles: bool = False) -> None:
        self.driver = driver or Driver(Runtime, (), {})
        self.name = name
        self.pickles = pickles
        self.home = home
        self.number = next(home.numbers)
        self.runtime = 0
        self.pod = 0
        #: A group starts and stops it.
        self.grouped = False
        #: Of the present or last life.
        self.context: Optional[Context] = None
        #: Identifiers of the threads that are in one of this pod's callbacks.
        self.threads: Set[int] = set()
        #: The present life has come to its teardown.
        self.tearing_down = False
        self.exceptions: Dict[Tuple[int, Phase], BaseException] = {}

    def enter(self) -> None:
        """From here on callbacks find it, until its end."""
        self.home.table[self.number] = self

    def exception(self, incarnation: int, phase: Phase, data: bytes) -> Optional[BaseException]:
        """The object that a record stands for: the same one, however often it is asked for."""
        found = self.exceptions.get((incarnation, phase))
        if found is None and data and self.pickles:
            rebuilt = _trace.rebuild(self.name, data)
            if rebuilt is not None:
                found = self.remember(incarnation, phase, rebuilt)
        return found

    def remember(self, incarnation: int, phase: Phase, error: BaseException) -> BaseException:
        """Keeps the object of a failure; those of lives long past, of a pod that is restarted again and again, go."""
        for old in [at for at in list(self.exceptions) if at[0] + _LIVES <= incarnation]:
            self.exceptions.pop(old, None)
        return self.exceptions.setdefault((incarnation, phase), error)

    def watch(self, out: Any) -> int:
        """Makes a monitor of it."""
        return int(_abi.lib.podkeep_monitor_new(self.pod, out))

    def state(self) -> Optional[State]:
        """None: the library does not know it any more, or not in this process."""
        found = c_int32()
        # The collector asks here for what was only half made, between another call and its sentence: not the library.
        if not self.pod or _abi.lib.podkeep_pod_state(self.pod, byref(found)) != Status.OK:
            return None
        return State(found.value)

    def end(self) -> None:
        """The pod is final, or never was: its runtime and the table's entry go.

        Not later: the entry keeps the runtime's class and arguments, which may know their Pod, from being collected. The
        library is given no drop to call, for that could come when the interpreter is gone; and on the main thread, inside a
        callback, a Ctrl-C would be lost. Interrupted between two lines it is done once more: freeing twice is harmless.
        """
        if self.runtime:
            _abi.lib.podkeep_runtime_free(self.runtime)
        self.runtime = 0
        self.home.table.pop(self.number, None)

    def free(self) -> None:
        """Gives both handles back, of a pod that is final or NEW."""
        if self.pod:
            _abi.lib.podkeep_pod_free(self.pod)
        self.pod = 0
        self.end()


class Home:
    """The pods of one process: a forked child starts with a new one."""

    def __init__(self) -> None:
        # What callbacks and finalizers touch needs no lock, each step on it is one of CPython's own: a KeyboardInterrupt in
        # the main thread may leave a ``with`` without its __exit__ (up to 3.11), and then every pod's thread would wait.
        self.table: Dict[int, Kept] = {}
        self.numbers = itertools.count(1)
        #: Pods whose Pod, groups whose Group was forgotten while they ran: freed when they have ended.
        self.forgotten: List[Waited] = []
        #: For the two sets below; reentrant, since the collector may run anything in a thread that holds it.
        self.lock = threading.RLock()
        #: To be cancelled before the pods, so that these stop in order.
        self.groups: "weakref.WeakSet[Waited]" = weakref.WeakSet()
        #: To be closed after them.
        self.controls: "weakref.WeakSet[Control]" = weakref.WeakSet()
        #: For events: which Pod a handle is.
        self.pods: "weakref.WeakValueDictionary[int, Pod]" = weakref.WeakValueDictionary()
        #: The pods are being taken down for good: none is made any more.
        self.ending = False
        self.ended = False
        #: From here on callbacks do nothing: podkeep was shut down, or the interpreter ends.
        self.closed = False
        self.exit_hooked = False
        #: Of those that are abandoned at the exit.
        self.told = False
        #: Those that still run at the exit are not waited for any longer.
        self.left = False
        self._sweep_at = _SWEEP

    def find(self, number: Optional[int]) -> Optional[Kept]:
        if self.closed or number is None:
            return None
        return self.table.get(number)

    def sweep(self) -> None:
        """Sees to pods that have ended while nobody waited for them; called before a pod is made."""
        for kept in list(self.forgotten):
            state = kept.state()
            if state is None or state.final:
                kept.free()
                with contextlib.suppress(ValueError):  # another thread was here as well
                    self.forgotten.remove(kept)
        if len(self.table) >= self._sweep_at:
            for kept in self.all():
                state = kept.state()
                if state is not None and state.final:
                    kept.end()
            # So that the looks stay in proportion to the pods made.
            self._sweep_at = max(_SWEEP, 2 * len(self.table))

    def all(self) -> List[Kept]:
        return list(self.table.copy().values())


home = Home()
# The homes of the processes this one was forked from. Kept for ever: what the parent's runtimes hold (a temporary
# directory, say) must not be finalized by a child that merely inherited it.
_inherited: List[Home] = []


def _after_fork_in_child() -> None:
    global home
    _inherited.append(home)
    home = Home()


os.register_at_fork(after_in_child=_after_fork_in_child)
