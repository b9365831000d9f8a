//! Segments at destinations: members here are members there.
//!
//! The rows sent to a destination are stored, one a person, so a run sends only the differences, and one
//! that breaks off continues where it stood. A row is stored before the call that adds its person to a
//! list, and deleted after the call that removes them: an abort in between leaves a person whom the next
//! run checks again, and vendors' lists accept repetitions.
//!
//! A person who left the segment, withdrew their consent or was erased is removed at the next run, by the
//! row they were added with. If the vendor's identifiers of a person have changed they are removed by the
//! old row and added by the new; all rows are checked for that once in `segments.recheck`.
//!
//! A person whom a destination fails to remove stays stored, is counted, and is tried again at each recheck;
//! until the old row is removed, nothing else is sent for that person.
//!
//! A sync whose destination is deleted while it has members is abandoned: nothing can be sent there, so its
//! rows stay until the destination comes back, or an operator forgets them.
//!
//! A destination without lists, and one that is to receive events, gets events of the journal that are for
//! it alone: `Segment Entered` and `Segment Exited`. They are delivered like any other.

mod overview;
mod person;
mod postgres;
mod sqlite;
mod state;
mod sync_manager;
mod sync_run;
mod task;
#[cfg(test)]
mod tests;

pub use overview::SyncOverview;
pub use state::{SyncState, SyncStatus, SyncedMemberChange};
pub use sync_manager::SyncManager;
pub use task::SyncDependencies;

use async_trait::async_trait;

use self::person::MemberProfile;
use super::{ProfileSelection, SegmentError, SegmentId, SyncKind};
use tagway_storage::journal::SiteId;
use tagway_storage::profile::ProfileId;
use tagway_vendors::audience::AudienceRow;

/// A sync's number in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SyncId(pub i64);

/// The store's record of a sync. Times are milliseconds since 1970; zero is never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRecord {
    /// The sync's number in the store.
    pub id: SyncId,
    /// The vendor's own name of the list, once it exists.
    pub list: Option<String>,
    /// The last run of the segment that the destination has received completely.
    pub synced: i64,
    /// The time when all rows were last checked against the profiles.
    pub checked: i64,
}

/// The numbers of people at a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncMemberCounts {
    /// The people whom it surely has and is to keep.
    pub confirmed: u64,
    /// The people whom it failed to remove.
    pub removal_failed: u64,
}

/// A person whose row was sent to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedMember {
    /// The person's profile, while it exists.
    pub profile: ProfileId,
    /// The row that was sent.
    pub row: AudienceRow,
    /// The time when it was first sent, in milliseconds since 1970.
    pub sent_at_ms: i64,
    /// The state of the row at the destination.
    pub status: SyncStatus,
    /// True if they are a member of the segment.
    pub is_member: bool,
    /// The person's consent, as JSON; `None` if the profile no longer exists.
    pub consent: Option<String>,
    /// The country of the person's approximate location.
    pub country: Option<String>,
}

/// Stores the rows sent to destinations, next to the memberships.
#[async_trait]
pub trait SyncStore: Send + Sync {
    /// Returns the sync of a segment with a destination; makes it if it is new.
    async fn sync(
        &self,
        segment: SegmentId,
        destination: &str,
        kind: SyncKind,
    ) -> Result<SyncRecord, SegmentError>;

    /// Returns the destinations with synced members, each with its kind.
    async fn synced_destinations(
        &self,
        segment: SegmentId,
    ) -> Result<Vec<(String, SyncKind)>, SegmentError>;

    /// Stores the vendor's name of the list; `None` deletes it, and all rows sent to it.
    async fn store_list(&self, sync: SyncId, list: Option<String>) -> Result<(), SegmentError>;

    /// Returns the synced rows of these profiles.
    async fn synced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        of: ProfileSelection,
    ) -> Result<Vec<SyncedMember>, SegmentError>;

    /// Returns those of these profiles that are members without a confirmed row, and the time of their first
    /// row.
    async fn unsynced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        of: ProfileSelection,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError>;

    /// Returns the current data of these people, in order, without those whose profile no longer exists.
    async fn member_profiles(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<MemberProfile>, SegmentError>;

    /// Stores changes of some rows, durably.
    async fn record_member_changes(
        &self,
        sync: SyncId,
        changes: Vec<(ProfileId, SyncedMemberChange)>,
    ) -> Result<(), SegmentError>;

    /// Stores that the destination has received this run of the segment, and the time if all rows were
    /// checked.
    async fn record_synced_run(
        &self,
        sync: SyncId,
        ran_at: i64,
        checked: Option<i64>,
    ) -> Result<(), SegmentError>;

    /// Counts the people at the destination.
    async fn sizes(&self, sync: SyncId) -> Result<SyncMemberCounts, SegmentError>;
}
