//! How connections come in: each gets a place, and if the port asks for it a TLS handshake; then it is a stream of bytes for
//! HTTP/2.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::Sender;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::authority::Mended;
use super::listener::Listener;
use super::places::{Peer, Place, Places};
use crate::linux::{self, socket};

/// A connection. The place goes before the socket: see [`Place`].
pub(super) struct Line {
    place: Place,
    bytes: Bytes,
}

enum Bytes {
    Unix(Mended<UnixStream>),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// So many are let in before those that are in get their turn.
const AT_ONCE: u32 = 8;
/// While no descriptor is to be had.
const PAUSE: Duration = Duration::from_millis(20);

/// Lets connections in, for ever.
pub(super) async fn accept(
    listening: AsyncFd<Listener>,
    places: Arc<Places>,
    lines: Sender<io::Result<Line>>,
) -> io::Result<()> {
    let listener = listening.get_ref();
    let is_unix = listener.name.is_some();
    let tls = listener.tls.clone().map(TlsAcceptor::from);
    loop {
        let until = Duration::from_nanos(places.expire().saturating_sub(linux::now()));
        let Ok(ready) = tokio::time::timeout(until, listening.readable()).await else { continue };
        let mut ready = ready?;
        for _ in 0..AT_ONCE {
            match socket::accept(listener.socket.as_fd()) {
                Ok(socket) => {
                    let Some(line) = Line::new(socket, is_unix, &places) else { continue };
                    match &tls {
                        Some(tls) => drop(tokio::spawn(handshake(line, tls.clone(), lines.clone()))),
                        None if lines.send(Ok(line)).await.is_err() => return Ok(()),
                        None => {}
                    }
                }
                Err(libc::EAGAIN) => {
                    ready.clear_ready();
                    break;
                }
                Err(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    places.displace_silent();
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
                Err(_) => {} // it went away before it was let in
            }
        }
        tokio::task::yield_now().await;
        while places.is_crowded() {
            tokio::task::yield_now().await;
        }
    }
}

impl Line {
    fn new(socket: OwnedFd, is_unix: bool, places: &Arc<Places>) -> Option<Line> {
        let may_ask = !is_unix || socket::peer(&socket).is_some_and(|(_, user)| user == 0 || user == socket::user());
        let number = socket.as_raw_fd();
        let bytes = if is_unix {
            Bytes::Unix(Mended::new(UnixStream::from_std(socket.into()).ok()?))
        } else {
            socket::send_at_once(&socket);
            Bytes::Tcp(TcpStream::from_std(socket.into()).ok()?)
        };
        Some(Line { place: places.take(number, may_ask), bytes })
    }
}

/// A client whose certificate is refused shall read why, and not find its connection broken: its last words are read before
/// the socket is closed, up to this much.
const LAST_WORDS: (Duration, usize) = (Duration::from_secs(1), 64 << 10);

async fn handshake(line: Line, tls: TlsAcceptor, lines: Sender<io::Result<Line>>) {
    let Line { place, bytes } = line;
    let Bytes::Tcp(socket) = bytes else { return };
    // Whoever is slow here is seen off as silent.
    match tls.accept(socket).into_fallible().await {
        Ok(stream) => drop(lines.send(Ok(Line { place, bytes: Bytes::Tls(Box::new(stream)) })).await),
        Err((_, mut socket)) => {
            let _place = place; // dropped before the socket
            let _ = socket.shutdown().await;
            let rest = async {
                let (mut piece, mut read) = ([0; 4096], 0);
                while read < LAST_WORDS.1 {
                    match socket.read(&mut piece).await {
                        Ok(n) if n > 0 => read += n,
                        _ => break,
                    }
                }
            };
            let _ = tokio::time::timeout(LAST_WORDS.0, rest).await;
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
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Unix(mended) => mended.poll_read(cx, buffer),
            Bytes::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Bytes::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Bytes::Unix(mended) => Pin::new(&mut mended.stream).poll_write(cx, bytes),
            Bytes::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Bytes::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Unix(mended) => Pin::new(&mut mended.stream).poll_flush(cx),
            Bytes::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Bytes::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Unix(mended) => Pin::new(&mut mended.stream).poll_shutdown(cx),
            Bytes::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Bytes::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
