"""An asyncio server as a container's main process: python main_process.py [PORT]

SIGTERM and SIGINT cancel it, and the program ends with 0; a failure is told on stderr and is the exit code.
"""

from __future__ import annotations

import asyncio
import sys

import podkeep

PAGE = b"<!doctype html><title>podkeep</title><h1>Hello from a main pod</h1>\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(PAGE)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + PAGE)
        await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass  # not a request, or gone
    except asyncio.CancelledError:
        pass  # the pod ends; some versions of asyncio complain when a connection's task ends as cancelled
    finally:
        writer.close()


@podkeep.runtime
async def web(ctx: podkeep.Context, port: int) -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", port)
    try:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await ctx.cancelled_async()
    finally:
        server.close()


if __name__ == "__main__":
    podkeep.run(web, args=(int(sys.argv[1]) if len(sys.argv) > 1 else 0,), grace=5.0)
