//! S as the thread that calls: a container's main process, or the child of a process pod.
//!
//! As in `thread`, no frame between the call and the user's callback catches or has a destructor: a callback may end its
//! thread from inside. So a call here has three parts, and only the middle one runs callbacks.

use std::mem::ManuallyDrop;

use crate::error::{Error, Result};
use crate::host;
use crate::keeper;
use crate::lifecycle::{Event, State};
use crate::linux::Uncancellable;
use crate::role;
use crate::table::PodRef;
use crate::world::World;

/// What the middle part needs: the index of a pod, with a reference.
#[derive(Clone, Copy)]
pub(crate) struct Seated(u32);

/// Takes the pod over for this thread: had is all that a start needs.
pub(crate) fn prepare(pod: &PodRef, call: &str) -> Result<Seated> {
    role::refuse_waiting_for_all(call)?;
    let world = World::get()?;
    pod.refuse_by_hand(call)?;
    pod.claim()?;
    let keeper = if pod.life().is_linked() { Ok(()) } else { keeper::ensure(world) };
    let had = keeper
        .and_then(|()| host::thread::ready_to_notice())
        .and_then(|()| pod.prepare_kick())
        .and_then(|()| if pod.life().has_hook() { world.crew.reserve(world) } else { Ok(()) });
    if let Err(error) = had {
        pod.unclaim(world);
        return Err(error);
    }
    pod.set_ready_limit();
    pod.advance(Event::Launch);
    pod.watch_ready_limit();
    Ok(Seated(pod.clone().into_index()))
}

/// One incarnation, here and now. Nothing below may stand between a callback and the end of its thread.
pub(crate) fn occupy(seated: Seated) {
    // The thread stays the host's, with what he has set.
    let before = ManuallyDrop::new(Uncancellable::begin());
    host::thread::occupy(seated.0);
    drop(ManuallyDrop::into_inner(before));
}

/// What `main` should return for the pod's end: 0 only for a clean one.
pub(crate) fn exit_code(pod: &PodRef) -> i32 {
    use crate::failure::Kind;
    use crate::lifecycle::Phase;
    // STOPPED with a failure: cancelled between two lives.
    if pod.life().state() == State::Stopped {
        return 0;
    }
    let Some(failure) = pod.failure() else { return 1 };
    match (failure.kind(), failure.code()) {
        _ if failure.phase() == Phase::Spawn => 127,
        (Kind::Timeout, _) => 124,
        (Kind::Signal, signal) => 128 + signal,
        (_, code @ 1..=255) => code,
        _ => 1,
    }
}

/// The refusal of a pod that is kept elsewhere.
pub(crate) fn not_new(pod: &PodRef) -> Error {
    let state = pod.life().state().name();
    Error::state(format!("pod {:?} is {state}: podkeep_pod_run takes one that is NEW", pod.name()))
}
