//! The driver of the groups: one library thread that looks at their members whenever one of them has changed, and does
//! what [`group`](super::group) decides. It calls no user's code: a drop that is due goes to the crew.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use super::group::{Action, Course, Member, Seen};
use super::restart::Restart;
use crate::cancel;
use crate::error::{Error, Result, Status};
use crate::explain::explain;
use crate::failure::{Failure, Kind};
use crate::host;
use crate::lifecycle::{Event, Life, Phase, State};
use crate::limit::Limit;
use crate::linux::{self, NEVER, Nanos};
use crate::monitor::Monitor;
use crate::role;
use crate::table::PodRef;
use crate::world::{World, lock};

/// All groups of a process that are on their way.
#[derive(Default)]
pub(crate) struct Groups {
    state: Mutex<State_>,
    bell: Condvar,
}

#[derive(Default)]
struct State_ {
    running: HashMap<u32, Arc<Group>>,
    /// Those that their owners have, and those that run.
    known: Vec<Weak<Group>>,
    next: u32,
    /// Something has changed since the driver looked.
    rung: bool,
    has_thread: bool,
}

/// Pods that live together.
pub(crate) struct Group {
    number: u32,
    pub(crate) name: &'static CStr,
    /// Its place in the order in which the process made pods and groups.
    #[cfg(feature = "grpc")]
    pub(crate) made: u64,
    inner: Mutex<Inner>,
    /// The shown state has changed.
    changed: Condvar,
}

struct Inner {
    course: Course,
    pods: Vec<PodRef>,
    shown: State,
    /// Why a member could not be started.
    refusal: Option<Failure>,
}

impl Groups {
    /// A member's state has changed. Cheap; not for signal handlers.
    pub(crate) fn ring(&self) {
        lock(&self.state).rung = true;
        self.bell.notify_one();
    }

    /// Asks all groups for their end: each goes down in its order.
    pub(crate) fn cancel_all(&self) {
        let running: Vec<Arc<Group>> = lock(&self.state).running.values().cloned().collect();
        for group in &running {
            let mut inner = lock(&group.inner);
            inner.course.stop(linux::now());
            group.show(&mut inner);
        }
        self.ring();
    }

    /// Whether the group of that number is on its way: its members are its own to stop.
    pub(crate) fn has(&self, number: u32) -> bool {
        number != 0 && lock(&self.state).running.contains_key(&number)
    }

    /// Every group there is, in the order in which they were made.
    #[cfg(feature = "grpc")]
    pub(crate) fn all(&self) -> Vec<Arc<Group>> {
        lock(&self.state).known.iter().filter_map(Weak::upgrade).collect()
    }

    fn ensure(&self, world: &'static World) -> Result<()> {
        let mut state = lock(&self.state);
        if !state.has_thread {
            // SAFETY: `enter` expects a world.
            unsafe { world.spawn_own(enter, ptr::from_ref(world).cast_mut().cast()) }
                .map_err(|e| Error::resources(format!("no thread for groups: {}", linux::describe(e))))?;
            state.has_thread = true;
        }
        Ok(())
    }
}

extern "C-unwind" fn enter(world: *mut c_void) -> *mut c_void {
    // SAFETY: `ensure` passes the world, which is never freed.
    let world: &'static World = unsafe { &*world.cast() };
    // SAFETY: this thread, which nobody joins.
    unsafe { linux::detach_thread(linux::this_thread()) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep-group");
    let groups = &world.groups;
    let mut again = NEVER;
    loop {
        let running: Vec<Arc<Group>> = {
            let mut state = lock(&groups.state);
            while !state.rung && linux::now() < again {
                state = match linux::until(again) {
                    None => groups.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => groups.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                };
            }
            state.rung = false;
            state.running.values().cloned().collect()
        };
        again = NEVER;
        for group in running {
            let next = group.drive(world);
            again = again.min(next);
            if group.is_over() {
                lock(&groups.state).running.remove(&group.number);
                crate::monitor::count_watcher(false);
            }
        }
    }
}

impl Group {
    pub(crate) fn new(name: &'static CStr, course: Course) -> Result<Arc<Group>> {
        let world = World::get()?;
        world.check_open()?;
        let inner = Mutex::new(Inner { course, pods: Vec::new(), shown: State::New, refusal: None });
        let mut state = lock(&world.groups.state);
        state.next += 1;
        let group = Arc::new(Group {
            number: state.next,
            name,
            #[cfg(feature = "grpc")]
            made: crate::world::next_made(),
            inner,
            changed: Condvar::new(),
        });
        if state.known.len() == state.known.capacity() {
            state.known.retain(|known| known.strong_count() > 0);
        }
        state.known.push(Arc::downgrade(&group));
        Ok(group)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Takes a pod in: NEW, in no group, of a name that no member has.
    pub(crate) fn add(&self, pod: &PodRef, after: &[&CStr], significant: bool) -> Result<()> {
        let mut inner = lock(&self.inner);
        if !inner.course.is_new() {
            return Err(Error::state(format!("group {:?} was started or cancelled: add members before", self.name())));
        }
        let name = pod.cell().name;
        if inner.pods.iter().any(|other| other.cell().name == name) {
            let name = pod.name();
            return Err(Error::argument(format!(
                "group {:?} has a member {name:?} already: give each a name",
                self.name()
            )));
        }
        let mut needs = Vec::new();
        for &wanted in after {
            match inner.pods.iter().position(|other| other.cell().name == wanted) {
                Some(at) => needs.push(at),
                None => {
                    let wanted = wanted.to_string_lossy();
                    return Err(Error::new(
                        Status::NotFound,
                        format!("options.after names {wanted:?}: no member of that name was added before"),
                    ));
                }
            }
        }
        if pod.life().state() != State::New || pod.life().claimed() {
            let state = pod.life().state().name();
            return Err(Error::state(format!("pod {:?} is {state}: a group takes pods that are NEW", pod.name())));
        }
        if pod.cell().group.compare_exchange(0, self.number, AcqRel, Acquire).is_err() {
            return Err(Error::state(format!("pod {:?} is in another group already", pod.name())));
        }
        let restarts = pod.cell().policy.restart != Restart::Never;
        inner.course.add(Member { after: needs, significant, restarts, grace: pod.grace.load(Relaxed) });
        inner.pods.push(pod.clone());
        if let Some(world) = World::existing() {
            lock(&world.hub).joined(self.number, pod);
        }
        Ok(())
    }

    pub(crate) fn start(self: &Arc<Group>) -> Result<()> {
        let world = World::get()?;
        world.check_open()?;
        world.groups.ensure(world)?;
        let mut inner = lock(&self.inner);
        if !inner.course.is_new() {
            let state = inner.shown.name();
            return Err(Error::state(format!("group {:?} is {state}: a group starts once", self.name())));
        }
        for (m, pod) in inner.pods.iter().enumerate() {
            if inner.course.can_be_taken_along(m) {
                pod.again.store(true, Release);
            }
        }
        inner.course.start();
        self.show(&mut inner);
        drop(inner);
        self.enrol(world);
        Ok(())
    }

    /// From here on the driver looks at it.
    fn enrol(self: &Arc<Group>, world: &World) {
        crate::monitor::count_watcher(true);
        lock(&world.groups.state).running.insert(self.number, self.clone());
        if world.check_open().is_err() {
            lock(&self.inner).course.stop(linux::now()); // a shutdown was faster, and has not found it here
        }
        world.groups.ring();
    }

    /// Asks for the end: each member stops when those that need it are down.
    pub(crate) fn cancel(self: &Arc<Group>) -> Result<()> {
        self.stop(None, |pod| {
            pod.advance(Event::Stop);
            pod.settle_if_never_launched();
        })
    }

    /// The same on behalf of somebody outside: the stop may take no longer than `grace` from now on. Runs nobody's code.
    #[cfg(feature = "grpc")]
    pub(crate) fn terminate(self: &Arc<Group>, grace: Option<Nanos>) -> Result<()> {
        self.stop(grace, |pod| cancel::terminate(pod, None))
    }

    /// `stop_new`: what is done with a member of a group that was not started.
    fn stop(self: &Arc<Group>, grace: Option<Nanos>, stop_new: impl Fn(&PodRef)) -> Result<()> {
        let world = World::get()?;
        let mut inner = lock(&self.inner);
        let was_new = inner.course.is_new();
        inner.course.stop(linux::now());
        if let Some(grace) = grace {
            inner.course.shorten(crate::limit::after(grace));
        }
        if was_new {
            // Nothing runs: its members are STOPPED at once.
            let pods = inner.pods.clone();
            drop(inner);
            pods.iter().for_each(stop_new);
            inner = lock(&self.inner);
        }
        self.show(&mut inner);
        drop(inner);
        if !was_new {
            world.groups.ring();
        }
        Ok(())
    }

    /// Shows the present state, and tells those who wait for another one.
    fn show(&self, inner: &mut Inner) -> State {
        let seen = inner.seen();
        inner.course.witness(&seen);
        let state = inner.course.state(&seen);
        if state != inner.shown {
            inner.shown = state;
            self.changed.notify_all();
            if let Some(world) = World::existing() {
                lock(&world.hub).regrouped(self.number(), &inner.pods, state.is_final());
            }
        }
        state
    }

    /// A monitor of its members, which also rings when the group shows another state.
    pub(crate) fn watch(&self, world: &'static World) -> Result<Arc<Monitor>> {
        // Locked until the monitor is there: it hears of each later change, and of none twice.
        let mut inner = lock(&self.inner);
        let state = self.show(&mut inner);
        Monitor::of_group(world, self.number(), state.is_final())
    }

    /// One look, and what follows from it; when to look again.
    fn drive(&self, world: &'static World) -> Nanos {
        let mut next = NEVER;
        loop {
            let (look, pods) = {
                let mut inner = lock(&self.inner);
                let seen = inner.seen();
                let look = inner.course.look(&seen, linux::now());
                if look.actions.is_empty() {
                    self.show(&mut inner);
                }
                (look, inner.pods.clone())
            };
            next = next.min(look.again.unwrap_or(NEVER));
            if let Some(until) = look.shortened {
                let stopping = |pod: &&PodRef| pod.life().state() == State::Stopping;
                pods.iter().filter(stopping).for_each(|pod| cancel::hold_to(pod, until));
            }
            if look.actions.is_empty() {
                return next;
            }
            // What was decided from is told before what follows from it.
            {
                let mut hub = lock(&world.hub);
                pods.iter().for_each(|pod| hub.publish(pod));
            }
            for action in look.actions {
                if let Err((member, error)) = act(world, action, &pods) {
                    if world.check_open().is_err() {
                        lock(&self.inner).course.stop(linux::now()); // a shutdown has come in between
                        continue;
                    }
                    let record = pods[member].record(Phase::Spawn, Kind::Lost, 0, &error.sentence);
                    let mut inner = lock(&self.inner);
                    inner.refusal = inner.refusal.take().or_else(|| Failure::first(Some(Arc::new(vec![record]))));
                    inner.course.refused(member, linux::now());
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        let inner = lock(&self.inner);
        // An ABANDONED member may come back late, and turns the group FAILED.
        inner.shown.is_final() && inner.pods.iter().all(|pod| pod.life().state().is_final())
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.name.to_string_lossy()
    }

    pub(crate) fn state(&self) -> State {
        self.show(&mut lock(&self.inner))
    }

    #[cfg(feature = "grpc")]
    pub(crate) fn members(&self) -> Vec<PodRef> {
        lock(&self.inner).pods.clone()
    }

    /// Why it failed: the failure of the member that failed first for good.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let inner = lock(&self.inner);
        let first = inner.course.failed.and_then(|m| inner.pods.get(m)).and_then(PodRef::failure);
        first.or_else(|| inner.refusal.clone())
    }

    /// Refuses to wait from a member's own thread or hook.
    fn refuse_blocking(&self, call: &str) -> Result<()> {
        role::refuse_blocking(call, None)?;
        let pods = lock(&self.inner).pods.clone();
        pods.iter().try_for_each(|pod| role::refuse_blocking(call, Some(pod)))
    }

    pub(crate) fn wait_ready(&self, limit: Limit) -> Result<()> {
        self.wait(limit, "group_wait_ready", |state, failed| match state {
            State::New => Some(Status::InvalidState),
            State::Running => Some(Status::Ok),
            State::Starting => None,
            _ if failed => Some(Status::Failed),
            _ => Some(Status::Ended),
        })
    }

    pub(crate) fn join(&self, limit: Limit) -> Result<()> {
        self.wait(limit, "group_join", |state, _| match state {
            State::New => Some(Status::InvalidState),
            State::Stopped => Some(Status::Ok),
            State::Failed => Some(Status::Failed),
            State::Abandoned if limit == Limit::Forever => Some(Status::Timeout),
            _ => None,
        })
    }

    pub(crate) fn close(self: &Arc<Group>) -> Result<()> {
        self.refuse_blocking("group_close")?;
        self.cancel()?;
        self.join(Limit::Forever)
    }

    fn wait(&self, limit: Limit, call: &str, answer: impl Fn(State, bool) -> Option<Status>) -> Result<()> {
        if limit != Limit::Now {
            self.refuse_blocking(call)?;
        }
        let mut inner = lock(&self.inner);
        loop {
            // What somebody has seen must be what is shown, or a change back to what was shown before wakes nobody.
            let state = self.show(&mut inner);
            let failed = inner.course.failed.is_some();
            let status = answer(state, failed).or_else(|| limit.passed().then_some(Status::Timeout));
            let Some(status) = status else {
                inner = match linux::until(limit.deadline()) {
                    None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                    Some(left) => self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0,
                };
                continue;
            };
            let pods = inner.pods.clone();
            drop(inner);
            return self.answer(status, call, &pods);
        }
    }

    fn answer(&self, status: Status, call: &str, pods: &[PodRef]) -> Result<()> {
        let name = self.name();
        let sentence = match status {
            Status::Ok => return Ok(()),
            Status::InvalidState => format!("{call}: group {name:?} is NEW; start it first"),
            Status::Failed => match self.failure() {
                Some(failure) => format!("group {name:?}: {failure}"),
                None => format!("group {name:?} failed"),
            },
            Status::Ended => format!("group {name:?} ended before all of its members were ready"),
            _ => {
                let late =
                    |pod: &&PodRef| !matches!(pod.life().state(), State::Running | State::Stopped | State::Failed);
                let late: Vec<String> = pods.iter().filter(late).map(explain).collect();
                format!("{call} of group {name:?} gave up: {}", late.join("; "))
            }
        };
        Err(Error::new(status, sentence))
    }

    /// The handle is gone: what runs is cancelled and let go.
    pub(crate) fn free(self: &Arc<Group>) -> Result<()> {
        self.cancel()
    }
}

impl Inner {
    fn seen(&self) -> Vec<Seen> {
        let look = |pod: &PodRef| {
            let word = pod.word();
            let life = Life(word as u32);
            Seen {
                state: life.state(),
                failed: life.failed(),
                ready: life.was_running(),
                life: (word >> 32) as u32,
                due: pod.cell().due_at.load(Relaxed),
                since: match life.state() {
                    // It may have been ABANDONED before it was FAILED; what it was not, it would be now.
                    State::Failed | State::Abandoned => {
                        pod.entered_at(State::Abandoned).min(pod.entered_at(life.state()))
                    }
                    _ => NEVER,
                },
            }
        };
        self.pods.iter().map(look).collect()
    }
}

/// Does it; the member and the reason when its start was refused.
fn act(world: &'static World, action: Action, pods: &[PodRef]) -> std::result::Result<(), (usize, Error)> {
    match action {
        Action::Start(m) => match pods[m].start_member() {
            // Cancelled by hand before: that is its normal end.
            Err(error) if pods[m].life().state() == State::New => Err((m, error)),
            _ => Ok(()),
        },
        Action::Pull(m) => {
            pods[m].cell().pulled.store(true, SeqCst);
            if pods[m].advance(Event::SiblingStop).is_none() {
                pods[m].cell().pulled.store(false, SeqCst);
            }
            Ok(())
        }
        Action::Revive(m) => {
            pods[m].cell().restart_at.store(linux::now(), SeqCst);
            if pods[m].step(Event::Due).is_some() && pods[m].cell().process.is_some() {
                host::process::revive_soon(&pods[m]);
            }
            Ok(())
        }
        Action::Cancel(m, grace) => {
            // Somebody outside may have asked for less.
            pods[m].grace.fetch_min(grace, Relaxed);
            let step = pods[m].advance(Event::Stop);
            pods[m].settle_elsewhere(world);
            // One that was STOPPING before has a limit of its own: from here on the group's budget holds for it, too.
            if grace != NEVER && !step.is_some_and(|step| step.entered(State::Stopping)) {
                cancel::hold_to(&pods[m], crate::limit::after(grace));
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Options;
    use crate::pod::testing::{end, running};

    /// Somebody outside asks for a short stop of a member, and his step comes after the group's.
    #[test]
    fn s8_a_groups_stop_renews_no_shorter_one() {
        let options = Options { grace: Some(Duration::from_secs(60)), ..Options::default() };
        let owner = running(&options);
        let pod = owner.here().unwrap();
        let second = 1_000_000_000;
        pod.grace.fetch_min(second, Relaxed); // as `cancel::terminate` begins
        act(World::get().unwrap(), Action::Cancel(0, 30 * second), std::slice::from_ref(pod)).ok().unwrap();
        assert!(pod.stop_deadline() <= crate::limit::after(second));

        end(pod, false);
    }
}
