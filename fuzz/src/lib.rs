//! What all targets have in common: libFuzzer, and a limit on memory.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

pub use libfuzzer_sys::fuzz_target;

/// No input is longer than some kilobytes, so whoever asks for more than this at once has believed a length in it.
const LARGEST: usize = 4 << 20;

static AT_ONCE: AtomicUsize = AtomicUsize::new(LARGEST);
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST_HELD: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Calls `target`, which holds no more than `most` bytes at a time, and asks for no more than `at_once` at once.
pub fn within(at_once: usize, most: usize, target: impl FnOnce()) {
    AT_ONCE.store(at_once, Relaxed);
    MOST_HELD.store(HELD.load(Relaxed) + most, Relaxed);
    target();
    MOST_HELD.store(usize::MAX, Relaxed);
}

struct Limited;

#[global_allocator]
static LIMITED: Limited = Limited;

// SAFETY: the system's allocator, or no return.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// `size` bytes in the place of `before`.
fn take(size: usize, before: usize) {
    let held = HELD.fetch_add(size, Relaxed) + size;
    HELD.fetch_sub(before, Relaxed);
    // A finding's backtrace takes what it needs.
    if std::thread::panicking() {
        return;
    }
    assert!(size <= AT_ONCE.load(Relaxed), "{size} bytes are asked for at once");
    assert!(held - before <= MOST_HELD.load(Relaxed), "{} bytes are held", held - before);
}
