//! The Rust API, on which the C ABI stands: lives, failures and panics of thread pods.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;

use podkeep::{BoxError, Context, Kind, Options, Phase, Pod, Procedure, Ready, Runtime, State, Status, Watch};

const LIMIT: Option<Duration> = Some(Duration::from_secs(20));

/// Counts what is called, and does what it is told.
struct Server {
    calls: Arc<Calls>,
    unblock: (mpsc::SyncSender<()>, std::sync::Mutex<mpsc::Receiver<()>>),
    fail: bool,
}

#[derive(Default)]
struct Calls {
    init: AtomicU32,
    run: AtomicU32,
    teardown: AtomicU32,
    cancel: AtomicU32,
    dropped: AtomicU32,
}

impl Calls {
    fn all(&self) -> [u32; 5] {
        [&self.init, &self.run, &self.teardown, &self.cancel, &self.dropped].map(|count| count.load(SeqCst))
    }
}

impl Procedure for Server {
    const HAS_CANCEL: bool = true;

    fn run_forever(&self, ctx: Context) -> Result<(), BoxError> {
        self.calls.run.fetch_add(1, SeqCst);
        if self.fail {
            return Err("no such luck".into());
        }
        ctx.ready()?;
        // Blocks in something that knows nothing of the context: only the hook gets it out.
        let unblocked = self.unblock.1.lock().map_err(|_| "poisoned")?;
        unblocked.recv()?;
        Ok(())
    }

    fn teardown(&self, _: Context) -> Result<(), BoxError> {
        self.calls.teardown.fetch_add(1, SeqCst);
        if self.fail { Err("and not tidied".into()) } else { Ok(()) }
    }

    fn cancel(&self, _: Context) {
        self.calls.cancel.fetch_add(1, SeqCst);
        let _ = self.unblock.0.try_send(());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.calls.dropped.fetch_add(1, SeqCst);
    }
}

fn server(fail: bool) -> (Runtime, Arc<Calls>) {
    let calls = Arc::new(Calls::default());
    let seen = calls.clone();
    let runtime = Runtime::new("server", move |_| {
        seen.init.fetch_add(1, SeqCst);
        let (sender, receiver) = mpsc::sync_channel(1);
        Ok(Server { calls: seen.clone(), unblock: (sender, std::sync::Mutex::new(receiver)), fail })
    });
    (runtime.expect("a runtime"), calls)
}

#[test]
fn l1_l2_l9_a_life_with_a_hook() {
    let (runtime, calls) = server(false);
    let pod = Pod::new(&runtime, &Options { ready: Ready::Notify, ..Options::default() }).expect("a pod");
    assert_eq!(pod.state(), State::New);
    pod.start().expect("started");
    pod.wait_ready(LIMIT).expect("ready");
    assert!(pod.id().is_some());
    pod.close().expect("closed");
    assert_eq!((pod.state(), calls.all()), (State::Stopped, [1, 1, 1, 1, 1]));
    assert!(pod.failure().is_none());
}

#[test]
fn l7_errors_of_run_and_teardown_are_a_chain() {
    let (runtime, calls) = server(true);
    let pod = Pod::new(&runtime, &Options { name: Some("unlucky".into()), ..Options::default() }).expect("a pod");
    pod.start().expect("started");
    let error = pod.join(LIMIT).expect_err("failed");
    assert_eq!(error.status, Status::Failed);
    assert!(error.sentence.contains("unlucky") && error.sentence.contains("no such luck"), "{error}");
    let first = pod.failure().expect("a failure");
    assert_eq!((first.phase(), first.kind(), first.code()), (Phase::Run, Kind::Returned, -1));
    let second = first.secondary().expect("a second one");
    assert_eq!((second.phase(), second.message()), (Phase::Teardown, "and not tidied"));
    assert!(second.secondary().is_none());
    assert_eq!(calls.all(), [1, 1, 1, 0, 1]);
}

#[test]
fn a_panic_is_a_failure_in_every_phase() {
    fn failure_of(runtime: Runtime) -> (Phase, Kind, String) {
        let pod = Pod::new(&runtime, &Options::default()).expect("a pod");
        pod.start().expect("started");
        assert_eq!(pod.join(LIMIT).expect_err("failed").status, Status::Failed);
        let failure = pod.failure().expect("a failure");
        (failure.phase(), failure.kind(), failure.message().to_owned())
    }
    let in_run = Runtime::from_fn("panicking", |_| panic!("in {}", "run")).expect("a runtime");
    assert_eq!(failure_of(in_run), (Phase::Run, Kind::Panic, "in run".to_owned()));
    let in_init = Runtime::new("panicking", |_| -> Result<Server, BoxError> { panic!("in init") }).expect("a runtime");
    assert_eq!(failure_of(in_init), (Phase::Init, Kind::Panic, "in init".to_owned()));
}

#[test]
fn what_panics_while_a_failure_is_told_goes_no_further() {
    #[derive(Debug)]
    struct Sore {
        text: Option<&'static str>,
    }
    impl std::fmt::Display for Sore {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.text.expect("a text"))
        }
    }
    impl std::error::Error for Sore {}
    impl Drop for Sore {
        fn drop(&mut self) {
            if self.text.is_some() {
                std::panic::panic_any(Sore { text: None });
            }
        }
    }
    type End = fn() -> Result<(), BoxError>;
    let ends: [(End, Kind, &str); 3] = [
        (|| Err(Sore { text: Some("sore") }.into()), Kind::Returned, "sore"),
        (|| Err(Sore { text: None }.into()), Kind::Panic, "a text"),
        (|| std::panic::panic_any(Sore { text: Some("thrown") }), Kind::Panic, ""),
    ];
    for (end, kind, text) in ends {
        let runtime = Runtime::from_fn("sore", move |_| end()).expect("a runtime");
        let pod = Pod::new(&runtime, &Options::default()).expect("a pod");
        pod.start().expect("started");
        assert_eq!(pod.join(LIMIT).expect_err("failed").status, Status::Failed);
        let failure = pod.failure().expect("a failure");
        assert_eq!((failure.phase(), failure.kind()), (Phase::Run, kind));
        assert!(failure.message().contains(text), "{:?}", failure.message());
    }
}

#[test]
fn l3_what_a_runtime_owns_is_dropped_once_its_pods_have_ended() {
    struct Owned(mpsc::Sender<()>);
    impl Drop for Owned {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, dropped) = mpsc::channel();
    let owned = Owned(sender);
    let runtime = Runtime::from_fn("owner", move |ctx| {
        let _mine = &owned;
        ctx.wait(None);
        Ok(())
    })
    .expect("a runtime");
    let pod = Pod::new(&runtime, &Options::default()).expect("a pod");
    drop(runtime);
    pod.start().expect("started");
    pod.wait_ready(LIMIT).expect("ready");
    assert!(dropped.try_recv().is_err(), "the pod uses it");
    pod.close().expect("closed");
    dropped.recv_timeout(LIMIT.unwrap_or_default()).expect("dropped");
    assert!(dropped.recv().is_err(), "once");
}

#[test]
fn a_watch_tells_the_present_state_and_every_change() {
    let runtime = Runtime::from_fn("watched", |ctx| {
        ctx.status("waiting")?;
        assert_eq!((ctx.name(), ctx.args_vec(), ctx.incarnation()), ("watched", vec![1, 2, 3], 0));
        ctx.wait(None);
        Ok(())
    })
    .expect("a runtime");
    let pod = Pod::new(&runtime, &Options { args: vec![1, 2, 3], ..Options::default() }).expect("a pod");
    let watch = Watch::new(Some(&pod)).expect("a watch");
    pod.start().expect("started");
    pod.wait_ready(LIMIT).expect("ready");
    pod.cancel();
    let mut states = Vec::new();
    let end = loop {
        match watch.next(LIMIT) {
            Ok(event) => states.push((event.from, event.to)),
            Err(error) => break error.status,
        }
    };
    use State::*;
    let expected = [(New, New), (New, Starting), (Starting, Running), (Running, Stopping), (Stopping, Stopped)];
    assert_eq!((&states[..], end), (&expected[..], Status::Ended));
}

#[test]
fn dropping_a_running_pod_cancels_it_and_lets_it_go() {
    let (runtime, calls) = server(false);
    for round in 1..=50 {
        let pod = Pod::new(&runtime, &Options::default()).expect("a pod");
        let watch = Watch::new(Some(&pod)).expect("a watch");
        pod.start().expect("started");
        pod.wait_ready(LIMIT).expect("ready");
        drop(pod);
        let mut last = None;
        let end = loop {
            match watch.next(LIMIT) {
                Ok(event) => last = Some(event.to),
                Err(error) => break error.status,
            }
        };
        assert_eq!((last, end), (Some(State::Stopped), Status::Ended));
        assert_eq!(calls.all(), [round; 5], "each callback once, the value dropped after its teardown");
    }
}

#[test]
fn l11_a_pod_does_not_wait_for_itself() {
    let (sender, answers) = mpsc::channel();
    let slot = Arc::new(std::sync::Mutex::new(None::<Arc<Pod>>));
    let own = slot.clone();
    let runtime = Runtime::from_fn("selfish", move |ctx| {
        ctx.wait(None);
        let pod = own.lock().map_err(|_| "poisoned")?.take().ok_or("no pod")?;
        sender.send((pod.join(LIMIT), pod.join(Some(Duration::ZERO)), pod.close()))?;
        Ok(())
    })
    .expect("a runtime");
    let pod = Arc::new(Pod::new(&runtime, &Options::default()).expect("a pod"));
    *slot.lock().expect("not poisoned") = Some(pod.clone());
    pod.start().expect("started");
    pod.wait_ready(LIMIT).expect("ready");
    pod.cancel();
    let (join, look, close) = answers.recv_timeout(LIMIT.unwrap_or_default()).expect("answers");
    assert_eq!(join.expect_err("refused").status, Status::Deadlock);
    assert_eq!(look.expect_err("not yet").status, Status::Timeout);
    assert_eq!(close.expect_err("refused").status, Status::Deadlock);
    pod.join(LIMIT).expect("stopped");
}

#[test]
fn bad_names_are_refused_with_a_sentence() {
    for (name, part) in [("", "empty"), (&*"x".repeat(256), "256 bytes")] {
        let error = Runtime::from_fn(name, |_| Ok(())).err().expect("refused");
        assert_eq!(error.status, Status::InvalidArgument);
        assert!(error.sentence.contains(part), "{error}");
    }
}

/// What was made before a fork is the parent's: in the child it says so, and nothing of the parent's runs there.
#[test]
fn s3_in_the_child_of_a_fork_all_is_the_parents() {
    let (runtime, calls) = server(false);
    let pod = Pod::new(&runtime, &Options::default()).expect("a pod");
    let watch = Watch::new(Some(&pod)).expect("a watch");
    pod.start().expect("started");
    pod.wait_ready(LIMIT).expect("ready");
    // SAFETY: the child calls this library alone, which can be called there, and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let before = calls.all();
        let forked = |answer: podkeep::Result<()>| answer.is_err_and(|error| error.status == Status::Forked);
        let answers = [
            forked(pod.start()),
            forked(pod.wait_ready(LIMIT)),
            forked(pod.join(None)),
            forked(pod.close()),
            forked(pod.run().map(drop)),
            forked(watch.next(None).map(drop)),
            forked(watch.fd().map(drop)),
            forked(Watch::new(Some(&pod)).map(drop)),
            forked(Pod::new(&runtime, &Options::default()).map(drop)),
            forked(runtime.export()),
            pod.state() == State::New && pod.name().is_empty() && pod.restarts() == 0,
            pod.id().is_none() && pod.failure().is_none(),
        ];
        pod.cancel();
        drop((watch, pod, runtime.clone(), runtime));
        let wrong = answers.iter().position(|&good| !good).map_or(0, |at| at as i32 + 1);
        let strays = i32::from(calls.all() != before);
        // SAFETY: a number.
        unsafe { libc::_exit(if wrong > 0 { wrong } else { 100 * strays }) };
    }
    assert!(child > 0);
    let mut status = -1;
    // SAFETY: a child of ours, a valid out pointer.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(
        status,
        0,
        "exit code {}: the number of the answer that is wrong, 100: a callback was called",
        status >> 8
    );
    assert_eq!(pod.state(), State::Running);
    pod.close().expect("stopped");
}
