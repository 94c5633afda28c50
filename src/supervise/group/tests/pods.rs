//! Pods as simple as can be: they start, end, fail, hang and come back as the dice say.

use crate::lifecycle::State;
use crate::linux::{NEVER, Nanos};

pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % below
    }
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// Often 0: then much happens between two looks.
    pub(super) fn delay(&mut self) -> Nanos {
        [0, 0, 1, 2, 5, 20, 100][self.below(7) as usize]
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Restarts {
    Never,
    OnFailure,
    Always,
}

/// What a pod does next by itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Next {
    Nothing,
    Ready,
    InitFails,
    Returns {
        failed: bool,
    },
    Dies,
    IsDown {
        failed: bool,
    },
    /// ABANDONED until then.
    IsBack,
    Revives,
}

#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) state: State,
    pub(super) next: Next,
    pub(super) at: Nanos,
    /// While STOPPING: when force is used.
    pub(super) limit: Nanos,
    pub(super) grace: Nanos,
    pub(super) failed: bool,
    pub(super) ready: bool,
    pub(super) user: bool,
    pub(super) pulled: bool,
    pub(super) life: u32,
    pub(super) due: Nanos,
    /// When it failed for good.
    pub(super) since: Nanos,
    pub(super) restarts: Restarts,
    /// How many of its own it has left.
    pub(super) room: u32,
    pub(super) is_thread: bool,
    /// How often it ends by itself: one in so many lives does not.
    pub(super) restless: u64,
}

impl Pod {
    pub(super) fn random(grace: Nanos, restless: u64, dice: &mut Dice) -> Pod {
        Pod {
            state: State::New,
            next: Next::Nothing,
            at: 0,
            limit: NEVER,
            grace,
            failed: false,
            ready: false,
            user: false,
            pulled: false,
            life: 0,
            due: 0,
            since: NEVER,
            restarts: [Restarts::Never, Restarts::OnFailure, Restarts::Always][dice.below(3) as usize],
            room: dice.below(6) as u32,
            is_thread: dice.one_in(2),
            restless,
        }
    }

    pub(super) fn ends(&mut self, failed: bool, now: Nanos, dice: &mut Dice) {
        self.failed |= failed;
        let pulled = std::mem::take(&mut self.pulled);
        let barred = self.user || self.state == State::Abandoned;
        let wants = match self.restarts {
            Restarts::Never => false,
            Restarts::OnFailure => self.failed,
            Restarts::Always => true,
        };
        self.next = Next::Nothing;
        self.limit = NEVER;
        if !barred && (pulled || wants && self.room > 0) {
            self.state = State::Restarting;
            if !pulled {
                self.room -= 1;
            }
            self.due = if pulled { now } else { now + dice.delay() };
        } else {
            self.failed |= !barred && wants && self.room == 0;
            self.state = if self.failed { State::Failed } else { State::Stopped };
            if self.failed {
                self.since = self.since.min(now); // ABANDONED before
            }
        }
    }

    pub(super) fn begins(&mut self, now: Nanos, dice: &mut Dice) {
        (self.state, self.failed, self.ready) = (State::Starting, false, false);
        self.next = match dice.below(12) {
            0 => Next::InitFails,
            1 => Next::Dies,
            2 => Next::Nothing, // the user cancels it one day
            _ => Next::Ready,
        };
        self.at = now + dice.delay();
    }

    pub(super) fn stops(&mut self, failed: bool, now: Nanos, dice: &mut Dice) {
        self.state = State::Stopping;
        self.limit = now.saturating_add(self.grace);
        self.next = if dice.one_in(20) { Next::Nothing } else { Next::IsDown { failed: dice.one_in(8) } };
        self.failed |= failed;
        self.at = now + dice.delay();
    }

    /// When something happens to it by itself.
    pub(super) fn moment(&self) -> Nanos {
        let at = if self.next == Next::Nothing { NEVER } else { self.at };
        if self.state == State::Stopping { at.min(self.limit) } else { at }
    }

    pub(super) fn moves(&mut self, now: Nanos, dice: &mut Dice) {
        if self.state == State::Stopping && self.limit <= now && (self.next == Next::Nothing || self.at > self.limit) {
            self.failed = true;
            self.limit = NEVER;
            match self.is_thread {
                false => self.ends(true, now, dice),
                true => {
                    self.state = State::Abandoned;
                    self.since = now;
                    self.next = if dice.one_in(2) { Next::Nothing } else { Next::IsBack };
                    self.at = now + dice.delay();
                }
            }
            return;
        }
        match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Nothing => unreachable!("nothing was due"),
            Next::Ready => {
                (self.state, self.ready) = (State::Running, true);
                if !dice.one_in(self.restless) {
                    self.next = match dice.below(3) {
                        0 => Next::Dies,
                        n => Next::Returns { failed: n == 1 },
                    };
                    self.at = now + dice.delay();
                }
            }
            Next::InitFails | Next::Dies => self.ends(true, now, dice),
            Next::Returns { failed } => self.stops(failed, now, dice),
            Next::IsDown { failed } => self.ends(failed, now, dice),
            Next::IsBack => {
                self.state = State::Failed;
            }
            Next::Revives => {
                self.life += 1;
                self.begins(now, dice);
            }
        }
    }

    pub(super) fn is_cancelled(&mut self, now: Nanos, dice: &mut Dice) {
        self.user |= !self.state.is_final();
        match self.state {
            State::New | State::Restarting => (self.state, self.next) = (State::Stopped, Next::Nothing),
            State::Starting | State::Running => self.stops(false, now, dice),
            _ => {}
        }
    }
}
