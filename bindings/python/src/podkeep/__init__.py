"""podkeep keeps any blocking procedure in a pod: it starts it, knows when it is ready, cancels it, and tells how it ended.

    class Web(podkeep.Runtime):
        def __init__(self, port): ...            # in the pod's thread
        def run_forever(self, ctx): ...          # blocks it
        def cancel(self): ...                    # optional: unblocks what cannot poll
        def teardown(self): ...                  # optional: always, when __init__ succeeded

    with podkeep.Pod(Web, args=(8080,), name="web", grace=5.0) as pod:
        pod.join()

    podkeep.Pod(Web, args=(8080,), host="process")      # the same in a process of its own
    podkeep.Pod.command("redis-server")                 # any program
    podkeep.Group(strategy="one_for_all")               # pods that live together
    podkeep.run(Web, args=(8080,))                      # the same as a container's main process
    podkeep.Control("unix:/run/web.sock")               # reached from outside, as by
    podkeep.terminate("unix:/run/web.sock", "web")

All names are the contract's; times are in seconds.

When the program ends with pods running, by return, ``sys.exit``, an exception or Ctrl-C, they are cancelled, torn down and
joined within their graces before the interpreter goes (as with ``atexit``: after its non-daemon threads have ended). After
``os.fork()`` the child's copies of pods raise ``Forked``; it may make new ones.
"""

from __future__ import annotations

import math as _math
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._abi import version as _version
from ._context import Context
from ._control import Control, query, terminate
from ._errors import Denied, Error, Forked, NotFound, PodEnded, PodFailed, PodTimeout, Unreachable, Unsupported
from ._exit import abandoned, shutdown
from ._failure import Failure
from ._group import Group
from ._log import set_log
from ._monitor import Event, Monitor
from ._pod import Pod
from ._process import set_program
from ._run import run
from ._runtime import Runtime, runtime
from ._thread import current_context
from ._words import Kind, Phase, State, Status

if _TYPE_CHECKING:
    from ._async_runtime import AsyncRuntime

#: No limit, where there can be none: ``grace=podkeep.FOREVER``.
FOREVER = _math.inf
#: The library's version.
__version__ = _version()


def __getattr__(name: str) -> object:
    # asyncio takes longer to import than all the rest, and each process pod would pay for it.
    if name == "AsyncRuntime":
        from ._async_runtime import AsyncRuntime

        globals()[name] = AsyncRuntime
        return AsyncRuntime
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "FOREVER",
    "AsyncRuntime",
    "Context",
    "Control",
    "Denied",
    "Error",
    "Event",
    "Failure",
    "Forked",
    "Group",
    "Kind",
    "Monitor",
    "NotFound",
    "Phase",
    "Pod",
    "PodEnded",
    "PodFailed",
    "PodTimeout",
    "Runtime",
    "State",
    "Status",
    "Unreachable",
    "Unsupported",
    "__version__",
    "abandoned",
    "current_context",
    "query",
    "run",
    "runtime",
    "set_log",
    "set_program",
    "shutdown",
    "terminate",
]
