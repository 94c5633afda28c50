"""Mutual TLS off the loopback: who is let in, and what the others read."""

import functools
import subprocess
import tempfile
import time

import grpc
from asking import LIMIT, Client, at_end, connect, holds, host, refusal, until

openssl = functools.partial(subprocess.run, check=True, capture_output=True)


@functools.lru_cache(maxsize=None)
def made():
    """Certificates: two authorities; of the first a server's, a client's, and one that has expired; of the second a client's."""
    place = tempfile.TemporaryDirectory(prefix="podkeep-tls-")
    at = place.name

    def key(name):
        openssl(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{at}/{name}.key"])

    for authority in ("ca", "other"):
        key(authority)
        openssl(["openssl", "req", "-x509", "-new", "-key", f"{at}/{authority}.key", "-subj", f"/CN={authority}",
                 "-days", "30", "-out", f"{at}/{authority}.pem"])
    valid, past = ["-days", "30"], ["-days", "-1"]
    if b"-not_after" in subprocess.run(["openssl", "x509", "-help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout:
        # A number of days below 0 is refused where an end can be named.
        past = ["-not_before", "20200101000000Z", "-not_after", "20200201000000Z"]
    for name, authority, span in (
        ("server", "ca", valid), ("client", "ca", valid), ("stranger", "other", valid), ("expired", "ca", past),
    ):
        key(name)
        openssl(["openssl", "req", "-new", "-key", f"{at}/{name}.key", "-subj", f"/CN={name}", "-out", f"{at}/{name}.csr"])
        with open(f"{at}/{name}.ext", "w") as extensions:
            extensions.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signing = ["openssl", "x509", "-req", "-in", f"{at}/{name}.csr", "-CA", f"{at}/{authority}.pem", "-CAkey",
                   f"{at}/{authority}.key", "-CAcreateserial", *span, "-extfile", f"{at}/{name}.ext", "-out", f"{at}/{name}.pem"]
        openssl(signing)
    return place


def read(name):
    with open(f"{made().name}/{name}", "rb") as file:
        return file.read()


def credentials(name=None, authority="ca"):
    """A client's; without a name it shows no certificate."""
    mine = (read(f"{name}.key"), read(f"{name}.pem")) if name else (None, None)
    return grpc.ssl_channel_credentials(read(f"{authority}.pem"), *mine)


def files():
    return [f"{made().name}/{name}" for name in ("server.pem", "server.key", "ca.pem")]


def test_a_client_with_a_certificate_is_answered():
    with host() as h:
        h.do("pod a wait")
        for place in ("127.0.0.1", "0.0.0.0", "[::]"):
            port = h.serve(f"tcp:{place}:0", *files())[1].rsplit(":", 1)[1]
            with Client(f"localhost:{port}", credentials("client")) as client:
                assert client.check("a") == 1
                assert client.state("a") == "RUNNING"


def test_without_or_with_a_wrong_or_expired_certificate_nobody_is():
    with host() as h:
        h.do("pod a wait")
        address = h.serve("tcp:127.0.0.1:0", *files())[1]
        for name in (None, "stranger", "expired"):
            with Client(address, credentials(name)) as client:
                assert refusal(lambda: client.check("a"))[0] == "UNAVAILABLE", name
        with Client(address, credentials("client", "other")) as client:
            assert refusal(lambda: client.check("a"))[0] == "UNAVAILABLE", "the client refuses the server"
        with Client(address) as client:
            assert refusal(lambda: client.check("a"))[0] == "UNAVAILABLE", "no TLS at all"
        with Client(address, credentials("client")) as client:
            assert client.check("a") == 1


def test_the_refused_client_reads_why_every_time():
    with host() as h:
        address = h.serve("tcp:127.0.0.1:0", *files())[1].removeprefix("tcp:")
        at = made().name
        for name, alert in (("stranger", "unknown ca"), ("expired", "certificate expired"), (None, "certificate required")):
            for _ in range(10):
                argv = ["openssl", "s_client", "-connect", address, "-CAfile", f"{at}/ca.pem", "-alpn", "h2", "-quiet"]
                if name:
                    argv += ["-cert", f"{at}/{name}.pem", "-key", f"{at}/{name}.key"]
                # It goes on talking, as a client that has not heard yet: the alert must come through nevertheless.
                ran = subprocess.run(argv, input=b"x" * 20_000, capture_output=True, timeout=LIMIT)
                assert alert in ran.stderr.decode(), (name, ran.stderr.decode())


def test_silence_and_garbage_in_the_place_of_tls_end():
    with host() as h:
        address = h.serve("tcp:127.0.0.1:0", *files())[1]

        def beside_them():
            begun = [connect(address) for _ in range(600)]
            for connection in begun[::2]:
                try:
                    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                except OSError:
                    pass  # it had lost its place
            with Client(address, credentials("client")) as client:
                begin = time.monotonic()
                until(lambda: is_live(client), "it is answered beside them")
                took = time.monotonic() - begin
            for connection in begun:
                assert at_end(connection)
                connection.close()
            return took

        holds(3, beside_them, "answered beside them after")


def is_live(client):
    try:
        return client.check("live") == 1
    except grpc.RpcError:
        return False  # it had lost its place, too


def test_files_that_cannot_be_used_are_named():
    with host() as h:
        cert, key, ca = files()
        for wrong in ((cert, key, "/nowhere/ca.pem"), (key, cert, ca), (cert, f"{made().name}/client.key", ca), (cert, key, key)):
            said = h.refusal(f"serve tcp:0.0.0.0:0 {' '.join(wrong)}")
            assert said.startswith("INVALID_ARGUMENT") and ".key" in said or "ca.pem" in said, said
        assert h.refusal(f"serve unix:/tmp/x.sock {cert} {key} {ca}").startswith("INVALID_ARGUMENT")
