//! How child processes are made.
//!
//! By a clone that shares the memory and suspends the caller until the exec (as vfork does): nothing of the host is
//! copied, however large it is, and the few steps before the exec call nothing but the kernel.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering::*};

use super::errno;
use super::process::{self, owned, reap};
use super::signal::Masked;

/// How a child is to begin. Every pointer in it is read in the child, before its exec.
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a CStr,
    /// NULL-ended.
    pub(crate) argv: &'a [*const c_char],
    /// NULL-ended.
    pub(crate) envp: &'a [*const c_char],
    pub(crate) cwd: Option<&'a CStr>,
    /// What the child's descriptors 0, 1, 2 ... are; -1: inherited as it is. All others are closed by the exec. Each is at
    /// least [`FIRST_SPARE`], so that none is overwritten before it is copied.
    pub(crate) descriptors: &'a [RawFd],
    /// Where the child writes its id into its environment.
    pub(crate) pid_digits: &'a [AtomicU8],
    /// Where the child's id is noted before anything of it can run: who watches for the host's end finds it there.
    pub(crate) group: &'a AtomicU32,
    /// And where for its program, and for who asks for it.
    pub(crate) pids: [&'a AtomicI32; 2],
}

/// Where a plan's descriptors begin.
pub(crate) const FIRST_SPARE: RawFd = 16;

/// What became of a child until its exec. Zeroes are a child that has told nothing.
struct Outcome {
    /// Of one that another made.
    pid: AtomicI32,
    /// errno of the step that failed; 0: none.
    error: AtomicI32,
    step: AtomicI32,
}

const STEP_SETUP: i32 = 1;
const STEP_CWD: i32 = 2;
const STEP_EXEC: i32 = 3;

/// Why there is no child.
#[derive(Debug)]
pub(crate) enum NotSpawned {
    /// No process, memory or descriptor to be had: errno.
    Resources(c_int),
    /// The directory cannot be entered: errno.
    Cwd(c_int),
    /// The program cannot be run: errno.
    Exec(c_int),
}

pub(crate) struct Spawned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

struct Start<'a> {
    plan: &'a Plan<'a>,
    outcome: &'a Outcome,
    host: libc::pid_t,
}

/// Stack of a child until its exec: it calls the kernel only, a few frames deep. At its far end the child tells what became
/// of it: in memory that is shared whatever a clone shares, and that the program which follows does not have. The host may
/// read it long after that has begun.
const STACK: usize = 64 << 10;

struct Stack(*mut c_void);

impl Stack {
    fn new() -> Result<Stack, c_int> {
        // SAFETY: a fresh mapping.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                STACK,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED { Err(errno()) } else { Ok(Stack(base)) }
    }
    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
    fn outcome(&self) -> &Outcome {
        // SAFETY: mapped for as long as this lives, zeroed, and aligned as a page is; the frames do not come that far.
        unsafe { &*self.0.cast() }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`; the child that used it has its own memory or is gone.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

/// Makes a child in a process group of its own, and waits until its program has taken over.
pub(crate) fn spawn(plan: &Plan<'_>) -> Result<Spawned, NotSpawned> {
    let stack = Stack::new().map_err(NotSpawned::Resources)?;
    // SAFETY: no arguments.
    let start = Start { plan, outcome: stack.outcome(), host: unsafe { libc::getpid() } };
    let mut pidfd: c_int = -1;
    let quiet = Masked::all();
    // SAFETY: the child runs `begin` on a stack of its own, with everything it reads alive: this thread goes on only
    // when the child has exec'd or ended.
    let pid = unsafe {
        libc::clone(
            begin,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw const start).cast_mut().cast(),
            &raw mut pidfd,
        )
    };
    let error = errno();
    drop(quiet);
    if pid < 0 {
        return Err(NotSpawned::Resources(error));
    }
    let pidfd = match owned(pidfd) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            // Without a hold on it the child must not live.
            process::signal_numbered_group(pid, libc::SIGKILL);
            plan.group.store(0, SeqCst);
            // SAFETY: a child of ours.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            return Err(NotSpawned::Resources(error));
        }
    };
    let child = Spawned { pid, pidfd };
    let error = start.outcome.error.load(Acquire);
    if error == 0 {
        return Ok(child);
    }
    plan.group.store(0, SeqCst);
    let _ = reap(&child.pidfd);
    Err(match start.outcome.step.load(Acquire) {
        STEP_CWD => NotSpawned::Cwd(error),
        STEP_EXEC if is_of_the_program(error) => NotSpawned::Exec(error),
        _ => NotSpawned::Resources(error),
    })
}

/// Whether an exec failed for what its program is, and not for what there was too little of just then.
fn is_of_the_program(error: c_int) -> bool {
    ![libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE].contains(&error)
}

/// The child until its exec. It shares the host's memory: system calls only, no allocation, no lock, no return.
extern "C" fn begin(start: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes it and waits.
    let Start { plan, outcome, host } = unsafe { &*start.cast::<Start<'_>>() };
    let failed = |step: i32| -> ! {
        outcome.step.store(step, Relaxed);
        outcome.error.store(errno().max(1), Release);
        // SAFETY: ends this process, which has nothing to flush.
        unsafe { libc::_exit(127) }
    };
    // SAFETY: plain system calls; the pointers are the plan's.
    unsafe {
        libc::setpgid(0, 0);
        let pid = libc::getpid();
        for noted in plan.pids {
            noted.store(pid, SeqCst);
        }
        plan.group.store(pid as u32, SeqCst);
        let mut rest = pid;
        for digit in plan.pid_digits.iter().rev() {
            digit.store(b'0' + (rest % 10) as u8, Relaxed);
            rest /= 10;
        }
        // After the note: either the host lives now, and who watches for its end will find the note, or this is seen.
        if libc::getppid() != *host {
            libc::_exit(127);
        }
        // By the kernel's own call and struct: the C library's refuses the two signals that it keeps for itself.
        let default = [0u64; 4];
        for signal in 1..=libc::SIGRTMAX() {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), size_of::<u64>());
        }
        let count = plan.descriptors.len() as c_int;
        for (n, &fd) in plan.descriptors.iter().enumerate() {
            if fd >= 0 && libc::dup2(fd, n as c_int) < 0 {
                failed(STEP_SETUP);
            }
        }
        if libc::syscall(libc::SYS_close_range, count, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC) != 0 {
            failed(STEP_SETUP);
        }
        if let Some(cwd) = plan.cwd
            && libc::chdir(cwd.as_ptr()) != 0
        {
            failed(STEP_CWD);
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr());
        failed(STEP_EXEC)
    }
}

/// Makes a process that is nobody's child, in a session of its own, with `descriptors` as its 0, 1, 2 ...: for the
/// guardian. The process between, whose end makes it so, sends no signal to the host and is reaped here.
pub(crate) fn spawn_apart(
    program: &CStr,
    argv: &[*const c_char],
    envp: &[*const c_char],
    descriptors: &[RawFd],
) -> Result<i32, NotSpawned> {
    let (outer, inner) = (Stack::new().map_err(NotSpawned::Resources)?, Stack::new().map_err(NotSpawned::Resources)?);
    let outcome = outer.outcome();
    let apart = Apart { program, argv, envp, descriptors, stack: inner.top(), outcome };
    let quiet = Masked::all();
    // SAFETY: as in `spawn`. Without a signal in the flags the host is told nothing of this child's end.
    let between = unsafe {
        libc::clone(step_apart, outer.top(), libc::CLONE_VM | libc::CLONE_VFORK, (&raw const apart).cast_mut().cast())
    };
    let error = errno();
    if between > 0 {
        // SAFETY: a child of ours that only such a wait finds.
        while unsafe { libc::waitpid(between, ptr::null_mut(), libc::__WALL) } < 0 && errno() == libc::EINTR {}
    }
    drop(quiet);
    if between < 0 {
        return Err(NotSpawned::Resources(error));
    }
    match (outcome.error.load(Acquire), outcome.step.load(Acquire)) {
        (0, _) => Ok(outcome.pid.load(Acquire)),
        (error, STEP_EXEC) => Err(NotSpawned::Exec(error)),
        (error, _) => Err(NotSpawned::Resources(error)),
    }
}

struct Apart<'a> {
    program: &'a CStr,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    descriptors: &'a [RawFd],
    stack: *mut c_void,
    outcome: &'a Outcome,
}

extern "C" fn step_apart(apart: *mut c_void) -> c_int {
    // SAFETY: `spawn_apart` passes it and waits, and so does this process for the next.
    unsafe {
        let Apart { stack, outcome, .. } = &*apart.cast::<Apart<'_>>();
        libc::setsid();
        let pid = libc::clone(begin_apart, *stack, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, apart);
        if pid < 0 {
            outcome.error.store(errno().max(1), Release);
        } else {
            outcome.pid.store(pid, Release);
        }
        libc::_exit(0)
    }
}

extern "C" fn begin_apart(apart: *mut c_void) -> c_int {
    // SAFETY: as above; plain system calls. The mask stays full: nothing but SIGKILL ends a guardian.
    unsafe {
        let Apart { program, argv, envp, descriptors, outcome, .. } = &*apart.cast::<Apart<'_>>();
        for (n, &fd) in descriptors.iter().enumerate() {
            libc::dup2(fd, n as c_int);
        }
        libc::syscall(libc::SYS_close_range, descriptors.len() as c_int, c_int::MAX, 0);
        libc::chdir(c"/".as_ptr());
        libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr());
        outcome.step.store(STEP_EXEC, Relaxed);
        outcome.error.store(errno().max(1), Release);
        libc::_exit(127)
    }
}
