//! Profiles: what the gateway knows about a visitor, projected from the journal.
//!
//! The projection is a reader of the journal like any other. It writes what events state together with its own cursor
//! in one transaction, so that each counts once, and then publishes its progress. Destinations read the journal
//! behind it, so an identify is always visible to the next event of its visitor.
//!
//! The identities of a person are in `identity.rs`; the rules by which they join, and by which people
//! who share a device do not, in `stitch.rs`. Traits merge key by key: of two statements the later one
//! wins, by the time of the event, and `null` removes a trait. The other data of an event is in
//! `activity.rs`: how often each visitor, known or not, did what on which day, the touch that led them
//! there, their device, place, consent and group. Where a site turns that off (`profiles.activity`),
//! the projection reads only events that identify a visitor.
//!
//! Any client can send events under any name (`event/rank.rs`). So stored data carries the rank of its
//! sender, and a lower rank neither replaces nor displaces nor loosens the data of a higher one:
//! identities in `stitch.rs`, traits in `traits.rs`, the rest in `details.rs`. The part that a page may
//! know of its own visitor is in `page_profile.rs`. Profiles made by claims alone have a limit of their
//! own, and names of events too, except for those that settings use.
//!
//! All sites share one writer. So a profile is bounded ([`ProfileLimits`]): a trait or an identity
//! beyond the limit is refused, and counted; the event itself still goes to the destinations. And an
//! event costs what it changes, however many names its visitor has: the cache keeps names and profiles
//! apart, and times that only advance are written once an hour.
//!
//! Traits of an external store are read for enrichment (`trait_source/`), and are no part of profiles.
//!
//! The rules on the rows of a batch are in `batch.rs`, once for all backends; each backend reads and
//! writes the rows (`rows.rs`).
//!
//! The modules are layers. Each imports only those above it in this list:
//!
//! 1. `read_through/`, the cache of any slow source. `activity.rs`, `user_agent.rs`, `details.rs`, `public.rs`.
//! 2. `trait_source/`: the external stores of traits, behind a cache of their own.
//! 3. The vocabulary of profiles in this file, which composes the settings and errors of the above.
//! 4. The rules (`stitch.rs`, `traits.rs`, `tallies.rs`, `batch.rs`), on the rows of any store (`rows.rs`), and the
//!    seam of the stores (`profile_store.rs`).
//! 5. `sqlite/` and `postgres/`: the stores. `cache/`: the cache in front of one of them.
//! 6. `service/`: the profiles of one gateway, which lookups and readers use.
//! 7. `counter_backfill/`, then `projection.rs`, which starts it: the readers of the journal.

mod activity;
mod batch;
mod cache;
mod changed_profiles;
mod counter_backfill;
mod details;
mod identity_groups;
mod page_profile;
mod postgres;
mod profile_store;
mod projection;
mod public;
mod read_through;
mod reader_guard;
mod rows;
mod service;
mod sqlite;
mod statement_cache;
mod stitch;
mod subject;
mod tallies;
#[cfg(test)]
mod tests;
mod trait_source;
mod traits;
mod user_agent;

pub use activity::{Activity, EmptyCounterSet, EventCounterSet};
pub use changed_profiles::ChangedProfiles;
pub use counter_backfill::CounterBackfill;
pub use identity_groups::IdentityGroupCache;
pub use postgres::{PostgresProfileStore, SCHEMA};
pub use profile_store::{
    BackfillStep, ComputedSnapshot, CountedEvent, CounterProgress, CounterStore, ExpiryOutcome,
    ExpiryPosition, ExpiryRequest, OldestRecord, PageProfile, ProfileStore,
};
pub use projection::{ProfileProjection, ProjectionConfig, update_of};
pub use public::PublicProfilePaths;
pub use service::{ProfileService, VisitorProfile};
pub use sqlite::{MIGRATIONS, NODE_MIGRATIONS, SqliteProfileStore, node};
pub use subject::{DailyActivity, SubjectProfile};
pub use tagway_core::event::identity::{DeviceIdentity, Identity, IdentityKind, identities};
pub use trait_source::{TraitSourceError, TraitSourceSettings};
pub use user_agent::UserAgentParser;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::journal::JournalError;
use crate::postgres::PostgresError;
use crate::store::{StoreReadError, StoreWriteError};
use tagway_core::event::{EventTally, JsonObject, SenderRank, identity};
use tagway_settings::SettingsSection;

/// The store of profiles, and of segments with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileBackend {
    /// The embedded database.
    Sqlite,
    /// The PostgreSQL database that gateways share.
    Postgres,
}

impl ProfileBackend {
    const ALL: [(&str, Self); 2] = [("sqlite", Self::Sqlite), ("postgres", Self::Postgres)];
}

/// The settings `[profiles]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileSettings {
    /// The store that keeps the profiles.
    pub store: ProfileBackend,
    /// Memory for recently used profiles, in bytes.
    pub cache_bytes: u64,
    /// The time for which an unused profile stays in memory.
    pub cache_idle: Duration,
    /// The time for which any profile stays in memory.
    pub cache_ttl: Duration,
    /// The longest lookup of the visitors of some events.
    pub timeout: Duration,
    /// The most concurrent reads of the store.
    pub max_concurrent_lookups: usize,
    /// The policy for events whose visitors could not be looked up.
    pub on_timeout: LookupTimeoutPolicy,
    /// The limits of one profile.
    pub limits: ProfileLimits,
}

/// The policy for events whose visitors could not be looked up in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupTimeoutPolicy {
    /// Deliver the events with cached profiles only.
    Deliver,
    /// Keep the events pending, and look their visitors up again.
    Wait,
}

/// The limits of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileLimits {
    /// The most bytes of its traits as JSON.
    pub traits_bytes: usize,
    /// The part of these bytes that claims may fill.
    pub claimed_traits_bytes: usize,
    /// The most devices of each kind: anonymous ids, cookies, ids of each vendor.
    pub identities: usize,
    /// The most names of events that are counted at one site: of names that only claims gave, and as
    /// many of others.
    pub event_names: usize,
    /// The most profiles of one site made by claims alone.
    pub claimed_max: u64,
}

impl ProfileLimits {
    /// Returns limits without a separate share for claims.
    pub const fn new(traits_bytes: usize, identities: usize, event_names: usize) -> Self {
        let (claimed_traits_bytes, claimed_max) = (traits_bytes, u64::MAX);
        Self { traits_bytes, claimed_traits_bytes, identities, event_names, claimed_max }
    }
}

/// The settings `profiles` of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteProfileSettings {
    /// True if every event counts, those of unknown visitors as well; otherwise only events that
    /// identify a visitor are read.
    pub activity: bool,
    /// The time for which an unknown visitor is kept without being seen.
    pub anonymous_retain: Duration,
    /// The parts of a profile that pages may know of their own visitor.
    pub public: PublicProfilePaths,
    /// The external source of traits, if there is one.
    pub source: Option<TraitSourceSettings>,
}

impl SiteProfileSettings {
    /// Reads `profiles` of a site. Without an explicit value the site decides whether `activity` is
    /// needed.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        Self {
            activity: section.opt_boolean("activity").unwrap_or_default(),
            anonymous_retain: section.positive_duration("anonymous_retain"),
            public: PublicProfilePaths::read(section),
            source: TraitSourceSettings::read(&mut section.section("source")),
        }
    }
}

/// The most user ids of one profile. It has one, unless the site's servers state that several are the
/// same person's; a profile with more changes of account than this is no person.
const MAX_USERS: usize = 16;

/// The most e-mail addresses of one profile: more than a person uses, fewer than a shared till sees.
const MAX_EMAILS: usize = 16;

/// The lag, in milliseconds, of stored times that only advance: when a profile, a device or a trait was
/// last seen. Otherwise every event of a known person would be a write, even without news.
const LAST_SEEN_LAG_MS: i64 = 3_600_000;

impl ProfileLimits {
    /// Returns the most identities of this kind that a profile may have.
    fn of(self, kind: IdentityKind) -> usize {
        match kind {
            IdentityKind::User => MAX_USERS,
            IdentityKind::Email => MAX_EMAILS,
            IdentityKind::Anonymous
            | IdentityKind::Visitor
            | IdentityKind::Ga
            | IdentityKind::Fbp
            | IdentityKind::Device(_) => self.identities,
        }
    }
}

impl ProfileSettings {
    /// Reads `[profiles]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        Self {
            store: section.choice("store", &ProfileBackend::ALL),
            cache_bytes: section.size("cache_bytes"),
            cache_idle: section.duration("cache_idle"),
            cache_ttl: section.positive_duration("cache_ttl"),
            timeout: section.positive_duration("timeout"),
            max_concurrent_lookups: section.integer("max_concurrent_lookups", 1..=100_000),
            on_timeout: section.choice(
                "on_timeout",
                &[("wait", LookupTimeoutPolicy::Wait), ("deliver", LookupTimeoutPolicy::Deliver)],
            ),
            limits: ProfileLimits {
                traits_bytes: section.byte_count("traits_bytes"),
                claimed_traits_bytes: section.byte_count("claimed_traits_bytes"),
                identities: section.integer("identities", 1..=100_000),
                event_names: section.integer("event_names", 0..=1_000_000),
                claimed_max: section.integer("claimed_max", 1..=1_000_000_000),
            },
        }
    }

    /// Returns the settings for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn small(limits: ProfileLimits) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            store: ProfileBackend::Sqlite,
            cache_bytes: 1 << 20,
            cache_idle: minute,
            cache_ttl: minute,
            timeout: minute,
            max_concurrent_lookups: 64,
            on_timeout: LookupTimeoutPolicy::Wait,
            limits,
        }
    }
}

/// The statements of one event about its visitor's identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileUpdate {
    /// The time of the event.
    pub at: Timestamp,
    /// The rank that the event itself shows; the profiles may raise it.
    pub rank: SenderRank,
    /// The user id, if the event has one.
    pub user: Option<Identity>,
    /// The person's previous user id, if one of the site's servers states it.
    pub previous: Option<Identity>,
    /// The e-mail address, if the event has one.
    pub email: Option<Identity>,
    /// The weak identities seen with them, the surest first.
    pub devices: Vec<DeviceIdentity>,
    /// The traits that the event states of the person.
    pub traits: JsonObject,
    /// The other data, if the event counts as a person's activity.
    pub activity: Option<Activity>,
}

impl ProfileUpdate {
    /// Returns true if the event has an identity of this stored kind and value.
    fn names(&self, kind: &str, value: &str) -> bool {
        let strong = [&self.user, &self.previous, &self.email];
        let all = self.devices.iter().map(|it| &it.identity).chain(strong.into_iter().flatten());
        all.into_iter().any(|it| it.value == value && it.kind.name() == kind)
    }
}

/// The number of a profile in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub i64);

/// The counts of activity, by profile and name.
pub type ActivityCounts = BTreeMap<ProfileId, BTreeMap<String, EventTally>>;

/// The changes that updates made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfileChanges {
    /// Identities that name another profile than before.
    pub identities: BTreeSet<Identity>,
    /// Profiles whose data changed.
    pub profiles: BTreeSet<ProfileId>,
    /// The counts that were added to profiles.
    pub counted: ActivityCounts,
    /// Events that were not counted because there were too many names.
    pub names_refused: u64,
    /// Traits that were refused because the profile was full.
    pub traits_refused: u64,
    /// Identities that were refused because the profile was full.
    pub identities_refused: u64,
    /// Profiles made by claims alone that were removed because there were too many.
    pub evicted: u64,
}

impl ProfileChanges {
    /// Adds other changes to these.
    fn add(&mut self, other: Self) {
        self.identities.extend(other.identities);
        self.profiles.extend(other.profiles);
        self.evicted += other.evicted;
    }
}

/// The reason why the profiles failed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The store could not be read.
    #[error("the profiles cannot be read")]
    Read(#[from] StoreReadError),
    /// The store could not be written.
    #[error("the profiles cannot be written")]
    Write(#[from] Arc<StoreWriteError>),
    /// The store did not answer within `timeout`.
    #[error("the profiles take too long to read")]
    Timeout,
    /// A read that several waited for failed.
    #[error(transparent)]
    Shared(Arc<ProfileError>),
    /// A read was cancelled: the gateway is being stopped.
    #[error("the profiles are no longer read")]
    Ended,
    /// The site's external source of traits failed.
    #[error("the site's trait source does not answer: {0}")]
    Outside(#[from] TraitSourceError),
    /// The shared database failed.
    #[error("the profiles are unavailable: {0}")]
    Postgres(#[from] PostgresError),
    /// The journal that the profiles are projected from failed.
    #[error("the profiles cannot follow the journal")]
    Journal(#[from] JournalError),
    /// A step panicked, which is a mistake in the program.
    #[error("an event ends the transaction that it is in")]
    Panicked,
}

/// Returns when the value changed: never, once its sender is gone.
async fn until_changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
