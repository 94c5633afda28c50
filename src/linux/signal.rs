//! Signals. What is done with one is changed for the main process alone: by `host::main`, which was asked to.

use std::ffi::c_int;
use std::mem::zeroed;
use std::ptr;

/// What a signal does.
pub(crate) struct Disposition(libc::sigaction);
/// The signals a thread does not take.
pub(crate) struct Mask(libc::sigset_t);

/// Has `handler` called for `signal`; what was done before.
pub(crate) fn handle(signal: c_int, handler: extern "C" fn(c_int)) -> Disposition {
    // SAFETY: a valid action and a valid out pointer; the handlers are this library's and async-signal-safe.
    unsafe {
        let mut new: libc::sigaction = zeroed();
        new.sa_sigaction = handler as usize;
        new.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&mut new.sa_mask);
        let mut old = zeroed();
        libc::sigaction(signal, &new, &mut old);
        Disposition(old)
    }
}

/// The same, unless somebody else handles the signal. What the child of a fork has inherited of `handler` is nobody's.
pub(crate) fn handle_if_unused(signal: c_int, handler: extern "C" fn(c_int)) -> Option<Disposition> {
    // SAFETY: a valid out pointer.
    let old = unsafe {
        let mut old: libc::sigaction = zeroed();
        libc::sigaction(signal, ptr::null(), &mut old);
        old
    };
    let unused = [libc::SIG_DFL, libc::SIG_IGN, handler as usize];
    unused.contains(&old.sa_sigaction).then(|| handle(signal, handler))
}

pub(crate) fn put_back(signal: c_int, before: &Disposition) {
    // SAFETY: what the kernel gave in `handle`.
    unsafe { libc::sigaction(signal, &before.0, ptr::null_mut()) };
}

/// Lets this thread take `signals`; the mask that was.
pub(crate) fn unblock(signals: impl Iterator<Item = c_int>) -> Mask {
    // SAFETY: valid sets on this frame.
    unsafe {
        let (mut set, mut before) = (zeroed(), zeroed());
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, &mut before);
        Mask(before)
    }
}

pub(crate) fn set_mask(mask: &Mask) {
    // SAFETY: the mask that was.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &mask.0, ptr::null_mut()) };
}

/// While it lives this thread has another mask.
pub(crate) struct Masked(Mask);

impl Masked {
    pub(crate) fn with(mask: &libc::sigset_t) -> Masked {
        // SAFETY: a set to read and one on this frame to write.
        unsafe {
            let mut before = zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, mask, &mut before);
            Masked(Mask(before))
        }
    }

    /// No handler of the host's may run, say in a child that shares this thread's memory.
    pub(crate) fn all() -> Masked {
        // SAFETY: a set on this frame.
        let all = unsafe {
            let mut all = zeroed();
            libc::sigfillset(&mut all);
            all
        };
        Masked::with(&all)
    }
}

/// While it lives, what this thread does beyond RLIMIT_FSIZE is an error and no signal.
pub(crate) struct WithoutSizeSignal {
    before: libc::sigset_t,
    pending: bool,
}

impl WithoutSizeSignal {
    fn its_set() -> libc::sigset_t {
        // SAFETY: a set on this frame.
        unsafe {
            let mut set = zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, libc::SIGXFSZ);
            set
        }
    }

    pub(crate) fn begin() -> WithoutSizeSignal {
        // SAFETY: sets on this frame.
        unsafe {
            let (mut before, mut pending) = (zeroed(), zeroed());
            libc::pthread_sigmask(libc::SIG_BLOCK, &WithoutSizeSignal::its_set(), &mut before);
            libc::sigpending(&mut pending);
            WithoutSizeSignal { before, pending: libc::sigismember(&pending, libc::SIGXFSZ) == 1 }
        }
    }
}

impl Drop for WithoutSizeSignal {
    fn drop(&mut self) {
        // SAFETY: sets that live; no time to wait.
        unsafe {
            if !self.pending {
                libc::sigtimedwait(&WithoutSizeSignal::its_set(), ptr::null_mut(), &zeroed());
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut());
        }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        set_mask(&self.0);
    }
}

/// Does with `signal` what is done by default, once the handler that asks for it has returned. Async-signal-safe.
pub(crate) fn raise_default(signal: c_int) {
    // SAFETY: a zeroed action is the default one; the rest are numbers.
    unsafe {
        let default: libc::sigaction = zeroed();
        libc::sigaction(signal, &default, ptr::null_mut());
        libc::raise(signal);
    }
}

/// Ends the process at once, without its exit handlers. Async-signal-safe.
pub(crate) fn exit_at_once(code: c_int) -> ! {
    // SAFETY: a number.
    unsafe { libc::_exit(code) }
}

/// Reaps children that have ended, until there is none or one that is `ours`.
pub(crate) fn reap_strangers(ours: impl Fn(i32) -> bool) {
    loop {
        // SAFETY: valid out pointers.
        unsafe {
            let mut info: libc::siginfo_t = zeroed();
            let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            if libc::waitid(libc::P_ALL, 0, &mut info, flags) != 0 || info.si_pid() == 0 || ours(info.si_pid()) {
                return;
            }
            libc::waitid(libc::P_PID, info.si_pid() as libc::id_t, &mut info, libc::WEXITED | libc::WNOHANG);
        }
    }
}
