//! Starting a pod.

use std::sync::atomic::Ordering::*;

use crate::error::{Error, Result};
use crate::host;
use crate::keeper;
use crate::lifecycle::{Event, State};
use crate::limit;
use crate::linux::{self, Nanos};
use crate::table::{self, PodRef};
use crate::world::World;

impl PodRef {
    pub(crate) fn start(&self) -> Result<()> {
        self.refuse_by_hand("start")?;
        self.start_member()
    }

    /// What a group does with its members is not done by hand.
    pub(crate) fn refuse_by_hand(&self, call: &str) -> Result<()> {
        match self.cell().group.load(Acquire) {
            0 => Ok(()),
            _ => Err(Error::state(format!("{call}: pod {:?} is in a group, which starts and closes it", self.name()))),
        }
    }

    pub(crate) fn start_member(&self) -> Result<()> {
        let world = World::get()?;
        self.claim()?;
        // A shutdown that did not see the claim has said no before it looked.
        let launched = world.check_open().and_then(|()| self.launch(world));
        if launched.is_err() {
            self.unclaim(world);
        }
        launched
    }

    /// Takes the right to start it.
    pub(crate) fn claim(&self) -> Result<()> {
        if self.step(Event::Claim).is_some() {
            return Ok(());
        }
        let state = self.life().state();
        let why = if state == State::New { "being started by another thread" } else { state.name() };
        Err(Error::state(format!("pod {:?} is {why}: a pod starts once; make a new one", self.name())))
    }

    /// Gives it back: what the start needs could not be had.
    pub(crate) fn unclaim(&self, world: &'static World) {
        if self.step(Event::Unclaim).is_none() {
            // Cancelled meanwhile, and no S will say so.
            self.advance(Event::End { failed: false, again: false });
            self.step(Event::Gone);
            self.release_elsewhere(world, self.settled());
        }
    }

    pub(crate) fn set_ready_limit(&self) {
        if self.cell().ready_timeout != 0 {
            self.ready_limit.store(limit::after(self.cell().ready_timeout), Relaxed);
        }
    }

    /// Has the keeper look at the ready timeout, once the pod is STARTING.
    pub(crate) fn watch_ready_limit(&self) {
        if self.cell().ready_timeout != 0 {
            self.call_keeper(self.ready_limit.load(Relaxed));
        }
    }

    /// Has the keeper look at this pod, by `deadline`.
    pub(crate) fn call_keeper(&self, deadline: Nanos) {
        if let Some(region) = table::region() {
            region.bell.mark(self.index());
            region.bell.ring(deadline);
        }
    }

    fn launch(&self, world: &'static World) -> Result<()> {
        keeper::ensure(world)?;
        if self.cell().process.is_some() {
            host::process::spawn(self, world)?;
            self.watch_ready_limit();
            return Ok(());
        }
        self.set_ready_limit();
        let hooked = self.life().has_hook();
        if hooked {
            world.crew.reserve(world)?;
        }
        if let Err(error) = self.prepare_kick().and_then(|()| host::thread::spawn(self, world)) {
            if hooked {
                world.crew.give_back();
            }
            return Err(error);
        }
        // S may have been faster.
        self.advance(Event::Launch);
        self.watch_ready_limit();
        Ok(())
    }

    pub(crate) fn prepare_kick(&self) -> Result<()> {
        match self.cell().kick_signal {
            0 => Ok(()),
            signal => linux::ensure_kick_handler(signal)
                .map_err(|e| Error::resources(format!("no handler for the kick: {}", linux::describe(e)))),
        }
    }
}
