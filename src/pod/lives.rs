//! From one life of a pod to the next: how an incarnation ends, and how another begins.

use std::sync::atomic::Ordering::*;

use crate::failure::{Kind, Record};
use crate::lifecycle::{Event, Life, Phase, State};
use crate::linux::{self, Nanos};
use crate::supervise::restart::{End, Restart, Verdict};
use crate::table::{self, PodRef, Side, Step};
use crate::world::{World, lock};

impl PodRef {
    /// Ends the incarnation, with the failures that go with it. `event` is told whether it failed by them and whether
    /// another life follows.
    pub(crate) fn end_life(&self, mut records: Vec<Record>, event: impl Fn(bool, bool) -> Event) -> Option<Step> {
        let policy = &self.cell().policy;
        let pulled = self.cell().pulled.load(SeqCst);
        if policy.restart == Restart::Never && !pulled {
            let event = event(!records.is_empty(), false);
            if records.is_empty() {
                return self.advance(event);
            }
            let step = {
                let mut cold = lock(&self.cell().cold);
                let step = self.step(event)?; // refused for now: told when it is tried again
                records.into_iter().for_each(|record| cold.push(record));
                step
            };
            self.announce(step);
            return Some(step);
        }
        let step = {
            let mut cold = lock(&self.cell().cold);
            let (life, now) = (self.life(), linux::now());
            // Who is told READY by another thread may end before that one has noted the time.
            let running_for = match life.was_running() {
                true => self.entered_at(State::Stopping).saturating_sub(self.entered_at(State::Running)),
                false => 0,
            };
            let end = End {
                failed: life.failed() || !records.is_empty(),
                barred: life.user_asked() || life.barred() || life.was_abandoned(),
                healthy: running_for,
                now,
                die: linux::random(),
            };
            // What a sibling's restart takes along is not counted; the group says when it comes back.
            let mut history = cold.history.clone();
            let verdict = match pulled && !end.barred {
                true => {
                    policy.rest(&mut history, end.healthy);
                    Verdict::Again(0)
                }
                false => policy.decide(&mut history, end),
            };
            let again = match verdict {
                Verdict::Again(delay) => {
                    let due = crate::limit::after(delay);
                    self.cell().due_at.store(due, Relaxed);
                    // A member waits for its turn: its group says when.
                    let at = if self.cell().group.load(Acquire) == 0 { due } else { linux::NEVER };
                    self.cell().restart_at.store(at, Relaxed);
                    true
                }
                Verdict::NoRoom(times) if !end.failed => {
                    let text = format!("ended {} times in {:.3} s", times + 1, policy.window as f64 / 1e9);
                    records.push(self.record(Phase::Run, Kind::Returned, 0, &text));
                    false
                }
                Verdict::NoRoom(_) | Verdict::Final => false,
            };
            let step = self.step(event(!records.is_empty(), again));
            // A step that is refused for now (a hook has just begun) is tried again: it counts once, and who was taken along
            // is so still.
            if step.is_some() {
                self.cell().pulled.store(false, SeqCst);
                cold.history = history;
                records.into_iter().for_each(|record| cold.push(record));
            }
            step?
        };
        self.announce(step);
        Some(step)
    }

    /// Whether the present life could be followed by another one: what a waiter for ready may hope for.
    pub(crate) fn may_follow(&self, life: Life) -> bool {
        self.again.load(Acquire)
            && !life.user_asked()
            && !life.barred()
            && !life.was_abandoned()
            && !life.state().is_final()
    }

    /// S, between two lives: waits until the next is due. False: there is none.
    pub(crate) fn wait_to_revive(&self) -> bool {
        loop {
            let word = self.word();
            if Life(word as u32).state() != State::Restarting {
                return false;
            }
            let at = self.cell().restart_at.load(Relaxed);
            if linux::now() >= at {
                return self.revive();
            }
            self.sleep(word, Side::Pod, at);
        }
    }

    /// Begins the next life: STARTING, with a context of its own. False: a cancel was faster.
    pub(crate) fn revive(&self) -> bool {
        let Some(world) = World::existing() else { return false };
        let cell = self.cell();
        let revived = {
            // Nobody publishes between the last word of the old life and the first of the new one.
            let mut hub = lock(&world.hub);
            hub.publish(self);
            let mut cold = lock(&cell.cold);
            if self.life().state() != State::Restarting {
                return false;
            }
            // Nobody else changes anything here but a cancel, whose step needs none of this.
            self.begin_life();
            self.set_ready_limit();
            cell.kicks.store(0, Relaxed);
            cell.watch_from.store(0, Relaxed);
            cell.look_due.store(0, Relaxed);
            cell.watch_limit.store(0, Relaxed);
            cell.stalled_after.store(u64::MAX, Relaxed);
            table::raise_highest_generation(self.incarnation_generation().wrapping_add(1));
            if self.life().is_afar() {
                self.show(false, self.life().barred());
            }
            let Some(step) = self.step(Event::Revive) else { return false };
            self.lives.fetch_add(1, Relaxed);
            cold.begin_life();
            cell.has_stored.store(false, Release);
            drop(cold); // the hub asks for the failure
            hub.revived(self);
            step
        };
        self.announce(revived);
        self.watch_ready_limit();
        true
    }

    /// The next life cannot begin: the pod has failed for good.
    pub(crate) fn give_up(&self, why: &str) {
        let record = self.record(Phase::Spawn, Kind::Lost, 0, why);
        self.advance_told(Event::GiveUp, vec![record]);
    }

    /// When a heartbeat is due at the latest; NEVER: none is.
    pub(crate) fn watchdog_deadline(&self) -> Nanos {
        let cell = self.cell();
        if cell.watchdog == 0 {
            return linux::NEVER;
        }
        let now = linux::now();
        // RUNNING is shown before its time is noted.
        let running = self.entered_at(State::Running);
        let fed = self.last_heartbeat().min(now).max(running).max(cell.watch_from.load(Relaxed));
        fed.saturating_add(cell.watchdog).max(cell.watch_limit.load(Relaxed))
    }
}

impl super::Cold {
    fn begin_life(&mut self) {
        self.failures = None;
        self.stored = None;
        self.status = None;
        self.extended = 0;
        self.hook_said = None;
        self.stderr = None;
        drop(self.fd.take());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{BoxError, Context, Options, Pod, Procedure, Runtime};

    struct Hooked;

    impl Procedure for Hooked {
        const HAS_CANCEL: bool = true;
        fn run_forever(&self, _: Context) -> Result<(), BoxError> {
            Ok(())
        }
    }

    const BACKOFF: Duration = Duration::from_secs(100);

    /// Restarted whenever it fails.
    fn with_window(seconds: u64) -> Options {
        Options {
            restart: Restart::OnFailure,
            max_restarts: u32::MAX,
            restart_window: Duration::from_secs(seconds),
            backoff: BACKOFF,
            backoff_max: Duration::from_secs(3600),
            ..Options::default()
        }
    }

    /// A thread that ends from inside while its hook begins: the end is refused first, and tried again.
    #[test]
    fn a_member_taken_along_comes_back_though_its_end_was_refused_at_first() {
        let runtime = Runtime::new("hooked", |_| Ok(Hooked)).unwrap();
        let owner = Pod::new(&runtime, &Options::default()).unwrap();
        let pod = owner.here().unwrap();
        for event in
            [Event::Claim, Event::Launch, Event::EnterInit, Event::InitOk, Event::SiblingStop, Event::HookBegin]
        {
            assert!(pod.step(event).is_some(), "{event:?}");
        }
        pod.cell().pulled.store(true, SeqCst);
        let died = |_, again| Event::Died { again };
        assert!(pod.end_life(Vec::new(), died).is_none());
        pod.step(Event::HookDone { failed: false });
        assert!(pod.end_life(Vec::new(), died).is_some());
        assert_eq!(pod.life().state(), State::Restarting);

        pod.step(Event::Stop); // nobody is there to revive it, or to leave
        pod.settle();
        pod.step(Event::Gone);
    }

    /// A window of health counts, whoever ends it: the next delay is the first again.
    #[test]
    fn s8_a_healthy_life_that_a_sibling_ends_makes_the_delay_begin_anew() {
        let runtime = Runtime::new("healthy", |_| Ok(Hooked)).unwrap();
        let owner = Pod::new(&runtime, &with_window(10)).unwrap();
        let pod = owner.here().unwrap();
        pod.step(Event::Claim);
        for life in 0..6 {
            let first = if life == 0 { Event::Launch } else { Event::Revive };
            for event in [first, Event::EnterInit, Event::InitOk] {
                assert!(pod.step(event).is_some(), "{event:?} of life {life}");
            }
            let (mut records, pulled) = (Vec::new(), life == 4);
            if pulled {
                pod.running_at.store(1, Relaxed); // since the machine is up, which may not be long
                pod.step(Event::SiblingStop);
                pod.cell().pulled.store(true, SeqCst);
            } else {
                records.push(pod.record(Phase::Run, Kind::Returned, 1, "short"));
            }
            pod.step(Event::RunReturned { failed: !pulled });
            pod.end_life(records, |failed, again| Event::End { failed, again }).unwrap();
        }
        let delay = pod.cell().due_at.load(Relaxed) - linux::now();
        assert!(delay <= BACKOFF.as_nanos() as u64, "{delay}");

        pod.step(Event::Stop);
        pod.settle();
        pod.step(Event::Gone);
    }

    /// A life that was short, though nobody has noted yet when it was RUNNING: the delay goes on growing.
    #[test]
    fn s8_no_life_was_healthy_before_the_time_of_running_is_noted() {
        let runtime = Runtime::new("short", |_| Ok(Hooked)).unwrap();
        let owner = Pod::new(&runtime, &with_window(1)).unwrap();
        let pod = owner.here().unwrap();
        pod.step(Event::Claim);
        for life in 0..4 {
            let first = if life == 0 { Event::Launch } else { Event::Revive };
            for event in [first, Event::EnterInit, Event::InitOk, Event::RunReturned { failed: true }] {
                assert!(pod.step(event).is_some(), "{event:?} of life {life}");
            }
            pod.running_at.store(0, Relaxed);
            let record = pod.record(Phase::Run, Kind::Returned, 1, "short");
            pod.end_life(vec![record], |failed, again| Event::End { failed, again }).unwrap();
        }
        // Doubled three times, less the jitter.
        let delay = pod.cell().due_at.load(Relaxed) - linux::now();
        assert!(delay > 3 * BACKOFF.as_nanos() as u64, "{delay}");

        pod.step(Event::Stop);
        pod.settle();
        pod.step(Event::Gone);
    }
}
