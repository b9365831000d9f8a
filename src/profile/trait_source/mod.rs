//! Traits from outside: what a store that somebody else keeps knows of a site's people, read for
//! enrichment. It is never written, and segments know nothing of it.
//!
//! What the site's own events said of a person wins over what is said outside, so that an identify is
//! visible to the next event, always. Answers are remembered for a while, renewed behind their use, and
//! used on while there is no newer. A person the source refuses, or fails over again and again while it
//! answers of others, is as one it does not know: one person never stops a destination. Where the source as a whole does not answer, `on_timeout` says what becomes
//! of the events. A read goes on behind those who wait for it, as one of the profiles does.

mod http;
mod poison_key;
mod redis;
mod replies;
mod settings;
mod template;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use ::http::header::InvalidHeaderValue;
use async_trait::async_trait;
use moka::sync::Cache;
use tokio::time::Instant;

use self::http::HttpTraitClient;
use self::poison_key::PoisonKeyDetector;
use self::redis::RedisTraitClient;
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
use crate::event::{Event, JsonObject, ProfileView};
use crate::journal::SiteId;
use crate::metrics::{Metrics, SharedName, TraitSourceLabels};

/// What a source says of one person.
#[derive(Clone, Debug, PartialEq)]
enum TraitReply {
    /// Their traits.
    Known(JsonObject),
    /// It does not know them.
    Unknown,
    /// It does not say, or nothing that can be read; of others it may.
    Refused,
}

/// Why a source did not answer at all.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TraitSourceError {
    /// No answer within `timeout`.
    #[error("no answer in time")]
    Timeout,
    /// A status of its own trouble, or of too many calls.
    #[error("it answered {0}")]
    Status(u16),
    /// The address guard: the name resolves to an address that calls must not go to.
    #[error("the address is private or reserved, and egress.allow_private is off")]
    Forbidden,
    /// It could not be reached, or the connection was lost.
    #[error("it could not be reached")]
    Unreachable(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// Why a source cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraitSourceSetupError {
    /// TLS cannot be set up on this machine.
    #[error("the client cannot be made")]
    Client(#[from] reqwest::Error),
    /// A header's value can be carried by none.
    #[error("a header cannot be sent")]
    Header(#[from] InvalidHeaderValue),
    /// TLS cannot be set up for a Redis.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The address of a Redis cannot be read.
    #[error("the connection cannot be made")]
    Redis(#[from] ::redis::RedisError),
}

/// A store that knows people.
#[async_trait]
trait TraitClient: Send + Sync {
    /// How many people may be asked for at once.
    fn max_batch_keys(&self) -> usize;

    /// What it says of whom these keys name, in their order.
    async fn fetch(&self, keys: &[Arc<str>]) -> Result<Vec<TraitReply>, TraitSourceError>;
}

/// A person's traits, if the source knows them.
type SourcedTraits = Option<Arc<JsonObject>>;

/// What was answered, and how long it holds.
#[derive(Clone)]
struct TraitCacheEntry {
    traits: SourcedTraits,
    read_at: Instant,
    /// When it is renewed behind its use.
    renew_at: Instant,
    fresh_until: Instant,
}

/// A site's source.
pub(super) struct TraitSource {
    settings: TraitSourceSettings,
    allow_private: bool,
    source: Arc<dyn TraitClient>,
    cache: Cache<Arc<str>, TraitCacheEntry>,
    flights: Arc<InFlightReads<Arc<str>, Result<SourcedTraits, TraitSourceError>>>,
    reads: StoreReadPool,
    blame: PoisonKeyDetector,
    site: SharedName,
    metrics: Arc<Metrics>,
}

/// Whom was asked for: what is known of them, by what they were asked for by, and why of others not.
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
            (InFlightReads::new(), reads.of_another(settings.max_concurrent_lookups));
        let blame = PoisonKeyDetector::new(settings.ttl);
        Self { settings, allow_private, source, cache, flights, reads, blame, site, metrics }
    }

    /// What is known of whom these keys name. Takes `timeout` at most.
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
        let ask = self.ask(missing.clone(), &mut answers);
        if tokio::time::timeout(self.settings.timeout, ask).await.is_err() {
            answers.error = Some(TraitSourceError::Timeout.into());
        }
        // The time may be over with the answers of some, and there may be older ones.
        for key in missing {
            if !answers.known.contains_key(&key)
                && let Some(entry) = self.cache.get(&key).filter(|entry| self.is_usable(entry))
            {
                answers.known.insert(key, entry.traits);
            }
        }
        answers
    }

    /// Waits for what is asked for already, and asks for the rest.
    async fn ask(self: &Arc<Self>, missing: Vec<Arc<str>>, answers: &mut TraitLookupOutcome) {
        let (mut seats, left) = self.flights.join(missing, |_, _| true);
        for keys in left.chunks(self.source.max_batch_keys()) {
            let place = match self.reads.acquire_slot().await {
                Ok(place) => place,
                Err(error) => {
                    answers.error = Some(error);
                    return;
                }
            };
            // Others may have begun while this lookup waited for its place.
            let (joined, left) = self.flights.join(keys.to_vec(), |_, _| true);
            seats.extend(joined);
            if !left.is_empty() {
                let (own, takeoff) = self.flights.start(left, 0);
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

    /// Renews what is used before its time is over, as far as there is room.
    fn renew(self: &Arc<Self>, due: Vec<Arc<str>>) {
        let (_, due) = self.flights.join(due, |_, _| true);
        for keys in due.chunks(self.source.max_batch_keys()) {
            let Some(place) = self.reads.try_acquire_slot() else { return };
            self.count("refresh", keys.len());
            let (_, takeoff) = self.flights.start(keys.to_vec(), 0);
            self.reads.begin(place, self.clone().read(takeoff));
        }
    }

    /// Asks the source, and remembers what it says.
    async fn read(
        self: Arc<Self>,
        takeoff: PendingRead<Arc<str>, Result<SourcedTraits, TraitSourceError>>,
    ) {
        let fetch = self.source.fetch(&takeoff.keys);
        let said = tokio::time::timeout(self.settings.timeout, fetch).await;
        let mut said = said.unwrap_or(Err(TraitSourceError::Timeout));
        match (&said, &*takeoff.keys) {
            (Ok(_), keys) => self.blame.answered(keys),
            (Err(TraitSourceError::Timeout | TraitSourceError::Status(_)), [key])
                if self.blame.is_poison_key(key, &*self.source, self.settings.timeout).await =>
            {
                said = Ok(vec![TraitReply::Refused]);
            }
            _ => {}
        }
        let answer = |(index, key): (usize, &Arc<str>)| match &said {
            // What a source leaves out it does not know.
            Ok(answers) => Ok(self.remember(key, answers.get(index))),
            Err(error) => self.use_older(key).ok_or_else(|| error.clone()),
        };
        let answers = takeoff.keys.iter().enumerate().map(answer).collect();
        if let Err(error) = &said {
            let result =
                if matches!(error, TraitSourceError::Timeout) { "timeout" } else { "error" };
            self.count(result, takeoff.keys.len());
            tracing::debug!(%error, site = %self.site, "a source of traits does not answer");
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

    /// What was answered before, if it can be used on; the source is left alone with it for a while.
    fn use_older(&self, key: &Arc<str>) -> Option<SourcedTraits> {
        let mut entry = self.cache.get(key).filter(|entry| self.is_usable(entry))?;
        let again = Instant::now() + self.settings.retry;
        entry.renew_at = again;
        entry.fresh_until = entry.fresh_until.max(again.min(entry.read_at + self.settings.stale));
        let traits = entry.traits.clone();
        self.cache.insert(key.clone(), entry);
        Some(traits)
    }

    /// Whether it is used while there is nothing newer. That somebody was not known is not: they may be
    /// by now.
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
    /// Makes this the site's source of traits from outside, or none. The one of before stays, with what
    /// it remembers, if nothing about it changed.
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
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        match outside {
            Some(outside) => drop(sources.insert(site, outside)),
            None => drop(sources.remove(&site)),
        }
        Ok(())
    }

    /// Forgets what the site's source said of anybody.
    pub(super) fn clear_source_cache(&self, site: SiteId) {
        if let Some(outside) = self.source(site) {
            outside.cache.invalidate_all();
        }
    }

    fn source(&self, site: SiteId) -> Option<Arc<TraitSource>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(&site).cloned()
    }

    /// Adds what the site's source knows of the visitors of these events to what was found of them.
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
                template.fill(&person(event, identities, &found.view)).map(Arc::from)
            };
        let keys = events.iter().zip(wanted).zip(&found).map(key).collect();
        self.add(&outside, keys, found).await
    }

    /// The same for the visitor of a page, by their user id alone: what address is theirs, and which
    /// device, a page can claim as it likes.
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
            tracing::warn!(%error, "events go without the traits of the site's source");
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

/// Whom an event is asked for by: its own ids, else those that the profile knows.
fn person<'p>(
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

/// The profile with the traits from outside that it does not have itself.
fn merged(own: &Arc<ProfileView>, outside: &Arc<JsonObject>) -> Arc<ProfileView> {
    if outside.keys().all(|name| own.traits.contains_key(name)) {
        return own.clone();
    }
    let mut traits = (**outside).clone();
    traits.extend(own.traits.iter().map(|(name, value)| (name.clone(), value.clone())));
    Arc::new(ProfileView { user_id: own.user_id.clone(), traits })
}
