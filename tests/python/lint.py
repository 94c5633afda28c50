"""Checks the types of the package, the examples and its users' view with mypy --strict, pinned, in build/venv-mypy.

Last line: N passed, N failed.
"""

from __future__ import annotations

import os
import subprocess
import sys

from run import BUILD, HERE, ROOT, interpreters, version_of, virtualenv

SOURCES = [
    ROOT / "bindings/python/src/podkeep",
    ROOT / "examples/python/http_server.py",
    ROOT / "examples/python/asyncio_server.py",
    ROOT / "examples/python/process_server.py",
    ROOT / "examples/python/main_process.py",
    ROOT / "examples/python/group.py",
    ROOT / "examples/python/control.py",
    HERE / "programs/typed.py",
]


def main() -> int:
    # mypy itself may want a newer Python than the oldest that the package supports.
    python = max(interpreters(), key=version_of)
    inside = virtualenv(python, version_of(python), HERE / "requirements-lint.txt", "venv-mypy")
    failed = 0
    for source in SOURCES:
        for target in ("3.9", "3.13"):
            command = [str(inside), "-m", "mypy", "--strict", "--python-version", target]
            command += ["--cache-dir", str(BUILD / "python/mypy"), str(source)]
            env = {**os.environ, "MYPYPATH": str(ROOT / "bindings/python/src")}
            ran = subprocess.run(command, env=env, capture_output=True, text=True)
            said = "good"
            if ran.returncode != 0:
                failed += 1
                said = ran.stdout + ran.stderr
            print(f"mypy --strict {source.relative_to(ROOT)} (Python {target}): {said.rstrip()}")
    print(f"{2 * len(SOURCES) - failed} passed, {failed} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
