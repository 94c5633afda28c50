//! The public Rust type: a pod that is owned.

use std::time::Duration;

use super::{DEFAULT_EXTEND_MAX, DEFAULT_GRACE, Place, Settings, free, make};
use crate::error::{Error, Result};
use crate::failure::{Failure, c_string};
use crate::lifecycle::{Event, State};
use crate::limit::Limit;
use crate::linux::{self, NEVER, Nanos};
use crate::runtime::Runtime;
use crate::table::PodRef;

/// When a pod is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ready {
    /// As soon as `run_forever` is entered.
    #[default]
    OnRun,
    /// When it says so: [`crate::Context::ready`].
    Notify,
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
    /// In bytes; 0: what the system gives.
    pub stack_size: usize,
    /// A signal that gets S out of its system call when a stop is asked for; `None`: no kick.
    pub kick_signal: Option<i32>,
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
            stack_size: 0,
            kick_signal: None,
            args: Vec::new(),
        }
    }
}

/// A pod, owned. Dropping it never blocks: a running pod is cancelled and let go.
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
        let span = |d: Duration| d.as_nanos().min(NEVER as u128 - 1) as Nanos;
        let kick_signal = options.kick_signal.unwrap_or(0);
        if kick_signal != 0 && !linux::can_kick_with(kick_signal) {
            return Err(Error::argument(format!("kick_signal is {kick_signal}: no thread can be kicked with it")));
        }
        let pod = make(
            runtime.cell(),
            Settings {
                name: name.as_deref(),
                notify: options.ready == Ready::Notify,
                ready_timeout: options.ready_timeout.map_or(0, |d| span(d).max(1)),
                grace: options.grace.map_or(NEVER, span),
                extend_max: span(options.extend_max),
                args: &options.args,
                place: Place::Thread { stack_size: options.stack_size, kick_signal },
            },
        )?;
        Ok(Pod { pod })
    }

    /// Starts it; does not wait for ready.
    ///
    /// # Errors
    /// INVALID_STATE: it was started or cancelled before. RESOURCES: no thread, nothing left behind, still NEW.
    pub fn start(&self) -> Result<()> {
        self.pod.start()
    }
    /// Asks for the end. Any thread, any time; does not block, but what a runtime owns may be dropped here if the pod is
    /// NEW and the runtime was dropped before.
    pub fn cancel(&self) {
        self.pod.advance(Event::Stop);
        self.pod.settle_if_never_launched();
    }
    /// Waits until it is ready; `None`: without a limit.
    ///
    /// # Errors
    /// FAILED, ENDED (it ended without ever having been ready), TIMEOUT, INVALID_STATE (NEW), DEADLOCK (from inside).
    pub fn wait_ready(&self, timeout: Option<Duration>) -> Result<()> {
        self.pod.wait_ready(Limit::from_duration(timeout))
    }
    /// Waits for its end; `None`: without a limit.
    ///
    /// # Errors
    /// FAILED, TIMEOUT, INVALID_STATE (NEW), DEADLOCK (from inside).
    pub fn join(&self, timeout: Option<Duration>) -> Result<()> {
        self.pod.join(Limit::from_duration(timeout))
    }
    /// Cancels and waits, bounded by its grace.
    ///
    /// # Errors
    /// FAILED, TIMEOUT (ABANDONED), DEADLOCK (from inside).
    pub fn close(&self) -> Result<()> {
        self.pod.close()
    }
    /// Where it is in its life, now.
    pub fn state(&self) -> State {
        self.pod.life().state()
    }
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.pod.name()
    }
    /// The kernel's id of its thread; `None`: there is none.
    pub fn id(&self) -> Option<i64> {
        Some(self.pod.kernel_id()).filter(|&id| id != 0)
    }
    /// Why the present or last incarnation failed.
    pub fn failure(&self) -> Option<Failure> {
        self.pod.failure()
    }
    pub(crate) fn reference(&self) -> &PodRef {
        &self.pod
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        free(&self.pod);
    }
}
