//! How long a wait may last.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::linux::{self, NEVER, Nanos};

/// The limit of a wait: of the waiter, never of the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// Look once.
    Now,
    Until(Nanos),
    Forever,
}

impl Limit {
    /// The ABI's milliseconds: -1 for ever, 0 looks once, other negative ones are refused, sums saturate.
    pub(crate) fn from_ms(argument: &str, ms: i64) -> Result<Limit> {
        match ms {
            -1 => Ok(Limit::Forever),
            0 => Ok(Limit::Now),
            1.. => Ok(Limit::Until(after(nanos(ms)))),
            _ => Err(Error::argument(format!(
                "{argument} is {ms}: give milliseconds, 0 to look once, or PODKEEP_FOREVER (-1)"
            ))),
        }
    }

    /// `None`: for ever.
    pub(crate) fn from_duration(duration: Option<Duration>) -> Limit {
        match duration {
            None => Limit::Forever,
            Some(Duration::ZERO) => Limit::Now,
            Some(d) => Limit::Until(after(d.as_nanos().min(NEVER as u128) as Nanos)),
        }
    }

    pub(crate) fn deadline(self) -> Nanos {
        match self {
            Limit::Now => 0,
            Limit::Until(at) => at,
            Limit::Forever => NEVER,
        }
    }

    pub(crate) fn passed(self) -> bool {
        match self {
            Limit::Now => true,
            Limit::Until(at) => linux::now() >= at,
            Limit::Forever => false,
        }
    }
}

/// Milliseconds (not negative) in nanoseconds, saturating.
pub(crate) fn nanos(ms: i64) -> Nanos {
    (ms as u64).saturating_mul(1_000_000)
}

/// The moment `span` from now, saturating below NEVER: a limit, however far, is a limit.
pub(crate) fn after(span: Nanos) -> Nanos {
    // The kernel takes seconds as i64; a moment beyond it would be refused.
    linux::now().saturating_add(span).min(NEVER - 1)
}
