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
mod search;
mod service;
mod settings;
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
pub use search::{FoundProfile, ProfilePage, ProfileSearch, SearchPosition};
pub use service::{ProfileService, VisitorProfile};
pub use settings::{
    LookupTimeoutPolicy, PROFILE_SETTINGS, ProfileBackend, ProfileLimits, ProfileSettings,
    SITE_PROFILE_SETTINGS, SiteProfileSettings,
};
pub use sqlite::{MIGRATIONS, NODE_MIGRATIONS, SqliteProfileStore, node};
pub use subject::{DailyActivity, SubjectProfile};
pub use tagway_core::event::identity::{DeviceIdentity, Identity, IdentityKind, identities};
pub use trait_source::{TraitSourceError, TraitSourceSettings};
pub use user_agent::UserAgentParser;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::journal::JournalError;
use crate::postgres::PostgresError;
use crate::store::{StoreReadError, StoreWriteError};
use tagway_core::event::{EventTally, JsonObject, SenderRank, identity};

/// The lag, in milliseconds, of stored times that only advance: when a profile, a device or a trait was
/// last seen. Otherwise every event of a known person would be a write, even without news.
const LAST_SEEN_LAG_MS: i64 = 3_600_000;

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
