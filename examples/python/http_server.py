"""Serves a page with http.server, kept in a pod: python http_server.py [PORT]

serve_forever blocks and cannot poll, so the cancel hook calls shutdown. Ctrl-C and SIGTERM cancel the pod; the program ends
with 0 when it has ended cleanly, and with the pod's failure otherwise.
"""

from __future__ import annotations

import http.server
import signal
import sys

import podkeep

PAGE = b"<!doctype html><title>podkeep</title><h1>Hello from a Python pod</h1>\n"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Web(podkeep.Runtime):
    def __init__(self, port: int = 0) -> None:
        # In the pod's thread; that a port is taken is raised where the pod is started.
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
    pod = podkeep.Pod(Web, args=(port,), name="web", grace=5.0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: pod.cancel())
    with pod:
        pod.join()


if __name__ == "__main__":
    main()
