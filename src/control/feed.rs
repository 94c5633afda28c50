//! What has happened, for those who watch: the server's own monitor of all pods, read on its thread, and the last events
//! kept for whoever asks late or reads slowly. A reader keeps a place in them and no queue of its own, so one that does not
//! read costs nobody anything; what it has missed is merged, and the newest event of a pod always comes.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use prost_types::Timestamp;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::names::{self, Key};
use super::proto::v1;
use super::view;
use crate::error::{Error, Result};
use crate::failure::Failure;
use crate::lifecycle;
use crate::limit::Limit;
use crate::linux::describe;
use crate::linux::process::copy_of;
use crate::monitor::{Event, Monitor};
use crate::table::PodRef;
use crate::world::{World, lock};

/// Events that are kept at most.
const KEPT: usize = 1024;
/// Bytes of failures' texts that are kept with them at most.
const KEPT_BYTES: usize = 4 << 20;

pub(super) struct Feed {
    pub(super) world: &'static World,
    monitor: Arc<Monitor>,
    /// After each event, and at the server's end.
    changed: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Arc<Happened>>,
    bytes: usize,
    /// The sequence number of the last event before those: what came up to there is not kept, or was never heard of here.
    lost: u64,
    /// The number of the event that comes next.
    next: u64,
    /// Each pod's newest event.
    newest: HashMap<u64, Arc<Happened>>,
    over: bool,
}

/// An event, and where it stands.
struct Happened {
    event: Event,
    name: Arc<str>,
    time: Timestamp,
    /// Among all that this server has heard of.
    number: u64,
    /// Among those of its pod; of one that was found, as if all before had been its own.
    count: u64,
}

impl Happened {
    fn bytes(&self) -> usize {
        let all = std::iter::successors(self.event.failure.clone(), Failure::secondary);
        all.map(|failure| failure.message().len() + failure.stderr().len()).sum()
    }

    fn told(&self, missed: u64, present: bool) -> v1::Event {
        let event = &self.event;
        v1::Event {
            sequence: event.sequence,
            time: Some(self.time),
            name: self.name.as_ref().to_owned(),
            from: view::state(if present { event.to } else { event.from }),
            to: view::state(event.to),
            incarnation: event.incarnation,
            missed: u32::try_from(missed.saturating_add(event.missed.into())).unwrap_or(u32::MAX),
            failures: view::failures(event.failure.clone(), true),
        }
    }
}

impl Feed {
    pub(super) fn new(world: &'static World) -> Result<Feed> {
        let lost = lock(&world.hub).sequence();
        let feed = Feed::on(world, Monitor::new(world, None)?, lost);
        feed.read();
        // What was found is no change: who comes later finds it in `newest`.
        while lock(&feed.state).drop_oldest() {}
        Ok(feed)
    }

    fn on(world: &'static World, monitor: Arc<Monitor>, lost: u64) -> Feed {
        let state = Mutex::new(State { lost, ..State::default() });
        Feed { world, monitor, changed: Notify::new(), state }
    }

    /// Readable while there is something to read.
    pub(super) fn descriptor(&self) -> Result<OwnedFd> {
        let refused = |error| Error::resources(format!("no descriptor for the control service: {}", describe(error)));
        copy_of(self.monitor.fd()?).map_err(refused)
    }

    /// Reads what has happened; what happened before this call is known after it.
    pub(super) fn read(&self) {
        let mut state = lock(&self.state);
        let before = state.next;
        while let Ok(event) = self.monitor.next(Limit::Now) {
            state.add(self.world, event);
        }
        if state.next != before {
            state.forget();
            self.changed.notify_waiters();
        }
    }

    /// Nobody is told anything any more but what had happened before: who makes a change tells of it a moment later, and
    /// those who watch may get their turn before the server's own reader.
    pub(super) fn end(&self) {
        self.world.pods().for_each(|pod| pod.publish());
        self.read();
        lock(&self.state).over = true;
        self.changed.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        lock(&self.state).over
    }

    /// Comes with the next change after this call. All is read on the server's thread: whoever does not wait for anything
    /// between a look and this misses none.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.monitor.close(self.world);
    }
}

impl State {
    fn add(&mut self, world: &World, event: Event) {
        let (pod, earlier) = (event.pod, self.newest.get(&event.pod));
        let name = match earlier {
            Some(earlier) => earlier.name.clone(),
            None => {
                let mut names = lock(&world.addressed);
                names.get(Key::Pod(pod)).unwrap_or_else(|| {
                    names.renewed(world);
                    names.get(Key::Pod(pod)).unwrap_or_else(|| names.past(event.c_name))
                })
            }
        };
        let count = match earlier {
            Some(earlier) => earlier.count + 1,
            None if event.from == lifecycle::State::New => 1,
            None => event.sequence,
        };
        let time = view::timestamp(event.time_ns);
        let happened = Arc::new(Happened { event, name, time, number: self.next, count });
        self.next += 1;
        self.newest.insert(pod, happened.clone());
        self.bytes += happened.bytes();
        self.kept.push_back(happened);
        while self.kept.len() > KEPT || self.bytes > KEPT_BYTES && self.kept.len() > 1 {
            self.drop_oldest();
        }
    }

    /// False: nothing is kept.
    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        self.bytes -= oldest.bytes();
        self.lost = oldest.event.sequence;
        true
    }

    /// The number of the oldest event that is kept, or that will be.
    fn oldest(&self) -> u64 {
        self.kept.front().map_or(self.next, |happened| happened.number)
    }

    /// Pods that are gone: their last events are kept as long as any others.
    fn forget(&mut self) {
        let oldest = self.oldest();
        let is_there = |pod: u64| PodRef::known(pod).is_some_and(|pod| names::is_there(&pod));
        self.newest.retain(|&pod, happened| happened.number >= oldest || is_there(pod));
    }

    /// The newest events of all pods or of one, in their order.
    fn newest(&self, pod: Option<u64>) -> Vec<Arc<Happened>> {
        let mut newest: Vec<_> = match pod {
            Some(pod) => self.newest.get(&pod).into_iter().cloned().collect(),
            None => self.newest.values().cloned().collect(),
        };
        newest.sort_by_key(|happened| happened.number);
        newest
    }

    /// The event of number `at` or the next one after it that is kept.
    fn from(&self, at: u64) -> Option<&Arc<Happened>> {
        self.kept.get(self.kept.partition_point(|happened| happened.number < at))
    }
}

/// A reader's place.
pub(super) struct Reader {
    feed: Arc<Feed>,
    /// Of one pod alone.
    pod: Option<u64>,
    /// The number of the event that it reads next.
    at: u64,
    /// To be told before that: present states, or the newest events of pods that are not kept any more.
    first: VecDeque<(Arc<Happened>, bool)>,
    /// How many it has missed and was not told of; of one pod, how many of its events it has heard of.
    missed: u64,
    heard: u64,
}

impl Reader {
    /// `from`: the first sequence number that is asked for; 0: present states first.
    pub(super) fn new(feed: &Arc<Feed>, pod: Option<u64>, from: u64) -> Reader {
        feed.read();
        let state = lock(&feed.state);
        let mut reader =
            Reader { feed: feed.clone(), pod, at: state.next, first: VecDeque::new(), missed: 0, heard: 0 };
        let mut newest = state.newest(pod);
        reader.heard = pod.and(newest.first()).map_or(0, |happened| happened.count);
        if from == 0 {
            newest.retain(|happened| PodRef::known(happened.event.pod).is_some_and(|pod| names::is_there(&pod)));
            reader.first = newest.into_iter().map(|happened| (happened, true)).collect();
            return reader;
        }
        // Numbers grow in both senses.
        let at = state.kept.partition_point(|happened| happened.event.sequence < from);
        reader.at = state.kept.get(at).map_or(state.next, |happened| happened.number);
        // Of what is asked for and not kept any more it gets each pod's newest event. How many more there were is known of
        // all pods together; it is the most that a single one can have had.
        newest.retain(|happened| happened.event.sequence >= from && happened.number < reader.at);
        reader.missed = (state.lost + 1).saturating_sub(from).saturating_sub(newest.len() as u64);
        let mine = |happened: &&Arc<Happened>| pod == Some(happened.event.pod);
        if let Some(happened) = newest.first().filter(mine).or_else(|| state.kept.iter().skip(at).find(mine)) {
            reader.heard = happened.count.saturating_sub(1 + reader.missed);
        }
        reader.first = newest.into_iter().map(|happened| (happened, false)).collect();
        drop(state);
        reader
    }

    /// The next event, if there is one by now.
    pub(super) fn next(&mut self) -> Option<v1::Event> {
        loop {
            if let Some((happened, present)) = self.first.pop_front() {
                return Some(self.tell(&happened, present));
            }
            let state = lock(&self.feed.state);
            let oldest = state.oldest();
            if self.at < oldest {
                // It was too slow. Of each pod whose last event is not kept any more it gets that one.
                let mut lost = state.newest(self.pod);
                lost.retain(|happened| (self.at..oldest).contains(&happened.number));
                self.missed += oldest - self.at - lost.len() as u64;
                self.at = oldest;
                self.first = lost.into_iter().map(|happened| (happened, false)).collect();
                continue;
            }
            let happened = state.from(self.at)?.clone();
            drop(state);
            self.at = happened.number + 1;
            if self.pod.is_none_or(|pod| pod == happened.event.pod) {
                return Some(self.tell(&happened, false));
            }
        }
    }

    fn tell(&mut self, happened: &Happened, present: bool) -> v1::Event {
        let missed = match self.pod {
            _ if present => 0,
            None => std::mem::take(&mut self.missed),
            Some(_) => happened.count.saturating_sub(self.heard + 1),
        };
        self.heard = happened.count;
        happened.told(missed, present)
    }

    pub(super) fn is_of_one(&self) -> bool {
        self.pod.is_some()
    }

    /// Whether the one pod is gone. Then all of its changes can be read: who makes one tells of it a moment later.
    pub(super) fn is_past(&self) -> bool {
        let Some(pod) = self.pod else { return false };
        let pod = PodRef::known(pod);
        if pod.as_ref().is_some_and(names::is_there) {
            return false;
        }
        if let Some(pod) = pod {
            pod.publish();
        }
        self.feed.read();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::{Event as Step, State as Of};
    use crate::monitor::count_watcher;
    use crate::{BoxError, Context, Options, Pod, Procedure, Runtime};

    struct ByHand;

    impl Procedure for ByHand {
        fn run_forever(&self, _: Context) -> std::result::Result<(), BoxError> {
            Ok(())
        }
    }

    /// A pod of no thread, whose life goes on when it is told to.
    fn pod(name: &str) -> Pod {
        let runtime = Runtime::new("by-hand", |_| Ok(ByHand)).unwrap();
        Pod::new(&runtime, &Options { name: Some(name.into()), grace: None, ..Options::default() }).unwrap()
    }

    fn step(pod: &Pod, steps: &[Step]) {
        for &step in steps {
            pod.here().unwrap().advance(step).unwrap();
        }
    }

    fn end(pod: &Pod) {
        step(pod, &[Step::RunReturned { failed: false }, Step::End { failed: false, again: false }]);
        pod.here().unwrap().settle();
        step(pod, &[Step::Gone]);
    }

    /// Hears nothing by itself.
    fn deaf() -> Arc<Feed> {
        let world = World::get().unwrap();
        Arc::new(Feed::on(world, Monitor::of_group(world, u32::MAX, true).unwrap(), 0))
    }

    impl Feed {
        fn hear(&self, sequence: u64, pod: &Pod, from: Of, to: Of) {
            let cell = pod.here().unwrap().cell();
            let (pod, c_name) = (pod.here().unwrap().handle(), cell.name);
            let event = Event { sequence, time_ns: 1, pod, c_name, failure: None, from, to, incarnation: 0, missed: 0 };
            lock(&self.state).add(self.world, event);
            lock(&self.state).forget();
        }
    }

    /// x goes on until it has failed at 60, then more happens to y than is kept.
    fn long_ago(x: &Pod, y: &Pod) -> Arc<Feed> {
        let feed = deaf();
        for (sequence, from, to) in [
            (49, Of::New, Of::New),
            (50, Of::New, Of::Running),
            (55, Of::Running, Of::Stopping),
            (60, Of::Stopping, Of::Failed),
        ] {
            feed.hear(sequence, x, from, to);
        }
        for sequence in 61..1161 {
            feed.hear(sequence, y, Of::Restarting, Of::Running);
        }
        feed
    }

    #[test]
    fn who_asks_late_for_one_pod_gets_its_newest_event() {
        let (x, y) = (pod("late-x"), pod("late-y"));
        let feed = long_ago(&x, &y);
        let mut reader = Reader::new(&feed, Some(x.here().unwrap().handle()), 51);
        let event = reader.next().expect("the event that is not kept any more");
        assert_eq!((event.sequence, event.to), (60, view::state(Of::Failed)));
        assert!((1..=3).contains(&event.missed), "{}", event.missed);
        assert!(reader.next().is_none());
        feed.hear(2000, &x, Of::Failed, Of::Failed);
        assert_eq!(reader.next().map(|event| (event.sequence, event.missed)), Some((2000, 0)));
        let mut reader = Reader::new(&feed, Some(x.here().unwrap().handle()), 2001);
        assert!(reader.next().is_none(), "nothing was lost");
        feed.hear(2002, &x, Of::Failed, Of::Failed);
        assert_eq!(reader.next().map(|event| (event.sequence, event.missed)), Some((2002, 0)));
    }

    #[test]
    fn who_asks_late_for_all_gets_the_newest_event_of_each() {
        let (x, y) = (pod("later-x"), pod("later-y"));
        let feed = long_ago(&x, &y);
        let mut reader = Reader::new(&feed, None, 51);
        let first = reader.next().unwrap();
        let kept = 1161 - KEPT as u64;
        assert_eq!((first.sequence, u64::from(first.missed)), (60, kept - 51 - 1));
        let rest: Vec<_> = std::iter::from_fn(|| reader.next()).map(|event| (event.sequence, event.missed)).collect();
        assert_eq!(rest, (kept..1161).map(|sequence| (sequence, 0)).collect::<Vec<_>>());
    }

    #[test]
    fn what_happened_while_nobody_served_is_told_as_lost() {
        let world = World::get().unwrap();
        let x = pod("unserved-x");
        let after = lock(&world.hub).sequence() + 1;
        x.here().unwrap().claim().unwrap();
        let first = Feed::new(world).unwrap();
        step(&x, &[Step::Launch, Step::EnterInit, Step::InitOk]);
        drop(first);
        let feed = Arc::new(Feed::new(world).unwrap());
        for one in [None, Some(x.here().unwrap().handle())] {
            let mut reader = Reader::new(&feed, one, after);
            let told: Vec<_> = std::iter::from_fn(|| reader.next()).collect();
            let mine = told.iter().find(|event| event.name == "unserved-x").expect("its present state");
            assert_eq!(mine.to, view::state(Of::Running));
            // STARTING; RUNNING has another number by now.
            assert!(told.iter().map(|event| event.missed).sum::<u32>() >= 1, "{told:?}");
        }
        end(&x);
    }

    #[test]
    fn one_that_is_gone_is_told_to_its_end() {
        let x = pod("gone-x");
        x.here().unwrap().claim().unwrap();
        step(&x, &[Step::Launch, Step::EnterInit, Step::InitOk]);
        let feed = Arc::new(Feed::new(World::get().unwrap()).unwrap());
        let mut reader = Reader::new(&feed, Some(x.here().unwrap().handle()), 0);
        assert_eq!(reader.next().map(|event| event.to), Some(view::state(Of::Running)));
        assert!(!reader.is_past());
        // As if its thread had not come yet to tell of its end.
        count_watcher(false);
        end(&x);
        crate::pod::free(x.here().unwrap());
        count_watcher(true);
        assert!(reader.is_past());
        let told: Vec<_> = std::iter::from_fn(|| reader.next()).map(|event| event.to).collect();
        assert_eq!(told.last(), Some(&view::state(Of::Stopped)));
    }

    #[test]
    fn what_had_happened_before_the_end_is_told() {
        let (told, untold) = (pod("last-told"), pod("last-untold"));
        for pod in [&told, &untold] {
            pod.here().unwrap().claim().unwrap();
            step(pod, &[Step::Launch, Step::EnterInit, Step::InitOk]);
        }
        let feed = Arc::new(Feed::new(World::get().unwrap()).unwrap());
        let scopes = [None, Some(told.here().unwrap().handle()), Some(untold.here().unwrap().handle())];
        let mut readers = scopes.map(|one| Reader::new(&feed, one, 0));
        readers.iter_mut().for_each(|reader| while reader.next().is_some() {});
        // Nobody reads it before the end, and of the other one nobody is even told.
        end(&told);
        for step in [Step::RunReturned { failed: false }, Step::End { failed: false, again: false }] {
            untold.here().unwrap().step(step).unwrap();
        }
        feed.end();
        assert!(feed.is_over());
        let heard = readers.map(|mut reader| {
            let mine = |event: &v1::Event| event.name.starts_with("last-") && event.to == view::state(Of::Stopped);
            std::iter::from_fn(|| reader.next()).filter(mine).map(|event| event.name).collect::<Vec<_>>()
        });
        assert_eq!(heard, [vec!["last-told", "last-untold"], vec!["last-told"], vec!["last-untold"]]);
        untold.here().unwrap().settle();
        step(&untold, &[Step::Gone]);
    }
}
