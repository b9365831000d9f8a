//! The journal in the embedded database.
//!
//! ```text
//! sites  (id, name, trimmed_to, missing)              events up to trimmed_to have left
//! events (place, received_at, flags, message, body)   place = site << 46 | seq
//! gaps   (site, first, last)                          evicted events between others: `gaps`
//! readers(id, site, name, active, start_seq, cursor, ahead, missed,
//!         delivered, skipped, dead, replayed, paused, pause)
//! outcomes (reader, bucket, part, at, causes, runs)   see `outcomes`
//! parked (reader, seq, due_at, attempt, received_at, body)   body only if the event has left
//! dead   (id, reader, seq, reason, detail, at, received_at, body,
//!         attempts, called_at, request, status, reply, event, failure)    failure: see `failure_text`
//! forgotten (site, name, person, erased)              name = digest
//! process, under_way, suspects                        see `guard`
//! ```
//!
//! The event of an erased person keeps its number, so that every reader's account holds; its body is empty.
//!
//! `place` is one integer: with the key (site, seq) and no row ids SQLite keeps whole events in its tree's inner
//! nodes, and a commit of a dozen events wrote twice the pages. The view `events_by_site` is for operators.
//!
//! The account of a reader follows from these columns at every commit:
//! `accepted = newest seq - start_seq + replayed`, and
//! `pending + held = newest seq - cursor - |ahead| - missed + |parked|`.

mod append;
mod dead;
mod disk_budget;
mod erase;
mod event_lookup;
mod evict;
mod gaps;
mod guard;
mod outcomes;
mod position;
mod retain;
mod schema;
mod search;
mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row};
use tokio::sync::watch;
use tokio::time::Instant;

use self::append::AppendQueue;
use self::dead::ReplayWindow;
use self::evict::EvictionProgress;
pub use self::schema::MIGRATIONS;
use super::{
    AppendCallback, AppendError, AppendOutcome, DeadLetterRecord, DeadLetterSelection,
    EventHistory, Journal, JournalError, JournalHead, JournalReadLimits, JournalRecord,
    JournalSettings, JournalUsage, NewJournalRecord, ParkedRecord, PoisonGuard, ReaderAccount,
    ReaderId, ReaderPause, ReaderPosition, ReaderSettlement, ReplayPlan, SiteId, SuppressionList,
};
use crate::store::{SqliteStore, StoreReadError, StoreWriteError};
use tagway_core::clock::SharedClock;
use tagway_core::event::SenderRank;
use tagway_core::metrics::Metrics;

/// The bit of `events.flags` that marks an event which identifies the visitor.
const IDENTIFIES: i64 = 1;

/// The shift of the sender's rank, two bits, in `events.flags`. Events of older versions have the lowest rank.
const RANK_SHIFT: u32 = 1;

/// The mask of the rank's two bits, shifted.
const RANK_MASK: i64 = 0b11;

/// Returns the `events.flags` of a record.
fn flags(record: &NewJournalRecord) -> i64 {
    let identifies = if record.identifies { IDENTIFIES } else { 0 };
    identifies | i64::from(record.rank.number()) << RANK_SHIFT
}

/// Returns the rank in `events.flags`.
fn rank(flags: i64) -> SenderRank {
    SenderRank::from_number(flags >> RANK_SHIFT & 3)
}

/// The bits of `events.place` for the event's number: 70 million million events for each of 131,072 sites.
const SEQ_BITS: u32 = 46;

/// The last number of a sequence.
const MAX_SEQ: u64 = (1 << SEQ_BITS) - 1;

/// Returns an event's key in the table: a site's events are neighbours, in their order.
fn place(site: SiteId, seq: u64) -> i64 {
    (u64::from(site.0) << SEQ_BITS | seq.min(MAX_SEQ)).cast_signed()
}

/// The journal in the embedded database.
pub struct SqliteJournal {
    store: Arc<SqliteStore>,
    settings: JournalSettings,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    append_queue: Arc<AppendQueue>,
    suppression_list: Arc<SuppressionList>,
    // Locked from a change of the suppressed names until all of them are in memory again.
    forgetting: tokio::sync::Mutex<()>,
    guard: Arc<PoisonGuard>,
    // Deliveries lost to `journal.max_bytes`, for `JournalUsage`.
    evicted: Mutex<u64>,
    // Locked while eviction is at work.
    eviction_progress: tokio::sync::Mutex<EvictionProgress>,
}

impl SqliteJournal {
    /// Opens the journal in a store with [`MIGRATIONS`]. Reads the dedupe window back: about 1 s per million events.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or written.
    pub async fn open(
        store: Arc<SqliteStore>,
        settings: JournalSettings,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, JournalError> {
        let guard = Arc::new(guard::open(&store, settings.poison_starts).await?);
        let appends = AppendQueue::load(&store, &settings, clock.now(), metrics.clone()).await?;
        let (appends, evicted) = (Arc::new(appends), Mutex::new(0));
        let forgotten = Arc::new(SuppressionList::default());
        let forgetting = tokio::sync::Mutex::default();
        let journal = Self {
            store,
            settings,
            clock,
            metrics,
            append_queue: appends,
            suppression_list: forgotten,
            forgetting,
            guard,
            evicted,
            eviction_progress: tokio::sync::Mutex::default(),
        };
        journal.load_forgotten().await?;
        let disk = journal.disk_use().await?;
        journal.measure_others(disk).await?;
        Ok(journal)
    }

    async fn read_db<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.store.read(query).await.map_err(JournalError::from)
    }

    async fn write_db<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        self.store.write(change).await.map_err(JournalError::Write)
    }
}

impl From<StoreReadError> for JournalError {
    fn from(error: StoreReadError) -> Self {
        Self::Read(error)
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn site(&self, name: &str) -> Result<SiteId, JournalError> {
        let name = name.to_owned();
        let (id, head) = self
            .write_db(move |c| {
                c.execute("INSERT INTO sites (name) VALUES (?) ON CONFLICT DO NOTHING", [&name])?;
                let id: u32 =
                    c.query_row("SELECT id FROM sites WHERE name = ?", [&name], |r| r.get(0))?;
                Ok((SiteId(id), newest(c, SiteId(id))?))
            })
            .await?;
        self.append_queue.add_site(id, head);
        Ok(id)
    }

    async fn reader(&self, site: SiteId, name: &str) -> Result<ReaderId, JournalError> {
        let name = name.to_owned();
        self.write_db(move |c| {
            let head = newest(c, site)?;
            let sql = "INSERT INTO readers (site, name, start_seq, cursor) VALUES (?1, ?2, ?3, ?3)
                ON CONFLICT (site, name) DO UPDATE SET active = 1";
            c.execute(sql, (site.0, &name, head))?;
            let sql = "SELECT id FROM readers WHERE site = ? AND name = ?";
            c.query_row(sql, (site.0, &name), |row| row.get(0).map(ReaderId))
        })
        .await
    }

    async fn retire(&self, keep: Vec<ReaderId>) -> Result<(), JournalError> {
        self.write_db(move |c| {
            c.execute("UPDATE readers SET active = 0 WHERE active", [])?;
            let mut keeps = c.prepare("UPDATE readers SET active = 1 WHERE id = ?")?;
            for reader in keep {
                keeps.execute([reader.0])?;
            }
            Ok(())
        })
        .await
    }

    async fn append_counted(
        &self,
        records: Vec<NewJournalRecord>,
        count: AppendCallback,
    ) -> Result<Vec<AppendOutcome>, AppendError> {
        let started = Instant::now();
        let result = AppendQueue::append(&self.append_queue, &self.store, records, count).await;
        self.metrics.journal_append.observe(started.elapsed().as_secs_f64());
        result
    }

    fn head(&self, site: SiteId) -> watch::Receiver<JournalHead> {
        self.append_queue.head(site)
    }

    async fn read(
        &self,
        site: SiteId,
        after: u64,
        upto: u64,
        limit: JournalReadLimits,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        self.read_db(move |c| position::read_events(c, site, after, upto, limit)).await
    }

    async fn read_identifying(
        &self,
        site: SiteId,
        after: u64,
        upto: u64,
        limit: usize,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        self.read_db(move |c| position::read_identifying(c, site, after, upto, limit)).await
    }

    async fn position(&self, reader: ReaderId) -> Result<ReaderPosition, JournalError> {
        self.read_db(move |c| position::position(c, reader)).await
    }

    async fn settle(
        &self,
        reader: ReaderId,
        settlement: ReaderSettlement,
    ) -> Result<(), JournalError> {
        let (now, appends, settings) =
            (self.clock.now(), self.append_queue.clone(), self.settings.clone());
        let settle = move |c: &Connection| {
            settle::settle(c, reader, &settlement, now, &appends.disk_budget, &settings)
        };
        let unkept = self.write_db(settle).await?;
        self.metrics.dead_evicted.inc_by(unkept);
        Ok(())
    }

    async fn due(
        &self,
        reader: ReaderId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError> {
        self.read_db(move |c| position::due(c, reader, now, limit)).await
    }

    async fn parked(
        &self,
        reader: ReaderId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ParkedRecord>, JournalError> {
        self.read_db(move |c| position::parked(c, reader, after, limit)).await
    }

    async fn next_due(
        &self,
        reader: ReaderId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, JournalError> {
        self.read_db(move |c| position::next_due(c, reader, now)).await
    }

    async fn replay(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<u64, JournalError> {
        let window = ReplayWindow { reader, from, to };
        let (site, range) = self.read_db(move |c| dead::replay_range(c, window)).await?;
        let now = self.clock.now();
        let mut replayed = 0;
        for chunk in dead::chunks(range) {
            replayed +=
                self.write_db(move |c| dead::replay_chunk(c, window, site, &chunk, now)).await?;
        }
        Ok(replayed)
    }

    async fn replay_plan(
        &self,
        reader: ReaderId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<ReplayPlan, JournalError> {
        let window = ReplayWindow { reader, from, to };
        let (site, range) = self.read_db(move |c| dead::replay_range(c, window)).await?;
        let mut plan = ReplayPlan::default();
        for chunk in dead::chunks(range) {
            let of_chunk = self.read_db(move |c| dead::plan_chunk(c, window, site, &chunk)).await?;
            plan.count += of_chunk.count;
            plan.pending += of_chunk.pending;
        }
        let dead = self.read_db(move |c| dead::dead_in_window(c, window)).await?;
        // A letter may be kept longer than its event.
        plan.dead = dead.min(plan.count);
        Ok(plan)
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetterRecord>, JournalError> {
        self.read_db(move |c| dead::one(c, id)).await
    }

    async fn retry_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError> {
        let now = self.clock.now();
        self.each_dead(which, move |c, id| dead::retry(c, id, now)).await
    }

    async fn drop_dead(&self, which: DeadLetterSelection) -> Result<u64, JournalError> {
        self.each_dead(which, dead::remove).await
    }

    async fn accounts(&self, readers: Vec<ReaderId>) -> Result<Vec<ReaderAccount>, JournalError> {
        let now = self.clock.now();
        // One read uses one snapshot.
        let account = move |c: &Connection| {
            readers.into_iter().map(|reader| position::account(c, reader, now)).collect()
        };
        self.read_db(account).await
    }

    async fn event(
        &self,
        site: SiteId,
        seq: u64,
        readers: Vec<ReaderId>,
    ) -> Result<Option<EventHistory>, JournalError> {
        self.read_db(move |c| event_lookup::event(c, site, seq, &readers)).await
    }

    async fn find_message(
        &self,
        site: SiteId,
        message_id: &str,
    ) -> Result<Option<u64>, JournalError> {
        self.look_for_message(site, message_id).await
    }

    fn letter_chars(&self) -> usize {
        self.settings.letter_chars
    }

    async fn pause(&self, reader: ReaderId) -> Result<Option<ReaderPause>, JournalError> {
        self.read_db(move |c| position::pause(c, reader)).await
    }

    async fn set_pause(
        &self,
        reader: ReaderId,
        pause: Option<ReaderPause>,
    ) -> Result<(), JournalError> {
        let set = self.store.write_durably(move |c| position::set_pause(c, reader, pause.as_ref()));
        set.await.map_err(JournalError::Write)
    }

    async fn retain(&self, now: Timestamp) -> Result<u64, JournalError> {
        self.apply_retention(now).await
    }

    async fn wait_until_over_budget(&self) {
        self.append_queue.disk_budget.crowded.notified().await;
    }

    async fn make_room(&self) -> Result<u64, JournalError> {
        self.evict().await
    }

    async fn usage(&self) -> Result<JournalUsage, JournalError> {
        self.append_queue.disk_budget.observe(self.disk_use().await?);
        let evicted = *self.evicted.lock();
        self.read_db(move |c| retain::usage(c).map(|usage| JournalUsage { evicted, ..usage })).await
    }

    fn suppression_list(&self) -> Arc<SuppressionList> {
        self.suppression_list.clone()
    }

    fn guard(&self) -> Arc<PoisonGuard> {
        self.guard.clone()
    }

    fn writable(&self) -> watch::Receiver<bool> {
        self.store.writable()
    }

    fn has_room(&self) -> watch::Receiver<bool> {
        self.append_queue.disk_budget.has_room()
    }

    async fn close(&self) {
        self.append_queue.close();
        if let Err(error) = self.write_db(guard::end).await {
            tracing::debug!(%error, "the next start counts this stop as an abort");
        }
        self.store.close().await;
    }
}

/// Returns the site's newest seq, counting events that have left.
fn newest(connection: &Connection, site: SiteId) -> rusqlite::Result<u64> {
    let sql = "SELECT place - ?1 FROM events WHERE place BETWEEN ?1 AND ?2
        ORDER BY place DESC LIMIT 1";
    let last: Option<u64> = connection
        .prepare_cached(sql)?
        .query_row([place(site, 0), place(site, MAX_SEQ)], |row| row.get(0))
        .optional()?;
    match last {
        Some(seq) => Ok(seq),
        None => trimmed_to(connection, site),
    }
}

fn trimmed_to(connection: &Connection, site: SiteId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT trimmed_to FROM sites WHERE id = ?")?
        .query_row([site.0], |row| row.get(0))
}

fn site_of(connection: &Connection, reader: ReaderId) -> rusqlite::Result<SiteId> {
    connection
        .prepare_cached("SELECT site FROM readers WHERE id = ?")?
        .query_row([reader.0], |row| row.get(0).map(SiteId))
}

/// Converts a stored time, in milliseconds since 1970.
fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn text_bytes(row: &Row<'_>, index: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(index)?.as_bytes()?))
}

/// The head of each site's sequence, and its published value.
type SiteHeadMap = BTreeMap<SiteId, (JournalHead, watch::Sender<JournalHead>)>;

/// Converts a write error to an append error.
fn append_error(error: Arc<StoreWriteError>) -> AppendError {
    match error.as_ref() {
        StoreWriteError::Closed => AppendError::Closed,
        StoreWriteError::Busy => AppendError::QueueFull,
        StoreWriteError::Disk(_)
        | StoreWriteError::Group
        | StoreWriteError::Rejected(_)
        | StoreWriteError::Panicked => AppendError::Unwritable(error),
    }
}

#[cfg(test)]
mod evict_tests;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
