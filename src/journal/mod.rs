//! The durable event log: append, read, settle.
//!
//! Events of one site form a sequence numbered from 1 without gaps in order of acceptance. Readers
//! (the profile projection and every destination) follow it, each with its own durable cursor.
//! An event leaves the journal only when every reader has settled it and it is older than
//! `journal.retain`, or when `journal.max_bytes` forces it out, the lowest rank of senders first; an
//! event that a destination had not settled is counted then. An event of a server that is not settled
//! is never forced out: appends are refused instead.
//!
//! For every reader, at every commit:
//! `accepted = delivered + skipped + dead + pending + held` ([`ReaderLedger`]).

mod dedupe;
mod guard;
mod outcome;
mod settings;
mod sqlite;
mod subject;
mod suppression;

pub use dedupe::{MessageKey, MessageScope};
pub use guard::{GROUP, GuardedWork, PoisonGuard, ReaderGuard};
pub use outcome::{
    EndedEvent, EventAtReader, EventHistory, FinalOutcome, LastVendorCall, OutcomeCause,
    ReaderEventState, StoredOutcome,
};
pub use settings::{AppendDurability, JournalSettings};
pub use sqlite::{MIGRATIONS, SqliteJournal};
pub use subject::{ErasureCounts, SubjectCursor, SubjectRecord, SubjectRecordPage, SubjectRights};
pub use suppression::{PersonNameDigest, PersonNameKind, SuppressionList};

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::event::SenderRank;

/// The name of the projection's reader, which no destination can have. It keeps events from leaving
/// like any other, but what it missed is not a delivery that was lost.
pub const PROJECTION: &str = "(profiles)";

/// A site's number in the journal: stable over restarts, renames excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A reader's number in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReaderId(pub u32);

/// An event to append.
#[derive(Debug)]
pub struct NewJournalRecord {
    /// The site it belongs to.
    pub site: SiteId,
    /// What makes it a duplicate of another.
    pub message: MessageKey,
    /// How far its sender proved who it speaks for: lower ranks are evicted first.
    pub rank: SenderRank,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Whether it says something about who the visitor is (user id, traits, group, alias, ids that were
    /// not seen together before), so that the projection must look at it.
    pub identifies: bool,
    /// The canonical event as JSON.
    pub body: Vec<u8>,
}

/// What became of an appended event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is the site's event number `seq`, and durable.
    New {
        /// Its place in the site's sequence.
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
    /// No event after this one says who the visitor is, so the projection need not look there.
    pub identified: u64,
}

/// One event read from the journal.
#[derive(Debug)]
pub struct JournalRecord {
    /// Its place in the site's sequence.
    pub seq: u64,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// Whether it says something about who the visitor is.
    pub identifies: bool,
    /// The canonical event as JSON; empty if its person was forgotten since.
    pub body: Bytes,
}

/// Why an append was refused. The events are not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// More is waiting for the disk than `journal.queue_bytes_max` allows.
    #[error("the journal's queue is full")]
    QueueFull,
    /// The events take up the disk that `journal.max_bytes` and `journal.spare_bytes` allow them, and
    /// none may leave for those of this sender.
    #[error("the journal is full")]
    Full,
    /// The disk refused the write; the next append tries again.
    #[error("the journal cannot be written")]
    Unwritable(#[source] Arc<crate::store::StoreWriteError>),
    /// The gateway is shutting down.
    #[error("the journal is closed")]
    Closed,
}

/// Why a journal operation other than an append failed.
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

/// Where a reader stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReaderPosition {
    /// Every event up to and including this one is settled or parked.
    pub cursor: u64,
    /// Events beyond the cursor that are settled already, as inclusive ranges in order.
    pub ahead: Vec<(u64, u64)>,
}

/// What a reader did with some events, committed as one.
#[derive(Clone, Debug, Default)]
pub struct ReaderSettlement {
    /// The reader's new position.
    pub position: ReaderPosition,
    /// Events that ended.
    pub ended: Vec<EndedEvent>,
    /// Events to try again later. An event that is parked already gets its new time.
    pub park: Vec<ParkRequest>,
}

/// An event to try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkRequest {
    /// The event.
    pub seq: u64,
    /// When to try again.
    pub due_at: Timestamp,
    /// The number of its tries.
    pub attempt: u32,
}

/// A parked event that is due, with its record.
#[derive(Debug)]
pub struct ParkedRecord {
    /// The record.
    pub record: JournalRecord,
    /// The number of its tries.
    pub attempt: u32,
    /// When it is, or was, to be tried again.
    pub due_at: Timestamp,
}

/// A dead letter with its record, as people see it.
#[derive(Debug)]
pub struct DeadLetterRecord {
    /// The letter's own number, unique in the journal.
    pub id: i64,
    /// The reader it is dead for.
    pub reader: ReaderId,
    /// When it died.
    pub at: Timestamp,
    /// The event.
    pub seq: u64,
    /// The reason's code.
    pub reason: String,
    /// The reason's detail.
    pub detail: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The last call about it, if there was one.
    pub last_call: Option<LastVendorCall>,
    /// The canonical event as JSON.
    pub body: Bytes,
}

/// Which dead letters.
#[derive(Clone, Debug)]
pub enum DeadLetterSelection {
    /// These letters.
    Ids(Vec<i64>),
    /// All of one reader.
    Reader(ReaderId),
}

/// The events of a window, as far as a replay to one reader concerns them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayPlan {
    /// Those that have ended and would go again.
    pub count: u64,
    /// The dead letters among these that are still kept. All others were delivered or skipped.
    pub dead: u64,
    /// Those that have not ended, or go again already: a replay leaves them alone.
    pub pending: u64,
}

/// The account of one reader: every accepted event is in exactly one of the other columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderLedger {
    /// Events accepted since the reader exists, plus those replayed to it.
    pub accepted: u64,
    /// Ended as delivered.
    pub delivered: u64,
    /// Ended as skipped.
    pub skipped: u64,
    /// Ended as dead.
    pub dead: u64,
    /// Not ended yet, and not held.
    pub pending: u64,
    /// Waiting for their visitor: for a choice of consent, or to become known.
    pub held: u64,
}

/// The account of a reader, and the age of what it has to do, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderAccount {
    /// The reader.
    pub reader: ReaderId,
    /// Its account.
    pub ledger: ReaderLedger,
    /// When the oldest of its pending events was received.
    pub oldest_pending: Option<Timestamp>,
}

/// What the journal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalUsage {
    /// Bytes of the database in use.
    pub bytes: u64,
    /// Bytes of its files, the write-ahead log's included.
    pub disk_bytes: u64,
    /// Events held.
    pub events: u64,
    /// Deliveries that never ended because `journal.max_bytes` forced their event out, since the
    /// start of the process.
    pub evicted: u64,
}

/// Counts what was appended.
pub type AppendCallback = Box<dyn FnOnce(&[AppendOutcome]) + Send>;

/// The durable event log. One implementation per backend.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The number of the site with this name, made on first use.
    async fn site(&self, name: &str) -> Result<SiteId, JournalError>;

    /// The number of the reader with this name (`site/destination`), made on first use. A new
    /// reader starts at the site's present end: it gets what comes from now on.
    async fn reader(&self, site: SiteId, name: &str) -> Result<ReaderId, JournalError>;

    /// Appends events; returns when the group they are in is durable, in the order given.
    /// Dropping the future does not undo the append.
    async fn append(
        &self,
        records: Vec<NewJournalRecord>,
    ) -> Result<Vec<AppendOutcome>, AppendError> {
        self.append_counted(records, Box::new(|_| {})).await
    }

    /// Appends events. `count` is called once they are durable and before any reader sees them,
    /// even if the future was dropped meanwhile. It must not block.
    async fn append_counted(
        &self,
        records: Vec<NewJournalRecord>,
        count: AppendCallback,
    ) -> Result<Vec<AppendOutcome>, AppendError>;

    /// The end of the site's sequence, changing as events are committed.
    fn head(&self, site: SiteId) -> watch::Receiver<JournalHead>;

    /// The records after `after` up to and including `upto`, in order: at least one if there is
    /// one. Events that retention removed are missing: the first may be later than `after + 1`.
    async fn read(
        &self,
        site: SiteId,
        after: u64,
        upto: u64,
        limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError>;

    /// Makes every reader of any site but these inactive: they keep their place but no longer hold
    /// events back from retention. Sites that are configured no more have no other readers, so
    /// their events leave with time.
    async fn retire(&self, keep: Vec<ReaderId>) -> Result<(), JournalError>;

    /// The records in `after..=upto` that say who the visitor is, in order, at most `limit`.
    async fn read_identifying(
        &self,
        site: SiteId,
        after: u64,
        upto: u64,
        limit: usize,
    ) -> Result<Vec<JournalRecord>, JournalError>;

    /// Where the reader stands.
    async fn position(&self, reader: ReaderId) -> Result<ReaderPosition, JournalError>;

    /// Commits what a reader did. When it returns the settlement is written; it becomes durable
    /// with the next group that is synced, so a crash may repeat it but never lose an event.
    async fn settle(
        &self,
        reader: ReaderId,
        settlement: ReaderSettlement,
    ) -> Result<(), JournalError>;

    /// The reader's parked events that are due at `now`, oldest first.
    async fn due(
        &self,
        reader: ReaderId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError>;

    /// The reader's parked events after `after`, due or not, in their order.
    async fn parked(
        &self,
        reader: ReaderId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError>;

    /// When the reader's first parked event that is not due at `now` will be.
    async fn next_due(
        &self,
        reader: ReaderId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, JournalError>;

    /// Gives the reader its events received in `from..to` again, beside its cursor: they are parked
    /// as due now. Returns how many.
    async fn replay(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<u64, JournalError>;

    /// Says what [`Journal::replay`] would do. Changes nothing.
    async fn replay_plan(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<ReplayPlan, JournalError>;

    /// Dead letters, newest first, of one reader or of all.
    async fn list_dead_letters(
        &self,
        reader: Option<ReaderId>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<DeadLetterRecord>, JournalError>;

    /// One dead letter.
    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetterRecord>, JournalError>;

    /// Parks dead letters as due now. Returns how many.
    async fn retry_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError>;

    /// Drops dead letters; they stay counted as dead. Returns how many.
    async fn drop_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError>;

    /// The accounts of these readers, all at one moment, in their order.
    async fn accounts(&self, readers: Vec<ReaderId>) -> Result<Vec<ReaderAccount>, JournalError>;

    /// An event that is held, with what became of it at these readers. `None` if it has left the
    /// journal or was erased.
    async fn event(
        &self,
        site: SiteId,
        seq: u64,
        readers: Vec<ReaderId>,
    ) -> Result<Option<EventHistory>, JournalError>;

    /// The newest event of the site that has this message id, if it is held. Looks through all events,
    /// the newest first, in small steps: message ids have no index.
    async fn find_message(
        &self,
        site: SiteId,
        message_id: &str,
    ) -> Result<Option<u64>, JournalError>;

    /// The most characters of a request, or of a reply, that are kept with a dead letter.
    fn letter_chars(&self) -> usize;

    /// Returns true if an operator has paused the reader.
    async fn is_paused(&self, reader: ReaderId) -> Result<bool, JournalError>;

    /// Notes durably whether the reader is paused.
    async fn set_paused(&self, reader: ReaderId, is_paused: bool) -> Result<(), JournalError>;

    /// Removes what retention no longer keeps at `now`, in small steps. Returns how many events
    /// went.
    async fn retain(&self, now: Timestamp) -> Result<u64, JournalError>;

    /// Returns when the journal is over its allowance, so that [`Self::make_room`] is called for.
    async fn wait_until_over_budget(&self) {
        std::future::pending().await
    }

    /// Forces out what `journal.max_bytes` does not allow, in small steps. Returns how many events
    /// went.
    async fn make_room(&self) -> Result<u64, JournalError> {
        Ok(0)
    }

    /// What the journal holds.
    async fn usage(&self) -> Result<JournalUsage, JournalError>;

    /// Who is forgotten, changing as people are ([`SubjectRights`]).
    fn suppression_list(&self) -> Arc<SuppressionList>;

    /// What keeps a record that ends the process from doing so at every start ([`PoisonGuard`]).
    fn guard(&self) -> Arc<PoisonGuard>;

    /// Whether the last write worked, changing as it does.
    fn writable(&self) -> watch::Receiver<bool>;

    /// Whether events of servers are taken, changing as the journal is full or not.
    fn has_room(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }

    /// Refuses further appends, writes and syncs what was accepted, and returns.
    async fn close(&self);
}

/// How much one read may return.
#[derive(Clone, Copy, Debug)]
pub struct JournalReadLimits {
    /// Records.
    pub events: usize,
    /// Bytes of bodies.
    pub bytes: usize,
}
