//! `podkeep __child`: the child process of a library pod. The library knows from its private channel what to load and
//! whose child this is; the pod runs in this main thread.

use crate::library::{ERR_ENDED, Library, OK};
use crate::tell::tell;
use std::ffi::c_int;

/// Not started by a host.
const NO_CHILD: c_int = 2;

pub fn child() -> c_int {
    let library = match Library::load() {
        Ok(library) => library,
        Err(sentence) => return tell(127, &sentence),
    };
    let mut code = 0;
    // SAFETY: a valid out pointer.
    match unsafe { (library.child_run)(&mut code) } {
        OK => code,
        ERR_ENDED => tell(NO_CHILD, "this is no pod's child: `podkeep __child` is started by the library alone"),
        status => tell(1, &format!("the pod's child cannot run: {}", library.why(status))),
    }
}
