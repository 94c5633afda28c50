//! Child processes: how they are watched, signalled and reaped, and what they share with their host. How they are made:
//! `spawn`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::AtomicU32;

use super::errno;
use super::spawn::FIRST_SPARE;

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Exited(i32),
    Killed {
        signal: i32,
        core: bool,
    },
    /// Somebody else took the status: SIGCHLD is ignored, or a stranger waits for every child.
    Unknown,
}

/// Reaps a child; waits for its end, which a readable pidfd tells has come.
pub(crate) fn reap(pidfd: &OwnedFd) -> Ended {
    // SAFETY: a valid out pointer.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        loop {
            if libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, &mut info, libc::WEXITED) == 0 {
                break;
            }
            if errno() != libc::EINTR {
                return Ended::Unknown;
            }
        }
        match info.si_code {
            libc::CLD_EXITED => Ended::Exited(info.si_status()),
            code => Ended::Killed { signal: info.si_status(), core: code == libc::CLD_DUMPED },
        }
    }
}

/// Whether [`reap`] would not block. Of one that has ended and is traced the kernel tells its tracer first.
pub(crate) fn can_be_reaped(pidfd: &OwnedFd) -> bool {
    // SAFETY: a valid out pointer.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        libc::waitid(libc::P_PIDFD, pidfd.as_raw_fd() as libc::id_t, &mut info, flags) != 0 || info.si_pid() != 0
    }
}

/// Sends a signal to the process behind a pidfd; false: it has ended and was reaped.
pub(crate) fn signal_process(pidfd: &OwnedFd, signal: c_int) -> bool {
    let (fd, info) = (pidfd.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    // SAFETY: numbers and NULL.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0u32) == 0 }
}

/// Since Linux 6.9: the group that the process leads, or led.
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

/// Sends a signal to a whole process group, by a hold on its leader. Where the kernel does not know how, by its number, which
/// a leader that is alive or not yet reaped holds; of one that somebody else has reaped it could be another's by now.
pub(crate) fn signal_group(leader: &OwnedFd, group: i32, signal: c_int) {
    let (fd, info) = (leader.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    // SAFETY: numbers and NULL.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, PIDFD_SIGNAL_PROCESS_GROUP) };
    if sent != 0 && errno() == libc::EINVAL {
        signal_numbered_group(group, signal);
    }
}

/// The same, without a hold on the leader, which is not reaped yet.
pub(crate) fn signal_numbered_group(group: i32, signal: c_int) {
    if group > 1 {
        // SAFETY: numbers only.
        unsafe { libc::kill(-group, signal) };
    }
}

/// A descriptor of this process itself: readable when it has ended.
pub(crate) fn own_pidfd() -> Result<OwnedFd, c_int> {
    // SAFETY: no arguments.
    pidfd_of(unsafe { libc::getpid() })
}

pub(crate) fn pidfd_of(pid: i32) -> Result<OwnedFd, c_int> {
    // SAFETY: numbers in, a new descriptor out.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0u32) } as c_int)
}

/// A new descriptor, never in the place of stdin, stdout or stderr, should the host have closed those.
pub(crate) fn owned(fd: c_int) -> Result<OwnedFd, c_int> {
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: a new descriptor that nobody else has; then a copy of it that nobody else has.
    unsafe {
        let fd = OwnedFd::from_raw_fd(fd);
        if fd.as_raw_fd() > 2 {
            return Ok(fd);
        }
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) {
            copy if copy < 0 => Err(errno()),
            copy => Ok(OwnedFd::from_raw_fd(copy)),
        }
    }
}

/// A copy of a descriptor that is open.
#[cfg(feature = "grpc")]
pub(crate) fn copy_of(fd: RawFd) -> Result<OwnedFd, c_int> {
    // SAFETY: numbers in, a new descriptor out.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })
}

/// As [`owned`] for what others make in `make`: should stdin, stdout or stderr be closed, their places are held meanwhile.
#[cfg(feature = "grpc")]
pub(crate) fn above_standard<T>(make: impl FnOnce() -> T) -> T {
    let mut held = Vec::new();
    loop {
        // SAFETY: a static string; a new descriptor that nobody else has.
        let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd < 0 {
            break;
        }
        // SAFETY: as above.
        held.push(unsafe { OwnedFd::from_raw_fd(fd) });
        if fd > 2 {
            break;
        }
    }
    make()
}

/// The same descriptor with a number that a plan may have.
pub(crate) fn spare(fd: OwnedFd) -> Result<OwnedFd, c_int> {
    if fd.as_raw_fd() >= FIRST_SPARE {
        return Ok(fd);
    }
    // SAFETY: numbers only.
    owned(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_SPARE) })
}

/// /dev/null, for reading and writing.
pub(crate) fn null_device() -> Result<OwnedFd, c_int> {
    // SAFETY: a constant path.
    owned(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) }).and_then(spare)
}

/// A pipe: the end to read, which never blocks, and the end to write.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), c_int> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(errno());
    }
    let [read, write] = ends.map(owned); // both are ours before either is refused
    let (read, write) = (read?, write?);
    // SAFETY: an own descriptor.
    unsafe { libc::fcntl(read.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    Ok((read, spare(write)?))
}

/// A pair of connected stream sockets: the host's end never blocks.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd), c_int> {
    let mut ends = [-1; 2];
    // SAFETY: room for two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) } != 0 {
        return Err(errno());
    }
    let [ours, theirs] = ends.map(owned);
    let (ours, theirs) = (ours?, theirs?);
    // SAFETY: an own descriptor.
    unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    Ok((ours, spare(theirs)?))
}

/// Reads from a socket what is there, without waiting; 0: the other end is closed.
pub(crate) fn recv_some(fd: &OwnedFd, into: &mut [u8]) -> Result<usize, c_int> {
    // SAFETY: a writable buffer of this length.
    let n = unsafe { libc::recv(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), libc::MSG_DONTWAIT) };
    if n < 0 { Err(errno()) } else { Ok(n as usize) }
}

/// How many bytes of a socket are there to be read.
pub(crate) fn waiting(fd: &OwnedFd) -> usize {
    let mut count: c_int = 0;
    // SAFETY: a valid out pointer.
    unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &mut count) };
    count.max(0) as usize
}

/// Reads from a pipe that never blocks; 0: nobody can write to it any more.
pub(crate) fn read_some(fd: &OwnedFd, into: &mut [u8]) -> Result<usize, c_int> {
    // SAFETY: a writable buffer of this length.
    let n = unsafe { libc::read(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
    if n < 0 { Err(errno()) } else { Ok(n as usize) }
}

/// Writes to a socket what it takes now.
pub(crate) fn send_some(fd: &OwnedFd, bytes: &[u8], wait: bool) -> Result<usize, c_int> {
    let flags = libc::MSG_NOSIGNAL | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: a readable buffer of this length.
    let n = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if n < 0 { Err(errno()) } else { Ok(n as usize) }
}

/// Memory that is shared with children by its descriptor, and that no holder can resize.
pub(crate) fn shared_memory(name: &CStr, content: &[u8], length: usize) -> Result<OwnedFd, c_int> {
    // Beyond RLIMIT_FSIZE, which holds for such memory, too, it is an error, not the end of this process.
    let _deaf = super::signal::WithoutSizeSignal::begin();
    // SAFETY: a string and numbers in, a new descriptor out.
    unsafe {
        let fd = owned(libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING))?;
        let raw = fd.as_raw_fd();
        if libc::ftruncate(raw, length as libc::off_t) != 0 {
            return Err(errno());
        }
        let mut at = 0;
        while at < content.len() {
            let rest = &content[at..];
            match libc::pwrite(raw, rest.as_ptr().cast(), rest.len(), at as libc::off_t) {
                n if n > 0 => at += n as usize,
                _ => return Err(errno()),
            }
        }
        // Of any size there is only this one; who may write is told by `seal`.
        if libc::fcntl(raw, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW) != 0 {
            return Err(errno());
        }
        spare(fd)
    }
}

/// No seal of that memory can be changed any more. Not `writable`: nobody can write to it but through a mapping that is
/// there already.
pub(crate) fn seal(memory: &OwnedFd, writable: bool) -> Result<(), c_int> {
    let seals = libc::F_SEAL_SEAL | if writable { 0 } else { libc::F_SEAL_FUTURE_WRITE };
    // SAFETY: numbers only.
    if unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals) } == 0 { Ok(()) } else { Err(errno()) }
}

/// The length of memory that cannot be resized any more; `None`: it is not such memory.
pub(crate) fn sealed_length(fd: RawFd) -> Option<usize> {
    // SAFETY: a valid out pointer.
    unsafe {
        let seals = libc::fcntl(fd, libc::F_GET_SEALS);
        let mut stat: libc::stat = std::mem::zeroed();
        let whole = seals >= 0 && seals & libc::F_SEAL_SHRINK != 0 && libc::fstat(fd, &mut stat) == 0;
        whole.then_some(stat.st_size as usize)
    }
}

/// Maps the first `length` bytes, shared.
pub(crate) fn map_shared(fd: RawFd, length: usize) -> Result<*mut c_void, c_int> {
    // SAFETY: a fresh mapping.
    let base =
        unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0) };
    if base == libc::MAP_FAILED { Err(errno()) } else { Ok(base) }
}

/// The same, but it can only be read.
pub(crate) fn map_readable(fd: RawFd, length: usize) -> Result<*mut c_void, c_int> {
    // SAFETY: a fresh mapping.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, fd, 0) };
    if base == libc::MAP_FAILED { Err(errno()) } else { Ok(base) }
}

/// The same memory, by a descriptor that can only be read.
pub(crate) fn read_only(memory: &OwnedFd) -> Result<OwnedFd, c_int> {
    let path = std::ffi::CString::new(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap_or_default();
    // SAFETY: a string.
    owned(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).and_then(spare)
}

/// Sets whether an exec closes a descriptor.
pub(crate) fn close_on_exec(fd: RawFd) {
    // SAFETY: numbers only.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Sleeps while a word of memory shared between processes is `expected`. May wake early.
pub(crate) fn wait_shared(word: &AtomicU32, expected: u32) {
    // SAFETY: the word is mapped; no limit.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, ptr::null::<libc::timespec>()) };
}

/// Wakes who sleeps there.
pub(crate) fn wake_shared(word: &AtomicU32) {
    // SAFETY: a wake never touches the word.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

/// The environment of this process, as bytes. Like every reader of it, not safe beside a thread that changes it.
pub(crate) fn environment() -> Vec<std::ffi::CString> {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let mut all = Vec::new();
    // SAFETY: NULL, or an array of strings that ends with NULL.
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            all.push(CStr::from_ptr(*at).to_owned());
            at = at.add(1);
        }
    }
    all
}

/// Takes a variable out of this process's environment.
pub(crate) fn forget_variable(name: &CStr) {
    // SAFETY: a string; the caller is where nobody else reads the environment: at the start of `main`.
    unsafe { libc::unsetenv(name.as_ptr()) };
}

/// The file from which this library was loaded.
pub(crate) fn own_path() -> Option<std::ffi::CString> {
    // SAFETY: an address of this library, a valid out pointer; the name is copied at once.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let found = libc::dladdr(own_path as fn() -> _ as *const c_void, &mut info) != 0 && !info.dli_fname.is_null();
        let path = found.then(|| CStr::from_ptr(info.dli_fname))?;
        let real = libc::realpath(path.as_ptr(), ptr::null_mut());
        if real.is_null() {
            return Some(path.to_owned());
        }
        let owned = CStr::from_ptr(real).to_owned();
        libc::free(real.cast());
        Some(owned)
    }
}

/// Whether this program runs with more rights than whoever started it: its environment is not to be believed then.
pub(crate) fn is_privileged() -> bool {
    // SAFETY: a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The id of this process.
pub(crate) fn own_pid() -> i32 {
    // SAFETY: no arguments.
    unsafe { libc::getpid() }
}

/// The word for a signal.
pub(crate) fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    match NAMES.get((signal - 1) as usize) {
        Some(name) => format!("SIG{name}"),
        None => format!("SIGRTMIN+{}", signal - libc::SIGRTMIN()),
    }
}
