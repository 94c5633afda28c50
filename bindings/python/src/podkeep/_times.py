"""Seconds on Python's side, milliseconds in the ABI."""

from __future__ import annotations

import math
import threading
import time
from typing import Optional

from . import _abi

# The largest count of milliseconds that is surely far beyond any deadline and still far from overflow.
_MOST = 2**62
# A signal that comes between Python's look for one and the system call's sleep is seen only after it: Ctrl-C has to be
# answered within 0.1 s, so the main thread, the only one to handle signals, sleeps no longer than this.
_MAIN_MS = 80
_LONGEST_MS = 60_000


def in_main() -> bool:
    """Whether this is the thread in which Python handles signals."""
    return threading.get_ident() == threading.main_thread().ident


def longest_ms() -> int:
    """How long this thread may sleep at a time."""
    return _MAIN_MS if in_main() else _LONGEST_MS


def _number(what: str, seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}")
    if math.isnan(seconds):
        raise ValueError(f"{what} must be a number of seconds, not nan")
    return float(seconds)


def left_ms(until: float) -> int:
    """Milliseconds until a moment of ``time.monotonic()``, rounded up; 0: it has passed."""
    return max(0, math.ceil((until - time.monotonic()) * 1000))


def of_wait(seconds: Optional[float], what: str = "timeout") -> int:
    """A wait's limit; None and infinity: no limit. Rounded up, so that a wait never returns early; negative is a poll."""
    if seconds is None:
        return _abi.FOREVER
    number = _number(what, seconds)
    if number == math.inf:
        return _abi.FOREVER
    return max(0, min(math.ceil(number * 1000), _MOST)) if number > 0 else 0


def of_option(what: str, seconds: Optional[float]) -> int:
    """An option: None: the library's default, which the ABI writes as 0; so 0 s becomes the shortest time, 1 ms.

    Infinity is FOREVER. A negative time is handed on as one, for the library to refuse, but never as -1, which is FOREVER.
    """
    if seconds is None:
        return 0
    number = _number(what, seconds)
    if number == math.inf:
        return _abi.FOREVER
    if number < 0:
        return max(min(math.floor(number * 1000), -2), -_MOST) if number > -math.inf else -_MOST
    return max(1, min(math.ceil(number * 1000), _MOST))
