//! Who listens, asked of the kernel directly (sock_diag(7)).
//!
//! The tables in `/proc/net` end with all connections: to read one to its end takes the kernel through a hash that grows
//! with the machine's memory, some milliseconds even when it is empty. A probe is made many times, and this takes some
//! hundredth of that. It answers for our own network namespace only, and not on every kernel.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};

/// A message's head: length and type, flags, sequence, port.
const HEAD: usize = 16;
/// A request for a dump: the head, and struct inet_diag_req_v2.
const REQUEST: usize = HEAD + 56;
/// struct inet_diag_msg.
const ANSWER: usize = 72;
/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// TCP_LISTEN.
const LISTEN: u32 = 10;

/// The inodes of the sockets that listen on `port` in this thread's network namespace; `None`: the kernel does not say.
pub(super) fn listeners(port: u16) -> Option<Vec<u64>> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: a new descriptor, owned by the result.
    let mut kernel = unsafe {
        let fd = libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_SOCK_DIAG);
        if fd < 0 {
            return None;
        }
        File::from(OwnedFd::from_raw_fd(fd))
    };
    let mut sockets = Vec::new();
    // As large as the largest piece of a dump.
    let mut piece = vec![0; 32 * 1024];
    for family in [libc::AF_INET, libc::AF_INET6] {
        if kernel.write(&request(family as u8, port)).ok()? != REQUEST {
            return None;
        }
        loop {
            // Does not wait: each piece is there as soon as the one before was read.
            let len = kernel.read(&mut piece).ok()?;
            if add_listeners(&piece[..len], port, &mut sockets)? == Piece::Last {
                break;
            }
        }
    }
    Some(sockets)
}

fn request(family: u8, port: u16) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    bytes[0..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    bytes[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16).to_ne_bytes());
    bytes[16] = family;
    bytes[17] = libc::IPPROTO_TCP as u8;
    bytes[20..24].copy_from_slice(&(1u32 << LISTEN).to_ne_bytes());
    bytes[24..26].copy_from_slice(&port.to_be_bytes());
    bytes
}

#[derive(PartialEq, Eq, Debug)]
pub(in crate::host::process) enum Piece {
    Last,
    More,
}

/// `None`: an error, or not what was asked for.
pub(in crate::host::process) fn add_listeners(mut piece: &[u8], port: u16, sockets: &mut Vec<u64>) -> Option<Piece> {
    if piece.is_empty() {
        return None;
    }
    while !piece.is_empty() {
        let len = u32::from_ne_bytes(field(piece, 0)?) as usize;
        let body = piece.get(HEAD..len)?;
        match u16::from_ne_bytes(field(piece, 4)?) {
            BY_FAMILY if body.len() >= ANSWER => {
                let state = u32::from(body[1]);
                let inode = u32::from_ne_bytes(field(body, 68)?);
                if state == LISTEN && u16::from_be_bytes(field(body, 4)?) == port && inode != 0 {
                    sockets.push(inode.into());
                }
            }
            // It may end with an error, like the lack of a module.
            kind if kind == libc::NLMSG_DONE as u16 => {
                let error = field(body, 0).map_or(0, i32::from_ne_bytes);
                return (error == 0).then_some(Piece::Last);
            }
            kind if kind == libc::NLMSG_NOOP as u16 => (),
            _ => return None,
        }
        piece = piece.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Piece::More)
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = ((HEAD + body.len()) as u32).to_ne_bytes();
        [&len[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
    }

    fn answer(port: u16, state: u8, inode: u32) -> Vec<u8> {
        let mut body = [0; ANSWER + 8];
        body[1] = state;
        body[4..6].copy_from_slice(&port.to_be_bytes());
        body[68..72].copy_from_slice(&inode.to_ne_bytes());
        message(BY_FAMILY, &body)
    }

    fn read(piece: &[u8]) -> (Option<Piece>, Vec<u64>) {
        let mut sockets = Vec::new();
        (add_listeners(piece, 8080, &mut sockets), sockets)
    }

    fn done(error: i32) -> Vec<u8> {
        message(libc::NLMSG_DONE as u16, &error.to_ne_bytes())
    }

    #[test]
    fn answers_are_understood() {
        let two =
            [answer(8080, 10, 7), answer(8081, 10, 8), answer(8080, 1, 9), answer(8080, 10, 0), answer(8080, 10, 5)];
        assert_eq!(read(&two.concat()), (Some(Piece::More), vec![7, 5]));
        assert_eq!(read(&[answer(8080, 10, 7), done(0)].concat()), (Some(Piece::Last), vec![7]));
        assert_eq!(read(&message(libc::NLMSG_DONE as u16, b"")).0, Some(Piece::Last));
        assert_eq!(read(&done(-libc::ENOENT)).0, None);
        assert_eq!(read(&message(libc::NLMSG_ERROR as u16, &(-libc::EPERM).to_ne_bytes())).0, None);
    }

    #[test]
    fn odd_answers_do_no_harm() {
        let whole = [answer(8080, 10, 7), done(0)].concat();
        for end in 0..whole.len() {
            assert_ne!(read(&whole[..end]).0, Some(Piece::Last), "{end}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 15, 17, 0x7f, 0xff] {
                let mut odd = whole.clone();
                odd[at] = value;
                read(&odd);
            }
        }
        assert_eq!(read(&[0; 64]).0, None, "a length of 0 would be read for ever");
    }
}
