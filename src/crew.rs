//! The threads that call the users' cancel hooks.
//!
//! Starting a pod with a hook makes sure that there is one such thread more than there are other pods with hooks, so a
//! hook that hangs delays only its own pod, and a hook runs even when no new thread can be had (L9). They wait for
//! work together, serve one pod after another, and what is more than reserved goes after a second without work.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::failure::Kind;
use crate::host::thread::note_hook_end;
use crate::lifecycle::{Event, Phase};
use crate::linux::{self, Nanos};
use crate::role;
use crate::runtime::RuntimeCell;
use crate::table::PodRef;
use crate::world::{World, lock};

#[derive(Default)]
pub(crate) struct Crew {
    state: Mutex<CrewState>,
    work: Condvar,
}

#[derive(Default)]
struct CrewState {
    jobs: VecDeque<Job>,
    threads: u32,
    /// One for each pod that has a hook and an S; `threads` is at least that.
    reserved: u32,
    /// When the crew was last needed.
    busy_at: Nanos,
    /// One idle thread waits with a limit, to see whether there are too many; the others wait without.
    watched: bool,
}

impl CrewState {
    fn surplus(&self) -> bool {
        self.threads > self.reserved
    }
}

enum Job {
    Hook(PodRef),
    /// A config to release, and the pod to tell of it; the reservation is given back afterwards.
    Release(Arc<RuntimeCell>, Option<PodRef>),
}

/// How long threads that are not reserved are kept after the crew was last needed: who uses hooks now will soon again.
const IDLE: Nanos = 1_000_000_000;

impl Crew {
    /// Makes sure that one more pod has a thread for its hook.
    pub(crate) fn reserve(&self, world: &'static World) -> Result<()> {
        let mut state = lock(&self.state);
        let most = 1 + state.reserved as usize;
        state.jobs.try_reserve(most).map_err(|_| crate::world::no_memory("a hook's thread"))?;
        // More than one is missing if a hook ended its thread and no other could be had.
        while state.threads <= state.reserved {
            let arg = ptr::from_ref(world).cast_mut().cast();
            // SAFETY: `enter` expects a world.
            unsafe { world.spawn_own(enter, arg) }.map_err(|e| {
                Error::resources(format!("no thread for the cancel hook: {}; the pod is still NEW", linux::describe(e)))
            })?;
            state.threads += 1;
        }
        state.reserved += 1;
        state.busy_at = linux::now();
        Ok(())
    }

    /// A pod with a hook has ended.
    pub(crate) fn give_back(&self) {
        let mut state = lock(&self.state);
        state.reserved -= 1;
        state.busy_at = linux::now();
        if !state.watched {
            self.work.notify_one(); // somebody shall count the second
        }
    }

    /// Has the hook of `pod` called. There is a thread for it.
    pub(crate) fn call_hook(&self, pod: PodRef) {
        lock(&self.state).jobs.push_back(Job::Hook(pod));
        self.work.notify_one();
    }

    /// Releases a config on a thread of its own, and then lets those go who wait for `pod`; gives it back when no thread
    /// can be had.
    pub(crate) fn release(
        &self,
        world: &'static World,
        runtime: Arc<RuntimeCell>,
        pod: Option<PodRef>,
    ) -> std::result::Result<(), Arc<RuntimeCell>> {
        if self.reserve(world).is_err() {
            return Err(runtime);
        }
        lock(&self.state).jobs.push_back(Job::Release(runtime, pod));
        self.work.notify_one();
        Ok(())
    }

    /// The next job; `None`: there is none, and this thread is one too many.
    fn next(&self) -> Option<Job> {
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if !state.surplus() || state.watched {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let until = state.busy_at + IDLE;
            if linux::now() >= until {
                state.threads -= 1;
                if state.surplus() {
                    self.work.notify_one();
                }
                return None;
            }
            state.watched = true;
            let left = linux::until(until).unwrap_or_default();
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            state.watched = false;
        }
    }
}

extern "C-unwind" fn enter(world: *mut c_void) -> *mut c_void {
    // SAFETY: `reserve` passes the world, which is never freed.
    let world: &'static World = unsafe { &*world.cast() };
    // SAFETY: this thread is its own and ends by returning from here or from inside a hook.
    unsafe { linux::detach_thread(linux::this_thread()) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep-hook");
    while let Some(job) = world.crew.next() {
        match job {
            Job::Hook(pod) => call_hook(ManuallyDrop::new(pod)),
            Job::Release(runtime, pod) => {
                runtime.release();
                if !world.is_here() {
                    linux::end_forked_child(); // the drop forked and returned
                }
                drop(runtime);
                if let Some(pod) = pod {
                    pod.advance(Event::Gone);
                }
                world.crew.give_back();
            }
        }
    }
    ptr::null_mut()
}

/// As in `host::thread`, no local with a destructor stands below the callback.
fn call_hook(pod: ManuallyDrop<PodRef>) {
    if pod.step(Event::HookBegin).is_some() {
        role::enter_hook(&pod);
        note_hook_end(Some(&pod));
        let (ctx, state) = (Context::of(&pod), pod.cell().state.load(Acquire));
        pod.cell().runtime.recipe.cancel(ctx, state);
        note_hook_end(None);
        role::leave();
        if !pod.is_here() {
            linux::end_forked_child(); // the hook forked and returned
        }
        pod.advance(Event::HookDone { failed: false });
    }
    drop(ManuallyDrop::into_inner(pod));
}

/// A hook ended its thread from inside.
pub(crate) fn died(pod: PodRef) {
    let text = "the hook ended its thread from inside (pthread_exit or the like)";
    let record = pod.record(Phase::Cancel, Kind::Exit, 0, text);
    if let Some(world) = World::existing() {
        let crew = &world.crew;
        let mut state = lock(&crew.state);
        state.threads -= 1;
        // The pod keeps its reservation until it has ended; another thread stands in, so that nobody else's hook waits.
        if state.threads < state.reserved {
            let arg = ptr::from_ref(world).cast_mut().cast();
            // SAFETY: `enter` expects a world.
            if unsafe { world.spawn_own(enter, arg) }.is_ok() {
                state.threads += 1;
            }
        }
    }
    pod.advance_failing(Event::HookDone { failed: true }, Some(record));
}
