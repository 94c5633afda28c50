//! What this thread is doing for the library right now: whose pod thread or hook it is, and whether it is inside a log
//! callback or a drop. It answers one question: would a blocking call from here wait for itself (L11)?

use std::cell::Cell;
use std::ptr;

use crate::error::{Error, Result, Status};
use crate::table::PodRef;
use crate::world::World;

#[derive(Clone, Copy)]
struct Role {
    /// The pod's handle value; 0: an ordinary thread.
    pod: u64,
    hook: bool,
    /// The world in whose log callback or drop this is; null: in none. In the child of a fork it is another's.
    callee_of: *const World,
}

const NOBODY: Role = Role { pod: 0, hook: false, callee_of: ptr::null() };

thread_local! {
    // No destructor: a pod's thread may be ended in the middle of a callback.
    static ROLE: Cell<Role> = const { Cell::new(NOBODY) };
}

pub(crate) fn enter_pod(pod: &PodRef) {
    ROLE.set(Role { pod: pod.handle(), ..NOBODY });
}

pub(crate) fn enter_hook(pod: &PodRef) {
    ROLE.set(Role { pod: pod.handle(), hook: true, ..NOBODY });
}

pub(crate) fn leave() {
    ROLE.set(NOBODY);
}

/// Calls a log callback or a drop.
pub(crate) fn as_callee(call: impl FnOnce()) {
    let before = ROLE.get();
    ROLE.set(Role { callee_of: this_world(), ..before });
    call();
    ROLE.set(before);
}

fn this_world() -> *const World {
    World::existing().map_or(ptr::dangling(), ptr::from_ref)
}

/// The role, without what a thread was in the parent of a fork.
fn role() -> Role {
    let mut role = ROLE.get();
    if role.pod != 0 && !PodRef::of_role(role.pod).is_some_and(|pod| pod.is_here()) {
        role.pod = 0;
    }
    if !role.callee_of.is_null() && role.callee_of != this_world() {
        role.callee_of = ptr::null();
    }
    role
}

/// Whether this thread is S of `pod`, or in its hook.
pub(crate) fn is_inside(pod: &PodRef) -> bool {
    ROLE.get().pod == pod.handle()
}

/// Whether this thread is in the hook of `pod`.
pub(crate) fn is_in_hook_of(pod: &PodRef) -> bool {
    let role = ROLE.get();
    role.hook && role.pod == pod.handle()
}

/// Refuses a call that would block where it must not. `own`: the pod it would wait for; `None`: it waits for no pod.
pub(crate) fn refuse_blocking(call: &str, own: Option<&PodRef>) -> Result<()> {
    let role = role();
    let sentence = if !role.callee_of.is_null() {
        format!("{call} blocks, and this is a log callback or a drop: use a timeout of 0 here")
    } else if let Some(pod) = own
        && role.pod == pod.handle()
    {
        let place = if role.hook { "cancel hook" } else { "own thread" };
        format!("{call} of pod {:?} in its {place} would wait for itself", pod.name())
    } else {
        return Ok(());
    };
    Err(Error::new(Status::Deadlock, sentence))
}

/// Refuses what waits for every pod, from inside any.
pub(crate) fn refuse_waiting_for_all(call: &str) -> Result<()> {
    refuse_blocking(call, None)?;
    match role().pod {
        0 => Ok(()),
        _ => Err(Error::new(Status::Deadlock, format!("{call} in a pod's own thread or hook would wait for itself"))),
    }
}
