"""`podkeep export`: what is written is valid where it is read, and means what was said."""

import os
import pathlib
import re
import sys
import tempfile

from exported import Unit, expanded, manifests
from support import PROGRAM, Ended, line, podkeep, run, until
from test_options import record
from test_usage import exec_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOSTILE = [
    *("", " ", "a b", " lead", "trail ", "'", '"', "\\", "\\\\n", ";", "#no", "# no", "a: b", "-", "--", "---", "...", "-x"),
    *("$", "$$", "$HOME", "${HOME}", "$(HOME)", "$$(HOME)", "$$$", "%", "%%", "%n", "%t/x", "`id`", "*", "&a", "!t", "|", ">"),
    *("yes", "NO", "on", "null", "~", "1", "1e3", "0x1", "12:30:45", "2001-01-01", "=", "<<", "{a}", "[b]", "@x", ","),
    *("line\nfeed", "\n", "\r\n", "\t", "\x01\x7f", "\x1b[0m", "\u0085", "\u2028", "\ufeffx", "\u00e9\u65e5\u672c", "\U0001f600", "\u00a0"),
    *("x" * 3000, "word " * 400, "a\n  b\n\n", "  a\nb"),
]
NAMES = ["web", "Web Server", "\u00e9", "-x", "a.b_c", "x" * 255, "%n $$ $(X)", "line\nfeed", "back\\", "'\"", "yes", "live"]
# Sets of options, and what is expected of the limits: seconds for a stop, for a start (None: not bounded).
SETS = [
    ([], 11, None),
    (["--grace=0.5", "--kill-after=100ms"], 6, None),
    (["--grace=1.2", "--kill-after=1", "--ready=notify", "--ready-timeout=20"], 8, 28),
    (["--grace=25", "--extend-max=10", "--ready-timeout=60", "--ready=port:80"], 41, 111),
    (["--restart=on-failure", "--max-restarts=unlimited", "--ready-timeout=20"], 11, None),
    (["--restart=always", "--ready-timeout=20m", "--backoff=1", "--backoff-max=5", "--restart-window=2m"], 11, None),
    (["--restart=never", "--ready-timeout=20m"], 11, 1211),
    (["--watchdog=2.5", "--stop-signal=INT", "--host=process", "--cwd=/srv/a b%", "--env=A=1", "--env=B=$(A) %n $$"], 11, None),
    (["--ready-timeout=0"], 11, None),
]


def export(target, *argv):
    more = ["--image=registry.example/a/b:1"] if target == "kubernetes" else []
    ended = exec_bytes(["export", target, *more, *argv])
    assert ended.code == 0 and not ended.err, (argv, ended)
    return ended.out


def container(manifest):
    (only,) = manifest["spec"]["template"]["spec"]["containers"]
    return only


def command(manifest):
    return [expanded(word) for word in container(manifest)["command"]]


def probe(manifest, name):
    return [expanded(word) for word in container(manifest)[name]["exec"]["command"]]


def test_a_manifest_is_valid_and_says_what_was_said():
    texts = [export("kubernetes", *options, "--", "server", *HOSTILE) for options, _, _ in SETS]
    for (options, stop, start), manifest in zip(SETS, manifests(texts)):
        words = command(manifest)
        assert words[:4] == ["podkeep", "run", "--listen=unix:/run/podkeep/server.sock", "--name=server"], words
        given = [option for option in options if not option.startswith(("--env", "--cwd"))]
        assert words[4:] == [*sorted(given, key=words.index), "--", "server", *HOSTILE], (options, words)
        pod = manifest["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] == stop, options
        startup = container(manifest)["startupProbe"]
        limit = startup["failureThreshold"] * startup["periodSeconds"]
        # A start without a limit, or of several lives, has what a Deployment has; one life is never cut short.
        assert limit == (start or (1211 if "--ready-timeout=20m" in options else 600)), (options, limit)
        assert manifest["spec"]["progressDeadlineSeconds"] > limit, options
        env = [(entry["name"], expanded(entry["value"], {"A": "1"})) for entry in container(manifest).get("env", [])]
        assert env == ([("A", "1"), ("B", "$(A) %n $$")] if "--env=A=1" in options else []), env
        assert container(manifest).get("workingDir") == ("/srv/a b%" if env else None)


def test_a_manifests_names_and_probes():
    texts = [export("kubernetes", f"--name={name}", "--", "x") for name in NAMES]
    for name, manifest in zip(NAMES, manifests(texts)):
        label = manifest["metadata"]["name"]
        assert re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", label), (name, label)
        assert container(manifest)["name"] == label
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        assert labels == manifest["spec"]["selector"]["matchLabels"] == {
            "app.kubernetes.io/name": label, "app.kubernetes.io/instance": label,
        }
        words = command(manifest)
        assert f"--name={name}" in words, words
        address = f"unix:/run/podkeep/{label}.sock"
        assert f"--listen={address}" in words and len(address) < 100
        of_the_pod = ["podkeep", "health", address, *(["--"] if name.startswith("-") else []), name]
        if name == "live":
            of_the_pod.pop()  # by that name the library would be asked for
        assert probe(manifest, "startupProbe") == probe(manifest, "readinessProbe") == of_the_pod
        # A pod that restarts is not RUNNING, and not to be killed from above.
        assert probe(manifest, "livenessProbe") == ["podkeep", "health", address, "--live"]


def test_a_manifest_is_for_nobody_with_rights():
    words = ("--replicas=3", "--port=80", "--port=443", "--uid=1000", "--program=/opt/podkeep/bin/podkeep")
    (manifest,) = manifests([export("kubernetes", *words, "--library=/srv/w.so", "--symbol=worker", "--args-file=/a")])
    assert command(manifest)[4:] == ["--args-file=/a", "--library=/srv/w.so", "--symbol=worker"]
    assert manifest["metadata"]["name"] == "worker" and manifest["spec"]["replicas"] == 3
    only, pod = container(manifest), manifest["spec"]["template"]["spec"]
    assert command(manifest)[0] == probe(manifest, "livenessProbe")[0] == "/opt/podkeep/bin/podkeep"
    assert [port["containerPort"] for port in only["ports"]] == [80, 443]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"},
    }
    places = {mount["mountPath"]: mount["name"] for mount in only["volumeMounts"]}
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    assert set(places) == {"/run/podkeep", "/tmp"} and volumes[places["/run/podkeep"]]["medium"] == "Memory"
    # A procedure of podkeep's own process is not killed first: there is no time between the grace and the end.
    assert pod["terminationGracePeriodSeconds"] == 10


def test_a_unit_is_valid_and_says_what_was_said():
    for options, stop, start in SETS:
        unit = Unit(export("systemd", *options, "--", "server", *HOSTILE))
        assert unit.verified.returncode == 0 and not unit.verified.stderr, (options, unit.verified)
        words = [word.decode() for word in unit.command]
        address = f"unix:{unit.runtime}/podkeep/server/control.sock"
        assert words[:4] == [os.path.realpath(PROGRAM), "run", f"--listen={address}", "--name=server"], words
        given = [option for option in options if not option.startswith(("--env", "--cwd"))]
        assert words[4:] == [*sorted(given, key=words.index), "--", "server", *HOSTILE], (options, words)
        fields = unit.fields
        assert fields[b"TimeoutStopSec"] == span(stop), (options, fields[b"TimeoutStopSec"])
        assert fields[b"TimeoutStartSec"] == span(start), (options, fields[b"TimeoutStartSec"])
        assert fields[b"WatchdogSec"] == span(30), fields[b"WatchdogSec"]
        assert (fields[b"Type"], fields[b"NotifyAccess"], fields[b"KillMode"]) == (b"notify", b"main", b"mixed")
        assert fields[b"Restart"] == b"on-abnormal" and fields[b"RuntimeDirectoryMode"] == b"0700"
        if "--env=A=1" in options:
            assert fields[b"WorkingDirectory"] == b"/srv/a b%" and unit.environment == [b"A=1", b"B=$(A) %n $$"], unit.environment


def span(seconds):
    """As systemd writes a time."""
    if seconds is None:
        return b"infinity"
    minutes, rest = divmod(seconds, 60)
    return " ".join([f"{minutes}min"] * bool(minutes) + [f"{rest}s"] * bool(rest)).encode()


def test_a_units_names_bytes_and_values():
    for name in NAMES:
        unit = Unit(export("systemd", f"--name={name}", "--", "x"))
        assert unit.verified.returncode == 0 and not unit.verified.stderr, (name, unit.verified)
        assert f"--name={name}".encode() in unit.command, (name, unit.command)
    # A shell's arguments are bytes, and so are systemd's.
    unit = Unit(export("systemd", "--grace=forever", "--", "x", b"\xff\xfe\x80 a"))
    assert unit.command[-1] == b"\xff\xfe\x80 a" and not unit.verified.stderr, unit.command
    assert unit.fields[b"TimeoutStopSec"] == b"infinity"
    values = [word for word in HOSTILE if len(word) < 100]
    unit = Unit(export("systemd", *(f"--env=V{n}={word}" for n, word in enumerate(values)), "--", "x"))
    assert not unit.verified.stderr, unit.verified
    assert unit.environment == [f"V{n}={word}".encode() for n, word in enumerate(values)], unit.environment


def test_what_is_written_runs_as_what_was_said():
    """The library gets the same from the exported words as from those they were made of."""
    options = "--ready port:81 --ready-timeout 2m --stop-signal RTMIN+1 --restart always --max-restarts 3 --watchdog 1".split()
    words = ["--name=-n a%$", "--grace", "1.5", *options, "--", "/bin/server", *HOSTILE]
    direct = record("run", *words).out
    (manifest,) = manifests([export("kubernetes", *words)])
    unit = Unit(export("systemd", *words))
    for exported in (command(manifest)[1:], [word.decode() for word in unit.command[1:]]):
        rows = record(*exported).out
        assert "serve unix:" in rows
        assert re.sub("(?m)^serve.*\n", "", rows) == direct, (exported, rows)


def test_the_example_is_what_is_exported():
    """examples/kubernetes/web.yaml says in its first lines how it was made."""
    text = (ROOT / "examples" / "kubernetes" / "web.yaml").read_text()
    comment, _, body = text.partition("apiVersion:")
    (line,) = re.findall(r"^# +podkeep (export kubernetes .*)$", comment.replace(" \\\n#", ""), re.M)
    assert run(*line.split()).out == "apiVersion:" + body
    (manifest,) = manifests([text])
    assert manifest["metadata"]["name"] == "web"


def test_the_probes_answer_for_the_pod():
    """What the manifest and the unit have run is run: before it is ready, when it is, and between two lives."""
    for restart in ((), ("--restart=on-failure", "--backoff=10m", "--backoff-max=10m")):
        with tempfile.TemporaryDirectory() as name:
            gate = f"{name}/gate"
            os.mkfifo(gate)
            say_ready = "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
            say_ready += "s.connect(os.environ['NOTIFY_SOCKET'].replace('@', chr(0), 1)); s.send(b'READY=1');"
            # It is heard before it goes: of one that is gone nobody knows whose it was.
            say_ready += "heard, barrier = os.pipe(); socket.send_fds(s, [b'BARRIER=1'], [barrier]);"
            say_ready += "os.close(barrier); os.read(heard, 1)"
            script = f"echo up; read go <{gate}; {sys.executable} -c \"{say_ready}\"; read go <{gate}; exit 3"
            (manifest,) = manifests([export("kubernetes", "--ready=notify", *restart, "--", "sh", "-c", script)])
            # The container's directory, here.
            here = [word.replace("/run/podkeep/", f"{name}/") for word in command(manifest)]
            process = podkeep(*here[1:])
            assert line(process) == "up"

            def probed(which):
                words = [word.replace("/run/podkeep/", f"{name}/") for word in probe(manifest, which)]
                return run(*words[1:])

            def asked(which):
                return probed(which).code == 0

            def go():
                with open(gate, "w") as file:
                    file.write("go\n")

            def answers(which):
                until(lambda: asked(which), f"{which} to succeed")  # it gives up by itself after a second

            answers("livenessProbe")
            assert not asked("startupProbe") and not asked("readinessProbe")
            go()
            for which in ("startupProbe", "readinessProbe", "livenessProbe"):
                answers(which)
            go()
            if restart:
                until(lambda: probed("readinessProbe").out == "NOT_SERVING\n", "the pod to end")
                answers("livenessProbe")
                assert process.poll() is None
                process.terminate()
                assert Ended(process).code == 0
            else:
                assert Ended(process).code == 3
                assert not asked("livenessProbe")
