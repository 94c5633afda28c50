//! Words to the person at the terminal: stderr, one sentence a line.

use crate::library::{Event, Library, Opaque, text};
use std::ffi::c_int;
use std::fmt::Write as _;
use std::io::Write;
use std::ptr;

const PHASES: [&str; 6] = ["spawn", "init", "ready", "run", "cancel", "teardown"];
const KINDS: [&str; 8] = ["returned", "panic", "exception", "exit", "signal", "timeout", "watchdog", "lost"];
/// Where the library puts a child's last words behind its own when they were passed through; it has another word for those
/// that were not.
const LAST_WORDS: &str = "; the end of its stderr:\n";

/// One sentence on stderr; gives the exit code on. When stderr is gone there is nobody to tell.
pub fn tell(code: c_int, sentence: &str) -> c_int {
    write(&format!("podkeep: {sentence}\n"));
    code
}

/// How the pod failed, if it did: the failure, then those that came after it.
pub fn tell_failure(library: &Library, pod: *mut Opaque) {
    let mut failure = ptr::null_mut();
    // SAFETY: a valid out pointer.
    if unsafe { (library.pod_failure)(pod, &mut failure) } == crate::library::OK {
        // SAFETY: the failure is the caller's, and is never freed here.
        write(&unsafe { failures(library, failure) });
    }
}

/// An end that another life follows.
pub fn tell_restart(library: &Library, event: &Event) {
    // SAFETY: the monitor's strings and failure live until its next call.
    let (name, mut lines) = unsafe { (text(event.name), failures(library, event.failure)) };
    let _ = writeln!(lines, "podkeep: {name}: restart {}", event.incarnation.saturating_add(1));
    write(&lines);
}

/// In one write, so that the lines of another process do not come between. Without a reader there is no signal, and the exit
/// code stands; what SIGPIPE does elsewhere is the business of what runs in this process.
fn write(lines: &str) {
    // SAFETY: sets on this frame and numbers; the signal of a write is its thread's own.
    unsafe {
        let (mut pipe, mut before, mut pending) = std::mem::zeroed();
        libc::sigemptyset(&mut pipe);
        libc::sigaddset(&mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &pipe, &mut before);
        libc::sigpending(&mut pending);
        let _ = std::io::stderr().write_all(lines.as_bytes());
        if libc::sigismember(&pending, libc::SIGPIPE) == 0 {
            libc::sigtimedwait(&pipe, std::ptr::null_mut(), &std::mem::zeroed());
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
    }
}

/// A line for each.
///
/// # Safety
/// NULL, or a failure that lives.
unsafe fn failures(library: &Library, failure: *const Opaque) -> String {
    let mut lines = String::new();
    let mut next = failure;
    while !next.is_null() {
        let then = if next == failure { "failed" } else { "then failed" };
        // SAFETY: the caller's promise; one that hangs on it lives as long.
        unsafe {
            let pod = text((library.failure_pod_name)(next));
            let phase = word(&PHASES, (library.failure_phase)(next));
            let kind = word(&KINDS, (library.failure_kind)(next));
            let code = (library.failure_code)(next);
            let message = text((library.failure_message)(next));
            let passed_through = !text((library.failure_stderr)(next)).is_empty();
            let message = first_hand(&message, passed_through);
            let _ = writeln!(lines, "podkeep: {pod}: {then} in {phase} ({kind}, code {code}): {message}");
            next = (library.failure_secondary)(next);
        }
    }
    lines
}

fn word(words: &[&'static str], n: i32) -> &'static str {
    usize::try_from(n).ok().and_then(|n| words.get(n)).copied().unwrap_or("?")
}

/// The message without what the reader has seen already.
fn first_hand(message: &str, passed_through: bool) -> &str {
    match message.find(LAST_WORDS) {
        Some(at) if passed_through => &message[..at],
        _ => message.trim_end(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_that_was_passed_through_is_not_said_twice() {
        let message = "exited with code 3; the end of its stderr:\nbad\nworse";
        assert_eq!(first_hand(message, true), "exited with code 3");
        assert_eq!(first_hand(message, false), message);
        assert_eq!(first_hand("plain", true), "plain");
        let message = "exited with code 3; the end of its stderr, not all of it passed on:\nbad\nworse";
        assert_eq!(first_hand(message, true), message);
    }

    #[test]
    fn a_word_for_every_number() {
        assert_eq!(word(&PHASES, 0), "spawn");
        assert_eq!(word(&KINDS, 7), "lost");
        assert_eq!(word(&KINDS, -2), "?");
        assert_eq!(word(&KINDS, 8), "?");
    }
}
