"""Pod: one kept instance of a Runtime, and its life."""

from __future__ import annotations

import os
import threading
import warnings
from ctypes import byref, c_char_p, c_int32, c_int64, c_uint32, c_void_p
from types import TracebackType
from typing import Any, Callable, Mapping, Optional, Sequence, Type, TypeVar, Union

from . import _abi, _callbacks, _errors, _exit, _failure, _kept, _process, _wait
from ._failure import Failure
from ._kept import Kept
from ._options import Options
from ._runtime import Driver, Runtime
from ._words import State, Status

_Self = TypeVar("_Self", bound="Pod")
_Word = Union[str, bytes, "os.PathLike[Any]"]


class Pod:
    """One kept instance of a Runtime, in a thread of this process or in a process of its own.

    Takes the Runtime's class (or a function made one by ``@podkeep.runtime``); ``args`` and ``kwargs`` are the runtime's
    own, handed to its ``__init__`` in the pod's thread or process. ``Pod.command`` and ``Pod.from_library`` keep other things
    than Python classes. Options are keywords, times are in seconds; None is the library's default, ``podkeep.FOREVER`` no
    limit where there can be none:

    * ``name``: by default the class's or function's;
    * ``host``: ``"thread"`` or ``"process"``. A process is this interpreter started anew: the class is found there by its
      module and name, ``args`` and ``kwargs`` are pickled, and a program's main module is imported once more as
      ``__mp_main__``, so it needs ``if __name__ == "__main__":`` around what it does as a program;
    * ``ready``: ``"run"`` (ready when run_forever is entered) or ``"notify"`` (when the runtime calls ``ctx.ready()``),
      and ``ready_timeout`` on the way there;
    * ``grace``: from the request to stop until force: a thread is let go as ABANDONED, a process is ended by SIGTERM and,
      ``kill_after`` later, by SIGKILL, with all processes of its group; ``extend_max``: all that ``ctx.extend`` may add;
    * of a process: ``env``, variables over the present ones, and ``cwd``;
    * of a thread: ``stack_size`` in bytes; ``kick_signal``: a signal that interrupts system calls of C code when a stop
      is asked for.

    * ``restart``: ``"never"``, ``"on-failure"`` or ``"always"``: another life, with a runtime made anew, after a failure or
      after any end but a stop that was asked for. At most ``max_restarts`` (8) in ``restart_window`` (60 s), the first
      ``backoff`` (0.1 s) later, then twice as long each time up to ``backoff_max`` (30 s);
    * ``watchdog``: the runtime must call ``ctx.heartbeat()`` at least that often.

    All methods may be called from any thread; a pod starts once.
    """

    def __init__(
        self,
        runtime: Type[Runtime],
        args: Sequence[Any] = (),
        kwargs: Optional[Mapping[str, Any]] = None,
        *,
        name: Optional[str] = None,
        host: str = "thread",
        ready: Optional[str] = None,
        ready_timeout: Optional[float] = None,
        grace: Optional[float] = None,
        kill_after: Optional[float] = None,
        extend_max: Optional[float] = None,
        stack_size: Optional[int] = None,
        kick_signal: Optional[int] = None,
        restart: str = "never",
        max_restarts: Optional[int] = None,
        restart_window: Optional[float] = None,
        backoff: Optional[float] = None,
        backoff_max: Optional[float] = None,
        watchdog: Optional[float] = None,
        env: Optional[Mapping[str, str]] = None,
        cwd: Union[str, "os.PathLike[str]", None] = None,
    ) -> None:
        _refuse_no_runtime(runtime)
        if name is None:
            name = runtime.__name__
        if kwargs is None:
            kwargs = {}
        process = host == "process"
        options = Options(
            name=name,
            host=host,
            ready=ready,
            ready_timeout=ready_timeout,
            grace=grace,
            kill_after=kill_after,
            extend_max=extend_max,
            stack_size=stack_size,
            kick_signal=kick_signal,
            restart=restart,
            max_restarts=max_restarts,
            restart_window=restart_window,
            backoff=backoff,
            backoff_max=backoff_max,
            watchdog=watchdog,
            env=env,
            cwd=cwd,
            args=_process.payload(runtime, args, kwargs, name) if process else b"",
        )
        own = _abi.utf8("name", runtime.__name__)
        if process:
            words = _abi.strings(_process.command(runtime, runtime.__name__))
            self._keep(
                None,
                options,
                lambda kept, out: _abi.lib.podkeep_runtime_from_program(own, words, out),
                pickles=True,
            )
        else:
            self._keep(
                runtime._driver(args, kwargs),
                options,
                lambda kept, out: _abi.lib.podkeep_runtime_new(byref(_callbacks.spec(kept, own)), out),
            )

    @classmethod
    def command(
        cls: Type[_Self],
        *argv: _Word,
        name: Optional[str] = None,
        ready: Optional[str] = None,
        ready_port: Optional[int] = None,
        ready_timeout: Optional[float] = None,
        grace: Optional[float] = None,
        kill_after: Optional[float] = None,
        extend_max: Optional[float] = None,
        stop_signal: Optional[int] = None,
        restart: str = "never",
        max_restarts: Optional[int] = None,
        restart_window: Optional[float] = None,
        backoff: Optional[float] = None,
        backoff_max: Optional[float] = None,
        watchdog: Optional[float] = None,
        env: Optional[Mapping[str, str]] = None,
        cwd: Union[str, "os.PathLike[str]", None] = None,
    ) -> _Self:
        """A pod of any program: ``Pod.command("redis-server", "--supervised", "systemd", ready="notify")``.

        The program is searched in ``PATH``; its name is the pod's. It is asked to stop by ``stop_signal`` (SIGTERM). It is
        ready when it runs (``ready="run"``), when it says so by sd_notify (``"notify"``), or when it listens itself on a
        TCP port: ``ready_port=8080``, or in full ``ready="port", ready_port=8080``.
        """
        if not argv:
            raise TypeError("Pod.command takes a program and its arguments")
        words = [_abi.raw("an argument", word) for word in argv]
        if name is None:
            name = os.fsdecode(os.path.basename(words[0]))
        options = Options(
            name=name,
            host="process",
            ready=ready,
            ready_port=ready_port,
            ready_timeout=ready_timeout,
            grace=grace,
            kill_after=kill_after,
            extend_max=extend_max,
            stop_signal=stop_signal,
            restart=restart,
            max_restarts=max_restarts,
            restart_window=restart_window,
            backoff=backoff,
            backoff_max=backoff_max,
            watchdog=watchdog,
            env=env,
            cwd=cwd,
        )
        pod = cls.__new__(cls)
        own, array = _abi.utf8("name", name), _abi.strings(words)
        pod._keep(None, options, lambda kept, out: _abi.lib.podkeep_runtime_from_command(own, array, out))
        return pod

    @classmethod
    def from_library(
        cls: Type[_Self],
        path: Union[str, "os.PathLike[str]"],
        symbol: str,
        args: bytes = b"",
        *,
        name: Optional[str] = None,
        host: str = "thread",
        ready: Optional[str] = None,
        ready_timeout: Optional[float] = None,
        grace: Optional[float] = None,
        kill_after: Optional[float] = None,
        extend_max: Optional[float] = None,
        stack_size: Optional[int] = None,
        kick_signal: Optional[int] = None,
        restart: str = "never",
        max_restarts: Optional[int] = None,
        restart_window: Optional[float] = None,
        backoff: Optional[float] = None,
        backoff_max: Optional[float] = None,
        watchdog: Optional[float] = None,
        env: Optional[Mapping[str, str]] = None,
        cwd: Union[str, "os.PathLike[str]", None] = None,
    ) -> _Self:
        """A pod of a shared library's runtime: ``symbol`` is its function that gives a ``podkeep_runtime_spec``.

        ``args`` are the bytes that ``podkeep_context_args`` gives it; the pod's name is the symbol's.
        """
        if name is None:
            name = symbol
        options = Options(
            name=name,
            host=host,
            ready=ready,
            ready_timeout=ready_timeout,
            grace=grace,
            kill_after=kill_after,
            extend_max=extend_max,
            stack_size=stack_size,
            kick_signal=kick_signal,
            restart=restart,
            max_restarts=max_restarts,
            restart_window=restart_window,
            backoff=backoff,
            backoff_max=backoff_max,
            watchdog=watchdog,
            env=env,
            cwd=cwd,
            args=args,
        )
        pod = cls.__new__(cls)
        where, what = _abi.raw("path", path), _abi.utf8("symbol", symbol)
        pod._keep(None, options, lambda kept, out: _abi.lib.podkeep_runtime_from_library(where, what, out))
        return pod

    def _keep(
        self, driver: Optional[Driver], options: Options, make: Callable[[Kept, Any], int], pickles: bool = False
    ) -> None:
        """Makes the runtime and the pod, or raises and leaves nothing."""
        _kept.home.sweep()
        _exit.hook()
        # Its own at once, so that __del__ gives back what an interrupt leaves half made.
        kept = self._kept = Kept(driver, _abi.text(options.struct.name), pickles)
        kept.enter()
        handle = c_void_p()
        status = make(kept, byref(handle))
        if status == Status.OK:
            kept.runtime = handle.value or 0
            status = _abi.lib.podkeep_pod_new(kept.runtime, byref(options.struct), byref(handle))
        if status != Status.OK:
            sentence = _abi.last_error()
            kept.free()
            _errors.fail(status, sentence)
        kept.pod = handle.value or 0
        self._process = options.struct.host != 0
        kept.home.pods[kept.pod] = self
        _exit.refuse_late(kept.free)

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        out = c_char_p()
        _errors.check(_abi.lib.podkeep_pod_name(self._kept.pod, byref(out)))
        return _abi.text(out.value)

    @property
    def id(self) -> Optional[int]:
        """The kernel's number of its thread (``threading.get_native_id()`` in there) or process, while it has one."""
        out = c_int64()
        _errors.check(_abi.lib.podkeep_pod_id(self._kept.pod, byref(out)))
        return out.value or None

    @property
    def state(self) -> State:
        """Where it is in its life, now."""
        out = c_int32()
        _errors.check(_abi.lib.podkeep_pod_state(self._kept.pod, byref(out)))
        return State(out.value)

    @property
    def restarts(self) -> int:
        """Lives after the first."""
        out = c_uint32()
        _errors.check(_abi.lib.podkeep_pod_restarts(self._kept.pod, byref(out)))
        return out.value

    @property
    def failure(self) -> Optional[Failure]:
        """Why the present or last incarnation failed; None when it has not."""
        status, failure = _failure.of_pod(self._kept.pod, self._kept.exception)
        _errors.check(status)
        return failure

    def __repr__(self) -> str:
        kept = self._kept
        state = kept.state()
        return f"<podkeep.Pod {kept.name!r} {'forked' if state is None else state}>"

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self: _Self, wait: bool = True) -> _Self:
        """Starts it and, unless told otherwise, waits until it is ready or raises what went wrong."""
        if self._process:
            _process.refuse_while_importing()
        _errors.check(_abi.lib.podkeep_pod_start(self._kept.pod))
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, timeout: Optional[float] = None) -> None:
        """Returns when it is ready; raises PodFailed, PodEnded, or PodTimeout when so many seconds have passed."""
        self._outcome(_wait.wait(self._kept, _abi.lib.podkeep_pod_wait_ready, timeout))

    def cancel(self) -> None:
        """Asks it to stop, and returns at once; any number of times."""
        _errors.check(_abi.lib.podkeep_pod_cancel(self._kept.pod))

    def join(self, timeout: Optional[float] = None) -> None:
        """Returns when it has ended cleanly; raises PodFailed, or PodTimeout when so many seconds have passed."""
        self._outcome(_wait.wait(self._kept, _abi.lib.podkeep_pod_join, timeout), ended=True)

    def close(self) -> None:
        """Cancels it and waits until it has ended, within its grace; raises PodFailed, or PodTimeout when it is abandoned.

        Harmless before the start and when it has ended. A member of a group is closed by its group alone.
        """
        self._refuse_close()
        self.cancel()
        self.join()

    def run(self) -> int:
        """Blocks this thread with its whole life, as a container's main process, and returns the exit code.

        A pod with ``host="thread"`` runs in this very thread, a process pod beside it. SIGINT and SIGTERM cancel it; a
        second one, or the grace spent, ends this process at once. Their handlers are put back afterwards. 0 is a clean
        end; else ``failure`` tells. ``podkeep.run`` does the same with a class, and reports the failure.
        """
        _process.refuse_while_importing()
        code = c_int32()
        _errors.check(_abi.lib.podkeep_pod_run(self._kept.pod, byref(code)))
        self._kept.end()
        return code.value

    def __enter__(self: _Self) -> _Self:
        """Starts it, if that was not done, and waits until it is ready."""
        try:
            self._start_if_new()
            self.wait_ready()
        except BaseException as reason:
            # __exit__ will not be called.
            self._leave(reason)
            raise
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], reason: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """Closes it. Never masks an exception on its way: how the pod failed is a note on that one then."""
        self._leave(reason)

    # --- the same in an event loop ----------------------------------------------------------------------------------

    async def ready(self, timeout: Optional[float] = None) -> None:
        """``wait_ready`` for asyncio."""
        self._refuse_own_thread()
        self._outcome(await _wait.wait_async(self._kept, _abi.lib.podkeep_pod_wait_ready, timeout))

    async def joined(self, timeout: Optional[float] = None) -> None:
        """``join`` for asyncio."""
        self._refuse_own_thread()
        self._outcome(await _wait.wait_async(self._kept, _abi.lib.podkeep_pod_join, timeout), ended=True)

    async def closed(self) -> None:
        """``close`` for asyncio."""
        self._refuse_close()
        self.cancel()
        await self.joined()

    async def __aenter__(self: _Self) -> _Self:
        try:
            self._start_if_new()
            await self.ready()
        except BaseException as reason:
            await self._leave_async(reason)
            raise
        return self

    async def __aexit__(
        self, kind: Optional[Type[BaseException]], reason: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self._leave_async(reason)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _start_if_new(self) -> None:
        if self.state is State.NEW:
            self.start(wait=False)

    def _leave(self, reason: Optional[BaseException]) -> None:
        try:
            self.close()
        except _errors.Error as error:
            _errors.note_or_raise(error, reason)

    async def _leave_async(self, reason: Optional[BaseException]) -> None:
        try:
            await self.closed()
        except _errors.Error as error:
            _errors.note_or_raise(error, reason)

    def _refuse_close(self) -> None:
        """Of a group's member it is refused, before anything is cancelled; the library says so."""
        if self._kept.grouped:
            _errors.check(_abi.lib.podkeep_pod_close(self._kept.pod))
        self._refuse_own_thread()

    def _refuse_own_thread(self) -> None:
        """From the pod's own callbacks a wait would never end; the library says so, in a call that blocks (L11)."""
        if threading.get_ident() in self._kept.threads:
            _errors.check(_abi.lib.podkeep_pod_close(self._kept.pod))

    def _outcome(self, status: int, ended: bool = False) -> None:
        """Returns or raises what a wait's status says; ended: by OK and FAILED it says that the pod is final."""
        if ended and status in (Status.OK, Status.FAILED):
            self._kept.end()
        if status == Status.OK:
            return
        if status == Status.FAILED:
            failure = self.failure
            if failure is not None:
                raise _errors.PodFailed(failure)
        elif status == Status.TIMEOUT:
            sentence = _abi.last_error()
            raise _errors.PodTimeout(sentence, self.state, self.failure)
        _errors.fail(status)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        # Never blocks, and takes no lock: the collector calls it anywhere.
        kept: Optional[Kept] = getattr(self, "_kept", None)
        if kept is None or kept.home is not _kept.home or kept.home.ended:
            return
        state = kept.state()
        if state is State.NEW or state is None or state.final:
            kept.free()
            return
        if not kept.grouped:
            _abi.lib.podkeep_pod_cancel(kept.pod)
        kept.home.forgotten.append(kept)
        # A member is forgotten with its group, which tells of it, and cancels all in their order.
        if not kept.grouped and state not in (State.STOPPING, State.ABANDONED):
            _warn(f"pod {kept.name!r} was forgotten while {state}: it is cancelled", ResourceWarning, source=self)


def _refuse_no_runtime(runtime: object) -> None:
    if isinstance(runtime, Runtime):
        raise TypeError(
            f"Pod takes the class {type(runtime).__name__}, not an instance of it: the runtime is made in the pod's thread, "
            "its arguments travel as args= and kwargs="
        )
    if not isinstance(runtime, type) or not issubclass(runtime, Runtime):
        way = "decorate it with @podkeep.runtime" if callable(runtime) and not isinstance(runtime, type) else "subclass it"
        raise TypeError(f"Pod takes a subclass of podkeep.Runtime, not {runtime!r}: {way}")
    if getattr(runtime.run_forever, "_missing", False):
        raise TypeError(f"{runtime.__name__} has no run_forever")
