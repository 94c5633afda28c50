//! The log: what the library tells about pods, to one callback of the host, on a thread of its own, so that a log
//! callback that hangs delays nothing but the log.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::failure::c_string;
use crate::host::thread::note_log_end;
use crate::lifecycle::State;
use crate::limit::Limit;
use crate::linux::{self, Nanos};
use crate::monitor::Event;
use crate::role;
use crate::table::PodRef;
use crate::world::{World, lock};

pub(crate) const ERROR: i32 = 1;
pub(crate) const WARN: i32 = 2;
pub(crate) const INFO: i32 = 3;
pub(crate) const DEBUG: i32 = 4;

/// Where lines go. Dropping it is the end of its user data.
pub(crate) trait Sink: Send + Sync {
    fn write(&self, level: i32, pod: &CStr, message: &CStr);
}

#[derive(Default)]
pub(crate) struct Log {
    /// 0: off. Read without the lock by whoever might write.
    level: AtomicI32,
    state: Mutex<LogState>,
    arrived: Condvar,
    /// One change of the sink at a time.
    setting: Mutex<()>,
}

#[derive(Default)]
struct LogState {
    sink: Option<Arc<dyn Sink>>,
    lines: VecDeque<Line>,
    /// The bytes of their messages.
    held: usize,
    lost: u64,
    has_thread: bool,
    /// After a shutdown.
    closed: bool,
    /// What the thread is telling, or about to: here and not on its stack, for a callback may end the thread.
    telling: Option<Box<Telling>>,
}

struct Telling {
    sink: Arc<dyn Sink>,
    line: Line,
}

struct Line {
    level: i32,
    pod: &'static CStr,
    message: CString,
}

/// More lines than this, or of more bytes, wait for a slow callback in vain: the oldest go, and their number is told.
const MANY: usize = 4096;
const LARGE: usize = 16 << 20;

/// How long a shutdown waits at most for a line that is being told.
const TELL_TIME: Nanos = 1_000_000_000;

impl Log {
    /// Sends lines up to `level` to `sink`; `None`: nowhere. What was waiting for the old one is gone.
    pub(crate) fn set(&self, world: &'static World, sink: Option<Arc<dyn Sink>>, level: i32) -> Result<()> {
        let level = if sink.is_some() { level } else { 0 };
        let setting = lock(&self.setting);
        let old = {
            let mut state = lock(&self.state);
            if sink.is_some() && !state.has_thread {
                // SAFETY: `enter` expects a world.
                unsafe { world.spawn_own(enter, ptr::from_ref(world).cast_mut().cast()) }
                    .map_err(|e| Error::resources(format!("no thread for the log: {}", linux::describe(e))))?;
                state.has_thread = true;
            }
            state.forget();
            state.lost = 0;
            std::mem::replace(&mut state.sink, sink)
        };
        self.level.store(level, SeqCst);
        lock(&world.hub).set_logging(world, level >= ERROR);
        drop(setting);
        drop(old); // here, or on the log's thread if it is in the callback right now
        Ok(())
    }

    /// After a shutdown: no callback starts. One that is being told is waited for, up to `limit`, and not for ever.
    pub(crate) fn close(&self, limit: Limit) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.forget();
        let until = limit.deadline().min(linux::now().saturating_add(TELL_TIME));
        while state.telling.is_some() && linux::now() < until {
            let left = linux::until(until).unwrap_or_default();
            state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write(&self, level: i32, pod: &'static CStr, message: &str) {
        if level > self.level.load(Relaxed) {
            return;
        }
        let mut state = lock(&self.state);
        if state.closed || state.sink.is_none() {
            return;
        }
        state.put(Line { level, pod, message: c_string(message) });
        self.arrived.notify_all();
    }

    /// The next line to tell. It is kept in the state until [`Log::told`].
    fn next(&self) -> *const Telling {
        let mut state = lock(&self.state);
        loop {
            if let Some(telling) = state.take_next() {
                return &**state.telling.insert(Box::new(telling));
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The line was told, or its thread has ended in the middle of it.
    fn told(&self) {
        let telling = lock(&self.state).telling.take();
        self.arrived.notify_all(); // a shutdown may wait for that
        role::as_callee(|| drop(telling)); // maybe the last use of a sink that was replaced
    }
}

impl LogState {
    /// The newest line is always kept, however long.
    fn put(&mut self, line: Line) {
        self.held += line.message.count_bytes();
        self.lines.push_back(line);
        while self.lines.len() > MANY || self.held > LARGE && self.lines.len() > 1 {
            self.take();
            self.lost += 1;
        }
    }

    fn take(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.held -= line.message.count_bytes();
        Some(line)
    }

    fn forget(&mut self) {
        self.lines.clear();
        self.held = 0;
    }

    fn take_next(&mut self) -> Option<Telling> {
        if self.closed {
            return None;
        }
        let sink = self.sink.clone()?;
        if self.lost > 0 {
            let message = c_string(&format!("{} lines were dropped: the log callback is too slow", self.lost));
            self.lost = 0;
            return Some(Telling { sink, line: Line { level: WARN, pod: c"", message } });
        }
        Some(Telling { sink, line: self.take()? })
    }
}

extern "C-unwind" fn enter(world: *mut c_void) -> *mut c_void {
    // SAFETY: `set` passes the world, which is never freed.
    let world: &'static World = unsafe { &*world.cast() };
    // SAFETY: this thread is its own, and ends only from inside a callback.
    unsafe { linux::detach_thread(linux::this_thread()) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep-log");
    note_log_end();
    HOME.set(ptr::from_ref(world));
    loop {
        // SAFETY: it is kept until `told`, which this thread alone calls, here or at its end. Nothing with a destructor
        // stands below the callback (see `host::thread`).
        let telling = unsafe { &*world.log.next() };
        let line = &telling.line;
        role::as_callee(|| telling.sink.write(line.level, line.pod, &line.message));
        if world.is_here() {
            world.log.told();
        }
        if !world.is_here() {
            linux::end_forked_child(); // the callback or the drop forked and returned
        }
    }
}

thread_local! {
    /// Of the log's thread: the world whose log it tells. In the child of a fork that is the parent's still.
    static HOME: Cell<*const World> = const { Cell::new(ptr::null()) };
}

/// A log callback ended its thread from inside: that costs the thread, not the log.
pub(crate) fn died() {
    let Some(world) = World::existing().filter(|world| ptr::eq(*world, HOME.get())) else { return };
    world.log.told();
    let mut state = lock(&world.log.state);
    // SAFETY: `enter` expects a world.
    let successor = || unsafe { world.spawn_own(enter, ptr::from_ref(world).cast_mut().cast()) };
    // Without a sink, or a thread to be had, the next `set` makes one.
    state.has_thread = state.sink.is_some() && successor().is_ok();
}

/// A line for a change of state.
pub(crate) fn transition(event: &Event) {
    let Some(world) = World::existing() else { return };
    let (level, message) = match (event.to, &event.failure) {
        (State::Failed, Some(failure)) => (ERROR, failure.to_string()),
        (State::Abandoned, Some(failure)) => (WARN, failure.to_string()),
        (to, _) => (INFO, format!("{} -> {}", event.from.name(), to.name())),
    };
    world.log.write(level, event.c_name, &message);
}

/// A line for a status text.
pub(crate) fn status(pod: &PodRef, text: &str) {
    say(DEBUG, pod.cell().name, text);
}

/// A line of a child's stderr.
pub(crate) fn line(pod: &'static CStr, text: &str) {
    say(INFO, pod, text);
}

pub(crate) fn warn(pod: &'static CStr, text: &str) {
    say(WARN, pod, text);
}

fn say(level: i32, pod: &'static CStr, text: &str) {
    if let Some(world) = World::existing() {
        world.log.write(level, pod, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wait_are_bounded_in_number_and_in_bytes() {
        let mut state = LogState::default();
        let mut put = |bytes: usize| {
            let message = c_string(&"x".repeat(bytes));
            state.put(Line { level: DEBUG, pod: c"", message });
            assert_eq!(state.held, state.lines.iter().map(|line| line.message.count_bytes()).sum());
            (state.lines.len(), state.lost)
        };
        for _ in 0..MANY {
            put(1);
        }
        assert_eq!(put(1), (MANY, 1));
        assert_eq!(put(LARGE - 10), (11, MANY as u64 - 9)); // ten short ones beside it
        assert_eq!(put(LARGE + 1), (1, MANY as u64 + 2)); // the newest is kept
        assert_eq!(put(1), (1, MANY as u64 + 3));
    }
}
