//! The guardian: a small process that outlives the host by a moment, and ends what is left of its children.
//!
//! Whatever ends the host, SIGKILL included, the guardian sees it on a descriptor of the host's own process and kills
//! every group that stands in a table which both map. A child writes its group there itself, before its program runs and
//! before it looks whether the host is still there, so none is missed. The guardian is no child of the host, holds nothing of it but
//! the two descriptors, and ends with it. `docs/decisions/0012-children.md` tells why not PDEATHSIG, a pipe or a cgroup.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering::*};

use super::program::{self, Vector};
use crate::error::{Error, Result};
use crate::linux::process;
use crate::linux::spawn::{self, NotSpawned};
use crate::linux::{self, describe};
use crate::table::SLOTS;

/// The groups of a process's children, and who watches over them.
pub(crate) struct Guardian {
    /// For a guardian to come.
    memory: OwnedFd,
    host: OwnedFd,
    /// A process group for each pod's slot; 0: none.
    groups: &'static [AtomicU32],
    /// Readable when the present one has ended; `None`: none is needed.
    pub(crate) pidfd: Option<OwnedFd>,
    began: linux::Nanos,
    /// So many in a row were started, and none is known to have lived for [`RETRY`].
    brief: u32,
}

impl Guardian {
    /// Starts one for this process.
    pub(crate) fn new() -> Result<Guardian> {
        let refused = |error| Error::resources(format!("no memory for the table of children: {}", describe(error)));
        let length = SLOTS * size_of::<AtomicU32>();
        let memory = process::shared_memory(c"podkeep-children", &[], length).map_err(refused)?;
        process::seal(&memory, true).map_err(refused)?;
        let host = process::own_pidfd().and_then(process::spare).map_err(refused)?;
        let base = process::map_shared(memory.as_raw_fd(), length).map_err(refused)?;
        // SAFETY: mapped with this length, zeroed, unmapped by the drop alone.
        let groups = unsafe { std::slice::from_raw_parts(base.cast_const().cast::<AtomicU32>(), SLOTS) };
        let mut guardian = Guardian { memory, host, groups, pidfd: None, began: 0, brief: 0 };
        guardian.restart()?;
        Ok(guardian)
    }

    /// Where the child of the pod in slot `index` notes its group.
    pub(crate) fn place(&self, index: u32) -> &'static AtomicU32 {
        &self.groups[index as usize]
    }

    /// Nothing is left of that child: its number may become another's.
    pub(crate) fn forget(&self, index: u32) {
        self.place(index).store(0, SeqCst);
    }

    /// The present one has ended. When another may follow: at once, or a while later where none has stayed.
    pub(crate) fn ended(&mut self) -> linux::Nanos {
        let stayed = self.pidfd.take().is_some() && linux::now() >= self.began.saturating_add(RETRY);
        if stayed {
            self.brief = 0;
        }
        if self.brief < BRIEF { 0 } else { self.began.saturating_add(RETRY) }
    }

    /// Starts another one, the first included.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.pidfd = None;
        self.began = linux::now();
        self.brief += 1;
        // The kernel itself ends all processes of a namespace with its first.
        if process::own_pid() == 1 {
            return Ok(());
        }
        let program = program::podkeep()?;
        let refused = |error| Error::resources(format!("no guardian for process pods: {}", describe(error)));
        let null = process::null_device().map_err(refused)?;
        let words = [c"podkeep", c"__guard", c"3", c"4"].map(CString::from);
        let argv = Vector::new(words.to_vec(), None);
        let envp = Vector::new(Vec::new(), None);
        let [null, host, memory] = [&null, &self.host, &self.memory].map(|fd| fd.as_raw_fd());
        let pid = spawn::spawn_apart(&program, argv.pointers(), envp.pointers(), &[null, null, null, host, memory])
            .map_err(|error| match error {
                NotSpawned::Resources(error) | NotSpawned::Cwd(error) => refused(error),
                NotSpawned::Exec(error) => Error::resources(format!(
                    "no guardian for process pods: {} cannot be run: {}",
                    program.to_string_lossy(),
                    describe(error)
                )),
            })?;
        match process::pidfd_of(pid) {
            Ok(pidfd) => self.pidfd = Some(pidfd),
            // Nobody would see that it is gone: to be started again.
            Err(libc::ESRCH) => return Err(Error::resources("no guardian for process pods: it was ended at once")),
            // It is there, and not watched.
            Err(_) => {}
        }
        Ok(())
    }
}

/// Only of one whose library could not be had whole, before there was any child: it shall not stay behind.
impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            process::signal_process(pidfd, libc::SIGKILL);
        }
        linux::unmap(self.groups.as_ptr().cast_mut().cast(), size_of_val(self.groups));
    }
}

/// How long to wait before a guardian that cannot be had, or does not stay, is started again.
pub(crate) const RETRY: linux::Nanos = 1_000_000_000;
/// Somebody may end one after the other, but a program that ends so often by itself is no guardian.
const BRIEF: u32 = 64;
