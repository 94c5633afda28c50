//! The server: one library thread that answers for all pods of the process.

use std::ffi::c_void;
use std::fmt::Display;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tonic::service::InterceptorLayer;
use tonic::transport::server::Connected;

use super::accept::accept;
use super::address::Files;
use super::answers::Sent;
use super::feed::Feed;
use super::health::Health;
use super::listener::Listener;
use super::places::{Peer, Places};
use super::proto::DESCRIPTORS;
use super::proto::health::health_server::HealthServer;
use super::proto::v1::control_server::ControlServer;
use super::service::Pods;
use crate::error::{Error, Result, Status};
use crate::keeper;
use crate::linux::{self, process};
use crate::world::World;

/// Where a server listens, and to whom.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    /// `unix:PATH` or `tcp:HOST:PORT` ([`super::address::Address`]); `None`: a private socket of this process.
    pub address: Option<String>,
    /// The server's certificate and key, and the authorities of its clients: needed off the loopback.
    pub tls: Option<Files>,
}

/// A control service of this process's pods. Dropping it ends it: clients see their connections end.
pub struct Server {
    world: &'static World,
    address: String,
    thread: u64,
    stop: Arc<Notify>,
}

/// What the server's thread is made with.
struct Begin {
    world: &'static World,
    options: ServeOptions,
    stop: Arc<Notify>,
    ready: mpsc::SyncSender<Result<(String, u64)>>,
}

impl Server {
    /// Begins to serve. What is there by then is answered for, and what comes later.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the address or a TLS file; DENIED: off the loopback without TLS, or a place that is not this user's;
    /// INVALID_STATE: the address is used, or after a shutdown; NOT_FOUND: no such directory; UNREACHABLE: the host has no
    /// address; RESOURCES. Nothing is left behind.
    pub fn serve(options: &ServeOptions) -> Result<Server> {
        let world = World::get()?;
        world.check_open()?;
        keeper::ensure(world)?;
        let (ready, is_ready) = mpsc::sync_channel(1);
        let stop = Arc::new(Notify::new());
        let begin = Box::into_raw(Box::new(Begin { world, options: options.clone(), stop: stop.clone(), ready }));
        // SAFETY: `enter` takes the box over.
        if let Err(error) = unsafe { world.spawn_own(enter, begin.cast()) } {
            // SAFETY: nobody took it.
            drop(unsafe { Box::from_raw(begin) });
            return Err(Error::resources(format!("no thread for the control service: {}", linux::describe(error))));
        }
        let begun = is_ready.recv().unwrap_or_else(|_| Err(Error::new(Status::Internal, "the control service died")));
        let (address, thread) = begun?;
        Ok(Server { world, address, thread, stop })
    }

    /// Where it is, as a client can use it: with the real port.
    pub fn address(&self) -> &str {
        &self.address
    }
}

/// A server's thread that takes longer is left to itself.
const END_TIME: linux::Nanos = 5_000_000_000;

impl Drop for Server {
    fn drop(&mut self) {
        if !self.world.is_here() {
            return; // in the child of a fork there is no server, only copies of its descriptors
        }
        self.stop.notify_one();
        // SAFETY: the thread is joinable, and only here joined or detached.
        unsafe {
            if linux::join_thread(self.thread as _, linux::now() + END_TIME).is_err() {
                linux::detach_thread(self.thread as _);
            }
        }
    }
}

extern "C-unwind" fn enter(begin: *mut c_void) -> *mut c_void {
    // SAFETY: `serve` passes the box.
    let begin = unsafe { Box::from_raw(begin.cast::<Begin>()) };
    linux::refuse_cancellation();
    linux::name_thread(c"podkeep-control");
    // A panic here ends the service, whose clients see that, and nothing else.
    let _ = catch_unwind(AssertUnwindSafe(|| begin.run()));
    std::ptr::null_mut()
}

impl Begin {
    fn run(self) {
        let thread = linux::this_thread() as u64;
        let prepared = Prepared::new(self.world, &self.options);
        let (prepared, answer) = match prepared {
            Ok(prepared) => {
                let address = prepared.listener.get_ref().address.clone();
                (Some(prepared), Ok((address, thread)))
            }
            Err(error) => {
                // SAFETY: this thread, which nobody joins then.
                unsafe { linux::detach_thread(linux::this_thread()) };
                (None, Err(error))
            }
        };
        let _ = self.ready.send(answer);
        if let Some(prepared) = prepared {
            prepared.serve(&self.stop);
        }
    }
}

/// All that can be refused is had.
struct Prepared {
    runtime: Runtime,
    feed: Arc<Feed>,
    /// Readable while the feed has something to read.
    events: AsyncFd<OwnedFd>,
    listener: AsyncFd<Listener>,
}

/// Limits of what one client may ask for. Requests are a name and a number.
pub(super) const STREAMS: u32 = 64;
/// Streams that a client gives up before they are looked at: all that it has, and some that waited for them. More is a flood.
const RESETS: usize = 4 * STREAMS as usize;
const FRAME: u32 = 16 << 10;
const HEADERS: u32 = 16 << 10;
const MESSAGE: usize = 64 << 10;
const WINDOW: u32 = 64 << 10;
/// A peer that is not there any more is noticed after these two.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// How long clients are given to see the end for themselves, and in how many turns: a thread that is kept from running
/// meanwhile has lost one of them, and tells in the others what it had no time for.
const FAREWELL: Duration = Duration::from_millis(100);
const TURNS: u32 = 20;

impl Prepared {
    fn new(world: &'static World, options: &ServeOptions) -> Result<Prepared> {
        let listener = Listener::open(options)?;
        let runtime = process::above_standard(|| {
            // A few tasks, then a look at who has come: a flood of those who say nothing keeps nobody from being heard.
            Builder::new_current_thread().enable_io().enable_time().event_interval(8).build()
        });
        let refused = |error: &dyn Display| Error::resources(format!("no event loop for the control service: {error}"));
        let runtime = runtime.map_err(|error| refused(&error))?;
        let feed = Arc::new(Feed::new(world)?);
        let events = feed.descriptor()?;
        let inside = runtime.enter();
        // SAFETY: each owns its descriptor.
        let (events, listener) = unsafe {
            let events = AsyncFd::register_with_interest(events, Interest::READABLE);
            let listener = AsyncFd::register_with_interest(listener, Interest::READABLE);
            (events.map_err(|error| refused(&error))?, listener.map_err(|error| refused(&error))?)
        };
        drop(inside);
        Ok(Prepared { runtime, feed, events, listener })
    }

    fn serve(self, stop: &Notify) {
        let Prepared { runtime, feed, events, listener } = self;
        let places = Places::new();
        let (sender, lines) = tokio::sync::mpsc::channel(16);
        runtime.block_on(async {
            let accepting = tokio::spawn(accept(listener, places.clone(), sender));
            tokio::spawn(read(events, feed.clone()));
            let ending = Notify::new();
            let mut serving = std::pin::pin!(answer(&feed, Sent(lines), ending.notified()));
            tokio::select! {
                () = &mut serving => {}
                () = stop.notified() => {
                    accepting.abort();
                    feed.end();
                    ending.notify_one();
                    for _ in 0..TURNS {
                        if tokio::time::timeout(FAREWELL / TURNS, &mut serving).await.is_ok() {
                            break;
                        }
                    }
                }
            }
        });
        // Whoever is still there, or holds a copy of a socket: this is the end.
        places.end();
        drop(runtime);
    }
}

/// A client's bytes, and who it is.
pub(super) trait Bytes:
    AsyncRead + AsyncWrite + Connected<ConnectInfo = Arc<Peer>> + Unpin + Send + 'static
{
}
impl<L: AsyncRead + AsyncWrite + Connected<ConnectInfo = Arc<Peer>> + Unpin + Send + 'static> Bytes for L {}

/// Answers all that comes in, until `end`.
pub(super) async fn answer<L: Bytes>(feed: &Arc<Feed>, lines: Sent<io::Result<L>>, end: impl Future<Output = ()>) {
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let (Ok(v1), Ok(v1alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) else { return };
    let _ = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .max_frame_size(FRAME)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_max_header_list_size(HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .layer(InterceptorLayer::new(admit))
        .add_service(ControlServer::new(Pods { feed: feed.clone() }).max_decoding_message_size(MESSAGE))
        .add_service(HealthServer::new(Health { feed: feed.clone() }).max_decoding_message_size(MESSAGE))
        .add_service(v1.max_decoding_message_size(MESSAGE))
        .add_service(v1alpha.max_decoding_message_size(MESSAGE))
        .serve_with_incoming_shutdown(lines, end)
        .await;
}

/// A request has come: its connection is not silent, and it is of one who may ask.
fn admit(request: tonic::Request<()>) -> std::result::Result<tonic::Request<()>, tonic::Status> {
    match request.extensions().get::<Arc<Peer>>() {
        Some(peer) if peer.may_ask => {
            peer.speaks();
            Ok(request)
        }
        _ => Err(tonic::Status::permission_denied("this process answers to its own user and to root")),
    }
}

/// Reads what happens to pods as soon as it does.
async fn read(events: AsyncFd<OwnedFd>, feed: Arc<Feed>) {
    while let Ok(mut ready) = events.readable().await {
        ready.clear_ready();
        feed.read();
    }
}
