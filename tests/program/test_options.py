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
    "restart 0 max 0 window 0 backoff 0 to 0",
    "watchdog 0 extend_max 0 rest 0",
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
        *"--stop-signal RTMIN+1 --env A=1 --env B=x=y --env C= --cwd dir --restart on-failure --max-restarts 3".split(),
        *"--restart-window 2m --backoff 50ms --backoff-max 4 --watchdog 1.5 --extend-max 7s -- true".split(),
    )
    rows = ended.out.splitlines()
    assert rows[3:] == [
        "name n host 1 ready 2 port 81 ready_timeout 120000",
        "grace 1500 kill_after 250 stop_signal 35",
        "cwd dir args 0:",
        "env [A=1] [B=x=y] [C=]",
        "restart 1 max 3 window 120000 backoff 50 to 4000",
        "watchdog 1500 extend_max 7000 rest 0",
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


def test_restarts():
    for text, number in (("never", 0), ("on-failure", 1), ("always", 2)):
        assert f"restart {number} max 0 window 0 backoff 0 to 0\n" in record("run", "--restart", text, "--", "x").out, text
    assert "max 4294967295 " in record("run", "--restart", "always", "--max-restarts", "unlimited", "--", "x").out
    # A library's default stands behind 0: the least that can be said is 1.
    ended = record(*"run --restart always --restart-window 0 --backoff 0 --backoff-max 0 --extend-max 0 --watchdog 0 -- x".split())
    assert "window 1 backoff 1 to 1\nwatchdog 0 extend_max 1 " in ended.out, ended


def test_each_restart_is_told_with_why():
    ended = record("run", "--restart", "on-failure", "--", "x", FAKE_CODE="5")
    assert ended.code == 5, ended
    assert ended.err == (
        "podkeep: pod: failed in ? (?, code 5): why else\npodkeep: pod: restart 2\npodkeep: pod: restart 4\n"
        "podkeep: pod: failed in cancel (watchdog, code 5): why\npodkeep: pod: then failed in ? (?, code 5): why else\n"
    ), ended
    # Nothing to tell by is no reason not to keep it; nor is anything told that was not asked for.
    for argv, fake in ((("run", "--restart", "always", "--", "x"), {"FAKE_MONITOR": "-9"}), (("run", "--", "x"), {})):
        ended = record(*argv, **fake)
        assert (ended.code, ended.err) == (0, ""), ended


def test_listen_is_served_while_it_runs():
    plain = record("run", "--", "x").out.splitlines()
    ended = record("run", "--listen", "tcp:127.0.0.1:0", "--", "x")
    assert (ended.code, ended.err) == (0, "podkeep: listening on tcp:127.0.0.1:4711\n"), ended
    # When there is a pod to tell of, until it has ended.
    serve = "serve tcp:127.0.0.1:0 size 1 cert NULL key NULL ca NULL"
    assert ended.out.splitlines() == [*plain[:-1], serve, plain[-1], "served 1"], ended
    with tempfile.TemporaryDirectory() as name:
        name = os.path.realpath(name)
        files = ("--tls-cert", "c.pem", "--tls-key", "/k.pem", "--tls-client-ca", "d/a.pem")
        # Relative to here, not to --cwd.
        words = ("run", "--listen", "unix:s/x", *files, "--cwd", "/", "--library", "w.so", "--symbol", "s")
        env = {**os.environ, "PODKEEP_LIBRARY": str(RECORDER)}
        ended = run(*words, env=env, cwd=name)
        assert f"serve unix:{name}/s/x size 1 cert {name}/c.pem key /k.pem ca {name}/d/a.pem\n" in ended.out, ended


def test_listen_that_cannot_be_is_told():
    for fake in ("FAKE_SERVE", "FAKE_ADDRESS"):
        for status, code in ((-1, 2), (-9, 127), (-10, 1), (-11, 1)):
            ended = record("run", "--listen", "tcp:127.0.0.1:0", "--", "x", **{fake: str(status)})
            assert (ended.code, ended.err) == (code, "podkeep: the fake's sentence\n"), (fake, status, ended)
            assert "run 1" not in ended.out and ("served 1" in ended.out) == (fake == "FAKE_ADDRESS"), ended
    # A run that is refused has served for nothing, and leaves no socket.
    ended = record("run", "--listen", "unix:/x", "--", "x", FAKE_RUN="-3")
    assert ended.code == 1 and ended.out.endswith("served 1\n"), ended


def test_a_library_without_control_is_asked_for_it_by_listen_alone():
    env = {**os.environ, "PODKEEP_LIBRARY": str(BUILD / "librecorder_before.so")}
    assert run("run", "--", "x", env=env).code == 0
    ended = run("run", "--listen", "unix:/x", "--", "x", env=env)
    assert ended.code == 127 and ended.err.startswith("podkeep: --listen: "), ended
    assert "podkeep_control_serve" in ended.err and "run 1" not in ended.out, ended


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
