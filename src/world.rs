//! What one process has: made at first use, never destroyed, and made anew in the child of a fork.
//!
//! The pointer to it stands in memory that a fork wipes, so the child finds none and makes its own, with fresh locks:
//! whatever a thread of the parent held at the moment of the fork is never touched there. Nothing runs at exit.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::crew::Crew;
use crate::error::{Error, Result, Status};
use crate::failure::Record;
use crate::host::main::Main;
use crate::host::process::{Io, Orphanage, link::Exports};
use crate::lifecycle::State;
use crate::linux::{self, ThreadAttr};
use crate::log::Log;
use crate::monitor::{Hub, Monitor};
use crate::runtime::RuntimeCell;
use crate::supervise::driver::{Group, Groups};
use crate::table::{self, Kind, PodRef, SLOTS};

/// What a handle other than a pod's or a context's stands for.
#[derive(Clone)]
pub(crate) enum Entry {
    Runtime(Arc<RuntimeCell>),
    Monitor(Arc<Monitor>),
    Group(Arc<Group>),
    Control(Arc<crate::ffi::control::Served>),
    /// One record of a chain; `owned` is the one its user frees.
    Failure {
        chain: Arc<Vec<Record>>,
        at: usize,
        owned: bool,
    },
}

pub(crate) struct World {
    /// Generations below this are from before a fork.
    pub(crate) first_generation: u32,
    first_id: u64,
    slots: Mutex<Slots>,
    entries: RwLock<HashMap<u64, Entry>>,
    names: Mutex<HashSet<&'static CStr>>,
    pub(crate) hub: Mutex<Hub>,
    pub(crate) crew: Crew,
    pub(crate) log: Log,
    pub(crate) keeper_runs: Mutex<bool>,
    /// For a pod with default options, and for the library's own threads: made once.
    pub(crate) default_attr: ThreadAttr,
    pub(crate) own_attr: ThreadAttr,
    /// After a shutdown: nothing new.
    pub(crate) shut: AtomicBool,
    /// Made with the first process pod.
    pub(crate) io: Mutex<Option<&'static Io>>,
    pub(crate) orphanage: Orphanage,
    pub(crate) exports: Mutex<Exports>,
    pub(crate) main: Main,
    pub(crate) groups: Groups,
    /// By which pods and groups are asked for from outside.
    #[cfg(feature = "grpc")]
    pub(crate) addressed: Mutex<crate::control::names::Names>,
}

#[derive(Default)]
struct Slots {
    /// First in, first out: a slot rests before it is another pod's.
    free: VecDeque<u32>,
    /// Slots from here on were never used.
    used: u32,
}

/// Numbers are never given twice, across forks too.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Numbers pods and groups in the order in which they are made.
#[cfg(feature = "grpc")]
pub(crate) fn next_made() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

/// A lock that a panic elsewhere does not poison: what it guards is changed in steps that each leave it whole.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// This process's world, if it has one. Async-signal-safe.
    pub(crate) fn existing() -> Option<&'static World> {
        let world = table::region()?.world.load(Acquire);
        // SAFETY: a world is never freed.
        unsafe { world.as_ref() }
    }

    /// This process's world, made now if need be.
    pub(crate) fn get() -> Result<&'static World> {
        if let Some(world) = World::existing() {
            return Ok(world);
        }
        let region = table::ensure_region()?;
        let no_attr = |e| Error::resources(format!("no thread attributes: {}", crate::linux::describe(e)));
        let default_attr = ThreadAttr::new(0, 0).map_err(no_attr)?;
        let own_attr = ThreadAttr::new(0, 0).and_then(ThreadAttr::unprivileged).map_err(no_attr)?;
        let world = Box::into_raw(Box::new(World {
            first_generation: table::highest_generation().saturating_add(1),
            first_id: NEXT_ID.load(Acquire),
            slots: Mutex::default(),
            entries: RwLock::default(),
            names: Mutex::default(),
            hub: Mutex::default(),
            crew: Crew::default(),
            log: Log::default(),
            keeper_runs: Mutex::new(false),
            default_attr,
            own_attr,
            shut: AtomicBool::new(false),
            io: Mutex::default(),
            orphanage: Orphanage::default(),
            exports: Mutex::default(),
            main: Main::default(),
            groups: Groups::default(),
            #[cfg(feature = "grpc")]
            addressed: Mutex::default(),
        }));
        if region.world.compare_exchange(std::ptr::null_mut(), world, AcqRel, Acquire).is_err() {
            // SAFETY: another thread was first; nobody has seen this one.
            drop(unsafe { Box::from_raw(world) });
        }
        Ok(World::existing().expect("just set"))
    }

    /// Whether this world is this process's: false in the child of a fork.
    pub(crate) fn is_here(&self) -> bool {
        World::existing().is_some_and(|world| std::ptr::eq(world, self))
    }

    /// Makes a thread of the library's own.
    ///
    /// # Safety
    /// `arg` is what `entry` expects.
    pub(crate) unsafe fn spawn_own(&self, entry: linux::Entry, arg: *mut c_void) -> std::result::Result<(), i32> {
        let thread = AtomicU64::new(0);
        // SAFETY: the caller's promise.
        match unsafe { self.own_attr.spawn(&thread, entry, arg) } {
            // It may not choose its scheduling class here: then its maker's.
            // SAFETY: as above.
            Err(libc::EPERM) => unsafe { self.default_attr.spawn(&thread, entry, arg) },
            made => made,
        }
    }

    /// Refuses what is new after a shutdown.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shut.load(SeqCst) {
            return Err(Error::state("podkeep_shutdown was called: this process takes no new runtimes, pods or logs"));
        }
        Ok(())
    }

    pub(crate) fn take_slot(&self) -> Result<u32> {
        let mut slots = lock(&self.slots);
        if let Some(index) = slots.free.pop_front() {
            return Ok(index);
        }
        let full = || Error::resources(format!("the handle table is full: {SLOTS} pods in one process; free some"));
        if slots.used as usize == SLOTS {
            return Err(full());
        }
        // So that giving it back never needs memory.
        let want = slots.used as usize + 1;
        let more = want.saturating_sub(slots.free.capacity());
        if more > 0 {
            let length = slots.free.len();
            slots.free.try_reserve(want.max(2 * length) - length).map_err(|_| no_memory("a pod's handle"))?;
        }
        slots.used += 1;
        Ok(slots.used - 1)
    }

    /// The generation that follows `last` in a slot. The first ones differ from slot to slot, and between handle and
    /// incarnation (`salt`), so that a value with some bits wrong is not another's by chance.
    pub(crate) fn generation_after(&self, last: u32, salt: u32) -> u32 {
        match last < self.first_generation {
            true => self.first_generation.saturating_add((salt + 1).wrapping_mul(0x9E37_79B1) >> 16),
            false => last + 1,
        }
    }

    /// A slot that nobody refers to any more. One whose generations are used up is left unused for ever.
    pub(crate) fn give_slot(&self, index: u32, generation: u32) {
        if generation != u32::MAX {
            lock(&self.slots).free.push_back(index);
        }
    }

    /// The state of every slot that was ever used; those without a pod now say the last one's, or NEW.
    pub(crate) fn states(&self) -> impl Iterator<Item = State> + use<> {
        let used = lock(&self.slots).used;
        let region = table::region();
        (0..used).filter_map(move |index| Some(region?.slot(index).life().state()))
    }

    /// Every pod there is now, those whose handles were freed included.
    pub(crate) fn pods(&self) -> impl Iterator<Item = PodRef> + use<> {
        let used = lock(&self.slots).used;
        (0..used).filter_map(PodRef::at)
    }

    /// Gives `entries` consecutive handles of `kind` and returns the first.
    pub(crate) fn register(&self, kind: Kind, entries: impl ExactSizeIterator<Item = Entry>) -> Result<u64> {
        let mut table = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        table.try_reserve(entries.len()).map_err(|_| no_memory("a handle"))?;
        let first = NEXT_ID.fetch_add(entries.len() as u64, AcqRel);
        for (n, entry) in entries.enumerate() {
            table.insert(first + n as u64, entry);
        }
        Ok(table::id_handle(kind, first))
    }

    /// What a handle of `kind` stands for.
    pub(crate) fn entry(&self, kind: Kind, handle: u64) -> Result<Entry> {
        let id = table::handle_id(kind, handle).ok_or_else(|| not_a(kind, handle))?;
        let found = self.entries.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        match found {
            Some(entry) if entry.kind() == kind => Ok(entry),
            _ => Err(self.no_entry(kind, handle, id)),
        }
    }

    /// Ends a handle, and with it `count - 1` that follow it.
    pub(crate) fn unregister(&self, kind: Kind, handle: u64, count: u64) -> Result<Entry> {
        let id = table::handle_id(kind, handle).ok_or_else(|| not_a(kind, handle))?;
        let mut table = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if table.get(&id).is_none_or(|entry| entry.kind() != kind) {
            return Err(self.no_entry(kind, handle, id));
        }
        let mut rest: Vec<Entry> = (id + 1..id + count).filter_map(|id| table.remove(&id)).collect();
        let entry = table.remove(&id);
        drop(table);
        rest.clear();
        entry.ok_or_else(|| not_a(kind, handle))
    }

    fn no_entry(&self, kind: Kind, handle: u64, id: u64) -> Error {
        if id != 0 && id < self.first_id { forked(kind) } else { not_a(kind, handle) }
    }

    /// A name that lives as long as the process; equal names share one place.
    pub(crate) fn intern(&self, name: &CStr) -> Result<&'static CStr> {
        let mut names = lock(&self.names);
        if let Some(known) = names.get(name) {
            return Ok(known);
        }
        names.try_reserve(1).map_err(|_| no_memory("a name"))?;
        let kept: &'static CStr = Box::leak(name.to_owned().into_boxed_c_str());
        names.insert(kept);
        Ok(kept)
    }
}

impl Entry {
    fn kind(&self) -> Kind {
        match self {
            Entry::Runtime(_) => Kind::Runtime,
            Entry::Monitor(_) => Kind::Monitor,
            Entry::Group(_) => Kind::Group,
            Entry::Control(_) => Kind::Control,
            Entry::Failure { .. } => Kind::Failure,
        }
    }
}

pub(crate) fn no_memory(what: &str) -> Error {
    Error::resources(format!("no memory for {what}"))
}

/// The refusal of a handle from before a fork.
pub(crate) fn forked(kind: Kind) -> Error {
    let kind = kind.name();
    Error::new(
        Status::Forked,
        format!("this {kind} was made before a fork: it lives in the parent; make a new one here"),
    )
}

/// The refusal of a value that is no live handle of `kind`.
pub(crate) fn not_a(kind: Kind, handle: u64) -> Error {
    let want = kind.name();
    let sentence = match Kind::of(handle) {
        _ if handle == 0 => format!("the {want} is NULL"),
        Some(other) if other != kind => format!("{handle:#x} is not a {want}: it looks like a {}", other.name()),
        Some(_) => format!("{handle:#x} is not a live {want}: it was freed, or never handed out"),
        None => format!("{handle:#x} is not a {want}: no handle has such a value"),
    };
    Error::new(Status::InvalidHandle, sentence)
}
