//! The library, found and bound at run time: the functions this program calls, typed as include/podkeep.h has them.

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_void};
use std::mem::transmute_copy;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// PODKEEP_ABI_VERSION of the header that the types below were taken from.
const ABI: u32 = 0;
const SONAME: &CStr = c"libpodkeep.so.0";

pub const OK: i32 = 0;
pub const ERR_INVALID_ARGUMENT: i32 = -1;
pub const ERR_ENDED: i32 = -6;
pub const ERR_RESOURCES: i32 = -9;
pub const ERR_NOT_FOUND: i32 = -14;
pub const FOREVER: i64 = -1;
pub const HOST_THREAD: i32 = 0;
pub const HOST_PROCESS: i32 = 1;
pub const READY_ON_RUN: i32 = 0;
pub const READY_NOTIFY: i32 = 1;
pub const READY_PORT: i32 = 2;
pub const RESTART_NEVER: i32 = 0;
pub const RESTART_ON_FAILURE: i32 = 1;
pub const RESTART_ALWAYS: i32 = 2;
pub const STATE_RESTARTING: i32 = 4;

/// What a handle points to is nobody's business.
pub enum Opaque {}

/// podkeep_pod_options.
#[repr(C)]
pub struct PodOptions {
    pub struct_size: usize,
    pub name: *const c_char,
    pub host: i32,
    pub ready: i32,
    pub ready_timeout_ms: i64,
    pub grace_ms: i64,
    pub kill_after_ms: i64,
    pub extend_max_ms: i64,
    pub stack_size: usize,
    pub kick_signal: i32,
    pub stop_signal: i32,
    pub env: *const *const c_char,
    pub cwd: *const c_char,
    pub args: *const c_void,
    pub args_len: usize,
    pub restart: i32,
    pub max_restarts: u32,
    pub restart_window_ms: i64,
    pub backoff_ms: i64,
    pub backoff_max_ms: i64,
    pub watchdog_ms: i64,
    pub ready_port: i32,
    pub reserved: i32,
}

impl PodOptions {
    /// PODKEEP_POD_OPTIONS_INIT.
    pub fn new() -> PodOptions {
        // SAFETY: zero is every field's default.
        let zero: PodOptions = unsafe { std::mem::zeroed() };
        PodOptions { struct_size: size_of::<PodOptions>(), ..zero }
    }
}

/// podkeep_control_options.
#[repr(C)]
pub struct ControlOptions {
    pub struct_size: usize,
    pub address: *const c_char,
    pub tls_cert: *const c_char,
    pub tls_key: *const c_char,
    pub tls_client_ca: *const c_char,
}

/// podkeep_event.
#[repr(C)]
pub struct Event {
    pub struct_size: usize,
    pub sequence: u64,
    pub time_ns: u64,
    pub pod: *mut Opaque,
    pub name: *const c_char,
    pub failure: *const Opaque,
    pub from: i32,
    pub to: i32,
    pub incarnation: u32,
    pub missed: u32,
}

impl Event {
    /// PODKEEP_EVENT_INIT.
    pub fn new() -> Event {
        // SAFETY: zero is every field's default.
        let zero: Event = unsafe { std::mem::zeroed() };
        Event { struct_size: size_of::<Event>(), ..zero }
    }
}

type Runtime = *mut Opaque;
type Monitor = *mut Opaque;
type Pod = *mut Opaque;
type Failure = *mut Opaque;
type Of<T> = unsafe extern "C" fn(*const Opaque) -> T;

/// The functions of the control service.
pub struct Control {
    pub serve: unsafe extern "C" fn(*const ControlOptions, *mut *mut Opaque) -> i32,
    pub address: unsafe extern "C" fn(*mut Opaque, *mut *const c_char) -> i32,
    pub free: unsafe extern "C" fn(*mut Opaque) -> i32,
}

/// What dlopen gave.
#[derive(Clone, Copy)]
struct Handle(*mut c_void);

// SAFETY: dlsym may be asked by any thread, and the handle is never closed.
unsafe impl Send for Handle {}

/// Never unloaded: pods' threads run its code.
#[derive(Clone)]
pub struct Library {
    at: Handle,
    /// Where it was found, for people.
    pub path: PathBuf,
    pub version: unsafe extern "C" fn() -> *const c_char,
    pub abi_version: unsafe extern "C" fn() -> u32,
    pub last_error: unsafe extern "C" fn() -> *const c_char,
    pub status_name: unsafe extern "C" fn(i32) -> *const c_char,
    pub set_program: unsafe extern "C" fn(*const c_char) -> i32,
    pub child_run: unsafe extern "C" fn(*mut i32) -> i32,
    pub runtime_from_command: unsafe extern "C" fn(*const c_char, *const *const c_char, *mut Runtime) -> i32,
    pub runtime_from_library: unsafe extern "C" fn(*const c_char, *const c_char, *mut Runtime) -> i32,
    pub pod_new: unsafe extern "C" fn(Runtime, *const PodOptions, *mut Pod) -> i32,
    pub pod_id: unsafe extern "C" fn(Pod, *mut i64) -> i32,
    pub pod_run: unsafe extern "C" fn(Pod, *mut i32) -> i32,
    pub pod_failure: unsafe extern "C" fn(Pod, *mut Failure) -> i32,
    pub monitor_new: unsafe extern "C" fn(Pod, *mut Monitor) -> i32,
    pub monitor_next: unsafe extern "C" fn(Monitor, *mut Event, i64) -> i32,
    pub monitor_free: unsafe extern "C" fn(Monitor) -> i32,
    pub failure_pod_name: Of<*const c_char>,
    pub failure_phase: Of<i32>,
    pub failure_kind: Of<i32>,
    pub failure_code: Of<i32>,
    pub failure_message: Of<*const c_char>,
    pub failure_stderr: Of<*const c_char>,
    pub failure_secondary: Of<*const Opaque>,
}

impl Library {
    /// Finds it: the environment's word, beside this program, then as the loader does. Err: a sentence.
    pub fn load() -> Result<Library, String> {
        let (at, path) = open()?;
        // SAFETY: each function has the type of the field that takes it, by include/podkeep.h; the ABI's number is asked
        // for before any other is called.
        unsafe {
            let abi_version: unsafe extern "C" fn() -> u32 = bind(at, &path, c"podkeep_abi_version")?;
            let abi = abi_version();
            if abi != ABI {
                return Err(format!("{} speaks ABI {abi}, this program ABI {ABI}", path.display()));
            }
            Ok(Library {
                at: Handle(at),
                abi_version,
                version: bind(at, &path, c"podkeep_version")?,
                last_error: bind(at, &path, c"podkeep_last_error")?,
                status_name: bind(at, &path, c"podkeep_status_name")?,
                set_program: bind(at, &path, c"podkeep_set_program")?,
                child_run: bind(at, &path, c"podkeep_child_run")?,
                runtime_from_command: bind(at, &path, c"podkeep_runtime_from_command")?,
                runtime_from_library: bind(at, &path, c"podkeep_runtime_from_library")?,
                pod_new: bind(at, &path, c"podkeep_pod_new")?,
                pod_id: bind(at, &path, c"podkeep_pod_id")?,
                pod_run: bind(at, &path, c"podkeep_pod_run")?,
                pod_failure: bind(at, &path, c"podkeep_pod_failure")?,
                monitor_new: bind(at, &path, c"podkeep_monitor_new")?,
                monitor_next: bind(at, &path, c"podkeep_monitor_next")?,
                monitor_free: bind(at, &path, c"podkeep_monitor_free")?,
                failure_pod_name: bind(at, &path, c"podkeep_failure_pod_name")?,
                failure_phase: bind(at, &path, c"podkeep_failure_phase")?,
                failure_kind: bind(at, &path, c"podkeep_failure_kind")?,
                failure_code: bind(at, &path, c"podkeep_failure_code")?,
                failure_message: bind(at, &path, c"podkeep_failure_message")?,
                failure_stderr: bind(at, &path, c"podkeep_failure_stderr")?,
                failure_secondary: bind(at, &path, c"podkeep_failure_secondary")?,
                path,
            })
        }
    }

    /// For those who serve: a library of before has none of it. Err: a sentence.
    pub fn control(&self) -> Result<Control, String> {
        let Handle(at) = self.at;
        // SAFETY: each function has the type of the field that takes it, by include/podkeep.h.
        unsafe {
            Ok(Control {
                serve: bind(at, &self.path, c"podkeep_control_serve")?,
                address: bind(at, &self.path, c"podkeep_control_address")?,
                free: bind(at, &self.path, c"podkeep_control_free")?,
            })
        }
    }

    /// The library's sentence about this thread's last call, which answered `status`.
    pub fn why(&self, status: i32) -> String {
        // SAFETY: both answer a terminated string, always.
        let (sentence, name) = unsafe { (text((self.last_error)()), text((self.status_name)(status))) };
        if sentence.is_empty() { name } else { sentence }
    }
}

/// A copy of one of the library's strings.
///
/// # Safety
/// `s` is a terminated string.
pub unsafe fn text(s: *const c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(s) }.to_string_lossy().into_owned()
}

/// The function of that name.
///
/// # Safety
/// `F` is its type, a function pointer; `at` is a live handle.
unsafe fn bind<F>(at: *mut c_void, path: &Path, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: a live handle (caller) and a terminated name.
    let found = unsafe { libc::dlsym(at, name.as_ptr()) };
    if found.is_null() {
        return Err(format!("{} has no {}: it is of another version", path.display(), name.to_string_lossy()));
    }
    // SAFETY: a function's address, in a type of its size that the caller vouches for.
    Ok(unsafe { transmute_copy(&found) })
}

fn open() -> Result<(*mut c_void, PathBuf), String> {
    if let Some(path) = std::env::var_os("PODKEEP_LIBRARY").filter(|p| !p.is_empty()) {
        return dlopen(&path)
            .map(|handle| (handle, path.into()))
            .map_err(|why| format!("the library of PODKEEP_LIBRARY cannot be loaded: {why}"));
    }
    if let Ok(program) = std::fs::read_link("/proc/self/exe") {
        let name = OsStr::from_bytes(SONAME.to_bytes());
        let beside = program.parent().unwrap_or(Path::new("/"));
        // Installed (bin/ beside lib/), then as it was built or packed into one directory.
        let installed = beside.parent().map(|prefix| prefix.join("lib").join(name));
        if let Some(path) = installed.into_iter().chain([beside.join(name)]).find(|path| path.exists()) {
            return dlopen(path.as_os_str())
                .map(|handle| (handle, path))
                .map_err(|why| format!("the library beside this program cannot be loaded: {why}"));
        }
    }
    let name = OsString::from_vec(SONAME.to_bytes().to_vec());
    dlopen(&name).map(|handle| (handle, name.into())).map_err(|why| {
        format!(
            "the library is not found: {why}; it belongs into ../lib/ beside this program, or PODKEEP_LIBRARY says \
             where it is"
        )
    })
}

fn dlopen(path: &OsStr) -> Result<*mut c_void, String> {
    let path = CString::new(path.as_bytes()).map_err(|_| "its path has a NUL inside".to_string())?;
    // GLOBAL: a worker that was built without naming the library finds its functions nevertheless.
    // SAFETY: a terminated path; the library's initialisers are its own matter.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: after a failure dlerror answers a terminated string or NULL.
    let why: *mut c_char = unsafe { libc::dlerror() };
    // SAFETY: as above.
    Err(if why.is_null() { "no reason is given".into() } else { unsafe { text(why) } })
}
