//! `podkeep run`: a command or a library's procedure as the main thing that this process is about.

use crate::cli::USAGE;
use crate::library::{self, Library, PodOptions};
use crate::listen::Listen;
use crate::options::{Host, Options, Restart};
use crate::quantity::Ready;
use crate::relay;
use crate::restarts;
use crate::tell::{tell, tell_failure};
use clap::Args;
use std::ffi::{CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Run a command or a library's procedure until it ends, or SIGINT or SIGTERM ends it
///
/// The first SIGINT or SIGTERM cancels and waits up to --grace; a second one ends at once. SIGHUP (not at a terminal),
/// SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH and the real-time signals reach the command.
#[derive(Args)]
#[command(override_usage = "\
podkeep run [OPTIONS] -- COMMAND [ARG]...
       podkeep run [OPTIONS] --library PATH --symbol SYMBOL")]
#[command(after_help = "\
Exit codes:
  0      a clean end
  1-255  the command's own code, or the failure's
  2      wrong usage
  124    the grace was spent
  127    it cannot be started: no such command, library or symbol
  128+n  ended by signal n

Times are seconds (2.5) or have a unit (500ms, 2m).")]
pub struct Run {
    #[command(flatten)]
    options: Options,

    #[command(flatten)]
    listen: Listen,
}

/// Nothing to run.
pub const NOT_FOUND: c_int = 127;

/// Strings on their way to the library, and the list of pointers to them that C wants.
struct Strings {
    _owned: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    fn new(strings: Vec<CString>) -> Strings {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Strings { _owned: strings, pointers }
    }
}

/// Keeps the pod; the process's exit code.
pub fn run(asked: Run) -> c_int {
    // A wrong usage is told whether or not there is a library.
    is_process(&asked.options)
        .and_then(|process| {
            let library = Library::load().map_err(|sentence| (NOT_FOUND, sentence))?;
            keep(&library, asked, process)
        })
        .unwrap_or_else(|(code, sentence)| tell(code, &sentence))
}

pub type Refusal = (c_int, String);

fn keep(library: &Library, asked: Run, process: bool) -> Result<c_int, Refusal> {
    let options = asked.options;
    // These, and the library's path, mean the directory that this process was started in.
    let place = asked.listen.place()?;
    let args = match &options.args_file {
        Some(path) => std::fs::read(path).map_err(|why| (USAGE, format!("--args-file {}: {why}", path.display())))?,
        None => Vec::new(),
    };
    if !process {
        // A child has its own environment and directory; what runs in this process has this process's.
        for (key, value) in &options.env {
            // SAFETY: the library, bound but not used yet, has started no thread.
            unsafe { std::env::set_var(key, value) };
        }
    }
    let runtime = runtime(library, &options)?;
    let (ready, ready_port) = match options.ready {
        None | Some(Ready::OnRun) => (library::READY_ON_RUN, 0),
        Some(Ready::Notify) => (library::READY_NOTIFY, 0),
        Some(Ready::Port(port)) => (library::READY_PORT, port.into()),
    };
    let name = options.name.as_ref().map(|name| c_string(OsStr::new(name))).transpose()?;
    let mut env = Vec::new();
    let mut cwd = None;
    if process {
        for (key, value) in &options.env {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            env.push(c_string(&pair)?);
        }
        cwd = options.cwd.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?;
    } else if let Some(dir) = &options.cwd {
        std::env::set_current_dir(dir).map_err(|why| (USAGE, format!("--cwd {}: {why}", dir.display())))?;
    }
    let env = Strings::new(env);
    let given = PodOptions {
        name: name.as_ref().map_or(ptr::null(), |name| name.as_ptr()),
        host: if process { library::HOST_PROCESS } else { library::HOST_THREAD },
        ready,
        ready_port,
        ready_timeout_ms: options.ready_timeout.unwrap_or(0),
        grace_ms: options.grace.unwrap_or(0),
        kill_after_ms: options.kill_after.unwrap_or(0),
        stop_signal: options.stop_signal.unwrap_or(0),
        env: if options.env.is_empty() || !process { ptr::null() } else { env.pointers.as_ptr() },
        cwd: cwd.as_ref().map_or(ptr::null(), |dir| dir.as_ptr()),
        args: if args.is_empty() { ptr::null() } else { args.as_ptr().cast() },
        args_len: args.len(),
        restart: options.restart.map_or(library::RESTART_NEVER, |when| match when {
            Restart::Never => library::RESTART_NEVER,
            Restart::OnFailure => library::RESTART_ON_FAILURE,
            Restart::Always => library::RESTART_ALWAYS,
        }),
        max_restarts: options.max_restarts.unwrap_or(0),
        restart_window_ms: options.restart_window.unwrap_or(0),
        backoff_ms: options.backoff.unwrap_or(0),
        backoff_max_ms: options.backoff_max.unwrap_or(0),
        watchdog_ms: options.watchdog.unwrap_or(0),
        extend_max_ms: options.extend_max.unwrap_or(0),
        ..PodOptions::new()
    };
    let mut pod = ptr::null_mut();
    // SAFETY: every string and list of the options lives until this returns; the library copies them.
    check(library, unsafe { (library.pod_new)(runtime, &given, &mut pod) })?;
    if process {
        // Ignored, as whoever started this may have it, the kernel would keep the command's end to itself.
        // SAFETY: numbers only.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        relay::begin(library, pod);
    }
    let teller = if given.restart == library::RESTART_NEVER { None } else { restarts::tell(library, pod) };
    let service = place.map(|place| place.serve(library)).transpose()?;
    let mut code = 0;
    // SAFETY: a valid out pointer.
    let ran = check(library, unsafe { (library.pod_run)(pod, &mut code) });
    if let Some(service) = service {
        service.end();
    }
    ran?;
    if let Some(teller) = teller {
        let _ = teller.join();
    }
    tell_failure(library, pod);
    Ok(code)
}

/// Whether a child process is asked for.
pub fn is_process(options: &Options) -> Result<bool, Refusal> {
    match (options.command.is_empty(), options.host) {
        (false, Some(Host::Thread)) => {
            Err((USAGE, "a command is a process of its own: --host thread is for --library".into()))
        }
        (false, _) | (true, Some(Host::Process)) => Ok(true),
        (true, _) => Ok(false),
    }
}

fn runtime(library: &Library, options: &Options) -> Result<*mut library::Opaque, Refusal> {
    // A child and the guardian need the program, and here it is. Where it is not to be had by that name any more, the
    // library looks for another.
    if let Ok(program) = std::fs::read_link("/proc/self/exe") {
        let program = c_string(program.as_os_str())?;
        // SAFETY: a terminated string, which is copied.
        let _ = unsafe { (library.set_program)(program.as_ptr()) };
    }
    let mut runtime = ptr::null_mut();
    let status = if let (Some(path), Some(symbol)) = (&options.shared_object, &options.symbol) {
        let path = c_string(path.as_os_str())?;
        let symbol = c_string(OsStr::new(symbol))?;
        // SAFETY: terminated strings, which are copied, and a valid out pointer.
        unsafe { (library.runtime_from_library)(path.as_ptr(), symbol.as_ptr(), &mut runtime) }
    } else {
        let name = c_string(OsStr::new(&command_name(&options.command[0])))?;
        let argv = Strings::new(options.command.iter().map(|arg| c_string(arg)).collect::<Result<_, _>>()?);
        // SAFETY: as above; the list ends with NULL.
        unsafe { (library.runtime_from_command)(name.as_ptr(), argv.pointers.as_ptr(), &mut runtime) }
    };
    check(library, status)?;
    Ok(runtime)
}

/// "python3" of "/usr/bin/python3", as far as a name can hold it.
pub fn command_name(program: &OsStr) -> String {
    let base = Path::new(program).file_name().unwrap_or(program).to_string_lossy();
    let mut end = base.len().min(255);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { "command".into() } else { base[..end].into() }
}

pub fn c_string(s: &OsStr) -> Result<CString, Refusal> {
    CString::new(s.as_bytes()).map_err(|_| (USAGE, format!("a NUL inside '{}'", s.display())))
}

/// The exit code and the sentence of a call that was refused.
pub fn check(library: &Library, status: i32) -> Result<(), Refusal> {
    match status {
        library::OK => Ok(()),
        library::ERR_INVALID_ARGUMENT => Err((USAGE, library.why(status))),
        library::ERR_NOT_FOUND | library::ERR_RESOURCES => Err((NOT_FOUND, library.why(status))),
        _ => Err((1, library.why(status))),
    }
}

#[cfg(test)]
mod tests {
    use super::command_name;
    use std::ffi::OsStr;

    #[test]
    fn a_command_lends_its_name() {
        for (program, name) in [("/usr/bin/redis-server", "redis-server"), ("sh", "sh"), ("/", "/"), ("", "command")] {
            assert_eq!(command_name(OsStr::new(program)), name);
        }
        assert_eq!(command_name(OsStr::new(&"é".repeat(200))).len(), 254);
    }
}
