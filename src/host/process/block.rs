//! The memory that a host and one child share: what the child is to run, and what each says without a message.
//!
//! It is a sealed file in memory that nobody can resize: the host maps its first page only, the child all of it. The host
//! believes nothing that it reads there.

use std::ffi::{CStr, CString};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use crate::linux::{self, Nanos};

const MAGIC: u64 = u64::from_le_bytes(*b"podkeep\0");
/// Of this block and of the frames.
const VERSION: u32 = 1;
const PAGE: usize = 4096;

/// What the child is to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Errand {
    /// An exported runtime of the program's own; without one the pod has failed.
    Exported = 1,
    /// Any command. One that knows podkeep may claim the pod with an exported runtime of its name.
    Command = 2,
    /// A library's symbol.
    Library = 3,
}

/// Bytes of the file.
#[repr(C)]
#[derive(Clone, Copy)]
struct Span {
    at: u64,
    length: u64,
}

/// The head of the file.
#[repr(C)]
pub(crate) struct Block {
    magic: u64,
    version: u32,
    errand: u32,
    /// Of the child, noted before its program runs.
    pub(crate) pid: AtomicI32,
    /// Where S is, as a `Seat`.
    pub(crate) seat: AtomicU32,
    /// Not 0: a program that knows podkeep has taken the pod over.
    pub(crate) claimed: AtomicU32,
    /// No callback before the host shows that the pod is STARTING: see [`Block::wait_for_go`].
    go: AtomicU32,
    pub(crate) heartbeat: AtomicU64,
    pub(crate) incarnation: u32,
    pub(crate) slot: u32,
    pub(crate) notify: u32,
    _unused: u32,
    pub(crate) extend_max: Nanos,
    runtime: Span,
    pod: Span,
    path: Span,
    symbol: Span,
    args: Span,
}

const _: () = assert!(size_of::<Block>() <= PAGE);
// No gap between the fields: the head is written as bytes.
const _: () = assert!(size_of::<Block>() == 8 + 6 * 4 + 8 + 4 * 4 + 8 + 5 * size_of::<Span>());

const GO: u32 = 1;
const WAITS: u32 = 2;

impl Block {
    /// The child's: mostly it has passed long ago.
    pub(crate) fn wait_for_go(&self) {
        while self.go.load(Acquire) != GO {
            let _ = self.go.compare_exchange(0, WAITS, AcqRel, Acquire);
            linux::process::wait_shared(&self.go, WAITS);
        }
    }

    /// The host's.
    pub(crate) fn give_go(&self) {
        if self.go.swap(GO, AcqRel) == WAITS {
            linux::process::wake_shared(&self.go);
        }
    }
}

/// What a block says.
pub(crate) struct Brief<'a> {
    pub(crate) errand: Errand,
    pub(crate) runtime: &'a CStr,
    pub(crate) pod: &'a CStr,
    /// Of a library.
    pub(crate) path: &'a CStr,
    pub(crate) symbol: &'a CStr,
    pub(crate) args: &'a [u8],
    pub(crate) notify: bool,
    pub(crate) extend_max: Nanos,
    pub(crate) incarnation: u32,
    /// Of the pod, in the host's tables.
    pub(crate) slot: u32,
}

/// The host's view: the first page, for as long as the child is kept.
pub(crate) struct View(*mut Block);

// SAFETY: all that is used of it after the spawn is atomic.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl std::ops::Deref for View {
    type Target = Block;
    fn deref(&self) -> &Block {
        // SAFETY: mapped until the drop.
        unsafe { &*self.0 }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        linux::unmap(self.0.cast(), PAGE);
    }
}

/// Makes the memory for one child; the descriptor is for it.
pub(crate) fn make(brief: &Brief<'_>) -> Result<(View, OwnedFd), i32> {
    let mut tail = Vec::new();
    let mut put = |bytes: &[u8]| {
        let span = Span { at: (size_of::<Block>() + tail.len()) as u64, length: bytes.len() as u64 };
        tail.extend_from_slice(bytes);
        span
    };
    let block = Block {
        magic: MAGIC,
        version: VERSION,
        errand: brief.errand as u32,
        pid: AtomicI32::new(0),
        seat: AtomicU32::new(0),
        claimed: AtomicU32::new(0),
        go: AtomicU32::new(0),
        heartbeat: AtomicU64::new(0),
        incarnation: brief.incarnation,
        slot: brief.slot,
        notify: brief.notify as u32,
        _unused: 0,
        extend_max: brief.extend_max,
        runtime: put(brief.runtime.to_bytes()),
        pod: put(brief.pod.to_bytes()),
        path: put(brief.path.to_bytes()),
        symbol: put(brief.symbol.to_bytes()),
        args: put(brief.args),
    };
    // SAFETY: the block as bytes; its fields leave no gap.
    let head = unsafe { std::slice::from_raw_parts((&raw const block).cast::<u8>(), size_of::<Block>()) };
    let mut content = head.to_vec();
    content.append(&mut tail);
    let length = content.len().next_multiple_of(PAGE);
    let memory = linux::process::shared_memory(c"podkeep-pod", &content, length)?;
    linux::process::seal(&memory, true)?;
    let view = linux::process::map_shared(std::os::fd::AsRawFd::as_raw_fd(&memory), PAGE)?;
    Ok((View(view.cast()), memory))
}

/// The child's view of its block: mapped for ever.
pub(crate) struct Mapped {
    block: &'static Block,
    bytes: &'static [u8],
}

/// Why a descriptor is no block for this process.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum NotOurs {
    /// It is something else, or another process's.
    Foreign,
    /// The host speaks another version.
    Version(u32),
}

impl Mapped {
    /// Maps the block that this very process was started with.
    pub(crate) fn open(fd: RawFd, pid: i32) -> Result<Mapped, NotOurs> {
        let length = linux::process::sealed_length(fd).filter(|&n| n >= PAGE).ok_or(NotOurs::Foreign)?;
        let base = linux::process::map_shared(fd, length).map_err(|_| NotOurs::Foreign)?;
        // SAFETY: mapped, of that length, never resized and never unmapped unless it is refused here. What the host wrote
        // there before the start does not change; what changes is atomic.
        let (block, bytes) =
            unsafe { (&*base.cast::<Block>(), std::slice::from_raw_parts(base.cast_const().cast::<u8>(), length)) };
        let refused = if block.magic != MAGIC || block.pid.load(Acquire) != pid {
            NotOurs::Foreign
        } else if block.version != VERSION {
            NotOurs::Version(block.version)
        } else {
            return Ok(Mapped { block, bytes });
        };
        linux::unmap(base, length);
        Err(refused)
    }

    pub(crate) fn block(&self) -> &'static Block {
        self.block
    }

    pub(crate) fn errand(&self) -> Option<Errand> {
        [Errand::Exported, Errand::Command, Errand::Library].into_iter().find(|&e| e as u32 == self.block.errand)
    }

    fn bytes(&self, span: Span) -> &'static [u8] {
        let end = span.at.saturating_add(span.length);
        self.bytes.get(span.at as usize..end as usize).unwrap_or_default()
    }

    fn text(&self, span: Span) -> CString {
        CString::new(self.bytes(span)).unwrap_or_default()
    }

    pub(crate) fn runtime(&self) -> CString {
        self.text(self.block.runtime)
    }
    pub(crate) fn pod(&self) -> CString {
        self.text(self.block.pod)
    }
    pub(crate) fn path(&self) -> CString {
        self.text(self.block.path)
    }
    pub(crate) fn symbol(&self) -> CString {
        self.text(self.block.symbol)
    }
    pub(crate) fn args(&self) -> &'static [u8] {
        self.bytes(self.block.args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn brief() -> Brief<'static> {
        Brief {
            errand: Errand::Exported,
            runtime: c"recipe",
            pod: c"kept",
            path: c"",
            symbol: c"",
            args: &[7; 10_000],
            notify: true,
            extend_max: 5,
            incarnation: 3,
            slot: 9,
        }
    }

    #[test]
    fn the_child_reads_what_the_host_wrote() {
        let (view, memory) = make(&brief()).unwrap();
        view.pid.store(42, SeqCst);
        let mapped = Mapped::open(memory.as_raw_fd(), 42).ok().unwrap();
        assert_eq!(mapped.errand(), Some(Errand::Exported));
        assert_eq!((mapped.runtime(), mapped.pod()), (c"recipe".into(), c"kept".into()));
        assert_eq!(mapped.args(), [7; 10_000]);
        assert_eq!((mapped.block().notify, mapped.block().extend_max, mapped.block().incarnation), (1, 5, 3));
    }

    #[test]
    fn another_process_or_another_file_is_refused() {
        let (view, memory) = make(&brief()).unwrap();
        view.pid.store(42, SeqCst);
        assert_eq!(Mapped::open(memory.as_raw_fd(), 43).err(), Some(NotOurs::Foreign));
        let other = linux::process::shared_memory(c"other", b"something", PAGE).unwrap();
        assert_eq!(Mapped::open(other.as_raw_fd(), 0).err(), Some(NotOurs::Foreign));
        assert_eq!(Mapped::open(-1, 0).err(), Some(NotOurs::Foreign));
        let null = linux::process::null_device().unwrap();
        assert_eq!(Mapped::open(null.as_raw_fd(), 0).err(), Some(NotOurs::Foreign));
    }
}
