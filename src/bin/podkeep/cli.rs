//! The command line: what can be said, and what it means.

use crate::library::{Library, text};
use crate::quantity::{self, Ready};
use crate::run;
use crate::tell::tell;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::ffi::{OsString, c_int};
use std::io::Write;
use std::path::PathBuf;

/// Keeps any blocking procedure in a pod: started, cancelled, torn down, and its failure told.
#[derive(Parser)]
#[command(name = "podkeep", arg_required_else_help = true, max_term_width = 100)]
struct Program {
    /// Print the versions of program, library and ABI
    #[arg(short = 'V', long)]
    version: bool,

    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    Run(Run),
}

/// Run a command or a library's procedure until it ends, or SIGINT or SIGTERM ends it
///
/// The first SIGINT or SIGTERM cancels and waits up to --grace; a second one ends at once.
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
    /// The pod's name [default: the command's or the symbol's]
    #[arg(long)]
    pub name: Option<String>,

    /// Where a library's procedure runs; a command is always a process
    #[arg(long, value_enum)]
    pub host: Option<Host>,

    /// How long a stop may take, or `forever` [default: 5]
    #[arg(long, value_name = "TIME", value_parser = quantity::grace, allow_hyphen_values = true)]
    pub grace: Option<i64>,

    /// From SIGTERM to SIGKILL when the grace of a process is spent [default: 1]
    #[arg(long, value_name = "TIME", value_parser = quantity::stretch, allow_hyphen_values = true)]
    pub kill_after: Option<i64>,

    /// When it is ready: `on-run`, `notify` (sd_notify, or the library's word) or `port:N` (a command listens there)
    #[arg(long, value_name = "WHEN", value_parser = quantity::ready)]
    pub ready: Option<Ready>,

    /// How long it may take to be ready [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, allow_hyphen_values = true)]
    pub ready_timeout: Option<i64>,

    /// What a command is asked to stop with [default: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = quantity::signal, allow_hyphen_values = true)]
    pub stop_signal: Option<i32>,

    /// Set a variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = Assignment)]
    pub env: Vec<(OsString, OsString)>,

    /// The directory it starts in
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,

    /// A file whose bytes a library's procedure gets as its arguments
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub args_file: Option<PathBuf>,

    /// A shared library that has the procedure
    #[arg(long = "library", value_name = "PATH", requires = "symbol", conflicts_with = "command")]
    pub shared_object: Option<PathBuf>,

    /// Which of the library's symbols it is
    #[arg(long, value_name = "SYMBOL", requires = "shared_object")]
    pub symbol: Option<String>,

    /// The command and its arguments
    #[arg(last = true, required_unless_present = "shared_object", value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Host {
    /// This process, which gives its main thread
    Main,
    /// The same, as a thread of this process
    Thread,
    /// A child process
    Process,
}

/// `quantity::assignment` for clap, whose parsers made of functions see UTF-8 alone.
#[derive(Clone)]
struct Assignment;

impl clap::builder::TypedValueParser for Assignment {
    type Value = (OsString, OsString);

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Self::Value, clap::Error> {
        quantity::assignment(value).map_err(|why| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("{why}, not '{}'\n", value.display()))
                .with_cmd(command)
        })
    }
}

/// What clap itself exits with, too.
pub const USAGE: c_int = 2;

/// Does what the arguments say; the process's exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> c_int {
    let program = match Program::try_parse_from(args) {
        Ok(program) => program,
        Err(error) => {
            // Help goes to stdout, a wrong usage to stderr; a closed one changes nothing.
            let _ = error.print();
            return error.exit_code();
        }
    };
    if program.version {
        return version();
    }
    match program.verb {
        Some(Verb::Run(options)) => run::run(options),
        None => {
            let _ = Program::command().print_help();
            USAGE
        }
    }
}

fn version() -> c_int {
    let library = match Library::load() {
        Ok(library) => library,
        Err(sentence) => return tell(127, &sentence),
    };
    // SAFETY: both take nothing; the version is a terminated string.
    let (version, abi) = unsafe { (text((library.version)()), (library.abi_version)()) };
    let program = env!("CARGO_PKG_VERSION");
    let path = library.path.display();
    let written = writeln!(std::io::stdout(), "podkeep {program}\nlibrary {version} ({path})\nABI {abi}");
    c_int::from(written.is_err())
}
