"""After a fork: the child's copies are dead, new ones work, and the parent notices nothing."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "how, code, torn_down", [("fork", 3, 1), ("fork-exit", 3, 2), ("fork-forget", 3, 0), ("mp-fork", 0, 2)]
)
def test_a_fork_with_a_pod_running(program, how, code, torn_down):
    ran = program("forks.py", how).end()
    assert ran.code == 0, ran.err
    assert f"child left with {code}" in ran.lines and "child done" in ran.lines and ran.lines[-1] == "parent done"
    assert ran.lines.count("teardown in child") == torn_down
    assert ran.lines.count("teardown in parent") == 1
    assert "Traceback" not in ran.err, ran.err


@pytest.mark.parametrize("how", ["mp-spawn", "mp-forkserver"])
def test_a_child_of_multiprocessing_that_inherits_nothing(program, how):
    ran = program("forks.py", how).end()
    assert ran.code == 0, ran.err
    assert "child left with 0" in ran.lines and "child done" in ran.lines and ran.lines[-1] == "parent done"
    assert ran.lines.count("teardown in child") == 1


def test_a_runtime_that_forks_itself(program):
    ran = program(
        """
import os, sys, warnings, podkeep
warnings.simplefilter("ignore", DeprecationWarning)
class Forks(podkeep.Runtime):
    def run_forever(self, ctx):
        child = os.fork()
        if child == 0:
            code = 4 if ctx.cancelled and ctx.wait(60) else 5
            try:
                ctx.ready()
            except podkeep.Forked:
                code += 10
            os._exit(code)
        self.code = os.WEXITSTATUS(os.waitpid(child, 0)[1])
    def teardown(self):
        print("child left with", self.code, flush=True)
with podkeep.Pod(Forks) as pod:
    pod.join()
"""
    ).end()
    assert (ran.code, ran.lines) == (0, ["child left with 14"]), ran.err


def test_a_monitor_that_another_thread_is_reading(program):
    """The lock of that read is nobody's in the child."""
    ran = program(
        """
import os, threading, warnings, podkeep
warnings.simplefilter("ignore", DeprecationWarning)
monitor = podkeep.Monitor()
held, go = threading.Event(), threading.Event()
def read():
    with monitor._lock:
        held.set()
        go.wait()
thread = threading.Thread(target=read)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    code = 0
    for call in (monitor.next, monitor.fileno, lambda: monitor.next(timeout=0), lambda: next(monitor)):
        try:
            call()
        except podkeep.Forked:
            code += 1
    monitor.close()
    os._exit(code)
print("child left with", os.WEXITSTATUS(os.waitpid(child, 0)[1]), flush=True)
go.set()
thread.join()
assert monitor.next(timeout=0) is None
"""
    ).end()
    assert (ran.code, ran.lines) == (0, ["child left with 4"]), ran.err


def test_forks_at_any_moment(program):
    """Other threads make, look at and end pods all the while, and hold whatever locks there are.

    Their pods run only from 3.13 on. Before, CPython's fork does not take the lock of its list of thread states, and a child
    forked while a native thread comes into Python for the first time, or leaves it, waits for that lock for ever inside
    os.fork(), before any code of ours. For the same reason a pod that is closed before its start must end on the thread that
    closes it: the library's own threads stay out of Python.
    """
    ran = program(
        """
import os, sys, threading, warnings, podkeep
warnings.simplefilter("ignore", DeprecationWarning)
class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()
stop = threading.Event()
lasting = podkeep.Pod(Idle).start()
def churn():
    while not stop.is_set():
        pod = podkeep.Pod(Idle)
        with podkeep.Monitor(pod) as monitor:
            if sys.version_info >= (3, 13):
                pod.start()
            monitor.next(timeout=0)
            try:
                lasting.join(timeout=0.003)
            except podkeep.PodTimeout:
                pass
            pod.close()
threads = [threading.Thread(target=churn) for _ in range(3)]
for thread in threads:
    thread.start()
bad = 0
for _ in range(50):
    child = os.fork()
    if child == 0:
        try:
            with podkeep.Pod(Idle) as pod:
                pass
            os._exit(0 if pod.state is podkeep.State.STOPPED else 1)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(2)
    bad += os.waitpid(child, 0)[1] != 0
stop.set()
for thread in threads:
    thread.join()
print("bad", bad, flush=True)
"""
    ).end()
    assert (ran.code, ran.lines) == (0, ["bad 0"]), ran.err
