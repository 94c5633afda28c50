//! Group: pods that live together.

use std::ffi::c_char;
use std::sync::Arc;

use super::failure::podkeep_failure;
use super::pod::{podkeep_pod, podkeep_state};
use super::status::podkeep_status;
use super::{boundary, out, read_struct, text, value};
use crate::error::{Error, Result};
use crate::limit::{Limit, nanos};
use crate::linux::NEVER;
use crate::runtime::check_name;
use crate::supervise::driver::Group;
use crate::supervise::group::{Course, Strategy};
use crate::table::{Kind, as_pointer};
use crate::world::{Entry, World, not_a};

/// Pods that live together. Opaque; a handle, never an address.
pub struct podkeep_group {
    _opaque: [u8; 0],
}

/// What a member's restart takes along: PODKEEP_ONE_FOR_ONE ...
pub type podkeep_strategy = i32;
/// Itself.
pub const PODKEEP_ONE_FOR_ONE: podkeep_strategy = 0;
/// All members.
pub const PODKEEP_ONE_FOR_ALL: podkeep_strategy = 1;
/// Those that were added later.
pub const PODKEEP_REST_FOR_ONE: podkeep_strategy = 2;

/// How a group is kept. Begin with PODKEEP_GROUP_OPTIONS_INIT; zero in a field is its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct podkeep_group_options {
    /// Of this struct, in bytes.
    pub struct_size: usize,
    /// NULL: "group". 1 to 255 bytes of UTF-8; copied.
    pub name: *const c_char,
    /// PODKEEP_ONE_FOR_ONE, PODKEEP_ONE_FOR_ALL, PODKEEP_REST_FOR_ONE. Those that are taken along stop in reverse order and
    /// come back in order, whatever their own policy, and it is not counted.
    pub strategy: podkeep_strategy,
    /// 0: a member's final failure cancels all; 1: it does not.
    pub keep_going: i32,
    /// One budget for the whole stop. 0: the longest chain of the members'.
    pub grace_ms: i64,
}

/// How a pod is a member. Begin with PODKEEP_MEMBER_OPTIONS_INIT; zero in a field is its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct podkeep_member_options {
    /// Of this struct, in bytes.
    pub struct_size: usize,
    /// Names of members added before that must be ready first, and stop later; NULL-ended. NULL: none.
    pub after: *const *const c_char,
    /// 1: its normal end, too, stops the group.
    pub significant: i32,
    /// 0.
    pub reserved: i32,
}

pub(super) fn find(group: *const podkeep_group) -> Result<Arc<Group>> {
    match World::get()?.entry(Kind::Group, value(group))? {
        Entry::Group(group) => Ok(group),
        _ => Err(not_a(Kind::Group, value(group))),
    }
}

/// Makes a group: NEW, without members. Any thread; does not block. options may be NULL. *out is the caller's, to be freed
/// with podkeep_group_free.
/// OK; INVALID_ARGUMENT: the sentence names the field; INVALID_STATE: after a shutdown; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_group_new(
    options: *const podkeep_group_options,
    out_group: *mut *mut podkeep_group,
) -> podkeep_status {
    boundary(|| {
        let out = out("out_group", out_group)?;
        // SAFETY: the caller promises NULL or a struct of its size; zeroes are valid for every field. So below.
        let options = match unsafe { read_struct("options", options) }? {
            Some(options) => options,
            // SAFETY: as above.
            None => unsafe { std::mem::zeroed::<podkeep_group_options>() },
        };
        let name = text("options.name", options.name)?.unwrap_or(c"group");
        check_name("options.name", name)?;
        let strategy = match options.strategy {
            PODKEEP_ONE_FOR_ONE => Strategy::OneForOne,
            PODKEEP_ONE_FOR_ALL => Strategy::OneForAll,
            PODKEEP_REST_FOR_ONE => Strategy::RestForOne,
            other => return Err(Error::argument(format!("options.strategy is {other}: give 0 to 2"))),
        };
        if !matches!(options.keep_going, 0 | 1) {
            return Err(Error::argument(format!("options.keep_going is {}: give 0 or 1", options.keep_going)));
        }
        let grace = match options.grace_ms {
            -1 => NEVER,
            ms @ 0.. => nanos(ms).min(NEVER - 1),
            ms => {
                return Err(Error::argument(format!(
                    "options.grace_ms is {ms}: give milliseconds, or PODKEEP_FOREVER"
                )));
            }
        };
        let course = Course::new(strategy, options.keep_going == 1, grace);
        let world = World::get()?;
        let group = Group::new(world.intern(name)?, course)?;
        *out = as_pointer(world.register(Kind::Group, std::iter::once(Entry::Group(group)))?);
        Ok(())
    })
}

/// Adds a pod that is NEW, and shares it: freeing its handle then drops only the handle, and it is started and stopped by
/// the group alone (podkeep_pod_cancel ends it, as its normal end). Any thread; does not block. options may be NULL.
/// OK; INVALID_ARGUMENT: a member of its name, a bad field; INVALID_STATE: the group was started, the pod was, or is in
/// a group; NOT_FOUND: an unknown name in after; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_group_add(
    group: *mut podkeep_group,
    pod: *mut podkeep_pod,
    options: *const podkeep_member_options,
) -> podkeep_status {
    boundary(|| {
        let group = find(group)?;
        let pod = super::pod::find(pod)?;
        // SAFETY: see above.
        let options = match unsafe { read_struct("options", options) }? {
            Some(options) => options,
            // SAFETY: see above.
            None => unsafe { std::mem::zeroed::<podkeep_member_options>() },
        };
        for (field, given) in [("significant", options.significant), ("reserved", options.reserved)] {
            let most = if field == "reserved" { 0 } else { 1 };
            if !(0..=most).contains(&given) {
                return Err(Error::argument(format!("options.{field} is {given}: give 0 to {most}")));
            }
        }
        let mut after = Vec::new();
        // SAFETY: the caller promises NULL or an array of strings that ends with NULL.
        unsafe {
            let mut at = options.after;
            while !at.is_null() && !(*at).is_null() {
                after.extend(text("options.after", *at)?);
                at = at.add(1);
            }
        }
        group.add(&pod, &after, options.significant == 1)
    })
}

/// Starts its members, each when those it comes after are ready; does not wait for that. Any thread; does not block.
/// OK; INVALID_STATE: it was started or cancelled before, or after a shutdown; RESOURCES; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_group_start(group: *mut podkeep_group) -> podkeep_status {
    boundary(|| find(group)?.start())
}

/// Asks for the end: each member stops when those that come after it are down. Any thread, any number of times, but not a
/// signal handler; does not block. OK; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_group_cancel(group: *mut podkeep_group) -> podkeep_status {
    boundary(|| find(group)?.cancel())
}

/// Waits until every member is ready or has cleanly ended (with keep_going: or has failed). Any thread; blocks up to
/// timeout_ms (0 looks once).
/// OK; FAILED: a member failed for good; ENDED: it ends, or a member ended that others wait for; TIMEOUT: the sentence
/// tells of each that is late; INVALID_STATE: it is NEW; DEADLOCK: from a member's own thread or hook, a log callback or a
/// drop (not with 0); INVALID_ARGUMENT: a negative time; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_group_wait_ready(group: *mut podkeep_group, timeout_ms: i64) -> podkeep_status {
    boundary(|| find(group)?.wait_ready(Limit::from_ms("timeout_ms", timeout_ms)?))
}

/// Waits for the end of all members. Any thread; blocks up to timeout_ms (0 looks once).
/// OK: STOPPED; FAILED: a member failed for good; TIMEOUT, at once with PODKEEP_FOREVER when one is ABANDONED;
/// INVALID_STATE: it is NEW; the others as podkeep_group_wait_ready.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_group_join(group: *mut podkeep_group, timeout_ms: i64) -> podkeep_status {
    boundary(|| find(group)?.join(Limit::from_ms("timeout_ms", timeout_ms)?))
}

/// Cancels and waits for the end, bounded by the graces. Any thread; blocks.
/// OK: STOPPED; FAILED; TIMEOUT: a member is ABANDONED; DEADLOCK (then nothing is cancelled); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_group_close(group: *mut podkeep_group) -> podkeep_status {
    boundary(|| find(group)?.close())
}

/// *out: PODKEEP_STATE_*, now. Any thread; does not block. OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_group_state(
    group: *mut podkeep_group,
    out_state: *mut podkeep_state,
) -> podkeep_status {
    boundary(|| {
        let group = find(group)?;
        *out("out_state", out_state)? = group.state() as podkeep_state;
        Ok(())
    })
}

/// *out: the failure of the member that failed first for good, with its name; a snapshot of the caller's, to be freed with
/// podkeep_failure_free; NULL: none did. Any thread; does not block. Statuses as podkeep_group_state, and RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_group_failure(
    group: *mut podkeep_group,
    out_failure: *mut *mut podkeep_failure,
) -> podkeep_status {
    boundary(|| {
        let group = find(group)?;
        let out = out("out_failure", out_failure)?;
        *out = match group.failure() {
            None => std::ptr::null_mut(),
            Some(failure) => as_pointer(super::failure::register(&failure, true)?),
        };
        Ok(())
    })
}

/// Ends the handle: what runs is cancelled and let go, and its members with it. Any thread and place; never blocks. OK (NULL,
/// too); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_group_free(group: *mut podkeep_group) -> podkeep_status {
    boundary(|| {
        if group.is_null() {
            return Ok(());
        }
        if let Entry::Group(group) = World::get()?.unregister(Kind::Group, value(group), 1)? {
            group.free()?;
        }
        Ok(())
    })
}
