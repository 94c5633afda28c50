"""What a Python runtime's own process is started with, and what makes it the same program there.

The child is this interpreter, started anew as multiprocessing's spawn does it: the host's sys.path, and the main module
imported once more under another name. The class goes by its module and qualified name, the arguments pickled; what could
not arrive is refused here, before anything is started.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, Dict, List, Mapping, NoReturn, Sequence, Type, Union

from . import _abi, _errors
from ._runtime import Runtime
from ._words import Status

#: Set in a pod's process while the main module is imported anew.
importing = False

_MAIN = ("__main__", "__mp_main__")
_THREAD = "or keep it in a thread, host='thread'"


def refuse_while_importing() -> None:
    """Called before a process is started: a program without the guard would start itself without end."""
    if _importing():
        raise _errors.Error(
            "the program starts a pod while its main module is imported anew in a child process: put what it does as a "
            'program under `if __name__ == "__main__":`',
            Status.INVALID_STATE,
        )


def _importing() -> bool:
    """Whether this process is a child, of ours or multiprocessing's, that is importing its main module."""
    process = sys.modules.get("multiprocessing.process")
    return importing or (process is not None and getattr(process.current_process(), "_inheriting", False))


def command(runtime: Type[Runtime], name: str) -> List[bytes]:
    """The child's argument vector."""
    if not sys.executable or getattr(sys, "frozen", False):
        _refuse(runtime, f"there is no Python interpreter to start (sys.executable is {sys.executable!r}); keep it in a thread")
    from subprocess import _args_from_interpreter_flags as flags  # type: ignore[attr-defined]

    # The current directory is not the host's place to import from, but the package's own place is, wherever that is.
    place = ascii(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (
        f"import sys; sys.path = list(filter(None, sys.path)); {place} in sys.path or sys.path.insert(0, {place}); "
        f"from podkeep._child import main; main({runtime._driver((), {}).hooked})"
    )
    # The name at the end is what the child exports; whoever lists processes reads it, too.
    return [os.fsencode(word) for word in (sys.executable, *flags(), "-c", code)] + [_abi.utf8("name", name)]


def payload(runtime: Type[Runtime], args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> bytes:
    """What the child reads: how to become this program, which class, and its arguments for later."""
    main = _main()
    _refuse_lost(runtime, main)
    arguments = tuple(args), dict(kwargs)
    try:
        pickled = pickle.dumps(arguments, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        _refuse(runtime, f"{_culprit(*arguments)} cannot be pickled ({error}): let it be made in __init__, {_THREAD}", error)
    preparation = _preparation(name)
    preparation.update(main)
    return pickle.dumps((preparation, runtime.__module__, runtime.__qualname__, pickled), pickle.HIGHEST_PROTOCOL)


def find(module: str, qualname: str) -> Any:
    """What stands there, of a module that is imported; AttributeError or KeyError when nothing does."""
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _refuse(runtime: Type[Runtime], why: str, error: "BaseException | None" = None) -> NoReturn:
    said = f"{runtime.__qualname__} cannot run in a process: {why}"
    raise _errors.Error(said, Status.INVALID_ARGUMENT) from error


def _culprit(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Which argument it is."""
    named = [(f"args[{number}]", value) for number, value in enumerate(args)]
    for what, value in named + [(f"kwargs[{key!r}]", value) for key, value in kwargs.items()]:
        try:
            pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        except Exception:
            return what
    return "args and kwargs"


def _preparation(name: str) -> Dict[str, Any]:
    """As multiprocessing.spawn.get_preparation_data, which would also settle the host's start method for good."""
    from multiprocessing import get_start_method, process

    here = os.getcwd()
    data: Dict[str, Any] = {
        "name": name,
        "authkey": bytes(process.current_process().authkey),
        # The child may be started elsewhere.
        "sys_path": [os.path.join(here, place) if place else here for place in sys.path],
        "sys_argv": list(sys.argv),
    }
    method = get_start_method(allow_none=True)
    if method is not None:
        data["start_method"] = method
    return data


def _main() -> Dict[str, str]:
    """How the child imports the main module: by name, or by path, or, when it has neither, not at all."""
    # While it is imported anew the program's main module has the other name, and only that.
    main = sys.modules.get("__mp_main__" if _importing() else "__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    # Standard input calls itself a file; an interactive session may have the file of its own program.
    if not path or not os.path.isfile(path) or (hasattr(sys, "ps1") and not sys.flags.interactive):
        return {}
    return {"init_main_from_path": os.path.abspath(path)}


def _refuse_lost(runtime: Type[Runtime], main: Dict[str, str]) -> None:
    """Refuses a class that its name would not lead to in the child."""
    module, qualname = runtime.__module__, runtime.__qualname__
    if "<" in qualname:
        _refuse(runtime, f"it is defined inside a function, where a child cannot find it: define it in a module, {_THREAD}")
    if module in _MAIN:
        path = main.get("init_main_from_path", "")
        if not main or os.path.splitext(os.path.basename(path))[0] == "ipython":
            what = "an interactive session, a notebook or a command line, which a child cannot import"
            _refuse(runtime, f"it is defined in {what}: put it into a module and import that, {_THREAD}")
        if main.get("init_main_from_name", "").rpartition(".")[2] == "__main__":
            _refuse(runtime, f"it is defined in a __main__.py, which is not imported anew: put it into another module, {_THREAD}")
    elif not _importable(module):
        _refuse(runtime, f"a child cannot import its module, {module!r}: put it into one that sys.path leads to, {_THREAD}")
    try:
        found = find(module, qualname)
    except (AttributeError, KeyError):
        found = None
    if found is not runtime:
        other = "nothing" if found is None else "something else"
        _refuse(runtime, f"{module}.{qualname} is {other}: let that name be the class, {_THREAD}")


def _importable(module: str) -> bool:
    """Whether the import system finds it; a module may have been made or loaded by other means."""
    parent, dot, _ = module.rpartition(".")
    path = getattr(sys.modules.get(parent), "__path__", []) if dot else None
    for finder in list(sys.meta_path):
        try:
            if finder.find_spec(module, path) is not None:
                return True
        except Exception:
            # A finder of somebody's that does not work this way: no reason to refuse.
            return True
    return False


def set_program(path: "Union[str, os.PathLike[str], None]") -> None:
    """Where the ``podkeep`` program is, which watches over process pods; None: it is looked for again.

    It is found in ``PODKEEP_PROGRAM``, beside the library (the package carries it there), or on ``PATH``.
    """
    _errors.check(_abi.lib.podkeep_set_program(None if path is None else _abi.raw("path", path)))
