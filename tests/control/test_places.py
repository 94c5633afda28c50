"""Addresses: what may be listened at, by whom, and what is left of it."""

import os
import pathlib
import signal
import socket
import stat
import subprocess
import sys

import support
from asking import Client, Host, connect, directory, host, until


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_a_socket_is_for_its_user_alone_and_goes_with_the_server():
    with host() as h, directory() as d:
        path = f"{d}/new/pod.sock"
        number, address = h.serve(f"unix:{path}")
        assert address == f"unix:{path}"
        assert mode(path) == 0o600 and mode(f"{d}/new") == 0o700 and stat.S_ISSOCK(os.lstat(path).st_mode)
        h.do(f"unserve {number}")
        assert os.listdir(d) == [], "the directory that was made goes, too"
        with Client(h.serve(f"unix:{d}/pod.sock")[1]) as client:
            assert client.check("live") == 1


def test_without_an_address_it_is_a_private_socket():
    with host() as h:
        number, address = h.serve()
        path = pathlib.Path(address.removeprefix("unix:"))
        assert mode(path) == 0o600 and mode(path.parent) == 0o700
        h.do(f"unserve {number}")
        assert not path.exists()
    with directory() as d:
        os.chmod(d, 0o700)
        h = Host(support.BUILD / "host", env={**os.environ, "XDG_RUNTIME_DIR": d})
        assert h.serve()[1].startswith(f"unix:{d}/podkeep-{h.pid}-")
        h.end()
        assert os.listdir(d) == []


def test_private_sockets_that_were_left_behind_are_removed():
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    with host() as living:
        lives = living.serve()[1]

        def killed():
            h = Host(support.BUILD / "host", env=environment)
            place = pathlib.Path(h.serve()[1].removeprefix("unix:")).parent
            assert place.parent == pathlib.Path("/tmp")
            h.process.kill()
            h.process.wait(timeout=60)
            return place

        # There is one /tmp: whatever else serves on this machine may be about to remove them, too.
        for _ in range(10):
            first, second = killed(), killed()
            until(lambda: not first.exists(), "the first to go, as the second was made")
            if second.exists():
                break
        assert second.exists(), "one goes when another one is made, and not before"
        h = Host(support.BUILD / "host", env=environment)
        number, _ = h.serve()
        until(lambda: not second.exists(), "the second to go")
        h.do(f"unserve {number}")
        h.end()
        with Client(lives) as client:
            assert client.check("live") == 1


def test_what_is_used_is_not_taken():
    with host() as h, host() as other, directory() as d:
        path = f"{d}/pod.sock"
        h.serve(f"unix:{path}")
        for one in (h, other):
            said = one.refusal(f"serve unix:{path}")
            assert said.startswith("INVALID_STATE") and f"process {h.pid} listens" in said
        pathlib.Path(f"{d}/file").write_text("kept")
        os.mkdir(f"{d}/directory")
        os.symlink(path, f"{d}/link")
        for name in ("file", "directory", "link"):
            assert "no socket" in h.refusal(f"serve unix:{d}/{name}"), name
        assert pathlib.Path(f"{d}/file").read_text() == "kept"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(f"{d}/datagrams")
            h.refusal(f"serve unix:{d}/datagrams")
        address = h.serve("tcp:127.0.0.1:0")[1]
        said = other.refusal(f"serve {address}")
        assert said.startswith("INVALID_STATE") and "listens there" in said
        with Client(f"unix:{path}") as client:
            assert client.check("live") == 1


def test_what_was_left_behind_is_taken():
    with directory() as d:
        address = f"unix:{d}/pod.sock"
        dead = Host()
        dead.serve(address)
        dead.process.kill()
        dead.process.wait()
        assert os.path.exists(f"{d}/pod.sock")
        with host() as h, Client(h.serve(address)[1]) as client:
            assert client.check("live") == 1


def test_what_a_forked_child_holds_of_a_dead_host_is_taken():
    with directory() as d:
        address = f"unix:{d}/pod.sock"
        dead = Host()
        dead.serve(address)
        child = int(dead.do("fork"))
        dead.process.kill()
        dead.process.wait()
        connect(address).close()  # the kernel still lets in, for the child
        with host() as h, Client(h.serve(address)[1]) as client:
            assert client.check("live") == 1
        os.kill(child, signal.SIGKILL)


def test_a_daemon_whose_parent_has_ended_keeps_its_socket():
    daemon = """if True:
        import os, socket, sys
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(sys.argv[1])
        listening.listen(8)
        if os.fork():
            os._exit(0)
        print(os.getpid(), flush=True)
        while True:
            connection = listening.accept()[0]
            while connection.recv(100):
                pass
    """
    with host() as h, directory() as d:
        parent = support.start(sys.executable, "-c", daemon, f"{d}/pod.sock")
        child = int(support.line(parent))
        parent.wait(timeout=60)
        said = h.refusal(f"serve unix:{d}/pod.sock")
        assert said.startswith("INVALID_STATE") and "somebody listens there" in said, said
        connect(f"unix:{d}/pod.sock").close()
        os.kill(child, signal.SIGKILL)


def test_a_relative_directory_goes_wherever_the_process_is_then():
    with directory() as d:
        os.makedirs(f"{d}/elsewhere/new")
        h = Host((support.BUILD / "host").resolve(), cwd=d)
        number, _ = h.serve("unix:new/pod.sock")
        h.do(f"chdir {d}/elsewhere")
        h.do(f"unserve {number}")
        assert os.listdir(d) == ["elsewhere"] and os.listdir(f"{d}/elsewhere") == ["new"]
        h.end()


def test_many_that_want_one_name_get_it_one_after_the_other():
    with directory() as d:
        address = f"unix:{d}/pod.sock"
        hosts = [Host() for _ in range(8)]
        for h in hosts:
            h.send(f"serve {address}")
        said = [support.line(h.process).split()[0] for h in hosts]
        assert sorted(said) == ["INVALID_STATE"] * 7 + ["OK"], said
        with Client(address) as client:
            assert client.check("live") == 1
        for h in hosts:
            h.end()
        assert os.listdir(d) == []


def test_places_that_cannot_be_are_refused_with_a_sentence():
    with host() as h, directory() as d:
        for address, status, words in (
            (f"unix:{d}/no/such/pod.sock", "NOT_FOUND", "not there"),
            (f"unix:{d}/{'x' * 120}", "INVALID_ARGUMENT", "107"),
            ("unix:", "INVALID_ARGUMENT", "path"),
            ("tcp:127.0.0.1", "INVALID_ARGUMENT", "port"),
            ("tcp:127.0.0.1:99999", "INVALID_ARGUMENT", "65535"),
            ("http:x", "INVALID_ARGUMENT", "address"),
            ("tcp:0.0.0.0:0", "DENIED", "mutual TLS"),
            ("tcp:[::]:0", "DENIED", "mutual TLS"),
            ("tcp:192.0.2.1:1", "DENIED", "mutual TLS"),
        ):
            said = h.refusal(f"serve {address}")
            assert said.startswith(status) and words in said, said
        pathlib.Path(f"{d}/file").write_text("")
        assert h.refusal(f"serve unix:{d}/file/pod.sock").startswith("INVALID_ARGUMENT")
        assert sorted(os.listdir(d)) == ["file"], "nothing is left behind"
        assert h.serve("tcp:localhost:0")[1].startswith("tcp:localhost:")


def test_another_users_directory_is_refused():
    if os.geteuid() != 0:
        raise support.Skip("needs root, to give a directory away")
    with host() as h, directory() as d:
        os.mkdir(f"{d}/his")
        os.chown(f"{d}/his", 65534, 65534)
        said = h.refusal(f"serve unix:{d}/his/pod.sock")
        assert said.startswith("DENIED") and "65534" in said


def test_another_user_is_not_answered():
    if os.geteuid() != 0:
        raise support.Skip("needs root, to become another user")
    # It becomes another user once it has read what only root may read here.
    asking = """if True:
        import os, socket, sys
        import grpc
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        path = sys.argv[1]
        try:
            socket.socket(socket.AF_UNIX).connect(path)
            health_pb2_grpc.HealthStub(grpc.insecure_channel("unix:" + path)).Check(
                health_pb2.HealthCheckRequest(service="a"), timeout=20)
        except OSError as error:
            print(type(error).__name__)
        except grpc.RpcError as error:
            print(error.code().name)
    """
    with host() as h, directory() as d:
        os.chmod(d, 0o755)
        h.do("pod a wait")
        path = f"{d}/pod.sock"
        h.serve(f"unix:{path}")
        for rights, expected in ((0o600, "PermissionError"), (0o666, "PERMISSION_DENIED")):
            os.chmod(path, rights)  # whoever opens it to others has them refused by who they are
            ran = subprocess.run([sys.executable, "-c", asking, path], capture_output=True, text=True)
            assert ran.stdout.split() == [expected], ran
        with Client(f"unix:{path}") as client:
            assert client.check("a") == 1


def test_a_name_that_another_took_is_left_to_him():
    with host() as h, directory() as d:
        path = f"{d}/pod.sock"
        number, _ = h.serve(f"unix:{path}")
        os.unlink(path)
        pathlib.Path(path).write_text("his")
        h.do(f"unserve {number}")
        assert pathlib.Path(path).read_text() == "his"


def test_refusals_leave_no_thread_and_no_descriptor():
    with host() as h, directory() as d:
        h.refusal("serve tcp:0.0.0.0:0")  # what comes with the first call stays

        def now():
            return len(os.listdir(f"/proc/{h.pid}/fd")), len(os.listdir(f"/proc/{h.pid}/task"))

        until(lambda: now()[1] == 2, "the main thread and the keeper are left")
        before = now()
        for _ in range(50):
            h.refusal("serve tcp:0.0.0.0:0")
            h.refusal(f"serve unix:{d}/a/b/c")
        for _ in range(20):
            number, _ = h.serve()
            h.do(f"unserve {number}")
        until(lambda: now() == before, f"{before} descriptors and threads again")
        h.do(f"limit {before[0] + 3}")
        assert h.refusal("serve -").startswith("RESOURCES")
        h.do("limit 1024")
        until(lambda: now() == before, "as before, after a refusal for want of descriptors")
