//! A runtime out of a shared library.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::{Arc, OnceLock};

use super::runtime::{Callbacks, podkeep_runtime_spec};
use crate::context::Context;
use crate::error::{Error, Result, Status};
use crate::runtime::{Recipe, RuntimeCell, Source, check_name};
use crate::world::World;

/// Makes the runtime; the library is loaded when it is to run in this process.
pub(crate) fn runtime(name: &CStr, path: &CStr, symbol: &CStr) -> Result<RuntimeCell> {
    let world = World::get()?;
    world.check_open()?;
    check_name("symbol", symbol)?;
    let shown = path.to_string_lossy();
    let real = std::fs::canonicalize(OsStr::from_bytes(path.to_bytes()))
        .map_err(|error| Error::new(Status::NotFound, format!("path is {shown:?}: {error}")))?;
    let path = CString::new(real.into_os_string().into_vec()).unwrap_or_default();
    let library = Library { path: path.clone(), symbol: symbol.to_owned(), loaded: OnceLock::new() };
    let source = Source::Library { path, symbol: symbol.to_owned() };
    Ok(RuntimeCell::new(world.intern(name)?, Box::new(library), source))
}

/// The same for a process that is to run it now.
pub(crate) fn loaded(name: &CStr, path: &CStr, symbol: &CStr) -> Result<Arc<RuntimeCell>> {
    let runtime = runtime(name, path, symbol)?;
    runtime.recipe.load()?;
    Ok(Arc::new(runtime))
}

struct Library {
    path: CString,
    symbol: CString,
    loaded: OnceLock<Callbacks>,
}

impl Library {
    fn open(&self) -> Result<Callbacks> {
        let (path, symbol) = (self.path.to_string_lossy(), self.symbol.to_string_lossy());
        let refused = |why: String| Error::new(Status::NotFound, format!("library {path:?}: {why}"));
        // SAFETY: strings; never closed, so that what it gives stays. Its constructors are its own affair.
        let spec = unsafe {
            libc::dlerror();
            let library = libc::dlopen(self.path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE);
            if library.is_null() {
                return Err(refused(last_error()));
            }
            let found = libc::dlsym(library, self.symbol.as_ptr());
            if found.is_null() {
                return Err(refused(format!("it exports no {symbol:?}")));
            }
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const podkeep_runtime_spec>(found)()
        };
        // SAFETY: what the library promises of that function.
        unsafe { Callbacks::of_library(spec) }.map_err(|error| refused(format!("{symbol}: {}", error.sentence)))
    }

    fn callbacks(&self) -> Option<&Callbacks> {
        self.loaded.get()
    }
}

/// What the loader says of its last refusal.
fn last_error() -> String {
    // SAFETY: NULL or a string that lives until this thread's next call.
    unsafe {
        let text: *const c_char = libc::dlerror();
        if text.is_null() { "it cannot be loaded".into() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    }
}

impl Recipe for Library {
    fn init(&self, ctx: Context, state: &mut *mut c_void) -> c_int {
        self.callbacks().map_or(-1, |callbacks| callbacks.init(ctx, state))
    }
    fn run_forever(&self, ctx: Context, state: *mut c_void) -> c_int {
        self.callbacks().map_or(-1, |callbacks| callbacks.run_forever(ctx, state))
    }
    fn teardown(&self, ctx: Context, state: *mut c_void) -> c_int {
        self.callbacks().map_or(-1, |callbacks| callbacks.teardown(ctx, state))
    }
    fn has_hook(&self) -> bool {
        self.callbacks().is_some_and(Recipe::has_hook)
    }
    fn cancel(&self, ctx: Context, state: *mut c_void) {
        if let Some(callbacks) = self.callbacks() {
            callbacks.cancel(ctx, state);
        }
    }
    fn release(&self) {}
    fn load(&self) -> Result<()> {
        if self.loaded.get().is_none() {
            let _ = self.loaded.set(self.open()?);
        }
        Ok(())
    }
}
