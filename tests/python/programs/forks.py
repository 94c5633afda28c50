"""Forks with a pod running, in the way that the first argument says; prints what the child and the parent found."""

import multiprocessing
import os
import sys
import threading
import warnings

import podkeep
from podkeep import Pod, State

warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork with threads


class Idle(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()

    def teardown(self):
        os.write(1, f"teardown in {'child' if os.getpid() != parent else 'parent'}\n".encode())


def refused(call):
    try:
        call()
    except podkeep.Forked:
        return True
    return False


def in_child():
    calls = [
        pod.start,
        pod.cancel,
        pod.join,
        pod.close,
        pod.wait_ready,
        lambda: pod.join(timeout=0),
        lambda: pod.state,
        lambda: pod.name,
        lambda: pod.id,
        lambda: pod.failure,
        lambda: pod.restarts,
        lambda: monitor.next(timeout=0),
        monitor.fileno,
        lambda: podkeep.Monitor(pod),
    ]
    assert [refused(call) for call in calls] == [True] * len(calls), [refused(call) for call in calls]
    try:
        with pod:
            raise AssertionError("entered")
    except podkeep.Forked:
        pass
    assert repr(pod) == "<podkeep.Pod 'old' forked>"
    monitor.close()
    with Pod(Idle, name="new") as new, podkeep.Monitor(new) as own:
        assert own.next(timeout=60).to is State.RUNNING
    assert new.state is State.STOPPED
    global left
    left = Pod(Idle, name="left").start()
    os.write(1, b"child done\n")


def fresh():
    """In a child that has inherited nothing."""
    global parent, left
    parent = 0
    left = Pod(Idle, name="left").start()
    os.write(1, b"child done\n")


def bare(how):
    """A child of os.fork; returns how it left."""
    child = os.fork()
    if child == 0:
        if how == "fork-forget":
            # An inherited pod is nobody's: no warning, no cancel, nothing.
            warnings.simplefilter("error")
            globals().pop("pod")
            globals().pop("monitor")
            os.write(1, b"child done\n")
        else:
            in_child()
        if how == "fork":
            os._exit(3)
        sys.exit(3)  # through atexit: a pod that is left is torn down in the child
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    how = sys.argv[1]
    parent = os.getpid()
    pod = Pod(Idle, name="old").start()
    monitor = podkeep.Monitor(pod)
    monitor.fileno()
    # A thread that waits at the moment of the fork, with whatever it holds.
    waiter = threading.Thread(target=pod.join)
    waiter.start()
    if how.startswith("fork-") or how == "fork":
        code = bare(how)
    else:
        method = how.replace("mp-", "")
        process = multiprocessing.get_context(method).Process(target=in_child if method == "fork" else fresh)
        process.start()
        process.join()
        code = process.exitcode
    assert pod.state is State.RUNNING
    print("child left with", code, flush=True)
    pod.close()
    waiter.join()
    print("parent done", flush=True)
