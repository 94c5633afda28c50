"""podkeep.run as a program's last line, in the way that the first argument says, on the host that the second names."""

import asyncio
import os
import signal
import sys
import threading
import time

import podkeep


def up():
    where = "main" if threading.current_thread() is threading.main_thread() else "other"
    print(f"up in the {where} thread", flush=True)


class Main(podkeep.Runtime):
    def __init__(self, how):
        self.how = how
        if how == "init":
            raise OSError("no disk")
        self.stop = threading.Event()

    def run_forever(self, ctx):
        if self.how == "raise":
            raise OSError("no disk")
        if self.how == "exit":
            sys.exit(7)
        if self.how == "return":
            return 5
        up()
        if self.how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "handlers":
            ctx.wait()
            print("SIGTERM cancelled", flush=True)
        elif self.how == "slow":
            ctx.wait()
            print("cancelled", flush=True)
            time.sleep(3600)
        elif self.how == "deaf":
            time.sleep(3600)
        elif self.how == "threads":
            # Its own waits let other threads run, which end it.
            threading.Thread(target=self.stop.set).start()
            self.stop.wait()
        elif self.how not in ("end", "natural-deaf"):
            self.stop.wait()
        return 0

    def cancel(self):
        if self.how == "wait":
            print("cancel", flush=True)
        self.stop.set()

    def teardown(self):
        if self.how == "natural-deaf":
            time.sleep(3600)
        if self.how != "handlers":
            print("teardown", flush=True)


class Loop(podkeep.AsyncRuntime):
    async def run_forever(self, ctx):
        up()
        await asyncio.sleep(3600)

    async def teardown(self):
        print("teardown", flush=True)


def show(number, frame):
    where = "main" if threading.current_thread() is threading.main_thread() else "other"
    print(f"{signal.Signals(number).name} in the {where} thread", flush=True)


def python_owns(number, frame):
    print("SIGTERM is Python's", flush=True)


if __name__ == "__main__":
    how, host = sys.argv[1:]
    if how == "handlers":
        signal.signal(signal.SIGUSR1, show)
        signal.signal(signal.SIGTERM, python_owns)
    if how == "command":
        shell = "echo $$; exec sleep 3600"
        sys.exit(podkeep.run(podkeep.Pod.command("sh", "-c", shell)))
    if how == "async":
        code = podkeep.run(Loop)
    else:
        code = podkeep.run(Main, args=(how,), host=host, grace=0.5 if "deaf" in how else 30)
    if how == "handlers":
        print("again", flush=True)
        while True:
            time.sleep(1)
    print("after:", code)
    sys.exit(code)
