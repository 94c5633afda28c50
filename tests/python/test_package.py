"""Packaging: what `pip install ./bindings/python` builds and carries. Once a run, not once an interpreter: it runs cargo."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import HERE, ROOT

PYTHONS = [python for python in os.environ.get("PODKEEP_TEST_PACKAGE", "").split(os.pathsep) if python]
PACKAGE = ROOT / "bindings/python"
#: What builds the package, pinned.
BUILDERS = HERE / "requirements-build.txt"
#: Unset, so that the package must do by itself.
ALONE = ("PODKEEP_LIBRARY", "PODKEEP_PROGRAM", "PYTHONPATH")
#: cargo may have all to build.
LIMIT = 900

pytestmark = pytest.mark.skipif(not PYTHONS, reason="PODKEEP_TEST_PACKAGE names no interpreters")

USE = """
import podkeep, sys
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
with podkeep.Pod(Idle) as pod:
    pass
print(podkeep.__version__, pod.state, podkeep._abi.path_of_library())
"""

PROCESS = """
import os, podkeep
@podkeep.runtime
def web(ctx, *args):
    print("in a process of its own:", args, os.path.basename(os.path.dirname(podkeep.__file__)), flush=True)
    ctx.wait()
if __name__ == "__main__":
    with podkeep.Pod(web, args=(1, "two"), host="process") as pod:
        assert pod.id != os.getpid()
    with podkeep.Pod.command("sleep", "3600"):
        pass
    print(pod.state)
"""


def run(*command, **variables):
    env = {name: value for name, value in os.environ.items() if name not in ALONE}
    env.update({"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_CONSTRAINT": str(BUILDERS), **variables})
    ran = subprocess.run([str(word) for word in command], env=env, capture_output=True, text=True, timeout=LIMIT)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def crate_version():
    for line in (ROOT / "Cargo.toml").read_text("utf-8").splitlines():
        if line.startswith("version"):
            return line.split('"')[1]
    raise AssertionError("no version in Cargo.toml")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def installed(place):
    """A virtualenv in which the command of the README was run."""
    run(sys.executable, "-m", "venv", place / "venv")
    run(place / "venv/bin/python", "-m", "pip", "install", PACKAGE)
    return place / "venv/bin/python"


@pytest.fixture(scope="module")
def wheel(place):
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", place / "dist", PACKAGE)
    (made,) = (place / "dist").iterdir()
    return made


def test_pip_install_builds_and_carries_the_library(installed):
    version, state, library = run(installed, "-c", USE).split()
    assert (version, state) == (crate_version(), "stopped")
    assert library.endswith("site-packages/podkeep/libpodkeep.so.0")


def test_the_program_is_beside_the_library_and_process_pods_run(installed, tmp_path):
    library = run(installed, "-c", USE).split()[-1]
    program = os.path.join(os.path.dirname(library), "podkeep")
    assert os.access(program, os.X_OK)
    (tmp_path / "program.py").write_text(PROCESS)
    # Nothing else to be found: not on PATH either.
    said = run(installed, tmp_path / "program.py", PATH="/usr/bin:/bin").splitlines()
    assert said == ["in a process of its own: (1, 'two') podkeep", "stopped"]


def test_an_example_runs_from_the_installed_package(installed):
    child = subprocess.Popen(
        [str(installed), str(ROOT / "examples/python/http_server.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name not in ALONE},
    )
    try:
        assert child.stdout.readline().startswith("http://127.0.0.1:")
        child.terminate()
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.communicate()


def test_the_wheel_is_for_any_python_3_of_this_platform(wheel):
    name, version, python, abi, platform = wheel.name[: -len(".whl")].split("-")
    assert (name, version, python, abi) == ("podkeep", crate_version(), "py3", "none")
    assert platform.startswith("linux_")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"podkeep/libpodkeep.so.0", "podkeep/podkeep", "podkeep/py.typed"} <= set(names)
    assert zipfile.ZipFile(wheel).getinfo("podkeep/podkeep").external_attr >> 16 & 0o111 == 0o111
    assert not [name for name in names if not name.startswith(("podkeep/", f"podkeep-{version}.dist-info/"))]


@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: "-".join(python.split(os.sep)[-3:]))
def test_the_same_wheel_works_in_each_interpreter(wheel, tmp_path, python):
    # Debian's own has no pip; where the wheel goes another one's may put it as well.
    pip = python if subprocess.run([python, "-c", "import pip"], capture_output=True).returncode == 0 else sys.executable
    run(pip, "-m", "pip", "install", "--no-deps", "--target", tmp_path / "site", wheel)
    version, state, library = run(python, "-c", USE, PYTHONPATH=str(tmp_path / "site")).split()
    assert (version, state) == (crate_version(), "stopped") and library.startswith(str(tmp_path))
    (tmp_path / "program.py").write_text(PROCESS)
    said = run(python, tmp_path / "program.py", PYTHONPATH=str(tmp_path / "site")).splitlines()
    assert said == ["in a process of its own: (1, 'two') podkeep", "stopped"]


def test_the_sdist_brings_the_crate_and_builds(place):
    run(sys.executable, "-m", "venv", place / "tool")
    tool = place / "tool/bin/python"
    run(tool, "-m", "pip", "install", "--quiet", "-r", BUILDERS)
    command = [str(tool), "-m", "hatchling", "build", "-t", "sdist", "-d", str(place / "sdist")]
    subprocess.run(command, cwd=PACKAGE, check=True, timeout=LIMIT)
    (sdist,) = (place / "sdist").iterdir()
    names = {name.split("/", 1)[1] for name in tarfile.open(sdist).getnames() if "/" in name}
    assert {"crate/Cargo.toml", "crate/Cargo.lock", "crate/src/lib.rs", "src/podkeep/__init__.py", "hatch_build.py"} <= names
    # Another place, so another build; its parts stay for the next time.
    target = ROOT / "build/python/sdist-target"
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", place / "again", sdist]
    run(*command, CARGO_TARGET_DIR=str(target))
    (made,) = (place / "again").iterdir()
    assert made.name.startswith(f"podkeep-{crate_version()}-py3-none-linux_")
    assert {"podkeep/libpodkeep.so.0", "podkeep/podkeep"} <= set(zipfile.ZipFile(made).namelist())
