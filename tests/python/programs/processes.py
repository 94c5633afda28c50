"""Five process pods; ends as the first argument says. Each step of theirs is a line of the file that the second names."""

import os
import signal
import sys
import threading
import time
import warnings

import podkeep
import runtimes


class Deaf(podkeep.Runtime):
    def __init__(self, path):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with open(path, "a") as file:
            file.write(f"run {os.getpid()}\n")

    def run_forever(self, ctx):
        while True:
            time.sleep(3600)


def lines():
    return open(path).read().splitlines() if os.path.exists(path) else []


if __name__ == "__main__":
    how, path = sys.argv[1:]
    if how == "deaf":
        pods = [podkeep.Pod(Deaf, args=(path,), host="process", grace=0.2, kill_after=0.2).start()]
        sys.exit(5)
    raises = "teardown" if how == "sore" else ""
    pods = [podkeep.Pod(runtimes.Marks, args=(path, raises), host="process").start(wait=False) for _ in range(5)]
    if how == "at-once":
        # Wherever they are by then: not even claimed, most of them.
        sys.exit(4)
    while [line.split()[0] for line in lines()].count("run") < 5:
        time.sleep(0.01)
    print("up", flush=True)
    if how == "exit":
        sys.exit(7)
    elif how == "raise":
        raise RuntimeError("end of the program")
    elif how == "forget":
        warnings.simplefilter("ignore", ResourceWarning)
        del pods
    elif how == "shutdown":
        assert podkeep.shutdown() == 0 and all(pod.state is podkeep.State.STOPPED for pod in pods)
        sys.exit(9)
    elif how == "in-thread":
        threading.Thread(target=time.sleep, args=(0.1,)).start()
    elif how == "daemon":
        threading.Thread(target=pods[0].join, daemon=True).start()
    elif how == "join":
        pods[0].join()
    elif how == "os._exit":
        os._exit(6)
    elif how in ("fork", "fork-use"):
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of any fork with threads
        child = os.fork()
        if child == 0 and how == "fork":
            # Not to the death of the pipes that the test reads.
            os.close(1), os.close(2)
            time.sleep(60)
            os._exit(0)
        if child == 0:
            try:
                pods[0].cancel()
            except podkeep.Error as error:
                print("forked", type(error).__name__, flush=True)
            with podkeep.Pod(runtimes.Idle, host="process") as own:
                pass
            print("child's own", own.state, flush=True)
            os._exit(3)
        if how == "fork":
            print(child, flush=True)
            pods[0].join()
        print("child left with", os.WEXITSTATUS(os.waitpid(child, 0)[1]), flush=True)
        print("still", pods[0].state, flush=True)
