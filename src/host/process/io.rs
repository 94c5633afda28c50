//! One library thread for all children of a process: it waits for their words, their stderr and their ends, and changes
//! the pods' states by them. It calls no user's code.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_void;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::child::{self, Child};
use super::guardian::{self, Guardian};
use super::stderr::Passage;
use crate::error::{Error, Result};
use crate::linux::poll::Poller;
use crate::linux::{self, NEVER, Nanos};
use crate::runtime::RuntimeCell;
use crate::table::PodRef;
use crate::world::{World, lock};

/// When to try again to have a user's drop called.
const RELEASE_TIME: Nanos = 100_000_000;

/// What a descriptor in the set belongs to, beside the child's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum What {
    Process = 0,
    Channel = 1,
    Stderr = 2,
    Notify = 3,
    Guardian = 4,
    Bell = 5,
}

/// What is to be done later for a child.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Errand {
    /// Look at its stderr again: the host's took nothing.
    Stderr,
    /// See whether it listens on its port.
    Port,
    /// It closed its channel: see whether it lives on.
    Mute,
    /// It has ended, and whoever traces it must hear of that first.
    End,
}

/// All that a process needs for process pods, made with its first.
pub(crate) struct Io {
    poller: Poller,
    /// Wakes the thread for what was put into its hands.
    bell: OwnedFd,
    /// For the children: what is asked of them.
    pub(super) shown: OwnedFd,
    pub(crate) guardian: Mutex<Guardian>,
    pub(super) passage: Passage,
    hands: Mutex<Hands>,
}

/// How a process sees to the orphans that it inherits: it is the first of its namespace, and S is a child of it.
#[derive(Default)]
pub(crate) struct Orphanage {
    /// The thread that reaps them; null: nobody does. For a signal handler.
    io: AtomicPtr<Io>,
    /// Held while a child is made that does not stand in the list yet.
    spawning: RwLock<()>,
}

/// From here on children that are no pods' are reaped, too.
pub(crate) fn adopt(world: &'static World) -> Result<()> {
    let io = ensure(world)?;
    world.orphanage.io.store(ptr::from_ref(io).cast_mut(), SeqCst);
    look_for_orphans();
    Ok(())
}

pub(crate) fn adopt_no_more(world: &World) {
    world.orphanage.io.store(ptr::null_mut(), SeqCst);
}

/// A child of this process may have ended. Async-signal-safe.
pub(crate) fn look_for_orphans() {
    // The child of a fork has inherited the handler, and no orphanage.
    let io = World::existing().map_or(ptr::null_mut(), |world| world.orphanage.io.load(SeqCst));
    // SAFETY: null, or made for ever.
    if let Some(io) = unsafe { io.as_ref() } {
        linux::signal_fd(&io.bell);
    }
}

impl Orphanage {
    fn is_kept(&self) -> bool {
        !self.io.load(SeqCst).is_null()
    }

    /// Keeps a child that is about to be made from being taken for a stranger.
    pub(super) fn spawning(&self) -> RwLockReadGuard<'_, ()> {
        self.spawning.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self, io: &Io) {
        if self.is_kept() {
            // Nobody is between its start and its place in the list.
            let _spawning = self.spawning.write().unwrap_or_else(PoisonError::into_inner);
            linux::signal::reap_strangers(|pid| lock(&io.hands).children.values().any(|child| child.pid() == pid));
        }
    }
}

#[derive(Default)]
struct Hands {
    children: HashMap<u64, Arc<Child>>,
    next: u64,
    later: BTreeSet<(Nanos, u64, Errand)>,
    /// Configs to release, and who is told, when there is a thread for that again.
    unreleased: Vec<(Nanos, Arc<RuntimeCell>, PodRef)>,
    /// Pods whose next life is due then.
    revivals: Vec<(Nanos, PodRef)>,
}

/// The thread, started now if need be.
pub(crate) fn ensure(world: &'static World) -> Result<&'static Io> {
    let mut io = lock(&world.io);
    if let Some(io) = *io {
        return Ok(io);
    }
    let refused = |error| Error::resources(format!("no descriptors for process pods: {}", linux::describe(error)));
    let (table, shown) = super::shown::make()?;
    let made = Io {
        poller: Poller::new().map_err(refused)?,
        bell: linux::event_fd().map_err(refused)?,
        shown,
        guardian: Mutex::new(Guardian::new()?),
        passage: Passage::default(),
        hands: Mutex::default(),
    };
    made.poller.add(made.bell.as_fd(), What::Bell as u64).map_err(refused)?;
    made.watch_guardian();
    let made: &'static Io = Box::leak(Box::new(made));
    // SAFETY: `enter` expects an Io.
    let started = unsafe { world.spawn_own(enter, ptr::from_ref(made).cast_mut().cast()) };
    if let Err(error) = started {
        // SAFETY: leaked a moment ago; nobody else has it.
        drop(unsafe { Box::from_raw(ptr::from_ref(made).cast_mut()) });
        return Err(Error::resources(format!("no thread for process pods: {}", linux::describe(error))));
    }
    table.publish();
    *io = Some(made);
    Ok(made)
}

impl Io {
    /// Takes a child over: from here on all that it says and its end are seen to.
    pub(crate) fn keep(&self, child: &Arc<Child>) -> std::result::Result<(), i32> {
        let number = {
            let mut hands = lock(&self.hands);
            hands.next += 1;
            let number = hands.next;
            hands.children.insert(number, child.clone());
            number
        };
        for (what, fd) in child.descriptors() {
            if let Err(error) = self.poller.add(fd, number << 3 | what as u64) {
                child.descriptors().into_iter().for_each(|(_, fd)| self.poller.remove(fd));
                lock(&self.hands).children.remove(&number);
                return Err(error);
            }
        }
        if let Some(errand) = child.first_errand() {
            self.later(number, linux::now(), errand);
            linux::signal_fd(&self.bell);
        }
        Ok(())
    }

    /// Begins the next life of a pod then.
    pub(super) fn revive_later(&self, pod: PodRef, at: Nanos) {
        lock(&self.hands).revivals.push((at, pod));
        linux::signal_fd(&self.bell);
    }

    /// No life of that pod is to come.
    pub(super) fn revive_no_more(&self, pod: &PodRef) {
        let index = pod.index();
        let gone: Vec<_> = lock(&self.hands).revivals.extract_if(.., |(_, other)| other.index() == index).collect();
        drop(gone); // without the lock
    }

    /// No thread can be had by now that may wait for a user's drop.
    pub(super) fn release_later(&self, runtime: Arc<RuntimeCell>, pod: PodRef) {
        lock(&self.hands).unreleased.push((linux::now() + RELEASE_TIME, runtime, pod));
        linux::signal_fd(&self.bell);
    }

    fn later(&self, number: u64, at: Nanos, errand: Errand) {
        lock(&self.hands).later.insert((at, number, errand));
    }

    fn child(&self, number: u64) -> Option<Arc<Child>> {
        lock(&self.hands).children.get(&number).cloned()
    }

    fn watch_guardian(&self) {
        if let Some(pidfd) = &lock(&self.guardian).pidfd {
            let _ = self.poller.add(pidfd.as_fd(), What::Guardian as u64);
        }
    }

    /// The guardian has ended, whoever ended it: another takes its place.
    fn replace_guardian(&self) -> Nanos {
        let mut guardian = lock(&self.guardian);
        if let Some(pidfd) = &guardian.pidfd {
            self.poller.remove(pidfd.as_fd());
        }
        let at = guardian.ended();
        if linux::now() < at {
            return at;
        }
        let again = guardian.restart().is_err();
        drop(guardian);
        self.watch_guardian();
        if again { linux::now() + guardian::RETRY } else { NEVER }
    }
}

extern "C-unwind" fn enter(io: *mut c_void) -> *mut c_void {
    // SAFETY: `ensure` passes it, leaked for ever.
    let io: &'static Io = unsafe { &*io.cast() };
    // SAFETY: this thread, which nobody joins.
    unsafe { linux::detach_thread(linux::this_thread()) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep-io");
    let mut guardian_at = NEVER;
    let mut ready = Vec::new();
    loop {
        let now = linux::now();
        if guardian_at <= now {
            guardian_at = io.replace_guardian();
        }
        let (due, revivals, unreleased, next) = {
            let mut hands = lock(&io.hands);
            let revivals: Vec<_> = hands.revivals.extract_if(.., |(at, _)| *at <= now).collect();
            let revival = hands.revivals.iter().map(|&(at, _)| at).min().unwrap_or(NEVER);
            let rest = hands.later.split_off(&(now + 1, 0, Errand::Stderr));
            let due = std::mem::replace(&mut hands.later, rest);
            let unreleased: Vec<_> = hands.unreleased.extract_if(.., |(at, ..)| *at <= now).collect();
            let release = hands.unreleased.iter().map(|&(at, ..)| at).min().unwrap_or(NEVER);
            let next = hands.later.first().map_or(NEVER, |&(at, ..)| at).min(revival).min(release);
            (due, revivals, unreleased, next)
        };
        // Before the children that wait behind it.
        let passage_at = if io.passage.is_clear() { NEVER } else { now + child::STDERR_TIME };
        let busy = !due.is_empty() || !revivals.is_empty() || !unreleased.is_empty();
        for (_, runtime, pod) in unreleased {
            if let Some(world) = World::existing()
                && let Err(runtime) = world.crew.release(world, runtime, Some(pod.clone()))
            {
                io.release_later(runtime, pod);
            }
        }
        for (_, pod) in revivals {
            super::revive(&pod);
        }
        for (_, number, errand) in due {
            if let Some(child) = io.child(number) {
                let token = number << 3 | What::Stderr as u64;
                if errand == Errand::Stderr && io.poller.add(child.stderr_pipe().as_fd(), token).is_err() {
                    io.later(number, linux::now() + child::STDERR_TIME, errand);
                    continue;
                }
                act(io, number, child, |child| child.do_errand(errand));
            }
        }
        let next = next.min(guardian_at).min(passage_at);
        let wait = match next {
            _ if busy => 0,
            NEVER => -1,
            at => at.saturating_sub(linux::now()).div_ceil(1_000_000).min(60_000) as i32,
        };
        io.poller.wait(wait, |event| ready.push(event.token));
        // Whatever a child said comes before its end, though both may be ready at once.
        ready.sort_by_key(|token| token & 7 == What::Process as u64);
        for token in ready.drain(..) {
            let (number, what) = (token >> 3, token & 7);
            match what {
                what if what == What::Bell as u64 => linux::drain_fd(&io.bell),
                what if what == What::Guardian as u64 => guardian_at = io.replace_guardian(),
                what => {
                    if let Some(child) = io.child(number) {
                        act(io, number, child, |child| child.look(what));
                    }
                }
            }
        }
        if let Some(world) = World::existing() {
            world.orphanage.reap(io);
        }
    }
}

/// What a look at a child asks of the thread.
pub(crate) enum Next {
    Nothing,
    /// Do not tell of this descriptor any more.
    Deaf(What),
    /// Do something later.
    Later(Nanos, Errand),
    Ended,
}

fn act(io: &'static Io, number: u64, child: Arc<Child>, look: impl FnOnce(&Child) -> Next) {
    match look(&child) {
        Next::Nothing => {}
        Next::Deaf(what) => {
            for (_, fd) in child.descriptors().into_iter().filter(|(of, _)| *of == what) {
                io.poller.remove(fd);
            }
            if what == What::Channel {
                io.later(number, linux::now() + child::MUTE_TIME, Errand::Mute);
            }
        }
        Next::Later(at, errand) => {
            if errand == Errand::Stderr {
                io.poller.remove(child.stderr_pipe().as_fd());
            }
            io.later(number, at, errand);
        }
        Next::Ended if !linux::process::can_be_reaped(&child.pidfd) => {
            io.poller.remove(child.pidfd.as_fd());
            io.later(number, linux::now() + child::TRACED_TIME, Errand::End);
        }
        Next::Ended => {
            child.last_words();
            // While the child is not reaped its group's number is its own.
            lock(&io.guardian).forget(child.index());
            let ended = child.reap(&mut lock(&child.said));
            child.descriptors().into_iter().for_each(|(_, fd)| io.poller.remove(fd));
            lock(&io.hands).children.remove(&number);
            let (pod, records) = (child.pod.clone(), child.sum_up(ended));
            // Its descriptors and memory are given back before anybody hears of the end, but for one who is passing a stop on.
            drop(child);
            super::tell_end(&pod, records);
        }
    }
}
