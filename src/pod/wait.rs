//! Waiting for a pod: until it is ready, until it has ended.

use crate::error::{Error, Result, Status};
use crate::explain::explain;
use crate::host;
use crate::lifecycle::{Event, Life, State};
use crate::limit::Limit;
use crate::linux::{self, Nanos};
use crate::role;
use crate::table::{PodRef, Side};

/// How long after the final state a join waits for the drop and for the thread's own end.
const LEAVE_TIME: Nanos = 1_000_000_000;

/// How long it waits for the thread alone, before it listens to the state: some clock ticks.
const SOON: Nanos = 20_000_000;

impl PodRef {
    /// Waits until this incarnation is ready (L15).
    pub(crate) fn wait_ready(&self, limit: Limit) -> Result<()> {
        if limit != Limit::Now {
            role::refuse_blocking("wait_ready", Some(self))?;
        }
        loop {
            let word = self.word();
            let life = Life(word as u32);
            match life.state() {
                State::New => return Err(self.not_started("wait_ready")),
                State::Starting | State::Restarting if !life.failed() => {}
                // Ended in the delay before another life, by a user: that one never came.
                State::Stopped if life.failed() || life.was_restarting() => return Err(self.ended()),
                _ if life.failed() && self.may_follow(life) => {}
                _ if life.failed() => return Err(self.failed()),
                _ if life.was_running() && !life.was_restarting() => return Ok(()),
                State::Stopping if self.may_follow(life) => {}
                _ => return Err(self.ended()),
            }
            if limit.passed() {
                return Err(self.timed_out("wait_ready"));
            }
            self.sleep(word, Side::Host, limit.deadline());
        }
    }

    /// Waits for the end.
    pub(crate) fn join(&self, limit: Limit) -> Result<()> {
        if limit != Limit::Now {
            role::refuse_blocking("join", Some(self))?;
        }
        self.wait_end(limit, "join")
    }

    /// Cancels and waits for the end; the grace bounds it.
    pub(crate) fn close(&self) -> Result<()> {
        self.refuse_by_hand("close")?;
        role::refuse_blocking("close", Some(self))?;
        self.advance(Event::Stop);
        self.settle_if_never_launched();
        self.wait_end(Limit::Forever, "close")
    }

    fn wait_end(&self, limit: Limit, call: &str) -> Result<()> {
        let mut patient = true;
        loop {
            let word = self.word();
            let life = Life(word as u32);
            match life.state() {
                State::New => return Err(self.not_started(call)),
                state if state.is_final() => {
                    // After a cancel of a NEW pod the drop is due, and the keeper may not have come to it: not later than
                    // this, and not on another thread. A look calls nobody's code.
                    if limit != Limit::Now {
                        self.settle_if_never_launched();
                    }
                    // What follows the final state (a drop, the thread's own end) is waited for, but not for ever.
                    let until = self.entered_at(state).saturating_add(LEAVE_TIME).min(limit.deadline());
                    if limit == Limit::Now || life.gone() || !life.claimed() || linux::now() >= until {
                        return if state == State::Stopped { Ok(()) } else { Err(self.failed()) };
                    }
                    if !host::thread::reap(self, until) {
                        self.sleep(word, Side::Host, until);
                    }
                    continue;
                }
                State::Abandoned if limit == Limit::Forever => return Err(self.timed_out(call)),
                _ => {}
            }
            if limit.passed() {
                return Err(self.timed_out(call));
            }
            let until = limit.deadline();
            // On its way down S is mostly soon gone: wait for the thread itself, which the kernel tells without a wake
            // of S's. Not for long: whoever waits for the thread does not see the final state, or a drop that hangs.
            if life.state() == State::Stopping && std::mem::take(&mut patient) {
                let soon = linux::last_tick().saturating_add(SOON).min(self.stop_deadline()).min(until);
                if host::thread::reap(self, soon) {
                    continue;
                }
            }
            self.sleep(word, Side::Host, until);
        }
    }

    fn not_started(&self, call: &str) -> Error {
        Error::state(format!("{call}: pod {:?} is NEW; start it first", self.name()))
    }

    fn ended(&self) -> Error {
        Error::new(Status::Ended, format!("pod {:?} ended without ever having been ready", self.name()))
    }

    fn failed(&self) -> Error {
        let sentence = match self.failure() {
            Some(failure) => failure.to_string(),
            None => format!("pod {:?} failed", self.name()),
        };
        Error::new(Status::Failed, sentence)
    }

    fn timed_out(&self, call: &str) -> Error {
        Error::new(Status::Timeout, format!("{call} gave up: {}", explain(self)))
    }
}
