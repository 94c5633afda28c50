"""`podkeep run -- COMMAND`: exit codes, signals, what the command gets, and that nothing of it is left."""

import fcntl
import os
import signal
import socket
import sys
import tempfile
import termios
import textwrap
import time

from support import LIMIT, PROGRAM, SLOW, Ended, alive, children, group_alive, line, podkeep, run, start, status, until
from test_usage import exec_bytes

PYTHON = sys.executable


def failure(ended):
    """The program's own lines."""
    return [row for row in ended.err.splitlines() if row.startswith("podkeep: ")]


def test_the_code_is_the_commands():
    for code in (0, 1, 3, 124, 255):
        ended = run("run", "--", "sh", "-c", f"exit {code}")
        assert ended.code == code, ended
        told = failure(ended)
        if code == 0:
            assert not ended.err, ended
        else:
            assert len(told) == 1 and "sh: failed in run" in told[0] and f"code {code}" in told[0], ended


def test_a_signal_is_128_and_its_number():
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGUSR1):
        ended = run("run", "--", "sh", "-c", f"kill -{int(number)} $$")
        assert ended.code == 128 + number, ended
        assert f"(signal, code {int(number)})" in failure(ended)[0], ended


def test_what_cannot_be_run_is_127():
    ended = run("run", "--", "no-such-command-anywhere")
    assert ended.code == 127 and "no-such-command-anywhere" in failure(ended)[0], ended
    assert run("run", "--", "/nonexistent/program").code == 127
    # Found, but not executable: the failure tells the shell's 126.
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o644)
        for path in (file.name, "/"):
            ended = run("run", "--", path)
            assert ended.code == 127 and "failed in spawn (exit, code 126)" in failure(ended)[0], ended
    assert run("run", "--cwd", "/nonexistent", "--", "true").code == 127
    assert run("run", "--", "").code in (2, 127)


def test_a_name_is_the_commands_unless_given():
    assert failure(run("run", "--", "/bin/sh", "-c", "exit 1"))[0].startswith("podkeep: sh: ")
    assert failure(run("run", "--name", "wéb", "--", "sh", "-c", "exit 1"))[0].startswith("podkeep: wéb: ")


def test_its_stderr_is_passed_through_and_not_said_twice():
    ended = run("run", "--", "sh", "-c", "echo last words >&2; exit 3")
    assert ended.err.count("last words") == 1 and len(failure(ended)) == 1, ended
    assert ended.err.startswith("last words\n"), ended


def test_its_code_needs_no_reader_of_its_stderr():
    for argv, code in ((["sh", "-c", "echo says >&2; exit 3"], 3), (["no-such-command-anywhere"], 127)):
        reader, writer = os.pipe()
        os.close(reader)
        process = podkeep("run", "--", *argv, stderr=writer)
        os.close(writer)
        assert Ended(process).code == code, argv


def test_a_slow_reader_gets_all_of_its_stderr():
    process = podkeep("run", "--", "sh", "-c", "seq 1 100000 >&2; exit 3")
    until(lambda: status(process.pid, "State") and children(process.pid), "the command")
    read = bytearray()
    while got := os.read(process.stderr.fileno(), 1000):
        read += got
    *said, told = read.decode().splitlines()
    assert said == [str(i) for i in range(1, 100001)], (len(said), said[-3:])
    assert "code 3" in told and Ended(process).code == 3, told


def test_streams_arguments_environment_and_directory():
    ended = exec_bytes(
        [
            *("run", "--env", "A=1", "--env", b"B=\xff=", "--env", "A=2", "--cwd", "/", "--"),
            *("sh", "-c", 'pwd; echo "$A"; printf "%s" "$B" | od -An -tx1; printf "%s" "$1" | od -An -tx1; cat; env', "x"),
            b"\xfe\x01 -- '",
        ],
        env={**os.environ, "C": "kept"},
    )
    rows = ended.out.splitlines()
    assert rows[:4] == ["/", "2", " ff 3d", " fe 01 20 2d 2d 20 27"], ended
    assert "C=kept" in rows and ended.code == 0, ended


def test_its_dispositions_are_the_defaults():
    look = "import signal; print([n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN])"
    # Python itself ignores SIGPIPE and SIGXFSZ.
    direct = Ended(start(PYTHON, "-c", look))
    kept = run("run", "--", PYTHON, "-c", look)
    assert kept.out == direct.out, (kept, direct)
    mask = run("run", "--", "grep", "SigBlk", "/proc/self/status")
    assert int(mask.out.split()[1], 16) == 0, mask


TRAP = 'trap "echo got {0}; exit {1}" {0}; echo up; while :; do sleep 1000 & wait $!; done'


def test_term_and_int_reach_the_command_as_its_stop_signal():
    for sent in (signal.SIGTERM, signal.SIGINT):
        process = podkeep("run", "--", "sh", "-c", TRAP.format("TERM", 0))
        assert line(process) == "up"
        process.send_signal(sent)
        ended = Ended(process)
        assert (ended.code, ended.out, ended.err) == (0, "got TERM\n", ""), ended
    process = podkeep("run", "--stop-signal", "SIGUSR2", "--", "sh", "-c", TRAP.format("USR2", 0))
    assert line(process) == "up"
    process.terminate()
    ended = Ended(process)
    assert (ended.code, ended.out) == (0, "got USR2\n"), ended


def test_words_to_the_command_reach_it():
    words = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGRTMIN, signal.SIGRTMAX)
    listen = """
        import signal, sys
        words = {int(word) for word in sys.argv[1:]}
        signal.pthread_sigmask(signal.SIG_BLOCK, words)
        print("up", flush=True)
        while True:
            print(int(signal.sigwait(words)), flush=True)
    """
    # In a session of its own: nobody has a terminal there.
    process = podkeep("run", "--", PYTHON, "-c", textwrap.dedent(listen), *map(int, words), start_new_session=True)
    assert line(process) == "up"
    for word in words:
        process.send_signal(word)
        assert line(process) == str(int(word))
    process.terminate()
    ended = Ended(process)
    assert (ended.code, ended.out, ended.err) == (0, "", ""), ended


def test_words_reach_each_life_and_none_between_them():
    process = podkeep(
        *("run", "--restart", "always", "--backoff", "1ms", "--backoff-max", "1ms", "--max-restarts", "unlimited", "--"),
        *("sh", "-c", TRAP.format("USR1", 0)),
    )
    for _ in range(20):
        assert line(process) == "up"
        process.send_signal(signal.SIGUSR1)
        assert line(process) == "got USR1"
        process.send_signal(signal.SIGWINCH)  # whoever is there by then does not mind
    process.terminate()
    assert Ended(process).code == 0


def test_a_word_that_ends_the_command_is_its_failure():
    # Said as soon as the command speaks, which may be before its start has returned: none is lost.
    for _ in range(100):
        process = podkeep("run", "--", "sh", "-c", "echo up; exec sleep 1000")
        assert line(process) == "up"
        process.send_signal(signal.SIGUSR2)
        ended = Ended(process)
        assert ended.code == 128 + signal.SIGUSR2 and "(signal, code 12)" in ended.err, ended


def test_a_hangup_ends_it_at_a_terminal_and_is_ignored_under_nohup():
    def at_a_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    master, slave = os.openpty()
    process = podkeep("run", "--", "sh", "-c", TRAP.format("HUP", 0), stdin=slave, preexec_fn=at_a_terminal)
    os.close(slave)
    assert line(process) == "up"
    os.close(master)
    ended = Ended(process)
    assert ended.code == -signal.SIGHUP and "got HUP" not in ended.out, ended

    def under_nohup():
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = podkeep("run", "--", "sh", "-c", TRAP.format("USR1", 0), preexec_fn=under_nohup)
    assert line(process) == "up"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGUSR1)
    ended = Ended(process)
    assert (ended.code, ended.out) == (0, "got USR1\n"), ended


def test_ends_that_are_clean_after_a_cancel():
    for code in (0, 143):
        process = podkeep("run", "--", "sh", "-c", TRAP.format("TERM", code))
        assert line(process) == "up"
        process.terminate()
        assert Ended(process).code == 0
    process = podkeep("run", "--", "sh", "-c", TRAP.format("TERM", 9))
    assert line(process) == "up"
    process.terminate()
    assert Ended(process).code == 9
    # By the stop signal itself.
    process = podkeep("run", "--", "sh", "-c", "echo up; exec sleep 1000")
    assert line(process) == "up"
    process.terminate()
    assert Ended(process).code == 0


def test_a_term_at_any_moment_ends_it():
    """From before the handlers stand (then it is the kernel that ends it) to after the command is up."""
    for n in range(40):
        process = podkeep("run", "--grace", "20", "--", "sleep", "1000")
        # Spread over the whole start; no event of a process that has not begun to speak could be waited for.
        time.sleep(n * 0.001)
        process.terminate()
        ended = Ended(process)
        assert ended.code in (0, -signal.SIGTERM), (n, ended)


def test_a_command_that_has_spoken_is_asked_before_it_is_killed():
    """However soon the stop comes: a command that runs gets its stop signal first."""
    for n in range(100):
        process = podkeep("run", "--", "sh", "-c", TRAP.format("TERM", 0))
        assert line(process) == "up"
        process.terminate()
        ended = Ended(process)
        assert (ended.code, ended.out) == (0, "got TERM\n"), (n, ended)


DEAF = 'trap "echo deaf to TERM" TERM; echo up $$; while :; do sleep 1000 & wait $!; done'


def test_spent_grace_kills_the_group():
    begin = time.monotonic()
    process = podkeep("run", "--grace", "0.3", "--kill-after", "200ms", "--", "sh", "-c", DEAF)
    pid = int(line(process).split()[1])
    process.terminate()
    ended = Ended(process)
    assert ended.code == 128 + signal.SIGTERM, ended
    assert time.monotonic() - begin < 5 * SLOW
    until(lambda: not alive(pid), "the end of the command")
    until(lambda: not group_alive(pid), "the end of all of its group")


def test_a_second_signal_forces_at_once():
    for first, second in ((signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)):
        process = podkeep("run", "--grace", "forever", "--", "sh", "-c", DEAF)
        pid = int(line(process).split()[1])
        process.send_signal(first)
        assert line(process) == "deaf to TERM"
        process.send_signal(second)
        # Not communicate(): the command, which holds stdout, ends a moment later.
        assert process.wait(LIMIT) == 128 + second, (first, second)
        until(lambda: not group_alive(pid), "the end of the command's group")


def test_the_ready_timeout_is_124():
    ended = run("run", "--ready", "notify", "--ready-timeout", "100ms", "--", "sleep", "1000")
    assert ended.code == 124 and "in ready (timeout" in failure(ended)[0], ended
    begin = time.monotonic()
    ended = run(*"run --ready notify --ready-timeout 0.1 --grace 0.1 --kill-after 0.1 --".split(), "sh", "-c", DEAF)
    assert ended.code == 124, ended
    assert time.monotonic() - begin < 5 * SLOW


def test_ready_notify_fails_when_it_ends_before():
    ended = run("run", "--ready", "notify", "--", "sh", "-c", "exit 4")
    assert ended.code == 4 and "in ready" in failure(ended)[0], ended


def test_ready_by_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind("")  # An abstract address of the kernel's choice.
    manager.settimeout(LIMIT)
    address = "@" + manager.getsockname()[1:].decode()
    process = podkeep(
        *("run", "--ready", f"port:{port}", "--ready-timeout", str(LIMIT), "--"),
        *(PYTHON, "-m", "http.server", "--bind", "127.0.0.1", str(port)),
        env={**os.environ, "NOTIFY_SOCKET": address},
    )
    while "READY=1" not in manager.recv(4096).decode().split("\n"):
        pass
    socket.create_connection(("127.0.0.1", port), LIMIT).close()
    process.terminate()
    assert Ended(process).code == 0
    manager.close()


def test_a_killed_program_takes_its_command_along():
    process = podkeep("run", "--", "sh", "-c", 'sleep 1000 & echo $$; wait')
    pid = int(line(process))
    assert group_alive(pid)
    process.kill()
    process.wait()
    until(lambda: not group_alive(pid), "the end of the group")


def test_what_the_command_leaves_behind_ends_with_it():
    process = podkeep("run", "--", "sh", "-c", "sleep 1000 & echo $!; exit 0")
    left = int(line(process))
    assert Ended(process).code == 0
    until(lambda: not alive(left) or status(left, "State")[:1] == "Z", "the end of what was left")


def test_it_works_with_streams_closed():
    for fds in ((0,), (0, 1), (0, 1, 2)):

        def shut():
            for fd in fds:
                os.close(fd)

        ended = Ended(start(PROGRAM, "run", "--", "sh", "-c", "exit 7", preexec_fn=shut))
        assert ended.code == 7, (fds, ended)


def test_an_end_is_known_though_whoever_started_it_ignores_sigchld():
    for script, code in (("exit 0", 0), ("exit 5", 5), ("kill -KILL $$", 128 + signal.SIGKILL)):
        ignored = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # noqa: E731
        ended = Ended(start(PROGRAM, "run", "--", "sh", "-c", script, preexec_fn=ignored))
        assert ended.code == code, (script, ended)


def test_it_has_one_child_and_few_descriptors():
    process = podkeep("run", "--", "sh", "-c", 'echo "up $PODKEEP_CHILD"; ls /proc/self/fd | wc -l; exec sleep 1000')
    # The channel, should the command ask for it (podkeep_child_run).
    up = line(process)
    assert up.startswith("up 3:4:5:"), up
    # With the one that ls itself has open.
    assert line(process) == str(3 + 3 + 1)
    assert len(children(process.pid)) == 1
    process.terminate()
    assert Ended(process).code == 0
