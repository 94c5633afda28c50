"""What the library calls: one trampoline a signature, for every pod; the user data is a number in the table.

Nothing leaves a trampoline: every exception, SystemExit and KeyboardInterrupt included, becomes a failure of kind
EXCEPTION, and the object is kept for whoever waits.
"""

from __future__ import annotations

import ctypes
import threading
import traceback
from typing import Any, Optional

from . import _abi, _kept, _thread, _trace
from ._context import Context
from ._kept import Kept
from ._words import Kind, Phase


def _report(kept: Kept, context: Context, phase: Phase, error: BaseException) -> int:
    """Stores the failure and returns its code."""
    # The trace begins in the user's code. (Our own frames would also tie the error and the table into a knot.)
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith(__package__ + "._"):
        trace = trace.tb_next
    if trace is not None:
        error.__traceback__ = trace
    kept.remember(context.incarnation, phase, error)
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    code = error.code if isinstance(error, SystemExit) else -1
    if isinstance(code, bool) or not isinstance(code, int) or not 1 <= code <= 255:
        code = -1
    raw = message.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    data = _trace.pack(error) if kept.pickles else b""
    return int(_abi.lib.podkeep_context_fail_with(context._address, Kind.EXCEPTION, code, raw, data or None, len(data)))


def _code(returned: object) -> int:
    """What run_forever returned, as the ABI's code."""
    if returned is None:
        return 0
    if isinstance(returned, bool) or not isinstance(returned, int):
        raise TypeError(f"run_forever must return None or an int, not {type(returned).__name__}")
    if not -(2**31) <= returned < 2**31:
        raise ValueError(f"run_forever returned {returned}, which does not fit 32 bits")
    return returned


def _begin(kept: Kept, address: Any, name: str) -> Context:
    # One object a life: what the runtime keeps of it in __init__ is what run_forever gets.
    context = kept.context
    if context is None or context._address != address:
        context = kept.context = Context(address)
    kept.threads.add(threading.get_ident())
    _thread.enter(context, name)
    return context


def _end(kept: Kept) -> None:
    _thread.leave()
    kept.threads.discard(threading.get_ident())


def _init(address: Any, config: Optional[int], state: Any) -> int:
    try:
        kept = _kept.home.find(config)
        if kept is None:
            return _abi.CANCELLED
        kept.context = None
        kept.tearing_down = False
        context = _begin(kept, address, kept.name)
        try:
            kept.driver.make(context)
        except BaseException as error:
            code = _report(kept, context, Phase.INIT, error)
            _thread.forget()
            return code
        finally:
            _end(kept)
        # One incarnation at a time: the pod's number will do for its state as well.
        state[0] = config
        _thread.keep_state()
        return 0
    except BaseException:
        return -1


def _run_forever(address: Any, state: Optional[int]) -> int:
    try:
        kept = _kept.home.find(state)
        if kept is None:
            return 0
        context = _begin(kept, address, kept.name)
        try:
            return _code(kept.driver.run(context))
        except BaseException as error:
            return _report(kept, context, Phase.RUN, error)
        finally:
            _end(kept)
    except BaseException:
        return -1


def _teardown(address: Any, state: Optional[int]) -> int:
    try:
        kept = _kept.home.find(state)
        if kept is None:
            return 0
        kept.tearing_down = True
        context = _begin(kept, address, kept.name)
        try:
            kept.driver.teardown(context)
            return 0
        except BaseException as error:
            return _report(kept, context, Phase.TEARDOWN, error)
        finally:
            _end(kept)
            _thread.forget()
            _thread.drop_state()
    except BaseException:
        return -1


def _cancel(address: Any, state: Optional[int]) -> None:
    try:
        kept = _kept.home.find(state)
        if kept is None:
            return
        context = _begin(kept, address, kept.name + " cancel")
        try:
            kept.driver.cancel()
        except BaseException as error:
            _report(kept, context, Phase.CANCEL, error)
        finally:
            _end(kept)
            _thread.forget()
    except BaseException:
        pass


_INIT = _abi.Init(_init)
_RUN_FOREVER = _abi.Step(_run_forever)
_TEARDOWN = _abi.Step(_teardown)
_CANCEL = _abi.Hook(_cancel)
# An abandoned pod may still be inside one of these when the interpreter takes its modules apart: they stay for ever.
for _trampoline in (_INIT, _RUN_FOREVER, _TEARDOWN, _CANCEL):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_trampoline))


def spec(kept: Kept, name: bytes) -> _abi.RuntimeSpec:
    """The library's view of a pod's runtime."""
    made = _abi.RuntimeSpec()
    made.struct_size = ctypes.sizeof(made)
    made.name = name
    made.init = _INIT
    made.run_forever = _RUN_FOREVER
    made.teardown = _TEARDOWN
    if kept.driver.hooked:
        made.cancel = _CANCEL
    made.config = kept.number
    return made
