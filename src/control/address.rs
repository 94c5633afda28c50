//! Where a control service is: `unix:PATH` or `tcp:HOST:PORT`, and for a client of a server with mutual TLS
//! `tcp:HOST:PORT,cert=FILE,key=FILE,ca=FILE`, with `%XX` for what would end a value. One string holds all of it, so that
//! every binding and the shell reach such a server without another argument.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, Result, Status};

/// sockaddr_un has 108 bytes, the last of which is a NUL.
const MAX_PATH: usize = 107;
const EXPECTED: &str = "give unix:PATH or tcp:HOST:PORT";

/// The address of a control service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A socket of the file system; a relative path counts from the working directory.
    Unix(PathBuf),
    /// A port of the network.
    Tcp {
        /// A name, or an IP address (an IPv6 one without its brackets).
        host: String,
        /// 0: the server picks one.
        port: u16,
        /// How a client shows itself to a server with mutual TLS; `None`: no TLS.
        tls: Option<Files>,
    },
}

/// The PEM files of one side of mutual TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Files {
    /// This side's certificate, then those between it and its authority.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authorities whose certificates are accepted of the other side.
    pub ca: PathBuf,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, with what was given and what is expected.
    pub fn parse(text: &str) -> Result<Address> {
        let wrong = |why: String| Error::argument(format!("address {text:?}: {why}"));
        if text.contains('\0') {
            return Err(wrong("it has a NUL inside".into()));
        }
        match text.split_once(':') {
            Some(("unix", path)) => unix(path).map_err(wrong),
            Some(("tcp", rest)) => tcp(rest).map_err(wrong),
            Some(("unix-abstract", _)) => Err(wrong(abstract_socket())),
            Some((scheme, _)) => Err(wrong(format!("{scheme:?} is no kind of address: {EXPECTED}"))),
            None => Err(wrong(EXPECTED.into())),
        }
    }

    /// The network addresses that a host and its port stand for: at least one. A host that is a name is asked for with the
    /// system's resolver, which blocks for as long as that is set to.
    ///
    /// # Errors
    /// UNREACHABLE: the name is not known.
    pub fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let why = match (host, port).to_socket_addrs() {
            Ok(found) => {
                let found: Vec<SocketAddr> = found.collect();
                if !found.is_empty() {
                    return Ok(found);
                }
                "it has no address".into()
            }
            Err(error) => error.to_string(),
        };
        Err(Error::new(Status::Unreachable, format!("host {host:?} is not known: {why}")))
    }
}

/// As it was given, without what only a client needs.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Address::Tcp { host, port, .. } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

fn abstract_socket() -> String {
    "an abstract socket has no owner and no permissions: give a path of the file system".into()
}

/// What is wrong is said by a sentence's second half.
fn unix(path: &str) -> std::result::Result<Address, String> {
    match path {
        "" => Err("there is no path: give unix:/PATH".into()),
        _ if path.starts_with('@') => Err(abstract_socket()),
        _ if path.ends_with('/') => Err("a socket's path ends with its name, not with a slash".into()),
        _ if path.len() > MAX_PATH => {
            Err(format!("the path has {} bytes, a socket's has {MAX_PATH} at most", path.len()))
        }
        _ => Ok(Address::Unix(path.into())),
    }
}

fn tcp(rest: &str) -> std::result::Result<Address, String> {
    let (place, parameters) = match rest.split_once(',') {
        Some((place, parameters)) => (place, Some(parameters)),
        None => (rest, None),
    };
    let Some((host, port)) = place.rsplit_once(':') else {
        return Err(format!("{place:?} has no port: give tcp:HOST:PORT"));
    };
    // u16's own parser also reads "+80".
    let port = port
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| port.parse().ok())
        .flatten()
        .ok_or_else(|| format!("{port:?} is no port: give a number up to 65535, 0 for a server that picks one"))?;
    let host = match host.strip_prefix('[').map(|h| h.strip_suffix(']')) {
        Some(Some(inner)) if inner.contains(':') => inner,
        Some(_) => return Err(format!("{host:?} is no host: an IPv6 address is in brackets, tcp:[::1]:PORT")),
        None if host.contains(':') => {
            return Err(format!("{host:?} is no host: an IPv6 address needs brackets, tcp:[::1]:PORT"));
        }
        None if host.is_empty() => return Err("there is no host: give tcp:127.0.0.1:PORT".into()),
        None => host,
    };
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '[' || c == ']') {
        return Err(format!("{host:?} is no host: give a name or an IP address"));
    }
    let tls = parameters.map(files).transpose()?;
    Ok(Address::Tcp { host: host.into(), port, tls })
}

fn files(parameters: &str) -> std::result::Result<Files, String> {
    let (mut cert, mut key, mut ca) = (None, None, None);
    for parameter in parameters.split(',') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let place = match name {
            "cert" => &mut cert,
            "key" => &mut key,
            "ca" => &mut ca,
            _ => return Err(format!("{name:?} is no parameter: there are cert=FILE, key=FILE and ca=FILE")),
        };
        if value.is_empty() {
            return Err(format!("{name} has no file: give {name}=FILE"));
        }
        if place.replace(unescaped(value).map_err(|why| format!("{name}: {why}"))?).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    match (cert, key, ca) {
        (Some(cert), Some(key), Some(ca)) => Ok(Files { cert, key, ca }),
        (cert, key, _) => {
            let missing = if cert.is_none() {
                "cert"
            } else if key.is_none() {
                "key"
            } else {
                "ca"
            };
            Err(format!("{missing}=FILE is missing: mutual TLS needs cert, key and ca"))
        }
    }
}

/// `%2C` is a comma; a percent sign itself is `%25`.
fn unescaped(value: &str) -> std::result::Result<PathBuf, String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = rest.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
        let byte =
            digits.and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte {
            Some(0) => return Err("%00 is no part of a file's name".into()),
            Some(byte) => bytes.push(byte),
            None => return Err("a % is followed by two hexadecimal digits; for the sign itself write %25".into()),
        }
        rest = &rest[2..];
    }
    Ok(OsString::from_vec(bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.into(), port, tls: None }
    }

    #[test]
    fn addresses_are_what_they_say() {
        for (text, address) in [
            ("unix:/run/web.sock", Address::Unix("/run/web.sock".into())),
            ("unix:web.sock", Address::Unix("web.sock".into())),
            ("unix:./@a,b=%41:c", Address::Unix("./@a,b=%41:c".into())),
            ("tcp:127.0.0.1:0", at("127.0.0.1", 0)),
            ("tcp:localhost:65535", at("localhost", 65535)),
            ("tcp:[::1]:80", at("::1", 80)),
        ] {
            assert_eq!(Address::parse(text).as_ref(), Ok(&address), "{text}");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_client_of_mutual_tls_names_its_files() {
        let address = Address::parse("tcp:h:1,key=/k,ca=a%2Cb%25%e9,cert=c").unwrap();
        let Address::Tcp { host, port, tls: Some(files) } = &address else { panic!("{address:?}") };
        assert_eq!((host.as_str(), *port), ("h", 1));
        assert_eq!((files.cert.as_path(), files.key.as_path()), (Path::new("c"), Path::new("/k")));
        assert_eq!(files.ca, PathBuf::from(OsString::from_vec(b"a,b%\xe9".to_vec())));
        assert_eq!(address.to_string(), "tcp:h:1");
    }

    #[test]
    fn what_is_no_address_is_said_with_what_is_expected() {
        let long = format!("unix:/{}", "x".repeat(MAX_PATH));
        for (text, why) in [
            ("", "give unix:PATH or tcp:HOST:PORT"),
            ("/run/web.sock", "give unix:PATH"),
            ("http:x", "\"http\" is no kind of address"),
            ("UNIX:/x", "\"UNIX\" is no kind"),
            ("unix:", "there is no path"),
            ("unix:/a/", "not with a slash"),
            ("unix:@a", "an abstract socket"),
            ("unix-abstract:a", "an abstract socket"),
            ("unix:/a\0b", "a NUL inside"),
            (&long, "the path has 108 bytes"),
            ("tcp:", "has no port"),
            ("tcp:host", "has no port"),
            ("tcp::1", "there is no host"),
            ("tcp:::1:80", "needs brackets"),
            ("tcp:[::1:80", "in brackets"),
            ("tcp:[]:80", "in brackets"),
            ("tcp:[host]:80", "in brackets"),
            ("tcp:a b:80", "is no host"),
            ("tcp://h:80", "is no host"),
            ("tcp:h:", "is no port"),
            ("tcp:h:65536", "is no port"),
            ("tcp:h:-1", "is no port"),
            ("tcp:h:+1", "is no port"),
            ("tcp:h:http", "is no port"),
            ("tcp:h:1,", "\"\" is no parameter"),
            ("tcp:h:1,pem=x", "\"pem\" is no parameter"),
            ("tcp:h:1,cert", "cert has no file"),
            ("tcp:h:1,cert=a,cert=b", "cert is there twice"),
            ("tcp:h:1,cert=a,key=b", "ca=FILE is missing"),
            ("tcp:h:1,ca=a,key=b", "cert=FILE is missing"),
            ("tcp:h:1,cert=%,key=b,ca=c", "two hexadecimal digits"),
            ("tcp:h:1,cert=%2", "two hexadecimal digits"),
            ("tcp:h:1,cert=%+1", "two hexadecimal digits"),
            ("tcp:h:1,cert=%00", "%00"),
        ] {
            let error = Address::parse(text).expect_err(text);
            assert_eq!(error.status, Status::InvalidArgument);
            assert!(error.sentence.contains(why) && error.sentence.starts_with("address "), "{text:?}: {error}");
        }
    }

    #[test]
    fn hosts_become_network_addresses() {
        assert_eq!(Address::resolve("::1", 7).unwrap(), ["[::1]:7".parse().unwrap()]);
        assert!(Address::resolve("localhost", 7).unwrap().iter().all(|a| a.ip().is_loopback() && a.port() == 7));
        let error = Address::resolve("no.such.host.invalid", 7).unwrap_err();
        assert_eq!(error.status, Status::Unreachable);
        assert!(error.sentence.contains("\"no.such.host.invalid\" is not known"), "{error}");
    }
}
