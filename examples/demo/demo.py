#!/usr/bin/env python3
"""Two pods, two languages, one life. `make demo` runs this.

    demo.py PATH_OF_UV_HTTP STAGE

The C pod: examples/c/uv_http.c in a process of its own, which prints its pod's life from its monitor. The Python pod:
examples/python/http_server.py, kept here by the package `podkeep` and watched through its Monitor. From each one a page is
fetched with curl; then it is cancelled. Exit status 0 only if all of it was seen.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import threading

LIMIT = 20.0  # seconds for any single step: nothing here may hang
LIFE = ["new", "starting", "running", "stopping", "stopped"]
STDOUT = sys.stdout
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class NotShown(Exception):
    """What should have been seen, and what was."""


def say(text: str = "", bold: bool = False) -> None:
    if bold and STDOUT.isatty() and "NO_COLOR" not in os.environ:
        text = f"\x1b[1m{text}\x1b[0m"
    print(text, file=STDOUT, flush=True)


def fetch(url: str, title: str) -> None:
    """Fetches the page with curl and shows its beginning."""
    say(f"      curl {url}")
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", str(LIMIT), url],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=2 * LIMIT,
    )
    page = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise NotShown(f"curl {url}: exit status {done.returncode}: {done.stderr.decode('utf-8', 'replace').strip()}")
    for line in page.splitlines()[:8]:
        say(f"      | {line[:100]}")
    if title not in page:
        raise NotShown(f"the page of {url} does not say {title!r}")


def check_life(seen: list[str]) -> None:
    if seen != LIFE:
        raise NotShown(f"a life of {' -> '.join(LIFE)}; seen was {' -> '.join(seen)}")


def show_c(program: str) -> None:
    say("C pod: examples/c/uv_http.c (libuv; its cancel hook is uv_async_send)", bold=True)
    seen = []
    process = subprocess.Popen([program], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    safety = threading.Timer(3 * LIMIT, process.kill)  # ends the loop below, too
    safety.start()
    try:
        for line in process.stdout:
            line = line.rstrip("\n")
            if line.startswith("http://"):
                fetch(line, "Hello from a C pod")
                say("      kill -TERM: its handler calls podkeep_pod_cancel")
                process.send_signal(signal.SIGTERM)
            else:
                say(f"  {line}")
                if match := re.search(r" ms  \S+  (?:\w+ -> )?(\w+)$", line):
                    seen.append(match.group(1))
        code = process.wait(LIMIT)
    finally:
        safety.cancel()
        process.kill()
        process.wait(LIMIT)
        process.stdout.close()
    if code != 0:
        raise NotShown(f"exit code 0 of uv_http; it was {code}")
    check_life(seen)


def show_python() -> None:
    import podkeep
    from http_server import Web

    say("Python pod: examples/python/http_server.py (its cancel hook is http.server's shutdown)", bold=True)
    port: list[int] = []

    class Shown(Web):
        """The example as it is; only its port is told, which the kernel picks."""

        def __init__(self) -> None:
            super().__init__(port=0)
            port.append(self.httpd.server_port)

    pod = podkeep.Pod(Shown, name="http_server", grace=LIMIT)
    seen: list[str] = []
    began = None
    # The example prints its address when it gets there; here curl's line shows it, in its place.
    with podkeep.Monitor(pod) as monitor, contextlib.redirect_stdout(io.StringIO()):
        try:
            while True:
                event = monitor.next(timeout=LIMIT)
                if event is None:
                    raise NotShown(f"the next step in the pod's life within {LIMIT:g} s; it is {pod.state}")
                if began is None:
                    began = event.time_ns
                found = event.from_ is event.to
                step = f"{event.to}" if found else f"{event.from_} -> {event.to}"
                say(f"  {(event.time_ns - began) / 1e6:9.3f} ms  {event.name}  {step}")
                seen.append(str(event.to))
                if found:
                    pod.start(wait=False)
                elif event.to is podkeep.State.RUNNING:
                    fetch(f"http://127.0.0.1:{port[0]}/", "Python pod")
                    say("      pod.cancel()")
                    pod.cancel()
        except podkeep.PodEnded:
            pass  # all of its life has been read
        finally:
            pod.cancel()
    pod.join(timeout=LIMIT)
    check_life(seen)


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: demo.py PATH_OF_UV_HTTP STAGE", file=sys.stderr)
        return 2
    program, stage = sys.argv[1:]
    os.environ["PODKEEP_LIBRARY"] = os.path.abspath(os.path.join(stage, "lib", "libpodkeep.so.0"))
    sys.path[:0] = [os.path.join(ROOT, "bindings", "python", "src"), os.path.join(ROOT, "examples", "python")]
    sys.dont_write_bytecode = True
    try:
        show_c(os.path.abspath(program))
        say()
        show_python()
    except (NotShown, OSError, subprocess.TimeoutExpired) as reason:
        print(f"Not shown: {reason}", file=sys.stderr)
        return 1
    say()
    say("Shown: a page served out of a C pod and out of a Python pod, each cancelled while it blocked, each life told in full.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
