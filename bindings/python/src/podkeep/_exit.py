"""The end: of podkeep, by ``shutdown``, and of the interpreter.

A pod's thread must not be left in Python when the interpreter is taken apart: CPython up to 3.13 ends such a thread where
it stands, later ones hang it. So the first pod registers a handler that runs while everything still works: it cancels all
pods, joins them within their graces, and closes the way in.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import sys
import time
from ctypes import byref, c_uint32
from typing import List, Optional

from . import _abi, _errors, _kept, _log, _thread, _wait
from ._kept import Home, Kept
from ._times import of_wait
from ._words import State, Status

# A join returns a moment before the last reference to the table's entry is gone.
_DROP_S = 1.0
# For threads that an exception gets back out of Python code at the interpreter's end.
_LATE_S = 0.5

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.restype = ctypes.c_int
_raise_in_thread.argtypes = [ctypes.c_ulong, ctypes.py_object]


def hook() -> None:
    """Makes sure that this process's end will be seen to; called before a pod is made."""
    home = _kept.home
    if home.ending:
        raise _errors.Error("podkeep was shut down, or the interpreter is ending: no pod can be made", Status.INVALID_STATE)
    if home.exit_hooked:
        return
    home.exit_hooked = True
    # A fork inherits the registration or, from multiprocessing, does not: once more is harmless, twice is not needed.
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    # A child of multiprocessing may leave by os._exit, past atexit; its own finalizers do run.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=100)


def shutdown(timeout: Optional[float] = None) -> int:
    """Cancels every pod of the process, refuses new ones, waits up to so many seconds; the number that did not end.

    An abandoned pod is not waited for. Afterwards no callback begins any more, teardown included.
    """
    limit = of_wait(timeout)
    until = None if limit == _abi.FOREVER else time.monotonic() + limit / 1000
    home = _kept.home
    if limit != 0 and _thread.inside():
        # Refused there (DEADLOCK), and without an effect.
        _errors.check(_abi.lib.podkeep_shutdown(1, None))
    home.ending = True
    try:
        _join_all(home, until)
    finally:
        left = _close(home)
    return left


def abandoned() -> int:
    """How many threads were let go and have not come back."""
    out = c_uint32()
    _errors.check(_abi.lib.podkeep_abandoned(byref(out)))
    return out.value


def _join_all(home: Home, until: Optional[float]) -> None:
    """Cancels all, then waits for one after the other: all together take the time of the slowest."""
    with home.lock:
        groups = list(home.groups)
    for group in groups:
        _abi.lib.podkeep_group_cancel(group.pod)
    for kept in home.all():
        if not kept.grouped:
            _abi.lib.podkeep_pod_cancel(kept.pod)
    for kept in home.all():
        left = None if until is None else max(0.0, until - time.monotonic())
        _wait.wait(kept, _abi.lib.podkeep_pod_join, left)


def _close(home: Home) -> int:
    left = c_uint32()
    status = _abi.lib.podkeep_shutdown(0, byref(left))
    if status not in (Status.OK, Status.TIMEOUT):
        _errors.fail(status)
    home.closed = True
    return left.value


def _at_exit() -> None:
    home = _kept.home
    # Once; and never in a forked child that has made no pod of its own. After a shutdown that left some running it
    # still waits for these: they must be out of Python.
    if home.ended or not home.exit_hooked:
        return
    home.ending = home.ended = True
    try:
        _join_all(home, None)
        _bring_back(home)
        _release(home)
    except KeyboardInterrupt:
        # Asked for a second time: whoever is still running is left to the interpreter.
        _tell(home)
    finally:
        _log.silence()
        _close(home)


def _bring_back(home: Home) -> None:
    """Pods that ignored the cancel until their grace was spent get SystemExit raised in their Python code.

    The interpreter would end these threads anyway, wherever they are, in the middle of a print with its lock held. This
    way most of them leave in order, and their teardown runs. A thread that blocks in C code is beyond reach.
    """
    stuck = [kept for kept in home.all() if kept.state() is State.ABANDONED]
    if not stuck:
        return
    _tell(home)
    for kept in stuck:
        for ident in list(kept.threads):
            _raise_in_thread(ident, SystemExit)
    until = time.monotonic() + _LATE_S
    for kept in stuck:
        _wait.wait(kept, _abi.lib.podkeep_pod_join, max(0.0, until - time.monotonic()))


def _release(home: Home) -> None:
    """Gives back what has ended, so that no drop can come once Python is gone."""
    ended: List[Kept] = []
    for kept in home.all():
        state = kept.state()
        if state is not None and state.final:
            kept.free()
            ended.append(kept)
    until = time.monotonic() + _DROP_S
    while any(kept.number in home.table for kept in ended) and time.monotonic() < until:
        # There is no event for a drop, and it is a matter of microseconds.
        time.sleep(0.001)


def _tell(home: Home) -> None:
    for kept in home.all():
        state = kept.state()
        if state is not None and not state.final:
            logging.getLogger("podkeep").warning("pod %r is still %s at the interpreter's exit", kept.name, state)
