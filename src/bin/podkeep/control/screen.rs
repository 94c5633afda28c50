//! What stdout is: a terminal with a size and colours, or something that takes every line as it is.

use std::io::{IsTerminal, Write};

pub struct Screen {
    pub is_terminal: bool,
    pub colours: bool,
}

/// Of a terminal that does not tell its size.
const USUAL: (usize, usize) = (80, 24);

impl Screen {
    /// stdout. NO_COLOR (<https://no-color.org>) and a terminal that knows none mean no colours.
    pub fn stdout() -> Screen {
        let is_terminal = std::io::stdout().is_terminal();
        let said = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let colours = is_terminal && said("NO_COLOR").is_none() && said("TERM").is_none_or(|term| term != "dumb");
        Screen { is_terminal, colours }
    }

    /// Columns and rows, asked for anew each time: a window changes.
    pub fn size(&self) -> (usize, usize) {
        // SAFETY: zeroes are a valid winsize; the call fills it or fails.
        let size = unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size);
            size
        };
        let or = |got: u16, usual: usize| if got == 0 { usual } else { got.into() };
        (or(size.ws_col, USUAL.0), or(size.ws_row, USUAL.1))
    }
}

/// Writes all of it at once; whether anybody is left who reads.
pub fn write(text: &str) -> bool {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}
