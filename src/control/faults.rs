//! What a client meets: nobody, somebody else, servers that are silent, broken or gone, and TLS that refuses a side.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use tokio_rustls::TlsAcceptor;

use super::address::{Address, Files};
use super::client::{Client, query, terminate};
use super::tls;
use crate::error::{Error, Status};
use crate::limit::Limit;

/// An HTTP/2 server's first word: a frame SETTINGS that sets nothing.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SOON: Option<Duration> = Some(Duration::from_millis(100));

/// A server that does one thing with each connection, until the address is used no more.
fn server(behave: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().for_each(|stream| behave(&mut stream.unwrap())));
    address
}

/// Until the client goes.
fn read_all(stream: &mut impl Read) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

fn refusal(address: &str, limit: Option<Duration>) -> Error {
    match Client::connect(&Address::parse(address).unwrap(), limit) {
        Ok(client) => client.list(limit).expect_err(address),
        Err(error) => error,
    }
}

/// Let in without a limit; then the call is not answered within SOON.
fn let_in(address: &str) -> Client {
    Client::connect(&Address::parse(address).unwrap(), None).unwrap()
}

#[track_caller]
fn check(error: Error, status: Status, words: &str) {
    assert_eq!(error.status, status, "{error}");
    assert!(error.sentence.contains(words), "{error}");
}

fn place(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("podkeep-faults-{}-{name}", std::process::id()))
}

fn directory(name: &str) -> PathBuf {
    let path = place(name);
    let _ = std::fs::remove_dir_all(&path); // another process of this number has failed
    std::fs::create_dir(&path).unwrap();
    path
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[test]
fn where_nobody_listens_is_unreachable() {
    let directory = directory("nobody");
    let (stale, file) = (directory.join("stale"), directory.join("file"));
    drop(UnixListener::bind(&stale).unwrap());
    std::fs::write(&file, "").unwrap();
    // Kept, so that it is given to nobody else.
    let deaf = tokio::net::TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = deaf.local_addr().unwrap().port();
    for address in [
        unix(&stale),
        unix(&file),
        unix(&directory.join("none")),
        unix(&directory.join("no/such/directory")),
        format!("tcp:127.0.0.1:{port}"),
        format!("tcp:localhost:{port}"),
    ] {
        check(refusal(&address, None), Status::Unreachable, "nobody listens at");
        check(query(&address, "p", Limit::Forever).unwrap_err(), Status::Unreachable, &address);
        check(terminate(&address, "p", Limit::Now).unwrap_err(), Status::Unreachable, &address);
    }
    check(refusal("tcp:no.such.host.invalid:1", None), Status::Unreachable, "is not known");
    check(refusal("tcp:127.0.0.1:0", None), Status::InvalidArgument, "port 0 is a server's");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn another_users_socket_is_denied() {
    let directory = directory("denied");
    let path = directory.join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    // Nobody's, and to this thread of root's not to be passed by any more than to another user.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    let address = unix(&path);
    let error = thread::spawn(move || {
        // SAFETY: a number; of this thread alone.
        unsafe { libc::setfsuid(65534) };
        refusal(&address, None)
    })
    .join()
    .unwrap();
    check(error, Status::Denied, "may not be connected to (Permission denied");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn what_is_no_control_service_is_unreachable() {
    let http1 = server(|stream| {
        let _ = stream.read(&mut [0; 24]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });
    check(refusal(&http1, None), Status::Unreachable, "speaks HTTP/1");
    let garbage = server(|stream| {
        let _ = stream.write_all(&[0xff; 4096]);
        read_all(stream);
    });
    check(refusal(&garbage, None), Status::Unreachable, "does not speak HTTP/2");
    let ssh = server(|stream| {
        let _ = stream.write_all(b"SSH-2.0-x\r\n");
        read_all(stream);
    });
    check(refusal(&ssh, None), Status::Unreachable, "does not speak HTTP/2");
    check(refusal(&server(|_| {}), None), Status::Unreachable, "without a word");
    let half = server(|stream| {
        let _ = stream.write_all(&SETTINGS[..5]);
    });
    check(refusal(&half, None), Status::Unreachable, "was lost");
}

#[test]
fn a_server_that_says_nothing_is_unreachable_within_seconds() {
    let silent = server(read_all);
    let begin = Instant::now();
    check(refusal(&silent, SOON), Status::Timeout, "within the limit");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    check(refusal(&silent, None), Status::Unreachable, "says nothing");
}

#[test]
fn a_server_that_accepts_nobody_is_unreachable_within_seconds() {
    let directory = directory("full");
    let path = directory.join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    // SAFETY: a listening socket; the second call only sets the length of its queue.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
    let _first = UnixStream::connect(&path).unwrap();
    check(refusal(&unix(&path), SOON), Status::Timeout, "has not let this side in");
    check(refusal(&unix(&path), None), Status::Unreachable, "accepts nobody");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_server_that_stops_answering_is_unreachable_within_seconds() {
    let hanging = server(|stream| {
        let _ = stream.write_all(SETTINGS);
        read_all(stream);
    });
    check(let_in(&hanging).list(SOON).unwrap_err(), Status::Timeout, "has not answered with the list");
    check(refusal(&hanging, None), Status::Unreachable, "has not answered for");
    let error = let_in(&hanging).terminate("p", None, SOON).unwrap_err();
    assert!(error.sentence.starts_with("\"p\" at tcp:127.0.0.1:"), "{error}");
    check(error, Status::Timeout, "whether it has heard the request for that end is not known");
}

#[test]
fn a_server_that_goes_during_a_call_is_unreachable() {
    let dying = server(|stream| {
        let _ = stream.write_all(SETTINGS);
        let (mut got, mut piece) = (0, [0; 256]);
        // The preface, SETTINGS and the request: then it goes, with what follows unread.
        while got < 100 {
            got += stream.read(&mut piece).unwrap_or(100).max(1);
        }
    });
    for _ in 0..20 {
        check(refusal(&dying, None), Status::Unreachable, "was lost during the call");
    }
}

#[test]
fn a_call_from_a_task_of_another_runtime_blocks_it_and_works() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let gone = server(|stream| {
        let _ = stream.write_all(SETTINGS);
    });
    check(runtime.block_on(async { refusal(&gone, None) }), Status::Unreachable, "was lost");
}

static CERTIFICATES: LazyLock<PathBuf> = LazyLock::new(|| {
    extern "C" fn remove() {
        let _ = std::fs::remove_dir_all(place("certificates"));
    }
    let made = directory("certificates");
    // SAFETY: at the end of the process, where paths and files are as usual.
    unsafe { libc::atexit(remove) };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/control/certificates.sh");
    assert!(Command::new(script).arg(&made).status().unwrap().success());
    made
});

fn files(cert: &str, key: &str, ca: &str) -> Files {
    let file = |name: &str, kind: &str| CERTIFICATES.join(format!("{name}.{kind}"));
    Files { cert: file(cert, "pem"), key: file(key, "key"), ca: file(ca, "pem") }
}

/// With TLS; each client that it lets in hears SETTINGS and no more.
fn tls_server(cert: &str, ca: &str) -> u16 {
    let acceptor = TlsAcceptor::from(tls::server_config(&files(cert, cert, ca)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A refused one is dropped at once, with what it has sent unread: the worst for the client's reading.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let _ = stream.write_all(SETTINGS).await;
                    while stream.read(&mut [0; 1024]).await.is_ok_and(|n| n > 0) {}
                });
            }
        })
    });
    port
}

fn tls_address(host: &str, port: u16, cert: &str, ca: &str) -> String {
    let Files { cert, key, ca } = files(cert, cert, ca);
    format!("tcp:{host}:{port},cert={},key={},ca={}", cert.display(), key.display(), ca.display())
}

/// `PODKEEP_TEST_TIMES=200` repeats each of the refusals so often.
fn times() -> u32 {
    std::env::var("PODKEEP_TEST_TIMES").ok().and_then(|times| times.parse().ok()).unwrap_or(5)
}

#[test]
fn both_sides_are_accepted_by_name_and_by_address() {
    let port = tls_server("server", "ca");
    for host in ["127.0.0.1", "localhost"] {
        let client = let_in(&tls_address(host, port, "client", "ca"));
        check(client.list(SOON).unwrap_err(), Status::Timeout, "with the list");
    }
}

#[test]
fn a_refusal_of_tls_is_denied_in_either_direction() {
    let (good, elsewhere) = (tls_server("server", "ca"), tls_server("elsewhere", "ca"));
    let (expired, stranger) = (tls_server("server-expired", "ca"), tls_server("stranger", "ca"));
    for _ in 0..times() {
        for cert in ["stranger", "client-expired"] {
            check(refusal(&tls_address("127.0.0.1", good, cert, "ca"), None), Status::Denied, "refuses this side");
        }
        for port in [elsewhere, expired, stranger] {
            check(refusal(&tls_address("127.0.0.1", port, "client", "ca"), None), Status::Denied, "is refused");
        }
        // Without TLS to a server that has it.
        check(refusal(&format!("tcp:127.0.0.1:{good}"), None), Status::Denied, "speaks TLS");
    }
}

#[test]
fn a_client_without_a_certificate_is_denied() {
    use tokio_rustls::rustls::{ClientConfig, crypto::ring};
    let port = tls_server("server", "ca");
    let address = Address::parse(&tls_address("127.0.0.1", port, "client", "ca")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..times() {
        let mut config = ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(tls::authorities(&CERTIFICATES.join("ca.pem")).unwrap())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let place = format!("127.0.0.1:{port}").parse().unwrap();
        let tls = Some((config.into(), tls::server_name("127.0.0.1").unwrap()));
        let target = super::link::Target::Tcp(vec![place], tls);
        let error = runtime.block_on(super::link::Link::open(target, address.clone())).err().expect("it is refused");
        check(error, Status::Denied, "CertificateRequired");
    }
}

#[test]
fn tls_with_a_server_that_has_none_is_unreachable() {
    let plain = server(|stream| {
        let _ = stream.write_all(SETTINGS);
        read_all(stream);
    });
    let port = plain.rsplit(':').next().unwrap().parse().unwrap();
    check(refusal(&tls_address("127.0.0.1", port, "client", "ca"), None), Status::Unreachable, "does not speak TLS");
    let silent = server(read_all).rsplit(':').next().unwrap().parse().unwrap();
    check(
        refusal(&tls_address("127.0.0.1", silent, "client", "ca"), SOON),
        Status::Timeout,
        "has not let this side in",
    );
    check(
        refusal(&tls_address("127.0.0.1", silent, "client", "ca"), None),
        Status::Unreachable,
        "does not agree on TLS",
    );
}

#[test]
fn files_that_cannot_be_used_are_said_by_name() {
    let empty = CERTIFICATES.join("empty");
    std::fs::write(&empty, "").unwrap();
    let with = |change: fn(&mut Files, PathBuf)| {
        let mut files = files("server", "server", "ca");
        change(&mut files, empty.clone());
        files
    };
    for (files, words) in [
        (with(|f, empty| f.cert = empty), "empty\": it has no certificate"),
        (with(|f, empty| f.key = empty), "empty\": it has no private key"),
        (with(|f, empty| f.ca = empty), "empty\": it has no certificate"),
        (with(|f, _| f.key = "/no/such/file".into()), "\"/no/such/file\": it cannot be read: No such file"),
        (with(|f, _| f.ca = "/".into()), "\"/\": it cannot be read"),
        (with(|f, _| f.cert = f.key.clone()), "server.key\": it has no certificate"),
        (files("server", "client", "ca"), "client.key\" is not that of the certificate"),
    ] {
        check(tls::server_config(&files).unwrap_err(), Status::InvalidArgument, words);
        check(tls::client_config(&files).unwrap_err(), Status::InvalidArgument, words);
    }
}
