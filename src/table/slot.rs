//! The hot part of a pod: its state word, and what a step, a wake and a sleep on it are.

use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use super::region;
use crate::lifecycle::{Event, Inside, Life, State};
use crate::linux;
use crate::pod::PodCell;

/// The hot part of a pod, two cache lines; what a cancel touches is in the first. All of it is atomics: a late reader of
/// an earlier owner sees numbers, never a fault.
#[repr(C, align(128))]
pub(crate) struct Slot {
    /// Generation of the incarnation (high half), [`Life`] (low half: the futex word).
    pub(super) life: AtomicU64,
    /// Generation of the handle, ALIVE, references.
    pub(super) guard: AtomicU64,
    pub(super) cell: AtomicPtr<PodCell>,
    /// Grace in nanoseconds; NEVER: no limit.
    pub(crate) grace: AtomicU64,
    /// When STOPPING's grace is spent. 0: not known yet, see [`Slot::stop_deadline`].
    pub(crate) stop_limit: AtomicU64,
    pub(crate) stopping_at: AtomicU64,
    /// When S took its present seat.
    pub(crate) seated_at: AtomicU64,
    /// The kernel's id of S; 0: none.
    pub(crate) tid: AtomicI32,
    /// S itself has seen the cancel: no more kicks.
    pub(crate) seen: AtomicBool,
    /// Another life can follow this one: by its own policy, or because a sibling's restart takes it along.
    pub(crate) again: AtomicBool,
    /// When the ready timeout expires. 0: none.
    pub(crate) ready_limit: AtomicU64,
    /// Entry times by state, for the monitor's events and the sentences of L14.
    pub(crate) starting_at: AtomicU64,
    pub(crate) running_at: AtomicU64,
    pub(crate) abandoned_at: AtomicU64,
    pub(crate) ended_at: AtomicU64,
    pub(crate) heartbeat_at: AtomicU64,
    pub(crate) restarting_at: AtomicU64,
    /// Which life: 0, 1, 2 ...
    pub(crate) lives: AtomicU32,
    /// Changes whenever those are woken who sleep beside S: their futex word.
    turns: AtomicU32,
}

impl Slot {
    pub(super) fn index(&self) -> u32 {
        let first = region().map_or(ptr::null(), |r| &raw const r.slots).cast::<Slot>();
        ((self as *const Slot as usize - first as usize) / size_of::<Slot>()) as u32
    }

    /// What an incarnation notes of itself begins anew.
    pub(crate) fn begin_life(&self) {
        for time in [
            &self.stop_limit,
            &self.ready_limit,
            &self.starting_at,
            &self.running_at,
            &self.stopping_at,
            &self.abandoned_at,
            &self.seated_at,
            &self.heartbeat_at,
            &self.restarting_at,
        ] {
            time.store(0, Relaxed);
        }
        self.seen.store(false, Relaxed);
    }

    /// Half of `life` in which the kernel compares.
    fn futex(&self) -> *const u32 {
        // The low half comes first on a little-endian machine.
        const { assert!(cfg!(target_endian = "little")) };
        self.life.as_ptr().cast_const().cast()
    }

    pub(crate) fn life(&self) -> Life {
        Life(self.life.load(SeqCst) as u32)
    }

    pub(crate) fn incarnation_generation(&self) -> u32 {
        (self.life.load(Acquire) >> 32) as u32
    }

    /// Changes the word by `event` and wakes who slept on it; `None`: the event changes nothing. Lock-free and
    /// async-signal-safe. The caller holds a reference.
    pub(crate) fn step(&self, event: Event) -> Option<Step> {
        let mut seen = self.life.load(SeqCst);
        loop {
            let before = Life(seen as u32);
            let after = before.after(event)?;
            if event == Event::Stop && before.is_afar() {
                // Before it can be known here that it is asked for: then S can know it, too.
                self.show(true, false);
            }
            let (host, inside) = before.wakes(after);
            // Another life has another context.
            let generation = (seen >> 32) + (event == Event::Revive) as u64;
            let next = generation << 32 | after.woken(host, inside).0 as u64;
            let entered = before.state() != after.state() || before.seat() != after.seat();
            // Between the look at the last step and this one: times are in the order of steps.
            let now = if entered { linux::now() } else { 0 };
            match self.life.compare_exchange_weak(seen, next, SeqCst, SeqCst) {
                Ok(_) => {
                    if after.is_afar() && (before.stop_asked(), before.barred()) != (after.stop_asked(), after.barred())
                    {
                        self.show(after.stop_asked(), after.barred());
                    }
                    let note = || self.stamp(before, after, generation, now);
                    // Who waits outside may ask for the time; S is not kept waiting for it.
                    if entered && host {
                        note();
                    }
                    self.wake(host, inside);
                    if entered && !host {
                        note();
                    }
                    return Some(Step { before, after });
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Wakes as many as sleep there: the kernel walks past strangers to find more.
    fn wake(&self, host: bool, inside: Inside) {
        let mask = if host { HOST } else { 0 } | if inside == Inside::Nobody { 0 } else { POD };
        if inside == Inside::Many {
            self.turns.fetch_add(1, SeqCst);
            linux::futex_wake(self.turns.as_ptr(), u32::MAX, i32::MAX);
        }
        if mask != 0 {
            let one = !host && inside == Inside::One;
            linux::futex_wake(self.futex(), mask, if one { 1 } else { i32::MAX });
        }
    }

    /// Shows S in its child what is asked of it.
    pub(crate) fn show(&self, stop: bool, barred: bool) {
        let Some(shown) = self.shown() else { return };
        loop {
            let until = if stop { self.stop_deadline() } else { 0 };
            let barred = barred || stop && self.life().barred();
            shown.store(Asked { stop, barred, until }.word(), SeqCst);
            // Whoever changed the limit meanwhile, or barred the teardown, may have shown it before this did.
            let limit = self.stop_limit.load(SeqCst);
            if !stop || (limit == 0 || limit == until) && (barred || !self.life().barred()) {
                return;
            }
        }
    }

    /// Shows what the word says, whoever is about to. What changes meanwhile is shown, too.
    pub(crate) fn show_what_is_asked(&self) {
        loop {
            let life = self.life();
            self.show(life.stop_asked(), life.barred());
            let now = self.life();
            if (now.stop_asked(), now.barred()) == (life.stop_asked(), life.barred()) {
                return;
            }
        }
    }

    /// Whether S in its child was shown a stop that the word does not know: whoever asks for it was held up in between.
    pub(crate) fn stop_is_under_way(&self) -> bool {
        let shown = self.shown().is_some_and(|shown| Asked::from_word(shown.load(SeqCst)).stop);
        shown && !self.life().stop_asked()
    }

    fn shown(&self) -> Option<&'static AtomicU64> {
        let shown = region().map_or(ptr::null_mut(), |region| region.shown.load(Acquire));
        // SAFETY: null, or a word for each slot, never unmapped.
        (!shown.is_null()).then(|| unsafe { &*shown.add(self.index() as usize) })
    }

    /// Notes when a seat or a state was entered, in the life of that generation. It follows the step, whose winner alone may
    /// write; who reads in between finds 0, which is now. Who comes so late that another life has begun writes nothing.
    fn stamp(&self, before: Life, after: Life, generation: u64, now: linux::Nanos) {
        // The reference of the one who does the step keeps the next pod out, but not this one's next life.
        let bound = self.again.load(Acquire);
        let over = || {
            let word = self.word();
            // What the next life has of times is made ready while this one is RESTARTING.
            word >> 32 != generation
                || Life(word as u32).state() == State::Restarting && after.state() != State::Restarting
        };
        if bound && over() {
            return;
        }
        let note = |at: &AtomicU64| {
            if !bound {
                return at.store(now, Relaxed);
            }
            at.fetch_max(now, SeqCst); // another life's is later
            if over() {
                let _ = at.compare_exchange(now, 0, SeqCst, SeqCst); // it ended between the look and the step
            }
        };
        if before.seat() != after.seat() {
            note(&self.seated_at);
        }
        if before.state() != after.state() {
            if let Some(at) = self.entry_time(after.state()) {
                note(at);
            }
            if after.state() == State::Stopping {
                self.stop_deadline();
                if before.state() == State::New {
                    note(&self.starting_at); // it was STARTING for no time at all
                }
            }
        }
    }

    /// When the grace is spent; NEVER: no limit. Of a pod that is STOPPING or was: whoever asks first sets it. Who comes so
    /// late that another life has begun sets nothing, for that one's grace begins with its own stop.
    pub(crate) fn stop_deadline(&self) -> linux::Nanos {
        match self.stop_limit.load(SeqCst) {
            0 => self.set_stop_deadline(),
            set => set,
        }
    }

    fn set_stop_deadline(&self) -> linux::Nanos {
        let limit = self.entered_at(State::Stopping).saturating_add(self.grace.load(Relaxed));
        let stopping = || {
            let word = self.word();
            Life(word as u32).is_stopping_or_was().then_some(word >> 32)
        };
        let life = stopping();
        if life.is_none() {
            return limit;
        }
        if let Err(set) = self.stop_limit.compare_exchange(0, limit, SeqCst, SeqCst) {
            return set;
        }
        if stopping() != life {
            let _ = self.stop_limit.compare_exchange(limit, 0, SeqCst, SeqCst); // over between the look and the step
        }
        limit
    }

    fn entry_time(&self, state: State) -> Option<&AtomicU64> {
        Some(match state {
            State::Starting => &self.starting_at,
            State::Running => &self.running_at,
            State::Stopping => &self.stopping_at,
            State::Abandoned => &self.abandoned_at,
            State::Stopped | State::Failed => &self.ended_at,
            State::Restarting => &self.restarting_at,
            State::New => return None,
        })
    }

    /// When `state`, which the pod has been in, was entered.
    pub(crate) fn entered_at(&self, state: State) -> linux::Nanos {
        match self.entry_time(state).map_or(0, |at| at.load(Relaxed)) {
            0 => linux::now(),
            at => at,
        }
    }

    /// The whole word: the incarnation's generation and [`Life`], for [`Slot::sleep`].
    pub(crate) fn word(&self) -> u64 {
        self.life.load(SeqCst)
    }

    /// Sleeps until the word, which was `seen`, changes in a way that `side` cares for, or `until`. May wake early. The
    /// kernel compares [`Life`] alone: what is the same in another incarnation has to mean the same to the sleeper. To
    /// those outside it does, and S and its hook are of one incarnation; for others there is [`Slot::sleep_beside`].
    pub(crate) fn sleep(&self, seen: u64, side: Side, until: linux::Nanos) -> linux::Woke {
        let life = Life(seen as u32);
        let next = life.after(if side == Side::Host { Event::SleepHost } else { Event::SleepPod }).unwrap_or(life);
        let announced = seen & !0xFFFF_FFFF | next.0 as u64;
        if announced != seen && self.life.compare_exchange(seen, announced, SeqCst, SeqCst).is_err() {
            return linux::Woke::Look;
        }
        // SAFETY: slots are never unmapped.
        unsafe { linux::futex_wait(self.futex(), next.0, until, if side == Side::Host { HOST } else { POD }) }
    }

    /// Sleeps until woken for what concerns those inside, or `until`; not at all if it is `over`. For whoever is neither S
    /// nor its hook: while such a thread lies down a whole life may pass, and the next one's word be like its own was.
    pub(crate) fn sleep_beside(&self, over: impl FnOnce() -> bool, until: linux::Nanos) -> linux::Woke {
        // Before the look: a wake from here on is noticed.
        let turn = self.turns.load(SeqCst);
        let seen = self.word();
        if over() {
            return linux::Woke::Look;
        }
        if let Some(next) = Life(seen as u32).after(Event::SleepBeside) {
            let announced = seen & !0xFFFF_FFFF | next.0 as u64;
            if self.life.compare_exchange(seen, announced, SeqCst, SeqCst).is_err() {
                return linux::Woke::Look;
            }
        }
        // SAFETY: slots are never unmapped.
        unsafe { linux::futex_wait(self.turns.as_ptr(), turn, until, u32::MAX) }
    }
}

/// What is asked of an S in a child process, as one word of memory that it can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) stop: bool,
    /// No callback is to begin any more.
    pub(crate) barred: bool,
    /// When the grace is spent; NEVER: no limit. The clock is the same for all processes.
    pub(crate) until: linux::Nanos,
}

/// Below the time, which is exact to 4 ns: bits of their own.
const SHOWN_STOP: u64 = 1;
const SHOWN_BAR: u64 = 2;

impl Asked {
    fn word(self) -> u64 {
        self.until & !3 | if self.stop { SHOWN_STOP } else { 0 } | if self.barred { SHOWN_BAR } else { 0 }
    }
    pub(super) fn from_word(word: u64) -> Asked {
        let until = if word & !3 == linux::NEVER & !3 { linux::NEVER } else { word & !3 };
        Asked { stop: word & SHOWN_STOP != 0, barred: word & SHOWN_BAR != 0, until }
    }
}

/// What a step did.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) before: Life,
    pub(crate) after: Life,
}

impl Step {
    pub(crate) fn entered(&self, state: State) -> bool {
        self.before.state() != state && self.after.state() == state
    }
}

/// Who sleeps on a pod's word: each side is woken only for what concerns it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Pod,
}
const HOST: u32 = 1;
const POD: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxError, Context, Options, Pod, Procedure, Restart, Runtime};

    struct Idle;

    impl Procedure for Idle {
        fn run_forever(&self, _: Context) -> Result<(), BoxError> {
            Ok(())
        }
    }

    /// Whoever stopped a life, and was held up before he noted when.
    #[test]
    fn a_time_of_one_life_is_not_written_into_the_next() {
        let runtime = Runtime::new("idle", |_| Ok(Idle)).unwrap();
        let options = Options { restart: Restart::Always, ..Options::default() };
        let owner = Pod::new(&runtime, &options).unwrap();
        let pod = owner.here().unwrap();
        let up = [Event::EnterInit, Event::InitOk];
        let step = |event| pod.step(event).unwrap_or_else(|| panic!("{event:?}"));
        step(Event::Claim);
        step(Event::Launch);
        let ready = up.map(step)[1];
        let generation = pod.word() >> 32;
        let stop = step(Event::SiblingStop);
        let late = linux::now();
        step(Event::End { failed: false, again: true });
        pod.begin_life();
        pod.stamp(stop.before, stop.after, generation, late); // made ready, and not begun
        step(Event::Revive);
        for event in up {
            step(event);
        }
        let running = pod.running_at.load(Relaxed);
        pod.stamp(ready.before, ready.after, generation, late);
        pod.stamp(stop.before, stop.after, generation, late);
        assert_eq!((pod.running_at.load(Relaxed), pod.stopping_at.load(Relaxed)), (running, 0));

        step(Event::Stop); // nobody is there to end it
        step(Event::End { failed: false, again: false });
        pod.settle();
        step(Event::Gone);
    }
}
