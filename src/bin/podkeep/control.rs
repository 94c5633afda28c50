//! The verbs that reach the pods of another process: `ps`, `watch`, `health`, `terminate`. They use the crate's own client,
//! which keeps no pods; nothing else of the crate is used here.

pub mod health;
pub mod json;
pub mod ps;
pub mod screen;
pub mod table;
pub mod terminate;
pub mod watch;

use crate::quantity;
use crate::tell::tell;
use podkeep::control::address::Address;
use podkeep::control::client::Client;
use podkeep::{Error, Status};
use std::ffi::c_int;
use std::time::{Duration, Instant};

#[derive(clap::Subcommand)]
pub enum Verb {
    Ps(ps::Ps),
    Watch(watch::Watch),
    Health(health::Health),
    Terminate(terminate::Terminate),
}

/// Does it; the process's exit code.
pub fn control(verb: Verb) -> c_int {
    // Whoever does not read what is said may want the exit code. Nothing else runs in this process, nor is started by it.
    // SAFETY: no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    match verb {
        Verb::Ps(asked) => ps::ps(asked),
        Verb::Watch(asked) => watch::watch(asked),
        Verb::Health(asked) => health::health(asked),
        Verb::Terminate(asked) => terminate::terminate(asked),
    }
}

/// What the exit codes of these verbs mean, for their --help.
pub const EXIT_CODES: &str = "
  2    wrong usage
  3    no pod or group of that name
  4    denied: another user's process, or TLS refuses a side
  5    unreachable: nobody listens there, or the connection was lost: the process was killed or has ended
  124  a limit was reached
  125  anything else";

/// What an address looks like, for their --help.
pub const ADDRESSES: &str = "
ADDR is unix:PATH, tcp:HOST:PORT, or for mutual TLS tcp:HOST:PORT,cert=FILE,key=FILE,ca=FILE (a comma in a file's name
is %2C). Times are seconds (2.5) or have a unit (500ms, 2m).";

/// Where to, and for how long; every one of these verbs has it.
#[derive(clap::Args)]
pub struct Reach {
    /// Where the process serves its pods
    #[arg(value_name = "ADDR", value_parser = address)]
    address: Address,

    /// How long it may take in all [default: no limit; of `health`: 1]
    #[arg(long, value_name = "TIME", value_parser = timeout, allow_hyphen_values = true)]
    timeout: Option<Duration>,

    /// Say it as JSON
    #[arg(long)]
    pub json: bool,
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse(text).map_err(|error| error.to_string())
}

pub fn timeout(text: &str) -> Result<Duration, String> {
    quantity::stretch(text).map(|ms| Duration::from_millis(ms as u64))
}

/// A connection, and the moment by which all must be done.
pub struct Reached {
    pub client: Client,
    by: Option<Instant>,
}

impl Reach {
    pub fn connect(&self) -> Result<Reached, Error> {
        self.connect_within(self.timeout)
    }

    /// With a limit of the verb's own where none is given.
    pub fn connect_within(&self, default: Option<Duration>) -> Result<Reached, Error> {
        let limit = self.timeout.or(default);
        let by = limit.and_then(|limit| Instant::now().checked_add(limit));
        Ok(Reached { client: Client::connect(&self.address, limit)?, by })
    }
}

impl Reached {
    /// What is left of the limit; never so little that it would be none.
    pub fn left(&self) -> Option<Duration> {
        self.by.map(|by| by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)))
    }

    pub fn is_over(&self) -> bool {
        self.by.is_some_and(|by| Instant::now() >= by)
    }
}

/// Says why on stderr; the exit code.
pub fn failed(error: &Error) -> c_int {
    tell(code(error), &table::harmless(&error.sentence))
}

pub fn code(error: &Error) -> c_int {
    match error.status {
        Status::InvalidArgument => 2,
        Status::NotFound => 3,
        Status::Denied => 4,
        Status::Unreachable => 5,
        Status::Timeout => 124,
        Status::Failed => 1,
        _ => 125,
    }
}
