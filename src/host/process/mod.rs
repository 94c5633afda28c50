//! S as a child process: started, never forked from the host's image; its words, its end and its whole process group seen
//! to. The child of a program that knows podkeep runs its runtime as `host::caller` does, and says each step over a
//! private channel (`link` there, `child` here); any other command is stopped by a signal.
//!
//! | room | what it is for |
//! |---|---|
//! | `program` | what is executed: found, with its arguments and environment |
//! | `block`, `shown`, `frame` | what host and child share, and what they say to each other |
//! | `child`, `stderr`, `notify`, `port` | one child, as its host sees it |
//! | `io` | the thread that waits for all of them |
//! | `guardian` | who ends them when the host is ended |
//! | `link` | the child's own side |

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Result, Status};
use crate::explain::explain;
use crate::failure::{Kind, Record};
use crate::lifecycle::{Event, Phase, State};
use crate::linux::process;
use crate::linux::spawn::{self, NotSpawned, Plan};
use crate::linux::{self, NEVER, Nanos, describe};
use crate::runtime::Source;
use crate::table::{self, PodRef};
use crate::world::{World, lock};

mod block;
mod child;
mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guardian;
mod io;
pub(crate) mod link;
mod notify;
mod port;
pub(crate) mod program;
mod shown;
mod stderr;

pub(crate) use io::{Io, Orphanage, adopt, adopt_no_more, look_for_orphans};
use program::Vector;

/// What a process pod has beyond any pod.
pub(crate) struct Process {
    pub(crate) kill_after: Nanos,
    /// Of a command; `None`: SIGTERM.
    pub(crate) stop_signal: Option<i32>,
    /// "KEY=VALUE", over the inherited ones.
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: Option<CString>,
    /// Ready is listening there; 0: it is not.
    pub(crate) port: u16,
    pub(crate) live: Mutex<Option<Arc<child::Child>>>,
}

impl Process {
    /// Refuses what only a command has a use for.
    pub(crate) fn check(&self, source: &Source) -> Result<()> {
        let field = match source {
            Source::Command(_) => return Ok(()),
            _ if self.stop_signal.is_some() => "stop_signal",
            _ if self.port != 0 => "ready_port",
            _ => return Ok(()),
        };
        Err(Error::argument(format!("options.{field} is set: it is for a command, and this pod's runtime is none")))
    }

    pub(crate) fn child(&self) -> Option<Arc<child::Child>> {
        lock(&self.live).clone()
    }
}

/// Makes S, and the pod STARTING. A program that cannot be run is a failure of the pod's, not of this call.
pub(crate) fn spawn(pod: &PodRef, world: &'static World) -> Result<()> {
    let cell = pod.cell();
    let Some(process) = &cell.process else { return Err(Error::state("not a process pod")) };
    let brief = brief(pod)?;
    let io = io::ensure(world)?;
    let refused = |error| {
        let why = describe(error);
        Error::resources(format!("no process for pod {:?}: {why}; it is NEW still, start it again later", pod.name()))
    };

    let mut env = program::environment(&process.env);
    let marker = program::Marker::new(brief.errand);
    let source = &cell.runtime.source;
    let notify = match source {
        Source::Command(_) => Some(notify::Socket::new().map_err(refused)?),
        _ => None,
    };
    if let Some(socket) = &notify {
        program::set(&mut env, "NOTIFY_SOCKET", socket.address().as_bytes());
        // Without WATCHDOG_PID: any of the command's own processes may feed it, so that one behind a shell knows, too.
        if cell.watchdog != 0 {
            program::set(&mut env, "WATCHDOG_USEC", (cell.watchdog / 1000).to_string().as_bytes());
        }
    }
    let (executable, argv) = match source {
        Source::Own => (Ok(program::own_executable()), program::own_arguments()),
        Source::Command(argv) | Source::Program(argv) => {
            (program::search(&argv[0], &env, process.cwd.as_deref()), argv.clone())
        }
        Source::Library { .. } => {
            let library = linux::process::own_path().unwrap_or_default();
            program::set(&mut env, "PODKEEP_LIBRARY", library.as_bytes());
            (Ok(program::podkeep()?), vec![c"podkeep".into(), c"__child".into()])
        }
    };
    let executable = match executable {
        Ok(executable) => executable,
        Err(none) => return not_run(pod, none.code, &none.sentence),
    };

    let (view, memory) = block::make(&brief).map_err(refused)?;
    let (ours, theirs) = process::channel().map_err(refused)?;
    let (stderr, write_stderr) = process::pipe().map_err(refused)?;
    let null = process::null_device().map_err(refused)?;
    let (argv, envp) = (Vector::new(argv, None), Vector::new(env, Some(&marker)));
    let group = lock(&io.guardian).place(pod.index());
    let spawning = world.orphanage.spawning();
    let spawned = spawn::spawn(&Plan {
        program: &executable,
        argv: argv.pointers(),
        envp: envp.pointers(),
        cwd: process.cwd.as_deref(),
        descriptors: &[
            null.as_raw_fd(),
            -1,
            write_stderr.as_raw_fd(),
            theirs.as_raw_fd(),
            memory.as_raw_fd(),
            io.shown.as_raw_fd(),
        ],
        pid_digits: marker.digits(),
        group,
        // A program that runs has its id, whoever asks: it may be what its first word is answered with.
        pids: [&view.pid, &pod.tid],
    });
    drop((null, write_stderr, theirs, memory));
    if spawned.is_err() {
        pod.tid.store(0, Relaxed);
    }
    let spawned = match spawned {
        Ok(spawned) => spawned,
        Err(NotSpawned::Resources(error)) => return Err(refused(error)),
        Err(NotSpawned::Cwd(error)) => {
            let cwd = process.cwd.as_deref().unwrap_or_default().to_string_lossy();
            return not_run(pod, 126, &format!("the directory {cwd:?} cannot be entered: {}", describe(error)));
        }
        Err(NotSpawned::Exec(error)) => {
            let code = if error == libc::ENOENT { 127 } else { 126 };
            let name = executable.to_string_lossy();
            return not_run(pod, code, &format!("{name:?} cannot be run: {}", describe(error)));
        }
    };

    let child = Arc::new(child::Child {
        pod: pod.clone(),
        brief: brief.errand,
        pid: spawned.pid,
        pidfd: spawned.pidfd,
        channel: ours,
        view,
        stderr_pipe: stderr,
        stderr: Mutex::default(),
        passage: &io.passage,
        notify,
        said: Mutex::default(),
        stopped: false.into(),
    });
    // The thread hears nothing of this child before the state is told.
    let mut said = lock(&child.said);
    if let Err(error) = io.keep(&child) {
        process::signal_group(&child.pidfd, child.pid, libc::SIGKILL);
        lock(&io.guardian).forget(pod.index());
        child.reap(&mut said);
        pod.tid.store(0, Relaxed);
        return Err(refused(error));
    }
    drop(spawning);
    pod.tid.store(child.pid, Relaxed); // by our count: a child may be the first of a namespace, and has noted 1
    *lock(&process.live) = Some(child.clone());
    if pod.life().state() == State::New {
        pod.set_ready_limit();
    }
    pod.advance(Event::Launch);
    if let Source::Command(_) = source {
        // A command has no init that anybody could see: it runs as soon as it is there.
        pod.advance(Event::EnterInit);
        pod.advance(Event::InitOk);
    }
    drop(said);
    let life = pod.life();
    if life.stop_asked() {
        pod.show(true, life.barred()); // the table may be younger than the stop
    }
    child.view.give_go();
    if life.stop_asked()
        && let Some(region) = table::region()
    {
        // Whoever asked found no child to pass the stop on to.
        region.bell.mark(pod.index());
        region.bell.ring(0);
    }
    Ok(())
}

fn brief(pod: &PodRef) -> Result<block::Brief<'_>> {
    let cell = pod.cell();
    let (errand, path, symbol) = match &cell.runtime.source {
        Source::Own => {
            link::check_exported(&cell.runtime, pod.name())?;
            (block::Errand::Exported, c"", c"")
        }
        Source::Program(_) => (block::Errand::Exported, c"", c""),
        Source::Command(_) => (block::Errand::Command, c"", c""),
        Source::Library { path, symbol } => (block::Errand::Library, &**path, &**symbol),
    };
    Ok(block::Brief {
        errand,
        runtime: cell.runtime.name,
        pod: cell.name,
        path,
        symbol,
        args: cell.args.bytes(),
        notify: cell.notify,
        extend_max: cell.extend_max,
        incarnation: pod.incarnation(),
        slot: pod.index(),
    })
}

/// There was nothing to run: the pod has failed before it had an S.
fn not_run(pod: &PodRef, code: i32, sentence: &str) -> Result<()> {
    pod.advance(Event::Launch);
    let record = pod.record(Phase::Spawn, Kind::Exit, code, sentence);
    tell_end(pod, vec![record]);
    Ok(())
}

/// S is gone, and whoever waits hears of it; the next life is put down for its time, or this was the last.
fn tell_end(pod: &PodRef, records: Vec<Record>) {
    pod.end_life(records, |failed, again| Event::End { failed, again });
    let io = World::existing().and_then(|world| *lock(&world.io));
    match (pod.life().state(), io) {
        // Of a group's member the group says when; it may have done so by now (`revive_soon`).
        (State::Restarting, Some(_)) if pod.cell().group.load(Acquire) != 0 => {}
        (State::Restarting, Some(io)) => io.revive_later(pod.clone(), pod.cell().restart_at.load(Relaxed)),
        _ => finish(pod),
    }
}

/// The next life of a group's member is due.
pub(crate) fn revive_soon(pod: &PodRef) {
    if let Some(io) = World::existing().and_then(|world| *lock(&world.io)) {
        io.revive_later(pod.clone(), 0);
    }
}

/// The next life of a pod is due. By the thread that keeps the children.
fn revive(pod: &PodRef) {
    if !pod.revive() {
        return finish_if_final(pod); // a cancel was faster
    }
    let Some(world) = World::existing() else { return };
    if let Err(error) = spawn(pod, world) {
        let record = pod.record(Phase::Spawn, Kind::Lost, 0, &error.sentence);
        tell_end(pod, vec![record]);
    }
}

/// A cancel between two lives leaves nobody else to see to the end.
pub(crate) fn finish_if_final(pod: &PodRef) {
    let life = pod.life();
    let alone = pod.cell().process.as_ref().is_some_and(|process| process.child().is_none());
    if alone && life.was_restarting() && life.state().is_final() && !life.gone() {
        if let Some(io) = World::existing().and_then(|world| *lock(&world.io)) {
            io.revive_no_more(pod);
        }
        finish(pod);
    }
}

/// The last act for an S that is gone: what a user gave is released, on a thread where it may take its time, and then
/// whoever joins is told.
fn finish(pod: &PodRef) {
    let Some(last_use) = pod.end_use() else { return }; // somebody was faster, and tells
    let Some(runtime) = last_use else {
        pod.advance(Event::Gone);
        return;
    };
    let refused = match World::existing() {
        Some(world) => world.crew.release(world, runtime, Some(pod.clone())).err(),
        None => return,
    };
    if let Some(runtime) = refused {
        match World::existing().and_then(|world| *lock(&world.io)) {
            Some(io) => io.release_later(runtime, pod.clone()), // no thread can be had by now
            None => {
                runtime.release();
                pod.advance(Event::Gone);
            }
        }
    }
}

/// Passes a stop on to S. By the keeper.
pub(crate) fn stop(process: &Process) {
    if let Some(child) = process.child() {
        child.stop();
    }
}

/// Whether what a child has said by `limit` may not have been heard yet, since this process stood still.
pub(crate) fn is_heard_late(pod: &PodRef, limit: Nanos) -> bool {
    let child = pod.cell().process.as_ref().and_then(|process| process.child());
    linux::now() < limit.saturating_add(LATE) && child.is_some_and(|child| child.has_more_to_say())
}

/// Not longer: one that says things without end has said nothing.
const LATE: Nanos = 3_000_000_000;

/// Keeps the limit of a stop: the grace, then the time until SIGKILL (L12). When to look again.
pub(crate) fn force(pod: &PodRef, process: &Process) -> Nanos {
    let now = linux::now();
    match pod.stop_deadline() {
        NEVER => return NEVER,
        at if now < at => return at,
        _ => {}
    }
    let Some(child) = process.child() else { return NEVER };
    // It has ended, and the thread that keeps the children has not come to it, since this process stood still.
    if linux::poll::has_bytes(&child.pidfd) {
        return now + child::STDERR_TIME;
    }
    if child.was_asked_to_end() {
        child.kill();
        return NEVER;
    }
    let message = format!("the grace is spent and the process was made to end: {}", explain(pod));
    let failed = {
        // `extend` takes this lock, too.
        let mut cold = lock(&pod.cell().cold);
        if linux::now() < pod.stop_limit.load(Relaxed) || pod.life().state() != State::Stopping {
            return pod.stop_limit.load(Relaxed);
        }
        let failed = pod.step(Event::Fail);
        if failed.is_none() && pod.life().state().is_final() {
            return NEVER; // it has ended in this moment
        }
        cold.push(pod.record(child.phase(), Kind::Timeout, 0, &message));
        pod.stop_limit.store(linux::now().saturating_add(process.kill_after).min(NEVER - 1), Relaxed);
        cold.extended = pod.cell().extend_max; // what comes now cannot be put off
        failed
    };
    if let Some(step) = failed {
        pod.announce(step);
    }
    child.ask_to_end();
    pod.stop_limit.load(Relaxed)
}

/// Waits, not beyond `limit`, until the host's stderr has taken what children that have ended left for it; false: it takes
/// nothing more.
pub(crate) fn pass_on_the_rest(world: &World, limit: Nanos) -> bool {
    let io = *lock(&world.io);
    io.is_none_or(|io| io.passage.drain(limit))
}

/// The same for a pod that has ended and its process with it: what was not passed on is told by its failure.
pub(crate) fn pass_on_or_tell(pod: &PodRef, world: &World) {
    if !pass_on_the_rest(world, NEVER) {
        lock(&pod.cell().cold).mend_records(child::not_all_passed_on);
    }
}

/// The checks of a command's arguments.
pub(crate) fn check_argv(argv: &[&CStr]) -> Result<Vec<CString>> {
    match argv.first() {
        None => Err(Error::argument("argv is empty: its first word is the program")),
        Some(program) if program.is_empty() => Err(Error::argument("argv[0] is empty: it is the program")),
        Some(_) => Ok(argv.iter().map(|&word| word.to_owned()).collect()),
    }
}

/// The refusal of a pod whose runtime can only be a process.
pub(crate) fn only_as_process(what: &str) -> Error {
    Error::new(
        Status::InvalidArgument,
        format!("options.host is PODKEEP_HOST_THREAD: {what} runs as a process only; set PODKEEP_HOST_PROCESS"),
    )
}
