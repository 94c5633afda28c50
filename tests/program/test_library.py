"""`podkeep run --library`: the same worker in the program's own main thread and in a child of it."""

import os
import pathlib
import resource
import signal
import tempfile
import time

from support import BUILD, LIMIT, SLOW, Ended, alive, group_alive, line, podkeep, run, until
from test_command import failure

WORKER = BUILD / "libworker.so"
HOSTS = ("main", "thread", "process")


def words(symbol, host, *options, library=WORKER):
    return ["run", "--host", host, *options, "--library", library, "--symbol", symbol]


def with_args(text, symbol, host, *options):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        return run(*words(symbol, host, "--args-file", file.name, *options))


def test_it_is_initialised_run_cancelled_and_torn_down():
    for host in HOSTS:
        for sent in (signal.SIGTERM, signal.SIGINT):
            process = podkeep(*words("polite", host))
            assert line(process).startswith("init name=polite")
            pid = int(line(process).split()[1])
            assert (pid == process.pid) == (host != "process"), host
            process.send_signal(sent)
            ended = Ended(process)
            assert (ended.code, ended.out, ended.err) == (0, "asked\nteardown\n", ""), (host, ended)


def test_main_is_what_is_meant_without_a_host():
    process = podkeep("run", "--library", WORKER, "--symbol", "polite")
    line(process)
    assert int(line(process).split()[1]) == process.pid
    process.terminate()
    assert Ended(process).code == 0


def test_name_arguments_environment_directory_and_dispositions():
    for host in HOSTS:
        with tempfile.TemporaryDirectory() as name:
            name = os.path.realpath(name)
            (pathlib.Path(name) / "args").write_text("a b c")
            library = os.path.relpath(WORKER)  # Relative to here, not to --cwd.
            process = podkeep(
                *words("polite", host, "--name", "other", "--cwd", name, "--env", "PODKEEP_TEST_WORD=w=1", library=library),
                *("--args-file", f"{name}/args"),
            )
            told = line(process)
            assert told == f"init name=other cwd={name} word=w=1 args=5:a b c main=1 sigpipe=1", (host, told)
            process.terminate()
            assert Ended(process).code == 0


def test_what_it_returns_is_the_code():
    for host in HOSTS:
        for text, code in (("0", 0), ("7", 7), ("255", 255), ("256", 1), ("-5", 1)):
            ended = with_args(text, "returns", host)
            assert ended.code == code, (host, text, ended)
            assert bool(ended.err) == (code != 0), (host, text, ended)


def test_a_failure_and_what_followed_are_told():
    for host in HOSTS:
        ended = with_args("9", "fails", host)
        assert ended.code == 9, (host, ended)
        assert ended.err == (
            "podkeep: fails: failed in run (returned, code 9): the first thing\nand its second line\n"
            "podkeep: fails: then failed in teardown (returned, code 4): the last thing\n"
        ), (host, ended)


def test_a_failed_init_is_told():
    for host in HOSTS:
        ended = with_args("6", "refuses", host)
        assert ended.code == 6 and "failed in init (returned, code 6): not today" in ended.err, (host, ended)


def test_an_exit_inside_is_a_failure_of_a_child():
    for text, code in (("5", 5), ("0", 1)):
        ended = with_args(text, "leaves", "process")
        assert ended.code == code and f"failed in run (exit, code {text})" in ended.err, ended
    # In the main process there is nobody left to tell.
    assert with_args("5", "leaves", "main").code == 5


def test_a_crash_inside():
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for number in (signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT):
        ended = with_args(str(int(number)), "crashes", "process")
        assert ended.code == 128 + number and f"(signal, code {int(number)})" in ended.err, ended
        assert with_args(str(int(number)), "crashes", "main").code == -number


def test_spent_grace_after_a_signal_is_128_and_its_number():
    for host in HOSTS:
        for sent in (signal.SIGTERM, signal.SIGINT):
            process = podkeep(*words("deaf", host, "--grace", "0.2", "--kill-after", "0.1"))
            pid = int(line(process).split()[1])
            begin = time.monotonic()
            process.send_signal(sent)
            assert Ended(process).code == 128 + sent, (host, sent)
            assert time.monotonic() - begin < 5 * SLOW
            until(lambda: not (group_alive if host == "process" else alive)(pid), "its end")


def test_spent_grace_without_a_signal_is_124():
    for host in HOSTS:
        # Long enough to have entered init by then.
        process = podkeep(*words("stuck", host, "--ready-timeout", "2", "--grace", "0.2", "--kill-after", "0.1"))
        assert line(process) == "init"
        assert Ended(process).code == 124, host


def test_a_second_signal_forces_at_once():
    for host in HOSTS:
        process = podkeep(*words("deaf", host, "--grace", "forever"))
        pid = int(line(process).split()[1])
        process.send_signal(signal.SIGTERM)
        # Taken: a signal that is still pending would be one with the next.
        until(lambda: not pending(process.pid, signal.SIGTERM), "the first signal to be taken")
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 128 + signal.SIGINT, host
        until(lambda: not (group_alive if host == "process" else alive)(pid), "its end")


def pending(pid, number):
    rows = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(row.split()[1], 16) for row in rows if row.startswith(("ShdPnd", "SigPnd"))]
    return any(mask & (1 << (number - 1)) for mask in masks)


def test_a_worker_that_names_no_library_finds_this_one():
    for host in HOSTS:
        process = podkeep(*words("polite", host, library=BUILD / "libunnamed.so"))
        assert line(process).startswith("init")
        process.terminate()
        assert Ended(process).code == 0, host


def test_what_is_not_there_is_127():
    for host in HOSTS:
        for library, symbol in ((WORKER, "no_such_symbol"), ("/nonexistent.so", "x"), ("/etc/passwd", "x"), (WORKER, "nothing")):
            ended = run(*words(symbol, host, library=library))
            assert ended.code == 127 and len(failure(ended)) == 1, (host, library, symbol, ended)


def test_a_killed_program_takes_its_child_along():
    process = podkeep(*words("deaf", "process"))
    pid = int(line(process).split()[1])
    process.kill()
    process.wait()
    until(lambda: not group_alive(pid), "its end")


def test_children_of_the_workers_own_keep_their_status():
    for host in HOSTS:
        process = podkeep(*words("parent", host))
        line(process)
        assert line(process) == "lost 0", host
        process.terminate()
        assert Ended(process).code == 0
