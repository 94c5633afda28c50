"""The exceptions, and the one place where a status becomes one."""

from __future__ import annotations

from typing import NoReturn, Optional

from . import _abi
from ._failure import Failure
from ._trace import add_note, add_trace
from ._words import Kind, Phase, State, Status


class Error(Exception):
    """Whatever podkeep refuses or reports; ``status`` is the library's answer (None when it was not asked)."""

    status: Optional[Status] = None

    def __init__(self, message: str, status: Optional[Status] = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class PodFailed(Error):
    """The pod failed. ``__cause__`` is the exception that its runtime raised, if it raised one.

    From a thread it is the same object. From a process it is one of the same type, with the traceback of that process as
    a note; one that could not be rebuilt here leaves its traceback as a note on this exception.
    """

    status = Status.FAILED

    def __init__(self, failure: Failure) -> None:
        super().__init__(str(failure))
        #: The whole record; the properties below are its fields.
        self.failure = failure
        self.__cause__ = failure.exception
        if failure.exception is None and failure.traceback:
            add_trace(self, failure.pod_name, failure.traceback)

    def __reduce__(self) -> "tuple[object, ...]":
        return type(self), (self.failure,)

    @property
    def pod_name(self) -> str:
        return self.failure.pod_name

    @property
    def incarnation(self) -> int:
        return self.failure.incarnation

    @property
    def phase(self) -> Phase:
        return self.failure.phase

    @property
    def kind(self) -> Kind:
        return self.failure.kind

    @property
    def code(self) -> int:
        return self.failure.code

    @property
    def message(self) -> str:
        return self.failure.message

    @property
    def stderr(self) -> str:
        """The end of what the pod's process wrote to stderr, at most 64 KiB; empty for a thread."""
        return self.failure.stderr

    @property
    def secondary(self) -> Optional[Failure]:
        return self.failure.secondary


class PodEnded(Error):
    """The pod ended, or is ending, without failure before what was waited for."""

    status = Status.ENDED


class PodTimeout(Error, TimeoutError):
    """The time was up, or the pod was abandoned; the sentence says where it is stuck. ``state`` is where it was then."""

    status = Status.TIMEOUT

    def __init__(self, message: str, state: Optional[State] = None, failure: Optional[Failure] = None) -> None:
        super().__init__(message)
        self.state = state
        #: What it has failed with so far: an abandoned pod has spent its grace, which is a failure of kind TIMEOUT.
        self.failure = failure


class Forked(Error):
    """This object belongs to the parent of a bare fork(); make a new one in the child."""

    status = Status.FORKED


class Unsupported(Error):
    """This build of the library does not have what was asked for."""

    status = Status.UNSUPPORTED


class Denied(Error):
    """Whoever serves that address lets this process ask for nothing."""

    status = Status.DENIED


class Unreachable(Error):
    """Nobody answers at that address."""

    status = Status.UNREACHABLE


class NotFound(Error):
    """There is nothing of that name, or in that place."""

    status = Status.NOT_FOUND


_OWN = {one.status: one for one in (Forked, Unsupported, PodEnded, PodTimeout, Denied, Unreachable, NotFound)}


def fail(status: int, sentence: Optional[str] = None) -> NoReturn:
    """Raises what a status stands for, with the library's sentence of this thread."""
    said = Status(status)
    message = sentence or _abi.last_error() or _abi.text(_abi.lib.podkeep_status_name(status))
    own = _OWN.get(said)
    raise Error(message, said) if own is None else own(message)


def check(status: int) -> None:
    """Returns when the status is OK, else raises."""
    if status != Status.OK:
        fail(status)


def note_or_raise(error: Error, reason: Optional[BaseException]) -> None:
    """How it ended, at the end of a block: a note on the exception that is on its way, which is never masked."""
    if reason is None:
        raise error
    if isinstance(reason, PodFailed) and isinstance(error, PodFailed) and reason.failure == error.failure:
        return
    add_note(reason, str(error))
