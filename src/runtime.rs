//! Runtime: what to run. One object-safe trait, [`Recipe`], stands between the pods and whatever a runtime is made of:
//! C callbacks (`ffi`), or a Rust [`Procedure`].

use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};

use crate::context::Context;
use crate::error::{Error, Result};
use crate::failure::{Kind, c_string};
use crate::role;
use crate::table;
use crate::world::{World, forked};

/// What `init` and `run_forever` return for "I stopped because I was asked to".
pub(crate) const CANCELLED: i32 = -2147483647;

/// What S calls, on one thread and in this order: `init`, `run_forever`, `teardown`. `cancel` comes beside
/// `run_forever`, on another thread. 0 is success.
///
/// Between the start of S's thread and a foreign callback there must be no `catch_unwind` and no local with a
/// destructor: an interpreter may end its foreign threads from inside a callback, and glibc's forced unwinding passes
/// through every frame on the way.
pub(crate) trait Recipe: Send + Sync {
    fn init(&self, ctx: Context, state: &mut *mut c_void) -> i32;
    fn run_forever(&self, ctx: Context, state: *mut c_void) -> i32;
    fn teardown(&self, ctx: Context, state: *mut c_void) -> i32;
    fn has_hook(&self) -> bool;
    fn cancel(&self, ctx: Context, state: *mut c_void);
    /// The config is not needed any more (L3). Called once.
    fn release(&self);
    /// Has what runs here at hand: called before a pod whose S is of this process.
    fn load(&self) -> Result<()> {
        Ok(())
    }
}

/// Where the code of a runtime is: what a child process would have to start.
pub(crate) enum Source {
    /// In this program.
    Own,
    /// A program with its arguments, of whatever kind.
    Command(Vec<CString>),
    /// A program that calls `podkeep_child_run`.
    Program(Vec<CString>),
    /// A shared library's symbol.
    Library { path: CString, symbol: CString },
}

/// What cannot run in this process.
pub(crate) struct Elsewhere;

impl Recipe for Elsewhere {
    fn init(&self, ctx: Context, _: &mut *mut c_void) -> i32 {
        ctx.fail(-1, "this runtime runs as a process only")
    }
    fn run_forever(&self, _: Context, _: *mut c_void) -> i32 {
        0
    }
    fn teardown(&self, _: Context, _: *mut c_void) -> i32 {
        0
    }
    fn has_hook(&self) -> bool {
        false
    }
    fn cancel(&self, _: Context, _: *mut c_void) {}
    fn release(&self) {}
    fn load(&self) -> Result<()> {
        Err(crate::host::process::only_as_process("a command"))
    }
}

/// A recipe, shared by the runtime's handle and its pods.
pub(crate) struct RuntimeCell {
    pub(crate) name: &'static CStr,
    pub(crate) recipe: Box<dyn Recipe>,
    pub(crate) source: Source,
    /// The handle, and each pod that is neither final nor freed: at 0 the config is released.
    uses: AtomicUsize,
}

impl RuntimeCell {
    pub(crate) fn new(name: &'static CStr, recipe: Box<dyn Recipe>, source: Source) -> RuntimeCell {
        RuntimeCell { name, recipe, source, uses: AtomicUsize::new(1) }
    }

    /// A command, or a program that knows podkeep: nothing of it runs in this process.
    pub(crate) fn elsewhere(name: &CStr, source: Source) -> Result<RuntimeCell> {
        let world = World::get()?;
        world.check_open()?;
        check_name("name", name)?;
        Ok(RuntimeCell::new(world.intern(name)?, Box::new(Elsewhere), source))
    }

    /// Whether its config is not released.
    pub(crate) fn is_in_use(&self) -> bool {
        self.uses.load(Acquire) > 0
    }

    /// For one more pod; false: released already.
    pub(crate) fn retain(&self) -> bool {
        self.uses.fetch_update(AcqRel, Acquire, |uses| (uses > 0).then_some(uses + 1)).is_ok()
    }

    /// Gives a use back; true: it was the last, and the caller has to see to [`RuntimeCell::release`].
    pub(crate) fn unuse(&self) -> bool {
        self.uses.fetch_sub(1, AcqRel) == 1
    }

    pub(crate) fn release(&self) {
        role::as_callee(|| self.recipe.release());
    }
}

/// An error of any type, as Rust procedures return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A blocking procedure in Rust. One value is made per incarnation, on the pod's own thread, by the factory given to
/// [`Runtime::new`]; it is dropped there after `teardown`.
pub trait Procedure: Send + Sync + 'static {
    /// Whether [`Procedure::cancel`] is to be called: a pod with a hook keeps a thread at hand for it.
    const HAS_CANCEL: bool = false;

    /// Blocks until cancelled. `Ok` is a clean end, an `Err` or a panic is the pod's failure.
    fn run_forever(&self, ctx: Context) -> std::result::Result<(), BoxError>;

    /// Called once if the factory succeeded, however `run_forever` ended.
    fn teardown(&self, _ctx: Context) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    /// Unblocks what cannot poll. Called at most once, beside `run_forever`, on another thread.
    fn cancel(&self, _ctx: Context) {}
}

/// What to run: the recipe of pods.
///
/// Cloning shares it; what the factory owns is dropped when the last clone is gone and every pod made of it has ended.
pub struct Runtime {
    cell: Arc<RuntimeCell>,
    home: &'static World,
}

impl Runtime {
    fn of(cell: RuntimeCell) -> Result<Runtime> {
        Ok(Runtime { cell: Arc::new(cell), home: World::get()? })
    }

    /// A runtime whose `init` is `factory`: it is called on each pod's own thread.
    ///
    /// `name` has 1 to 255 bytes and no NUL.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for such a name, INVALID_STATE after a shutdown, RESOURCES without memory.
    pub fn new<P, F>(name: &str, factory: F) -> Result<Runtime>
    where
        P: Procedure,
        F: Fn(Context) -> std::result::Result<P, BoxError> + Send + Sync + 'static,
    {
        let world = World::get()?;
        world.check_open()?;
        let name = c_string(name);
        check_name("name", &name)?;
        let recipe = Box::new(Factory { factory: std::sync::Mutex::new(Some(Arc::new(factory))) });
        Runtime::of(RuntimeCell::new(world.intern(&name)?, recipe, Source::Own))
    }

    /// A runtime that is one function, called as `run_forever`.
    ///
    /// # Errors
    /// As for [`Runtime::new`].
    pub fn from_fn<F>(name: &str, function: F) -> Result<Runtime>
    where
        F: Fn(Context) -> std::result::Result<(), BoxError> + Send + Sync + 'static,
    {
        struct Function<F>(Arc<F>);
        impl<F> Procedure for Function<F>
        where
            F: Fn(Context) -> std::result::Result<(), BoxError> + Send + Sync + 'static,
        {
            fn run_forever(&self, ctx: Context) -> std::result::Result<(), BoxError> {
                (self.0)(ctx)
            }
        }
        let function = Arc::new(function);
        Runtime::new(name, move |_| Ok(Function(function.clone())))
    }

    /// Any program, for a process pod: cancel is a signal; ready is on exec, by sd_notify or by a port. `argv[0]` is searched
    /// in the child's PATH.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for an empty `argv` or a NUL in it, and as for [`Runtime::new`].
    pub fn from_command(name: &str, argv: &[&str]) -> Result<Runtime> {
        Runtime::of(RuntimeCell::elsewhere(&c_string(name), Source::Command(words(argv)?))?)
    }

    /// A program that calls [`crate::child_run`] with an exported runtime of this name.
    ///
    /// # Errors
    /// As for [`Runtime::from_command`].
    pub fn from_program(name: &str, argv: &[&str]) -> Result<Runtime> {
        Runtime::of(RuntimeCell::elsewhere(&c_string(name), Source::Program(words(argv)?))?)
    }

    /// Lets the children of this program's process pods run it: they find it by its name. First thing in `main`, before
    /// [`crate::child_run`]. It keeps nothing alive.
    ///
    /// # Errors
    /// INVALID_STATE after a shutdown, RESOURCES, FORKED.
    pub fn export(&self) -> Result<()> {
        crate::host::process::link::export(self.cell()?)
    }

    pub(crate) fn cell(&self) -> Result<&Arc<RuntimeCell>> {
        match self.home.is_here() {
            true => Ok(&self.cell),
            false => Err(forked(table::Kind::Runtime)),
        }
    }
}

fn words(argv: &[&str]) -> Result<Vec<CString>> {
    let nul = |word: &&str| Error::argument(format!("argv has {word:?}: a NUL would end it"));
    let words = argv.iter().map(|word| CString::new(*word).map_err(|_| nul(word))).collect::<Result<Vec<_>>>()?;
    crate::host::process::check_argv(&words.iter().map(|word| &**word).collect::<Vec<_>>())
}

impl Clone for Runtime {
    fn clone(&self) -> Runtime {
        self.cell.retain();
        Runtime { cell: self.cell.clone(), home: self.home }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        // Of what was made before a fork, nothing is released in the child.
        if self.home.is_here() && self.cell.unuse() {
            self.cell.release();
        }
    }
}

/// Names of runtimes and pods: 1 to 255 bytes.
pub(crate) fn check_name(argument: &str, name: &CStr) -> Result<()> {
    match name.count_bytes() {
        1..=255 => Ok(()),
        0 => Err(Error::argument(format!("{argument} is empty: give 1 to 255 bytes"))),
        n => Err(Error::argument(format!("{argument} has {n} bytes: give 1 to 255"))),
    }
}

struct Factory<F> {
    factory: std::sync::Mutex<Option<Arc<F>>>,
}

impl<P, F> Recipe for Factory<F>
where
    P: Procedure,
    F: Fn(Context) -> std::result::Result<P, BoxError> + Send + Sync + 'static,
{
    fn init(&self, ctx: Context, state: &mut *mut c_void) -> i32 {
        let factory = crate::world::lock(&self.factory).clone();
        contained(ctx, || {
            let factory = factory.ok_or("the runtime was released")?;
            *state = Box::into_raw(Box::new(factory(ctx)?)).cast();
            Ok(())
        })
    }

    fn run_forever(&self, ctx: Context, state: *mut c_void) -> i32 {
        // SAFETY: `init` made it and `teardown`, which drops it, comes later.
        let procedure = unsafe { &*state.cast::<P>() };
        contained(ctx, || procedure.run_forever(ctx))
    }

    fn teardown(&self, ctx: Context, state: *mut c_void) -> i32 {
        // SAFETY: `init` made it; nobody uses it any more: run has returned and the hook was waited for.
        let procedure = unsafe { Box::from_raw(state.cast::<P>()) };
        contained(ctx, move || procedure.teardown(ctx))
    }

    fn has_hook(&self) -> bool {
        P::HAS_CANCEL
    }

    fn cancel(&self, ctx: Context, state: *mut c_void) {
        // SAFETY: the hook runs only while run_forever is entered.
        let procedure = unsafe { &*state.cast::<P>() };
        contained(ctx, || {
            procedure.cancel(ctx);
            Ok(())
        });
    }

    fn release(&self) {
        let factory = crate::world::lock(&self.factory).take();
        let_go(factory);
    }
}

/// Drops what is the user's. A panic of that ends here.
fn let_go<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        std::mem::forget(panic); // its own drop might panic, too
    }
}

/// Runs Rust code of the user: its error or panic is stored as the failure, the result is the callback's return value.
fn contained(ctx: Context, code: impl FnOnce() -> std::result::Result<(), BoxError>) -> i32 {
    let told = AssertUnwindSafe(|| match code() {
        Ok(()) => 0,
        Err(error) => {
            let text = error.to_string(); // the user's code, as its drop is
            let_go(error);
            ctx.fail_as(Kind::Returned, -1, &text)
        }
    });
    match catch_unwind(told) {
        Ok(code) => code,
        Err(panic) => {
            let code = ctx.fail_as(Kind::Panic, -1, panic_text(&*panic));
            let_go(panic);
            code
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
