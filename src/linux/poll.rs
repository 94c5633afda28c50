//! Waiting for many descriptors at once.

use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::errno;

/// An epoll set: each descriptor in it has a token of its owner's.
pub(crate) struct Poller(OwnedFd);

/// What a token's descriptor is ready for.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) token: u64,
}

impl Poller {
    pub(crate) fn new() -> Result<Poller, c_int> {
        // SAFETY: a number.
        super::process::owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Poller)
    }

    /// Tells of `fd` whenever it can be read, or its other end is closed.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), c_int> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
    }

    /// Does not tell of `fd` any more. To be called before it is closed: the copy of a descriptor that a forked process
    /// holds would keep it in the set.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, &mut event);
    }

    fn control(&self, what: c_int, fd: BorrowedFd<'_>, event: &mut libc::epoll_event) -> Result<(), c_int> {
        // SAFETY: a valid event for the time of the call.
        match unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd.as_raw_fd(), event) } {
            0 => Ok(()),
            _ => Err(errno()),
        }
    }

    /// Waits up to `milliseconds` (-1: for ever), and hands over what is ready.
    pub(crate) fn wait(&self, milliseconds: c_int, mut take: impl FnMut(Ready)) {
        // SAFETY: plain data.
        let mut events: [libc::epoll_event; 64] = unsafe { std::mem::zeroed() };
        // SAFETY: room for as many events.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), 64, milliseconds) };
        for event in events.iter().take(n.max(0) as usize) {
            take(Ready { token: event.u64 });
        }
    }
}

/// Whether `fd` (any number) would take something now without blocking: a pipe a page, a terminal a byte. One that nobody
/// reads any more takes all, with an error; a closed number answers false.
pub(crate) fn takes_bytes(fd: c_int) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 && poll.revents & (libc::POLLOUT | libc::POLLERR) != 0 }
}

/// Waits until a socket can be read, or written if `write`, or `bell` rings; false: nothing of that by now.
pub(crate) fn wait_for(socket: &OwnedFd, write: bool, bell: &OwnedFd) -> bool {
    let events = libc::POLLIN | if write { libc::POLLOUT } else { 0 };
    let mut polls = [
        libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 },
        libc::pollfd { fd: bell.as_raw_fd(), events: libc::POLLIN, revents: 0 },
    ];
    // SAFETY: two valid entries; no limit.
    unsafe { libc::ppoll(polls.as_mut_ptr(), 2, ptr::null(), ptr::null()) > 0 }
}

/// Whether a socket has something to read, or is at its end.
pub(crate) fn has_bytes(socket: &OwnedFd) -> bool {
    is_readable(socket.as_fd())
}

pub(crate) fn is_readable(socket: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&mut poll, 1, 0) == 1 && poll.revents & libc::POLLIN != 0 }
}
