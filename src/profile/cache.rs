//! The profiles in memory, in front of their store.
//!
//! Coherence: the writer advances the epoch after its commit and then removes what it changed. A
//! lookup notes the epoch before it reads, puts what it read into the cache, and removes it again
//! if the epoch has moved. Whichever order the two run in, nothing older than a published commit
//! stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;

use super::{Identity, ProfileError, ProfileStore, Settings, Update, identities};
use crate::event::{Event, ProfileView};
use crate::journal::SiteId;
use crate::metrics::{Metrics, ResultLabels};

type Key = (SiteId, Identity);

/// `None`: there is no such profile, which is worth remembering as well.
type Known = Option<Arc<ProfileView>>;

/// Bytes an entry costs besides its texts: the cache's own bookkeeping, the key, the allocations.
const ENTRY_BYTES: usize = 200;

/// The profiles of one gateway.
pub struct Profiles {
    store: Arc<dyn ProfileStore>,
    cache: Cache<Key, Known>,
    epoch: AtomicU64,
    metrics: Arc<Metrics>,
    nobody: Arc<ProfileView>,
}

impl Profiles {
    /// Puts a cache in front of `store`.
    pub fn new(store: Arc<dyn ProfileStore>, settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let cache = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .time_to_idle(settings.cache_idle)
            .weigher(weight)
            .build();
        Self { store, cache, epoch: AtomicU64::new(0), metrics, nobody: Arc::default() }
    }

    /// What is known of each event's visitor, by the surest of the event's identities that has a
    /// profile. Events of unknown visitors get an empty view.
    pub async fn lookup(
        &self,
        site: SiteId,
        events: &[Arc<Event>],
    ) -> Result<Vec<Arc<ProfileView>>, ProfileError> {
        let wanted: Vec<Vec<Identity>> = events.iter().map(|event| identities(event)).collect();
        let mut missing = Vec::new();
        let mut views = Vec::with_capacity(events.len());
        for identities in &wanted {
            let found = self.cached(site, identities);
            let result = if found.is_some() { "hit" } else { "miss" };
            self.metrics.profile_lookups.get_or_create(&ResultLabels { result }).inc();
            if found.is_none() {
                missing.extend(identities.iter().cloned());
            }
            views.push(found);
        }
        let fetched = self.fetch(site, missing).await?;
        let known = |identity: &Identity| {
            let index = fetched.binary_search_by(|(known, _)| known.cmp(identity)).ok()?;
            fetched.get(index)?.1.clone()
        };
        let complete = |(view, identities): (Known, &Vec<Identity>)| {
            view.or_else(|| identities.iter().find_map(known))
                .unwrap_or_else(|| self.nobody.clone())
        };
        Ok(views.into_iter().zip(&wanted).map(complete).collect())
    }

    /// Applies updates to the store and forgets what they changed.
    pub async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<Update>,
    ) -> Result<(), ProfileError> {
        let changed = self.store.apply(site, upto, updates).await?;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        for identity in changed {
            self.cache.invalidate(&(site, identity));
        }
        Ok(())
    }

    /// The last event of the site that is in the profiles.
    pub async fn projected(&self, site: SiteId) -> Result<u64, ProfileError> {
        self.store.projected(site).await
    }

    /// The view, if the cache alone can tell: every identity before the first that has a profile
    /// is known to have none.
    fn cached(&self, site: SiteId, identities: &[Identity]) -> Known {
        for identity in identities {
            if let Some(view) = self.cache.get(&(site, identity.clone()))? {
                return Some(view);
            }
        }
        Some(self.nobody.clone())
    }

    /// Reads from the store into the cache. Sorted by identity.
    async fn fetch(
        &self,
        site: SiteId,
        mut identities: Vec<Identity>,
    ) -> Result<Vec<(Identity, Known)>, ProfileError> {
        identities.sort();
        identities.dedup();
        if identities.is_empty() {
            return Ok(Vec::new());
        }
        let epoch = self.epoch.load(Ordering::Acquire);
        let views = self.store.find(site, identities.clone()).await?;
        let fetched: Vec<_> =
            identities.into_iter().zip(views.into_iter().map(|view| view.map(Arc::new))).collect();
        for (identity, view) in &fetched {
            self.cache.insert((site, identity.clone()), view.clone());
        }
        if self.epoch.load(Ordering::Acquire) != epoch {
            for (identity, _) in &fetched {
                self.cache.invalidate(&(site, identity.clone()));
            }
        }
        Ok(fetched)
    }
}

fn weight((_, identity): &Key, view: &Known) -> u32 {
    let traits = view
        .as_ref()
        .map_or(0, |view| view.traits.iter().map(|(key, value)| entry_bytes(key, value)).sum());
    u32::try_from(ENTRY_BYTES + identity.value.len() + traits).unwrap_or(u32::MAX)
}

/// A tree's size, roughly: 64 bytes of structure an entry, 24 a value, and the texts.
fn entry_bytes(key: &str, value: &serde_json::Value) -> usize {
    64 + key.len() + value_bytes(value)
}

fn value_bytes(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    24 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| entry_bytes(key, value)).sum(),
    }
}
