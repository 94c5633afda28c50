//! `podkeep terminate`: TERMINATE, and how it ended.

use super::{ADDRESSES, EXIT_CODES, Reach, code, failed, json, screen, table, timeout};
use std::ffi::c_int;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// End a pod or a group of a process, wait for it, and say how it ended
///
/// When --timeout is reached it has been asked for its end, and ends nevertheless; unless the process did not answer, which is
/// said.
#[derive(clap::Args)]
#[command(after_help = format!("\
Exit codes:
  0    it has ended without a failure
  1    it has ended with a failure{EXIT_CODES}

124 as well: its grace was spent, and its thread was let go.
{ADDRESSES}"))]
pub struct Terminate {
    #[command(flatten)]
    reach: Reach,

    /// Of a pod or a group
    name: String,

    /// How long the stop may take; it can only shorten what the pod has
    #[arg(long, value_name = "TIME", value_parser = timeout, allow_hyphen_values = true)]
    grace: Option<Duration>,
}

pub fn terminate(options: Terminate) -> c_int {
    let (begin, name) = (Instant::now(), &options.name);
    let asked = options.reach.connect();
    let end = match asked.and_then(|reached| reached.client.terminate(name, options.grace, reached.left())) {
        Ok(end) => end,
        Err(error) => return failed(&error),
    };
    let seconds = begin.elapsed().as_secs_f64();
    let mut text = String::new();
    if options.reach.json {
        text = format!("{:#}\n", json::end(name, seconds, &end));
    } else {
        let _ = writeln!(text, "{name}: {} after {seconds:.3} s", end.state().word());
        for failure in &end.failures {
            let _ = writeln!(text, "{}", table::harmless(&failure.to_string()));
        }
    }
    screen::write(&text);
    match end.outcome(name) {
        Ok(()) => 0,
        Err(error) => code(&error),
    }
}
