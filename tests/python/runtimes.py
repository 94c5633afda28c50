"""Runtimes for process pods: the child finds them here, by name."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import podkeep


class Boom(Exception):
    """Comes back as it went."""

    def __init__(self, text, number=0):
        super().__init__(text, number)
        self.number = number

    def __str__(self):
        return f"{self.args[0]} ({self.number})"


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("stays where it is")


class Stubborn(Exception):
    """Goes, and does not come back: what it is rebuilt from is not what __init__ takes."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class Idle(podkeep.Runtime):
    """Says where it is, for whoever asks by its status, and does nothing."""

    def run_forever(self, ctx):
        ctx.wait()


class Marks(podkeep.Runtime):
    """Writes each step to a file, as one line with its process and thread."""

    def __init__(self, path, raises="", wait=0.0):
        self.path, self.raises, self.wait = path, raises, wait
        # Here: the hook may come before run_forever has done anything.
        self.cancelled = threading.Event()
        self.mark("init")

    def mark(self, step):
        main = threading.current_thread() is threading.main_thread()
        with open(self.path, "a") as file:
            file.write(f"{step} {os.getpid()} {'main' if main else 'beside'}\n")
        if step == self.raises:
            raise Boom(step, 7)

    def run_forever(self, ctx):
        self.mark("run")
        self.cancelled.wait()

    def cancel(self):
        self.mark("cancel")
        self.cancelled.set()

    def teardown(self):
        time.sleep(self.wait)  # stands for work that takes its time
        self.mark("teardown")

    class Nested(podkeep.Runtime):
        def run_forever(self, ctx):
            ctx.wait()


class Raises(podkeep.Runtime):
    """Raises what it is given, in the step it is told."""

    def __init__(self, where, error):
        self.where, self.error = where, error
        self.at("init")

    def at(self, where):
        if where in self.where:
            raise self.error

    def run_forever(self, ctx):
        self.at("run")
        ctx.wait()

    def teardown(self):
        self.at("teardown")


@podkeep.runtime
def raises_unpicklable(ctx, kind):
    if kind == "local":

        class Local(Exception):
            pass

        raise Local("of a function")
    raise {"reduce": Unpicklable("as it is"), "rebuild": Stubborn(1, 2), "large": ValueError("x" * (3 << 20))}[kind]


@podkeep.runtime
def raises_from(ctx):
    try:
        {}["key"]
    except KeyError as error:
        raise Boom("outer", 3) from error


@podkeep.runtime
def returns(ctx, what):
    return what


@podkeep.runtime
def fails(ctx, code, message):
    return ctx.fail(code, message)


@podkeep.runtime
def reports(ctx, path, *args, **kwargs):
    """Writes what it finds about itself to a file."""
    import json

    found = {
        "args": args,
        "kwargs": kwargs,
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "argv": sys.argv,
        "path": sys.path,
        "name": ctx.name,
        "thread": threading.current_thread().name,
        "main": threading.current_thread() is threading.main_thread(),
        "process": multiprocessing.current_process().name,
        "stdin": os.readlink("/proc/self/fd/0"),
        "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
        "blocked": sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "incarnation": ctx.incarnation,
        "flags": [sys.flags.dev_mode, sys.flags.optimize],
    }
    with open(path, "w") as file:
        json.dump(found, file)


@podkeep.runtime
def dies(ctx, how, code):
    """Ends its process without a word."""
    if how == "exit":
        os._exit(code)
    os.kill(os.getpid(), code)
    ctx.wait()


class DiesInInit(podkeep.Runtime):
    def __init__(self, how, code):
        dies_at_once(how, code)

    def run_forever(self, ctx):
        raise AssertionError("never")


def dies_at_once(how, code):
    os._exit(code) if how == "exit" else os.kill(os.getpid(), code)


class SlowInit(podkeep.Runtime):
    def __init__(self, path):
        with open(path, "w") as file:
            file.write(str(os.getpid()))
        threading.Event().wait(3600)

    def run_forever(self, ctx):
        raise AssertionError("never")


class HogsTheGil(podkeep.Runtime):
    """C code that holds the GIL for ever; with a hook that can never run."""

    def run_forever(self, ctx):
        ctx.ready()
        ctypes.PyDLL(None).sleep(3600)

    def cancel(self):
        pass


class IgnoresAll(podkeep.Runtime):
    def __init__(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def run_forever(self, ctx):
        ctx.ready()
        while True:
            time.sleep(3600)


@podkeep.runtime
def ready_when_told(ctx, path):
    """Ready once the file is there."""
    while not os.path.exists(path):
        if ctx.wait(0.01):
            return
    ctx.ready()
    ctx.wait()


@podkeep.runtime
def talks(ctx):
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr)
    logging.getLogger("runtime").warning("to the log")
    ctx.wait()


@podkeep.runtime
def talks_and_dies(ctx, lines):
    for number in range(lines):
        print(f"line {number} of the child's last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGKILL)


@podkeep.runtime
def has_status(ctx):
    ctx.status("counting sheep")
    threading.Event().wait(3600)


@podkeep.runtime
async def ticks(ctx, every):
    while not ctx.cancelled:
        await asyncio.sleep(every)


class Loop(podkeep.AsyncRuntime):
    def __init__(self, path):
        self.path = path
        self.loop = asyncio.get_event_loop()

    async def run_forever(self, ctx):
        assert asyncio.get_running_loop() is self.loop
        ctx.ready()
        await ctx.cancelled_async()

    async def teardown(self):
        await asyncio.sleep(0)
        with open(self.path, "a") as file:
            file.write("torn down\n")


def square(number):
    return number * number


@podkeep.runtime
def multiprocesses(ctx, path, method):
    """Uses multiprocessing within the pod."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(square, range(10))
    with open(path, "w") as file:
        file.write(repr(found))


@podkeep.runtime
def starts_a_group(ctx, path):
    """Leaves children of all sorts behind, tells their numbers, and goes on."""
    sleeper = [sys.executable, "-S", "-c", "import time; time.sleep(3600)"]
    pids = [subprocess.Popen(sleeper).pid for _ in range(2)]
    with open(path + ".new", "w") as file:
        file.write(" ".join(map(str, pids)))
    os.rename(path + ".new", path)
    ctx.wait()


@podkeep.runtime
def keeps_a_pod(ctx, path):
    """A pod's process keeps pods of its own, in a thread and in a process."""
    with podkeep.Pod(Idle, host="process") as inner, podkeep.Pod(Idle) as thread:
        with open(path + ".new", "w") as file:
            file.write(f"{inner.id} {thread.state}")
        os.rename(path + ".new", path)
        ctx.wait()


@podkeep.runtime
def handles_signals(ctx, path):
    """Python's signal handlers work in a pod's process: it is the main thread."""

    def note(number, frame):
        with open(path, "a") as file:
            file.write("signal\n")

    signal.signal(signal.SIGUSR1, note)
    ctx.ready()
    ctx.wait()


@podkeep.runtime
def leaves_a_thread(ctx):
    """Returns with a thread that Python waits for at its exit."""
    threading.Thread(target=time.sleep, args=(0.2,)).start()


@podkeep.runtime
def exits_badly(ctx):
    """A clean end, and then an exit handler that spoils it."""
    import atexit

    atexit.register(os._exit, 9)


class FailsAtFirst(podkeep.Runtime):
    """Fails in its first lives, then stays; writes its life, its step, and how many lives this object has had."""

    def __init__(self, path, lives):
        self.path, self.lives = path, lives
        self.life = podkeep.current_context().incarnation
        self.count = 0
        self.mark("init")

    def mark(self, step):
        self.count += step == "init"
        with open(self.path, "a") as file:
            file.write(f"{self.life} {step} {self.count}\n")

    def run_forever(self, ctx):
        assert ctx.incarnation == self.life
        self.mark("run")
        if ctx.incarnation < self.lives:
            raise Boom("another time", ctx.incarnation)
        ctx.ready()
        ctx.wait()

    def teardown(self):
        self.mark("teardown")


def noted(path, what):
    with open(path, "a") as file:
        file.write(f"{what}\n")


@podkeep.runtime
def ends_at_first(ctx, path, lives):
    noted(path, ctx.incarnation)
    if ctx.incarnation >= lives:
        ctx.wait()


@podkeep.runtime
def dies_at_first(ctx, path, lives):
    noted(path, os.getpid())
    if ctx.incarnation < lives:
        os.kill(os.getpid(), signal.SIGKILL)
    ctx.wait()


@podkeep.runtime
async def fails_at_first_async(ctx, path, lives):
    noted(path, ctx.incarnation)
    if ctx.incarnation < lives:
        raise Boom("another time")
    await ctx.cancelled_async()


@podkeep.runtime
def beats(ctx, every):
    while not ctx.wait(every):
        ctx.heartbeat()


@podkeep.runtime
def forgets_to_beat(ctx, path):
    ctx.heartbeat()
    ctx.wait()
    with open(path, "w") as file:
        file.write("cancelled")
