//! Why is it stuck? One sentence for each timeout (L14).

use std::sync::atomic::Ordering::*;

use crate::linux;
use crate::table::PodRef;
use crate::world::lock;

/// Name, state, phase, time in phase, last status text, last heartbeat and, while S lives, where the kernel has it. Reads
/// files: not to be called with a lock held.
pub(crate) fn explain(pod: &PodRef) -> String {
    let life = pod.life();
    let now = linux::now();
    let since = |at: linux::Nanos| format!("{:.3} s", now.saturating_sub(at) as f64 / 1e9);
    let state = life.state().name();
    let phase = pod.phase().name();
    let seated = match pod.seated_at.load(Relaxed) {
        0 => pod.starting_at.load(Relaxed),
        at => at,
    };
    let status = lock(&pod.cell().cold).status.clone();
    let status = match status {
        None => "no status text".to_owned(),
        Some(text) => format!("last status {text:?}"),
    };
    let heartbeat = match pod.last_heartbeat() {
        0 => "no heartbeat".to_owned(),
        at => format!("last heartbeat {} ago", since(at)),
    };
    let place = match (pod.tid.load(Relaxed), &pod.cell().process) {
        (0, None) => "it has no thread".to_owned(),
        (0, Some(_)) => "it has no process".to_owned(),
        (tid, None) => format!("thread {tid}: {}", linux::whereabouts(&format!("/proc/self/task/{tid}"))),
        (pid, Some(_)) => format!("process {pid}: {}", linux::whereabouts(&format!("/proc/{pid}"))),
    };
    let (name, seated) = (pod.name(), since(seated));
    format!("pod {name:?} is {state}, in phase {phase} for {seated}; {status}; {heartbeat}; {place}")
}
