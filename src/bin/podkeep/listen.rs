//! `--listen`: this process's control service, for as long as the pod is kept.

use crate::cli::USAGE;
use crate::library::{Control, ControlOptions, Library, Opaque, text};
use crate::run::{NOT_FOUND, Refusal, c_string, check};
use crate::tell::tell;
use clap::Args;
use std::ffi::{CString, OsStr, OsString};
use std::path::{Path, PathBuf, absolute};
use std::ptr;

#[derive(Args)]
#[command(next_help_heading = "Control")]
pub struct Listen {
    /// Where it can be reached, as long as it runs: `unix:PATH`, or `tcp:HOST:PORT` (0: any, told on stderr)
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,

    /// The certificate to show, a PEM file; off the loopback all three are needed
    #[arg(long, value_name = "FILE", requires = "listen")]
    tls_cert: Option<PathBuf>,

    /// Its key, a PEM file
    #[arg(long, value_name = "FILE", requires = "listen")]
    tls_key: Option<PathBuf>,

    /// Whose certificates are accepted of clients, a PEM file
    #[arg(long, value_name = "FILE", requires = "listen")]
    tls_client_ca: Option<PathBuf>,
}

/// The same for the library, whatever the working directory will be.
pub struct Place {
    address: CString,
    files: [Option<CString>; 3],
}

/// The service, which ends when it is told to.
pub struct Service {
    functions: Control,
    handle: *mut Opaque,
}

impl Listen {
    pub fn place(&self) -> Result<Option<Place>, Refusal> {
        let Some(address) = &self.listen else { return Ok(None) };
        let address = match address.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => {
                let mut whole = OsString::from("unix:");
                whole.push(from_here(Path::new(path))?);
                c_string(&whole)?
            }
            _ => c_string(OsStr::new(address))?,
        };
        let file =
            |path: &Option<PathBuf>| path.as_ref().map(|path| c_string(from_here(path)?.as_os_str())).transpose();
        Ok(Some(Place { address, files: [file(&self.tls_cert)?, file(&self.tls_key)?, file(&self.tls_client_ca)?] }))
    }
}

fn from_here(path: &Path) -> Result<PathBuf, Refusal> {
    absolute(path).map_err(|why| (USAGE, format!("{}: {why}", path.display())))
}

impl Place {
    /// Begins to serve, and tells where.
    pub fn serve(&self, library: &Library) -> Result<Service, Refusal> {
        let functions = library.control().map_err(|why| (NOT_FOUND, format!("--listen: {why}")))?;
        let [tls_cert, tls_key, tls_client_ca] =
            self.files.each_ref().map(|file| file.as_ref().map_or(ptr::null(), |file| file.as_ptr()));
        let address = self.address.as_ptr();
        let options =
            ControlOptions { struct_size: size_of::<ControlOptions>(), address, tls_cert, tls_key, tls_client_ca };
        let (mut handle, mut real) = (ptr::null_mut(), ptr::null());
        // SAFETY: terminated strings, which are copied, and a valid out pointer.
        check(library, unsafe { (functions.serve)(&options, &mut handle) })?;
        let service = Service { functions, handle };
        // SAFETY: a valid out pointer.
        if let Err(refusal) = check(library, unsafe { (service.functions.address)(handle, &mut real) }) {
            service.end();
            return Err(refusal);
        }
        // SAFETY: a terminated string, which lives as long as the service.
        tell(0, &format!("listening on {}", unsafe { text(real) }));
        Ok(service)
    }
}

impl Service {
    /// By a call, and not when it is dropped: no frame below a pod's callbacks has a destructor that matters.
    pub fn end(self) {
        // SAFETY: takes any value.
        unsafe { (self.functions.free)(self.handle) };
    }
}
