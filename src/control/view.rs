//! Pods, groups and failures as `proto/` describes them.

use std::sync::atomic::{AtomicI64, Ordering::*};
use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::{Duration, Timestamp};

use super::names::{Key, Names};
use super::proto::v1;
use crate::failure::Failure;
use crate::host::main;
use crate::lifecycle::State;
use crate::linux::{self, NEVER, Nanos};
use crate::supervise::driver::Group;
use crate::table::PodRef;
use crate::world::lock;

const SECOND: i128 = 1_000_000_000;

/// Between two looks at both clocks some time passes; more than this, and one of them was set.
const SET: i64 = 1_000_000;

/// A moment of the monotonic clock by the calendar, the same whenever it is asked for.
pub(super) fn timestamp(at: Nanos) -> Timestamp {
    static BETWEEN: AtomicI64 = AtomicI64::new(0);
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
    let (now, before) = (wall.wrapping_sub(linux::now() as i64), BETWEEN.load(Relaxed));
    let between = if (now - before).abs() > SET { now } else { before };
    BETWEEN.store(between, Relaxed);
    let at = between as i128 + at as i128;
    Timestamp { seconds: at.div_euclid(SECOND) as i64, nanos: at.rem_euclid(SECOND) as i32 }
}

/// 0: never.
fn since(at: Nanos) -> Option<Timestamp> {
    (at != 0).then(|| timestamp(at))
}

fn span(nanos: Nanos) -> Duration {
    Duration { seconds: (nanos as i128 / SECOND) as i64, nanos: (nanos as i128 % SECOND) as i32 }
}

/// In `proto/` 0 stands for what was not said; the rest keeps its order.
pub(super) fn state(state: State) -> i32 {
    state as i32 + 1
}

/// A failure and what hangs on it. What a child wrote to stderr is the same for all of them, and is told once.
pub(super) fn failures(failure: Option<Failure>, stderr: bool) -> Vec<v1::Failure> {
    let mut told = !stderr;
    std::iter::successors(failure, Failure::secondary)
        .map(|failure| v1::Failure {
            pod: failure.pod_name().to_owned(),
            incarnation: failure.incarnation(),
            phase: failure.phase() as i32 + 1,
            kind: failure.kind() as i32 + 1,
            code: failure.code(),
            message: if stderr { failure.message() } else { failure.summary() }.to_owned(),
            stderr: if std::mem::replace(&mut told, true) { String::new() } else { failure.stderr().to_owned() },
        })
        .collect()
}

/// `whole`: with what its child wrote to stderr.
pub(super) fn pod(pod: &PodRef, names: &Names, whole: bool) -> v1::Pod {
    let life = pod.life();
    let now = linux::now();
    let entered = if life.state() == State::New { 0 } else { pod.entered_at(life.state()) };
    let time_left = (life.state() == State::Stopping).then(|| pod.stop_deadline()).filter(|&at| at != NEVER);
    let cell = pod.cell();
    let host = match () {
        _ if cell.process.is_some() || cell.link.is_some() => v1::Host::Process,
        _ if main::is_main(pod) => v1::Host::Main,
        _ => v1::Host::Thread,
    };
    let group = cell.group.load(Acquire);
    let status = lock(&cell.cold).status.as_deref().unwrap_or_default().to_owned();
    v1::Pod {
        name: names.get(Key::Pod(pod.handle())).as_deref().unwrap_or(pod.name()).to_owned(),
        state: state(life.state()),
        phase: pod.phase() as i32 + 1,
        status,
        incarnation: pod.incarnation(),
        restarts: pod.incarnation(),
        failures: failures(pod.failure(), whole),
        started: since(pod.starting_at.load(Relaxed)),
        ready: since(pod.running_at.load(Relaxed)),
        entered: since(entered),
        time_left: time_left.map(|at| span(at.saturating_sub(now))),
        host: host as i32,
        id: pod.kernel_id(),
        group: if group == 0 { None } else { names.get(Key::Group(group)) }.as_deref().unwrap_or_default().to_owned(),
        heartbeat: since(pod.last_heartbeat()),
    }
}

pub(super) fn group(group: &Group, names: &Names) -> v1::Group {
    let name = |pod: &PodRef| names.get(Key::Pod(pod.handle())).as_deref().unwrap_or(pod.name()).to_owned();
    v1::Group {
        name: names.get(Key::Group(group.number())).as_deref().unwrap_or_default().to_owned(),
        state: state(group.state()),
        members: group.members().iter().map(name).collect(),
        failures: failures(group.failure(), false),
    }
}

/// How it has ended, if it has: nothing follows but that an ABANDONED thread comes back.
pub(super) fn end(state: State) -> Option<State> {
    (state.is_final() || state == State::Abandoned).then_some(state)
}
