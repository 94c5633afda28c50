"""The examples, each with a real client; and the programs of the README as they stand there."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import urllib.request

import pytest
from conftest import ROOT

EXAMPLES = ROOT / "examples/python"


PAGES = {
    "http_server.py": "a Python pod",
    "asyncio_server.py": "an asyncio pod",
    "process_server.py": "a Python process pod",
    "main_process.py": "a main pod",
}


@pytest.mark.parametrize("name, page", list(PAGES.items()))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_page_is_served_and_the_cancel_is_clean(program, name, page, number):
    running = program(EXAMPLES / name)
    url = running.line()
    assert url.startswith("http://127.0.0.1:")
    for _ in range(3):
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200 and page in answer.read().decode()
    if shutil.which("curl"):
        assert page in subprocess.run(["curl", "-sS", "-m", "30", url], capture_output=True, text=True, check=True).stdout
    # A client that says nothing must not keep the pod.
    port = int(url.rsplit(":", 1)[1].rstrip("/"))
    with socket.create_connection(("127.0.0.1", port), timeout=30):
        running.child.send_signal(number)
        ran = running.end()
    assert (ran.code, ran.err) == (0, "")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=30)


@pytest.mark.parametrize("name", list(PAGES))
def test_a_port_that_is_taken_is_told_with_its_cause(program, name):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = program(EXAMPLES / name, taken.getsockname()[1]).end()
    assert ran.code == 1
    assert re.search(r"^OSError: .*[Aa]ddress already in use", ran.err, re.MULTILINE)
    assert "direct cause" in ran.err and re.search(r"PodFailed: pod 'web' failed in (init|run) ", ran.err.splitlines()[-1])


def test_a_crash_of_the_process_is_told_at_once(program):
    running = program(EXAMPLES / "process_server.py")
    url = running.line()
    with pytest.raises(OSError):
        urllib.request.urlopen(url + "crash", timeout=30)
    ran = running.end()
    assert ran.code == 1 and "PodFailed: pod 'web' failed in run (signal, code 11)" in ran.err


def test_one_program_ends_the_pod_of_another(program):
    served = program(EXAMPLES / "control.py", "serve")
    address = served.line()
    assert address.startswith("unix:")
    ran = program(EXAMPLES / "control.py", "end", address).end()
    assert (ran.code, ran.lines, ran.err) == (0, ["counter is running", "counter has ended"], "")
    ended = served.end()
    assert ended.code == 0 and re.fullmatch(r"counted to \d+\n", ended.out) and ended.err == ""
    late = program(EXAMPLES / "control.py", "end", address).end()
    assert (late.code, late.out) == (1, "") and late.err.startswith("unreachable: ") and address in late.err


def test_the_program_of_the_readme_runs(program):
    text = (ROOT / "bindings/python/README.md").read_text("utf-8")
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = source.replace("8080", str(port)).replace("pod.join()", "print('up', flush=True); pod.join()", 1)
    running = program(source)
    assert running.line() == "up"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
        assert answer.status == 200
    running.interrupt()
    ran = running.end()
    assert ran.code == -signal.SIGINT and "KeyboardInterrupt" in ran.err


@pytest.mark.parametrize("name", list(PAGES))
def test_a_signal_right_after_the_url_is_a_clean_end(program, name):
    for _ in range(5):
        running = program(EXAMPLES / name)
        assert running.line().startswith("http://")
        running.child.terminate()
        ran = running.end()
        assert (ran.code, ran.err) == (0, "")
