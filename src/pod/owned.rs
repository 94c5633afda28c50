//! The public Rust type: a pod that is owned.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use super::{
    DEFAULT_BACKOFF, DEFAULT_BACKOFF_MAX, DEFAULT_EXTEND_MAX, DEFAULT_GRACE, DEFAULT_KILL_AFTER, DEFAULT_MAX_RESTARTS,
    DEFAULT_RESTART_WINDOW, Place, Settings, free, make,
};
use crate::error::{Error, Result};
use crate::failure::{Failure, c_string};
use crate::host::process::{Process, program::MARKER};
use crate::host::{caller, main};
use crate::lifecycle::{Event, State};
use crate::limit::Limit;
use crate::linux::{self, NEVER, Nanos};
use crate::runtime::Runtime;
use crate::supervise::restart::{Policy, Restart};
use crate::table::{Kind, PodRef};
use crate::world::forked;

/// When a pod is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ready {
    /// As soon as `run_forever` is entered.
    #[default]
    OnRun,
    /// When it says so: [`crate::Context::ready`], or for a command by sd_notify.
    Notify,
    /// A command, when its own process group listens on this TCP port.
    Port(u16),
}

/// Where a pod runs.
#[derive(Clone, Debug)]
pub enum Host {
    /// In a thread of this process.
    Thread {
        /// In bytes; 0: what the system gives.
        stack_size: usize,
        /// A signal that gets S out of its system call when a stop is asked for; `None`: no kick.
        kick_signal: Option<i32>,
    },
    /// In a child process.
    Process(ProcessOptions),
}

impl Default for Host {
    fn default() -> Host {
        Host::Thread { stack_size: 0, kick_signal: None }
    }
}

/// How a child process is kept.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// From the polite signal, when the grace is spent, to SIGKILL.
    pub kill_after: Duration,
    /// What cancel sends to a command; `None`: SIGTERM.
    pub stop_signal: Option<i32>,
    /// Over the inherited ones.
    pub env: Vec<(OsString, OsString)>,
    /// Its directory; `None`: inherited.
    pub cwd: Option<PathBuf>,
}

impl Default for ProcessOptions {
    fn default() -> ProcessOptions {
        ProcessOptions { kill_after: DEFAULT_KILL_AFTER, stop_signal: None, env: Vec::new(), cwd: None }
    }
}

impl ProcessOptions {
    fn process(&self, ready: Ready) -> Result<Process> {
        let env = self.env.iter().map(|(key, value)| {
            let entry = [key.as_bytes(), b"=", value.as_bytes()].concat();
            let good = !key.is_empty() && !key.as_bytes().contains(&b'=') && key != MARKER;
            let entry = CString::new(entry).ok().filter(|_| good);
            entry.ok_or_else(|| {
                Error::argument(format!(
                    "env has {key:?}={value:?}: give a key without =, not the library's own, no NUL"
                ))
            })
        });
        let cwd = self.cwd.as_ref().map(|cwd| {
            CString::new(cwd.as_os_str().as_bytes())
                .map_err(|_| Error::argument(format!("cwd is {cwd:?}: it has a NUL")))
        });
        Ok(Process {
            kill_after: nanos(self.kill_after),
            stop_signal: self.stop_signal,
            env: env.collect::<Result<_>>()?,
            cwd: cwd.transpose()?,
            port: if let Ready::Port(port) = ready { port } else { 0 },
            live: Mutex::default(),
        })
    }
}

fn nanos(span: Duration) -> Nanos {
    span.as_nanos().min(NEVER as u128 - 1) as Nanos
}

/// What a pod is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// `None`: the runtime's.
    pub name: Option<String>,
    /// When it is ready.
    pub ready: Ready,
    /// `None`: no limit on the way to ready.
    pub ready_timeout: Option<Duration>,
    /// The budget of the whole stop; `None`: never force.
    pub grace: Option<Duration>,
    /// All that [`crate::Context::extend`] may add.
    pub extend_max: Duration,
    /// Whether another life follows an end.
    pub restart: Restart,
    /// At most so many in [`Options::restart_window`]; u32::MAX: any number.
    pub max_restarts: u32,
    /// A life that was RUNNING for that long makes the delay begin anew, too.
    pub restart_window: Duration,
    /// The delay before another life; it doubles, with jitter.
    pub backoff: Duration,
    /// Up to that.
    pub backoff_max: Duration,
    /// How often [`crate::Context::heartbeat`] must come at least while RUNNING; `None`: it need not.
    pub watchdog: Option<Duration>,
    /// Where it runs.
    pub host: Host,
    /// For [`crate::Context::args_vec`].
    pub args: Vec<u8>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: None,
            ready: Ready::OnRun,
            ready_timeout: None,
            grace: Some(DEFAULT_GRACE),
            extend_max: DEFAULT_EXTEND_MAX,
            restart: Restart::Never,
            max_restarts: DEFAULT_MAX_RESTARTS,
            restart_window: DEFAULT_RESTART_WINDOW,
            backoff: DEFAULT_BACKOFF,
            backoff_max: DEFAULT_BACKOFF_MAX,
            watchdog: None,
            host: Host::default(),
            args: Vec::new(),
        }
    }
}

/// A pod, owned. Dropping it never blocks: a running pod is cancelled and let go. In the child of a fork it is the parent's:
/// what can fail says FORKED there, nothing is cancelled, and the rest answers as for a pod that was never started.
pub struct Pod {
    pod: PodRef,
}

impl Pod {
    /// Makes a pod: NEW.
    ///
    /// # Errors
    /// INVALID_ARGUMENT names what is wrong; INVALID_STATE after a shutdown; RESOURCES.
    pub fn new(runtime: &Runtime, options: &Options) -> Result<Pod> {
        let name = options.name.as_deref().map(c_string);
        let place = match &options.host {
            Host::Process(process) => Place::Process(Box::new(process.process(options.ready)?)),
            Host::Thread { .. } if matches!(options.ready, Ready::Port(_)) => {
                return Err(Error::argument("ready is a port: it is for a command in a process"));
            }
            &Host::Thread { stack_size, kick_signal } => {
                let kick_signal = kick_signal.unwrap_or(0);
                if kick_signal != 0 && !linux::can_kick_with(kick_signal) {
                    return Err(Error::argument(format!(
                        "kick_signal is {kick_signal}: no thread can be kicked with it"
                    )));
                }
                Place::Thread { stack_size, kick_signal }
            }
        };
        let pod = make(
            runtime.cell()?,
            Settings {
                name: name.as_deref(),
                notify: options.ready != Ready::OnRun,
                ready_timeout: options.ready_timeout.map_or(0, |d| nanos(d).max(1)),
                grace: options.grace.map_or(NEVER, nanos),
                extend_max: nanos(options.extend_max),
                args: &options.args,
                policy: Policy {
                    restart: options.restart,
                    most: options.max_restarts,
                    window: nanos(options.restart_window),
                    backoff: nanos(options.backoff),
                    backoff_max: nanos(options.backoff_max),
                },
                watchdog: options.watchdog.map_or(0, |d| nanos(d).max(1)),
                incarnation: 0,
                place,
            },
        )?;
        Ok(Pod { pod })
    }

    /// Starts it; does not wait for ready.
    ///
    /// # Errors
    /// INVALID_STATE: it was started or cancelled before. RESOURCES: no thread, nothing left behind, still NEW.
    pub fn start(&self) -> Result<()> {
        self.here()?.start()
    }
    /// Runs it in this very thread, as a container's main process: SIGINT and SIGTERM cancel it, a second one or a grace
    /// that is spent ends the process. A pod in a process is started and waited for. What `main` should return.
    ///
    /// # Errors
    /// INVALID_STATE: it is not NEW, or another one is run; DEADLOCK (from inside); RESOURCES; NOT_FOUND: no `podkeep` program.
    pub fn run(&self) -> Result<i32> {
        if let Some(seated) = main::begin(self.here()?)? {
            caller::occupy(seated);
        }
        main::finish()
    }
    /// Asks for the end. Any thread, any time; does not block, but what a runtime owns may be dropped here if the pod is
    /// NEW and the runtime was dropped before.
    pub fn cancel(&self) {
        if let Ok(pod) = self.here() {
            pod.advance(Event::Stop);
            pod.settle_if_never_launched();
        }
    }
    /// Waits until it is ready; `None`: without a limit.
    ///
    /// # Errors
    /// FAILED, ENDED (it ended without ever having been ready), TIMEOUT, INVALID_STATE (NEW), DEADLOCK (from inside).
    pub fn wait_ready(&self, timeout: Option<Duration>) -> Result<()> {
        self.here()?.wait_ready(Limit::from_duration(timeout))
    }
    /// Waits for its end; `None`: without a limit.
    ///
    /// # Errors
    /// FAILED, TIMEOUT, INVALID_STATE (NEW), DEADLOCK (from inside).
    pub fn join(&self, timeout: Option<Duration>) -> Result<()> {
        self.here()?.join(Limit::from_duration(timeout))
    }
    /// Cancels and waits, bounded by its grace.
    ///
    /// # Errors
    /// FAILED, TIMEOUT (ABANDONED), DEADLOCK (from inside).
    pub fn close(&self) -> Result<()> {
        self.here()?.close()
    }
    /// Where it is in its life, now.
    pub fn state(&self) -> State {
        self.here().map_or(State::New, |pod| pod.life().state())
    }
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.here().map_or("", |pod| pod.name())
    }
    /// The kernel's id of its thread or process; `None`: there is none.
    pub fn id(&self) -> Option<i64> {
        self.here().ok().map(|pod| pod.kernel_id()).filter(|&id| id != 0)
    }
    /// Lives after the first.
    pub fn restarts(&self) -> u32 {
        self.here().map_or(0, |pod| pod.incarnation())
    }
    /// Why the present or last incarnation failed.
    pub fn failure(&self) -> Option<Failure> {
        self.here().ok().and_then(|pod| pod.failure())
    }
    pub(crate) fn here(&self) -> Result<&PodRef> {
        match self.pod.is_here() {
            true => Ok(&self.pod),
            false => Err(forked(Kind::Pod)),
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        free(&self.pod);
    }
}
