//! The words in which the state machine speaks: states, phases, where S is, and what can happen.

/// Where a pod is in its life. The numbers are the ABI's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(i32)]
pub enum State {
    /// Made, not started.
    New = 0,
    /// On its way to ready.
    Starting = 1,
    /// Ready, and `run_forever` is entered.
    Running = 2,
    /// On its way down.
    Stopping = 3,
    /// Between two incarnations.
    Restarting = 4,
    /// Ended without a failure. Final.
    Stopped = 5,
    /// Ended with a failure. Final.
    Failed = 6,
    /// Its grace is spent and its thread was let go; it becomes [`State::Failed`] if the thread comes back.
    Abandoned = 7,
}

impl State {
    /// The state's name, as in the contract.
    pub fn name(self) -> &'static str {
        match self {
            State::New => "NEW",
            State::Starting => "STARTING",
            State::Running => "RUNNING",
            State::Stopping => "STOPPING",
            State::Restarting => "RESTARTING",
            State::Stopped => "STOPPED",
            State::Failed => "FAILED",
            State::Abandoned => "ABANDONED",
        }
    }

    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        matches!(self, State::Stopped | State::Failed)
    }

    pub(super) fn from_bits(bits: u32) -> State {
        match bits {
            0 => State::New,
            1 => State::Starting,
            2 => State::Running,
            3 => State::Stopping,
            4 => State::Restarting,
            5 => State::Stopped,
            6 => State::Failed,
            _ => State::Abandoned,
        }
    }
}

/// The part of an incarnation in which a failure happened. The numbers are the ABI's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Phase {
    /// Before `init` was entered.
    Spawn = 0,
    /// In `init`.
    Init = 1,
    /// On the way to ready.
    Ready = 2,
    /// In `run_forever`.
    Run = 3,
    /// In the cancel hook, or waiting for it.
    Cancel = 4,
    /// In `teardown`.
    Teardown = 5,
}

impl Phase {
    pub(crate) fn from_number(number: i32) -> Option<Phase> {
        use Phase::*;
        [Spawn, Init, Ready, Run, Cancel, Teardown].into_iter().find(|&phase| phase as i32 == number)
    }

    /// The word the contract uses.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Spawn => "spawn",
            Phase::Init => "init",
            Phase::Ready => "ready",
            Phase::Run => "run",
            Phase::Cancel => "cancel",
            Phase::Teardown => "teardown",
        }
    }
}

/// Where S is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Seat {
    /// In no callback yet.
    Nowhere = 0,
    Init = 1,
    Run = 2,
    /// `run_forever` has returned; the hook has not.
    Hook = 3,
    Teardown = 4,
    /// A teardown was due, but after a shutdown no callback starts.
    Barred = 5,
}

impl Seat {
    /// As a child shows it.
    pub(crate) fn from_number(number: u32) -> Seat {
        match number {
            0 => Seat::Nowhere,
            1 => Seat::Init,
            2 => Seat::Run,
            3 => Seat::Hook,
            4 => Seat::Teardown,
            _ => Seat::Barred,
        }
    }

    pub(crate) fn phase(self) -> Phase {
        match self {
            Seat::Nowhere => Phase::Spawn,
            Seat::Init => Phase::Init,
            Seat::Run => Phase::Run,
            Seat::Hook => Phase::Cancel,
            Seat::Teardown | Seat::Barred => Phase::Teardown,
        }
    }
}

/// What can happen to a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Somebody starts it; what the start needs is not had yet.
    Claim,
    /// The start could not be had (RESOURCES): NEW again.
    Unclaim,
    /// S exists.
    Launch,
    /// S is about to call `init`.
    EnterInit,
    /// The pod's own word that it is ready.
    Ready,
    /// `init` succeeded.
    InitOk,
    /// `init` did not succeed; `failed` is false for a clean CANCELLED. `again`: another life is to follow.
    InitNot { failed: bool, again: bool },
    /// The hook is about to be called.
    HookBegin,
    /// The hook has returned (or its thread ended from inside: `failed`).
    HookDone { failed: bool },
    /// `context_fail` in the hook: it counts by itself.
    HookFail,
    /// `run_forever` has returned.
    RunReturned { failed: bool },
    /// S has waited for the hook.
    HookJoined,
    /// S is done.
    End { failed: bool, again: bool },
    /// S ended from inside its callback: no callback follows.
    Died { again: bool },
    /// A sibling restarts: another life follows this one, whatever the policy.
    SiblingStop,
    /// The next life may begin: wakes an S that waits for its turn.
    Due,
    /// The next life begins.
    Revive,
    /// It cannot: what it needs is not to be had.
    GiveUp,
    /// A heartbeat was missed.
    WatchdogMiss,
    /// A user asks for the end.
    Stop,
    /// The ready timeout expired.
    ReadyTimeout,
    /// The grace is spent, and the thread is let go.
    GraceSpent,
    /// A failure that is no step of its own: told by a child before its end, or the force that it needed.
    Fail,
    /// After a shutdown's limit: no callback starts any more.
    Bar,
    /// The last act of S: all is given back.
    Gone,
    /// A joiner wants to wait for the kernel's thread itself.
    ReapClaim,
    /// It gave up waiting.
    ReapRelease,
    /// A hook, a descriptor or a kick needs the keeper as soon as a stop is asked for.
    Attend,
    /// Somebody outside is about to sleep on the word.
    SleepHost,
    /// Somebody inside (a context's wait, S waiting for the hook) is about to sleep on the word.
    SleepPod,
    /// The same for somebody beside S and its hook.
    SleepBeside,
}
