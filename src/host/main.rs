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
use crate::world::{World, lock};

/// What a process has of its main pod. In its world: the child of a fork inherits the handlers, but not the pod.
#[derive(Default)]
pub(crate) struct Main {
    /// The pod; 0: none. For a signal handler.
    pod: AtomicU64,
    /// How many signals asked for its end, and the last of them.
    signals: AtomicU32,
    signal: AtomicI32,
    /// Who is told of its steps.
    above: Mutex<Option<Above>>,
    reign: Mutex<Option<Reign>>,
}

/// The code of an end by force when the grace was spent without a signal.
const TIMED_OUT: i32 = 124;

struct Above {
    upward: Upward,
    told_ready: bool,
    told_stopping: bool,
    /// How often it wants to hear that the pod lives; NEVER: it does not.
    interval: Nanos,
    next: Nanos,
}

/// What lasts from the first moment of a main pod to its last. Kept here and not on a frame below the callbacks, for those
/// may end the thread.
struct Reign {
    world: &'static World,
    pod: PodRef,
    before: Vec<(c_int, Disposition)>,
    mask: Mask,
}

impl Reign {
    /// Makes `pod` the main process's: one at a time.
    fn begin(world: &'static World, pod: &PodRef) -> Result<Reign> {
        let main = &world.main;
        if pod.life().state() != State::New || pod.life().claimed() {
            return Err(caller::not_new(pod));
        }
        if matches!(pod.cell().kick_signal, libc::SIGINT | libc::SIGTERM) {
            let why = "options.kick_signal is SIGINT or SIGTERM: a main pod's process is ended by a second one";
            return Err(Error::argument(why));
        }
        if main.pod.compare_exchange(0, pod.handle(), AcqRel, Acquire).is_err() {
            return Err(Error::state("podkeep_pod_run keeps another pod already: there is one main pod at a time"));
        }
        main.signals.store(0, SeqCst);
        main.signal.store(0, SeqCst);
        let interval = Upward::watchdog_interval();
        *lock(&main.above) = Upward::from_env().map(|upward| Above {
            upward,
            told_ready: false,
            told_stopping: false,
            interval: interval.map_or(NEVER, |interval| interval / 2),
            next: 0,
        });
        // From here on a cancel in a signal handler has the keeper look, who tells the one above.
        pod.step(Event::Attend);
        let before = [libc::SIGINT, libc::SIGTERM].map(|signal| (signal, signal::handle(signal, on_signal)));
        let kick = Some(pod.cell().kick_signal).filter(|&signal| signal != 0);
        let mask = signal::unblock([libc::SIGINT, libc::SIGTERM].into_iter().chain(kick));
        Ok(Reign { world, pod: pod.clone(), before: before.into(), mask })
    }

    /// S is a child process of this one. As PID 1 this process inherits orphans: those are reaped from now on.
    fn adopt(&mut self) -> Result<()> {
        if linux::process::own_pid() == 1
            && let Some(before) = signal::handle_if_unused(libc::SIGCHLD, on_child)
        {
            self.before.push((libc::SIGCHLD, before));
            signal::unblock(std::iter::once(libc::SIGCHLD)); // the mask that was is put back with the others'
            super::process::adopt(self.world)?;
        }
        Ok(())
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        super::process::adopt_no_more(self.world);
        for (signal, before) in self.before.drain(..) {
            signal::put_back(signal, &before);
        }
        signal::set_mask(&self.mask);
        *lock(&self.world.main.above) = None;
        self.world.main.pod.store(0, Release);
    }
}

/// Begins a main pod: one in a process is over when this returns, any other is for `caller::occupy` to run.
pub(crate) fn begin(pod: &PodRef) -> Result<Option<caller::Seated>> {
    role::refuse_waiting_for_all("podkeep_pod_run")?;
    let world = World::get()?;
    let mut reign = Reign::begin(world, pod)?;
    let begun = if pod.cell().process.is_none() {
        caller::prepare(pod, "podkeep_pod_run").map(Some)
    } else {
        reign.adopt()?;
        pod.start().map(|()| None)
    };
    let seated = match begun {
        // Cancelled before it began, by a signal that had waited for this: there is nothing to run.
        Err(_) if pod.life().state().is_final() => None,
        begun => begun?,
    };
    call_keeper(pod);
    if seated.is_none() {
        let _ = pod.join(Limit::Forever); // how it ended is told by its exit code
    }
    *lock(&world.main.reign) = Some(reign);
    Ok(seated)
}

/// Ends it; what `main` should return. By force it is the signal's that asked for the end, as if the process itself had been
/// the pod.
pub(crate) fn finish() -> Result<i32> {
    let world = World::get()?;
    let main = &world.main;
    let pod = lock(&main.reign).as_ref().map(|reign| reign.pod.clone());
    let pod = &pod.ok_or_else(|| Error::new(Status::Internal, "the main pod is not there any more"))?;
    tend(pod); // the last time
    // A second signal ends the process meanwhile, too: the reign lasts.
    super::process::pass_on_or_tell(pod, world);
    let _reign = lock(&main.reign).take();
    let signal = main.signal.load(SeqCst);
    let forced = pod.failure().is_some_and(|f| f.kind() == Kind::Timeout && f.phase() != Phase::Ready);
    Ok(if forced && signal != 0 { 128 + signal } else { caller::exit_code(pod) })
}

/// A callback has ended the main pod's thread from inside: nobody will call `finish`.
pub(crate) fn abdicate(pod: &PodRef) {
    if let Some(main) = main_of(pod) {
        let reign = lock(&main.reign).take();
        drop(reign);
    }
}

extern "C" fn on_signal(signal: c_int) {
    // The child of a fork has no main pod, unless it has made one, and no business with this handler.
    let main = World::existing().map(|world| &world.main).filter(|main| main.pod.load(SeqCst) != 0);
    let Some(main) = main else { return signal::raise_default(signal) };
    main.signal.store(signal, SeqCst);
    if main.signals.fetch_add(1, SeqCst) > 0 {
        signal::exit_at_once(128 + signal);
    }
    // The pod of a handle that was freed is cancelled already.
    if cancel::cancel(main.pod.load(SeqCst)).is_err() && main.pod.load(SeqCst) == 0 {
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
    main_of(pod).is_some()
}

fn main_of(pod: &PodRef) -> Option<&'static Main> {
    World::existing().map(|world| &world.main).filter(|main| main.pod.load(Acquire) == pod.handle())
}

/// The grace of a main pod is spent: the process ends at once, with whatever is in it (L12).
pub(crate) fn force() -> ! {
    signal::exit_at_once(match World::existing().map_or(0, |world| world.main.signal.load(SeqCst)) {
        0 => TIMED_OUT,
        signal => 128 + signal,
    })
}

/// Tells the one above what it does not know yet; when to be called again. After each step, and by the keeper.
pub(crate) fn tend(pod: &PodRef) -> Nanos {
    let Some(main) = main_of(pod) else { return NEVER };
    let mut above = lock(&main.above);
    let Some(above) = above.as_mut().filter(|_| is_main(pod)) else { return NEVER };
    let life = pod.life();
    let mut again = NEVER;
    let mut say = |upward: &Upward, text| {
        let said = upward.send(text);
        again = again.min(said.err().map_or(NEVER, |wait| linux::now().saturating_add(wait)));
        said.is_ok()
    };
    if life.was_running() && !above.told_ready {
        above.told_ready = say(&above.upward, "READY=1");
    }
    // Not between two lives: whoever is above would take it for the end.
    let stops = life.stop_asked() || life.state() == State::Stopping;
    let ends = life.state().is_final() || stops && !pod.may_follow(life);
    if ends && !above.told_stopping {
        above.told_stopping = say(&above.upward, "STOPPING=1");
    }
    if above.interval == NEVER || !above.told_ready || life.state().is_final() {
        return again;
    }
    // The keeper's own word: while it keeps the deadlines, a pod that misses one is its business and not of the one above.
    let now = linux::now();
    if above.next <= now && say(&above.upward, "WATCHDOG=1") {
        above.next = now.saturating_add(above.interval);
    }
    if above.next <= now { again } else { again.min(above.next) }
}

/// Passes a status text on.
pub(crate) fn status(pod: &PodRef, text: &str) {
    if let Some(main) = main_of(pod)
        && let Some(above) = lock(&main.above).as_ref()
    {
        above.upward.status(text);
    }
}

/// The keeper shall look at once: to feed the watchdog above from the beginning.
fn call_keeper(pod: &PodRef) {
    if let Some(main) = main_of(pod)
        && lock(&main.above).is_some()
        && let Some(region) = table::region()
    {
        region.bell.mark(pod.index());
        region.bell.ring(0);
    }
}
