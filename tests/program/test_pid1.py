"""`podkeep run` as a container's first process: real PID 1 of a PID namespace, beside tini and dumb-init."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

from support import LIMIT, PROGRAM, SLOW, Ended, Skip, children, line, start, status, until
from test_command import DEAF, TRAP
from test_library import words

_unshare = None


def unshare():
    """How a PID namespace is made here."""
    global _unshare
    if _unshare is None:
        refusals = []
        for extra in ([], ["--user", "--map-root-user"]):
            argv = ["unshare", *extra, "--pid", "--fork", "--kill-child", "--mount-proc"]
            try:
                tried = subprocess.run([*argv, "true"], capture_output=True, timeout=LIMIT)
            except FileNotFoundError:
                raise Skip("unshare (util-linux) is not installed") from None
            if tried.returncode == 0:
                _unshare = argv
                break
            refusals.append(tried.stderr.decode().strip())
        else:
            raise Skip(f"no PID namespace is allowed here: {'; '.join(refusals)}")
    return _unshare


class Container:
    """A PID namespace and its first process."""

    def __init__(self, argv, **options):
        self.outside = start(*unshare(), *argv, **options)

    @property
    def init(self):
        """The first process, by its number out here, once it has become what it should be."""

        def started():
            found = children(self.outside.pid)
            return found and status(found[0], "Name") not in ("", "unshare") and found[0]

        return until(started, "the first process")

    def line(self):
        return line(self.outside)

    def send(self, number):
        os.kill(self.init, number)

    def zombies(self):
        return [pid for pid in children(self.init) if status(pid, "State")[:1] == "Z"]

    def ended(self, limit=LIMIT):
        return Ended(self.outside, limit)


# --- Beside tini and dumb-init ----------------------------------------------------------------------------------------


def the_code(init):
    return str(Container([*init, "sh", "-c", "exit 7"]).ended().code)


def the_code_of_a_killed_command(init):
    return str(Container([*init, "sh", "-c", "kill -KILL $$"]).ended().code)


def the_code_without_a_command(init):
    return str(Container([*init, "no-such-command-anywhere"]).ended().code)


def term_reaches_the_command(init):
    return forwarded(init, signal.SIGTERM, "TERM")


def hup_reaches_the_command(init):
    return forwarded(init, signal.SIGHUP, "HUP")


def forwarded(init, number, name):
    container = Container([*init, "sh", "-c", TRAP.format(name, 0)])
    assert container.line() == "up"
    container.send(number)
    try:
        return "yes" if f"got {name}" in container.ended(LIMIT).out else "ended without"
    except subprocess.TimeoutExpired:
        return "no"


def a_command_that_ends_by_term(init):
    container = Container([*init, "sh", "-c", "echo up; exec sleep 1000"])
    assert container.line() == "up"
    container.send(signal.SIGTERM)
    return str(container.ended().code)


def patience(init):
    """How long an init is waited for: those that are compared with may stay for ever."""
    return LIMIT if init[0] == PROGRAM else 2 * SLOW


def a_command_deaf_to_term(init):
    init = [*init[:-1], "--grace", "0.2", "--kill-after", "0.2", "--"] if init[0] == PROGRAM else init
    container = Container([*init, "sh", "-c", DEAF])
    container.line()
    container.send(signal.SIGTERM)
    try:
        return f"killed, {container.ended(patience(init)).code}"
    except subprocess.TimeoutExpired:
        return "stays"


def a_second_term_forces(init):
    init = [*init[:-1], "--grace", "forever", "--"] if init[0] == PROGRAM else init
    container = Container([*init, "sh", "-c", DEAF])
    container.line()
    container.send(signal.SIGTERM)
    assert container.line() == "deaf to TERM"
    container.send(signal.SIGTERM)
    try:
        return f"yes, {container.ended(patience(init)).code}"
    except subprocess.TimeoutExpired:
        return "no"


STRANGERS = 'n=0; while [ $n -lt {0} ]; do (sh -c "exit 3" &); n=$((n+1)); done; echo made; '


def strangers_are_reaped(init):
    container = Container([*init, "sh", "-c", STRANGERS.format(20) + "exec sleep 1000"])
    assert container.line() == "made"
    # The command alone is left: every other child of the first process was reaped.
    until(lambda: len(children(container.init)) == 1, "the strangers' end")
    container.send(signal.SIGTERM)
    container.ended()
    return "yes"


def memory_of_its_own(init):
    container = Container([*init, "sh", "-c", "echo up; exec sleep 1000"])
    assert container.line() == "up"
    rollup = pathlib.Path(f"/proc/{container.init}/smaps_rollup").read_text().splitlines()
    size = {row.split(":")[0]: row.split()[1] for row in rollup if row.endswith("kB")}
    container.send(signal.SIGKILL)
    container.ended()
    return f"{size['Anonymous']} kB"


# What podkeep has to answer; None: only shown.
OBSERVATIONS = {
    the_code: "7",
    the_code_of_a_killed_command: "137",
    the_code_without_a_command: "127",
    term_reaches_the_command: "yes",
    hup_reaches_the_command: "yes",
    a_command_that_ends_by_term: "0",
    a_command_deaf_to_term: "killed, 143",
    a_second_term_forces: "yes, 143",
    strangers_are_reaped: "yes",
    memory_of_its_own: None,
}


def test_beside_tini_and_dumb_init():
    unshare()
    inits = {"podkeep run": [PROGRAM, "run", "--"]}
    for name in ("tini", "dumb-init"):
        if shutil.which(name):
            inits[name] = [shutil.which(name), "--"]
        else:
            print(f"  {name} is not installed and not compared with")
    print("  " + " " * 32 + "".join(f"{name:<16}" for name in inits))
    wrong = []
    for observe, expected in OBSERVATIONS.items():
        label = observe.__name__.replace("_", " ")
        seen = [observe(init) for init in inits.values()]
        print(f"  {label:<32}" + "".join(f"{value:<16}" for value in seen))
        if expected is not None and seen[0] != expected:
            wrong.append(f"{label}: {seen[0]}, not {expected}")
    assert not wrong, wrong


# --- podkeep alone ----------------------------------------------------------------------------------------------------


def test_the_status_of_a_short_command_is_never_lost():
    """Reaping strangers races with the pod's own wait: a command may end before anybody knows its number."""
    for n in range(60):
        ended = Container([PROGRAM, "run", "--", "sh", "-c", f"exit {n + 1}"]).ended()
        assert ended.code == n + 1, (n, ended)


def test_nor_among_many_strangers():
    ended = Container([PROGRAM, "run", "--", "sh", "-c", STRANGERS.format(300) + "exit 9"]).ended()
    assert ended.code == 9, ended


def test_strangers_are_reaped_though_whoever_started_it_blocks_sigchld():
    blocked = lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # noqa: E731
    script = "for i in 1 2 3 4 5; do (sleep 0.1 &); done; echo up; exec sleep 1000"
    container = Container([PROGRAM, "run", "--", "sh", "-c", script], preexec_fn=blocked)
    assert container.line() == "up"
    until(lambda: len(children(container.init)) == 1, "the end of the strangers")
    container.send(signal.SIGTERM)
    assert container.ended().code == 0


def test_a_worker_in_the_main_process_keeps_all_its_children():
    """S is no child here: what PID 1 inherits may be S's to wait for, so nothing is reaped."""
    for host in ("main", "thread"):
        container = Container([PROGRAM, *words("parent", host)])
        assert container.line() == "up 1"
        assert container.line() == "lost 0"
        until(lambda: len(container.zombies()) == 20, "the 20 strangers")
        container.send(signal.SIGTERM)
        assert container.ended().code == 0, host


def test_a_worker_in_a_child_keeps_its_children_and_strangers_are_reaped():
    container = Container([PROGRAM, *words("parent", "process")])
    assert container.line().startswith("up ")
    assert container.line() == "lost 0"
    until(lambda: len(children(container.init)) == 1, "the strangers' end")
    container.send(signal.SIGTERM)
    assert container.ended().code == 0


def test_a_worker_is_cancelled_and_forced():
    for host in ("main", "process"):
        container = Container([PROGRAM, *words("polite", host)])
        assert container.line().startswith("init") and container.line().startswith("up")
        container.send(signal.SIGINT)
        ended = container.ended()
        assert (ended.code, ended.out) == (0, "asked\nteardown\n"), (host, ended)
        container = Container([PROGRAM, *words("deaf", host, "--grace", "0.2", "--kill-after", "0.2")])
        container.line()
        container.send(signal.SIGTERM)
        assert container.ended().code == 143, host


def test_a_term_at_any_moment_ends_it():
    """The kernel drops what PID 1 has no handler for; from when on it is heard is shown here: as soon as the command runs."""
    for _ in range(20):
        container = Container([PROGRAM, "run", "--", "sh", "-c", "echo up; exec sleep 1000"])
        assert container.line() == "up"
        container.send(signal.SIGTERM)
        assert container.ended().code == 0


def test_the_first_process_needs_no_guardian():
    """The kernel itself ends a namespace with its first process."""
    container = Container([PROGRAM, "run", "--", "sh", "-c", "sleep 1000 & echo up; wait"])
    assert container.line() == "up"
    names = [status(pid, "Name") for pid in children(container.init)]
    assert names == ["sh"], names
    inside = [pid for pid in children(children(container.init)[0])]
    begin = time.monotonic()
    container.send(signal.SIGKILL)
    assert container.ended().code != 0
    until(lambda: not any(status(pid, "Name") for pid in inside), "the end of the namespace")
    assert time.monotonic() - begin < 5 * SLOW
