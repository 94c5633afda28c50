//! podkeep keeps any blocking procedure in a Pod: started, watched, cancelled, always torn down, its failure told.
//!
//! Data flows down: host program → [`ffi`] (or a binding, or this Rust API) → [`Pod`] → `host` → the user's callbacks.
//! Events flow back up one way only: the state word changes, then whoever waits is woken.
//!
//! | room | what it is for |
//! |---|---|
//! | `lifecycle` | the state machine: pure; everything about states is decided here |
//! | `table` | handles, and the never-unmapped slots behind them; the state word lives there |
//! | `world` | what one process has: made at first use, made anew after a fork, never destroyed |
//! | `runtime` | Runtime: what to run |
//! | `pod` | Pod: one kept instance, and what its owner may do with it |
//! | `context` | Context: what the runtime sees from inside |
//! | `cancel` | the cancel signal: flag, sleep, descriptor, kick |
//! | `host` | where a pod runs: `thread`, `process`, `main` |
//! | `supervise` | what follows an end: restarts; groups |
//! | `keeper` | the one library thread: deadlines, and what a signal handler must leave to others |
//! | `crew` | the threads that call cancel hooks |
//! | `failure` | the failure record |
//! | `monitor`, `log` | watching pods |
//! | `explain` | why a pod is stuck, in one sentence |
//! | `shutdown` | the end of all pods |
//! | `control` | the pods of a process, reached from another (feature `grpc`) |
//! | `role`, `limit`, `error` | who is calling, how long it may wait, what it is answered |
//! | `linux` | all that only Linux has |
//! | `ffi` | the C ABI: it converts and decides nothing |
//! | `fuzzing` | what `fuzz/` calls; there and in tests alone |
//!
//! ```
//! use podkeep::{Options, Pod, Runtime};
//! use std::time::Duration;
//!
//! let ticker = Runtime::from_fn("ticker", |ctx| {
//!     while !ctx.wait(Some(Duration::from_millis(10))) { /* tick */ }
//!     Ok(())
//! })?;
//! let pod = Pod::new(&ticker, &Options::default())?;
//! pod.start()?;
//! pod.wait_ready(None)?;
//! pod.close()?;
//! # Ok::<(), podkeep::Error>(())
//! ```

mod cancel;
mod context;
#[cfg(feature = "grpc")]
pub mod control;
mod crew;
mod error;
mod explain;
mod failure;
pub mod ffi;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod host;
mod keeper;
mod lifecycle;
mod limit;
mod linux;
mod log;
mod monitor;
mod pod;
mod role;
mod runtime;
mod shutdown;
mod supervise;
mod table;
mod world;

pub use context::Context;
pub use error::{Error, Result, Status};
pub use failure::{Failure, Kind};
pub use lifecycle::{Phase, State};
pub use monitor::{Event, Watch};
pub use pod::{Host, Options, Pod, ProcessOptions, Ready};
pub use runtime::{BoxError, Procedure, Runtime};
pub use supervise::restart::Restart;

/// Cancels every pod of the process, refuses new ones, and waits (`None`: without a limit); afterwards no callback but
/// a drop starts. A sentence for each pod that did not end.
///
/// # Errors
/// DEADLOCK from inside a pod, a log callback or a drop; RESOURCES.
pub fn shutdown(timeout: Option<std::time::Duration>) -> Result<Vec<String>> {
    shutdown::shutdown(limit::Limit::from_duration(timeout))
}

/// First thing in `main`, after [`Runtime::export`]: in a process pod's child it runs that runtime here, tears it down, and
/// gives what `main` should return. `None`: this is no pod's child. That it was called lets this program start process pods of
/// its own runtimes.
///
/// # Errors
/// UNSUPPORTED: the host has another version of podkeep; DEADLOCK from inside a pod; RESOURCES.
pub fn child_run() -> Result<Option<i32>> {
    let claimed = match host::process::link::claim(ffi::library::loaded)? {
        host::process::link::Claim::None => return Ok(None),
        host::process::link::Claim::Refused(code) => return Ok(Some(code)),
        host::process::link::Claim::Pod(claimed) => claimed,
    };
    match host::caller::prepare(&claimed.pod, "child_run") {
        Ok(seated) => host::caller::occupy(seated),
        Err(_) if claimed.pod.life().state().is_final() => {}
        Err(error) => return Ok(Some(claimed.link.refuse(&error))),
    }
    claimed.link.end(&claimed.pod);
    Ok(Some(host::caller::exit_code(&claimed.pod)))
}

/// How many threads were let go (ABANDONED) and have not come back.
///
/// # Errors
/// RESOURCES.
pub fn abandoned() -> Result<u32> {
    shutdown::abandoned()
}
