//! C, Rust and ctypes agree on every offset and number: each is held against the same file, which C wrote.

use podkeep::ffi::group::{podkeep_group_options, podkeep_member_options};
use podkeep::ffi::monitor::podkeep_event;
use podkeep::ffi::pod::podkeep_pod_options;
use podkeep::ffi::runtime::podkeep_runtime_spec;
use std::collections::BTreeMap;
use std::mem::offset_of;

macro_rules! layout {
    ($into:ident, $type:ident { $($field:ident),* $(,)? }) => {
        $( $into.insert(
            format!("{} {}", stringify!($type), stringify!($field)),
            (offset_of!($type, $field), field_size(|s: &$type| size_of_val(&s.$field))),
        ); )*
        $into.insert(format!("{} .", stringify!($type)), (align_of::<$type>(), size_of::<$type>()));
    };
}

fn field_size<T>(size: impl Fn(&T) -> usize) -> usize {
    // SAFETY: zeroes are valid for every one of these structs.
    size(&unsafe { std::mem::zeroed() })
}

#[test]
fn rust_agrees_with_the_golden_layout() {
    let mut rust = BTreeMap::new();
    layout!(rust, podkeep_runtime_spec { struct_size, name, init, run_forever, teardown, cancel, config, drop });
    layout!(
        rust,
        podkeep_pod_options {
            struct_size,
            name,
            host,
            ready,
            ready_timeout_ms,
            grace_ms,
            kill_after_ms,
            extend_max_ms,
            stack_size,
            kick_signal,
            stop_signal,
            env,
            cwd,
            args,
            args_len,
            restart,
            max_restarts,
            restart_window_ms,
            backoff_ms,
            backoff_max_ms,
            watchdog_ms,
            ready_port,
            reserved
        }
    );
    layout!(rust, podkeep_event { struct_size, sequence, time_ns, pod, name, failure, from, to, incarnation, missed });

    layout!(rust, podkeep_group_options { struct_size, name, strategy, keep_going, grace_ms });
    layout!(rust, podkeep_member_options { struct_size, after, significant, reserved });

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/layout.txt");
    let golden = std::fs::read_to_string(path).expect("tests/faults/layout.txt");
    let mut checked = 0;
    for line in golden.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["struct", name, field, first, second] = words[..]
            && rust.keys().any(|key| key.starts_with(&format!("{name} ")))
        {
            let numbers = (first.parse().expect("a number"), second.parse().expect("a number"));
            assert_eq!(rust.get(&format!("{name} {field}")), Some(&numbers), "{line}");
            checked += 1;
        }
    }
    assert_eq!(checked, rust.len(), "every field stands in the file");
}
