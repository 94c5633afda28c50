//! Monitor: watch pods from any event loop.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::Arc;

use super::failure::{podkeep_failure, register, unregister_lent};
use super::group::podkeep_group;
use super::pod::{podkeep_pod, podkeep_state};
use super::status::podkeep_status;
use super::{boundary, out, value, write_struct};
use crate::error::{Result, Status};
use crate::limit::Limit;
use crate::monitor::Monitor;
use crate::table::{Kind, PodRef, as_pointer};
use crate::world::{Entry, World, forked, lock, not_a};

/// A reader of state changes. Opaque; a handle, never an address.
pub struct podkeep_monitor {
    _opaque: [u8; 0],
}

/// A change of a pod's state. Begin with PODKEEP_EVENT_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct podkeep_event {
    /// Of this struct, in bytes.
    pub struct_size: usize,
    /// Grows with every event of the process.
    pub sequence: u64,
    /// CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Borrowed; may be dead by now.
    pub pod: *mut podkeep_pod,
    /// Until this monitor's next call.
    pub name: *const c_char,
    /// Of that incarnation, when `to` follows one; until this monitor's next call. Borrowed.
    pub failure: *const podkeep_failure,
    /// PODKEEP_STATE_*.
    pub from: podkeep_state,
    /// Equal to from: the state found when the monitor was made.
    pub to: podkeep_state,
    /// Which life of the pod.
    pub incarnation: u32,
    /// Events of this pod merged into this one, because the reader was slow.
    pub missed: u32,
}

fn find(monitor: *const podkeep_monitor) -> Result<Arc<Monitor>> {
    match World::get()?.entry(Kind::Monitor, value(monitor))? {
        Entry::Monitor(monitor) => Ok(monitor),
        _ => Err(not_a(Kind::Monitor, value(monitor))),
    }
}

/// Watches a pod; NULL: every pod of the process. It first tells each watched pod's present state, then every change in
/// order. Any thread; does not block. *out is the caller's, to be freed with podkeep_monitor_free.
/// OK; INVALID_ARGUMENT: out is NULL; INVALID_HANDLE, FORKED: the pod; RESOURCES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_monitor_new(
    pod: *mut podkeep_pod,
    out_monitor: *mut *mut podkeep_monitor,
) -> podkeep_status {
    boundary(|| {
        let pod = match pod.is_null() {
            true => None,
            false => Some(PodRef::of_handle(value(pod)).map_err(|status| match status {
                Status::Forked => forked(Kind::Pod),
                _ => not_a(Kind::Pod, value(pod)),
            })?),
        };
        let out = out("out_monitor", out_monitor)?;
        *out = handle_of(Monitor::new(World::get()?, pod.as_ref())?)?;
        Ok(())
    })
}

/// Watches the members of a group: present and, until it is started, to come. Any thread; does not block. *out is the
/// caller's, to be freed with podkeep_monitor_free. Its descriptor also tells that the group's own state has changed, though
/// no event may wait: read on until TIMEOUT, then look at the group.
/// OK; INVALID_ARGUMENT: out is NULL; RESOURCES; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_monitor_new_group(
    group: *mut podkeep_group,
    out_monitor: *mut *mut podkeep_monitor,
) -> podkeep_status {
    boundary(|| {
        let group = super::group::find(group)?;
        let out = out("out_monitor", out_monitor)?;
        *out = handle_of(group.watch(World::get()?)?)?;
        Ok(())
    })
}

/// Gives a monitor its handle.
fn handle_of(monitor: Arc<Monitor>) -> Result<*mut podkeep_monitor> {
    let world = World::get()?;
    match world.register(Kind::Monitor, std::iter::once(Entry::Monitor(monitor.clone()))) {
        Ok(handle) => Ok(as_pointer(handle)),
        Err(error) => {
            monitor.close(world);
            Err(error)
        }
    }
}

/// *out: a descriptor that is readable while events wait and from the end on, for poll, epoll and event loops; the
/// monitor's own, made at the first call: only poll it. Any thread; does not block.
/// OK; INVALID_ARGUMENT: out is NULL; RESOURCES: no descriptor to be had; INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_monitor_fd(monitor: *mut podkeep_monitor, out_fd: *mut c_int) -> podkeep_status {
    boundary(|| {
        let monitor = find(monitor)?;
        let out = out("out_fd", out_fd)?;
        *out = monitor.fd()?;
        Ok(())
    })
}

/// *out: the next event. Any thread, one at a time; blocks up to timeout_ms (0 looks once).
/// OK; TIMEOUT: none came; ENDED: the one pod or group is final and all is read, or the monitor was freed meanwhile; DEADLOCK:
/// from a log callback or a drop (not with 0); INVALID_ARGUMENT: out, its struct_size, a negative time; RESOURCES;
/// INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn podkeep_monitor_next(
    monitor: *mut podkeep_monitor,
    out_event: *mut podkeep_event,
    timeout_ms: i64,
) -> podkeep_status {
    boundary(|| {
        let handle = monitor;
        let monitor = find(handle)?;
        let limit = Limit::from_ms("timeout_ms", timeout_ms)?;
        let fill = || {
            return_lent(&monitor);
            let event = monitor.next(limit)?;
            let failure = match &event.failure {
                None => ptr::null_mut(),
                Some(failure) => {
                    let first = register(failure, false).inspect_err(|_| monitor.put_back(event.clone()))?;
                    *lock(&monitor.lent) = Some((first, failure.chain().len()));
                    if find(handle).is_ok() {
                        as_pointer(first)
                    } else {
                        return_lent(&monitor); // freed meanwhile: nobody would
                        ptr::null_mut()
                    }
                }
            };
            Ok(podkeep_event {
                struct_size: size_of::<podkeep_event>(),
                sequence: event.sequence,
                time_ns: event.time_ns,
                pod: as_pointer(event.pod),
                name: event.c_name.as_ptr(),
                failure,
                from: event.from as podkeep_state,
                to: event.to as podkeep_state,
                incarnation: event.incarnation,
                missed: event.missed,
            })
        };
        // SAFETY: the caller promises NULL or a struct of its size.
        unsafe { write_struct("out_event", out_event, fill) }
    })
}

/// What the last event lent is over.
fn return_lent(monitor: &Monitor) {
    let lent = lock(&monitor.lent).take();
    if let Some((first, count)) = lent {
        unregister_lent(first, count);
    }
}

/// Frees a monitor; who waits in podkeep_monitor_next reads what is there, then gets ENDED; who polls its descriptor is
/// woken, and it is closed. Any thread and place; does not block. OK (NULL, too); INVALID_HANDLE; FORKED.
#[unsafe(no_mangle)]
pub extern "C" fn podkeep_monitor_free(monitor: *mut podkeep_monitor) -> podkeep_status {
    boundary(|| {
        if monitor.is_null() {
            return Ok(());
        }
        let world = World::get()?;
        if let Entry::Monitor(monitor) = world.unregister(Kind::Monitor, value(monitor), 1)? {
            monitor.close(world);
            return_lent(&monitor);
        }
        Ok(())
    })
}
