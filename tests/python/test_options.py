"""Options: what is taken, what is refused, and by whom."""

from __future__ import annotations

import math

import pytest
from conftest import Idle

import podkeep
from podkeep import Pod, Status
from podkeep._times import of_option, of_wait


def test_an_unknown_option_is_a_type_error_that_names_it():
    with pytest.raises(TypeError, match="graze"):
        Pod(Idle, graze=5.0)


def test_options_are_taken():
    pod = Pod(
        Idle,
        name="all",
        host="thread",
        ready="run",
        ready_timeout=5,
        grace=2.5,
        kill_after=1,
        extend_max=10,
        stack_size=1 << 20,
        kick_signal=10,
        restart="on-failure",
        max_restarts=3,
        restart_window=30,
        backoff=0.01,
        backoff_max=1,
        watchdog=3600,
    )
    with pod:
        assert pod.name == "all" and pod.restarts == 0


@pytest.mark.parametrize(
    "name",
    ["grace", "ready_timeout", "kill_after", "extend_max", "restart_window", "backoff", "backoff_max", "watchdog"],
)
def test_times_are_checked(name):
    with pytest.raises(podkeep.Error) as caught:
        Pod(Idle, **{name: -0.001})
    assert caught.value.status is Status.INVALID_ARGUMENT and name in str(caught.value)
    with pytest.raises(TypeError, match=name):
        Pod(Idle, **{name: "5"})
    with pytest.raises(ValueError, match=name):
        Pod(Idle, **{name: math.nan})


def test_forever_is_a_grace_and_nothing_else():
    with Pod(Idle, grace=podkeep.FOREVER):
        pass
    with pytest.raises(podkeep.Error) as caught:
        Pod(Idle, ready_timeout=podkeep.FOREVER)
    assert caught.value.status is Status.INVALID_ARGUMENT


def test_words_are_checked():
    with pytest.raises(ValueError, match="'thread', 'process'"):
        Pod(Idle, host="cloud")
    with pytest.raises(ValueError, match="'run', 'notify', 'port'"):
        Pod(Idle, ready="soon")
    with pytest.raises(ValueError, match="on-failure"):
        Pod(Idle, restart="sometimes")


def test_names_are_checked():
    with pytest.raises(ValueError, match="NUL"):
        Pod(Idle, name="a\0b")
    with pytest.raises(ValueError, match="UTF-8"):
        Pod(Idle, name="\ud800")
    with pytest.raises(TypeError, match="name must be a str"):
        Pod(Idle, name=b"bytes")
    for name in ("", "x" * 256):
        with pytest.raises(podkeep.Error) as caught:
            Pod(Idle, name=name)
        assert caught.value.status is Status.INVALID_ARGUMENT
    assert Pod(Idle, name="x" * 255).name == "x" * 255
    assert Pod(Idle, name="caf\u00e9 \U0001f600").name == "caf\u00e9 \U0001f600"


def test_sizes_and_signals_are_checked():
    with pytest.raises(TypeError, match="stack_size"):
        Pod(Idle, stack_size=1.5)
    with pytest.raises(ValueError, match="stack_size"):
        Pod(Idle, stack_size=-1)
    for options in ({"stack_size": 1}, {"kick_signal": 9}, {"kick_signal": 65}):
        with pytest.raises(podkeep.Error) as caught:
            Pod(Idle, **options)
        assert caught.value.status is Status.INVALID_ARGUMENT


def test_a_stack_that_is_not_to_be_had_leaves_the_pod_new():
    pod = Pod(Idle, stack_size=1 << 46)
    with pytest.raises(podkeep.Error) as caught:
        pod.start()
    assert caught.value.status is Status.RESOURCES and pod.state is podkeep.State.NEW


def test_what_is_no_runtime_is_refused_with_the_way_out():
    def function(ctx):
        pass

    class Empty(podkeep.Runtime):
        pass

    class EmptyAsync(podkeep.AsyncRuntime):
        pass

    with pytest.raises(TypeError, match="@podkeep.runtime"):
        Pod(function)
    with pytest.raises(TypeError, match="args= and kwargs="):
        Pod(Idle())
    with pytest.raises(TypeError, match="subclass it"):
        Pod(int)
    for runtime in (Empty, EmptyAsync):
        with pytest.raises(TypeError, match="has no run_forever"):
            Pod(runtime)
    with pytest.raises(TypeError, match="takes a function"):
        podkeep.runtime(Idle)


def test_seconds_become_milliseconds():
    options = {None: 0, 0: 1, 0.0001: 1, 1.5: 1500, math.inf: -1, -0.001: -2, -1: -1000}
    waits = {None: -1, math.inf: -1, 0: 0, -3: 0, 0.0001: 1, 1.0005: 1001}
    assert {value: of_option("x", value) for value in options} == options
    assert {value: of_wait(value) for value in waits} == waits
    assert of_option("x", -math.inf) < -1 and of_option("x", 1e300) > 0 and of_wait(1e300) > 0
    with pytest.raises(TypeError):
        of_wait(True)
