//! Where a pod runs. A host makes S, calls the recipe's callbacks there, reports each step to the pod's state machine,
//! and knows what force there is.

pub(crate) mod thread;
