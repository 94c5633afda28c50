//! A unit of systemd.

use super::{Plan, seconds, utf8};
use crate::options::Options;
use clap::Args;
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Write a service's unit
///
/// Names, arguments and values are what they were, escaped where systemd would expand them. A path is whole.
#[derive(Args)]
#[command(override_usage = "\
podkeep export systemd [OPTIONS] -- COMMAND [ARG]...
       podkeep export systemd [OPTIONS] --library PATH --symbol SYMBOL")]
pub struct Systemd {
    /// The podkeep to run [default: this one]
    #[arg(long, help_heading = "The unit", value_name = "PATH")]
    program: Option<PathBuf>,

    #[command(flatten)]
    pub options: Options,
}

/// How often systemd wants to hear that podkeep itself lives, in seconds. Whatever its pod may take: that is podkeep's to
/// judge.
const WATCHDOG: u32 = 30;

impl Systemd {
    /// Err: a sentence.
    pub fn unit(&self, plan: &Plan) -> Result<String, String> {
        let label = &plan.label;
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::fs::read_link("/proc/self/exe").map_err(|why| format!("give --program: this one's: {why}"))?,
        };
        // %t is systemd's word, /run or the user's own.
        let mut words = vec![path(&program)?, "run".into(), format!("--listen=unix:%t/podkeep/{label}/control.sock")];
        words.extend(plan.words.iter().map(|word| quoted(word, true)));
        let limit = |ms: Option<i64>| ms.map_or("infinity".into(), |ms| seconds(ms).to_string());
        let start = plan.life.filter(|_| !plan.restarts);
        let mut unit = String::new();
        let description = plan.name.replace(char::is_control, " ").replace('%', "%%");
        let _ = write!(
            unit,
            "[Unit]\nDescription={description}, kept by podkeep\n\n[Service]\nType=notify\nNotifyAccess=main\n"
        );
        let _ = writeln!(unit, "ExecStart={}", words.join(" "));
        if let Some(directory) = &self.options.cwd {
            let _ = writeln!(unit, "WorkingDirectory={}", plain(directory)?);
        }
        for (key, value) in &plan.env {
            let _ = writeln!(unit, "Environment={}", assignment(key, value)?);
        }
        let _ = write!(
            unit,
            "# For `podkeep health`, `podkeep terminate` and the others.\n\
             RuntimeDirectory=podkeep/{label}\n\
             RuntimeDirectoryMode=0700\n\
             TimeoutStartSec={}\n\
             TimeoutStopSec={}\n\
             WatchdogSec={WATCHDOG}\n\
             # podkeep alone gets SIGTERM, and ends its pod; what it leaves behind is killed.\n\
             KillMode=mixed\n\
             # An exit code is podkeep's word on its pod, which it has restarted as often as it should. This is for its own end.\n\
             Restart=on-abnormal\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            limit(start),
            limit(plan.stop),
        );
        Ok(unit)
    }
}

/// A word of ExecStart= (`command`, where a dollar would begin a variable) or Environment=, by systemd.syntax(7).
fn quoted(word: &OsStr, command: bool) -> String {
    let mut text = String::new();
    let mut bare = !word.is_empty();
    for chunk in word.as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            bare &= c.is_ascii_alphanumeric() || "_-./:=,@+%$".contains(c);
            match c {
                '%' => text.push_str("%%"),
                '$' if command => text.push_str("$$"),
                '\\' | '"' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                _ if c.is_control() => bytes(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => text.push(c),
            }
        }
        bare &= chunk.invalid().is_empty();
        bytes(&mut text, chunk.invalid());
    }
    if bare { text } else { format!("\"{text}\"") }
}

fn bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// The program: of a path systemd takes no quotes, control characters or bytes that are no text.
fn path(program: &Path) -> Result<String, String> {
    let text = utf8(program.as_os_str())?;
    if !program.is_absolute() || text.contains(|c: char| c.is_control() || "\"'\\".contains(c)) {
        return Err(format!("--program '{text}': systemd wants a whole path, without quotes and backslashes"));
    }
    // No dollar begins a variable here.
    Ok(quoted(program.as_os_str(), false))
}

/// WorkingDirectory=, which knows no quotes.
fn plain(directory: &Path) -> Result<String, String> {
    let text = utf8(directory.as_os_str())?;
    if text.contains(char::is_control) || text.ends_with(|c: char| c.is_whitespace() || c == '\\') {
        return Err(format!("--cwd '{}': a unit cannot say that", text.escape_debug()));
    }
    Ok(text.replace('%', "%%"))
}

/// systemd passes over what it does not take for a variable, with a line in its log.
fn assignment(key: &OsStr, value: &OsStr) -> Result<String, String> {
    let (key, value) = (utf8(key)?, utf8(value)?);
    if key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("'{key}' is no variable of systemd's: letters, digits, '_'"));
    }
    Ok(quoted(OsStr::new(&format!("{key}={value}")), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_they_must() {
        for (word, want) in [
            ("--grace=5", "--grace=5"),
            ("", "\"\""),
            (";", "\";\""),
            ("a b", "\"a b\""),
            ("50%", "50%%"),
            ("$HOME $$", "\"$$HOME $$$$\""),
            ("'", "\"'\""),
            ("\"\\", "\"\\\"\\\\\""),
            ("\n\t\u{1}\u{85}", "\"\\n\\t\\x01\\xc2\\x85\""),
            ("é", "\"é\""),
        ] {
            assert_eq!(quoted(OsStr::new(word), true), want, "{word:?}");
        }
        assert_eq!(quoted(OsStr::from_bytes(b"a\xff"), true), "\"a\\xff\"");
        assert_eq!(quoted(OsStr::new("A=$x"), false), "A=$x");
    }
}
