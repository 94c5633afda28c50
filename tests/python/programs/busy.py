"""Ten pods that take the GIL a thousand times a second; ends as the first argument says.

Every teardown writes a byte to the file that the second argument names.
"""

import os
import sys
import threading
import time

import podkeep

how, path = sys.argv[1:3]
marks = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


class Busy(podkeep.Runtime):
    def __init__(self, ticking):
        self.ticking = ticking

    def run_forever(self, ctx):
        while not ctx.wait(0.001):
            self.ticking.set()
            sum(range(100))

    def teardown(self):
        os.write(marks, b"t")


ticking = [threading.Event() for _ in range(10)]
pods = [podkeep.Pod(Busy, args=(event,), name=f"busy{number}").start() for number, event in enumerate(ticking)]
for event in ticking:
    event.wait()
print("up", flush=True)

if how == "return":
    os.environ["unused"] = "1"
elif how == "exit":
    sys.exit(7)
elif how == "raise":
    raise RuntimeError("end of the program")
elif how == "interrupt":
    pods[0].join()
elif how == "interrupt-sleep":
    while True:
        time.sleep(1)
elif how == "forget":
    del pods
elif how == "daemon":
    # Python's own daemon threads, in a wait and in the GIL, are still there when the interpreter goes.
    threading.Thread(target=pods[0].join, daemon=True).start()

    def spin():
        while True:
            sum(range(100))

    threading.Thread(target=spin, daemon=True).start()
elif how == "monitor":
    monitor = podkeep.Monitor()
    threading.Thread(target=lambda: list(monitor), daemon=True).start()
elif how == "log":
    import logging

    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    podkeep.set_log(level=logging.DEBUG)
elif how == "in-thread":
    # The last thread of Python's to end makes the pods' end.
    threading.Thread(target=time.sleep, args=(0.1,)).start()
elif how == "shutdown-now":
    # Cancelled and shut out, but not waited for: no teardown begins any more.
    podkeep.shutdown(timeout=0)
    sys.exit(8)
elif how == "shutdown":
    left = podkeep.shutdown()
    assert left == 0 and all(pod.state is podkeep.State.STOPPED for pod in pods)
    try:
        podkeep.Pod(Busy, args=(ticking[0],))
    except podkeep.Error as error:
        assert error.status is podkeep.Status.INVALID_STATE
    else:
        raise AssertionError("a pod was made after the shutdown")
    assert podkeep.shutdown(timeout=1) == 0
    sys.exit(9)
else:
    raise AssertionError(how)
