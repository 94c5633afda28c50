//! What a command says of itself: the receiving side of systemd's sd_notify protocol.
//!
//! A datagram socket for each pod, with an abstract address, so that no file is left behind and none has to be writable.
//! Anybody in the same network namespace can send to such an address; who counts is told by the kernel's word on who sent
//! ([`is_own`]). The protocol is the one of sd_notify(3).

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::ptr;

use crate::linux;

/// The longest message taken; systemd takes half of it.
pub(super) const LONGEST: usize = 8192;
/// A parent's parent's parent ... of a sender is looked at so many times.
const GENERATIONS: usize = 64;
/// The largest errno of the kernel's ABI.
const LARGEST_ERRNO: u32 = 4095;

/// One thing a command said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Word {
    Ready,
    Stopping,
    Reloading,
    Status(String),
    Watchdog,
    /// "Take it that I have missed my watchdog."
    WatchdogTrigger,
    /// From now.
    ExtendMicros(u64),
    /// Positive, and not yet proven to be one of the pod's own ([`is_own`]).
    MainPid(i32),
    /// Answered by the drop of the datagram.
    Barrier,
    Errno(i32),
}

/// What came in one piece.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// The process that sent it; 0: the kernel did not say, or it is in a process namespace that we cannot see.
    pub(crate) sender: i32,
    /// In the order they were said. Empty when the message was too long or malformed: it is dropped.
    pub(crate) words: Vec<Word>,
    /// What was passed along. A barrier's sender waits for this to be closed: drop the datagram once its words, and all
    /// before, are dealt with, and it is told.
    _passed: Vec<OwnedFd>,
}

/// Where a command finds its pod.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    address: String,
}

impl Socket {
    /// The error is an errno value.
    pub(crate) fn new() -> Result<Socket, c_int> {
        let name = format!("podkeep-{:032x}", random()?);
        let open = || {
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error: io::Error| error.raw_os_error().unwrap_or(libc::EINVAL))?;
        // Not in the place of a standard stream that the host has closed.
        let fd = linux::process::owned(socket.into_raw_fd())?;
        let on: c_int = 1;
        // SAFETY: the option is a readable int. Nobody knows the address yet, so nothing can have come without a sender.
        let rc = unsafe {
            let size = mem::size_of_val(&on) as libc::socklen_t;
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, (&raw const on).cast(), size)
        };
        if rc == 0 { Ok(Socket { fd, address: format!("@{name}") }) } else { Err(linux::errno()) }
    }

    /// The value for NOTIFY_SOCKET.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The next message; `None`: nothing waits. Never blocks. One that is malformed comes without words, so that whoever
    /// empties the socket can say how many messages of a flood it bears in one go.
    pub(crate) fn receive(&self) -> Option<Datagram> {
        let mut text = [0u8; LONGEST];
        let mut part = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        // Room for the sender (32 bytes, always the first) and two descriptors (24). A barrier passes one; of more than
        // two (FDSTORE) the kernel closes the rest, so that a flood of them cannot exhaust this process's table.
        let mut control = [0u64; 7];
        // SAFETY: a message header of zeroes is a valid one.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = mem::size_of_val(&control);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let len = loop {
            // SAFETY: all that the header points to lives on this frame and is writable.
            match unsafe { libc::recvmsg(self.fd.as_raw_fd(), &mut message, flags) } {
                -1 if linux::errno() == libc::EINTR => (), // the kernel has not touched the header
                -1 => return None,
                len => break len as usize,
            }
        };
        // SAFETY: filled in by the kernel just now, and not looked at before.
        let (sender, passed) = unsafe { unpack(&message) };
        let whole = message.msg_flags & libc::MSG_TRUNC == 0;
        let words = if whole { parse(text.get(..len).unwrap_or_default()) } else { Vec::new() };
        Some(Datagram { sender, words, _passed: passed })
    }
}

impl AsFd for Socket {
    /// To be polled: readable when a message waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// 128 bits nobody can guess.
fn random() -> Result<u128, c_int> {
    let mut bits = 0u128;
    loop {
        // SAFETY: 16 writable bytes. So few come whole or not at all.
        match unsafe { libc::getrandom((&raw mut bits).cast(), mem::size_of_val(&bits), 0) } {
            -1 if linux::errno() == libc::EINTR => (),
            -1 => return Err(linux::errno()),
            _ => return Ok(bits),
        }
    }
}

/// The sender's pid (0: not said) and the descriptors of a received message, which are ours from then on.
///
/// # Safety
/// The kernel filled `message` in, its buffers are still there, and nobody has taken the descriptors yet.
unsafe fn unpack(message: &libc::msghdr) -> (i32, Vec<OwnedFd>) {
    let (mut sender, mut passed) = (0, Vec::new());
    // SAFETY: the caller's promise: the headers and their lengths are the kernel's, inside the buffer.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(message);
        while let Some(head) = at.as_ref() {
            let data = libc::CMSG_DATA(at);
            let size = head.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
            match (head.cmsg_level, head.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= mem::size_of::<libc::ucred>() => {
                    sender = ptr::read_unaligned(data.cast::<libc::ucred>()).pid;
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let fds = data.cast::<RawFd>();
                    for i in 0..size / mem::size_of::<RawFd>() {
                        passed.push(OwnedFd::from_raw_fd(ptr::read_unaligned(fds.add(i))));
                    }
                }
                _ => (),
            }
            at = libc::CMSG_NXTHDR(message, at);
        }
    }
    (sender, passed)
}

/// The words of a message: lines of KEY=VALUE. Lines that are not understood are left out, as the protocol wants it; a
/// message with a NUL in it is malformed as a whole (one at its end is C's habit, and allowed).
pub(crate) fn parse(bytes: &[u8]) -> Vec<Word> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.contains(&0) {
        return Vec::new();
    }
    bytes.split(|byte| *byte == b'\n').filter_map(word).collect()
}

fn word(line: &[u8]) -> Option<Word> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&line[..equals], &line[equals + 1..]);
    match (key, value) {
        (b"READY", b"1") => Some(Word::Ready),
        (b"STOPPING", b"1") => Some(Word::Stopping),
        (b"RELOADING", b"1") => Some(Word::Reloading),
        (b"STATUS", text) => Some(Word::Status(String::from_utf8_lossy(text).into_owned())),
        (b"WATCHDOG", b"1") => Some(Word::Watchdog),
        (b"WATCHDOG", b"trigger") => Some(Word::WatchdogTrigger),
        (b"EXTEND_TIMEOUT_USEC", digits) => number(digits).map(Word::ExtendMicros),
        (b"MAINPID", digits) => number(digits).filter(|pid| *pid > 0).map(Word::MainPid),
        (b"BARRIER", b"1") => Some(Word::Barrier),
        (b"ERRNO", digits) => {
            number(digits).filter(|value| (1..=LARGEST_ERRNO).contains(value)).map(|value| Word::Errno(value as i32))
        }
        _ => None,
    }
}

/// Decimal digits and nothing else, not even the plus sign that Rust takes.
fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Whether `pid` belongs to the child that leads the process group `group`: it is in the group, or it descends from one
/// who is. One that has gone and been reaped cannot be told any more, and is none; nor is one that left the group and lost
/// its parents (a daemon).
pub(crate) fn is_own(pid: i32, group: i32) -> bool {
    if pid <= 0 || group <= 0 {
        return false; // 0 would mean ourselves to the kernel
    }
    // SAFETY: no memory is involved.
    let its_group = unsafe { libc::getpgid(pid) };
    // The first needs no /proc, and is the answer for most.
    its_group == group || descends(pid, group, kin)
}

/// The family ties of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kin {
    pub(super) parent: i32,
    pub(super) group: i32,
}

/// From `/proc`; `None`: there is no such process, or it is hidden from us.
pub(super) fn kin(pid: i32) -> Option<Kin> {
    kin_in(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// From the text of a stat file: `pid (name) state parent group ...`. A process chooses its name, spaces and parentheses
/// and all; behind the last parenthesis are numbers alone.
pub(super) fn kin_in(stat: &[u8]) -> Option<Kin> {
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let mut fields = std::str::from_utf8(&stat[name_ends + 1..]).ok()?.split_ascii_whitespace();
    let _state = fields.next()?;
    Some(Kin { parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

/// Whether `pid`, or one of those it descends from, leads `group` or is in it.
pub(super) fn descends(pid: i32, group: i32, kin: impl Fn(i32) -> Option<Kin>) -> bool {
    let mut at = pid;
    for _ in 0..GENERATIONS {
        let Some(ties) = kin(at) else { return false };
        if at == group || ties.group == group {
            return true;
        }
        at = ties.parent;
    }
    false
}

#[cfg(test)]
pub(super) mod tests;
