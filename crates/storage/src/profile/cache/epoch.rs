//! Change epochs: values read before a change must not be cached, or shared, after it.
//!
//! Each published change has a number. So that changes of other people do not prevent a slow read from
//! being cached, the last change is recorded by groups of names and of profiles.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use super::super::{Identity, ProfileId};
use crate::journal::SiteId;

/// The number of groups of names, and of profiles: more than change in the time of a read.
const GROUPS: usize = 4096;

/// The number of the last change of each group.
pub(super) struct ChangeEpochs {
    now: u64,
    /// The last change of everything.
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

    /// Records that the name belongs to another profile.
    pub(super) fn change_name(&mut self, site: SiteId, name: &Identity) {
        self.names.set(name_group(site, name), self.now);
    }

    /// Records a change of the profile and its computed attributes.
    pub(super) fn change_profile(&mut self, profile: ProfileId) {
        self.profiles.set(group(profile), self.now);
        self.change_computed(profile);
    }

    /// Records a change of the profile's computed attributes.
    pub(super) fn change_computed(&mut self, profile: ProfileId) {
        self.computed.set(group(profile), self.now);
    }

    /// Returns true if the name may belong to another profile since then.
    pub(super) fn has_name_changed(&self, site: SiteId, name: &Identity, since: u64) -> bool {
        self.all > since || self.names.at(name_group(site, name)) > since
    }

    /// Returns true if the profile may have changed since then.
    pub(super) fn has_profile_changed(&self, profile: ProfileId, since: u64) -> bool {
        self.all > since || self.profiles.at(group(profile)) > since
    }

    /// Returns true if the profile's computed attributes may have changed since then.
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
    // Profile numbers are counted up, so that neighbours fall into different groups.
    usize::try_from(profile.0.unsigned_abs()).unwrap_or_default() % GROUPS
}

fn name_group(site: SiteId, name: &Identity) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((site, name));
    usize::try_from(hash % GROUPS as u64).unwrap_or_default()
}
