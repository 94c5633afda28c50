//! What is said on the wire, in words.

use std::fmt;

use super::proto::v1::{self, Failure, Kind, Phase, Pod, TerminateResponse};
use crate::error::{Error, Result, Status};
use crate::lifecycle::State;

/// google.protobuf.Duration knows no longer one.
pub(super) const MOST_SECONDS: i64 = 315_576_000_000;

/// `None`: one that a later version may have.
pub(super) fn state(state: v1::State) -> Option<State> {
    match state {
        v1::State::Unspecified => None,
        v1::State::New => Some(State::New),
        v1::State::Starting => Some(State::Starting),
        v1::State::Running => Some(State::Running),
        v1::State::Stopping => Some(State::Stopping),
        v1::State::Restarting => Some(State::Restarting),
        v1::State::Stopped => Some(State::Stopped),
        v1::State::Failed => Some(State::Failed),
        v1::State::Abandoned => Some(State::Abandoned),
    }
}

pub(super) fn is_final(of: v1::State) -> bool {
    state(of).is_some_and(State::is_final)
}

impl v1::State {
    /// The contract's word, "RUNNING".
    pub fn word(self) -> &'static str {
        state(self).map_or("UNKNOWN", State::name)
    }
}

impl Phase {
    /// The contract's word, "run".
    pub fn word(self) -> &'static str {
        crate::Phase::from_number(self as i32 - 1).map_or("unknown", crate::Phase::name)
    }
}

impl Kind {
    /// The contract's word, "returned".
    pub fn word(self) -> &'static str {
        crate::Kind::from_number(self as i32 - 1).map_or("unknown", crate::Kind::name)
    }
}

/// As the failure itself is told in its own process.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (phase, kind) = (self.phase().word(), self.kind().word());
        write!(f, "pod {:?} failed in {phase} ({kind}, code {}): {}", self.pod, self.code, self.message)
    }
}

/// Why a pod is stuck, as far as its process tells.
pub(super) fn story(pod: &Pod) -> String {
    let status = match pod.status.as_str() {
        "" => "no status text".to_owned(),
        text => format!("last status {text:?}"),
    };
    format!("pod {:?} is {}, in phase {}; {status}", pod.name, pod.state().word(), pod.phase().word())
}

impl TerminateResponse {
    /// How what was asked for its end has ended: without a failure.
    ///
    /// # Errors
    /// FAILED: with one, and the sentence tells it whole; TIMEOUT: its thread was let go (ABANDONED).
    pub fn outcome(&self, name: &str) -> Result<()> {
        let failures: Vec<String> = self.failures.iter().map(Failure::to_string).collect();
        let told = failures.join("; then ");
        let why = if told.is_empty() { "no reason is told" } else { &told };
        match self.state() {
            v1::State::Stopped => Ok(()),
            v1::State::Abandoned => {
                let sentence = format!("{name:?} is ABANDONED: its grace is spent, and its thread was let go; {why}");
                Err(Error::new(Status::Timeout, sentence))
            }
            v1::State::Failed if told.is_empty() => Err(Error::new(Status::Failed, format!("{name:?} failed; {why}"))),
            v1::State::Failed => Err(Error::new(Status::Failed, told)),
            state => {
                let sentence =
                    format!("{name:?} is said to have ended as {}: the service is of another version", state.word());
                Err(Error::new(Status::Unsupported, sentence))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(state: v1::State, failures: usize) -> TerminateResponse {
        let failure = |n| Failure {
            pod: "p".into(),
            incarnation: 0,
            phase: Phase::Run as i32,
            kind: Kind::Exit as i32,
            code: n as i32,
            message: format!("why {n}"),
            stderr: String::new(),
        };
        TerminateResponse { state: state as i32, failures: (0..failures).map(failure).collect() }
    }

    #[test]
    fn every_number_has_the_word_of_its_own_process() {
        let mut states = 0;
        for number in 1..=i32::MAX {
            let Ok(wire) = v1::State::try_from(number) else { break };
            assert_eq!(state(wire).map(|s| s as i32), Some(number - 1));
            assert!(wire.as_str_name().ends_with(wire.word()), "{wire:?}");
            states += 1;
        }
        assert_eq!(states, 8);
        for number in 1..=6 {
            let wire = Phase::try_from(number).unwrap();
            assert!(wire.as_str_name().to_lowercase().ends_with(wire.word()), "{wire:?}");
        }
        for number in 1..=8 {
            let wire = Kind::try_from(number).unwrap();
            assert!(wire.as_str_name().to_lowercase().ends_with(wire.word()), "{wire:?}");
        }
        assert_eq!(v1::State::Unspecified.word(), "UNKNOWN");
    }

    #[test]
    fn how_it_ended_is_told_whole() {
        assert_eq!(response(v1::State::Stopped, 0).outcome("p"), Ok(()));
        let error = response(v1::State::Failed, 2).outcome("g").unwrap_err();
        assert_eq!(error.status, Status::Failed);
        assert_eq!(
            error.sentence,
            "pod \"p\" failed in run (exit, code 0): why 0; then pod \"p\" failed in run (exit, code 1): why 1"
        );
        let error = response(v1::State::Abandoned, 0).outcome("p").unwrap_err();
        assert_eq!(error.status, Status::Timeout);
        assert!(error.sentence.contains("ABANDONED"), "{error}");
        assert_eq!(response(v1::State::Unspecified, 0).outcome("p").unwrap_err().status, Status::Unsupported);
    }
}
