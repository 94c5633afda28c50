"""What is said wrong is told, with exit code 2; a missing library with 127."""

import os
import shutil
import tempfile

from support import BUILD, PROGRAM, STAGE, Ended, run, start

WORKER = BUILD / "libworker.so"
WRONG = [
    [],
    ["frobnicate"],
    ["run"],
    ["run", "--"],
    ["run", "true"],
    ["run", "--nonsense", "--", "true"],
    ["run", "--library", WORKER],
    ["run", "--symbol", "polite"],
    ["run", "--library", WORKER, "--symbol", "polite", "--", "true"],
    ["run", "--host", "moon", "--", "true"],
    ["run", "--host", "thread", "--", "true"],
    ["run", "--args-file", "/dev/null", "--", "true"],
    ["run", "--args-file", "/nonexistent", "--library", WORKER, "--symbol", "polite"],
    ["run", "--cwd", "/nonexistent", "--library", WORKER, "--symbol", "polite"],
    *(["run", "--grace", text, "--", "true"] for text in ("", "-1", "x", "5h", "1e3", "nan")),
    *(["run", "--kill-after", text, "--", "true"] for text in ("forever", "-1")),
    *(["run", "--ready-timeout", text, "--", "true"] for text in ("forever", "-0.5")),
    *(["run", "--ready", text, "--", "true"] for text in ("", "soon", "port", "port:0", "port:65536", "port:x")),
    *(["run", "--stop-signal", text, "--", "true"] for text in ("", "0", "65", "-1", "NOPE")),
    *(["run", "--env", text, "--", "true"] for text in ("", "A", "=b")),
    *(["run", "--restart", text, "--", "true"] for text in ("", "sometimes", "on_failure")),
    *(["run", "--restart", "always", "--max-restarts", n, "--", "true"] for n in ("", "0", "-1", "x", "4294967295")),
    *(["run", "--restart", "always", f"--{name}", "-1", "--", "true"] for name in ("restart-window", "backoff", "backoff-max")),
    # Without --restart they would mean nothing.
    *(["run", f"--{name}", "1", "--", "true"] for name in ("max-restarts", "restart-window", "backoff", "backoff-max")),
    *(["run", f"--{name}", "forever", "--", "true"] for name in ("watchdog", "extend-max")),
    *(["run", f"--{name}", "x.pem", "--", "true"] for name in ("tls-cert", "tls-key", "tls-client-ca")),
    ["export"],
    ["export", "compose", "--", "true"],
    *(["export", target] for target in ("kubernetes", "systemd")),
    ["export", "kubernetes", "--", "true"],
    *(["export", "kubernetes", f"--image={image}", "--", "true"] for image in ("", "a b", "a\n")),
    *(["export", "kubernetes", "--image=i", *words, "--", "true"] for words in (
        ["--uid=0"], ["--replicas=-1"], ["--port=0"], ["--port=65536"], ["--grace=forever"], ["--env=9=x"], ["--env=a b=x"],
        ["--cwd=here"], ["--host=thread"], ["--name="], ["--name=" + "x" * 256], ["--ready-timeout=99999999999"],
    )),
    ["export", "kubernetes", "--image=i", "--", b"\xff"],
    ["export", "kubernetes", "--image=i", "--", "./here"],
    ["export", "kubernetes", "--image=i", "--library=w.so", "--symbol=s"],
    ["export", "kubernetes", "--image=i", "--library=/w.so", "--symbol=s", "--args-file=a"],
    *(["export", "systemd", *words, "--", "true"] for words in (
        ["--program=podkeep"], ["--program=/it's"], ["--program=/a\n"], ["--env=a-b=x"], [b"--env=a=\xff"], ["--cwd=/a "],
        ["--cwd=/a\n"], ["--cwd=/a\\"], ["--image=i"],
    )),
    ["completions"],
    ["completions", "tcsh"],
    ["man"],
    ["run", "--name", "", "--", "true"],
    ["run", "--name", "x" * 256, "--", "true"],
    ["run", "--name", b"\xff", "--", "true"],
    ["run", "--stop-signal", "INT", "--library", WORKER, "--symbol", "polite"],
    ["run", "--ready", "port:80", "--library", WORKER, "--symbol", "polite"],
]


def exec_bytes(argv, **options):
    """As run(), with arguments that are bytes."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in argv]
    return Ended(start_bytes([PROGRAM.encode(), *words], **options))


def start_bytes(argv, **options):
    import subprocess

    from support import track

    return track(
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )
    )


def test_wrong_usage_is_2_and_a_sentence():
    for argv in WRONG:
        ended = exec_bytes(argv)
        assert ended.code == 2, (argv, ended)
        assert ended.err and not ended.out, (argv, ended)
        assert "panicked" not in ended.err, (argv, ended)


def test_help_is_complete_and_on_stdout():
    whole = run("--help")
    assert whole.code == 0 and not whole.err and "run" in whole.out, whole
    assert "__guard" not in whole.out and "__child" not in whole.out, whole
    help_of_run = run("run", "--help")
    assert help_of_run.code == 0, help_of_run
    for word in (
        *("--name", "--host", "--grace", "--kill-after", "--ready", "--ready-timeout", "--stop-signal", "--env"),
        *("--cwd", "--args-file", "--library", "--symbol", "124", "127", "128+n", "port:N", "on-run", "notify"),
        *("--restart", "--max-restarts", "--restart-window", "--backoff", "--backoff-max", "--watchdog", "--extend-max"),
        *("never", "on-failure", "always", "unlimited"),
    ):
        assert word in help_of_run.out, word
    for flag in ("-h",):
        assert run("run", flag).code == 0


def test_help_into_a_closed_pipe_is_no_panic():
    read, write = os.pipe()
    os.close(read)
    ended = Ended(start(PROGRAM, "run", "--help", stdout=write))
    os.close(write)
    assert "panicked" not in ended.err, ended


def test_version_tells_library_and_abi():
    for flag in ("--version", "-V"):
        ended = run(flag)
        assert ended.code == 0, ended
        rows = ended.out.splitlines()
        assert rows[0].startswith("podkeep ") and rows[1].startswith("library ") and rows[2] == "ABI 0", ended
        assert str(STAGE / "lib" / "libpodkeep.so.0") in rows[1], ended


def test_a_library_that_is_missing_or_another_is_127():
    cases = {
        "/nonexistent/libpodkeep.so.0": "PODKEEP_LIBRARY",
        "/etc/passwd": "PODKEEP_LIBRARY",
        "libc.so.6": "podkeep_abi_version",
    }
    for path, word in cases.items():
        for argv in (["run", "--", "true"], ["--version"], ["__child"]):
            ended = run(*argv, env={**os.environ, "PODKEEP_LIBRARY": path})
            assert ended.code == 127 and word in ended.err and ended.err.count("\n") == 1, (path, argv, ended)


def test_where_the_library_is_looked_for():
    library = STAGE / "lib" / "libpodkeep.so.0"
    clean = {key: value for key, value in os.environ.items() if key not in ("PODKEEP_LIBRARY", "LD_LIBRARY_PATH")}
    with tempfile.TemporaryDirectory() as name:
        alone = os.path.join(os.path.realpath(name), "bin", "podkeep")
        os.makedirs(os.path.dirname(alone))
        shutil.copy(PROGRAM, alone)

        def version(**env):
            return Ended(start(alone, "--version", env={**clean, **env}))

        # The loader's own search, which may know an installed library; none here otherwise.
        ended = version(LD_LIBRARY_PATH=str(STAGE / "lib"))
        assert ended.code == 0 and "(libpodkeep.so.0)" in ended.out, ended
        here = os.path.join(os.path.dirname(alone), "libpodkeep.so.0")
        shutil.copy(library, here)
        assert here in version().out
        beside = os.path.join(os.path.realpath(name), "lib", "libpodkeep.so.0")
        os.makedirs(os.path.dirname(beside))
        shutil.copy(library, beside)
        assert beside in version().out
        assert str(library) in version(PODKEEP_LIBRARY=str(library)).out
        # By a link: what counts is where the program really is.
        link = os.path.join(name, "link")
        os.symlink(alone, link)
        assert beside in Ended(start(link, "--version", env=clean)).out
        # One that is there but cannot be loaded is told, not passed over.
        with open(beside, "w") as broken:
            broken.write("no library")
        ended = version()
        assert ended.code == 127 and beside in ended.err, ended


def test_a_child_without_a_host_is_told_so():
    for marker in (None, "", "3:4", "nonsense", "1000:1001", "-1:-1", "0:1"):
        env = dict(os.environ)
        if marker is not None:
            env["PODKEEP_CHILD"] = marker
        ended = run("__child", env=env)
        assert ended.code == 2 and "no pod's child" in ended.err, (marker, ended)
