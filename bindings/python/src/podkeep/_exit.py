"""The end: of podkeep, by ``shutdown``, and of the interpreter.

A pod's thread must not be left in Python when the interpreter is taken apart: CPython up to 3.13 ends such a thread where
it stands, later ones hang it. So the first pod registers a handler that runs while everything still works: it cancels all
pods, joins them within their graces, closes the services by which others reach them, and closes the way in.

Before that handler Python waits for its threads, those of executors first. One of these may be at work for a pod until
that is cancelled (``asyncio.to_thread(ctx.wait)``), so where there are any the pods end then.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import sys
import threading
import time
from ctypes import byref, c_uint32
from typing import Callable, List, Optional

from . import _abi, _errors, _kept, _log, _thread, _wait
from ._kept import Home, Kept
from ._times import of_wait
from ._words import State, Status

# For threads that an exception gets back out of Python code at the interpreter's end: so many looks, so far apart.
_LATE_LOOKS = 50
_LATE_STEP_S = 0.01

# That ``_before_joins`` is called.
_joins_hooked = False

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.restype = ctypes.c_int
_raise_in_thread.argtypes = [ctypes.c_ulong, ctypes.py_object]


def hook() -> None:
    """Makes sure that this process's end will be seen to; called before a pod, a group or a control service is made."""
    home = _kept.home
    if home.ending:
        why = "podkeep was shut down, or the interpreter is ending: nothing can be made any more"
        raise _errors.Error(why, Status.INVALID_STATE)
    if home.exit_hooked:
        return
    # A fork inherits the registration or, from multiprocessing, does not: once more is harmless, twice is not needed.
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    _hook_joins()
    # A child of multiprocessing may leave by os._exit, past atexit; its own finalizers do run.
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=100)
    # Last: what a Ctrl-C has interrupted is done once more, which is harmless.
    home.exit_hooked = True


def refuse_late(free: Callable[[], None]) -> None:
    """Called when what was made can be found: either the end finds it, or it shows here that the end has begun."""
    if _kept.home.ending:
        free()
        hook()


def _hook_joins() -> None:
    """Comes before Python waits for its executors: they registered first, the last to register is called first."""
    global _joins_hooked
    import concurrent.futures.thread  # noqa: F401

    register = getattr(threading, "_register_atexit", None)
    if register is None or _joins_hooked:
        return
    try:
        register(_before_joins)
    except RuntimeError:
        return  # the main thread has ended already: the exit handler is left
    # Inherited by a fork.
    _joins_hooked = True


def _before_joins() -> None:
    """The main thread has ended.

    Where executors have threads, or pods event loops, whose teardown may use one, the pods end now: executors still
    take work. They wait for the program's own threads that are no daemons, as they would without executors; by then these
    take no work any more.
    """
    home = _kept.home
    if home.ended or not any(_lives(kept) for kept in home.all()):
        return
    if _others():
        try:
            threading.Thread(target=_after_others, args=(home,), name="podkeep exit", daemon=True).start()
            return
        except RuntimeError:
            pass  # 3.12.0 and 3.12.1 let none be started by now
    _end_if_due(home)


def _after_others(home: Home) -> None:
    # They may start more of their kind.
    while _others():
        for thread in _others():
            thread.join()
    _end_if_due(home)


def _end_if_due(home: Home) -> None:
    looped = any(kept.driver.looped for kept in home.all() if _lives(kept))
    if looped or any(worker.is_alive() for worker in _workers()):
        # What an executor has still to do can make none: nobody would end it, and Python waits for the executor.
        home.ending = True
        _end_all(home)


def _workers() -> "List[threading.Thread]":
    """The threads of executors, for which Python waits first."""
    module = sys.modules.get("concurrent.futures.thread")
    # Held while one is started and noted.
    with getattr(module, "_global_shutdown_lock", None) or contextlib.nullcontext():
        return list(getattr(module, "_threads_queues", ()))


def _others() -> "List[threading.Thread]":
    """The threads for which Python waits then."""
    known = {threading.main_thread(), threading.current_thread(), *_workers()}
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in known]


def _lives(kept: Kept) -> bool:
    state = kept.state()
    return state is not None and state is not State.NEW and not state.final


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
        _end_all(home)
        _release(home)
    finally:
        with home.lock:
            controls = list(home.controls)
        for control in controls:
            control.close()
        _log.silence()
        _close(home)


def _end_all(home: Home) -> None:
    if home.left:
        return
    try:
        _join_all(home, None)
        _bring_back(home)
    except KeyboardInterrupt:
        # Asked for a second time: whoever is still running is left to the interpreter.
        home.left = True
        _tell(home)


def _bring_back(home: Home) -> None:
    """Pods that ignored the cancel until their grace was spent get SystemExit raised in their Python code.

    The interpreter would end these threads anyway, wherever they are, in the middle of a print with its lock held. This
    way most of them leave in order, and their teardown runs. A thread that blocks in C code is beyond reach.
    """
    stuck = [kept for kept in home.all() if kept.state() is State.ABANDONED]
    if not stuck:
        return
    if not home.told:
        home.told = True
        _tell(home)
    for kept in stuck:
        for ident in list(kept.threads):
            # One that came back, by itself or for an earlier SystemExit, is left to its teardown.
            if not kept.tearing_down:
                _raise_in_thread(ident, SystemExit)
    # Looks, and not one wait: a machine that stands still for a moment takes one of them.
    for _ in range(_LATE_LOOKS):
        if all(_abi.lib.podkeep_pod_join(kept.pod, 0) != Status.TIMEOUT for kept in stuck):
            return
        time.sleep(_LATE_STEP_S)


def _release(home: Home) -> None:
    """Lets go of what the runtimes hold. Not of the pods: daemon threads and exit handlers may ask for their ends still."""
    for kept in home.all():
        state = kept.state()
        if state is not None and state.final:
            kept.end()


def _tell(home: Home) -> None:
    for kept in home.all():
        state = kept.state()
        if state is not None and not state.final:
            logging.getLogger("podkeep").warning("pod %r is still %s at the interpreter's exit", kept.name, state)
