//! Restarts are told when they happen: what ends a life is lost otherwise, for the last failure alone is kept.

use crate::library::{self, Event, Library, OK, Opaque};
use crate::tell::tell_restart;
use std::ptr;
use std::thread::JoinHandle;

/// A handle, which any thread may use.
struct Monitor(*mut Opaque);

// SAFETY: a number that the library checks, not an address; read by the one thread that gets it.
unsafe impl Send for Monitor {}

/// Begins to tell of the pod's restarts; joined when the pod is final. `None`: there is no telling, and still a pod to keep.
pub fn tell(library: &Library, pod: *mut Opaque) -> Option<JoinHandle<()>> {
    let mut monitor = ptr::null_mut();
    // SAFETY: a valid out pointer.
    if unsafe { (library.monitor_new)(pod, &mut monitor) } != OK {
        return None;
    }
    let (library, monitor) = (library.clone(), Monitor(monitor));
    std::thread::Builder::new().name("podkeep-tell".into()).spawn(move || follow(&library, monitor)).ok()
}

/// Until the pod is final.
fn follow(library: &Library, monitor: Monitor) {
    deafen();
    let Monitor(monitor) = monitor;
    let mut event = Event::new();
    // SAFETY: the event is a valid out pointer.
    while unsafe { (library.monitor_next)(monitor, &mut event, library::FOREVER) } == OK {
        if event.to == library::STATE_RESTARTING {
            tell_restart(library, &event);
        }
    }
    // SAFETY: takes any value.
    unsafe { (library.monitor_free)(monitor) };
}

/// Signals are for the main thread: a runtime in it may wait for one.
fn deafen() {
    // SAFETY: the set lives on this frame and is filled before it is used.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
    }
}
