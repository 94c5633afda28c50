//! S as a thread of this process.
//!
//! The thread is made with pthread_create, and nothing between its start and the user's callback has a destructor or
//! catches: an interpreter may end its foreign threads from inside a callback (glibc's forced unwinding), and that must
//! pass. A thread-specific value whose destructor glibc calls at the thread's end is how such an end is noticed.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::context::Context;
use crate::crew;
use crate::error::{Error, Result};
use crate::failure::Kind;
use crate::host;
use crate::lifecycle::{Event, Life, Phase, Seat, State};
use crate::linux::{self, NEVER, Nanos};
use crate::log;
use crate::role;
use crate::table::{PodRef, Side};
use crate::world::{World, lock};

/// Makes S. It launches the pod itself if the caller has not by then.
pub(crate) fn spawn(pod: &PodRef, world: &World) -> Result<()> {
    spawn_at(enter, pod, world)
}

fn spawn_at(enter: linux::Entry, pod: &PodRef, world: &World) -> Result<()> {
    end_key()?;
    let attr = pod.cell().attr.as_ref().unwrap_or(&world.default_attr);
    let index = pod.clone().into_index();
    // SAFETY: either `enter` takes the reference over.
    let made = unsafe { attr.spawn(&pod.cell().thread, enter, ptr::without_provenance_mut(index as usize)) };
    made.map_err(|error| {
        // SAFETY: no thread took it.
        drop(unsafe { PodRef::from_index(index) });
        // pthread_create may have named a thread that there never was.
        pod.cell().thread.store(0, Relaxed);
        let (name, why) = (pod.name(), linux::describe(error));
        let stack = match pod.cell().stack_size {
            0 => String::new(),
            size => format!(" with options.stack_size {size}"),
        };
        Error::resources(format!("no thread for pod {name:?}{stack}: {why}; it is NEW still, start it again later"))
    })
}

extern "C-unwind" fn enter(index: *mut c_void) -> *mut c_void {
    linux::refuse_cancellation();
    // SAFETY: `spawn` handed one reference to this thread, which `occupy` takes over.
    let pod = ManuallyDrop::new(unsafe { PodRef::from_index(index.addr() as u32) });
    linux::name_thread(pod.cell().name);
    occupy(index.addr() as u32);
    ptr::null_mut()
}

/// A thread that lives on what another one, which was ended from inside, has left.
extern "C-unwind" fn enter_next(index: *mut c_void) -> *mut c_void {
    // SAFETY: as in `enter`, which gives the reference back.
    let pod = ManuallyDrop::new(unsafe { PodRef::from_index(index.addr() as u32) });
    pod.step(Event::ReapRelease); // from here on the thread that is known is this one
    enter(index)
}

/// One incarnation of the pod in slot `index`, whose reference it takes over, on this thread.
pub(crate) fn occupy(index: u32) {
    // SAFETY: the caller handed a reference over. `leave` gives it back: a local with a destructor must not stand below a
    // callback.
    let pod = ManuallyDrop::new(unsafe { PodRef::from_index(index) });
    pod.tid.store(linux::thread_id(), Relaxed);
    role::enter_pod(&pod);
    // This thread may be the successor of one that was ended from inside: then it begins with the delay.
    let mut due = pod.life().state() != State::Restarting || pod.wait_to_revive();
    while due {
        if !note_end(pod.handle()) {
            pod.advance(Event::Launch);
            let text = "no memory to notice an end of the thread from inside";
            let record = pod.record(Phase::Spawn, Kind::Lost, 0, text);
            pod.end_life(vec![record], |failed, again| Event::InitNot { failed, again });
        } else if !live(&pod) {
            // A callback forked and returned in the child: nothing of the parent's runs there any more, no exit handler
            // either.
            linux::end_forked_child();
        }
        note_end(0);
        close_descriptor(&pod);
        due = pod.wait_to_revive();
    }
    leave(pod);
}

/// Who still polls the context's descriptor shall look. Also the meeting with the keeper: once this lock was had, no kick is
/// under way (`cancel::kick`). A pod with neither has not asked for the keeper.
fn close_descriptor(pod: &PodRef) {
    if !pod.life().needs_keeper() {
        return;
    }
    if let Some(fd) = lock(&pod.cell().cold).fd.take() {
        linux::signal_fd(&fd);
    }
}

/// Has what `occupy` needs to notice an end from inside.
pub(crate) fn ready_to_notice() -> Result<()> {
    end_key().map(drop)
}

/// One incarnation. False: this is the child of a fork.
fn live(pod: &PodRef) -> bool {
    pod.heed_afar();
    if pod.advance(Event::EnterInit).is_none() {
        pod.end_life(Vec::new(), |failed, again| Event::End { failed, again }); // cancelled before
        return true;
    }
    let recipe = &*pod.cell().runtime.recipe;
    let ctx = Context::of(pod);
    let mut state = ptr::null_mut();

    let code = recipe.init(ctx, &mut state);
    if !pod.is_here() {
        return false;
    }
    pod.heed_afar();
    if code != 0 {
        let failure = pod.judge(Phase::Init, code);
        pod.end_life(failure.into_iter().collect(), |failed, again| Event::InitNot { failed, again });
        return true;
    }
    pod.discard_stored();
    pod.cell().state.store(state, Release);
    pod.advance(Event::InitOk);

    if pod.life().seat() == Seat::Run {
        let code = recipe.run_forever(ctx, state);
        if !pod.is_here() {
            return false;
        }
        pod.heed_afar();
        let failure = pod.judge(Phase::Run, code);
        pod.advance_failing(Event::RunReturned { failed: failure.is_some() }, failure);
        wait_for_hook(pod);
        pod.advance(Event::HookJoined);
    }
    let failure = if pod.life().seat() == Seat::Teardown {
        let code = recipe.teardown(ctx, state);
        if !pod.is_here() {
            return false;
        }
        pod.judge(Phase::Teardown, code)
    } else {
        let late = "the thread came back after podkeep_shutdown's limit: the teardown that was due is not called";
        Some(pod.record(Phase::Teardown, Kind::Timeout, 0, late))
    };
    pod.end_life(failure.into_iter().collect(), |failed, again| Event::End { failed, again });
    true
}

/// S waits for the hook before teardown, without end (L9).
fn wait_for_hook(pod: &PodRef) {
    loop {
        let word = pod.word();
        if !Life(word as u32).hook_running() {
            return;
        }
        pod.sleep(word, Side::Pod, NEVER);
    }
}

/// The last acts of S, after the final state is shown.
fn leave(pod: ManuallyDrop<PodRef>) {
    let pod = ManuallyDrop::into_inner(pod);
    close_descriptor(&pod);
    pod.tid.store(0, Relaxed);
    let life = pod.life();
    if let Some(world) = World::existing() {
        pod.settle();
        if !pod.is_here() {
            linux::end_forked_child(); // the drop forked and returned
        }
        if life.has_hook() {
            world.crew.give_back();
        }
    }
    role::leave();
    // 0: it was somebody's thread before, and is so again.
    let is_ours = pod.cell().thread.load(Relaxed) != 0;
    let left_to_a_joiner = pod.advance(Event::Gone).is_some_and(|step| step.before.has_reaper());
    if is_ours && !left_to_a_joiner {
        // SAFETY: this thread; no joiner claimed it, and none can any more.
        unsafe { linux::detach_thread(linux::this_thread()) };
    }
}

/// The thread ended from inside (pthread_exit in a callback): no teardown, kind EXIT, code 0 (L2).
fn died(pod: PodRef) {
    let text = "the thread was ended from inside its callback (pthread_exit or the like)";
    let link = pod.cell().link.clone();
    let record = pod.record(pod.life().seat().phase(), Kind::Exit, 0, text);
    loop {
        wait_for_hook(&pod);
        // Refused while a hook runs: one may have begun just now.
        // A main pod lives in this very thread, or not at all.
        let stays = host::main::is_main(&pod);
        let died = |_, again| Event::Died { again: again && !stays };
        let ended = pod.end_life(vec![record.clone()], died).is_some();
        if ended || pod.life().context_over() {
            break;
        }
    }
    // The claim keeps a joiner away who comes after a cancel in the delay. One that was faster has this thread, and no other.
    if pod.life().state() == State::Restarting && pod.step(Event::ReapClaim).is_some() {
        return succeed(pod);
    }
    // A main pod on the first thread was the process: what is left could not even take a signal. It ends as it would have.
    let process = host::main::is_main(&pod) && linux::is_first_thread();
    let code = process.then(|| host::caller::exit_code(&pod));
    host::main::abdicate(&pod);
    if let Some(link) = link {
        // Of this process nothing is left but the library's own threads.
        link.end(&pod);
        linux::signal::exit_at_once(1);
    }
    leave(ManuallyDrop::new(pod));
    if let Some(code) = code {
        linux::signal::exit_at_once(code);
    }
}

/// The next life needs another thread: this one, which has claimed itself, is on its way out.
fn succeed(pod: PodRef) {
    close_descriptor(&pod);
    pod.tid.store(0, Relaxed);
    role::leave();
    let is_ours = pod.cell().thread.load(Relaxed) != 0;
    let made =
        World::existing().ok_or_else(|| Error::state("forked")).and_then(|world| spawn_at(enter_next, &pod, world));
    if is_ours {
        // SAFETY: this thread, which nobody else has a claim on.
        unsafe { linux::detach_thread(linux::this_thread()) };
    }
    match made {
        Ok(()) => drop(pod), // the successor has a reference of its own, and gives the claim back
        Err(error) => {
            pod.cell().thread.store(0, Relaxed);
            pod.give_up(&error.sentence);
            pod.step(Event::ReapRelease);
            leave(ManuallyDrop::new(pod));
        }
    }
}

/// Waits for the end of S's kernel thread, until `until`; false: it cannot be waited for, or somebody else does.
pub(crate) fn reap(pod: &PodRef, until: Nanos) -> bool {
    // While another life can follow, the thread may not be the last.
    if pod.cell().thread.load(Relaxed) == 0 || pod.may_follow(pod.life()) || pod.step(Event::ReapClaim).is_none() {
        return false;
    }
    let thread = pod.cell().thread.load(Relaxed);
    if thread == 0 {
        pod.step(Event::ReapRelease); // S ended from inside, and no successor could be had
        return false;
    }
    // SAFETY: the claim makes this thread the only one that joins it, and S does not detach itself meanwhile.
    let joined = unsafe { linux::join_thread(thread, until) };
    if joined.is_err() && pod.step(Event::ReapRelease).is_none() {
        // S went in this very moment, and left its thread to us.
        // SAFETY: as above.
        unsafe { linux::detach_thread(thread) };
    }
    !matches!(joined, Err(error) if error != libc::ETIMEDOUT)
}

/// Sends the kick. The caller has seen to it that S is there.
pub(crate) fn kick(pod: &PodRef, signal: i32) {
    linux::kick_thread(pod.tid.load(Relaxed), signal);
}

/// In the noted value: this is not S but a hook's thread.
const HOOK: u64 = 1 << 63;
/// The noted value of the log's thread.
const LOG: u64 = 1 << 62;

/// Notes for whom to report if this thread ends from inside; 0: nobody. False: that cannot be noted.
fn note_end(value: u64) -> bool {
    // SAFETY: a key of ours; the value is a number.
    end_key().is_ok_and(|key| unsafe {
        libc::pthread_setspecific(key, ptr::without_provenance::<c_void>(value as usize)) == 0
    })
}

/// The same for a thread that runs the hook of `pod`; `None`: it has returned.
pub(crate) fn note_hook_end(pod: Option<&PodRef>) {
    note_end(pod.map_or(0, |pod| pod.handle() | HOOK));
}

/// The same for the log's thread.
pub(crate) fn note_log_end() {
    note_end(LOG);
}

/// The key whose destructor reports threads that end from inside; one per process, for ever.
fn end_key() -> Result<libc::pthread_key_t> {
    extern "C" fn ended(value: *mut c_void) {
        let value = value.addr() as u64;
        if value == LOG {
            return log::died();
        }
        // Whatever it was cancelled for, it ends already.
        linux::refuse_cancellation();
        // The thread held a reference by this number, and nobody gave it back: it is taken over here.
        let Some(pod) = PodRef::of_role(value & !HOOK) else { return };
        if !pod.is_here() {
            return;
        }
        let pod = ManuallyDrop::into_inner(pod);
        if value & HOOK == 0 { died(pod) } else { crew::died(pod) }
    }
    // The key + 1; 0: none yet. No lock: a fork in the middle of making it must not leave one held.
    static KEY: AtomicU32 = AtomicU32::new(0);
    let known = KEY.load(Acquire);
    if known != 0 {
        return Ok(known - 1);
    }
    let mut key = 0;
    // SAFETY: a valid out pointer; the destructor lives as long as the library, which is never unloaded.
    let error = unsafe { libc::pthread_key_create(&mut key, Some(ended)) };
    if error != 0 {
        return Err(Error::resources(format!("no thread-specific key: {}", linux::describe(error))));
    }
    match KEY.compare_exchange(0, key + 1, AcqRel, Acquire) {
        Ok(_) => Ok(key),
        Err(first) => {
            // SAFETY: just made, never used.
            unsafe { libc::pthread_key_delete(key) };
            Ok(first - 1)
        }
    }
}
