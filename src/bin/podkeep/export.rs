//! `podkeep export`: what has `podkeep run` started elsewhere. The limits of whoever starts it are taken from the pod's
//! own, so that it never ends what podkeep still has in hand.

mod kubernetes;
mod systemd;

use crate::cli::USAGE;
use crate::options::{Options, Restart};
use crate::run::{command_name, is_process};
use crate::tell::tell;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Subcommand};
use std::ffi::{OsStr, OsString, c_int};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Write a manifest or a unit that runs the same under Kubernetes or systemd
#[derive(Args)]
pub struct Export {
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    Kubernetes(kubernetes::Kubernetes),
    Systemd(systemd::Systemd),
}

/// The library's defaults, in ms.
const GRACE: i64 = 5_000;
const KILL_AFTER: i64 = 1_000;
/// For who is above, beyond the pod's own limits: to pass the signal on, to reap, to say why. A stop that is in time never
/// uses it; without it a busy machine would have podkeep killed a moment before it has done its work.
const MARGIN: i64 = 5_000;

/// What both targets write down.
struct Plan {
    /// Of the pod.
    name: String,
    /// The same, as a DNS label: what else is called after it.
    label: String,
    /// What follows `podkeep run --listen`: the options as they were given, but for those that a target says in its own
    /// way, and the command.
    words: Vec<OsString>,
    /// Name and value; of two with one name the last.
    env: Vec<(OsString, OsString)>,
    /// How long a stop may take, in ms; `None`: without a limit.
    stop: Option<i64>,
    /// How long a life may take to be ready or to have failed, in ms; `None`: without a limit.
    life: Option<i64>,
    restarts: bool,
}

/// Does it; `said`: this verb's own words. The process's exit code.
pub fn export(export: Export, said: &ArgMatches) -> c_int {
    let said = said.subcommand().map_or(said, |(_, said)| said);
    let text = match &export.target {
        Target::Kubernetes(target) => Plan::new(&target.options, said).and_then(|plan| target.manifest(&plan)),
        Target::Systemd(target) => Plan::new(&target.options, said).and_then(|plan| target.unit(&plan)),
    };
    match text {
        Ok(text) => c_int::from(std::io::stdout().write_all(text.as_bytes()).is_err()),
        Err(sentence) => tell(USAGE, &sentence),
    }
}

impl Plan {
    /// Err: a sentence.
    fn new(options: &Options, said: &ArgMatches) -> Result<Plan, String> {
        let process = is_process(options).map_err(|(_, sentence)| sentence)?;
        let name = match (&options.name, options.command.first(), &options.symbol) {
            (Some(name), _, _) => name.clone(),
            (None, Some(program), _) => command_name(program),
            (None, None, symbol) => symbol.clone().unwrap_or_default(),
        };
        if !(1..=255).contains(&name.len()) {
            return Err(format!("the name has {} bytes, a pod's has 1 to 255", name.len()));
        }
        let program =
            options.command.first().map(Path::new).filter(|program| program.as_os_str().as_bytes().contains(&b'/'));
        let paths = [options.cwd.as_deref(), options.args_file.as_deref(), options.shared_object.as_deref(), program];
        if let Some(path) = paths.into_iter().flatten().find(|path| !path.is_absolute()) {
            return Err(format!(
                "'{}' is relative, and where it will be started is not here: give the whole path",
                path.display()
            ));
        }
        // What was asked for beyond the defaults may be made use of; a default extension nobody counts with.
        let more = options.extend_max.unwrap_or(0);
        let force = if process { options.kill_after.unwrap_or(KILL_AFTER) } else { 0 };
        let grace = options.grace.unwrap_or(GRACE);
        let stop = (grace >= 0).then(|| grace.saturating_add(force).saturating_add(more));
        let ready = options.ready_timeout.filter(|limit| *limit > 0);
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        for (key, value) in &options.env {
            env.retain(|(earlier, _)| earlier != key);
            env.push((key.clone(), value.clone()));
        }
        Ok(Plan {
            label: label(&name),
            words: words(&name, options, said),
            env,
            stop,
            life: ready.zip(stop).map(|(ready, stop)| ready.saturating_add(more).saturating_add(stop)),
            restarts: options.restart.is_some_and(|when| when != Restart::Never),
            name,
        })
    }
}

/// The words of `said` that `podkeep run` understands, without those that `Plan` has elsewhere.
fn words(name: &str, options: &Options, said: &ArgMatches) -> Vec<OsString> {
    // The name always: the probes call the pod by it, whatever a library says.
    let mut words = vec![format!("--name={name}").into()];
    for argument in Options::augment_args(Command::new("run")).get_arguments() {
        let id = argument.get_id().as_str();
        let Some(long) = argument.get_long().filter(|_| !matches!(id, "name" | "env" | "cwd")) else { continue };
        if said.value_source(id) == Some(ValueSource::CommandLine) {
            for value in said.get_raw(id).into_iter().flatten() {
                // In one word, so that a value which begins with a hyphen is none of the options.
                let mut word = OsString::from(format!("--{long}="));
                word.push(value);
                words.push(word);
            }
        }
    }
    if !options.command.is_empty() {
        words.push("--".into());
        words.extend(options.command.iter().cloned());
    }
    words
}

/// RFC 1123: lower-case letters, digits and hyphens, up to 63, and no hyphen at an end.
fn label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => label.push(c),
            _ if label.is_empty() || label.ends_with('-') => (),
            _ => label.push('-'),
        }
    }
    label.truncate(63);
    let label = label.trim_end_matches('-');
    if label.is_empty() { "pod".into() } else { label.into() }
}

/// With the margin, in whole seconds.
fn seconds(ms: i64) -> i64 {
    ms.saturating_add(MARGIN).saturating_add(999) / 1000
}

fn utf8(word: &OsStr) -> Result<&str, String> {
    word.to_str().ok_or_else(|| format!("'{}' is no UTF-8, which is all that can be written there", word.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_label() {
        for (name, want) in [
            ("web", "web"),
            ("Redis Server", "redis-server"),
            ("--a__b..c--", "a-b-c"),
            ("9", "9"),
            ("é", "pod"),
            ("wéb", "w-b"),
            ("/", "pod"),
        ] {
            assert_eq!(label(name), want, "{name}");
        }
        assert_eq!(label(&"x".repeat(255)).len(), 63);
        assert_eq!(label(&format!("{}-y", "x".repeat(62))), "x".repeat(62));
    }

    #[test]
    fn seconds_are_never_too_few() {
        for (ms, want) in [(0, 5), (1, 6), (1000, 6), (1001, 7), (i64::MAX, i64::MAX / 1000)] {
            assert_eq!(seconds(ms), want, "{ms}");
        }
    }
}
