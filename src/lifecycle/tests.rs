//! Every reachable state word, held against the contract's table.

use super::*;
use std::collections::{HashMap, HashSet, VecDeque};

const EVENTS: &[Event] = &[
    Event::Claim,
    Event::Unclaim,
    Event::Launch,
    Event::EnterInit,
    Event::Ready,
    Event::InitOk,
    Event::InitNot { failed: true, again: false },
    Event::InitNot { failed: false, again: false },
    Event::InitNot { failed: true, again: true },
    Event::HookBegin,
    Event::HookDone { failed: false },
    Event::HookFail,
    Event::RunReturned { failed: false },
    Event::RunReturned { failed: true },
    Event::HookJoined,
    Event::End { failed: false, again: false },
    Event::End { failed: true, again: false },
    Event::End { failed: false, again: true },
    Event::End { failed: true, again: true },
    Event::Died { again: false },
    Event::Died { again: true },
    Event::Revive,
    Event::SiblingStop,
    Event::Due,
    Event::GiveUp,
    Event::WatchdogMiss,
    Event::Stop,
    Event::ReadyTimeout,
    Event::GraceSpent,
    Event::Bar,
];

/// What S and the hook's thread may do by themselves is ordered; this says which events are possible at a word.
fn possible(life: Life, event: Event) -> bool {
    let launched = life.has(WAS_STARTING);
    match event {
        Event::Unclaim => life.claimed() && !launched,
        Event::InitOk | Event::InitNot { .. } => life.seat() == Seat::Init && !life.context_over(),
        // Of a child the host may hear of its end alone.
        Event::RunReturned { .. } => (life.seat() == Seat::Run || life.is_afar() && launched) && !life.context_over(),
        Event::HookDone { .. } => life.hook_running(),
        Event::HookJoined => life.seat() == Seat::Hook && !life.hook_running(),
        Event::End { .. } => {
            !life.context_over()
                && (life.seat() == Seat::Teardown
                    || life.seat() == Seat::Barred
                    || (life.seat() == Seat::Nowhere && life.stop_asked()))
        }
        Event::Died { .. } => launched && life.seat() != Seat::Nowhere,
        _ => true,
    }
}

fn reachable() -> HashMap<Life, Vec<(Event, Life)>> {
    let mut graph = HashMap::new();
    let mut queue = VecDeque::new();
    for notify in [false, true] {
        for hook in [false, true] {
            queue.push_back(Life::new(Traits { notify, hook, ..Traits::default() }));
        }
        queue.push_back(Life::new(Traits { notify, afar: true, ..Traits::default() }));
    }
    while let Some(life) = queue.pop_front() {
        if graph.contains_key(&life) {
            continue;
        }
        let edges: Vec<_> = EVENTS
            .iter()
            .filter(|&&e| possible(life, e))
            .filter_map(|&e| life.after(e).map(|next| (e, next)))
            .collect();
        queue.extend(edges.iter().map(|&(_, next)| next));
        graph.insert(life, edges);
    }
    graph
}

#[test]
fn l10_states_only_move_along_the_contracts_table() {
    use State::*;
    let allowed: HashSet<(State, State)> = [
        (New, Starting),
        (New, Stopped),
        (New, Stopping),
        (Starting, Running),
        (Starting, Stopping),
        (Starting, Stopped),
        (Starting, Failed),
        (Running, Stopping),
        (Running, Failed),
        (Stopping, Abandoned),
        (Stopping, Stopped),
        (Stopping, Failed),
        (Abandoned, Failed),
        (Starting, Restarting),
        (Stopping, Restarting),
        (Running, Restarting),
        (Restarting, Starting),
        (Restarting, Stopped),
        (Restarting, Failed),
    ]
    .into();
    let mut seen = HashSet::new();
    for (life, edges) in reachable() {
        for (event, next) in edges {
            if life.state() != next.state() {
                let edge = (life.state(), next.state());
                assert!(allowed.contains(&edge), "{event:?}: {edge:?}");
                seen.insert(edge);
            }
        }
    }
    // A clean CANCELLED out of init needs a stop, so STARTING never ends in STOPPED by itself.
    seen.insert((Starting, Stopped));
    assert_eq!(seen, allowed, "every row of the table is reached");
}

#[test]
fn l2_teardown_pairs_with_init_and_l9_the_hook_only_beside_run() {
    for (life, edges) in reachable() {
        for (event, next) in edges {
            let entered = next.seat() != life.seat();
            if entered && next.seat() == Seat::Teardown {
                assert!(matches!(event, Event::InitOk | Event::RunReturned { .. } | Event::HookJoined));
                assert!(!next.hook_running(), "S waits for the hook: {event:?}");
            }
            if entered && next.seat() == Seat::Run {
                assert_eq!((event, life.stop_asked()), (Event::InitOk, false));
            }
            if event == Event::HookBegin {
                assert!(life.seat() == Seat::Run && life.stop_asked());
            }
            if life.state().is_final() {
                assert_eq!(next.state(), life.state(), "{event:?} after the end");
            }
            if !life.state().is_final() && next.state().is_final() {
                assert!(!next.hook_running(), "the config may be dropped now: {event:?}");
                assert!(!next.hook_due());
            }
        }
    }
}

#[test]
fn l8_a_stop_is_seen_at_once_and_never_taken_back() {
    for (life, edges) in reachable() {
        if let Some(next) = life.after(Event::Stop) {
            assert!(next.stop_asked());
            assert_eq!(next.after(Event::Stop), None, "idempotent");
        }
        for (_, next) in edges.into_iter().filter(|&(_, next)| next.state() != State::Restarting) {
            if life.state() != State::Restarting {
                assert!(!life.stop_asked() || next.stop_asked());
                assert!(!life.failed() || next.failed());
            }
            assert!(!life.user_asked() || next.user_asked(), "what a user asked for is never taken back");
        }
    }
}

#[test]
fn once_running_is_shown_run_is_entered() {
    for life in reachable().into_keys() {
        if life.state() == State::Running {
            assert_eq!(life.seat(), Seat::Run);
        }
    }
}
