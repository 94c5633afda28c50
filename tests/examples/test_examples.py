#!/usr/bin/env python3
"""Runs each C example as its user would, with a real client, and the demo.

    test_examples.py DIRECTORY_OF_THE_PROGRAMS STAGE

Every wait has a limit, which is a safety net and not a measurement. Last line: N passed, N failed.
"""

import concurrent.futures
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

LIMIT = 20.0  # seconds for any single step
PROGRAMS, STAGE = (os.path.abspath(path) for path in sys.argv[1:3])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CASES = []


def case(function):
    CASES.append(function)
    return function


class Program:
    """One example, running; its output is read line by line as it comes."""

    def __init__(self, name, *arguments):
        self.process = subprocess.Popen(
            [os.path.join(PROGRAMS, name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines = []
        self.errors = ""
        self._queue = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self):
        for line in self.process.stdout:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def _read_errors(self):
        self.errors = self.process.stderr.read()

    def wait_for(self, pattern):
        """The match in the next line that has one."""
        deadline = time.monotonic() + LIMIT
        while True:
            line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, f"ended without a line like {pattern!r}: {self.lines} {self.errors!r}"
            self.lines.append(line)
            if match := re.search(pattern, line):
                return match

    def end(self, number=None):
        """Signals it, if asked to, and waits for its end: (exit code, all lines, stderr)."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(LIMIT)
        for reader in self._readers:
            reader.join(LIMIT)
        while (line := self._queue.get(timeout=LIMIT)) is not None:
            self.lines.append(line)
        return code, self.lines, self.errors

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(LIMIT)
        for reader in self._readers:
            reader.join(LIMIT)
        self.process.stdout.close()
        self.process.stderr.close()


def curl(url, *options):
    """(status, body) of one request by a real client."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(LIMIT), "--write-out", "\n%{http_code}",
         *options, url],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=2 * LIMIT,
    )
    assert done.returncode == 0, f"curl {url}: {done.returncode} {done.stderr}"
    body, status = done.stdout.rsplit("\n", 1)
    return int(status), body


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=LIMIT)


def echoes(client, text):
    client.sendall(text)
    got = b""
    while len(got) < len(text):
        part = client.recv(65536)
        assert part, f"hung up after {len(got)} of {len(text)} bytes"
        got += part
    assert got == text


def assert_hung_up(client):
    """A server that ends may close in order, or reset what it has not read."""
    try:
        assert client.recv(1) == b""
    except ConnectionResetError:
        pass


def states(lines):
    """The chain of states in uv_http's output: new, starting, running ..."""
    return [line.split()[-1] for line in lines if re.match(r" *\d+\.\d+ ms  uv_http  ", line)]


def assert_clean(ended, what):
    code, _, errors = ended
    assert (code, errors) == (0, ""), f"{what}: exit code {code}, stderr {errors!r}"


# --- ticker ---------------------------------------------------------------------------------------------------------


@case
def ticker_ticks_each_second_and_ends_by_itself():
    begin = time.monotonic()
    with Program("ticker") as ticker:
        ended = ticker.end()
        took = time.monotonic() - begin
        assert_clean(ended, "ticker")
        # A wait may end late, and never early.
        ticks = len(ended[1])
        assert ended[1] == ["tick"] * ticks and 1 <= ticks <= took, (ended[1], took)


# --- uv_http --------------------------------------------------------------------------------------------------------

LIFE = ["new", "starting", "running", "stopping", "stopped"]


def uv_http(program):
    return int(program.wait_for(r"^http://127\.0\.0\.1:(\d+)/$").group(1))


@case
def uv_http_serves_its_page_and_ends_on_sigterm():
    with Program("uv_http") as program:
        url = f"http://127.0.0.1:{uv_http(program)}/"
        for number in range(1, 21):
            status, page = curl(url)
            assert status == 200 and "Hello from a C pod" in page and f"page {number}." in page, (status, page)
        ended = program.end(signal.SIGTERM)
        assert_clean(ended, "uv_http")
        assert states(ended[1]) == LIFE, ended[1]
        times = [float(line.split()[0]) for line in ended[1] if " ms  " in line]
        assert times == sorted(times) and times[0] == 0.0, times


@case
def uv_http_serves_many_clients_at_once():
    with Program("uv_http") as program:
        url = f"http://127.0.0.1:{uv_http(program)}/"
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: curl(url), range(40)))
        assert all(status == 200 for status, _ in answers), answers
        assert len({page for _, page in answers}) == 40  # each carries a number of its own
        assert_clean(program.end(signal.SIGTERM), "uv_http")


@case
def uv_http_says_no_in_http():
    with Program("uv_http") as program:
        url = f"http://127.0.0.1:{uv_http(program)}/"
        assert curl(url + "nothing")[0] == 404
        assert curl(url, "--data", "x=1")[0] == 405
        with connect(uv_http_port(url)) as client:  # a request without an end is not kept for ever
            try:
                client.sendall(b"GET /" + b"a" * 100000)
            except (ConnectionResetError, BrokenPipeError):
                pass
            assert_hung_up(client)
        assert curl(url)[0] == 200
        assert_clean(program.end(signal.SIGTERM), "uv_http")


def uv_http_port(url):
    return int(url.rsplit(":", 1)[1].rstrip("/"))


@case
def uv_http_ends_on_sigint_with_clients_half_way():
    with Program("uv_http") as program:
        port = uv_http(program)
        with connect(port) as silent, connect(port) as half:
            half.sendall(b"GET / HTTP/1.1\r\n")
            assert curl(f"http://127.0.0.1:{port}/")[0] == 200  # by now the two before it have been accepted
            ended = program.end(signal.SIGINT)
            assert_clean(ended, "uv_http")
            assert states(ended[1]) == LIFE, ended[1]
            assert_hung_up(silent)
            assert_hung_up(half)


@case
def uv_http_tells_why_it_cannot_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Program("uv_http", str(port)) as program:
            code, lines, errors = program.end()
            assert code == 1, code
            assert states(lines) == ["new", "starting", "failed"], lines
            assert re.fullmatch(
                rf"uv_http failed in init, code -\d+: cannot listen on 127\.0\.0\.1:{port}: address already in use\n", errors
            ), errors


# --- accept ---------------------------------------------------------------------------------------------------------


def accept(program):
    return int(program.wait_for(r"^echo on 127\.0\.0\.1:(\d+)$").group(1))


@case
def accept_echoes_and_ends_on_sigterm_in_accept():
    with Program("accept") as program:
        port = accept(program)
        for number in range(20):
            with connect(port) as client:
                echoes(client, b"line %d\n" % number)
                echoes(client, bytes(range(256)) * 64)
        assert_clean(program.end(signal.SIGTERM), "accept")


@case
def accept_ends_when_no_client_ever_came():
    for number in (signal.SIGTERM, signal.SIGINT):
        with Program("accept") as program:
            accept(program)
            assert_clean(program.end(number), "accept")


@case
def accept_ends_while_it_sits_in_recv():
    with Program("accept") as program:
        with connect(accept(program)) as client:
            echoes(client, b"hello")  # now it waits for more
            assert_clean(program.end(signal.SIGTERM), "accept")
            assert_hung_up(client)


@case
def accept_ends_while_it_sits_in_send():
    with Program("accept") as program:
        with connect(accept(program)) as client:
            client.setblocking(False)
            quiet = 0
            while quiet < 20:  # nothing is read here, so at last the server's send blocks, and then so does ours
                try:
                    client.send(b"x" * 65536)
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                    time.sleep(0.01)  # there is no event for "the other side is stuck": silence for 0.2 s has to do
            assert_clean(program.end(signal.SIGTERM), "accept")


@case
def accept_tells_why_it_cannot_start():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Program("accept", str(port)) as program:
            code, lines, errors = program.end()
            assert (code, lines) == (1, []), (code, lines)
            assert errors == f"accept failed: cannot listen on 127.0.0.1:{port}: Address already in use\n", errors


@case
def wrong_usage_is_told():
    for name in ("uv_http", "accept"):
        for arguments in (["x"], ["-1"], ["65536"], ["1", "2"], [""]):
            with Program(name, *arguments) as program:
                ended = program.end()
                assert ended == (2, [], f"usage: {name} [port]\n"), (name, arguments, ended)


# --- demo -----------------------------------------------------------------------------------------------------------


@case
def demo_shows_what_it_says():
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "examples/demo/demo.py"), os.path.join(PROGRAMS, "uv_http"), STAGE],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=5 * LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, ""), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "\x1b" not in done.stdout, "colours without a terminal"
    for name in ("C", "Python"):
        assert re.search(rf"^ +\| .*{name} pod", done.stdout, re.MULTILINE), done.stdout
    for first, second in zip(LIFE, LIFE[1:]):
        steps = re.findall(rf"\d ms  (\w+)  {first} -> {second}$", done.stdout, re.MULTILINE)
        assert steps == ["uv_http", "http_server"], (first, second, done.stdout)
    assert done.stdout.splitlines()[-1].startswith("Shown: "), done.stdout


def main():
    failed = 0
    for function in CASES:
        try:
            function()
            print(f"ok: {function.__name__}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED: {function.__name__}\n{traceback.format_exc()}", flush=True)
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
