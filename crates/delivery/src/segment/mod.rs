//! Segments: rules that select people, and their members.
//!
//! # The meaning of a rule
//!
//! A rule is a tree of conditions joined by `all`, `any` and `not`; `rule.rs` has its parts,
//! `condition.rs` their syntax. Every condition is true or false of a person, never unknown: a missing
//! value, or null, fails every test but `exists = false`, `!=` included, and `not` gives exactly the
//! opposite.
//!
//! - Values are compared with values of their own type, and nothing is converted: text with text, byte
//!   by byte, case-sensitively; numbers with numbers, whole or not, exactly; true and false with
//!   themselves. A value of another type is not equal, not less and not more, and `!=` is true of it. A
//!   path that leads through a list finds no value.
//! - `contains` finds a part of a text, or an equal element of a list.
//! - `before` and `after` compare times: numbers are seconds since 1970 if below 10^11, else
//!   milliseconds; texts are a date, or a time of RFC 3339 in UTC (`2026-01-31T09:00:00Z`, with
//!   any fraction). Anything else is no time, including those with an offset. `after` includes the
//!   moment itself, `before` does not; both compare whole seconds. Times of being seen and of events are
//!   exact.
//! - Events are counted by day. `within` a number of days tests whole days in UTC: the day of the
//!   moment that long ago, and all since; so a window of 7 days has 7 to 8 of them. Within any other
//!   time, such as 12 hours, a rule can only test that an event happened at all; that is exact, by the
//!   time of the last event. The count of an event that never happened is 0, and so is the sum of its
//!   values; but it has no first and no last time. Values are added as binary floating point, so an
//!   amount that should be equal may not be.
//! - Filters on properties are tested when the event is counted, under a name of its own
//!   ([`EventCondition::key`]): it is counted from when the rule exists, and for earlier events from the
//!   journal's remaining ones. A rule is not evaluated until that is done.
//! - By group, a rule selects everyone in a group with a person who satisfies it. It counts that one
//!   person's events, not those of the group together.
//!
//! # Storage
//!
//! A run selects the members in one statement, of one moment, and stores them as one bit a profile; then
//! it goes through the memberships in order and writes only the differences, a bounded number in each
//! transaction. A run that is aborted starts again and finds the rest. The due time of a segment is derived
//! from its last run on disk.
//!
//! The rows sent to a destination are stored separately for each member (`sync`), so that a former member
//! is remembered until removed there, whatever the profile has become.

mod condition;
mod counters;
mod evaluate;
mod members;
mod parse;
mod postgres;
mod rule;
mod run;
mod schedule;
mod scheduler;
mod settings;
pub mod sql;
mod sqlite;
mod statements;
pub mod sync;
#[cfg(test)]
mod tests;

pub use counters::{RuleCounterProgress, SegmentCounterSet};
pub use evaluate::{DailyTally, RuleProfile};
pub use members::ProfileBitSet;
pub use parse::RuleParseError;
pub use postgres::{PostgresSegmentStore, SCHEMA};
pub use rule::{EventCondition, SegmentRule};
pub use scheduler::{SegmentOverview, SegmentPlan, SegmentPreview, SegmentScheduler};
pub use settings::{
    SEGMENT_SETTINGS, SEGMENTATION_SETTINGS, SegmentDraft, SegmentSettings, SegmentationSettings,
    SyncKind, SyncSettings,
};
pub use sqlite::{MIGRATIONS, SqliteSegmentStore};

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use tagway_core::metrics::SharedName;
use tagway_storage::journal::SiteId;
use tagway_storage::postgres::PostgresError;
use tagway_storage::profile::{ProfileError, ProfileId};
use tagway_storage::store::{StoreReadError, StoreWriteError};

/// The unit of a segment's members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MembershipUnit {
    /// The people who satisfy the rule.
    #[default]
    User,
    /// Everyone in a group with a person who satisfies the rule.
    Group,
}

impl MembershipUnit {
    /// Each unit with its name.
    pub const ALL: [(&str, Self); 2] = [("user", Self::User), ("group", Self::Group)];

    /// Returns the unit's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// The segments of one site, with its number and name.
#[derive(Clone, Debug)]
pub struct SiteSegments {
    /// The site's number.
    pub id: SiteId,
    /// The site's name.
    pub name: SharedName,
    /// The site's segments.
    pub segments: Vec<Arc<SegmentSettings>>,
}

/// A segment's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub i64);

/// The store's record of a segment. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// The segment's number in the store.
    pub id: SegmentId,
    /// The segment's name.
    pub name: String,
    /// The start of the run that has not ended, if there is one.
    pub begun_at: Option<i64>,
    /// The last run that ended.
    pub last_run: Option<SegmentRunSummary>,
}

/// The summary of a run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SegmentRunSummary {
    /// The start of the run, in milliseconds since 1970.
    pub at_ms: i64,
    /// The duration of the run, in milliseconds.
    pub took_ms: i64,
    /// The number of members.
    pub size: u64,
    /// The number of new members.
    pub added: u64,
    /// The number of members who left.
    pub removed: u64,
    /// The fingerprint of the evaluated rule.
    #[serde(skip)]
    pub fingerprint: String,
}

/// The runs whose sizes are stored: a month of daily ones.
const TREND_RUNS: i64 = 30;

/// The number of a segment's members after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SegmentSize {
    /// The start of the run.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The number of members.
    pub size: u64,
}

impl SegmentSize {
    /// Builds the size of a stored run, which began at this time in milliseconds since 1970.
    fn new(at_ms: i64, size: u64) -> Self {
        Self { at: Timestamp::from_millisecond(at_ms).unwrap_or_default(), size }
    }
}

/// The membership of a profile in a segment, and its start or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentMembership {
    /// The person's profile.
    pub profile: ProfileId,
    /// True for a member; false for a former one.
    pub is_member: bool,
    /// The time of the last change, in milliseconds since 1970.
    pub since_ms: i64,
}

/// A change of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// The membership begins.
    Join,
    /// The membership ends; the end is stored until the next run.
    Leave,
    /// The record of its end is deleted.
    Forget,
}

/// The selection of memberships in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipFilter {
    /// All that are stored, including those of former members.
    All,
    /// Current members only.
    Members,
    /// The changes of this run, in milliseconds since 1970.
    ChangedAt(i64),
}

/// One evaluation of a rule.
#[derive(Clone, Debug)]
pub struct RuleEvaluation {
    /// The conditions that select profiles.
    pub rule: Arc<SegmentRule>,
    /// The unit of the members.
    pub unit: MembershipUnit,
    /// The time at which it is evaluated, in milliseconds since 1970.
    pub now_ms: i64,
    /// The profiles that it is evaluated for, at least one; `None` for all of the site.
    pub only: Option<Vec<ProfileId>>,
}

/// The selection of profiles in a query. Rows are in the order of the profiles.
#[derive(Clone, Debug)]
pub enum ProfileSelection {
    /// Those after this one, up to a limit of rows.
    After(ProfileId, usize),
    /// These alone, at least one.
    These(Vec<ProfileId>),
}

/// A page of memberships, ordered by profile.
pub type MembershipPage = Vec<SegmentMembership>;

/// An error of segments.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The site has no such segment.
    #[error("the configuration has no such segment")]
    Unknown,
    /// The events that its rule needs are still being counted from the journal.
    #[error("the counters of the segment's rule are still being filled from the journal")]
    CountersPending,
    /// The destination received no members.
    #[error("no members of the segment were synced to the destination")]
    NothingSynced,
    /// The synced members of a destination cannot be forgotten while the sync is configured.
    #[error(
        "the segment is synced to the destination: remove the sync from the configuration first"
    )]
    StillSynced,
    /// Another gateway that shares the database runs them.
    #[error("another gateway runs the segments")]
    NotLeader,
    /// The run met a defect in the program.
    #[error("the rule stops the process: the run is skipped")]
    Panicked,
    /// It took longer than `segments.evaluation_timeout`.
    #[error("the rule took longer than segments.evaluation_timeout")]
    TooSlow,
    /// The store could not be read.
    #[error("the segments cannot be read")]
    Read(#[from] StoreReadError),
    /// The store could not be written.
    #[error("the segments cannot be written")]
    Write(#[from] Arc<StoreWriteError>),
    /// The profiles failed.
    #[error("the progress of the counters cannot be read")]
    Profiles(#[from] ProfileError),
    /// The shared database failed.
    #[error("the segments are unavailable: {0}")]
    Postgres(#[from] PostgresError),
}

impl SegmentError {
    /// Ignores the error that another gateway runs the segments.
    fn ignore_not_leader(self) -> Result<(), Self> {
        if matches!(self, Self::NotLeader) { Ok(()) } else { Err(self) }
    }
}

/// Stores the members of segments, next to the profiles. One implementation per backend.
#[async_trait]
pub trait SegmentStore: Send + Sync {
    /// Lists the site's segments.
    async fn list_segments(&self, site: SiteId) -> Result<Vec<SegmentRecord>, SegmentError>;

    /// Begins a run, or continues one that was begun; makes the segment if it is new. Returns its
    /// number, and the start of the run.
    async fn begin_run(
        &self,
        site: SiteId,
        name: &str,
        now_ms: i64,
    ) -> Result<(SegmentId, i64), SegmentError>;

    /// Evaluates a rule: returns the selected profiles.
    async fn evaluate(
        &self,
        site: SiteId,
        evaluation: RuleEvaluation,
    ) -> Result<ProfileBitSet, SegmentError>;

    /// Returns the memberships of these profiles.
    async fn page(
        &self,
        segment: SegmentId,
        which: MembershipFilter,
        of: ProfileSelection,
    ) -> Result<MembershipPage, SegmentError>;

    /// Changes memberships in one transaction.
    async fn change(
        &self,
        segment: SegmentId,
        changes: Vec<(ProfileId, MembershipChange)>,
        at_ms: i64,
    ) -> Result<(), SegmentError>;

    /// Returns the number of members now, including those who joined since the last run.
    async fn size(&self, segment: SegmentId) -> Result<u64, SegmentError>;

    /// Ends a run, and counts its changes.
    async fn end_run(
        &self,
        segment: SegmentId,
        at_ms: i64,
        took_ms: i64,
        fingerprint: String,
    ) -> Result<SegmentRunSummary, SegmentError>;

    /// Returns the sizes of the last runs, at most `TREND_RUNS`, in their order.
    async fn trend(&self, segment: SegmentId) -> Result<Vec<SegmentSize>, SegmentError>;

    /// Returns these people as operators see them: those who still exist, in their order.
    async fn people(
        &self,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Value)>, SegmentError>;

    /// Removes some of a segment's rows; returns true if these were all.
    async fn remove(&self, segment: SegmentId, limit: usize) -> Result<bool, SegmentError>;
}
