//! What a host asks of its children, where they see it without a message: a table of a word a pod's slot, which the
//! host writes in the very step that asks, in a signal handler, too, and which no child can write.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::error::{Error, Result};
use crate::linux::{self, process};
use crate::table::{self, SLOTS};

const LENGTH: usize = SLOTS * size_of::<AtomicU64>();

/// The host's table, until it is given out for ever.
pub(super) struct Made(*mut c_void);

impl Made {
    /// From here on every pod is shown there.
    pub(super) fn publish(self) {
        if let Some(region) = table::region() {
            region.shown.store(self.0.cast::<AtomicU64>(), SeqCst);
        }
        std::mem::forget(self);
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        linux::unmap(self.0, LENGTH);
    }
}

/// Makes the table; the descriptor, which can only be read, is for the children.
pub(super) fn make() -> Result<(Made, OwnedFd)> {
    let refused =
        |error| Error::resources(format!("no memory for what children are shown: {}", linux::describe(error)));
    let memory = process::shared_memory(c"podkeep-shown", &[], LENGTH).map_err(refused)?;
    let made = Made(process::map_shared(memory.as_raw_fd(), LENGTH).map_err(refused)?);
    process::seal(&memory, false).map_err(refused)?;
    let readable = process::read_only(&memory).map_err(refused)?;
    Ok((made, readable))
}

/// The word of one slot, in the child.
pub(super) fn read(fd: RawFd, slot: u32) -> Option<&'static AtomicU64> {
    process::sealed_length(fd).filter(|&length| length == LENGTH && (slot as usize) < SLOTS)?;
    let base = process::map_readable(fd, LENGTH).ok()?.cast::<AtomicU64>();
    // SAFETY: inside of a mapping that is never unmapped; this process only reads it.
    unsafe { base.add(slot as usize).as_ref() }
}
