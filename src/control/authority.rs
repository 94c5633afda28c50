//! What gRPC's C library (and with it Python's) calls a server at a socket of the file system: the socket's path, written
//! `run%2Fx.sock`, as `:authority`. The HTTP/2 library here refuses a percent sign in it, by the letter of the standard, and
//! the request with it. Nobody reads that name here, so the sign is made another before it is seen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What a client says before its first frame.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
/// The largest frame that this server takes.
const LARGEST_FRAME: usize = 16 << 10;
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A stream of HTTP/2 frames in which the name is mended.
pub(super) struct Mended<S> {
    pub(super) stream: S,
    frames: Frames,
    mended: Vec<u8>,
    read: usize,
}

impl<S: AsyncRead + Unpin> Mended<S> {
    pub(super) fn new(stream: S) -> Mended<S> {
        Mended { stream, frames: Frames { pass: PREFACE, held: Vec::new() }, mended: Vec::new(), read: 0 }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.read == self.mended.len() {
            self.mended.clear();
            self.read = 0;
            let mut piece = [0; 4096];
            let mut piece = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(())); // its end; half a frame is none
            }
            self.frames.take(piece.filled(), &mut self.mended);
        }
        let left = &self.mended[self.read..];
        let part = &left[..left.len().min(buffer.remaining())];
        buffer.put_slice(part);
        self.read += part.len();
        Poll::Ready(Ok(()))
    }
}

/// Where in the frames the stream is.
struct Frames {
    /// So many bytes go on as they are.
    pass: usize,
    /// The beginning of a frame that is not whole.
    held: Vec<u8>,
}

impl Frames {
    /// Hands on to `out` what can be.
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, later) = bytes.split_at(bytes.len().min(self.pass));
                out.extend_from_slice(now);
                self.pass -= now.len();
                bytes = later;
                continue;
            }
            let wanted = match self.held.get(..3) {
                Some(length) if self.held.len() >= FRAME_HEADER => FRAME_HEADER + number(length),
                _ => FRAME_HEADER,
            };
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.held.len()));
            self.held.extend_from_slice(now);
            bytes = later;
            if self.held.len() < FRAME_HEADER {
                continue;
            }
            let (length, kind) = (number(&self.held[..3]), self.held[3]);
            if kind != HEADERS || length > LARGEST_FRAME {
                self.pass = length + FRAME_HEADER - self.held.len();
            } else if self.held.len() == FRAME_HEADER + length {
                mend(&mut self.held);
            } else {
                continue;
            }
            out.append(&mut self.held);
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, &byte| number << 8 | byte as usize)
}

/// Mends a whole HEADERS frame. What cannot be read is left as it is: to refuse it is the HTTP/2 library's.
fn mend(frame: &mut [u8]) {
    let flags = frame[4];
    let payload = &mut frame[FRAME_HEADER..];
    let mut begin = 0;
    let mut end = payload.len();
    if flags & PADDED != 0 {
        let Some(&padding) = payload.first() else { return };
        begin += 1;
        end = end.saturating_sub(padding as usize);
    }
    if flags & PRIORITY != 0 {
        begin += 5;
    }
    if let Some(block) = payload.get_mut(begin..end) {
        let mut block = Block { bytes: block, at: 0 };
        while block.mend_field().is_some() {}
    }
}

/// A block of header fields (RFC 7541).
struct Block<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Block<'_> {
    /// One field; `None`: there is none that can be read.
    fn mend_field(&mut self) -> Option<()> {
        let first = *self.bytes.get(self.at)?;
        let name = match first {
            0x80.. => return self.integer(7).map(drop), // both from the table
            0x40.. => self.integer(6)?,
            0x20.. => return self.integer(5).map(drop), // the table's size
            _ => self.integer(4)?,
        };
        // 1 in the table is the name in question.
        let authority = match name {
            0 => {
                let (name, plain) = self.string()?;
                plain && self.bytes.get(name)? == b":authority"
            }
            name => name == 1,
        };
        let (value, plain) = self.string()?;
        if authority && plain {
            let value = self.bytes.get_mut(value)?;
            value.iter_mut().filter(|byte| **byte == b'%').for_each(|byte| *byte = b'.');
        }
        Some(())
    }

    fn integer(&mut self, bits: u32) -> Option<usize> {
        let most = (1 << bits) - 1;
        let mut value = (*self.bytes.get(self.at)? & most) as usize;
        self.at += 1;
        if value < most as usize {
            return Some(value);
        }
        for shift in [0, 7, 14] {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value += (byte as usize & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None // larger than a frame
    }

    /// Where it is, and whether it is written plainly: the library in question does.
    fn string(&mut self) -> Option<(std::ops::Range<usize>, bool)> {
        let plain = *self.bytes.get(self.at)? & 0x80 == 0;
        let length = self.integer(7)?;
        let place = self.at..self.at + length;
        self.at = place.end;
        (place.end <= self.bytes.len()).then_some((place, plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] = b"@\x05:path\x04/a%b@\n:authority\x0etmp%2Fraw.sock\x83\x86\x41\x03%2F\x00\x01x\x01%";
    const MENDED: &[u8] = b"@\x05:path\x04/a%b@\n:authority\x0etmp.2Fraw.sock\x83\x86\x41\x03.2F\x00\x01x\x01%";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// As it comes out when it comes in by pieces of `size`.
    fn taken(bytes: &[u8], size: usize) -> Vec<u8> {
        let (mut frames, mut out) = (Frames { pass: PREFACE, held: Vec::new() }, Vec::new());
        bytes.chunks(size).for_each(|piece| frames.take(piece, &mut out));
        out
    }

    #[test]
    fn the_name_is_mended_and_nothing_else() {
        let padded = |block: &[u8]| [&[2][..], &[0, 0, 0, 0, 9], block, b"%%"].concat();
        let stream = |block: &[u8]| {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            let frames = [
                frame(4, 0, &[]),
                frame(1, 4, block),
                frame(0, 1, b"@\n:authority\x01%"),
                frame(1, 0x2c, &padded(block)),
            ];
            [preface, frames.concat()].concat()
        };
        for size in [1, 2, 7, 10, 1000] {
            assert_eq!(taken(&stream(REQUEST), size), stream(MENDED), "by {size}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_left_as_it_is() {
        let preface = [0; PREFACE];
        let long = vec![b'%'; LARGEST_FRAME + 1];
        for payload in [&b""[..], b"\x7f\xff\xff\xff\xff", b"\x41\x7f", b"\x41", b"\x40\x0a:auth", b"\x41\x82%%", &long]
        {
            for flags in [4, 0x0c, 0x2c] {
                let stream = [&preface[..], &frame(1, flags, payload)].concat();
                assert_eq!(taken(&stream, 5), stream, "{payload:?}");
            }
        }
        // Any bytes: as many come out as go in, but for a frame that is not whole.
        let mut die = 1u64;
        for _ in 0..20_000 {
            let mut bytes = vec![0; 64];
            for byte in &mut bytes {
                die = die.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (die >> 56) as u8;
            }
            let stream = [&preface[..], &frame(1, bytes[0], &bytes)].concat();
            assert_eq!(taken(&stream, 13).len(), stream.len());
        }
    }
}
