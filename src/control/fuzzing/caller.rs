//! A client that says whatever it likes.

use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::pods::NAMES;
use super::wire::{self, Heard};
use super::{LONG, MOMENT, read};

pub(super) struct Caller {
    /// `None`: the connection is over.
    line: Option<DuplexStream>,
    /// Names, and how much of each has gone out so far, whatever lay between.
    spelt: [(&'static str, usize); 5],
    heard: Heard,
    /// It answers what is asked of it, and so keeps its connection.
    pub(super) polite: bool,
    /// The stream of its newest call.
    pub(super) stream: u32,
}

impl Caller {
    pub(super) fn new(line: DuplexStream) -> Caller {
        Caller {
            line: Some(line),
            spelt: NAMES.map(|name| (name, 0)),
            heard: Heard::default(),
            polite: false,
            stream: 0,
        }
    }

    /// Of the next call.
    pub(super) fn next_stream(&mut self) -> u32 {
        self.stream = match self.stream {
            0 => 1,
            last => last.saturating_add(2) & 0x7fff_ffff,
        };
        self.stream
    }

    /// The other side takes it, or ends the connection, or has to be read first.
    pub(super) async fn say(&mut self, mut bytes: &[u8]) {
        let mut stuck = 0;
        while !bytes.is_empty() {
            let Some(line) = &mut self.line else { return };
            match timeout(MOMENT, line.write(bytes)).await {
                Ok(Ok(n)) if n > 0 => {
                    bytes[..n].iter().for_each(|&byte| self.spell(byte));
                    bytes = &bytes[n..];
                    stuck = 0;
                }
                Ok(_) => self.line = None,
                Err(_) => {
                    let silent = matches!(read(line).await, Some(answers) if answers.is_empty());
                    stuck = if silent { stuck + 1 } else { 0 };
                    assert!(stuck < LONG.as_millis(), "it takes nothing, says nothing and does not end");
                }
            }
        }
    }

    fn spell(&mut self, byte: u8) {
        for (name, length) in &mut self.spelt {
            *length += usize::from(name.as_bytes().get(*length) == Some(&byte));
        }
    }

    /// Whether all of the name has gone out.
    pub(super) fn has_spelt(&self, name: &str) -> bool {
        self.spelt.contains(&(name, name.len()))
    }

    /// Hears what there is by now.
    pub(super) async fn listen(&mut self) {
        let Some(line) = &mut self.line else { return };
        let Some(bytes) = read(line).await else {
            self.line = None;
            return;
        };
        let answers = self.heard.take(&bytes);
        if self.polite {
            self.say(&answers).await;
        }
    }

    /// It says that it will say no more; it may listen still.
    pub(super) async fn fall_silent(&mut self) {
        if let Some(line) = &mut self.line {
            let _ = timeout(LONG, line.shutdown()).await;
        }
    }

    pub(super) async fn begin(&mut self) {
        self.say(wire::PREFACE).await;
        self.say(&wire::frame(wire::SETTINGS, 0, 0, &[])).await;
    }
}
