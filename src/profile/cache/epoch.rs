//! When what changed: what was read before a change must not be remembered, or shared, after it.
//!
//! Each published change has a number. So that changes of other people do not keep a slow read from
//! being remembered, the last change is noted by groups of names and of profiles.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::super::{Identity, ProfileId};
use crate::journal::SiteId;

/// Groups of names, and of profiles: more than change in the time of a read.
const GROUPS: usize = 4096;

/// The last change of each group.
pub(super) struct ChangeEpochs {
    now: u64,
    /// Of everything.
    all: u64,
    names: EpochGroups,
    profiles: EpochGroups,
    computed: EpochGroups,
}

struct EpochGroups(Vec<u64>);

impl ChangeEpochs {
    pub(super) fn new() -> Self {
        let groups = || EpochGroups(vec![0; GROUPS]);
        Self { now: 0, all: 0, names: groups(), profiles: groups(), computed: groups() }
    }

    /// The latest change.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// Begins a change.
    pub(super) const fn begin(&mut self) {
        self.now += 1;
    }

    /// All that is known is another.
    pub(super) const fn change_all(&mut self) {
        self.all = self.now;
    }

    /// The name is somebody else's.
    pub(super) fn change_name(&mut self, site: SiteId, name: &Identity) {
        self.names.set(name_group(site, name), self.now);
    }

    /// Something else is known of them.
    pub(super) fn change_profile(&mut self, profile: ProfileId) {
        self.profiles.set(group(profile), self.now);
        self.change_computed(profile);
    }

    /// Something else is computed of their events.
    pub(super) fn change_computed(&mut self, profile: ProfileId) {
        self.computed.set(group(profile), self.now);
    }

    /// Whether the name may be somebody else's since then.
    pub(super) fn has_name_changed(&self, site: SiteId, name: &Identity, since: u64) -> bool {
        self.all > since || self.names.at(name_group(site, name)) > since
    }

    /// Whether something else may be known of them since then.
    pub(super) fn has_profile_changed(&self, profile: ProfileId, since: u64) -> bool {
        self.all > since || self.profiles.at(group(profile)) > since
    }

    /// Whether something else may be computed of their events since then.
    pub(super) fn has_computed_changed(&self, profile: ProfileId, since: u64) -> bool {
        self.all > since || self.computed.at(group(profile)) > since
    }
}

impl EpochGroups {
    fn set(&mut self, group: usize, now: u64) {
        if let Some(at) = self.0.get_mut(group) {
            *at = now;
        }
    }

    fn at(&self, group: usize) -> u64 {
        self.0.get(group).copied().unwrap_or(u64::MAX)
    }
}

fn group(profile: ProfileId) -> usize {
    // The numbers are counted up, so that neighbours fall into different groups.
    usize::try_from(profile.0.unsigned_abs()).unwrap_or_default() % GROUPS
}

fn name_group(site: SiteId, name: &Identity) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((site, name));
    usize::try_from(hash % GROUPS as u64).unwrap_or_default()
}
