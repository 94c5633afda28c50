//! Supervision: what follows an incarnation's end. Decisions are data and pure functions; `host` and `keeper` carry them
//! out.

pub(crate) mod restart;
