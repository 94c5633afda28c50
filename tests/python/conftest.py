"""What the tests share: a world that must be clean after each of them, and programs run in an interpreter of their own."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import podkeep
from podkeep import _kept

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROGRAMS = HERE / "programs"
#: A safety net, not a measurement.
LIMIT = 60.0
#: Soon enough for one answer, whatever the machine does: the waits that are interrupted last longer, or for ever.
PROMPT = 5.0
#: What is promised of a Ctrl-C.
ANSWERED = 0.2

# A shell without job control starts what it puts in the background with SIGINT ignored, and programs inherit that: then
# Python answers no Ctrl-C. What is handled here is the default in the programs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def until(true, limit=LIMIT, what="it"):
    """Looks again and again: for what has no event to wait for."""
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, f"{what} did not come true in {limit} s"
        time.sleep(0.002)


def status_of(pid):
    """State, parent and group of a process; None: it is gone."""
    try:
        after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return after[0], int(after[1]), int(after[2])


def alive(pid):
    """It runs: neither gone nor a zombie."""
    found = status_of(pid)
    return found is not None and found[0] not in "ZX"


def children(pid=None):
    """The processes whose parent this one is, zombies too."""
    mine = pid or os.getpid()
    found = {int(name): status_of(name) for name in os.listdir("/proc") if name.isdigit()}
    return [number for number, status in found.items() if status is not None and status[1] == mine]


def content(path):
    """What a file says, once it is there and says anything."""
    until(lambda: path.exists() and path.stat().st_size, what=str(path))
    return path.read_text()


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def is_open(fd):
    return os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.fixture(autouse=True, scope="session")
def warm():
    """The library's lasting threads, descriptors and guardian are there before the first test counts."""
    with podkeep.Pod(Idle) as pod, podkeep.Monitor(pod) as monitor:
        monitor.fileno()
    with podkeep.Pod.command("sleep", "3600"):
        pass


@pytest.fixture(autouse=True)
def clean_world(warm):
    before = descriptors()
    yield

    def clean():
        gc.collect()
        _kept.home._sweep_at = 0
        _kept.home.sweep()
        return not _kept.home.table and descriptors() <= before and not children()

    end = time.monotonic() + LIMIT
    while not clean():
        assert time.monotonic() < end, (
            f"left: {_kept.home.table}, {descriptors() - before} descriptors, children {children()}"
        )
        time.sleep(0.01)


class Idle(podkeep.Runtime):
    """Does nothing until it is cancelled."""

    def run_forever(self, ctx):
        ctx.wait()


@pytest.fixture
def idle():
    return Idle


@pytest.fixture
def interrupted():
    """Calls a wait in this, the main, thread, and sends SIGINT a little later; returns how long the answer took.

    Time in which the machine had no processor for this thread, or for the one that sends, is not the answer's. ``when``: an
    event that comes first.
    """

    # Open from here on: a test may leave no descriptor to be had.
    schedule = os.open(f"/proc/self/task/{os.getpid()}/schedstat", os.O_RDONLY)

    def kept_waiting():
        """How long the main thread could have run and was given no processor, by the kernel's count."""
        return int(os.pread(schedule, 100, 0).split()[1]) / 1e9

    def run(wait, after, when=None):
        sent = []

        def send():
            assert when is None or when.wait(60)
            time.sleep(after)  # any moment will do; several are tried, in and around the system call
            waited = kept_waiting()
            os.kill(os.getpid(), signal.SIGINT)
            # Not before the signal: this thread may be kept from sending it. Nor with a read in between, which gives the
            # interpreter away.
            sent.append(time.monotonic() - waited)

        sender = threading.Thread(target=send)
        with pytest.raises(KeyboardInterrupt):
            sender.start()
            wait()
        answered = time.monotonic() - kept_waiting()
        sender.join()
        return answered - sent[0]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield run
    signal.signal(signal.SIGINT, before)
    os.close(schedule)


class Ran:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self):
        return self.out.splitlines()


class Program:
    """A program of its own; always ended when the test is over."""

    def __init__(self, path, *arguments, **variables):
        env = dict(os.environ, PYTHONFAULTHANDLER="1", **variables)
        env.pop("PYTHONHASHSEED", None)
        self.child = subprocess.Popen(
            [sys.executable, str(path), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            cwd=str(HERE),
            # Ctrl-C for the tests is not for it, nor the other way round.
            start_new_session=True,
        )

    def line(self):
        late = threading.Timer(LIMIT, self.kill_all)
        late.start()
        line = self.child.stdout.readline()
        late.cancel()
        late.join()
        return line.rstrip("\n")

    def interrupt(self):
        self.child.send_signal(signal.SIGINT)

    def end(self, limit=LIMIT):
        out, err = self.child.communicate(timeout=limit)
        return Ran(self.child.returncode, out, err)

    def kill_all(self):
        """With its session, of its own: a child that it forked would keep the pipes open, though it has ended itself."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def kill(self):
        self.kill_all()
        self.child.communicate(timeout=LIMIT)


@pytest.fixture
def program(tmp_path):
    """Runs a program: a name in programs/, a path, or its text."""
    made = []

    def start(source, *arguments, **variables):
        path = PROGRAMS / source
        if "\n" in str(source):
            path = tmp_path / f"program{len(made)}.py"
            path.write_text(source)
        made.append(Program(path, *arguments, **variables))
        return made[-1]

    yield start
    for one in made:
        one.kill()


# --- for run.py: what was counted, in a file ------------------------------------------------------------------------

_counts = {"passed": 0, "failed": 0, "skipped": 0}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        _counts["failed" if report.failed else report.outcome] += 1


def pytest_sessionfinish(session, exitstatus):
    path = os.environ.get("PODKEEP_TEST_COUNTS")
    if path:
        if not session.testscollected or session.testsfailed < 0:
            _counts["failed"] += 1
        Path(path).write_text(json.dumps(_counts))
