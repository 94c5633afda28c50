//! The `podkeep` program: keeps a command or a library's procedure from the shell, and stands in for a host where a
//! process of its own is needed (`__guard`, `__child`).
//!
//! What keeps pods is bound to the library at run time (`library.rs`), never to the crate: a worker that it loads is linked
//! to libpodkeep.so.0 itself, and a second copy in this executable would keep a second world of pods. The verbs that reach
//! the pods of others (`control.rs`) have the crate's client in this executable: a probe loads no library.

// Without the standard library's start: it ignores SIGPIPE and installs handlers for SIGSEGV and SIGBUS, which a worker
// would find changed and a child's commands would inherit; and the guardian is to stay small.
#![cfg_attr(not(test), no_main)]

mod child;
mod cli;
mod completions;
#[cfg(feature = "grpc")]
mod control;
mod export;
mod guard;
mod library;
mod listen;
mod options;
mod quantity;
mod relay;
mod restarts;
mod run;
mod tell;

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// The process's entry: the hidden verbs first, before anything is allocated or loaded.
///
/// # Safety
/// Called by the C runtime alone, with what the kernel gave.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: the C runtime gives argc valid strings.
    let args = unsafe { std::slice::from_raw_parts(argv, argc.max(0) as usize) };
    // SAFETY: as above; each is terminated and lives as long as the process.
    let arg = |n: usize| args.get(n).map(|a| unsafe { CStr::from_ptr::<'static>(*a) });
    match arg(1).map(CStr::to_bytes) {
        Some(b"__guard") => guard::guard(arg(2), arg(3)),
        Some(b"__child") => child::child(),
        // SAFETY: as above.
        _ => cli::run(args.iter().map(|a| OsString::from_vec(unsafe { CStr::from_ptr(*a) }.to_bytes().to_vec()))),
    }
}
