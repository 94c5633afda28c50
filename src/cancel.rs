//! The cancel signal: one flag in the pod's state word, and the ways to see it (contract section 5).
//!
//! Setting it is a compare-and-swap, at most one futex wake for those who sleep on the word, and at most one for the
//! keeper. The keeper is woken only when it has something to do before it would wake anyway: a hook to have called, a
//! descriptor to make readable, a monitor to tell, or a grace that ends before the next deadline it knows. Everything
//! cancel touches is in the region of `table`, which is never unmapped, so it is promised in signal handlers (L8).

use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

use crate::context::Context;
use crate::error::{Error, Result, Status};
use crate::lifecycle::{Event, Seat, State};
use crate::limit::Limit;
use crate::linux::{self, Woke};
use crate::pod::Cold;
use crate::role;
use crate::table::{self, PodRef, Side, Step};
use crate::world::{World, lock};

/// Cancels the pod of a handle. Any thread, any time, any value; async-signal-safe; preserves errno.
pub(crate) fn cancel(handle: u64) -> std::result::Result<(), Status> {
    let errno = linux::errno();
    let outcome = PodRef::of_handle(handle).map(|pod| {
        if let Some(step) = pod.step(Event::Stop) {
            alert(&pod, step, true);
        }
        pod.release_later();
    });
    linux::set_errno(errno);
    outcome
}

/// Cancels a pod on behalf of somebody outside: the stop may take no longer than `grace` from now on, and not longer than
/// without it. Like [`cancel`] it runs nobody's code.
#[cfg(feature = "grpc")]
pub(crate) fn terminate(pod: &PodRef, grace: Option<linux::Nanos>) {
    pod.grace.fetch_min(grace.unwrap_or(linux::NEVER), Relaxed);
    if let Some(step) = pod.step(Event::Stop) {
        alert(pod, step, true);
    }
    if let Some(grace) = grace {
        hold_to(pod, crate::limit::after(grace));
    }
}

/// One that is STOPPING has a limit: from here on `at` holds for it, too.
pub(crate) fn hold_to(pod: &PodRef, at: linux::Nanos) {
    // Whoever stopped it may not have come to note the limit, and would note a longer one later.
    pod.stop_deadline();
    let earlier = |was: linux::Nanos| (was > at).then_some(at);
    if pod.stop_limit.fetch_update(SeqCst, SeqCst, earlier).is_ok() {
        let life = pod.life();
        if life.is_afar() && life.stop_asked() {
            pod.show(true, life.barred());
        }
        pod.call_keeper(at);
    }
}

/// Tells the keeper what a stop asks of it. `quiet`: nobody tells the monitors or releases the config of a pod that was
/// NEW (a signal handler cannot).
pub(crate) fn alert(pod: &PodRef, step: Step, quiet: bool) {
    let Some(region) = table::region() else { return };
    let asked = !step.before.stop_asked() && step.after.stop_asked();
    let stopping = step.entered(State::Stopping);
    let changed = step.before.state() != step.after.state();
    let urgent = asked && step.after.needs_keeper()
        || quiet && changed && region.watchers.load(SeqCst) > 0
        || quiet && step.entered(State::Stopped) && !step.before.claimed();
    let limit = if stopping { pod.stop_deadline() } else { linux::NEVER };
    // S may have been quicker: then there is no grace to keep.
    if urgent || limit != linux::NEVER && !pod.life().state().is_final() {
        region.bell.mark(pod.index());
        region.bell.ring(if urgent { 0 } else { limit });
    }
}

/// Sleeps until the context reads cancelled.
pub(crate) fn wait(ctx: Context, limit: Limit) -> Result<()> {
    loop {
        if table::context_cancelled(ctx.handle()) {
            return Ok(());
        }
        let until = match limit {
            Limit::Now => return Err(not_yet()),
            Limit::Until(at) => at,
            Limit::Forever => linux::NEVER,
        };
        role::refuse_blocking("context_wait", None)?;
        // The reference keeps the slot this pod's while we sleep: no stranger lies on another's word.
        let Ok(pod) = PodRef::of_context(ctx.handle()) else { continue };
        // Looked at between the word and the sleep: it may be another life's already.
        let cancelled = || table::context_cancelled(ctx.handle());
        let woke = if role::is_inside(&pod) {
            let word = pod.word();
            if cancelled() { Woke::Look } else { pod.sleep(word, Side::Pod, until) }
        } else {
            pod.sleep_beside(cancelled, until)
        };
        if woke == Woke::TimedOut && !cancelled() {
            return Err(not_yet());
        }
    }
}

fn not_yet() -> Error {
    Error::new(Status::Timeout, "not cancelled yet")
}

/// A descriptor that is readable once the context is cancelled; made at the first call, closed with the incarnation.
pub(crate) fn descriptor(pod: &PodRef, cold: &mut Cold) -> Result<i32> {
    use std::os::fd::AsRawFd;
    if cold.fd.is_none() {
        let fd = linux::event_fd()
            .map_err(|e| Error::resources(format!("no descriptor for the context: {}", linux::describe(e))))?;
        cold.fd = Some(fd);
        // From here on a stop wakes the keeper, which makes it readable; a stop before this step is seen below.
        pod.step(Event::Attend);
        forward(pod, cold);
    }
    Ok(cold.fd.as_ref().map_or(-1, |fd| fd.as_raw_fd()))
}

/// Makes the context's descriptor readable if a stop was asked for.
pub(crate) fn forward(pod: &PodRef, cold: &mut Cold) {
    pod.heed_afar();
    let life = pod.life();
    if (life.stop_asked() || life.context_over())
        && let Some(fd) = &cold.fd
    {
        linux::signal_fd(fd);
    }
}

/// Sends the kick if S sits where it should be kicked; true: again later (L12).
pub(crate) fn kick(pod: &PodRef) -> bool {
    let signal = pod.cell().kick_signal;
    if signal == 0 || pod.seen.load(Relaxed) {
        return false;
    }
    // S takes this lock once more before its thread ends, so while it is held the thread is there.
    let _cold = lock(&pod.cell().cold);
    let life = pod.life();
    if !life.stop_asked() || life.context_over() || !matches!(life.seat(), Seat::Init | Seat::Run) {
        return false;
    }
    crate::host::thread::kick(pod, signal);
    true
}

/// Cancels every pod of the process; members of a group by their group, in its order.
pub(crate) fn cancel_all(world: &'static World) {
    world.groups.cancel_all();
    for pod in world.pods() {
        if world.groups.has(pod.cell().group.load(Acquire)) {
            continue;
        }
        pod.advance(Event::Stop);
        pod.settle_elsewhere(world);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Options;
    use crate::pod::testing::{end, running};

    /// Whoever stopped it was held up before he noted how long that may take.
    #[test]
    fn l12_a_shorter_stop_holds_before_the_first_has_noted_its_limit() {
        let options = Options { grace: Some(Duration::from_secs(60)), ..Options::default() };
        let owner = running(&options);
        let pod = owner.here().unwrap();
        assert!(pod.step(Event::Stop).is_some());
        pod.stopping_at.store(0, Relaxed);
        pod.stop_limit.store(0, Relaxed);
        let at = crate::limit::after(1_000_000_000);
        hold_to(pod, at);
        assert_eq!(pod.stop_deadline(), at); // what the one who was held up does next

        end(pod, false);
    }
}
