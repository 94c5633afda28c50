//! What a child says on stderr: kept (its end), passed through to the host's stderr, told to the log line by line.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use crate::linux::process::read_some;
use crate::linux::stderr::HostStderr;
use crate::linux::{self, Nanos};
use crate::world::lock;

/// How much of the end is kept.
pub(super) const KEPT: usize = 64 << 10;
/// A line for the log is no longer.
pub(super) const LINE: usize = 4096;
/// At most so many bytes are read and passed on at once.
const PIECE: usize = 4096;
/// At most so many bytes wait for the host's stderr: what children that have ended left in their pipes.
const MOST: usize = 1 << 20;
/// Who waits for the last words of children gives the host's stderr up when it has taken nothing for so long.
const PATIENCE: Nanos = 2_000_000_000;

/// The way to the host's stderr, one for all children: what is said later does not overtake what still waits. A child that
/// lives waits itself; what one that has ended left is passed on when it is taken.
#[derive(Default)]
pub(crate) struct Passage {
    /// Used by the thread that keeps the children alone: a write to a file may take its time.
    waiting: Mutex<VecDeque<u8>>,
    /// How many bytes these are, for others to wait for their end.
    left: AtomicU32,
}

impl Passage {
    /// Passes on what waits; whether nothing does any more.
    pub(super) fn is_clear(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        self.pass_on(&mut waiting);
        waiting.is_empty()
    }

    /// Passes `said` on, now or later; false: not all of it, too much waits already.
    fn put(&self, said: &[u8]) -> bool {
        let mut waiting = lock(&self.waiting);
        let room = MOST - waiting.len();
        waiting.extend(&said[..said.len().min(room)]);
        self.pass_on(&mut waiting);
        said.len() <= room
    }

    fn pass_on(&self, waiting: &mut VecDeque<u8>) {
        if waiting.is_empty() {
            return;
        }
        let host = HostStderr::open();
        while let (piece @ [_, ..], _) = waiting.as_slices() {
            let asked = piece.len().min(PIECE);
            let taken = host.write(&piece[..asked]);
            waiting.drain(..taken);
            if taken < asked {
                break;
            }
        }
        self.left.store(waiting.len() as u32, SeqCst);
        linux::futex_wake(self.left.as_ptr(), u32::MAX, i32::MAX);
    }

    /// Waits, not beyond `limit`, until all is passed on; false: it was not, and the host's stderr takes nothing.
    pub(super) fn drain(&self, limit: Nanos) -> bool {
        let mut left = self.left.load(SeqCst);
        let mut until = linux::now().saturating_add(PATIENCE);
        while left != 0 {
            if linux::now() >= until.min(limit) {
                return false;
            }
            // SAFETY: a word of this passage's.
            unsafe { linux::futex_wait(self.left.as_ptr(), left, until.min(limit), u32::MAX) };
            let now = self.left.load(SeqCst);
            if now < left {
                until = linux::now().saturating_add(PATIENCE);
            }
            left = now;
        }
        true
    }
}

#[derive(Default)]
pub(crate) struct Stderr {
    end: VecDeque<u8>,
    line: Vec<u8>,
    /// Not all of it was, or will be, passed on.
    pub(super) cut: bool,
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
    /// Reads a piece and passes it on, if all that was said before is.
    pub(crate) fn look(&mut self, pipe: &OwnedFd, pod: &'static CStr, passage: &Passage) -> Look {
        if passage.is_clear() { self.read(pipe, pod, passage) } else { Look::Full }
    }

    fn read(&mut self, pipe: &OwnedFd, pod: &'static CStr, passage: &Passage) -> Look {
        let mut piece = [0; PIECE];
        let read = match read_some(pipe, &mut piece) {
            Ok(0) => return Look::Closed,
            Ok(n) => &piece[..n],
            Err(libc::EINTR) => return Look::More,
            Err(libc::EAGAIN) => return Look::Empty,
            Err(_) => return Look::Closed,
        };
        self.cut |= !passage.put(read);
        self.take(read, |line| tell(pod, line));
        Look::More
    }

    /// Keeps the end of what was read, and tells of each line that is whole or as long as one may be.
    pub(super) fn take(&mut self, read: &[u8], mut tell: impl FnMut(&[u8])) {
        self.end.extend(read);
        let surplus = self.end.len().saturating_sub(KEPT);
        self.end.drain(..surplus);
        for &byte in read {
            if byte != b'\n' {
                self.line.push(byte);
            }
            if byte == b'\n' || self.line.len() == LINE {
                tell(&self.line);
                self.line.clear();
            }
        }
    }

    /// The child is gone: the last words, whole. The host's stderr is not waited for.
    pub(crate) fn finish(&mut self, pipe: &OwnedFd, pod: &'static CStr, passage: &Passage) -> Option<CString> {
        // What is in the pipe, no more: somebody who left the group may write for ever.
        for _ in 0..(1 << 20) / PIECE {
            if self.read(pipe, pod, passage) != Look::More {
                break;
            }
        }
        self.close(|line| tell(pod, line))
    }

    /// The last line, and the end of all.
    pub(super) fn close(&mut self, mut tell: impl FnMut(&[u8])) -> Option<CString> {
        if !self.line.is_empty() {
            tell(&self.line);
            self.line.clear();
        }
        let text = String::from_utf8_lossy(self.end.make_contiguous()).into_owned();
        (!text.is_empty()).then(|| crate::failure::c_string(&text))
    }
}

/// Tells the log of a line.
fn tell(pod: &'static CStr, line: &[u8]) {
    crate::log::line(pod, &String::from_utf8_lossy(line));
}
