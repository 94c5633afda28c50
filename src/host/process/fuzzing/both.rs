//! Both ends at once: what a child that keeps to the rules says is what its host knows in the end, however slowly it goes.

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use super::super::block::{Block, Errand};
use super::super::frame::Told;
use super::super::link::{self, Link};
use super::fake::{Fake, settings};
use crate::context::Context;
use crate::failure::{Kind, Record};
use crate::fuzzing::Script;
use crate::host::caller;
use crate::lifecycle::{Event, Phase, Seat};

use crate::linux::process::Ended;
use crate::pod::{self, Place};
use crate::runtime::{Recipe, RuntimeCell, Source};
use crate::table::PodRef;
use crate::world::lock;

/// A child's end and its host's. No word is taken for a broken rule, and the host has the child's failures, in their order,
/// its status, and whether it was ready.
pub fn both(data: &[u8]) {
    let mut script = Script(data);
    let how = script.byte().unwrap_or_default();
    let mut fake = Fake::new(Errand::Exported, how & 1 != 0);
    let mut own = Own::new(&mut fake, how & 1 != 0, how & 2 != 0);
    let mut stopped = false;
    while let Some(what) = script.byte() {
        match what % 8 {
            0 if how & 4 != 0 && !stopped => {
                stopped = true;
                fake.stop();
                own.pod.step(Event::Stop);
            }
            1 => fake.listen(),
            2 => own.link.catch_up(),
            _ => own.act(what >> 3, &mut script),
        }
    }
    while !own.over {
        own.tell_hook();
        own.go_on(&mut Script(&[]));
    }
    while own.link.is_behind() {
        fake.listen();
        own.link.catch_up();
    }
    fake.listen();
    own.link.end(&own.pod);
    own.compare(fake, stopped);
}

/// The child's own pod, run by hand.
struct Own {
    pod: PodRef,
    link: Arc<Link>,
    /// The hook has said something, and the host was not told yet.
    untold: Option<usize>,
    over: bool,
}

impl Own {
    fn new(fake: &mut Fake, notify: bool, hook: bool) -> Own {
        let socket = fake.theirs.take().unwrap();
        let size = 8192i32;
        // SAFETY: the option is a readable int. The smaller it is, the more often a word is cut in two.
        unsafe {
            let (option, length) = ((&raw const size).cast(), size_of::<i32>() as libc::socklen_t);
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, option, length);
        }
        let block: &Block = &fake.child.view;
        // SAFETY: mapped until the fake is dropped, which `compare` does when the link tells of nothing any more.
        let block: &'static Block = unsafe { &*ptr::from_ref(block) };
        let link = Arc::new(Link::new(socket, block).unwrap());
        let pod = pod::make(runtime(hook), settings(notify, Place::Child(link.clone()))).unwrap();
        block.claimed.store(1, Relaxed);
        pod.claim().unwrap();
        pod.advance(Event::Launch);
        let over = pod.advance(Event::EnterInit).is_none();
        Own { pod, link, untold: None, over }
    }

    fn act(&mut self, what: u8, script: &mut Script<'_>) {
        let pod = &self.pod;
        let hook = pod.life().hook_running();
        match what % 11 {
            _ if self.over => {}
            0..=2 => self.go_on(script),
            3 => pod.set_status(&script.text()),
            4 => Context::of(pod).extend_nanos(u64::from_le_bytes(script.number())).unwrap(),
            5 => drop(pod.advance(Event::Ready)),
            6 => self.link.heartbeat(u64::from_le_bytes(script.number())),
            7 => drop(pod.step(Event::HookBegin)),
            // As `Context::fail` does it in a hook, while the pod's own thread goes on.
            8 if hook => {
                let record = pod.record(Phase::Cancel, Kind::Returned, 1, &script.text());
                let mut cold = lock(&pod.cell().cold);
                pod.step(Event::HookFail);
                self.untold = Some(cold.push_hook(record));
            }
            9 => self.tell_hook(),
            10 if hook => {
                self.tell_hook();
                self.pod.advance(Event::HookDone { failed: false });
            }
            _ => {}
        }
    }

    fn tell_hook(&mut self) {
        if let Some(at) = self.untold.take() {
            self.link.tell_hook(&self.pod, at);
        }
    }

    /// The pod's thread takes its next step, as in `host::thread`; without a script it succeeds.
    fn go_on(&mut self, script: &mut Script<'_>) {
        let pod = &self.pod;
        let code = i32::from(script.byte().unwrap_or_default() % 4) - 1;
        if code > 0 {
            let kind = Kind::from_number(code).unwrap_or(Kind::Returned);
            Context::of(pod).fail_with(kind, code, &script.text(), script.piece());
        }
        let seat = pod.life().seat();
        let failure = |phase| -> Option<Record> { pod.judge(phase, code.max(0)) };
        match seat {
            Seat::Init if code > 0 => {
                let failure = failure(Phase::Init);
                pod.end_life(failure.into_iter().collect(), |failed, again| Event::InitNot { failed, again });
                self.over = true;
            }
            Seat::Init => {
                pod.discard_stored();
                pod.advance(Event::InitOk);
            }
            Seat::Run => {
                let failure = failure(Phase::Run);
                pod.advance_failing(Event::RunReturned { failed: failure.is_some() }, failure);
            }
            Seat::Hook if pod.life().hook_running() => {
                // It is waited for, so it goes on.
                self.tell_hook();
                self.pod.advance(Event::HookDone { failed: false });
            }
            Seat::Hook => drop(pod.advance(Event::HookJoined)),
            Seat::Teardown | Seat::Barred | Seat::Nowhere => {
                let failure = failure(Phase::Teardown);
                pod.end_life(failure.into_iter().collect(), |failed, again| Event::End { failed, again });
                self.over = true;
            }
        }
    }

    fn compare(self, fake: Fake, stopped: bool) {
        let Own { pod: own, link, .. } = self;
        drop(link);
        own.settle();
        own.advance(Event::Gone);
        let host = fake.end(Ended::Exited(caller::exit_code(&own)));
        assert_eq!(host.life().failed(), own.life().failed());
        assert_eq!(kept(&host), kept(&own));
        assert_eq!(lock(&host.cell().cold).status, lock(&own.cell().cold).status);
        // A stop may have been faster than the word.
        assert!(stopped || host.life().was_running() == own.life().was_running());
        assert!(pod::free(&own));
    }
}

/// What is known of a pod's failures, as it would be told.
fn kept(pod: &PodRef) -> Vec<Told> {
    lock(&pod.cell().cold).records().iter().map(link::told).collect()
}

fn runtime(hook: bool) -> &'static Arc<RuntimeCell> {
    static RUNTIMES: [OnceLock<Arc<RuntimeCell>>; 2] = [OnceLock::new(), OnceLock::new()];
    RUNTIMES[usize::from(hook)]
        .get_or_init(|| Arc::new(RuntimeCell::new(c"own", Box::new(ByHand { hook }), Source::Own)))
}

/// Nothing of it is called: whoever has the pod takes its steps.
struct ByHand {
    hook: bool,
}

impl Recipe for ByHand {
    fn init(&self, _: Context, _: &mut *mut c_void) -> i32 {
        0
    }
    fn run_forever(&self, _: Context, _: *mut c_void) -> i32 {
        0
    }
    fn teardown(&self, _: Context, _: *mut c_void) -> i32 {
        0
    }
    fn has_hook(&self) -> bool {
        self.hook
    }
    fn cancel(&self, _: Context, _: *mut c_void) {}
    fn release(&self) {}
}
