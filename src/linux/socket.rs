//! Sockets of the control service: listening ones, what comes in there, and who is at the other end.

use std::ffi::{CString, c_int};
use std::mem::{size_of, zeroed};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;
use std::time::Duration;

use super::errno;
use super::process::owned;

/// Connections that wait to be accepted; the system's own maximum is mostly 4096.
const BACKLOG: c_int = 1024;
const FLAGS: c_int = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;

/// A socket of the file system that is not bound yet. Its name will be of mode 0600: Linux takes it from the socket.
pub(crate) fn unix() -> Result<OwnedFd, c_int> {
    // SAFETY: numbers only.
    let socket = owned(unsafe { libc::socket(libc::AF_UNIX, FLAGS, 0) })?;
    // SAFETY: a descriptor of ours.
    match unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) } {
        0 => Ok(socket),
        _ => Err(errno()),
    }
}

/// The address of a path; ENAMETOOLONG: it does not fit.
fn unix_address(path: &Path) -> Result<libc::sockaddr_un, c_int> {
    // SAFETY: zeroes are an address without a name.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(libc::ENAMETOOLONG);
    }
    for (to, &from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from as _;
    }
    Ok(address)
}

/// Gives a socket its name in the file system.
pub(crate) fn bind_unix(socket: &OwnedFd, path: &Path) -> Result<(), c_int> {
    let address = unix_address(path)?;
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: a whole address.
    match unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// Connects to a name of the file system, without waiting.
pub(crate) fn connect_unix(path: &Path) -> Result<OwnedFd, c_int> {
    let address = unix_address(path)?;
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: numbers, and a whole address.
    unsafe {
        let socket = owned(libc::socket(libc::AF_UNIX, FLAGS, 0))?;
        match libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) {
            0 => Ok(socket),
            _ => Err(errno()),
        }
    }
}

/// Whether the other end of a socket of the file system takes what is said to it, answers or closes, within `patience`. Of
/// a connection that nobody lets in it does nothing of that.
pub(crate) fn is_taken(socket: &OwnedFd, said: &[u8], patience: Duration) -> bool {
    let until = super::now() + patience.as_nanos() as u64;
    // SAFETY: as many bytes as are told.
    let sent = unsafe { libc::send(socket.as_raw_fd(), said.as_ptr().cast(), said.len(), libc::MSG_NOSIGNAL) };
    loop {
        let mut waiting: c_int = 0;
        let mut poll = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: a number is written; one entry. That something was read there is nothing to wait for: it is looked at
        // each millisecond.
        unsafe {
            let known = libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &mut waiting) == 0;
            if sent < 0 || known && waiting == 0 || libc::poll(&mut poll, 1, 1) > 0 {
                return true;
            }
        }
        if super::now() >= until {
            return false;
        }
    }
}

/// A socket that is bound to `address`, not yet listening.
pub(crate) fn tcp(address: SocketAddr) -> Result<OwnedFd, c_int> {
    // SAFETY: plain data; as many bytes as are told.
    unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                let to = (&raw mut storage).cast::<libc::sockaddr_in>();
                (*to).sin_family = libc::AF_INET as libc::sa_family_t;
                (*to).sin_port = v4.port().to_be();
                (*to).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                (libc::AF_INET, size_of::<libc::sockaddr_in>())
            }
            SocketAddr::V6(v6) => {
                let to = (&raw mut storage).cast::<libc::sockaddr_in6>();
                (*to).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*to).sin6_port = v6.port().to_be();
                (*to).sin6_addr.s6_addr = v6.ip().octets();
                (*to).sin6_scope_id = v6.scope_id();
                (libc::AF_INET6, size_of::<libc::sockaddr_in6>())
            }
        };
        let socket = owned(libc::socket(family, FLAGS, 0))?;
        let one: c_int = 1;
        // A port whose last connections are still in TIME_WAIT is free.
        let (fd, size) = (socket.as_raw_fd(), size_of::<c_int>() as libc::socklen_t);
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, (&raw const one).cast(), size);
        match libc::bind(fd, (&raw const storage).cast(), length as libc::socklen_t) {
            0 => Ok(socket),
            _ => Err(errno()),
        }
    }
}

pub(crate) fn listen(socket: &OwnedFd) -> Result<(), c_int> {
    // SAFETY: numbers only.
    match unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// The next connection; EAGAIN: there is none.
pub(crate) fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd, c_int> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: who it is is asked elsewhere.
    owned(unsafe { libc::accept4(socket.as_raw_fd(), ptr::null_mut(), ptr::null_mut(), flags) })
}

/// Who is at the other end of a socket of the file system: process and user. Of a listening process what it was when it
/// began to listen.
pub(crate) fn peer(socket: &OwnedFd) -> Option<(i32, u32)> {
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: plain data and its size.
    unsafe {
        let mut peer: libc::ucred = zeroed();
        let (level, name) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        let found = libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut peer).cast(), &mut length) == 0;
        found.then_some((peer.pid, peer.uid))
    }
}

/// Ends what is said on a socket, whoever holds a copy of its descriptor: the child of a fork may. By its number, which the
/// caller knows to be the socket's.
pub(crate) fn end(socket: c_int) {
    // SAFETY: numbers only.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

/// Small answers go at once.
pub(crate) fn send_at_once(socket: &OwnedFd) {
    let one: c_int = 1;
    let size = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: four readable bytes.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const one).cast(), size)
    };
}

/// What a name of a directory stands for: device, inode, mode, owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
}

impl Found {
    fn of(stat: &libc::stat) -> Found {
        Found { device: stat.st_dev, inode: stat.st_ino, mode: stat.st_mode, owner: stat.st_uid }
    }
    pub(crate) fn is_socket(self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFSOCK
    }
}

/// A directory that is held, so that what is asked and done there is about the same one, whatever becomes of its name.
pub(crate) struct Directory(OwnedFd);

impl Directory {
    pub(crate) fn open(path: &Path) -> Result<Directory, c_int> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: a string that ends with NUL.
        owned(unsafe { libc::open(path.as_ptr(), flags) }).map(Directory)
    }
    pub(crate) fn itself(&self) -> Result<Found, c_int> {
        // SAFETY: plain data, written by the call.
        unsafe {
            let mut stat = zeroed();
            if libc::fstat(self.0.as_raw_fd(), &mut stat) != 0 {
                return Err(errno());
            }
            Ok(Found::of(&stat))
        }
    }
    /// Whether `path` is still its name.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let (own, now) = (self.itself(), std::fs::metadata(path));
        own.is_ok_and(|own| now.is_ok_and(|now| (own.device, own.inode) == (now.dev(), now.ino())))
    }
    /// What `name` is here; a link is itself.
    pub(crate) fn find(&self, name: &CString) -> Result<Found, c_int> {
        // SAFETY: plain data, written by the call; a string that ends with NUL.
        unsafe {
            let mut stat = zeroed();
            if libc::fstatat(self.0.as_raw_fd(), name.as_ptr(), &mut stat, libc::AT_SYMLINK_NOFOLLOW) != 0 {
                return Err(errno());
            }
            Ok(Found::of(&stat))
        }
    }
    pub(crate) fn unlink(&self, name: &CString) -> Result<(), c_int> {
        // SAFETY: a string that ends with NUL.
        match unsafe { libc::unlinkat(self.0.as_raw_fd(), name.as_ptr(), 0) } {
            0 => Ok(()),
            _ => Err(errno()),
        }
    }
    /// Among those that ask for it, one at a time; EWOULDBLOCK: another one has it.
    pub(crate) fn try_lock(&self) -> Result<(), c_int> {
        // SAFETY: numbers only.
        match unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } {
            0 => Ok(()),
            _ => Err(errno()),
        }
    }
    pub(crate) fn unlock(&self) {
        // SAFETY: numbers only.
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// Makes a directory for this user alone.
pub(crate) fn make_directory(path: &Path) -> Result<(), c_int> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)?;
    // SAFETY: a string that ends with NUL.
    match unsafe { libc::mkdir(path.as_ptr(), 0o700) } {
        0 => Ok(()),
        _ => Err(errno()),
    }
}

/// The user as whom this process acts.
pub(crate) fn user() -> u32 {
    // SAFETY: no arguments.
    unsafe { libc::geteuid() }
}

/// How many descriptors this process may have.
pub(crate) fn most_descriptors() -> u64 {
    // SAFETY: plain data, written by the call.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 { limit.rlim_cur } else { 1024 }
    }
}
