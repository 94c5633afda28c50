//! Signals to this process that are words to the command (reload, reopen the logs, the size of the terminal), passed on to
//! it as the inits of containers do.

use crate::library::{self, Library, Opaque};
use std::ffi::c_int;
use std::{mem, ptr};

/// A handle, which any thread may use.
struct Pod(*mut Opaque);

// SAFETY: a number that the library checks, not an address.
unsafe impl Send for Pod {}

/// From here on the pod's child gets them, for as long as this process lives. To be called before there are other threads
/// that do not block them. SIGINT and SIGTERM are the library's, and job control is the shell's.
pub fn begin(library: &Library, pod: *mut Opaque) {
    let words = words();
    let mut before = words;
    // Blocked they wait for the thread below, in process 1, too, where the kernel else drops what nobody handles.
    // SAFETY: both sets live on this frame.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &words, &mut before) };
    let (library, pod) = (library.clone(), Pod(pod));
    if std::thread::Builder::new().name("podkeep-relay".into()).spawn(move || relay(&library, pod, words)).is_err() {
        // No thread to be had: they do what they did before.
        // SAFETY: a set on this frame.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
    }
}

fn relay(library: &Library, pod: Pod, words: libc::sigset_t) {
    let Pod(pod) = pod;
    let mut signal = 0;
    // SAFETY: a set and a number on this frame.
    while unsafe { libc::sigwait(&words, &mut signal) } == 0 {
        pass_on(library, pod, signal);
    }
}

/// Those that are not ignored: who starts this under `nohup` wants nobody to hear of a hangup.
fn words() -> libc::sigset_t {
    let mut own = vec![libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH];
    // At a terminal SIGHUP says that it is gone, and not to reload.
    if !at_a_terminal() {
        own.push(libc::SIGHUP);
    }
    // SAFETY: the set is filled before it is used, and the action lives on this frame.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in own.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            let mut action: libc::sigaction = mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &mut action) == 0 && action.sa_sigaction != libc::SIG_IGN {
                libc::sigaddset(&mut set, signal);
            }
        }
        set
    }
}

/// This process has a terminal that can hang up. A container's first process may have one, too, which its engine keeps.
fn at_a_terminal() -> bool {
    std::process::id() != 1 && std::fs::File::open("/dev/tty").is_ok()
}

/// To the child itself, not to its group. Between two lives there is nobody to tell.
fn pass_on(library: &Library, pod: *mut Opaque, signal: c_int) {
    let mut id = 0;
    // SAFETY: a valid out pointer.
    if unsafe { (library.pod_id)(pod, &mut id) } != library::OK || id <= 0 {
        return;
    }
    // SAFETY: calls that take numbers, and a record on this frame. The descriptor is this function's.
    unsafe {
        let child = libc::syscall(libc::SYS_pidfd_open, id as libc::pid_t, 0) as c_int;
        if child < 0 {
            return;
        }
        // Its number may have become a stranger's by now; of a stranger this is refused.
        let mut ended: libc::siginfo_t = mem::zeroed();
        let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        if libc::waitid(libc::P_PIDFD, child as libc::id_t, &mut ended, look) == 0 {
            libc::syscall(libc::SYS_pidfd_send_signal, child, signal, ptr::null::<libc::siginfo_t>(), 0);
        }
        libc::close(child);
    }
}
