//! A pod as this very process: a container's main process, or the child of a process pod.
//!
//! Both run callbacks in the calling thread, which may be ended from inside: between here and there nothing catches and
//! nothing has a destructor (see `host::thread`).

use super::pod::podkeep_pod;
use super::status::{PODKEEP_OK, podkeep_status};
use super::{boundary, library, out};
use crate::error::{Error, Status};
use crate::host::caller::{self, Seated};
use crate::host::main;
use crate::host::process::link::{self, Claim, Claimed};

/// Runs the pod in this very thread, as a container's main process: SIGINT and SIGTERM cancel it; a second one ends the process
/// with 128 + its number, and so does a grace that is spent (124 without a signal). A pod with PODKEEP_HOST_PROCESS is started
/// and waited for: when its grace is spent it is made to end, and the code is the same; as PID 1 this process then reaps the
/// orphans it inherits. The handlers are put back afterwards. Where a callback ends the process's first thread from inside
/// (pthread_exit), the process ends with the code, by _exit. A supervisor that gave NOTIFY_SOCKET is told READY=1, STATUS=,
/// STOPPING=1 and, if it asked for it, WATCHDOG=1. Any thread; blocks until the end, and until what is left of a child's
/// stderr is passed on, or the host's takes nothing for 2 s; one at a time.
/// OK: it has ended, and *out_exit_code is what main should return: 0 only for a clean end, a failure's code if that is 1 to
/// 255, else 1; 128 + n for a signal, 124 for a limit, 127 when it could not be started; INVALID_STATE: it is not NEW, is a
/// group's member, or another one is run; DEADLOCK: from inside a pod, a log callback or a drop; RESOURCES; NOT_FOUND: no
/// podkeep program; INVALID_ARGUMENT: out_exit_code is NULL, or the pod's kick_signal is SIGINT or SIGTERM; INVALID_HANDLE;
/// FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn podkeep_pod_run(pod: *mut podkeep_pod, out_exit_code: *mut i32) -> podkeep_status {
    let mut seated: Option<Seated> = None;
    let status = boundary(|| {
        out("out_exit_code", out_exit_code)?;
        seated = main::begin(&super::pod::find(pod)?)?;
        Ok(())
    });
    if status != PODKEEP_OK {
        return status;
    }
    if let Some(seated) = seated {
        caller::occupy(seated);
    }
    boundary(|| {
        *out("out_exit_code", out_exit_code)? = main::finish()?;
        Ok(())
    })
}

/// First thing in main, after podkeep_export: in a process pod's child, runs its runtime in this very thread, tears it
/// down, and gives the exit code that main should return. Elsewhere it answers ENDED at once; that it was called lets this
/// program start process pods of its own callbacks. Blocks in a child until its pod has ended.
/// OK: this was a pod's child; ENDED: it is none, go on; UNSUPPORTED: the host has another version of podkeep;
/// INVALID_ARGUMENT: out_exit_code is NULL; DEADLOCK: from inside a pod; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn podkeep_child_run(out_exit_code: *mut i32) -> podkeep_status {
    let mut claimed: Option<Claimed> = None;
    let mut seated: Option<Seated> = None;
    let mut refused = false;
    let status = boundary(|| {
        let out = out("out_exit_code", out_exit_code)?;
        crate::role::refuse_waiting_for_all("podkeep_child_run")?;
        match link::claim(library::loaded)? {
            Claim::None => return Err(Error::new(Status::Ended, "this process is no pod's child")),
            Claim::Refused(code) => {
                *out = code;
                refused = true;
            }
            Claim::Pod(pod) => match caller::prepare(&pod.pod, "podkeep_child_run") {
                Ok(here) => (seated, claimed) = (Some(here), Some(pod)),
                // Cancelled before it began: there is nothing to run.
                Err(_) if pod.pod.life().state().is_final() => claimed = Some(pod),
                Err(error) => {
                    *out = pod.link.refuse(&error);
                    refused = true;
                }
            },
        }
        Ok(())
    });
    if status != PODKEEP_OK || refused {
        return status;
    }
    let claimed = std::mem::ManuallyDrop::new(claimed);
    if let Some(seated) = seated {
        caller::occupy(seated);
    }
    boundary(|| {
        let Claimed { pod, link } = std::mem::ManuallyDrop::into_inner(claimed).ok_or_else(lost)?;
        link.end(&pod);
        *out("out_exit_code", out_exit_code)? = caller::exit_code(&pod);
        Ok(())
    })
}

fn lost() -> Error {
    Error::new(Status::Internal, "the pod is not there any more")
}
