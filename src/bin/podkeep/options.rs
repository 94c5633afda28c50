//! How a pod is kept, and what is in it: the options that every verb which runs or describes one shares.

use crate::quantity::{self, Ready};
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args)]
pub struct Options {
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

    /// Whether another life follows an end; never after a stop [default: never]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub restart: Option<Restart>,

    /// So many restarts in --restart-window, or `unlimited` [default: 8]
    #[arg(long, value_name = "N", value_parser = quantity::restarts, requires = "restart", allow_hyphen_values = true)]
    pub max_restarts: Option<u32>,

    /// The time that --max-restarts counts in; a life that was ready for so long forgets the delays [default: 60]
    #[arg(long, value_name = "TIME", value_parser = quantity::stretch, requires = "restart", allow_hyphen_values = true)]
    pub restart_window: Option<i64>,

    /// The delay before a restart, which doubles each time [default: 100ms]
    #[arg(long, value_name = "TIME", value_parser = quantity::stretch, requires = "restart", allow_hyphen_values = true)]
    pub backoff: Option<i64>,

    /// The longest delay [default: 30]
    #[arg(long, value_name = "TIME", value_parser = quantity::stretch, requires = "restart", allow_hyphen_values = true)]
    pub backoff_max: Option<i64>,

    /// How often a heartbeat must come (a command's WATCHDOG=1, as sd_notify has it) [default: it need not]
    #[arg(long, value_name = "TIME", value_parser = quantity::duration, allow_hyphen_values = true)]
    pub watchdog: Option<i64>,

    /// How much more time it may ask for, in all of a life [default: 60]
    #[arg(long, value_name = "TIME", value_parser = quantity::stretch, allow_hyphen_values = true)]
    pub extend_max: Option<i64>,

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

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Restart {
    Never,
    /// After a failure
    OnFailure,
    /// After any end but a stop
    Always,
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
