//! What the journal does for one person: suppress, erase, show.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JournalError, PersonNameDigest, ReaderId, SiteId};

/// What was erased of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErasureCounts {
    /// Events of the journal, whatever had become of them.
    pub events: u64,
    /// Events that waited at a destination and had left the journal.
    pub parked: u64,
    /// Dead letters.
    pub dead: u64,
}

/// How far a look through everything held has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubjectCursor {
    /// Events up to and including this one are behind.
    Events(u64),
    /// So are all events, and what is parked up to and including this reader's event.
    Parked(u32, u64),
    /// So is all that is parked, and the dead letters up to and including this one.
    Dead(i64),
}

impl SubjectCursor {
    /// Where a look begins.
    pub const START: Self = Self::Events(0);
}

/// Something held of a person.
#[derive(Clone, Debug)]
pub struct SubjectRecord {
    /// Where it is.
    pub at: SubjectCursor,
    /// The event's place in its site's sequence.
    pub seq: u64,
    /// The reader it is held for; none for an event of the journal, which is there for all.
    pub reader: Option<ReaderId>,
    /// When it was received or, a dead letter, when it died.
    pub time: Timestamp,
    /// Why it is dead: code and detail.
    pub reason: Option<(String, String)>,
    /// The canonical event as JSON.
    pub body: Bytes,
}

/// One step of a look through everything held.
#[derive(Clone, Debug)]
pub struct SubjectRecordPage {
    /// What is the person's among it.
    pub held: Vec<SubjectRecord>,
    /// Where to go on; `None` at the end.
    pub next: Option<SubjectCursor>,
}

/// A person's rights over what the journal holds.
#[async_trait]
pub trait SubjectRights: Send + Sync {
    /// Suppresses these names, which are one person's: from now on they are in
    /// [`Forgotten`](super::Forgotten). Durable when it returns. Returns all names that the person is
    /// suppressed by, those of earlier requests included.
    async fn suppress(
        &self,
        site: SiteId,
        names: HashSet<PersonNameDigest>,
    ) -> Result<Arc<HashSet<PersonNameDigest>>, JournalError>;

    /// Lifts the suppression of the person who has this name; returns of how many names. What was
    /// erased does not come back.
    async fn lift(&self, site: SiteId, name: PersonNameDigest) -> Result<u64, JournalError>;

    /// Erases the events, parked events and dead letters that carry one of these names, in small steps.
    /// Every reader's account goes on holding: what it had not settled ends as skipped.
    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ErasureCounts, JournalError>;

    /// Notes that everything held of the person is erased.
    async fn note_erased(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<(), JournalError>;

    /// The people whose erasing has begun and was not noted as done.
    async fn unfinished(&self) -> Result<Vec<(SiteId, HashSet<PersonNameDigest>)>, JournalError>;

    /// What of the person is held behind `from`, one bounded step.
    async fn held(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
        from: SubjectCursor,
    ) -> Result<SubjectRecordPage, JournalError>;
}
