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
        let pulled = self.cell().pulled.swap(false, SeqCst);
        if policy.restart == Restart::Never && !pulled {
            let event = event(!records.is_empty(), false);
            return match records.len() {
                0 => self.advance(event),
                _ => self.advance_told(event, records),
            };
        }
        let step = {
            let mut cold = lock(&self.cell().cold);
            let (life, now) = (self.life(), linux::now());
            let running_for = match (life.was_running(), self.running_at.load(Relaxed), self.stopping_at.load(Relaxed))
            {
                (false, ..) => 0,
                (true, from, 0) => now.saturating_sub(from),
                (true, from, to) => to.saturating_sub(from),
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
                true => Verdict::Again(0),
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
            // A step that is refused for now (a hook has just begun) is tried again: it counts once.
            if step.is_some() {
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
        let wanted = self.cell().policy.restart != Restart::Never || self.cell().group.load(Acquire) != 0;
        wanted && !life.user_asked() && !life.barred() && !life.was_abandoned() && !life.state().is_final()
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
        let fed = self.last_heartbeat().min(now).max(self.running_at.load(Relaxed)).max(cell.watch_from.load(Relaxed));
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
