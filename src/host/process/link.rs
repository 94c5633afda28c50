//! The child's own side: it claims its pod, runs it here, and tells the host of each step.

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, Weak};

use super::block::{Block, Errand, Mapped, NotOurs};
use super::frame::{Frame, Told};
use super::program::{self, MARKER, Mark, Marker};
use crate::error::{Error, Result, Status};
use crate::failure::{Kind, Record};
use crate::keeper;
use crate::lifecycle::{Event, Phase, Seat, State};
use crate::linux::process::{self, recv_some, send_some};
use crate::linux::{self, NEVER, poll};
use crate::pod::{self, Settings};
use crate::runtime::RuntimeCell;
use crate::supervise::restart::{Policy, Restart};
use crate::table::{self, PodRef, Step};
use crate::world::{World, lock};

/// `podkeep_child_run` was called in this program: it can be started anew.
static ASKED: AtomicBool = AtomicBool::new(false);
/// This program was started for a pod, and has not come to run it: as a host it would start itself anew, and so on.
static UNCLAIMED: AtomicBool = AtomicBool::new(false);

/// The runtimes a child of this program can run. An export keeps none of them alive.
pub(crate) type Exports = HashMap<&'static CStr, Weak<RuntimeCell>>;

/// Lets process pods of this program run `runtime`, by its name.
pub(crate) fn export(runtime: &Arc<RuntimeCell>) -> Result<()> {
    let world = World::get()?;
    world.check_open()?;
    lock(&world.exports).insert(runtime.name, Arc::downgrade(runtime));
    Ok(())
}

fn exported(world: &World, name: &CStr) -> Option<Arc<RuntimeCell>> {
    lock(&world.exports).get(name)?.upgrade().filter(|runtime| runtime.is_in_use())
}

/// Refuses to start a pod that its child could not run, or that would start the program anew without end.
pub(super) fn check_exported(runtime: &Arc<RuntimeCell>, pod: &str) -> Result<()> {
    let name = runtime.name.to_string_lossy();
    if std::env::var_os(MARKER).is_some() {
        return Err(Error::state(format!(
            "pod {pod:?}: this process is itself a pod's child and has not claimed its pod; call podkeep_child_run first thing in main"
        )));
    }
    if UNCLAIMED.load(SeqCst) {
        return Err(Error::state(format!(
            "pod {pod:?}: this process is itself a pod's child and could not claim its pod; end it, as podkeep_child_run has asked for"
        )));
    }
    if !ASKED.load(SeqCst) {
        return Err(Error::state(format!(
            "pod {pod:?}: its child would be this program started anew, which never called podkeep_child_run; call it first thing in main"
        )));
    }
    match exported(World::get()?, runtime.name) {
        Some(found) if Arc::ptr_eq(&found, runtime) => Ok(()),
        Some(_) => Err(Error::state(format!("pod {pod:?}: another runtime was exported as {name:?} after this one"))),
        None => {
            Err(Error::state(format!("pod {pod:?}: its runtime {name:?} was not exported; call podkeep_export first")))
        }
    }
}

/// One end of the channel to the host.
pub(crate) struct Link {
    socket: OwnedFd,
    bell: OwnedFd,
    block: &'static Block,
    outbox: Mutex<Outbox>,
    /// Set once it is made.
    pod: Mutex<Option<PodRef>>,
}

#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// The newest one, told when the way is free.
    status: Option<String>,
    /// So many records of the chain were told.
    told: usize,
    ended: bool,
}

impl Outbox {
    /// The newest status takes its place among the words; false: there is none.
    fn write_status(&mut self) -> bool {
        let status = self.status.take();
        let there = status.is_some();
        status.into_iter().for_each(|text| Frame::Status(text).write(&mut self.bytes));
        there
    }
}

impl Link {
    pub(super) fn new(socket: OwnedFd, block: &'static Block) -> Result<Link> {
        let bell = linux::event_fd().map_err(|e| Error::resources(format!("no descriptor: {}", linux::describe(e))))?;
        Ok(Link { socket, bell, block, outbox: Mutex::default(), pod: Mutex::default() })
    }

    /// Whether something did not go at once.
    pub(super) fn is_behind(&self) -> bool {
        !lock(&self.outbox).bytes.is_empty()
    }

    /// Sends of that what the socket takes now. Rings for nobody: whoever calls this waits for the socket himself.
    pub(super) fn catch_up(&self) {
        self.push(&mut lock(&self.outbox), false);
    }

    fn send(&self, frame: &Frame) {
        let mut outbox = lock(&self.outbox);
        if !outbox.ended {
            frame.write(&mut outbox.bytes);
            self.flush(&mut outbox);
        }
    }

    /// Sends what the socket takes; the link's thread sends the rest.
    fn flush(&self, outbox: &mut Outbox) {
        if !self.push(outbox, false) {
            linux::signal_fd(&self.bell);
        }
    }

    /// Sends what the socket takes; with `wait` all. True: all went, or the host is gone.
    fn push(&self, outbox: &mut Outbox, wait: bool) -> bool {
        loop {
            if outbox.bytes.is_empty() && !outbox.write_status() {
                return true;
            }
            match send_some(&self.socket, &outbox.bytes, wait) {
                Ok(n) => drop(outbox.bytes.drain(..n)),
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => return false,
                Err(_) => outbox.bytes.clear(), // the host is gone, and its guardian comes
            }
        }
    }

    /// Tells of a step of S's.
    pub(crate) fn tell(&self, pod: &PodRef, step: Step) {
        let (before, after) = (step.before, step.after);
        if before.seat() != after.seat() {
            self.block.seat.store(after.seat() as u32, Release);
        }
        let entered = |seat: Seat| before.seat() != seat && after.seat() == seat;
        if before.seat() == Seat::Init && after.seat() != Seat::Init && !after.state().is_final() {
            self.send(&Frame::InitOk);
        }
        if step.entered(State::Running) && after.is_notify() {
            self.send(&Frame::Ready);
        }
        if before.hook_running() && !after.hook_running() && after.failed() {
            self.tell_records(pod);
            self.send(&Frame::Failed);
        }
        if before.seat() == Seat::Run && (entered(Seat::Hook) || entered(Seat::Teardown) || entered(Seat::Barred)) {
            self.tell_records(pod);
            // Of a clean end in answer to a stop the host learns nothing that it does not know.
            if after.failed() || !before.stop_asked() {
                self.send(&Frame::RunReturned { failed: after.failed() });
            }
        }
    }

    fn tell_records(&self, pod: &PodRef) {
        let (records, hook) = lock(&pod.cell().cold).records_and_hooks();
        self.tell_up_to(&records, hook, records.len(), &mut lock(&self.outbox));
    }

    /// Tells of the failures before `end` that were not told yet. The hook's own is told as such, whoever comes first: it
    /// may be told anew.
    fn tell_up_to(&self, records: &[Record], hook: Option<usize>, end: usize, outbox: &mut Outbox) {
        let new = records.get(outbox.told..end).unwrap_or_default();
        if outbox.ended || new.is_empty() {
            return;
        }
        for (at, record) in new.iter().enumerate() {
            let is_hooks = hook == Some(outbox.told + at);
            let frame = if is_hooks { Frame::HookRecord } else { Frame::Record };
            frame(told(record)).write(&mut outbox.bytes);
        }
        outbox.told = end;
        self.flush(outbox);
    }

    /// The hook has said of itself what stands at `at` in the chain: for the first time, or anew.
    pub(crate) fn tell_hook(&self, pod: &PodRef, at: usize) {
        let records = lock(&pod.cell().cold).records();
        let Some(record) = records.get(at) else { return };
        let mut outbox = lock(&self.outbox);
        self.tell_up_to(&records, Some(at), at, &mut outbox);
        if !outbox.ended {
            Frame::HookRecord(told(record)).write(&mut outbox.bytes);
            outbox.told = outbox.told.max(at + 1);
            self.flush(&mut outbox);
        }
    }

    pub(crate) fn tell_status(&self, text: &str) {
        let mut outbox = lock(&self.outbox);
        if !outbox.ended {
            outbox.status = Some(text.to_owned());
            self.flush(&mut outbox);
        }
    }

    pub(crate) fn tell_extend(&self, span: linux::Nanos) {
        self.send(&Frame::Extend(span));
    }

    pub(crate) fn heartbeat(&self, now: linux::Nanos) {
        self.block.heartbeat.store(now, Relaxed);
    }

    /// The pod cannot be run here; the code for `main`.
    pub(crate) fn refuse(&self, why: &Error) -> i32 {
        let message = crate::failure::c_string(&why.sentence);
        let told = Told { phase: Phase::Spawn, kind: Kind::Lost, code: 0, message, data: Vec::new() };
        self.send(&Frame::Record(told));
        self.send(&Frame::End { failed: true });
        127
    }

    /// The library's word for the end; waits until the host has it, or is gone.
    pub(crate) fn end(&self, pod: &PodRef) {
        self.tell_records(pod);
        let mut outbox = lock(&self.outbox);
        if !outbox.ended {
            outbox.ended = true;
            outbox.write_status(); // one that waits for its turn: nothing follows the end
            Frame::End { failed: pod.life().failed() }.write(&mut outbox.bytes);
            self.push(&mut outbox, true);
        }
    }
}

pub(super) fn told(record: &Record) -> Told {
    let Record { phase, kind, code, ref message, ref data, .. } = *record;
    Told { phase, kind, code, message: message.clone(), data: data.to_vec() }
}

/// A pod that this process was started for, claimed and ready to be run here.
pub(crate) struct Claimed {
    pub(crate) pod: PodRef,
    pub(crate) link: Arc<Link>,
}

/// What became of a claim.
pub(crate) enum Claim {
    /// This is no pod's child.
    None,
    Pod(Claimed),
    /// It cannot be run: the host knows why, and `main` has to end with this code.
    Refused(i32),
}

/// Claims the pod this process was started for. `load` makes a runtime of a library's symbol.
pub(crate) fn claim(load: impl FnOnce(&CStr, &CStr, &CStr) -> Result<Arc<RuntimeCell>>) -> Result<Claim> {
    ASKED.store(true, SeqCst);
    program::note_arguments();
    let marker = Marker::read();
    // Removed whatever comes of it: it is for this process alone.
    process::forget_variable(c"PODKEEP_CHILD");
    // Inherited by a process that it was not made for it says nothing.
    let Some(mark) = marker.filter(|mark| mark.pid == process::own_pid()) else { return Ok(Claim::None) };
    UNCLAIMED.store(true, SeqCst);
    let claim = claim_marked(mark, load);
    UNCLAIMED.store(!matches!(claim, Ok(Claim::None | Claim::Pod(_))), SeqCst);
    claim
}

fn claim_marked(mark: Mark, load: impl FnOnce(&CStr, &CStr, &CStr) -> Result<Arc<RuntimeCell>>) -> Result<Claim> {
    let Mark { channel, block, shown, errand, .. } = mark;
    let mapped = match Mapped::open(block, process::own_pid()) {
        Ok(mapped) => mapped,
        // A command may close what it does not know.
        Err(NotOurs::Foreign) if errand == Errand::Command as u32 => return Ok(Claim::None),
        // The pod's own program must not go on as if it were a host: it would start itself anew without end.
        Err(NotOurs::Foreign) => {
            eprintln!("podkeep: the channel to the host was closed before podkeep_child_run");
            return Ok(Claim::Refused(127));
        }
        Err(NotOurs::Version(version)) => {
            return Err(Error::new(
                Status::Unsupported,
                format!("the host of this pod speaks version {version} of the channel: use the same podkeep in both"),
            ));
        }
    };
    for fd in [channel, block, shown] {
        process::close_on_exec(fd);
    }
    let heard = super::shown::read(shown, mapped.block().slot).map(table::listen_afar);
    let world = World::get()?;
    let name = mapped.runtime();
    let runtime = match mapped.errand() {
        Some(Errand::Library) => load(&name, &mapped.path(), &mapped.symbol()),
        Some(Errand::Command) => match exported(world, &name) {
            Some(runtime) => Ok(runtime),
            None => return Ok(Claim::None), // a program that is kept as a command only
        },
        Some(Errand::Exported) => exported(world, &name).ok_or_else(|| {
            Error::new(Status::NotFound, format!("the program exports no runtime {:?}", name.to_string_lossy()))
        }),
        None => return Ok(Claim::None),
    };
    // SAFETY: the host made this descriptor for this process, which has just taken its block; nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(channel) };
    let link = Arc::new(Link::new(socket, mapped.block())?);
    link.block.claimed.store(1, Release);
    link.block.wait_for_go();
    let deaf = || {
        Error::resources("what the host asks for cannot be mapped: its descriptor was closed, or there is no memory")
    };
    let made = runtime.and_then(|runtime| heard.ok_or_else(deaf).map(|()| runtime)).and_then(|runtime| {
        let pod_name = mapped.pod();
        let settings = Settings {
            name: Some(&pod_name),
            notify: mapped.block().notify != 0,
            // The host keeps all limits.
            ready_timeout: 0,
            grace: NEVER,
            extend_max: mapped.block().extend_max,
            args: mapped.args(),
            policy: Policy { restart: Restart::Never, most: 0, window: 0, backoff: 0, backoff_max: 0 },
            watchdog: 0,
            incarnation: mapped.block().incarnation,
            place: pod::Place::Child(link.clone()),
        };
        pod::make(&runtime, settings)
    });
    let made = made.and_then(|pod| {
        *lock(&link.pod) = Some(pod.clone());
        let arg = Arc::into_raw(link.clone()).cast_mut().cast::<c_void>();
        // SAFETY: `enter` takes the reference over.
        if let Err(error) = unsafe { world.spawn_own(enter, arg) } {
            // SAFETY: no thread took it.
            drop(unsafe { Arc::from_raw(arg.cast_const().cast::<Link>()) });
            return Err(Error::resources(format!("no thread for the channel: {}", linux::describe(error))));
        }
        Ok(pod)
    });
    match made {
        Ok(pod) => Ok(Claim::Pod(Claimed { pod, link })),
        Err(error) => Ok(Claim::Refused(link.refuse(&error))),
    }
}

/// Hears what the host says, and sends what did not go at once.
extern "C-unwind" fn enter(link: *mut c_void) -> *mut c_void {
    // SAFETY: `claim` hands one reference to this thread.
    let link = unsafe { Arc::from_raw(link.cast_const().cast::<Link>()) };
    // SAFETY: this thread, which nobody joins.
    unsafe { linux::detach_thread(linux::this_thread()) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep-link");
    loop {
        poll::wait_for(&link.socket, link.is_behind(), &link.bell);
        linux::drain_fd(&link.bell);
        link.catch_up();
        // Whatever the host says it means "look": so nothing is kept of it, and this thread allocates nothing.
        let mut piece = [0; 64];
        match recv_some(&link.socket, &mut piece) {
            Ok(n) if n > 0 => link.look(),
            Err(libc::EAGAIN | libc::EINTR) => continue,
            _ => {
                // The host is gone, or has given this pod up.
                link.stop();
                return ptr::null_mut();
            }
        }
    }
}

impl Link {
    /// The host has asked for something in the memory that both see.
    fn look(&self) {
        let Some(pod) = lock(&self.pod).clone() else { return };
        pod.heed_afar();
        keeper::pass_on(&pod);
    }

    /// The host is gone.
    fn stop(&self) {
        let Some(pod) = lock(&self.pod).clone() else { return };
        pod.advance(Event::Stop);
        keeper::pass_on(&pod);
    }
}
