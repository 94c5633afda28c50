//! By which names pods and groups are asked for: each its own, and a second one of that name "name#2", for as long as it
//! is. A name is given when somebody first looks, in the order in which they were made: a process that nobody asks pays
//! nothing for it.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

use crate::supervise::driver::Group;
use crate::table::PodRef;
use crate::world::World;

/// A pod by its handle's value, a group by its number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Key {
    Pod(u64),
    Group(u32),
}

/// What is called by a name.
pub(crate) enum Called {
    Pod(PodRef),
    Group(Arc<Group>),
}

/// The names of a process.
#[derive(Default)]
pub(crate) struct Names {
    of: HashMap<Key, Arc<str>>,
    taken: HashMap<Arc<str>, Key>,
}

/// Whether a pod is there for those outside: until it has ended and its owner has freed it.
pub(super) fn is_there(pod: &PodRef) -> bool {
    let past = pod.handle_is_dead() && pod.life().state().is_final();
    !past || pod.cell().group.load(Acquire) != 0 // then its group has it
}

/// Every pod there is, in the order in which they were made.
fn pods(world: &World) -> Vec<PodRef> {
    let mut pods: Vec<PodRef> = world.pods().filter(is_there).collect();
    pods.sort_by_key(|pod| pod.cell().made);
    pods
}

impl Names {
    /// All pods and groups, each with its name. They are looked for here, while nobody else gives names: a list from before
    /// would not have those that were named since, and take their names away.
    pub(super) fn renewed(&mut self, world: &World) -> (Vec<PodRef>, Vec<Arc<Group>>) {
        let (pods, groups) = (pods(world), world.groups.all());
        self.renew(&pods, &groups);
        (pods, groups)
    }

    /// Forgets those that are gone, and gives names to those that have none.
    fn renew(&mut self, pods: &[PodRef], groups: &[Arc<Group>]) {
        let mut there: Vec<(u64, Key, &'static CStr)> = Vec::with_capacity(pods.len() + groups.len());
        there.extend(pods.iter().map(|pod| (pod.cell().made, Key::Pod(pod.handle()), pod.cell().name)));
        there.extend(groups.iter().map(|group| (group.made, Key::Group(group.number()), group.name)));
        let mut before = std::mem::take(&mut self.of);
        self.of.extend(there.iter().filter_map(|&(_, key, _)| before.remove_entry(&key)));
        before.values().for_each(|name| {
            self.taken.remove(name);
        });
        there.retain(|(_, key, _)| !self.of.contains_key(key));
        there.sort_by_key(|&(made, ..)| made);
        let mut tried = HashMap::new();
        for (_, key, name) in there {
            let name = self.first_free(&name.to_string_lossy(), tried.entry(name).or_insert(2));
            self.taken.insert(name.clone(), key);
            self.of.insert(key, name);
        }
    }

    /// `from`: the first number that may be free.
    fn first_free(&self, name: &str, from: &mut u64) -> Arc<str> {
        if !self.taken.contains_key(name) {
            return name.into();
        }
        loop {
            let numbered = format!("{name}#{from}");
            *from += 1;
            if !self.taken.contains_key(numbered.as_str()) {
                return numbered.into();
            }
        }
    }

    /// The name of what is there; `None`: it has none (yet).
    pub(super) fn get(&self, key: Key) -> Option<Arc<str>> {
        self.of.get(&key).cloned()
    }

    /// A name for one that is gone already: as it would have had.
    pub(super) fn past(&self, name: &CStr) -> Arc<str> {
        self.first_free(&name.to_string_lossy(), &mut 2)
    }

    /// What is called so, as far as is known.
    fn look(&self, name: &str, groups: &[Arc<Group>]) -> Option<Called> {
        match *self.taken.get(name)? {
            Key::Pod(handle) => PodRef::known(handle).filter(is_there).map(Called::Pod),
            Key::Group(number) => groups.iter().find(|group| group.number() == number).cloned().map(Called::Group),
        }
    }

    /// What is called so.
    pub(super) fn find(&mut self, world: &World, name: &str) -> Option<Called> {
        // A name that is known is of one that is there, unless it has gone since.
        self.look(name, &world.groups.all()).or_else(|| {
            let (_, groups) = self.renewed(world);
            self.look(name, &groups)
        })
    }
}
