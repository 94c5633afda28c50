//! Control from outside: who the pods of a process are, how they are, and TERMINATE, over gRPC (cargo feature `grpc`). What
//! is said on the wire stands in `proto/`. The server runs on one library thread of its own, never on a pod's: a pod that
//! computes, blocks or holds an interpreter's lock is still answered for. A client runs on the thread of its caller.

mod accept;
pub mod address;
mod answers;
mod authority;
pub mod client;
#[cfg(test)]
mod faults;
mod feed;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod health;
mod link;
mod listener;
pub(crate) mod names;
mod places;
mod server;
mod service;
pub(crate) mod tls;
mod view;
mod words;

pub use server::{ServeOptions, Server};

/// The messages and calls of `proto/`, generated from there (`make proto`).
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]

    /// `podkeep.v1`: pods, groups, TERMINATE.
    pub mod v1 {
        include!("proto/podkeep.v1.rs");
    }

    /// `grpc.health.v1`: what probes ask.
    pub mod health {
        include!("proto/grpc.health.v1.rs");
    }

    /// All of `proto/`, described for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!("proto/descriptors.bin");
}
