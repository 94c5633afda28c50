"""Clients that are broken, slow, silent or many, and what they cost others: nothing."""

import os
import random
import selectors
import struct
import time

from asking import LIMIT, Client, at_end, beside, connect, descriptors, holds, host, refusal, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


SETTINGS = frame(4, 0, 0, b"")


def both(h):
    return h.serve()[1], h.serve("tcp:127.0.0.1:0")[1]


def test_garbage_is_answered_by_an_end():
    random.seed(4)
    with host() as h:
        for address in both(h):
            for said in (
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS where there is none
                random.randbytes(4096),
                PREFACE + random.randbytes(4096),
                PREFACE + SETTINGS + frame(1, 4, 1, random.randbytes(300)),
                PREFACE + SETTINGS + frame(0, 1, 7, b"data of no stream"),
                PREFACE + SETTINGS + frame(8, 0, 0, b"\0\0\0\0"),
                PREFACE + SETTINGS + frame(9, 4, 1, b"a continuation of nothing"),
            ):
                with connect(address) as connection:
                    connection.sendall(said)
                    assert at_end(connection), said[:60]
            with Client(address) as client:
                assert client.check("live") == 1


def test_oversized_frames_are_refused():
    with host() as h:
        for address in both(h):
            for kind in (0, 1, 4, 9):
                with connect(address) as connection:
                    connection.sendall(PREFACE + SETTINGS + b"\xff\xff\xff" + struct.pack(">BBI", kind, 4, 1))
                    assert at_end(connection), f"a frame of kind {kind}"


def test_half_frames_end_with_the_limit_of_silence():
    with host() as h:
        begun, begin = [], time.monotonic()
        for address in both(h):
            for said in (b"", PREFACE[:10], PREFACE, PREFACE + SETTINGS[:5], PREFACE + SETTINGS + frame(1, 4, 1, bytes(90))[:40]):
                connection = connect(address)
                connection.sendall(said)
                begun.append(connection)
        for connection in begun:
            assert at_end(connection)
            connection.close()
        assert 3 < time.monotonic() - begin < LIMIT, "nobody who is slow is cut off at once"


def test_a_request_that_is_not_complete_costs_nobody_else():
    with host() as h:
        address = h.serve()[1]
        h.do("pod a wait")
        slow = [Client(address) for _ in range(20)]
        for client in slow:
            call = client.channel.stream_unary("/podkeep.v1.Control/GetPod")
            client.call = call.future((b"" for _ in iter(lambda: time.sleep(0.2) or client.check("a"), None)), timeout=LIMIT)
        with Client(address) as client:
            for _ in range(20):
                assert client.check("a") == 1
        for client in slow:
            client.call.cancel()
            client.channel.close()


def test_10000_silent_clients_never_keep_a_health_check_out():
    with host() as h:
        address = h.serve()[1]
        h.do("pod a wait")
        before = descriptors(h.pid)
        crowd = selectors.DefaultSelector()
        came = ended = 0

        def two_hundred_more():
            nonlocal came
            for _ in range(200):
                crowd.register(connect(address), selectors.EVENT_READ)
                came += 1
            with Client(address) as client:
                begin = time.monotonic()
                assert client.check("a") == 1
                return time.monotonic() - begin

        while came < 10_000:
            holds(2, two_hundred_more, "a check after two hundred more")
            for key, _ in crowd.select(0):
                if not key.fileobj.recv(1000):  # else it is the server's greeting
                    crowd.unregister(key.fileobj)
                    key.fileobj.close()
                    ended += 1
            assert descriptors(h.pid) - before < 300
        assert ended > 9000, f"only {ended} had lost their places"
        for key in list(crowd.get_map().values()):
            assert at_end(key.fileobj), "those that are left end with the limit of silence"
            key.fileobj.close()
        until(lambda: descriptors(h.pid) <= before, "all places are free again")


def test_who_has_asked_keeps_the_place_before_the_silent():
    with host() as h:
        address = h.serve("tcp:127.0.0.1:0")[1]
        client = Client(address)
        h.do("pod a wait")
        told = client.ask("Watch", name="a")
        next(told)
        silent = [connect(address) for _ in range(600)]
        assert all(at_end(one) for one in silent[:300]), "the first have lost their places"
        h.do("close a")
        assert [event.to for event in (next(told), next(told))] == [4, 6]
        for one in silent:
            one.close()
        client.channel.close()


def is_answered(connection):
    """Asks on a bare connection; whether an answer's headers come."""
    try:
        connection.sendall(PREFACE + SETTINGS + frame(1, 5, 1, b"\x83\x86\x44\x01/\x41\x01a"))
        said = b""
        while struct.pack(">BBI", 1, 5, 1) not in said:
            more = connection.recv(4096)
            if not more:
                return False
            said += more
        return True
    except ConnectionError:
        return False


def test_who_comes_when_all_have_asked_can_ask():
    with host() as h:
        address = h.serve()[1]
        asked = []
        for _ in range(256):
            asked.append(connect(address))
            assert is_answered(asked[-1])  # before it has been silent for too long
        probes = [connect(address) for _ in range(8)]
        for probe in probes:
            probe.recv(9)  # let in, all of them; none has asked
        assert [is_answered(probe) for probe in probes] == [True] * 8
        for one in asked + probes:
            one.close()


def test_without_descriptors_it_waits_and_does_not_spin():
    with host() as h:
        address = h.serve()[1]
        h.do("pod a wait")
        with Client(address) as client:
            assert client.check("a") == 1
            h.do(f"limit {descriptors(h.pid)}")
            waiting = [connect(address) for _ in range(20)]
            before = float(h.do("cpu"))
            begin = time.monotonic()
            while time.monotonic() - begin < 1:
                assert client.check("a") == 1
                time.sleep(0.05)  # the time in which it could spin
            spent = float(h.do("cpu")) - before
            assert spent < 500, f"{spent:.0f} ms of processor time in 1 s"
            h.do("limit 1024")
            for connection in waiting:
                connection.close()
        with Client(address) as client:
            assert client.check("a") == 1


def test_a_flood_of_resets_ends_the_connection_that_sends_it():
    with host() as h:
        address = h.serve()[1]
        headers = b"\x83\x86\x44\x1b/grpc.health.v1.Health/Check\x41\x01a"
        with connect(address) as connection:
            connection.sendall(PREFACE + SETTINGS)
            flood = b"".join(
                frame(1, 4, n, headers) + frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 40_001, 2)
            )
            sending = beside(lambda: _send(connection, flood))
            assert at_end(connection)
            sending()
        with Client(address) as client:
            assert client.check("live") == 1


def _send(connection, data):
    try:
        connection.sendall(data)
    except OSError:
        pass


def test_streams_of_one_client_are_limited():
    with host() as h:
        address = h.serve()[1]
        h.do("pod a wait")
        with Client(address) as many, Client(address) as client:
            streams = [many.ask("Watch", name="a") for _ in range(200)]
            assert client.check("a") == 1
            for stream in streams:
                stream.cancel()
            assert many.check("a") == 1


def test_an_idle_server_costs_no_time():
    with host() as h, Client(h.serve()[1]) as client:
        h.do("pod a wait")
        client.check("a")
        before = float(h.do("cpu"))
        time.sleep(1)  # the time that is judged
        assert float(h.do("cpu")) - before < 50
