//! Pod: one kept instance of a runtime. Here is what its owner may do with it; where it runs is `host/`, what its
//! states mean is `lifecycle`, and the memory behind it is `table`. Waiting is in `wait`, the public Rust type in `owned`.

use std::ffi::{CStr, CString, c_void};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::error::{Error, Result, Status};
use crate::failure::{Failure, Kind, Record, c_string};
use crate::host::process::{Process, link::Link};
use crate::keeper;
use crate::lifecycle::{Event, Life, Phase, State, Traits};
use crate::linux::{self, Nanos, ThreadAttr};
use crate::runtime::{RuntimeCell, check_name};
use crate::supervise::restart::{History, Policy};
use crate::table::PodRef;
use crate::world::{World, lock};

mod args;
mod lives;
mod owned;
mod start;
mod steps;
mod wait;

pub(crate) use args::{Args, try_box};
pub use owned::{Host, Options, Pod, ProcessOptions, Ready};

/// What a pod is made with, checked by whoever fills it in.
pub(crate) struct Settings<'a> {
    pub(crate) name: Option<&'a CStr>,
    pub(crate) notify: bool,
    /// 0: none.
    pub(crate) ready_timeout: Nanos,
    /// NEVER: no force.
    pub(crate) grace: Nanos,
    pub(crate) extend_max: Nanos,
    pub(crate) args: &'a [u8],
    pub(crate) policy: Policy,
    /// 0: none.
    pub(crate) watchdog: Nanos,
    /// Which life this is: more than 0 only in the child of a pod that was restarted.
    pub(crate) incarnation: u32,
    pub(crate) place: Place,
}

/// Where S is to be.
pub(crate) enum Place {
    Thread {
        /// 0: what pthread_create gives.
        stack_size: usize,
        /// 0: no kick.
        kick_signal: i32,
    },
    Process(Box<Process>),
    /// In this process, which is the child that another keeps.
    Child(Arc<Link>),
}

pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(5);
pub(crate) const DEFAULT_MAX_RESTARTS: u32 = 8;
pub(crate) const DEFAULT_RESTART_WINDOW: Duration = Duration::from_secs(60);
pub(crate) const DEFAULT_BACKOFF: Duration = Duration::from_millis(100);
pub(crate) const DEFAULT_BACKOFF_MAX: Duration = Duration::from_secs(30);
pub(crate) const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(1);
pub(crate) const DEFAULT_EXTEND_MAX: Duration = Duration::from_secs(60);

/// The cold part of a pod; the hot part is its [`table::Slot`].
pub(crate) struct PodCell {
    pub(crate) runtime: Arc<RuntimeCell>,
    pub(crate) name: &'static CStr,
    /// Its place in the order in which the process made pods and groups.
    #[cfg(feature = "grpc")]
    pub(crate) made: u64,
    pub(crate) ready_timeout: Nanos,
    pub(crate) extend_max: Nanos,
    /// `None`: the world's default.
    pub(crate) attr: Option<ThreadAttr>,
    /// As asked for; 0: the default. For sentences.
    pub(crate) stack_size: usize,
    pub(crate) kick_signal: i32,
    /// Ready is the pod's own word.
    pub(crate) notify: bool,
    /// Of a process pod.
    pub(crate) process: Option<Box<Process>>,
    /// To the host, of a pod that runs in its child: here.
    pub(crate) link: Option<Arc<Link>>,
    pub(crate) args: Args,
    /// What `init` gave: for the hook, which runs on another thread.
    pub(crate) state: AtomicPtr<c_void>,
    /// S, for the one who joins it. Known before there is an S.
    pub(crate) thread: AtomicU64,
    pub(crate) kicks: AtomicU32,
    pub(crate) policy: Policy,
    /// When the next life is due, while RESTARTING.
    pub(crate) restart_at: AtomicU64,
    /// When its own policy would have the next life begin.
    pub(crate) due_at: AtomicU64,
    /// The group it is a member of; 0: none.
    pub(crate) group: AtomicU32,
    /// A sibling restarts: this life is followed by another, whatever the policy.
    pub(crate) pulled: AtomicBool,
    pub(crate) watchdog: Nanos,
    /// A moment before which no heartbeat can be missed: the host was stalled until then.
    pub(crate) watch_from: AtomicU64,
    /// When the keeper is to look next whether one was; 0: at once. It is late when the host was stalled.
    pub(crate) look_due: AtomicU64,
    /// The heartbeat after which the host was stalled last.
    pub(crate) stalled_after: AtomicU64,
    /// And for how long.
    pub(crate) stalled_for: AtomicU64,
    /// What an extension made of the watchdog's limit.
    pub(crate) watch_limit: AtomicU64,
    /// The states that the monitors were told of, and the time of the last; only touched under the hub's lock.
    pub(crate) published: AtomicU32,
    pub(crate) published_time: AtomicU64,
    /// There may be something in `Cold::stored`: spares S the lock.
    pub(crate) has_stored: AtomicBool,
    settled: AtomicBool,
    pub(crate) cold: Mutex<Cold>,
}

#[derive(Default)]
pub(crate) struct Cold {
    /// The failures of the incarnation, in order of time.
    failures: Option<Arc<Vec<Record>>>,
    pub(crate) stored: Option<Stored>,
    pub(crate) status: Option<Box<str>>,
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) extended: Nanos,
    /// In a child: when the grace is spent, as its host has said last.
    pub(crate) heard: Nanos,
    /// The end of a child's stderr, once it has ended.
    pub(crate) stderr: Option<Arc<CStr>>,
    pub(crate) history: History,
    /// Where in `failures` the hook's own word stands: the last one counts.
    hook_said: Option<usize>,
}

/// What `context_fail` stored.
pub(crate) struct Stored {
    pub(crate) kind: Kind,
    pub(crate) code: i32,
    pub(crate) message: CString,
    pub(crate) data: Arc<[u8]>,
}

impl Cold {
    pub(crate) fn push(&mut self, record: Record) {
        Arc::make_mut(self.failures.get_or_insert_default()).push(record);
    }
    /// What the hook says of itself; where it stands.
    pub(crate) fn push_hook(&mut self, record: Record) -> usize {
        let failures = Arc::make_mut(self.failures.get_or_insert_default());
        match self.hook_said {
            Some(at) => {
                failures[at] = record;
                at
            }
            None => {
                self.hook_said = Some(failures.len());
                failures.push(record);
                failures.len() - 1
            }
        }
    }
    /// The failures so far.
    pub(crate) fn records(&self) -> Arc<Vec<Record>> {
        self.failures.clone().unwrap_or_default()
    }
    /// The failures so far, and where the hook's own stands among them.
    pub(crate) fn records_and_hooks(&self) -> (Arc<Vec<Record>>, Option<usize>) {
        (self.records(), self.hook_said)
    }
    /// What a child wrote goes with each of its failures.
    pub(crate) fn attach_stderr(&mut self) {
        let stderr = self.stderr.clone();
        self.mend_records(|record| record.stderr = stderr.clone());
    }
    /// Those that somebody has already stay as they are.
    pub(crate) fn mend_records(&mut self, mend: impl FnMut(&mut Record)) {
        if let Some(failures) = &mut self.failures {
            Arc::make_mut(failures).iter_mut().for_each(mend);
        }
    }
    pub(crate) fn failure(&self) -> Option<Failure> {
        Failure::first(self.failures.clone())
    }
}

/// Makes a pod: NEW.
pub(crate) fn make(runtime: &Arc<RuntimeCell>, settings: Settings<'_>) -> Result<PodRef> {
    let world = World::get()?;
    world.check_open()?;
    let name = match settings.name {
        None => runtime.name,
        Some(name) => {
            check_name("options.name", name)?;
            world.intern(name)?
        }
    };
    let (stack_size, kick_signal, process, link) = match settings.place {
        Place::Thread { stack_size, kick_signal } => (stack_size, kick_signal, None, None),
        Place::Process(process) => (0, 0, Some(process), None),
        Place::Child(link) => (0, 0, None, Some(link)),
    };
    let attr = match stack_size == 0 && kick_signal == 0 {
        true => None,
        false => Some(thread_attr(stack_size, kick_signal)?),
    };
    match &process {
        None => runtime.recipe.load()?,
        Some(process) => process.check(&runtime.source)?,
    }
    // A cancel in a signal handler needs the keeper to tell of it, but a pod can be made without; start insists.
    if link.is_none() {
        let _ = keeper::ensure(world);
    }
    let cell = PodCell {
        runtime: runtime.clone(),
        name,
        #[cfg(feature = "grpc")]
        made: crate::world::next_made(),
        ready_timeout: settings.ready_timeout,
        extend_max: settings.extend_max,
        attr,
        stack_size,
        kick_signal,
        notify: settings.notify,
        process,
        link,
        args: Args::copy(settings.args)?,
        state: AtomicPtr::default(),
        thread: AtomicU64::new(0),
        kicks: AtomicU32::new(0),
        policy: settings.policy,
        restart_at: AtomicU64::new(0),
        due_at: AtomicU64::new(0),
        group: AtomicU32::new(0),
        pulled: AtomicBool::new(false),
        watchdog: settings.watchdog,
        watch_from: AtomicU64::new(0),
        look_due: AtomicU64::new(0),
        stalled_after: AtomicU64::new(u64::MAX),
        stalled_for: AtomicU64::new(0),
        watch_limit: AtomicU64::new(0),
        published: AtomicU32::new(1 << State::New as u32),
        published_time: AtomicU64::new(0),
        has_stored: AtomicBool::new(false),
        settled: AtomicBool::new(false),
        cold: Mutex::default(),
    };
    let afar = cell.process.is_some();
    // A child's hook is called there.
    let has_hook = !afar && runtime.recipe.has_hook();
    let (kick, linked) = (kick_signal != 0, cell.link.is_some());
    let life = Life::new(Traits { notify: settings.notify, hook: has_hook, kick, afar, linked });
    if !runtime.retain() {
        return Err(Error::new(Status::InvalidHandle, "the runtime was freed"));
    }
    let pod = try_box(cell, "a pod").and_then(|cell| PodRef::new(world, cell, life, settings.grace));
    let pod = match pod {
        Ok(pod) => pod,
        Err(error) => {
            if runtime.unuse() {
                runtime.release();
            }
            return Err(error);
        }
    };
    pod.lives.store(settings.incarnation, Relaxed);
    if afar {
        pod.show(false, false); // what was asked of another pod in this slot is not asked of this one
    }
    lock(&world.hub).made(&pod);
    // A shutdown that did not see this pod yet has said no before it looked.
    if let Err(error) = world.check_open() {
        free(&pod);
        return Err(error);
    }
    Ok(pod)
}

fn thread_attr(stack_size: usize, kick_signal: i32) -> Result<ThreadAttr> {
    ThreadAttr::new(stack_size, kick_signal).map_err(|e| match e {
        libc::EINVAL => Error::argument(format!(
            "options.stack_size is {stack_size}: a thread needs at least {} bytes",
            libc::PTHREAD_STACK_MIN
        )),
        e => Error::resources(format!("no thread with {stack_size} bytes of stack: {}", linux::describe(e))),
    })
}

/// Ends the handle: a running pod is cancelled and let go. False: it was dead already.
pub(crate) fn free(pod: &PodRef) -> bool {
    if !pod.kill_handle() {
        return false;
    }
    if pod.cell().group.load(Acquire) != 0 {
        return true; // its group has it still
    }
    pod.advance(Event::Stop);
    pod.settle_if_never_launched();
    // If a signal handler cancelled it while NEW, nobody may be left to tell: the keeper could find the slot empty.
    pod.publish();
    true
}

impl PodRef {
    pub(crate) fn name(&self) -> &'static str {
        self.cell().name.to_str().unwrap_or_default()
    }

    pub(crate) fn incarnation(&self) -> u32 {
        self.lives.load(Relaxed)
    }

    pub(crate) fn failure(&self) -> Option<Failure> {
        lock(&self.cell().cold).failure()
    }

    /// The kernel's id of S; 0: there is none.
    pub(crate) fn kernel_id(&self) -> i64 {
        if self.life().state().is_final() { 0 } else { self.tid.load(Relaxed) as i64 }
    }

    /// A record about this pod.
    pub(crate) fn record(&self, phase: Phase, kind: Kind, code: i32, message: &str) -> Record {
        Record {
            pod_name: self.cell().name,
            incarnation: self.incarnation(),
            phase,
            kind,
            code,
            message: c_string(message),
            data: Arc::default(),
            stderr: None,
        }
    }

    /// With the end of the child's stderr.
    pub(crate) fn with_stderr(&self, record: Record) -> Record {
        Record { stderr: lock(&self.cell().cold).stderr.clone(), ..record }
    }

    /// Where S is.
    pub(crate) fn phase(&self) -> Phase {
        match self.cell().process.as_ref().and_then(|process| process.child()) {
            Some(child) => child.phase(),
            None => self.life().seat().phase(),
        }
    }

    /// When S last said that it lives; 0: never.
    pub(crate) fn last_heartbeat(&self) -> Nanos {
        match self.cell().process.as_ref().and_then(|process| process.child()) {
            Some(child) => child.heartbeat_at(),
            None => self.heartbeat_at.load(Relaxed),
        }
    }

    /// The pod is final: its use of the config ends (L3). Whoever comes first does it.
    pub(crate) fn settle(&self) {
        if let Some(runtime) = self.settled() {
            runtime.release();
        }
    }

    /// Ends the use of the config of a pod that is final; the runtime, for the one who has to release it.
    pub(crate) fn settled(&self) -> Option<Arc<RuntimeCell>> {
        self.end_use().flatten()
    }

    /// The same; `None`: it is not final, or somebody was faster.
    pub(crate) fn end_use(&self) -> Option<Option<Arc<RuntimeCell>>> {
        let first = self.life().state().is_final() && !self.cell().settled.swap(true, AcqRel);
        first.then(|| self.cell().runtime.unuse().then(|| self.cell().runtime.clone()))
    }

    /// A pod that never had an S has nobody else to settle it.
    pub(crate) fn settle_if_never_launched(&self) {
        if let Some(runtime) = self.settled_if_never_launched() {
            runtime.release();
        }
    }

    /// The same, for a thread that is not to wait for a user's drop.
    pub(crate) fn settle_elsewhere(&self, world: &'static World) {
        self.release_elsewhere(world, self.settled_if_never_launched());
    }

    /// Has the crew release it; here, if no thread can be had.
    pub(crate) fn release_elsewhere(&self, world: &'static World, runtime: Option<Arc<RuntimeCell>>) {
        if let Some(runtime) = runtime
            && let Err(runtime) = world.crew.release(world, runtime, None)
        {
            runtime.release();
        }
    }

    /// As [`PodRef::settled`], for a pod that never had an S. The lock makes it one step: whoever comes second finds the use
    /// ended, so that the runtime that is freed next is released by the one who frees it.
    pub(crate) fn settled_if_never_launched(&self) -> Option<Arc<RuntimeCell>> {
        if self.life().claimed() {
            return None;
        }
        let _cold = lock(&self.cell().cold);
        self.settled()
    }
}

/// For unit tests: a pod that is RUNNING by its word alone, with no S behind it.
#[cfg(test)]
pub(crate) mod testing {
    use crate::lifecycle::Event;
    use crate::table::PodRef;
    use crate::{BoxError, Context, Options, Pod, Procedure, Runtime};

    struct Idle;

    impl Procedure for Idle {
        fn run_forever(&self, _: Context) -> Result<(), BoxError> {
            Ok(())
        }
    }

    pub(crate) fn running(options: &Options) -> Pod {
        let runtime = Runtime::new("idle", |_| Ok(Idle)).unwrap();
        let owner = Pod::new(&runtime, options).unwrap();
        for event in [Event::Claim, Event::Launch, Event::EnterInit, Event::InitOk] {
            assert!(owner.here().unwrap().step(event).is_some(), "{event:?}"); // not announced: the keeper hears of none
        }
        owner
    }

    /// Nobody is there to end it, or to leave.
    pub(crate) fn end(pod: &PodRef, failed: bool) {
        pod.step(Event::End { failed, again: false });
        pod.settle();
        pod.step(Event::Gone);
    }
}
