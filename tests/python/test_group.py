"""Groups: order, waits, what a failure does to the others, in threads and processes, in an event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings

import pytest
import runtimes
from conftest import Idle, until

import podkeep
from podkeep import Group, Kind, Monitor, Phase, Pod, State, Status


@podkeep.runtime
def marks(ctx, log, ready=None):
    """Writes down when it begins and ends; ready when told."""
    log.append(f"+{ctx.name}")
    if ready is not None:
        ready.wait()
    ctx.ready()
    ctx.wait()
    log.append(f"-{ctx.name}")


def failing(ctx, event):
    event.wait()
    raise runtimes.Boom("by itself", 5)


fails = podkeep.runtime(failing)


def marked(name, log, **options):
    return Pod(marks, args=(log,), name=name, ready="notify", **options)


def test_the_documented_program():
    log = []
    with Group(strategy="one_for_all") as group:
        group.add(db := marked("db", log))
        web = group.add(marked("web", log), after=[db])
        assert group.state is State.NEW and group.pods == [db, web] and group.name == "group"
        assert group.start() is group
        assert group.state is State.RUNNING and db.state is State.RUNNING and web.state is State.RUNNING
        assert repr(group) == "<podkeep.Group 'group' running>"
        threading.Timer(0.01, group.cancel).start()
        group.join()
    assert group.state is State.STOPPED and group.failure is None
    assert log == ["+db", "+web", "-web", "-db"]


def test_after_waits_for_ready():
    log, ready = [], threading.Event()
    with Group() as group:
        db = group.add(Pod(marks, args=(log, ready), name="db", ready="notify"))
        group.add(marked("web", log), after=["db"])
        group.start(wait=False)
        until(lambda: log == ["+db"])
        with pytest.raises(podkeep.PodTimeout) as caught:
            group.wait_ready(timeout=0.05)
        assert "db" in str(caught.value) and caught.value.state is State.STARTING
        assert log == ["+db"] and db.state is State.STARTING
        ready.set()
        group.wait_ready()
        assert log == ["+db", "+web"]


def test_a_members_failure_stops_the_group_and_is_its_failure():
    log, event = [], threading.Event()
    group = Group(name="all")
    group.add(marked("other", log))
    bad = group.add(Pod(fails, args=(event,), name="bad"))
    group.start()
    event.set()
    with pytest.raises(podkeep.PodFailed) as caught:
        group.join()
    error = caught.value
    assert (error.pod_name, error.phase, error.kind) == ("bad", Phase.RUN, Kind.EXCEPTION)
    assert isinstance(error.__cause__, runtimes.Boom) and error.__cause__ is bad.failure.exception
    assert group.state is State.FAILED and group.failure == bad.failure
    assert log == ["+other", "-other"]
    with pytest.raises(podkeep.PodFailed):
        group.close()


def test_leaving_the_block_masks_nothing():
    event = threading.Event()
    event.set()
    with pytest.raises(ZeroDivisionError) as caught:
        with Group() as group:
            group.add(Pod(fails, args=(event,), name="bad"))
            group.start(wait=False)
            until(lambda: group.failure is not None)
            raise ZeroDivisionError
    assert any("bad" in note for note in caught.value.__notes__)
    # Without one on its way it is raised.
    with pytest.raises(podkeep.PodFailed):
        with Group() as group:
            group.add(Pod(fails, args=(event,), name="bad"))
            group.start(wait=False)
            until(lambda: group.failure is not None)


def test_keep_going():
    event = threading.Event()
    with pytest.raises(podkeep.PodFailed):
        with Group(keep_going=True) as group:
            other = group.add(Pod(Idle))
            bad = group.add(Pod(fails, args=(event,), name="bad"))
            group.start()
            event.set()
            until(lambda: bad.state is State.FAILED)
            with pytest.raises(podkeep.PodTimeout):
                group.join(timeout=0.05)
            assert other.state is State.RUNNING
    assert other.state is State.STOPPED


def test_a_significant_member_ends_it_all():
    with Group() as group:
        other = group.add(Pod(Idle))
        group.add(Pod(runtimes.returns, args=(0,), name="main"), significant=True)
        group.start(wait=False)
        group.join()
    assert other.state is State.STOPPED and group.state is State.STOPPED


@pytest.mark.parametrize("strategy, again", [("one_for_one", 0), ("rest_for_one", 1), ("one_for_all", 2)])
def test_strategies(strategy, again):
    log, event = [], threading.Event()

    @podkeep.runtime
    def fails_once(ctx):
        if ctx.incarnation == 0:
            event.wait()
            raise runtimes.Boom("once")
        ctx.wait()

    with Group(strategy=strategy) as group:
        group.add(marked("first", log))
        bad = group.add(Pod(fails_once, restart="on-failure", backoff=0.001))
        group.add(marked("last", log))
        group.start()
        event.set()
        until(lambda: bad.restarts == 1 and bad.state is State.RUNNING)
        until(lambda: sum(line[0] == "+" for line in log) == 2 + again)
        group.wait_ready()
        assert group.failure is None


def test_processes_in_a_group():
    with Group() as group:
        first = group.add(Pod(runtimes.Idle, host="process", name="first"))
        second = group.add(Pod.command("sleep", "3600"), after=[first])
        group.start()
        assert first.id != os.getpid() and second.state is State.RUNNING
    assert (first.state, second.state) == (State.STOPPED, State.STOPPED)


def test_an_exception_comes_out_of_a_process():
    group = Group()
    group.add(Pod(runtimes.Raises, args=(["run"], runtimes.Boom("far", 9)), host="process", name="far"))
    group.start(wait=False)
    with pytest.raises(podkeep.PodFailed) as caught:
        group.join()
    assert isinstance(caught.value.__cause__, runtimes.Boom) and caught.value.__cause__.number == 9


def test_what_is_refused():
    group = Group()
    pod = group.add(Pod(Idle, name="one"))
    for call, status in [
        (lambda: group.add(Pod(Idle, name="one")), Status.INVALID_ARGUMENT),
        (lambda: group.add(Pod(Idle, name="two"), after=["three"]), Status.NOT_FOUND),
        (lambda: group.add(Pod(Idle, name="two"), after=[Pod(Idle, name="one")]), Status.NOT_FOUND),
        (lambda: Group().add(pod), Status.INVALID_STATE),
        (group.join, Status.INVALID_STATE),
        (lambda: Group(grace=-5), Status.INVALID_ARGUMENT),
    ]:
        with pytest.raises(podkeep.Error) as caught:
            call()
        assert caught.value.status is status
    with pytest.raises(ValueError, match="one_for_all"):
        Group(strategy="all_for_one")
    with pytest.raises(TypeError, match="takes a Pod"):
        group.add(Idle)
    with pytest.raises(TypeError, match="a list of members"):
        group.add(Pod(Idle, name="two"), after="one")
    group.close()
    group.close()
    assert group.state is State.STOPPED and pod.state is State.STOPPED


def test_a_member_may_not_wait_for_its_group():
    found = []

    @podkeep.runtime
    def inside(ctx):
        for call in (group.join, group.close, group.wait_ready, lambda: asyncio.run(group.joined())):
            try:
                call()
            except podkeep.Error as error:
                found.append(error.status)

    group = Group()
    group.add(Pod(inside), significant=True)
    group.start(wait=False)
    group.join()
    assert found == [Status.DEADLOCK] * 4


def test_a_monitor_of_a_group():
    group = Group()
    group.add(Pod(Idle, name="mine"))
    with Pod(Idle, name="stranger"), Monitor(group) as monitor:
        group.start()
        group.close()
        seen = list(monitor)  # it ends with the group
        assert {event.name for event in seen} == {"mine"}
        assert [event.to for event in seen] == [State.NEW, State.STARTING, State.RUNNING, State.STOPPING, State.STOPPED]
        with pytest.raises(podkeep.PodEnded):
            monitor.next()


def test_a_forgotten_group_is_cancelled_in_order():
    log = []
    group = Group()
    first = group.add(marked("first", log))
    group.add(marked("second", log), after=[first])
    group.start()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        del group, first
        gc.collect()
    assert [str(one.message) for one in caught] == ["group 'group' was forgotten while running: it is cancelled"]
    until(lambda: len(log) == 4)
    assert log == ["+first", "+second", "-second", "-first"]


def test_one_forgotten_in_a_cycle_is_cancelled_in_order_too():
    log = []
    # Whose __del__ comes first is the collector's choice: each is made before and behind the group.
    for behind in (False, True):
        pods = [] if behind else [marked("first", log), marked("second", log)]
        group = Group()
        if behind:
            pods = [marked("first", log), marked("second", log)]
        group.add(pods[0])
        group.add(pods[1], after=[pods[0]])
        group.start()
        group.itself = pods[0].group = group
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            del group, pods
            gc.collect()
        assert [str(one.message) for one in caught] == ["group 'group' was forgotten while running: it is cancelled"]
        until(lambda: len(log) == 4)
        assert log == ["+first", "+second", "-second", "-first"]
        log.clear()


def test_a_member_is_started_and_closed_by_its_group_alone():
    with Group() as group:
        member = group.add(Pod(Idle))

        def in_a_block():
            with member:
                pass

        def refused(*calls):
            for call in calls:
                with pytest.raises(podkeep.Error, match="in a group") as caught:
                    call()
                assert caught.value.status is Status.INVALID_STATE

        refused(member.start, member.close, in_a_block, lambda: asyncio.run(member.closed()))
        assert member.state is State.NEW
        group.start()
        refused(member.start, member.close, in_a_block, lambda: asyncio.run(member.closed()))
        assert member.state is State.RUNNING
        member.wait_ready()
        # To end it is another thing: its normal end.
        member.cancel()
        member.join()
        assert group.state is State.RUNNING


def test_an_abandoned_member():
    go = threading.Event()

    @podkeep.runtime
    def deaf(ctx):
        go.wait()

    group = Group()
    group.add(Pod(deaf, grace=0.05))
    group.start()
    for end in (group.close, group.join, lambda: asyncio.run(group.closed()), lambda: asyncio.run(group.joined())):
        with pytest.raises(podkeep.PodTimeout, match="deaf") as caught:
            end()
        assert caught.value.state is State.ABANDONED and caught.value.failure.kind is Kind.TIMEOUT
    with pytest.raises(podkeep.PodTimeout):
        with group:
            pass
    go.set()
    with pytest.raises(podkeep.PodFailed):
        group.join(timeout=60)
    assert group.state is State.FAILED


@pytest.mark.parametrize("last, code", [("", 0), ("sys.exit(7)", 7), ("raise RuntimeError('end of the program')", 1)])
def test_at_the_programs_end_it_stops_in_order(program, last, code):
    ran = program(
        """
import sys, podkeep
@podkeep.runtime
def marks(ctx):
    ctx.wait()
    print(ctx.name, flush=True)
if __name__ == "__main__":
    group = podkeep.Group()
    one = group.add(podkeep.Pod(marks, name="one"))
    two = group.add(podkeep.Pod(marks, name="two"), after=[one])
    group.add(podkeep.Pod(marks, name="three"), after=[two])
    group.start()
"""
        + (f"    {last}\n" if last else "")
    ).end()
    assert (ran.code, ran.lines) == (code, ["three", "two", "one"])
    said = ran.err.splitlines()[-1] if ran.err else ""
    assert said == ("RuntimeError: end of the program" if code == 1 else "")


def test_ctrl_c_gets_through_a_wait(program):
    one = program(
        """
import podkeep
@podkeep.runtime
def idle(ctx):
    ctx.wait()
with podkeep.Group() as group:
    group.add(podkeep.Pod(idle))
    group.start()
    try:
        print("ready", flush=True)
        group.join()
    except KeyboardInterrupt:
        print("interrupted")
print(group.state)
"""
    )
    assert one.line() == "ready"
    one.interrupt()
    ran = one.end()
    assert (ran.code, ran.lines) == (0, ["interrupted", "stopped"])


# What 3.12 and later say of any fork beside threads.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_it_is_dead():
    with Group() as group:
        group.add(Pod(Idle))
        group.start()
        pid = os.fork()
        if pid == 0:
            try:
                group.state
            except podkeep.Forked:
                os._exit(0)
            except BaseException:
                pass
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        assert group.state is State.RUNNING
