//! The cache of profiles in front of their store.
//!
//! A name and the profile it names are separate entries: a change of a profile is one entry, however many names. A
//! read of a name reads its profile with it.
//!
//! A person's computed attributes are a separate entry, read for mappings that need them. Nearly every event
//! changes some: the entry is updated, not removed, unless it includes the event already (by its number).

mod entry;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use self::entry::{ProfileCacheEntry, ProfileCacheKey, ProfileCacheKeyRef};
use super::read_through::{
    ReadOutcome, ReadSource, ReadTasks, ReadThrough, ReadThroughError, ReadThroughPolicy,
};
use super::{
    ComputedSnapshot, Identity, ProfileChanges, ProfileError, ProfileId, ProfileSettings,
    ProfileStore,
};
use crate::journal::SiteId;
use tagway_core::event::{ComputedAttributes, EventTally, ProfileView};

/// The profile that a name names, if there is one.
pub(super) type ProfileMatch = Option<(ProfileId, Arc<ProfileView>)>;

/// The cache of all sites' profiles.
pub(super) struct ProfileCache(
    Arc<ReadThrough<ProfileCacheKey, ProfileCacheEntry, Arc<ProfileError>>>,
);

/// The store as the source of the cache. The keys of a read are of one site and one kind.
struct CachedProfileStore(Arc<dyn ProfileStore>);

#[async_trait]
impl ReadSource<ProfileCacheKey, ProfileCacheEntry, Arc<ProfileError>> for CachedProfileStore {
    async fn read(
        &self,
        keys: &[ProfileCacheKey],
    ) -> Result<HashMap<ProfileCacheKey, ProfileCacheEntry>, Arc<ProfileError>> {
        match keys.first() {
            Some(&ProfileCacheKey::Name(site, _)) => {
                let name = |key: &ProfileCacheKey| key.name().cloned();
                let found = self.0.find(site, keys.iter().filter_map(name).collect()).await?;
                let mut entries = HashMap::with_capacity(2 * keys.len());
                for (key, found) in keys.iter().zip(found) {
                    let named = found.map_or(ProfileCacheEntry::Unknown, |(profile, view)| {
                        let view = ProfileCacheEntry::Known(Arc::new(view));
                        entries.insert(ProfileCacheKey::Profile(profile), view);
                        ProfileCacheEntry::Names(profile)
                    });
                    entries.insert(key.clone(), named);
                }
                Ok(entries)
            }
            Some(&ProfileCacheKey::Computed(site, _)) => {
                let profile = |key: &ProfileCacheKey| key.computed();
                let profiles = keys.iter().filter_map(profile).collect();
                let ComputedSnapshot { upto, computed } = self.0.computed(site, profiles).await?;
                let entry = |(key, computed): (&ProfileCacheKey, Option<ComputedAttributes>)| {
                    Some((key.clone(), ProfileCacheEntry::Computed(upto, Arc::new(computed?))))
                };
                Ok(keys.iter().zip(computed).filter_map(entry).collect())
            }
            // Profiles are read by their names.
            Some(ProfileCacheKey::Profile(_)) | None => Ok(HashMap::new()),
        }
    }

    fn weight(&self, key: &ProfileCacheKey, entry: &ProfileCacheEntry) -> usize {
        key.name().map_or(0, |name| name.value.len()) + entry.bytes()
    }

    fn linked_key(&self, entry: &ProfileCacheEntry) -> Option<ProfileCacheKey> {
        match entry {
            ProfileCacheEntry::Names(profile) => Some(ProfileCacheKey::Profile(*profile)),
            _ => None,
        }
    }
}

impl ProfileCache {
    /// Creates an empty cache in front of `store`.
    pub(super) fn new(
        store: Arc<dyn ProfileStore>,
        settings: &ProfileSettings,
        tasks: ReadTasks,
    ) -> Self {
        let policy = ReadThroughPolicy {
            capacity_bytes: settings.cache_bytes,
            ttl: settings.cache_ttl,
            negative_ttl: settings.cache_ttl,
            idle: Some(settings.cache_idle),
            refresh_after: settings.cache_ttl,
            stale: None,
            max_concurrent_reads: settings.max_concurrent_lookups,
        };
        Self(ReadThrough::new(Arc::new(CachedProfileStore(store)), policy, tasks))
    }

    /// Returns the profile of the first of these identities that has one, if the cache alone has it: every
    /// identity before it is known to have none.
    pub(super) fn peek(&self, site: SiteId, identities: &[Identity]) -> Option<ProfileMatch> {
        for identity in identities {
            let name = ProfileCacheKeyRef::Name(site, identity);
            if let ProfileCacheEntry::Names(profile) = self.0.peek(&name)? {
                return match self.0.peek(&ProfileCacheKeyRef::Profile(profile))? {
                    ProfileCacheEntry::Known(view) => Some(Some((profile, view))),
                    _ => None,
                };
            }
        }
        Some(None)
    }

    /// Returns the computed attributes of a profile, if the cache alone has them.
    pub(super) fn peek_computed(
        &self,
        site: SiteId,
        profile: ProfileId,
    ) -> Option<Arc<ComputedAttributes>> {
        match self.0.peek(&ProfileCacheKeyRef::Computed(site, profile))? {
            ProfileCacheEntry::Computed(_, computed) => Some(computed),
            _ => None,
        }
    }

    /// Reads the profiles of these identities from the store. Those without a profile are left out.
    pub(super) async fn read(
        &self,
        site: SiteId,
        identities: BTreeSet<Identity>,
        deadline: Instant,
    ) -> Result<HashMap<Identity, (ProfileId, Arc<ProfileView>)>, ProfileError> {
        let names = identities.into_iter().map(|identity| ProfileCacheKey::Name(site, identity));
        let entries = complete(self.0.read(names.collect(), deadline).await)?;
        let profile = |(key, entry): (&ProfileCacheKey, &ProfileCacheEntry)| {
            let (name, ProfileCacheEntry::Names(profile)) = (key.name()?, entry) else {
                return None;
            };
            match entries.get(&ProfileCacheKey::Profile(*profile))? {
                ProfileCacheEntry::Known(view) => Some((name.clone(), (*profile, view.clone()))),
                _ => None,
            }
        };
        Ok(entries.iter().filter_map(profile).collect())
    }

    /// Looks up the computed attributes of these profiles.
    pub(super) async fn computed(
        &self,
        site: SiteId,
        profiles: BTreeSet<ProfileId>,
        deadline: Instant,
    ) -> Result<BTreeMap<ProfileId, Arc<ComputedAttributes>>, ProfileError> {
        let keys = profiles.into_iter().map(|profile| ProfileCacheKey::Computed(site, profile));
        let entries = complete(self.0.look_up(keys, deadline).await)?;
        let computed = |(key, entry): (ProfileCacheKey, ProfileCacheEntry)| match entry {
            ProfileCacheEntry::Computed(_, computed) => Some((key.computed()?, computed)),
            _ => None,
        };
        Ok(entries.into_iter().filter_map(computed).collect())
    }

    /// Publishes the changes by the events up to `upto`.
    pub(super) fn publish(&self, site: SiteId, upto: u64, changes: ProfileChanges) {
        let is_as_known = changes.identities.is_empty() && changes.profiles.is_empty();
        if is_as_known && changes.counted.is_empty() {
            return;
        }
        let mut change = self.0.begin_change();
        for identity in &changes.identities {
            change.invalidate(&ProfileCacheKeyRef::Name(site, identity));
        }
        for profile in changes.profiles {
            change.invalidate(&ProfileCacheKeyRef::Profile(profile));
            change.invalidate(&ProfileCacheKeyRef::Computed(site, profile));
        }
        for (profile, tallies) in changes.counted {
            change.update(ProfileCacheKey::Computed(site, profile), |entry| match entry {
                ProfileCacheEntry::Computed(at, mut computed) if at < upto => {
                    add(&mut Arc::make_mut(&mut computed).activity, tallies);
                    Some(ProfileCacheEntry::Computed(upto, computed))
                }
                _ => None,
            });
        }
    }

    /// Clears the cache: the store has changed without publishing it.
    pub(super) fn clear(&self) {
        self.0.begin_change().invalidate_all();
    }
}

/// Returns the values of a lookup that must be complete.
fn complete<K, V>(
    outcome: ReadOutcome<K, V, Arc<ProfileError>>,
) -> Result<HashMap<K, V>, ProfileError> {
    match outcome.error {
        None => Ok(outcome.values),
        Some(ReadThroughError::Ended) => Err(ProfileError::Ended),
        Some(ReadThroughError::Timeout) => Err(ProfileError::Timeout),
        Some(ReadThroughError::Source(error)) => Err(ProfileError::Shared(error)),
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
