"""grpc.health.v1 as probes ask it."""

import itertools
import os
import pathlib
import select
import signal
import sys
import time

import support
from asking import NOT_SERVING, SERVICE_UNKNOWN, SERVING, Client, Host, beside, holds, host, refusal
from grpc_health.v1 import health_pb2

HERE = pathlib.Path(__file__).resolve().parent


def test_a_service_is_every_pod_or_one_or_the_library():
    with host() as h, Client(h.serve()[1]) as client:
        assert client.check() == NOT_SERVING, "there is no pod"
        assert client.check("live") == SERVING
        h.do("pod a wait")
        h.do("pod b command")
        assert [client.check(s) for s in ("", "a", "b", "live")] == [SERVING] * 4
        h.do("close a")
        assert [client.check(s) for s in ("", "a", "b", "live")] == [NOT_SERVING, NOT_SERVING, SERVING, SERVING]
        h.do("free a")
        assert client.check() == SERVING, "one that has ended and was freed is nobody's"
        for name in ("a", "B", "b ", "b#2"):
            assert refusal(lambda: client.check(name))[0] == "NOT_FOUND", name


def test_list_tells_of_every_service():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a wait")
        h.do("pod b notready")
        h.do("new m")
        h.do("group g m")
        listed = client.health.List(health_pb2.HealthListRequest(), timeout=30).statuses
        assert {name: said.status for name, said in listed.items()} == {
            "": NOT_SERVING, "live": SERVING, "a": SERVING, "b": NOT_SERVING, "g": SERVING, "m": SERVING,
        }


def test_watch_tells_each_change_and_who_comes_later():
    with host() as h, Client(h.serve()[1]) as client:
        told = client.watch_health("late")
        assert next(told).status == SERVICE_UNKNOWN
        h.do("new late")
        assert next(told).status == NOT_SERVING
        h.do("start late")
        assert next(told).status == SERVING
        h.do("cancel late")
        assert next(told).status == NOT_SERVING
        h.do("close late")
        h.do("free late")
        assert next(told).status == SERVICE_UNKNOWN
        told.cancel()


# Beside a pod that spins the others have one processor less.
ROUNDS = 10


def test_a_pod_is_not_serving_100_ms_after_sigkill():
    with host() as h, Client(h.serve()[1]) as client:
        numbers = itertools.count()

        def killed():
            name = f"a{next(numbers)}"
            h.do(f"pod {name} command")
            told = client.watch_health(name)
            assert next(told).status == SERVING
            os.kill(int(h.do(f"id {name}")), signal.SIGKILL)
            begin = time.monotonic()
            assert next(told).status == NOT_SERVING
            took = time.monotonic() - begin
            assert client.check(name) == NOT_SERVING
            told.cancel()
            return took

        holds(0.1, killed, "told after", ROUNDS)


def fifty_checks(client, service):
    def slowest():
        worst = 0.0
        for _ in range(50):
            begin = time.monotonic()
            assert client.check(service) == SERVING
            worst = max(worst, time.monotonic() - begin)
        return worst

    client.check(service)  # connects
    holds(0.05, slowest, "the slowest of 50", ROUNDS)


def test_50_checks_are_under_50_ms_while_a_runtime_spins_or_sleeps_in_the_kernel():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod spinning spin")
        h.do("pod asleep sleep")
        for service in ("spinning", "asleep", ""):
            fifty_checks(client, service)


def test_50_checks_are_under_50_ms_while_a_runtime_holds_the_interpreters_lock():
    python = Host(sys.executable, HERE / "gil.py")
    address = python.do("address")
    with Client(address) as client:
        # From here on no Python code runs there until the lock is let go.
        assert python.do("hold") == "holding"
        fifty_checks(client, "holder")
        assert not select.select([python.process.stdout], [], [], 0)[0], "it was held all the time"
    python.send("let go")
    assert support.line(python.process).strip() == "OK held"
    assert python.do("end") == "ended"
    assert python.process.wait(timeout=30) == 0


def test_live_falls_with_a_thread_that_was_let_go():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod stuck ignore 100")
        told = client.watch_health("live")
        assert next(told).status == SERVING
        closing = beside(lambda: h.refusal("close stuck"))
        assert next(told).status == NOT_SERVING
        assert closing().startswith("TIMEOUT")
        assert client.check("live") == NOT_SERVING
        told.cancel()
