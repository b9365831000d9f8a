//! The durable event log: append, read, settle.
//!
//! Events of one site form a sequence numbered from 1 without gaps in order of acceptance. Readers
//! (the profile projection and every destination) follow it, each with its own durable cursor.
//! An event leaves the journal only when every reader has settled it and it is older than
//! `journal.retain`, or when `journal.max_bytes` evicts it, the lowest rank of senders first; a
//! delivery that had not ended is counted then. An unsettled event of a server is never evicted:
//! appends are refused instead.
//!
//! For every reader, at every commit:
//! `accepted = delivered + skipped + dead + pending + held` ([`ReaderLedger`]).

mod dead_letters;
mod dedupe;
mod failure_text;
mod guard;
mod outcome;
mod pause;
mod search;
mod settings;
mod sqlite;
mod subject;
mod suppression;

pub use dead_letters::{DeadLetterFilter, DeadLetterGroup, DeadLetterGroups, DeadLetterSelection};
pub use dedupe::{MessageKey, MessageScope};
pub use guard::{GuardedWork, MAX_CAREFUL_GROUP, PoisonGuard, ReaderGuard};
pub use outcome::{
    EndedEvent, Ending, EventAtReader, EventHistory, LastVendorCall, OutcomeCause,
    ReaderEventState, StoredOutcome,
};
pub use pause::ReaderPause;
pub use search::JournalSearch;
pub use settings::{AppendDurability, JOURNAL_SETTINGS, JournalSettings};
pub use sqlite::{MIGRATIONS, SqliteJournal};
pub use subject::{
    DeadLetterReason, ErasureCounts, SubjectCursor, SubjectRecord, SubjectRecordPage,
    SubjectRights, UnfinishedErasure,
};
pub use suppression::{PersonNameDigest, PersonNameKind, SuppressionList};

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use tagway_core::event::SenderRank;

/// The name of the projection's reader, which no destination can have. It keeps events in the journal
/// like any other reader, but events it missed are not counted as lost deliveries.
pub const PROJECTION: &str = "(profiles)";

/// A site's number in the journal: stable over restarts, but not over a rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A reader's number in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReaderId(pub u32);

/// An event to append.
#[derive(Debug)]
pub struct NewJournalRecord {
    /// The site that the event belongs to.
    pub site: SiteId,
    /// The key for deduplication.
    pub message: MessageKey,
    /// The proven rank of its sender: lower ranks are evicted first.
    pub rank: SenderRank,
    /// The time at which the gateway received it.
    pub received_at: Timestamp,
    /// True if the event identifies the visitor (user id, traits, group, alias, ids that were not seen
    /// together before), so that the projection must read it.
    pub identifies: bool,
    /// The canonical event as JSON.
    pub body: Vec<u8>,
}

/// The outcome of appending one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The event is durable as the site's event number `seq`.
    New {
        /// The event's number in the site's sequence.
        seq: u64,
    },
    /// The same message id was accepted before, durably.
    Duplicate,
}

/// The end of a site's sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalHead {
    /// The newest durable event.
    pub seq: u64,
    /// The newest event that identifies the visitor: the projection need not read beyond it.
    pub identified: u64,
}

/// One event read from the journal.
#[derive(Debug)]
pub struct JournalRecord {
    /// The event's number in the site's sequence.
    pub seq: u64,
    /// The time at which the gateway received it.
    pub received_at: Timestamp,
    /// True if the event identifies the visitor.
    pub identifies: bool,
    /// The canonical event as JSON; empty if its person was erased since.
    pub body: Bytes,
}

/// The reason why an append was refused. The events are not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// More bytes wait for the disk than `journal.queue_bytes_max` allows.
    #[error("the journal's queue is full")]
    QueueFull,
    /// The events take up the disk that `journal.max_bytes` and `journal.spare_bytes` allow them, and
    /// none may be evicted for events of this sender.
    #[error("the journal is full")]
    Full,
    /// The disk refused the write; the next append tries again.
    #[error("the journal cannot be written")]
    Unwritable(#[source] Arc<crate::store::StoreWriteError>),
    /// The gateway is shutting down.
    #[error("the journal is closed")]
    Closed,
}

/// The reason why a journal operation other than an append failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The database could not be read.
    #[error("the journal cannot be read")]
    Read(#[source] crate::store::StoreReadError),
    /// The database could not be written.
    #[error("the journal cannot be written")]
    Write(#[source] Arc<crate::store::StoreWriteError>),
    /// The gateway is shutting down.
    #[error("the journal is closed")]
    Closed,
}

/// The position of a reader in its site's sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderPosition {
    /// Every event up to and including this one is settled or parked.
    pub cursor: u64,
    /// Events beyond the cursor that are settled already, as inclusive ranges in order.
    pub ahead: Vec<(u64, u64)>,
}

/// The results of a reader for some events, committed as one.
#[derive(Clone, Debug, Default)]
pub struct ReaderSettlement {
    /// The reader's new position.
    pub position: ReaderPosition,
    /// Events that ended at the reader.
    pub ended: Vec<EndedEvent>,
    /// Events to try again later. An event that is parked already gets its new time.
    pub park: Vec<ParkRequest>,
}

/// An event to try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkRequest {
    /// The number of the event.
    pub seq: u64,
    /// The time of the next try.
    pub due_at: Timestamp,
    /// The number of tries so far.
    pub attempt: u32,
}

/// A parked event that is due, with its record.
#[derive(Debug)]
pub struct ParkedRecord {
    /// The event's record.
    pub record: JournalRecord,
    /// The number of tries so far.
    pub attempt: u32,
    /// The time at which it is, or was, to be tried again.
    pub due_at: Timestamp,
}

/// A dead letter with its record, as operators see it.
#[derive(Debug)]
pub struct DeadLetterRecord {
    /// The number of the letter, unique in the journal.
    pub id: i64,
    /// The reader at which the event died.
    pub reader: ReaderId,
    /// The time at which it died.
    pub at: Timestamp,
    /// The number of the event.
    pub seq: u64,
    /// The reason's code.
    pub reason: String,
    /// The reason's detail.
    pub detail: String,
    /// The number of tries.
    pub attempts: u32,
    /// The last call about it, if there was one.
    pub last_call: Option<LastVendorCall>,
    /// The canonical event as JSON.
    pub body: Bytes,
}

/// The events of a window, as far as a replay to one reader concerns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Events that have ended and would be sent again.
    pub count: u64,
    /// The dead letters among these that are still kept. All others were delivered or skipped.
    pub dead: u64,
    /// Events that have not ended, or are replayed already: a replay skips them.
    pub pending: u64,
}

/// The account of one reader: every accepted event is in exactly one of the other columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderLedger {
    /// Events accepted since the reader was created, plus those replayed to it.
    pub accepted: u64,
    /// Events that ended as delivered.
    pub delivered: u64,
    /// Events that ended as skipped.
    pub skipped: u64,
    /// Events that ended as dead.
    pub dead: u64,
    /// Events that have not ended, and are not held.
    pub pending: u64,
    /// Events that wait for their visitor: for a choice of consent, or to become known.
    pub held: u64,
}

/// The account of a reader, and the age of its oldest pending event, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderAccount {
    /// The number of the reader.
    pub reader: ReaderId,
    /// Its counts of events.
    pub ledger: ReaderLedger,
    /// The time at which the oldest of its pending events was received.
    pub oldest_pending: Option<Timestamp>,
}

/// The size of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalUsage {
    /// Bytes of the database in use, without free pages.
    pub bytes: u64,
    /// Bytes of its files, the write-ahead log's included.
    pub disk_bytes: u64,
    /// Events in the journal, of all sites.
    pub events: u64,
    /// Deliveries that never ended because `journal.max_bytes` evicted their event, since the start of
    /// the process.
    pub evicted: u64,
}

/// The callback that counts what was appended.
pub type AppendCallback = Box<dyn FnOnce(&[AppendOutcome]) + Send>;

/// The durable event log. One implementation per backend. Its methods fail if the database cannot be
/// read or written, or is closed.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Returns the number of the site with this name; creates it on first use.
    async fn site(&self, name: &str) -> Result<SiteId, JournalError>;

    /// Returns the number of the reader with this name (`site/destination`); creates it on first use. A
    /// new reader starts at the site's present end: it gets later events only.
    async fn reader(&self, site: SiteId, name: &str) -> Result<ReaderId, JournalError>;

    /// Appends events; returns when the group they are in is durable, in the order given.
    /// Dropping the future does not undo the append.
    async fn append(
        &self,
        records: Vec<NewJournalRecord>,
    ) -> Result<Vec<AppendOutcome>, AppendError> {
        self.append_counted(records, Box::new(|_| {})).await
    }

    /// Appends events. `count` is called once they are durable and before any reader reads them, even
    /// if the future was dropped meanwhile. It must not block.
    async fn append_counted(
        &self,
        records: Vec<NewJournalRecord>,
        count: AppendCallback,
    ) -> Result<Vec<AppendOutcome>, AppendError>;

    /// Returns the end of the site's sequence. Changes are published as events are committed.
    fn head(&self, site: SiteId) -> watch::Receiver<JournalHead>;

    /// Reads the records after `after` up to and including `upto`, in order: at least one if there is
    /// one. Events that retention removed are missing: the first may be later than `after + 1`.
    async fn read(
        &self,
        site: SiteId,
        after: u64,
        upto: u64,
        limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError>;

    /// Makes every reader of any site but these inactive: they keep their position but no longer keep
    /// events from retention. Sites that are no longer configured have only inactive readers, so their
    /// events leave in time.
    async fn retire(&self, keep: Vec<ReaderId>) -> Result<(), JournalError>;

    /// Reads the records in `after..=upto` that identify the visitor, in order, at most `limit`.
    async fn read_identifying(
        &self,
        site: SiteId,
        after: u64,
        upto: u64,
        limit: usize,
    ) -> Result<Vec<JournalRecord>, JournalError>;

    /// Returns the reader's position.
    async fn position(&self, reader: ReaderId) -> Result<ReaderPosition, JournalError>;

    /// Commits a reader's results. When it returns the settlement is written; it becomes durable with
    /// the next group that is synced, so a crash may repeat it but never lose an event.
    async fn settle(
        &self,
        reader: ReaderId,
        settlement: ReaderSettlement,
    ) -> Result<(), JournalError>;

    /// Reads the reader's parked events that are due at `now`, oldest first.
    async fn due(
        &self,
        reader: ReaderId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError>;

    /// Reads the reader's parked events after `after`, due or not, in their order.
    async fn parked(
        &self,
        reader: ReaderId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError>;

    /// Returns the earliest due time of the reader's parked events that are not due at `now`.
    async fn next_due(
        &self,
        reader: ReaderId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, JournalError>;

    /// Sends the reader its events received in `from..to` again, beside its cursor: they are parked as
    /// due now. Returns how many.
    async fn replay(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<u64, JournalError>;

    /// Returns what [`Journal::replay`] would do. Changes nothing.
    async fn replay_plan(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<ReplayPlan, JournalError>;

    /// Reads one dead letter.
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetterRecord>, JournalError>;

    /// Parks dead letters as due now. Returns how many.
    async fn retry_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError>;

    /// Drops dead letters; they stay counted as dead. Returns how many.
    async fn drop_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError>;

    /// The accounts of these readers, all at one moment, in their order.
    async fn accounts(&self, readers: Vec<ReaderId>) -> Result<Vec<ReaderAccount>, JournalError>;

    /// Reads an event with its history at these readers. Returns `None` if it has left the journal or
    /// was erased.
    async fn event(
        &self,
        site: SiteId,
        seq: u64,
        readers: Vec<ReaderId>,
    ) -> Result<Option<EventHistory>, JournalError>;

    /// Finds the newest event of the site with this message id. Reads all events, the newest first, in
    /// small steps: message ids have no index.
    async fn find_message(
        &self,
        site: SiteId,
        message_id: &str,
    ) -> Result<Option<u64>, JournalError>;

    /// Returns the most characters of a request, or of a reply, that are kept with a dead letter.
    fn letter_chars(&self) -> usize;

    /// Returns the operator's pause of the reader, if there is one.
    async fn pause(&self, reader: ReaderId) -> Result<Option<ReaderPause>, JournalError>;

    /// Records durably the operator's pause of the reader, or its end.
    async fn set_pause(
        &self,
        reader: ReaderId,
        pause: Option<ReaderPause>,
    ) -> Result<(), JournalError>;

    /// Removes what retention no longer keeps at `now`, in small steps. Returns the number of events
    /// removed.
    async fn retain(&self, now: Timestamp) -> Result<u64, JournalError>;

    /// Returns when the journal is over its allowance, so that [`Self::make_room`] must be called.
    async fn wait_until_over_budget(&self) {
        std::future::pending().await
    }

    /// Evicts what `journal.max_bytes` does not allow, in small steps. Returns the number of events
    /// evicted.
    async fn make_room(&self) -> Result<u64, JournalError> {
        Ok(0)
    }

    /// Returns the size of the journal.
    async fn usage(&self) -> Result<JournalUsage, JournalError>;

    /// Returns the list of suppressed people, which changes with requests ([`SubjectRights`]).
    fn suppression_list(&self) -> Arc<SuppressionList>;

    /// Returns the guard against records that would end the process at every start ([`PoisonGuard`]).
    fn guard(&self) -> Arc<PoisonGuard>;

    /// Returns the journal's health: true while the last write worked. Changes are published.
    fn writable(&self) -> watch::Receiver<bool>;

    /// Returns whether appends of servers are accepted: false while the journal is full. Changes are published.
    fn has_room(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    /// Refuses further appends, writes and syncs the accepted ones, and returns.
    async fn close(&self);
}

/// The limits of one read.
#[derive(Clone, Copy, Debug)]
pub struct JournalReadLimits {
    /// The most records.
    pub events: usize,
    /// The most bytes of bodies.
    pub bytes: usize,
}
