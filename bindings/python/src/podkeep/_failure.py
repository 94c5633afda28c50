"""The failure record: why a pod ended, as an immutable value of Python's."""

from __future__ import annotations

import ctypes
import dataclasses
from ctypes import byref, c_size_t, c_void_p
from typing import Callable, Dict, Iterator, Optional

from . import _abi, _trace
from ._words import Kind, Phase, Status

# Finds the exception object that a record stands for, by incarnation and phase (each phase can raise once a life) or out
# of the bytes that came with it from another process.
Origin = Callable[[int, Phase, bytes], Optional[BaseException]]


@dataclasses.dataclass(frozen=True)
class Failure:
    """One failure of one incarnation; what failed after it hangs on it as ``secondary``, in order of time."""

    pod_name: str
    incarnation: int
    phase: Phase
    kind: Kind
    code: int
    message: str
    secondary: Optional["Failure"] = None
    #: The exception object: the one that a runtime's Python code raised in this process, or what could be rebuilt of one
    #: that was raised in the pod's own process. A pickled or copied record has none.
    exception: Optional[BaseException] = dataclasses.field(default=None, compare=False, repr=False)
    #: The text of the traceback of an exception that was raised in the pod's own process.
    traceback: str = dataclasses.field(default="", compare=False, repr=False)
    #: The end of what the pod's process wrote to stderr.
    stderr: str = dataclasses.field(default="", compare=False, repr=False)

    def __getstate__(self) -> "Dict[str, object]":
        # The record travels; the exception object stays behind, it may not be picklable.
        return dict(self.__dict__, exception=None)

    def chain(self) -> Iterator["Failure"]:
        """This failure and those after it."""
        record: Optional[Failure] = self
        while record is not None:
            yield record
            record = record.secondary

    def _told(self) -> str:
        return f"{self.phase} ({self.kind}, code {self.code}): {self.message}"

    def __str__(self) -> str:
        return f"pod {self.pod_name!r} failed in " + "; then in ".join(record._told() for record in self.chain())


def _data(record: int) -> bytes:
    size = c_size_t()
    at = _abi.lib.podkeep_failure_data(record, byref(size))
    return ctypes.string_at(at, size.value) if at else b""


def read(record: int, origin: Origin) -> Failure:
    """Copies a record of the library's, which the caller owns or has borrowed, with all that hangs on it."""
    found = []
    at: Optional[int] = record
    while at:
        found.append(at)
        at = _abi.lib.podkeep_failure_secondary(at)
    failure: Optional[Failure] = None
    for at in reversed(found):
        incarnation = _abi.lib.podkeep_failure_incarnation(at)
        phase = Phase(_abi.lib.podkeep_failure_phase(at))
        kind = Kind(_abi.lib.podkeep_failure_kind(at))
        data = _data(at)
        failure = Failure(
            pod_name=_abi.text(_abi.lib.podkeep_failure_pod_name(at)),
            incarnation=incarnation,
            phase=phase,
            kind=kind,
            code=_abi.lib.podkeep_failure_code(at),
            message=_abi.text(_abi.lib.podkeep_failure_message(at)),
            secondary=failure,
            exception=origin(incarnation, phase, data) if kind is Kind.EXCEPTION else None,
            traceback=_trace.unpack(data)[0],
            stderr=_abi.text(_abi.lib.podkeep_failure_stderr(at)),
        )
    assert failure is not None
    return failure


def of_group(group: int, of_member: Callable[[str], Origin]) -> "tuple[int, Optional[Failure]]":
    """As ``of_pod``, of the member that failed first for good."""
    record = c_void_p()
    status: int = _abi.lib.podkeep_group_failure(group, byref(record))
    if status != Status.OK or not record.value:
        return status, None
    try:
        return status, read(record.value, of_member(_abi.text(_abi.lib.podkeep_failure_pod_name(record))))
    finally:
        _abi.lib.podkeep_failure_free(record)


def of_pod(pod: int, origin: Origin) -> "tuple[int, Optional[Failure]]":
    """The status of the call, and the failure of the present or last incarnation, if it has one."""
    record = c_void_p()
    status: int = _abi.lib.podkeep_pod_failure(pod, byref(record))
    if status != Status.OK or not record.value:
        return status, None
    try:
        return status, read(record.value, origin)
    finally:
        _abi.lib.podkeep_failure_free(record)
