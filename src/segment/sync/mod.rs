//! Segments at destinations: who is a member here is a member there.
//!
//! What a destination was told is kept, a row a person, so a run sends what differs and nothing else,
//! and one that breaks off goes on where it stood. A row is written down before the call that puts its
//! person on a list, and struck out after the call that takes them off: whatever is cut off between
//! leaves a person whom the next run looks at again, and vendors' lists may be told anything twice.
//!
//! Whoever left the segment, withdrew their consent or was forgotten is taken off at the next run, by the
//! row they were put on with. Where what a vendor knows them by has changed they are taken off by the
//! old row and put on by the new; that is looked for in all rows once in `segments.recheck`.
//!
//! Whom a destination refuses to take off is kept, counted, and tried again at each recheck; until it
//! has let go of the old row, nothing else is said of that person.
//!
//! A sync whose destination is no more, while it was told of somebody, is abandoned: nothing can be said
//! there, so what it was told stays until the destination comes back, or somebody forgets it.
//!
//! A destination without lists, and one that is to hear of events, is told by events of the journal that
//! are for it alone: `Segment Entered` and `Segment Exited`. They are delivered like any other.

mod person;
mod postgres;
mod sqlite;
mod sync_manager;
mod sync_run;
mod task;
#[cfg(test)]
mod tests;

pub use sync_manager::{SyncDependencies, SyncManager, SyncOverview, SyncState};

use async_trait::async_trait;

use self::person::MemberProfile;
use super::{SegmentError, SegmentId, SyncKind};
use crate::journal::SiteId;
use crate::profile::ProfileId;
use crate::vendors::audience::AudienceRow;

/// A sync's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyncId(pub i64);

/// What the store knows of a sync. Times are milliseconds since 1970; zero is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRecord {
    /// Its number.
    pub id: SyncId,
    /// The vendor's own name of the list, once it is there.
    pub list: Option<String>,
    /// The run of the segment that the destination has heard of wholly.
    pub synced: i64,
    /// When all rows were last compared with what is known of their people.
    pub checked: i64,
}

/// How far a destination has heard what it was told of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncStatus {
    /// Perhaps: the call was about to be made.
    Pending,
    /// For sure.
    Confirmed,
    /// It has, and would not take them off when it was asked to.
    RemovalFailed,
}

impl SyncStatus {
    /// As it is kept.
    fn of_number(number: i64) -> Self {
        match number {
            1 => Self::Confirmed,
            2 => Self::RemovalFailed,
            _ => Self::Pending,
        }
    }
}

/// Of how many people a destination was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncMemberCounts {
    /// Surely, and they are to be known there.
    pub heard: u64,
    /// People whom it would not take off.
    pub stuck: u64,
}

/// What a destination was told of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedMember {
    /// Who, as long as they are known.
    pub profile: ProfileId,
    /// What was said.
    pub row: AudienceRow,
    /// When it was first said, in milliseconds since 1970.
    pub at: i64,
    /// Whether the destination has heard it.
    pub status: SyncStatus,
    /// Whether they are a member of the segment.
    pub is_member: bool,
    /// What they chose, as JSON; `None` of who is not known any more.
    pub consent: Option<String>,
    /// The country they seem to be in.
    pub country: Option<String>,
}

/// What becomes of what a destination was told.
#[derive(Clone, Debug)]
pub enum SyncedMemberChange {
    /// It is about to be told.
    Pending(AudienceRow, i64),
    /// It has heard.
    Confirmed,
    /// It has been told that they are gone, or never was told of them.
    Removed,
    /// It will not take them off, so they may be known there still.
    RemovalFailed,
}

/// Keeps what destinations were told, next to the memberships.
#[async_trait]
pub trait SyncStore: Send + Sync {
    /// The sync of a segment with a destination.
    async fn sync(
        &self,
        segment: SegmentId,
        destination: &str,
        kind: SyncKind,
    ) -> Result<SyncRecord, SegmentError>;

    /// The destinations that were told of somebody, and how.
    async fn synced_destinations(
        &self,
        segment: SegmentId,
    ) -> Result<Vec<(String, SyncKind)>, SegmentError>;

    /// Notes the vendor's name of the list; `None` forgets it, and all that it was told.
    async fn note_list(&self, sync: SyncId, list: Option<String>) -> Result<(), SegmentError>;

    /// What was told of profiles after `after`, in order, `limit` at most.
    async fn synced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<SyncedMember>, SegmentError>;

    /// Members after `after` of whom nothing was told, or not surely, and since when; in order.
    async fn unsynced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError>;

    /// What was told of these profiles, at least one, in order.
    async fn synced_members_of(
        &self,
        sync: SyncId,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<SyncedMember>, SegmentError>;

    /// Which of these, at least one, are members of whom nothing was told, or not surely; in order.
    async fn unsynced_members_of(
        &self,
        sync: SyncId,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError>;

    /// What is known of these people, in order; who is not known any more is left out.
    async fn member_profiles(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<MemberProfile>, SegmentError>;

    /// Notes what became of some, durably.
    async fn record_member_changes(
        &self,
        sync: SyncId,
        notes: Vec<(ProfileId, SyncedMemberChange)>,
    ) -> Result<(), SegmentError>;

    /// Notes that the destination has heard of this run of the segment, and whether all rows were
    /// compared.
    async fn finish(
        &self,
        sync: SyncId,
        ran_at: i64,
        checked: Option<i64>,
    ) -> Result<(), SegmentError>;

    /// How many people the destination was told of.
    async fn sizes(&self, sync: SyncId) -> Result<SyncMemberCounts, SegmentError>;
}
