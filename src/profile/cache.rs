//! The profiles in memory, in front of their store.
//!
//! A name and what is known of the profile it names are entries of their own, so that a change of a
//! profile is one entry, however many names it has.
//!
//! Coherence: what was read goes into the cache only if no change was published since before the
//! read, and publishing a change removes what it made stale; both under one lock. So nothing older
//! than a published change is ever seen.

use std::sync::{Arc, PoisonError, RwLock};

use moka::sync::Cache;

use super::{
    Changes, Identity, ProfileError, ProfileId, ProfileStore, Settings, Update, identities,
};
use crate::event::{Event, ProfileView};
use crate::journal::SiteId;
use crate::metrics::{Metrics, ReasonLabels, ResultLabels};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Name(SiteId, Identity),
    Profile(ProfileId),
}

#[derive(Clone)]
enum Entry {
    /// The name is nobody's, which is worth remembering as well.
    Nobody,
    Names(ProfileId),
    Known(Arc<ProfileView>),
}

type Known = Option<Arc<ProfileView>>;

/// Bytes an entry costs besides its texts: the cache's own bookkeeping, the key, the allocations.
const ENTRY_BYTES: usize = 200;

/// The profiles of one gateway.
pub struct Profiles {
    pub(super) store: Arc<dyn ProfileStore>,
    cache: Cache<Key, Entry>,
    // How many changes were published.
    epoch: RwLock<u64>,
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
        Self { store, cache, epoch: RwLock::default(), metrics, nobody: Arc::default() }
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
        let changes = self.store.apply(site, upto, updates).await?;
        for (reason, count) in
            [("traits", changes.traits_refused), ("identities", changes.identities_refused)]
        {
            if count > 0 {
                self.metrics.profile_refused.get_or_create(&ReasonLabels { reason }).inc_by(count);
            }
        }
        self.publish(site, changes);
        Ok(())
    }

    pub(super) fn publish(&self, site: SiteId, changes: Changes) {
        if changes.identities.is_empty() && changes.profiles.is_empty() {
            return;
        }
        let mut epoch = self.epoch.write().unwrap_or_else(PoisonError::into_inner);
        *epoch += 1;
        for identity in changes.identities {
            self.cache.invalidate(&Key::Name(site, identity));
        }
        for profile in changes.profiles {
            self.cache.invalidate(&Key::Profile(profile));
        }
    }

    /// The last event of the site that is in the profiles.
    pub async fn projected(&self, site: SiteId) -> Result<u64, ProfileError> {
        self.store.projected(site).await
    }

    /// The view, if the cache alone can tell: every identity before the first that has a profile
    /// is known to have none.
    fn cached(&self, site: SiteId, identities: &[Identity]) -> Known {
        for identity in identities {
            if let Entry::Names(profile) = self.cache.get(&Key::Name(site, identity.clone()))? {
                return match self.cache.get(&Key::Profile(profile)) {
                    Some(Entry::Known(view)) => Some(view),
                    _ => None,
                };
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
        let epoch = *self.epoch.read().unwrap_or_else(PoisonError::into_inner);
        let found = self.store.find(site, identities.clone()).await?;
        let found = found.into_iter().map(|found| found.map(|(id, view)| (id, Arc::new(view))));
        let fetched: Vec<_> = identities.into_iter().zip(found).collect();
        let now = self.epoch.read().unwrap_or_else(PoisonError::into_inner);
        if *now == epoch {
            for (identity, found) in &fetched {
                let entry = match found {
                    Some((profile, view)) => {
                        self.cache.insert(Key::Profile(*profile), Entry::Known(view.clone()));
                        Entry::Names(*profile)
                    }
                    None => Entry::Nobody,
                };
                self.cache.insert(Key::Name(site, identity.clone()), entry);
            }
        }
        drop(now);
        let view = |(identity, found): (_, Option<(_, _)>)| (identity, found.map(|(_, view)| view));
        Ok(fetched.into_iter().map(view).collect())
    }
}

fn weight(key: &Key, entry: &Entry) -> u32 {
    let name = match key {
        Key::Name(_, identity) => identity.value.len(),
        Key::Profile(_) => 0,
    };
    let known = match entry {
        Entry::Nobody | Entry::Names(_) => 0,
        Entry::Known(view) => {
            let user = view.user_id.as_ref().map_or(0, String::len);
            user + view.traits.iter().map(|(key, value)| entry_bytes(key, value)).sum::<usize>()
        }
    };
    u32::try_from(ENTRY_BYTES + name + known).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::profile::Limits;

    const SITE: SiteId = SiteId(1);

    /// One profile, which every identity names, and reads that end when they may.
    struct Slow {
        plan: Mutex<&'static str>,
        may_end: Semaphore,
        reads: AtomicUsize,
    }

    #[async_trait]
    impl ProfileStore for Slow {
        async fn projected(&self, _site: SiteId) -> Result<u64, ProfileError> {
            Ok(0)
        }

        async fn apply(
            &self,
            _site: SiteId,
            _upto: u64,
            _updates: Vec<Update>,
        ) -> Result<Changes, ProfileError> {
            *self.plan.lock().unwrap() = "pro";
            Ok(Changes { profiles: [ProfileId(1)].into(), ..Changes::default() })
        }

        async fn find(
            &self,
            _site: SiteId,
            identities: Vec<Identity>,
        ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let traits = serde_json::json!({"plan": *self.plan.lock().unwrap()});
            let traits = traits.as_object().unwrap().clone();
            self.may_end.acquire().await.unwrap().forget();
            let view = ProfileView { user_id: Some("u".into()), traits };
            Ok(identities.iter().map(|_| Some((ProfileId(1), view.clone()))).collect())
        }

        async fn subjects(
            &self,
            _site: SiteId,
            _name: String,
        ) -> Result<Vec<crate::profile::Subject>, ProfileError> {
            Ok(Vec::new())
        }

        async fn erase(
            &self,
            _site: SiteId,
            _names: Arc<std::collections::HashSet<crate::journal::NameKey>>,
        ) -> Result<Changes, ProfileError> {
            Ok(Changes::default())
        }
    }

    fn bench() -> (Arc<Slow>, Profiles) {
        let (plan, may_end) = (Mutex::new("free"), Semaphore::new(0));
        let store = Arc::new(Slow { plan, may_end, reads: AtomicUsize::new(0) });
        let settings = Settings {
            cache_bytes: 1 << 20,
            cache_idle: Duration::from_secs(60),
            limits: Limits { traits_bytes: 1000, identities: 10 },
        };
        let profiles = Profiles::new(store.clone(), &settings, Arc::new(Metrics::new()));
        (store, profiles)
    }

    async fn plan_of(profiles: &Profiles, user: &str) -> String {
        let event: Event = serde_json::from_value(serde_json::json!({
            "type": "track", "messageId": "m", "userId": user,
            "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        }))
        .unwrap();
        let views = profiles.lookup(SITE, &[Arc::new(event)]).await.unwrap();
        views[0].traits["plan"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let (store, profiles) = bench();
        let change = async {
            profiles.apply(SITE, 1, Vec::new()).await.unwrap();
            store.may_end.add_permits(2);
        };
        let (plan, ()) = tokio::join!(plan_of(&profiles, "u"), change);
        assert_eq!(plan, "free", "this lookup began before");
        assert_eq!(plan_of(&profiles, "u").await, "pro");
    }

    #[tokio::test]
    async fn a_change_of_a_profile_reaches_all_its_names() {
        let (store, profiles) = bench();
        store.may_end.add_permits(4);
        for name in ["a", "b", "a"] {
            assert_eq!(plan_of(&profiles, name).await, "free");
        }
        assert_eq!(store.reads.load(Ordering::Relaxed), 2, "the third was remembered");
        profiles.apply(SITE, 1, Vec::new()).await.unwrap();
        for name in ["a", "b"] {
            assert_eq!(plan_of(&profiles, name).await, "pro");
        }
        assert_eq!(store.reads.load(Ordering::Relaxed), 3, "and read again once");
    }
}
