//! Steps of a pod: an event is done, its failures are kept, and whoever has to know is told.

use std::sync::atomic::Ordering::*;

use super::Stored;
use crate::cancel;
use crate::failure::{Kind, Record};
use crate::host;
use crate::lifecycle::{Event, Phase, State};
use crate::linux::NEVER;
use crate::runtime::CANCELLED;
use crate::table::{self, PodRef, Step};
use crate::world::{World, lock};

impl PodRef {
    /// Does `event` and tells whoever has to know. Not for signal handlers.
    pub(crate) fn advance(&self, event: Event) -> Option<Step> {
        let step = self.step(event)?;
        self.announce(step);
        Some(step)
    }

    /// Does `event`, with the failure that goes with it: whoever sees that it failed finds the record.
    pub(crate) fn advance_failing(&self, event: Event, record: Option<Record>) -> Option<Step> {
        let Some(record) = record else { return self.advance(event) };
        let step = {
            let mut cold = lock(&self.cell().cold);
            let step = self.step(event)?;
            cold.push(record);
            step
        };
        self.announce(step);
        Some(step)
    }

    /// Does `event` with what a child tells of it: whoever sees the step finds the records. They are kept, too, when the
    /// event changes nothing.
    pub(crate) fn advance_told(&self, event: Event, records: Vec<Record>) -> Option<Step> {
        let step = {
            let mut cold = lock(&self.cell().cold);
            let step = self.step(event);
            records.into_iter().for_each(|record| cold.push(record));
            step?
        };
        self.announce(step);
        Some(step)
    }

    pub(crate) fn announce(&self, step: Step) {
        if let Some(link) = &self.cell().link {
            link.tell(self, step);
        }
        cancel::alert(self, step, false);
        if host::main::is_main(self) {
            let again = host::main::tend(self);
            if again != NEVER {
                self.call_keeper(again);
            }
        }
        if step.before.state() != step.after.state() {
            if step.entered(State::Running) && self.cell().watchdog != 0 {
                self.call_keeper(0); // at once: from the first look on it knows when it was late
            }
            self.publish();
        }
    }

    /// Tells the monitors and the log what they do not know yet.
    pub(crate) fn publish(&self) {
        if table::region().is_some_and(|r| r.watchers.load(SeqCst) > 0)
            && let Some(world) = World::existing()
        {
            lock(&world.hub).publish(self);
        }
    }

    /// What a callback's return value means: `None` is a clean end (L6). What `fail` stored goes with it or is gone.
    pub(crate) fn judge(&self, phase: Phase, code: i32) -> Option<Record> {
        let stored = self.discard_stored();
        let asked = matches!(phase, Phase::Init | Phase::Run) && self.life().stop_asked();
        if code == 0 || code == CANCELLED && asked {
            return None;
        }
        let callback = match phase {
            Phase::Init => "init",
            Phase::Teardown => "teardown",
            _ => "run_forever",
        };
        Some(match stored {
            Some(Stored { kind, message, data, .. }) => Record { message, data, ..self.record(phase, kind, code, "") },
            None => self.record(phase, Kind::Returned, code, &format!("{callback} returned {code}")),
        })
    }

    /// Takes what `fail` stored: a clean return discards it.
    pub(crate) fn discard_stored(&self) -> Option<Stored> {
        let cell = self.cell();
        (cell.has_stored.load(Acquire) && cell.has_stored.swap(false, AcqRel))
            .then(|| lock(&cell.cold).stored.take())
            .flatten()
    }
}
