//! What is remembered, as long as it holds.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use moka::sync::Cache;

use super::super::{Counted, ProfileId};
use super::epoch::Epochs;
use super::weight::{Asked, Entry, Key};
use super::{Known, Name};
use crate::event::{Computed, Tally};

/// What is known, and when it changed.
pub(super) struct Memory {
    pub(super) cache: Cache<Key, Entry>,
    pub(super) epochs: RwLock<Epochs>,
}

impl Memory {
    pub(super) fn epochs(&self) -> RwLockReadGuard<'_, Epochs> {
        self.epochs.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changing(&self) -> RwLockWriteGuard<'_, Epochs> {
        self.epochs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers whose these names were at an epoch, and what was known of them, as far as that holds.
    pub(super) fn keep_names(&self, names: &[Name], found: &[Known], epoch: u64) {
        let epochs = self.epochs();
        for ((site, identity), found) in names.iter().zip(found) {
            if let Some((profile, view)) = found
                && !epochs.has_profile_changed(*profile, epoch)
            {
                self.cache.insert(Key::Profile(*profile), Entry::Known(view.clone()));
            }
            if !epochs.has_name_changed(*site, identity, epoch) {
                let named = found.as_ref().map(|(profile, _)| Entry::Names(*profile));
                let key = Key::Name(*site, identity.clone());
                self.cache.insert(key, named.unwrap_or(Entry::Nobody));
            }
        }
    }

    /// Remembers what was computed at an epoch, as far as that holds.
    pub(super) fn keep_computed(
        &self,
        profiles: &[ProfileId],
        upto: u64,
        computed: Vec<Option<Computed>>,
        epoch: u64,
    ) -> Vec<Option<Arc<Computed>>> {
        let epochs = self.epochs();
        let keep = |(profile, computed): (&ProfileId, Option<Computed>)| {
            let computed = computed.map(Arc::new)?;
            if !epochs.has_computed_changed(*profile, epoch) {
                let entry = Entry::Computed(upto, computed.clone());
                self.cache.insert(Key::Computed(*profile), entry);
            }
            Some(computed)
        };
        profiles.iter().zip(computed).map(keep).collect()
    }

    /// Counts on in what is remembered.
    pub(super) fn count_on(&self, epochs: &mut Epochs, upto: u64, counted: Counted) {
        for (profile, tallies) in counted {
            epochs.change_computed(profile);
            let known = self.cache.get(&Asked::Computed(profile));
            let Some(Entry::Computed(at, mut computed)) = known else { continue };
            if at < upto {
                add(&mut Arc::make_mut(&mut computed).activity, tallies);
                self.cache.insert(Key::Computed(profile), Entry::Computed(upto, computed));
            }
        }
    }
}

fn add(activity: &mut BTreeMap<String, Tally>, tallies: BTreeMap<String, Tally>) {
    for (name, tally) in tallies {
        match activity.get_mut(&name) {
            Some(known) => known.add(tally),
            None => drop(activity.insert(name, tally)),
        }
    }
}
