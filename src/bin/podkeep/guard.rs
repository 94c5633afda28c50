//! The guardian: `podkeep __guard <host-pidfd> <table-fd>`. One a host; when the host has ended, of whatever, it kills
//! the process groups that the host had registered.
//!
//! The table is a memfd of u32 in native order, one slot a process pod: a process group's id, or 0. It is read at the
//! end, and then by pread: so it may grow while the host lives, and a host that cut it short costs no SIGBUS here.
//! Nothing below allocates: this process is beside every host, for as long as it lives, and should cost next to nothing.

use std::ffi::{CStr, c_int, c_uint};
use std::mem::size_of;
use std::ptr;

/// Not started by a host, or with descriptors that are not what they should be; nobody was killed.
const MISUSED: c_int = 2;
/// When the passes over the table begin, in milliseconds after the host's end. A child whose host died between clone and
/// exec registers itself a moment later, and the host can no longer wait for it: so one look is not enough.
const PASSES_AT: [c_int; 8] = [0, 2, 6, 14, 30, 62, 126, 200];
/// A pass this late (ms) that found nobody is the last. Until then an empty table may only be not yet filled.
const SETTLED_AT: c_int = 100;
/// Entries that are looked at: more than a system has processes (PID_MAX_LIMIT, 2^22).
const MOST_ENTRIES: usize = 1 << 22;

pub fn guard(host: Option<&CStr>, table: Option<&CStr>) -> c_int {
    deafen();
    // SAFETY: system calls with valid arguments; each may fail harmlessly: a session of its own it has already, when the
    // host started it as it should.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, c"podkeep-guard".as_ptr());
        libc::chdir(c"/".as_ptr());
    }
    let (Some(host), Some(table)) = (host.and_then(descriptor), table.and_then(descriptor)) else {
        return MISUSED;
    };
    if !is_pidfd(host) || !is_table(table) {
        return MISUSED;
    }
    let Some((host, table)) = keep_only(host, table) else { return MISUSED };
    if !wait_for_end(host) {
        return MISUSED;
    }
    let mut now = 0;
    for at in PASSES_AT {
        // SAFETY: no descriptor is polled, this is a sleep; all signals are blocked.
        unsafe { libc::poll(ptr::null_mut(), 0, at - now) };
        now = at;
        if kill_all(table) == 0 && now >= SETTLED_AT {
            break;
        }
    }
    0
}

/// No signal ends the guardian but SIGKILL: what stops the host (Ctrl-C, a stop of the whole cgroup) must not stop who
/// cleans up behind it. It ends with the host anyway.
fn deafen() {
    // SAFETY: the set lives on this frame and is filled before it is used.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, ptr::null_mut());
    }
}

fn descriptor(digits: &CStr) -> Option<c_int> {
    digits.to_str().ok()?.parse().ok().filter(|fd| *fd >= 0)
}

/// Signal 0 asks nothing of the process; EBADF says that this is no pidfd. The host may be dead already.
fn is_pidfd(fd: c_int) -> bool {
    // SAFETY: signal 0 without a siginfo.
    let rc = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, ptr::null::<libc::siginfo_t>(), 0) };
    rc == 0 || errno() != libc::EBADF
}

fn is_table(fd: c_int) -> bool {
    // SAFETY: `stat` is a valid out pointer; zeroes are a valid stat.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        libc::fstat(fd, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFREG
    }
}

/// Leaves open what is needed and puts /dev/null where the standard streams are: who waits for the end of a pipe that
/// the host had would otherwise wait for the guardian.
fn keep_only(host: c_int, table: c_int) -> Option<(c_int, c_int)> {
    // SAFETY: these calls take numbers alone; the numbers are this process's own descriptors.
    unsafe {
        // Above the standard streams, whatever they were.
        let host = libc::fcntl(host, libc::F_DUPFD, 3);
        let table = libc::fcntl(table, libc::F_DUPFD, 3);
        if host < 0 || table < 0 {
            return None;
        }
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for stream in 0..3 {
            // Without a /dev (a bare chroot) closed streams do as well: nothing here writes.
            if null < 0 || libc::dup2(null, stream) < 0 {
                libc::close(stream);
            }
        }
        let (low, high) = (host.min(table), host.max(table));
        close_between(3, low - 1);
        close_between(low + 1, high - 1);
        close_between(high + 1, c_int::MAX);
        Some((host, table))
    }
}

fn close_between(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: a range of this process's descriptors, none of which is in use.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first as c_uint, last as c_uint, 0) != 0 {
            // Linux before 5.9: up to where descriptors usually end.
            for fd in first..=last.min(65_535) {
                libc::close(fd);
            }
        }
    }
}

/// Until the host has ended. False: this cannot be waited for.
fn wait_for_end(host: c_int) -> bool {
    // POLLOUT: no pidfd is ever writable; what is, would be readable at once and pass for a dead host.
    let mut poll = libc::pollfd { fd: host, events: libc::POLLIN | libc::POLLOUT, revents: 0 };
    loop {
        // SAFETY: one valid pollfd.
        let rc = unsafe { libc::poll(&mut poll, 1, -1) };
        if rc == 1 {
            return poll.revents & libc::POLLIN != 0 && poll.revents & (libc::POLLOUT | libc::POLLNVAL) == 0;
        }
        // EINTR: stopped and continued. EAGAIN, ENOMEM: the kernel is short of memory for a moment.
        if !matches!(errno(), libc::EINTR | libc::EAGAIN | libc::ENOMEM) {
            return false;
        }
        if errno() != libc::EINTR {
            // SAFETY: no descriptor is polled: a sleep, so as not to spin while memory is short.
            unsafe { libc::poll(ptr::null_mut(), 0, 10) };
        }
    }
}

/// SIGKILL to every group of the table. How many were there to be signalled.
fn kill_all(table: c_int) -> usize {
    // SAFETY: takes nothing, cannot fail.
    let own = unsafe { libc::getpgrp() };
    let mut found = 0;
    let mut entries = [0u32; 1024];
    let mut seen = 0;
    while seen < MOST_ENTRIES {
        let offset = (seen * size_of::<u32>()) as libc::off_t;
        // SAFETY: the buffer is as long as said.
        let got = unsafe { libc::pread(table, entries.as_mut_ptr().cast(), size_of_val(&entries), offset) };
        if got < size_of::<u32>() as isize {
            break;
        }
        let got = got as usize / size_of::<u32>();
        for group in entries[..got].iter().filter_map(|entry| killable(*entry, own)) {
            // The child itself as well: it may have left its group.
            // SAFETY: takes numbers alone.
            let hit = unsafe { [libc::kill(-group, libc::SIGKILL), libc::kill(group, libc::SIGKILL)] };
            if hit.contains(&0) {
                found += 1;
            }
        }
        seen += got;
    }
    found
}

/// The group that an entry means. Never 0 (empty; to kill(2): one's own group), 1 (to kill(2): everybody), a number that
/// is no process id, or the guardian's own group.
fn killable(entry: u32, own: libc::pid_t) -> Option<libc::pid_t> {
    libc::pid_t::try_from(entry).ok().filter(|group| *group > 1 && *group != own)
}

fn errno() -> c_int {
    // SAFETY: the thread's own errno.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::killable;

    #[test]
    fn entries_that_mean_somebody_else_are_never_killed() {
        for bad in [0, 1, 77, 1 << 31, u32::MAX, u32::MAX - 1] {
            assert_eq!(killable(bad, 77), None, "{bad}");
        }
        assert_eq!(killable(2, 77), Some(2));
        assert_eq!(killable(i32::MAX as u32, 77), Some(i32::MAX));
    }
}
