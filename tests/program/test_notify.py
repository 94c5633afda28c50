"""What a main pod says upward (sd_notify): in order, and only what is true."""

import os
import signal
import socket
import sys

from support import LIMIT, Ended, line, podkeep
from test_library import words


class Manager:
    """A service manager's socket."""

    def __init__(self, **env):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("")  # An abstract address of the kernel's choice.
        self.socket.settimeout(LIMIT)
        self.env = {**os.environ, "NOTIFY_SOCKET": "@" + self.socket.getsockname()[1:].decode(), **env}
        self.heard = []

    def next(self, key):
        """The next line that is key=..., after those of other keys."""
        while True:
            try:
                rows = self.socket.recv(8192).decode().splitlines()
            except TimeoutError:
                raise AssertionError(f"no {key} within {LIMIT} s; so far {self.heard}") from None
            self.heard += rows
            for row in rows:
                if row.startswith(key + "="):
                    return row.split("=", 1)[1]

    def fill(self):
        """Until nobody else's words are taken."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
            full.setblocking(False)
            try:
                while True:
                    full.sendto(b"STATUS=full", self.socket.getsockname())
            except BlockingIOError:
                pass

    def rest(self):
        """All that is left when nobody speaks any more."""
        self.socket.setblocking(False)
        try:
            while True:
                self.heard += self.socket.recv(8192).decode().splitlines()
        except BlockingIOError:
            self.socket.close()
        return self.heard


def kinds():
    yield "library main", words("polite", "main")
    yield "library process", words("polite", "process")
    yield "library told", words("told", "main", "--ready", "notify")
    yield "command", ["run", "--", "sh", "-c", "echo init; echo up; exec sleep 1000"]


def test_ready_then_stopping():
    for label, argv in kinds():
        manager = Manager()
        process = podkeep(*argv, env=manager.env)
        assert manager.next("READY") == "1", label
        process.send_signal(signal.SIGTERM)
        assert manager.next("STOPPING") == "1", label
        assert Ended(process).code == 0, label
        heard = manager.rest()
        assert heard.count("READY=1") == 1 and heard.count("STOPPING=1") == 1, (label, heard)


def test_the_status_goes_up():
    manager = Manager()
    process = podkeep(*words("told", "main", "--ready", "notify"), env=manager.env)
    assert manager.next("STATUS") == "warming up"
    process.terminate()
    assert Ended(process).code == 0
    manager.rest()


def test_no_ready_before_the_command_says_so():
    speak = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
        "s.connect(os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1)); print('up', flush=True); sys.stdin.read();"
    )
    manager = Manager()
    process = podkeep(
        *("run", "--ready", "notify", "--", sys.executable, "-c"),
        speak + "s.send(b'STATUS=half way'); s.send(b'READY=1'); import signal; signal.pause()",
        env=manager.env,
    )
    assert line(process) == "up"
    assert manager.next("READY") == "1"
    assert "STOPPING=1" not in manager.heard
    process.terminate()
    assert manager.next("STOPPING") == "1"
    assert Ended(process).code == 0
    heard = manager.rest()
    assert heard.index("READY=1") < heard.index("STOPPING=1"), heard


def test_one_that_fails_before_ready_never_says_it():
    manager = Manager()
    process = podkeep("run", "--ready", "notify", "--", "sh", "-c", "exit 3", env=manager.env)
    assert Ended(process).code == 3
    assert "READY=1" not in manager.rest()


def test_the_watchdog_is_fed():
    for label, argv in kinds():
        manager = Manager(WATCHDOG_USEC="100000")
        process = podkeep(*argv, env=manager.env)
        # Fed for good, not only once.
        for _ in range(5):
            assert manager.next("WATCHDOG") == "1", label
        process.terminate()
        assert Ended(process).code == 0
        manager.rest()


def test_the_watchdog_is_fed_whatever_a_pod_says_of_itself():
    # Its heartbeats are podkeep's business, which ends what misses one, if that was asked for.
    once = "import os, socket, signal; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
    once += "s.connect(os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1)); s.send(b'WATCHDOG=1');"
    once += "s.send(b'READY=1'); signal.pause()"
    manager = Manager(WATCHDOG_USEC="100000")
    process = podkeep("run", "--ready", "notify", "--", sys.executable, "-c", once, env=manager.env)
    for _ in range(5):
        assert manager.next("WATCHDOG") == "1"
    process.terminate()
    assert Ended(process).code == 0
    manager.rest()


def test_what_a_busy_manager_has_not_taken_is_said_again():
    manager = Manager()
    stay = "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done"
    manager.fill()
    process = podkeep("run", "--grace", "forever", "--", "sh", "-c", stay, env=manager.env)
    assert line(process) == "up"
    assert manager.next("READY") == "1"
    manager.fill()
    process.terminate()
    assert line(process) == "asked"
    assert manager.next("STOPPING") == "1"
    process.terminate()
    assert Ended(process).code == 128 + signal.SIGTERM
    heard = manager.rest()
    assert heard.count("READY=1") == 1 and heard.count("STOPPING=1") == 1, heard


def test_no_socket_takes_a_standard_streams_place():
    def close():
        os.close(0)
        os.close(1)

    manager = Manager()
    process = podkeep("run", "--", "sleep", "1000", env=manager.env, preexec_fn=close)
    assert manager.next("READY") == "1"
    assert not {"0", "1"} & set(os.listdir(f"/proc/{process.pid}/fd"))
    process.terminate()
    assert Ended(process).code == 0
    manager.rest()


def test_a_command_talks_to_its_pod_not_to_the_manager():
    manager = Manager(WATCHDOG_USEC="100000", LISTEN_FDS="1")
    ended = Ended(podkeep("run", "--", "sh", "-c", "env", env=manager.env))
    env = dict(row.split("=", 1) for row in ended.out.splitlines() if "=" in row)
    assert env["NOTIFY_SOCKET"] != manager.env["NOTIFY_SOCKET"], env
    assert "WATCHDOG_USEC" not in env and "LISTEN_FDS" not in env, env
    manager.rest()


def test_a_manager_that_is_gone_changes_nothing():
    for address in ("@podkeep-test-nobody-here", "/nonexistent/socket", "nonsense", "", "@" + "x" * 300):
        process = podkeep("run", "--", "sh", "-c", "exit 5", env={**os.environ, "NOTIFY_SOCKET": address})
        assert Ended(process).code == 5, address
