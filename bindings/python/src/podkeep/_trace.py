"""How an exception crosses from a pod's process: pickled, so that it keeps its type, and as its traceback's text.

The bytes travel with the library's failure record. The text is there always; the exception when it can be pickled, and
on the host's side rebuilt.
"""

from __future__ import annotations

import pickle
import struct
import traceback
from typing import Optional, Tuple

# What begins the bytes: those of another language's program are left alone.
_MARK = b"podkeep.py1"
_HEAD = struct.Struct("<I")
# An exception may carry anything, and a record is kept in memory: what is larger stays in its process.
_MOST = 1 << 20


def pack(error: BaseException) -> bytes:
    """In the pod's process, for an exception that was just caught."""
    try:
        told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        # Its own __str__ or the source's lines may fail; the record's message names the type.
        told = "".join(traceback.format_tb(error.__traceback__))
    text = told.encode("utf-8", "backslashreplace")
    if len(text) > _MOST:
        # Deep recursion is folded by traceback itself: this is a message of that size, which the record has whole.
        text = text[: _MOST // 2] + b"\n...\n" + text[-_MOST // 2 :]
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
    except Exception:
        pickled = b""
    if len(pickled) > _MOST:
        pickled = b""
    return _MARK + _HEAD.pack(len(text)) + text + pickled


def unpack(data: bytes) -> "Tuple[str, bytes]":
    """The traceback's text and the pickled exception; both are empty when the bytes are not ours."""
    begin = len(_MARK) + _HEAD.size
    if not data.startswith(_MARK) or len(data) < begin:
        return "", b""
    end = begin + int(_HEAD.unpack_from(data, len(_MARK))[0])
    return data[begin:end].decode("utf-8", "replace"), data[end:]


def rebuild(pod_name: str, data: bytes) -> Optional[BaseException]:
    """The exception, with its traceback as a note; None when its class is not to be had here or does not come back."""
    told, pickled = unpack(data)
    if not pickled:
        return None
    try:
        error = pickle.loads(pickled)
        if not isinstance(error, BaseException):
            return None
        add_trace(error, pod_name, told)
    except KeyboardInterrupt:
        raise
    except BaseException:
        # The record stands by itself: whatever the class does when it is rebuilt, it must not hide the failure.
        return None
    return error


def add_note(exception: BaseException, note: str) -> None:
    """A note on an exception that is on its way: ``add_note`` came with 3.11, its attribute is read by others, too."""
    if hasattr(exception, "add_note"):
        exception.add_note(note)
        return
    notes = getattr(exception, "__notes__", None)
    if not isinstance(notes, list):
        notes = []
        setattr(exception, "__notes__", notes)
    notes.append(note)


class _Trace(Exception):
    """The traceback of another process, as Pythons before 3.11 show one: they print causes, but no notes."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def add_trace(exception: BaseException, pod_name: str, told: str) -> None:
    """The traceback's text from a pod's process, as a note."""
    noted = hasattr(exception, "add_note")
    add_note(exception, f"In the process of pod {pod_name!r}:\n{told.rstrip()}")
    if not noted and exception.__cause__ is None:
        exception.__cause__ = _Trace(told)
