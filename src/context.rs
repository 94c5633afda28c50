//! Context: what the runtime sees from inside. A value that may be copied to any thread of S's process; once the
//! incarnation is over it reads cancelled, whoever asks.

use std::ffi::CStr;
use std::sync::atomic::Ordering::*;
use std::time::Duration;

use crate::cancel;
use crate::error::{Error, Result, Status};
use crate::failure::{Kind, Record, c_string};
use crate::lifecycle::{Event, State};
use crate::limit::{self, Limit};
use crate::linux::{self, NEVER};
use crate::pod::{Args, Cold, Stored};
use crate::role;
use crate::table::{self, PodRef};
use crate::world::{self, lock};

/// One incarnation, seen from inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context(u64);

impl Context {
    pub(crate) fn of(pod: &PodRef) -> Context {
        Context(pod.context_handle())
    }

    pub(crate) fn from_handle(handle: u64) -> Context {
        Context(handle)
    }

    pub(crate) fn handle(self) -> u64 {
        self.0
    }

    /// The pod, for calls that are refused once the incarnation is over.
    pub(crate) fn pod(self) -> Result<PodRef> {
        PodRef::of_context(self.0).map_err(|status| match status {
            Status::Forked => world::forked(table::Kind::Context),
            Status::InvalidState => Error::state("the context is over: its teardown has returned"),
            _ => world::not_a(table::Kind::Context, self.0),
        })
    }

    /// Does what another life must not meet: none begins while the cold part is locked.
    fn in_this_life<T>(self, act: impl FnOnce(&PodRef, &mut Cold) -> T) -> Result<(PodRef, T)> {
        let pod = self.pod()?;
        let done = {
            let mut cold = lock(&pod.cell().cold);
            if pod.context_handle() != self.0 {
                return Err(Error::state("the context is over: another life of the pod has begun"));
            }
            act(&pod, &mut cold)
        };
        Ok((pod, done))
    }

    /// Whether a stop was asked for: one atomic load.
    pub fn cancelled(self) -> bool {
        table::context_cancelled(self.0)
    }

    /// Sleeps until cancelled, or `timeout` (`None`: for ever); true: cancelled.
    pub fn wait(self, timeout: Option<Duration>) -> bool {
        self.wait_limit(Limit::from_duration(timeout)).is_ok()
    }

    pub(crate) fn wait_limit(self, limit: Limit) -> Result<()> {
        if let Err(error) = self.pod()
            && error.status == Status::InvalidHandle
        {
            return Err(error);
        }
        cancel::wait(self, limit)
    }

    /// A descriptor for poll and event loops, readable once cancelled; the pod's own: never read or close it.
    ///
    /// # Errors
    /// RESOURCES when none is to be had (polling still works), INVALID_STATE once the incarnation is over.
    pub fn fd(self) -> Result<i32> {
        self.in_this_life(cancel::descriptor)?.1
    }

    /// The time until force; `None`: not cancelled, or no limit.
    pub fn time_left(self) -> Option<Duration> {
        let pod = self.pod().ok()?;
        pod.heed_afar();
        if !pod.life().stop_asked() {
            return None;
        }
        if pod.life().is_linked() {
            pod.heed_limit(&mut lock(&pod.cell().cold));
        }
        match pod.stop_deadline() {
            NEVER => None,
            at => Some(Duration::from_nanos(at.saturating_sub(linux::now()))),
        }
    }

    /// The pod's own word that it is ready.
    ///
    /// # Errors
    /// INVALID_STATE once the incarnation is over, FORKED in the child of a fork; elsewhere it is ignored where it
    /// does not apply.
    pub fn ready(self) -> Result<()> {
        let (pod, step) = self.in_this_life(|pod, _| pod.step(Event::Ready))?;
        if let Some(step) = step {
            pod.announce(step);
        }
        Ok(())
    }

    /// "I live": one atomic store.
    ///
    /// # Errors
    /// As for [`Context::ready`].
    pub fn heartbeat(self) -> Result<()> {
        let pod = self.pod()?;
        let now = linux::now();
        pod.heartbeat_at.store(now, Relaxed);
        if let Some(link) = &pod.cell().link {
            link.heartbeat(now);
        }
        Ok(())
    }

    /// Asks for more time: the present limit (ready, watchdog, grace) becomes at least `span` from now, within the
    /// pod's maximum.
    ///
    /// # Errors
    /// As for [`Context::ready`].
    pub fn extend(self, span: Duration) -> Result<()> {
        self.extend_nanos(span.as_nanos().min(NEVER as u128) as u64)
    }

    pub(crate) fn extend_nanos(self, span: linux::Nanos) -> Result<()> {
        let (pod, ()) = self.in_this_life(|pod, cold| pod.extend_within(cold, span))?;
        // Afterwards: what the host then shows is not more than what is here.
        if let Some(link) = &pod.cell().link {
            link.tell_extend(span);
        }
        Ok(())
    }

    /// A text that says what S is doing, for people.
    ///
    /// # Errors
    /// As for [`Context::ready`].
    pub fn status(self, text: &str) -> Result<()> {
        let (pod, ()) = self.in_this_life(|_, cold| cold.status = Some(text.into()))?;
        pod.tell_status(text);
        Ok(())
    }

    /// Stores why the callback is about to fail; it counts when the callback then fails, in the hook at once. The
    /// result is the code to return: `code`, or -1 for 0.
    pub fn fail(self, code: i32, message: &str) -> i32 {
        self.fail_as(Kind::Returned, code, message)
    }

    /// As [`Context::fail`], for a failure of another kind.
    pub fn fail_as(self, kind: Kind, code: i32, message: &str) -> i32 {
        self.fail_with(kind, code, message, &[])
    }

    /// As [`Context::fail_as`], with bytes that travel with the record: [`crate::Failure::data`].
    pub fn fail_with(self, kind: Kind, code: i32, message: &str, data: &[u8]) -> i32 {
        let code = if code == 0 { -1 } else { code };
        let Ok(pod) = self.pod() else { return code };
        let stored = Stored { kind, code, message: c_string(message), data: data.into() };
        if role::is_in_hook_of(&pod) {
            pod.fail_in_hook(stored);
        } else {
            let _ = self.in_this_life(|pod, cold| {
                cold.stored = Some(stored);
                pod.cell().has_stored.store(true, Release);
            });
        }
        code
    }

    /// 0, 1, 2 ...: which life of the pod this is.
    pub fn incarnation(self) -> u32 {
        self.pod().map_or(0, |pod| pod.incarnation())
    }

    /// The bytes given with the pod's options, on a 16-byte boundary. They live as long as the pod.
    pub(crate) fn args(self) -> Option<&'static Args> {
        self.pod().ok().map(|pod| &pod.cell().args)
    }

    /// The bytes given with the pod's options.
    pub fn args_vec(self) -> Vec<u8> {
        self.pod().map_or_else(|_| Vec::new(), |pod| pod.cell().args.bytes().to_vec())
    }

    /// The pod's name; it lives as long as the process.
    pub fn name(self) -> &'static str {
        self.c_name().and_then(|name| name.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn c_name(self) -> Option<&'static CStr> {
        self.pod().ok().map(|pod| pod.cell().name)
    }
}

impl PodRef {
    /// The present limit (ready, watchdog, grace) becomes at least `span` from now, within the pod's maximum.
    pub(crate) fn extend_limit(&self, span: linux::Nanos) {
        self.extend_within(&mut lock(&self.cell().cold), span);
    }

    /// In a child: takes the host's word for when the grace is spent, whenever it is a new one. What S has extended since the
    /// last stays until then: the host, which is told, shows what comes of it.
    fn heed_limit(&self, cold: &mut Cold) {
        let asked = table::asked_afar();
        if self.life().is_linked() && asked.stop && asked.until != cold.heard {
            cold.heard = asked.until;
            self.stop_limit.store(asked.until, Relaxed);
        }
    }

    fn extend_within(&self, cold: &mut Cold, span: linux::Nanos) {
        self.heed_limit(cold);
        let present = match self.life().state() {
            State::Starting => &self.ready_limit,
            State::Stopping => {
                self.stop_deadline();
                &self.stop_limit
            }
            State::Running if self.cell().watchdog != 0 => {
                self.cell().watch_limit.fetch_max(self.watchdog_deadline(), Relaxed);
                &self.cell().watch_limit
            }
            _ => return,
        };
        let room = self.cell().extend_max.saturating_sub(cold.extended);
        let (asked, mut at) = (limit::after(span), present.load(Relaxed));
        let more = loop {
            if at == 0 || at == NEVER {
                return;
            }
            let more = asked.saturating_sub(at).min(room);
            // A budget that becomes shorter meanwhile counts. The keeper looks again when the old limit is reached, and finds
            // the new one.
            match present.compare_exchange(at, at.saturating_add(more).min(NEVER - 1), SeqCst, SeqCst) {
                Ok(_) => break more,
                Err(now) => at = now,
            }
        };
        cold.extended += more;
        let life = self.life();
        if life.is_afar() && life.stop_asked() {
            self.show(true, life.barred());
        }
    }

    /// What S says that it is doing.
    pub(crate) fn set_status(&self, text: &str) {
        let kept = text.into();
        lock(&self.cell().cold).status = Some(kept);
        self.tell_status(text);
    }

    fn tell_status(&self, text: &str) {
        crate::log::status(self, text);
        if let Some(link) = &self.cell().link {
            link.tell_status(text);
        }
        crate::host::main::status(self, text);
    }

    /// A failure in the cancel hook counts by itself.
    fn fail_in_hook(&self, stored: Stored) {
        let record = self.record(crate::lifecycle::Phase::Cancel, stored.kind, stored.code, "");
        let record = Record { message: stored.message, data: stored.data, ..record };
        let mut cold = lock(&self.cell().cold);
        if self.life().hook_running() {
            self.step(Event::HookFail);
            let at = cold.push_hook(record);
            drop(cold);
            if let Some(link) = &self.cell().link {
                link.tell_hook(self, at);
            }
        }
    }
}
