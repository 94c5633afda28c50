//! A client's connection: dialled, with TLS or without, and HTTP/2 on it. What the other side said before it went is kept,
//! for it tells a refusal from a loss: of TLS 1.3 the handshake succeeds here before the server has judged the client's
//! certificate, and its alert may come at any later read, or stand unread behind a write that fails.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};
use tonic::body::Body;
use tonic::codegen::{Service, http};

use super::address::Address;
use super::tls;
use crate::error::{Error, Result, Status};
use crate::linux::{self, process};
use crate::world::lock;

/// How long a server may take to let a client in: to accept, to agree on TLS, to say its first word of HTTP/2.
pub(super) const REACH: Duration = Duration::from_secs(5);
/// While a call waits and nothing comes, the server is pinged this often, and has this long for its answer. Between calls
/// nothing runs here, and nothing is sent.
const PING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
/// A socket of the file system whose server is slow to accept refuses at once; it is asked again this often.
const AGAIN: Duration = Duration::from_millis(10);

/// What is dialled, with all that blocks done: names are known, files read.
pub(super) enum Target {
    Unix(PathBuf),
    Tcp(Vec<SocketAddr>, Option<(Arc<ClientConfig>, ServerName<'static>)>),
}

impl Target {
    /// # Errors
    /// INVALID_ARGUMENT: port 0, or TLS files that cannot be used; UNREACHABLE: the host is not known.
    pub(super) fn of(address: &Address) -> Result<Target> {
        match address {
            Address::Unix(path) => Ok(Target::Unix(path.clone())),
            Address::Tcp { port: 0, .. } => Err(Error::argument(format!(
                "address {address}: port 0 is a server's: give the port that it was given"
            ))),
            Address::Tcp { host, port, tls } => {
                let tls = match tls {
                    Some(files) => Some((tls::client_config(files)?, tls::server_name(host)?)),
                    None => None,
                };
                Ok(Target::Tcp(Address::resolve(host, *port)?, tls))
            }
        }
    }
}

/// A connection on which calls can be made.
pub(super) struct Link {
    pub(super) channel: Channel,
    pub(super) origin: http::Uri,
    pub(super) address: Address,
    heard: Arc<Heard>,
}

impl Link {
    /// Returns when the server has said its first word of HTTP/2: by then it has accepted this client's certificate.
    pub(super) async fn open(target: Target, address: Address) -> Result<Link> {
        let by = Instant::now() + REACH;
        let heard = Arc::new(Heard::default());
        let is_tls = matches!(target, Target::Tcp(_, Some(_)));
        let line = Line::open(target, &address, &heard, by).await?;
        Link::over(line, address, is_tls, by).await
    }

    async fn over(line: Line, address: Address, is_tls: bool, by: Instant) -> Result<Link> {
        let heard = line.heard.clone();
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            // A call for which the server has no room yet makes no stream.
            .keep_alive_while_idle(true)
            .keep_alive_timeout(PING.1)
            .handshake(TokioIo::new(line))
            .await
            .map_err(|why| heard.lost(&address, &why))?;
        let end = heard.clone();
        tokio::spawn(async move { end.ended(connection.await) });
        let origin = origin(&address, is_tls);
        let link = Link { channel: Channel(requests), origin, address, heard };
        if timeout_at(by, link.heard.word.notified()).await.is_err() {
            return Err(unreachable(format!(
                "{} accepts a connection and says nothing for {REACH:?}: the process that serves it is stopped, hangs, or is no \
                 control service",
                link.address
            )));
        }
        if link.heard.is_silent() {
            return Err(link.heard.lost(&link.address, &io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        Ok(link)
    }

    /// What a call's failure means.
    pub(super) fn meaning(&self, status: tonic::Status) -> Error {
        use tonic::Code;
        if let Some(source) = std::error::Error::source(&status) {
            return self.heard.lost(&self.address, source);
        }
        if let Some(error) = self.heard.refusal(&self.address) {
            return error;
        }
        let (address, said) = (&self.address, status.message());
        let kind = match status.code() {
            Code::NotFound => Status::NotFound,
            Code::InvalidArgument | Code::OutOfRange => Status::InvalidArgument,
            Code::PermissionDenied | Code::Unauthenticated => Status::Denied,
            Code::DeadlineExceeded => Status::Timeout,
            Code::ResourceExhausted => Status::Resources,
            Code::Internal => Status::Internal,
            _ => {
                return unreachable(format!(
                    "{address} is no control service of podkeep, or one of another version, or it is about to end: {said}"
                ));
            }
        };
        Error::new(kind, format!("{address} answers: {said}"))
    }
}

/// Whether it is the other side's answer: that has no source, and what happened here has.
pub(super) fn is_told(status: &tonic::Status) -> bool {
    std::error::Error::source(status).is_none()
}

#[cfg(any(test, fuzzing))]
impl Link {
    /// On a stream that is there already.
    pub(super) async fn on(
        bytes: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        address: Address,
    ) -> Result<Link> {
        let line = Line::new(Box::new(bytes), Arc::default());
        Link::over(line, address, false, Instant::now() + REACH).await
    }
}

/// What stands in a request for the server's name.
fn origin(address: &Address, is_tls: bool) -> http::Uri {
    let authority = match address {
        Address::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp { host, port, .. } => format!("{host}:{port}"),
        Address::Unix(_) => "localhost".into(),
    };
    let scheme = if is_tls { "https" } else { "http" };
    // A host that a URI cannot hold ("fe80::1%eth0") is of no use to the server either.
    http::Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query("/")
        .build()
        .unwrap_or(http::Uri::from_static("http://localhost/"))
}

/// Sends requests; for the generated clients.
#[derive(Clone)]
pub(super) struct Channel(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, hyper::Error>> + Send>>;

    /// Always: of a connection that is no more, the request has the error with its reasons.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), hyper::Error>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// What is known of the other side beside its answers.
#[derive(Default)]
struct Heard {
    /// A word has come, or the end without one.
    word: Notify,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The begin of what it said: enough to tell HTTP/2 from what is not.
    first: Vec<u8>,
    /// The first that TLS found wrong, on either side.
    refusal: Option<rustls::Error>,
    /// How the connection ended, if with an error.
    end: Option<hyper::Error>,
}

/// An HTTP/2 server begins with a frame SETTINGS: three bytes of length, then this.
const SETTINGS: u8 = 4;
const FRAME_KIND: usize = 3;

impl Heard {
    fn note(&self, bytes: &[u8]) {
        let mut known = lock(&self.known);
        let room = (FRAME_KIND + 2).saturating_sub(known.first.len());
        known.first.extend_from_slice(&bytes[..room.min(bytes.len())]);
        if !bytes.is_empty() {
            self.word.notify_one();
        }
    }

    fn fault(&self, error: &io::Error) {
        if let Some(refusal) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            lock(&self.known).refusal.get_or_insert_with(|| refusal.clone());
        }
    }

    fn ended(&self, end: hyper::Result<()>) {
        lock(&self.known).end = end.err();
        self.word.notify_one();
    }

    fn is_silent(&self) -> bool {
        lock(&self.known).first.is_empty()
    }

    fn refusal(&self, address: &Address) -> Option<Error> {
        lock(&self.known).refusal.as_ref().map(|refusal| judged(address, refusal))
    }

    /// What it means that the connection is no more.
    fn lost(&self, address: &Address, why: &(dyn std::error::Error + 'static)) -> Error {
        if let Some(error) = self.refusal(address) {
            return error;
        }
        let known = lock(&self.known);
        let why = known.end.as_ref().map_or(why, |end| end);
        match known.first.as_slice() {
            // A TLS record, an alert or part of a handshake, of any version.
            [0x15 | 0x16, 3, ..] => denied(format!(
                "{address} speaks TLS: name this side's files in the address, {address},cert=FILE,key=FILE,ca=FILE"
            )),
            [b'H', b'T', b'T', b'P', ..] => unreachable(format!("{address} speaks HTTP/1: it is no control service")),
            [_, _, _, kind, ..] if *kind != SETTINGS => {
                unreachable(format!("{address} does not speak HTTP/2: it is no control service"))
            }
            [] => unreachable(format!(
                "{address} closes the connection without a word: it is no control service, or about to end, or it speaks TLS"
            )),
            _ if timed_out(why) => unreachable(format!(
                "{address} has not answered for {:?}: the process that serves it is stopped or hangs, or the way there is cut",
                PING.0 + PING.1
            )),
            _ => unreachable(format!(
                "the connection to {address} was lost during the call ({}): the process that served it has ended or is about to",
                innermost(why)
            )),
        }
    }
}

fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let is = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout);
    is || error.source().is_some_and(timed_out)
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    match error.source() {
        Some(source) => innermost(source),
        None => error.to_string(),
    }
}

/// What TLS has found wrong: a refusal of one side by the other, or no TLS at all.
fn judged(address: &Address, error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(why) => denied(format!(
            "the certificate of {address} is refused ({why}): ca=FILE must vouch for it, and it must be for that host"
        )),
        rustls::Error::AlertReceived(alert) => denied(format!(
            "{address} refuses this side (TLS alert {alert:?}): cert=FILE must be of an authority that it accepts, and valid now"
        )),
        rustls::Error::NoCertificatesPresented | rustls::Error::PeerIncompatible(_) => {
            denied(format!("{address} and this side do not agree on TLS: {error}"))
        }
        rustls::Error::InvalidMessage(_) => {
            unreachable(format!("{address} does not speak TLS ({error}): without cert, key and ca it may answer"))
        }
        _ => unreachable(format!("TLS with {address} fails: {error}")),
    }
}

fn unreachable(sentence: String) -> Error {
    Error::new(Status::Unreachable, sentence)
}

fn denied(sentence: String) -> Error {
    Error::new(Status::Denied, sentence)
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A stream that is listened in on. It never writes several buffers in one call: the standard library does that with
/// writev(2), which has no MSG_NOSIGNAL, and the thread that would get a SIGPIPE is the caller's.
struct Line {
    bytes: Box<dyn Bytes>,
    heard: Arc<Heard>,
    is_broken: bool,
}

impl Line {
    fn new(bytes: Box<dyn Bytes>, heard: Arc<Heard>) -> Line {
        Line { bytes, heard, is_broken: false }
    }

    async fn open(target: Target, address: &Address, heard: &Arc<Heard>, by: Instant) -> Result<Line> {
        let (bytes, tls): (Box<dyn Bytes>, _) = match target {
            Target::Unix(path) => (Box::new(dial_unix(&path, address, by).await?), None),
            Target::Tcp(places, tls) => (Box::new(dial_tcp(&places, address, by).await?), tls),
        };
        let Some((config, name)) = tls else { return Ok(Line::new(bytes, heard.clone())) };
        let raw = Line::new(bytes, Arc::default());
        let stream = match timeout_at(by, TlsConnector::from(config).connect(name, raw)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(why)) => {
                heard.fault(&why);
                return Err(heard.refusal(address).unwrap_or_else(|| {
                    unreachable(format!("{address} ends the connection instead of agreeing on TLS ({why})"))
                }));
            }
            Err(_) => {
                return Err(unreachable(format!(
                    "{address} accepts a connection and does not agree on TLS in {REACH:?}"
                )));
            }
        };
        Ok(Line::new(Box::new(stream), heard.clone()))
    }

    /// A write that fails is not told: what was sent here before the connection broke is still to be read, and behind it
    /// the end.
    fn wrote<T>(&mut self, done: Poll<io::Result<T>>, all: T) -> Poll<io::Result<T>> {
        match done {
            Poll::Ready(Err(error)) => {
                self.heard.fault(&error);
                self.is_broken = true;
                Poll::Ready(Ok(all))
            }
            done => done,
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let done = ready!(Pin::new(&mut self.bytes).poll_read(cx, buffer));
        match &done {
            Ok(()) => self.heard.note(&buffer.filled()[before..]),
            Err(error) => self.heard.fault(error),
        }
        Poll::Ready(done)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Ready(Ok(bytes.len()));
        }
        let done = Pin::new(&mut self.bytes).poll_write(cx, bytes);
        self.wrote(done, bytes.len())
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_broken {
            return Poll::Ready(Ok(()));
        }
        let done = Pin::new(&mut self.bytes).poll_flush(cx);
        self.wrote(done, ())
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

async fn dial_unix(path: &Path, address: &Address, by: Instant) -> Result<UnixStream> {
    let socket = loop {
        match UnixStream::connect(path).await {
            Ok(socket) => break socket,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock && Instant::now() < by => sleep(AGAIN).await,
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                return Err(unreachable(format!(
                    "{address} accepts nobody for {REACH:?}: the process that serves it is stopped or hangs"
                )));
            }
            Err(why) => return Err(not_let_in(address, &why)),
        }
    };
    let moved = socket.into_std().and_then(|s| UnixStream::from_std(above_standard(s.into())?.into()));
    moved.map_err(|why| not_let_in(address, &why))
}

/// The first of the places that answers; each has its share of the time.
async fn dial_tcp(places: &[SocketAddr], address: &Address, by: Instant) -> Result<TcpStream> {
    let mut error = None;
    for (n, place) in places.iter().enumerate() {
        let share = by.saturating_duration_since(Instant::now()) / (places.len() - n) as u32;
        match timeout(share, TcpStream::connect(place)).await {
            Ok(Ok(socket)) => {
                let moved = socket.into_std().and_then(|s| TcpStream::from_std(above_standard(s.into())?.into()));
                let socket = moved.map_err(|why| not_let_in(address, &why))?;
                let _ = socket.set_nodelay(true); // requests are small, and waited for
                return Ok(socket);
            }
            Ok(Err(why)) => error = Some(not_let_in(address, &why)),
            Err(_) => {
                error.get_or_insert_with(|| unreachable(format!("nothing comes back from {address} within {REACH:?}")));
            }
        }
    }
    Err(error.unwrap_or_else(|| unreachable(format!("{address} has no network address"))))
}

/// What the host prints on a standard stream that it has closed is not for the server.
fn above_standard(socket: OwnedFd) -> io::Result<OwnedFd> {
    process::owned(socket.into_raw_fd()).map_err(io::Error::from_raw_os_error)
}

fn not_let_in(address: &Address, why: &io::Error) -> Error {
    let number = why.raw_os_error().unwrap_or(0);
    let why = linux::describe(number);
    match number {
        libc::EACCES | libc::EPERM => {
            denied(format!("{address} may not be connected to ({why}): it is another user's, or its directory is"))
        }
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM => {
            Error::resources(format!("no connection to {address} is to be had: {why}"))
        }
        _ => unreachable(format!(
            "nobody listens at {address} ({why}): is the process that serves it running, and is this its address?"
        )),
    }
}
