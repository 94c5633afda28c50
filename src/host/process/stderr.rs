//! What a child says on stderr: kept (its end), passed through to the host's stderr, told to the log line by line.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use crate::linux::process::read_some;
use crate::linux::stderr::HostStderr;

/// How much of the end is kept.
const KEPT: usize = 64 << 10;
/// A line for the log is no longer.
const LINE: usize = 4096;
/// At most so many bytes are passed on at once: what a pipe that can be written takes without blocking.
const PIECE: usize = 4096;

#[derive(Default)]
pub(crate) struct Stderr {
    end: VecDeque<u8>,
    line: Vec<u8>,
}

/// What came of a look.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Look {
    /// Nothing more now.
    Empty,
    /// More may be there.
    More,
    /// The host's stderr takes nothing now: look again later. The child waits, as it would with that stderr itself.
    Full,
    /// Nobody can write any more.
    Closed,
}

impl Stderr {
    /// Reads a piece and passes it on. With `last`, not waiting for the host's stderr: what it does not take is kept only.
    pub(crate) fn look(&mut self, pipe: &OwnedFd, pod: &'static CStr, last: bool) -> Look {
        let host = HostStderr::open();
        if host.is_full() && !last {
            return Look::Full;
        }
        let mut piece = [0; PIECE];
        let read = match read_some(pipe, &mut piece) {
            Ok(0) => return Look::Closed,
            Ok(n) => &piece[..n],
            Err(libc::EINTR) => return Look::More,
            Err(libc::EAGAIN) => return Look::Empty,
            Err(_) => return Look::Closed,
        };
        host.write(read);
        self.end.extend(read);
        let surplus = self.end.len().saturating_sub(KEPT);
        self.end.drain(..surplus);
        for &byte in read {
            match byte {
                b'\n' => self.tell(pod),
                byte => {
                    self.line.push(byte);
                    if self.line.len() == LINE {
                        self.tell(pod);
                    }
                }
            }
        }
        Look::More
    }

    /// Tells the log of the line so far.
    fn tell(&mut self, pod: &'static CStr) {
        crate::log::line(pod, &String::from_utf8_lossy(&self.line));
        self.line.clear();
    }

    /// The child is gone: the last words, whole.
    pub(crate) fn finish(&mut self, pipe: &OwnedFd, pod: &'static CStr) -> Option<CString> {
        // What is in the pipe, no more: somebody who left the group may write for ever.
        for _ in 0..(1 << 20) / PIECE {
            if self.look(pipe, pod, true) != Look::More {
                break;
            }
        }
        if !self.line.is_empty() {
            self.tell(pod);
        }
        let text = String::from_utf8_lossy(self.end.make_contiguous()).into_owned();
        (!text.is_empty()).then(|| crate::failure::c_string(&text))
    }
}
