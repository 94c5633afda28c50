//! The log.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use super::boundary;
use super::status::podkeep_status;
use crate::error::Error;
use crate::linux::cancellable;
use crate::log::{DEBUG, ERROR, Sink};
use crate::role;
use crate::world::World;

type LogFn =
    unsafe extern "C-unwind" fn(level: i32, pod: *const c_char, message: *const c_char, user_data: *mut c_void);

/// A C callback, its user data, and the promise that drop is called exactly once.
struct Callback {
    log: Option<LogFn>,
    user_data: *mut c_void,
    drop: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
}

// SAFETY: used by one thread at a time, on the user's word that user_data may be.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Sink for Callback {
    fn write(&self, level: i32, pod: &CStr, message: &CStr) {
        if let Some(log) = self.log {
            // SAFETY: the user's function with the user's value; the strings live until it returns.
            cancellable(|| unsafe { log(level, pod.as_ptr(), message.as_ptr(), self.user_data) });
        }
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if let Some(drop) = self.drop {
            // SAFETY: the user's function with the user's value, once.
            role::as_callee(|| unsafe { drop(self.user_data) });
        }
    }
}

/// Sends the library's log to a callback; NULL: nowhere. level: 1 error, 2 warn, 3 info, 4 debug; lines above max_level
/// are not sent. The callback is called on a thread of the library, one line at a time; pod is "" for a line about none;
/// both strings live until it returns. user_data is taken over from the first moment: drop (which may be NULL) is
/// called with it exactly once, when it was replaced, removed or refused; a line being told just then is finished
/// first, on the library's thread. Any thread and place; does not block.
/// OK; INVALID_ARGUMENT: a max_level that is none; INVALID_STATE: after a shutdown; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_set_log(
    log: Option<
        unsafe extern "C-unwind" fn(level: i32, pod: *const c_char, message: *const c_char, user_data: *mut c_void),
    >,
    max_level: i32,
    user_data: *mut c_void,
    drop: Option<unsafe extern "C-unwind" fn(user_data: *mut c_void)>,
) -> podkeep_status {
    let callback = Callback { log, user_data, drop };
    boundary(move || {
        let callback = callback;
        let world = World::get()?;
        if callback.log.is_none() {
            return world.log.set(world, None, 0);
        }
        if !(ERROR..=DEBUG).contains(&max_level) {
            return Err(Error::argument(format!("max_level is {max_level}: give 1 (errors) to 4 (debug)")));
        }
        world.check_open()?;
        world.log.set(world, Some(Arc::new(callback)), max_level)
    })
}
