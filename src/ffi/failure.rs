//! Failure: why it ended.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use super::status::podkeep_status;
use super::{answer, boundary, value};
use crate::error::{Error, Result};
use crate::failure::{Failure, Record};
use crate::table::{Kind, as_pointer};
use crate::world::{Entry, World, not_a};

/// Why an incarnation ended: an immutable snapshot. Opaque; a handle, never an address.
pub struct podkeep_failure {
    _opaque: [u8; 0],
}

/// Where in an incarnation: PODKEEP_PHASE_*.
pub type podkeep_phase = i32;
/// Before init was entered.
pub const PODKEEP_PHASE_SPAWN: podkeep_phase = 0;
/// In init.
pub const PODKEEP_PHASE_INIT: podkeep_phase = 1;
/// On the way to ready.
pub const PODKEEP_PHASE_READY: podkeep_phase = 2;
/// In run_forever.
pub const PODKEEP_PHASE_RUN: podkeep_phase = 3;
/// In the cancel hook, or waiting for it.
pub const PODKEEP_PHASE_CANCEL: podkeep_phase = 4;
/// In teardown.
pub const PODKEEP_PHASE_TEARDOWN: podkeep_phase = 5;

/// How a failure showed itself: PODKEEP_KIND_*.
pub type podkeep_kind = i32;
/// A callback returned non-zero.
pub const PODKEEP_KIND_RETURNED: podkeep_kind = 0;
/// A Rust panic.
pub const PODKEEP_KIND_PANIC: podkeep_kind = 1;
/// An exception of C++, Python ...
pub const PODKEEP_KIND_EXCEPTION: podkeep_kind = 2;
/// It exited, or its thread was ended from inside, without the library's word.
pub const PODKEEP_KIND_EXIT: podkeep_kind = 3;
/// A signal.
pub const PODKEEP_KIND_SIGNAL: podkeep_kind = 4;
/// A limit was reached.
pub const PODKEEP_KIND_TIMEOUT: podkeep_kind = 5;
/// A heartbeat was missed.
pub const PODKEEP_KIND_WATCHDOG: podkeep_kind = 6;
/// The end is known, its reason is not.
pub const PODKEEP_KIND_LOST: podkeep_kind = 7;

/// Gives a failure and what hangs on it handles of their own, in a row.
pub(super) fn register(failure: &Failure, owned: bool) -> Result<u64> {
    let chain = failure.chain();
    let entries = (0..chain.len()).map(|at| Entry::Failure { chain: chain.clone(), at, owned: owned && at == 0 });
    World::get()?.register(Kind::Failure, entries)
}

/// Ends the handles that `register` gave for a chain that was only lent.
pub(super) fn unregister_lent(first: u64, count: usize) {
    if let Ok(world) = World::get() {
        let _ = world.unregister(Kind::Failure, first, count as u64);
    }
}

fn find(failure: *const podkeep_failure) -> Result<(Arc<Vec<Record>>, usize, bool)> {
    match World::get()?.entry(Kind::Failure, value(failure))? {
        Entry::Failure { chain, at, owned } => Ok((chain, at, owned)),
        _ => Err(not_a(Kind::Failure, value(failure))),
    }
}

fn of<T>(failure: *const podkeep_failure, otherwise: T, get: impl FnOnce(&Record) -> T) -> T {
    answer(otherwise, || find(failure).map(|(chain, at, _)| get(&chain[at])))
}

/// The pod that failed; the name lives as long as the process. "": no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_pod_name(failure: *const podkeep_failure) -> *const c_char {
    of(failure, c"".as_ptr(), |record| record.pod_name.as_ptr())
}

/// Which of its lives. (uint32_t)-2: no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_incarnation(failure: *const podkeep_failure) -> u32 {
    of(failure, -2i32 as u32, |record| record.incarnation)
}

/// PODKEEP_PHASE_*; -2: no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_phase(failure: *const podkeep_failure) -> podkeep_phase {
    of(failure, -2, |record| record.phase as podkeep_phase)
}

/// PODKEEP_KIND_*; -2: no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_kind(failure: *const podkeep_failure) -> podkeep_kind {
    of(failure, -2, |record| record.kind as podkeep_kind)
}

/// The callback's return value, exit code or signal number; -2: no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_code(failure: *const podkeep_failure) -> i32 {
    of(failure, -2, |record| record.code)
}

/// The whole message, UTF-8; it lives as long as the failure. "": no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_message(failure: *const podkeep_failure) -> *const c_char {
    of(failure, c"".as_ptr(), |record| record.message.as_ptr())
}

/// The bytes that podkeep_context_fail_with gave along; they live as long as the failure. *len, which may be NULL, is their
/// number. NULL: there are none, or no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_failure_data(failure: *const podkeep_failure, len: *mut usize) -> *const c_void {
    let (at, count) = of(failure, (ptr::null(), 0), |record| (record.data.as_ptr(), record.data.len()));
    // SAFETY: the caller promises a valid pointer or NULL.
    if let Some(len) = unsafe { len.as_mut() } {
        *len = count;
    }
    if count == 0 { ptr::null() } else { at.cast() }
}

/// The end (at most 64 KiB) of what the pod's child process wrote to stderr, with what is not UTF-8 shown as it can be; it
/// lives as long as the failure. "": nothing, a thread pod's, or no failure. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_stderr(failure: *const podkeep_failure) -> *const c_char {
    of(failure, c"".as_ptr(), |record| record.stderr.as_deref().unwrap_or_default().as_ptr())
}

/// The next failure of the same incarnation, in order of time; NULL: none. Borrowed: it lives as long as the first, and
/// freeing it is INVALID_ARGUMENT. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_secondary(failure: *const podkeep_failure) -> *const podkeep_failure {
    answer(ptr::null(), || {
        let (chain, at, _) = find(failure)?;
        // The chain's handles are in a row; one step in the registry's number is one step in the chain.
        let next = value(failure) + crate::table::id_handle(Kind::Failure, 1) - Kind::Failure as u64;
        Ok(if at + 1 < chain.len() { as_pointer::<podkeep_failure>(next).cast_const() } else { ptr::null() })
    })
}

/// Frees a failure that podkeep_pod_failure gave, with what hangs on it. Any thread and place; does not block.
/// OK (NULL, too); INVALID_ARGUMENT: it is borrowed (a secondary, or out of an event); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_failure_free(failure: *mut podkeep_failure) -> podkeep_status {
    boundary(|| {
        if failure.is_null() {
            return Ok(());
        }
        let (chain, _, owned) = find(failure)?;
        if !owned {
            return Err(Error::argument("the failure is borrowed: free the one that podkeep_pod_failure gave"));
        }
        World::get()?.unregister(Kind::Failure, value(failure), chain.len() as u64)?;
        Ok(())
    })
}
