//! One child, as its host sees it: what it says, how it is stopped, what its end means.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::*};

use super::block::{Errand as Brief, View};
use super::frame::{self, Frame, Reader, Told};
use super::io::{Errand, Next, What};
use super::notify::{self, Word};
use super::port;
use super::stderr::{Look, Passage, Stderr};
use crate::cancel;
use crate::explain::explain;
use crate::failure::{Kind, LAST_WORDS, NOT_ALL_PASSED_ON, Record};
use crate::lifecycle::{Event, Phase, Seat, State};
use crate::linux::process::{self, Ended, recv_some, send_some, signal_name};
use crate::linux::{self, Nanos};
use crate::table::PodRef;
use crate::world::lock;

/// How long a child that closed its channel, or has said its end, may live on without any more ado.
pub(crate) const MUTE_TIME: Nanos = 1_000_000_000;
/// When to look again at what takes or shows nothing yet.
pub(super) const STDERR_TIME: Nanos = 10_000_000;
const PORT_TIME: Nanos = 20_000_000;
/// The same for the end of one that is traced.
pub(super) const TRACED_TIME: Nanos = 20_000_000;
/// So much of the channel is read at once.
const PIECE: usize = 16 << 10;
/// A life has no more failures than that, and no larger ones together: far more than a library's own end ever tells.
const MOST_FAILURES: usize = 64;
const LARGEST_FAILURES: usize = 4 * frame::LARGEST;

pub(crate) struct Child {
    pub(super) pod: PodRef,
    pub(super) brief: Brief,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: OwnedFd,
    pub(super) view: View,
    pub(super) stderr_pipe: OwnedFd,
    pub(super) stderr: Mutex<Stderr>,
    pub(super) passage: &'static Passage,
    pub(super) notify: Option<notify::Socket>,
    pub(super) said: Mutex<Said>,
    /// The stop was passed on.
    pub(super) stopped: AtomicBool,
}

/// What the child has said so far, and what was done to it.
#[derive(Default)]
pub(crate) struct Said {
    reader: Reader,
    /// Failures whose step has not come yet.
    records: Vec<Record>,
    /// The library's word for the end: whether it failed, and when that was heard.
    end: Option<(bool, Nanos)>,
    /// Another process of the child's stands for it: held, so that its number is nobody else's.
    main: Option<OwnedFd>,
    /// It broke the rules of the channel, and is killed for it.
    lost: bool,
    /// Its grace was spent: it was made to end.
    forced: bool,
    /// Sent to stop a command.
    signal: Option<i32>,
    /// Its number may be another's by now.
    reaped: bool,
}

impl Child {
    pub(super) fn descriptors(&self) -> Vec<(What, BorrowedFd<'_>)> {
        let own = [(What::Process, &self.pidfd), (What::Channel, &self.channel), (What::Stderr, &self.stderr_pipe)];
        let mut all: Vec<_> = own.into_iter().map(|(what, fd)| (what, fd.as_fd())).collect();
        all.extend(self.notify.as_ref().map(|socket| (What::Notify, socket.as_fd())));
        all
    }

    pub(super) fn stderr_pipe(&self) -> &OwnedFd {
        &self.stderr_pipe
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn index(&self) -> u32 {
        self.pod.index()
    }

    pub(super) fn first_errand(&self) -> Option<Errand> {
        (self.port() != 0).then_some(Errand::Port)
    }

    /// Something of it was not looked at yet.
    pub(super) fn has_more_to_say(&self) -> bool {
        let notify = self.notify.as_ref().is_some_and(|socket| linux::poll::is_readable(socket.as_fd()));
        notify || process::waiting(&self.channel) > 0 || linux::poll::has_bytes(&self.pidfd)
    }

    fn port(&self) -> u16 {
        self.pod.cell().process.as_ref().map_or(0, |process| process.port)
    }

    fn name(&self) -> &'static CStr {
        self.pod.cell().name
    }

    /// Whether a program that knows podkeep has taken the pod over.
    fn claimed(&self) -> bool {
        self.view.claimed.load(Acquire) != 0
    }

    /// Where S is, as far as its own word goes.
    pub(crate) fn phase(&self) -> Phase {
        if self.brief == Brief::Command && !self.claimed() {
            return if self.pod.life().state() == State::Starting { Phase::Ready } else { Phase::Run };
        }
        Seat::from_number(self.view.seat.load(Acquire)).phase()
    }

    pub(crate) fn heartbeat_at(&self) -> Nanos {
        self.view.heartbeat.load(Relaxed)
    }

    /// Looks at a descriptor that is ready.
    pub(super) fn look(&self, what: u64) -> Next {
        // Starter and thread meet in the lock: the one may have given the child up before the other comes to it.
        if lock(&self.said).reaped {
            return Next::Nothing;
        }
        match what {
            what if what == What::Channel as u64 => self.read_channel(),
            what if what == What::Stderr as u64 => self.read_stderr(),
            what if what == What::Notify as u64 => {
                self.read_notify();
                Next::Nothing
            }
            _ => Next::Ended,
        }
    }

    pub(super) fn do_errand(&self, errand: Errand) -> Next {
        match errand {
            Errand::Stderr => self.read_stderr(),
            Errand::End => Next::Ended,
            Errand::Port => {
                // Starter and thread meet in the lock: the state is told before this looks at it.
                drop(lock(&self.said));
                if self.pod.life().state() != State::Starting {
                    return Next::Nothing;
                }
                if port::listens(self.port(), self.pid) {
                    self.pod.advance(Event::Ready);
                    return Next::Nothing;
                }
                Next::Later(linux::now() + PORT_TIME, Errand::Port)
            }
            Errand::Mute => {
                let mut said = lock(&self.said);
                // A process descriptor is readable at its end, which this thread may not have come to.
                if self.claimed() && !said.lost && !said.reaped && !linux::poll::has_bytes(&self.pidfd) {
                    match said.end {
                        None => self.lose(&mut said, "it closed its channel and lives on"),
                        Some((_, at)) => self.hold_to_its_end(at),
                    }
                }
                Next::Nothing
            }
        }
    }

    /// It said its end `at` that time, and lives on: the grace bounds that, too, though no stop was asked for and no run was
    /// said to have returned, as after an `init` that failed.
    fn hold_to_its_end(&self, at: Nanos) {
        let pod = &self.pod;
        if matches!(pod.life().state(), State::Starting | State::Running)
            && pod.advance(Event::RunReturned { failed: false }).is_some()
        {
            cancel::hold_to(pod, at.saturating_add(pod.grace.load(Relaxed)));
        }
    }

    fn read_stderr(&self) -> Next {
        match lock(&self.stderr).look(&self.stderr_pipe, self.name(), self.passage) {
            Look::Empty | Look::More => Next::Nothing,
            Look::Full => Next::Later(linux::now() + STDERR_TIME, Errand::Stderr),
            Look::Closed => Next::Deaf(What::Stderr),
        }
    }

    /// Reads a piece of what the child says; a flood keeps nobody else waiting.
    fn read_channel(&self) -> Next {
        let mut said = lock(&self.said);
        match self.read_piece(&mut said) {
            Ok(true) => Next::Nothing,
            Ok(false) => Next::Deaf(What::Channel),
            Err(sentence) => {
                self.lose(&mut said, &sentence);
                Next::Deaf(What::Channel)
            }
        }
    }

    /// True: there may be more; false: nobody will say anything any more.
    fn read_piece(&self, said: &mut Said) -> Result<bool, String> {
        if said.lost {
            return Ok(false);
        }
        let mut piece = [0; PIECE];
        match recv_some(&self.channel, &mut piece) {
            // A word cut short says nothing: how the child ends says more, and if it lives on it is lost (`Errand::Mute`).
            Ok(0) => return Ok(false),
            Ok(n) => said.reader.feed(&piece[..n]),
            Err(libc::EAGAIN | libc::EINTR) => return Ok(true),
            Err(_) => return Ok(false),
        }
        while let Some(frame) = said.reader.next() {
            self.hear(said, frame?)?;
        }
        // After the end nothing is said: whoever listens would only wake for the channel's own.
        Ok(said.end.is_none())
    }

    fn hear(&self, said: &mut Said, frame: Frame) -> Result<(), String> {
        if !self.claimed() {
            return Err("it speaks before it has claimed its pod".to_owned());
        }
        if said.end.is_some() {
            return Err("it speaks after its end".to_owned());
        }
        let pod = &self.pod;
        match frame {
            Frame::InitOk => {
                // A stop that the child has heeded comes first: then run_forever is not entered there.
                if pod.stop_is_under_way() {
                    pod.advance(Event::Stop);
                }
                pod.advance(Event::EnterInit);
                pod.advance(Event::InitOk);
            }
            Frame::Ready => {
                // Said by another thread of the child's it may overtake S's own word, and is held until that comes.
                pod.advance(Event::EnterInit);
                pod.advance(Event::Ready);
            }
            Frame::Record(told) => {
                self.check_room(said, &told)?;
                said.records.push(self.told(told));
            }
            Frame::HookRecord(told) => {
                self.check_room(said, &told)?;
                let mut cold = lock(&pod.cell().cold);
                said.records.drain(..).for_each(|record| cold.push(record));
                cold.push_hook(self.told(told));
                drop(cold);
                pod.advance(Event::Fail);
            }
            Frame::Failed | Frame::RunReturned { failed: true } | Frame::End { failed: true }
                if said.records.is_empty() && lock(&pod.cell().cold).records().is_empty() =>
            {
                return Err("it says that it has failed, and not how".to_owned());
            }
            Frame::Failed => drop(pod.advance_told(Event::Fail, std::mem::take(&mut said.records))),
            Frame::RunReturned { failed } => {
                // What was told counts, whatever is said of it.
                let records = std::mem::take(&mut said.records);
                pod.advance_told(Event::RunReturned { failed: failed || !records.is_empty() }, records);
            }
            Frame::Status(text) => pod.set_status(&text),
            Frame::Extend(span) => pod.extend_limit(span),
            Frame::End { failed } => {
                let records = std::mem::take(&mut said.records);
                let failed = failed || !records.is_empty();
                said.end = Some((failed, linux::now()));
                if failed {
                    pod.advance_told(Event::Fail, records);
                }
            }
            Frame::Look => return Err("it says what only a host says".to_owned()),
        }
        Ok(())
    }

    /// Whether one failure more may be kept of this life, beside those that wait for their step.
    fn check_room(&self, said: &Said, told: &Told) -> Result<(), String> {
        let kept = lock(&self.pod.cell().cold).records();
        let all = || kept.iter().chain(&said.records);
        let size = |message: &CStr, data: &[u8]| message.count_bytes() + data.len();
        let held: usize = all().map(|record| size(&record.message, &record.data)).sum();
        if all().count() >= MOST_FAILURES || held + size(&told.message, &told.data) > LARGEST_FAILURES {
            return Err("it tells of failures without end".to_owned());
        }
        Ok(())
    }

    fn told(&self, told: Told) -> Record {
        let record = self.pod.record(told.phase, told.kind, told.code, "");
        Record { message: told.message, data: told.data.into(), ..record }
    }

    /// It broke the rules: its pod is lost, and it is killed.
    fn lose(&self, said: &mut Said, sentence: &str) {
        said.lost = true;
        let text = format!("the child's channel cannot be trusted: {sentence}; the child was killed");
        let record = self.pod.record(self.phase(), Kind::Lost, 0, &text);
        self.pod.advance_told(Event::Fail, vec![record]);
        self.signal_all(said, libc::SIGKILL);
    }

    fn read_notify(&self) {
        let mut said = lock(&self.said);
        let Some(socket) = &self.notify else { return };
        // A flood keeps nobody else waiting: what is left is read when the thread comes by again.
        for datagram in (0..64).map_while(|_| socket.receive()) {
            if said.reaped || !notify::is_own(datagram.sender, self.pid) {
                let text = format!("a word from process {} was not heeded: it is not the pod's", datagram.sender);
                crate::log::warn(self.name(), &text);
                continue;
            }
            datagram.words.iter().for_each(|word| self.heed(&mut said, word));
        }
    }

    /// Does what a command says by sd_notify.
    pub(super) fn heed(&self, said: &mut Said, word: &Word) {
        match word {
            Word::Ready => drop(self.pod.advance(Event::Ready)),
            Word::Stopping => drop(self.pod.advance(Event::RunReturned { failed: false })),
            Word::Status(text) => self.pod.set_status(text),
            Word::Watchdog => self.view.heartbeat.store(linux::now(), Relaxed),
            Word::WatchdogTrigger => self.trigger(),
            Word::ExtendMicros(micros) => self.pod.extend_limit(micros.saturating_mul(1000)),
            Word::MainPid(pid) => {
                // First held, then looked at: what is signalled later is what was looked at.
                let held = process::pidfd_of(*pid).ok();
                said.main = held.filter(|_| notify::is_own(*pid, self.pid)).or(said.main.take());
            }
            _ => {}
        }
    }

    /// It says itself that it is stuck: as if it had missed a heartbeat, and also where none is asked for.
    fn trigger(&self) {
        let pod = &self.pod;
        let message = format!("it triggered its watchdog itself: {}", explain(pod));
        let record = pod.record(Phase::Run, Kind::Watchdog, 0, &message);
        let step = {
            let mut cold = lock(&pod.cell().cold);
            let Some(step) = pod.step(Event::WatchdogMiss) else { return };
            cold.push(record);
            step
        };
        pod.announce(step);
    }

    /// Its grace was spent already.
    pub(super) fn was_asked_to_end(&self) -> bool {
        lock(&self.said).forced
    }

    /// Passes a stop on, once: a word to a program that knows podkeep, a signal to any other.
    pub(crate) fn stop(&self) {
        if self.stopped.swap(true, SeqCst) {
            return;
        }
        let mut said = lock(&self.said);
        if said.reaped {
            return;
        }
        if self.brief == Brief::Command && !self.claimed() {
            let signal =
                self.pod.cell().process.as_ref().and_then(|process| process.stop_signal).unwrap_or(libc::SIGTERM);
            said.signal = Some(signal);
            // The child itself in the stead of a main process that has ended.
            let lives = |main: &&OwnedFd| !linux::poll::has_bytes(main); // a process descriptor is readable at its end
            match said.main.as_ref().filter(lives).filter(|main| process::signal_process(main, signal)) {
                Some(main) => drop(process::signal_process(main, libc::SIGCONT)),
                None => drop(process::signal_process(&self.pidfd, signal)),
            }
            process::signal_process(&self.pidfd, libc::SIGCONT);
            return;
        }
        self.wake();
    }

    /// Has the child look at what is asked of it. One that reads nothing any more is made to end when its grace is spent.
    pub(crate) fn wake(&self) {
        let mut bytes = Vec::new();
        Frame::Look.write(&mut bytes);
        let _ = send_some(&self.channel, &bytes, false);
    }

    /// The grace is spent: the polite signal to all, and on to hear it, whoever was stopped.
    pub(crate) fn ask_to_end(&self) {
        let mut said = lock(&self.said);
        said.forced = true;
        self.signal_all(&said, libc::SIGTERM);
        self.signal_all(&said, libc::SIGCONT);
    }

    pub(crate) fn kill(&self) {
        let mut said = lock(&self.said);
        said.forced = true;
        self.signal_all(&said, libc::SIGKILL);
    }

    /// The group, and the process itself, which may have left it.
    fn signal_all(&self, said: &Said, signal: i32) {
        if !said.reaped {
            process::signal_group(&self.pidfd, self.pid, signal);
            process::signal_process(&self.pidfd, signal);
        }
    }

    /// The child has ended: hears what it said before, and ends what is left of its group.
    pub(super) fn last_words(&self) {
        let mut said = lock(&self.said);
        // What is there by now, and the end behind it: somebody who has left the group may speak for ever.
        for _ in 0..process::waiting(&self.channel) / PIECE + 2 {
            match self.read_piece(&mut said) {
                Ok(true) => {}
                Ok(false) => break,
                Err(sentence) => self.lose(&mut said, &sentence),
            }
        }
        drop(said);
        self.read_notify();
        process::signal_group(&self.pidfd, self.pid, libc::SIGKILL);
        let end = lock(&self.stderr).finish(&self.stderr_pipe, self.name(), self.passage);
        lock(&self.pod.cell().cold).stderr = end.map(Into::into);
    }

    /// From here on nothing is heard of it.
    pub(super) fn reap(&self, said: &mut Said) -> Ended {
        said.reaped = true;
        process::reap(&self.pidfd)
    }

    /// What the end means: `None`, no failure beyond those that are known.
    fn judge(&self, said: &Said, ended: Ended) -> Option<Record> {
        let asked = self.pod.life().stop_asked();
        let stop = said.signal.filter(|_| asked);
        if said.lost {
            return None;
        }
        let phase = self.phase();
        if let Some((failed, _)) = said.end {
            // The library's word was given; what came after it is told when it contradicts.
            return match ended {
                Ended::Exited(0) | Ended::Unknown => None,
                _ if said.forced || failed && matches!(ended, Ended::Exited(_)) => None,
                _ => Some(self.record(Phase::Teardown, ended, "after its teardown it ")),
            };
        }
        let stopped_by = |signal| match ended {
            Ended::Exited(code) => code == 128 + signal,
            Ended::Killed { signal: by, .. } => by == signal,
            Ended::Unknown => false,
        };
        if stop.is_some_and(stopped_by) {
            return None;
        }
        let command = self.brief == Brief::Command && !self.claimed();
        if command && ended == Ended::Exited(0) {
            return None;
        }
        // It was made to end, and the failure that tells so is known: only a crash on the way is another.
        let by_force = |signal| signal == libc::SIGTERM || signal == libc::SIGKILL;
        if said.forced && !matches!(ended, Ended::Killed { signal, .. } if !by_force(signal)) {
            return None;
        }
        Some(self.record(phase, ended, if command || self.claimed() { "it " } else { "before it claimed its pod it " }))
    }

    fn record(&self, phase: Phase, ended: Ended, before: &str) -> Record {
        let (kind, code, text) = match ended {
            Ended::Exited(code) => (Kind::Exit, code, format!("exited with code {code}")),
            Ended::Killed { signal, core } => {
                let core = if core { ", core dumped" } else { "" };
                (Kind::Signal, signal, format!("was killed by signal {signal} ({}){core}", signal_name(signal)))
            }
            Ended::Unknown => {
                let why = "SIGCHLD is ignored, or somebody in this process waits for every child";
                (Kind::Lost, 0, format!("ended, its status unknown: {why}"))
            }
        };
        let stderr = lock(&self.pod.cell().cold).stderr.clone();
        let stderr = match &stderr {
            Some(end) => {
                let before = if lock(&self.stderr).cut { NOT_ALL_PASSED_ON } else { LAST_WORDS };
                format!("{before}{}", end.to_string_lossy().trim_end())
            }
            None => String::new(),
        };
        self.pod.record(phase, kind, code, &format!("process {}: {before}{text}{stderr}", self.pid))
    }

    /// What its end adds to the pod's records. The last that is done for this child.
    pub(super) fn sum_up(&self, ended: Ended) -> Vec<Record> {
        // S may have ended because of a cancel before the one who cancels came to his step: that comes first.
        if self.pod.stop_is_under_way() {
            self.pod.advance(Event::Stop);
        }
        let record = {
            let mut said = lock(&self.said);
            let rest = std::mem::take(&mut said.records);
            if !rest.is_empty() {
                self.pod.advance_told(Event::Fail, rest);
            }
            self.judge(&said, ended)
        };
        let pod = &self.pod;
        lock(&pod.cell().cold).attach_stderr();
        if let Some(process) = &pod.cell().process {
            *lock(&process.live) = None;
        }
        pod.tid.store(0, Relaxed);
        record.into_iter().map(|record| pod.with_stderr(record)).collect()
    }
}

/// The record of a child whose stderr was not passed on as far as its host could wait for.
pub(super) fn not_all_passed_on(record: &mut Record) {
    let message = record.message.to_string_lossy();
    if message.contains(LAST_WORDS) {
        record.message = crate::failure::c_string(&message.replacen(LAST_WORDS, NOT_ALL_PASSED_ON, 1));
    }
}
