"""Serves a page from a process of its own: python process_server.py [PORT]

The class goes by its name, its arguments pickled; the pod is ready when the server listens. A request for /crash ends that
process as a bug in C code does: the host learns of it at once, says so, and ends with 1. Ctrl-C and SIGTERM cancel the pod.
"""

from __future__ import annotations

import ctypes
import http.server
import signal
import sys

import podkeep

PAGE = b"<!doctype html><title>podkeep</title><h1>Hello from a Python process pod</h1>\n"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/crash":
            ctypes.string_at(0)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Web(podkeep.Runtime):
    def __init__(self, port: int = 0) -> None:
        # In the pod's process; that a port is taken is raised where the pod is started.
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", port), Page)
        self.url = f"http://127.0.0.1:{self.httpd.server_port}/"

    def run_forever(self, ctx: podkeep.Context) -> None:
        ctx.status(f"listening on {self.url}")
        print(self.url, flush=True)
        self.httpd.serve_forever(poll_interval=0.05)

    def cancel(self) -> None:
        self.httpd.shutdown()

    def teardown(self) -> None:
        self.httpd.server_close()


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    pod = podkeep.Pod(Web, args=(port,), name="web", host="process", grace=5.0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: pod.cancel())
    try:
        with pod:
            pod.join()
    except podkeep.PodEnded:
        pass  # cancelled before it was ready


# The child imports this file anew, as __mp_main__: what the program does is done once.
if __name__ == "__main__":
    main()
