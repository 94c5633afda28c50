"""Runs the Python tests in each interpreter, in a virtualenv of its own: python run.py [PYTHON ...]

Without arguments: the CPythons from 3.9 on that pyenv has, else the one that runs this. The virtualenvs are
build/venv-<version>; pytest and what it needs are installed there as requirements.txt pins them, and nothing else. The library and
the package are those of the tree (PODKEEP_LIBRARY, PYTHONPATH). Last line: N passed, N failed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build"
STAGE = Path(os.environ.get("STAGE", BUILD / "stage"))


def version_of(python: str) -> "tuple[int, ...]":
    """Of a CPython that works; empty for anything else."""
    ask = "import sys, ssl; print(*sys.version_info[:2]) if sys.implementation.name == 'cpython' else None"
    ran = subprocess.run([python, "-c", ask], capture_output=True, text=True)
    return tuple(map(int, ran.stdout.split())) if ran.returncode == 0 else ()


def interpreters() -> "list[str]":
    """The newest patch release of each minor version that pyenv has, else our own."""
    found: "dict[tuple[int, ...], str]" = {}
    pyenv = shutil.which("pyenv")
    root = os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")
    if pyenv:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True).stdout.strip() or root
    # Older patch releases first, so that the newest stays.
    pythons = Path(root, "versions").glob("3.*/bin/python")
    for python in sorted(pythons, key=lambda path: [int(part) for part in path.parts[-3].split(".") if part.isdigit()]):
        version = version_of(str(python))
        if version >= (3, 9):
            found[version] = str(python)
    return [found[version] for version in sorted(found)] or [sys.executable]


def virtualenv(python: str, version: "tuple[int, ...]", requirements: Path, name: str = "") -> Path:
    """Makes it, or takes the one that is there when it has what is asked for."""
    place = BUILD / (name or "venv-{}.{}".format(*version))
    stamp = place / "requirements.sha256"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    inside = place / "bin/python"
    if not (stamp.exists() and stamp.read_text() == wanted and version_of(str(inside)) == version):
        names = " ".join(line.partition(";")[0] for line in requirements.read_text().splitlines())
        print(f"   {place.relative_to(ROOT)}: installing {names}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", str(place)], check=True)
        install = [str(inside), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(requirements)]
        subprocess.run(install, check=True)
        stamp.write_text(wanted)
    return inside


def main() -> int:
    pythons = sys.argv[1:] or interpreters()
    env = dict(os.environ)
    env.setdefault("PODKEEP_LIBRARY", str(STAGE / "lib/libpodkeep.so.0"))
    env["PYTHONPATH"] = str(ROOT / "bindings/python/src")
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    total = {"passed": 0, "failed": 0, "skipped": 0}
    last = len(pythons) - 1
    for at, python in enumerate(pythons):
        version = version_of(python)
        if not version:
            print(f"{python} is no CPython that works")
            total["failed"] += 1
            continue
        inside = virtualenv(python, version, HERE / "requirements.txt")
        print("-- Python {}.{}: {}".format(*version, python), flush=True)
        with tempfile.TemporaryDirectory() as place:
            counts = Path(place, "counts.json")
            env["PODKEEP_TEST_COUNTS"] = str(counts)
            # The package is built once, in the last interpreter; its wheel is then tried in all of them.
            env["PODKEEP_TEST_PACKAGE"] = os.pathsep.join(pythons) if at == last else ""
            command = [str(inside), "-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider"]
            command += ["-o", "faulthandler_timeout=600", str(HERE)]  # where a test hangs that has no limit of its own
            code = subprocess.run(command, env=env, cwd=HERE).returncode
            counted = json.loads(counts.read_text()) if counts.exists() else {"failed": 1}
        if code != 0 and not counted["failed"]:
            counted["failed"] = 1
        for word, number in counted.items():
            total[word] += number
    print("{passed} passed, {failed} failed{}".format(f", {total['skipped']} skipped" if total["skipped"] else "", **total))
    return bool(total["failed"] or not total["passed"])


if __name__ == "__main__":
    sys.exit(main())
