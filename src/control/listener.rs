//! Where the server listens: a socket of the file system or a port, had before `serve` answers, gone when it is freed.

use std::ffi::{CString, OsStr};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use tokio_rustls::rustls::ServerConfig;

use super::ServeOptions;
use super::address::{Address, Files};
use super::tls;
use crate::error::{Error, Result, Status};
use crate::linux::process::pidfd_of;
use crate::linux::socket::{self, Directory, Found};
use crate::linux::{self, poll};

/// A listening socket.
pub(super) struct Listener {
    pub(super) socket: OwnedFd,
    /// As a client can use it: with the real port.
    pub(super) address: String,
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Of a socket of the file system.
    pub(super) name: Option<Name>,
}

/// A name in the file system: ours until somebody else takes it.
pub(super) struct Name {
    directory: Directory,
    name: CString,
    found: Found,
    /// The directory, if it was made for this; a whole path, whatever the working directory will be.
    made: Option<PathBuf>,
}

impl Listener {
    pub(super) fn open(options: &ServeOptions) -> Result<Listener> {
        let Some(address) = &options.address else { return private(options.tls.as_ref()) };
        match Address::parse(address)? {
            Address::Unix(path) => {
                refuse_tls(options.tls.as_ref())?;
                let (socket, name) = unix(&path)?;
                Ok(Listener { socket, address: Address::Unix(path).to_string(), tls: None, name: Some(name) })
            }
            Address::Tcp { host, port, tls } => {
                if tls.is_some() && options.tls.is_some() {
                    return Err(Error::argument(format!("address {address:?} names TLS files, and so do the options")));
                }
                tcp(host, port, options.tls.as_ref().or(tls.as_ref()))
            }
        }
    }
}

fn refuse_tls(files: Option<&Files>) -> Result<()> {
    match files {
        None => Ok(()),
        Some(_) => Err(Error::argument("a unix socket knows its clients by their user: TLS files are for tcp")),
    }
}

/// A socket of this process alone.
fn private(files: Option<&Files>) -> Result<Listener> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    refuse_tls(files)?;
    let number = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
    let open = |path: PathBuf| {
        let (socket, name) = unix(&path)?;
        Ok(Listener { socket, address: Address::Unix(path).to_string(), tls: None, name: Some(name) })
    };
    // The directory that the system keeps for this user, if there is one; else one of our own, which `unix` makes.
    let kept = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| Path::new(directory).is_absolute());
    if let Some(Ok(listener)) = kept.map(|directory| open(Path::new(&directory).join(format!("podkeep-{number}.sock"))))
    {
        return Ok(listener);
    }
    sweep();
    let name = format!("{PRIVATE}{number}-{:08x}", linux::random());
    open(Path::new(TEMPORARY).join(name).join(SOCKET))
}

/// A directory of one's own, for one socket: `/tmp/podkeep-PID-...`.
const TEMPORARY: &str = "/tmp";
const PRIVATE: &str = "podkeep-";
const SOCKET: &str = "control.sock";

/// Removes what processes of this user have left behind there: they ended without freeing it.
fn sweep() {
    let (Ok(entries), Ok(name)) = (std::fs::read_dir(TEMPORARY), CString::new(SOCKET)) else { return };
    for entry in entries.flatten() {
        // A process that is not seen may be another namespace's: it is asked.
        let pid =
            entry.file_name().to_str().and_then(|name| name.strip_prefix(PRIVATE)?.split('-').next()?.parse().ok());
        if !pid.is_some_and(has_ended) || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Ok(directory) = Directory::open(&entry.path()) else { continue };
        let is_own = directory.itself().is_ok_and(|itself| itself.owner == socket::user());
        if !is_own || directory.try_lock().is_err() {
            continue;
        }
        let socket = entry.path().join(SOCKET);
        let left = directory.find(&name).is_ok_and(|found| refuse_if_used(&socket, found, Duration::ZERO).is_ok());
        if left && directory.unlink(&name).is_ok() {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

fn refused(path: &Path, what: &str, error: i32) -> Error {
    let status = match error {
        libc::EACCES | libc::EPERM | libc::EROFS => Status::Denied,
        libc::ENAMETOOLONG | libc::ENOTDIR | libc::ELOOP | libc::EINVAL => Status::InvalidArgument,
        libc::ENOENT => Status::NotFound,
        _ => Status::Resources,
    };
    Error::new(status, format!("socket {path:?}: {what}: {}", linux::describe(error)))
}

/// How long another server may take to look at the same directory.
const LOCK_TIME: Duration = Duration::from_secs(2);

fn lock(directory: &Directory) -> std::result::Result<(), i32> {
    let until = linux::now() + LOCK_TIME.as_nanos() as u64;
    loop {
        match directory.try_lock() {
            Err(libc::EWOULDBLOCK | libc::EINTR) if linux::now() < until => {
                std::thread::sleep(Duration::from_millis(1)); // nobody tells when it is free
            }
            done => return done,
        }
    }
}

/// Takes a name for a listening socket. What servers do in one directory they do one after the other, so that of two that
/// find a name left behind one takes it and the other is told so.
fn unix(path: &Path) -> Result<(OwnedFd, Name)> {
    let name = path.file_name().unwrap_or(OsStr::new(""));
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = CString::new(name.as_bytes()).map_err(|_| Error::argument("a path has a NUL inside"))?;
    if name.is_empty() {
        return Err(Error::argument(format!("socket {path:?}: a path ends with the socket's name")));
    }
    let (directory, made) = hold(path, parent)?;
    let held = claim(path, &directory, &name);
    if let (Err(_), Some(made)) = (&held, &made) {
        let _ = std::fs::remove_dir(made);
    }
    directory.unlock();
    held.map(|(socket, found)| (socket, Name { directory, name, found, made }))
}

/// A directory may be removed by the server that made it just before another one that wants it has its lock.
const TRIES: u32 = 100;

/// The socket's directory, locked, and if it was made here its whole path.
fn hold(path: &Path, parent: &Path) -> Result<(Directory, Option<PathBuf>)> {
    let opened = |error| refused(path, &format!("its directory {parent:?} cannot be opened"), error);
    let mut failed = libc::ENOENT;
    for _ in 0..TRIES {
        let mut made = None;
        let directory = match Directory::open(parent) {
            Err(libc::ENOENT) => match socket::make_directory(parent) {
                Ok(()) => {
                    made = Some(std::path::absolute(parent).unwrap_or_else(|_| parent.to_owned()));
                    Directory::open(parent).map_err(|error| {
                        let _ = std::fs::remove_dir(parent);
                        opened(error)
                    })?
                }
                // By another one just now; or a link to nothing has the name.
                Err(error @ libc::EEXIST) => {
                    failed = error;
                    continue;
                }
                Err(error) => {
                    return Err(refused(
                        path,
                        &format!("its directory {parent:?} is not there and cannot be made"),
                        error,
                    ));
                }
            },
            opening => opening.map_err(opened)?,
        };
        refuse_anothers(path, parent, &directory)?;
        lock(&directory).map_err(|error| refused(path, "others hold its directory locked", error))?;
        if directory.is_at(parent) {
            return Ok((directory, made));
        }
    }
    Err(refused(path, &format!("its directory {parent:?} is not there and cannot be made"), failed))
}

/// Its owner can put a socket of his own in the place of this one.
fn refuse_anothers(path: &Path, parent: &Path, directory: &Directory) -> Result<()> {
    let itself = directory.itself().map_err(|error| refused(path, "its directory cannot be looked at", error))?;
    if itself.owner != socket::user() && itself.owner != 0 {
        let owner = itself.owner;
        return Err(Error::new(
            Status::Denied,
            format!("socket {path:?}: its directory {parent:?} is of user {owner}, who could put another in its place"),
        ));
    }
    Ok(())
}

/// Of a directory that is locked.
fn claim(path: &Path, directory: &Directory, name: &CString) -> Result<(OwnedFd, Found)> {
    match directory.find(name) {
        Err(libc::ENOENT) => {}
        Err(error) => return Err(refused(path, "it cannot be looked at", error)),
        Ok(found) => {
            refuse_if_used(path, found, PATIENCE)?;
            match directory.unlink(name) {
                Ok(()) | Err(libc::ENOENT) => {} // its server has removed it itself
                Err(error) => return Err(refused(path, "the one left behind cannot be removed", error)),
            }
        }
    }
    let socket = socket::unix().map_err(|error| refused(path, "no socket", error))?;
    socket::bind_unix(&socket, path).map_err(|error| match error {
        libc::EADDRINUSE => Error::state(format!("socket {path:?}: something of that name was made just now")),
        error => refused(path, "it cannot be made", error),
    })?;
    let found = directory.find(name).ok().filter(|found| found.is_socket());
    let found = found.ok_or_else(|| Error::state(format!("socket {path:?}: it was removed at once by another")))?;
    if let Err(error) = socket::listen(&socket) {
        let _ = directory.unlink(name);
        return Err(refused(path, "it cannot listen", error));
    }
    Ok((socket, found))
}

/// How long whoever has a listening socket of a process that has ended may take to let in, and to take what is said.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a client of ours begins with; whoever listens there is to take it, or to close.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Refuses a name that is used: by what is no socket, or by one at which somebody listens.
fn refuse_if_used(path: &Path, found: Found, patience: Duration) -> Result<()> {
    if !found.is_socket() {
        return Err(Error::state(format!(
            "socket {path:?}: something that is no socket has that name; it is not touched"
        )));
    }
    let listener = match socket::connect_unix(path) {
        Err(libc::ECONNREFUSED | libc::ENOENT) => return Ok(()),
        Err(libc::EACCES | libc::EPERM) => {
            return Err(Error::new(Status::Denied, format!("socket {path:?}: there is one of another user")));
        }
        Err(libc::EAGAIN) => None,
        Err(error) => return Err(refused(path, "one is there and cannot be asked who listens", error)),
        Ok(socket) => {
            // The child of a fork may hold what its dead parent listened at, and nobody serves there; or it serves, as a daemon
            // does that its parent has sent into the background.
            let maker = socket::peer(&socket).map(|(pid, _)| pid).filter(|&pid| pid > 0);
            let has_ended = maker.is_some_and(has_ended);
            if has_ended && !socket::is_taken(&socket, PREFACE, patience) {
                return Ok(());
            }
            maker.filter(|_| !has_ended)
        }
    };
    let who = listener.map_or("somebody".to_owned(), |pid| format!("process {pid}"));
    Err(Error::state(format!("socket {path:?}: {who} listens there")))
}

fn has_ended(pid: i32) -> bool {
    match pidfd_of(pid) {
        Ok(process) => poll::has_bytes(&process), // readable once it has ended, reaped or not
        Err(error) => error == libc::ESRCH,
    }
}

impl Drop for Name {
    /// Removes the name if it is this socket's still.
    fn drop(&mut self) {
        // No other server takes it while this one still listens: that needs no lock, for which it would have to wait.
        let now = self.directory.find(&self.name);
        if now.is_ok_and(|now| (now.device, now.inode) == (self.found.device, self.found.inode)) {
            let _ = self.directory.unlink(&self.name);
        }
        // Who has the lock is about to put something there; who waits for it sees that the directory is gone.
        if let Some(made) = &self.made
            && self.directory.try_lock().is_ok()
        {
            if self.directory.is_at(made) {
                let _ = std::fs::remove_dir(made); // if nobody else has put something there
            }
            self.directory.unlock();
        }
    }
}

fn tcp(host: String, port: u16, files: Option<&Files>) -> Result<Listener> {
    let found = Address::resolve(&host, port)?;
    if files.is_none()
        && let Some(open) = found.iter().find(|address| !address.ip().to_canonical().is_loopback())
    {
        return Err(Error::new(
            Status::Denied,
            format!(
                "{host:?} is {}, which other machines can reach: give cert, key and client_ca for mutual TLS, or use \
                 127.0.0.1 or a unix socket",
                open.ip()
            ),
        ));
    }
    let tls = files.map(tls::server_config).transpose()?;
    let mut last = None;
    for address in found {
        match socket::tcp(address).and_then(|socket| socket::listen(&socket).map(|()| socket)) {
            Ok(socket) => {
                let port = local_port(&socket).unwrap_or(port);
                return Ok(Listener {
                    socket,
                    address: Address::Tcp { host, port, tls: None }.to_string(),
                    tls,
                    name: None,
                });
            }
            Err(error) => last = Some((address, error)),
        }
    }
    Err(match last {
        Some((address, libc::EADDRINUSE)) => {
            Error::state(format!("tcp {address}: another one listens there; port 0 picks a free one"))
        }
        Some((address, error @ (libc::EACCES | libc::EPERM))) => {
            Error::new(Status::Denied, format!("tcp {address}: {}", linux::describe(error)))
        }
        Some((address, error @ libc::EADDRNOTAVAIL)) => {
            Error::argument(format!("tcp {address}: {}", linux::describe(error)))
        }
        Some((address, error)) => Error::resources(format!("tcp {address}: {}", linux::describe(error))),
        None => Error::argument(format!("{host:?} has no address")),
    })
}

fn local_port(socket: &OwnedFd) -> Option<u16> {
    let listener = std::net::TcpListener::from(socket.try_clone().ok()?);
    listener.local_addr().ok().map(|address: SocketAddr| address.port())
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    /// Nobody connects any more, whoever holds a copy of the descriptor; and who was not let in yet hears so, who would else
    /// wait for as long as the copy is there.
    fn drop(&mut self) {
        drop(self.name.take());
        socket::end(self.socket.as_raw_fd());
        while let Ok(waiting) = socket::accept(self.socket.as_fd()) {
            socket::end(waiting.as_raw_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn fresh(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("podkeep-listener-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path); // another process of this number has failed
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// How many descriptors of this process have a directory open.
    fn opened(directory: &Path) -> usize {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        descriptors.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|path| path == directory)).count()
    }

    #[test]
    fn a_directory_that_its_maker_removes_is_made_anew() {
        let outer = fresh("anew");
        let directory = outer.join("made");
        let (socket, name) = unix(&directory.join("old.sock")).unwrap();
        name.directory.try_lock().unwrap();
        let wanted = directory.join("new.sock");
        let newer = thread::spawn(move || unix(&wanted).map(|(_, name)| drop(name)).map_err(|error| error.sentence));
        // It waits for the lock of the directory that the older one is about to remove.
        while opened(&directory) < 2 {
            assert!(!newer.is_finished(), "{:?}", newer.join());
            thread::yield_now();
        }
        drop(name);
        assert_eq!(newer.join().unwrap(), Ok(()));
        drop(socket);
        std::fs::remove_dir(outer).expect("both have removed what they had made");
    }

    #[test]
    fn a_name_goes_although_another_one_holds_the_directory() {
        let directory = fresh("held");
        let (_socket, name) = unix(&directory.join("pod.sock")).unwrap();
        let other = Directory::open(&directory).unwrap();
        other.try_lock().unwrap();
        drop(name);
        std::fs::remove_dir(directory).expect("it is empty");
    }
}
