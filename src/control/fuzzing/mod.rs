//! What must hold for whatever a client says to the control service, and a server to a control client. `fuzz/` looks for
//! bytes for which it does not; here a test looks at those that are kept in `fuzz/corpus`.
//!
//! The real ends speak through memory, on one thread, in a time that passes by itself while nobody has anything to do: what
//! would hang for ever does so at once, and is found.

use std::time::Duration;

use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

mod answer;
mod caller;
mod control;
mod pods;
mod wire;

pub use answer::answer;
pub use control::control;

/// As much as a socket holds.
const PIPE: usize = 64 << 10;
/// In that time, which is none, everybody does what there is to do.
const MOMENT: Duration = Duration::from_millis(1);
/// Longer than any time limit of the control port.
const LONG: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

async fn settle() {
    sleep(MOMENT).await;
}

/// Reads what there is by now; `None`: the other side has ended the connection, and there was no more.
async fn read(line: &mut DuplexStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        match timeout(MOMENT, line.read_buf(&mut all)).await {
            Ok(Ok(0) | Err(_)) if all.is_empty() => return None,
            Ok(Ok(n)) if n > 0 && all.len() < PIPE => {}
            _ => return Some(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_hold_does_for_all_that_is_kept() {
        crate::fuzzing::replay(&[("answer", answer), ("control", control)]);
    }
}
