//! What a child executes: its program, found; its arguments and environment, made whole before there is a child.

use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering::*};

use super::block::Errand;
use crate::error::{Error, Result, Status};
use crate::linux;
use crate::world::World;

/// In the environment of a child: see [`Marker`].
pub(crate) const MARKER: &str = "PODKEEP_CHILD";
/// Where the `podkeep` program is, for those who cannot install it beside the library.
const PROGRAM_VARIABLE: &str = "PODKEEP_PROGRAM";

/// What a host was told by its own supervisor is not for its children.
const NOT_INHERITED: [&str; 8] = [
    MARKER,
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

/// Strings that end with NULL for the kernel.
pub(crate) struct Vector {
    /// Owns what `pointers` point to.
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Vector {
    /// `marker` outlives it.
    pub(crate) fn new(strings: Vec<CString>, marker: Option<&Marker>) -> Vector {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.extend(marker.map(|marker| marker.text.as_ptr().cast::<c_char>()));
        pointers.push(std::ptr::null());
        Vector { _strings: strings, pointers }
    }
    pub(crate) fn pointers(&self) -> &[*const c_char] {
        &self.pointers
    }
}

/// What a child finds in its environment: its descriptors, its errand, and its own process id, which it writes itself
/// before its program begins. So the mark is bound to one process, whoever inherits it, and whatever that closes.
pub(crate) struct Marker {
    text: Box<[AtomicU8]>,
}

/// What a marker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) channel: RawFd,
    pub(crate) block: RawFd,
    pub(crate) shown: RawFd,
    pub(crate) errand: u32,
    pub(crate) pid: i32,
}

const DIGITS: usize = 10;

impl Marker {
    pub(crate) fn new(errand: Errand) -> Marker {
        let text = format!("{MARKER}=3:4:5:{}:{}\0", errand as u32, "0".repeat(DIGITS));
        Marker { text: text.bytes().map(AtomicU8::new).collect() }
    }

    /// Where the process id goes.
    pub(crate) fn digits(&self) -> &[AtomicU8] {
        &self.text[self.text.len() - 1 - DIGITS..self.text.len() - 1]
    }

    /// The mark of this process's environment, whomever it was made for.
    pub(crate) fn read() -> Option<Mark> {
        let text = std::env::var_os(MARKER)?;
        let numbers: Option<Vec<i32>> = text.to_str()?.split(':').map(|number| number.parse().ok()).collect();
        let &[channel, block, shown, errand, pid] = numbers.as_deref()?.as_array()?;
        Some(Mark { channel, block, shown, errand: errand as u32, pid })
    }
}

/// Sets a variable in an environment to be.
pub(crate) fn set(environment: &mut Vec<CString>, name: &str, value: &[u8]) {
    let prefix = [name.as_bytes(), b"="].concat();
    environment.retain(|entry| !entry.as_bytes().starts_with(&prefix));
    environment.extend(CString::new([&prefix, value].concat()));
}

/// The environment of a child: the host's without what is not for it, with `changes` ("KEY=VALUE") over it.
pub(crate) fn environment(changes: &[CString]) -> Vec<CString> {
    let key = |entry: &[u8]| entry.iter().position(|&b| b == b'=').map_or(entry.to_vec(), |at| entry[..at].to_vec());
    let changed: std::collections::HashSet<Vec<u8>> = changes.iter().map(|entry| key(entry.as_bytes())).collect();
    let mut all: Vec<CString> = linux::process::environment()
        .into_iter()
        .filter(|entry| {
            let key = key(entry.as_bytes());
            !changed.contains(&key) && !NOT_INHERITED.iter().any(|name| name.as_bytes() == key)
        })
        .collect();
    // Of two changes of one key the later counts.
    for (n, entry) in changes.iter().enumerate() {
        let again = changes[n + 1..].iter().any(|later| key(later.as_bytes()) == key(entry.as_bytes()));
        if !again {
            all.push(entry.clone());
        }
    }
    all
}

fn value<'a>(environment: &'a [CString], name: &str) -> Option<&'a OsStr> {
    environment.iter().find_map(|entry| {
        let rest = entry.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(OsStr::from_bytes(rest))
    })
}

/// Why a command cannot be run.
pub(crate) struct NoProgram {
    /// As a shell would end: 127 for none, 126 for one that cannot be executed.
    pub(crate) code: i32,
    pub(crate) sentence: String,
}

/// The file that `name` stands for: itself with a slash in it, else the first of the child's PATH, as seen from its directory.
pub(crate) fn search(
    name: &CStr,
    environment: &[CString],
    cwd: Option<&CStr>,
) -> std::result::Result<CString, NoProgram> {
    let text = name.to_string_lossy();
    if name.to_bytes().contains(&b'/') {
        return Ok(name.to_owned()); // relative to the child's directory: the exec will tell
    }
    // Without a PATH the C library's own default.
    let path = value(environment, "PATH").unwrap_or(OsStr::new("/bin:/usr/bin"));
    let here = cwd.map_or(Path::new(""), |cwd| Path::new(OsStr::from_bytes(cwd.to_bytes())));
    let mut denied = None;
    for directory in std::env::split_paths(path) {
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        let file = directory.join(OsStr::from_bytes(name.to_bytes()));
        if is_program(&here.join(&file)) {
            return CString::new(file.into_os_string().into_vec())
                .map_err(|_| NoProgram { code: 127, sentence: format!("the path of {text:?} holds a NUL") });
        }
        if here.join(&file).is_file() {
            denied.get_or_insert(file);
        }
    }
    Err(match denied {
        Some(file) => NoProgram { code: 126, sentence: format!("{} is not executable", file.display()) },
        None => NoProgram { code: 127, sentence: format!("there is no program {text:?} in PATH ({})", path.display()) },
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Given by the user, before anything else; null: nothing was. It lives as long as the process, and no lock guards it that
/// the child of a fork could find taken.
static GIVEN: AtomicPtr<c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Says where the `podkeep` program is; `None`: it is looked for.
pub(crate) fn set_podkeep(path: Option<&CStr>) -> Result<()> {
    let kept = match path.map(|path| Path::new(OsStr::from_bytes(path.to_bytes()))) {
        None => std::ptr::null(),
        Some(path) if !is_program(path) => {
            return Err(Error::new(Status::NotFound, format!("path is {path:?}: there is no program")));
        }
        Some(path) => {
            // A relative path means what it means now, wherever the process goes later.
            let path = std::path::absolute(path).unwrap_or(path.to_path_buf());
            World::get()?.intern(&CString::new(path.into_os_string().into_vec()).unwrap_or_default())?.as_ptr()
        }
    };
    GIVEN.store(kept.cast_mut(), Release);
    Ok(())
}

fn given() -> Option<PathBuf> {
    let path = GIVEN.load(Acquire);
    // SAFETY: null, or a string that lives as long as the process.
    let path = (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) })?;
    Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
}

/// The `podkeep` program: as it was given, as the environment says, beside the library, in PATH.
pub(crate) fn podkeep() -> Result<CString> {
    let believed = !linux::process::is_privileged();
    let told = std::env::var_os(PROGRAM_VARIABLE).filter(|_| believed).map(PathBuf::from);
    let mut looked: Vec<PathBuf> = given().into_iter().chain(told).collect();
    if looked.is_empty() {
        let library = linux::process::own_path().map(|path| PathBuf::from(OsString::from_vec(path.into_bytes())));
        let beside = library.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        looked.extend(
            beside.iter().flat_map(|dir| ["podkeep", "../bin/podkeep", "../../bin/podkeep"].map(|name| dir.join(name))),
        );
        let path = std::env::var_os("PATH").filter(|_| believed);
        looked.extend(path.iter().flat_map(std::env::split_paths).map(|dir| dir.join("podkeep")));
    }
    let found = looked.iter().find(|path| is_program(path));
    found.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok()).ok_or_else(|| {
        let shown: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
        Error::new(
            Status::NotFound,
            format!(
                "no `podkeep` program, which process pods need: looked for {}; install it beside the library, or say \
                 where it is with podkeep_set_program or {PROGRAM_VARIABLE}",
                shown.join(", ")
            ),
        )
    })
}

/// This process's own executable, to be started anew: by its name while that leads to the same file.
pub(crate) fn own_executable() -> CString {
    use std::os::unix::fs::MetadataExt;
    let itself = "/proc/self/exe";
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let named = std::fs::read_link(itself).ok().filter(|path| identity(path) == identity(Path::new(itself)));
    named
        .and_then(|path| CString::new(path.into_os_string().into_vec()).ok())
        .unwrap_or_else(|| CString::new(itself).unwrap_or_default())
}

/// The arguments this process was started with, as they were when it asked whether it is a child: a program may write
/// over them later.
static ARGUMENTS: OnceLock<Vec<CString>> = OnceLock::new();

pub(crate) fn note_arguments() {
    ARGUMENTS.get_or_init(read_arguments);
}

pub(crate) fn own_arguments() -> Vec<CString> {
    ARGUMENTS.get_or_init(read_arguments).clone()
}

fn read_arguments() -> Vec<CString> {
    let line = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|&byte| byte == 0).map(|word| CString::new(word).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_go_over_the_inherited_and_the_last_counts() {
        let changes = [c"PATH=/nowhere".to_owned(), c"PODKEEP_TEST_X=1".to_owned(), c"PODKEEP_TEST_X=2".to_owned()];
        let environment = environment(&changes);
        assert_eq!(value(&environment, "PATH"), Some(OsStr::new("/nowhere")));
        assert_eq!(value(&environment, "PODKEEP_TEST_X"), Some(OsStr::new("2")));
        assert_eq!(environment.iter().filter(|entry| entry.to_bytes().starts_with(b"PATH=")).count(), 1);
        assert!(std::env::var_os("PODKEEP_TEST_X").is_none());
    }

    #[test]
    fn programs_are_found_in_the_childs_path() {
        let environment = [c"PATH=/nowhere:/bin".to_owned()];
        assert_eq!(search(c"sh", &environment, None).ok(), Some(c"/bin/sh".to_owned()));
        assert_eq!(search(c"./sh", &environment, None).ok(), Some(c"./sh".to_owned()));
        let none = search(c"no-such-program", &environment, None).err().unwrap();
        assert_eq!((none.code, none.sentence.contains("no-such-program")), (127, true));
        let denied = search(c"passwd", &[c"PATH=/etc".to_owned()], None).err().unwrap();
        assert_eq!(denied.code, 126);
        // What is relative in PATH is so to the directory in which the child begins.
        let relative = [c"PATH=bin".to_owned()];
        assert_eq!(search(c"sh", &relative, Some(c"/")).ok(), Some(c"bin/sh".to_owned()));
        assert_eq!(search(c"sh", &relative, Some(c"/bin")).err().unwrap().code, 127);
    }
}
