//! Profiles: what the gateway knows about a visitor, projected from the journal.
//!
//! The projection is a reader of the journal like any other. It writes what events say together with its
//! own cursor in one transaction, so that each counts once, and then publishes how far it has come. Destinations read the journal behind it, so an identify is
//! visible to the next event of its visitor, always.
//!
//! What a person is known by is in `identity.rs`; how identities join, and why people who share a
//! device do not, in `stitch.rs`. Traits merge key by key: of two statements the later one holds,
//! by the time of the event, and `null` takes back. What an event says besides is in `sighting.rs`: how
//! often each visitor, known or not, did what on which day, what led them here, their device, place,
//! consent and group. Where a site turns that off (`profiles.activity`), only events that say who
//! somebody is are looked at.
//!
//! Anybody can send events in anybody's name (`event/rank.rs`). So what is kept carries the rank of
//! who said it, and a lower rank neither replaces nor displaces nor loosens what a higher one said: of
//! identities by `stitch.rs`, of traits by `traits.rs`, of the rest by `details.rs`. What a page may know
//! of its own visitor is in `standing.rs`. Profiles that claims alone made have a bound of their own,
//! and names of events too, but for those that settings use.
//!
//! And all sites share one writer. So a profile holds
//! only so much ([`Limits`]): a trait or an identity beyond is not taken, and counted; the event itself
//! goes its way to the destinations. And an event costs what it changes, however many names its
//! visitor has: the cache keeps names and profiles apart, and times that only move on are written
//! down once an hour.
//!
//! What another store knows of people is read for enrichment (`outside/`), and is no part of profiles.
//!
//! What the rules do with the rows of a batch is in `batch.rs`, once for all backends; how rows are
//! read and written is each backend's (`rows.rs`).

mod agent;
mod batch;
mod cache;
mod careful;
mod company;
mod details;
mod filling;
mod outside;
mod postgres;
mod projection;
mod public;
mod repeats;
mod rows;
mod sighting;
mod sqlite;
mod standing;
mod stitch;
mod subject;
mod tallies;
#[cfg(test)]
mod tests;
mod traits;
mod watched;

pub use crate::event::identity::{Device, Identity, IdentityKind, identities};
pub use agent::Agents;
pub use cache::{Found, Profiles};
pub use company::Company;
pub use filling::{Counter, CounterStore, Deed, Filling, Step};
pub use outside::{SourceError, SourceSettings};
pub use postgres::{PostgresProfiles, SCHEMA};
pub use projection::{Projection, Setup, update_of};
pub use public::Public;
pub use sighting::{Counters, NoCounters, Sighting};
pub use sqlite::{MIGRATIONS, NODE_MIGRATIONS, SqliteProfiles, node};
pub use subject::{Activity, Subject};
pub use watched::{Changed, Watched};

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::event::{Computed, Object, ProfileView, SenderRank, Tally, identity};
use crate::journal::{JournalError, NameKey, SiteId};
use crate::postgres::PostgresError;
use crate::settings::Section;
use crate::store::{ReadError, WriteError};

/// Where profiles are kept, and segments with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In the embedded database.
    Sqlite,
    /// In the PostgreSQL database that gateways share.
    Postgres,
}

impl Backend {
    const ALL: [(&str, Self); 2] = [("sqlite", Self::Sqlite), ("postgres", Self::Postgres)];
}

/// `[profiles]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where they are kept.
    pub store: Backend,
    /// Memory for profiles that were used lately.
    pub cache_bytes: u64,
    /// How long an unused profile stays in memory.
    pub cache_idle: Duration,
    /// How long any does.
    pub cache_ttl: Duration,
    /// For what is known of some events' visitors.
    pub timeout: Duration,
    /// Reads of the store under way at once.
    pub lookups: usize,
    /// What becomes of events whose visitors could not be looked up.
    pub on_timeout: OnTimeout,
    /// How much one profile holds.
    pub limits: Limits,
}

/// What becomes of events whose visitors could not be looked up in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    /// They go with what memory knows.
    Deliver,
    /// They stay pending, and are looked up again.
    Wait,
}

/// How much one profile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its traits as JSON.
    pub traits_bytes: usize,
    /// The part of them that claims may fill.
    pub claimed_traits_bytes: usize,
    /// Devices of each kind it is known by: anonymous ids, cookies, ids of each vendor.
    pub identities: usize,
    /// Names of events that are counted, of one site: of those that only claims gave, and as many
    /// of others.
    pub event_names: usize,
    /// Profiles of one site that claims alone made.
    pub claimed_max: u64,
}

impl Limits {
    /// Limits without a share of their own for claims.
    pub const fn new(traits_bytes: usize, identities: usize, event_names: usize) -> Self {
        let (claimed_traits_bytes, claimed_max) = (traits_bytes, u64::MAX);
        Self { traits_bytes, claimed_traits_bytes, identities, event_names, claimed_max }
    }
}

/// `profiles` of a site: what is kept of its visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteSettings {
    /// Whether every event counts, those of visitors nobody knows as well; else only what says who
    /// somebody is is looked at.
    pub activity: bool,
    /// How long a visitor nobody knows is kept without being seen.
    pub anonymous_retain: Duration,
    /// What pages may know of their own visitor.
    pub public: Public,
    /// Another store of what is known of people, if there is one.
    pub source: Option<SourceSettings>,
}

impl SiteSettings {
    /// Reads `profiles` of a site. Where nothing is said, it is the site that knows whether anything needs
    /// `activity`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            activity: section.opt_boolean("activity").unwrap_or_default(),
            anonymous_retain: section.positive_duration("anonymous_retain"),
            public: Public::read(section),
            source: SourceSettings::read(&mut section.section("source")),
        }
    }
}

/// User ids of one profile. It has one, unless the site's servers say that several are the same
/// person's; who changed accounts more often than this is no person.
const MAX_USERS: usize = 16;

/// E-mail addresses of one profile: more than a person uses, fewer than a shared till sees.
const MAX_EMAILS: usize = 16;

/// How far a time that only moves on may lag behind, in milliseconds: when a profile, a device or a
/// trait was last seen. Events of known people that say nothing new would each be a write otherwise.
const SEEN_EVERY_MS: i64 = 3_600_000;

impl Limits {
    /// How many identities of this kind a profile has room for.
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

impl Settings {
    /// Reads `[profiles]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            store: section.choice("store", &Backend::ALL),
            cache_bytes: section.size("cache_bytes"),
            cache_idle: section.duration("cache_idle"),
            cache_ttl: section.positive_duration("cache_ttl"),
            timeout: section.positive_duration("timeout"),
            lookups: section.integer("max_concurrent_lookups", 1..=100_000),
            on_timeout: section.choice(
                "on_timeout",
                &[("wait", OnTimeout::Wait), ("deliver", OnTimeout::Deliver)],
            ),
            limits: Limits {
                traits_bytes: section.byte_count("traits_bytes"),
                claimed_traits_bytes: section.byte_count("claimed_traits_bytes"),
                identities: section.integer("identities", 1..=100_000),
                event_names: section.integer("event_names", 0..=1_000_000),
                claimed_max: section.integer("claimed_max", 1..=1_000_000_000),
            },
        }
    }

    /// What tests have.
    #[cfg(test)]
    pub(crate) fn small(limits: Limits) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            store: Backend::Sqlite,
            cache_bytes: 1 << 20,
            cache_idle: minute,
            cache_ttl: minute,
            timeout: minute,
            lookups: 64,
            on_timeout: OnTimeout::Wait,
            limits,
        }
    }
}

/// What one event says about who its visitor is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// When it happened.
    pub at: Timestamp,
    /// The rank that the event itself shows: what it is worth besides, the profiles know.
    pub rank: SenderRank,
    /// The user id, if any.
    pub user: Option<Identity>,
    /// The user id that the person had before, where one of the site's servers says so.
    pub previous: Option<Identity>,
    /// The e-mail address, if any.
    pub email: Option<Identity>,
    /// The weak identities seen with them, the surest first.
    pub devices: Vec<Device>,
    /// What is said of the person.
    pub traits: Object,
    /// What it says besides, if it counts as something a person did.
    pub sighting: Option<Sighting>,
}

impl Update {
    /// Returns true if the event has an identity of this stored kind and value.
    fn names(&self, kind: &str, value: &str) -> bool {
        let strong = [&self.user, &self.previous, &self.email];
        let all = self.devices.iter().map(|it| &it.identity).chain(strong.into_iter().flatten());
        all.into_iter().any(|it| it.value == value && it.kind.name() == kind)
    }
}

/// A profile's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub i64);

/// What people did, by profile and name.
pub type Counted = BTreeMap<ProfileId, BTreeMap<String, Tally>>;

/// What updates changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Identities that name another profile than before.
    pub identities: BTreeSet<Identity>,
    /// Profiles of which something else is known than before.
    pub profiles: BTreeSet<ProfileId>,
    /// What was counted of each, besides.
    pub counted: Counted,
    /// Events that were not counted because there were too many names.
    pub names_refused: u64,
    /// Traits that were not taken because the profile was full.
    pub traits_refused: u64,
    /// Identities that were not taken because the profile was full.
    pub identities_refused: u64,
    /// Profiles that claims alone made, removed because there were too many.
    pub evicted: u64,
}

impl Changes {
    /// Adds what else changed.
    fn add(&mut self, other: Self) {
        self.identities.extend(other.identities);
        self.profiles.extend(other.profiles);
        self.evicted += other.evicted;
    }
}

/// The part of a profile that a page may know by the gateway's cookie.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The profile.
    pub profile: ProfileId,
    /// The user id and the traits; of a shared profile the proven traits only.
    pub view: ProfileView,
    /// True if the page may know the computed parts as well.
    pub is_whole: bool,
}

/// Visitors nobody has seen for long. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// Since when.
    pub since: i64,
    /// Where the last step ended: a time and a profile.
    pub after: (i64, ProfileId),
}

/// What one step of removing visitors did.
#[derive(Clone, Debug, Default)]
pub struct Expired {
    /// What is no more.
    pub changes: Changes,
    /// Where to go on; `None` at the end.
    pub next: Option<(i64, ProfileId)>,
}

/// What is computed of some people, and up to which event.
pub type ComputedAt = (u64, Vec<Option<Computed>>);

/// Why the profiles failed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The store could not be read.
    #[error("the profiles cannot be read")]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error("the profiles cannot be written")]
    Write(#[from] Arc<WriteError>),
    /// The store did not answer within `timeout`.
    #[error("the profiles take too long to read")]
    Timeout,
    /// A read that several waited for failed.
    #[error(transparent)]
    Shared(Arc<ProfileError>),
    /// A read was given up: the gateway is being stopped.
    #[error("the profiles are no longer read")]
    Ended,
    /// The site's other store of people failed.
    #[error("the site's source of traits does not answer: {0}")]
    Outside(#[from] SourceError),
    /// The shared database failed.
    #[error("the profiles cannot be had: {0}")]
    Postgres(#[from] PostgresError),
    /// The journal they are projected from failed.
    #[error("the profiles cannot follow the journal")]
    Journal(#[from] JournalError),
    /// The program has a mistake, and met it.
    #[error("an event ends the step that it is in")]
    Panicked,
}

/// Keeps profiles. One implementation per backend.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// The last event of the site that is in the profiles.
    async fn projected(&self, site: SiteId) -> Result<u64, ProfileError>;

    /// Applies updates in order and records that everything up to `upto` is in the profiles, as
    /// one transaction.
    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<Update>,
    ) -> Result<Changes, ProfileError>;

    /// The profiles that these identities name, in their order.
    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError>;

    /// Finds the part of a profile that the page of the browser with this cookie id may know.
    async fn standing(&self, site: SiteId, id: String) -> Result<Option<Standing>, ProfileError>;

    /// What is computed of these people's events, in their order, and the last event that is in it.
    async fn computed(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<ComputedAt, ProfileError>;

    /// Removes some of the visitors nobody knows and nobody has seen for long.
    async fn expire(&self, site: SiteId, unseen: Unseen) -> Result<Expired, ProfileError>;

    /// Returns the names of events, of these, under which something is counted.
    async fn counted_names(
        &self,
        site: SiteId,
        names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError>;

    /// Removes the names of events that nobody's profile has any more.
    async fn forget_names(&self, site: SiteId) -> Result<(), ProfileError>;

    /// What is known of whoever has this name: a user id or an e-mail address or, if it is neither's,
    /// a device's id.
    async fn subjects(&self, site: SiteId, name: String) -> Result<Vec<Subject>, ProfileError>;

    /// Erases the profiles that one of these names is an identity of, but for those of users who are
    /// not among the names.
    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<NameKey>>,
    ) -> Result<Changes, ProfileError>;

    /// Where counters begin and how far they are filled; `None` if the store keeps no such notes, so that
    /// they count from when they are made.
    fn counters(&self) -> Option<&dyn CounterStore> {
        None
    }
}

/// Returns when there is something new: never, once nobody is left to say it.
async fn until_changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
