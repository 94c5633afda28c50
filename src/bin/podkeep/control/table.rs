//! Pods and groups as a table: members below their group. On a terminal each row is one line, cut to its width.

use super::screen::Screen;
use podkeep::control::proto::v1::{Failure, ListResponse, Phase, Pod, State};
use prost_types::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const HEAD: [&str; 7] = ["NAME", "STATE", "FOR", "PHASE", "ID", "RESTARTS", "STATUS"];
const STATE: usize = 1;
const STATUS: usize = 6;
/// Which columns are left out first where there is no room.
const LEAST: [usize; 4] = [5, 4, 3, 2];
/// The STATUS that a narrow terminal should have room for.
const SOME_STATUS: usize = 12;
const GAP: usize = 2;

struct Row {
    cells: [String; 7],
    state: State,
}

/// The lines of the table, the head first. Of one pod alone when `only` names it.
pub fn lines(list: &ListResponse, only: Option<&str>, screen: &Screen) -> Vec<String> {
    let rows = rows(list, only);
    let mut widths = HEAD.map(str::width);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.width());
        }
    }
    let mut shown = [true; 7];
    let most = if screen.is_terminal { screen.size().0 } else { usize::MAX };
    for column in LEAST {
        if before_status(&widths, &shown) + widths[STATUS].min(SOME_STATUS) > most {
            shown[column] = false;
        }
    }
    let head = line(&HEAD.map(String::from), &widths, &shown, most, None);
    let body = rows.iter().map(|row| line(&row.cells, &widths, &shown, most, screen.colours.then_some(row.state)));
    std::iter::once(head).chain(body).collect()
}

fn before_status(widths: &[usize; 7], shown: &[bool; 7]) -> usize {
    (0..STATUS).filter(|column| shown[*column]).map(|column| widths[column] + GAP).sum()
}

fn rows(list: &ListResponse, only: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for group in &list.groups {
        if only.is_some_and(|only| only != group.name) {
            continue;
        }
        let mut cells = HEAD.map(|_| "-".to_string());
        cells[0] = clean(&group.name);
        cells[STATE] = group.state().word().into();
        cells[STATUS] = match group.failures.first() {
            Some(failure) => told(failure),
            None => format!("a group of {}", group.members.len()),
        };
        rows.push(Row { cells, state: group.state() });
        let members = list.pods.iter().filter(|pod| pod.group == group.name);
        rows.extend(members.map(|pod| of_pod(pod, "  ")));
    }
    let is_shown = |pod: &&Pod| match only {
        Some(only) => pod.name == only,
        None => list.groups.iter().all(|group| group.name != pod.group),
    };
    rows.extend(list.pods.iter().filter(is_shown).map(|pod| of_pod(pod, "")));
    rows
}

fn of_pod(pod: &Pod, indent: &str) -> Row {
    let state = pod.state();
    let failure =
        pod.failures.first().filter(|_| matches!(state, State::Failed | State::Abandoned | State::Restarting));
    // Where it is, or where it failed.
    let phase = match (failure, state) {
        (Some(failure), _) => failure.phase().word(),
        (None, State::Starting | State::Running | State::Stopping) if pod.phase() != Phase::Unspecified => {
            pod.phase().word()
        }
        _ => "-",
    };
    let cells = [
        format!("{indent}{}", clean(&pod.name)),
        state.word().into(),
        pod.entered.as_ref().map_or("-".into(), |entered| span(since(entered))),
        phase.into(),
        if pod.id == 0 { "-".into() } else { pod.id.to_string() },
        pod.restarts.to_string(),
        failure.map_or_else(|| clean(&pod.status), told),
    ];
    Row { cells, state }
}

/// A failure beside its pod's name and phase.
fn told(failure: &Failure) -> String {
    clean(&format!("{}, code {}: {}", failure.kind().word(), failure.code, failure.message))
}

/// On one line, and nothing in it that a terminal obeys.
pub fn clean(text: &str) -> String {
    harmless(text.trim()).replace('\n', " ")
}

/// Lines that a terminal shows and does not obey: they are another process's.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

fn since(time: &Timestamp) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    (now - time.seconds as f64 - f64::from(time.nanos) / 1e9).max(0.0)
}

/// "0.3s", "12s", "5m03s", "2h07m", "9d04h": of a clock that may be another machine's.
pub fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    let (m, h, d) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        0..10 => format!("{seconds:.1}s"),
        10..60 => format!("{whole}s"),
        60..3600 => format!("{m}m{:02}s", whole % 60),
        3600..86_400 => format!("{h}h{:02}m", m % 60),
        _ => format!("{d}d{:02}h", h % 24),
    }
}

fn line(cells: &[String; 7], widths: &[usize; 7], shown: &[bool; 7], most: usize, colour: Option<State>) -> String {
    let mut line = String::new();
    let mut used = 0;
    let last = if cells[STATUS].is_empty() { STATUS - 1 } else { STATUS };
    for column in (0..=last).filter(|column| shown[*column]) {
        let cell = cut(&cells[column], most - used);
        let width = cell.width();
        used += width;
        let (begin, end) = colour.filter(|_| column == STATE).map_or(("", ""), colours);
        line.push_str(&format!("{begin}{cell}{end}"));
        let gap = (widths[column] + GAP).saturating_sub(width).min(most - used);
        if column != last {
            line.push_str(&" ".repeat(gap));
            used += gap;
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// As much as has room, with an ellipsis when that is not all.
fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.into();
    }
    let mut left = room.saturating_sub(1);
    let fits = |c: &char| {
        let width = c.width().unwrap_or(0);
        let fits = width <= left;
        left = left.saturating_sub(width);
        fits
    };
    let mut kept: String = text.chars().take_while(fits).collect();
    if room > 0 {
        kept.push('…');
    }
    kept
}

fn colours(state: State) -> (&'static str, &'static str) {
    const END: &str = "\x1b[0m";
    match state {
        State::Running => ("\x1b[32m", END),
        State::Failed | State::Abandoned => ("\x1b[31m", END),
        State::Starting | State::Stopping | State::Restarting => ("\x1b[33m", END),
        _ => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (seconds, text) in
            [(0.04, "0.0s"), (9.96, "10.0s"), (59.9, "59s"), (303.0, "5m03s"), (7620.0, "2h07m"), (792_000.0, "9d04h")]
        {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn what_is_cut_fits_whatever_its_letters() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("漢字", 4), "漢字");
        assert_eq!(cut("漢字", 3), "漢…");
        assert_eq!(cut("漢字", 2), "…");
        assert_eq!(cut("ab", 1), "…");
        assert_eq!(cut("ab", 0), "");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_a_pods_words() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{9b}d\r\n"), "a [2Jb c d");
    }

    #[test]
    fn columns_go_before_the_status_does() {
        let pod = Pod {
            name: "web".into(),
            state: State::Running as i32,
            phase: Phase::Run as i32,
            id: 4711,
            status: "serving 漢字".into(),
            ..Default::default()
        };
        let list = ListResponse { pods: vec![pod], groups: vec![] };
        let cells = rows(&list, None).pop().unwrap().cells;
        let widths = [4, 7, 3, 5, 4, 8, 12];
        let all = line(&cells, &widths, &[true; 7], usize::MAX, Some(State::Running));
        assert_eq!(all, "web   \x1b[32mRUNNING\x1b[0m  -    run    4711  0         serving 漢字");
        assert_eq!(line(&cells, &widths, &[true; 7], 50, None), "web   RUNNING  -    run    4711  0         servin…");
        assert!(rows(&list, Some("other")).is_empty());
        for most in 0..60 {
            assert!(line(&cells, &widths, &[true; 7], most, None).width() <= most);
        }
    }
}
