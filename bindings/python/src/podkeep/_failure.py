"""The failure record: why a pod ended, as an immutable value of Python's."""

from __future__ import annotations

import dataclasses
from ctypes import byref, c_void_p
from typing import Callable, Iterator, Optional

from . import _abi
from ._words import Kind, Phase, Status

# Finds the exception object that a record stands for, by incarnation and phase: each phase can raise once a life.
Origin = Callable[[int, Phase], Optional[BaseException]]


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
    #: The exception object itself, when a runtime's Python code raised one in this process.
    exception: Optional[BaseException] = dataclasses.field(default=None, compare=False, repr=False)

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
        failure = Failure(
            pod_name=_abi.text(_abi.lib.podkeep_failure_pod_name(at)),
            incarnation=incarnation,
            phase=phase,
            kind=kind,
            code=_abi.lib.podkeep_failure_code(at),
            message=_abi.text(_abi.lib.podkeep_failure_message(at)),
            secondary=failure,
            exception=origin(incarnation, phase) if kind is Kind.EXCEPTION else None,
        )
    assert failure is not None
    return failure


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
