"""The end of the interpreter with pods running: torn down, joined, its own exit code, no abort, no hang."""

from __future__ import annotations

import os
import signal
import sys
import time

import exits
import pytest


def marks(path):
    return path.read_bytes() if path.exists() else b""


@pytest.mark.parametrize(
    "how, code",
    [
        ("return", 0),
        ("exit", 7),
        ("raise", 1),
        ("forget", 0),
        ("daemon", 0),
        ("monitor", 0),
        ("log", 0),
        ("in-thread", 0),
        ("shutdown", 9),
    ],
)
def test_ten_busy_pods_are_torn_down_and_the_code_is_the_programs(program, tmp_path, how, code):
    ran = program("busy.py", how, tmp_path / "marks").end()
    assert ran.code == code, ran.err
    assert marks(tmp_path / "marks") == b"t" * 10
    if how == "raise":
        assert ran.err.splitlines()[-1] == "RuntimeError: end of the program"
    else:
        assert "Traceback" not in ran.err and "FATAL" not in ran.err, ran.err


def test_a_shutdown_that_did_not_wait_and_then_the_exit(program, tmp_path):
    for _ in range(5):
        ran = program("busy.py", "shutdown-now", tmp_path / "marks").end()
        assert (ran.code, ran.err) == (8, "")


@pytest.mark.parametrize("how", ["interrupt", "interrupt-sleep"])
def test_ctrl_c_ends_the_program_as_python_does(program, tmp_path, how):
    running = program("busy.py", how, tmp_path / "marks")
    assert running.line() == "up"
    begun = time.monotonic()
    running.interrupt()
    ran = running.end()
    assert ran.code == -signal.SIGINT, ran.err
    assert ran.err.splitlines()[-1] == "KeyboardInterrupt"
    assert marks(tmp_path / "marks") == b"t" * 10
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("how", ["spin", "sleep", "event", "naps", "print", "stubborn", "hook", "teardown"])
def test_a_pod_that_ignores_the_cancel_neither_hangs_nor_crashes_the_exit(program, how):
    begun = time.monotonic()
    ran = program("deaf.py", how).end()
    took = time.monotonic() - begun
    assert ran.code == 5, (ran.code, ran.err)
    # Not a line of its own where the other pod prints all the time.
    assert "good torn down\n" in ran.out
    assert "pod 'Deaf' is still abandoned at the interpreter's exit" in ran.err
    assert took < 10
    # What Python code can be got out of, is: and its teardown runs.
    if how in ("spin", "naps", "print"):
        assert ran.out.count("torn down\n") == 2


def test_a_second_ctrl_c_ends_the_wait_at_the_exit(program):
    running = program(
        r"""
import threading, podkeep
class Slow(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
        print("stopping", flush=True)
        threading.Event().wait(3600)
pod = podkeep.Pod(Slow, grace=podkeep.FOREVER).start()
"""
    )
    assert running.line() == "stopping"
    time.sleep(0.1)  # into the wait; an earlier one would do as well
    begun = time.monotonic()
    running.interrupt()
    ran = running.end()
    assert time.monotonic() - begun < 5
    assert ran.code == 0 and "is still stopping" in ran.err and "Traceback" not in ran.err


def test_exit_waits_for_the_grace_and_not_longer(program):
    ran = program(
        r"""
import os, time, podkeep
class Slow(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
    def teardown(self):
        time.sleep(0.5)
        os.write(1, b"torn down\n")
pods = [podkeep.Pod(Slow, grace=10).start() for _ in range(20)]
print(time.monotonic(), flush=True)
""",
    )
    ran = ran.end()
    assert ran.lines[1:] == ["torn down"] * 20 and ran.code == 0


def test_pods_made_in_an_atexit_handler_registered_before_or_after(program):
    ran = program(
        r"""
import atexit, os, podkeep
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
    def teardown(self):
        os.write(1, b"torn down\n")
def late():
    # Runs after podkeep's own handler: pods are refused by now.
    try:
        podkeep.Pod(Idle)
    except podkeep.Error as error:
        print(error.status, flush=True)
def early():
    global second
    second = podkeep.Pod(Idle).start()
atexit.register(late)
first = podkeep.Pod(Idle).start()
atexit.register(early)
"""
    ).end()
    assert ran.code == 0, ran.err
    assert ran.lines == ["torn down", "torn down", "invalid_state"]


def test_objects_that_outlive_everything_are_silent(program):
    ran = program(
        r"""
import sys, podkeep
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
class Cycle:
    pass
cycle = Cycle()
cycle.self = cycle
cycle.pod = podkeep.Pod(Idle).start()
cycle.monitor = podkeep.Monitor(cycle.pod)
cycle.never = podkeep.Pod(Idle)
sys.modules["keeps"] = cycle
""",
        PYTHONWARNINGS="error",
    ).end()
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_an_async_runtime_at_the_exit(program):
    ran = program(
        r"""
import asyncio, os, podkeep
class Loop(podkeep.AsyncRuntime):
    async def run_forever(self, ctx):
        await asyncio.sleep(3600)
    async def teardown(self):
        await asyncio.sleep(0.01)
        os.write(1, b"torn down\n")
pods = [podkeep.Pod(Loop).start() for _ in range(5)]
"""
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["torn down"] * 5, "")


WITH_EXECUTORS = r"""
import asyncio, atexit, os, sys, threading, time, podkeep
from concurrent.futures import ThreadPoolExecutor
how = sys.argv[1]
class Loop(podkeep.AsyncRuntime):
    async def run_forever(self, ctx):
        if how == "teardown":
            ctx.ready()
            await ctx.cancelled_async()
        elif how == "once":
            await asyncio.to_thread(ctx.ready)
            await ctx.cancelled_async()
        else:
            await asyncio.to_thread(lambda: (ctx.ready(), ctx.wait()))
    async def teardown(self):
        if how == "teardown":
            await asyncio.to_thread(os.write, 1, b"by a thread\n")
        os.write(1, b"torn down\n")
class Plain(podkeep.Runtime):
    def __init__(self):
        self.pool = ThreadPoolExecutor(2)
    def run_forever(self, ctx):
        self.pool.submit(lambda: (ctx.ready(), ctx.wait()))
        ctx.wait()
    def teardown(self):
        self.pool.shutdown()
        os.write(1, b"torn down\n")
if not hasattr(asyncio, "to_thread"):
    raise SystemExit("too old")
pod = podkeep.Pod(Plain if how == "plain" else Loop, ready="notify").start()
if how == "thread":
    # No daemon, so a part of the program: it has its pod to its end.
    def works():
        pool = ThreadPoolExecutor(1)
        try:
            while True:  # until the main thread has ended: then executors take no work any more
                pool.submit(int).result()
                time.sleep(0.01)
        except RuntimeError:
            pass
        assert pod.state is podkeep.State.RUNNING
        os.write(1, b"thread done\n")
    threading.Thread(target=works).start()
"""


@pytest.mark.parametrize(
    "how, said",
    [
        ("wait", ["torn down"]),
        ("once", ["torn down"]),
        ("teardown", ["by a thread", "torn down"]),
        ("plain", ["torn down"]),
        ("thread", ["thread done", "torn down"]),
    ],
)
def test_pods_that_keep_an_executors_thread_at_work(program, how, said):
    if sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)) and how in ("teardown", "thread"):
        pytest.skip("this Python starts no thread once the main thread has ended")
    ran = program(WITH_EXECUTORS, how).end()
    assert (ran.code, ran.lines, ran.err) == (0, said, "")


def test_pods_without_executors_are_there_for_exit_handlers(program):
    ran = program(
        r"""
import atexit, os, podkeep
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
    def teardown(self):
        os.write(1, b"torn down\n")
pod = podkeep.Pod(Idle).start()
atexit.register(lambda: print(pod.state, flush=True))
"""
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["running", "torn down"], "")


@pytest.mark.parametrize("how", ["return", "exit"])
def test_a_hundred_of_a_hundred(how, capsys):
    runs = int(os.environ.get("PODKEEP_EXIT_RUNS", "100"))
    said = exits.many(how, runs, 2)
    with capsys.disabled():
        print(f" [{said.count('')} of {len(said)}]", end="")
    assert said == [""] * runs


def test_daemon_threads_that_make_pods_all_the_while(program):
    for _ in range(5):
        ran = program(
            r"""
import threading, podkeep
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
made = threading.Semaphore(0)
def churn():
    while True:
        with podkeep.Pod(Idle):
            made.release()
threading.excepthook = lambda args: None  # the end refuses them a pod
for _ in range(4):
    threading.Thread(target=churn, daemon=True).start()
for _ in range(40):
    made.acquire()
raise SystemExit(6)
"""
        ).end()
        assert (ran.code, ran.out, ran.err) == (6, "", "")


def test_a_pod_that_is_made_while_all_are_cancelled(program):
    """Made too late to be cancelled with the others, it would be waited for without end."""
    ran = program(
        r"""
import threading, podkeep
from podkeep import _exit, _kept
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
hooked, cancelled, made = threading.Event(), threading.Event(), threading.Event()
hook, look, looks = _exit.hook, _kept.Home.all, []
def held_up():
    hook()
    if threading.current_thread() is late:
        hooked.set()
        cancelled.wait()
def counted(home):
    looks.append(home)
    if len(looks) == 2:  # to cancel them; to wait for them
        cancelled.set()
        made.wait()
    return look(home)
def work():
    try:
        podkeep.Pod(Idle, name="late").start(wait=False)
    except podkeep.Error as error:
        print(error.status, flush=True)
    made.set()
late = threading.Thread(target=work)
_exit.hook = held_up
late.start()
hooked.wait()
_kept.Home.all = counted
print(podkeep.shutdown())
""",
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["invalid_state", "0"], "")


def test_daemon_threads_that_wait_for_pods_made_at_the_end(program):
    for _ in range(10):
        ran = program(
            r"""
import threading, podkeep
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
first = [podkeep.Pod(Idle).start() for _ in range(3)]
gate = threading.Event()
def work():
    gate.set()
    podkeep.Pod(Idle, name="late").start(wait=False).join()
threading.excepthook = lambda args: None  # the end refuses them a pod
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
gate.wait()
"""
        ).end()
        assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_what_an_executor_begins_at_the_end_makes_no_pods(program):
    """Nobody would end them, and Python waits for all that an executor was given."""
    ran = program(
        r"""
import podkeep
from concurrent.futures import ThreadPoolExecutor
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
up = []
def job():
    try:
        pod = podkeep.Pod(Idle).start()
        up.append(pod)
        print(pod.join(), flush=True)
    except podkeep.Error as error:
        print(error.status, flush=True)
pool = ThreadPoolExecutor(1)
jobs = [pool.submit(job) for _ in range(3)]
while not up:
    pass
"""
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["None", "invalid_state", "invalid_state"], "")


def test_threads_that_threads_start_have_their_pods(program):
    if sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)):
        pytest.skip("this Python starts no thread once the main thread has ended")
    ran = program(
        r"""
import threading, time, podkeep
from concurrent.futures import ThreadPoolExecutor
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
def works(more):
    try:
        while True:  # until the main thread has ended: then executors take no work any more
            other.submit(int).result()
            time.sleep(0.01)
    except RuntimeError:
        pass
    time.sleep(0.1)  # for the pods to be ended, if somebody does
    print(pod.state, flush=True)
    if more:
        threading.Thread(target=works, args=(more - 1,)).start()
pod = podkeep.Pod(Idle).start()
pool, other = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
pool.submit(pod.join)
threading.Thread(target=works, args=(2,)).start()
"""
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["running"] * 3, "")


@pytest.mark.parametrize("pool", ["", "pool = ThreadPoolExecutor(1); pool.submit(int)"])
def test_a_teardown_that_takes_its_time_is_asked_to_leave_once(program, pool):
    """With an executor the pods are ended twice."""
    ran = program(
        r"""
import os, time, podkeep
from concurrent.futures import ThreadPoolExecutor
class Deaf(podkeep.Runtime):
    def run_forever(self, ctx):
        while True:
            time.sleep(0.01)
    def teardown(self):
        for _ in range(70):
            time.sleep(0.01)
        os.write(1, b"torn down\n")
pod = podkeep.Pod(Deaf, grace=0.1).start()
"""
        + pool
    ).end()
    assert ran.code == 0 and ran.err.count("still abandoned") == 1
    if pool:  # else the time for it is over before
        assert ran.lines == ["torn down"]


@pytest.mark.parametrize("where", ["import", "register"])
def test_ctrl_c_while_the_first_pod_is_made(program, where):
    ran = program(
        r"""
import os, sys, podkeep
from concurrent.futures import ThreadPoolExecutor
from podkeep import _exit
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
    def teardown(self):
        os.write(1, b"torn down\n")
class Interrupted:
    def unregister(self, function):
        _exit.atexit = real
        raise KeyboardInterrupt
def interrupted():
    _exit._hook_joins = real
    raise KeyboardInterrupt
if sys.argv[1] == "import":
    real, _exit._hook_joins = _exit._hook_joins, interrupted
else:
    real, _exit.atexit = _exit.atexit, Interrupted()
try:
    podkeep.Pod(Idle)
except KeyboardInterrupt:
    print("interrupted", flush=True)
pod = podkeep.Pod(Idle).start()
ThreadPoolExecutor(1).submit(pod.join)
""",
        where,
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["interrupted", "torn down"], "")


def test_a_monitor_is_closed_by_a_late_exit_handler(program):
    ran = program(
        r"""
import atexit, threading, podkeep
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
def late():
    monitor.close()
    thread.join()
    print("closed", flush=True)
atexit.register(late)
monitor = podkeep.Monitor()
pod = podkeep.Pod(Idle).start()
thread = threading.Thread(target=lambda: list(monitor), daemon=True)
thread.start()
"""
    ).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["closed"], "")


def test_a_control_that_is_made_while_the_interpreter_ends(program, tmp_path):
    """It is closed as all are, or there is none: no socket stays."""
    for number in range(10):
        path = tmp_path / f"{number}.sock"
        ran = program(
            r"""
import sys, threading, podkeep
gate = threading.Event()
first = podkeep.Control()
def serve():
    gate.set()
    made.append(podkeep.Control("unix:" + sys.argv[1]))
made = []
threading.excepthook = lambda args: None  # the end refuses it
threading.Thread(target=serve, daemon=True).start()
gate.wait()
""",
            path,
        ).end()
        assert (ran.code, ran.out, ran.err) == (0, "", "") and not path.exists()
