"""Control: this process's pods, reached from other processes and machines; and the way to reach another's."""

from __future__ import annotations

import os
import threading
from ctypes import byref, c_char_p, c_int32, c_void_p, sizeof
from types import TracebackType
from typing import Any, List, Optional, Tuple, Type, Union

from . import _abi, _errors, _exit, _kept, _thread
from ._times import in_main, longest_ms, of_wait
from ._words import State, Status

_Path = Union[str, "os.PathLike[str]"]


class Control:
    """Serves the pods and groups of this process, by name, until it is closed: ``terminate``, ``query``, the ``podkeep``
    program, and any client of its gRPC service can reach them there.

        with podkeep.Control("unix:/run/web.sock") as control, podkeep.Pod(Web, args=(8080,)) as pod:
            pod.join()

    ``address`` is ``"unix:/path"`` or ``"tcp:127.0.0.1:0"``; without one it is a private socket of this process. Off the
    loopback it needs ``tls_cert``, ``tls_key`` and ``tls_client_ca``, PEM files all three. It is answered by a thread of the
    library, which needs nothing of Python: a pod that holds the interpreter is still answered for. At the interpreter's exit
    it is closed after the pods, so that whoever waits for one's end is told how it ended.
    """

    _handle = 0

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        tls_cert: Optional[_Path] = None,
        tls_key: Optional[_Path] = None,
        tls_client_ca: Optional[_Path] = None,
    ) -> None:
        options = _abi.ControlOptions(struct_size=sizeof(_abi.ControlOptions))
        options.address = None if address is None else _abi.utf8("address", address)
        options.tls_cert = None if tls_cert is None else _abi.raw("tls_cert", tls_cert)
        options.tls_key = None if tls_key is None else _abi.raw("tls_key", tls_key)
        options.tls_client_ca = None if tls_client_ca is None else _abi.raw("tls_client_ca", tls_client_ca)
        home = self._home = _kept.home
        # Whole for the end, which takes the lock, too: it finds the service, or none is made any more.
        with home.lock:
            _exit.hook()
            handle = c_void_p()
            _errors.check(_abi.lib.podkeep_control_serve(byref(options), byref(handle)))
            self._handle = handle.value or 0
            home.controls.add(self)

    @property
    def address(self) -> str:
        """Where it is reached, with the real port."""
        out = c_char_p()
        _errors.check(_abi.lib.podkeep_control_address(self._handle, byref(out)))
        return _abi.text(out.value)

    def close(self) -> None:
        """Ends the service; the pods go on. Harmless twice, and without effect in a forked child, whose copy is nobody's."""
        if self._home is _kept.home:
            # In this order: a Ctrl-C between the two leaves it to be closed once more, which is harmless.
            _abi.lib.podkeep_control_free(self._handle)
            self._handle = 0

    def __enter__(self) -> "Control":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], reason: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Not when there was none to make; and at the interpreter's exit podkeep's own handler has been here before.
        if self._handle:
            self.close()


def terminate(address: str, name: str, timeout: Optional[float] = None) -> None:
    """Asks the pod or group of that name, in the process that serves ``address``, to stop, and waits until it has ended.

    Raises Error with status FAILED when it failed, PodTimeout when so many seconds have passed, NotFound, Unreachable or
    Denied. Ctrl-C ends the wait, not the stop that was asked for. In an event loop: ``asyncio.to_thread``. With TLS the
    address names this side's PEM files: ``"tcp:host:port,cert=FILE,key=FILE,ca=FILE"``.
    """
    at, who, limit = _abi.utf8("address", address), _abi.utf8("name", name), of_wait(timeout)
    _ask(_abi.lib.podkeep_terminate, at, who, limit)


def query(address: str, name: str, timeout: Optional[float] = None) -> State:
    """The state of the pod or group of that name in the process that serves ``address``; raises as ``terminate`` does."""
    out = c_int32()
    at, who, limit = _abi.utf8("address", address), _abi.utf8("name", name), of_wait(timeout)
    _ask(_abi.lib.podkeep_query, at, who, limit, byref(out))
    return State(out.value)


def _ask(function: Any, *arguments: Any) -> None:
    """A native call that blocks for its whole wait, so that the main thread, which answers Ctrl-C, must not be in it.

    There it is made by a thread beside it, a daemon: after a Ctrl-C nothing can call it back, and neither the program nor the
    interpreter's end shall wait for it. It holds nothing of Python's but its arguments, and is outside the interpreter for
    as long as it blocks. In a callback of the library's it stays on its thread, for the library to see where it comes from.
    """

    def native() -> Tuple[int, str]:
        status: int = function(*arguments)
        # The sentence is this thread's.
        return status, "" if status == Status.OK else _abi.last_error()

    status, sentence = _beside(native) if in_main() and not _thread.inside() else native()
    if status != Status.OK:
        _errors.fail(status, sentence)


def _beside(native: Any) -> Tuple[int, str]:
    answer: List[Tuple[int, str]] = []
    done = threading.Event()

    def run() -> None:
        answer.append(native())
        done.set()

    try:
        threading.Thread(target=run, name="podkeep-call", daemon=True).start()
    except RuntimeError:
        # None is to be had, or the interpreter is ending: then without Ctrl-C.
        return native()  # type: ignore[no-any-return]
    while not done.wait(longest_ms() / 1000):
        pass
    return answer[0]
