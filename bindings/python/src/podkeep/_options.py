"""A pod's options: keywords in seconds on one side, the ABI's struct on the other."""

from __future__ import annotations

import ctypes
import os
from typing import Dict, Mapping, Optional, Union

from . import _abi, _times

_HOSTS = {"thread": 0, "process": 1}
_READY = {"run": 0, "notify": 1, "port": 2}
_RESTARTS = {"never": 0, "on-failure": 1, "always": 2}


def word(what: str, value: str, words: Dict[str, int]) -> int:
    """One of the ABI's words."""
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
        host: str = "thread",
        ready: Optional[str] = None,
        ready_port: Optional[int] = None,
        ready_timeout: Optional[float] = None,
        grace: Optional[float] = None,
        kill_after: Optional[float] = None,
        extend_max: Optional[float] = None,
        stack_size: Optional[int] = None,
        kick_signal: Optional[int] = None,
        stop_signal: Optional[int] = None,
        restart: str = "never",
        max_restarts: Optional[int] = None,
        restart_window: Optional[float] = None,
        backoff: Optional[float] = None,
        backoff_max: Optional[float] = None,
        watchdog: Optional[float] = None,
        env: Optional[Mapping[str, str]] = None,
        cwd: Union[str, "os.PathLike[str]", None] = None,
        args: bytes = b"",
    ) -> None:
        struct = self.struct = _abi.PodOptions()
        struct.struct_size = ctypes.sizeof(struct)
        struct.name = _abi.utf8("name", name)
        struct.host = word("host", host, _HOSTS)
        struct.ready = word("ready", ready or ("run" if ready_port is None else "port"), _READY)
        struct.ready_port = _whole("ready_port", ready_port, 65535)
        struct.ready_timeout_ms = _times.of_option("ready_timeout", ready_timeout)
        struct.grace_ms = _times.of_option("grace", grace)
        struct.kill_after_ms = _times.of_option("kill_after", kill_after)
        struct.extend_max_ms = _times.of_option("extend_max", extend_max)
        struct.stack_size = _whole("stack_size", stack_size, 2**63 - 1)
        struct.kick_signal = _whole("kick_signal", kick_signal, 2**31 - 1)
        struct.stop_signal = _whole("stop_signal", stop_signal, 2**31 - 1)
        struct.restart = word("restart", restart, _RESTARTS)
        struct.max_restarts = _whole("max_restarts", max_restarts, 2**32 - 1)
        struct.restart_window_ms = _times.of_option("restart_window", restart_window)
        struct.backoff_ms = _times.of_option("backoff", backoff)
        struct.backoff_max_ms = _times.of_option("backoff_max", backoff_max)
        struct.watchdog_ms = _times.of_option("watchdog", watchdog)
        if cwd is not None:
            struct.cwd = _abi.raw("cwd", cwd)
        if env is not None:
            struct.env = _abi.strings([_variable(key, value) for key, value in env.items()])
        if not isinstance(args, bytes):
            raise TypeError(f"args must be bytes, not {type(args).__name__}")
        # Kept here: a void pointer, unlike a string's field, keeps nothing.
        self._args = ctypes.c_char_p(args)
        struct.args = ctypes.cast(self._args, ctypes.c_void_p) if args else None
        struct.args_len = len(args)


def _variable(key: str, value: str) -> bytes:
    if not isinstance(key, str) or not isinstance(value, str):
        raise TypeError(f"env must map str to str, not {key!r} to {value!r}")
    if not key or "=" in key:
        raise ValueError(f"env has {key!r}, which is no name of a variable")
    return _abi.raw("env", f"{key}={value}")
