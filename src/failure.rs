//! The failure record: why an incarnation ended, told the same way for every host (contract section 2).

use std::ffi::{CStr, CString};
use std::sync::Arc;

use crate::lifecycle::Phase;

/// How a failure showed itself. The numbers are the ABI's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Kind {
    /// A callback returned non-zero.
    Returned = 0,
    /// A Rust panic.
    Panic = 1,
    /// An exception of C++, Python ...
    Exception = 2,
    /// The process exited, or the thread was ended from inside, without the library's word.
    Exit = 3,
    /// A signal.
    Signal = 4,
    /// A limit was reached.
    Timeout = 5,
    /// A heartbeat was missed.
    Watchdog = 6,
    /// The end is known, its reason is not.
    Lost = 7,
}

impl Kind {
    /// The word the contract uses.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Returned => "returned",
            Kind::Panic => "panic",
            Kind::Exception => "exception",
            Kind::Exit => "exit",
            Kind::Signal => "signal",
            Kind::Timeout => "timeout",
            Kind::Watchdog => "watchdog",
            Kind::Lost => "lost",
        }
    }

    pub(crate) fn from_number(number: i32) -> Option<Kind> {
        use Kind::*;
        [Returned, Panic, Exception, Exit, Signal, Timeout, Watchdog, Lost].into_iter().find(|&k| k as i32 == number)
    }
}

/// What stands in a message before the end of what a child wrote to its stderr; of the second kind not all was passed on to
/// the host's stderr.
pub(crate) const LAST_WORDS: &str = "; the end of its stderr:\n";
pub(crate) const NOT_ALL_PASSED_ON: &str = "; the end of its stderr, not all of it passed on:\n";

/// One failure, without what hangs on it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) pod_name: &'static CStr,
    pub(crate) incarnation: u32,
    pub(crate) phase: Phase,
    pub(crate) kind: Kind,
    pub(crate) code: i32,
    pub(crate) message: CString,
    /// What the runtime gave along, for its own host.
    pub(crate) data: Arc<[u8]>,
    /// The end of what the child wrote there.
    pub(crate) stderr: Option<Arc<CStr>>,
}

/// A message as a C string; a NUL inside would end it early, so it is shown as U+FFFD.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|_| CString::new(text.replace('\0', "\u{FFFD}")).unwrap_or_default())
}

/// A failure and the later ones of the same incarnation: an immutable snapshot.
#[derive(Clone, Debug)]
pub struct Failure {
    chain: Arc<Vec<Record>>,
    at: usize,
}

impl Failure {
    /// The first of a chain; `None`: there is no failure.
    pub(crate) fn first(chain: Option<Arc<Vec<Record>>>) -> Option<Failure> {
        chain.filter(|c| !c.is_empty()).map(|chain| Failure { chain, at: 0 })
    }
    pub(crate) fn chain(&self) -> &Arc<Vec<Record>> {
        &self.chain
    }
    fn record(&self) -> &Record {
        &self.chain[self.at]
    }
    /// The pod that failed.
    pub fn pod_name(&self) -> &'static str {
        self.record().pod_name.to_str().unwrap_or_default()
    }
    /// Which of its lives: 0, 1, 2 ...
    pub fn incarnation(&self) -> u32 {
        self.record().incarnation
    }
    /// Where in that life.
    pub fn phase(&self) -> Phase {
        self.record().phase
    }
    /// How it showed itself.
    pub fn kind(&self) -> Kind {
        self.record().kind
    }
    /// The callback's return value, exit code or signal number.
    pub fn code(&self) -> i32 {
        self.record().code
    }
    /// The whole message.
    pub fn message(&self) -> &str {
        self.record().message.to_str().unwrap_or_default()
    }
    /// The message without what a child wrote to its stderr.
    #[cfg(feature = "grpc")]
    pub(crate) fn summary(&self) -> &str {
        let message = self.message();
        match self.stderr().is_empty() {
            true => message,
            false => {
                let ends = [LAST_WORDS, NOT_ALL_PASSED_ON].map(|words| message.find(words).unwrap_or(message.len()));
                &message[..ends[0].min(ends[1])]
            }
        }
    }
    /// The bytes that the runtime gave along.
    pub fn data(&self) -> &[u8] {
        &self.record().data
    }
    /// The end of what a child process wrote to its stderr; empty for a thread.
    pub fn stderr(&self) -> &str {
        self.record().stderr.as_deref().and_then(|text| text.to_str().ok()).unwrap_or_default()
    }
    /// The next failure of the same incarnation.
    pub fn secondary(&self) -> Option<Failure> {
        (self.at + 1 < self.chain.len()).then(|| Failure { chain: self.chain.clone(), at: self.at + 1 })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (phase, kind) = (self.phase().name(), self.kind().name());
        write!(f, "pod {:?} failed in {phase} ({kind}, code {}): {}", self.pod_name(), self.code(), self.message())
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}
