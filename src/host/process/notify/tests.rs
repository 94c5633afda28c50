use std::io::{PipeReader, PipeWriter, pipe};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;

/// A child that leads its own group, and a child of that which has left the group for a session of its own.
pub(in crate::host::process) struct Family {
    leader: Child,
    // The grandchild reads from it, and ends when it is closed.
    _hold: PipeWriter,
}

impl Family {
    /// `act` is done by the grandchild, between fork and exec: system calls only. Both have exec'd when this returns,
    /// because the grandchild holds the pipe, too, by which the standard library waits for the exec.
    pub(in crate::host::process) fn new(act: impl Fn() + Send + Sync + 'static) -> Family {
        let (stdin, hold) = pipe().unwrap();
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let fd = stdin.as_raw_fd();
        let fork = move || {
            // SAFETY: system calls on descriptors that exist, and exec'd strings that are static.
            unsafe {
                if libc::fork() == 0 {
                    libc::setsid();
                    act();
                    libc::dup2(fd, 0);
                    libc::execvp(c"cat".as_ptr(), [c"cat".as_ptr(), ptr::null()].as_ptr());
                    libc::_exit(127);
                }
            }
            Ok(())
        };
        // SAFETY: system calls only.
        let leader = unsafe { command.pre_exec(fork) }.spawn().unwrap();
        Family { leader, _hold: hold }
    }

    pub(in crate::host::process) fn group(&self) -> i32 {
        self.leader.id() as i32
    }

    fn end_leader(&mut self) {
        self.leader.kill().unwrap();
        self.leader.wait().unwrap();
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

fn this_process() -> i32 {
    std::process::id() as i32
}

fn address_of(socket: &Socket) -> SocketAddr {
    SocketAddr::from_abstract_name(socket.address().strip_prefix('@').unwrap()).unwrap()
}

fn say(socket: &Socket, text: &[u8]) {
    UnixDatagram::unbound().unwrap().send_to_addr(text, &address_of(socket)).unwrap();
}

/// Says `text` and passes descriptors.
fn pass(socket: &Socket, text: &[u8], fds: &[RawFd]) {
    let from = UnixDatagram::unbound().unwrap();
    from.connect_addr(&address_of(socket)).unwrap();
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    // SAFETY: the header points to this frame, and the descriptors fit into the buffer.
    unsafe {
        let size = mem::size_of_val(fds);
        let mut message: libc::msghdr = mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
        assert!(libc::CMSG_SPACE(size as u32) as usize <= mem::size_of_val(&control));
        let head = libc::CMSG_FIRSTHDR(&message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(size as u32) as _;
        ptr::copy_nonoverlapping(fds.as_ptr().cast(), libc::CMSG_DATA(head), size);
        assert_eq!(libc::sendmsg(from.as_raw_fd(), &message, 0), text.len() as isize);
    }
}

/// Whether every writer of a pipe has gone, by `limit` ms from now.
fn hung_up(reader: &PipeReader, limit: c_int) -> bool {
    let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: one entry, writable.
    unsafe { libc::poll(&mut poll, 1, limit) };
    poll.revents & libc::POLLHUP != 0
}

#[test]
fn words_are_told_apart() {
    let said = b"READY=1\nSTATUS=a = b\nSTOPPING=1\nRELOADING=1\nWATCHDOG=1\nWATCHDOG=trigger\n\
        EXTEND_TIMEOUT_USEC=18446744073709551615\nMAINPID=2147483647\nBARRIER=1\nERRNO=2\nSTATUS=";
    let words = [
        Word::Ready,
        Word::Status("a = b".into()),
        Word::Stopping,
        Word::Reloading,
        Word::Watchdog,
        Word::WatchdogTrigger,
        Word::ExtendMicros(u64::MAX),
        Word::MainPid(i32::MAX),
        Word::Barrier,
        Word::Errno(2),
        Word::Status(String::new()),
    ];
    assert_eq!(parse(said), words);
}

#[test]
fn what_is_not_understood_is_left_out() {
    for said in [
        "",
        "\n\n",
        "=",
        "=1",
        "READY",
        "READY=0",
        "READY=",
        "READY=11",
        "READY=1 ",
        " READY=1",
        "ready=1",
        "STOPPING=0",
        "RELOADING=yes",
        "WATCHDOG=",
        "WATCHDOG=2",
        "WATCHDOG_USEC=5",
        "BARRIER=0",
        "FDSTORE=1",
        "X_OWN=1",
        "NOTIFYREADY=1",
        "EXTEND_TIMEOUT_USEC=",
        "EXTEND_TIMEOUT_USEC=-1",
        "EXTEND_TIMEOUT_USEC=+1",
        "EXTEND_TIMEOUT_USEC=0x10",
        "EXTEND_TIMEOUT_USEC=18446744073709551616",
        "MAINPID=0",
        "MAINPID=-5",
        "MAINPID=2147483648",
        "MAINPID=1a",
        "ERRNO=0",
        "ERRNO=-2",
        "ERRNO=4096",
        "ERRNO=99999999999",
    ] {
        assert_eq!(parse(said.as_bytes()), [], "{said:?}");
        let among = format!("STATUS=a\n{said}\nREADY=1\n");
        assert_eq!(parse(among.as_bytes()), [Word::Status("a".into()), Word::Ready], "{said:?}");
    }
}

#[test]
fn odd_bytes_do_no_harm() {
    assert_eq!(parse(b"STATUS=a\xffb\xc3"), [Word::Status("a\u{fffd}b\u{fffd}".into())]);
    assert_eq!(parse("STATUS=gr\u{fc}n".as_bytes()), [Word::Status("gr\u{fc}n".into())]);
    assert_eq!(parse(b"MAINPID=\xff\nEXTEND_TIMEOUT_USEC=\xd9\xa1"), []);
    assert_eq!(parse(b"READY=1\0"), [Word::Ready]);
    assert_eq!(parse(b"READY=1\n\0"), [Word::Ready]);
    for malformed in [&b"READY=1\0\0"[..], b"READY=1\nSTATUS=a\0b", b"\0READY=1", b"\0\0"] {
        assert_eq!(parse(malformed), [], "{malformed:?}");
    }
    // Two bytes, whatever they are, behind all sorts of keys: no panic.
    for key in ["", "STATUS=", "MAINPID=", "EXTEND_TIMEOUT_USEC="] {
        for end in 0..=u16::MAX {
            parse(&[key.as_bytes(), &end.to_be_bytes()].concat());
        }
    }
}

#[test]
fn messages_come_in_order_with_their_sender() {
    let socket = Socket::new().unwrap();
    assert!(socket.receive().is_none());
    say(&socket, b"STATUS=one");
    say(&socket, b"");
    say(&socket, b"READY=1\nSTATUS=two");
    let one = socket.receive().unwrap();
    assert_eq!((one.sender, one.words), (this_process(), vec![Word::Status("one".into())]));
    assert_eq!(socket.receive().unwrap().words, []);
    assert_eq!(socket.receive().unwrap().words, [Word::Ready, Word::Status("two".into())]);
    assert!(socket.receive().is_none());
}

#[test]
fn addresses_are_abstract_and_all_different() {
    let (one, two) = (Socket::new().unwrap(), Socket::new().unwrap());
    assert_ne!(one.address(), two.address());
    let digits = one.address().strip_prefix("@podkeep-").unwrap();
    assert!(digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    // SAFETY: a descriptor that is open.
    let flags = unsafe { libc::fcntl(one.as_fd().as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
}

#[test]
fn a_message_that_is_too_long_is_dropped_and_the_next_is_not() {
    let socket = Socket::new().unwrap();
    let long = |len: usize| [&b"READY=1\nSTATUS="[..], &vec![b'x'; len - 15]].concat();
    say(&socket, &long(LONGEST));
    say(&socket, &long(LONGEST + 1));
    say(&socket, b"READY=1");
    assert_eq!(socket.receive().unwrap().words.len(), 2);
    assert_eq!(socket.receive().unwrap().words, []);
    assert_eq!(socket.receive().unwrap().words, [Word::Ready]);
}

#[test]
fn a_barrier_is_told_when_its_message_is_dropped() {
    let socket = Socket::new().unwrap();
    let (reader, writer) = pipe().unwrap();
    say(&socket, b"READY=1");
    pass(&socket, b"BARRIER=1", &[writer.as_raw_fd()]);
    drop(writer);
    drop(socket.receive().unwrap());
    assert!(!hung_up(&reader, 0), "the message waits still");
    let barrier = socket.receive().unwrap();
    assert_eq!(barrier.words, [Word::Barrier]);
    assert!(!hung_up(&reader, 0), "the message is being dealt with");
    // SAFETY: a descriptor that is open.
    let flags = unsafe { libc::fcntl(barrier._passed[0].as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    drop(barrier);
    // Not at once: a fork of another test may hold a copy until it execs.
    assert!(hung_up(&reader, 10_000));
}

#[test]
fn descriptors_nobody_wants_are_closed() {
    let socket = Socket::new().unwrap();
    for (text, words) in [(&b"FDSTORE=1\nREADY=1"[..], 1), (&[b'x'; LONGEST + 1], 0)] {
        let (reader, writer) = pipe().unwrap();
        pass(&socket, text, &[writer.as_raw_fd(); 20]);
        drop(writer);
        let datagram = socket.receive().unwrap();
        assert_eq!((datagram.sender, datagram.words.len()), (this_process(), words));
        assert!(datagram._passed.len() <= 2);
        drop(datagram);
        assert!(hung_up(&reader, 10_000), "the pipe has no writer left");
    }
}

#[test]
fn the_child_and_what_descends_from_it_are_its_own() {
    let socket = Socket::new().unwrap();
    let address = address_of(&socket);
    let from = UnixDatagram::unbound().unwrap();
    let mut family = Family::new(move || {
        let _ = from.send_to_addr(b"READY=1", &address);
    });
    let grandchild = socket.receive().unwrap().sender;
    let group = family.group();
    assert_ne!(grandchild, group);
    assert!(is_own(group, group));
    assert!(is_own(grandchild, group), "it has left the group, not the family");
    for stranger in [this_process(), 1, 0, -1, -group, i32::MAX] {
        assert!(!is_own(stranger, group), "{stranger}");
    }
    assert!(!is_own(group, grandchild), "a parent is not its child's");
    assert!(!is_own(group, 0) && !is_own(0, 0));
    family.end_leader();
    assert!(!is_own(group, group), "gone");
    assert!(!is_own(grandchild, group), "an orphan cannot be told from a stranger");
}

#[test]
fn a_dead_child_that_was_not_reaped_is_heard() {
    let mut child = Command::new("true").process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id() as i32;
    // SAFETY: a child of ours, and a valid out pointer; it is left to be reaped.
    unsafe {
        let mut info = mem::zeroed();
        libc::waitid(libc::P_PID, pid as libc::id_t, &mut info, libc::WEXITED | libc::WNOWAIT);
    }
    assert!(is_own(pid, pid));
    child.wait().unwrap();
    assert!(!is_own(pid, pid));
}

#[test]
fn names_of_processes_cannot_mislead() {
    let ties = |parent, group| Some(Kin { parent, group });
    assert_eq!(kin_in(b"7 (cat) S 3 4 5 0 -1 4194560"), ties(3, 4));
    assert_eq!(kin_in(b"7 (a) S 1 1 (b) R 3 4 5 0"), ties(3, 4));
    assert_eq!(kin_in(b"7 () )() ) Z 3 4 5"), ties(3, 4));
    assert_eq!(kin_in(b"7 (\xff\xfe\n) D 0 0 0"), ties(0, 0));
    for odd in
        [&b""[..], b"7", b"7 (cat", b"7 (cat)", b"7 (cat) S", b"7 (cat) S 3", b"7 (cat) S x 4", b"7 (cat) \xff 3 4"]
    {
        assert_eq!(kin_in(odd), None, "{odd:?}");
    }
    let parent = std::os::unix::process::parent_id() as i32;
    // SAFETY: no memory is involved.
    assert_eq!(kin(this_process()), ties(parent, unsafe { libc::getpgrp() }));
    assert_eq!(kin(0), None);
}

#[test]
fn the_walk_upward_ends() {
    assert!(!descends(5, 2, |pid| Some(Kin { parent: pid, group: 9 })), "its own parent");
    let chain = |pid| Some(Kin { parent: pid - 1, group: 9 });
    assert!(descends(1000, 1000 - GENERATIONS as i32 + 1, chain));
    assert!(!descends(1000, 1000 - GENERATIONS as i32, chain));
    assert!(descends(5, 2, |pid| Some(Kin { parent: 4, group: if pid == 4 { 2 } else { 5 } })));
}
