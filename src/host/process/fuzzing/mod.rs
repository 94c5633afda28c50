//! What must hold for whatever bytes come to a host from its child, to a child from its host, and from the kernel. `fuzz/`
//! looks for bytes for which it does not; here a test looks at those that are kept in `fuzz/corpus`.

use super::frame::{Frame, LARGEST, Reader};
use super::notify::{self as words, Word};
use super::port::{self, diag};
use super::stderr::{KEPT, LINE, Stderr};
use crate::fuzzing::Script;

mod both;
mod fake;
mod host;
mod memory;

pub use both::both;
pub use host::host;
pub use memory::memory;

/// The parts of `bytes`, as long as they say themselves.
fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(*rest.first()?) % 9 + 1;
        rest.split_off(..length.min(rest.len()))
    })
}

/// Bytes of the channel: they are the same frames in whatever pieces they come, and a frame that was read is written as it
/// was.
pub fn frames(data: &[u8]) {
    let whole = read(std::iter::once(data));
    assert_eq!(whole, read(data.chunks(1)), "byte by byte");
    assert_eq!(whole, read(parts(data)), "in pieces");
    let mut at = 0;
    for frame in whole.frames {
        let mut written = Vec::new();
        frame.write(&mut written);
        assert_eq!(read(std::iter::once(&*written)).frames, [frame], "written and read");
        let length = u32::from_le_bytes(*data[at..].first_chunk().unwrap()) as usize;
        let came = &data[at..at + 4 + length];
        // A message is a C string from here on.
        assert!(written == came || came[4 + 1 + 6..].contains(&0), "{written:?} was {came:?}");
        at += came.len();
    }
}

#[derive(PartialEq, Eq, Debug)]
struct Read {
    frames: Vec<Frame>,
    /// Why no more is read.
    refused: Option<String>,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut all = Read { frames: Vec::new(), refused: None };
    let mut reader = Reader::default();
    for piece in pieces {
        let held = reader.rest();
        reader.feed(piece);
        assert_eq!(reader.rest(), held + piece.len());
        while let Some(frame) = reader.next() {
            match frame {
                Ok(frame) => all.frames.push(frame),
                Err(sentence) => return Read { refused: Some(sentence), ..all },
            }
        }
        assert!(reader.rest() < 4 + LARGEST);
    }
    all
}

/// A datagram to NOTIFY_SOCKET, and a command's name in `/proc`.
pub fn notify(data: &[u8]) {
    let heard = words::parse(data);
    let text = data.strip_suffix(b"\0").unwrap_or(data);
    if text.contains(&0) {
        assert!(heard.is_empty());
    } else {
        let by_line: Vec<Word> = text.split(|&byte| byte == b'\n').flat_map(words::parse).collect();
        assert_eq!(heard, by_line, "no line says what another means");
    }
    for word in heard {
        if let Some(line) = line(&word) {
            assert_eq!(words::parse(line.as_bytes()), [word], "{line:?}");
        }
    }
    // Whatever a process is called, its kin stands behind the name.
    let named = [b"7 (", data, b") S 3 4 5 6"].concat();
    assert_eq!(words::kin_in(&named), Some(words::Kin { parent: 3, group: 4 }));
    words::kin_in(data);
    received(data);
}

/// The line that says a word; `None`: several do.
fn line(word: &Word) -> Option<String> {
    Some(match word {
        Word::Status(text) => format!("STATUS={text}"),
        Word::ExtendMicros(micros) => format!("EXTEND_TIMEOUT_USEC={micros}"),
        Word::MainPid(pid) => {
            assert!(*pid > 0);
            format!("MAINPID={pid}")
        }
        Word::Errno(number) => {
            assert!((1..=4095).contains(number));
            format!("ERRNO={number}")
        }
        _ => return None,
    })
}

/// The same bytes through a socket: too long they say nothing.
fn received(data: &[u8]) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    thread_local! {
        static ENDS: (words::Socket, UnixDatagram, SocketAddr) = {
            let socket = words::Socket::new().unwrap();
            let address = SocketAddr::from_abstract_name(&socket.address()[1..]).unwrap();
            (socket, UnixDatagram::unbound().unwrap(), address)
        };
    }
    ENDS.with(|(socket, sender, address)| {
        sender.send_to_addr(data, address).unwrap();
        let datagram = socket.receive().unwrap();
        assert_eq!(datagram.sender, crate::linux::process::own_pid());
        assert_eq!(datagram.words, if data.len() > words::LONGEST { Vec::new() } else { words::parse(data) });
        assert!(socket.receive().is_none());
    });
}

/// The kernel's answers about who listens, by sock_diag and as a table of `/proc/net`.
pub fn kernel(data: &[u8]) {
    let mut script = Script(data);
    let port = u16::from_le_bytes(script.number());
    let mut sockets = vec![1];
    let end = diag::add_listeners(script.0, port, &mut sockets);
    assert_eq!(sockets[0], 1);
    assert!(sockets.len() - 1 <= script.0.len() / 88, "a socket takes 88 bytes");
    if end == Some(diag::Piece::Last) {
        let mut again = vec![1];
        assert_eq!(
            diag::add_listeners(&[script.0, b"more"].concat(), port, &mut again),
            end,
            "what follows is not read"
        );
        assert_eq!(again, sockets);
    }
    let mut whole = Vec::new();
    port::add_listeners(script.0, port, &mut whole);
    let mut by_line = Vec::new();
    script.0.split_inclusive(|&byte| byte == b'\n').for_each(|line| port::add_listeners(line, port, &mut by_line));
    assert_eq!(whole, by_line);
    assert!(!whole.contains(&0));
}

/// What a child writes to its stderr: the same lines and the same end in whatever pieces it comes.
pub fn stderr(data: &[u8]) {
    let mut script = Script(data);
    let times = match script.byte() {
        Some(255) => KEPT / script.0.len().max(1) + 1, // more than is kept
        _ => 1,
    };
    let text = script.0.repeat(times);
    let whole = said(std::iter::once(&*text));
    assert_eq!(whole, said(parts(&text)), "in pieces");
    assert!(whole.lengths.iter().all(|&length| length <= LINE));
    assert!(whole.told.iter().eq(text.iter().filter(|&&byte| byte != b'\n')), "every byte is told once");
    let kept = &text[text.len().saturating_sub(KEPT)..];
    let kept = (!kept.is_empty()).then(|| crate::failure::c_string(&String::from_utf8_lossy(kept)));
    assert_eq!(whole.end, kept);
}

#[derive(Default, PartialEq, Eq, Debug)]
struct Said {
    /// All lines, and how long each is.
    told: Vec<u8>,
    lengths: Vec<usize>,
    end: Option<std::ffi::CString>,
}

fn said<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Said {
    let (mut stderr, mut said) = (Stderr::default(), Said::default());
    let mut tell = |line: &[u8]| {
        said.told.extend(line);
        said.lengths.push(line.len());
    };
    pieces.for_each(|piece| stderr.take(piece, &mut tell));
    said.end = stderr.close(tell);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_hold_does_for_all_that_is_kept() {
        crate::fuzzing::replay(&[
            ("both", both),
            ("frames", frames),
            ("host", host),
            ("kernel", kernel),
            ("memory", memory),
            ("notify", notify),
            ("stderr", stderr),
        ]);
    }
}
