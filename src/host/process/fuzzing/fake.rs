//! A process pod whose child is no process: whoever has it is the child, the thread that listens, and the owner in one.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock};

use super::super::block::{self, Errand};
use super::super::child::Child;
use super::super::io::{Next, What};
use super::super::stderr::Passage;
use super::super::{Process, process, tell_end};
use crate::failure::Kind;
use crate::lifecycle::{Event, State};
use crate::linux::process::Ended;
use crate::linux::{self, Nanos};
use crate::pod::{self, Place, Settings};
use crate::runtime::{RuntimeCell, Source};
use crate::supervise::restart::{Policy, Restart};
use crate::table::PodRef;
use crate::world::lock;

/// No limit is reached by itself.
pub(super) const LONG: Nanos = 3_600_000_000_000;

pub(super) fn settings(notify: bool, place: Place) -> Settings<'static> {
    Settings {
        name: None,
        notify,
        ready_timeout: 0,
        grace: linux::NEVER,
        extend_max: LONG,
        args: &[],
        policy: Policy { restart: Restart::Never, most: 0, window: 0, backoff: 0, backoff_max: 0 },
        watchdog: 0,
        incarnation: 0,
        place,
    }
}

pub(super) struct Fake {
    pub(super) pod: PodRef,
    pub(super) child: Arc<Child>,
    /// The child's end of the channel.
    pub(super) theirs: Option<OwnedFd>,
    /// The thread is not told of the channel any more.
    pub(super) deaf: bool,
    state: State,
}

impl Fake {
    pub(super) fn new(errand: Errand, notify: bool) -> Fake {
        static RUNTIME: OnceLock<Arc<RuntimeCell>> = OnceLock::new();
        let runtime = RUNTIME
            .get_or_init(|| Arc::new(RuntimeCell::elsewhere(c"fake", Source::Program(vec![c"none".into()])).unwrap()));
        let kept = Process {
            kill_after: LONG,
            stop_signal: None,
            env: Vec::new(),
            cwd: None,
            port: 0,
            live: Mutex::default(),
        };
        let settings = Settings {
            ready_timeout: LONG,
            grace: LONG,
            watchdog: LONG,
            ..settings(notify, Place::Process(Box::new(kept)))
        };
        let pod = pod::make(runtime, settings).unwrap();
        let brief = block::Brief {
            errand,
            runtime: c"fake",
            pod: c"fake",
            path: c"",
            symbol: c"",
            args: &[],
            notify,
            extend_max: LONG,
            incarnation: 0,
            slot: pod.index(),
        };
        let (view, _) = block::make(&brief).unwrap();
        let (ours, theirs) = process::channel().unwrap();
        let (stderr_pipe, _) = process::pipe().unwrap();
        static PASSAGE: OnceLock<Passage> = OnceLock::new();
        let child = Arc::new(Child {
            pod: pod.clone(),
            brief: errand,
            // No process and no group has these: a signal finds nobody.
            pid: 0,
            pidfd: linux::event_fd().unwrap(),
            channel: ours,
            view,
            stderr_pipe,
            stderr: Mutex::default(),
            passage: PASSAGE.get_or_init(Passage::default),
            notify: None,
            said: Mutex::default(),
            stopped: false.into(),
        });
        pod.claim().unwrap();
        pod.set_ready_limit();
        *lock(&pod.cell().process.as_ref().unwrap().live) = Some(child.clone());
        pod.advance(Event::Launch);
        if errand == Errand::Command {
            pod.advance(Event::EnterInit);
            pod.advance(Event::InitOk);
        }
        child.view.give_go();
        Fake { pod, child, theirs: Some(theirs), deaf: false, state: State::Starting }
    }

    /// The child says something; the host may have to listen so that it can.
    pub(super) fn say(&mut self, mut bytes: &[u8]) {
        while let Some(fd) = self.theirs.as_ref().filter(|_| !bytes.is_empty()) {
            match process::send_some(fd, bytes, false) {
                Ok(n) => bytes = &bytes[n..],
                Err(_) if self.deaf => return,
                Err(_) => self.listen(),
            }
        }
    }

    /// The thread is told of the channel.
    pub(super) fn listen(&mut self) {
        if self.deaf {
            return;
        }
        match self.child.look(What::Channel as u64) {
            Next::Nothing => {}
            Next::Deaf(What::Channel) => self.deaf = true,
            _ => panic!("a channel cannot ask for that"),
        }
        self.check();
    }

    pub(super) fn stop(&self) {
        self.pod.advance(Event::Stop);
        self.child.stop();
    }

    /// What holds at any time.
    pub(super) fn check(&mut self) {
        let life = self.pod.life();
        let state = life.state();
        let moved = match (self.state, state) {
            (before, after) if before == after => true,
            (State::Starting, State::Running | State::Stopping) => true,
            (State::Running, State::Stopping) => true,
            (before, after) => !before.is_final() && after.is_final(),
        };
        assert!(moved, "{:?} -> {state:?}", self.state);
        self.state = state;
        let records = lock(&self.pod.cell().cold).records();
        assert!(!life.failed() || !records.is_empty(), "who has failed can say how");
        assert!(records.len() <= 70, "{} failures are kept", records.len());
        let bytes: usize = records.iter().map(|record| record.message.count_bytes() + record.data.len()).sum();
        assert!(bytes <= 70 << 20, "{bytes} bytes of failures are kept");
        // Whole, for a child may say a part of it itself.
        let lost = records.iter().filter(|record| {
            let text = record.message.to_string_lossy();
            let (begin, end) = ("the child's channel cannot be trusted: ", "; the child was killed");
            record.kind == Kind::Lost && text.starts_with(begin) && text.ends_with(end)
        });
        assert!(lost.count() <= 1, "it is lost once: {records:?}");
    }

    /// The child ends. However it does, its pod has ended then, too.
    pub(super) fn end(mut self, ended: Ended) -> PodRef {
        self.theirs = None;
        self.child.last_words();
        self.child.reap(&mut lock(&self.child.said));
        tell_end(&self.pod, self.child.sum_up(ended));
        self.check();
        let life = self.pod.life();
        assert!(life.state().is_final() && life.gone());
        let failed = lock(&self.pod.cell().cold).failure().is_some();
        assert_eq!((life.state() == State::Failed, failed), (life.failed(), life.failed()));
        assert!(pod::free(&self.pod));
        self.pod
    }
}
