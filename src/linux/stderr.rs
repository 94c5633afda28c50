//! The host's own stderr, written to without ever waiting for whoever reads it.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::errno;
use super::poll::takes_bytes;

const STDERR: c_int = 2;

/// What stderr is right now: the host may put something else there at any time.
pub(crate) enum HostStderr {
    /// A pipe or a terminal, opened anew, so that it can be written without blocking and the host's own descriptor stays
    /// as it is.
    Own(OwnedFd),
    Socket,
    /// A file, or what cannot be opened anew: another user's, after su. Written so many bytes at once.
    Shared(usize),
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
            let at_once = match stat.st_mode & libc::S_IFMT {
                libc::S_IFSOCK => return HostStderr::Socket,
                // A pipe that can be written has room for a page, unless somebody else is faster.
                libc::S_IFIFO => libc::PIPE_BUF,
                // A terminal has room for one byte.
                libc::S_IFCHR => 1,
                _ => return HostStderr::Shared(usize::MAX),
            };
            let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
            match libc::open(c"/proc/self/fd/2".as_ptr(), flags) {
                fd if fd >= 0 => HostStderr::Own(OwnedFd::from_raw_fd(fd)),
                _ => HostStderr::Shared(at_once),
            }
        }
    }

    /// Writes what it takes at once. How many bytes are done with: less than all, it takes no more now; where nobody will
    /// ever take them, all.
    pub(crate) fn write(&self, bytes: &[u8]) -> usize {
        let (at, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: a readable buffer of this length. Without a reader it is an error, not a signal: all are blocked here.
        let written = unsafe {
            match self {
                HostStderr::Own(fd) => libc::write(fd.as_raw_fd(), at, len),
                HostStderr::Socket => libc::send(STDERR, at, len, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
                HostStderr::Shared(at_once) if *at_once < len => {
                    let mut done = 0;
                    for piece in bytes.chunks(*at_once) {
                        let taken = self.write(piece);
                        done += taken;
                        if taken < piece.len() {
                            break;
                        }
                    }
                    return done;
                }
                HostStderr::Shared(_) if !takes_bytes(STDERR) => 0,
                HostStderr::Shared(_) => libc::write(STDERR, at, len),
                HostStderr::None => return len,
            }
        };
        match usize::try_from(written) {
            Ok(written) => written,
            Err(_) if [libc::EAGAIN, libc::EINTR].contains(&errno()) => 0,
            Err(_) => len,
        }
    }
}
