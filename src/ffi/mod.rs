//! The C ABI. It converts and decides nothing: one file a noun, one function an export, all plain `extern "C"` so that
//! the header can be generated from them.
//!
//! Conventions: the object comes first, then inputs, then outputs; outputs are written only on success; ownership of
//! `(function, user data, drop)` is taken on the first line; no Rust enum is shown; [`boundary`] is the one place where
//! panics stop and where the calling thread's last error is set.

#![allow(non_camel_case_types)]
// What a caller has to see to stands in each function's comment, in the words of the header.
#![allow(clippy::missing_safety_doc)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use crate::error::{Error, Result, Status};
use crate::failure::c_string;
use crate::runtime::panic_text;

pub mod context;
pub mod control;
pub mod failure;
pub mod group;
pub(crate) mod library;
pub mod log;
pub mod main;
pub mod monitor;
pub mod pod;
pub mod process;
pub mod runtime;
pub mod status;

use status::podkeep_status;

thread_local! {
    /// The last sentence and the one before: who writes `printf("%d %s", call(), podkeep_last_error())` may get the
    /// older one, but never a freed one.
    static LAST_ERROR: RefCell<[CString; 2]> = RefCell::default();
}

fn set_last_error(sentence: &str) {
    // Late in a thread's end the place is gone, and nobody can ask for it any more.
    let _ = LAST_ERROR.try_with(|last| {
        let mut last = last.borrow_mut();
        last.swap(0, 1);
        last[0] = c_string(sentence);
    });
}

fn last_error() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow()[0].as_ptr()).unwrap_or(c"".as_ptr())
}

/// Runs a call's body: its error becomes a status and this thread's last error, its panic INTERNAL.
fn boundary(body: impl FnOnce() -> Result<()>) -> podkeep_status {
    // No call is a cancellation point: pthread_cancel's unwinding must not pass through here.
    let _uncancellable = crate::linux::Uncancellable::begin();
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok as podkeep_status,
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = panic_text(&*panic);
            Error::new(Status::Internal, format!("a bug in podkeep, please report it: {text}"))
        }
    };
    set_last_error(&error.sentence);
    error.status as podkeep_status
}

/// The same for a getter without a status.
fn answer<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    let mut found = None;
    boundary(|| {
        found = Some(body()?);
        Ok(())
    });
    found.unwrap_or(otherwise)
}

/// A handle's value.
fn value<T>(handle: *const T) -> u64 {
    handle.addr() as u64
}

/// Where an answer goes.
fn out<'a, T>(argument: &str, pointer: *mut T) -> Result<&'a mut T> {
    // SAFETY: the caller of the C function promises a valid pointer or NULL, for the time of the call.
    unsafe { pointer.as_mut() }.ok_or_else(|| Error::argument(format!("{argument} is NULL: the answer needs a place")))
}

/// A string that came in; `None` for NULL.
fn text<'a>(argument: &str, string: *const c_char) -> Result<Option<&'a CStr>> {
    if string.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller of the C function promises a NUL-terminated string for the time of the call.
    let string = unsafe { CStr::from_ptr(string) };
    match string.to_str() {
        Ok(_) => Ok(Some(string)),
        Err(e) => Err(Error::argument(format!("{argument} is not UTF-8: see byte {}", e.valid_up_to()))),
    }
}

/// A struct longer than this is a mistake, not a later version.
const LARGEST_STRUCT: usize = 4096;

/// Reads a struct that begins with its size: of this version or a later one whose additions are not used.
///
/// # Safety
/// NULL, or a pointer to a readable `struct_size` and as many bytes as it says.
unsafe fn read_struct<T: Copy>(argument: &str, pointer: *const T) -> Result<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise; every such struct begins with its size.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    check_size::<T>(argument, size)?;
    // SAFETY: `size` bytes are readable, at least a whole T.
    let (known, tail) = unsafe {
        let tail = std::slice::from_raw_parts(pointer.cast::<u8>().add(size_of::<T>()), size - size_of::<T>());
        (pointer.read_unaligned(), tail)
    };
    if let Some(at) = tail.iter().position(|&byte| byte != 0) {
        let at = size_of::<T>() + at;
        return Err(Error::argument(format!(
            "{argument} sets something at byte {at} that this version of podkeep does not know: zero it, or update"
        )));
    }
    Ok(Some(known))
}

fn check_size<T>(argument: &str, size: usize) -> Result<()> {
    let least = size_of::<T>(); // the first version's
    if (least..=LARGEST_STRUCT).contains(&size) {
        return Ok(());
    }
    Err(Error::argument(format!("{argument}.struct_size is {size}: begin with the _INIT macro, it is {least} here")))
}

/// Writes `answer` into a caller's struct that begins with its size, and zeroes what this version does not know.
///
/// # Safety
/// As for [`read_struct`], writable.
unsafe fn write_struct<T: Copy>(argument: &str, pointer: *mut T, answer: impl FnOnce() -> Result<T>) -> Result<()> {
    if pointer.is_null() {
        return Err(Error::argument(format!("{argument} is NULL: the answer needs a place")));
    }
    // SAFETY: the caller's promise.
    let size = unsafe { pointer.cast::<usize>().read_unaligned() };
    check_size::<T>(argument, size)?;
    let answer = answer()?;
    // SAFETY: `size` bytes are writable.
    unsafe {
        pointer.write_unaligned(answer);
        ptr::write_bytes(pointer.cast::<u8>().add(size_of::<T>()), 0, size - size_of::<T>());
        pointer.cast::<usize>().write_unaligned(size);
    }
    Ok(())
}
