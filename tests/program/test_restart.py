"""`podkeep run --restart --watchdog`: another life, the last one's exit code, and each failure told."""

import os
import select
import signal
import sys
import tempfile
import time

from support import LIMIT, Ended, group_alive, line, podkeep, run, until
from test_command import failure
from test_library import HOSTS, words
from test_notify import Manager

FAST = ("--backoff", "1ms", "--backoff-max", "2ms")


def told(ended):
    """Which restarts were told."""
    return [row.rsplit(" ", 1)[1] for row in failure(ended) if ": restart " in row]


def lives(directory, *codes):
    """A shell's words that end with each code in turn, a life each, and stay in the one after."""
    script = 'n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) >n; echo "life $n"; case $n in '
    script += " ".join(f"{n}) exit {code};;" for n, code in enumerate(codes))
    return ("--cwd", directory, "--", "sh", "-c", script + " esac; exec sleep 1000")


def with_number(text):
    file = tempfile.NamedTemporaryFile()
    file.write(text.encode())
    file.flush()
    return file


def test_a_command_that_fails_comes_back_until_it_is_well():
    with tempfile.TemporaryDirectory() as name:
        process = podkeep("run", "--restart", "on-failure", *FAST, *lives(name, 3, 4))
        assert [line(process) for _ in range(3)] == ["life 0", "life 1", "life 2"]
        process.terminate()
        ended = Ended(process)
        assert ended.code == 0 and told(ended) == ["1", "2"], ended
        assert "(exit, code 3)" in failure(ended)[0] and "(exit, code 4)" in failure(ended)[2], ended


def test_a_clean_end_is_the_end_unless_always():
    with tempfile.TemporaryDirectory() as name:
        ended = run("run", "--restart", "on-failure", *FAST, *lives(name, 0))
        assert (ended.code, ended.out, ended.err) == (0, "life 0\n", ""), ended
    with tempfile.TemporaryDirectory() as name:
        process = podkeep("run", "--restart", "always", *FAST, *lives(name, 0, 0))
        assert [line(process) for _ in range(3)] == ["life 0", "life 1", "life 2"]
        process.terminate()
        ended = Ended(process)
        assert ended.code == 0 and ended.err == "podkeep: sh: restart 1\npodkeep: sh: restart 2\n", ended


def test_too_many_restarts_end_with_the_last_failure():
    with tempfile.TemporaryDirectory() as name:
        ended = run("run", "--restart", "on-failure", "--max-restarts", "2", *FAST, *lives(name, 7, 8, 9))
        assert ended.code == 9 and ended.out == "life 0\nlife 1\nlife 2\n", ended
        assert told(ended) == ["1", "2"] and "(exit, code 9)" in failure(ended)[-1], ended
    ended = run("run", "--restart", "on-failure", "--max-restarts", "1", *FAST, "--", "sh", "-c", "kill -9 $$")
    assert ended.code == 128 + signal.SIGKILL and told(ended) == ["1"], ended
    # Had all ended well, there is no code to give on.
    ended = run("run", "--restart", "always", "--max-restarts", "3", *FAST, "--", "true")
    assert ended.code == 1 and "true: failed in run (returned, code 0): ended 4 times" in failure(ended)[-1], ended


def test_what_cannot_be_started_is_tried_again_too():
    ended = run("run", "--restart", "on-failure", "--max-restarts", "2", *FAST, "--", "no-such-command-anywhere")
    assert ended.code == 127 and told(ended) == ["1", "2"], ended


def test_libraries_in_each_host():
    for host in HOSTS:
        for symbol, word in (("returns", "failed in run (returned, code 7)"), ("refuses", "failed in init (returned, code 7)")):
            with with_number("7") as file:
                ended = run(
                    *words(symbol, host, "--restart", "on-failure", "--max-restarts", "2", *FAST, "--args-file", file.name)
                )
            assert ended.code == 7 and told(ended) == ["1", "2"], (host, symbol, ended)
            assert sum(word in row for row in failure(ended)) == 3, (host, symbol, ended)


def test_a_stop_is_never_followed_by_a_life():
    for host in HOSTS:
        process = podkeep(*words("polite", host, "--restart", "always"))
        line(process), line(process)
        process.terminate()
        ended = Ended(process)
        assert (ended.code, ended.err) == (0, ""), (host, ended)


def told_by(process, words, limit=LIMIT):
    """What it has told on stderr up to these words and a bit more."""
    said, end = "", time.monotonic() + limit
    while words not in said:
        assert select.select([process.stderr], [], [], max(0, end - time.monotonic()))[0], f"not told within {limit} s: {said}"
        more = os.read(process.stderr.fileno(), 4096).decode()
        assert more, f"its stderr has ended: {said}"
        said += more
    return said


def test_a_stop_between_two_lives_ends_it_at_once():
    process = podkeep("run", "--restart", "always", "--backoff", "10m", "--backoff-max", "10m", "--", "echo", "over")
    told_by(process, "restart 1\n")
    process.send_signal(signal.SIGTERM)
    assert Ended(process).code == 0


def test_a_missed_heartbeat_ends_the_life():
    process = podkeep(
        *words("deaf", "process", "--watchdog", "0.2", "--grace", "0.1", "--kill-after", "0.1"),
        *("--restart", "on-failure", *FAST),
    )
    first, second = int(line(process).split()[1]), int(line(process).split()[1])
    assert first != second
    until(lambda: not group_alive(first), "the end of the first")
    assert "(watchdog, code 0): no heartbeat for 0.200 s" in told_by(process, "restart 1\n")
    process.kill()
    Ended(process)
    until(lambda: not group_alive(second), "the end of the second")
    # The only thread there is cannot be let go: the whole process ends, as when any grace is spent.
    for host in ("main", "thread"):
        ended = run(*words("deaf", host, "--watchdog", "0.2", "--grace", "0.1", "--restart", "on-failure"))
        assert ended.code == 124, (host, ended)


NOTIFIER = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1))
interval = int(os.environ["WATCHDOG_USEC"]) / 1e6
s.send(b"READY=1")
print("interval", interval, flush=True)
for beat in range(0 if sys.argv[1] == "trigger" else 6):
    s.send(b"WATCHDOG=1")
    time.sleep(interval / 4)
print("fed", flush=True)
if sys.argv[1] == "trigger":
    s.send(b"WATCHDOG=trigger")
while True:
    time.sleep(1000)
"""


def test_a_commands_watchdog():
    """It is told of it as by systemd, feeds it, and is ended when it feeds it no more, or says that it is stuck."""
    # Told to wait for it, its first interval counts from there on; else from exec, and Python takes its time to a first word.
    for how, interval, ready in (("silent", "4s", "notify"), ("trigger", "40s", "on-run")):
        process = podkeep(
            *("run", f"--ready={ready}", "--watchdog", interval, "--restart", "on-failure", "--max-restarts", "1", *FAST),
            *("--", sys.executable, "-c", NOTIFIER, how),
        )
        rows = [line(process) for _ in range(4)]
        assert rows == [f"interval {interval[:-1]}.0", "fed"] * 2, rows
        ended = Ended(process)
        # It was ended for the watchdog's sake, by its stop signal.
        assert told(ended) == ["1"] and ended.code == 1, (how, ended)
        assert sum("(watchdog, code 0)" in row for row in failure(ended)) == 2, (how, ended)


def test_a_manager_hears_nothing_of_restarts():
    """To whoever is above it is one service: ready once, stopping once."""
    with tempfile.TemporaryDirectory() as name:
        manager = Manager()
        process = podkeep("run", "--restart", "on-failure", *FAST, *lives(name, 3, 4), env=manager.env)
        assert [line(process) for _ in range(3)] == ["life 0", "life 1", "life 2"]
        process.terminate()
        assert Ended(process).code == 0
        heard = manager.rest()
        assert heard.count("READY=1") == 1 and heard.count("STOPPING=1") == 1, heard
