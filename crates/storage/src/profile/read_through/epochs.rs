//! Change epochs: values read before a change must not be cached, or shared, after it.
//!
//! Each published change has a number. So that changes of other keys do not prevent a slow read from being
//! cached, the last change is recorded by groups of keys.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

/// The number of groups: more than the keys that change in the time of a read.
const GROUPS: usize = 16_384;

/// The number of the last change of each group.
#[derive(Default)]
pub(super) struct ChangeEpochs {
    now: u64,
    /// The last change of everything.
    all: u64,
    /// Empty until the first change of a key.
    groups: Vec<u64>,
}

impl ChangeEpochs {
    /// Returns the number of the latest change.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// Begins a change.
    pub(super) const fn begin(&mut self) {
        self.now += 1;
    }

    /// Records a change of everything.
    pub(super) const fn change_all(&mut self) {
        self.all = self.now;
    }

    /// Records a change of the key's value.
    pub(super) fn change<Q: Hash + ?Sized>(&mut self, key: &Q) {
        self.groups.resize(GROUPS, 0);
        if let Some(at) = self.groups.get_mut(group(key)) {
            *at = self.now;
        }
    }

    /// Returns true if the key's value may have changed since then.
    pub(super) fn has_changed<Q: Hash + ?Sized>(&self, key: &Q, since: u64) -> bool {
        self.all > since || self.groups.get(group(key)).is_some_and(|at| *at > since)
    }
}

fn group<Q: Hash + ?Sized>(key: &Q) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(key);
    usize::try_from(hash % GROUPS as u64).unwrap_or_default()
}
