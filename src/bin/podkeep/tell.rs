//! Words to the person at the terminal: stderr, one sentence a line.

use crate::library::{Library, Opaque, text};
use std::ffi::c_int;
use std::fmt::Write as _;
use std::io::Write;
use std::ptr;

const PHASES: [&str; 6] = ["spawn", "init", "ready", "run", "cancel", "teardown"];
const KINDS: [&str; 8] = ["returned", "panic", "exception", "exit", "signal", "timeout", "watchdog", "lost"];
/// Where the library puts a child's last words behind its own; they were passed through when they were said.
const LAST_WORDS: &str = "; the end of its stderr:\n";

/// One sentence on stderr; gives the exit code on. When stderr is gone there is nobody to tell.
pub fn tell(code: c_int, sentence: &str) -> c_int {
    let _ = writeln!(std::io::stderr(), "podkeep: {sentence}");
    code
}

/// How the pod failed, if it did: the failure, then those that came after it.
pub fn tell_failure(library: &Library, pod: *mut Opaque) {
    let mut failure = ptr::null_mut();
    // SAFETY: a valid out pointer.
    if unsafe { (library.pod_failure)(pod, &mut failure) } != crate::library::OK {
        return;
    }
    let mut lines = String::new();
    let mut next: *const Opaque = failure;
    while !next.is_null() {
        let then = if next == failure { "failed" } else { "then failed" };
        // SAFETY: a failure, or one that hangs on it, lives until it is freed, and is never freed here.
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
    // In one write, so that the lines of another process do not come between.
    let _ = std::io::stderr().write_all(lines.as_bytes());
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
    }

    #[test]
    fn a_word_for_every_number() {
        assert_eq!(word(&PHASES, 0), "spawn");
        assert_eq!(word(&KINDS, 7), "lost");
        assert_eq!(word(&KINDS, -2), "?");
        assert_eq!(word(&KINDS, 8), "?");
    }
}
