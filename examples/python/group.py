"""Redis, a web server that waits for it, and a worker that crashes at random, kept together:

    python group.py [REDIS_PORT [WEB_PORT [WEB_DIRECTORY]]]      until SIGINT or SIGTERM; needs redis-server

Kill any of them with any signal, at any time: it comes back, when those it needs are there, and a redis that comes back takes
along those that came after it. Each change of state is printed as it is told. In the end all go down in reverse. The same in
C: ../c/group.c.
"""

from __future__ import annotations

import http.server
import os
import random
import signal
import socket
import sys
from typing import Any, Dict

import podkeep


class Web(podkeep.Runtime):
    """In a process of its own."""

    def __init__(self, port: int, directory: str) -> None:
        os.chdir(directory)
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler)

    def run_forever(self, ctx: podkeep.Context) -> None:
        self.httpd.serve_forever(poll_interval=0.05)

    def cancel(self) -> None:
        self.httpd.shutdown()

    def teardown(self) -> None:
        self.httpd.server_close()


class Worker(podkeep.Runtime):
    """In a process of its own, too: it may crash as hard as it likes."""

    def __init__(self, redis_port: int) -> None:
        self.redis = socket.create_connection(("127.0.0.1", redis_port))

    def run_forever(self, ctx: podkeep.Context) -> None:
        while not ctx.wait(0.02):
            self.redis.sendall(b"INCR podkeep:jobs\r\n")
            if not self.redis.recv(64):
                raise ConnectionError("redis has hung up")
            bug = random.randrange(100)
            if bug == 0:
                raise RuntimeError("a bug that is noticed")
            if bug == 1:
                os._exit(4)
            if bug == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    def teardown(self) -> None:
        self.redis.close()


def show(event: podkeep.Event) -> None:
    line = f"{event.name:<6} {event.to:<10}"
    if event.to is podkeep.State.RUNNING and event.pod is not None and event.pod.id is not None:
        line += f" process {event.pod.id}"  # it may be dead again by now: then it has none
    if event.failure is not None:
        line += " " + event.failure.message.partition("\n")[0]
    print(line, flush=True)


def main() -> None:
    redis_port = int(sys.argv[1]) if len(sys.argv) > 1 else 6390
    web_port = int(sys.argv[2]) if len(sys.argv) > 2 else 8090
    directory = sys.argv[3] if len(sys.argv) > 3 else "."
    # What all three have in common: they come back after any end, as often as need be.
    kept: Dict[str, Any] = {"restart": "always", "max_restarts": 2**32 - 1, "backoff_max": 0.25, "ready_timeout": 20.0}
    server = ["redis-server", "--bind", "127.0.0.1", "--port", str(redis_port), "--save", "", "--logfile", "/dev/null"]
    with podkeep.Group("site", strategy="rest_for_one") as site, podkeep.Monitor(site) as monitor:
        redis = site.add(podkeep.Pod.command(*server, name="redis", ready_port=redis_port, **kept))
        site.add(podkeep.Pod(Web, (web_port, directory), name="web", host="process", **kept), after=[redis])
        site.add(podkeep.Pod(Worker, (redis_port,), name="worker", host="process", **kept), after=[redis])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: site.cancel())
        site.start(wait=False)
        for event in monitor:  # until the group has ended
            if event.from_ is not event.to:
                show(event)


# The children import this file anew, as __mp_main__: what the program does is done once.
if __name__ == "__main__":
    main()
