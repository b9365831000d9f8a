//! The cached profiles and their change epochs.

use std::collections::BTreeMap;
use std::sync::Arc;

use moka::sync::Cache;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::super::{ActivityCounts, ProfileId};
use super::epoch::ChangeEpochs;
use super::weight::{ProfileCacheEntry, ProfileCacheKey, ProfileCacheKeyRef};
use super::{ProfileMatch, SiteIdentity};
use tagway_core::event::{ComputedAttributes, EventTally};

/// The cache, and the epochs that keep stale values out of it.
pub(super) struct ProfileCache {
    pub(super) cache: Cache<ProfileCacheKey, ProfileCacheEntry>,
    pub(super) epochs: RwLock<ChangeEpochs>,
}

impl ProfileCache {
    pub(super) fn epochs(&self) -> RwLockReadGuard<'_, ChangeEpochs> {
        self.epochs.read()
    }

    pub(super) fn changing(&self) -> RwLockWriteGuard<'_, ChangeEpochs> {
        self.epochs.write()
    }

    /// Caches the profiles that these names had at an epoch, except for those that changed since.
    pub(super) fn keep_names(&self, names: &[SiteIdentity], found: &[ProfileMatch], epoch: u64) {
        let epochs = self.epochs();
        for ((site, identity), found) in names.iter().zip(found) {
            if let Some((profile, view)) = found
                && !epochs.has_profile_changed(*profile, epoch)
            {
                self.cache.insert(
                    ProfileCacheKey::Profile(*profile),
                    ProfileCacheEntry::Known(view.clone()),
                );
            }
            if !epochs.has_name_changed(*site, identity, epoch) {
                let named = found.as_ref().map(|(profile, _)| ProfileCacheEntry::Names(*profile));
                let key = ProfileCacheKey::Name(*site, identity.clone());
                self.cache.insert(key, named.unwrap_or(ProfileCacheEntry::Unknown));
            }
        }
    }

    /// Caches the attributes computed at an epoch, except for those that changed since.
    pub(super) fn keep_computed(
        &self,
        profiles: &[ProfileId],
        upto: u64,
        computed: Vec<Option<ComputedAttributes>>,
        epoch: u64,
    ) -> Vec<Option<Arc<ComputedAttributes>>> {
        let epochs = self.epochs();
        let keep = |(profile, computed): (&ProfileId, Option<ComputedAttributes>)| {
            let computed = computed.map(Arc::new)?;
            if !epochs.has_computed_changed(*profile, epoch) {
                let entry = ProfileCacheEntry::Computed(upto, computed.clone());
                self.cache.insert(ProfileCacheKey::Computed(*profile), entry);
            }
            Some(computed)
        };
        profiles.iter().zip(computed).map(keep).collect()
    }

    /// Adds new counts to cached attributes.
    pub(super) fn count_on(&self, epochs: &mut ChangeEpochs, upto: u64, counted: ActivityCounts) {
        for (profile, tallies) in counted {
            epochs.change_computed(profile);
            let known = self.cache.get(&ProfileCacheKeyRef::Computed(profile));
            let Some(ProfileCacheEntry::Computed(at, mut computed)) = known else { continue };
            if at < upto {
                add(&mut Arc::make_mut(&mut computed).activity, tallies);
                self.cache.insert(
                    ProfileCacheKey::Computed(profile),
                    ProfileCacheEntry::Computed(upto, computed),
                );
            }
        }
    }
}

fn add(activity: &mut BTreeMap<String, EventTally>, tallies: BTreeMap<String, EventTally>) {
    for (name, tally) in tallies {
        match activity.get_mut(&name) {
            Some(known) => known.add(tally),
            None => drop(activity.insert(name, tally)),
        }
    }
}
