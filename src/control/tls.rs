//! Mutual TLS: each side shows a certificate, and each judges the other's by the authorities it was given. The server's
//! must be for the host of the address; the client's may be for any name. Nothing is remembered between connections:
//! each is judged anew.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

use super::address::Files;
use crate::error::{Error, Result};

/// Named here each time: the process-wide default of rustls is the host program's.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// For a server whose clients must show a certificate that `files.ca` vouches for.
///
/// # Errors
/// INVALID_ARGUMENT: a file that cannot be read, has none of what it should have, or belongs to another one.
pub(crate) fn server_config(files: &Files) -> Result<Arc<ServerConfig>> {
    let (chain, key) = identity(files)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities(&files.ca)?), provider())
        .build()
        .map_err(|why| unfit(&files.ca, &why))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|why| unfit(&files.cert, &why))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|why| mismatch(files, &why))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For a client of such a server.
///
/// # Errors
/// As above.
pub(crate) fn client_config(files: &Files) -> Result<Arc<ClientConfig>> {
    let (chain, key) = identity(files)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|why| unfit(&files.cert, &why))?
        .with_root_certificates(authorities(&files.ca)?)
        .with_client_auth_cert(chain, key)
        .map_err(|why| mismatch(files, &why))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What the server's certificate must be for: the host of the address, a name or an IP address.
///
/// # Errors
/// INVALID_ARGUMENT: it is neither.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>> {
    // "fe80::1%eth0": the interface is of this machine alone.
    let bare = host.split('%').next().unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(ServerName::from(ip)),
        Err(_) => ServerName::try_from(host.to_owned())
            .map_err(|_| Error::argument(format!("host {host:?} is no name that a certificate can be for"))),
    }
}

fn identity(files: &Files) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|why| match why {
        pem::Error::NoItemsFound => refused(&files.key, "it has no private key (PEM, not encrypted)".into()),
        why => refused(&files.key, format!("it is no PEM file: {why}")),
    })?;
    Ok((chain, key))
}

pub(super) fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|why| unfit(path, &why))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|why| refused(path, format!("it is no PEM file: {why}")))?;
    if found.is_empty() {
        return Err(refused(path, "it has no certificate (PEM)".into()));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|why| refused(path, format!("it cannot be read: {why}")))
}

fn refused(path: &Path, why: String) -> Error {
    Error::argument(format!("file {path:?}: {why}"))
}

fn unfit(path: &Path, why: &dyn std::error::Error) -> Error {
    refused(path, format!("it cannot be used: {why}"))
}

/// rustls judges certificate and key together.
fn mismatch(files: &Files, why: &rustls::Error) -> Error {
    let Files { cert, key, .. } = files;
    Error::argument(match why {
        rustls::Error::InconsistentKeys(_) => format!("the key of {key:?} is not that of the certificate of {cert:?}"),
        why => format!("certificate {cert:?} with key {key:?} cannot be used: {why}"),
    })
}
