//! The profiles of one gateway: the store behind its cache, and the sites' external sources of traits.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::cache::{ProfileCache, ProfileMatch};
use super::read_through::{ReadTasks, ReadThroughError};
use super::trait_source::{
    TraitKey, TraitSource, TraitSourceError, TraitSourceSettings, TraitSourceSetupError,
};
use super::{
    ChangedProfiles, CounterStore, ExpiryPosition, ExpiryRequest, Identity, IdentityKind,
    LookupTimeoutPolicy, PageProfile, ProfileChanges, ProfileError, ProfilePage, ProfileSearch,
    ProfileSettings, ProfileStore, ProfileUpdate, SubjectProfile, UserAgentParser, identities,
};
use crate::journal::{PersonNameDigest, SiteId};
use tagway_core::event::{ComputedAttributes, Event, JsonObject, ProfileView};
use tagway_core::metrics::{Metrics, ReasonLabels, ResultLabels, SharedName};

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

/// The profiles of one gateway: the store, its cache and the sources of traits.
pub struct ProfileService {
    store: Arc<dyn ProfileStore>,
    cache: ProfileCache,
    pub(super) tasks: ReadTasks,
    /// The sites' external sources of traits.
    pub(super) sources: RwLock<HashMap<SiteId, Arc<TraitSource>>>,
    timeout: Duration,
    on_timeout: LookupTimeoutPolicy,
    /// The position of the removal of visitors, and whether it has removed any since it began.
    expiring: Mutex<HashMap<SiteId, (ExpiryPosition, bool)>>,
    pub(super) metrics: Arc<Metrics>,
    /// The changed profiles, for tasks that act on them.
    changed: Option<Arc<ChangedProfiles>>,
    unknown_view: Arc<ProfileView>,
    agents: Arc<UserAgentParser>,
}

impl ProfileService {
    /// Creates a cache in front of `store`, which is read on this runtime.
    pub fn new(
        store: Arc<dyn ProfileStore>,
        settings: &ProfileSettings,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Self {
        let tasks = ReadTasks::new(runtime);
        Self {
            cache: ProfileCache::new(store.clone(), settings, tasks.clone()),
            store,
            tasks,
            sources: RwLock::default(),
            timeout: settings.timeout,
            on_timeout: settings.on_timeout,
            expiring: Mutex::default(),
            metrics,
            changed: None,
            unknown_view: Arc::default(),
            agents: Arc::default(),
        }
    }

    /// Records the profiles that change from now on, except by the backfill of counters.
    pub fn with_changed(self, changed: Arc<ChangedProfiles>) -> Self {
        Self { changed: Some(changed), ..self }
    }

    /// Cancels the reads in flight. Their waiters, and later lookups, get an error.
    pub async fn stop(&self) {
        self.tasks.stop().await;
    }

    /// Sets or removes the site's external source of traits. The current one stays, with its cache, if
    /// its settings are the same.
    ///
    /// # Errors
    ///
    /// Fails if the client of the source cannot be set up.
    pub fn set_source(
        &self,
        site: SiteId,
        name: &SharedName,
        settings: Option<&TraitSourceSettings>,
        allow_private: bool,
    ) -> Result<(), TraitSourceSetupError> {
        let Some(settings) = settings else {
            self.sources.write().remove(&site);
            return Ok(());
        };
        if self.source(site).is_some_and(|known| known.has_settings(settings, allow_private)) {
            return Ok(());
        }
        let (name, metrics) = (name.clone(), self.metrics.clone());
        let source = TraitSource::connect(settings, allow_private, &self.tasks, name, metrics)?;
        self.sources.write().insert(site, Arc::new(source));
        Ok(())
    }

    fn source(&self, site: SiteId) -> Option<Arc<TraitSource>> {
        self.sources.read().get(&site).cloned()
    }

    /// Looks up each event's visitor: by the surest of the event's identities that has a profile, and
    /// in the site's external source of traits, if it has one. Events of unknown visitors get an empty
    /// view.
    ///
    /// Each of the two takes its `timeout` at most. A lookup that takes longer fails, or the event goes
    /// without, as the settings have it.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] if the store or the source fails or takes too long and the settings let events wait.
    pub async fn lookup(
        &self,
        site: SiteId,
        events: &[Arc<Event>],
        with_computed: bool,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let wanted: Vec<Vec<Identity>> = events.iter().map(|event| identities(event)).collect();
        let found = self.find_own_profiles(site, &wanted, with_computed).await?;
        let Some(source) = self.source(site) else { return Ok(found) };
        let people = events.iter().zip(&wanted).zip(&found);
        let keys = people.map(|((event, ids), found)| source.event_key(event, ids, &found.view));
        let keys = keys.collect();
        self.merge_source_traits(&source, keys, found).await
    }

    /// Looks up the visitors in the profiles alone.
    async fn find_own_profiles(
        &self,
        site: SiteId,
        wanted: &[Vec<Identity>],
        with_computed: bool,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let deadline = Instant::now() + self.timeout;
        let error = match self.of_identities(site, wanted, with_computed, deadline).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
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
        let known = self.cache.peek(site, identities);
        if known.is_none() {
            self.metrics.events_unenriched.inc();
        }
        let Some((profile, view)) = known.flatten() else {
            return VisitorProfile { view: self.unknown_view.clone(), computed: None };
        };
        VisitorProfile { view, computed: self.cache.peek_computed(site, profile) }
    }

    /// Looks up the visitor of each of these lists of identities, the surest first.
    async fn of_identities(
        &self,
        site: SiteId,
        wanted: &[Vec<Identity>],
        with_computed: bool,
        deadline: Instant,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let cached = wanted.iter().map(|identities| self.cache.peek(site, identities));
        let cached: Vec<Option<ProfileMatch>> = cached.collect();
        let misses = cached.iter().filter(|found| found.is_none()).count();
        for (result, count) in [("hit", wanted.len() - misses), ("miss", misses)] {
            let labels = ResultLabels { result };
            self.metrics.profile_lookups.get_or_create(&labels).inc_by(count as u64);
        }
        let missing = wanted.iter().zip(&cached).filter(|(_, found)| found.is_none());
        let missing = missing.flat_map(|(identities, _)| identities.iter().cloned()).collect();
        let read = self.cache.read(site, missing, deadline).await?;
        let complete = |(found, identities): (Option<ProfileMatch>, &Vec<Identity>)| {
            found.unwrap_or_else(|| identities.iter().find_map(|it| read.get(it).cloned()))
        };
        let known: Vec<ProfileMatch> = cached.into_iter().zip(wanted).map(complete).collect();
        let computed = if with_computed {
            let profiles = known.iter().flatten().map(|(profile, _)| *profile).collect();
            self.cache.computed(site, profiles, deadline).await?
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
    ///
    /// # Errors
    ///
    /// The same as those of [`ProfileService::lookup`].
    pub async fn of_visitor(
        &self,
        site: SiteId,
        id: &str,
        with_computed: bool,
    ) -> Result<VisitorProfile, ProfileError> {
        let deadline = Instant::now() + self.timeout;
        let found = timeout_at(deadline, self.of_cookie(site, id, with_computed, deadline));
        let found = found.await.map_err(|_elapsed| ProfileError::Timeout)??;
        let Some(source) = self.source(site) else { return Ok(found) };
        // By the user id alone: a page can claim any address and any device.
        let keys = vec![source.user_key(found.view.user_id.as_deref())];
        let found = self.merge_source_traits(&source, keys, vec![found]).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    async fn of_cookie(
        &self,
        site: SiteId,
        id: &str,
        with_computed: bool,
        deadline: Instant,
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
            let mut found = self.cache.computed(site, BTreeSet::from([profile]), deadline).await?;
            computed = found.remove(&profile);
            // The cookie may have been bound to another profile meanwhile.
            let after = self.store.find_page_profile(site, id).await?;
            let is_same = |it: PageProfile| it.profile == profile && it.is_whole;
            if !after.is_some_and(is_same) {
                computed = None;
            }
        }
        Ok(VisitorProfile { view: Arc::new(standing.view), computed })
    }

    /// Adds the traits of the site's source to the profiles of the people with these keys.
    async fn merge_source_traits(
        &self,
        source: &TraitSource,
        keys: Vec<Option<TraitKey>>,
        mut found: Vec<VisitorProfile>,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let answers = source.look_up(keys.iter().flatten().cloned().collect()).await;
        let is_missing = |key: &&TraitKey| !answers.values.contains_key(*key);
        let missing = keys.iter().flatten().filter(is_missing).count();
        if missing > 0 {
            let error = match answers.error {
                Some(ReadThroughError::Source(error)) => error.into(),
                Some(ReadThroughError::Timeout) => TraitSourceError::Timeout.into(),
                Some(ReadThroughError::Ended) | None => ProfileError::Ended,
            };
            if self.on_timeout == LookupTimeoutPolicy::Wait {
                return Err(error);
            }
            self.metrics.events_unenriched.inc_by(missing as u64);
            tracing::warn!(%error, "the site's trait source does not answer: events are delivered \
                without its traits");
        }
        for (found, key) in found.iter_mut().zip(&keys) {
            let traits = key.as_ref().and_then(|key| answers.values.get(key)?.as_ref());
            if let Some(traits) = traits {
                found.view = merged(&found.view, traits);
            }
        }
        Ok(found)
    }

    /// Applies updates to the store and removes the changed entries from the cache.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be written: no update is applied then.
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
        self.record_and_publish(site, upto, changes);
        Ok(())
    }

    /// Searches profiles by a name or its beginning, a page at a time.
    pub async fn search(
        &self,
        site: SiteId,
        search: ProfileSearch,
    ) -> Result<ProfilePage, ProfileError> {
        self.store.search(site, search).await
    }

    /// Removes some of the unknown visitors who were not seen since then.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read or written.
    pub async fn expire(&self, site: SiteId, since: Timestamp) -> Result<(), ProfileError> {
        let (mut after, mut has_removed) =
            *self.expiring.lock().entry(site).or_insert((ExpiryPosition::START, false));
        for _ in 0..EXPIRE_STEPS {
            let request = ExpiryRequest { since: since.as_millisecond(), after };
            let expired = self.store.expire(site, request).await?;
            has_removed |= !expired.changes.profiles.is_empty();
            self.record_and_publish(site, 0, expired.changes);
            let Some(next) = expired.next else {
                if has_removed {
                    self.store.forget_names(site).await?;
                }
                (after, has_removed) = (ExpiryPosition::START, false);
                break;
            };
            after = next;
        }
        self.expiring.lock().insert(site, (after, has_removed));
        Ok(())
    }

    /// Records and publishes the changes by the events up to `upto`.
    fn record_and_publish(&self, site: SiteId, upto: u64, changes: ProfileChanges) {
        if let Some(changed) = &self.changed {
            changed.record_changes(site, &changes);
        }
        self.publish(site, upto, changes);
    }

    /// Publishes the changes by the events up to `upto`.
    pub(super) fn publish(&self, site: SiteId, upto: u64, changes: ProfileChanges) {
        self.cache.publish(site, upto, changes);
    }

    /// Clears the cache: the store has changed without publishing it.
    pub(super) fn forget(&self) {
        self.cache.clear();
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

    /// Returns the last event of the site that is in the profiles.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read.
    pub async fn projected_seq(&self, site: SiteId) -> Result<u64, ProfileError> {
        self.store.projected_seq(site).await
    }

    /// Returns those of these names of events under which nothing is counted.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read.
    pub async fn uncounted(
        &self,
        site: SiteId,
        mut names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError> {
        let counted = self.store.counted_names(site, names.clone()).await?;
        names.retain(|name| !counted.contains(name));
        Ok(names)
    }

    /// Finds the profiles of a name: a user id or an e-mail address or, if it is neither, a device's
    /// id.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be read.
    pub async fn subjects(
        &self,
        site: SiteId,
        name: &str,
    ) -> Result<Vec<SubjectProfile>, ProfileError> {
        self.store.subjects(site, name.to_owned()).await
    }

    /// Erases the profiles that one of these names is an identity of, except those of users who are not
    /// among the names; from the cache as well. Returns how many.
    ///
    /// # Errors
    ///
    /// Fails if the store cannot be written.
    pub async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<u64, ProfileError> {
        let changes = self.store.erase(site, names).await?;
        let erased = changes.profiles.len();
        self.record_and_publish(site, 0, changes);
        if let Some(source) = self.source(site) {
            source.clear();
        }
        Ok(erased as u64)
    }
}

/// Returns the profile with the external traits that it does not have itself.
fn merged(own: &Arc<ProfileView>, outside: &Arc<JsonObject>) -> Arc<ProfileView> {
    if outside.keys().all(|name| own.traits.contains_key(name)) {
        return own.clone();
    }
    let mut traits = (**outside).clone();
    traits.extend(own.traits.iter().map(|(name, value)| (name.clone(), value.clone())));
    Arc::new(ProfileView { user_id: own.user_id.clone(), traits })
}
