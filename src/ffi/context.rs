//! Context: what the runtime sees from inside.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use super::status::podkeep_status;
use super::{answer, boundary, text, value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::failure::Kind;
use crate::limit::{Limit, nanos};
use crate::table;

/// One incarnation of a pod, seen from inside: valid on any thread of its process from init's entry to teardown's
/// return; afterwards, and in the child of a fork, it reads cancelled. Opaque; a handle, never an address.
pub struct podkeep_context {
    _opaque: [u8; 0],
}

fn context(ctx: *const podkeep_context) -> Context {
    Context::from_handle(value(ctx))
}

// Across three cache lines instead of two a poll takes a cycle or more longer: its section begins where a line does.
#[cfg(target_os = "linux")]
std::arch::global_asm!(".pushsection .text.podkeep_poll, \"ax\", @progbits", ".p2align 6", ".popsection");

/// True from the first stop request, of whatever reason; true, too, for a context that is over or none. One atomic
/// load. Any thread, signal handlers too; does not block.
#[cfg_attr(target_os = "linux", unsafe(link_section = ".text.podkeep_poll"))]
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_cancelled(ctx: *const podkeep_context) -> bool {
    table::context_cancelled(value(ctx))
}

/// Sleeps until cancelled or timeout_ms (0 looks once). Any thread; blocks.
/// OK: cancelled, or over; TIMEOUT: not yet; DEADLOCK: from a log callback or a drop (not with 0); INVALID_ARGUMENT: a
/// negative time; INVALID_HANDLE.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_wait(ctx: *mut podkeep_context, timeout_ms: i64) -> podkeep_status {
    boundary(|| context(ctx).wait_limit(Limit::from_ms("timeout_ms", timeout_ms)?))
}

/// A descriptor that is readable once cancelled, for poll, epoll and event loops. The pod's own, the same at each call,
/// closed with the incarnation: never read or close it. Any thread; does not block.
/// -1: none is to be had, polling works still, or the context is over or from before a fork; -2: no context.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_fd(ctx: *mut podkeep_context) -> c_int {
    answer(None, || match context(ctx).fd() {
        Err(error) if error.status == crate::Status::InvalidHandle => Err(error),
        Err(error) => {
            super::set_last_error(&error.sentence);
            Ok(Some(-1))
        }
        Ok(fd) => Ok(Some(fd)),
    })
    .unwrap_or(-2)
}

/// Milliseconds until force, rounded up; -1: not cancelled, or no limit; -2: no context. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_time_left(ctx: *const podkeep_context) -> i64 {
    answer(-2, || {
        let ctx = context(ctx);
        match ctx.pod() {
            Err(error) if error.status == crate::Status::InvalidHandle => Err(error),
            _ => Ok(ctx.time_left().map_or(-1, |left| left.as_nanos().div_ceil(1_000_000) as i64)),
        }
    })
}

/// The pod's own word that it is ready. Said inside init it is held until init has succeeded; where it does not apply
/// it is ignored. Any thread; does not block.
/// OK; INVALID_STATE: the context is over; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_ready(ctx: *mut podkeep_context) -> podkeep_status {
    boundary(|| context(ctx).ready())
}

/// "I live". Any thread; does not block. Statuses as podkeep_context_ready.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_heartbeat(ctx: *mut podkeep_context) -> podkeep_status {
    boundary(|| context(ctx).heartbeat())
}

/// Asks for more time: the present limit (ready, watchdog, grace) becomes at least ms from now, all in all not beyond
/// extend_max_ms; without a limit it has no effect. Any thread; does not block.
/// Statuses as podkeep_context_ready, and INVALID_ARGUMENT: a negative time.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_extend(ctx: *mut podkeep_context, ms: i64) -> podkeep_status {
    boundary(|| {
        if ms < 0 {
            return Err(Error::argument(format!("ms is {ms}: give milliseconds, 0 or more")));
        }
        context(ctx).extend_nanos(nanos(ms))
    })
}

/// A text that says what the pod is doing, for people: timeouts tell it. UTF-8, copied. Any thread; does not block.
/// Statuses as podkeep_context_ready, and INVALID_ARGUMENT: NULL or not UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_context_status(
    ctx: *mut podkeep_context,
    status_text: *const c_char,
) -> podkeep_status {
    boundary(|| {
        let text = text("status_text", status_text)?.ok_or_else(|| Error::argument("status_text is NULL"))?;
        context(ctx).status(text.to_str().unwrap_or_default())
    })
}

/// Stores why the callback is about to fail; it counts when the callback then returns non-zero, whose code wins; the
/// last one before the return wins, a clean return discards it, and in the cancel hook it counts by itself. message is
/// UTF-8, copied whole; NULL is "". Any thread; does not block.
/// Returns code, or -1 for 0, so that a callback can end with `return podkeep_context_fail(...)`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_context_fail(ctx: *mut podkeep_context, code: i32, message: *const c_char) -> i32 {
    // SAFETY: the caller's promise is passed on.
    unsafe { podkeep_context_fail_as(ctx, Kind::Returned as i32, code, message) }
}

/// As podkeep_context_fail, for a failure of another kind (PODKEEP_KIND_*): bindings say EXCEPTION. A kind that is none
/// is stored as RETURNED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_context_fail_as(
    ctx: *mut podkeep_context,
    kind: i32,
    code: i32,
    message: *const c_char,
) -> i32 {
    // SAFETY: the caller's promise is passed on.
    unsafe { podkeep_context_fail_with(ctx, kind, code, message, ptr::null(), 0) }
}

/// As podkeep_context_fail_as, with data_len bytes of the caller's own that travel with the record, from a process, too:
/// podkeep_failure_data. Copied; up to 4 MiB cross from a process, more are left behind.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_context_fail_with(
    ctx: *mut podkeep_context,
    kind: i32,
    code: i32,
    message: *const c_char,
    data: *const c_void,
    data_len: usize,
) -> i32 {
    boundary(|| {
        let data = match data.is_null() || data_len == 0 || data_len > isize::MAX as usize {
            true => &[][..],
            // SAFETY: the caller promises data_len readable bytes.
            false => unsafe { std::slice::from_raw_parts(data.cast::<u8>(), data_len) },
        };
        let message = match message.is_null() {
            true => String::new().into(),
            // SAFETY: the caller promises a NUL-terminated string. What is not UTF-8 is shown as it can be: a failure
            // is never lost for its spelling.
            false => unsafe { std::ffi::CStr::from_ptr(message) }.to_string_lossy(),
        };
        let ctx = context(ctx);
        ctx.pod()?;
        ctx.fail_with(Kind::from_number(kind).unwrap_or(Kind::Returned), code, &message, data);
        match Kind::from_number(kind) {
            Some(_) => Ok(()),
            None => {
                Err(Error::argument(format!("kind is {kind}: no PODKEEP_KIND_ has that number; stored as RETURNED")))
            }
        }
    });
    if code == 0 { -1 } else { code }
}

/// Which life of the pod this is: 0, 1, 2 ... (uint32_t)-2: no context. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_incarnation(ctx: *const podkeep_context) -> u32 {
    answer(-2i32 as u32, || Ok(context(ctx).pod()?.incarnation()))
}

/// The bytes given with the pod's options, on a 16-byte boundary; they live as long as the pod. *len, which may be
/// NULL, is their number. NULL: there are none, or no context. Any thread; does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_context_args(ctx: *const podkeep_context, len: *mut usize) -> *const c_void {
    let args = answer(None, || -> Result<_> {
        context(ctx).pod()?;
        Ok(context(ctx).args())
    });
    let bytes = args.map_or(&[][..], |args| args.bytes());
    // SAFETY: the caller promises a valid pointer or NULL.
    if let Some(len) = unsafe { len.as_mut() } {
        *len = bytes.len();
    }
    if bytes.is_empty() { ptr::null() } else { bytes.as_ptr().cast() }
}

/// The pod's name; it lives as long as the process. "": no context. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_context_name(ctx: *const podkeep_context) -> *const c_char {
    answer(c"", || Ok(context(ctx).pod()?.cell().name)).as_ptr()
}
