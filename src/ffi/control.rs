//! Control: reach pods from another process (gRPC).

use std::ffi::{CString, c_char};

use super::pod::podkeep_state;
use super::status::podkeep_status;
use super::{boundary, out, read_struct, text, value};
use crate::error::{Error, Result};
use crate::limit::Limit;
use crate::role;
use crate::table::{Kind, as_pointer};
use crate::world::{Entry, World};

/// A control service of this process's pods. Opaque; a handle, never an address.
pub struct podkeep_control {
    _opaque: [u8; 0],
}

/// Where a control service listens, and to whom. Begin with PODKEEP_CONTROL_OPTIONS_INIT; zero in a field is its default.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct podkeep_control_options {
    /// Of this struct, in bytes.
    pub struct_size: usize,
    /// "unix:PATH": a socket for this user and root, made with its directory if only that is missing; "tcp:HOST:PORT", port 0:
    /// any. NULL: a private socket of this process.
    pub address: *const c_char,
    /// PEM files, all three or none: the service's certificate ...
    pub tls_cert: *const c_char,
    /// ... its key ...
    pub tls_key: *const c_char,
    /// ... and the authorities that vouch for its clients. Needed for an address that other machines can reach.
    pub tls_client_ca: *const c_char,
}

/// What a handle stands for: the service and its address, which lives as long.
pub(crate) struct Served {
    address: CString,
    #[cfg(feature = "grpc")]
    _server: crate::control::Server,
}

/// Begins to answer for all pods of the process, those that are made later too, on a thread of the library's own. Any thread;
/// blocks until it listens. options may be NULL. *out is the caller's, to be freed with podkeep_control_free.
/// OK; INVALID_ARGUMENT: the sentence names the field; DENIED: other machines can reach the address and there is no TLS, or the
/// directory is another user's; INVALID_STATE: somebody listens there, or after a shutdown; NOT_FOUND: no such directory;
/// UNREACHABLE: the host's name is not known; RESOURCES; UNSUPPORTED: this build has no control service.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_control_serve(
    options: *const podkeep_control_options,
    out_control: *mut *mut podkeep_control,
) -> podkeep_status {
    boundary(|| {
        // SAFETY: the caller promises NULL or a struct of its size.
        let options = unsafe { read_struct("options", options) }?;
        let out = out("out_control", out_control)?;
        let served = std::sync::Arc::new(serve(options.as_ref())?);
        *out = as_pointer(World::get()?.register(Kind::Control, std::iter::once(Entry::Control(served)))?);
        Ok(())
    })
}

#[cfg(feature = "grpc")]
fn serve(options: Option<&podkeep_control_options>) -> Result<Served> {
    use crate::control::{ServeOptions, Server, address::Files};

    let mut serve = ServeOptions::default();
    if let Some(options) = options {
        let string = |field: &str, string| {
            let text = text(&format!("options.{field}"), string)?;
            Ok::<_, Error>(text.map(|text| text.to_string_lossy().into_owned()))
        };
        serve.address = string("address", options.address)?;
        let cert = string("tls_cert", options.tls_cert)?;
        let key = string("tls_key", options.tls_key)?;
        let ca = string("tls_client_ca", options.tls_client_ca)?;
        serve.tls = match (cert, key, ca) {
            (None, None, None) => None,
            (Some(cert), Some(key), Some(ca)) => Some(Files { cert: cert.into(), key: key.into(), ca: ca.into() }),
            _ => return Err(Error::argument("options: give tls_cert, tls_key and tls_client_ca, or none of them")),
        };
    }
    let server = Server::serve(&serve)?;
    Ok(Served { address: crate::failure::c_string(server.address()), _server: server })
}

#[cfg(not(feature = "grpc"))]
fn serve(_: Option<&podkeep_control_options>) -> Result<Served> {
    Err(unsupported())
}

#[cfg(not(feature = "grpc"))]
fn unsupported() -> Error {
    Error::new(
        crate::error::Status::Unsupported,
        "this build of podkeep has no control service: it was made without the feature grpc",
    )
}

/// *out: where it listens, as a client can use it: with the real port. It lives as long as the handle. Any thread; does not
/// block. OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_control_address(
    control: *mut podkeep_control,
    out_address: *mut *const c_char,
) -> podkeep_status {
    boundary(|| {
        let Entry::Control(served) = World::get()?.entry(Kind::Control, value(control))? else {
            return Err(crate::world::not_a(Kind::Control, value(control)));
        };
        *out("out_address", out_address)? = served.address.as_ptr();
        Ok(())
    })
}

/// Ends a control service: its socket is gone, and its clients see their calls end. The pods go on. Any thread and place;
/// blocks for a moment (at most 0.1 s for clients that do not let go). OK (NULL, too); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_control_free(control: *mut podkeep_control) -> podkeep_status {
    boundary(|| {
        if !control.is_null() {
            drop(World::get()?.unregister(Kind::Control, value(control), 1)?);
        }
        Ok(())
    })
}

/// TERMINATE by address, the static cancel: asks a pod or a group of another process for its end and waits for that. A pod
/// that is given up on goes on ending. A pod cannot know that it waits for itself: from its own thread this ends with its
/// limit. Any thread; blocks up to timeout_ms.
/// OK: it has ended without a failure; FAILED: with one, which the sentence tells; TIMEOUT: the limit, or its thread was let go
/// (the sentence tells if the process did not answer, so that nothing was asked);
/// NOT_FOUND: no pod or group of that name; UNREACHABLE: nobody answers there, or no longer; DENIED: another user's process, or
/// TLS refuses a side; DEADLOCK: from a log callback or a drop (not with 0); INVALID_ARGUMENT; RESOURCES; UNSUPPORTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_terminate(
    address: *const c_char,
    pod_name: *const c_char,
    timeout_ms: i64,
) -> podkeep_status {
    boundary(|| {
        let (address, name, limit) = asked("terminate", address, pod_name, timeout_ms)?;
        afar::terminate(address, name, limit)
    })
}

/// *out: PODKEEP_STATE_* of a pod or a group of another process, now. Any thread; blocks up to timeout_ms, on the way there and
/// back. Statuses as podkeep_terminate, without FAILED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_query(
    address: *const c_char,
    pod_name: *const c_char,
    timeout_ms: i64,
    out_state: *mut podkeep_state,
) -> podkeep_status {
    boundary(|| {
        let (address, name, limit) = asked("query", address, pod_name, timeout_ms)?;
        let out = out("out_state", out_state)?;
        *out = afar::query(address, name, limit)? as podkeep_state;
        Ok(())
    })
}

fn asked<'a>(
    call: &str,
    address: *const c_char,
    pod_name: *const c_char,
    timeout_ms: i64,
) -> Result<(&'a str, &'a str, Limit)> {
    let given = |argument: &str, string| {
        let text = text(argument, string)?.ok_or_else(|| Error::argument(format!("{argument} is NULL")))?;
        Ok::<_, Error>(text.to_str().unwrap_or_default())
    };
    let (address, name) = (given("address", address)?, given("pod_name", pod_name)?);
    let limit = Limit::from_ms("timeout_ms", timeout_ms)?;
    if limit != Limit::Now {
        role::refuse_blocking(call, None)?;
    }
    Ok((address, name, limit))
}

#[cfg(feature = "grpc")]
use crate::control::client as afar;

/// Without the service there is nobody who could be asked.
#[cfg(not(feature = "grpc"))]
mod afar {
    use crate::error::Result;
    use crate::lifecycle::State;
    use crate::limit::Limit;

    pub(super) fn terminate(_: &str, _: &str, _: Limit) -> Result<()> {
        Err(super::unsupported())
    }
    pub(super) fn query(_: &str, _: &str, _: Limit) -> Result<State> {
        Err(super::unsupported())
    }
}
