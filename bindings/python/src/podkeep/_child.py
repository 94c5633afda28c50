"""The other side of ``host="process"``: the main program of a pod's own process.

It exports one runtime, of the name that the host's command line gives, and lets the library run it on the main thread.
Which class that is, and its arguments, come over the library's channel; they are read in init, so that whatever goes
wrong, the import of the program's main module included, is a failure with its exception.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
from ctypes import byref, c_int32, c_size_t, c_void_p
from typing import Any, Dict, NoReturn, Optional

from . import _abi, _callbacks, _errors, _process
from ._context import Context
from ._kept import Kept
from ._runtime import Driver, Runtime
from ._words import Status


class _Arrival(Driver):
    """A driver that learns in init what it is to drive."""

    def __init__(self, hooked: bool) -> None:
        super().__init__(Runtime, (), {})
        self._hooked = hooked
        self._inner: Optional[Driver] = None

    @property
    def hooked(self) -> bool:
        return self._hooked

    @property
    def inner(self) -> Driver:
        assert self._inner is not None
        return self._inner

    def make(self, ctx: Context) -> None:
        # The library has read and removed it; os.environ was copied before.
        os.environ.pop("PODKEEP_CHILD", None)
        size = c_size_t()
        at = _abi.lib.podkeep_context_args(ctx._address, byref(size))
        preparation, module, qualname, arguments = pickle.loads(ctypes.string_at(at, size.value))
        prepare(preparation)
        if module not in sys.modules:
            __import__(module)
        runtime = _process.find(module, qualname)
        args, kwargs = pickle.loads(arguments)
        inner: Driver = runtime._driver(args, kwargs)
        inner.make(ctx)
        self._inner = inner

    def run(self, ctx: Context) -> object:
        return self.inner.run(ctx)

    def cancel(self) -> None:
        self.inner.cancel()

    def teardown(self, ctx: Context) -> None:
        self.inner.teardown(ctx)


def prepare(preparation: Dict[str, Any]) -> None:
    """Makes this the host's program: sys.path, sys.argv, and the main module, imported anew."""
    from multiprocessing import process, spawn

    current = process.current_process()
    _process.importing = True
    # multiprocessing's own mark, by which it refuses to start a process just now.
    setattr(current, "_inheriting", True)
    try:
        spawn.prepare(preparation)
    finally:
        delattr(current, "_inheriting")
        _process.importing = False


def main(hooked: bool) -> NoReturn:
    """Called by the child's command line; ends the process with the exit code that the pod's life has."""
    name = os.fsencode(sys.argv[1])
    kept = Kept(_Arrival(hooked), _abi.text(name), pickles=True)
    kept.enter()
    handle = c_void_p()
    _errors.check(_abi.lib.podkeep_runtime_new(byref(_callbacks.spec(kept, name)), byref(handle)))
    kept.runtime = handle.value or 0
    _errors.check(_abi.lib.podkeep_export(kept.runtime))
    code = c_int32()
    status = _abi.lib.podkeep_child_run(byref(code))
    kept.end()
    if status == Status.ENDED:
        sys.exit("podkeep._child: this is the inner side of a process pod, and no pod has started it")
    _errors.check(status)
    # As any Python program ends: exit handlers, buffers and all.
    sys.exit(code.value)
