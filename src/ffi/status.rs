//! Statuses, the last error, the version.

use std::ffi::c_char;

/// What a call answers: PODKEEP_OK or one of PODKEEP_ERR_*. Numbers are never reused.
pub type podkeep_status = i32;

/// Done.
pub const PODKEEP_OK: podkeep_status = 0;
/// An argument cannot be used; podkeep_last_error names it.
pub const PODKEEP_ERR_INVALID_ARGUMENT: podkeep_status = -1;
/// NULL, freed, of another kind, or never handed out.
pub const PODKEEP_ERR_INVALID_HANDLE: podkeep_status = -2;
/// Not in this state of its life.
pub const PODKEEP_ERR_INVALID_STATE: podkeep_status = -3;
/// The wait's limit has passed; what was waited for goes on.
pub const PODKEEP_ERR_TIMEOUT: podkeep_status = -4;
/// The pod failed: podkeep_pod_failure tells.
pub const PODKEEP_ERR_FAILED: podkeep_status = -5;
/// It ended without failure before what was waited for.
pub const PODKEEP_ERR_ENDED: podkeep_status = -6;
/// The call would wait for itself.
pub const PODKEEP_ERR_DEADLOCK: podkeep_status = -7;
/// The handle was made before a fork, in the parent.
pub const PODKEEP_ERR_FORKED: podkeep_status = -8;
/// No thread, descriptor or memory to be had; nothing was left behind.
pub const PODKEEP_ERR_RESOURCES: podkeep_status = -9;
/// Not in this build.
pub const PODKEEP_ERR_UNSUPPORTED: podkeep_status = -10;
/// Not allowed.
pub const PODKEEP_ERR_DENIED: podkeep_status = -11;
/// Nobody answers there.
pub const PODKEEP_ERR_UNREACHABLE: podkeep_status = -12;
/// A bug of podkeep's, caught.
pub const PODKEEP_ERR_INTERNAL: podkeep_status = -13;
/// There is none of that name.
pub const PODKEEP_ERR_NOT_FOUND: podkeep_status = -14;

/// The ABI this header describes; compare with podkeep_abi_version().
pub const PODKEEP_ABI_VERSION: u32 = 0;

/// The constant's name, "PODKEEP_ERR_TIMEOUT"; "PODKEEP_ERR_UNKNOWN" for a number that is none. Static, never NULL.
/// Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_status_name(status: podkeep_status) -> *const c_char {
    let name = match status {
        PODKEEP_OK => c"PODKEEP_OK",
        PODKEEP_ERR_INVALID_ARGUMENT => c"PODKEEP_ERR_INVALID_ARGUMENT",
        PODKEEP_ERR_INVALID_HANDLE => c"PODKEEP_ERR_INVALID_HANDLE",
        PODKEEP_ERR_INVALID_STATE => c"PODKEEP_ERR_INVALID_STATE",
        PODKEEP_ERR_TIMEOUT => c"PODKEEP_ERR_TIMEOUT",
        PODKEEP_ERR_FAILED => c"PODKEEP_ERR_FAILED",
        PODKEEP_ERR_ENDED => c"PODKEEP_ERR_ENDED",
        PODKEEP_ERR_DEADLOCK => c"PODKEEP_ERR_DEADLOCK",
        PODKEEP_ERR_FORKED => c"PODKEEP_ERR_FORKED",
        PODKEEP_ERR_RESOURCES => c"PODKEEP_ERR_RESOURCES",
        PODKEEP_ERR_UNSUPPORTED => c"PODKEEP_ERR_UNSUPPORTED",
        PODKEEP_ERR_DENIED => c"PODKEEP_ERR_DENIED",
        PODKEEP_ERR_UNREACHABLE => c"PODKEEP_ERR_UNREACHABLE",
        PODKEEP_ERR_INTERNAL => c"PODKEEP_ERR_INTERNAL",
        PODKEEP_ERR_NOT_FOUND => c"PODKEEP_ERR_NOT_FOUND",
        _ => c"PODKEEP_ERR_UNKNOWN",
    };
    name.as_ptr()
}

/// One sentence about this thread's last call that did not answer PODKEEP_OK: the argument, the value, the way out.
/// "" before the first. Never NULL; lives until this thread's next such call. A call that answers OK leaves it as it
/// is, and so does podkeep_pod_cancel, always. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_last_error() -> *const c_char {
    super::last_error()
}

/// PODKEEP_ABI_VERSION of the library at run time. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_abi_version() -> u32 {
    PODKEEP_ABI_VERSION
}

/// The library's version, "0.1.0". Static. Any thread; does not block.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
