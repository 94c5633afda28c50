//! What a user gave, kept where a failing allocation is told.

use std::alloc::{Layout, alloc};
use std::ptr::NonNull;

use crate::error::{Error, Result};
use crate::world::no_memory;

/// Bytes on a 16-byte boundary.
pub(crate) struct Args {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: never written after they were made.
unsafe impl Send for Args {}
// SAFETY: as above.
unsafe impl Sync for Args {}

impl Args {
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len, 16).ok()
    }
    pub(super) fn copy(bytes: &[u8]) -> Result<Args> {
        let len = bytes.len();
        if len == 0 {
            return Ok(Args { at: NonNull::dangling(), len });
        }
        let no_room = || Error::resources(format!("no memory for options.args: args_len is {len}"));
        let layout = Args::layout(len).ok_or_else(no_room)?;
        // SAFETY: the size is not zero; the copy fills the whole allocation.
        unsafe {
            let at = NonNull::new(alloc(layout)).ok_or_else(no_room)?;
            at.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), len);
            Ok(Args { at, len })
        }
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes were copied there.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Args {
    fn drop(&mut self) {
        if let Some(layout) = Args::layout(self.len)
            && self.len > 0
        {
            // SAFETY: allocated in `copy` with this layout.
            unsafe { std::alloc::dealloc(self.at.as_ptr(), layout) };
        }
    }
}

/// A box, or RESOURCES.
pub(crate) fn try_box<T>(value: T, what: &str) -> Result<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the size is not zero; the allocation is written before it becomes a box.
    unsafe {
        let at = alloc(Layout::new::<T>()).cast::<T>();
        if at.is_null() {
            return Err(no_memory(what));
        }
        at.write(value);
        Ok(Box::from_raw(at))
    }
}
