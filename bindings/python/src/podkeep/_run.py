"""run: a pod as the main process."""

from __future__ import annotations

import sys
from typing import Any, Mapping, Optional, Sequence, Type, Union

from . import _errors
from ._pod import Pod
from ._runtime import Runtime


def run(
    runtime: Union[Type[Runtime], Pod], args: Sequence[Any] = (), kwargs: Optional[Mapping[str, Any]] = None, **options: Any
) -> int:
    """Keeps a runtime in this very thread until it ends, as the main process of a container: the program's last line.

    Takes what ``Pod`` takes, or a Pod that was not started. SIGINT and SIGTERM cancel it; a second one, or the grace spent,
    ends the process at once with 128 + the signal's number (124 for a grace without a signal). Returns 0 after a clean
    end. After a failure it reports it as an uncaught exception is reported and raises SystemExit with the exit code: the
    failure's code if that is 1 to 255, else 1; 128 + n for a signal, 124 for a timeout, 127 for what could not be started.
    To go on afterwards, use ``Pod.run``.
    """
    if not isinstance(runtime, Pod):
        runtime = Pod(runtime, args, kwargs, **options)
    elif args or kwargs or options:
        raise TypeError("a Pod has its arguments and options already")
    code = runtime.run()
    # A pod that was cancelled between two lives has ended well, and still tells how the last one ended.
    if code != 0:
        failure = runtime.failure
        if failure is not None:
            error = _errors.PodFailed(failure)
            sys.excepthook(_errors.PodFailed, error, None)
        raise SystemExit(code)
    return code
