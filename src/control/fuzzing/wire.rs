//! HTTP/2 and gRPC as far as they are to be written by hand, right or wrong.

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames, and the flags that they have in common.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RESET: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

const HEADER: usize = 9;

/// Of less than 16 MiB.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    [&length.to_be_bytes()[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields of a header, written plainly and kept in no table.
pub(super) fn fields(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            integer(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// A length, of which seven bits stand in the first byte.
fn integer(value: usize, block: &mut Vec<u8>) {
    let Some(mut rest) = value.checked_sub(127) else { return block.push(value as u8) };
    block.push(127);
    while rest > 127 {
        block.push(rest as u8 | 128);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A gRPC message in its frame; `flag` 0: not compressed.
pub(super) fn message(flag: u8, content: &[u8]) -> Vec<u8> {
    [&[flag], &(content.len() as u32).to_be_bytes()[..], content].concat()
}

/// A call as gRPC's clients make it.
pub(super) fn call(stream: u32, path: &str, request: &[u8]) -> Vec<u8> {
    let block = fields(&[
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", path.as_bytes()),
        (":authority", b"localhost"),
        ("content-type", b"application/grpc"),
        ("te", b"trailers"),
    ]);
    [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, END_STREAM, stream, &message(0, request))].concat()
}

/// What the other side says, frame by frame.
#[derive(Default)]
pub(super) struct Heard(Vec<u8>);

impl Heard {
    /// Takes what has come; the answers to those frames of it that want one.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while let Some(&[a, b, c, kind, flags, ..]) = self.0.first_chunk::<HEADER>() {
            let whole = HEADER + u32::from_be_bytes([0, a, b, c]) as usize;
            if self.0.len() < whole {
                break;
            }
            let rest = self.0.split_off(whole);
            let said = std::mem::replace(&mut self.0, rest);
            match kind {
                PING if flags & ACK == 0 => answers.extend(frame(PING, ACK, 0, &said[HEADER..])),
                SETTINGS if flags & ACK == 0 => answers.extend(frame(SETTINGS, ACK, 0, &[])),
                _ => {}
            }
        }
        answers
    }
}
