//! The answers as JSON: the names of `podkeep.v1`, states and kinds in the contract's words, times as RFC 3339, spans in
//! seconds, what is absent as null.

use podkeep::control::proto::v1::{Event, Failure, Group, Host, ListResponse, Pod, TerminateResponse};
use prost_types::Timestamp;
use serde_json::{Value, json};

fn time(time: &Option<Timestamp>) -> Option<String> {
    time.as_ref().map(Timestamp::to_string)
}

pub fn failures(failures: &[Failure]) -> Value {
    let failure = |failure: &Failure| {
        json!({
            "pod": failure.pod,
            "incarnation": failure.incarnation,
            "phase": failure.phase().word(),
            "kind": failure.kind().word(),
            "code": failure.code,
            "message": failure.message,
            "stderr": failure.stderr,
        })
    };
    failures.iter().map(failure).collect()
}

/// "thread", "process", "main".
pub fn host(host: Host) -> Option<&'static str> {
    match host {
        Host::Unspecified => None,
        Host::Thread => Some("thread"),
        Host::Process => Some("process"),
        Host::Main => Some("main"),
    }
}

fn pod(pod: &Pod) -> Value {
    let time_left = pod.time_left.map(|left| left.seconds as f64 + f64::from(left.nanos) / 1e9);
    json!({
        "name": pod.name,
        "state": pod.state().word(),
        "phase": pod.phase().word(),
        "status": pod.status,
        "incarnation": pod.incarnation,
        "restarts": pod.restarts,
        "failures": failures(&pod.failures),
        "started": time(&pod.started),
        "ready": time(&pod.ready),
        "entered": time(&pod.entered),
        "time_left": time_left,
        "host": host(pod.host()),
        "id": (pod.id != 0).then_some(pod.id),
        "group": (!pod.group.is_empty()).then_some(&pod.group),
        "heartbeat": time(&pod.heartbeat),
    })
}

fn group(group: &Group) -> Value {
    json!({
        "name": group.name,
        "state": group.state().word(),
        "members": group.members,
        "failures": failures(&group.failures),
    })
}

pub fn list(list: &ListResponse) -> Value {
    json!({
        "pods": list.pods.iter().map(pod).collect::<Value>(),
        "groups": list.groups.iter().map(group).collect::<Value>(),
    })
}

pub fn event(event: &Event) -> Value {
    json!({
        "sequence": event.sequence,
        "time": time(&event.time),
        "name": event.name,
        "from": event.from().word(),
        "to": event.to().word(),
        "incarnation": event.incarnation,
        "missed": event.missed,
        "failures": failures(&event.failures),
    })
}

pub fn end(name: &str, seconds: f64, end: &TerminateResponse) -> Value {
    json!({
        "name": name,
        "state": end.state().word(),
        "seconds": seconds,
        "failures": failures(&end.failures),
    })
}
