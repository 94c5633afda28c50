//! The state machine of one incarnation: pure. No thread, no clock, no I/O; everything about states is decided here.
//!
//! All that must change together is one 32-bit word, [`Life`]. [`Life::after`] says what an [`Event`] makes of it, or
//! `None` when the event changes nothing. Whoever acts (the pod's thread S, a canceller in a signal handler, the
//! keeper) computes the next word and compare-and-swaps it in, so every change is atomic and needs no lock (L8).
//!
//! ```text
//!            Claim, Launch          InitOk / Ready            RunReturned
//!   NEW ───────────────► STARTING ───────────────► RUNNING ───────────────► STOPPING ──End──► STOPPED | FAILED
//!    │ Stop                 │  Stop, ReadyTimeout     │ Stop                  │  ▲                 ▲
//!    ▼                      └─────────────────────────┴───────────────────────┘  │ GraceSpent      │ End
//!  STOPPED                                                                       └──► ABANDONED ───┘
//! ```
//! An end that another life is to follow leads to RESTARTING instead, and Revive from there to STARTING, with another
//! incarnation's word. STARTING ends in FAILED or STOPPED directly when `init` does not succeed or S dies, and
//! RUNNING in FAILED when S dies.

mod words;

pub(crate) use words::{Event, Seat};
pub use words::{Phase, State};

/// The state word. Low to high: the state, the seat, and flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Life(pub(crate) u32);

const STATE: u32 = 0xF;
const SEAT_SHIFT: u32 = 4;
const SEAT: u32 = 0x7 << SEAT_SHIFT;
const fn flag(n: u32) -> u32 {
    1 << n
}
/// A start is under way or done.
const CLAIMED: u32 = flag(7);
/// The pod said that it is ready.
const SAID_READY: u32 = flag(8);
/// A stop was asked for: what `context_cancelled` tells.
const STOP: u32 = flag(9);
/// A user asked: bars a restart.
const USER: u32 = flag(10);
/// This incarnation has failed.
const FAILED: u32 = flag(11);
const HOOK_BEGUN: u32 = flag(12);
const HOOK_DONE: u32 = flag(13);
/// READY_NOTIFY: entering `run_forever` is not enough to be RUNNING.
const NOTIFY: u32 = flag(14);
const HAS_HOOK: u32 = flag(15);
const BARRED: u32 = flag(16);
const WAS_RUNNING: u32 = flag(17);
const WAS_STOPPING: u32 = flag(18);
const WAS_STARTING: u32 = flag(19);
const WAS_ABANDONED: u32 = flag(20);
/// The context is over: it reads cancelled, whatever it was.
const OVER: u32 = flag(21);
const GONE: u32 = flag(22);
/// A joiner waits for the kernel's thread, or has; S then does not detach itself.
const REAPER: u32 = flag(23);
const ATTEND: u32 = flag(24);
const SLEEP_HOST: u32 = flag(25);
const SLEEP_POD: u32 = flag(26);
/// A second one sleeps inside, or one beside S: waking one on the word is not enough.
const CROWD_POD: u32 = flag(27);
/// A kick wants to know when S has seen the cancel.
const KICK: u32 = flag(28);
/// S is in a child process: what asks it to stop is shown to it, too.
const AFAR: u32 = flag(29);
/// This process is the child: its host may have asked for a stop that is not heard of here yet.
const LINKED: u32 = flag(30);
const WAS_RESTARTING: u32 = flag(31);
/// What a pod's lives have in common.
const LASTING: u32 =
    CLAIMED | NOTIFY | HAS_HOOK | BARRED | REAPER | ATTEND | SLEEP_HOST | SLEEP_POD | CROWD_POD | KICK | AFAR | LINKED;

/// The bits for which a context reads cancelled: what the ABI's one load tests.
pub(crate) const CANCELLED_BITS: u32 = STOP | OVER;
/// The bit for which a context that reads cancelled looks further.
pub(crate) const KICK_BIT: u32 = KICK;
/// The bit for which a context that does not read cancelled looks further.
pub(crate) const LINKED_BIT: u32 = LINKED;

/// What kind of pod a word is made for.
#[derive(Clone, Copy, Default)]
pub(crate) struct Traits {
    /// Entering `run_forever` is not enough to be RUNNING.
    pub(crate) notify: bool,
    pub(crate) hook: bool,
    pub(crate) kick: bool,
    /// S is in a child process.
    pub(crate) afar: bool,
    /// This process is that child.
    pub(crate) linked: bool,
}

impl Life {
    /// A pod that was just made.
    pub(crate) fn new(traits: Traits) -> Life {
        let mut bits = State::New as u32;
        for (wanted, bit) in [
            (traits.notify, NOTIFY),
            (traits.hook, HAS_HOOK | ATTEND),
            (traits.kick, KICK | ATTEND),
            (traits.afar, AFAR | ATTEND),
            (traits.linked, LINKED),
        ] {
            if wanted {
                bits |= bit;
            }
        }
        Life(bits)
    }

    pub(crate) fn state(self) -> State {
        State::from_bits(self.0 & STATE)
    }

    pub(crate) fn seat(self) -> Seat {
        Seat::from_number((self.0 & SEAT) >> SEAT_SHIFT)
    }

    fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
    pub(crate) fn stop_asked(self) -> bool {
        self.has(STOP)
    }
    pub(crate) fn context_over(self) -> bool {
        self.has(OVER)
    }
    pub(crate) fn failed(self) -> bool {
        self.has(FAILED)
    }
    pub(crate) fn was_running(self) -> bool {
        self.has(WAS_RUNNING)
    }
    /// A user asked for the end: no other life follows.
    pub(crate) fn user_asked(self) -> bool {
        self.has(USER)
    }
    pub(crate) fn was_restarting(self) -> bool {
        self.has(WAS_RESTARTING)
    }
    pub(crate) fn was_abandoned(self) -> bool {
        self.has(WAS_ABANDONED)
    }
    /// In this life, which may have ended, but for the delay before the next.
    pub(crate) fn is_stopping_or_was(self) -> bool {
        self.0 & (STOP | WAS_STOPPING) != 0 && self.state() != State::Restarting
    }
    pub(crate) fn claimed(self) -> bool {
        self.has(CLAIMED)
    }
    pub(crate) fn gone(self) -> bool {
        self.has(GONE)
    }
    pub(crate) fn has_reaper(self) -> bool {
        self.has(REAPER)
    }
    pub(crate) fn barred(self) -> bool {
        self.has(BARRED)
    }
    pub(crate) fn needs_keeper(self) -> bool {
        self.has(ATTEND)
    }
    pub(crate) fn has_hook(self) -> bool {
        self.has(HAS_HOOK)
    }
    pub(crate) fn is_notify(self) -> bool {
        self.has(NOTIFY)
    }
    pub(crate) fn is_afar(self) -> bool {
        self.has(AFAR)
    }
    pub(crate) fn is_linked(self) -> bool {
        self.has(LINKED)
    }
    /// S must wait: the hook has begun and not returned.
    pub(crate) fn hook_running(self) -> bool {
        self.has(HOOK_BEGUN) && !self.has(HOOK_DONE)
    }
    /// The hook may begin now (L9).
    pub(crate) fn hook_due(self) -> bool {
        self.after(Event::HookBegin).is_some()
    }

    /// The states this incarnation has been in, one bit each, NEW included.
    pub(crate) fn visited(self) -> u32 {
        let mut mask = 1 << State::New as u32 | 1 << (self.0 & STATE);
        for (bit, state) in [
            (WAS_STARTING, State::Starting),
            (WAS_RUNNING, State::Running),
            (WAS_STOPPING, State::Stopping),
            (WAS_ABANDONED, State::Abandoned),
            (WAS_RESTARTING, State::Restarting),
        ] {
            if self.has(bit) {
                mask |= 1 << state as u32;
            }
        }
        mask
    }

    /// Who has to be woken after this word became `next`: those outside, and those inside.
    pub(crate) fn wakes(self, next: Life) -> (bool, Inside) {
        let changed = self.0 ^ next.0;
        // USER: whoever hoped for the next life's ready hears that there is none (L15).
        let host = self.has(SLEEP_HOST) && changed & (STATE | FAILED | USER | GONE) != 0;
        let due = self.state() == State::Restarting && changed & SAID_READY != 0;
        let inside = match self.has(SLEEP_POD) && (due || changed & (STOP | OVER | HOOK_DONE) != 0) {
            false => Inside::Nobody,
            true if self.has(CROWD_POD) => Inside::Many,
            true => Inside::One,
        };
        (host, inside)
    }

    /// The word once those who slept on it are woken.
    pub(crate) fn woken(self, host: bool, inside: Inside) -> Life {
        let life = if host { self.without(SLEEP_HOST) } else { self };
        if inside == Inside::Nobody { life } else { life.without(SLEEP_POD | CROWD_POD) }
    }

    fn with(self, bits: u32) -> Life {
        Life(self.0 | bits)
    }
    fn without(self, bits: u32) -> Life {
        Life(self.0 & !bits)
    }
    fn seated(self, seat: Seat) -> Life {
        Life(self.0 & !SEAT | (seat as u32) << SEAT_SHIFT)
    }
    fn to(self, state: State) -> Life {
        let visited = match state {
            State::Starting => WAS_STARTING,
            State::Running => WAS_RUNNING,
            State::Stopping => WAS_STOPPING,
            State::Abandoned => WAS_ABANDONED,
            State::Restarting => WAS_RESTARTING,
            _ => 0,
        };
        Life(self.0 & !STATE | state as u32 | visited)
    }
    fn failed_if(self, failed: bool) -> Life {
        if failed { self.with(FAILED) } else { self }
    }
    /// The end of an incarnation: RESTARTING if another is to follow and nobody has barred that, else FAILED if it has
    /// failed, STOPPED otherwise.
    fn ended(self, failed: bool, again: bool) -> Life {
        let life = self.failed_if(failed).with(OVER);
        if again && !life.has(USER) && !life.has(WAS_ABANDONED) {
            // A stop of whatever other reason is over with this life; the next one is a user's.
            return life.without(STOP | SAID_READY).seated(Seat::Nowhere).to(State::Restarting);
        }
        life.to(if life.failed() { State::Failed } else { State::Stopped })
    }
    /// Teardown is due: the seat that says whether it is called.
    fn teardown_due(self) -> Life {
        self.seated(if self.barred() { Seat::Barred } else { Seat::Teardown })
    }

    /// What `event` makes of this word; `None`: it changes nothing here.
    pub(crate) fn after(self, event: Event) -> Option<Life> {
        use State::*;
        let state = self.state();
        let next = match event {
            Event::Claim if state == New && !self.claimed() => self.with(CLAIMED),
            Event::Unclaim if state == New => self.without(CLAIMED),
            Event::Launch if state == New && self.claimed() => self.to(Starting),
            // S may be faster than the one who starts it, and launches itself then.
            Event::EnterInit if state == New && self.claimed() => self.to(Starting).seated(Seat::Init),
            Event::EnterInit if state == Starting && self.seat() == Seat::Nowhere => self.seated(Seat::Init),
            Event::Ready if state == Starting => match self.seat() {
                // Said inside init: held until init succeeded.
                Seat::Init => self.with(SAID_READY),
                Seat::Run => self.with(SAID_READY).to(Running),
                _ => self,
            },
            Event::InitOk => match state {
                Starting if self.has(NOTIFY) && !self.has(SAID_READY) => self.seated(Seat::Run),
                Starting => self.seated(Seat::Run).to(Running),
                // Stopped meanwhile (L5): run_forever is skipped, teardown is due.
                Stopping | Abandoned => self.teardown_due(),
                _ => self,
            },
            Event::InitNot { failed, again } if !state.is_final() && state != Restarting => self.ended(failed, again),
            Event::HookBegin
                if self.has(HAS_HOOK | STOP)
                    && !self.has(HOOK_BEGUN)
                    && !self.barred()
                    && self.seat() == Seat::Run
                    && !state.is_final() =>
            {
                self.with(HOOK_BEGUN)
            }
            Event::HookDone { failed } => self.with(HOOK_DONE).failed_if(failed),
            Event::HookFail if self.hook_running() => self.with(FAILED),
            Event::RunReturned { failed } if !state.is_final() => {
                let life = self.failed_if(failed);
                let life = if state == Abandoned { life } else { life.to(Stopping) };
                if life.hook_running() { life.seated(Seat::Hook) } else { life.teardown_due() }
            }
            Event::HookJoined if self.seat() == Seat::Hook => self.teardown_due(),
            Event::End { failed, again } if !state.is_final() && state != Restarting => self.ended(failed, again),
            // A hook that has begun by now is waited for first.
            Event::Died { again } if !state.is_final() && state != Restarting && !self.hook_running() => {
                self.ended(true, again)
            }
            Event::Revive if state == Restarting => Life(self.0 & LASTING).to(Starting),
            Event::SiblingStop if matches!(state, Starting | Running) => self.with(STOP).to(Stopping),
            Event::Due if state == Restarting => self.with(SAID_READY),
            Event::GiveUp if state == Restarting => self.with(FAILED).to(Failed),
            Event::WatchdogMiss if state == Running => self.with(STOP | FAILED).to(Stopping),
            Event::Stop => match state {
                // A child may be there already, and is stopped like any other; if none can be had, that is the end.
                New if self.claimed() && self.is_afar() => self.with(STOP | USER).to(Starting).to(Stopping),
                New => self.with(STOP | USER | OVER).to(Stopped),
                Starting | Running => self.with(STOP | USER).to(Stopping),
                Stopping | Abandoned => self.with(STOP | USER),
                Restarting => self.with(STOP | USER).to(Stopped),
                Stopped | Failed => self,
            },
            Event::ReadyTimeout if state == Starting => self.with(STOP | FAILED).to(Stopping),
            Event::Fail if !state.is_final() => self.with(FAILED),
            Event::GraceSpent if state == Stopping => self.with(FAILED).to(Abandoned),
            Event::Bar if !state.is_final() => self.with(BARRED),
            Event::Gone => self.with(GONE),
            Event::ReapClaim if !self.has(REAPER) && !self.gone() && self.has(WAS_STARTING) => self.with(REAPER),
            // Once S is gone it has left its thread to the reaper, for good.
            Event::ReapRelease if !self.gone() => self.without(REAPER),
            Event::Attend => self.with(ATTEND),
            Event::SleepHost => self.with(SLEEP_HOST),
            Event::SleepPod => self.with(if self.has(SLEEP_POD) { CROWD_POD } else { SLEEP_POD }),
            Event::SleepBeside => self.with(SLEEP_POD | CROWD_POD),
            _ => self,
        };
        (next != self).then_some(next)
    }
}

/// Who sleeps inside. That it is one can be relied on: from a stop on nobody lies down there but S, for the hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inside {
    Nobody,
    One,
    Many,
}

#[cfg(test)]
mod tests;
