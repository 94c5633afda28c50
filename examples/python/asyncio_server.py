"""Serves a page with asyncio, kept in a pod with an event loop of its own: python asyncio_server.py [PORT]

The pod is ready when the server listens, which only the runtime knows: it says so. Ctrl-C and SIGTERM cancel the pod.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import podkeep

PAGE = b"<!doctype html><title>podkeep</title><h1>Hello from an asyncio pod</h1>\n"


class Web(podkeep.AsyncRuntime):
    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.served = 0

    async def run_forever(self, ctx: podkeep.Context) -> None:
        server = await asyncio.start_server(self.answer, "127.0.0.1", self.port)
        try:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            ctx.status(f"listening on {url}")
            ctx.ready()
            print(url, flush=True)
            await ctx.cancelled_async()
        finally:
            # Connections that are still open are tasks of this loop: they end with the runtime.
            server.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.served += 1
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + PAGE)
            await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # not a request, or gone
        except asyncio.CancelledError:
            pass  # the pod ends; some versions of asyncio complain when a connection's task ends as cancelled
        finally:
            writer.close()

    async def teardown(self) -> None:
        print(f"{self.served} served", flush=True)


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    pod = podkeep.Pod(Web, args=(port,), name="web", ready="notify", ready_timeout=10, grace=5.0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: pod.cancel())
    with pod:
        pod.join()


if __name__ == "__main__":
    main()
