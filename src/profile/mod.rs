//! Profiles: what the gateway knows about a visitor, projected from the journal.
//!
//! The projection is a reader of the journal like any other. It looks only at events that say who
//! the visitor is, writes what they say together with its own cursor in one transaction, and then
//! publishes how far it has come. Destinations read the journal behind it, so an identify is
//! visible to the next event of its visitor, always.
//!
//! Identities and how they join (the rules of this first projection):
//!
//! - A user id names one profile of its site.
//! - An anonymous id or cookie that is seen with a user id belongs to that user's profile from then
//!   on. A profile that had no user id yet becomes the user's; one that had another user's id keeps
//!   its past: people who share a device are not merged.
//! - A profile without user id whose device turns out to be another profile's goes into that one: its
//!   traits lie beneath the other's own, so that of two values the other's stays.
//! - An alias gives the profile of the older id the user id, under the same rule.
//! - Traits merge key by key, the newest value wins, `null` removes.
//!
//! Anybody can send events in anybody's name, and all sites share one writer. So a profile holds
//! only so much ([`Limits`]): a trait or a device beyond is not taken, and counted; the event itself
//! goes its way to the destinations. And an event costs what it changes, however many names its
//! visitor has: the cache keeps names and profiles apart.

mod cache;
mod projection;
mod sqlite;
mod sqlite_subject;
mod subject;

pub use cache::Profiles;
pub use projection::{Projection, update_of};
pub use sqlite::{MIGRATIONS, SqliteProfiles};
pub use subject::Subject;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::event::{Event, Object, ProfileView};
use crate::journal::{JournalError, NameKey, SiteId};
use crate::settings::Section;
use crate::store::{ReadError, WriteError};

/// `[profiles]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Memory for profiles that were used lately.
    pub cache_bytes: u64,
    /// How long an unused profile stays in memory.
    pub cache_idle: Duration,
    /// How much one profile holds.
    pub limits: Limits,
}

/// How much one profile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of its traits as JSON.
    pub traits_bytes: usize,
    /// Devices it is known by.
    pub identities: usize,
}

impl Settings {
    /// Reads `[profiles]`.
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            cache_bytes: section.size("cache_bytes"),
            cache_idle: section.duration("cache_idle"),
            limits: Limits {
                traits_bytes: section.byte_count("traits_bytes"),
                identities: section.integer("identities", 1..=100_000),
            },
        }
    }
}

/// What an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKind {
    /// The id the site knows the person by.
    User,
    /// A client's device id.
    Anonymous,
    /// The id in the gateway's own cookie.
    Visitor,
}

impl IdentityKind {
    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Anonymous => "anonymous",
            Self::Visitor => "visitor",
        }
    }
}

/// One name of a person, unique within a site.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// What it is.
    pub kind: IdentityKind,
    /// The id itself.
    pub value: String,
}

impl Identity {
    fn of(kind: IdentityKind, value: Option<&str>) -> Option<Self> {
        value.map(|value| Self { kind, value: value.to_owned() })
    }
}

/// The identities of an event's visitor, the surest first.
pub fn identities<O>(event: &Event<O>) -> Vec<Identity> {
    let visitor = event.facts.visitor.as_ref().map(|visitor| visitor.id.as_str());
    [
        Identity::of(IdentityKind::User, event.user_id.as_deref()),
        Identity::of(IdentityKind::Anonymous, event.anonymous_id.as_deref()),
        Identity::of(IdentityKind::Visitor, visitor),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What one event says about who its visitor is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The user id, if any.
    pub user: Option<String>,
    /// The other identities seen with it.
    pub devices: Vec<Identity>,
    /// What is said of the person.
    pub traits: Object,
}

/// A profile's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProfileId(pub i64);

/// What updates changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Identities that name another profile than before.
    pub identities: BTreeSet<Identity>,
    /// Profiles of which something else is known than before.
    pub profiles: BTreeSet<ProfileId>,
    /// Traits that were not taken because the profile was full.
    pub traits_refused: u64,
    /// Identities that were not taken because the profile was full.
    pub identities_refused: u64,
}

/// Why the profiles failed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The store could not be read.
    #[error("the profiles cannot be read")]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error("the profiles cannot be written")]
    Write(#[from] Arc<WriteError>),
    /// The journal they are projected from failed.
    #[error("the profiles cannot follow the journal")]
    Journal(#[from] JournalError),
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

    /// What is known of whoever has this name: an identity of any kind or, if it looks like one, an
    /// e-mail address among the traits.
    async fn subjects(&self, site: SiteId, name: String) -> Result<Vec<Subject>, ProfileError>;

    /// Erases the profiles that one of these names is an identity of.
    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<NameKey>>,
    ) -> Result<Changes, ProfileError>;
}
