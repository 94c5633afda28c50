"""podkeep keeps any blocking procedure in a pod: it starts it, knows when it is ready, cancels it, and tells how it ended.

    class Web(podkeep.Runtime):
        def __init__(self, port): ...            # in the pod's thread
        def run_forever(self, ctx): ...          # blocks it
        def cancel(self): ...                    # optional: unblocks what cannot poll
        def teardown(self): ...                  # optional: always, when __init__ succeeded

    with podkeep.Pod(Web, args=(8080,), name="web", grace=5.0) as pod:
        pod.join()

All names are the contract's; times are in seconds.

When the program ends with pods running, by return, ``sys.exit``, an exception or Ctrl-C, they are cancelled, torn down and
joined within their graces before the interpreter goes (as with ``atexit``: after its non-daemon threads have ended). After
``os.fork()`` the child's copies of pods raise ``Forked``; it may make new ones.
"""

from __future__ import annotations

import math as _math

from ._abi import version as _version
from ._async_runtime import AsyncRuntime
from ._context import Context
from ._errors import Error, Forked, PodEnded, PodFailed, PodTimeout, Unsupported
from ._exit import abandoned, shutdown
from ._failure import Failure
from ._log import set_log
from ._monitor import Event, Monitor
from ._pod import Pod
from ._runtime import Runtime, runtime
from ._thread import current_context
from ._words import Kind, Phase, State, Status

#: No limit, where there can be none: ``grace=podkeep.FOREVER``.
FOREVER = _math.inf
#: The library's version.
__version__ = _version()

__all__ = [
    "FOREVER",
    "AsyncRuntime",
    "Context",
    "Error",
    "Event",
    "Failure",
    "Forked",
    "Kind",
    "Monitor",
    "Phase",
    "Pod",
    "PodEnded",
    "PodFailed",
    "PodTimeout",
    "Runtime",
    "State",
    "Status",
    "Unsupported",
    "__version__",
    "abandoned",
    "current_context",
    "runtime",
    "set_log",
    "shutdown",
]
