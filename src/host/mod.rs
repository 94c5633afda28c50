//! Where a pod runs. A host makes S, or is it; reports each step to the pod's state machine; and knows what force there
//! is.

pub(crate) mod caller;
pub(crate) mod main;
pub(crate) mod process;
pub(crate) mod thread;
mod upward;
