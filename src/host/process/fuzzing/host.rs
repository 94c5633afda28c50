//! The host's end, with a child that says and writes whatever it likes, whenever it likes.

use std::sync::atomic::Ordering::Relaxed;

use super::super::block::Errand;
use super::super::frame::{Frame, Told};
use super::super::io::Errand as Later;
use super::super::notify;
use super::fake::Fake;
use crate::failure::{Kind, c_string};
use crate::fuzzing::Script;
use crate::lifecycle::{Phase, State};
use crate::linux::process::Ended;
use crate::world::lock;

/// A hostile child, and an owner who stops it at any time. Its pod ends, moves along the contract's table only, has a
/// record when it has failed, and keeps no more than that says.
pub fn host(data: &[u8]) {
    let mut script = Script(data);
    let how = script.byte().unwrap_or_default();
    let errand = if how & 1 == 0 { Errand::Exported } else { Errand::Command };
    let mut fake = Fake::new(errand, how & 2 != 0);
    // What is said without end is short.
    let rounds = if how & 4 != 0 && data.len() < 64 { 100 } else { 1 };
    for _ in 0..rounds {
        let mut again = Script(script.0);
        while let Some(what) = again.byte() {
            act(&mut fake, what, &mut again);
            fake.check();
        }
    }
    let number = i32::from(data.last().copied().unwrap_or_default());
    fake.end(match how >> 3 & 3 {
        0 => Ended::Exited(number),
        1 => Ended::Killed { signal: number % 64 + 1, core: number > 127 },
        2 => Ended::Unknown,
        _ => Ended::Exited(0),
    });
}

fn act(fake: &mut Fake, what: u8, script: &mut Script<'_>) {
    match what % 16 {
        0..=2 => {
            let mut bytes = Vec::new();
            frame(script).write(&mut bytes);
            fake.say(&bytes);
        }
        3 => {
            let (kind, content) = (script.byte().unwrap_or_default(), script.piece());
            let length = (1 + content.len() as u32).to_le_bytes();
            fake.say(&[&length[..], &[kind], content].concat());
        }
        4 => fake.say(script.piece()),
        5 | 6 => fake.listen(),
        7 => fake.child.view.claimed.store(1, Relaxed),
        8 => fake.child.view.claimed.store(u32::from_le_bytes(script.number()), Relaxed),
        9 => fake.child.view.seat.store(u32::from_le_bytes(script.number()), Relaxed),
        10 => fake.child.view.heartbeat.store(u64::from_le_bytes(script.number()), Relaxed),
        11 => fake.theirs = None,
        12 => {
            let words = notify::parse(script.piece());
            words.iter().for_each(|word| fake.child.heed(&mut lock(&fake.child.said), word));
        }
        13 => fake.stop(),
        14 => spend_grace(fake),
        // A second after it was the last to be heard of.
        _ if fake.deaf => drop(fake.child.do_errand(Later::Mute)),
        _ => {}
    }
}

/// What the keeper does when the time is over.
fn spend_grace(fake: &Fake) {
    if fake.pod.life().state() == State::Stopping {
        fake.pod.stop_limit.store(1, Relaxed);
        super::super::force(&fake.pod, fake.pod.cell().process.as_ref().unwrap());
    }
}

fn frame(script: &mut Script<'_>) -> Frame {
    match script.byte().unwrap_or_default() % 12 {
        0 => Frame::InitOk,
        1 => Frame::Ready,
        2 | 3 => Frame::Record(told(script)),
        4 => Frame::HookRecord(told(script)),
        5 => Frame::Failed,
        6 => Frame::RunReturned { failed: false },
        7 => Frame::RunReturned { failed: true },
        8 => Frame::Status(script.text()),
        9 => Frame::Extend(u64::from_le_bytes(script.number())),
        10 => Frame::End { failed: false },
        _ => Frame::End { failed: true },
    }
}

fn told(script: &mut Script<'_>) -> Told {
    let [phase, kind, code] = script.number().map(i32::from);
    Told {
        phase: Phase::from_number(phase % 6).unwrap_or(Phase::Run),
        kind: Kind::from_number(kind % 8).unwrap_or(Kind::Lost),
        code,
        message: c_string(&script.text()),
        data: script.piece().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::io::{Next, What};
    use super::*;
    use crate::table::PodRef;

    fn record(text: &str) -> Frame {
        let data = Vec::new();
        Frame::Record(Told { phase: Phase::Run, kind: Kind::Returned, code: 7, message: c_string(text), data })
    }

    /// A child that has claimed its pod, and what it says.
    fn says(frames: &[Frame]) -> Fake {
        let mut fake = Fake::new(Errand::Exported, false);
        fake.child.view.claimed.store(1, Relaxed);
        heard(&mut fake, frames);
        fake
    }

    /// The same of one that is there: what its pod is then.
    fn heard(fake: &mut Fake, frames: &[Frame]) -> State {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.write(&mut bytes));
        fake.say(&bytes);
        while !fake.deaf && crate::linux::poll::has_bytes(&fake.child.channel) {
            fake.listen();
        }
        fake.pod.life().state()
    }

    fn kinds(pod: &PodRef) -> Vec<Kind> {
        lock(&pod.cell().cold).records().iter().map(|record| record.kind).collect()
    }

    /// It could not be kept, and was killed and reaped, while the thread had it in its hands already.
    #[test]
    fn s6_of_a_child_that_was_given_up_nothing_is_heard() {
        let fake = says(&[Frame::InitOk]);
        fake.child.reap(&mut lock(&fake.child.said));
        for what in [What::Process, What::Channel, What::Stderr, What::Notify] {
            assert!(matches!(fake.child.look(what as u64), Next::Nothing), "{what:?}");
        }
        fake.end(Ended::Unknown);
    }

    #[test]
    fn s3_a_failure_that_nothing_is_said_of_is_lost() {
        for frame in [Frame::Failed, Frame::RunReturned { failed: true }, Frame::End { failed: true }] {
            let pod = says(&[Frame::InitOk, frame]).end(Ended::Exited(0));
            assert_eq!((pod.life().state(), kinds(&pod)), (State::Failed, vec![Kind::Lost]));
        }
    }

    #[test]
    fn s3_a_failure_that_was_told_counts() {
        for frame in [Frame::RunReturned { failed: false }, Frame::End { failed: false }] {
            let pod = says(&[Frame::InitOk, record("x"), frame]).end(Ended::Exited(0));
            assert_eq!((pod.life().state(), kinds(&pod)[0]), (State::Failed, Kind::Returned));
        }
    }

    #[test]
    fn s3_failures_without_end_are_lost_whatever_lies_between() {
        let Frame::Record(hooks) = record("again") else { unreachable!() };
        for between in [Frame::Failed, Frame::RunReturned { failed: true }, Frame::HookRecord(hooks)] {
            let fake = says(&vec![[record("x"), between]; 500].concat());
            assert!(fake.deaf);
            let kinds = kinds(&fake.end(Ended::Exited(0)));
            assert!(kinds.contains(&Kind::Lost) && kinds.len() < 70, "{kinds:?}");
        }
    }

    #[test]
    fn s3_failures_are_no_larger_together_than_a_host_bears() {
        let large = record(&"x".repeat(4 << 20));
        let kinds = kinds(&says(&vec![[large, Frame::Failed]; 30].concat()).end(Ended::Exited(0)));
        assert!(kinds.contains(&Kind::Lost) && kinds.len() < 20, "{kinds:?}");
    }

    #[test]
    fn l9_what_the_hook_says_without_end_is_said_once() {
        let Frame::Record(hooks) = record("again") else { unreachable!() };
        let life = [vec![Frame::InitOk], vec![Frame::HookRecord(hooks); 500], vec![Frame::End { failed: true }]];
        let pod = says(&life.concat()).end(Ended::Exited(7));
        assert_eq!((pod.life().state(), kinds(&pod)), (State::Failed, vec![Kind::Returned]));
    }

    #[test]
    fn s8_no_heartbeat_is_missed_before_the_time_of_running_is_noted() {
        let fake = says(&[Frame::InitOk]);
        let before = crate::linux::now();
        fake.pod.running_at.store(0, Relaxed);
        assert!(fake.pod.watchdog_deadline() >= before + super::super::fake::LONG);
        fake.end(Ended::Exited(0));
    }

    #[test]
    fn l6_who_holds_the_channel_and_never_ends_keeps_nobody_waiting() {
        let fake = says(&[Frame::InitOk]);
        let held = fake.theirs.as_ref().unwrap().try_clone().unwrap();
        let flood = std::thread::spawn(move || {
            for from in (0..).step_by(1000) {
                let mut bytes = Vec::new();
                (from..from + 1000).for_each(|n| Frame::Status(format!("{n:011}")).write(&mut bytes));
                if crate::linux::process::send_some(&held, &bytes, true) != Ok(bytes.len()) {
                    return;
                }
            }
        });
        while crate::linux::process::waiting(&fake.child.channel) < 64 << 10 {
            std::thread::yield_now();
        }
        let pod = fake.end(Ended::Exited(7));
        assert_eq!(kinds(&pod), [Kind::Exit]);
        // Of 16 bytes each; a socket holds far less than a MiB.
        let last = lock(&pod.cell().cold).status.clone().unwrap();
        assert!(last.parse::<usize>().unwrap() < (1 << 20) / 16, "{last}");
        flood.join().unwrap();
    }

    /// It is said by any of the child's threads, and what S says of its init comes a moment after the step.
    #[test]
    fn l13_ready_that_is_quicker_than_the_word_of_init_is_kept() {
        let mut fake = Fake::new(Errand::Exported, true);
        fake.child.view.claimed.store(1, Relaxed);
        assert_eq!(heard(&mut fake, &[Frame::Ready]), State::Starting);
        assert_eq!(heard(&mut fake, &[Frame::InitOk]), State::Running);
        heard(&mut fake, &[Frame::End { failed: false }]);
        assert_eq!(fake.end(Ended::Exited(0)).life().state(), State::Stopped);
    }

    /// As below: a child that has heeded the stop in its init does not enter run_forever.
    #[test]
    fn s1_an_init_that_was_told_to_stop_makes_nobody_running() {
        let mut fake = says(&[]);
        super::super::super::shown::make().unwrap().0.publish();
        fake.pod.show(true, false);
        assert_eq!(heard(&mut fake, &[Frame::InitOk]), State::Stopping);
        heard(&mut fake, &[Frame::End { failed: false }]);
        let pod = fake.end(Ended::Exited(0));
        let running = 1 << State::Running as u32;
        assert_eq!((pod.life().state(), pod.life().visited() & running), (State::Stopped, 0));
    }

    /// Whoever cancels shows it to the child first, and may be held up before his own step: the child was quicker.
    #[test]
    fn s1_what_a_child_ends_for_comes_before_its_end() {
        let fake = says(&[Frame::InitOk, Frame::End { failed: false }]);
        super::super::super::shown::make().unwrap().0.publish(); // as the first process pod would
        fake.pod.show(true, false);
        let pod = fake.end(Ended::Exited(0));
        let stopping = 1 << State::Stopping as u32;
        assert_eq!((pod.life().state(), pod.life().visited() & stopping), (State::Stopped, stopping));
        assert!(pod.life().user_asked());
    }

    #[test]
    fn s3_a_child_is_lost_once() {
        let mut fake = says(&[Frame::InitOk, Frame::Look]);
        assert!(fake.deaf);
        act(&mut fake, 15, &mut Script(&[]));
        assert_eq!(kinds(&fake.end(Ended::Killed { signal: 9, core: false })), [Kind::Lost]);
    }
}
