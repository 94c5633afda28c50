"""The contract's words, as enums. ``str()`` of a member is the lower-case word; its value is the ABI's number."""

from __future__ import annotations

import enum


class _Word(enum.IntEnum):
    # IntEnum's own __str__ and __format__ changed between 3.9 and 3.12; these are the same everywhere.
    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)


class State(_Word):
    """Where a pod is in its life."""

    NEW = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3
    RESTARTING = 4
    STOPPED = 5
    FAILED = 6
    ABANDONED = 7

    @property
    def final(self) -> bool:
        """No other state can follow."""
        return self in (State.STOPPED, State.FAILED)


class Phase(_Word):
    """What a runtime was doing when it failed."""

    SPAWN = 0
    INIT = 1
    READY = 2
    RUN = 3
    CANCEL = 4
    TEARDOWN = 5


class Kind(_Word):
    """How a runtime failed."""

    RETURNED = 0
    PANIC = 1
    EXCEPTION = 2
    EXIT = 3
    SIGNAL = 4
    TIMEOUT = 5
    WATCHDOG = 6
    LOST = 7


class Status(_Word):
    """What a call of the library answered; ``podkeep.Error.status``."""

    OK = 0
    INVALID_ARGUMENT = -1
    INVALID_HANDLE = -2
    INVALID_STATE = -3
    TIMEOUT = -4
    FAILED = -5
    ENDED = -6
    DEADLOCK = -7
    FORKED = -8
    RESOURCES = -9
    UNSUPPORTED = -10
    DENIED = -11
    UNREACHABLE = -12
    INTERNAL = -13
    NOT_FOUND = -14
