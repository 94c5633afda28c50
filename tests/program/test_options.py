"""Which option of the command line becomes which field; a recorder stands in for the library."""

import os
import tempfile

from support import BUILD, PROGRAM, run

RECORDER = BUILD / "librecorder.so"
DEFAULTS = {
    "name NULL host 1 ready 0 port 0 ready_timeout 0",
    "grace 0 kill_after 0 stop_signal 0",
    "cwd NULL args 0:",
    "env",
    "rest 0",
}


def record(*argv, **fake):
    return run(*argv, env={**os.environ, "PODKEEP_LIBRARY": str(RECORDER), **fake})


def test_nothing_said_is_every_default():
    ended = record("run", "--", "a/b", "--c", "", "d e")
    assert ended.code == 0 and not ended.err, ended
    rows = ended.out.splitlines()
    assert rows[0] == f"program {os.path.realpath(PROGRAM)}", rows
    assert rows[1] == "command b: [a/b] [--c] [] [d e]" and rows[2] == "size 1 runtime 1", rows
    assert DEFAULTS <= set(rows) and rows[-1].startswith("run 1"), rows


def test_each_option_is_its_field():
    ended = record(
        *"run --name n --host process --grace 1.5 --kill-after 250ms --ready port:81 --ready-timeout 2m".split(),
        *"--stop-signal RTMIN+1 --env A=1 --env B=x=y --env C= --cwd dir -- true".split(),
    )
    rows = ended.out.splitlines()
    assert rows[3:] == [
        "name n host 1 ready 2 port 81 ready_timeout 120000",
        "grace 1500 kill_after 250 stop_signal 35",
        "cwd dir args 0:",
        "env [A=1] [B=x=y] [C=]",
        "rest 0",
        "run 1 word NULL",
    ], rows


def test_a_librarys_host_and_arguments():
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"abc")
        file.flush()
        for host, number in ((None, 0), ("main", 0), ("thread", 0), ("process", 1)):
            ended = record(
                *("run", "--library", "./w.so", "--symbol", "s", "--args-file", file.name, "--ready", "notify"),
                *(("--host", host) if host else ()),
            )
            rows = ended.out.splitlines()
            assert rows[1] == "library ./w.so s", rows
            assert f"name NULL host {number} ready 1 port 0 ready_timeout 0" in rows, (host, rows)
            assert "cwd NULL args 3:abc" in rows, rows


def test_in_this_process_environment_and_directory_are_the_processs_own():
    words = ("run", "--library", "w.so", "--symbol", "s", "--env", "WORD=first", "--env", "WORD=second", "--cwd", "/")
    here = record(*words).out.splitlines()
    assert "env" in here and "cwd NULL args 0:" in here and here[-1] == "run 1 word second", here
    child = record(*words, "--host", "process").out.splitlines()
    assert "env [WORD=first] [WORD=second]" in child and "cwd / args 0:" in child, child
    assert child[-1] == "run 1 word NULL", child


def test_times_at_their_ends():
    for text, grace in (("forever", -1), ("0", 1), ("0.0001", 1), ("5s", 5000)):
        assert f"grace {grace} kill_after 0 stop_signal 0" in record("run", "--grace", text, "--", "x").out, text
    assert "kill_after 1 " in record("run", "--kill-after", "0", "--", "x").out
    assert "ready_timeout 0\n" in record("run", "--ready-timeout", "0", "--", "x").out


def test_a_refusal_is_the_librarys_sentence():
    for status, code in ((-1, 2), (-14, 127), (-9, 127), (-3, 1), (-13, 1)):
        for variable in ("FAKE_STATUS", "FAKE_RUN"):
            ended = record("run", "--", "x", **{variable: str(status)})
            assert (ended.code, ended.err) == (code, "podkeep: the fake's sentence\n"), (variable, status, ended)
    ended = record("run", "--", "x", FAKE_STATUS="-13", FAKE_SILENT="1")
    assert ended.err == "podkeep: PODKEEP_ERR_INTERNAL\n", ended


def test_a_failure_is_told_with_those_after_it():
    ended = record("run", "--", "x", FAKE_CODE="5")
    assert ended.code == 5, ended
    assert ended.err == (
        "podkeep: pod: failed in cancel (watchdog, code 5): why\npodkeep: pod: then failed in ? (?, code 5): why else\n"
    ), ended


def test_another_abi_is_refused():
    ended = record("run", "--", "x", FAKE_ABI="9")
    assert ended.code == 127 and "ABI 9" in ended.err, ended


def test_a_childs_code_is_the_librarys():
    for code in (0, 3, 127):
        assert record("__child", FAKE_CODE=str(code)).code == code
    ended = record("__child", FAKE_STATUS="-6")
    assert ended.code == 2 and "no pod's child" in ended.err, ended
    ended = record("__child", FAKE_STATUS="-10")
    assert ended.code == 1 and "the fake's sentence" in ended.err, ended
