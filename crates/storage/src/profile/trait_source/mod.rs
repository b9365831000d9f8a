//! The external source of traits: a site's own store of people, read for enrichment. The gateway never
//! writes it, and segments do not use it.
//!
//! Traits from the site's own events win over external ones, so that an identify is always visible to the next event.
//! Answers are cached for a while, renewed in the background while in use, and used on while there is no newer one. A
//! person whom the source refuses, or for whom it fails repeatedly while it answers for others, counts as unknown:
//! one person never stops a destination. If the source as a whole does not answer, `on_timeout` decides about the
//! events. A read continues after its waiters gave up, as one of the profiles does.

mod http;
mod poison_key;
mod redis;
mod replies;
mod settings;
mod template;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use ::http::header::InvalidHeaderValue;
use async_trait::async_trait;
use moka::sync::Cache;
use tokio::time::Instant;

use self::http::HttpTraitClient;
use self::poison_key::PoisonKeyDetector;
use self::redis::RedisTraitClient;
pub(super) use self::settings::TRAIT_SOURCE_SETTINGS;
use self::settings::TraitClientSettings;
pub use self::settings::TraitSourceSettings;
use self::template::LookupPersonIds;
use super::cache::StoreReadPool;
use super::cache::in_flight::{InFlightReads, PendingRead};
use super::cache::weight::{ENTRY_BYTES, entry_bytes};
use super::identity::raw_email;
use super::{
    Identity, IdentityKind, LookupTimeoutPolicy, ProfileError, ProfileService, VisitorProfile,
};
use crate::journal::SiteId;
use tagway_core::event::{Event, JsonObject, ProfileView};
use tagway_core::metrics::{Metrics, SharedName, TraitSourceLabels};

/// The source's answer about one person.
#[derive(Clone, Debug, PartialEq)]
enum TraitReply {
    /// The person's traits.
    Known(JsonObject),
    /// The source does not know the person.
    Unknown,
    /// The source refuses to answer about this person, or its answer is unreadable; it may answer about others.
    Refused,
}

/// The reason why a source did not answer at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TraitSourceError {
    /// No answer within `timeout`.
    #[error("no answer in time")]
    Timeout,
    /// A status of a server error, or of too many calls.
    #[error("the source answered {0}")]
    Status(u16),
    /// The address guard: the name resolves to an address that calls must not go to.
    #[error("the address is private or reserved, and egress.allow_private is off")]
    Forbidden,
    /// The source could not be reached, or the connection was lost.
    #[error("the source could not be reached")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// The reason why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraitSourceSetupError {
    /// TLS cannot be set up on this machine.
    #[error("the client cannot be made")]
    Client(#[from] reqwest::Error),
    /// A header's value is not a valid field value.
    #[error("a header cannot be sent")]
    Header(#[from] InvalidHeaderValue),
    /// TLS cannot be set up for a Redis.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The address of a Redis cannot be read.
    #[error("the connection cannot be made")]
    Redis(#[from] ::redis::RedisError),
}

/// A client of an external store of people.
#[async_trait]
trait TraitClient: Send + Sync {
    /// Returns the most people in one batch.
    fn max_batch_keys(&self) -> usize;

    /// Reads the traits of the people with these keys, in their order.
    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<TraitReply>, TraitSourceError>;
}

/// The traits of a person, if the source knows them.
type SourcedTraits = Option<Arc<JsonObject>>;

/// A cached answer, and the times until which it is used.
#[derive(Clone)]
struct TraitCacheEntry {
    traits: SourcedTraits,
    read_at: Instant,
    /// The time at which it is renewed in the background.
    renew_at: Instant,
    fresh_until: Instant,
}

/// A site's external source of traits.
pub(super) struct TraitSource {
    settings: TraitSourceSettings,
    allow_private: bool,
    source: Arc<dyn TraitClient>,
    cache: Cache<Arc<str>, TraitCacheEntry>,
    in_flight_reads: Arc<InFlightReads<Arc<str>, Result<SourcedTraits, TraitSourceError>>>,
    reads: StoreReadPool,
    poison_keys: PoisonKeyDetector,
    site: SharedName,
    metrics: Arc<Metrics>,
}

/// The traits of the requested people, by their keys, and the error for the others.
#[derive(Default)]
struct TraitLookupOutcome {
    known: HashMap<Arc<str>, SourcedTraits>,
    error: Option<ProfileError>,
}

impl TraitSource {
    fn new(
        (settings, allow_private): (TraitSourceSettings, bool),
        source: Arc<dyn TraitClient>,
        reads: &StoreReadPool,
        (site, metrics): (SharedName, Arc<Metrics>),
    ) -> Self {
        let cache = Cache::builder()
            .max_capacity(settings.cache_bytes)
            .time_to_live(settings.ttl.max(settings.stale).max(settings.negative_ttl))
            .weigher(weight)
            .build();
        let (flights, reads) =
            (InFlightReads::new(), reads.create_sibling(settings.max_concurrent_lookups));
        let blame = PoisonKeyDetector::new(settings.ttl);
        Self {
            settings,
            allow_private,
            source,
            cache,
            in_flight_reads: flights,
            reads,
            poison_keys: blame,
            site,
            metrics,
        }
    }

    /// Looks up the people with these keys. Takes `timeout` at most.
    async fn look_up(self: &Arc<Self>, keys: BTreeSet<Arc<str>>) -> TraitLookupOutcome {
        let (now, mut answers) = (Instant::now(), TraitLookupOutcome::default());
        let (mut missing, mut due) = (Vec::new(), Vec::new());
        for key in keys {
            match self.cache.get(&key).filter(|entry| now < entry.fresh_until) {
                Some(entry) => {
                    if now >= entry.renew_at {
                        due.push(key.clone());
                    }
                    answers.known.insert(key, entry.traits);
                }
                None => missing.push(key),
            }
        }
        self.count("hit", answers.known.len());
        self.count("miss", missing.len());
        self.renew(due);
        if missing.is_empty() {
            return answers;
        }
        let ask = self.request_keys(missing.clone(), &mut answers);
        if tokio::time::timeout(self.settings.timeout, ask).await.is_err() {
            answers.error = Some(TraitSourceError::Timeout.into());
        }
        // The time may be over with the answers of some, and older answers may be in the cache.
        for key in missing {
            if !answers.known.contains_key(&key)
                && let Some(entry) = self.cache.get(&key).filter(|entry| self.is_usable(entry))
            {
                answers.known.insert(key, entry.traits);
            }
        }
        answers
    }

    /// Waits for requests in flight, and requests the other keys.
    async fn request_keys(
        self: &Arc<Self>,
        missing: Vec<Arc<str>>,
        answers: &mut TraitLookupOutcome,
    ) {
        let (mut seats, left) = self.in_flight_reads.join(missing, |_, _| true);
        for keys in left.chunks(self.source.max_batch_keys()) {
            let place = match self.reads.acquire_slot().await {
                Ok(place) => place,
                Err(error) => {
                    answers.error = Some(error);
                    return;
                }
            };
            // Others may have begun while this lookup waited for its slot.
            let (joined, left) = self.in_flight_reads.join(keys.to_vec(), |_, _| true);
            seats.extend(joined);
            if !left.is_empty() {
                let (own, takeoff) = self.in_flight_reads.start(left, 0);
                seats.extend(own);
                self.reads.begin(place, self.clone().read(takeoff));
            }
        }
        for mut seat in seats {
            match seat.wait_for_value().await {
                Ok(Ok(traits)) => drop(answers.known.insert(seat.key, traits)),
                Ok(Err(error)) => answers.error = Some(error.into()),
                Err(error) => answers.error = Some(error),
            }
        }
    }

    /// Renews answers in use before they expire, as far as there is room.
    fn renew(self: &Arc<Self>, due: Vec<Arc<str>>) {
        let (_, due) = self.in_flight_reads.join(due, |_, _| true);
        for keys in due.chunks(self.source.max_batch_keys()) {
            let Some(place) = self.reads.try_acquire_slot() else { return };
            self.count("refresh", keys.len());
            let (_, takeoff) = self.in_flight_reads.start(keys.to_vec(), 0);
            self.reads.begin(place, self.clone().read(takeoff));
        }
    }

    /// Requests the keys from the source, and caches the answers.
    async fn read(
        self: Arc<Self>,
        takeoff: PendingRead<Arc<str>, Result<SourcedTraits, TraitSourceError>>,
    ) {
        let fetch = self.source.fetch(&takeoff.keys);
        let said = tokio::time::timeout(self.settings.timeout, fetch).await;
        let mut said = said.unwrap_or(Err(TraitSourceError::Timeout));
        match (&said, &*takeoff.keys) {
            (Ok(_), keys) => self.poison_keys.record_reply(keys),
            (Err(TraitSourceError::Timeout | TraitSourceError::Status(_)), [key])
                if self
                    .poison_keys
                    .is_poison_key(key, &*self.source, self.settings.timeout)
                    .await =>
            {
                said = Ok(vec![TraitReply::Refused]);
            }
            _ => {}
        }
        let answer = |(index, key): (usize, &Arc<str>)| match &said {
            // A person missing in the answers is unknown to the source.
            Ok(answers) => Ok(self.remember(key, answers.get(index))),
            Err(error) => self.use_older(key).ok_or_else(|| error.clone()),
        };
        let answers = takeoff.keys.iter().enumerate().map(answer).collect();
        if let Err(error) = &said {
            let result =
                if matches!(error, TraitSourceError::Timeout) { "timeout" } else { "error" };
            self.count(result, takeoff.keys.len());
            tracing::debug!(%error, site = %self.site, "the site's trait source does not answer");
        }
        takeoff.complete_read(Ok(answers));
    }

    fn remember(&self, key: &Arc<str>, answer: Option<&TraitReply>) -> SourcedTraits {
        let (now, settings) = (Instant::now(), &self.settings);
        let traits = match answer {
            Some(TraitReply::Known(traits)) => Some(Arc::new(traits.clone())),
            Some(TraitReply::Unknown) | None => None,
            Some(TraitReply::Refused) => {
                self.count("refused", 1);
                None
            }
        };
        let fresh_until = now + traits.as_ref().map_or(settings.negative_ttl, |_| settings.ttl);
        let renew_at = if traits.is_some() { now + settings.renew_after } else { fresh_until };
        let entry = TraitCacheEntry { traits: traits.clone(), read_at: now, renew_at, fresh_until };
        self.cache.insert(key.clone(), entry);
        traits
    }

    /// Returns the older answer, if it is still usable; the source is not asked again for `retry`.
    fn use_older(&self, key: &Arc<str>) -> Option<SourcedTraits> {
        let mut entry = self.cache.get(key).filter(|entry| self.is_usable(entry))?;
        let again = Instant::now() + self.settings.retry;
        entry.renew_at = again;
        entry.fresh_until = entry.fresh_until.max(again.min(entry.read_at + self.settings.stale));
        let traits = entry.traits.clone();
        self.cache.insert(key.clone(), entry);
        Some(traits)
    }

    /// Returns true if the answer is used while there is no newer one. An expired "unknown" is not: the
    /// source may know the person by now.
    fn is_usable(&self, entry: &TraitCacheEntry) -> bool {
        let now = Instant::now();
        let is_young = now.duration_since(entry.read_at) < self.settings.stale;
        now < entry.fresh_until || (entry.traits.is_some() && is_young)
    }

    fn count(&self, result: &'static str, people: usize) {
        if people > 0 {
            let labels = TraitSourceLabels { site: self.site.clone(), result };
            self.metrics.profile_source_lookups.get_or_create(&labels).inc_by(people as u64);
        }
    }
}

fn weight(key: &Arc<str>, entry: &TraitCacheEntry) -> u32 {
    let traits = entry.traits.iter().flat_map(|traits| traits.iter());
    let bytes: usize = traits.map(|(name, value)| entry_bytes(name, value)).sum();
    u32::try_from(ENTRY_BYTES + key.len() + bytes).unwrap_or(u32::MAX)
}

impl ProfileService {
    /// Sets or removes the site's external source of traits. The current one stays, with its cache, if
    /// its settings are the same.
    ///
    /// # Errors
    ///
    /// Fails if the client of the source cannot be set up.
    pub fn set_source(
        &self,
        (site, name): (SiteId, &SharedName),
        settings: Option<&TraitSourceSettings>,
        allow_private: bool,
    ) -> Result<(), TraitSourceSetupError> {
        let known = self.source(site);
        let is_same = match (&known, settings) {
            (None, None) => true,
            (Some(known), Some(settings)) => {
                known.settings == *settings && known.allow_private == allow_private
            }
            _ => false,
        };
        if is_same {
            return Ok(());
        }
        let outside = match settings {
            None => None,
            Some(settings) => {
                let TraitSourceSettings { timeout, reply_bytes, .. } = *settings;
                let source: Arc<dyn TraitClient> = match &settings.store {
                    TraitClientSettings::Http(http) => {
                        Arc::new(HttpTraitClient::new(http, timeout, reply_bytes, allow_private)?)
                    }
                    TraitClientSettings::Redis(redis) => {
                        let _context = self.reads.runtime().enter();
                        Arc::new(RedisTraitClient::new(redis, timeout, reply_bytes)?)
                    }
                    #[cfg(test)]
                    TraitClientSettings::Test(_) => return Ok(()),
                };
                let settings = (settings.clone(), allow_private);
                let labels = (name.clone(), self.metrics.clone());
                Some(Arc::new(TraitSource::new(settings, source, &self.reads, labels)))
            }
        };
        let mut sources = self.sources.write();
        match outside {
            Some(outside) => drop(sources.insert(site, outside)),
            None => drop(sources.remove(&site)),
        }
        Ok(())
    }

    /// Clears the cached answers of the site's source.
    pub(super) fn clear_source_cache(&self, site: SiteId) {
        if let Some(outside) = self.source(site) {
            outside.cache.invalidate_all();
        }
    }

    fn source(&self, site: SiteId) -> Option<Arc<TraitSource>> {
        self.sources.read().get(&site).cloned()
    }

    /// Adds the traits of the site's source to the profiles found for these events.
    pub(super) async fn merge_source_traits(
        &self,
        site: SiteId,
        events: &[Arc<Event>],
        wanted: &[Vec<Identity>],
        found: Vec<VisitorProfile>,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let Some(outside) = self.source(site) else { return Ok(found) };
        let template = outside.settings.template();
        let key =
            |((event, identities), found): ((&Arc<Event>, &Vec<Identity>), &VisitorProfile)| {
                template.fill(&lookup_ids(event, identities, &found.view)).map(Arc::from)
            };
        let keys = events.iter().zip(wanted).zip(&found).map(key).collect();
        self.add(&outside, keys, found).await
    }

    /// Adds the traits of the visitor of a page, by their user id alone: a page can claim any address
    /// and any device.
    pub(super) async fn merge_page_source_traits(
        &self,
        site: SiteId,
        found: VisitorProfile,
    ) -> Result<VisitorProfile, ProfileError> {
        let Some(outside) = self.source(site) else { return Ok(found) };
        let person = LookupPersonIds {
            user_id: found.view.user_id.as_deref(),
            ..LookupPersonIds::default()
        };
        let key = outside.settings.template().fill(&person).map(Arc::from);
        let found = self.add(&outside, vec![key], vec![found]).await?;
        Ok(found.into_iter().next().unwrap_or_default())
    }

    async fn add(
        &self,
        outside: &Arc<TraitSource>,
        keys: Vec<Option<Arc<str>>>,
        mut found: Vec<VisitorProfile>,
    ) -> Result<Vec<VisitorProfile>, ProfileError> {
        let mut answers = outside.look_up(keys.iter().flatten().cloned().collect()).await;
        let is_missing = |key: &Arc<str>| !answers.known.contains_key(key);
        let missing = keys.iter().flatten().filter(|key| is_missing(key)).count();
        if missing > 0 {
            let error = answers.error.take().unwrap_or(ProfileError::Ended);
            if self.on_timeout == LookupTimeoutPolicy::Wait {
                return Err(error);
            }
            self.metrics.events_unenriched.inc_by(missing as u64);
            tracing::warn!(%error, "the site's trait source does not answer: events are delivered \
                without its traits");
        }
        for (found, key) in found.iter_mut().zip(&keys) {
            let traits = key.as_ref().and_then(|key| answers.known.get(key)?.as_ref());
            if let Some(traits) = traits {
                found.view = merged(&found.view, traits);
            }
        }
        Ok(found)
    }
}

/// Returns the ids with which an event's person is looked up: its own, else those of the profile.
fn lookup_ids<'p>(
    event: &'p Event,
    identities: &'p [Identity],
    view: &'p ProfileView,
) -> LookupPersonIds<'p> {
    let of = |kind| {
        let found = identities.iter().find(|identity| identity.kind == kind);
        found.map(|identity| identity.value.as_str())
    };
    let known = || view.traits.get("email").and_then(|email| email.as_str());
    let is_address = |text: &&str| text.contains('@') && Identity::of_email(text).is_some();
    LookupPersonIds {
        user_id: of(IdentityKind::User).or(view.user_id.as_deref()),
        anonymous_id: of(IdentityKind::Anonymous),
        email: raw_email(event).or_else(known).map(str::trim).filter(is_address),
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
