//! Pods of no thread, whose lives go on when they are told to.

use std::sync::Arc;

use crate::context::Context;
use crate::lifecycle::{Event, State};
use crate::linux::NEVER;
use crate::supervise::driver::Group;
use crate::supervise::group::{Course, Strategy};
use crate::world::World;
use crate::{BoxError, Options, Pod, Procedure, Runtime};

/// Of no other pod or group in a process.
pub(super) const NEW: &str = "fuzz-new";
pub(super) const RUNNING: &str = "fuzz-running";
pub(super) const GROUP: &str = "fuzz-group";
pub(super) const MEMBER: &str = "fuzz-member";
/// No call that is well-formed asks for it.
pub(super) const UNASKED: &str = "fuzz-unasked";

pub(super) const NAMES: [&str; 5] = [NEW, RUNNING, MEMBER, UNASKED, GROUP];

pub(super) struct Pods {
    pub(super) new: Pod,
    pub(super) running: Pod,
    pub(super) member: Pod,
    pub(super) unasked: Pod,
    pub(super) group: Arc<Group>,
}

impl Pods {
    pub(super) fn new(world: &World) -> Pods {
        let runtime = Runtime::new("fuzz", |_| Ok(ByHand)).unwrap();
        let pod = |name: &str| {
            let options = Options { name: Some(name.into()), grace: None, ..Options::default() };
            Pod::new(&runtime, &options).unwrap()
        };
        let [new, running, member, unasked] = [NEW, RUNNING, MEMBER, UNASKED].map(pod);
        let course = Course::new(Strategy::OneForOne, false, NEVER);
        let group = Group::new(world.intern(c"fuzz-group").unwrap(), course).unwrap();
        group.add(member.here().unwrap(), &[], false).unwrap();
        running.here().unwrap().claim().unwrap();
        for event in [Event::Launch, Event::EnterInit, Event::InitOk] {
            running.here().unwrap().advance(event).unwrap();
        }
        Pods { new, running, member, unasked, group }
    }

    /// The running one's procedure ends.
    pub(super) fn end_running(&self, failed: bool) {
        let pod = self.running.here().unwrap();
        if !pod.life().state().is_final() {
            let record = pod.record(crate::Phase::Run, crate::Kind::Returned, 1, "as it was told");
            pod.advance_failing(Event::RunReturned { failed }, failed.then_some(record));
            pod.advance(Event::End { failed: false, again: false });
            pod.settle();
            pod.advance(Event::Gone);
        }
    }

    /// All that was done is told, as the library's own thread would do it a little later.
    pub(super) fn publish(&self) {
        [&self.new, &self.running, &self.member, &self.unasked].iter().for_each(|pod| pod.here().unwrap().publish());
    }

    /// Those that were asked for their end, or have had it.
    pub(super) fn stopped(&self) -> impl Iterator<Item = &'static str> {
        let pods = [&self.new, &self.running, &self.member, &self.unasked];
        let stopped = pods.map(|pod| pod.here().unwrap().life().stop_asked()).into_iter();
        let all = NAMES.into_iter().zip(stopped.chain([self.group.state() != State::New]));
        all.filter_map(|(name, stopped)| stopped.then_some(name))
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.end_running(false);
    }
}

struct ByHand;

impl Procedure for ByHand {
    fn run_forever(&self, _: Context) -> Result<(), BoxError> {
        Ok(())
    }
}
