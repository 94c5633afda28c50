"""podkeep.v1.Control: who is there, how it is, TERMINATE, events."""

import os
import signal
import time

from asking import LIMIT, Client, holds, host, refusal, state_name, until


# One that fails again and again may fail in the very moment in which it is asked for its end.
ENDED = {"STOPPED", "FAILED"}


def names(listed):
    return [pod.name for pod in listed.pods], [group.name for group in listed.groups]


def test_names_are_stable_and_second_ones_are_numbered():
    with host() as h, Client(h.serve()[1]) as client, Client(h.serve("tcp:127.0.0.1:0")[1]) as other:
        h.do("pod x wait")
        h.do("pod y wait")
        h.do("pod x command")
        h.do("new m")
        h.do("group x m")
        h.do("new x#2")
        for asking in (client, other):
            assert names(asking.ask("List")) == (["x", "y", "x#2", "m", "x#2#2"], ["x#3"])
        assert client.ask("GetPod", name="x#2").host == 2, "the command"
        h.do("close y")
        h.do("free y")
        h.do("free x#2")
        assert names(client.ask("List")) == (["x", "x#2", "m"], ["x#3"])
        assert client.terminate("x").state == 6
        h.do("new y")
        assert names(client.ask("List")) == (["x", "x#2", "m", "y"], ["x#3"])
        assert client.state("x#2") == "RUNNING"


def test_a_pod_is_told_whole():
    with host() as h, Client(h.serve()[1]) as client:
        before = time.time()
        h.do("pod a wait")
        h.do("new m")
        h.do("group g m")
        # RUNNING is shown before it has said anything; this is the last.
        until(lambda: client.ask("GetPod", name="a").heartbeat.seconds, "its heartbeat")
        pod = client.ask("GetPod", name="a")
        assert state_name(pod) == "RUNNING" and pod.phase == 4 and pod.host == 1 and pod.id == int(h.do("id a"))
        assert pod.status == "waiting" and not pod.failures and not pod.HasField("time_left")
        for at in (pod.started, pod.ready, pod.entered):
            assert before - 1 < at.seconds + at.nanos / 1e9 < time.time() + 1
        assert client.ask("GetPod", name="m").group == "g"
        assert list(client.ask("List").groups[0].members) == ["m"]
        new = h.do("new n") or client.ask("GetPod", name="n")
        assert state_name(new) == "NEW" and not new.HasField("started") and not new.HasField("entered") and new.id == 0
        h.do("pod stuck ignore 20000")
        h.do("cancel stuck")
        stopping = client.ask("GetPod", name="stuck")
        assert state_name(stopping) == "STOPPING" and 0 < stopping.time_left.seconds < 20
        h.do("pod f fail")
        failed = client.terminate("f")
        assert state_name(failed) == "FAILED" and len(failed.failures) == 1
        why = failed.failures[0]
        assert (why.pod, why.phase, why.kind, why.code, why.message) == ("f", 4, 1, 7, "as it was told to")
        assert client.ask("GetPod", name="f").failures[0] == why


def test_bad_names_and_numbers_are_told():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a wait")
        h.do("new m")
        h.do("group g m")
        for call in ("GetPod", "Terminate"):
            assert refusal(lambda: client.ask(call, name=""))[0] == "INVALID_ARGUMENT"
            for name in ("A", "b", "a ", "a#2", "a#1"):
                code, text = refusal(lambda: client.ask(call, name=name))
                assert code == "NOT_FOUND" and name in text, (call, name, code, text)
        assert refusal(lambda: client.ask("GetPod", name="g"))[0] == "NOT_FOUND"
        assert refusal(lambda: client.ask("Watch", name="g"))[0] == "NOT_FOUND"
        assert refusal(lambda: client.ask("Watch", name="b"))[0] == "NOT_FOUND"
        for grace in ({"seconds": -1}, {"nanos": -1}, {"nanos": 1_000_000_000}):
            code, text = refusal(lambda: client.ask("Terminate", name="a", grace=grace))
            assert code == "INVALID_ARGUMENT" and "grace" in text
        assert client.state("a") == "RUNNING"
        assert refusal(lambda: client.ask("Watch", sequence=10**9))[0] == "OUT_OF_RANGE"


def test_terminate_ends_every_kind_of_pod():
    with host() as h, Client(h.serve()[1]) as client:
        for kind in ("wait", "spin", "sleep", "command", "notready"):
            h.do(f"pod {kind} {kind}")
            assert state_name(client.terminate(kind)) == "STOPPED", kind
        h.do("pod flap flap")
        assert state_name(client.terminate("flap")) in ENDED
        h.do("new n")
        assert state_name(client.terminate("n")) == "STOPPED", "a pod that is NEW"
        assert state_name(client.terminate("n")) == "STOPPED", "again"


def test_terminates_grace_can_only_shorten():
    with host() as h, Client(h.serve()[1]) as client:
        begin = time.monotonic()
        h.do("pod a ignore 60000")
        end = client.terminate("a", grace=0.1)
        assert state_name(end) == "ABANDONED" and end.failures[0].kind == 6, end
        h.do("pod b ignore 60000")
        h.do("cancel b")
        assert state_name(client.terminate("b", grace=0.1)) == "ABANDONED", "of a stop that is on its way"
        h.do("pod c ignore 200")
        assert state_name(client.terminate("c", grace=3600)) == "ABANDONED", "its own is shorter"
        h.do("new d ignore")
        h.do("new e")
        h.do("group g d e")
        h.do("cancel e")
        assert state_name(client.terminate("g", grace=0.2)) == "ABANDONED", "of a group"
        assert time.monotonic() - begin < LIMIT


def test_terminate_takes_a_group_down():
    with host() as h, Client(h.serve()[1]) as client:
        for member in "mno":
            h.do(f"new {member}")
        h.do("group g m n o")
        assert state_name(client.terminate("m")) == "STOPPED"
        assert state_name(client.ask("List").groups[0]) == "RUNNING", "a member that was ended by hand"
        assert state_name(client.terminate("g")) == "STOPPED"
        assert [client.state(member) for member in "mno"] == ["STOPPED"] * 3


def test_50_clients_race_to_terminate_and_all_are_answered():
    with host() as h:
        address = h.serve()[1]
        h.do("pod a command")
        h.do("new m")
        h.do("group g m")
        clients = [Client(address) for _ in range(50)]
        for client in clients:
            client.check("a")
            assert client.service is not None
        asked = [client.begin("Terminate", name=name) for client in clients for name in ("a", "g")]
        assert {state_name(call.result(timeout=LIMIT)) for call in asked} == {"STOPPED"}
        for client in clients:
            client.channel.close()


def test_a_caller_that_gives_up_takes_nothing_back():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a ignore 6000")
        assert refusal(lambda: client.terminate("a", limit=2))[0] == "DEADLINE_EXCEEDED"
        assert client.state("a") == "STOPPING"
        assert state_name(client.terminate("a")) == "ABANDONED"


def test_watch_tells_present_states_then_each_change():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a wait")
        told = client.ask("Watch")
        first = next(told)
        assert (first.name, state_name(first, "from"), state_name(first, "to")) == ("a", "RUNNING", "RUNNING")
        h.do("pod b command")
        seen = [(e.name, state_name(e, "from"), state_name(e, "to")) for e in (next(told) for _ in range(3))]
        assert seen == [("b", "NEW", "NEW"), ("b", "NEW", "STARTING"), ("b", "STARTING", "RUNNING")]
        os.kill(int(h.do("id b")), signal.SIGKILL)
        last = next(told)
        assert state_name(last, "to") == "FAILED" and last.failures[0].code == signal.SIGKILL
        # Again from the second change on: nothing is told twice, nothing is left out.
        again = client.ask("Watch", sequence=last.sequence)
        assert next(again) == last
        h.do("close a")
        rest = [state_name(next(again), "to") for _ in range(2)]
        assert rest == ["STOPPING", "STOPPED"]
        next_number = client.ask("Watch", sequence=next(told).sequence + 2)
        told.cancel(), again.cancel(), next_number.cancel()


def test_the_stream_of_one_pod_ends_when_it_is_gone():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a wait")
        h.do("pod b wait")
        told = client.ask("Watch", name="a")
        assert state_name(next(told), "to") == "RUNNING"
        h.do("close b")
        h.do("close a")
        h.do("free a")
        assert [(e.name, state_name(e, "to")) for e in told] == [("a", "STOPPING"), ("a", "STOPPED")]


def test_a_reader_that_is_slow_gets_merged_events_and_costs_nobody():
    with host() as h:
        address = h.serve()[1]
        h.do("pod quiet wait")
        with Client(address, options=[("grpc.http2.bdp_probe", 0)]) as slow, Client(address) as client:
            told = slow.ask("Watch", limit=None)
            assert state_name(next(told), "to") == "RUNNING"
            h.do("close quiet")
            for n in range(8):
                h.do(f"pod flap{n} flap")
            # Far more than are kept, and than a connection's windows take.
            until(lambda: client.ask("GetPod", name="flap0").incarnation > 1000, "thousands of lives", 3 * LIMIT)

            def checked():
                begin = time.monotonic()
                assert client.check("live") == 1
                return time.monotonic() - begin

            holds(1, checked, "a check beside it")
            for n in range(8):
                client.terminate(f"flap{n}")
            newest, missed, order = {}, 0, []
            for event in told:
                newest[event.name] = state_name(event, "to")
                missed += event.missed
                order.append(event.sequence)
                if len(newest) == 9 and set(newest.values()) <= ENDED:
                    break
            assert order == sorted(order)
            assert missed > 1000, missed
            told.cancel()


def test_reflection_describes_all_in_both_versions():
    from grpc_reflection.v1alpha import reflection_pb2

    expected = {"podkeep.v1.Control", "grpc.health.v1.Health"}
    with host() as h, Client(h.serve()[1]) as client:
        for version in ("v1", "v1alpha"):
            ask = client.channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            answer = next(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=LIMIT))
            services = {service.name for service in answer.list_services_response.service}
            assert expected <= services, (version, services)
        assert set(client.service.methods_by_name) == {"List", "GetPod", "Terminate", "Watch"}


def test_what_is_unknown_is_unimplemented():
    from grpc_reflection.v1alpha import reflection_pb2

    with host() as h, Client(h.serve()[1]) as client:
        call = client.channel.unary_unary("/podkeep.v1.Control/Nothing")
        assert refusal(lambda: call(b"", timeout=LIMIT))[0] == "UNIMPLEMENTED"
        call = client.channel.unary_unary("/podkeep.v1.Control/GetPod")
        assert refusal(lambda: call(b"\xff\xff", timeout=LIMIT))[0] == "INTERNAL"
        assert refusal(lambda: call(b"\x0a" + b"\xff\xff\x03" + b"x" * 65535, timeout=LIMIT))[0] in (
            "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"
        ), "larger than a request may be"
        for version in ("v1", "v1alpha"):
            call = client.channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
            for host_name, answers in ((100, 1), (65535, 0)):
                asked = reflection_pb2.ServerReflectionRequest(host="x" * host_name, list_services="")
                assert len(list(call(iter([asked.SerializeToString()]), timeout=LIMIT))) == answers, (version, host_name)
        assert client.check("live") == 1


def test_after_a_shutdown_it_still_answers():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a wait")
        h.do("shutdown")
        assert client.state("a") == "STOPPED" and client.check("live") == 1
        assert h.refusal("serve -").startswith("INVALID_STATE")
