"""The C ABI: where the library is, its structs, and the types of every function.

Nothing here decides anything. ``PROTOTYPES`` names every symbol of ``podkeep.h``; a test compares it with the header, and
the structs with the offsets that a C compiler gives.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

ABI_VERSION = 0
FOREVER = -1
CANCELLED = -2147483647
SONAME = "libpodkeep.so.0"

# One callback type a signature. ctypes takes the GIL on the way in and gives it back on the way out.
Init = CFUNCTYPE(c_int32, c_void_p, c_void_p, POINTER(c_void_p))
Step = CFUNCTYPE(c_int32, c_void_p, c_void_p)
Hook = CFUNCTYPE(None, c_void_p, c_void_p)
Drop = CFUNCTYPE(None, c_void_p)
Log = CFUNCTYPE(None, c_int32, c_char_p, c_char_p, c_void_p)


class RuntimeSpec(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("init", Init),
        ("run_forever", Step),
        ("teardown", Step),
        ("cancel", Hook),
        ("config", c_void_p),
        ("drop", Drop),
    ]


class PodOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("host", c_int32),
        ("ready", c_int32),
        ("ready_timeout_ms", c_int64),
        ("grace_ms", c_int64),
        ("kill_after_ms", c_int64),
        ("extend_max_ms", c_int64),
        ("stack_size", c_size_t),
        ("kick_signal", c_int32),
        ("stop_signal", c_int32),
        ("env", POINTER(c_char_p)),
        ("cwd", c_char_p),
        ("args", c_void_p),
        ("args_len", c_size_t),
        ("restart", c_int32),
        ("max_restarts", c_uint32),
        ("restart_window_ms", c_int64),
        ("backoff_ms", c_int64),
        ("backoff_max_ms", c_int64),
        ("watchdog_ms", c_int64),
        ("ready_port", c_int32),
        ("reserved", c_int32),
    ]


class GroupOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("name", c_char_p),
        ("strategy", c_int32),
        ("keep_going", c_int32),
        ("grace_ms", c_int64),
    ]


class MemberOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("after", POINTER(c_char_p)),
        ("significant", c_int32),
        ("reserved", c_int32),
    ]


class ControlOptions(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("address", c_char_p),
        ("tls_cert", c_char_p),
        ("tls_key", c_char_p),
        ("tls_client_ca", c_char_p),
    ]


class Event(Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("sequence", c_uint64),
        ("time_ns", c_uint64),
        ("pod", c_void_p),
        ("name", c_char_p),
        ("failure", c_void_p),
        ("from", c_int32),
        ("to", c_int32),
        ("incarnation", c_uint32),
        ("missed", c_uint32),
    ]


# C's names, for the layout test.
STRUCTS: Dict[str, Any] = {
    "podkeep_runtime_spec": RuntimeSpec,
    "podkeep_pod_options": PodOptions,
    "podkeep_group_options": GroupOptions,
    "podkeep_member_options": MemberOptions,
    "podkeep_control_options": ControlOptions,
    "podkeep_event": Event,
}

# Handles are opaque values that the library checks before it uses them: a plain void pointer is all that is needed.
_OUT = POINTER(c_void_p)

PROTOTYPES: Dict[str, Tuple[Any, List[Any]]] = {
    "podkeep_status_name": (c_char_p, [c_int32]),
    "podkeep_last_error": (c_char_p, []),
    "podkeep_abi_version": (c_uint32, []),
    "podkeep_version": (c_char_p, []),
    "podkeep_shutdown": (c_int32, [c_int64, POINTER(c_uint32)]),
    "podkeep_abandoned": (c_int32, [POINTER(c_uint32)]),
    "podkeep_runtime_new": (c_int32, [POINTER(RuntimeSpec), _OUT]),
    "podkeep_runtime_from_command": (c_int32, [c_char_p, POINTER(c_char_p), _OUT]),
    "podkeep_runtime_from_program": (c_int32, [c_char_p, POINTER(c_char_p), _OUT]),
    "podkeep_runtime_from_library": (c_int32, [c_char_p, c_char_p, _OUT]),
    "podkeep_runtime_free": (c_int32, [c_void_p]),
    "podkeep_export": (c_int32, [c_void_p]),
    "podkeep_child_run": (c_int32, [POINTER(c_int32)]),
    "podkeep_set_program": (c_int32, [c_char_p]),
    "podkeep_context_cancelled": (c_bool, [c_void_p]),
    "podkeep_context_wait": (c_int32, [c_void_p, c_int64]),
    "podkeep_context_fd": (c_int, [c_void_p]),
    "podkeep_context_time_left": (c_int64, [c_void_p]),
    "podkeep_context_ready": (c_int32, [c_void_p]),
    "podkeep_context_heartbeat": (c_int32, [c_void_p]),
    "podkeep_context_extend": (c_int32, [c_void_p, c_int64]),
    "podkeep_context_status": (c_int32, [c_void_p, c_char_p]),
    "podkeep_context_fail": (c_int32, [c_void_p, c_int32, c_char_p]),
    "podkeep_context_fail_as": (c_int32, [c_void_p, c_int32, c_int32, c_char_p]),
    "podkeep_context_fail_with": (c_int32, [c_void_p, c_int32, c_int32, c_char_p, c_void_p, c_size_t]),
    "podkeep_context_incarnation": (c_uint32, [c_void_p]),
    "podkeep_context_args": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "podkeep_context_name": (c_char_p, [c_void_p]),
    "podkeep_pod_new": (c_int32, [c_void_p, POINTER(PodOptions), _OUT]),
    "podkeep_pod_start": (c_int32, [c_void_p]),
    "podkeep_pod_run": (c_int32, [c_void_p, POINTER(c_int32)]),
    "podkeep_pod_cancel": (c_int32, [c_void_p]),
    "podkeep_pod_wait_ready": (c_int32, [c_void_p, c_int64]),
    "podkeep_pod_join": (c_int32, [c_void_p, c_int64]),
    "podkeep_pod_close": (c_int32, [c_void_p]),
    "podkeep_pod_free": (c_int32, [c_void_p]),
    "podkeep_pod_state": (c_int32, [c_void_p, POINTER(c_int32)]),
    "podkeep_pod_name": (c_int32, [c_void_p, POINTER(c_char_p)]),
    "podkeep_pod_id": (c_int32, [c_void_p, POINTER(c_int64)]),
    "podkeep_pod_restarts": (c_int32, [c_void_p, POINTER(c_uint32)]),
    "podkeep_pod_failure": (c_int32, [c_void_p, _OUT]),
    "podkeep_failure_pod_name": (c_char_p, [c_void_p]),
    "podkeep_failure_incarnation": (c_uint32, [c_void_p]),
    "podkeep_failure_phase": (c_int32, [c_void_p]),
    "podkeep_failure_kind": (c_int32, [c_void_p]),
    "podkeep_failure_code": (c_int32, [c_void_p]),
    "podkeep_failure_message": (c_char_p, [c_void_p]),
    "podkeep_failure_data": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "podkeep_failure_stderr": (c_char_p, [c_void_p]),
    "podkeep_failure_secondary": (c_void_p, [c_void_p]),
    "podkeep_failure_free": (c_int32, [c_void_p]),
    "podkeep_group_new": (c_int32, [POINTER(GroupOptions), _OUT]),
    "podkeep_group_add": (c_int32, [c_void_p, c_void_p, POINTER(MemberOptions)]),
    "podkeep_group_start": (c_int32, [c_void_p]),
    "podkeep_group_cancel": (c_int32, [c_void_p]),
    "podkeep_group_wait_ready": (c_int32, [c_void_p, c_int64]),
    "podkeep_group_join": (c_int32, [c_void_p, c_int64]),
    "podkeep_group_close": (c_int32, [c_void_p]),
    "podkeep_group_state": (c_int32, [c_void_p, POINTER(c_int32)]),
    "podkeep_group_failure": (c_int32, [c_void_p, _OUT]),
    "podkeep_group_free": (c_int32, [c_void_p]),
    "podkeep_monitor_new": (c_int32, [c_void_p, _OUT]),
    "podkeep_monitor_new_group": (c_int32, [c_void_p, _OUT]),
    "podkeep_monitor_fd": (c_int32, [c_void_p, POINTER(c_int)]),
    "podkeep_monitor_next": (c_int32, [c_void_p, POINTER(Event), c_int64]),
    "podkeep_monitor_free": (c_int32, [c_void_p]),
    "podkeep_control_serve": (c_int32, [POINTER(ControlOptions), _OUT]),
    "podkeep_control_address": (c_int32, [c_void_p, POINTER(c_char_p)]),
    "podkeep_control_free": (c_int32, [c_void_p]),
    "podkeep_terminate": (c_int32, [c_char_p, c_char_p, c_int64]),
    "podkeep_query": (c_int32, [c_char_p, c_char_p, c_int64, POINTER(c_int32)]),
    "podkeep_set_log": (c_int32, [Log, c_int32, c_void_p, Drop]),
}


def path_of_library() -> str:
    """The library this package uses: ``PODKEEP_LIBRARY`` when set, else the one carried inside the package."""
    override = os.environ.get("PODKEEP_LIBRARY")
    if override:
        return override
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), SONAME)


def _load() -> ctypes.CDLL:
    path = path_of_library()
    way_out = (
        f"install the package (pip install ./bindings/python builds {SONAME} and carries it), "
        "or name a library in the environment variable PODKEEP_LIBRARY"
    )
    if os.environ.get("PODKEEP_LIBRARY"):
        way_out = "PODKEEP_LIBRARY names it: correct or unset that variable"
    try:
        # CDLL, not PyDLL: every call lets the GIL go, so that a callback on a pod's thread can take it meanwhile.
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(f"podkeep: cannot load the library {path}: {error}; {way_out}") from error
    for name, (restype, argtypes) in PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise ImportError(f"podkeep: {path} has no function {name}: it is another version's; {way_out}") from None
        function.restype = restype
        function.argtypes = argtypes
    found = library.podkeep_abi_version()
    if found != ABI_VERSION:
        raise ImportError(f"podkeep: {path} has ABI version {found}, this package needs {ABI_VERSION}; {way_out}")
    return library


lib = _load()


def text(raw: Optional[bytes]) -> str:
    """What the library handed out; it promises UTF-8."""
    return "" if raw is None else raw.decode("utf-8", "replace")


def utf8(what: str, value: str) -> bytes:
    """A name or text on its way in. C would cut at a NUL without a word, so that is refused here."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError(f"{what} must not contain a NUL character: {value!r}")
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{what} cannot be written as UTF-8: {value!r}") from error


def raw(what: str, value: "Union[str, bytes, os.PathLike[Any]]") -> bytes:
    """What the system takes as bytes: a path, an argument. Strings as Python itself hands them to the system."""
    made = os.fsencode(value)
    if b"\0" in made:
        raise ValueError(f"{what} must not contain a NUL character: {value!r}")
    return made


def strings(values: Sequence[bytes]) -> Any:
    """A NULL-ended array of C strings, which keeps them alive."""
    return (c_char_p * (len(values) + 1))(*values, None)


def last_error() -> str:
    """The sentence for this thread's last failing call."""
    return text(lib.podkeep_last_error())


def version() -> str:
    return text(lib.podkeep_version())
