//! Segments: rules that select people, and who they select.
//!
//! # What a rule means
//!
//! A rule is a tree of conditions joined by `all`, `any` and `not`; `rule.rs` has its parts,
//! `condition.rs` how each is written. Every condition is true or false of a person, never unknown:
//! what is missing, or null, fails every test but `exists = false`, `!=` included, and `not` turns
//! exactly that round.
//!
//! - Values are compared with values of their own type, and nothing is converted: text with text, byte
//!   by byte, in capital and small letters as they are; numbers with numbers, whole or not, exactly;
//!   true and false with themselves. What is of another type is not equal, not less and not more, and
//!   `!=` holds of it. A path that leads through a list leads nowhere.
//! - `contains` finds a part in a text, and an equal element in a list.
//! - `before` and `after` compare times: numbers are seconds since 1970 if below 10^11, else
//!   milliseconds; texts are a date, or a time of RFC 3339 in UTC (`2026-01-31T09:00:00Z`, with
//!   whatever fraction). Anything else is no time, those with an offset included. `after` has the
//!   moment itself, `before` has not; both look at whole seconds. Times of being seen and of events are
//!   exact.
//! - Events are counted by day. `within` a number of days looks at whole days in UTC: at the day of
//!   the moment that long ago, and at all since; so a window of 7 days has 7 to 8 of them. Within any
//!   other time, such as 12 hours, can only be asked whether it happened at all; that is answered
//!   exactly, by when it happened last. How often something happened that never did is 0, and so is
//!   what its values add up to; but it has no first and no last time. Values are added as binary
//!   floating point, so an amount that should be equal may not be.
//! - Filters on properties are tested when the event is counted, under a name of its own
//!   ([`EventRule::key`]): it is counted from when the rule exists, and for what happened before from
//!   what the journal still has. A rule is not asked until that is done.
//! - By group, a rule selects everybody who is of a group of which somebody satisfies it. What it counts
//!   is what that one person did, not what the group did together.
//!
//! # How it is kept
//!
//! A run asks for the members in one statement, of one moment, and notes them as one bit a profile; then
//! it goes through the memberships in order and writes only what differs, a bounded number in each
//! transaction. Killed half way it starts again and finds the rest. When a segment is due follows
//! from its last run on disk.
//!
//! What a destination was told of each member is kept apart (`sync`), so that who left is known until
//! it has heard of it, whatever the profile has become.

mod condition;
mod counters;
mod evaluate;
mod members;
mod parse;
mod postgres;
mod roster;
mod rule;
mod run;
mod schedule;
mod settings;
pub mod sql;
mod sqlite;
mod statements;
pub mod sync;
#[cfg(test)]
mod tests;

pub use counters::{Counting, FilterCounters};
pub use evaluate::{Person, Tally};
pub use members::Members;
pub use parse::RuleMistake;
pub use postgres::{PostgresSegments, SCHEMA};
pub use roster::{Listed, Preview, Segments, SiteSegments};
pub use rule::{EventRule, Rule};
pub use settings::{Draft, SegmentSettings, Settings, SyncKind, SyncSettings};
pub use sqlite::{MIGRATIONS, SqliteSegments};

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::journal::SiteId;
use crate::postgres::PostgresError;
use crate::profile::{ProfileError, ProfileId};
use crate::store::{ReadError, WriteError};

/// Who a segment's members are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Whoever satisfies the rule.
    #[default]
    User,
    /// Everybody of a group of which somebody does.
    Group,
}

impl By {
    /// Each by its name.
    pub const ALL: [(&str, Self); 2] = [("user", Self::User), ("group", Self::Group)];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }
}

/// A segment's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub i64);

/// What the store knows of a segment. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub id: SegmentId,
    /// Its name.
    pub name: String,
    /// The run that was begun and has not ended.
    pub begun_at: Option<i64>,
    /// The last run that ended.
    pub ran: Option<Ran>,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// When it began, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took.
    pub took_ms: i64,
    /// How many members there are.
    pub size: u64,
    /// How many of them are new.
    pub added: u64,
    /// How many left.
    pub removed: u64,
    /// Of the rule that was asked.
    #[serde(skip)]
    pub fingerprint: String,
}

/// Whether a profile is of a segment, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Whose.
    pub profile: ProfileId,
    /// Whether it is a member; else it has left.
    pub is_member: bool,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// What becomes of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It begins.
    Join,
    /// It ends; that is remembered until the next run.
    Leave,
    /// That it ended is forgotten.
    Forget,
}

/// Which memberships are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that are kept, of those who left as well.
    All,
    /// Of members.
    Members,
    /// What changed at this run, in milliseconds since 1970.
    ChangedAt(i64),
}

/// Some memberships, by profile.
pub type Page = Vec<Membership>;

/// Why segments failed.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The site has no such segment.
    #[error("there is no such segment")]
    Unknown,
    /// What it asks for is still being counted from the journal.
    #[error("its counters are still being filled from the journal")]
    Filling,
    /// The destination was told of nobody.
    #[error("the destination was told of nobody of the segment")]
    Untold,
    /// What a destination is told cannot be forgotten while it is told.
    #[error("the destination hears of the segment: take the sync out of the configuration first")]
    StillTold,
    /// Another gateway that shares the database runs them.
    #[error("another gateway runs the segments")]
    Elsewhere,
    /// The program has a mistake, and met it.
    #[error("the rule ends the run that it is in")]
    Panicked,
    /// It took longer than `segments.evaluation_timeout`.
    #[error("the rule took longer than segments.evaluation_timeout")]
    TooSlow,
    /// The store could not be read.
    #[error("the segments cannot be read")]
    Read(#[from] ReadError),
    /// The store could not be written.
    #[error("the segments cannot be written")]
    Write(#[from] Arc<WriteError>),
    /// The profiles failed.
    #[error("it cannot be told how far the counters are")]
    Profiles(#[from] ProfileError),
    /// The shared database failed.
    #[error("the segments cannot be had: {0}")]
    Postgres(#[from] PostgresError),
}

impl SegmentError {
    /// Nothing to tell anybody of, if it is another gateway's business.
    fn unless_elsewhere(self) -> Result<(), Self> {
        if matches!(self, Self::Elsewhere) { Ok(()) } else { Err(self) }
    }
}

/// Keeps who is of which segment, next to the profiles. One implementation per backend.
#[async_trait]
pub trait SegmentStore: Send + Sync {
    /// What is known of the site's segments.
    async fn known(&self, site: SiteId) -> Result<Vec<Known>, SegmentError>;

    /// Begins a run, or goes on with one that was begun; makes the segment if it is new. Returns its
    /// number, and when the run began.
    async fn begin(
        &self,
        site: SiteId,
        name: &str,
        now_ms: i64,
    ) -> Result<(SegmentId, i64), SegmentError>;

    /// Whom the rule selects at this time.
    async fn evaluate(
        &self,
        site: SiteId,
        rule: Arc<Rule>,
        by: By,
        now_ms: i64,
    ) -> Result<Members, SegmentError> {
        self.evaluate_of(site, rule, by, now_ms, None).await
    }

    /// The same, of these profiles alone, at least one, where some are given.
    async fn evaluate_of(
        &self,
        site: SiteId,
        rule: Arc<Rule>,
        by: By,
        now_ms: i64,
        of: Option<Vec<ProfileId>>,
    ) -> Result<Members, SegmentError>;

    /// The memberships of profiles after `after`, in order, `limit` at most.
    async fn page(
        &self,
        segment: SegmentId,
        which: Which,
        after: ProfileId,
        limit: usize,
    ) -> Result<Page, SegmentError>;

    /// The memberships of these profiles, at least one, in order.
    async fn page_of(
        &self,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Page, SegmentError>;

    /// Changes memberships in one transaction.
    async fn change(
        &self,
        segment: SegmentId,
        changes: Vec<(ProfileId, Change)>,
        at_ms: i64,
    ) -> Result<(), SegmentError>;

    /// The number of members now, those who joined since the last run included.
    async fn size(&self, segment: SegmentId) -> Result<u64, SegmentError>;

    /// Ends a run, and counts.
    async fn end(
        &self,
        segment: SegmentId,
        at_ms: i64,
        took_ms: i64,
        fingerprint: String,
    ) -> Result<Ran, SegmentError>;

    /// What an operator is shown of these people: those who are still there, in their order.
    async fn people(
        &self,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Value)>, SegmentError>;

    /// Removes some of a segment; whether that was all.
    async fn remove(&self, segment: SegmentId, limit: usize) -> Result<bool, SegmentError>;
}
