//! What a call can answer: a status, and one sentence that names the argument, the value and the way out.

use std::borrow::Cow;

/// The statuses of the contract's section 6. The numbers are the ABI's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
#[allow(missing_docs)] // the contract's words; each is explained at its constant in the header
pub enum Status {
    Ok = 0,
    InvalidArgument = -1,
    InvalidHandle = -2,
    InvalidState = -3,
    Timeout = -4,
    Failed = -5,
    Ended = -6,
    Deadlock = -7,
    Forked = -8,
    Resources = -9,
    Unsupported = -10,
    Denied = -11,
    Unreachable = -12,
    Internal = -13,
    NotFound = -14,
}

/// Why a call did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Error {
    /// What kind of refusal it is.
    pub status: Status,
    /// The whole story in one sentence.
    pub sentence: Cow<'static, str>,
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(status: Status, sentence: impl Into<Cow<'static, str>>) -> Error {
        Error { status, sentence: sentence.into() }
    }

    pub(crate) fn argument(sentence: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Status::InvalidArgument, sentence)
    }

    pub(crate) fn state(sentence: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Status::InvalidState, sentence)
    }

    pub(crate) fn resources(sentence: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Status::Resources, sentence)
    }
}
