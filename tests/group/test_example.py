#!/usr/bin/env python3
"""Kills the members of the group examples at any time, and asserts order, restarts and a clean end: the same of both.

    test_example.py C_PROGRAM STAGE    examples/c/group.c as it was built, the library's tree for examples/python/group.py;
                                       some seconds each; PODKEEP_TEST_MINUTE=1: a minute

It kills only processes that the program has named as its own, by pid. Last line: N passed, N failed.
"""

import contextlib
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request

LIMIT = 30.0 * max(1.0, float(os.environ.get("PODKEEP_TEST_SLOW", "1")))  # seconds for any single step: a safety net
SECONDS = 60.0 if os.environ.get("PODKEEP_TEST_MINUTE") else 6.0
MEMBERS = ("redis", "web", "worker")
STATES = ("new", "starting", "running", "stopping", "restarting", "stopped", "failed", "abandoned")
BUGS = ("a bug that is noticed", "exited with code 4", "killed by signal 9 ")  # the worker's own
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def free_ports(count):
    """Different ones: each is taken until all are known."""
    with contextlib.ExitStack() as taken:
        listeners = [taken.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


class Site:
    """The example, running; `told` is what it has printed so far: (member, state)."""

    def __init__(self, program, directory):
        self.redis_port, self.web_port = free_ports(2)
        self.process = subprocess.Popen(
            [*program, str(self.redis_port), str(self.web_port), directory],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.told, self.lines, self.pids, self.seen_pids = [], {}, {}, set()
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def read(self, seconds):
        """One line, if one comes in that time. False: none came; None: the program has ended."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return False
        if line is None:
            return None
        # The web server has the same standard output, and may be in the middle of a line of its own.
        said = re.search(rf"({'|'.join(MEMBERS)}) +({'|'.join(STATES)})\b.*", line)
        if not said:
            return True
        member, state = said.groups()
        line = said[0]
        self.told.append((member, state))
        self.lines[member] = line
        self.pids.pop(member, None)
        if match := re.search(r" process (\d+)", line):
            self.pids[member] = int(match[1])
            self.seen_pids.add(int(match[1]))
        return True

    def state(self, member):
        return next((state for name, state in reversed(self.told) if name == member), "new")

    def pass_time(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            assert self.read(left) is not None, f"the program has ended: {self.told[-20:]}"

    def until(self, condition, what):
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert self.read(0.1) is not None, f"the program has ended: {self.told[-20:]}"
            assert time.monotonic() < deadline, f"waited too long until {what}: {self.lines} {self.told[-20:]}"

    def all_running(self):
        return all(self.state(member) == "running" for member in MEMBERS)

    def kill(self, member, number):
        """A process of the site's that it said was running, if it still is its child."""
        pid = self.pids.get(member)
        if pid is None:
            return False
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) != self.process.pid:
                    return False
            os.kill(pid, number)
        except (OSError, ValueError):
            return False
        return True

    def ask_redis(self, command):
        with socket.create_connection(("127.0.0.1", self.redis_port), timeout=LIMIT) as client:
            client.sendall(command + b"\r\n")
            return client.recv(1000)

    def ask_web(self):
        # No proxy of the environment's: loopback only.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.web_port}/", timeout=LIMIT) as answer:
            return answer.status

    def end(self):
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + LIMIT
        while self.read(0.1) is not None:
            assert time.monotonic() < deadline, f"no end: {self.told[-20:]}"
        return self.process.wait(LIMIT)


def check_order(told):
    """Nobody starts before redis was ready; and when redis comes back, those after it have gone down before."""
    now = dict.fromkeys(MEMBERS, "new")
    for at, (member, state) in enumerate(told):
        if state == "starting" and member != "redis":
            # redis may be dead by the moment that its member begins; it was ready when that was decided
            assert ("redis", "running") in told[:at], (at, told[max(0, at - 10):at + 1])
        if state == "starting" and member == "redis" and at > 0:
            for other in ("web", "worker"):
                assert now[other] in ("restarting", "new"), (at, other, now[other], told[max(0, at - 10):at + 1])
        assert (now[member], state) not in {("running", "starting"), ("stopping", "running"), ("running", "running")}, told[at - 10:at + 1]
        now[member] = state


def killed_at_any_time(program, directory):
    site = Site(program, directory)
    try:
        site.until(site.all_running, "all run")
        assert site.told[:2] == [("redis", "starting"), ("redis", "running")], site.told
        kills, begun, dice = 0, time.monotonic(), random.Random()

        def restarts():
            return {member: site.told.count((member, "restarting")) for member in MEMBERS}

        # Longer on a machine that is slow to bring them back.
        while time.monotonic() < begun + SECONDS or kills <= 3 or sum(restarts().values()) <= 3:
            assert time.monotonic() < begun + SECONDS + LIMIT, (kills, restarts())
            kills += site.kill(dice.choice(list(site.pids) or MEMBERS), dice.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGABRT)))
            site.pass_time(dice.choice((0.0, 0.05, 0.3, 0.8)))
        length = time.monotonic() - begun
        site.pass_time(1.0)  # the last kill is noticed: a stop that meets it would tell of a failure
        # The worker has bugs of its own: up for a moment is all that can be asked for.
        site.until(site.all_running, "all run again")
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                assert site.ask_redis(b"PING").startswith(b"+PONG") and site.ask_web() == 200
                break
            except (OSError, AssertionError):  # one that dies may still take the connection, and close it
                assert time.monotonic() < deadline
        before = len(site.told)
        code = site.end()
        # A bug of the worker's may meet the stop: that is the group's failure.
        met = ("worker", "failed") in site.told[before:] and any(bug in site.lines["worker"] for bug in BUGS)
        assert code == (1 if met else 0), f"exit code {code}: {site.told[before:]} {site.lines}"
        ended = [member for member, state in site.told if state in ("stopped", "failed")]
        assert sorted(ended) == sorted(MEMBERS) and ended[-1] == "redis", ended
        check_order(site.told)
        for pid in site.seen_pids:
            assert not os.path.exists(f"/proc/{pid}") or int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1]) != site.process.pid
        print(f"    {kills} kills in {length:.0f} s, restarts {restarts()}")
    finally:
        if site.process.poll() is None:
            site.process.kill()
            site.process.wait(LIMIT)


def killed_host_leaves_nothing(program, directory):
    """The host itself dies by SIGKILL: so do all of its members."""
    site = Site(program, directory)
    try:
        site.until(lambda: {"redis", "web"} <= site.pids.keys(), "redis and the web server run")
        pids = list(site.pids.values())
        site.process.kill()
        site.process.wait(LIMIT)
        deadline = time.monotonic() + LIMIT

        def gone(pid):
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    return stat.read().rsplit(")", 1)[1].split()[0] in "ZX"
            except OSError:
                return True

        while not all(map(gone, pids)):
            assert time.monotonic() < deadline, f"left behind: {pids}"
            time.sleep(0.01)  # nobody tells of the end of another's child
    finally:
        if site.process.poll() is None:
            site.process.kill()
            site.process.wait(LIMIT)


def main():
    c_program, stage = sys.argv[1:]
    os.environ["PODKEEP_LIBRARY"] = os.path.join(stage, "lib/libpodkeep.so.0")
    os.environ["PYTHONPATH"] = os.path.join(ROOT, "bindings/python/src")
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    programs = {"C": [c_program], "Python": [sys.executable, os.path.join(ROOT, "examples/python/group.py")]}
    passed = failed = 0
    for language, program in programs.items():
        for case in (killed_at_any_time, killed_host_leaves_nothing):
            with tempfile.TemporaryDirectory() as directory:
                try:
                    case(program, directory)
                    passed += 1
                    print(f"ok   {language} {case.__name__}", flush=True)
                except Exception:
                    failed += 1
                    print(f"FAIL {language} {case.__name__}")
                    traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
