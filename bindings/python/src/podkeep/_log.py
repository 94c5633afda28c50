"""The library's log, as records of ``logging``."""

from __future__ import annotations

import ctypes
import logging
from typing import Any, Optional, Union

from . import _abi, _errors, _kept, _thread

# The ABI's levels, 1 to 4, as logging's.
_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG}

_logger: Optional[logging.Logger] = None


def _log(level: int, pod: Optional[bytes], message: Optional[bytes], user_data: Any) -> None:
    try:
        logger = _logger
        if logger is None or _kept.home.closed:
            return
        _thread.enter(None, "podkeep-log")
        try:
            said = "%s: %s" if pod else "%s%s"
            name = _abi.text(pod)
            logger.log(_LEVELS.get(level, logging.DEBUG), said, name, _abi.text(message), extra={"pod": name})
        finally:
            _thread.leave()
    except BaseException:
        # logging reports its handlers' errors itself; nothing may leave a callback.
        pass


_LOG = _abi.Log(_log)
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_LOG))


def set_log(logger: Union[logging.Logger, str, None] = "podkeep", level: int = logging.INFO) -> None:
    """Hands the library's messages to a logger, from ``level`` on; None: no more.

    Records carry the pod's name as the attribute ``pod``. They come on a thread of the library, one at a time; a handler
    must not wait for a pod. The logger's own level applies as well.
    """
    global _logger
    if logger is None:
        silence()
        return
    found = logging.getLogger(logger) if isinstance(logger, str) else logger
    most = max((number for number, name in _LEVELS.items() if name >= level), default=1)
    _logger = found
    _errors.check(_abi.lib.podkeep_set_log(_LOG, most, None, _abi.Drop()))


def silence() -> None:
    """Takes the log back, if there is one."""
    global _logger
    if _logger is not None:
        _logger = None
        _abi.lib.podkeep_set_log(_abi.Log(), 0, None, _abi.Drop())
