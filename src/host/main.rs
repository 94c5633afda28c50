//! The pod as a whole process: SIGINT and SIGTERM cancel it, a supervisor above is told of its steps, and as PID 1 it
//! sees to the orphans that nobody else will.

use std::ffi::c_int;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::*};

use super::caller;
use super::upward::Upward;
use crate::cancel;
use crate::error::{Error, Result, Status};
use crate::failure::Kind;
use crate::lifecycle::{Event, Phase, State};
use crate::limit::Limit;
use crate::linux::signal::{self, Disposition, Mask};
use crate::linux::{self, NEVER, Nanos};
use crate::role;
use crate::table::{self, PodRef};
use crate::world::lock;

/// The pod of the main process; 0: none. For a signal handler.
static POD: AtomicU64 = AtomicU64::new(0);
/// How many signals asked for its end, and the last of them.
static SIGNALS: AtomicU32 = AtomicU32::new(0);
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Who is told of its steps.
static ABOVE: Mutex<Option<Above>> = Mutex::new(None);

/// The code of an end by force when the grace was spent without a signal.
const TIMED_OUT: i32 = 124;

struct Above {
    upward: Upward,
    told_ready: bool,
    told_stopping: bool,
    /// How often it wants to hear that the pod lives; NEVER: it does not.
    interval: Nanos,
    next: Nanos,
    heartbeat: Nanos,
}

/// What lasts from the first moment of a main pod to its last. Kept here and not on a frame below the callbacks, for those
/// may end the thread.
struct Reign {
    pod: PodRef,
    before: Vec<(c_int, Disposition)>,
    mask: Mask,
    adopts: bool,
}

static REIGN: Mutex<Option<Reign>> = Mutex::new(None);

impl Reign {
    /// Makes `pod` the main process's: one at a time.
    fn begin(pod: &PodRef) -> Result<Reign> {
        if pod.life().state() != State::New || pod.life().claimed() {
            return Err(caller::not_new(pod));
        }
        if POD.compare_exchange(0, pod.handle(), AcqRel, Acquire).is_err() {
            return Err(Error::state("podkeep_pod_run keeps another pod already: there is one main pod at a time"));
        }
        SIGNALS.store(0, SeqCst);
        SIGNAL.store(0, SeqCst);
        let interval = Upward::watchdog_interval();
        *lock(&ABOVE) = Upward::from_env().map(|upward| Above {
            upward,
            told_ready: false,
            told_stopping: false,
            interval: interval.map_or(NEVER, |interval| interval / 2),
            next: 0,
            heartbeat: 0,
        });
        // From here on a cancel in a signal handler has the keeper look, who tells the one above.
        pod.step(Event::Attend);
        let before = [libc::SIGINT, libc::SIGTERM].map(|signal| (signal, signal::handle(signal, on_signal)));
        let kick = Some(pod.cell().kick_signal).filter(|&signal| signal != 0);
        let mask = signal::unblock([libc::SIGINT, libc::SIGTERM].into_iter().chain(kick));
        Ok(Reign { pod: pod.clone(), before: before.into(), mask, adopts: false })
    }

    /// S is a child process of this one. As PID 1 this process inherits orphans: those are reaped from now on.
    fn adopt(&mut self) {
        if linux::process::own_pid() == 1
            && let Some(before) = signal::handle_if_unused(libc::SIGCHLD, on_child)
        {
            self.before.push((libc::SIGCHLD, before));
            self.adopts = true;
            super::process::adopt(true);
        }
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        if self.adopts {
            super::process::adopt(false);
        }
        for (signal, before) in self.before.drain(..) {
            signal::put_back(signal, &before);
        }
        signal::set_mask(&self.mask);
        *lock(&ABOVE) = None;
        POD.store(0, Release);
    }
}

/// Begins a main pod: one in a process is over when this returns, any other is for `caller::occupy` to run.
pub(crate) fn begin(pod: &PodRef) -> Result<Option<caller::Seated>> {
    role::refuse_waiting_for_all("podkeep_pod_run")?;
    let mut reign = Reign::begin(pod)?;
    let seated = if pod.cell().process.is_none() {
        let seated = caller::prepare(pod, "podkeep_pod_run")?;
        call_keeper(pod);
        Some(seated)
    } else {
        reign.adopt();
        pod.start()?;
        call_keeper(pod);
        let _ = pod.join(Limit::Forever); // how it ended is told by its exit code
        None
    };
    *lock(&REIGN) = Some(reign);
    Ok(seated)
}

/// Ends it; what `main` should return. By force it is the signal's that asked for the end, as if the process itself had been
/// the pod.
pub(crate) fn finish() -> Result<i32> {
    let reign = lock(&REIGN).take();
    let pod = reign.as_ref().map(|reign| &reign.pod);
    let pod = pod.ok_or_else(|| Error::new(Status::Internal, "the main pod is not there any more"))?;
    let signal = SIGNAL.load(SeqCst);
    let forced = pod.failure().is_some_and(|f| f.kind() == Kind::Timeout && f.phase() != Phase::Ready);
    Ok(if forced && signal != 0 { 128 + signal } else { caller::exit_code(pod) })
}

/// A callback has ended the main pod's thread from inside: nobody will call `finish`.
pub(crate) fn abdicate(pod: &PodRef) {
    if is_main(pod) {
        let reign = lock(&REIGN).take();
        drop(reign);
    }
}

extern "C" fn on_signal(signal: c_int) {
    SIGNAL.store(signal, SeqCst);
    if SIGNALS.fetch_add(1, SeqCst) > 0 {
        signal::exit_at_once(128 + signal);
    }
    // A forked copy has no pod, and no business with this handler.
    if cancel::cancel(POD.load(SeqCst)).is_err() {
        signal::raise_default(signal);
    }
}

extern "C" fn on_child(_: c_int) {
    let errno = linux::errno();
    super::process::look_for_orphans();
    linux::set_errno(errno);
}

/// Whether `pod` is the main process's.
pub(crate) fn is_main(pod: &PodRef) -> bool {
    POD.load(Acquire) == pod.handle()
}

/// The grace of a main pod is spent: the process ends at once, with whatever is in it (L12).
pub(crate) fn force() -> ! {
    signal::exit_at_once(match SIGNAL.load(SeqCst) {
        0 => TIMED_OUT,
        signal => 128 + signal,
    })
}

/// Tells the one above what it does not know yet; when to be called again. After each step, and by the keeper.
pub(crate) fn tend(pod: &PodRef) -> Nanos {
    let mut above = lock(&ABOVE);
    let Some(above) = above.as_mut().filter(|_| is_main(pod)) else { return NEVER };
    let life = pod.life();
    if life.was_running() && !above.told_ready {
        above.told_ready = above.upward.send("READY=1");
    }
    // Not between two lives: whoever is above would take it for the end.
    let stops = life.stop_asked() || life.state() == State::Stopping;
    let ends = life.state().is_final() || stops && !pod.may_follow(life);
    if ends && !above.told_stopping {
        above.told_stopping = above.upward.send("STOPPING=1");
    }
    if above.interval == NEVER || !above.told_ready || above.told_stopping {
        return NEVER;
    }
    let now = linux::now();
    if above.next <= now {
        // A pod that sends heartbeats while it is RUNNING is believed by them alone; otherwise this process's word counts.
        let heartbeat = pod.last_heartbeat();
        if heartbeat == 0 || heartbeat != above.heartbeat || life.state() != State::Running {
            above.upward.send("WATCHDOG=1");
        }
        above.heartbeat = heartbeat;
        above.next = now.saturating_add(above.interval);
    }
    above.next
}

/// Passes a status text on.
pub(crate) fn status(pod: &PodRef, text: &str) {
    if let Some(above) = lock(&ABOVE).as_ref().filter(|_| is_main(pod)) {
        above.upward.status(text);
    }
}

/// The keeper shall look at once: to feed the watchdog above from the beginning.
fn call_keeper(pod: &PodRef) {
    if is_main(pod)
        && lock(&ABOVE).is_some()
        && let Some(region) = table::region()
    {
        region.bell.mark(pod.index());
        region.bell.ring(0);
    }
}
