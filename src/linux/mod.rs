//! What only Linux has, in one place: futexes, memory that a fork wipes, event descriptors, thread attributes, `/proc`.
//!
//! Everything else in the crate is portable; a port to another system is this file and `host/`.

use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod signal;
#[cfg(feature = "grpc")]
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod stderr;

/// A moment of the monotonic clock, in nanoseconds.
pub(crate) type Nanos = u64;
/// The moment that never comes.
pub(crate) const NEVER: Nanos = u64::MAX;

/// Now. Async-signal-safe, a vDSO call.
pub(crate) fn now() -> Nanos {
    clock(libc::CLOCK_MONOTONIC)
}

/// The kernel's last tick: behind [`now`] by some milliseconds at most, for a quarter of its cost.
pub(crate) fn last_tick() -> Nanos {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

fn clock(id: libc::clockid_t) -> Nanos {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid out pointer; these clocks cannot fail.
    unsafe { libc::clock_gettime(id, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn timespec(at: Nanos) -> libc::timespec {
    libc::timespec { tv_sec: (at / 1_000_000_000) as libc::time_t, tv_nsec: (at % 1_000_000_000) as libc::c_long }
}

/// Why a futex sleep ended.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Woke {
    /// Woken, interrupted, or the word had changed before: look again.
    Look,
    /// The deadline has passed.
    TimedOut,
}

/// Sleeps while the 32-bit word at `word` is `expected`, until woken for a bit of `mask`, or `until`.
///
/// # Safety
/// `word` is mapped.
pub(crate) unsafe fn futex_wait(word: *const u32, expected: u32, until: Nanos, mask: u32) -> Woke {
    let t = timespec(until);
    let timeout = if until == NEVER { ptr::null() } else { &t as *const libc::timespec };
    // SAFETY: the word is mapped (caller), the timeout lives on this frame.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
            expected,
            timeout,
            ptr::null::<u32>(),
            mask,
        )
    };
    if rc == -1 && errno() == libc::ETIMEDOUT { Woke::TimedOut } else { Woke::Look }
}

/// Wakes up to `count` sleepers on `word` whose mask meets `mask`. Async-signal-safe; may change errno.
pub(crate) fn futex_wake(word: *const u32, mask: u32, count: i32) {
    // SAFETY: a wake never touches the word; an address that is not mapped is an error, not a fault.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            libc::FUTEX_WAKE_BITSET | libc::FUTEX_PRIVATE_FLAG,
            count,
            ptr::null::<libc::timespec>(),
            ptr::null::<u32>(),
            mask,
        )
    };
}

/// A random number; 0 when the kernel has none to give.
pub(crate) fn random() -> u32 {
    let mut number = 0u32;
    // SAFETY: four writable bytes.
    unsafe { libc::getrandom((&raw mut number).cast(), size_of_val(&number), libc::GRND_NONBLOCK) };
    number
}

/// This thread's errno.
pub(crate) fn errno() -> c_int {
    // SAFETY: glibc gives each thread a valid location.
    unsafe { *libc::__errno_location() }
}

/// Sets this thread's errno.
pub(crate) fn set_errno(value: c_int) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = value }
}

/// The sentence for an errno value.
pub(crate) fn describe(error: c_int) -> String {
    std::io::Error::from_raw_os_error(error).to_string()
}

/// Zeroed memory of `len` bytes that is never unmapped and reads zero in the child of a fork. Pages cost memory only
/// once touched.
pub(crate) fn map_wiped_on_fork(len: usize) -> Result<*mut c_void, c_int> {
    // SAFETY: a fresh private mapping; nothing else refers to it.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(errno());
    }
    // SAFETY: the mapping just made. Without huge pages a few pods do not cost 2 MiB.
    let wiped = unsafe {
        libc::madvise(base, len, libc::MADV_NOHUGEPAGE);
        libc::madvise(base, len, libc::MADV_WIPEONFORK)
    };
    if wiped != 0 {
        let error = errno(); // Linux before 4.14
        // SAFETY: nobody has seen the mapping.
        unsafe { libc::munmap(base, len) };
        return Err(error);
    }
    // LeakSanitizer does not look into mappings: in a program that is checked by it, it is told to.
    // SAFETY: a function of this type, if the name is found at all.
    unsafe {
        let tell = libc::dlsym(libc::RTLD_DEFAULT, c"__lsan_register_root_region".as_ptr());
        if !tell.is_null() {
            let tell = std::mem::transmute::<*mut c_void, extern "C" fn(*const c_void, usize)>(tell);
            tell(base, len);
        }
    }
    Ok(base)
}

/// Unmaps what a race made twice.
pub(crate) fn unmap(base: *mut c_void, len: usize) {
    // SAFETY: the caller owns the mapping alone.
    unsafe { libc::munmap(base, len) };
}

/// A new event descriptor: readable once [`signal_fd`] was called.
pub(crate) fn event_fd() -> Result<OwnedFd, c_int> {
    // SAFETY: numbers only.
    process::owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
}

/// Makes the event descriptor readable. Async-signal-safe; may change errno.
pub(crate) fn signal_fd(fd: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes; a full counter (EAGAIN) is readable already.
    unsafe { libc::write(fd.as_raw_fd(), (&raw const one).cast(), 8) };
}

/// Makes the event descriptor unreadable again.
pub(crate) fn drain_fd(fd: &OwnedFd) {
    let mut count = 0u64;
    // SAFETY: eight writable bytes; an empty counter is EAGAIN.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
}

/// The kernel's id of this thread, without a system call: the C library keeps it and shows it in the thread's CPU clock,
/// which the kernel's ABI defines as `(!id << 3) | 6`.
pub(crate) fn thread_id() -> i32 {
    let mut clock = 0;
    // SAFETY: this thread, and a valid out pointer.
    let id = match unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) } {
        0 => !(clock >> 3),
        // SAFETY: no arguments.
        _ => unsafe { libc::syscall(libc::SYS_gettid) as i32 },
    };
    // SAFETY: no arguments.
    debug_assert_eq!(id, unsafe { libc::syscall(libc::SYS_gettid) } as i32);
    id
}

/// Names this thread for the kernel: the first 15 bytes of `name`.
pub(crate) fn name_thread(name: &CStr) {
    // SAFETY: the kernel copies at most 16 bytes of a string that ends with NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

const PTHREAD_CANCEL_ENABLE: c_int = 0;
const PTHREAD_CANCEL_DISABLE: c_int = 1;

pub(crate) type Entry = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C" {
    // Not in the libc crate; the _np are glibc's, from 2.32 and (the last) 2.31.
    fn pthread_attr_getsigmask_np(attr: *const libc::pthread_attr_t, mask: *mut libc::sigset_t) -> c_int;
    fn pthread_attr_setsigmask_np(attr: *mut libc::pthread_attr_t, mask: *const libc::sigset_t) -> c_int;
    fn pthread_attr_setschedpolicy(attr: *mut libc::pthread_attr_t, policy: c_int) -> c_int;
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
    fn pthread_clockjoin_np(
        thread: libc::pthread_t,
        value: *mut *mut c_void,
        clock: libc::clockid_t,
        until: *const libc::timespec,
    ) -> c_int;
}

/// How threads of the library and of pods are made: all signals blocked but the synchronous ones (contract section 4)
/// and, when asked for, one to kick with. The mask is an attribute, so that no call before or after is needed.
pub(crate) struct ThreadAttr(libc::pthread_attr_t);

// SAFETY: plain data that pthread_create only reads.
unsafe impl Send for ThreadAttr {}
// SAFETY: as above.
unsafe impl Sync for ThreadAttr {}

impl ThreadAttr {
    /// `stack_size` 0: what pthread_create gives.
    pub(crate) fn new(stack_size: usize, kick_signal: c_int) -> Result<ThreadAttr, c_int> {
        let check = |rc: c_int| if rc == 0 { Ok(()) } else { Err(rc) };
        // SAFETY: initialised by pthread_attr_init before any other use; destroyed by Drop from then on.
        unsafe {
            let mut attr = std::mem::zeroed();
            check(libc::pthread_attr_init(&mut attr))?;
            let mut attr = ThreadAttr(attr);
            if stack_size != 0 {
                const PAGE: usize = 4096;
                let whole = stack_size.checked_next_multiple_of(PAGE).ok_or(libc::ENOMEM)?;
                check(libc::pthread_attr_setstacksize(&mut attr.0, whole))?;
            }
            let mut mask = std::mem::zeroed();
            libc::sigfillset(&mut mask);
            for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
                libc::sigdelset(&mut mask, signal);
            }
            if kick_signal != 0 {
                libc::sigdelset(&mut mask, kick_signal);
            }
            check(pthread_attr_setsigmask_np(&mut attr.0, &mask))?;
            Ok(attr)
        }
    }

    /// With the ordinary scheduling class, whatever its maker's is: the library's threads serve the whole process.
    pub(crate) fn unprivileged(mut self) -> Result<ThreadAttr, c_int> {
        let ordinary = libc::sched_param { sched_priority: 0 };
        // SAFETY: the attribute is initialised, the parameter is readable.
        let rc = unsafe {
            libc::pthread_attr_setinheritsched(&mut self.0, libc::PTHREAD_EXPLICIT_SCHED)
                | pthread_attr_setschedpolicy(&mut self.0, libc::SCHED_OTHER)
                | libc::pthread_attr_setschedparam(&mut self.0, &ordinary)
        };
        if rc == 0 { Ok(self) } else { Err(rc) }
    }

    /// Makes a joinable thread; `thread` says which before it runs.
    ///
    /// # Safety
    /// `arg` is what `entry` expects.
    pub(crate) unsafe fn spawn(&self, thread: &AtomicU64, entry: Entry, arg: *mut c_void) -> Result<(), c_int> {
        let _mask = creator_gives_mask().then(|| self.mask_of_the_creator());
        // SAFETY: C and C-unwind differ only in what may pass through them, and what passes is glibc's own forced
        // unwinding, which its thread start expects. The attribute is initialised.
        let rc = unsafe {
            let entry = std::mem::transmute::<Entry, extern "C" fn(*mut c_void) -> *mut c_void>(entry);
            libc::pthread_create(thread.as_ptr(), &self.0, entry, arg)
        };
        if rc == 0 { Ok(()) } else { Err(rc) }
    }

    /// While it lives this thread has the mask that the new one is to have.
    fn mask_of_the_creator(&self) -> signal::Masked {
        // SAFETY: the attribute is initialised and has a mask, which is written to a set on this frame.
        unsafe {
            let mut mask = std::mem::zeroed();
            pthread_attr_getsigmask_np(&self.0, &mut mask);
            signal::Masked::with(&mask)
        }
    }
}

/// A pthread_create that gives the new thread its creator's mask, whatever the attribute says: that of AddressSanitizer's
/// runtimes of LLVM, which older and other ones are not told from.
fn creator_gives_mask() -> bool {
    const UNKNOWN: u8 = 2;
    static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN); // each who asks first finds the same: a fork leaves nobody waiting
    match KNOWN.load(Relaxed) {
        UNKNOWN => {
            // SAFETY: only whether the name is there is asked.
            let is = unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"__asan_init".as_ptr()).is_null() };
            KNOWN.store(is.into(), Relaxed);
            is
        }
        known => known == 1,
    }
}

impl Drop for ThreadAttr {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`.
        unsafe { libc::pthread_attr_destroy(&mut self.0) };
    }
}

/// This thread, for [`join_thread`] and [`detach_thread`].
pub(crate) fn this_thread() -> libc::pthread_t {
    // SAFETY: no arguments.
    unsafe { libc::pthread_self() }
}

/// Waits until the kernel's thread has ended and gives its stack back; an error (ETIMEDOUT: not until `until`): not so.
///
/// # Safety
/// `thread` is joinable and nobody else joins or detaches it.
pub(crate) unsafe fn join_thread(thread: libc::pthread_t, until: Nanos) -> Result<(), c_int> {
    // SAFETY: the caller's promise.
    match unsafe { pthread_clockjoin_np(thread, ptr::null_mut(), libc::CLOCK_MONOTONIC, &timespec(until)) } {
        0 => Ok(()),
        error => Err(error),
    }
}

/// Lets a thread end by itself.
///
/// # Safety
/// As for [`join_thread`].
pub(crate) unsafe fn detach_thread(thread: libc::pthread_t) {
    // SAFETY: the caller's promise.
    unsafe { libc::pthread_detach(thread) };
}

/// From here on this thread, the library's or S, is not ended by pthread_cancel, but inside [`cancellable`] calls: never in
/// Rust code, a procedure's own included.
pub(crate) fn refuse_cancellation() {
    std::mem::forget(Uncancellable::begin());
}

/// Calls a C callback on a thread of the library or S: there pthread_cancel may act as on any thread.
pub(crate) fn cancellable<T>(callback: impl FnOnce() -> T) -> T {
    // SAFETY: glibc takes NULL for "do not tell".
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, ptr::null_mut()) };
    let result = callback();
    refuse_cancellation();
    result
}

/// Whether this is the thread with which the process began.
pub(crate) fn is_first_thread() -> bool {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 == libc::getpid() }
}

/// Ends the process at once, without its exit handlers: for the child of a fork.
pub(crate) fn end_forked_child() -> ! {
    // SAFETY: no arguments that could be wrong.
    unsafe { libc::_exit(0) }
}

/// While it lives, pthread_cancel of this thread is put off.
pub(crate) struct Uncancellable(c_int);

impl Uncancellable {
    pub(crate) fn begin() -> Uncancellable {
        let mut before = 0;
        // SAFETY: a valid out pointer.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Uncancellable(before)
    }
}

impl Drop for Uncancellable {
    fn drop(&mut self) {
        // SAFETY: glibc takes NULL for "do not tell".
        unsafe { pthread_setcancelstate(self.0, ptr::null_mut()) };
    }
}

/// Sends `signal` to a thread of this process that exists.
pub(crate) fn kick_thread(tid: i32, signal: c_int) {
    // SAFETY: numbers only; not for a group or any other process, whatever the number.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
}

/// Gives `signal` an empty handler without SA_RESTART if its disposition is default or ignore.
pub(crate) fn ensure_kick_handler(signal: c_int) -> Result<(), c_int> {
    extern "C" fn nothing(_: c_int) {}
    // SAFETY: zeroed structs are valid ones; the handler does nothing.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, ptr::null(), &mut old) != 0 {
            return Err(errno());
        }
        if old.sa_sigaction != libc::SIG_DFL && old.sa_sigaction != libc::SIG_IGN {
            return Ok(());
        }
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = nothing as extern "C" fn(c_int) as usize;
        if libc::sigaction(signal, &new, ptr::null_mut()) != 0 { Err(errno()) } else { Ok(()) }
    }
}

/// Whether a signal can be used to kick a thread out of a system call.
pub(crate) fn can_kick_with(signal: c_int) -> bool {
    let unusable = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGILL,
        libc::SIGTRAP,
        32, // glibc's own two
        33,
    ];
    (1..=libc::SIGRTMAX()).contains(&signal) && !unusable.contains(&signal)
}

/// The system call and the wait channel of the thread or process whose directory of `/proc` is `place`, as a part of a
/// sentence (L14).
pub(crate) fn whereabouts(place: &str) -> String {
    let read = |what: &str| std::fs::read_to_string(format!("{place}/{what}")).unwrap_or_default();
    let call = read("syscall");
    let call = match call.split_whitespace().next() {
        None => "its system call cannot be read".to_owned(),
        Some("running") => "it is running, in no system call".to_owned(),
        Some("-1") => "it is blocked outside a system call".to_owned(),
        Some(number) => match number.parse().ok().and_then(syscall_name) {
            Some(name) => format!("it is in system call {number} ({name})"),
            None => format!("it is in system call {number}"),
        },
    };
    match read("wchan").trim() {
        "" | "0" => call,
        channel => format!("{call}, wait channel {channel}"),
    }
}

/// The names of the calls in which threads are commonly found waiting.
fn syscall_name(number: i64) -> Option<&'static str> {
    Some(match number {
        libc::SYS_read => "read",
        libc::SYS_write => "write",
        libc::SYS_readv => "readv",
        libc::SYS_writev => "writev",
        libc::SYS_pread64 => "pread64",
        libc::SYS_pwrite64 => "pwrite64",
        libc::SYS_openat => "openat",
        libc::SYS_fsync => "fsync",
        libc::SYS_fdatasync => "fdatasync",
        libc::SYS_poll => "poll",
        libc::SYS_ppoll => "ppoll",
        libc::SYS_select => "select",
        libc::SYS_pselect6 => "pselect6",
        libc::SYS_epoll_wait => "epoll_wait",
        libc::SYS_epoll_pwait => "epoll_pwait",
        libc::SYS_accept => "accept",
        libc::SYS_accept4 => "accept4",
        libc::SYS_connect => "connect",
        libc::SYS_recvfrom => "recvfrom",
        libc::SYS_recvmsg => "recvmsg",
        libc::SYS_sendto => "sendto",
        libc::SYS_sendmsg => "sendmsg",
        libc::SYS_futex => "futex",
        libc::SYS_nanosleep => "nanosleep",
        libc::SYS_clock_nanosleep => "clock_nanosleep",
        libc::SYS_wait4 => "wait4",
        libc::SYS_waitid => "waitid",
        libc::SYS_pause => "pause",
        libc::SYS_rt_sigsuspend => "rt_sigsuspend",
        libc::SYS_rt_sigtimedwait => "rt_sigtimedwait",
        libc::SYS_flock => "flock",
        libc::SYS_fcntl => "fcntl",
        libc::SYS_io_uring_enter => "io_uring_enter",
        libc::SYS_sched_yield => "sched_yield",
        _ => return None,
    })
}

/// A span for the standard library's waits; `None`: for ever.
pub(crate) fn until(at: Nanos) -> Option<Duration> {
    (at != NEVER).then(|| Duration::from_nanos(at.saturating_sub(now())))
}
