//! Monitor: watch pods from any thread or event loop (contract section 9).
//!
//! A state word tells which states its incarnation has been in, so nobody has to report a change in the instant it
//! happens: whoever comes next under the hub's lock (S after its own step, the keeper after a cancel in a signal
//! handler) publishes all that was not published yet, in order. While nobody watches, nothing is recorded at all.

use std::collections::{HashMap, VecDeque};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result, Status};
use crate::failure::Failure;
use crate::keeper;
use crate::lifecycle::State;
use crate::limit::Limit;
use crate::linux::{self, Nanos};
use crate::log;
use crate::pod::Pod;
use crate::role;
use crate::table::{self, Kind, PodRef};
use crate::world::{World, forked, lock, no_memory};

/// A change of a pod's state.
#[derive(Clone, Debug)]
pub struct Event {
    /// Grows with every event of the process.
    pub sequence: u64,
    /// When the state was entered, on the monotonic clock, in nanoseconds.
    pub time_ns: u64,
    pub(crate) pod: u64,
    pub(crate) c_name: &'static CStr,
    /// Of that incarnation, when `to` follows one.
    pub failure: Option<Failure>,
    /// Equal to `to`: the state found when the monitor was made.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Which life of the pod.
    pub incarnation: u32,
    /// Events of this pod merged into this one.
    pub missed: u32,
}

impl Event {
    /// The pod's name.
    pub fn name(&self) -> &'static str {
        self.c_name.to_str().unwrap_or_default()
    }
}

/// All monitors of a process.
#[derive(Default)]
pub(crate) struct Hub {
    sequence: u64,
    monitors: Vec<Arc<Monitor>>,
    logging: bool,
}

/// The order in which an incarnation can pass the states. After a restart it begins with the RESTARTING of the one before.
const ORDER: [State; 8] = [
    State::New,
    State::Starting,
    State::Running,
    State::Stopping,
    State::Abandoned,
    State::Restarting,
    State::Stopped,
    State::Failed,
];

fn newest(mask: u32) -> State {
    let found = ORDER.into_iter().rev().find(|&state| mask & 1 << state as u32 != 0).unwrap_or(State::New);
    if found == State::New && mask & LIVED != 0 { State::Restarting } else { found }
}

/// Set in `PodCell::published` once the monitors of all pods know of the pod.
const MADE: u32 = 1 << 31;
/// Set there in every life but the first: what it begins with is RESTARTING.
const LIVED: u32 = 1 << 30;

impl Hub {
    /// A pod was made: those who watch all pods hear of it.
    pub(crate) fn made(&mut self, pod: &PodRef) {
        pod.cell().published.fetch_or(MADE, Relaxed);
        if self.monitors.iter().any(|m| m.scope == Scope::All) {
            let event = self.present(pod);
            for monitor in self.monitors.iter().filter(|m| m.scope == Scope::All) {
                monitor.push(event.clone());
            }
        }
        self.publish(pod);
    }

    /// A pod was taken into a group: those who watch the group hear of it.
    pub(crate) fn joined(&mut self, group: u32, pod: &PodRef) {
        if self.monitors.iter().any(|m| m.scope == Scope::Group(group)) {
            let event = self.present(pod);
            for monitor in self.monitors.iter().filter(|m| m.scope == Scope::Group(group)) {
                monitor.push(event.clone());
            }
        }
    }

    /// Tells of every state that `pod` has entered and nobody was told of.
    pub(crate) fn publish(&mut self, pod: &PodRef) {
        let published = pod.cell().published.load(Relaxed);
        let visited = pod.life().visited();
        let fresh = visited & !published;
        if fresh == 0 || published & MADE == 0 {
            return;
        }
        pod.cell().published.store(published | visited, Relaxed);
        let now = newest(visited);
        let mut from = newest(published);
        for to in ORDER.into_iter().filter(|&state| fresh & 1 << state as u32 != 0) {
            // An earlier state that is only told now did not follow the failure that is known now.
            let follows = to == now || matches!(to, State::Abandoned | State::Restarting | State::Failed);
            let failure = if follows { pod.failure() } else { None };
            // A canceller may have noted its time after S had noted the end.
            let time = pod.entered_at(to).max(pod.cell().published_time.load(Relaxed));
            pod.cell().published_time.store(time, Relaxed);
            let event = self.event(pod, from, to, time, failure);
            from = to;
            if self.logging {
                log::transition(&event);
            }
            for monitor in self.monitors.iter().filter(|m| m.watches(pod)) {
                monitor.push(event.clone());
            }
        }
        if pod.cell().group.load(Acquire) != 0
            && let Some(world) = World::existing()
        {
            world.groups.ring();
        }
    }

    /// The newest event's number.
    #[cfg(feature = "grpc")]
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Another life of the pod has begun; all of the one before was published.
    pub(crate) fn revived(&mut self, pod: &PodRef) {
        let made = pod.cell().published.load(Relaxed) & MADE;
        pod.cell().published.store(made | LIVED | 1 << State::New as u32, Relaxed);
        self.publish(pod);
    }

    /// The pod's present state as a first event: the last one that was told, so that what came since still follows, for
    /// this reader and for the others.
    fn present(&mut self, pod: &PodRef) -> Event {
        let state = newest(pod.cell().published.load(Relaxed));
        let failure = if state >= State::Stopping { pod.failure() } else { None };
        self.event(pod, state, state, linux::now(), failure)
    }

    fn event(&mut self, pod: &PodRef, from: State, to: State, time_ns: Nanos, failure: Option<Failure>) -> Event {
        self.sequence += 1;
        Event {
            sequence: self.sequence,
            time_ns,
            pod: pod.handle(),
            c_name: pod.cell().name,
            failure,
            from,
            to,
            incarnation: pod.incarnation(),
            missed: 0,
        }
    }

    /// A group shows another state, its last one when `over`: those who watch it are to look. By then its members are final,
    /// and all of their changes are told first.
    pub(crate) fn regrouped(&mut self, group: u32, pods: &[PodRef], over: bool) {
        if over {
            pods.iter().for_each(|pod| self.publish(pod));
        }
        for monitor in self.monitors.iter().filter(|m| m.scope == Scope::Group(group)) {
            monitor.ring(over);
        }
    }

    /// The log starts or stops hearing of changes; what happened before is not told.
    pub(crate) fn set_logging(&mut self, world: &World, on: bool) {
        if on && !self.logging {
            world.pods().for_each(|pod| self.publish(&pod));
        }
        if on != self.logging {
            count_watcher(on);
        }
        self.logging = on;
    }
}

pub(crate) fn count_watcher(more: bool) {
    if let Some(region) = table::region() {
        if more {
            region.watchers.fetch_add(1, SeqCst)
        } else {
            region.watchers.fetch_sub(1, SeqCst)
        };
    }
}

/// Which pods a monitor watches.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The pod of a handle.
    One(u64),
    /// The members of a group.
    Group(u32),
    All,
}

/// One reader's queue.
pub(crate) struct Monitor {
    scope: Scope,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// The failure handles that the last event lent through the C ABI: the first, and how many.
    pub(crate) lent: Mutex<Option<(u64, usize)>>,
}

#[derive(Default)]
struct Queue {
    /// In order of their sequence; `None`: merged into a later one.
    events: VecDeque<(u64, Option<Event>)>,
    /// The sequence of each pod's last event in `events`.
    newest: HashMap<u64, u64>,
    /// How many of `events` are `None`.
    merged: usize,
    fd: Option<OwnedFd>,
    /// The group shows another state than when the reader came last.
    rung: bool,
    /// Of the one pod or the group the final state was queued, or the monitor was freed: no event follows.
    over: bool,
}

/// From here on events of one pod are merged: what a reader that sleeps costs at most, beside one event a pod.
const MANY: usize = 1024;

impl Queue {
    fn is_empty(&self) -> bool {
        self.events.len() == self.merged
    }

    fn signal(&self) {
        if let Some(fd) = &self.fd {
            linux::signal_fd(fd);
        }
    }

    /// All that the reader can be told by its descriptor was read. The end stays to be read for ever.
    fn quiet(&mut self) {
        self.rung = false;
        if !self.over
            && let Some(fd) = &self.fd
        {
            linux::drain_fd(fd);
        }
    }

    /// A late reader costs the one who tells it nothing more: one look into a map, and a removal that is put off.
    fn add(&mut self, mut event: Event) {
        let earlier = self.newest.insert(event.pod, event.sequence);
        if let Some(sequence) = earlier
            && self.events.len() - self.merged >= MANY
            && let Ok(at) = self.events.binary_search_by_key(&sequence, |&(sequence, _)| sequence)
            && let Some(earlier) = self.events[at].1.take()
        {
            self.merged += 1;
            event.from = earlier.from;
            event.missed = earlier.missed + 1;
        }
        self.events.push_back((event.sequence, Some(event)));
        if self.merged > self.events.len() / 2 {
            self.events.retain(|(_, event)| event.is_some());
            self.merged = 0;
        }
    }

    fn take(&mut self) -> Option<Event> {
        loop {
            let (sequence, event) = self.events.pop_front()?;
            let Some(event) = event else {
                self.merged -= 1;
                continue;
            };
            if self.newest.get(&event.pod) == Some(&sequence) {
                self.newest.remove(&event.pod);
            }
            return Some(event);
        }
    }
}

impl Monitor {
    /// Watches one pod, or all of the process.
    pub(crate) fn new(world: &'static World, pod: Option<&PodRef>) -> Result<Arc<Monitor>> {
        Monitor::of(world, pod.map_or(Scope::All, |pod| Scope::One(pod.handle())), pod, false)
    }

    /// Watches the members of a group, and what it shows. `over`: its last state was told to those who watched it; it can not
    /// change while this is called.
    pub(crate) fn of_group(world: &'static World, group: u32, over: bool) -> Result<Arc<Monitor>> {
        Monitor::of(world, Scope::Group(group), None, over)
    }

    fn of(world: &'static World, scope: Scope, pod: Option<&PodRef>, over: bool) -> Result<Arc<Monitor>> {
        // It tells of what a signal handler cancelled.
        keeper::ensure(world)?;
        let mut queue = Queue { over, ..Queue::default() };
        queue.events.try_reserve(8).map_err(|_| no_memory("a monitor"))?;
        let monitor =
            Arc::new(Monitor { scope, queue: Mutex::new(queue), arrived: Condvar::new(), lent: Mutex::default() });
        let mut hub = lock(&world.hub);
        hub.monitors.try_reserve(1).map_err(|_| no_memory("a monitor"))?;
        // Counted first: whoever changes a state from here on comes to publish it, and waits for the lock.
        count_watcher(true);
        let one = pod;
        let mut begin = |pod: &PodRef| {
            hub.publish(pod); // what the others were not told yet
            // Among all pods, one that is freed and final is nobody's any more.
            let is_past = one.is_none() && pod.handle_is_dead() && pod.life().state().is_final();
            if pod.cell().published.load(Relaxed) & MADE != 0 && !is_past {
                let event = hub.present(pod);
                monitor.push(event);
            }
        };
        match pod {
            Some(pod) => begin(pod),
            None => world.pods().filter(|pod| monitor.watches(pod)).for_each(|pod| begin(&pod)),
        }
        hub.monitors.push(monitor.clone());
        Ok(monitor)
    }

    fn watches(&self, pod: &PodRef) -> bool {
        match self.scope {
            Scope::One(handle) => handle == pod.handle(),
            Scope::Group(group) => pod.cell().group.load(Acquire) == group,
            Scope::All => true,
        }
    }

    fn push(&self, event: Event) {
        let mut queue = lock(&self.queue);
        queue.over |= matches!(self.scope, Scope::One(_)) && event.to.is_final();
        queue.add(event);
        queue.signal();
        self.arrived.notify_one();
    }

    /// The group shows another state; `over`: no event follows.
    fn ring(&self, over: bool) {
        let mut queue = lock(&self.queue);
        queue.rung = true;
        queue.over |= over;
        queue.signal();
        if over {
            self.arrived.notify_all();
        }
    }

    pub(crate) fn next(&self, limit: Limit) -> Result<Event> {
        if limit != Limit::Now {
            role::refuse_blocking("monitor_next", None)?;
        }
        let mut queue = lock(&self.queue);
        loop {
            if let Some(event) = queue.take() {
                if queue.is_empty() {
                    queue.quiet();
                }
                return Ok(event);
            }
            if queue.over {
                let sentence = "no event follows: the pod or group is final, or the monitor was freed";
                return Err(Error::new(Status::Ended, sentence));
            }
            if queue.rung {
                queue.quiet();
            }
            if limit.passed() {
                return Err(Error::new(Status::Timeout, "no event came"));
            }
            queue = match linux::until(limit.deadline()) {
                None => self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(span) => self.arrived.wait_timeout(queue, span).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Puts back what could not be told.
    pub(crate) fn put_back(&self, event: Event) {
        let mut queue = lock(&self.queue);
        queue.newest.entry(event.pod).or_insert(event.sequence);
        queue.events.push_front((event.sequence, Some(event)));
        queue.signal();
    }

    /// A descriptor that is readable while there is something to tell; the monitor's own.
    pub(crate) fn fd(&self) -> Result<i32> {
        let mut queue = lock(&self.queue);
        if queue.fd.is_none() {
            let fd = linux::event_fd()
                .map_err(|e| Error::resources(format!("no descriptor for the monitor: {}", linux::describe(e))))?;
            if !queue.is_empty() || queue.rung || queue.over {
                linux::signal_fd(&fd);
            }
            queue.fd = Some(fd);
        }
        Ok(queue.fd.as_ref().map_or(-1, |fd| fd.as_raw_fd()))
    }

    /// Watches no more. Who waits in `next` reads what is there, then ENDED; who polls the descriptor is woken.
    pub(crate) fn close(&self, world: &World) {
        let mut hub = lock(&world.hub);
        let before = hub.monitors.len();
        hub.monitors.retain(|m| !std::ptr::eq(&**m, self));
        if hub.monitors.len() < before {
            count_watcher(false);
        }
        drop(hub);
        let mut queue = lock(&self.queue);
        queue.over = true;
        // Who still polls the descriptor, or a duplicate of it, shall look: closing alone wakes nobody.
        queue.signal();
        queue.fd = None;
        self.arrived.notify_all();
    }
}

/// Watches pods: first the present state of each (`from` equal to `to`), then every change in order.
pub struct Watch {
    monitor: Arc<Monitor>,
    home: &'static World,
}

impl Watch {
    /// Watches one pod; `None`: every pod of the process.
    ///
    /// # Errors
    /// RESOURCES; FORKED: the pod is the parent's.
    pub fn new(pod: Option<&Pod>) -> Result<Watch> {
        let world = World::get()?;
        let pod = pod.map(Pod::here).transpose()?;
        Ok(Watch { monitor: Monitor::new(world, pod)?, home: world })
    }

    /// The next event; `timeout` `None`: waits for ever.
    ///
    /// # Errors
    /// TIMEOUT; ENDED when the one pod is final and all was read; DEADLOCK from a log callback or a drop; FORKED.
    pub fn next(&self, timeout: Option<Duration>) -> Result<Event> {
        self.here()?.next(Limit::from_duration(timeout))
    }

    /// Readable while events wait, and once none can follow; only poll it.
    ///
    /// # Errors
    /// RESOURCES when no descriptor is to be had; FORKED.
    pub fn fd(&self) -> Result<i32> {
        self.here()?.fd()
    }

    fn here(&self) -> Result<&Monitor> {
        match self.home.is_here() {
            true => Ok(&self.monitor),
            false => Err(forked(Kind::Monitor)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.home.is_here() {
            self.monitor.close(self.home);
        }
    }
}
