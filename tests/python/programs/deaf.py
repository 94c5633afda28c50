"""A pod that ignores its cancel, in the way that the first argument says; the program returns at once."""

import os
import sys
import threading
import time

import podkeep

how = sys.argv[1]
go = threading.Event()


class Deaf(podkeep.Runtime):
    def run_forever(self, ctx):
        print("up", flush=True)
        go.set()
        if how == "spin":
            while True:
                pass
        elif how == "sleep":
            time.sleep(3600)
        elif how == "event":
            threading.Event().wait()
        elif how == "naps":
            while True:
                time.sleep(0.001)
        elif how == "print":
            while True:
                print("still here")
        elif how == "stubborn":
            while True:
                try:
                    time.sleep(0.001)
                except BaseException:
                    pass
        elif how == "hook":
            time.sleep(0.01)
            while not ctx.cancelled:
                time.sleep(0.001)
            hooked.wait()

    def cancel(self):
        if how == "hook":
            hooked.set()
            time.sleep(3600)

    def teardown(self):
        os.write(1, b"torn down\n")
        if how == "teardown":
            time.sleep(3600)


class Good(podkeep.Runtime):
    def run_forever(self, ctx):
        ctx.wait()

    def teardown(self):
        os.write(1, b"good torn down\n")


hooked = threading.Event()
good = podkeep.Pod(Good).start()
pod = podkeep.Pod(Deaf, grace=0.2).start()
go.wait()
if how == "hook":
    time.sleep(0.01)  # the hook begins only while run_forever is entered
sys.exit(5)
