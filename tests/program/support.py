"""What the cases share: processes that are started, watched and never left behind."""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time

# Makes every limit longer, for machines and tools that are slow.
SLOW = int(os.environ.get("PODKEEP_TEST_SLOW", "1"))
LIMIT = 30 * SLOW
STAGE = pathlib.Path(os.environ.get("STAGE", "build/stage")).resolve()
BUILD = pathlib.Path(os.environ.get("BUILD", "build/program")).resolve()
PROGRAM = str(STAGE / "bin" / "podkeep")


class Skip(Exception):
    """This machine does not allow the case; the reason is printed."""


class Late(Exception):
    """A limit has passed."""


_started = []


def track(process):
    """Has a Popen ended with its case."""
    _started.append(process)
    return process


def start(*argv, **options):
    """A process with pipes for its output."""
    options.setdefault("stdin", subprocess.DEVNULL)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return track(subprocess.Popen([str(a) for a in argv], **options))


def podkeep(*argv, **options):
    return start(PROGRAM, *argv, **options)


class Ended:
    """How a process ended, and what it had said."""

    def __init__(self, process, limit=LIMIT):
        out, err = process.communicate(timeout=limit)
        self.code = process.returncode
        self.out = (out or b"").decode(errors="replace")
        self.err = (err or b"").decode(errors="replace")

    def __repr__(self):
        return f"code {self.code}, stdout {self.out!r}, stderr {self.err!r}"


def run(*argv, **options):
    return Ended(podkeep(*argv, **options))


def line(process, limit=LIMIT):
    """The next line of its stdout, without reading further: what follows stays for communicate()."""
    read = bytearray()
    end = time.monotonic() + limit
    fd = process.stdout.fileno()
    while not read.endswith(b"\n"):
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise Late(f"no line from {process.args} within {limit} s; so far {bytes(read)!r}")
        byte = os.read(fd, 1)
        if not byte:
            raise AssertionError(f"{process.args} closed its stdout after {bytes(read)!r}: {Ended(process)}")
        read += byte
    return read.decode().rstrip("\n")


def until(condition, what, limit=LIMIT):
    """Waits for what cannot be waited for otherwise (another process's state): looks every 5 ms."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(f"not within {limit} s: {what}")
        time.sleep(0.005)


def wait(pid, limit=LIMIT):
    """The wait status of a child, or of an orphan that this process has taken over."""
    return until(lambda: _reap(pid), f"the end of process {pid}", limit)[1]


def _reap(pid):
    try:
        reaped = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # Not yet this process's: its parent has not ended, or the kernel is about to hand it over.
        if not alive(pid):
            raise AssertionError(f"process {pid} was reaped by somebody else") from None
        return None
    return reaped if reaped[0] else None


def alive(pid):
    """Whether there is such a process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def status(pid, field):
    """A field of /proc/PID/status; "" when there is none any more."""
    try:
        for entry in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if entry.startswith(field + ":"):
                return entry.split(":", 1)[1].strip()
    except (FileNotFoundError, ProcessLookupError):
        pass
    return ""


def children(of=None):
    """The processes whose parent is this one, or `of`."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit() and status(entry.name, "PPid") == str(of or os.getpid()):
            found.append(int(entry.name))
    return found


def end_all():
    """Ends what the case has started; a case that failed must not disturb the next."""
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


def group_alive(pgid):
    """Whether the group has a process that has not ended. What this process has inherited of it is reaped on the way."""
    try:
        while os.waitpid(-pgid, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    return True


def strays():
    """What the case has left behind, as this process's children; killed and reaped."""
    begin = time.monotonic()
    left = []
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return left
        for pid in children():
            name = status(pid, "Name")
            # A guardian stays up to 200 ms longer than its host, on purpose, and what it has just killed takes a moment to
            # end; that it does not stay for ever is judged here, too.
            if time.monotonic() - begin > (LIMIT if name.startswith("podkeep") else 10 * SLOW):
                left.append(f"{pid} ({name})")
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


class Forked:
    """A process made by fork that runs `body(tell)`; tell(value) passes something to the test, which get() reads."""

    def __init__(self, body):
        self.read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                signal.alarm(0)
                os.close(self.read)
                body(lambda value: os.write(write, json.dumps(value).encode() + b"\n"))
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(write)
        self._buffer = b""
        track(self)
        self.stdin = self.stdout = self.stderr = None

    def get(self, limit=LIMIT):
        while b"\n" not in self._buffer:
            if not select.select([self.read], [], [], limit)[0]:
                raise Late(f"no word from process {self.pid} within {limit} s")
            got = os.read(self.read, 65536)
            if not got:
                raise AssertionError(f"process {self.pid} ended without a word")
            self._buffer += got
        first, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(first)

    # As a Popen, for end_all.
    _status = None

    def poll(self):
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    def wait(self):
        if self._status is None:
            self._status = wait(self.pid)
        if self.read is not None:
            os.close(self.read)
            self.read = None
        return self._status
