"""The guardian: whatever ends a host, its registered process groups end with it, and nobody else does."""

import ctypes
import mmap
import os
import resource
import signal
import socket
import struct
import threading
import time

from support import LIMIT, PROGRAM, SLOW, Forked, Skip, alive, group_alive, start, status, until, wait

SLOTS = 1024


class Table:
    def __init__(self, slots=SLOTS, tail=0):
        self.fd = os.memfd_create("table")
        os.ftruncate(self.fd, slots * 4 + tail)

    def put(self, slot, value):
        os.pwrite(self.fd, struct.pack("=I", value), slot * 4)


def member(table, slot, body=signal.pause):
    """A child of the caller, in a group of its own and in the table."""
    ready, steady = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(0)
            os.setpgid(0, 0)
            table.put(slot, os.getpid())
            os.write(steady, b"!")
            body()
        finally:
            os._exit(0)
    os.close(steady)
    os.read(ready, 1)
    os.close(ready)
    return pid


def guardian(table, host=None, before=lambda: None):
    """Starts one as the library does: a grandchild in a session of its own. Its process id."""
    pidfd = os.pidfd_open(host or os.getpid())
    read, write = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            os.setsid()
            pid = os.fork()
            if pid == 0:
                for fd in (pidfd, table.fd):
                    os.set_inheritable(fd, True)
                before()
                os.execv(PROGRAM, [PROGRAM, "__guard", str(pidfd), str(table.fd)])
            os.write(write, struct.pack("=i", pid))
        finally:
            os._exit(1 if pid == 0 else 0)
    os.waitpid(middle, 0)
    pid = struct.unpack("=i", os.read(read, 4))[0]
    os.close(read)
    os.close(write)
    os.close(pidfd)
    until(lambda: status(pid, "Name") == "podkeep-guard", "the guardian's name")
    return pid


def killed(pid):
    """The orphan `pid` ends by SIGKILL."""
    ended = wait(pid)
    assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL, ended


def ends_clean(guard):
    ended = wait(guard)
    assert ended == 0, ended


def a_host(after, bodies=(signal.pause,), **how):
    """A host with one group a body and a guardian; then it does `after`. (host, guard, groups)"""

    def body(tell):
        table = Table()
        groups = [member(table, n * 7, body) for n, body in enumerate(bodies)]
        tell([guardian(table, **how), groups])
        after()

    host = Forked(body)
    guard, groups = host.get()
    return host, guard, groups


def test_a_killed_host_takes_its_groups_along():
    host, guard, groups = a_host(signal.pause, [signal.pause] * 5)
    assert all(alive(pid) for pid in [guard, *groups])
    host.kill()
    # Not reaped yet: a zombie of a host is a host that has ended.
    for pid in groups:
        killed(pid)
    ends_clean(guard)
    host.wait()


def test_a_host_that_exits_takes_its_groups_along():
    for code in (0, 3):
        host, guard, groups = a_host(lambda: os._exit(code))
        killed(groups[0])
        ends_clean(guard)
        assert os.waitstatus_to_exitcode(host.wait()) == code


def test_a_host_that_crashes_takes_its_groups_along():
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    host, guard, groups = a_host(lambda: os.kill(os.getpid(), signal.SIGSEGV))
    killed(groups[0])
    ends_clean(guard)
    assert os.waitstatus_to_exitcode(host.wait()) == -signal.SIGSEGV


def test_a_copy_of_the_host_that_holds_everything_open_delays_nothing():
    copies = []

    def fork_then_die():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.write(copies[1], struct.pack("=i", pid))
        os.kill(os.getpid(), signal.SIGKILL)

    copies = list(os.pipe())
    host, guard, groups = a_host(fork_then_die)
    copy = struct.unpack("=i", os.read(copies[0], 4))[0]
    killed(groups[0])
    ends_clean(guard)
    assert alive(copy), "the copy is nobody's pod and lives on"
    host.wait()
    os.kill(copy, signal.SIGKILL)
    wait(copy)


def test_all_of_a_group_of_fifty_dies():
    told, telling = os.pipe()

    def fifty():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pids = []
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                signal.pause()
            pids.append(pid)
        os.write(telling, struct.pack("=50i", *pids))
        signal.pause()

    host, guard, groups = a_host(signal.pause, [fifty])
    pids = struct.unpack("=50i", os.read(told, 200))
    host.kill()
    for pid in [*groups, *pids]:
        killed(pid)
    ends_clean(guard)
    host.wait()


def test_a_group_that_forks_without_end_dies():
    # Bounded to what the machine bears: 40 processes that each replace themselves for ever.
    def bomb():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for _ in range(40):
            if os.fork() == 0:
                while True:
                    if os.fork():
                        os._exit(0)
        signal.pause()

    host, guard, groups = a_host(signal.pause, [bomb])
    host.kill()
    killed(groups[0])
    ends_clean(guard)
    until(lambda: not group_alive(groups[0]), "the end of the whole group")
    host.wait()


def test_stopped_and_deaf_groups_die():
    def stopped():
        os.kill(os.getpid(), signal.SIGSTOP)

    def deaf():
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            signal.pause()

    host, guard, groups = a_host(signal.pause, [stopped, deaf])
    until(lambda: status(groups[0], "State")[:1] == "T", "its stop")
    host.kill()
    for pid in groups:
        killed(pid)
    ends_clean(guard)
    host.wait()


def test_a_group_whose_leader_has_ended_dies():
    told, telling = os.pipe()

    def leave_one():
        pid = os.fork()
        if pid == 0:
            signal.pause()
        os.write(telling, struct.pack("=i", pid))

    host, guard, groups = a_host(signal.pause, [leave_one])
    left = struct.unpack("=i", os.read(told, 4))[0]
    until(lambda: status(groups[0], "State")[:1] == "Z", "the leader's end")
    host.kill()
    killed(left)
    assert wait(groups[0]) == 0
    ends_clean(guard)
    host.wait()


def test_only_what_is_in_the_table_dies():
    def body(tell):
        table = Table()
        kept, cleared, gone = (member(table, slot) for slot in (1, 2, 3))
        table.put(2, 0)
        os.kill(gone, signal.SIGKILL)
        os.waitpid(gone, 0)
        tell([guardian(table), kept, cleared])
        signal.pause()

    host = Forked(body)
    guard, kept, cleared = host.get()
    host.kill()
    killed(kept)
    ends_clean(guard)
    assert alive(cleared)
    os.kill(cleared, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(wait(cleared)) == -signal.SIGTERM
    host.wait()


def test_a_table_of_garbage_harms_nobody():
    # Not with 1 (which kill(2) takes for everybody) outside of a namespace: see test_pid1.py.
    def body(tell):
        table = Table(tail=3)
        victim = member(table, 1000)
        guard = guardian(table)
        garbage = [0xFFFFFFFF, 0x80000000, 0x80000001, 0xDEADBEEF, 0x7FFFFFFF, guard, 0xFFFFFFFE]
        for slot, value in enumerate(garbage * 100):
            table.put(slot, value)
        os.pwrite(table.fd, b"\xff\xff\xff", SLOTS * 4)
        tell([guard, victim])
        signal.pause()

    bystander = start("sleep", "1000")
    host = Forked(body)
    guard, victim = host.get()
    host.kill()
    killed(victim)
    ends_clean(guard)
    assert bystander.poll() is None
    host.wait()


def test_everybody_and_itself_are_spared_in_a_namespace():
    if os.geteuid() != 0:
        raise Skip("a PID namespace needs root")
    inside = f"""
import os, signal, struct, sys
sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import test_guard as t
from support import Forked
bystander = os.fork()
if bystander == 0:
    signal.pause()
def body(tell):
    table = t.Table()
    victim = t.member(table, 9)
    for slot in range(8):
        table.put(slot, slot % 2)
    tell([t.guardian(table), victim])
    signal.pause()
host = Forked(body)
guard, victim = host.get()
host.kill()
t.killed(victim)
t.ends_clean(guard)
host.wait()
os.kill(bystander, 0)
os.kill(bystander, signal.SIGKILL)
os.waitpid(bystander, 0)
print("spared")
"""
    process = start("unshare", "--pid", "--fork", "--mount-proc", "python3", "-c", inside)
    out, err = process.communicate(timeout=LIMIT)
    if process.returncode != 0 and b"unshare" in err and b"ermitted" in err:
        raise Skip(f"no PID namespace here: {err.decode().strip()}")
    assert (process.returncode, out) == (0, b"spared\n"), err.decode()


# Who is in the table so soon after the host's end is found: the guardian's last look comes at 126 ms or later.
IN_TIME = 0.12


def dies_though_late(delay):
    """One round of the case below. False: the child was kept from its entry for so long that nobody has to find it."""

    def late():
        read, write = late_pipe
        os.close(write)
        os.read(read, 1)  # Ends with the host.
        signal.sigtimedwait([], delay)
        os.pwrite(late_table.fd, struct.pack("=I", os.getpid()), 4 * 500)
        os.write(telling, struct.pack("=d", time.monotonic()))
        signal.pause()

    def body(tell):
        pid = member(late_table, 3, late)
        late_table.put(3, 0)
        os.close(late_pipe[0])
        tell([guardian(late_table, before=lambda: os.close(late_pipe[1])), pid])
        signal.pause()

    late_table, late_pipe, (told, telling) = Table(), os.pipe(), os.pipe()
    host = Forked(body)
    os.close(late_pipe[1])
    os.close(telling)
    guard, pid = host.get()
    begin = time.monotonic()
    host.kill()
    entered = os.read(told, 8)
    # Without a word it was killed before it could say one.
    in_time = not entered or struct.unpack("=d", entered)[0] - begin < IN_TIME
    if not in_time:
        os.kill(pid, signal.SIGKILL)
    killed(pid)
    ends_clean(guard)
    host.wait()
    for fd in (late_pipe[0], told, late_table.fd):
        os.close(fd)
    return in_time


def test_a_child_that_registers_itself_late_dies():
    """A host may die between clone and exec; its child goes on and puts itself into the table."""
    for delay in (0.001, 0.02, 0.08):
        # Again as often as it takes, within the case's limit.
        while not dies_though_late(delay):
            print(f"  entered too late to be judged, with a delay of {delay * 1e3:.0f} ms")


def test_the_table_may_be_large_and_grow():
    def body(tell):
        table = Table(slots=0)
        guard = guardian(table)
        os.ftruncate(table.fd, 4 << 22)
        tell([guard, [member(table, slot) for slot in (0, 1023, 1024, (1 << 22) - 1)]])
        signal.pause()

    host = Forked(body)
    guard, groups = host.get()
    host.kill()
    for pid in groups:
        killed(pid)
    ends_clean(guard)
    host.wait()


def test_a_table_that_was_cut_short_ends_nothing_but_what_is_left():
    def body(tell):
        table = Table()
        first, second = member(table, 0), member(table, 1000)
        guard = guardian(table)
        os.ftruncate(table.fd, 6)
        tell([guard, first, second])
        signal.pause()

    host = Forked(body)
    guard, first, second = host.get()
    host.kill()
    killed(first)
    ends_clean(guard)
    assert alive(second)
    os.kill(second, signal.SIGKILL)
    wait(second)
    host.wait()


def test_no_signal_but_kill_ends_it():
    host, guard, groups = a_host(signal.pause)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        os.kill(guard, number)
    # Stopped and continued: its wait is interrupted.
    os.kill(guard, signal.SIGSTOP)
    until(lambda: status(guard, "State")[:1] == "T", "its stop")
    os.kill(guard, signal.SIGCONT)
    until(lambda: status(guard, "State")[:1] == "S", "its wait")
    assert alive(groups[0])
    host.kill()
    killed(groups[0])
    ends_clean(guard)
    host.wait()


def test_it_holds_nothing_of_the_host():
    """Not its directory, not its terminal, not its pipes: a reader of those must see the end when the host ends."""
    read, write = os.pipe()

    def inherit():
        for fd in (0, 1, 2, 100, 101):
            os.dup2(write, fd)

    host, guard, groups = a_host(signal.pause, before=inherit)
    # It has its name before it lets go of what it was given.
    until(lambda: len(os.listdir(f"/proc/{guard}/fd")) == 5, "that it holds five descriptors")
    until(lambda: os.readlink(f"/proc/{guard}/cwd") == "/", "that it leaves the host's directory")
    names = {fd: os.readlink(f"/proc/{guard}/fd/{fd}") for fd in os.listdir(f"/proc/{guard}/fd")}
    assert all(names[fd] == "/dev/null" for fd in "012"), names
    assert sorted(name.split(":")[0] for fd, name in names.items() if fd not in "012")[1] == "anon_inode", names
    assert os.getsid(guard) != os.getsid(0) and os.getpgid(guard) != os.getpgid(0)
    assert int(status(guard, "SigBlk"), 16) & (1 << (signal.SIGTERM - 1))
    assert status(guard, "Threads") == "1"
    host.kill()
    killed(groups[0])
    ends_clean(guard)
    host.wait()
    os.close(write)
    assert os.read(read, 1) == b""
    os.close(read)


def test_descriptors_may_be_the_standard_streams():
    def body(tell):
        table = Table()
        victim = member(table, 0)
        pidfd = os.pidfd_open(os.getpid())
        middle = os.fork()
        if middle == 0:
            guard = os.fork()
            if guard == 0:
                os.dup2(pidfd, 1)
                os.dup2(table.fd, 0)
                os.close(2)
                os.execv(PROGRAM, [PROGRAM, "__guard", "1", "0"])
            tell([guard, victim])
            os._exit(0)
        os.waitpid(middle, 0)
        signal.pause()

    host = Forked(body)
    guard, victim = host.get()
    until(lambda: status(guard, "Name") == "podkeep-guard", "the guardian's name")
    assert os.getsid(guard) == guard, "a session of its own, though nobody gave it one"
    host.kill()
    killed(victim)
    ends_clean(guard)
    host.wait()


def test_the_end_of_the_main_thread_is_not_the_end_of_the_host():
    libc = ctypes.CDLL(None)
    told, telling = os.pipe()

    def leave_a_thread():
        def stay():
            until(lambda: status(os.getpid(), "State")[:1] == "Z", "the end of the main thread")
            os.write(telling, b"!")
            threading.Event().wait()

        threading.Thread(target=stay).start()
        libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # SYS_exit: this thread alone.

    host, guard, groups = a_host(leave_a_thread)
    os.read(told, 1)
    # What must not happen gives no event: longer than the guardian's passes take.
    threading.Event().wait(0.3)
    assert alive(guard) and status(groups[0], "State")[:1] == "S"
    host.kill()
    killed(groups[0])
    ends_clean(guard)
    host.wait()


def test_exec_of_the_host_is_not_its_end():
    host, guard, groups = a_host(lambda: os.execvp("sleep", ["sleep", "1000"]))
    until(lambda: status(host.pid, "Name") == "sleep", "the exec")
    assert alive(guard) and alive(groups[0])
    host.kill()
    killed(groups[0])
    ends_clean(guard)
    host.wait()


def test_it_serves_a_host_that_is_dead_already():
    dead = Forked(lambda tell: None)
    until(lambda: status(dead.pid, "State")[:1] == "Z", "its end")
    pidfd, table = os.pidfd_open(dead.pid), Table()
    victim = start("sleep", "1000", start_new_session=True)
    table.put(0, victim.pid)
    dead.wait()
    guard = start(PROGRAM, "__guard", pidfd, table.fd, pass_fds=(pidfd, table.fd))
    assert victim.wait(LIMIT) == -signal.SIGKILL
    assert guard.wait(LIMIT) == 0


def test_misuse_kills_nobody():
    table = Table()
    victim = start("sleep", "1000", start_new_session=True)
    table.put(0, victim.pid)
    read, write = os.pipe()
    pair = socket.socketpair()
    memory = mmap.mmap(-1, 4096)
    pidfd = os.pidfd_open(os.getpid())
    file = os.open("/proc/self/stat", os.O_RDONLY)
    fds = (read, write, pidfd, file, table.fd, pair[0].fileno(), pair[1].fileno())
    for fd in (*fds, 1000, -1, 1 << 31):
        if fd != pidfd:
            guard = start(PROGRAM, "__guard", fd, table.fd, pass_fds=fds)
            assert guard.wait(LIMIT) == 2, f"no pidfd: {fd}"
    for fd in (read, pidfd, pair[0].fileno(), 1000):
        guard = start(PROGRAM, "__guard", pidfd, fd, pass_fds=fds)
        assert guard.wait(LIMIT) == 2, f"no table: {fd}"
    for words in ([], ["3"], ["a", "b"], ["", ""], ["3 ", "4"]):
        assert start(PROGRAM, "__guard", *words).wait(LIMIT) == 2, words
    assert victim.poll() is None
    for fd in (read, write, pidfd, file):
        os.close(fd)
    pair[0].close(), pair[1].close(), memory.close()


def test_it_is_small():
    host, guard, groups = a_host(signal.pause)
    until(lambda: status(guard, "State")[:1] == "S", "its wait")
    with open(f"/proc/{guard}/smaps_rollup") as rollup:
        size = {row.split(":")[0]: int(row.split()[1]) for row in rollup if row.rstrip().endswith("kB")}
    print(f"  guardian: {size['Anonymous']} kB of its own, {size['Pss']} kB PSS, {size['Rss']} kB RSS")
    if SLOW == 1:
        # Of its own: what no page cache shares. The rest is libc and the program's file.
        assert size["Anonymous"] <= 256 and size["Rss"] <= 4096, size
    host.kill()
    killed(groups[0])
    ends_clean(guard)
    host.wait()
