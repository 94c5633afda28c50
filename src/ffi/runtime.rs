//! Runtime: what to run.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use super::context::podkeep_context;
use super::status::podkeep_status;
use super::{boundary, out, read_struct, text, value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::linux::cancellable;
use crate::role;
use crate::runtime::{Recipe, RuntimeCell, check_name};
use crate::table::{Kind, as_pointer};
use crate::world::{Entry, World};

/// A recipe: callbacks and a config. Opaque; a handle, never an address.
pub struct podkeep_runtime {
    _opaque: [u8; 0],
}

/// What init and run_forever return for "I stopped because I was asked to": a clean end.
pub const PODKEEP_CANCELLED: i32 = -2147483647;

/// What a runtime is made of. Begin with PODKEEP_RUNTIME_SPEC_INIT. No callback may unwind out of itself; glibc's own
/// forced unwinding (pthread_exit) may pass.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct podkeep_runtime_spec {
    /// Of this struct, in bytes.
    pub struct_size: usize,
    /// Required: 1 to 255 bytes of UTF-8. Copied.
    pub name: *const c_char,
    /// Optional. On the pod's thread, once an incarnation; 0 is success, and *state is what the others get. A failed
    /// init cleans up after itself. Without it state is config.
    pub init: Option<
        unsafe extern "C-unwind" fn(ctx: *mut podkeep_context, config: *mut c_void, state: *mut *mut c_void) -> i32,
    >,
    /// Required. On the pod's thread; blocks until cancelled. 0, or PODKEEP_CANCELLED after a cancel, is a clean end.
    pub run_forever: Option<unsafe extern "C-unwind" fn(ctx: *mut podkeep_context, state: *mut c_void) -> i32>,
    /// Optional. On the pod's thread, once if and only if init succeeded, however run_forever ended.
    pub teardown: Option<unsafe extern "C-unwind" fn(ctx: *mut podkeep_context, state: *mut c_void) -> i32>,
    /// Optional: unblocks what cannot poll. At most once an incarnation, on a thread of the library, beside
    /// run_forever; it may come before the loop inside has begun, so what it does must stick.
    pub cancel: Option<unsafe extern "C-unwind" fn(ctx: *mut podkeep_context, state: *mut c_void)>,
    /// The user's own.
    pub config: *mut c_void,
    /// Optional. Called with config exactly once, on any thread: before a failing podkeep_runtime_new returns, else
    /// when the runtime was freed and each of its pods is final, or freed while NEW.
    pub drop: Option<unsafe extern "C-unwind" fn(config: *mut c_void)>,
}

/// The config, and the promise that its drop is called exactly once.
struct Config {
    config: *mut c_void,
    drop: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    dropped: AtomicBool,
}

impl Config {
    /// Takes the config over, if the struct is long enough to have one.
    ///
    /// # Safety
    /// NULL, or a pointer to a readable `struct_size` and as many bytes as it says.
    unsafe fn own(spec: *const podkeep_runtime_spec) -> Config {
        let mut owned = Config { config: ptr::null_mut(), drop: None, dropped: AtomicBool::new(false) };
        if !spec.is_null() {
            // SAFETY: the caller's promise, and the size says that both fields are there.
            unsafe {
                if (&raw const (*spec).struct_size).read_unaligned()
                    >= offset_of!(podkeep_runtime_spec, drop) + size_of::<usize>()
                {
                    owned.config = (&raw const (*spec).config).read_unaligned();
                    owned.drop = (&raw const (*spec).drop).read_unaligned();
                }
            }
        }
        owned
    }

    fn finish(&self) {
        if let Some(drop) = self.drop
            && !self.dropped.swap(true, AcqRel)
        {
            // SAFETY: the user's function with the user's value.
            role::as_callee(|| unsafe { drop(self.config) });
        }
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        self.finish();
    }
}

/// C callbacks.
struct Callbacks {
    spec: podkeep_runtime_spec,
    config: Config,
}

// SAFETY: what config points to is shared between threads on the user's word: callbacks come from the threads that the
// header names.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

fn pointer(ctx: Context) -> *mut podkeep_context {
    as_pointer(ctx.handle())
}

impl Recipe for Callbacks {
    fn init(&self, ctx: Context, state: &mut *mut c_void) -> c_int {
        match self.spec.init {
            None => {
                *state = self.spec.config;
                0
            }
            // SAFETY: the user's function, called as the header says. So below.
            Some(init) => cancellable(|| unsafe { init(pointer(ctx), self.spec.config, state) }),
        }
    }
    fn run_forever(&self, ctx: Context, state: *mut c_void) -> c_int {
        // SAFETY: see `init`.
        self.spec.run_forever.map_or(0, |run| cancellable(|| unsafe { run(pointer(ctx), state) }))
    }
    fn teardown(&self, ctx: Context, state: *mut c_void) -> c_int {
        // SAFETY: see `init`.
        self.spec.teardown.map_or(0, |teardown| cancellable(|| unsafe { teardown(pointer(ctx), state) }))
    }
    fn has_hook(&self) -> bool {
        self.spec.cancel.is_some()
    }
    fn cancel(&self, ctx: Context, state: *mut c_void) {
        if let Some(cancel) = self.spec.cancel {
            // SAFETY: see `init`.
            cancellable(|| unsafe { cancel(pointer(ctx), state) });
        }
    }
    fn release(&self) {
        self.config.finish();
    }
}

/// Makes a runtime. Takes config over from the first moment: whatever is answered, its drop is called exactly once.
/// Any thread; does not block. *out is the caller's, to be freed with podkeep_runtime_free.
/// OK; INVALID_ARGUMENT: no spec, out, name or run_forever, a bad struct_size or name; INVALID_STATE: after a shutdown;
/// RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_runtime_new(
    spec: *const podkeep_runtime_spec,
    out_runtime: *mut *mut podkeep_runtime,
) -> podkeep_status {
    // SAFETY: the caller promises NULL or a struct of its size. So below.
    let config = unsafe { Config::own(spec) };
    boundary(|| {
        let out = out("out_runtime", out_runtime)?;
        // SAFETY: see above.
        let spec = unsafe { read_struct("spec", spec) }?.ok_or_else(|| Error::argument("spec is NULL"))?;
        let name = text("spec.name", spec.name)?.ok_or_else(|| Error::argument("spec.name is NULL: it is required"))?;
        check_name("spec.name", name)?;
        if spec.run_forever.is_none() {
            return Err(Error::argument("spec.run_forever is NULL: it is required"));
        }
        let world = World::get()?;
        world.check_open()?;
        let recipe = Box::new(Callbacks { spec, config });
        let cell = Arc::new(RuntimeCell::new(world.intern(name)?, recipe));
        *out = as_pointer(world.register(Kind::Runtime, std::iter::once(Entry::Runtime(cell)))?);
        Ok(())
    })
}

pub(super) fn find(runtime: *const podkeep_runtime) -> Result<Arc<RuntimeCell>> {
    match World::get()?.entry(Kind::Runtime, value(runtime))? {
        Entry::Runtime(cell) => Ok(cell),
        _ => Err(crate::world::not_a(Kind::Runtime, value(runtime))),
    }
}

/// Frees the handle; its pods live on, and the config's drop is called when the last of them has ended. Any thread and
/// place; does not block. OK (NULL, too); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_runtime_free(runtime: *mut podkeep_runtime) -> podkeep_status {
    boundary(|| {
        if runtime.is_null() {
            return Ok(());
        }
        if let Entry::Runtime(cell) = World::get()?.unregister(Kind::Runtime, value(runtime), 1)?
            && cell.unuse()
        {
            cell.release();
        }
        Ok(())
    })
}
