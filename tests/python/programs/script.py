"""A program whose own classes go to process pods."""

import sys
import threading

import podkeep


class Boom(Exception):
    pass


class Point:
    def __init__(self, x):
        self.x = x

    def __repr__(self):
        return f"Point({self.x})"


class Web(podkeep.Runtime):
    def __init__(self, *args):
        self.args = args

    def run_forever(self, ctx):
        where = "main" if threading.current_thread() is threading.main_thread() else "other"
        print("Web:", __name__, sys.argv[1:], self.args, "in the", where, "thread", flush=True)
        ctx.wait()

    def teardown(self):
        raise Boom("torn")


@podkeep.runtime
def function(ctx, point):
    print("function:", point, flush=True)
    ctx.wait()


if __name__ == "__main__":
    pod = podkeep.Pod(Web, args=("argument",), host="process").start()
    pod.cancel()
    try:
        pod.join()
    except podkeep.PodFailed as error:
        assert type(error.__cause__) is Boom
        print("Boom of", type(error.__cause__).__module__ + ":", error.__cause__, flush=True)
    with podkeep.Pod(function, args=(Point(3),), host="process") as pod:
        pass
    print(pod.state)
