//! The profile cache, in front of the store.
//!
//! A name and the profile it names are separate entries: a change of a profile is one entry, however many names.
//!
//! Coherence: a value that was read is cached only if no change of it was published since before the read, and
//! publishing a change removes the stale entries; both under one lock. So no lookup returns an older value.
//!
//! A read continues after its waiters gave up, and fills the cache when it ends: a slow store delays events once.
//!
//! A person's computed attributes are a separate entry, read for mappings that need them. Nearly every event
//! changes some: the entry is updated, not removed, unless it includes the event already (by its number).

mod epoch;
pub(super) mod in_flight;
mod memory;
mod reads;
#[cfg(test)]
mod tests;
pub(super) mod weight;

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use self::epoch::ChangeEpochs;
use self::in_flight::{InFlightReads, PendingRead, ReadWaiter};
use self::memory::ProfileCache;
pub(super) use self::reads::StoreReadPool;
use self::weight::{ProfileCacheEntry, ProfileCacheKeyRef, weight};
use super::trait_source::TraitSource;
use super::{
    CounterStore, ExpiryRequest, Identity, IdentityKind, LookupTimeoutPolicy, PageProfile,
    ProfileChanges, ProfileError, ProfileId, ProfileSettings, ProfileStore, ProfileUpdate,
    UserAgentParser, identities,
};
use crate::journal::SiteId;
use tagway_core::event::{ComputedAttributes, Event, ProfileView};
use tagway_core::metrics::{Metrics, ReasonLabels, ResultLabels};

pub(super) type ProfileMatch = Option<(ProfileId, Arc<ProfileView>)>;

/// The known data of an event's visitor.
#[derive(Clone, Debug, Default)]
pub struct VisitorProfile {
    /// The user id and the traits.
    pub view: Arc<ProfileView>,
    /// The computed attributes, if they were requested and there is a profile.
    pub computed: Option<Arc<ComputedAttributes>>,
}

/// The most steps of removing visitors in one round: bounds the round's cost for the writer.
const EXPIRE_STEPS: usize = 10;

/// The last-seen time and the number of the profile at which the last step ended.
type ExpiryPosition = (i64, ProfileId);
const START: ExpiryPosition = (i64::MIN, ProfileId(0));

/// The profiles of one gateway: the store, its cache and the sources of traits.
pub struct ProfileService {
    pub(super) store: Arc<dyn ProfileStore>,
    profile_cache: Arc<ProfileCache>,
    names: Arc<InFlightReads<SiteIdentity, ProfileMatch>>,
    computed: Arc<InFlightReads<ProfileId, Option<Arc<ComputedAttributes>>>>,
    pub(super) reads: StoreReadPool,
    /// The sites' external sources of traits.
    pub(super) sources: RwLock<HashMap<SiteId, Arc<TraitSource>>>,
    timeout: Duration,
    pub(super) on_timeout: LookupTimeoutPolicy,
    /// The position of the removal of visitors, and whether it has removed any since it began.
    expiring: Mutex<HashMap<SiteId, (ExpiryPosition, bool)>>,
    pub(super) metrics: Arc<Metrics>,
    unknown_view: Arc<ProfileView>,
    agents: Arc<UserAgentParser>,
}

/// An identity at a site.
type SiteIdentity = (SiteId, Identity);

impl ProfileService {
    /// Creates a cache in front of `store`, which is read on this runtime.
    pub fn new(
        store: Arc<dyn ProfileStore>,
        settings: &ProfileSettings,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let cache = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .time_to_idle(settings.cache_idle)
            .time_to_live(settings.cache_ttl)
            .weigher(weight)
            .build();
        Self {
            store,
            profile_cache: Arc::new(ProfileCache {
                cache,
                epochs: RwLock::new(ChangeEpochs::new()),
            }),
            names: InFlightReads::new(),
            computed: InFlightReads::new(),
            reads: StoreReadPool::new(runtime, settings.max_concurrent_lookups),
            sources: RwLock::default(),
            timeout: settings.timeout,
            on_timeout: settings.on_timeout,
            expiring: Mutex::default(),
            metrics,
            unknown_view: Arc::default(),
            agents: Arc::default(),
        }
    }

    /// Cancels the reads in flight. Their waiters, and later lookups, get an error.
    pub async fn stop(&self) {
        self.reads.stop().await;
    }

    /// Looks up each event's visitor: by the surest of the event's identities that has a profile, and
    /// in the site's external source of traits, if it has one. Events of unknown visitors get an empty
    /// view.
    ///
    /// Each of the two takes its `timeout` at most. A lookup that takes longer fails, or the event goes
    /// without, as the settings have it.
    pub async fn lookup(
        &self,
        site: SiteId,
        events: &[Arc<Event>],
        with_computed: bool,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let wanted: Vec<Vec<Identity>> = events.iter().map(|event| identities(event)).collect();
        let found = self.find_own_profiles(site, &wanted, with_computed).await?;
        self.merge_source_traits(site, events, &wanted, found).await
    }

    /// Looks up the visitors in the profiles alone.
    async fn find_own_profiles(
        &self,
        site: SiteId,
        wanted: &[Vec<Identity>],
        with_computed: bool,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let found = self.of_identities(site, wanted, with_computed);
        let error = match tokio::time::timeout(self.timeout, found).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error,
            Err(_elapsed) => ProfileError::Timeout,
        };
        let result = if matches!(error, ProfileError::Timeout) { "timeout" } else { "error" };
        self.metrics.profile_lookups.get_or_create(&ResultLabels { result }).inc();
        if self.on_timeout == LookupTimeoutPolicy::Wait {
            return Err(error);
        }
        tracing::warn!(%error, "profiles cannot be read in time: events are delivered without them");
        Ok(wanted.iter().map(|identities| self.cached_profile(site, identities)).collect())
    }

    /// Returns the cached data alone, if the store does not answer.
    fn cached_profile(&self, site: SiteId, identities: &[Identity]) -> VisitorProfile {
        let known = self.cached(site, identities);
        if known.is_none() {
            self.metrics.events_unenriched.inc();
        }
        let Some((profile, view)) = known.flatten() else {
            return VisitorProfile { view: self.unknown_view.clone(), computed: None };
        };
        let computed = match self.profile_cache.cache.get(&ProfileCacheKeyRef::Computed(profile)) {
            Some(ProfileCacheEntry::Computed(_, computed)) => Some(computed),
            _ => None,
        };
        VisitorProfile { view, computed }
    }

    /// Looks up the visitor of each of these lists of identities, the surest first.
    async fn of_identities(
        &self,
        site: SiteId,
        wanted: &[Vec<Identity>],
        with_computed: bool,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let mut missing = Vec::new();
        let mut views = Vec::with_capacity(wanted.len());
        let mut hits = 0;
        for identities in wanted {
            let found = self.cached(site, identities);
            if found.is_some() {
                hits += 1;
            } else {
                missing.extend(identities.iter().cloned());
            }
            views.push(found);
        }
        for (result, count) in [("hit", hits), ("miss", wanted.len() as u64 - hits)] {
            let labels = ResultLabels { result };
            self.metrics.profile_lookups.get_or_create(&labels).inc_by(count);
        }
        let fetched = self.fetch(site, missing).await?;
        let known = |identity: &Identity| {
            let index = fetched.binary_search_by(|(known, _)| known.cmp(identity)).ok()?;
            fetched.get(index)?.1.clone()
        };
        let complete = |(view, identities): (Option<ProfileMatch>, &Vec<Identity>)| {
            view.unwrap_or_else(|| identities.iter().find_map(known))
        };
        let known: Vec<ProfileMatch> = views.into_iter().zip(wanted).map(complete).collect();
        let computed = if with_computed {
            self.computed(site, known.iter().flatten().map(|(profile, _)| *profile)).await?
        } else {
            BTreeMap::new()
        };
        let found = |known: ProfileMatch| match known {
            None => VisitorProfile { view: self.unknown_view.clone(), computed: None },
            Some((profile, view)) => {
                VisitorProfile { view, computed: computed.get(&profile).cloned() }
            }
        };
        Ok(known.into_iter().map(found).collect())
    }

    /// Finds the part of a profile that a page may know, by the id in the gateway's own cookie
    /// (`page_profile.rs`). Takes as long as [`ProfileService::lookup`].
    pub async fn of_visitor(
        &self,
        site: SiteId,
        id: &str,
        with_computed: bool,
    ) -> Result<VisitorProfile, ProfileError> {
        let found = tokio::time::timeout(self.timeout, self.of_cookie(site, id, with_computed));
        let found = found.await.map_err(|_elapsed| ProfileError::Timeout)??;
        self.merge_page_source_traits(site, found).await
    }

    async fn of_cookie(
        &self,
        site: SiteId,
        id: &str,
        with_computed: bool,
    ) -> Result<VisitorProfile, ProfileError> {
        let Some(Identity { value: id, .. }) = Identity::of(IdentityKind::Visitor, Some(id)) else {
            return Ok(VisitorProfile::default());
        };
        // Never from the cache: it has a name's profile, but not the rank of the link.
        let Some(standing) = self.store.find_page_profile(site, id.clone()).await? else {
            return Ok(VisitorProfile::default());
        };
        let mut computed = None;
        if with_computed && standing.is_whole {
            let profile = standing.profile;
            computed = self.computed(site, [profile].into_iter()).await?.remove(&profile);
            // The cookie may have been bound to another profile meanwhile.
            let after = self.store.find_page_profile(site, id).await?;
            let is_same = |it: PageProfile| it.profile == profile && it.is_whole;
            if !after.is_some_and(is_same) {
                computed = None;
            }
        }
        Ok(VisitorProfile { view: Arc::new(standing.view), computed })
    }

    /// Reads the computed attributes of these profiles.
    async fn computed(
        &self,
        site: SiteId,
        profiles: impl Iterator<Item = ProfileId>,
    ) -> Result<BTreeMap<ProfileId, Arc<ComputedAttributes>>, ProfileError> {
        let mut found = BTreeMap::new();
        let mut missing = Vec::new();
        for profile in profiles {
            match self.profile_cache.cache.get(&ProfileCacheKeyRef::Computed(profile)) {
                _ if found.contains_key(&profile) || missing.contains(&profile) => {}
                Some(ProfileCacheEntry::Computed(_, computed)) => {
                    drop(found.insert(profile, computed))
                }
                _ => missing.push(profile),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let is_true = |profile: &ProfileId, since| {
            !self.profile_cache.epochs().has_computed_changed(*profile, since)
        };
        let read = |takeoff: PendingRead<ProfileId, _>| {
            let (store, memory) = (self.store.clone(), self.profile_cache.clone());
            async move {
                let read = store.computed(site, takeoff.keys.clone()).await;
                let read = read.map(|(upto, computed)| {
                    memory.keep_computed(&takeoff.keys, upto, computed, takeoff.epoch)
                });
                takeoff.complete_read(read);
            }
        };
        for mut seat in self.join_or_start_reads(&self.computed, missing, is_true, read).await? {
            if let Some(computed) = seat.wait_for_value().await? {
                found.insert(seat.key, computed);
            }
        }
        Ok(found)
    }

    /// Applies updates to the store and removes the changed entries from the cache.
    pub async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<ProfileUpdate>,
    ) -> Result<(), ProfileError> {
        let changes = self.store.apply(site, upto, updates).await?;
        for (reason, count) in [
            ("traits", changes.traits_refused),
            ("identities", changes.identities_refused),
            ("event_names", changes.names_refused),
        ] {
            if count > 0 {
                self.metrics.profile_refused.get_or_create(&ReasonLabels { reason }).inc_by(count);
            }
        }
        self.metrics.profiles_evicted.inc_by(changes.evicted);
        self.publish(site, upto, changes);
        Ok(())
    }

    /// Removes some of the unknown visitors who were not seen since then.
    pub async fn expire(&self, site: SiteId, since: Timestamp) -> Result<(), ProfileError> {
        let (mut after, mut has_removed) =
            *self.expiring.lock().entry(site).or_insert((START, false));
        for _ in 0..EXPIRE_STEPS {
            let request = ExpiryRequest { since: since.as_millisecond(), after };
            let expired = self.store.expire(site, request).await?;
            has_removed |= !expired.changes.profiles.is_empty();
            self.publish(site, 0, expired.changes);
            let Some(next) = expired.next else {
                if has_removed {
                    self.store.forget_names(site).await?;
                }
                (after, has_removed) = (START, false);
                break;
            };
            after = next;
        }
        self.expiring.lock().insert(site, (after, has_removed));
        Ok(())
    }

    /// Publishes the changes by the events up to `upto`.
    pub(super) fn publish(&self, site: SiteId, upto: u64, changes: ProfileChanges) {
        let is_as_known = changes.identities.is_empty() && changes.profiles.is_empty();
        if is_as_known && changes.counted.is_empty() {
            return;
        }
        let mut epochs = self.profile_cache.changing();
        epochs.begin();
        let cache = &self.profile_cache.cache;
        for identity in &changes.identities {
            epochs.change_name(site, identity);
            cache.invalidate(&ProfileCacheKeyRef::Name(site, identity));
        }
        for profile in &changes.profiles {
            epochs.change_profile(*profile);
            cache.invalidate(&ProfileCacheKeyRef::Profile(*profile));
            cache.invalidate(&ProfileCacheKeyRef::Computed(*profile));
        }
        self.profile_cache.count_on(&mut epochs, upto, changes.counted);
    }

    /// Returns the time without the store after which events are delivered all the same; `None` if they wait for it.
    pub(super) fn delivery_wait_limit(&self) -> Option<Duration> {
        (self.on_timeout == LookupTimeoutPolicy::Deliver).then_some(self.timeout)
    }

    /// Returns the parser of user agents.
    pub fn agents(&self) -> &Arc<UserAgentParser> {
        &self.agents
    }

    /// Returns the store of counters' progress, if the backend has one.
    pub fn counters(&self) -> Option<&dyn CounterStore> {
        self.store.counters()
    }

    /// Clears the cache: the store has changed without publishing it.
    pub(super) fn forget(&self) {
        let mut epochs = self.profile_cache.changing();
        epochs.begin();
        epochs.change_all();
        self.profile_cache.cache.invalidate_all();
    }

    /// Returns the last event of the site that is in the profiles.
    pub async fn projected_seq(&self, site: SiteId) -> Result<u64, ProfileError> {
        self.store.projected_seq(site).await
    }

    /// Returns the view, if the cache alone has it: every identity before the first that has a profile
    /// is known to have none.
    fn cached(&self, site: SiteId, identities: &[Identity]) -> Option<ProfileMatch> {
        let cache = &self.profile_cache.cache;
        for identity in identities {
            if let ProfileCacheEntry::Names(profile) =
                cache.get(&ProfileCacheKeyRef::Name(site, identity))?
            {
                return match cache.get(&ProfileCacheKeyRef::Profile(profile)) {
                    Some(ProfileCacheEntry::Known(view)) => Some(Some((profile, view))),
                    _ => None,
                };
            }
        }
        Some(None)
    }

    /// Reads from the store into the cache. The result is sorted by identity.
    async fn fetch(
        &self,
        site: SiteId,
        mut identities: Vec<Identity>,
    ) -> Result<Vec<(Identity, ProfileMatch)>, ProfileError> {
        identities.sort();
        identities.dedup();
        let mut missing: Vec<SiteIdentity> = identities.into_iter().map(|it| (site, it)).collect();
        let mut fetched = Vec::with_capacity(missing.len());
        while !missing.is_empty() {
            let is_true = |(site, identity): &SiteIdentity, since| {
                !self.profile_cache.epochs().has_name_changed(*site, identity, since)
            };
            let read =
                |takeoff| read_names(self.store.clone(), self.profile_cache.clone(), takeoff);
            let wanted = std::mem::take(&mut missing);
            for mut seat in self.join_or_start_reads(&self.names, wanted, is_true, read).await? {
                let known = seat.wait_for_value().await?;
                // The read shows only to which profile the name belongs: that profile may have changed
                // before this lookup joined it.
                let has_changed = known.as_ref().is_some_and(|(profile, _)| {
                    self.profile_cache.epochs().has_profile_changed(*profile, seat.epoch)
                });
                if has_changed && !seat.is_own {
                    missing.push(seat.key);
                } else {
                    fetched.push((seat.key.1, known));
                }
            }
        }
        fetched.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(fetched)
    }

    /// Joins the reads of these keys that are in flight, if their results are still valid, and begins
    /// one for the others.
    async fn join_or_start_reads<K, V, F>(
        &self,
        flights: &Arc<InFlightReads<K, V>>,
        wanted: Vec<K>,
        is_true: impl Fn(&K, u64) -> bool,
        read: impl FnOnce(PendingRead<K, V>) -> F,
    ) -> Result<Vec<ReadWaiter<K, V>>, ProfileError>
    where
        K: Clone + Ord + Hash,
        V: Clone,
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut seats, left) = flights.join(wanted, &is_true);
        if left.is_empty() {
            return Ok(seats);
        }
        let place = self.reads.acquire_slot().await?;
        // Others may have begun while this lookup waited for its slot.
        let (joined, left) = flights.join(left, &is_true);
        seats.extend(joined);
        if left.is_empty() {
            return Ok(seats);
        }
        let epoch = self.profile_cache.epochs().now();
        let (own, takeoff) = flights.start(left, epoch);
        seats.extend(own);
        self.reads.begin(place, read(takeoff));
        Ok(seats)
    }
}

/// Reads the profiles of these names into the cache.
async fn read_names(
    store: Arc<dyn ProfileStore>,
    memory: Arc<ProfileCache>,
    takeoff: PendingRead<SiteIdentity, ProfileMatch>,
) {
    let Some(&(site, _)) = takeoff.keys.first() else { return };
    let names = takeoff.keys.iter().map(|(_, identity)| identity.clone()).collect();
    let found = store.find(site, names).await;
    let found = found.map(|found| {
        let shared = |(profile, view)| (profile, Arc::new(view));
        let found: Vec<ProfileMatch> = found.into_iter().map(|found| found.map(shared)).collect();
        memory.keep_names(&takeoff.keys, &found, takeoff.epoch);
        found
    });
    takeoff.complete_read(found);
}
