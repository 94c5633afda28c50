//! What concerns all pods of the process.

use super::status::podkeep_status;
use super::{boundary, out};
use crate::limit::Limit;
use crate::shutdown;

/// Cancels every pod of the process, refuses new ones, and waits up to timeout_ms; afterwards no callback but a drop
/// starts (a thread that comes back late gets no teardown). *left, which may be NULL: how many pods did not end.
/// Not a poll: with 0, too, pods that have not ended by then get no teardown. Repeatable; a later podkeep_runtime_new or podkeep_pod_new is INVALID_STATE. With PODKEEP_FOREVER a pod that is
/// ABANDONED is not waited for. What children that have ended left on their stderr is waited for, too, as long as the host's
/// takes some of it every 2 s. Any thread; blocks.
/// OK; TIMEOUT: some are left, the sentence tells which and where they are stuck; INVALID_ARGUMENT: a negative time;
/// DEADLOCK: from a pod's thread, a hook, a log callback or a drop (not with 0); RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_shutdown(timeout_ms: i64, left: *mut u32) -> podkeep_status {
    boundary(|| {
        let names = shutdown::shutdown(Limit::from_ms("timeout_ms", timeout_ms)?)?;
        // SAFETY: the caller promises a valid pointer or NULL.
        if let Some(left) = unsafe { left.as_mut() } {
            *left = names.len() as u32;
        }
        shutdown::refusal(&names)
    })
}

/// How many threads were let go (ABANDONED) and have not come back. Any thread; does not block.
/// OK; INVALID_ARGUMENT: out is NULL; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_abandoned(out_count: *mut u32) -> podkeep_status {
    boundary(|| {
        *out("out_count", out_count)? = shutdown::abandoned()?;
        Ok(())
    })
}
