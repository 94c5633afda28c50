//! The keeper: the one library thread that keeps the deadlines (ready timeout, grace, kicks) and does what a canceller
//! in a signal handler must not: tell monitors, make descriptors readable, hand hooks to the crew. It calls no user's
//! code, so nothing of a user's can stop the clock.
//!
//! It sleeps until the earliest deadline it knows. A canceller marks its pod and rings the [`Bell`], which costs a
//! system call only when the keeper has to look before it would wake anyway.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use crate::cancel;
use crate::error::{Error, Result};
use crate::explain::explain;
use crate::failure::Kind;
use crate::host;
use crate::lifecycle::{Event, Phase, State};
use crate::linux::{self, NEVER, Nanos};
use crate::runtime::RuntimeCell;
use crate::table::{self, PodRef, Region, SLOTS};
use crate::world::{World, lock};

const WORDS: usize = SLOTS / 64;
const GROUPS: usize = WORDS / 64;

/// How the keeper is told, without a lock: which pods to look at, and by when. Zeroes are a bell without a keeper.
#[repr(C)]
pub(crate) struct Bell {
    /// The keeper sleeps until then; 0: there is no keeper yet.
    armed: AtomicU64,
    /// Changes with every ring that asks for a look; the futex word.
    rings: AtomicU32,
    asleep: AtomicU32,
    /// The ring before the keeper's present look.
    heard: AtomicU32,
    /// A bit a pod, and a bit for each 64 of those words that may have one set.
    marked: [AtomicU64; WORDS],
    groups: [AtomicU64; GROUPS],
}

impl Bell {
    /// The keeper shall look at the pod in slot `index` when it looks next. Async-signal-safe.
    pub(crate) fn mark(&self, index: u32) {
        let word = index as usize / 64;
        set_bit(&self.marked[word], index % 64);
        set_bit(&self.groups[word / 64], (word % 64) as u32);
    }

    /// The keeper shall look by `deadline`. Async-signal-safe; may change errno.
    pub(crate) fn ring(&self, deadline: Nanos) {
        if deadline < self.armed.load(SeqCst) {
            self.rings.fetch_add(1, SeqCst);
            if self.asleep.load(SeqCst) != 0 {
                linux::futex_wake(self.rings.as_ptr(), u32::MAX, 1);
            }
        }
    }

    fn each_marked(&self, mut look: impl FnMut(u32)) {
        for (g, group) in self.groups.iter().enumerate() {
            for w in bits(group) {
                let word = g * 64 + w;
                for bit in bits(&self.marked[word]) {
                    look((word * 64 + bit) as u32);
                }
            }
        }
    }
}

fn set_bit(word: &AtomicU64, bit: u32) {
    let bit = 1 << bit;
    // A set bit is the common case, and a load is cheaper than taking the line. SeqCst pairs with the keeper's swap.
    if word.load(SeqCst) & bit == 0 {
        word.fetch_or(bit, SeqCst);
    }
}

/// Takes the bits of `word`.
fn bits(word: &AtomicU64) -> impl Iterator<Item = usize> + use<> {
    let mut left = if word.load(SeqCst) == 0 { 0 } else { word.swap(0, SeqCst) };
    std::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (bit < 64).then_some(bit as usize)
    })
}

/// Makes sure that the keeper runs.
pub(crate) fn ensure(world: &'static World) -> Result<()> {
    let mut runs = lock(&world.keeper_runs);
    if !*runs {
        // SAFETY: `enter` expects a world.
        unsafe { world.spawn_own(enter, ptr::from_ref(world).cast_mut().cast()) }
            .map_err(|e| Error::resources(format!("no thread for the library's keeper: {}", linux::describe(e))))?;
        *runs = true;
    }
    Ok(())
}

/// Asks the keeper, which runs, for a look; which one it is, for [`has_answered`].
#[cfg(feature = "grpc")]
pub(crate) fn ask() -> Option<u32> {
    let bell = &table::region()?.bell;
    bell.ring(0); // one that is about to look anyway is not rung for
    Some(bell.rings.load(SeqCst))
}

/// Whether the keeper has looked since it was asked.
#[cfg(feature = "grpc")]
pub(crate) fn has_answered(asked: u32) -> bool {
    table::region().is_some_and(|region| region.bell.heard.load(SeqCst).wrapping_sub(asked) as i32 >= 0)
}

extern "C-unwind" fn enter(world: *mut c_void) -> *mut c_void {
    // SAFETY: `ensure` passes the world, which is never freed, like the region.
    let (world, region): (&'static World, _) =
        unsafe { (&*world.cast(), table::region().expect("made with the world")) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep");
    let mut agenda = Agenda::default();
    loop {
        keep(world, region, &mut agenda);
    }
}

/// Looks at every pod that was marked or whose time has come, and sleeps until the next.
fn keep(world: &'static World, region: &Region, agenda: &mut Agenda) {
    let bell = &region.bell;
    // Whoever changes a pod from here on rings, unless its mark is seen below.
    bell.armed.store(NEVER, SeqCst);
    let rings = bell.rings.load(SeqCst);
    bell.heard.store(rings, SeqCst);
    bell.each_marked(|index| agenda.visit(world, index));
    let now = linux::now();
    while let Some(index) = agenda.take_due(now) {
        agenda.visit(world, index);
    }
    agenda.unreleased.retain(|runtime| world.crew.release(world, runtime.clone(), None).is_err());
    let later = if agenda.unreleased.is_empty() { NEVER } else { now + LATER };
    let next = agenda.next(now).min(later);
    bell.armed.store(next, SeqCst);
    bell.asleep.store(1, SeqCst);
    // SAFETY: the region is never unmapped.
    unsafe { linux::futex_wait(bell.rings.as_ptr(), rings, next, u32::MAX) };
    bell.asleep.store(0, SeqCst);
}

/// One look at a pod: does what is due, and says when to look again.
fn visit(world: &'static World, index: u32, unreleased: &mut Vec<Arc<RuntimeCell>>) -> Nanos {
    let Some(pod) = PodRef::at(index) else {
        drop(PodRef::left_behind(index)); // a signal handler held the last reference
        return NEVER;
    };
    let region_has_watchers = table::region().is_some_and(|r| r.watchers.load(SeqCst) > 0);
    if region_has_watchers {
        lock(&world.hub).publish(&pod);
    }
    let mut again = NEVER;
    if pod.life().stop_asked() {
        pass_on(&pod);
        if let Some(process) = &pod.cell().process {
            {
                // Whoever asks may be held up before he shows it. While this lock is held no other life begins.
                let _cold = lock(&pod.cell().cold);
                pod.show_what_is_asked();
            }
            host::process::stop(process);
            host::process::finish_if_final(&pod);
        }
        if cancel::kick(&pod) {
            let kicks = pod.cell().kicks.fetch_add(1, Relaxed);
            again = linux::now() + (1_000_000 << kicks.min(6)); // 1, 2, 4 ... 64 ms
        }
    }
    if host::main::is_main(&pod) {
        again = again.min(host::main::tend(&pod));
    }
    unreleased.extend(pod.settled_if_never_launched());
    match pod.life().state() {
        State::Starting => again.min(ready_timeout(&pod)),
        State::Running => again.min(watchdog(&pod)),
        State::Stopping => again.min(grace(&pod)),
        _ => again,
    }
}

/// The keeper that comes so late was kept from running.
const STALLED: Nanos = 20_000_000;

/// A missed heartbeat is a failure, and stops the pod; unless it was this process that had no time: then the pod may not
/// have had any either, and gets one fresh interval.
fn watchdog(pod: &PodRef) -> Nanos {
    let (cell, interval) = (pod.cell(), pod.cell().watchdog);
    if interval == 0 {
        return NEVER;
    }
    // One clock for both: a stall after it is one of the next look.
    let now = linux::now();
    let due = match cell.look_due.load(Relaxed) {
        0 => pod.entered_at(State::Running),
        at => at,
    };
    let (late, heartbeat) = (now.saturating_sub(due), pod.last_heartbeat());
    // Until the next heartbeat a stall counts only if it is much longer than the last that did: a machine that is always
    // busy must not put off a real miss for ever.
    let counted = if heartbeat == cell.stalled_after.load(Relaxed) { cell.stalled_for.load(Relaxed) } else { 0 };
    if late > (interval / 8).min(STALLED) && late / 2 > counted {
        cell.stalled_after.store(heartbeat, Relaxed);
        cell.stalled_for.store(late, Relaxed);
        cell.watch_from.store(now, Relaxed);
    }
    let at = pod.watchdog_deadline();
    if now < at {
        // Looked at on the way, each time after half of what is left, so that a stall which ends before the limit is seen, too.
        let (half, left) = (at.saturating_sub(interval / 2), at - now);
        let next = match half > now {
            true => half,
            false if left > interval / 8 => now + left / 2,
            false => at,
        };
        cell.look_due.store(next, Relaxed);
        return next;
    }
    let message = format!("no heartbeat for {:.3} s: {}", interval as f64 / 1e9, explain(pod));
    let step = {
        // `extend` takes this lock, too.
        let mut cold = lock(&pod.cell().cold);
        let at = pod.watchdog_deadline();
        if linux::now() < at {
            cell.look_due.store(at, Relaxed);
            return at;
        }
        let record = pod.record(Phase::Run, Kind::Watchdog, 0, &message);
        let Some(step) = pod.step(Event::WatchdogMiss) else { return 0 };
        cold.push(record);
        step
    };
    pod.announce(step);
    0 // look again at once: hook, descriptor and grace are due now
}

/// Passes a stop on to what waits for it inside: its descriptor, its hook. Also where there is no keeper: in a pod's child,
/// whose host keeps the time.
pub(crate) fn pass_on(pod: &PodRef) {
    cancel::forward(pod, &mut lock(&pod.cell().cold));
    if pod.life().hook_due()
        && let Some(world) = World::existing()
    {
        world.crew.call_hook(pod.clone());
    }
}

/// The ready timeout's expiry is a failure, and stops the pod as a cancel does (L13).
fn ready_timeout(pod: &PodRef) -> Nanos {
    match pod.ready_limit.load(Relaxed) {
        0 => NEVER,
        at if linux::now() < at => at,
        at if host::process::is_heard_late(pod, at) => linux::now() + 10_000_000,
        _ => {
            expire(pod, Event::ReadyTimeout, &pod.ready_limit, |_| Phase::Ready, "the ready timeout expired");
            0 // look again at once: hook, descriptor and grace are due now
        }
    }
}

/// Grace spent: a process is made to end, a thread is let go (L12).
fn grace(pod: &PodRef) -> Nanos {
    if let Some(process) = &pod.cell().process {
        return host::process::force(pod, process);
    }
    // Of a pod's child the host keeps the time.
    if pod.cell().link.is_some() {
        return NEVER;
    }
    match pod.stop_deadline() {
        NEVER => NEVER,
        at if linux::now() < at => at,
        _ if host::main::is_main(pod) => host::main::force(),
        _ => {
            let text = "the grace is spent and the thread was let go";
            if !expire(pod, Event::GraceSpent, &pod.stop_limit, |life| life.seat().phase(), text) {
                return match pod.life().state() {
                    State::Stopping => pod.stop_limit.load(Relaxed), // extended in this very moment
                    _ => NEVER,
                };
            }
            NEVER
        }
    }
}

/// Records that a limit was reached, unless it was extended or the pod has moved on. `false` then.
fn expire(
    pod: &PodRef,
    event: Event,
    limit: &AtomicU64,
    phase: impl Fn(crate::lifecycle::Life) -> Phase,
    text: &str,
) -> bool {
    let message = format!("{text}: {}", explain(pod));
    let step = {
        // `extend` takes this lock, too.
        let mut cold = lock(&pod.cell().cold);
        let at = limit.load(Relaxed);
        // 0: another life has begun by now.
        if at == 0 || linux::now() < at {
            return false;
        }
        let record = pod.record(phase(pod.life()), Kind::Timeout, 0, &message);
        let Some(step) = pod.step(event) else { return false };
        cold.push(record);
        step
    };
    pod.announce(step);
    true
}

/// When to look at which pod.
#[derive(Default)]
struct Agenda {
    by_time: BTreeSet<(Nanos, u32)>,
    times: HashMap<u32, Nanos>,
    /// A limit of a pod that has ended before it; 0: none. To wake for it once, in vain, is cheaper than to be rung for by
    /// every cancel that comes until then.
    lapsed: Nanos,
    /// Configs of pods that were cancelled while NEW. Their drops are the users' code: for the crew.
    unreleased: Vec<Arc<RuntimeCell>>,
}

/// When to try again what no thread could be had for.
const LATER: Nanos = 100_000_000;

impl Agenda {
    fn visit(&mut self, world: &'static World, index: u32) {
        let again = visit(world, index, &mut self.unreleased);
        self.put(index, again);
        if again == NEVER
            && let Some(pod) = PodRef::at(index)
        {
            let limit = pod.stop_limit.load(Relaxed);
            if limit != 0 && (self.lapsed == 0 || limit < self.lapsed) {
                self.lapsed = limit;
            }
        }
    }
    fn put(&mut self, index: u32, at: Nanos) {
        let before = if at == NEVER { self.times.remove(&index) } else { self.times.insert(index, at) };
        if let Some(before) = before {
            self.by_time.remove(&(before, index));
        }
        if at != NEVER {
            self.by_time.insert((at, index));
        }
    }
    fn take_due(&mut self, now: Nanos) -> Option<u32> {
        let &(at, index) = self.by_time.first()?;
        if at > now {
            return None;
        }
        self.put(index, NEVER);
        Some(index)
    }
    fn next(&mut self, now: Nanos) -> Nanos {
        let next = self.by_time.first().map_or(NEVER, |&(at, _)| at);
        if self.lapsed <= now {
            self.lapsed = 0;
        }
        if self.lapsed == 0 { next } else { next.min(self.lapsed) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Options;
    use crate::lifecycle::Event;
    use crate::pod::testing::{end, running};

    /// The host was stopped before the keeper came to its first look, which the pod's own step has asked for.
    #[test]
    fn s8_a_stall_before_the_first_look_is_no_missed_heartbeat() {
        let options = Options { watchdog: Some(Duration::from_secs(1)), ..Options::default() };
        let owner = running(&options);
        let pod = owner.here().unwrap();
        let interval = 1_000_000_000;
        let began = linux::now();
        pod.running_at.store(began - 3 * interval, Relaxed);
        let first = watchdog(pod);
        assert!(first >= began + interval / 2, "{} before it", (began + interval / 2).saturating_sub(first));
        assert_eq!(pod.life().state(), State::Running);

        // One fresh interval, and no more: the next look comes in time, and the heartbeat does not.
        pod.cell().watch_from.store(linux::now() - interval, Relaxed);
        assert_eq!(watchdog(pod), 0);
        assert_eq!(pod.life().state(), State::Stopping);

        end(pod, true);
    }

    /// A pod that heartbeats late in its interval is looked at until shortly before the limit: a stall that ends before it
    /// is seen.
    #[test]
    fn s8_looks_come_closer_until_the_limit() {
        let options = Options { watchdog: Some(Duration::from_secs(100)), ..Options::default() };
        let owner = running(&options);
        let pod = owner.here().unwrap();
        const SECOND: u64 = 1_000_000_000;
        let mut next = Vec::new();
        for passed in [0, 51, 76, 89] {
            let now = linux::now();
            pod.running_at.store(now - passed * SECOND, Relaxed);
            pod.cell().look_due.store(now + SECOND, Relaxed); // not late, however busy the machine is
            next.push((watchdog(pod) - now) / SECOND + passed);
        }
        assert_eq!(next, [50, 75, 88, 100]);
        assert_eq!(pod.life().state(), State::Running);

        pod.step(Event::RunReturned { failed: false }); // nobody is there to end it, or to leave
        end(pod, false);
    }
}
