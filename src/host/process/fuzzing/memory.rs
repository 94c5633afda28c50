//! The memory that a child finds, whoever made it.

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;

use super::super::block::{self, Brief, Errand, Mapped};
use super::super::process;
use super::Script;
use crate::linux;

const PID: i32 = 42;

/// A block of a host's, with other bytes here and there, or any bytes: it is refused, or all that is read lies inside of it.
pub fn memory(data: &[u8]) {
    let mut script = Script(data);
    let memory = match script.byte() {
        Some(0) => process::shared_memory(c"fuzzed", script.0, script.0.len().max(4096)).unwrap(),
        _ => patched(&mut script),
    };
    let Some(length) = process::sealed_length(memory.as_raw_fd()) else { panic!("it is sealed") };
    let Ok(mapped) = Mapped::open(memory.as_raw_fd(), PID) else { return };
    mapped.errand();
    for text in [mapped.runtime(), mapped.pod(), mapped.path(), mapped.symbol()] {
        assert!(text.count_bytes() <= length);
    }
    let base = ptr::from_ref(mapped.block()).cast::<u8>();
    if !mapped.args().is_empty() {
        let span = mapped.args().as_ptr_range();
        assert!(base <= span.start && span.end <= base.wrapping_add(length));
    }
    linux::unmap(base.cast_mut().cast(), length);
}

fn patched(script: &mut Script<'_>) -> OwnedFd {
    let [args, notify] = script.number();
    let args = vec![args; usize::from(args) * 40];
    let brief = Brief {
        errand: Errand::Library,
        runtime: c"recipe",
        pod: c"kept",
        path: c"/lib/worker.so",
        symbol: c"worker",
        args: &args,
        notify: notify & 1 != 0,
        extend_max: 5,
        incarnation: 3,
        slot: 9,
    };
    let (view, memory) = block::make(&brief).unwrap();
    view.pid.store(PID, SeqCst);
    if script.0.is_empty() {
        let mapped = Mapped::open(memory.as_raw_fd(), PID).ok().unwrap();
        assert_eq!((mapped.errand(), mapped.args()), (Some(Errand::Library), &*args));
        let texts = [mapped.runtime(), mapped.pod(), mapped.path(), mapped.symbol()];
        assert_eq!(texts.each_ref().map(|text| &**text), [brief.runtime, brief.pod, brief.path, brief.symbol]);
        let block = mapped.block();
        assert_eq!((block.notify, block.extend_max, block.incarnation, block.slot), (notify as u32 & 1, 5, 3, 9));
        linux::unmap(ptr::from_ref(block).cast_mut().cast(), process::sealed_length(memory.as_raw_fd()).unwrap());
    }
    while let Some(at) = script.byte() {
        let bytes = script.piece();
        // SAFETY: a readable buffer of this length.
        unsafe { libc::pwrite(memory.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), at.into()) };
    }
    memory
}
