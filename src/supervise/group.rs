//! Groups: what is done with each member, decided from what all members show (contract section 8). Pure: pods, threads and
//! clocks are `driver`'s.
//!
//! Nothing here waits for an event of its own: each look starts from the members' present states, so that events which
//! were merged or came in another order lead to the same decisions.

use crate::lifecycle::State;
use crate::linux::{NEVER, Nanos};

/// What a member's restart takes along.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(i32)]
pub enum Strategy {
    /// Itself.
    #[default]
    OneForOne = 0,
    /// All members.
    OneForAll = 1,
    /// Those that were added later.
    RestForOne = 2,
}

/// What does not change of a member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    /// Members added before, which must be ready first, and which stop later.
    pub(crate) after: Vec<usize>,
    /// Its normal end stops the group, too.
    pub(crate) significant: bool,
    /// Its own policy may restart it.
    pub(crate) restarts: bool,
    pub(crate) grace: Nanos,
}

/// What a member shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// It has failed in this life.
    pub(crate) failed: bool,
    /// It has been RUNNING in this life, seen or not.
    pub(crate) ready: bool,
    /// Which life: two looks may miss all that was between one RESTARTING and the next.
    pub(crate) life: u32,
    /// When its next life is due by its own policy, while RESTARTING.
    pub(crate) due: Nanos,
    /// Since when it has failed for good: FAILED or ABANDONED.
    pub(crate) since: Nanos,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    Start(usize),
    /// Stop it, and have another life follow whatever its policy: a sibling restarts.
    Pull(usize),
    /// Begin its next life.
    Revive(usize),
    /// Stop it for good, with that much grace.
    Cancel(usize, Nanos),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mode {
    #[default]
    New,
    Up,
    /// On the way down until then.
    Down {
        until: Nanos,
    },
}

/// What the group remembers of a member.
#[derive(Clone, Copy, Default, Debug)]
struct Memory {
    /// It has been RUNNING.
    ready: bool,
    /// To be restarted with a sibling, and not down yet.
    pulled: bool,
    /// Between two lives: waits for its turn.
    waits: bool,
    /// The life after which it waits.
    life: u32,
    /// The one after it was asked for.
    revived: bool,
    /// The action that fits its present state was given.
    told: bool,
    ended: bool,
}

/// Where a member stands among the others: found once, when it is added.
#[derive(Clone, Default, Debug)]
struct Order {
    /// Of each one before it: whether it must be ready first, for this member or for one that this member needs.
    needs: Vec<bool>,
    /// The graces of the longest row of stops that begins with this member's.
    chain: Nanos,
}

/// A group's course.
#[derive(Clone, Default, Debug)]
pub(crate) struct Course {
    pub(crate) members: Vec<Member>,
    pub(crate) strategy: Strategy,
    pub(crate) keep_going: bool,
    /// For the whole stop; 0: the longest chain of the members'.
    pub(crate) grace: Nanos,
    memory: Vec<Memory>,
    orders: Vec<Order>,
    mode: Mode,
    /// The budget was shortened, and those that were told of the longer one must hear of it.
    shortened: bool,
    /// The member that failed first for good.
    pub(crate) failed: Option<usize>,
}

/// What came of a look.
#[derive(Default, Debug)]
pub(crate) struct Look {
    pub(crate) actions: Vec<Action>,
    /// When to look again if nothing happens before.
    pub(crate) again: Option<Nanos>,
    /// A limit for all that are on their way down.
    pub(crate) shortened: Option<Nanos>,
}

impl Course {
    pub(crate) fn new(strategy: Strategy, keep_going: bool, grace: Nanos) -> Course {
        Course { strategy, keep_going, grace, ..Course::default() }
    }

    pub(crate) fn is_new(&self) -> bool {
        self.mode == Mode::New
    }

    pub(crate) fn add(&mut self, member: Member) {
        let mut order = Order { needs: vec![false; self.members.len()], chain: 0 };
        for &m in &member.after {
            order.needs[m] = true;
            for (at, &needed) in self.orders[m].needs.iter().enumerate() {
                order.needs[at] |= needed;
            }
            order.chain = order.chain.max(self.orders[m].chain);
        }
        order.chain = order.chain.saturating_add(member.grace);
        self.orders.push(order);
        self.members.push(member);
        self.memory.push(Memory::default());
    }

    pub(crate) fn start(&mut self) {
        self.mode = Mode::Up;
    }

    /// From here on the group goes down.
    pub(crate) fn stop(&mut self, now: Nanos) {
        if !matches!(self.mode, Mode::Down { .. }) {
            let budget = match self.grace {
                0 => self.orders.iter().map(|order| order.chain).max().unwrap_or(0),
                grace => grace,
            };
            self.mode = Mode::Down { until: now.saturating_add(budget) };
            self.memory.iter_mut().for_each(|memory| memory.told = false);
        }
    }

    /// What is left of the budget ends at `at`, if not before.
    pub(crate) fn shorten(&mut self, at: Nanos) {
        if let Mode::Down { until } = &mut self.mode
            && *until > at
        {
            *until = at;
            self.shortened = true;
        }
    }

    /// The start of a member was refused.
    pub(crate) fn refused(&mut self, member: usize, now: Nanos) {
        self.failed.get_or_insert(member);
        self.stop(now);
    }

    /// A member's part of what is left of the budget.
    fn share(&self, member: usize, left: Nanos) -> Nanos {
        let (grace, chain) = (self.members[member].grace, self.orders[member].chain);
        match (left, chain) {
            (NEVER, _) | (_, 0) => grace,
            (_, NEVER) => grace.min(left),
            _ => grace.min((left as u128 * grace as u128 / chain as u128) as Nanos),
        }
    }

    /// `other` must be ready before `member`, or before one that `member` needs.
    fn needs(&self, member: usize, other: usize) -> bool {
        self.orders[member].needs.get(other).is_some_and(|&needed| needed)
    }

    /// Those that a restart of `member` takes along.
    fn takes_along(&self, member: usize, other: usize) -> bool {
        match self.strategy {
            Strategy::OneForOne => false,
            Strategy::OneForAll => other != member,
            Strategy::RestForOne => other > member,
        }
    }

    /// Those that the restart of a sibling can take along.
    pub(crate) fn can_be_taken_along(&self, member: usize) -> bool {
        (0..self.members.len()).any(|other| self.members[other].restarts && self.takes_along(other, member))
    }

    /// Looks at all members and says what is to be done now. `now` may be any moment not before the last.
    pub(crate) fn look(&mut self, seen: &[Seen], now: Nanos) -> Look {
        let mut look = Look::default();
        self.witness(seen);
        if self.mode == Mode::Up {
            self.note(seen, now);
        }
        match self.mode {
            Mode::New => {}
            Mode::Up => {
                self.start_due(seen, &mut look);
                self.pull_due(seen, &mut look);
                self.revive_due(seen, now, &mut look);
            }
            Mode::Down { until } => {
                look.shortened = std::mem::take(&mut self.shortened).then_some(until);
                self.cancel_due(seen, until.saturating_sub(now), until, &mut look);
            }
        }
        look
    }

    /// Remembers which member failed first for good. Whoever looks at the members may be the first to see it: a group that
    /// shows FAILED must be able to say whose failure that is.
    pub(crate) fn witness(&mut self, seen: &[Seen]) {
        if self.failed.is_none() {
            let failed = |m: &usize| matches!(seen[*m].state, State::Failed | State::Abandoned);
            self.failed = (0..seen.len()).filter(failed).min_by_key(|&m| seen[m].since);
        }
    }

    /// What the members' states mean for the group.
    fn note(&mut self, seen: &[Seen], now: Nanos) {
        for m in 0..seen.len() {
            self.memory[m].ready |= seen[m].ready;
            let before = self.memory[m];
            match seen[m].state {
                State::New | State::Starting | State::Running | State::Stopping => {}
                State::Restarting if !before.waits || before.life != seen[m].life => {
                    let life = seen[m].life;
                    self.memory[m] = Memory { waits: true, pulled: false, told: false, life, revived: false, ..before };
                    if !before.pulled {
                        self.pull_along(m, seen);
                    }
                }
                State::Restarting => {}
                State::Stopped | State::Failed | State::Abandoned if !before.ended => {
                    self.memory[m] = Memory { ended: true, pulled: false, waits: false, ..before };
                    let failed = seen[m].state != State::Stopped;
                    let in_vain = !before.ready
                        && (0..seen.len()).any(|other| seen[other].state == State::New && self.needs(other, m));
                    if failed && !self.keep_going || !failed && self.members[m].significant || in_vain {
                        self.stop(now);
                    }
                }
                State::Stopped | State::Failed | State::Abandoned => {}
            }
        }
    }

    /// `member` restarts of its own: those that go with it are to go down.
    fn pull_along(&mut self, member: usize, seen: &[Seen]) {
        for (other, shown) in seen.iter().enumerate() {
            let lives = matches!(shown.state, State::Starting | State::Running) || self.comes(seen, other);
            if lives && self.takes_along(member, other) && !self.memory[other].pulled {
                self.memory[other].pulled = true;
                self.memory[other].told = false;
            }
        }
    }

    /// All that it needs is up, also what it needs through members that have ended, and none of it is about to go down with
    /// a sibling.
    fn may_begin(&self, seen: &[Seen], member: usize) -> bool {
        (0..member).all(|d| !self.needs(member, d) || self.is_up(seen, d) && !self.memory[d].pulled)
    }

    /// Its next life was asked for, and has not begun yet.
    fn comes(&self, seen: &[Seen], member: usize) -> bool {
        let memory = self.memory[member];
        seen[member].state == State::Restarting && memory.revived && memory.life == seen[member].life
    }

    /// Is, or has been and ended well.
    fn is_up(&self, seen: &[Seen], member: usize) -> bool {
        match seen[member].state {
            State::Running => true,
            State::Stopped | State::Failed => self.memory[member].ready,
            _ => false,
        }
    }

    fn start_due(&mut self, seen: &[Seen], look: &mut Look) {
        for m in 0..seen.len() {
            let due = seen[m].state == State::New && self.may_begin(seen, m);
            if due && !self.memory[m].told {
                self.memory[m].told = true;
                look.actions.push(Action::Start(m));
            }
        }
    }

    /// Those that a sibling takes along go down in reverse order.
    fn pull_due(&mut self, seen: &[Seen], look: &mut Look) {
        for m in (0..seen.len()).rev() {
            let memory = self.memory[m];
            let lives = matches!(seen[m].state, State::Starting | State::Running);
            // Those that need it are pulled, too, or on their way down by themselves.
            let alive = |o: usize| {
                matches!(seen[o].state, State::Starting | State::Running | State::Stopping) || self.comes(seen, o)
            };
            let in_use = (0..seen.len()).any(|other| alive(other) && self.needs(other, m));
            if memory.pulled && lives && !memory.told && !in_use {
                self.memory[m].told = true;
                look.actions.push(Action::Pull(m));
            }
        }
    }

    /// Once all of them are down, each comes back when those it needs are up.
    fn revive_due(&mut self, seen: &[Seen], now: Nanos, look: &mut Look) {
        if self.memory.iter().any(|memory| memory.pulled) {
            return;
        }
        for m in 0..seen.len() {
            let memory = self.memory[m];
            if !memory.waits {
                continue;
            }
            if seen[m].state != State::Restarting {
                self.memory[m].waits = false; // it was revived
                self.memory[m].told = false;
                continue;
            }
            if memory.told || !self.may_begin(seen, m) {
                continue;
            }
            if seen[m].due > now {
                look.again = Some(look.again.map_or(seen[m].due, |again| again.min(seen[m].due)));
                continue;
            }
            self.memory[m].told = true;
            self.memory[m].revived = true;
            look.actions.push(Action::Revive(m));
        }
    }

    fn cancel_due(&mut self, seen: &[Seen], left: Nanos, until: Nanos, look: &mut Look) {
        let down = |m: usize| matches!(seen[m].state, State::Stopped | State::Failed | State::Abandoned);
        let left = if until == NEVER { NEVER } else { left };
        for m in (0..seen.len()).rev() {
            if down(m) {
                self.memory[m].ended = true;
                continue;
            }
            // One that was never started holds nobody up, and is held up by nobody.
            let in_use =
                (0..seen.len()).any(|other| !down(other) && seen[other].state != State::New && self.needs(other, m));
            if !self.memory[m].told && (seen[m].state == State::New || !in_use) {
                self.memory[m].told = true;
                look.actions.push(Action::Cancel(m, self.share(m, left)));
            }
        }
    }

    /// The state that the group shows.
    pub(crate) fn state(&self, seen: &[Seen]) -> State {
        let any = |state: State| seen.iter().any(|member| member.state == state);
        match self.mode {
            Mode::New => State::New,
            Mode::Up => {
                let settled = |m: usize| match seen[m].state {
                    State::Running | State::Stopped => true,
                    State::Failed | State::Abandoned => self.keep_going,
                    State::Stopping => !self.memory[m].pulled && !seen[m].failed && self.memory[m].ready,
                    _ => false,
                };
                if any(State::Abandoned) {
                    State::Abandoned
                } else if (0..seen.len()).all(settled) {
                    State::Running
                } else {
                    State::Starting
                }
            }
            Mode::Down { .. }
                if seen.iter().any(|member| !member.state.is_final() && member.state != State::Abandoned) =>
            {
                State::Stopping
            }
            Mode::Down { .. } if any(State::Abandoned) => State::Abandoned,
            Mode::Down { .. } if self.failed.is_some() => State::Failed,
            Mode::Down { .. } => State::Stopped,
        }
    }
}

#[cfg(test)]
mod tests;
