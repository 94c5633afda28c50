//! The server's end, with a client that says whatever it likes.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::server::Connected;

use super::super::address::Address;
use super::super::answers::Sent;
use super::super::authority::Mended;
use super::super::feed::Feed;
use super::super::link::{Channel, Link};
use super::super::places::{Peer, Place, Places};
use super::super::proto::health::HealthCheckRequest;
use super::super::proto::health::health_check_response::ServingStatus;
use super::super::proto::health::health_client::HealthClient;
use super::super::proto::v1::control_client::ControlClient;
use super::super::proto::v1::{self, GetPodRequest, TerminateRequest, WatchRequest};
use super::super::server::{STREAMS, answer};
use super::caller::Caller;
use super::pods::{GROUP, MEMBER, NEW, Pods, RUNNING, UNASKED};
use super::{LONG, MOMENT, PIPE, runtime, settle, wire};
use crate::fuzzing::Script;
use crate::lifecycle::State;
use crate::world::{World, lock};

/// Seconds that pass in one connection at most.
const MOST_TIME: u64 = 300;
/// The server itself, its connection, and for each call the connection's part and the one that makes its answers.
const MOST_TASKS: usize = 2 + 2 * STREAMS as usize;

/// A hostile client, and pods whose lives go on meanwhile. The connection ends with its client and leaves nothing behind,
/// has no more calls at a time than it may, stops no pod but by a whole TERMINATE, and who comes next is served.
pub fn control(data: &[u8]) {
    converse(data);
}

/// Those who were stopped by it.
fn converse(data: &[u8]) -> Vec<&'static str> {
    // The pods' names are not shared: two tests take turns.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = lock(&ALONE);
    let mut script = Script(data);
    let how = script.byte().unwrap_or_default();
    runtime().block_on(async {
        let mut server = Server::new();
        let line = server.connect(how & 1 != 0, how & 6 != 6).await;
        let mut caller = Caller::new(line);
        caller.polite = how & 8 != 0;
        if how & 16 == 0 {
            caller.begin().await;
        }
        while let Some(what) = script.byte() {
            act(&mut server, &mut caller, what, &mut script).await;
        }
        server.check_stopped(&caller, how & 6 != 6);
        let stopped = server.pods.stopped().collect();
        drop(caller);
        server.ended_connection().await;
        if !server.ends {
            server.serve_another(how & 1 == 0).await;
        }
        server.end().await;
        stopped
    })
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn act(server: &mut Server, caller: &mut Caller, what: u8, script: &mut Script<'_>) {
    let more = what >> 4;
    match what % 16 {
        0..=3 => {
            let stream = caller.next_stream();
            let call = call(server, stream, more, script);
            caller.say(&call).await;
        }
        // A call whose content is anything.
        4 => {
            let stream = caller.next_stream();
            let (path, content) = (PATHS[more as usize % PATHS.len()], script.piece());
            server.anything = true;
            caller.say(&wire::call(stream, path, content)).await;
        }
        // A request that is no call, or goes on.
        5 => {
            let stream = caller.next_stream();
            let (name, value) = (script.text(), script.piece());
            let path = [PATHS[more as usize % PATHS.len()].as_bytes(), script.piece()];
            let block = wire::fields(&[
                (":method", b"POST"),
                (":scheme", b"http"),
                (":path", &path[..1 + usize::from(more & 8 != 0)].concat()),
                ("content-type", b"application/grpc"),
                (&name, value),
            ]);
            server.anything = true;
            let flags = wire::END_HEADERS | more & wire::END_STREAM;
            caller.say(&wire::frame(wire::HEADERS, flags, stream, &block)).await;
        }
        // More of the newest call.
        6 => {
            let [flag, end] = script.number();
            let mut content = wire::message(flag, script.piece());
            if flag & 2 != 0 {
                content[1..5].copy_from_slice(&script.number::<4>());
            }
            server.anything = true;
            caller.say(&wire::frame(wire::DATA, end & wire::END_STREAM, caller.stream, &content)).await;
        }
        7 => {
            let stream = caller.stream.saturating_sub(2 * u32::from(more));
            caller.say(&wire::frame(wire::RESET, 0, stream, &script.number::<4>())).await;
        }
        8 => {
            let stream = if more & 1 == 0 { 0 } else { caller.stream };
            caller.say(&wire::frame(wire::WINDOW_UPDATE, 0, stream, &script.number::<4>())).await;
        }
        9 => {
            let [kind, flags, stream] = script.number();
            let frame = wire::frame(kind % 12, flags, stream.into(), script.piece());
            server.anything = true;
            caller.say(&frame).await;
        }
        10 => {
            server.anything = true;
            caller.say(script.piece()).await;
        }
        11 => {
            settle().await;
            let tasks = tasks();
            assert!(tasks <= MOST_TASKS, "{tasks} tasks for one connection");
        }
        12 => caller.listen().await,
        13 => {
            let seconds = u64::from(script.byte().unwrap_or_default()) % 64;
            let seconds = seconds.min(MOST_TIME - server.seconds);
            server.seconds += seconds;
            for _ in 0..seconds {
                tokio::time::sleep(Duration::from_secs(1)).await;
                caller.listen().await;
            }
        }
        14 => match more {
            0..=3 => server.tell(),
            4 => server.end_running(false),
            5 => server.end_running(true),
            6 => server.pods.running.here().unwrap().set_status(&script.text()),
            7 => caller.fall_silent().await,
            8 => server.ask_to_end(),
            _ => {}
        },
        _ => {
            for _ in 0..more {
                let stream = caller.next_stream();
                caller.say(&wire::call(stream, PATHS[3], &[])).await;
            }
        }
    }
}

const PATHS: [&str; 9] = [
    "/podkeep.v1.Control/List",
    "/podkeep.v1.Control/GetPod",
    "/podkeep.v1.Control/Terminate",
    "/podkeep.v1.Control/Watch",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/List",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// A call that is well-formed, of whatever content.
fn call(server: &mut Server, stream: u32, more: u8, script: &mut Script<'_>) -> Vec<u8> {
    let name = match script.byte().unwrap_or_default() % 8 {
        0 => NEW.into(),
        1 => RUNNING.into(),
        2 => GROUP.into(),
        3 => MEMBER.into(),
        4 => String::new(),
        5 => "live".into(),
        // Whatever it spells.
        _ => {
            server.anything = true;
            script.text()
        }
    };
    let path = PATHS[more as usize % PATHS.len()];
    let content = match more as usize % PATHS.len() {
        1 => GetPodRequest { name }.encode_to_vec(),
        2 => {
            let [has_grace, seconds, nanos] = script.number();
            let grace = (has_grace & 1 != 0).then(|| prost_types::Duration {
                seconds: i64::from(seconds.cast_signed()) << (has_grace >> 2),
                nanos: i32::from(nanos.cast_signed()) << (has_grace >> 4),
            });
            server.asked.push(name.clone());
            TerminateRequest { name, grace }.encode_to_vec()
        }
        3 => {
            let next = lock(&server.feed.world.hub).sequence() + 1;
            let sequence = match script.byte().unwrap_or_default() {
                0 => 0,
                back @ 1..128 => (next + 1).saturating_sub(back.into()),
                _ => u64::from_le_bytes(script.number()),
            };
            WatchRequest { sequence, name }.encode_to_vec()
        }
        4 | 6 => HealthCheckRequest { service: name }.encode_to_vec(),
        0 | 5 => Vec::new(),
        _ => script.piece().to_vec(),
    };
    wire::call(stream, path, &content)
}

/// The server, as its thread has it, and what it is to answer for.
struct Server {
    feed: Arc<Feed>,
    pods: Pods,
    places: Arc<Places>,
    lines: mpsc::Sender<io::Result<Line>>,
    serving: JoinHandle<()>,
    end: Arc<Notify>,
    /// It was asked to end.
    ends: bool,
    /// Names of whom a well-formed TERMINATE was for.
    asked: Vec<String>,
    /// What was said may spell any call, too.
    anything: bool,
    /// That have passed.
    seconds: u64,
}

impl Server {
    fn new() -> Server {
        let world = World::get().unwrap();
        let pods = Pods::new(world);
        let feed = Arc::new(Feed::new(world).unwrap());
        let (lines, incoming) = mpsc::channel(1);
        let end = Arc::new(Notify::new());
        let (answered, ended) = (feed.clone(), end.clone());
        let serving =
            tokio::spawn(async move { answer(&answered, Sent::<io::Result<Line>>(incoming), ended.notified()).await });
        let (asked, places) = (Vec::new(), Places::new());
        Server { feed, pods, places, lines, serving, end, ends: false, asked, anything: false, seconds: 0 }
    }

    /// The client's end of a connection.
    async fn connect(&self, is_unix: bool, may_ask: bool) -> DuplexStream {
        let (near, far) = duplex(PIPE);
        let bytes = if is_unix { Bytes::Unix(Mended::new(near)) } else { Bytes::Tcp(near) };
        // No socket has this number.
        let line = Line { place: self.places.take(-1, may_ask), bytes };
        assert!(self.lines.send(Ok(line)).await.is_ok(), "nobody is let in");
        far
    }

    /// What happened to pods is told.
    fn tell(&self) {
        self.pods.publish();
        self.feed.read();
    }

    fn end_running(&self, failed: bool) {
        self.pods.end_running(failed);
        self.tell();
    }

    fn ask_to_end(&mut self) {
        self.ends = true;
        self.feed.end();
        self.end.notify_one();
    }

    /// Pods are stopped by those who may and have asked for it, and by nobody else.
    fn check_stopped(&self, caller: &Caller, may_ask: bool) {
        for name in self.pods.stopped() {
            let asked = |name: &str| self.asked.iter().any(|asked| asked == name);
            let stopped = |name| asked(name) || self.anything && caller.has_spelt(name);
            let along = [GROUP, MEMBER].contains(&name) && (stopped(GROUP) || stopped(MEMBER));
            assert!(may_ask && (stopped(name) || along), "{name} was stopped unasked");
        }
    }

    /// Nobody is there any more, and nothing is left of him.
    async fn ended_connection(&self) {
        let over = async {
            while tasks() > usize::from(!self.serving.is_finished()) || Arc::strong_count(&self.places) > 1 {
                tokio::time::sleep(MOMENT).await;
            }
        };
        assert!(timeout(LONG, over).await.is_ok(), "{} tasks are left of a connection", tasks());
    }

    /// Somebody who keeps to the rules.
    async fn serve_another(&mut self, is_unix: bool) {
        self.end_running(false);
        let address = Address::Unix("memory".into());
        let link = Link::on(self.connect(is_unix, true).await, address).await.unwrap();
        let mut control = ControlClient::with_origin(link.channel.clone(), link.origin.clone());
        for (name, pod) in [(NEW, &self.pods.new), (RUNNING, &self.pods.running), (UNASKED, &self.pods.unasked)] {
            let told = control.get_pod(GetPodRequest { name: name.into() }).await.unwrap().into_inner();
            assert_eq!((&*told.name, told.state), (name, pod.here().unwrap().life().state() as i32 + 1));
        }
        self.watch_end(&mut control).await;
        let mut health = HealthClient::with_origin(link.channel.clone(), link.origin.clone());
        let answer = health.check(HealthCheckRequest { service: UNASKED.into() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::NotServing);
        drop((control, health, link));
        self.ended_connection().await;
    }

    async fn watch_end(&self, control: &mut ControlClient<Channel>) {
        let watched = WatchRequest { sequence: 0, name: UNASKED.into() };
        let mut events = control.watch(watched).await.unwrap().into_inner();
        let before = self.pods.unasked.here().unwrap().life().state();
        let first = events.message().await.unwrap().unwrap();
        assert_eq!((&*first.name, first.to), (UNASKED, before as i32 + 1));
        let asked = TerminateRequest { name: UNASKED.into(), grace: None };
        let end = control.terminate(asked).await.unwrap().into_inner();
        assert_eq!(end.state(), v1::State::Stopped);
        self.tell();
        if before != State::Stopped {
            assert_eq!(events.message().await.unwrap().unwrap().to(), v1::State::Stopped);
        }
    }

    async fn end(mut self) {
        self.ask_to_end();
        assert!(timeout(LONG, &mut self.serving).await.is_ok(), "the service does not end");
        settle().await;
        assert_eq!(tasks(), 0);
    }
}

/// A connection, as one of `accept`, but through memory.
struct Line {
    place: Place,
    bytes: Bytes,
}

enum Bytes {
    Unix(Mended<DuplexStream>),
    Tcp(DuplexStream),
}

impl Bytes {
    fn stream(&mut self) -> Pin<&mut DuplexStream> {
        match self {
            Bytes::Unix(mended) => Pin::new(&mut mended.stream),
            Bytes::Tcp(stream) => Pin::new(stream),
        }
    }
}

impl Connected for Line {
    type ConnectInfo = Arc<Peer>;
    fn connect_info(&self) -> Arc<Peer> {
        self.place.peer.clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.bytes {
            Bytes::Unix(mended) => mended.poll_read(cx, buffer),
            Bytes::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.bytes.stream().poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.stream().poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! kept {
        ($name:literal) => {
            include_bytes!(concat!("../../../fuzz/corpus/control/", $name))
        };
    }

    #[test]
    fn a_whole_terminate_stops_its_pod_and_nothing_else_does() {
        assert_eq!(converse(kept!("c-core-terminate")), [NEW]);
        assert_eq!(converse(kept!("terminate-group")), [MEMBER, GROUP]);
        assert_eq!(converse(kept!("terminate-waits")), [RUNNING]);
        for script in [&kept!("stranger")[..], kept!("no-whole-message"), kept!("watch-many"), kept!("c-core-list")] {
            assert!(converse(script).is_empty());
        }
    }
}
