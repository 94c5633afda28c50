//! READY_PORT: whether the child itself listens on a port.
//!
//! That something answers there proves nothing (L13): it may be the server of yesterday. So nobody connects; the kernel's
//! table says which sockets listen on the port, and `/proc` says who holds them. No doubt counts for the child: where its
//! descriptors may not be looked at (another user's process, or one that is not dumpable, and we are not root), the
//! answer is no.

pub(super) mod diag;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use super::notify;

/// The state of a listening socket in the kernel's tables.
const LISTEN: &str = "0A";

/// Whether a process of the group `group`, or one that descends from its leader, holds a TCP socket that listens on
/// `port` in the leader's network namespace. Looks at all of `/proc` only when somebody does and it is not the leader.
pub(crate) fn listens(port: u16, group: i32) -> bool {
    if port == 0 || group <= 0 {
        return false;
    }
    let sockets = if shares_network(group) { diag::listeners(port) } else { None };
    let sockets = sockets.unwrap_or_else(|| listeners(port, group));
    !sockets.is_empty() && (holds(group, &sockets) || others(group).into_iter().any(|pid| holds(pid, &sockets)))
}

/// Whether the child is in this thread's network namespace; false, too, when we are not allowed to know.
fn shares_network(child: i32) -> bool {
    let ours = fs::read_link("/proc/thread-self/ns/net");
    ours.is_ok_and(|ours| fs::read_link(format!("/proc/{child}/ns/net")).is_ok_and(|its| its == ours))
}

/// The inodes of the sockets that listen on `port` in the child's network namespace, from its tables.
fn listeners(port: u16, child: i32) -> Vec<u64> {
    let mut sockets = Vec::new();
    for table in ["tcp", "tcp6"] {
        if let Ok(file) = File::open(format!("/proc/{child}/net/{table}")) {
            add_listeners(BufReader::new(file), port, &mut sockets);
        }
    }
    sockets
}

/// Adds the inodes of the sockets that listen on `port`. The table may be long (it has all connections, too), so it is
/// read line by line.
pub(super) fn add_listeners(mut table: impl BufRead, port: u16, sockets: &mut Vec<u64>) {
    let mut line = Vec::new();
    while table.read_until(b'\n', &mut line).is_ok_and(|len| len != 0) {
        sockets.extend(std::str::from_utf8(&line).ok().and_then(|line| listener(line, port)));
        line.clear();
    }
}

/// The inode of a line's socket, if it listens on `port`: `slot: address:PORT peer:PORT STATE queues timer retries user
/// timeout inode ...`.
fn listener(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (_, here) = fields.nth(1)?.rsplit_once(':')?;
    if fields.nth(1)? != LISTEN || u16::from_str_radix(here, 16) != Ok(port) {
        return None;
    }
    // 0: a socket no process holds any more.
    fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)
}

/// Whether the process has one of these sockets among its descriptors.
fn holds(pid: i32, sockets: &[u64]) -> bool {
    let Ok(links) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    links.flatten().any(|link| {
        let target = fs::read_link(link.path()).unwrap_or_default();
        target.to_str().and_then(socket).is_some_and(|inode| sockets.contains(&inode))
    })
}

/// The inode in a descriptor's link.
fn socket(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The child's processes but its leader. Every process is looked at once, however long the lines it descends by.
fn others(group: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let all: HashMap<i32, notify::Kin> = pids.filter_map(|pid| Some((pid, notify::kin(pid)?))).collect();
    let own = |pid: &i32| *pid != group && notify::descends(*pid, group, |pid| all.get(&pid).copied());
    all.keys().copied().filter(own).collect()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::mem;
    use std::net::TcpListener;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::notify::tests::Family;
    use super::*;

    /// A child of its own group that does nothing, ended with the test.
    struct Sleeper(Child);

    impl Sleeper {
        fn new(configure: impl FnOnce(&mut Command)) -> io::Result<Sleeper> {
            let mut command = Command::new("sleep");
            command.arg("1000").process_group(0).stdin(Stdio::null());
            configure(&mut command);
            command.spawn().map(Sleeper)
        }

        /// It has `listener` for its standard output.
        fn holding(listener: TcpListener) -> Sleeper {
            Sleeper::new(|command| {
                command.stdout(OwnedFd::from(listener));
            })
            .unwrap()
        }

        fn group(&self) -> i32 {
            self.0.id() as i32
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn listener(address: &str) -> (TcpListener, u16) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_listener_of_the_child_is_ready() {
        for address in ["127.0.0.1", "0.0.0.0", "::1", "::"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind((address, 0)) else { continue };
            let port = listener.local_addr().unwrap().port();
            let child = Sleeper::holding(listener);
            assert!(listens(port, child.group()), "{address}");
            assert!(!listens(port ^ 1, child.group()) && !listens(0, child.group()));
        }
    }

    #[test]
    fn a_listener_of_somebody_else_is_not() {
        let (ours, port) = listener("127.0.0.1");
        let child = Sleeper::new(|_| ()).unwrap();
        assert!(!listens(port, child.group()), "it is this process that listens");
        let other = Sleeper::holding(ours);
        assert!(listens(port, other.group()));
        assert!(!listens(port, child.group()), "it is another child");
    }

    #[test]
    fn a_socket_that_does_not_listen_is_not() {
        let (server, port) = listener("127.0.0.1");
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (accepted, _) = server.accept().unwrap();
        drop(server);
        let child = Sleeper::new(|command| {
            command.stdout(OwnedFd::from(accepted));
        })
        .unwrap();
        assert!(!listens(port, child.group()), "a connection from that port");
        assert!(!listens(client.local_addr().unwrap().port(), child.group()));
    }

    #[test]
    fn a_listener_of_a_descendant_is_ready() {
        let (listener, port) = listener("127.0.0.1");
        let fd = listener.as_raw_fd();
        // SAFETY: a system call on a descriptor that is open here until the exec.
        let family = Family::new(move || unsafe {
            libc::dup2(fd, 1);
        });
        drop(listener);
        let sockets = listeners(port, family.group());
        assert!(!holds(family.group(), &sockets), "the leader has none");
        assert!(listens(port, family.group()));
    }

    #[test]
    fn the_kernel_and_its_tables_agree() {
        for address in ["127.0.0.1", "::1"] {
            let Ok(listener) = TcpListener::bind((address, 0)) else { continue };
            let port = listener.local_addr().unwrap().port();
            let own = std::process::id() as i32;
            let inode = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
            let inode = socket(inode.to_str().unwrap()).unwrap();
            assert!(shares_network(own));
            assert!(listeners(port, own).contains(&inode), "{address}");
            // Not every kernel answers.
            assert!(diag::listeners(port).is_none_or(|sockets| sockets.contains(&inode)), "{address}");
        }
    }

    #[test]
    fn one_of_several_listeners_is_enough() {
        let (first, port) = listener("127.0.0.1");
        let second = TcpListener::bind(("127.0.0.2", port)).unwrap();
        let child = Sleeper::holding(second);
        assert!(listens(port, child.group()));
        drop(first);
    }

    #[test]
    fn a_child_in_a_network_of_its_own_is_looked_at_there() {
        let (ours, port) = listener("127.0.0.1");
        let apart = |listen: bool| {
            Sleeper::new(|command| {
                command.stdout(Stdio::null());
                // SAFETY: system calls on a zeroed address, which is a valid one.
                unsafe { command.pre_exec(move || enter_new_network(listen.then_some(port))) };
            })
        };
        // Not everywhere is a process allowed to make one, and then there is nothing to be shown.
        let (Ok(idle), Ok(busy)) = (apart(false), apart(true)) else { return };
        assert!(!listens(port, idle.group()), "the listener is in our network");
        assert!(listens(port, busy.group()));
        drop(ours);
    }

    /// Between fork and exec. The listener becomes the standard output.
    fn enter_new_network(port: Option<u16>) -> io::Result<()> {
        let check = |rc: i32| if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) };
        // SAFETY: system calls; the address is readable.
        unsafe {
            check(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET))?;
            let Some(port) = port else { return Ok(()) };
            let mut address: libc::sockaddr_in = mem::zeroed();
            address.sin_family = libc::AF_INET as libc::sa_family_t;
            address.sin_port = port.to_be();
            let fd = check(libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0))?;
            let size = mem::size_of_val(&address) as libc::socklen_t;
            check(libc::bind(fd, (&raw const address).cast(), size))?;
            check(libc::listen(fd, 1))?;
            check(libc::dup2(fd, 1))?;
        }
        Ok(())
    }

    #[test]
    fn a_child_that_is_gone_does_not_listen() {
        let (listener, port) = listener("127.0.0.1");
        let mut child = Sleeper::holding(listener);
        child.0.kill().unwrap();
        child.0.wait().unwrap();
        assert!(!listens(port, child.group()));
        assert!(!listens(port, 0) && !listens(port, -1) && !listens(port, i32::MAX));
    }

    #[test]
    fn lines_of_the_table_are_understood_or_left_out() {
        let of = |line: &str| super::listener(line, 8080);
        let four =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31337 1 0 100";
        let six =
            "12345: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7 1 0";
        assert_eq!((of(four), of(six)), (Some(31337), Some(7)));
        assert_eq!(of(&four.replace("1F90", "1F91")), None);
        assert_eq!(of(&four.replace(" 0A ", " 01 ")), None, "a connection");
        assert_eq!(of(&four.replace("31337", "0")), None, "nobody's");
        assert_eq!(
            of("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"),
            None
        );
        for end in 0..four.len() {
            of(&four[..end]);
        }
        for odd in ["", "\n", ": : :", "0: 1F90 0 0A", "0: :1F90 0 0A 0 0 0 0 0 x", "0: :11F90 0 0A 0 0 0 0 0 5"] {
            assert_eq!(of(odd), None, "{odd:?}");
        }
        let mut sockets = Vec::new();
        add_listeners(format!("\u{fe}\n{four}\nnonsense\n{six}").as_bytes(), 8080, &mut sockets);
        add_listeners(&b"\xff\xfe\n\xff"[..], 8080, &mut sockets);
        assert_eq!(sockets, [31337, 7]);
    }

    #[test]
    fn links_of_descriptors_are_understood() {
        assert_eq!(socket("socket:[31337]"), Some(31337));
        for other in
            ["", "socket:[]", "socket:[-1]", "socket:[1", "pipe:[1]", "/tmp/socket:[1]", "anon_inode:[eventfd]"]
        {
            assert_eq!(socket(other), None, "{other:?}");
        }
    }
}
