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
use std::time::Duration;

use ::http::header::InvalidHeaderValue;
use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use self::http::HttpTraitClient;
use self::poison_key::PoisonKeyDetector;
use self::redis::RedisTraitClient;
pub(super) use self::settings::TRAIT_SOURCE_SETTINGS;
use self::settings::TraitClientSettings;
pub use self::settings::TraitSourceSettings;
use self::template::LookupPersonIds;
use super::read_through::{
    ReadOutcome, ReadSource, ReadTasks, ReadThrough, ReadThroughPolicy, StalePolicy, member_bytes,
};
use tagway_core::event::identity::{Identity, IdentityKind, raw_email};
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
pub(super) type SourcedTraits = Option<Arc<JsonObject>>;

/// The URL or key of a person at their source.
pub(super) type TraitKey = Arc<str>;

/// A site's external source of traits, behind a cache.
pub(super) struct TraitSource {
    settings: TraitSourceSettings,
    allow_private: bool,
    cache: Arc<ReadThrough<TraitKey, SourcedTraits, TraitSourceError>>,
}

/// A source's client, as the cache reads it.
struct TraitReader {
    client: Arc<dyn TraitClient>,
    /// The longest read of one batch.
    timeout: Duration,
    poison_keys: PoisonKeyDetector,
    site: SharedName,
    metrics: Arc<Metrics>,
}

impl TraitSource {
    /// Creates the client of a site's source, and its cache.
    pub(super) fn connect(
        settings: &TraitSourceSettings,
        allow_private: bool,
        tasks: &ReadTasks,
        site: SharedName,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TraitSourceSetupError> {
        let TraitSourceSettings { timeout, reply_bytes, .. } = *settings;
        let client: Arc<dyn TraitClient> = match &settings.store {
            TraitClientSettings::Http(http) => {
                Arc::new(HttpTraitClient::new(http, timeout, reply_bytes, allow_private)?)
            }
            TraitClientSettings::Redis(redis) => {
                let _context = tasks.runtime().enter();
                Arc::new(RedisTraitClient::new(redis, timeout, reply_bytes)?)
            }
            #[cfg(test)]
            TraitClientSettings::Test(_) => {
                unreachable!("the tests set their source up themselves")
            }
        };
        Ok(Self::new(settings.clone(), allow_private, client, tasks, site, metrics))
    }

    fn new(
        settings: TraitSourceSettings,
        allow_private: bool,
        client: Arc<dyn TraitClient>,
        tasks: &ReadTasks,
        site: SharedName,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (timeout, poison_keys) = (settings.timeout, PoisonKeyDetector::new(settings.ttl));
        let reader = TraitReader { client, timeout, poison_keys, site, metrics };
        let policy = ReadThroughPolicy {
            capacity_bytes: settings.cache_bytes,
            ttl: settings.ttl,
            negative_ttl: settings.negative_ttl,
            idle: None,
            refresh_after: settings.renew_after,
            stale: Some(StalePolicy { max_age: settings.stale, retry: settings.retry }),
            max_concurrent_reads: settings.max_concurrent_lookups,
        };
        let cache = ReadThrough::new(Arc::new(reader), policy, tasks.clone());
        Self { settings, allow_private, cache }
    }

    /// Returns true if the source has these settings.
    pub(super) fn has_settings(&self, settings: &TraitSourceSettings, allow_private: bool) -> bool {
        self.settings == *settings && self.allow_private == allow_private
    }

    /// Returns the key of an event's person, if the event or its profile has the ids for it.
    pub(super) fn event_key(
        &self,
        event: &Event,
        identities: &[Identity],
        view: &ProfileView,
    ) -> Option<TraitKey> {
        let person = lookup_ids(event, identities, view);
        self.settings.template().fill(&person).map(Arc::from)
    }

    /// Returns the key of the person with this user id.
    pub(super) fn user_key(&self, user_id: Option<&str>) -> Option<TraitKey> {
        let person = LookupPersonIds { user_id, ..LookupPersonIds::default() };
        self.settings.template().fill(&person).map(Arc::from)
    }

    /// Looks up the people with these keys. Takes `timeout` at most.
    pub(super) async fn look_up(
        &self,
        keys: BTreeSet<TraitKey>,
    ) -> ReadOutcome<TraitKey, SourcedTraits, TraitSourceError> {
        self.cache.look_up(keys, Instant::now() + self.settings.timeout).await
    }

    /// Clears the cached answers.
    pub(super) fn clear(&self) {
        self.cache.begin_change().invalidate_all();
    }
}

#[async_trait]
impl ReadSource<TraitKey, SourcedTraits, TraitSourceError> for TraitReader {
    async fn read(
        &self,
        keys: &[TraitKey],
    ) -> Result<HashMap<TraitKey, SourcedTraits>, TraitSourceError> {
        let fetched = timeout(self.timeout, self.client.fetch(keys)).await;
        let mut fetched = fetched.unwrap_or(Err(TraitSourceError::Timeout));
        match (&fetched, keys) {
            (Ok(_), keys) => self.poison_keys.record_reply(keys),
            (Err(TraitSourceError::Timeout | TraitSourceError::Status(_)), [key])
                if self.poison_keys.is_poison_key(key, &*self.client, self.timeout).await =>
            {
                fetched = Ok(vec![TraitReply::Refused]);
            }
            _ => {}
        }
        match fetched {
            Ok(replies) => {
                // A person missing in the replies is unknown to the source.
                let replies = replies.into_iter().chain(std::iter::repeat(TraitReply::Unknown));
                Ok(keys.iter().cloned().zip(replies.map(|reply| self.traits(reply))).collect())
            }
            Err(error) => {
                let result =
                    if matches!(error, TraitSourceError::Timeout) { "timeout" } else { "error" };
                self.count(result, keys.len());
                tracing::debug!(%error, site = %self.site, "the site's trait source does not answer");
                Err(error)
            }
        }
    }

    fn weight(&self, key: &TraitKey, traits: &SourcedTraits) -> usize {
        let traits = traits.iter().flat_map(|traits| traits.iter());
        key.len() + traits.map(|(name, value)| member_bytes(name, value)).sum::<usize>()
    }

    fn max_batch_keys(&self) -> usize {
        self.client.max_batch_keys()
    }

    fn is_negative(&self, traits: &SourcedTraits) -> bool {
        traits.is_none()
    }

    fn count(&self, result: &'static str, people: usize) {
        if people > 0 {
            let labels = TraitSourceLabels { site: self.site.clone(), result };
            self.metrics.profile_source_lookups.get_or_create(&labels).inc_by(people as u64);
        }
    }
}

impl TraitReader {
    fn traits(&self, reply: TraitReply) -> SourcedTraits {
        match reply {
            TraitReply::Known(traits) => Some(Arc::new(traits)),
            TraitReply::Unknown => None,
            TraitReply::Refused => {
                self.count("refused", 1);
                None
            }
        }
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
