//! Handles, and the memory that is never unmapped: type-stable slots with generations.
//!
//! A handle is a number, never an address: `generation << 22 | index << 4 | kind`. The kind is odd, so no aligned
//! pointer is mistaken for a handle. A pod's handle names a [`Slot`] of one region that lives as long as the process;
//! a call takes a reference by a compare-and-swap that fails unless the generation fits and the handle is alive, so a
//! freed, foreign or random value is told apart before anything behind it is touched, without a lock and in a signal
//! handler (L8). A context's handle carries the generation of its *incarnation*, which stands beside the state word in
//! one 64-bit word: reading a context's flag is one load that also tells whether the context still is.
//!
//! The region is wiped in the child of a fork, which makes every slot of the parent's empty there at once, and the
//! fact of the fork visible without a pid (which lies in nested namespaces) or an atfork handler (which cannot be
//! taken back). `docs/decisions/0002-handles.md` tells why slots and not a slab crate.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::*};

use crate::error::{Error, Result, Status};
use crate::keeper::Bell;
use crate::lifecycle::{CANCELLED_BITS, Event, KICK_BIT, LINKED_BIT, Life};
use crate::linux;
use crate::pod::PodCell;
use crate::supervise::restart::Restart;
use crate::world::World;

mod slot;

pub(crate) use slot::{Asked, Side, Slot, Step};

// A handle is shown as a pointer.
const _: () = assert!(usize::BITS == 64);

/// How many pods a process can have at one time. More than the threads a system gives; 32 MiB of address space.
pub(crate) const SLOTS: usize = 1 << 18;
const KIND_BITS: u32 = 4;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;
const INDEX_BITS: u32 = 18;
const GENERATION_SHIFT: u32 = KIND_BITS + INDEX_BITS;

/// What a handle names. Odd, so that no aligned address is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(crate) enum Kind {
    Runtime = 1,
    Pod = 3,
    Context = 5,
    Failure = 7,
    Monitor = 9,
    Group = 11,
    Control = 13,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Runtime => "runtime",
            Kind::Pod => "pod",
            Kind::Context => "context",
            Kind::Failure => "failure",
            Kind::Monitor => "monitor",
            Kind::Group => "group",
            Kind::Control => "control",
        }
    }
    /// The kind a value claims to be.
    pub(crate) fn of(handle: u64) -> Option<Kind> {
        [Kind::Runtime, Kind::Pod, Kind::Context, Kind::Failure, Kind::Monitor, Kind::Group, Kind::Control]
            .into_iter()
            .find(|&kind| handle & KIND_MASK == kind as u64)
    }
}

/// The handle of a registry entry (everything but pods and contexts).
pub(crate) fn id_handle(kind: Kind, id: u64) -> u64 {
    id << KIND_BITS | kind as u64
}

/// The registry's number in a handle of `kind`.
pub(crate) fn handle_id(kind: Kind, handle: u64) -> Option<u64> {
    (Kind::of(handle) == Some(kind)).then_some(handle >> KIND_BITS)
}

fn slot_handle(kind: Kind, index: u32, generation: u32) -> u64 {
    (generation as u64) << GENERATION_SHIFT | (index as u64) << KIND_BITS | kind as u64
}

/// Index and generation of a pod's or context's handle; `None`: it is not of that kind.
#[inline]
fn slot_parts(kind: Kind, handle: u64) -> Option<(u32, u32)> {
    let generation = handle >> GENERATION_SHIFT;
    // Generations are 1 to u32::MAX: a slot that was never used shows 0.
    let fits = handle & KIND_MASK == kind as u64 && generation.wrapping_sub(1) < u32::MAX as u64;
    fits.then_some(((handle >> KIND_BITS) as u32 & (SLOTS as u32 - 1), generation as u32))
}

/// The handle is alive (not yet freed). Above it: the generation; below: LEFT and the references.
const ALIVE: u64 = 1 << 31;
/// The last reference was given back where nothing may be freed: the keeper frees. Only set with no reference left.
const LEFT: u64 = 1 << 30;
const REFS: u64 = LEFT - 1;

/// All memory that cancel may touch.
#[repr(C)]
pub(crate) struct Region {
    pub(crate) world: AtomicPtr<World>,
    /// Monitors and a log: while there are any, the keeper hears of each stop at once.
    pub(crate) watchers: AtomicU32,
    pub(crate) bell: Bell,
    /// What children are shown, a word a slot ([`Asked`]); null: there are no process pods.
    pub(crate) shown: AtomicPtr<AtomicU64>,
    slots: [Slot; SLOTS],
}

static REGION: AtomicPtr<Region> = AtomicPtr::new(ptr::null_mut());
/// The highest generation any slot has had, in this process or one it was forked from.
static HIGHEST_GENERATION: AtomicU32 = AtomicU32::new(0);

/// The region, if this process or one it was forked from has made it. Async-signal-safe.
#[inline]
pub(crate) fn region() -> Option<&'static Region> {
    let region = REGION.load(Acquire);
    // SAFETY: once set it is never unmapped, and zeroes are valid for all of it.
    unsafe { region.as_ref() }
}

/// The region, made now if need be.
pub(crate) fn ensure_region() -> Result<&'static Region> {
    if let Some(region) = region() {
        return Ok(region);
    }
    let len = size_of::<Region>();
    let base = linux::map_wiped_on_fork(len).map_err(|e| {
        Error::resources(format!(
            "no memory for the handle table ({len} bytes of address space): {}",
            linux::describe(e)
        ))
    })?;
    if REGION.compare_exchange(ptr::null_mut(), base.cast(), AcqRel, Acquire).is_err() {
        linux::unmap(base, len);
    }
    Ok(region().expect("just set"))
}

/// A generation that was given out.
pub(crate) fn raise_highest_generation(generation: u32) {
    HIGHEST_GENERATION.fetch_max(generation, AcqRel);
}

pub(crate) fn highest_generation() -> u32 {
    HIGHEST_GENERATION.load(Acquire)
}

impl Region {
    pub(crate) fn slot(&self, index: u32) -> &Slot {
        &self.slots[index as usize & (SLOTS - 1)]
    }
}

/// A counted reference to a pod: while it lives the slot is not given to another.
pub(crate) struct PodRef {
    slot: &'static Slot,
    generation: u32,
}

impl PodRef {
    /// A new pod in a slot of its own. Its handle stands for one reference, the result is another.
    pub(crate) fn new(world: &World, cell: Box<PodCell>, life: Life, grace: linux::Nanos) -> Result<PodRef> {
        let region = ensure_region()?;
        let index = world.take_slot()?;
        let slot = region.slot(index);
        let generation = world.generation_after((slot.guard.load(Acquire) >> 32) as u32, index);
        let incarnation = world.generation_after(slot.incarnation_generation(), index + SLOTS as u32);
        HIGHEST_GENERATION.fetch_max(generation.max(incarnation), AcqRel);
        slot.begin_life();
        slot.ended_at.store(0, Relaxed);
        slot.lives.store(0, Relaxed);
        slot.grace.store(grace, Relaxed);
        slot.again.store(cell.policy.restart != Restart::Never, Relaxed);
        slot.tid.store(0, Relaxed);
        slot.cell.store(Box::into_raw(cell), Release);
        slot.life.store((incarnation as u64) << 32 | life.0 as u64, SeqCst);
        slot.guard.store((generation as u64) << 32 | ALIVE | 2, SeqCst);
        Ok(PodRef { slot, generation })
    }

    /// The pod of a handle. Lock-free and async-signal-safe.
    pub(crate) fn of_handle(handle: u64) -> std::result::Result<PodRef, Status> {
        let Some((index, generation)) = slot_parts(Kind::Pod, handle) else { return Err(Status::InvalidHandle) };
        let Some(region) = region() else { return Err(Status::InvalidHandle) };
        let slot = region.slot(index);
        match slot.take(|guard| (guard >> 32) as u32 == generation && guard & ALIVE != 0) {
            Some(pod) => Ok(pod),
            None if inherited(generation) => Err(Status::Forked),
            None => Err(Status::InvalidHandle),
        }
    }

    /// The pod of a context, if that incarnation's context still is.
    pub(crate) fn of_context(handle: u64) -> std::result::Result<PodRef, Status> {
        let (index, generation) = slot_parts(Kind::Context, handle).ok_or(Status::InvalidHandle)?;
        let slot = region().ok_or(Status::InvalidHandle)?.slot(index);
        let pod = slot.take(|guard| guard & REFS != 0);
        if let Some(pod) = pod
            && pod.slot.incarnation_generation() == generation
        {
            return if pod.life().context_over() { Err(Status::InvalidState) } else { Ok(pod) };
        }
        if inherited(generation) {
            return Err(Status::Forked);
        }
        // A generation that this slot has had belongs to an incarnation that is over; any other was never handed out.
        let first = World::existing().map_or(u32::MAX, |world| world.generation_after(0, index + SLOTS as u32));
        let had = (first..=slot.incarnation_generation()).contains(&generation);
        Err(if had { Status::InvalidState } else { Status::InvalidHandle })
    }

    /// The pod of a handle that this process noted itself, dead or alive: only its numbers may be used.
    pub(crate) fn of_role(handle: u64) -> Option<std::mem::ManuallyDrop<PodRef>> {
        let (index, generation) = slot_parts(Kind::Pod, handle)?;
        Some(std::mem::ManuallyDrop::new(PodRef { slot: region()?.slot(index), generation }))
    }

    /// The pod in a slot, whatever its handle's fate.
    pub(crate) fn at(index: u32) -> Option<PodRef> {
        region()?.slot(index).take(|guard| guard & REFS != 0)
    }

    /// The pod that `handle` was given for, also after the handle was freed; `None`: it is no more.
    #[cfg(feature = "grpc")]
    pub(crate) fn known(handle: u64) -> Option<PodRef> {
        let (index, generation) = slot_parts(Kind::Pod, handle)?;
        region()?.slot(index).take(|guard| (guard >> 32) as u32 == generation && guard & REFS != 0)
    }

    pub(crate) fn handle(&self) -> u64 {
        slot_handle(Kind::Pod, self.index(), self.generation)
    }

    pub(crate) fn context_handle(&self) -> u64 {
        slot_handle(Kind::Context, self.index(), self.slot.incarnation_generation())
    }

    pub(crate) fn index(&self) -> u32 {
        self.slot.index()
    }

    /// Whether the handle was freed.
    pub(crate) fn handle_is_dead(&self) -> bool {
        self.slot.guard.load(SeqCst) & ALIVE == 0
    }

    /// Whether this process made the pod: false in the child of a fork, where the slot is wiped.
    pub(crate) fn is_here(&self) -> bool {
        (self.slot.guard.load(Acquire) >> 32) as u32 == self.generation
    }

    pub(crate) fn cell(&self) -> &'static PodCell {
        // SAFETY: the box lives while there is a reference, and `self` is one. In the child of a fork nobody asks:
        // handles and the Rust API's owners are refused there, and S stops at `is_here`. The lifetime is the slot's, the use this reference's.
        unsafe { &*self.slot.cell.load(Acquire) }
    }

    /// Ends the handle: the reference it stood for is the result. False if it was dead already.
    pub(crate) fn kill_handle(&self) -> bool {
        let mut guard = self.slot.guard.load(SeqCst);
        loop {
            if (guard >> 32) as u32 != self.generation || guard & ALIVE == 0 {
                return false;
            }
            match self.slot.guard.compare_exchange_weak(guard, (guard & !ALIVE) - 1, SeqCst, SeqCst) {
                Ok(_) => return true, // `self` is a reference still, so the handle's was not the last
                Err(now) => guard = now,
            }
        }
    }

    /// Hands the reference to somebody who was only given its index.
    pub(crate) fn into_index(self) -> u32 {
        let index = self.index();
        std::mem::forget(self);
        index
    }

    /// Takes back what `into_index` handed over.
    ///
    /// # Safety
    /// `into_index` gave `index`, and this is called once for it.
    pub(crate) unsafe fn from_index(index: u32) -> PodRef {
        let slot = region().expect("there was a pod").slot(index);
        PodRef { slot, generation: (slot.guard.load(Acquire) >> 32) as u32 }
    }

    /// Gives the reference back where nothing may be freed (a signal handler): the keeper does the rest.
    pub(crate) fn release_later(self) {
        let index = self.index();
        if self.unref(LEFT)
            && let Some(region) = region()
        {
            region.bell.mark(index);
            region.bell.ring(0);
        }
        std::mem::forget(self);
    }

    /// Takes a slot that was left by `release_later`, to free it.
    pub(crate) fn left_behind(index: u32) -> Option<PodRef> {
        let slot = region()?.slot(index);
        let guard = slot.guard.load(SeqCst);
        let taken = guard & LEFT != 0 && {
            let mine = (guard & !LEFT) + 1;
            slot.guard.compare_exchange(guard, mine, SeqCst, SeqCst).is_ok()
        };
        taken.then(|| PodRef { slot, generation: (guard >> 32) as u32 })
    }

    /// Drops the count; true: it was the last reference and the handle is dead. `mark` is set then.
    fn unref(&self, mark: u64) -> bool {
        let mut guard = self.slot.guard.load(SeqCst);
        loop {
            // In the child of a fork the slot was wiped, or is another's: nothing to give back.
            if (guard >> 32) as u32 != self.generation || guard & REFS == 0 {
                return false;
            }
            let last = (guard - 1) & (ALIVE | REFS) == 0;
            let next = (guard - 1) | if last { mark } else { 0 };
            match self.slot.guard.compare_exchange_weak(guard, next, SeqCst, SeqCst) {
                Ok(_) => return last,
                Err(now) => guard = now,
            }
        }
    }
}

impl Slot {
    fn take(&'static self, fits: impl Fn(u64) -> bool) -> Option<PodRef> {
        let mut guard = self.guard.load(SeqCst);
        loop {
            if !fits(guard) {
                return None;
            }
            match self.guard.compare_exchange_weak(guard, guard + 1, SeqCst, SeqCst) {
                Ok(_) => return Some(PodRef { slot: self, generation: (guard >> 32) as u32 }),
                Err(now) => guard = now,
            }
        }
    }
}

impl std::ops::Deref for PodRef {
    type Target = Slot;
    fn deref(&self) -> &Slot {
        self.slot
    }
}

impl Clone for PodRef {
    fn clone(&self) -> PodRef {
        self.slot.guard.fetch_add(1, SeqCst);
        PodRef { slot: self.slot, generation: self.generation }
    }
}

impl Drop for PodRef {
    fn drop(&mut self) {
        if !self.unref(0) {
            return;
        }
        let cell = self.slot.cell.swap(ptr::null_mut(), AcqRel);
        if !cell.is_null() {
            // SAFETY: nobody else has a reference, and nobody gets one: the handle is dead.
            drop(unsafe { Box::from_raw(cell) });
            if let Some(world) = World::existing() {
                world.give_slot(self.slot.index(), self.generation.max(self.slot.incarnation_generation()));
            }
        }
    }
}

/// Whether a handle of this generation is from before a fork: the world of this process begins above it.
fn inherited(generation: u32) -> bool {
    match World::existing() {
        Some(world) => generation != 0 && generation < world.first_generation,
        // A region without a world: forked, and nothing was made here since.
        None => generation != 0 && generation <= highest_generation(),
    }
}

/// What `podkeep_context_cancelled` tells: one load of the word, which says both whether a stop was asked for and
/// whether the context still is.
#[inline]
pub(crate) fn context_cancelled(handle: u64) -> bool {
    let (Some((index, generation)), Some(region)) = (slot_parts(Kind::Context, handle), region()) else { return true };
    let word = region.slot(index).life.load(Acquire);
    let other = (word >> 32) as u32 != generation || word as u32 & (CANCELLED_BITS | LINKED_BIT) != 0;
    other && look_closer(handle, region.slot(index), word, generation)
}

/// Off the way that a thread's poll takes until it is cancelled: over or cancelled, or a child's, whose host may have asked.
/// Never inlined, and of an ABI that does not unwind: so a poll saves no register and sets up no frame.
#[inline(never)]
extern "C" fn look_closer(handle: u64, slot: &Slot, word: u64, generation: u32) -> bool {
    let cancelled = (word >> 32) as u32 != generation || word as u32 & CANCELLED_BITS != 0;
    if cancelled && word as u32 & KICK_BIT != 0 {
        note_seen(slot, word, generation);
    }
    cancelled || asked_afar().stop && take_over(handle)
}

/// In the child of a process pod: the word of its slot in the host's table.
static AFAR: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// From here on this process is asked to stop by `word`, which is never unmapped.
pub(crate) fn listen_afar(word: &'static AtomicU64) {
    AFAR.store(ptr::from_ref(word).cast_mut(), Release);
}

/// What the host asks of this process.
pub(crate) fn asked_afar() -> Asked {
    // SAFETY: null, or mapped for ever.
    let word = unsafe { AFAR.load(Acquire).as_ref() };
    Asked::from_word(word.map_or(0, |word| word.load(SeqCst)))
}

/// The host has asked for a stop, and its message is still on the way. Async-signal-safe.
#[cold]
fn take_over(handle: u64) -> bool {
    if let Ok(pod) = PodRef::of_context(handle) {
        pod.heed_afar();
        pod.release_later();
    }
    true
}

impl PodRef {
    /// Takes what the host has asked for as asked here. Async-signal-safe.
    pub(crate) fn heed_afar(&self) {
        if !self.life().is_linked() {
            return;
        }
        let asked = asked_afar();
        if asked.barred {
            self.step(Event::Bar);
        }
        if asked.stop {
            let _ = self.stop_limit.compare_exchange(0, asked.until, Relaxed, Relaxed); // a later one: `heed_limit`
            if let Some(step) = self.step(Event::Stop) {
                crate::cancel::alert(self, step, true);
            }
        }
    }
}

/// The way a kick learns that S knows. Only on the path that is taken once.
#[cold]
fn note_seen(slot: &Slot, word: u64, generation: u32) {
    if (word >> 32) as u32 == generation && !slot.seen.load(Relaxed) && slot.tid.load(Relaxed) == linux::thread_id() {
        slot.seen.store(true, Relaxed);
    }
}

/// A pointer-sized handle value as the ABI shows it.
pub(crate) fn as_pointer<T>(handle: u64) -> *mut T {
    ptr::without_provenance_mut::<c_void>(handle as usize).cast()
}
