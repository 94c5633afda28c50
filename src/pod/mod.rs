//! Pod: one kept instance of a runtime. Here is what its owner may do with it; where it runs is `host/`, what its
//! states mean is `lifecycle`, and the memory behind it is `table`. Waiting is in `wait`, the public Rust type in `owned`.

use std::alloc::{Layout, alloc};
use std::ffi::{CStr, CString, c_void};
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cancel;
use crate::error::{Error, Result, Status};
use crate::failure::{Failure, Kind, Record, c_string};
use crate::host::{
    self,
    process::{Process, link::Link},
};
use crate::keeper;
use crate::lifecycle::{Event, Life, Phase, State, Traits};
use crate::limit;
use crate::linux::{self, Nanos, ThreadAttr};
use crate::runtime::{CANCELLED, RuntimeCell, check_name};
use crate::supervise::restart::{History, Policy};
use crate::table::{self, PodRef, Step};
use crate::world::{World, lock, no_memory};

mod lives;
mod owned;
mod wait;

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
    pub(crate) watchdog: Nanos,
    /// A moment before which no heartbeat can be missed: the host was stalled until then.
    pub(crate) watch_from: AtomicU64,
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
    /// What a child wrote goes with each of its failures.
    pub(crate) fn attach_stderr(&mut self) {
        if let Some(failures) = &mut self.failures {
            Arc::make_mut(failures).iter_mut().for_each(|record| record.stderr = self.stderr.clone());
        }
    }
    pub(crate) fn failure(&self) -> Option<Failure> {
        Failure::first(self.failures.clone())
    }
}

/// Bytes on a 16-byte boundary.
pub(crate) struct Args {
    at: NonNull<u8>,
    len: usize,
}

// SAFETY: never written after they were made.
unsafe impl Send for Args {}
// SAFETY: as above.
unsafe impl Sync for Args {}

impl Args {
    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len, 16).ok()
    }
    fn copy(bytes: &[u8]) -> Result<Args> {
        let len = bytes.len();
        if len == 0 {
            return Ok(Args { at: NonNull::dangling(), len });
        }
        let no_room = || Error::resources(format!("no memory for options.args: args_len is {len}"));
        let layout = Args::layout(len).ok_or_else(no_room)?;
        // SAFETY: the size is not zero; the copy fills the whole allocation.
        unsafe {
            let at = NonNull::new(alloc(layout)).ok_or_else(no_room)?;
            at.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), len);
            Ok(Args { at, len })
        }
    }
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes were copied there.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Args {
    fn drop(&mut self) {
        if let Some(layout) = Args::layout(self.len)
            && self.len > 0
        {
            // SAFETY: allocated in `copy` with this layout.
            unsafe { std::alloc::dealloc(self.at.as_ptr(), layout) };
        }
    }
}

/// A box, or RESOURCES.
pub(crate) fn try_box<T>(value: T, what: &str) -> Result<Box<T>> {
    const { assert!(size_of::<T>() > 0) };
    // SAFETY: the size is not zero; the allocation is written before it becomes a box.
    unsafe {
        let at = alloc(Layout::new::<T>()).cast::<T>();
        if at.is_null() {
            return Err(no_memory(what));
        }
        at.write(value);
        Ok(Box::from_raw(at))
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
        watchdog: settings.watchdog,
        watch_from: AtomicU64::new(0),
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

    /// Does `event` and tells whoever has to know. Not for signal handlers.
    pub(crate) fn advance(&self, event: Event) -> Option<Step> {
        let step = self.step(event)?;
        self.announce(step);
        Some(step)
    }

    /// Does `event`, with the failure that goes with it: whoever sees that it failed finds the record.
    pub(crate) fn advance_failing(&self, event: Event, record: Option<Record>) -> Option<Step> {
        let Some(record) = record else { return self.advance(event) };
        let step = {
            let mut cold = lock(&self.cell().cold);
            let step = self.step(event)?;
            cold.push(record);
            step
        };
        self.announce(step);
        Some(step)
    }

    /// Does `event` with what a child tells of it: whoever sees the step finds the records. They are kept, too, when the
    /// event changes nothing.
    pub(crate) fn advance_told(&self, event: Event, records: Vec<Record>) -> Option<Step> {
        let step = {
            let mut cold = lock(&self.cell().cold);
            let step = self.step(event);
            records.into_iter().for_each(|record| cold.push(record));
            step?
        };
        self.announce(step);
        Some(step)
    }

    pub(crate) fn announce(&self, step: Step) {
        if let Some(link) = &self.cell().link {
            link.tell(self, step);
        }
        cancel::alert(self, step, false);
        if host::main::is_main(self) {
            host::main::tend(self);
        }
        if step.before.state() != step.after.state() {
            if step.entered(State::Running) && self.cell().watchdog != 0 {
                self.call_keeper(self.watchdog_deadline());
            }
            self.publish();
        }
    }

    /// Tells the monitors and the log what they do not know yet.
    pub(crate) fn publish(&self) {
        if table::region().is_some_and(|r| r.watchers.load(SeqCst) > 0)
            && let Some(world) = World::existing()
        {
            lock(&world.hub).publish(self);
        }
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

    /// What a callback's return value means: `None` is a clean end (L6). What `fail` stored goes with it or is gone.
    pub(crate) fn judge(&self, phase: Phase, code: i32) -> Option<Record> {
        let stored = self.discard_stored();
        let asked = matches!(phase, Phase::Init | Phase::Run) && self.life().stop_asked();
        if code == 0 || code == CANCELLED && asked {
            return None;
        }
        let callback = match phase {
            Phase::Init => "init",
            Phase::Teardown => "teardown",
            _ => "run_forever",
        };
        Some(match stored {
            Some(Stored { kind, message, data, .. }) => Record { message, data, ..self.record(phase, kind, code, "") },
            None => self.record(phase, Kind::Returned, code, &format!("{callback} returned {code}")),
        })
    }

    /// Takes what `fail` stored: a clean return discards it.
    pub(crate) fn discard_stored(&self) -> Option<Stored> {
        let cell = self.cell();
        cell.has_stored.swap(false, AcqRel).then(|| lock(&cell.cold).stored.take()).flatten()
    }

    /// The pod is final: its use of the config ends (L3). Whoever comes first does it.
    pub(crate) fn settle(&self) {
        if let Some(runtime) = self.settled() {
            runtime.release();
        }
    }

    /// Ends the use of the config of a pod that is final; the runtime, for the one who has to release it.
    pub(crate) fn settled(&self) -> Option<Arc<RuntimeCell>> {
        let first = self.life().state().is_final() && !self.cell().settled.swap(true, AcqRel);
        (first && self.cell().runtime.unuse()).then(|| self.cell().runtime.clone())
    }

    /// A pod that never had an S has nobody else to settle it.
    pub(crate) fn settle_if_never_launched(&self) {
        if let Some(runtime) = self.settled_if_never_launched() {
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

    pub(crate) fn start(&self) -> Result<()> {
        let world = World::get()?;
        self.claim()?;
        let launched = self.launch(world);
        if launched.is_err() {
            self.unclaim();
        }
        launched
    }

    /// Takes the right to start it.
    pub(crate) fn claim(&self) -> Result<()> {
        if self.step(Event::Claim).is_some() {
            return Ok(());
        }
        let state = self.life().state();
        let why = if state == State::New { "being started by another thread" } else { state.name() };
        Err(Error::state(format!("pod {:?} is {why}: a pod starts once; make a new one", self.name())))
    }

    /// Gives it back: what the start needs could not be had.
    pub(crate) fn unclaim(&self) {
        if self.step(Event::Unclaim).is_none() {
            // Cancelled meanwhile, and no S will say so.
            self.advance(Event::End { failed: false, again: false });
            self.step(Event::Gone);
            self.settle();
        }
    }

    pub(crate) fn set_ready_limit(&self) {
        if self.cell().ready_timeout != 0 {
            self.ready_limit.store(limit::after(self.cell().ready_timeout), Relaxed);
        }
    }

    /// Has the keeper look at the ready timeout, once the pod is STARTING.
    pub(crate) fn watch_ready_limit(&self) {
        if self.cell().ready_timeout != 0 {
            self.call_keeper(self.ready_limit.load(Relaxed));
        }
    }

    /// Has the keeper look at this pod, by `deadline`.
    pub(crate) fn call_keeper(&self, deadline: Nanos) {
        if let Some(region) = table::region() {
            region.bell.mark(self.index());
            region.bell.ring(deadline);
        }
    }

    fn launch(&self, world: &'static World) -> Result<()> {
        keeper::ensure(world)?;
        self.set_ready_limit();
        if self.cell().process.is_some() {
            host::process::spawn(self, world)?;
            self.watch_ready_limit();
            return Ok(());
        }
        let hooked = self.life().has_hook();
        if hooked {
            world.crew.reserve(world)?;
        }
        if let Err(error) = self.prepare_kick().and_then(|()| host::thread::spawn(self, world)) {
            if hooked {
                world.crew.give_back();
            }
            return Err(error);
        }
        // S may have been faster.
        self.advance(Event::Launch);
        self.watch_ready_limit();
        Ok(())
    }

    pub(crate) fn prepare_kick(&self) -> Result<()> {
        match self.cell().kick_signal {
            0 => Ok(()),
            signal => linux::ensure_kick_handler(signal)
                .map_err(|e| Error::resources(format!("no handler for the kick: {}", linux::describe(e)))),
        }
    }
}
