//! The client's end, with a server that says whatever it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::super::address::Address;
use super::super::client::{Client, Events};
use super::super::link::Link;
use super::super::proto::health::HealthCheckResponse;
use super::super::proto::v1::{Event, Failure, ListResponse, Pod, TerminateResponse};
use super::wire::{self, Heard};
use super::{PIPE, read, runtime, settle};
use crate::error::{Error, Status};
use crate::fuzzing::Script;

/// A hostile server, which is silent in the end, or gone. Each call ends, with an answer, or with one of the errors that it
/// may have.
pub fn answer(data: &[u8]) {
    let mut script = Script(data);
    let how = script.byte().unwrap_or_default();
    let address = Address::Unix("memory".into());
    let (near, far) = duplex(PIPE);
    let runtime = runtime();
    let was_late = Arc::new(AtomicBool::new(false));
    runtime.spawn(play(far, script.0.to_vec(), (how & 128 != 0).then(|| was_late.clone())));
    match runtime.block_on(Link::on(near, address)) {
        Ok(link) => ask(&Client::on(runtime, link), how),
        Err(error) => judge(&error),
    }
    assert!(!was_late.load(Relaxed), "a server that is silent is not noticed");
}

/// Every kind of call, one after the other.
fn ask(client: &Client, how: u8) {
    let limit = (how & 1 != 0).then_some(Duration::from_secs(3));
    for n in 0..6 {
        match (how >> 1).wrapping_add(n) % 6 {
            0 => told(client.list(limit)),
            1 => told(client.pod("p", limit)),
            2 => told(client.query("p", limit)),
            3 => told(client.health("p", limit)),
            4 => {
                let ended = client.terminate("p", Some(Duration::MAX), limit);
                told(ended.and_then(|end| end.outcome("p")));
            }
            _ => match client.watch(7, "p", limit) {
                Ok(events) => listen(events, limit),
                Err(error) => judge(&error),
            },
        }
    }
}

fn listen(mut events: Events<'_>, limit: Option<Duration>) {
    loop {
        match events.next(limit) {
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                judge(&error);
                return;
            }
        }
    }
}

fn told<T>(answer: crate::Result<T>) {
    if let Err(error) = answer {
        judge(&error);
    }
}

fn judge(error: &Error) {
    use Status::*;
    let known = [Unreachable, Denied, NotFound, InvalidArgument, Timeout, Resources, Internal, Unsupported, Failed];
    assert!(known.contains(&error.status), "{error:?}");
    let named = error.sentence.contains("unix:memory") || matches!(error.status, Failed | Timeout | Unsupported);
    assert!(named, "{error:?}");
    assert!(error.sentence.len() <= 2 * PIPE, "{} bytes", error.sentence.len());
}

/// A call of a server that is silent has ended by then; all of them have.
const NOTICED: Duration = Duration::from_secs(3600);

/// The server's part. One that stays is silent in the end, and goes late.
async fn play(mut line: DuplexStream, script: Vec<u8>, stays: Option<Arc<AtomicBool>>) {
    let (mut script, mut heard, mut stream) = (Script(&script), Heard::default(), 1);
    while let Some(what) = script.byte() {
        let bytes = say(what, &mut stream, &mut script);
        if line.write_all(&bytes).await.is_err() {
            return;
        }
        settle().await;
        let Some(asked) = read(&mut line).await else { return };
        if line.write_all(&heard.take(&asked)).await.is_err() {
            return;
        }
    }
    if let Some(was_late) = stays {
        tokio::time::sleep(NOTICED).await;
        was_late.store(true, Relaxed);
    }
}

fn say(what: u8, stream: &mut u32, script: &mut Script<'_>) -> Vec<u8> {
    let (more, now) = (what >> 4, *stream);
    let next = now.saturating_add(2) & 0x7fff_ffff;
    match what % 16 {
        // A whole answer.
        0..=3 => {
            *stream = next;
            let content = wire::message(0, &content(more, script));
            [begin(now), wire::frame(wire::DATA, 0, now, &content), end(now, 0, &[])].concat()
        }
        4 => begin(now),
        5 | 6 => {
            let mut content = wire::message(more & 1, &content(more >> 1, script));
            if more & 1 != 0 {
                content[..5].copy_from_slice(&script.number::<5>());
            }
            wire::frame(wire::DATA, 0, now, &content)
        }
        7 => {
            *stream = next;
            end(now, more, script.piece())
        }
        // A refusal.
        8 => {
            *stream = next;
            let fields: [(&str, &[u8]); 4] = [
                (":status", b"200"),
                ("content-type", b"application/grpc"),
                ("grpc-status", &[b'0' + more % 10]),
                ("grpc-message", script.piece()),
            ];
            wire::frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, now, &wire::fields(&fields))
        }
        // What is no gRPC.
        9 => {
            let (status, name, value) = (script.piece(), script.text(), script.piece());
            let block = wire::fields(&[(":status", status), (&name, value)]);
            wire::frame(wire::HEADERS, wire::END_HEADERS | more & wire::END_STREAM, now, &block)
        }
        10 => {
            *stream = next;
            wire::frame(wire::RESET, 0, now, &script.number::<4>())
        }
        11 => wire::frame(wire::SETTINGS, 0, 0, script.piece()),
        12 => {
            let [kind, flags, stream] = script.number();
            wire::frame(kind % 12, flags, stream.into(), script.piece())
        }
        13 => script.piece().to_vec(),
        14 => wire::frame(wire::WINDOW_UPDATE, 0, now * u32::from(more & 1), &script.number::<4>()),
        _ => {
            *stream = next;
            Vec::new()
        }
    }
}

fn begin(stream: u32) -> Vec<u8> {
    let block = wire::fields(&[(":status", b"200"), ("content-type", b"application/grpc")]);
    wire::frame(wire::HEADERS, wire::END_HEADERS, stream, &block)
}

fn end(stream: u32, code: u8, text: &[u8]) -> Vec<u8> {
    let block = wire::fields(&[("grpc-status", code.to_string().as_bytes()), ("grpc-message", text)]);
    wire::frame(wire::HEADERS, wire::END_HEADERS | wire::END_STREAM, stream, &block)
}

fn content(kind: u8, script: &mut Script<'_>) -> Vec<u8> {
    match kind % 6 {
        0 => ListResponse { pods: vec![pod(script)], groups: Vec::new() }.encode_to_vec(),
        1 => pod(script).encode_to_vec(),
        2 => {
            let (state, count) = (number(script), script.byte().unwrap_or_default() % 4);
            let failures = (0..count).map(|_| failure(script)).collect();
            TerminateResponse { state, failures }.encode_to_vec()
        }
        3 => {
            let [sequence, missed] = script.number();
            let (from, to, name) = (number(script), number(script), script.text());
            let (sequence, missed) = (sequence.into(), missed.into());
            Event { sequence, missed, from, to, name, ..Event::default() }.encode_to_vec()
        }
        4 => HealthCheckResponse { status: number(script) }.encode_to_vec(),
        _ => script.piece().to_vec(),
    }
}

/// Of an enumeration, or of none.
fn number(script: &mut Script<'_>) -> i32 {
    script.byte().unwrap_or_default().cast_signed().into()
}

fn pod(script: &mut Script<'_>) -> Pod {
    let (state, phase, status) = (number(script), number(script), script.text());
    Pod { name: "p".into(), state, phase, status, ..Pod::default() }
}

fn failure(script: &mut Script<'_>) -> Failure {
    let (phase, kind, code, message) = (number(script), number(script), number(script), script.text());
    Failure { pod: "p".into(), phase, kind, code, message, ..Failure::default() }
}
