"""The pod's thread, as Python sees a thread that it did not start."""

from __future__ import annotations

import ctypes
import threading
from typing import Optional, Type

from . import _errors
from ._context import Context

_local = threading.local()

_ensure = ctypes.pythonapi.PyGILState_Ensure
_ensure.restype = ctypes.c_int
_ensure.argtypes = []
_release = ctypes.pythonapi.PyGILState_Release
_release.restype = None
_release.argtypes = [ctypes.c_int]
# What PyGILState_Ensure answers inside a callback, where the GIL is held already (PyGILState_LOCKED).
_LOCKED = 0
# What stands for a thread that Python did not start.
_FOREIGN: Type[threading.Thread] = getattr(threading, "_DummyThread")


def keep_state() -> None:
    """Lets this thread's Python state outlive the present callback, until ``drop_state``.

    ctypes makes a state a callback, and with it new thread-locals and context variables. A life is one thread, so what
    ``__init__`` put there (an event loop, a decimal context) must still be there in run_forever and teardown.
    """
    _ensure()


def drop_state() -> None:
    """Undoes ``keep_state``: the state goes with the present callback."""
    _release(_LOCKED)


def enter(context: Optional[Context], name: str) -> None:
    """A callback begins on this thread: ``threading`` and ``logging`` shall show the pod's name."""
    _local.context = context
    _local.inside = True
    thread = threading.current_thread()
    # A thread of Python's own, as the main thread of a pod's process is, keeps the name it has.
    if thread.name != name and isinstance(thread, _FOREIGN):
        thread.name = name


def leave() -> None:
    """The callback is over."""
    _local.context = None
    _local.inside = False


def inside() -> bool:
    """Whether this thread is in a callback of the library's."""
    return bool(getattr(_local, "inside", False))


def forget() -> None:
    """The last callback on this thread is over; before 3.13 ``threading`` would list it for ever."""
    active = getattr(threading, "_active", None)
    if isinstance(active, dict):
        ident = threading.get_ident()
        if isinstance(active.get(ident), _FOREIGN):
            active.pop(ident, None)


def current_context() -> Context:
    """The context of the pod in whose callback this thread is: for ``__init__``, ``cancel`` and ``teardown``."""
    context: Optional[Context] = getattr(_local, "context", None)
    if context is None:
        raise _errors.Error("this thread is in no pod's callback")
    return context
