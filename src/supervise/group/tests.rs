//! Groups over a virtual clock: pods as simple as can be, which carry out what [`Course`] decides, and a model that knows the
//! contract's rules and nothing of how they are kept.

mod pods;

use super::*;
use pods::{Dice, Next, Pod};

fn is_down(state: State) -> bool {
    matches!(state, State::Stopped | State::Failed | State::Abandoned)
}
fn is_alive(state: State) -> bool {
    matches!(state, State::Starting | State::Running | State::Stopping)
}

/// What the contract says of the members, in the order of the looks.
#[derive(Default)]
struct Model {
    was_ready: Vec<bool>,
    ended: Vec<bool>,
    /// The life after which its restart was noted.
    noted: Vec<Option<u32>>,
    to_pull: Vec<bool>,
    goes_down: bool,
    until: Nanos,
    started: Vec<bool>,
    revived: Vec<Option<u32>>,
    pulls: Vec<Option<u32>>,
    cancelled: Vec<bool>,
    /// A start was refused: that member failed first, though it shows no failure.
    refused: bool,
}

struct World {
    course: Course,
    pods: Vec<Pod>,
    model: Model,
    now: Nanos,
    dice: Dice,
    steps: u64,
    story: Vec<String>,
}

impl World {
    fn random(seed: u64) -> World {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let strategy = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne][dice.below(3) as usize];
        let grace = [0, 0, 3, 30, 1000, NEVER][dice.below(6) as usize];
        let mut course = Course::new(strategy, dice.one_in(3), grace);
        let (count, restless) = (dice.below(8) as usize, 1 + dice.below(4));
        let mut pods = Vec::new();
        for m in 0..count {
            let grace = [0, 1, 5, 50, 1000, NEVER][dice.below(6) as usize];
            let after = (0..m).filter(|_| dice.one_in(3)).collect();
            course.add(Member { after, significant: dice.one_in(5), restarts: true, grace });
            pods.push(Pod::random(grace, restless, &mut dice));
        }
        let model = Model {
            was_ready: vec![false; count],
            ended: vec![false; count],
            noted: vec![None; count],
            to_pull: vec![false; count],
            started: vec![false; count],
            revived: vec![None; count],
            pulls: vec![None; count],
            cancelled: vec![false; count],
            ..Model::default()
        };
        World { course, pods, model, now: 1, dice, steps: 0, story: Vec::new() }
    }

    fn seen(&self) -> Vec<Seen> {
        let look = |pod: &Pod| Seen {
            state: pod.state,
            failed: pod.failed,
            ready: pod.ready,
            life: pod.life,
            due: pod.due,
            since: pod.since,
        };
        self.pods.iter().map(look).collect()
    }

    /// By the members' own words alone, each time anew.
    fn needs(&self, m: usize, other: usize) -> bool {
        self.course.members[m].after.iter().any(|&d| d == other || self.needs(d, other))
    }
    fn longest(&self, m: usize) -> Nanos {
        let members = &self.course.members;
        members[m].grace.saturating_add(members[m].after.iter().map(|&d| self.longest(d)).max().unwrap_or(0))
    }
    fn goes_along(&self, cause: usize, other: usize) -> bool {
        match self.course.strategy {
            Strategy::OneForOne => false,
            Strategy::OneForAll => cause != other,
            Strategy::RestForOne => cause < other,
        }
    }
    /// Its next life was asked for, and has not begun.
    fn comes(&self, shown: &Seen, m: usize) -> bool {
        shown.state == State::Restarting && self.model.revived[m] == Some(shown.life)
    }
    fn stop_begins(&mut self, seen: &[Seen]) {
        if std::mem::replace(&mut self.model.goes_down, true) {
            return;
        }
        let budget = match self.course.grace {
            0 => (0..seen.len()).map(|m| self.longest(m)).max().unwrap_or(0),
            grace => grace,
        };
        self.model.until = self.now.saturating_add(budget);
    }

    /// The rules, before the look at the same states.
    fn foresee(&mut self, seen: &[Seen]) {
        if self.model.goes_down {
            return;
        }
        let mut ends = false;
        for (m, shown) in seen.iter().enumerate() {
            self.model.was_ready[m] |= shown.ready;
            if shown.state == State::Restarting && self.model.noted[m] != Some(shown.life) {
                self.model.noted[m] = Some(shown.life);
                if !std::mem::take(&mut self.model.to_pull[m]) {
                    for (other, its) in seen.iter().enumerate() {
                        let runs = matches!(its.state, State::Starting | State::Running) || self.comes(its, other);
                        self.model.to_pull[other] |= runs && self.goes_along(m, other);
                    }
                }
            }
            if is_down(shown.state) && !std::mem::replace(&mut self.model.ended[m], true) {
                self.model.to_pull[m] = false;
                let clean = shown.state == State::Stopped;
                let waited_for = seen.iter().enumerate().any(|(o, its)| its.state == State::New && self.needs(o, m));
                ends |= clean && self.course.members[m].significant;
                ends |= !clean && !self.course.keep_going;
                ends |= !self.model.was_ready[m] && waited_for;
            }
        }
        if ends {
            self.stop_begins(seen);
        }
    }

    fn check(&mut self, action: Action, seen: &[Seen]) {
        let now = self.now;
        let up = |w: &World, d: usize| match seen[d].state {
            State::Running => !w.model.to_pull[d],
            State::Stopped | State::Failed => w.model.was_ready[d],
            _ => false,
        };
        let in_use = |w: &World, m: usize| {
            let user = |o: usize| (is_alive(seen[o].state) || w.comes(&seen[o], o)) && w.needs(o, m);
            (0..seen.len()).find(|&o| user(o))
        };
        match action {
            Action::Start(m) => {
                assert!(!self.model.goes_down, "no start on the way down");
                assert_eq!(seen[m].state, State::New);
                assert!(!std::mem::replace(&mut self.model.started[m], true), "started twice");
                assert!((0..m).all(|d| !self.needs(m, d) || up(self, d)), "started too early");
            }
            Action::Revive(m) => {
                assert!(!self.model.goes_down, "no other life on the way down");
                assert_eq!(seen[m].state, State::Restarting);
                assert_ne!(self.model.revived[m].replace(seen[m].life), Some(seen[m].life), "revived twice");
                assert!(seen[m].due <= now, "before its delay is over");
                assert!((0..m).all(|d| !self.needs(m, d) || up(self, d)), "came back too early");
                assert!(!self.model.to_pull.contains(&true), "those that go along are not down yet");
            }
            Action::Pull(m) => {
                assert!(!self.model.goes_down && self.model.to_pull[m], "nothing takes it along");
                assert!(matches!(seen[m].state, State::Starting | State::Running));
                assert_ne!(self.model.pulls[m].replace(seen[m].life), Some(seen[m].life), "pulled twice");
                assert_eq!(in_use(self, m), None, "pulled before those that need it are down");
            }
            Action::Cancel(m, grace) => {
                assert!(self.model.goes_down, "nothing ends the group");
                assert!(!std::mem::replace(&mut self.model.cancelled[m], true), "cancelled twice");
                if seen[m].state != State::New {
                    assert_eq!(in_use(self, m), None, "stopped before those that need it are down");
                }
                let (own, longest) = (self.course.members[m].grace, self.longest(m));
                let left = self.model.until.saturating_sub(now);
                let share = match () {
                    () if self.model.until == NEVER || longest == 0 => own,
                    () if longest == NEVER => own.min(left),
                    () => own.min((left as u128 * own as u128 / longest as u128) as Nanos),
                };
                assert_eq!(grace, share);
                assert!(grace == own || now + grace <= self.model.until, "more than is left of the budget");
            }
        }
    }

    fn act(&mut self, action: Action) {
        let (now, dice) = (self.now, &mut self.dice);
        match action {
            Action::Start(m) if self.pods[m].state == State::New => {
                if dice.one_in(100) {
                    let seen = self.seen();
                    self.course.refused(m, now);
                    self.model.refused = true;
                    self.stop_begins(&seen);
                    return;
                }
                self.pods[m].begins(now, dice);
            }
            Action::Start(_) => {} // cancelled meanwhile
            Action::Pull(m) => {
                if matches!(self.pods[m].state, State::Starting | State::Running) {
                    self.pods[m].pulled = true;
                    self.pods[m].stops(false, now, dice);
                }
            }
            Action::Revive(m) => {
                if self.pods[m].state == State::Restarting {
                    self.pods[m].next = Next::Revives;
                    self.pods[m].at = now + dice.delay();
                }
            }
            Action::Cancel(m, grace) => {
                self.pods[m].grace = grace;
                self.pods[m].is_cancelled(now, dice);
                // One that was STOPPING before is held to the budget from now on.
                self.pods[m].limit = self.pods[m].limit.min(now.saturating_add(grace));
            }
        }
    }

    /// What the driver does when it is rung; when it wants to look again.
    fn drive(&mut self) -> Nanos {
        let mut again = NEVER;
        loop {
            let seen = self.seen();
            self.foresee(&seen);
            let look = self.course.look(&seen, self.now);
            assert_eq!(matches!(self.course.mode, Mode::Down { .. }), self.model.goes_down, "who ends the group");
            self.check_state(&seen);
            for &action in &look.actions {
                self.check(action, &seen);
            }
            let more = self.course.clone().look(&seen, self.now).actions;
            assert_eq!(more, [], "the same look twice");
            again = again.min(look.again.unwrap_or(NEVER));
            if look.actions.is_empty() {
                return again;
            }
            for action in look.actions {
                self.note(format!("{action:?}"));
                while self.dice.one_in(4) && self.world_moves(self.now) {}
                self.act(action);
                self.steps += 1;
            }
        }
    }

    fn check_state(&self, seen: &[Seen]) {
        let shown = self.course.state(seen);
        let all = |good: &dyn Fn(State) -> bool| seen.iter().all(|member| good(member.state));
        let any = |state: State| seen.iter().any(|member| member.state == state);
        let failed = any(State::Failed) || self.course.failed.is_some();
        match shown {
            State::New | State::Restarting => panic!("a group that was started is never {shown:?}"),
            State::Starting => {
                assert!(!self.model.goes_down && !all(&|s| matches!(s, State::Running | State::Stopped)), "STARTING")
            }
            State::Running => {
                assert!(!self.model.goes_down && !any(State::New) && !any(State::Starting), "RUNNING");
                assert!(!any(State::Restarting) && !any(State::Abandoned), "RUNNING");
                assert!(self.course.keep_going || !any(State::Failed), "RUNNING");
            }
            State::Stopping => assert!(self.model.goes_down && !all(&is_down), "STOPPING"),
            State::Stopped => assert!(self.model.goes_down && all(&|s| s == State::Stopped) && !failed, "STOPPED"),
            State::Failed => assert!(self.model.goes_down && all(&State::is_final) && failed, "FAILED"),
            State::Abandoned => assert!(any(State::Abandoned), "ABANDONED"),
        }
        if let Some(first) = self.course.failed {
            assert!(matches!(seen[first].state, State::Failed | State::Abandoned) || self.model.started[first]);
            let earliest = seen.iter().map(|member| member.since).min();
            assert!(self.model.refused || earliest == Some(seen[first].since), "the first to fail is told");
        }
    }

    fn note(&mut self, what: String) {
        self.story.push(format!("{:5} {what}", self.now));
    }

    /// One thing that is due by then happens to a pod. False: there is none.
    fn world_moves(&mut self, by: Nanos) -> bool {
        let first = self.pods.iter().map(Pod::moment).min().unwrap_or(NEVER);
        if first == NEVER || first > by {
            return false;
        }
        let ready: Vec<usize> = (0..self.pods.len()).filter(|&m| self.pods[m].moment() == first).collect();
        let m = ready[self.dice.below(ready.len() as u64) as usize];
        self.now = self.now.max(first);
        if self.model.goes_down && first > self.model.until {
            let late = |pod: &Pod| !is_down(pod.state);
            assert!(!self.pods.iter().any(late), "the whole stop has one budget, to {}", self.model.until);
        }
        self.pods[m].moves(self.now, &mut self.dice);
        self.note(format!("{m} is {:?}", self.pods[m].state));
        self.steps += 1;
        true
    }

    /// Until nothing more happens by itself.
    fn goes_on(&mut self, moves: &mut u32) {
        let (mut rung, mut again) = (true, NEVER);
        while *moves > 0 {
            *moves -= 1;
            if (rung || again <= self.now) && self.dice.one_in(3) {
                again = self.drive();
                rung = false;
            } else if self.world_moves(if rung { self.now } else { again }) {
                rung = true;
            } else if !rung {
                match again {
                    NEVER => return,
                    at => self.now = self.now.max(at),
                }
            }
            if self.dice.one_in(60) && !self.pods.is_empty() {
                let m = self.dice.below(self.pods.len() as u64) as usize;
                self.note(format!("{m} is cancelled by hand"));
                self.pods[m].is_cancelled(self.now, &mut self.dice);
                rung = true;
            }
        }
        self.drive();
    }

    /// Nothing happens any more: whatever could be done was done.
    fn check_rest(&self) {
        let seen = self.seen();
        let left = |state: State| (0..seen.len()).filter(move |&m| self.pods[m].state == state);
        if self.model.goes_down {
            // Who never ends without force, and has no limit, is all that may be left; and those it needs.
            let endless = |o: usize| self.pods[o].state == State::Stopping && self.pods[o].limit == NEVER;
            for m in 0..seen.len() {
                let held_up = (0..seen.len()).any(|o| endless(o) && self.needs(o, m));
                assert!(is_down(seen[m].state) || endless(m) || held_up, "{m} is left behind");
            }
            return;
        }
        let stuck = |d: usize| matches!(seen[d].state, State::Abandoned | State::Stopping | State::Starting);
        for m in left(State::Restarting).chain(left(State::New)) {
            let waits = (0..seen.len()).any(|d| stuck(d) && (self.needs(m, d) || self.model.to_pull.contains(&true)));
            assert!(waits, "{m} waits for nothing");
        }
        if seen.iter().all(|member| member.state == State::Running) {
            assert_eq!(self.course.state(&seen), State::Running);
        }
    }

    fn lives(&mut self) {
        self.course.start();
        let mut moves = 20 + self.dice.below(200) as u32;
        self.goes_on(&mut moves);
        if moves > 0 {
            self.check_rest();
        }
        let seen = self.seen();
        self.note("the group is cancelled".into());
        self.course.stop(self.now);
        self.stop_begins(&seen);
        let mut moves = 3000;
        self.goes_on(&mut moves);
        assert!(moves > 0, "it never comes to rest");
        self.check_rest();
    }
}

#[test]
fn a_million_steps_of_random_groups_against_a_simple_model() {
    let (mut steps, mut seed) = (0, 0);
    while steps < 1_000_000 {
        seed += 1;
        let mut world = World::random(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.lives()));
        if outcome.is_err() {
            let from = world.story.len().saturating_sub(60);
            panic!(
                "seed {seed}: {:?} {:?}\n{}",
                world.course.strategy,
                world.course.members,
                world.story[from..].join("\n")
            );
        }
        steps += world.steps;
    }
}

/// A group of pods that do as they are told at once.
fn course(strategy: Strategy, keep_going: bool, members: &[(&[usize], bool)]) -> (Course, Vec<Seen>) {
    let mut course = Course::new(strategy, keep_going, 0);
    for &(after, significant) in members {
        course.add(Member { after: after.to_vec(), significant, restarts: true, grace: 10 });
    }
    course.start();
    (
        course,
        vec![Seen { state: State::New, failed: false, ready: false, life: 0, due: 0, since: NEVER }; members.len()],
    )
}

/// Carries out what is decided until nothing is left to do; the order in which it was.
fn settle(course: &mut Course, seen: &mut [Seen]) -> Vec<Action> {
    let mut all = Vec::new();
    loop {
        let actions = course.look(seen, 1).actions;
        if actions.is_empty() {
            return all;
        }
        for &action in &actions {
            match action {
                Action::Start(m) => seen[m] = Seen { state: State::Running, ready: true, ..seen[m] },
                Action::Pull(m) => seen[m].state = State::Restarting,
                Action::Revive(m) => {
                    seen[m] = Seen { state: State::Running, ready: true, life: seen[m].life + 1, ..seen[m] };
                }
                Action::Cancel(m, _) => seen[m].state = State::Stopped,
            }
        }
        all.extend(actions);
    }
}

const CHAIN: &[(&[usize], bool)] = &[(&[], false), (&[0], false), (&[1], false), (&[2], false), (&[3], false)];

#[test]
fn strategies_take_exactly_the_right_members_along() {
    use Action::*;
    let (one, rest, all) = (Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll);
    let pulls_and_revives =
        [(one, vec![], vec![2]), (rest, vec![4, 3], vec![2, 3, 4]), (all, vec![4, 3, 1, 0], vec![0, 1, 2, 3, 4])];
    for (strategy, down, up) in pulls_and_revives {
        let (mut course, mut seen) = course(strategy, false, CHAIN);
        assert_eq!(settle(&mut course, &mut seen), [0, 1, 2, 3, 4].map(Start));
        seen[2].state = State::Restarting;
        let wanted: Vec<Action> = down.into_iter().map(Pull).chain(up.into_iter().map(Revive)).collect();
        assert_eq!(settle(&mut course, &mut seen), wanted, "{strategy:?}");
        course.stop(1);
        assert_eq!(
            settle(&mut course, &mut seen),
            [(4, 10), (3, 10), (2, 10), (1, 10), (0, 10)].map(|(m, grace)| Cancel(m, grace))
        );
    }
}

#[test]
fn who_ends_the_group() {
    for (significant, keep_going, failed) in
        [false, true].into_iter().flat_map(|a| [(a, false, false), (a, false, true), (a, true, false), (a, true, true)])
    {
        let (mut course, mut seen) = course(Strategy::OneForOne, keep_going, &[(&[], significant), (&[0], false)]);
        settle(&mut course, &mut seen);
        seen[0] = Seen { state: if failed { State::Failed } else { State::Stopped }, failed, ..seen[0] };
        let ends = if failed { !keep_going } else { significant };
        let actions = settle(&mut course, &mut seen);
        assert_eq!(!actions.is_empty(), ends, "significant {significant}, keep_going {keep_going}, failed {failed}");
        let state = match (ends, failed) {
            (false, _) => State::Running,
            (true, false) => State::Stopped,
            (true, true) => State::Failed,
        };
        assert_eq!(course.state(&seen), state);
        assert_eq!(course.failed, failed.then_some(0));
        course.stop(1);
        settle(&mut course, &mut seen);
        assert_eq!(course.state(&seen), if failed { State::Failed } else { State::Stopped });
    }
}

#[test]
fn the_first_of_those_that_failed_between_two_looks() {
    for (since, first) in [([3, 7, 5], 0), ([7, 5, 3], 2), ([5, 3, 7], 1)] {
        let (mut course, mut seen) = course(Strategy::OneForOne, true, &[(&[], false), (&[], false), (&[], false)]);
        settle(&mut course, &mut seen);
        for (member, since) in seen.iter_mut().zip(since) {
            *member = Seen { state: State::Failed, failed: true, since, ..*member };
        }
        course.look(&seen, 9);
        assert_eq!(course.failed, Some(first), "failed at {since:?}");
        seen[(first + 1) % 3].since = 1;
        course.look(&seen, 9);
        assert_eq!(course.failed, Some(first), "what was told stays");
    }
}

#[test]
fn a_life_that_was_over_between_two_looks_is_followed_by_another() {
    let (mut course, mut seen) = course(Strategy::OneForOne, false, &[(&[], false)]);
    settle(&mut course, &mut seen);
    for life in 0..3 {
        seen[0] = Seen { state: State::Restarting, life, ready: false, ..seen[0] };
        assert_eq!(course.look(&seen, 1).actions, [Action::Revive(0)], "life {life}");
        assert_eq!(course.look(&seen, 1).actions, []);
    }
}

#[test]
fn ready_counts_though_nobody_looked() {
    let (mut course, mut seen) = course(Strategy::OneForOne, false, &[(&[], false), (&[0], false)]);
    assert_eq!(course.look(&seen, 1).actions, [Action::Start(0)]);
    seen[0] = Seen { state: State::Stopped, ready: true, ..seen[0] };
    assert_eq!(course.look(&seen, 1).actions, [Action::Start(1)]);
    assert_eq!(course.state(&seen), State::Starting);
}

#[test]
fn many_members_that_each_need_all_before() {
    let all: Vec<usize> = (0..300).collect();
    let members: Vec<(&[usize], bool)> = (0..300).map(|m| (&all[..m], false)).collect();
    let (mut course, mut seen) = course(Strategy::OneForAll, false, &members);
    assert_eq!(settle(&mut course, &mut seen).len(), 300);
    course.stop(1);
    assert_eq!(settle(&mut course, &mut seen).len(), 300);
}
