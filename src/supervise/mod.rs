//! Supervision: what follows an incarnation's end, and what members of a group do to each other. Decisions are data and
//! pure functions (`restart`, `group`); `driver`, the hosts and the keeper carry them out.

pub(crate) mod driver;
pub(crate) mod group;
pub(crate) mod restart;
