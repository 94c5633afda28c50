//! The way up: what a main pod tells the systemd, or whoever else speaks sd_notify(3), above this process.
//!
//! Nobody is waited for, and nothing fails here: a service manager that does not listen is no reason to stop a pod.

use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::IntoRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::linux::{Nanos, process};

/// systemd drops messages of more than 4096 bytes, its PIPE_BUF.
const LONGEST: usize = 4096;

/// When to say again what a manager that has too much to read has not got.
const BUSY: Nanos = 20_000_000;
/// And what one that is not there has not: it may come back.
const GONE: Nanos = 1_000_000_000;

/// A service manager that wants to be told.
#[derive(Debug)]
pub(crate) struct Upward {
    // Kept open: the watchdog has to be fed when the process has no descriptors left, too.
    socket: UnixDatagram,
    manager: SocketAddr,
}

impl Upward {
    /// The one NOTIFY_SOCKET names; `None`: none, or not by a path or an abstract address. The environment stays as it is.
    pub(crate) fn from_env() -> Option<Upward> {
        Upward::to(&env::var_os("NOTIFY_SOCKET")?)
    }

    fn to(address: &OsStr) -> Option<Upward> {
        let manager = match address.as_bytes() {
            [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name),
            [b'/', _, ..] => SocketAddr::from_pathname(address),
            _ => return None,
        };
        let manager = manager.ok()?;
        // Not in the place of a standard stream that the host has closed.
        let socket: UnixDatagram = process::owned(UnixDatagram::unbound().ok()?.into_raw_fd()).ok()?.into();
        socket.set_nonblocking(true).ok()?;
        Some(Upward { socket, manager })
    }

    /// Says `text`: lines of KEY=VALUE. Err: the manager has not got it, and after so long what must arrive is to be said
    /// again.
    pub(crate) fn send(&self, text: &str) -> Result<(), Nanos> {
        // The standard library's sends raise no SIGPIPE.
        match self.socket.send_to_addr(text.as_bytes(), &self.manager) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(BUSY),
            Err(_) => Err(GONE),
        }
    }

    /// Says STATUS=`text`, as one line and no longer than systemd takes: a status is a user's text, and must not become
    /// another word.
    pub(crate) fn status(&self, text: &str) {
        let _ = self.send(&status_line(text)); // the next one tells more
    }

    /// How often WATCHDOG=1 has to be said at least, when the manager asks this process for it; half of it is a good
    /// measure.
    pub(crate) fn watchdog_interval() -> Option<Nanos> {
        interval(env::var_os("WATCHDOG_USEC").as_deref(), env::var_os("WATCHDOG_PID").as_deref(), std::process::id())
    }
}

fn status_line(text: &str) -> String {
    let line = format!("STATUS={text}");
    let cut = &line[..line.floor_char_boundary(LONGEST)];
    cut.replace(['\n', '\0'], " ")
}

/// An interval of 0, or longer than can be counted, is none.
fn interval(micros: Option<&OsStr>, pid: Option<&OsStr>, own_pid: u32) -> Option<Nanos> {
    if pid.is_some_and(|pid| number(pid) != Some(own_pid as u64)) {
        return None;
    }
    number(micros?)?.checked_mul(1000).filter(|nanos| *nanos != 0)
}

/// Decimal digits and nothing else.
fn number(digits: &OsStr) -> Option<u64> {
    let digits = digits.to_str()?;
    digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use super::*;

    /// An address of this test alone.
    fn name(what: &str) -> String {
        format!("podkeep-upward-{what}-{}", std::process::id())
    }

    /// A manager at an abstract address.
    fn manager(what: &str) -> (UnixDatagram, Upward) {
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name(what)).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (socket, Upward::to(format!("@{}", name(what)).as_ref()).unwrap())
    }

    fn heard(manager: &UnixDatagram) -> String {
        let mut text = vec![0; 2 * LONGEST];
        let len = manager.recv(&mut text).unwrap();
        text.truncate(len);
        String::from_utf8(text).unwrap()
    }

    /// A file that goes with the test.
    struct Scrap(PathBuf);

    impl Drop for Scrap {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn a_manager_at_an_abstract_address_hears() {
        let (manager, upward) = manager("abstract");
        assert_eq!(upward.send("READY=1\nSTATUS=up"), Ok(()));
        assert_eq!(upward.send("WATCHDOG=1"), Ok(()));
        assert_eq!((heard(&manager), heard(&manager)), ("READY=1\nSTATUS=up".into(), "WATCHDOG=1".into()));
    }

    #[test]
    fn a_manager_at_a_path_hears() {
        let path = Scrap(env::temp_dir().join(name("path")));
        let manager = UnixDatagram::bind(&path.0).unwrap();
        let upward = Upward::to(path.0.as_os_str()).unwrap();
        assert_eq!(upward.send("STOPPING=1"), Ok(()));
        assert_eq!(heard(&manager), "STOPPING=1");
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let long = format!("/{}", "x".repeat(107));
        let long_name = format!("@{}", "x".repeat(108));
        for bad in ["", "@", "/", "relative", "vsock:2:1", "unix:/run/x", &long, &long_name] {
            assert!(Upward::to(bad.as_ref()).is_none(), "{bad:?}");
        }
        assert!(Upward::to(&OsString::from_vec(b"/a\0b".to_vec())).is_none());
        let raw = OsString::from_vec(b"/nowhere/\xff".to_vec());
        assert!(Upward::to(&raw).is_some(), "a path is bytes");
        assert!(Upward::to(long[..107].as_ref()).is_some());
        assert!(Upward::to(long_name[..108].as_ref()).is_some());
    }

    #[test]
    fn a_manager_that_is_gone_or_busy_is_not_waited_for() {
        assert!(!Path::new("/nowhere").exists());
        assert_eq!(Upward::to("/nowhere/socket".as_ref()).unwrap().send("READY=1"), Err(GONE));
        let (manager, upward) = manager("busy");
        // It reads nothing: some messages fit, then none does, and no call blocks.
        let said = (0..1_000_000).take_while(|_| upward.send("WATCHDOG=1").is_ok()).count();
        assert!((1..1_000_000).contains(&said));
        assert_eq!(upward.send("READY=1"), Err(BUSY));
        heard(&manager);
        assert_eq!(upward.send("READY=1"), Ok(()), "there is room again");
        drop(manager);
        assert_eq!(upward.send("READY=1"), Err(GONE));
    }

    #[test]
    fn a_status_is_one_line_of_a_size_that_is_taken() {
        let (manager, upward) = manager("status");
        upward.status("serving\nREADY=1\0");
        assert_eq!(heard(&manager), "STATUS=serving READY=1 ");
        upward.status(&"\u{e9}".repeat(LONGEST));
        let said = heard(&manager);
        assert!(said.len() <= LONGEST && said.len() > LONGEST - 2);
        assert_eq!(said.trim_start_matches("STATUS=").replace('\u{e9}', ""), "");
    }

    #[test]
    fn the_watchdog_asks_this_process_or_nobody() {
        let of = |micros: &str, pid: Option<&str>| interval(Some(micros.as_ref()), pid.map(OsStr::new), 42);
        assert_eq!(of("30000000", None), Some(30_000_000_000));
        assert_eq!(of("1", Some("42")), Some(1000));
        for pid in ["43", "", "+42", "42 ", "x", "-42", "4294967338"] {
            assert_eq!(of("1", Some(pid)), None, "{pid:?}");
        }
        for micros in ["0", "", "-1", "+1", "1.5", "x", "18446744073709551615", "99999999999999999999"] {
            assert_eq!(of(micros, None), None, "{micros:?}");
        }
        assert_eq!(interval(None, None, 42), None);
        assert_eq!(interval(Some(&OsString::from_vec(vec![0xff])), None, 42), None);
    }
}
