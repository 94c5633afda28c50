"""How the child finds a class: what arrives, and what is refused before anything is started."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import types

import pytest
import runtimes
from conftest import LIMIT, PROGRAMS, Idle, children

import podkeep
from podkeep import Pod, Status


def refused(runtime, *args, **kwargs):
    """The sentence by which a process pod is refused, when it is made."""
    with pytest.raises(podkeep.Error) as caught:
        Pod(runtime, args=args, kwargs=kwargs, host="process")
    assert caught.value.status is Status.INVALID_ARGUMENT and not children()
    said = str(caught.value)
    assert said.startswith(f"{runtime.__qualname__} cannot run in a process: ") and "host='thread'" in said
    assert "\n" not in said
    return said


def test_a_class_of_a_function_is_refused():
    class Local(podkeep.Runtime):
        def run_forever(self, ctx):
            pass

    assert "inside a function" in refused(Local)


def test_a_lambda_is_refused():
    assert "inside a function" in refused(podkeep.runtime(lambda ctx: None))


Moved = type("Moved", (podkeep.Runtime,), {"run_forever": lambda self, ctx: None, "__qualname__": "Idle"})
Gone = type("Gone", (podkeep.Runtime,), {"run_forever": lambda self, ctx: None, "__qualname__": "Nowhere"})


def plain(ctx):
    pass


def test_a_name_that_leads_elsewhere_is_refused():
    assert "test_process_found.Idle is something else" in refused(Moved)
    assert "test_process_found.Nowhere is nothing" in refused(Gone)
    # The function has kept its name: decorate it where it is defined.
    assert "test_process_found.plain is something else" in refused(podkeep.runtime(plain))


def test_a_module_that_cannot_be_imported_is_refused(tmp_path, monkeypatch):
    made = types.ModuleType("made_by_hand")
    exec("import podkeep\nclass Web(podkeep.Runtime):\n    def run_forever(self, ctx): pass\n", made.__dict__)
    monkeypatch.setitem(sys.modules, "made_by_hand", made)
    assert "cannot import its module, 'made_by_hand'" in refused(made.Web)

    (tmp_path / "loaded_by_path.py").write_text("import podkeep\n@podkeep.runtime\ndef web(ctx): pass\n")
    spec = importlib.util.spec_from_file_location("loaded_by_path", tmp_path / "loaded_by_path.py")
    loaded = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "loaded_by_path", loaded)
    spec.loader.exec_module(loaded)
    assert "cannot import its module, 'loaded_by_path'" in refused(loaded.web)


def test_a_module_that_only_sys_path_leads_to_arrives(tmp_path, monkeypatch):
    package = tmp_path / "only_here"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("import podkeep\n@podkeep.runtime\ndef web(ctx): raise KeyError('from part')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from only_here import part

    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(part.web, host="process", cwd="/").start(wait=False).join()
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    "args, kwargs, named",
    [
        ((1, threading.Lock()), {}, "args[1]"),
        ((), {"good": 1, "call": lambda: None}, "kwargs['call']"),
    ],
    ids=["args", "kwargs"],
)
def test_arguments_that_do_not_pickle_are_refused_by_name(args, kwargs, named):
    said = refused(runtimes.Idle, *args, **kwargs)
    assert f"{named} cannot be pickled" in said and "__init__" in said


def test_an_argument_that_pickles_and_does_not_come_back_is_a_failure_of_init():
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(runtimes.returns, args=(runtimes.Stubborn(1, 2),), host="process").start()
    assert caught.value.phase is podkeep.Phase.INIT and isinstance(caught.value.__cause__, TypeError)


def test_what_is_refused_for_a_process_runs_in_a_thread():
    with Pod(podkeep.runtime(lambda ctx: ctx.wait() and None)):
        pass


# --- programs ---------------------------------------------------------------------------------------------------------


def run(*words, text=None, **options):
    ran = subprocess.run(
        [sys.executable, *map(str, words)], input=text, capture_output=True, text=True, timeout=2 * LIMIT, **options
    )
    return ran.returncode, ran.stdout.splitlines(), ran.stderr


def test_a_class_of_a_script(tmp_path):
    code, lines, err = run(PROGRAMS / "script.py", "one", "two", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert lines == [
        "Web: __mp_main__ ['one', 'two'] ('argument',) in the main thread",
        "Boom of __main__: torn",
        "function: Point(3)",
        "stopped",
    ]


def test_a_class_of_a_module_that_is_run_with_m():
    assert run("-m", "programs.script", "x", cwd=str(PROGRAMS.parent))[:2] == (
        0,
        [
            "Web: __mp_main__ ['x'] ('argument',) in the main thread",
            "Boom of __main__: torn",
            "function: Point(3)",
            "stopped",
        ],
    )


def test_interpreter_flags_are_handed_on(tmp_path):
    (tmp_path / "flags.py").write_text(
        """
import sys, podkeep
@podkeep.runtime
def shows(ctx):
    print(sys.flags.optimize, sys.flags.dev_mode, "one" in sys._xoptions, [w for w in sys.warnoptions if "Import" in w])
if __name__ == "__main__":
    podkeep.Pod(shows, host="process").start(wait=False).join()
"""
    )
    code, lines, err = run("-OO", "-X", "dev", "-W", "ignore::ImportWarning", tmp_path / "flags.py")
    assert (code, lines) == (0, ["2 True False ['ignore::ImportWarning']"]), err


UNGUARDED = """
import podkeep
class Web(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
with podkeep.Pod(Web, host="process"):
    print("up")
"""


@pytest.mark.parametrize(
    "text",
    [
        UNGUARDED,
        UNGUARDED.replace('with podkeep.Pod(Web, host="process"):', 'for pod in [podkeep.Pod(Web, host="process").start()]:'),
        UNGUARDED.replace("podkeep.Pod(Web", "podkeep.Pod.command('true') if __name__ != '__main__' else podkeep.Pod(Web"),
        UNGUARDED.replace('with podkeep.Pod(Web, host="process"):', "podkeep.run(Web, host='process')\nif True:"),
    ],
    ids=["with", "start", "command", "run"],
)
def test_a_program_without_the_guard_is_told_so(program, text):
    ran = program(text).end()
    assert ran.code == 1 and ran.lines == []
    said = "podkeep._errors.Error: the program starts a pod while its main module is imported anew in a child process"
    assert said in ran.err and 'under `if __name__ == "__main__":`' in ran.err
    assert "PodFailed: pod 'Web' failed in init" in ran.err


def test_a_program_without_the_guard_that_only_makes_a_pod_runs(program):
    ran = program(
        """
import podkeep
@podkeep.runtime
def web(ctx):
    print("in the child", __name__, flush=True)
pod = podkeep.Pod(web, host="process")
if __name__ == "__main__":
    pod.start(wait=False).join()
"""
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["in the child __mp_main__"], "")


def test_a_main_module_that_fails_when_it_is_imported_anew_is_a_failure_of_init(program):
    ran = program(
        """
import podkeep
@podkeep.runtime
def web(ctx):
    pass
if __name__ == "__main__":
    try:
        podkeep.Pod(web, host="process").start()
    except podkeep.PodFailed as error:
        print(error.phase, repr(error.__cause__))
else:
    raise RuntimeError("not again")
"""
    ).end()
    assert (ran.code, ran.lines) == (0, ["init RuntimeError('not again')"]), ran.err


REFUSED = """
import podkeep
class Web(podkeep.Runtime):
    def run_forever(self, ctx):
        pass

try:
    podkeep.Pod(Web, host="process")
except podkeep.Error as error:
    print(error)

"""


@pytest.mark.parametrize("words, text", [(["-c", REFUSED], None), (["-"], REFUSED), (["-i", "-q"], REFUSED)], ids=str)
def test_a_class_of_a_command_line_or_a_session_is_refused(words, text):
    code, lines, err = run(*words, text=text)
    assert code == 0, err
    assert "Web cannot run in a process: it is defined in an interactive session, a notebook or a command line" in lines[0]


def test_a_class_of_a_main_file_of_a_package_is_refused(tmp_path):
    package = tmp_path / "thing"
    package.mkdir()
    (package / "__main__.py").write_text(REFUSED)
    for words in (["-m", "thing"], [package]):
        code, lines, err = run(*words, cwd=tmp_path)
        assert code == 0 and "__main__.py, which is not imported anew" in lines[0], (lines, err)


def test_the_hosts_start_method_is_not_settled(program):
    ran = program(
        """
import multiprocessing, podkeep, runtimes
if __name__ == "__main__":
    with podkeep.Pod(runtimes.Idle, host="process"):
        multiprocessing.set_start_method("spawn")
""",
        PYTHONPATH=os.pathsep.join([str(PROGRAMS.parent), os.environ.get("PYTHONPATH", "")]),
    ).end()
    assert (ran.code, ran.err) == (0, "")


def test_podkeep_is_found_where_the_host_has_found_it_and_not_in_the_current_directory(tmp_path, program):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("podkeep", "pickle", "ctypes"):
        (elsewhere / f"{name}.py").write_text("raise RuntimeError('from the current directory')")
    place = os.path.dirname(podkeep.__file__)
    ran = program(
        f"""
import os, sys
sys.path.insert(0, {os.path.dirname(place)!r})
import podkeep
@podkeep.runtime
def web(ctx):
    print(os.path.dirname(podkeep.__file__))
if __name__ == "__main__":
    podkeep.Pod(web, host="process", cwd={str(elsewhere)!r}).start(wait=False).join()
""",
        PYTHONPATH="",
    ).end()
    assert (ran.code, ran.lines) == (0, [place]), ran.err


def test_a_child_that_nobody_started_says_so():
    code, lines, err = run("-c", "from podkeep._child import main; main(False)", "web")
    assert code == 1 and "no pod has started it" in err and "Traceback" not in err


def test_Idle_of_the_tests_helper_module_arrives():
    with Pod(Idle, host="process"):
        pass
