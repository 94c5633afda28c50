//! Runtime: what to run.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use super::context::podkeep_context;
use super::status::podkeep_status;
use super::{boundary, library, out, read_struct, text, value};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::host::process;
use crate::linux::cancellable;
use crate::role;
use crate::runtime::{Recipe, RuntimeCell, Source, check_name};
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
    /// Optional. Called with config exactly once, on any thread, which it must not end: before a failing
    /// podkeep_runtime_new returns, else when the runtime was freed and each of its pods is final, or freed while NEW.
    pub drop: Option<unsafe extern "C-unwind" fn(config: *mut c_void)>,
}

/// The config, and the promise that its drop is called exactly once.
struct Config {
    config: *mut c_void,
    drop: Option<unsafe extern "C-unwind" fn(*mut c_void)>,
    dropped: AtomicBool,
}

impl Config {
    /// One that nobody drops: a library's.
    fn borrowed() -> Config {
        Config { config: ptr::null_mut(), drop: None, dropped: AtomicBool::new(false) }
    }

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
pub(super) struct Callbacks {
    spec: podkeep_runtime_spec,
    config: Config,
}

// SAFETY: what config points to is shared between threads on the user's word: callbacks come from the threads that the
// header names.
unsafe impl Send for Callbacks {}
// SAFETY: as above.
unsafe impl Sync for Callbacks {}

impl Callbacks {
    /// What a library exports.
    ///
    /// # Safety
    /// As for [`read_struct`]; the callbacks are what the header says, for ever.
    pub(super) unsafe fn of_library(spec: *const podkeep_runtime_spec) -> Result<Callbacks> {
        // SAFETY: the caller's promise.
        let spec = unsafe { read_struct("its spec", spec) }?.ok_or_else(|| Error::argument("it gave NULL"))?;
        if spec.run_forever.is_none() {
            return Err(Error::argument("its run_forever is NULL"));
        }
        Ok(Callbacks { spec, config: Config::borrowed() })
    }
}

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
        *out = register(RuntimeCell::new(world.intern(name)?, recipe, Source::Own))?;
        Ok(())
    })
}

fn register(cell: RuntimeCell) -> Result<*mut podkeep_runtime> {
    let entry = Entry::Runtime(Arc::new(cell));
    Ok(as_pointer(World::get()?.register(Kind::Runtime, std::iter::once(entry))?))
}

/// The words of a command, NULL-ended.
///
/// # Safety
/// NULL, or an array of strings that ends with NULL.
unsafe fn words(argv: *const *const c_char) -> Result<Vec<CString>> {
    if argv.is_null() {
        return Err(Error::argument("argv is NULL: its first word is the program"));
    }
    let mut all = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        let mut at = argv;
        while !(*at).is_null() {
            all.push(CStr::from_ptr(*at));
            at = at.add(1);
        }
    }
    process::check_argv(&all)
}

fn required<'a>(argument: &str, string: *const c_char) -> Result<&'a CStr> {
    text(argument, string)?.ok_or_else(|| Error::argument(format!("{argument} is NULL: it is required")))
}

/// Makes a runtime of any program: cancel is a signal, ready is on exec, by sd_notify (PODKEEP_READY_NOTIFY) or by its port
/// (PODKEEP_READY_PORT). For process pods only. argv is NULL-ended and copied, of any bytes; argv[0] is searched in the
/// child's PATH when the pod is started. A program that calls podkeep_child_run with an exported runtime of this name takes its
/// pod over, and from there on has the library's full channel. Any thread; does not block. *out is the caller's.
/// OK; INVALID_ARGUMENT: no name, argv or out, an empty argv; INVALID_STATE: after a shutdown; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_runtime_from_command(
    name: *const c_char,
    argv: *const *const c_char,
    out_runtime: *mut *mut podkeep_runtime,
) -> podkeep_status {
    boundary(|| {
        let out = out("out_runtime", out_runtime)?;
        // SAFETY: the caller promises NULL or a NULL-ended array.
        let argv = unsafe { words(argv) }?;
        *out = register(RuntimeCell::elsewhere(required("name", name)?, Source::Command(argv))?)?;
        Ok(())
    })
}

/// As podkeep_runtime_from_command, of a program that is known to call podkeep_child_run with an exported runtime of this
/// name: ready and failure are its runtime's own word from the beginning, and an end before it took its pod over is a
/// failure (phase SPAWN), whatever its exit code. Threads, blocking, ownership and statuses as there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_runtime_from_program(
    name: *const c_char,
    argv: *const *const c_char,
    out_runtime: *mut *mut podkeep_runtime,
) -> podkeep_status {
    boundary(|| {
        let out = out("out_runtime", out_runtime)?;
        // SAFETY: the caller promises NULL or a NULL-ended array.
        let argv = unsafe { words(argv) }?;
        *out = register(RuntimeCell::elsewhere(required("name", name)?, Source::Program(argv))?)?;
        Ok(())
    })
}

/// Makes a runtime of a shared library that exports `const podkeep_runtime_spec *symbol(void)` and is linked against the
/// same libpodkeep. For thread, process and main pods: as a process it is run by the `podkeep` program, and not loaded
/// here; otherwise it is loaded when the first pod is made, and never unloaded. path is made absolute here; its spec's drop
/// is not called. The runtime's name is the symbol. Any thread; does not block. *out is the caller's.
/// OK; INVALID_ARGUMENT: no path, symbol or out; NOT_FOUND: there is no such file; INVALID_STATE: after a shutdown;
/// RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_runtime_from_library(
    path: *const c_char,
    symbol: *const c_char,
    out_runtime: *mut *mut podkeep_runtime,
) -> podkeep_status {
    boundary(|| {
        let out = out("out_runtime", out_runtime)?;
        let (path, symbol) = (required("path", path)?, required("symbol", symbol)?);
        *out = register(library::runtime(symbol, path, symbol)?)?;
        Ok(())
    })
}

/// Says where the `podkeep` program is, which process pods need; NULL: it is looked for again, in the variable
/// PODKEEP_PROGRAM, beside the library (in its directory, in ../bin) and in PATH. Any thread; does not block; concerns later
/// starts. OK; NOT_FOUND: there is no program; INVALID_ARGUMENT: not UTF-8; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_set_program(path: *const c_char) -> podkeep_status {
    boundary(|| process::program::set_podkeep(text("path", path)?))
}

/// Lets the children of this program's process pods run `runtime`, which they find by its name. First thing in main, before
/// podkeep_child_run; of two of one name the later counts. It keeps nothing alive: once the runtime is freed and its pods have
/// ended it is exported no more. Any thread; does not block. OK; INVALID_HANDLE; INVALID_STATE: after a shutdown; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_export(runtime: *mut podkeep_runtime) -> podkeep_status {
    boundary(|| process::link::export(&find(runtime)?))
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
