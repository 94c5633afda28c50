"""Failures: the record, the exception with its cause, and what hangs on them (L6, L7, section 2)."""

from __future__ import annotations

import pickle
import threading

import pytest
from conftest import Idle, until

import podkeep
from podkeep import Kind, Phase, Pod, State


class Boom(Exception):
    pass


def failing(phase, error):
    """A runtime that raises in one phase."""

    class Fails(podkeep.Runtime):
        def __init__(self):
            if phase is Phase.INIT:
                raise error

        def run_forever(self, ctx):
            if phase is Phase.RUN:
                raise error
            # The hook begins only while this has not returned.
            assert hooked.wait(60)

        def cancel(self):
            hooked.set()
            if phase is Phase.CANCEL:
                raise error

        def teardown(self):
            calls.append("teardown")
            if phase is Phase.TEARDOWN:
                raise error

    calls = []
    hooked = threading.Event()
    Fails.calls = calls
    return Fails


@pytest.mark.parametrize("phase", [Phase.INIT, Phase.RUN, Phase.CANCEL, Phase.TEARDOWN])
def test_the_original_exception_is_the_cause_the_same_object(phase):
    error = Boom("no disk")
    runtime = failing(phase, error)
    pod = Pod(runtime, name="web").start(wait=False)
    if phase in (Phase.CANCEL, Phase.TEARDOWN):
        pod.wait_ready()
        pod.cancel()
    with pytest.raises(podkeep.PodFailed) as caught:
        pod.join()
    failed = caught.value
    assert failed.__cause__ is error
    assert (failed.pod_name, failed.incarnation) == ("web", 0)
    assert (failed.phase, failed.kind, failed.code) == (phase, Kind.EXCEPTION, -1)
    assert "Boom: no disk" in failed.message
    assert failed.secondary is None and isinstance(failed, podkeep.Error)
    assert str(failed) == f"pod 'web' failed in {phase} (exception, code -1): {failed.message}"
    assert pod.failure == failed.failure and pod.state is State.FAILED
    assert runtime.calls == ([] if phase is Phase.INIT else ["teardown"])


def test_init_run_raises_before_being_cancelled():
    for phase in (Phase.INIT, Phase.RUN):
        pod = Pod(failing(phase, Boom("x")))
        with pytest.raises(podkeep.PodFailed) as caught:
            pod.start()
            pod.join()
        assert caught.value.phase is phase


def test_the_trace_begins_in_the_users_code():
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(failing(Phase.INIT, Boom("x"))).start()
    assert caught.value.__cause__.__traceback__.tb_frame.f_code.co_name == "__init__"


@pytest.mark.parametrize(
    "error, code",
    [(SystemExit(3), 3), (SystemExit(0), -1), (SystemExit("bye"), -1), (KeyboardInterrupt(), -1), (GeneratorExit(), -1)],
)
def test_exits_inside_a_runtime_are_failures_and_end_nothing_else(error, code):
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(failing(Phase.RUN, error)).start().join()
    assert caught.value.kind is Kind.EXCEPTION and caught.value.code == code
    assert caught.value.__cause__ is error


def test_a_returned_code_is_a_failure_with_it():
    @podkeep.runtime
    def returns(ctx, what):
        return what

    for clean in (None, 0):
        Pod(returns, args=(clean,)).start().join()
    for code in (1, -7, 2**31 - 1):
        with pytest.raises(podkeep.PodFailed) as caught:
            Pod(returns, args=(code,)).start().join()
        assert (caught.value.kind, caught.value.code, caught.value.__cause__) == (Kind.RETURNED, code, None)
    for wrong, error in (("done", TypeError), (True, TypeError), (2**31, ValueError)):
        with pytest.raises(podkeep.PodFailed) as caught:
            Pod(returns, args=(wrong,)).start().join()
        assert isinstance(caught.value.__cause__, error)


def test_ctx_fail_gives_the_sentence():
    @podkeep.runtime
    def fails(ctx, code):
        return ctx.fail(code, "the disk is full: \u00fc")

    for code, said in ((3, 3), (0, -1)):
        with pytest.raises(podkeep.PodFailed) as caught:
            Pod(fails, args=(code,)).start().join()
        assert (caught.value.code, caught.value.message) == (said, "the disk is full: \u00fc")


def test_L7_later_failures_hang_on_the_first():
    class Twice(podkeep.Runtime):
        def run_forever(self, ctx):
            raise first

        def teardown(self):
            raise second

    first, second = Boom("first"), Boom("second")
    with pytest.raises(podkeep.PodFailed) as caught:
        # Not start(), which raises as soon as run has failed: teardown may be still to come.
        Pod(Twice, name="twice").start(wait=False).join()
    failed = caught.value
    assert failed.phase is Phase.RUN and failed.__cause__ is first
    later = failed.secondary
    assert isinstance(later, podkeep.Failure)
    assert (later.phase, later.kind, later.code, later.secondary) == (Phase.TEARDOWN, Kind.EXCEPTION, -1, None)
    assert later.exception is second
    assert [record.phase for record in failed.failure.chain()] == [Phase.RUN, Phase.TEARDOWN]
    assert "first" in str(failed) and "then in teardown" in str(failed) and "second" in str(failed)


@pytest.mark.parametrize("text", ["a\0b", "lone \ud800 surrogate", "x" * 20000, "", "two\nlines"])
def test_messages_are_whole_whatever_is_in_them(text):
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(failing(Phase.RUN, Boom(text))).start().join()
    said = text.replace("\0", "\\x00").replace("\ud800", "\\ud800")
    assert said in caught.value.message


def test_an_exception_that_cannot_be_shown_is_a_failure_all_the_same():
    class Nasty(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(failing(Phase.RUN, Nasty())).start().join()
    assert "Nasty" in caught.value.message


def test_leaving_the_block_raises_the_failure():
    with pytest.raises(podkeep.PodFailed) as caught:
        with Pod(failing(Phase.TEARDOWN, Boom("late"))):
            pass
    assert caught.value.phase is Phase.TEARDOWN


def test_leaving_the_block_never_masks_an_exception_on_its_way():
    with pytest.raises(KeyError) as caught:
        with Pod(failing(Phase.TEARDOWN, Boom("late")), name="web"):
            raise KeyError("mine")
    (note,) = caught.value.__notes__
    assert note.startswith("pod 'web' failed in teardown") and "Boom: late" in note


def test_the_pods_own_failure_is_not_noted_on_itself():
    with pytest.raises(podkeep.PodFailed) as caught:
        with Pod(failing(Phase.RUN, Boom("x"))) as pod:
            pod.join()
    assert not getattr(caught.value, "__notes__", [])


def test_an_abandoned_pod_is_a_timeout_or_a_note():
    go = threading.Event()

    @podkeep.runtime
    def deaf(ctx):
        go.wait(60)

    with pytest.raises(podkeep.PodTimeout):
        with Pod(deaf, grace=0.02) as first:
            pass
    with pytest.raises(KeyError) as caught:
        with Pod(deaf, grace=0.02) as second:
            raise KeyError("mine")
    assert len(caught.value.__notes__) == 1
    go.set()
    for pod in (first, second):
        until(lambda: pod.state is State.FAILED)


def test_a_block_that_could_not_be_entered_closes_the_pod():
    @podkeep.runtime
    def never_ready(ctx):
        ctx.wait()

    pod = Pod(never_ready, ready="notify", ready_timeout=0.02)
    with pytest.raises(podkeep.PodFailed):
        with pod:
            raise AssertionError("entered")
    assert pod.state is State.FAILED


def test_a_failure_while_stopping_after_a_cancel_counts():
    @podkeep.runtime
    def sore(ctx):
        ctx.wait()
        raise Boom("on the way out")

    with pytest.raises(podkeep.PodFailed):
        with Pod(sore) as pod:
            pod.cancel()


def test_pickled_failures_keep_their_fields():
    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(failing(Phase.RUN, Boom("x")), name="p").start().join()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.failure == caught.value.failure and str(again) == str(caught.value)
    timeout = pickle.loads(pickle.dumps(podkeep.PodTimeout("late")))
    assert str(timeout) == "late"


def test_failures_pickle_though_none_of_their_exceptions_does():
    class Local(Exception):
        pass

    class Twice(podkeep.Runtime):
        def run_forever(self, ctx):
            raise Local("first")

        def teardown(self):
            raise Local("second")

    with pytest.raises(podkeep.PodFailed) as caught:
        Pod(Twice).start(wait=False).join()
    failure = caught.value.failure
    assert isinstance(failure.secondary.exception, Local)
    for whole in (caught.value, podkeep.PodTimeout("late", None, failure)):
        again = pickle.loads(pickle.dumps(whole)).failure
        assert again == failure and again.exception is None and again.secondary.exception is None
    assert pickle.loads(pickle.dumps(failure)) == failure


def test_a_failure_can_be_raised_to_many():
    error = Boom("all")
    go = threading.Event()

    @podkeep.runtime
    def fails(ctx):
        go.wait(60)
        raise error

    caught = []

    def waits():
        try:
            pod.join()
        except podkeep.PodFailed as failed:
            caught.append(failed)

    pod = Pod(fails).start()
    threads = [threading.Thread(target=waits) for _ in range(5)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(60)
    assert len(caught) == 5 and all(failed.__cause__ is error for failed in caught)


def test_Idle_has_no_failure():
    with Pod(Idle) as pod:
        assert pod.failure is None
    assert pod.failure is None
