//! What stands behind an option: times, signals, ports. Each parser answers with a sentence that names the way out.

use std::ffi::{OsStr, OsString, c_int};
use std::os::unix::ffi::OsStrExt;

use crate::library::FOREVER;

/// When the pod is ready.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ready {
    OnRun,
    Notify,
    Port(u16),
}

/// "2.5" (seconds), "500ms", "2s", "1m" in milliseconds. What is not 0 is at least 1.
pub fn duration(text: &str) -> Result<i64, String> {
    let wrong = || "a time is a number of seconds (\"2.5\"), or one with ms, s or m behind it (\"500ms\")".to_string();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1.0,
        "" | "s" => 1000.0,
        "m" => 60_000.0,
        _ => return Err(wrong()),
    };
    // f64 also reads "1e9", "inf" and "+3", which nobody means.
    if !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    let ms = digits.parse::<f64>().map_err(|_| wrong())? * factor;
    if ms > 1e15 {
        return Err("that is longer than 30 000 years".into());
    }
    Ok(if ms > 0.0 { (ms.round() as i64).max(1) } else { 0 })
}

/// A time where the library's 0 means its own default: none at all is as near to none as it can be.
pub fn stretch(text: &str) -> Result<i64, String> {
    duration(text).map(|ms| ms.max(1))
}

/// A time, or no limit.
pub fn grace(text: &str) -> Result<i64, String> {
    if text == "forever" {
        return Ok(FOREVER);
    }
    stretch(text).map_err(|why| format!("{why}, or forever"))
}

/// How many restarts; the library's 0 would mean its own default.
pub fn restarts(text: &str) -> Result<u32, String> {
    match text {
        "unlimited" => Ok(u32::MAX),
        // u32's own parser also reads "+3".
        _ if !text.bytes().all(|b| b.is_ascii_digit()) => Err("give a number, or unlimited".into()),
        _ => match text.parse() {
            Ok(0) => Err("none at all is --restart never".into()),
            Ok(n) if n < u32::MAX => Ok(n),
            _ => Err(format!("give a number up to {}, or unlimited", u32::MAX - 1)),
        },
    }
}

pub fn ready(text: &str) -> Result<Ready, String> {
    match text {
        "on-run" => Ok(Ready::OnRun),
        "notify" => Ok(Ready::Notify),
        _ => match text.strip_prefix("port:").map(str::parse) {
            Some(Ok(port)) if port > 0 => Ok(Ready::Port(port)),
            Some(_) => Err("a port is a number from 1 to 65535".into()),
            None => Err("ready is on-run, notify or port:N".into()),
        },
    }
}

const SIGNALS: [(&str, c_int); 31] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// "TERM", "SIGTERM", "15", "RTMIN+3".
pub fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        Some(*number)
    } else if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset = if offset.is_empty() { Some(0) } else { offset.strip_prefix('+').and_then(|n| n.parse().ok()) };
        offset.and_then(|n: i32| libc::SIGRTMIN().checked_add(n))
    } else {
        name.parse().ok()
    };
    number
        .filter(|n| (1..=libc::SIGRTMAX()).contains(n))
        .ok_or_else(|| format!("a signal is a name (TERM, SIGINT, RTMIN+3) or a number from 1 to {}", libc::SIGRTMAX()))
}

/// "NAME=VALUE"; the value may be anything.
pub fn assignment(text: &OsStr) -> Result<(OsString, OsString), String> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|b| *b == b'=') {
        Some(at) if at > 0 => Ok((OsStr::from_bytes(&bytes[..at]).into(), OsStr::from_bytes(&bytes[at + 1..]).into())),
        _ => Err("an environment variable is NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_unless_they_say_otherwise() {
        for (text, ms) in [
            ("5", 5000),
            ("2.5", 2500),
            ("0.0001", 1),
            (".5", 500),
            ("500ms", 500),
            ("3s", 3000),
            ("2m", 120_000),
            ("0", 0),
            ("0ms", 0),
        ] {
            assert_eq!(duration(text), Ok(ms), "{text}");
        }
        for text in ["", ".", "s", "ms", "-1", "+1", "1e3", "inf", "nan", "5h", "5 s", "1.2.3", "99999999999999999999"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(stretch("0"), Ok(1));
        assert_eq!(grace("forever"), Ok(FOREVER));
        assert_eq!(grace("0"), Ok(1));
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("TERM", 15), ("sigint", 2), ("9", 9), ("SIGUSR1", 10), ("Quit", 3), ("64", 64)] {
            assert_eq!(signal(text), Ok(number), "{text}");
        }
        assert_eq!(signal("RTMIN+3"), Ok(libc::SIGRTMIN() + 3));
        assert_eq!(signal("SIGRTMIN"), Ok(libc::SIGRTMIN()));
        for text in ["", "0", "-1", "65", "SIG", "NOPE", "RTMIN-1", "RTMIN+99", "RTMIN+2147483647"] {
            assert!(signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn restarts_are_a_number_or_without_a_limit() {
        assert_eq!(restarts("1"), Ok(1));
        assert_eq!(restarts("007"), Ok(7));
        assert_eq!(restarts("4294967294"), Ok(u32::MAX - 1));
        assert_eq!(restarts("unlimited"), Ok(u32::MAX));
        for text in ["", "0", "00", "-1", "+1", "1.5", "4294967295", "99999999999", "forever", "Unlimited"] {
            assert!(restarts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ready_is_one_of_three() {
        assert_eq!(ready("on-run"), Ok(Ready::OnRun));
        assert_eq!(ready("notify"), Ok(Ready::Notify));
        assert_eq!(ready("port:8080"), Ok(Ready::Port(8080)));
        for text in ["", "port", "port:", "port:0", "port:65536", "port:-1", "PORT:80", "8080"] {
            assert!(ready(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_assignment_has_a_name() {
        let pair = |k: &str, v: &str| Ok((OsString::from(k), OsString::from(v)));
        assert_eq!(assignment(OsStr::new("A=b")), pair("A", "b"));
        assert_eq!(assignment(OsStr::new("A=")), pair("A", ""));
        assert_eq!(assignment(OsStr::new("A=b=c")), pair("A", "b=c"));
        assert!(assignment(OsStr::new("=b")).is_err());
        assert!(assignment(OsStr::new("A")).is_err());
    }
}
