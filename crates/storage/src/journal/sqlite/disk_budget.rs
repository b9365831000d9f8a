//! The disk budget: the bytes that the journal may take on the disk, and the ranks that may still append.
//!
//! Eviction (`evict`) keeps the pages of the journal within `journal.max_bytes`. Events appended while
//! it works use `journal.spare_bytes`; the write-ahead log counts there as well. Claimed events may use
//! the first third of it, proven ones two, those of servers all: where nothing more can be evicted,
//! claimed senders are refused before servers are.
//!
//! The journal shares its file with the profiles. The pages of other tables are measured from time to
//! time, since measuring means reading them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::super::{JournalError, JournalSettings, NewJournalRecord};
use super::SqliteJournal;
use crate::store::{DatabaseDiskUse, give_back};
use tagway_core::event::SenderRank;
use tagway_core::metrics::{Metrics, SenderRankLabels};

/// The tables that `journal.max_bytes` limits; their indexes belong to them.
const TABLES: &str = "'events', 'parked', 'dead', 'gaps', 'outcomes'";

/// The most bytes of the files for each byte of events: rows fill their pages at least by half, and the
/// log contains the same pages until they are moved.
const BYTES_ON_DISK: u64 = 3;

/// Bytes of a row besides its body.
const ROW_BYTES: u64 = 64;

/// The least time between two measurements of other tables.
const MEASURE_EVERY: Duration = Duration::from_secs(60);

/// The number of commits that move the log on: one starts the thread that moves it, one moves the rest, one cuts it.
const LOG_COMMITS: usize = 3;

/// The least time between two reports of refused events of one rank.
const REPORT_EVERY: Duration = Duration::from_secs(600);

/// The share of the time that measurements may take, as its reciprocal.
const MEASURE_SHARE: u32 = 20;

/// The budget of the journal, and the known use of the disk.
pub(super) struct JournalDiskBudget {
    max: u64,
    spare: u64,
    /// Bytes in use by other tables, as last measured.
    other_tables_bytes: AtomicU64,
    /// The time of the next measurement.
    measure_at: Mutex<Option<Instant>>,
    /// Notified when the pages in use are over the allowance.
    pub(super) crowded: Notify,
    /// The highest rank that is refused because the journal is full.
    refused: watch::Sender<Option<SenderRank>>,
    /// The time and the rank of the last reported refusal.
    reported: Mutex<Option<(Instant, SenderRank)>>,
    /// True while events of servers are accepted.
    has_room: watch::Sender<bool>,
}

impl JournalDiskBudget {
    pub(super) fn new(settings: &JournalSettings) -> Self {
        Self {
            max: settings.max_bytes,
            spare: settings.spare_bytes,
            other_tables_bytes: AtomicU64::new(0),
            measure_at: Mutex::new(None),
            crowded: Notify::new(),
            refused: watch::Sender::new(None),
            reported: Mutex::new(None),
            has_room: watch::Sender::new(true),
        }
    }

    pub(super) fn has_room(&self) -> watch::Receiver<bool> {
        self.has_room.subscribe()
    }

    /// Returns true if pages have to be freed.
    pub(super) fn is_over_budget(&self, disk: DatabaseDiskUse) -> bool {
        self.journal(disk.used) > self.max
    }

    /// Returns true if dead letters may be kept; triggers eviction if there are too many.
    pub(super) fn has_dead_letter_room(&self, disk: DatabaseDiskUse) -> bool {
        if self.is_over_budget(disk) {
            self.crowded.notify_one();
        }
        self.journal(disk.used + disk.log) <= self.limit(SenderRank::Server)
    }

    fn journal(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.other_tables_bytes.load(Ordering::Relaxed))
    }

    /// Returns the bytes of pages and log up to which events of this rank are accepted.
    fn limit(&self, rank: SenderRank) -> u64 {
        let thirds = u64::from(rank.number()) + 1;
        self.max.saturating_add((self.spare / 3).saturating_mul(thirds))
    }

    /// Clears the refused ranks once there is room for all again.
    pub(super) fn observe(&self, disk: DatabaseDiskUse) {
        if self.journal(disk.used + disk.log) > self.limit(SenderRank::Claimed) {
            return;
        }
        if self.refused.send_replace(None).is_some() {
            tracing::debug!("the journal has space for events of all senders again");
        }
        self.has_room.send_if_modified(|has_room| !std::mem::replace(has_room, true));
    }

    fn is_refusing(&self) -> bool {
        self.refused.borrow().is_some()
    }

    fn refuse(&self, rank: SenderRank) {
        let is_news = self.refused.send_if_modified(|refused| {
            let is_news = refused.is_none_or(|refused| refused < rank);
            *refused = Some(refused.map_or(rank, |refused| refused.max(rank)));
            is_news
        });
        if rank == SenderRank::Server {
            self.has_room.send_if_modified(|has_room| std::mem::replace(has_room, false));
        }
        if is_news && self.is_to_be_reported(rank) {
            let (rank, max_bytes) = (label(rank), self.max);
            tracing::error!(
                rank,
                max_bytes,
                "the journal is full: events of this rank and below are answered with 503 until \
                 destinations settle waiting events; raise journal.max_bytes or fix the destinations"
            );
        }
    }

    /// Returns true at most once per `REPORT_EVERY` for each rank: under a flood refusals begin and end
    /// many times a second.
    fn is_to_be_reported(&self, rank: SenderRank) -> bool {
        let (mut reported, now) = (self.reported.lock(), Instant::now());
        let is_known = reported.is_some_and(|(at, known)| known >= rank && now - at < REPORT_EVERY);
        if !is_known {
            *reported = Some((now, rank));
        }
        !is_known
    }

    fn is_measured(&self) -> bool {
        self.measure_at.lock().is_some_and(|at| Instant::now() < at)
    }
}

/// The budget of one group of appends, measured as it is filled.
pub(super) struct AppendBudget<'r> {
    room: &'r JournalDiskBudget,
    /// The journal's pages and the log when the group began, plus the group's own bytes.
    bytes: u64,
}

impl<'r> AppendBudget<'r> {
    /// Measures the disk use, and triggers eviction if it is too much.
    pub(super) fn open(
        room: &'r JournalDiskBudget,
        connection: &Connection,
    ) -> rusqlite::Result<Self> {
        let disk = DatabaseDiskUse::of(connection)?;
        if room.is_over_budget(disk) {
            room.crowded.notify_one();
        }
        Ok(Self { room, bytes: room.journal(disk.used + disk.log) })
    }

    /// Reserves room for a request's events. Returns false if there is none for the lowest rank among them.
    pub(super) fn take(&mut self, records: &[NewJournalRecord], metrics: &Metrics) -> bool {
        let Some(rank) = records.iter().map(|record| record.rank).min() else { return true };
        let row = |record: &NewJournalRecord| record.body.len() as u64 + ROW_BYTES;
        let bytes = records.iter().map(row).sum::<u64>().saturating_mul(BYTES_ON_DISK);
        let after = self.bytes.saturating_add(bytes);
        if after > self.room.limit(rank) {
            self.room.refuse(rank);
            self.room.crowded.notify_one();
            let labels = SenderRankLabels { rank: label(rank) };
            metrics.journal_refused.get_or_create(&labels).inc_by(records.len() as u64);
            return false;
        }
        self.bytes = after;
        true
    }
}

impl SqliteJournal {
    pub(super) async fn disk_use(&self) -> Result<DatabaseDiskUse, JournalError> {
        self.read_db(DatabaseDiskUse::of).await
    }

    /// Measures the other tables, unless that was done recently or hardly matters. Returns whether it
    /// was done.
    pub(super) async fn measure_others(&self, disk: DatabaseDiskUse) -> Result<bool, JournalError> {
        let room = &self.append_queue.disk_budget;
        if disk.used < room.max / 4 * 3 || room.is_measured() {
            return Ok(false);
        }
        let began = Instant::now();
        let others = self.read_db(bytes_of_others).await?;
        room.other_tables_bytes.store(others, Ordering::Relaxed);
        let pause = MEASURE_EVERY.max(began.elapsed().saturating_mul(MEASURE_SHARE));
        *room.measure_at.lock() = Some(Instant::now() + pause);
        Ok(true)
    }

    /// Makes commits while events are refused. The log's file is cut only by commits after it was
    /// moved, and there may be no others.
    pub(super) async fn advance_log(&self) -> Result<(), JournalError> {
        let room = &self.append_queue.disk_budget;
        for _ in 0..LOG_COMMITS {
            if !room.is_refusing() {
                break;
            }
            self.write_db(write_to_log).await?;
            room.observe(self.disk_use().await?);
        }
        Ok(())
    }

    /// Returns free pages to the disk, in small steps.
    pub(super) async fn give_back(&self) -> Result<(), JournalError> {
        while self.write_db(give_back).await? {}
        Ok(())
    }
}

/// Makes a commit that adds to the log and changes nothing. Two statements: SQLite writes no page whose content
/// stays the same.
fn write_to_log(connection: &Connection) -> rusqlite::Result<()> {
    let statements =
        "UPDATE sites SET missing = missing + 1; UPDATE sites SET missing = missing - 1";
    connection.execute_batch(statements)
}

/// Returns the bytes in use by all tables but those of the journal. Most of it is the profiles, which
/// no eviction of events makes smaller. Counted page by page, a second or so per gigabyte.
fn bytes_of_others(connection: &Connection) -> rusqlite::Result<u64> {
    let mut names = connection.prepare_cached(&format!(
        "SELECT name FROM sqlite_schema WHERE rootpage > 0 AND tbl_name NOT IN ({TABLES})"
    ))?;
    let mut size = connection
        .prepare_cached("SELECT sum(pgsize) FROM dbstat WHERE name = ? AND aggregate = TRUE")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.iter().map(|name| size.query_row([name], |row| row.get::<_, u64>(0))).sum()
}

/// Returns a rank's value as a metric label.
pub(super) const fn label(rank: SenderRank) -> &'static str {
    match rank {
        SenderRank::Claimed => "claimed",
        SenderRank::Proven => "proven",
        SenderRank::Server => "server",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_to_log_adds_to_the_log_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let connection = Connection::open(folder.path().join("test.db")).unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        let table =
            "CREATE TABLE sites (missing INTEGER NOT NULL); INSERT INTO sites VALUES (0), (7)";
        connection.execute_batch(table).unwrap();
        let moved = || {
            let mut checkpoint = connection.prepare("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            checkpoint.query_row([], |row| row.get::<_, i64>(0)).unwrap();
            folder.path().join("test.db-wal").metadata().unwrap().len()
        };
        let log = || folder.path().join("test.db-wal").metadata().unwrap().len();
        assert_eq!(moved(), 0);
        write_to_log(&connection).unwrap();
        assert!(log() > 0, "the next commit would not start the log over");
        let sum: i64 =
            connection.query_row("SELECT sum(missing) FROM sites", [], |row| row.get(0)).unwrap();
        assert_eq!(sum, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_reported_once_per_interval_and_rank() {
        let room = JournalDiskBudget::new(&super::super::tests::settings());
        assert!(room.is_to_be_reported(SenderRank::Claimed));
        assert!(!room.is_to_be_reported(SenderRank::Claimed));
        assert!(room.is_to_be_reported(SenderRank::Server), "a higher rank is news");
        assert!(!room.is_to_be_reported(SenderRank::Claimed));
        tokio::time::advance(REPORT_EVERY).await;
        assert!(room.is_to_be_reported(SenderRank::Claimed));
    }
}
