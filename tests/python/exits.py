"""Runs a program that ends with ten busy pods, again and again: python exits.py [--runs 100] [--jobs 2] [--how return]

A run counts when the program left with its own exit code, said nothing on stderr, and all ten teardowns ran. The
interpreter is the one that runs this.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = Path(__file__).resolve().parent / "programs/busy.py"
CODES = {"return": 0, "exit": 7, "forget": 0, "daemon": 0}
#: A run takes a fraction of a second; this is a safety net.
LIMIT = 60


def once(how: str) -> str:
    """Empty when all was as it should be, else what was not."""
    with tempfile.TemporaryDirectory() as place:
        marks = Path(place, "marks")
        try:
            command = [sys.executable, str(PROGRAM), how, str(marks)]
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"it hung for {LIMIT} s"
        teardowns = len(marks.read_bytes()) if marks.exists() else 0
    if (ran.returncode, teardowns, ran.stderr) == (CODES[how], 10, ""):
        return ""
    return f"exit code {ran.returncode}, {teardowns} of 10 teardowns, stderr {ran.stderr!r}"


def many(how: str, runs: int, jobs: int) -> "list[str]":
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(once, [how] * runs))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--how", choices=sorted(CODES), default="return")
    options = parser.parse_args()
    begun = time.monotonic()
    bad = [said for said in many(options.how, options.runs, options.jobs) if said]
    for said in bad:
        print(said)
    version = ".".join(map(str, sys.version_info[:3]))
    good = options.runs - len(bad)
    print(f"Python {version}, {options.how}: {good} of {options.runs} in {time.monotonic() - begun:.1f} s")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
