//! The store of profiles as its users see it: one implementation per backend.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Identity, ProfileChanges, ProfileError, ProfileId, ProfilePage, ProfileSearch, ProfileUpdate,
    SubjectProfile,
};
use crate::journal::{PersonNameDigest, SiteId};
use tagway_core::event::{ComputedAttributes, ProfileView};

/// The store of profiles. One implementation per backend. Its methods fail if the database cannot be read or written.
#[async_trait]
pub trait ProfileStore: Send + Sync {
    /// Returns the last event of the site that is in the profiles.
    async fn projected_seq(&self, site: SiteId) -> Result<u64, ProfileError>;

    /// Applies updates in order and records that everything up to `upto` is in the profiles, as
    /// one transaction.
    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<ProfileUpdate>,
    ) -> Result<ProfileChanges, ProfileError>;

    /// Finds the profiles that these identities name, in their order.
    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError>;

    /// Finds the part of a profile that the page of the browser with this cookie id may know.
    async fn find_page_profile(
        &self,
        site: SiteId,
        id: String,
    ) -> Result<Option<PageProfile>, ProfileError>;

    /// Reads the computed attributes of these profiles, in their order, and the last event that is in them.
    async fn computed(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<ComputedSnapshot, ProfileError>;

    /// Removes some of the unknown visitors not seen for long.
    async fn expire(
        &self,
        site: SiteId,
        unseen: ExpiryRequest,
    ) -> Result<ExpiryOutcome, ProfileError>;

    /// Returns those of these names of events under which something is counted.
    async fn counted_names(
        &self,
        site: SiteId,
        names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError>;

    /// Removes the names of events that no profile has any more.
    async fn forget_names(&self, site: SiteId) -> Result<(), ProfileError>;

    /// Finds the profiles of a name: a user id or an e-mail address or, if it is neither, a device's
    /// id.
    async fn subjects(
        &self,
        site: SiteId,
        name: String,
    ) -> Result<Vec<SubjectProfile>, ProfileError>;

    /// Searches profiles by a name or its beginning, a page at a time.
    async fn search(
        &self,
        site: SiteId,
        search: ProfileSearch,
    ) -> Result<ProfilePage, ProfileError>;

    /// Erases the profiles that one of these names is an identity of, except those of users who are not
    /// among the names.
    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ProfileChanges, ProfileError>;

    /// Returns the store of counters' progress; `None` if the backend has none, so that counters count
    /// from when they are made.
    fn counters(&self) -> Option<&dyn CounterStore> {
        None
    }
}

/// Stores where counters begin and how far they are filled, next to the counts.
#[async_trait]
pub trait CounterStore: Send + Sync {
    /// Starts counting under these names, and no others, from the event after `at`. New counters are
    /// recorded; dropped ones are forgotten, with all their counts. Everything up to `at` is in the
    /// profiles.
    async fn set_counters(
        &self,
        site: SiteId,
        at: u64,
        names: Vec<String>,
    ) -> Result<(), ProfileError>;

    /// Returns the progress of a site's counters.
    async fn counters(&self, site: SiteId) -> Result<Vec<CounterProgress>, ProfileError>;

    /// Counts the step's events and records the progress, in one transaction. A counter that changed
    /// since it was read is skipped. Returns the profiles whose counts changed.
    async fn fill(
        &self,
        site: SiteId,
        step: BackfillStep,
    ) -> Result<BTreeSet<ProfileId>, ProfileError>;

    /// Removes some counts of forgotten counters. Returns true if that was all.
    async fn remove_dropped_counts(&self, site: SiteId) -> Result<bool, ProfileError>;
}

/// The part of a profile that a page may know by the gateway's cookie.
#[derive(Clone, Debug, PartialEq)]
pub struct PageProfile {
    /// The number of the profile.
    pub profile: ProfileId,
    /// The user id and the traits; of a shared profile the proven traits only.
    pub view: ProfileView,
    /// True if the page may know the computed parts as well.
    pub is_whole: bool,
}

/// One step of the removal of visitors not seen for long. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryRequest {
    /// Visitors not seen since this time are removed.
    pub since: i64,
    /// The position at which the last step ended.
    pub after: ExpiryPosition,
}

/// The profile at which a step of removing visitors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiryPosition {
    /// The time at which it was last seen.
    pub last_seen: i64,
    /// Its number.
    pub profile: ProfileId,
}

impl ExpiryPosition {
    /// The position before all profiles.
    pub const START: Self = Self { last_seen: i64::MIN, profile: ProfileId(0) };
}

/// The outcome of one step of removing visitors.
#[derive(Clone, Debug, Default)]
pub struct ExpiryOutcome {
    /// The removed identities and profiles.
    pub changes: ProfileChanges,
    /// The position of the next step; `None` at the end.
    pub next: Option<ExpiryPosition>,
}

/// The computed attributes of some people.
#[derive(Clone, Debug)]
pub struct ComputedSnapshot {
    /// The last event that is in them.
    pub upto: u64,
    /// The attributes, in the order of the request; `None` for those without a profile.
    pub computed: Vec<Option<ComputedAttributes>>,
}

/// The progress of one counter's backfill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterProgress {
    /// The name under which the counter counts.
    pub name: String,
    /// The site's last event before the counter began: the projection counts later ones.
    pub since: u64,
    /// The last of the earlier events that is counted.
    pub filled: u64,
    /// The oldest event that the journal still had.
    pub oldest: Option<OldestRecord>,
}

impl CounterProgress {
    /// Returns true if everything that the journal had is counted.
    pub fn is_filled(&self) -> bool {
        self.filled >= self.since
    }

    /// Returns the counted share of these events, from 0 to 1.
    pub fn share(&self) -> f64 {
        let first = self.oldest.map_or(0, |oldest| oldest.seq.saturating_sub(1));
        let (done, all) = (self.filled.saturating_sub(first), self.since.saturating_sub(first));
        if self.is_filled() { 1.0 } else { done as f64 / all.max(1) as f64 }
    }
}

/// The oldest record that a backfill reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldestRecord {
    /// The number of the event.
    pub seq: u64,
    /// The time at which it was received, in milliseconds since 1970.
    pub received_at: i64,
}

/// An event from before the counters that count it began.
#[derive(Clone, Debug, PartialEq)]
pub struct CountedEvent {
    /// The identities of its visitor, the surest first.
    pub identities: Vec<Identity>,
    /// The time of the event, in milliseconds since 1970.
    pub at_ms: i64,
    /// The event's value.
    pub value: f64,
    /// The indexes of the step's counters that count it.
    pub counters: Vec<usize>,
}

/// The input of one step of the backfill.
#[derive(Clone, Debug, Default)]
pub struct BackfillStep {
    /// The counters, as they were when the events were read.
    pub counters: Vec<CounterProgress>,
    /// The last event that was read.
    pub upto: u64,
    /// The first of the events read.
    pub oldest: Option<OldestRecord>,
    /// The events to count.
    pub counted_events: Vec<CountedEvent>,
}
