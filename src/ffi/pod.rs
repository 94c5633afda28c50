//! Pod: one kept instance of a runtime.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::Mutex;

use super::failure::podkeep_failure;
use super::runtime::podkeep_runtime;
use super::status::{PODKEEP_OK, podkeep_status};
use super::{boundary, out, read_struct, text, value};
use crate::cancel;
use crate::error::{Error, Result, Status};
use crate::host::process::Process;
use crate::limit::{Limit, nanos};
use crate::linux::{self, NEVER, Nanos};
use crate::pod::{
    self, DEFAULT_BACKOFF, DEFAULT_BACKOFF_MAX, DEFAULT_EXTEND_MAX, DEFAULT_GRACE, DEFAULT_KILL_AFTER,
    DEFAULT_MAX_RESTARTS, DEFAULT_RESTART_WINDOW, Place, Settings,
};
use crate::supervise::restart::{Policy, Restart};
use crate::table::{Kind, PodRef, as_pointer};
use crate::world;

/// One kept instance of a runtime. Opaque; a handle, never an address.
pub struct podkeep_pod {
    _opaque: [u8; 0],
}

/// Where a pod is in its life: PODKEEP_STATE_*.
pub type podkeep_state = i32;
/// Made, not started.
pub const PODKEEP_STATE_NEW: podkeep_state = 0;
/// On its way to ready.
pub const PODKEEP_STATE_STARTING: podkeep_state = 1;
/// Ready, and run_forever is entered.
pub const PODKEEP_STATE_RUNNING: podkeep_state = 2;
/// On its way down.
pub const PODKEEP_STATE_STOPPING: podkeep_state = 3;
/// Between two incarnations.
pub const PODKEEP_STATE_RESTARTING: podkeep_state = 4;
/// Ended without a failure. Final.
pub const PODKEEP_STATE_STOPPED: podkeep_state = 5;
/// Ended with a failure. Final.
pub const PODKEEP_STATE_FAILED: podkeep_state = 6;
/// Its grace is spent and its thread was let go; FAILED if the thread comes back.
pub const PODKEEP_STATE_ABANDONED: podkeep_state = 7;

/// Where a pod runs: PODKEEP_HOST_*.
pub type podkeep_host = i32;
/// In a thread of this process.
pub const PODKEEP_HOST_THREAD: podkeep_host = 0;
/// In a child process.
pub const PODKEEP_HOST_PROCESS: podkeep_host = 1;

/// When a pod is ready: PODKEEP_READY_*.
pub type podkeep_ready_mode = i32;
/// As soon as run_forever is entered.
pub const PODKEEP_READY_ON_RUN: podkeep_ready_mode = 0;
/// When it says so: podkeep_context_ready.
pub const PODKEEP_READY_NOTIFY: podkeep_ready_mode = 1;
/// When it listens on its TCP port.
pub const PODKEEP_READY_PORT: podkeep_ready_mode = 2;

/// Whether another life follows an end: PODKEEP_RESTART_*.
pub type podkeep_restart = i32;
/// Never.
pub const PODKEEP_RESTART_NEVER: podkeep_restart = 0;
/// After a failure.
pub const PODKEEP_RESTART_ON_FAILURE: podkeep_restart = 1;
/// After any end but a user's cancel.
pub const PODKEEP_RESTART_ALWAYS: podkeep_restart = 2;

/// How a pod is kept. Begin with PODKEEP_POD_OPTIONS_INIT; zero in a field is its default. A field that has no effect on
/// such a pod is refused with INVALID_ARGUMENT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct podkeep_pod_options {
    /// Of this struct, in bytes.
    pub struct_size: usize,
    /// NULL: the runtime's. 1 to 255 bytes of UTF-8; copied. The kernel's thread gets the first 15 bytes.
    pub name: *const c_char,
    /// PODKEEP_HOST_*.
    pub host: podkeep_host,
    /// PODKEEP_READY_*.
    pub ready: podkeep_ready_mode,
    /// 0: no limit on the way to ready.
    pub ready_timeout_ms: i64,
    /// The budget of the whole stop, until force. 0: 5000; PODKEEP_FOREVER: never force.
    pub grace_ms: i64,
    /// Process: from the polite signal, when the grace is spent, to SIGKILL. 0: 1000. Nothing else has a use for it.
    pub kill_after_ms: i64,
    /// All that podkeep_context_extend may add. 0: 60000.
    pub extend_max_ms: i64,
    /// Thread: in bytes, at least PTHREAD_STACK_MIN. 0: what pthread_create gives.
    pub stack_size: usize,
    /// Thread: a signal that gets S out of its system call when a stop is asked for. 0: no kick.
    pub kick_signal: i32,
    /// Command: what cancel sends to its main process. 0: SIGTERM.
    pub stop_signal: i32,
    /// Process: "KEY=VALUE" ..., NULL-ended, over the inherited ones; copied.
    pub env: *const *const c_char,
    /// Process: its directory; NULL: inherited. Copied.
    pub cwd: *const c_char,
    /// Bytes for podkeep_context_args; copied; handed out 16-byte aligned.
    pub args: *const c_void,
    /// Their number.
    pub args_len: usize,
    /// PODKEEP_RESTART_*. What a user stopped is never restarted, nor is a thread that was let go.
    pub restart: podkeep_restart,
    /// At most so many in restart_window_ms, then FAILED. 0: 8; UINT32_MAX: any number.
    pub max_restarts: u32,
    /// Slides. A life that was RUNNING for as long makes the delay begin anew. 0: 60000.
    pub restart_window_ms: i64,
    /// The delay before another life; it doubles, and each is drawn from 75 to 100 % of it. 0: 100.
    pub backoff_ms: i64,
    /// It doubles up to that. 0: 30000.
    pub backoff_max_ms: i64,
    /// While RUNNING podkeep_context_heartbeat must come at least that often. 0: it need not.
    pub watchdog_ms: i64,
    /// Command, with PODKEEP_READY_PORT: the TCP port on which the child's own group must listen.
    pub ready_port: i32,
    /// 0.
    pub reserved: i32,
}

/// The milliseconds of an option: 0 is `default`.
fn span(field: &str, ms: i64, default: Nanos) -> Result<Nanos> {
    match ms {
        0 => Ok(default),
        1.. => Ok(nanos(ms).min(NEVER - 1)),
        _ => Err(Error::argument(format!("options.{field} is {ms}: give milliseconds, 0 for the default"))),
    }
}

impl podkeep_pod_options {
    fn settings(&self) -> Result<Settings<'_>> {
        let default = |d: std::time::Duration| d.as_nanos() as Nanos;
        let forever = self.grace_ms == -1;
        self.check()?;
        let ready_timeout = span("ready_timeout_ms", self.ready_timeout_ms, 0)?;
        let grace = if forever { NEVER } else { span("grace_ms", self.grace_ms, default(DEFAULT_GRACE))? };
        let extend_max = span("extend_max_ms", self.extend_max_ms, default(DEFAULT_EXTEND_MAX))?;
        let (name, args) = (text("options.name", self.name)?, self.args()?);
        self.fitting()?;
        let place = match self.host {
            PODKEEP_HOST_THREAD => Place::Thread { stack_size: self.stack_size, kick_signal: self.kick_signal },
            _ => Place::Process(Box::new(Process {
                kill_after: span("kill_after_ms", self.kill_after_ms, default(DEFAULT_KILL_AFTER))?,
                stop_signal: (self.stop_signal != 0).then_some(self.stop_signal),
                env: self.env()?,
                cwd: self.cwd(),
                port: self.ready_port as u16,
                live: Mutex::default(),
            })),
        };
        let notify = self.ready != PODKEEP_READY_ON_RUN;
        let policy = Policy {
            restart: match self.restart {
                PODKEEP_RESTART_NEVER => Restart::Never,
                PODKEEP_RESTART_ON_FAILURE => Restart::OnFailure,
                _ => Restart::Always,
            },
            most: if self.max_restarts == 0 { DEFAULT_MAX_RESTARTS } else { self.max_restarts },
            window: span("restart_window_ms", self.restart_window_ms, default(DEFAULT_RESTART_WINDOW))?,
            backoff: span("backoff_ms", self.backoff_ms, default(DEFAULT_BACKOFF))?,
            backoff_max: span("backoff_max_ms", self.backoff_max_ms, default(DEFAULT_BACKOFF_MAX))?,
        };
        let watchdog = span("watchdog_ms", self.watchdog_ms, 0)?;
        let incarnation = 0;
        Ok(Settings { name, notify, ready_timeout, grace, extend_max, args, policy, watchdog, incarnation, place })
    }

    fn args(&self) -> Result<&[u8]> {
        match (self.args.is_null(), self.args_len) {
            (_, 0) => Ok(&[]),
            (true, n) => Err(Error::argument(format!("options.args is NULL and options.args_len is {n}"))),
            (false, n) if n > isize::MAX as usize => {
                Err(Error::argument(format!("options.args_len is {n}: no memory holds that many bytes")))
            }
            // SAFETY: the caller promises args_len readable bytes.
            (false, n) => Ok(unsafe { std::slice::from_raw_parts(self.args.cast(), n) }),
        }
    }

    fn env(&self) -> Result<Vec<CString>> {
        let mut all = Vec::new();
        // SAFETY: the caller promises NULL or an array of strings that ends with NULL.
        unsafe {
            let mut at = self.env;
            while !at.is_null() && !(*at).is_null() {
                let entry = CStr::from_ptr(*at);
                if !matches!(entry.to_bytes().iter().position(|&byte| byte == b'='), Some(1..)) {
                    let shown = entry.to_string_lossy();
                    return Err(Error::argument(format!("options.env[{}] is {shown:?}: give KEY=VALUE", all.len())));
                }
                if entry.to_bytes().starts_with(b"PODKEEP_CHILD=") {
                    return Err(Error::argument("options.env sets PODKEEP_CHILD: that is the library's own word"));
                }
                all.push(entry.to_owned());
                at = at.add(1);
            }
        }
        Ok(all)
    }

    fn cwd(&self) -> Option<CString> {
        // SAFETY: the caller promises NULL or a NUL-terminated string.
        (!self.cwd.is_null()).then(|| unsafe { CStr::from_ptr(self.cwd) }.to_owned())
    }

    fn check(&self) -> Result<()> {
        for (field, ms) in [
            ("kill_after_ms", self.kill_after_ms),
            ("restart_window_ms", self.restart_window_ms),
            ("backoff_ms", self.backoff_ms),
            ("backoff_max_ms", self.backoff_max_ms),
            ("watchdog_ms", self.watchdog_ms),
        ] {
            span(field, ms, 0)?;
        }
        for (field, value, most) in [
            ("host", self.host, PODKEEP_HOST_PROCESS),
            ("ready", self.ready, PODKEEP_READY_PORT),
            ("restart", self.restart, PODKEEP_RESTART_ALWAYS),
            ("ready_port", self.ready_port, u16::MAX as i32),
            ("stop_signal", self.stop_signal, libc::SIGRTMAX()),
            ("reserved", self.reserved, 0),
        ] {
            if !(0..=most).contains(&value) {
                return Err(Error::argument(format!("options.{field} is {value}: give 0 to {most}")));
            }
        }
        if self.kick_signal != 0 && !linux::can_kick_with(self.kick_signal) {
            let signal = self.kick_signal;
            return Err(Error::argument(format!(
                "options.kick_signal is {signal}: no thread can be kicked with it; SIGUSR1 is a usual choice"
            )));
        }
        match (self.ready == PODKEEP_READY_PORT, self.ready_port) {
            (true, 0) => {
                Err(Error::argument("options.ready is PODKEEP_READY_PORT and options.ready_port is 0: say which"))
            }
            (false, port @ 1..) => {
                Err(Error::argument(format!("options.ready_port is {port} without options.ready PODKEEP_READY_PORT")))
            }
            _ => Ok(()),
        }
    }

    /// What would have no effect on such a pod is refused, not ignored.
    fn fitting(&self) -> Result<()> {
        let process = self.host == PODKEEP_HOST_PROCESS;
        for (field, set, fits, whose) in [
            ("stack_size", self.stack_size != 0, !process, "a thread"),
            ("kick_signal", self.kick_signal != 0, !process, "a thread"),
            ("env", !self.env.is_null(), process, "a process"),
            ("cwd", !self.cwd.is_null(), process, "a process"),
            ("stop_signal", self.stop_signal != 0, process, "a command in a process"),
            ("ready", self.ready == PODKEEP_READY_PORT, process, "a command in a process"),
        ] {
            if set && !fits {
                return Err(Error::argument(format!(
                    "options.{field} is set: it is for {whose}, and this pod is none"
                )));
            }
        }
        Ok(())
    }
}

pub(super) fn find(pod: *const podkeep_pod) -> Result<PodRef> {
    PodRef::of_handle(value(pod)).map_err(|status| match status {
        Status::Forked => world::forked(Kind::Pod),
        _ => world::not_a(Kind::Pod, value(pod)),
    })
}

/// Makes a pod: NEW. Any thread; does not block. options may be NULL. *out is the caller's, to be freed with
/// podkeep_pod_free; the runtime may be freed before.
/// OK; INVALID_ARGUMENT: the sentence names the field; INVALID_HANDLE, FORKED: the runtime; INVALID_STATE: after a
/// shutdown; UNSUPPORTED: a field that this build cannot honour; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_pod_new(
    runtime: *mut podkeep_runtime,
    options: *const podkeep_pod_options,
    out_pod: *mut *mut podkeep_pod,
) -> podkeep_status {
    boundary(|| {
        let runtime = super::runtime::find(runtime)?;
        let out = out("out_pod", out_pod)?;
        // SAFETY: the caller promises NULL or a struct of its size; zeroes are valid for every field.
        let options = match unsafe { read_struct("options", options) }? {
            Some(options) => options,
            // SAFETY: as above.
            None => unsafe { std::mem::zeroed::<podkeep_pod_options>() },
        };
        let pod = pod::make(&runtime, options.settings()?)?;
        *out = as_pointer(pod.handle());
        Ok(())
    })
}

/// Starts it; does not wait for ready. Any thread; blocks for a process pod until its program has begun. A program that
/// cannot be run is a failure of the pod (phase SPAWN).
/// OK; INVALID_STATE: it was started or cancelled before, is a group's member, or its callbacks cannot be run in a child (the
/// runtime was not exported, podkeep_child_run was never called, this is a child that has not claimed its pod); NOT_FOUND:
/// no podkeep program; RESOURCES: no thread or process to be had; after the last two nothing was left behind and it is NEW
/// still; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_pod_start(pod: *mut podkeep_pod) -> podkeep_status {
    boundary(|| find(pod)?.start())
}

/// Asks for the end: the state changes before this returns. Any thread, any time, any number of times, signal handlers
/// too; never blocks, is lock-free, keeps errno and the last error as they are.
/// OK; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_pod_cancel(pod: *mut podkeep_pod) -> podkeep_status {
    cancel::cancel(value(pod)).map_or_else(|status| status as podkeep_status, |()| PODKEEP_OK)
}

/// Waits until this incarnation is ready. Any thread; blocks up to timeout_ms (0 looks once).
/// OK: it has been ready and has not failed; FAILED; ENDED: stopping or ended and never ready; TIMEOUT: the sentence
/// tells where it is stuck; INVALID_STATE: it is NEW; DEADLOCK: from its own thread or hook, a log callback or a drop
/// (not with 0); INVALID_ARGUMENT: a negative time; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_pod_wait_ready(pod: *mut podkeep_pod, timeout_ms: i64) -> podkeep_status {
    boundary(|| find(pod)?.wait_ready(Limit::from_ms("timeout_ms", timeout_ms)?))
}

/// Waits for the end, and for a bounded moment until its thread is gone. Any thread; blocks up to timeout_ms (0 looks
/// once); the config's drop may be called here when the pod was cancelled while NEW and its runtime was freed.
/// OK: STOPPED; FAILED; TIMEOUT: the sentence tells where it is stuck; at once with PODKEEP_FOREVER when it is
/// ABANDONED; INVALID_STATE: it is NEW; DEADLOCK, INVALID_ARGUMENT, INVALID_HANDLE, FORKED: as podkeep_pod_wait_ready.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_pod_join(pod: *mut podkeep_pod, timeout_ms: i64) -> podkeep_status {
    boundary(|| find(pod)?.join(Limit::from_ms("timeout_ms", timeout_ms)?))
}

/// Cancels and waits for the end, bounded by the grace. Any thread; blocks. A NEW pod is STOPPED; twice is harmless.
/// OK: STOPPED; FAILED; TIMEOUT: ABANDONED, the sentence tells where its thread is stuck; DEADLOCK: from its own thread
/// or hook (then it is not cancelled), a log callback or a drop; INVALID_STATE: it is a group's member; INVALID_HANDLE;
/// FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_pod_close(pod: *mut podkeep_pod) -> podkeep_status {
    boundary(|| find(pod)?.close())
}

/// Ends the handle: a running pod is cancelled and let go; who waits already goes on waiting. Any thread and place;
/// never blocks, but the config's drop may be called here when the pod is NEW and its runtime was freed. OK (NULL, too); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_pod_free(pod: *mut podkeep_pod) -> podkeep_status {
    boundary(|| {
        if pod.is_null() {
            return Ok(());
        }
        if pod::free(&find(pod)?) {
            return Ok(());
        }
        Err(world::not_a(Kind::Pod, value(pod)))
    })
}

/// *out: PODKEEP_STATE_*, now. Any thread; does not block. OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_pod_state(pod: *mut podkeep_pod, out_state: *mut podkeep_state) -> podkeep_status {
    boundary(|| {
        let pod = find(pod)?;
        *out("out_state", out_state)? = pod.life().state() as podkeep_state;
        Ok(())
    })
}

/// *out: its name; it lives as long as the process. Any thread; does not block. Statuses as podkeep_pod_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_pod_name(pod: *mut podkeep_pod, out_name: *mut *const c_char) -> podkeep_status {
    boundary(|| {
        let pod = find(pod)?;
        *out("out_name", out_name)? = pod.cell().name.as_ptr();
        Ok(())
    })
}

/// *out: the kernel's thread or process id of S; 0: none. Any thread; does not block. Statuses as podkeep_pod_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_pod_id(pod: *mut podkeep_pod, out_id: *mut i64) -> podkeep_status {
    boundary(|| {
        let pod = find(pod)?;
        *out("out_id", out_id)? = pod.kernel_id();
        Ok(())
    })
}

/// *out: lives after the first. Any thread; does not block. Statuses as podkeep_pod_state.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_pod_restarts(pod: *mut podkeep_pod, out_restarts: *mut u32) -> podkeep_status {
    boundary(|| {
        let pod = find(pod)?;
        *out("out_restarts", out_restarts)? = pod.incarnation();
        Ok(())
    })
}

/// *out: why the present or last incarnation failed, a snapshot of the caller's, to be freed with podkeep_failure_free;
/// NULL: it has not failed. Any thread; does not block. Statuses as podkeep_pod_state, and RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_pod_failure(
    pod: *mut podkeep_pod,
    out_failure: *mut *mut podkeep_failure,
) -> podkeep_status {
    boundary(|| {
        let pod = find(pod)?;
        let out = out("out_failure", out_failure)?;
        *out = match pod.failure() {
            None => std::ptr::null_mut(),
            Some(failure) => as_pointer(super::failure::register(&failure, true)?),
        };
        Ok(())
    })
}
