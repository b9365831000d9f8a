//! A person's rights over the journal: suppress, erase, show.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JournalError, PersonNameDigest, ReaderId, SiteId};

/// The numbers of a person's erased records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErasureCounts {
    /// Events of the journal, in whatever state.
    pub events: u64,
    /// Events that were parked at a destination and had left the journal.
    pub parked: u64,
    /// Dead letters, of all readers.
    pub dead: u64,
}

/// The position of a search through all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectCursor {
    /// Events up to and including this one are done.
    Events(u64),
    /// All events are done, and the parked events up to and including this reader's event.
    Parked(u32, u64),
    /// All parked events are done too, and the dead letters up to and including this one.
    Dead(i64),
}

impl SubjectCursor {
    /// The start of a search.
    pub const START: Self = Self::Events(0);
}

/// A record of a person in the journal.
#[derive(Clone, Debug)]
pub struct SubjectRecord {
    /// The position of the record.
    pub at: SubjectCursor,
    /// The event's number in its site's sequence.
    pub seq: u64,
    /// The reader whose parked event or letter it is; `None` for an event of the journal.
    pub reader: Option<ReaderId>,
    /// The time at which it was received or, for a dead letter, at which it died.
    pub time: Timestamp,
    /// The reason, if it is a dead letter.
    pub reason: Option<DeadLetterReason>,
    /// The canonical event as JSON.
    pub body: Bytes,
}

/// The reason of a dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetterReason {
    /// The reason's code.
    pub code: String,
    /// The reason's detail for operators; may be empty.
    pub detail: String,
}

/// A person whose erasure has begun and is not recorded as done.
#[derive(Clone, Debug, PartialEq)]
pub struct UnfinishedErasure {
    /// The site that the person visited.
    pub site: SiteId,
    /// The person's suppressed names.
    pub names: HashSet<PersonNameDigest>,
}

/// One step of a search through all tables.
#[derive(Clone, Debug)]
pub struct SubjectRecordPage {
    /// The person's records among those read.
    pub records: Vec<SubjectRecord>,
    /// The position of the next step; `None` at the end.
    pub next: Option<SubjectCursor>,
}

/// A person's rights over the journal's records. All methods fail if the database cannot be read or written.
#[async_trait]
pub trait SubjectRights: Send + Sync {
    /// Suppresses these names, which are one person's: from now on they are on the
    /// [`SuppressionList`](super::SuppressionList). Durable when it returns. Returns all suppressed
    /// names of the person, those of earlier requests included.
    async fn suppress(
        &self,
        site: SiteId,
        names: HashSet<PersonNameDigest>,
    ) -> Result<Arc<HashSet<PersonNameDigest>>, JournalError>;

    /// Lifts the suppression of the person who has this name; returns the number of names. Erased
    /// records do not come back.
    async fn lift_suppression(
        &self,
        site: SiteId,
        name: PersonNameDigest,
    ) -> Result<u64, JournalError>;

    /// Erases the events, parked events and dead letters that carry one of these names, in small steps.
    /// Every reader's account still holds: unsettled events end as skipped.
    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ErasureCounts, JournalError>;

    /// Records that all data of the person is erased.
    async fn note_erased(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<(), JournalError>;

    /// Returns the people whose erasure has begun and is not recorded as done.
    async fn unfinished(&self) -> Result<Vec<UnfinishedErasure>, JournalError>;

    /// Returns the person's records behind `from`, one bounded step.
    async fn read_subject_records(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
        from: SubjectCursor,
    ) -> Result<SubjectRecordPage, JournalError>;
}
