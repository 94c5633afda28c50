//! Who is connected: a bounded number of places. A connection that says nothing loses its place to the newest comer, so
//! that however many connect and say nothing, who has something to ask is heard. A few places are theirs in any case: who
//! has just come must not be sent away by the next one before it could ask.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use crate::linux::{self, NEVER, Nanos, socket};
use crate::world::lock;

/// How long a connection may take until its first request.
pub(super) const SILENCE: Nanos = 5_000_000_000;
/// Places, if the process may have enough descriptors.
const MOST: u64 = 256;
/// One place of so many is for those who have said nothing yet, though all the others are taken: several times as many as
/// are let in at once.
const SILENT: usize = 8;

/// All places of a server.
pub(super) struct Places {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// In order of arrival.
    taken: BTreeMap<u64, Arc<Peer>>,
}

/// The other end of a connection.
pub(super) struct Peer {
    socket: RawFd,
    came: Nanos,
    /// Its last request; 0: none yet.
    spoke: AtomicU64,
    ended: AtomicBool,
    /// Of this user or root, as far as that can be known: who reaches a port, may.
    pub(super) may_ask: bool,
}

impl Peer {
    /// A request has come.
    pub(super) fn speaks(&self) {
        self.spoke.store(linux::now(), Relaxed);
    }
}

/// A connection's place, given back when it is dropped. To be dropped before the socket is closed.
pub(super) struct Place {
    number: u64,
    pub(super) peer: Arc<Peer>,
    places: Arc<Places>,
}

impl Places {
    /// A quarter of what descriptors there may be at most: the rest is the program's.
    pub(super) fn new() -> Arc<Places> {
        let most = (socket::most_descriptors() / 4).clamp(4, MOST) as usize;
        Arc::new(Places { most, state: Mutex::default() })
    }

    /// Gives a connection a place. When there is none left, one loses its own: the one that has said nothing for the longest
    /// time, or while few say nothing the one that has asked nothing for the longest time.
    pub(super) fn take(self: &Arc<Places>, socket: RawFd, may_ask: bool) -> Place {
        let mut state = lock(&self.state);
        if state.taken.len() >= self.most {
            let silent = state.taken.values().filter(|peer| peer.is_silent()).count();
            if silent >= (self.most / SILENT).max(1) || !state.displace_idle() {
                state.displace_silent();
            }
        }
        let (number, came) = (state.next, linux::now());
        let (spoke, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        let peer = Arc::new(Peer { socket, came, spoke, ended, may_ask });
        state.next += 1;
        state.taken.insert(number, peer.clone());
        Place { number, peer, places: self.clone() }
    }

    /// Whether those who have lost their place are still to be seen off.
    pub(super) fn is_crowded(&self) -> bool {
        lock(&self.state).taken.len() > self.most
    }

    /// Frees the place of one that has said nothing, if there is one.
    pub(super) fn displace_silent(&self) {
        lock(&self.state).displace_silent();
    }

    /// Ends those who have been silent for too long; when the next one will have been, NEVER if all have asked.
    pub(super) fn expire(&self) -> Nanos {
        let now = linux::now();
        for peer in lock(&self.state).taken.values().filter(|peer| peer.is_silent()) {
            if now < peer.came + SILENCE {
                return peer.came + SILENCE;
            }
            peer.end();
        }
        NEVER
    }

    /// Ends all.
    pub(super) fn end(&self) {
        lock(&self.state).taken.values().for_each(|peer| peer.end());
    }
}

impl State {
    fn displace_silent(&self) {
        if let Some(peer) = self.taken.values().find(|peer| peer.is_silent()) {
            peer.end();
        }
    }

    /// False: nobody has asked anything.
    fn displace_idle(&self) -> bool {
        let asked = self.taken.values().filter(|peer| !peer.ended.load(Relaxed) && !peer.is_silent());
        let idle = asked.min_by_key(|peer| peer.spoke.load(Relaxed));
        idle.inspect(|peer| peer.end()).is_some()
    }
}

impl Peer {
    fn is_silent(&self) -> bool {
        self.spoke.load(Relaxed) == 0 && !self.ended.load(Relaxed)
    }

    /// Its socket, which is open while it has a place, says the end to both sides.
    fn end(&self) {
        self.ended.store(true, Relaxed);
        socket::end(self.socket);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places.state).taken.remove(&self.number);
        // The child of a fork may hold a copy: the other end shall hear of it anyway. What was ended before may be closed.
        if !self.peer.ended.load(Relaxed) {
            socket::end(self.peer.socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    /// With both ends of a connection each.
    fn come(places: &Arc<Places>, taken: &mut Vec<(Place, UnixStream, UnixStream)>, number: usize) {
        for _ in 0..number {
            let (ours, theirs) = UnixStream::pair().unwrap();
            taken.push((places.take(ours.as_raw_fd(), true), ours, theirs));
            taken.retain(|(place, ..)| !place.peer.ended.load(Relaxed));
        }
    }

    fn places(most: usize) -> Arc<Places> {
        Arc::new(Places { most, state: Mutex::default() })
    }

    #[test]
    fn who_comes_when_all_have_asked_is_not_sent_away_by_the_next_ones() {
        let (places, mut taken) = (places(64), Vec::new());
        come(&places, &mut taken, 64);
        for (nth, (place, ..)) in taken.iter().enumerate() {
            place.peer.spoke.store(1 + nth as u64, Relaxed);
        }
        come(&places, &mut taken, 8);
        assert_eq!(taken.len(), 64);
        assert_eq!(taken.iter().filter(|(place, ..)| place.peer.is_silent()).count(), 8, "each of them can ask");
        assert_eq!(taken[0].0.peer.spoke.load(Relaxed), 9, "those that had asked nothing for the longest time went");
        let first = taken[56].0.number;
        come(&places, &mut taken, 1);
        assert!(taken.iter().all(|(place, ..)| place.number != first), "now it is the silent one's turn");
        assert_eq!(taken[0].0.peer.spoke.load(Relaxed), 9);
    }

    #[test]
    fn however_many_say_nothing_the_newest_has_a_place_and_who_asks_keeps_his() {
        let (places, mut taken) = (places(16), Vec::new());
        come(&places, &mut taken, 1);
        taken[0].0.peer.speaks();
        for _ in 0..1000 {
            come(&places, &mut taken, 1);
            assert!(taken.len() <= 16 && taken.last().unwrap().0.peer.is_silent());
        }
        assert!(!taken[0].0.peer.is_silent());
        let (places, mut taken) = (self::places(4), Vec::new());
        come(&places, &mut taken, 100);
        assert_eq!(taken.len(), 4, "although nobody has asked");
    }
}
