"""`podkeep completions`, `podkeep man`, and that an installation has both."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from support import STAGE, Skip, run

VERBS = ("run", "export", "completions", "man")
SHELLS = {"bash": "bash-completion/completions/podkeep", "zsh": "zsh/site-functions/_podkeep", "fish": "fish/vendor_completions.d/podkeep.fish"}


def check(*argv, **options):
    env = {**os.environ, "LC_ALL": "C.UTF-8"}  # one that is there: shells and man speak of others
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, **options)
    assert done.returncode == 0 and not done.stderr, (argv, done)
    return done.stdout


def completes(shell):
    """The script, once it is known that this shell can read it; those of shells that are not here are looked at only."""
    ended = run("completions", shell)
    assert ended.code == 0 and not ended.err, ended
    for word in (*VERBS, "on-failure", "restart-window", "kubernetes"):
        assert word in ended.out, (shell, word)
    assert (STAGE / "share" / SHELLS[shell]).read_text() == ended.out, shell
    if not shutil.which(shell):
        raise Skip(f"no {shell} to read it with")
    check(shell, "-n", str(STAGE / "share" / SHELLS[shell]))
    return ended.out


def test_bash_reads_its_completions():
    completes("bash")
    # And asks them: what follows `podkeep run --restart`?
    script = (
        f"source '{STAGE / 'share' / SHELLS['bash']}'; COMP_WORDS=(podkeep run --restart o); COMP_CWORD=3;"
        "_podkeep podkeep o --restart; printf '%s ' \"${COMPREPLY[@]}\""
    )
    assert check("bash", "--norc", "-c", script).split() == ["on-failure"]


def test_zsh_reads_its_completions():
    completes("zsh")


def test_fish_reads_its_completions():
    completes("fish")


def pages():
    with tempfile.TemporaryDirectory() as name:
        ended = run("man", name)
        assert (ended.code, ended.out, ended.err) == (0, "", ""), ended
        return {page.name: page.read_text() for page in pathlib.Path(name).iterdir()}


def test_each_verb_has_a_page():
    made = pages()
    wanted = {"podkeep.1", *(f"podkeep-{verb}.1" for verb in (*VERBS, "export-kubernetes", "export-systemd"))}
    assert wanted <= set(made), set(made)
    installed = {page.name: page.read_text() for page in (STAGE / "share/man/man1").glob("podkeep*.1")}
    assert installed == made
    for word in ("Exit codes", "128+n", "\\-\\-restart\\-window"):
        assert word in made["podkeep-run.1"], word


def test_the_pages_are_without_a_warning():
    if shutil.which("man") and shutil.which("groff"):
        read = lambda page: ("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)  # noqa: E731
    elif shutil.which("groff"):
        read = lambda page: ("groff", "-man", "-ww", "-Tutf8", "-Z", page)  # noqa: E731
    else:
        raise Skip("neither man nor groff to read them with")
    for page in sorted((STAGE / "share/man/man1").glob("podkeep*.1")):
        check(*read(str(page)))


def test_pages_that_cannot_be_written_are_told():
    ended = run("man", "/nonexistent/directory")
    assert ended.code == 1 and ended.err.startswith("podkeep: no page can be written to /nonexistent/directory: "), ended
