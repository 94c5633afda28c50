"""What an export means to those who read it: Kubernetes' schemas and expansion, systemd's own parser."""

import functools
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from support import LIMIT, Skip

HERE = pathlib.Path(__file__).resolve().parent
# The oldest and the newest that the package has.
VERSIONS = ("1.25", "1.37")
VALIDATE = """
import json, sys, yaml, kubernetes_validate
documents = []
for text in json.load(sys.stdin):
    (document,) = yaml.safe_load_all(text)
    for version in %r:
        kubernetes_validate.validate(document, version, strict=True)
    documents.append(document)
json.dump(documents, sys.stdout)
""" % (VERSIONS,)


@functools.cache
def _validator():
    """The interpreter of a virtualenv made as those of the Python tests are."""
    spec = importlib.util.spec_from_file_location("virtualenvs", HERE.parent / "python" / "run.py")
    virtualenvs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(virtualenvs)
    return virtualenvs.virtualenv(sys.executable, sys.version_info[:2], HERE / "requirements.txt", "venv-kubernetes")


def manifests(texts):
    """Each of the texts, validated and read."""
    done = subprocess.run([_validator(), "-c", VALIDATE], input=json.dumps(texts), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expanded(word, env=()):
    """A word of `command`, `args` or a variable's value as the kubelet expands it: $(NAME), and $$ for a dollar."""
    env = dict(env)
    return re.sub(
        r"\$(\$|\(([^)]*)\))",
        lambda found: "$" if found[1] == "$" else env.get(found[2], found[0]),
        word,
    )


ESCAPES = {ord(k): v for k, v in {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}.items()}


def _words(shown):
    """The words of a command line as systemd shows it: in double quotes with C's escapes where need be."""
    words, at = [], 0
    while at < len(shown):
        word, quoted = bytearray(), False
        while at < len(shown) and (quoted or shown[at] != ord(" ")):
            byte = shown[at]
            if byte == ord('"'):
                quoted = not quoted
            elif byte == ord("\\"):
                octal = re.match(rb"[0-3][0-7]{2}", shown[at + 1 : at + 4])
                at += 3 if octal else 1
                byte = int(octal[0], 8) if octal else ESCAPES.get(shown[at], shown[at])
                word.append(byte)
            else:
                word.append(byte)
            at += 1
        words.append(bytes(word))
        at += 1
    return words


class Unit:
    """A unit as systemd itself reads it: in its test mode, which starts nothing; not as root, which it refuses."""

    def __init__(self, text):
        if not shutil.which("systemd-analyze"):
            raise Skip("no systemd-analyze")
        with tempfile.TemporaryDirectory() as name:
            os.chmod(name, 0o755)
            file = pathlib.Path(name, "unit", "exported.service")
            file.parent.mkdir()
            file.write_text(text)
            self.verified = subprocess.run(
                ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT,
            )
            self.runtime = f"{name}/run"
            os.mkdir(self.runtime)
            as_somebody = ()
            if os.geteuid() == 0:
                os.chown(self.runtime, 65534, 65534)
                as_somebody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
            manager = next((p for p in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(p)), None)
            if manager is None:
                raise Skip("no systemd")
            env = {"HOME": "/", "XDG_RUNTIME_DIR": self.runtime, "SYSTEMD_UNIT_PATH": f"{file.parent}:", "PATH": os.environ["PATH"]}
            said = subprocess.run(
                [*as_somebody, manager, "--user", "--test", "--unit=exported.service"],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, env=env,
            )
        own = said.stdout.partition(b"-> Unit exported.service:")[2].partition(b"\n\t-> Unit ")[0]
        assert own, said
        (shown,) = re.findall(rb"\n\t*Command Line: (.*)\n", own)
        # A dollar begins a variable when it is executed, and two are one.
        assert all(len(run) % 2 == 0 for word in _words(shown) for run in re.findall(rb"\$+", word)), shown
        self.command = [word.replace(b"$$", b"$") for word in _words(shown)]
        # A variable's value may have several lines; what follows it is another field.
        self.environment = re.findall(rb"\n\t\tEnvironment: (.*?)(?=\n\t\t\w+: )", own, re.S)
        self.fields = dict(re.findall(rb"\n\t\t(\w+): (.*)", own))


if __name__ == "__main__":
    _validator()  # installed before any case's limit runs
