//! The words that a process pod's two ends say to each other: a small message format, versioned in the [`super::block`].
//!
//! A frame is its length (of what follows, 4 bytes), its kind (1 byte) and its content; numbers are little-endian, texts
//! UTF-8 with their length before them. What does not fit this is refused with a sentence, and changes nothing.

use std::ffi::CString;

use crate::failure::{Kind, c_string};
use crate::lifecycle::Phase;
use crate::linux::Nanos;

/// No frame is longer: more than a failure ever says, less than what would hurt the host.
pub(crate) const LARGEST: usize = 16 << 20;

/// One word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    InitOk,
    Ready,
    /// A failure, in order of time; the step it belongs to follows.
    Record(Told),
    /// What the hook says of itself, instead of what it said before: it counts at once.
    HookRecord(Told),
    /// The failures told so far count, though no step goes with them.
    Failed,
    RunReturned {
        failed: bool,
    },
    Status(String),
    /// "I need that much more time."
    Extend(Nanos),
    /// The teardown has returned, or none was due.
    End {
        failed: bool,
    },
    /// To the child: look at what is asked of you ([`super::shown`]). A wake, no more.
    Look,
}

/// A failure record as it crosses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) phase: Phase,
    pub(crate) kind: Kind,
    pub(crate) code: i32,
    pub(crate) message: CString,
    pub(crate) data: Vec<u8>,
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Frame::InitOk => 1,
            Frame::Ready => 2,
            Frame::Record(_) => 3,
            Frame::RunReturned { .. } => 4,
            Frame::Status(_) => 5,
            Frame::Extend(_) => 6,
            Frame::End { .. } => 7,
            Frame::Look => 8,
            Frame::HookRecord(_) => 9,
            Frame::Failed => 10,
        }
    }

    /// The frame's bytes. A text that no frame could hold is cut, and says so; data that none could is left behind, for part
    /// of it would be of no use.
    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&[0; 4]);
        into.push(self.kind());
        match self {
            Frame::InitOk | Frame::Ready | Frame::Look | Frame::Failed => {}
            Frame::RunReturned { failed } | Frame::End { failed } => into.push(*failed as u8),
            Frame::Extend(span) => into.extend_from_slice(&span.to_le_bytes()),
            Frame::Status(text) => write_bytes(into, cut(text, LARGEST / 4).as_bytes()),
            Frame::Record(told) | Frame::HookRecord(told) => {
                into.push(told.phase as u8);
                into.push(told.kind as u8);
                into.extend_from_slice(&told.code.to_le_bytes());
                write_bytes(into, cut(&told.message.to_string_lossy(), LARGEST / 2).as_bytes());
                let data: &[u8] = if told.data.len() <= LARGEST / 4 { &told.data } else { &[] };
                write_bytes(into, data);
            }
        }
        let length = (into.len() - start - 4) as u32;
        into[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn read(kind: u8, mut content: &[u8]) -> Result<Frame, String> {
        let from = &mut content;
        let frame = match kind {
            1 => Frame::InitOk,
            2 => Frame::Ready,
            3 => Frame::Record(read_told(from)?),
            4 => Frame::RunReturned { failed: read_bool(from)? },
            5 => Frame::Status(read_text(from)?),
            6 => Frame::Extend(u64::from_le_bytes(take(from)?)),
            7 => Frame::End { failed: read_bool(from)? },
            8 => Frame::Look,
            9 => Frame::HookRecord(read_told(from)?),
            10 => Frame::Failed,
            kind => return Err(format!("no message has the kind {kind}")),
        };
        match content.len() {
            0 => Ok(frame),
            n => Err(format!("{n} bytes follow a message of kind {kind}")),
        }
    }
}

/// A text that fits, and says where it was cut.
fn cut(text: &str, most: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let end = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{} ... (cut: it has {} bytes)", &text[..end], text.len()).into()
}

fn write_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    into.extend_from_slice(bytes);
}

fn take<const N: usize>(from: &mut &[u8]) -> Result<[u8; N], String> {
    let (taken, rest) = from.split_first_chunk::<N>().ok_or("it ends too early")?;
    *from = rest;
    Ok(*taken)
}

fn read_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = u32::from_le_bytes(take(from)?) as usize;
    let (taken, rest) = from.split_at_checked(length).ok_or("it ends too early")?;
    *from = rest;
    Ok(taken)
}

fn read_text(from: &mut &[u8]) -> Result<String, String> {
    String::from_utf8(read_bytes(from)?.to_vec()).map_err(|_| "its text is not UTF-8".to_owned())
}

fn read_told(from: &mut &[u8]) -> Result<Told, String> {
    Ok(Told {
        phase: Phase::from_number(take::<1>(from)?[0] as i32).ok_or("it names no phase")?,
        kind: Kind::from_number(take::<1>(from)?[0] as i32).ok_or("it names no kind of failure")?,
        code: i32::from_le_bytes(take(from)?),
        message: c_string(&read_text(from)?),
        data: read_bytes(from)?.to_vec(),
    })
}

fn read_bool(from: &mut &[u8]) -> Result<bool, String> {
    match take::<1>(from)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [n] => Err(format!("it says {n} for yes or no")),
    }
}

/// Frames out of a stream of bytes.
#[derive(Default)]
pub(crate) struct Reader {
    held: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Reader {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.held.drain(..self.at);
            self.at = 0;
        }
        self.held.extend_from_slice(bytes);
    }

    /// The next whole frame; `None`: not here yet.
    pub(crate) fn next(&mut self) -> Option<Result<Frame, String>> {
        let rest = &self.held[self.at..];
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > LARGEST {
            return Some(Err(format!("a message of {length} bytes: it may have 1 to {LARGEST}")));
        }
        let frame = rest.get(..length)?;
        self.at += 4 + length;
        Some(Frame::read(frame[0], &frame[1..]))
    }

    /// Bytes of a frame that has not come whole.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn rest(&self) -> usize {
        self.held.len() - self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        let told = Told {
            phase: Phase::Run,
            kind: Kind::Exception,
            code: -7,
            message: c_string("it broke: ü"),
            data: vec![0, 1, 255],
        };
        vec![
            Frame::InitOk,
            Frame::Ready,
            Frame::Record(told.clone()),
            Frame::HookRecord(told),
            Frame::Failed,
            Frame::RunReturned { failed: true },
            Frame::Status("half way".into()),
            Frame::Extend(5),
            Frame::End { failed: false },
            Frame::Look,
        ]
    }

    #[test]
    fn what_is_written_is_read_in_pieces_of_any_size() {
        let mut bytes = Vec::new();
        all().iter().for_each(|frame| frame.write(&mut bytes));
        for piece in 1..bytes.len() {
            let mut reader = Reader::default();
            let mut read = Vec::new();
            for part in bytes.chunks(piece) {
                reader.feed(part);
                while let Some(frame) = reader.next() {
                    read.push(frame.unwrap());
                }
            }
            assert_eq!(read, all());
            assert_eq!(reader.rest(), 0);
        }
    }

    #[test]
    fn every_cut_and_every_flip_is_refused_or_another_frame() {
        for frame in all() {
            let mut bytes = Vec::new();
            frame.write(&mut bytes);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut broken = bytes.clone();
                    broken[at] ^= 1 << bit;
                    let mut reader = Reader::default();
                    reader.feed(&broken);
                    while let Some(Ok(_)) = reader.next() {}
                }
                let mut reader = Reader::default();
                reader.feed(&bytes[..at]);
                assert!(reader.next().is_none());
            }
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_at_its_first_bytes() {
        let mut reader = Reader::default();
        reader.feed(&u32::MAX.to_le_bytes());
        assert!(reader.next().unwrap().unwrap_err().contains("4294967295 bytes"));
    }

    #[test]
    fn data_of_up_to_4_mib_crosses() {
        for (length, crosses) in [(4 << 20, 4 << 20), ((4 << 20) + 1, 0)] {
            let (message, data) = (c_string("text"), vec![7; length]);
            let told = Told { phase: Phase::Run, kind: Kind::Returned, code: 1, message, data };
            let mut bytes = Vec::new();
            Frame::Record(told).write(&mut bytes);
            let mut reader = Reader::default();
            reader.feed(&bytes);
            let Some(Ok(Frame::Record(read))) = reader.next() else { panic!("not a record") };
            assert_eq!(read.data.len(), crosses);
        }
    }

    #[test]
    fn a_message_that_no_frame_holds_is_cut_and_says_so() {
        let told = Told {
            phase: Phase::Run,
            kind: Kind::Returned,
            code: 1,
            message: c_string(&"ü".repeat(LARGEST)),
            data: vec![0; LARGEST],
        };
        let mut bytes = Vec::new();
        Frame::Record(told).write(&mut bytes);
        let mut reader = Reader::default();
        reader.feed(&bytes);
        let Some(Ok(Frame::Record(read))) = reader.next() else { panic!("not a record") };
        assert!(read.message.to_str().unwrap().ends_with("bytes)"));
    }
}
