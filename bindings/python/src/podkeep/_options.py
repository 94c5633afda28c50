"""A pod's options: keywords in seconds on one side, the ABI's struct on the other."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Dict, List, Mapping, Optional, Union

from . import _abi, _times

_HOSTS = {"thread": 0, "process": 1}
_READY = {"run": 0, "notify": 1}
_RESTARTS = {"never": 0, "on-failure": 1, "always": 2}


def _word(what: str, value: str, words: Dict[str, int]) -> int:
    if value not in words:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, words))}, not {value!r}")
    return words[value]


def _whole(what: str, value: Optional[int], most: int) -> int:
    """An integer of the ABI's; None is its default, 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not 0 <= value <= most:
        raise ValueError(f"{what} must be 0 to {most}, not {value}")
    return value


class Options:
    """The struct, and the memory it points to."""

    def __init__(
        self,
        *,
        name: str,
        host: str,
        ready: str,
        ready_timeout: Optional[float],
        grace: Optional[float],
        kill_after: Optional[float],
        extend_max: Optional[float],
        stack_size: Optional[int],
        kick_signal: Optional[int],
        restart: str,
        max_restarts: Optional[int],
        restart_window: Optional[float],
        backoff: Optional[float],
        backoff_max: Optional[float],
        watchdog: Optional[float],
        env: Optional[Mapping[str, str]],
        cwd: Union[str, "os.PathLike[str]", None],
    ) -> None:
        struct = self.struct = _abi.PodOptions()
        struct.struct_size = ctypes.sizeof(struct)
        struct.name = _abi.utf8("name", name)
        struct.host = _word("host", host, _HOSTS)
        struct.ready = _word("ready", ready, _READY)
        struct.ready_timeout_ms = _times.of_option("ready_timeout", ready_timeout)
        struct.grace_ms = _times.of_option("grace", grace)
        struct.kill_after_ms = _times.of_option("kill_after", kill_after)
        struct.extend_max_ms = _times.of_option("extend_max", extend_max)
        struct.stack_size = _whole("stack_size", stack_size, 2**63 - 1)
        struct.kick_signal = _whole("kick_signal", kick_signal, 2**31 - 1)
        struct.restart = _word("restart", restart, _RESTARTS)
        struct.max_restarts = _whole("max_restarts", max_restarts, 2**32 - 1)
        struct.restart_window_ms = _times.of_option("restart_window", restart_window)
        struct.backoff_ms = _times.of_option("backoff", backoff)
        struct.backoff_max_ms = _times.of_option("backoff_max", backoff_max)
        struct.watchdog_ms = _times.of_option("watchdog", watchdog)
        if cwd is not None:
            struct.cwd = _abi.utf8("cwd", os.fspath(cwd))
        if env is not None:
            lines: List[Any] = [_abi.utf8("env", f"{key}={value}") for key, value in env.items()]
            struct.env = (ctypes.c_char_p * (len(lines) + 1))(*lines, None)
