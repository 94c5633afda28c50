//! The end of all pods of a process, and the count of those that could not be ended.

use std::sync::atomic::Ordering::*;

use crate::cancel::cancel_all;
use crate::error::{Error, Result, Status};
use crate::explain::explain;
use crate::host;
use crate::lifecycle::{Event, State};
use crate::limit::Limit;
use crate::role;
use crate::world::World;

/// Cancels every pod, refuses new ones, waits; afterwards no callback starts. The pods that did not end, by sentence.
pub(crate) fn shutdown(limit: Limit) -> Result<Vec<String>> {
    if limit != Limit::Now {
        role::refuse_waiting_for_all("shutdown")?;
    }
    let world = World::get()?;
    world.shut.store(true, SeqCst);
    cancel_all(world);
    let mut left = Vec::new();
    for pod in world.pods() {
        if pod.life().state() == State::New {
            // Not handed out yet, and its maker has just been refused; or a member, whose group has not come to it and is
            // refused like anybody who starts it. One that is being started in this moment needs no order: nobody needs it.
            if !pod.life().claimed() {
                continue;
            }
            pod.advance(Event::Stop);
            pod.settle_elsewhere(world);
        }
        if pod.join(limit).is_err_and(|e| e.status == Status::Timeout) {
            left.push(pod);
        }
    }
    // There was no time for the order of their groups.
    for pod in &left {
        pod.advance(Event::Stop);
    }
    // From here on a thread that comes back late finds its teardown barred.
    left.retain(|pod| pod.step(Event::Bar).is_some() || !pod.life().state().is_final());
    for pod in &left {
        if let Some(child) = pod.cell().process.as_ref().and_then(|process| process.child()) {
            child.wake();
        }
    }
    world.log.close(limit);
    // Nobody will see to it once the process has ended.
    host::process::pass_on_the_rest(world, limit.deadline());
    Ok(left.iter().map(explain).collect())
}

/// As the ABI answers it: TIMEOUT when some are left.
pub(crate) fn refusal(left: &[String]) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let sentence = format!("shutdown gave up on {} of the pods: {}", left.len(), left.join("; "));
    Err(Error::new(Status::Timeout, sentence))
}

/// Threads that were let go and have not come back. Counted, not kept: what a pod's state says is what is told.
pub(crate) fn abandoned() -> Result<u32> {
    Ok(World::get()?.states().filter(|&state| state == State::Abandoned).count() as u32)
}
