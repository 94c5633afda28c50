//! Restarts: whether an incarnation is followed by another, and when (contract section 8). Pure: the caller has the clock
//! and the dice.
//!
//! Rules taken from: OTP (a sliding window of restarts, more than its number is the end), systemd and Kubernetes (a delay
//! that doubles up to a cap and is forgotten after a healthy stretch), suture (jitter).

use std::collections::VecDeque;

use crate::linux::Nanos;

/// When another life follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(i32)]
pub enum Restart {
    /// Never.
    #[default]
    Never = 0,
    /// After a failure.
    OnFailure = 1,
    /// After any end but one that a user asked for.
    Always = 2,
}

/// A pod's policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Policy {
    pub(crate) restart: Restart,
    /// At most so many restarts in `window`; u32::MAX: any number.
    pub(crate) most: u32,
    pub(crate) window: Nanos,
    /// The first delay, which doubles up to `backoff_max`.
    pub(crate) backoff: Nanos,
    pub(crate) backoff_max: Nanos,
}

/// What the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) failed: bool,
    /// A user asked for the end, or the thread was let go.
    pub(crate) barred: bool,
    /// For how long it was RUNNING.
    pub(crate) healthy: Nanos,
    pub(crate) now: Nanos,
    /// Of a die with as many sides: drawn anew for each end.
    pub(crate) die: u32,
}

/// What follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing: the end is the pod's.
    Final,
    /// Another life, after that time.
    Again(Nanos),
    /// Another life would be due, but there is no room: so many in the window.
    NoRoom(u32),
}

/// What a pod's ends have been.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct History {
    /// The restarts in the window.
    restarts: VecDeque<Nanos>,
    /// Restarts since the last healthy stretch: how often the delay has doubled.
    streak: u32,
}

impl Policy {
    /// Whether an end like this could be followed by another life, room aside.
    pub(crate) fn wants(&self, failed: bool) -> bool {
        match self.restart {
            Restart::Never => false,
            Restart::OnFailure => failed,
            Restart::Always => true,
        }
    }

    /// RUNNING for one window: the delay begins anew.
    pub(crate) fn rest(&self, history: &mut History, healthy: Nanos) {
        if self.window > 0 && healthy >= self.window {
            history.streak = 0;
        }
    }

    /// Decides, and remembers.
    pub(crate) fn decide(&self, history: &mut History, end: End) -> Verdict {
        if end.barred || !self.wants(end.failed) {
            return Verdict::Final;
        }
        self.rest(history, end.healthy);
        let begin = end.now.saturating_sub(self.window);
        while history.restarts.front().is_some_and(|&at| at <= begin && end.now >= self.window) {
            history.restarts.pop_front();
        }
        if self.most != u32::MAX {
            if history.restarts.len() >= self.most as usize {
                return Verdict::NoRoom(history.restarts.len() as u32);
            }
            history.restarts.push_back(end.now);
        }
        let delay =
            self.backoff.saturating_mul(1u64.checked_shl(history.streak).unwrap_or(u64::MAX)).min(self.backoff_max);
        history.streak = history.streak.saturating_add(1).min(63);
        // From 75 to 100 % of it: pods that failed together do not come back together.
        let quarter = delay / 4;
        Verdict::Again(delay - (quarter as u128 * end.die as u128 / u32::MAX as u128) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;
    const POLICY: Policy =
        Policy { restart: Restart::OnFailure, most: 3, window: 60 * SECOND, backoff: SECOND / 10, backoff_max: SECOND };

    fn failure(now: Nanos, healthy: Nanos) -> End {
        End { failed: true, barred: false, healthy, now, die: 0 }
    }

    #[test]
    fn the_contracts_table() {
        use Restart::*;
        for (restart, failed, barred, again) in [
            (Never, false, false, false),
            (Never, true, false, false),
            (OnFailure, false, false, false),
            (OnFailure, true, false, true),
            (Always, false, false, true),
            (Always, true, false, true),
            (OnFailure, true, true, false),
            (Always, true, true, false),
            (Always, false, true, false),
        ] {
            let end = End { failed, barred, ..failure(SECOND, 0) };
            let verdict = Policy { restart, ..POLICY }.decide(&mut History::default(), end);
            assert_eq!(matches!(verdict, Verdict::Again(_)), again, "{restart:?} {failed} {barred}");
        }
    }

    #[test]
    fn the_delay_doubles_up_to_its_cap_and_a_healthy_stretch_forgets() {
        let policy = Policy { most: u32::MAX, ..POLICY };
        let mut history = History::default();
        let mut delays = |healthy| match policy.decide(&mut history, failure(100 * SECOND, healthy)) {
            Verdict::Again(delay) => delay / (SECOND / 10),
            verdict => panic!("{verdict:?}"),
        };
        assert_eq!([delays(0), delays(0), delays(0), delays(0), delays(0), delays(0)], [1, 2, 4, 8, 10, 10]);
        assert_eq!([delays(59 * SECOND), delays(60 * SECOND), delays(0)], [10, 1, 2]);
    }

    #[test]
    fn the_window_slides() {
        let mut history = History::default();
        let mut at = |second: u64| POLICY.decide(&mut history, failure(second * SECOND, 0));
        assert!([0, 1, 2].map(&mut at).iter().all(|verdict| matches!(verdict, Verdict::Again(_))));
        assert_eq!(at(3), Verdict::NoRoom(3));
        assert!(matches!(at(60), Verdict::Again(_)), "the first has left the window");
        assert_eq!(at(60), Verdict::NoRoom(3));
        assert!(matches!(at(61), Verdict::Again(_)));
    }

    #[test]
    fn jitter_takes_up_to_a_quarter() {
        for (die, percent) in [(0, 100), (u32::MAX / 2, 87), (u32::MAX, 75)] {
            let end = End { die, ..failure(SECOND, 0) };
            let Verdict::Again(delay) = POLICY.decide(&mut History::default(), end) else { panic!() };
            assert_eq!(delay * 100 / POLICY.backoff, percent);
        }
    }

    /// The rules once more, said as simply as can be, over a million ends of random pods.
    #[test]
    fn a_million_ends_against_a_simple_model() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..10_000 {
            let policy = Policy {
                restart: [Restart::Never, Restart::OnFailure, Restart::Always][random(3) as usize],
                most: [0, 1, 2, 8, u32::MAX][random(5) as usize],
                window: [1, 10, 1000][random(3) as usize],
                backoff: random(5),
                backoff_max: random(40),
            };
            let (mut history, mut now) = (History::default(), random(3));
            let (mut all, mut doubled): (Vec<Nanos>, u32) = (Vec::new(), 0);
            for _ in 0..100 {
                now += random(30);
                let end = End {
                    failed: random(2) == 0,
                    barred: random(20) == 0,
                    healthy: random(2 * policy.window),
                    now,
                    die: random(1 << 32) as u32,
                };
                let verdict = policy.decide(&mut history, end);

                let due = match policy.restart {
                    Restart::Never => false,
                    Restart::OnFailure => end.failed,
                    Restart::Always => true,
                } && !end.barred;
                if !due {
                    assert_eq!(verdict, Verdict::Final);
                    continue;
                }
                if end.healthy >= policy.window {
                    doubled = 0;
                }
                let recent = all.iter().filter(|&&at| at + policy.window > now).count();
                if policy.most != u32::MAX && recent >= policy.most as usize {
                    assert_eq!(verdict, Verdict::NoRoom(recent as u32));
                    continue;
                }
                all.push(now);
                let whole =
                    (policy.backoff as u128 * (1u128 << doubled.min(64))).min(policy.backoff_max as u128) as u64;
                doubled += 1;
                let Verdict::Again(delay) = verdict else { panic!("{verdict:?}") };
                assert!(delay <= whole && delay >= whole - whole / 4, "{delay} of {whole}");
            }
        }
    }
}
