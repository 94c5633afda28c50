//! The host's own stderr, written to without ever waiting for whoever reads it.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::poll::takes_bytes;

const STDERR: c_int = 2;

/// What stderr is right now: the host may put something else there at any time.
pub(crate) enum HostStderr {
    /// A pipe or a terminal, opened anew, so that it can be written without blocking and the host's own descriptor stays
    /// as it is.
    Own(OwnedFd),
    Socket,
    /// A file, or what cannot be opened anew.
    Shared,
    None,
}

impl HostStderr {
    pub(crate) fn open() -> HostStderr {
        // SAFETY: a valid out pointer; a constant path; a new descriptor that nobody else has.
        unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            if libc::fstat(STDERR, &mut stat) != 0 {
                return HostStderr::None;
            }
            match stat.st_mode & libc::S_IFMT {
                libc::S_IFSOCK => HostStderr::Socket,
                libc::S_IFIFO | libc::S_IFCHR => {
                    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
                    match libc::open(c"/proc/self/fd/2".as_ptr(), flags) {
                        fd if fd >= 0 => HostStderr::Own(OwnedFd::from_raw_fd(fd)),
                        _ => HostStderr::Shared,
                    }
                }
                _ => HostStderr::Shared,
            }
        }
    }

    /// It would take nothing now.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            HostStderr::Own(fd) => !takes_bytes(fd.as_raw_fd()),
            HostStderr::Socket | HostStderr::Shared => !takes_bytes(STDERR),
            HostStderr::None => false,
        }
    }

    /// Writes what it takes at once: all, if it was not full and nobody else has filled it since.
    pub(crate) fn write(&self, bytes: &[u8]) {
        let (at, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: a readable buffer of this length. Without a reader it is an error, not a signal: all are blocked here.
        unsafe {
            match self {
                HostStderr::Own(fd) => drop(libc::write(fd.as_raw_fd(), at, len)),
                HostStderr::Socket => drop(libc::send(STDERR, at, len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)),
                HostStderr::Shared if takes_bytes(STDERR) => drop(libc::write(STDERR, at, len)),
                HostStderr::Shared | HostStderr::None => {}
            }
        }
    }
}
