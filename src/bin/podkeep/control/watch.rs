//! `podkeep watch`: changes as they happen. On a terminal a table that is drawn anew; else a line an event.

use super::screen::{self, Screen};
use super::{ADDRESSES, EXIT_CODES, Reach, Reached, failed, json, table};
use podkeep::control::client::{Client, Events};
use podkeep::control::proto::v1::Event;
use podkeep::{Error, Status};
use std::ffi::c_int;
use std::time::{Duration, Instant};

/// While nothing happens the table's times go on.
const TICK: Duration = Duration::from_secs(1);
/// The table is not drawn more often, whatever happens.
const PAUSE: Duration = Duration::from_millis(100);

/// Follow the pods of a process, until it ends its service
///
/// On a terminal: a table, a line a pod, kept as it is now. Else, and with --json: the present states, then a line for each
/// change.
#[derive(clap::Args)]
#[command(after_help = format!("\
Exit codes:
  0    the one pod is gone, or the process ends its service{EXIT_CODES}
{ADDRESSES}"))]
pub struct Watch {
    #[command(flatten)]
    reach: Reach,

    /// Of one pod alone
    name: Option<String>,
}

pub fn watch(options: Watch) -> c_int {
    let screen = Screen::stdout();
    let name = options.name.as_deref();
    let followed = options.reach.connect().and_then(|reached| match options.reach.json || !screen.is_terminal {
        true => follow(&reached, name, options.reach.json),
        false => draw(&reached, &options.reach.connect()?.client, name, &screen),
    });
    followed.map_or_else(|error| failed(&error), |()| 0)
}

fn follow(reached: &Reached, name: Option<&str>, as_json: bool) -> Result<(), Error> {
    let mut events = reached.client.watch(0, name.unwrap_or_default(), reached.left())?;
    while let Some(event) = events.next(reached.left())? {
        let line = if as_json { json::event(&event).to_string() } else { line(&event) };
        if !screen::write(&format!("{line}\n")) {
            break;
        }
    }
    Ok(())
}

fn line(event: &Event) -> String {
    let time = event.time.as_ref().map_or("-".into(), ToString::to_string);
    let (name, from, to) = (table::clean(&event.name), event.from().word(), event.to().word());
    let change = if from == to { to.into() } else { format!("{from} -> {to}") };
    let missed = if event.missed == 0 { String::new() } else { format!(" ({} more before)", event.missed) };
    let failures: String = event.failures.iter().map(|f| format!("; {}", table::clean(&f.to_string()))).collect();
    format!("{time} {name}: {change}{missed}{failures}")
}

/// `client` asks for the table while the other one waits for events.
fn draw(reached: &Reached, client: &Client, name: Option<&str>, screen: &Screen) -> Result<(), Error> {
    let mut events = reached.client.watch(0, name.unwrap_or_default(), reached.left())?;
    let mut drawn = 0;
    loop {
        let list = match client.list(reached.left()) {
            Ok(list) => list,
            Err(error) => return ended(&mut events, error),
        };
        let lines = table::lines(&list, name, screen);
        let text = frame(drawn, &lines, screen.size().1);
        drawn = text.matches('\n').count();
        if !screen::write(&text) {
            return Ok(());
        }
        // What comes in a burst is drawn once.
        let (mut wait, pause) = (TICK, Instant::now() + PAUSE);
        loop {
            match events.next(Some(reached.left().map_or(wait, |left| wait.min(left)))) {
                Ok(Some(_)) => wait = pause.saturating_duration_since(Instant::now()),
                Ok(None) => return Ok(()),
                Err(error) if error.status == Status::Timeout && reached.is_over() => return Err(error),
                Err(error) if error.status == Status::Timeout => break,
                Err(error) => return Err(error),
            }
            if wait.is_zero() {
                break;
            }
        }
    }
}

/// There is no list any more: perhaps because the service has ended, which the events tell.
fn ended(events: &mut Events, error: Error) -> Result<(), Error> {
    loop {
        match events.next(Some(TICK)) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(()),
            Err(_) => return Err(error),
        }
    }
}

/// Over the lines that were drawn before; as many as the window has room for.
fn frame(drawn: usize, lines: &[String], rows: usize) -> String {
    let mut text = match drawn {
        0 => String::new(),
        _ => format!("\x1b[{drawn}A\r\x1b[J"),
    };
    let room = rows.saturating_sub(1).max(1);
    let fits = if lines.len() <= room { lines.len() } else { room - 1 };
    lines[..fits].iter().for_each(|line| text.extend([line.as_str(), "\n"]));
    if fits < lines.len() {
        text.push_str(&format!("... {} more\n", lines.len() - fits));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::frame;

    #[test]
    fn a_frame_covers_the_one_before_and_fits() {
        let lines: Vec<String> = ["h", "a", "b", "c"].map(String::from).into();
        assert_eq!(frame(0, &lines, 24), "h\na\nb\nc\n");
        assert_eq!(frame(4, &lines, 4), "\x1b[4A\r\x1b[Jh\na\n... 2 more\n");
        assert_eq!(frame(3, &lines, 5), "\x1b[3A\r\x1b[Jh\na\nb\nc\n");
        assert_eq!(frame(0, &lines, 0), "... 4 more\n");
    }
}
