//! The tables of the guard: the records in flight at careful readers, and how the last process ended.
//!
//! ```text
//! process  (id = 1, is_running)                 set while one runs; found set, the last one was cut off
//! under_way(site, reader, item)                 records in flight at a reader
//! suspects (site, reader, item, starts)         records in flight at aborted starts, and at how many
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::super::guard::{GuardedReaderKey, InFlightLog, PoisonGuard, PreviousRun, SuspectCounts};
use super::super::{JournalError, SiteId};
use crate::store::SqliteStore;

/// The tables of the guard.
pub(super) const SCHEMA: &str = "
    CREATE TABLE process (id INTEGER PRIMARY KEY CHECK (id = 1), is_running INTEGER NOT NULL);
    CREATE TABLE under_way (
        site INTEGER NOT NULL,
        reader TEXT NOT NULL,
        item INTEGER NOT NULL,
        PRIMARY KEY (site, reader, item)
    ) WITHOUT ROWID;
    CREATE TABLE suspects (
        site INTEGER NOT NULL,
        reader TEXT NOT NULL,
        item INTEGER NOT NULL,
        starts INTEGER NOT NULL,
        PRIMARY KEY (site, reader, item)
    ) WITHOUT ROWID;
";

/// Records that a process runs, and reads how the last one ended.
pub(super) async fn open(
    store: &Arc<SqliteStore>,
    poison_starts: u32,
) -> Result<PoisonGuard, JournalError> {
    let previous = store.write(move |c| begin(c, poison_starts)).await;
    let previous = previous.map_err(JournalError::Write)?;
    if previous.is_aborted && poison_starts > 0 {
        tracing::warn!(
            "the last run was aborted; readers process the events that were in progress then one at a time"
        );
    }
    let notes = Box::new(SqliteInFlightLog { store: store.clone() });
    Ok(PoisonGuard::new(notes, previous, poison_starts))
}

/// Records that the process ends in order.
pub(super) fn end(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("UPDATE process SET is_running = 0; DELETE FROM under_way;")
}

fn begin(connection: &Connection, poison_starts: u32) -> rusqlite::Result<PreviousRun> {
    let was_running: Option<bool> =
        connection.query_row("SELECT is_running FROM process", [], |row| row.get(0)).optional()?;
    let is_aborted = was_running == Some(true);
    if is_aborted {
        connection.execute_batch(
            "INSERT INTO suspects SELECT site, reader, item, 1 FROM under_way WHERE true
             ON CONFLICT DO UPDATE SET starts = starts + 1",
        )?;
    } else {
        // The row of aborted starts is broken; poisoned records stay set aside.
        connection.execute("DELETE FROM suspects WHERE starts < ?", [poison_starts])?;
    }
    connection.execute_batch(
        "DELETE FROM under_way;
         INSERT INTO process VALUES (1, 1) ON CONFLICT DO UPDATE SET is_running = 1;",
    )?;
    let mut suspects: BTreeMap<GuardedReaderKey, SuspectCounts> = BTreeMap::new();
    let mut rows = connection.prepare("SELECT site, reader, item, starts FROM suspects")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let reader = (SiteId(row.get(0)?), row.get(1)?);
        suspects.entry(reader).or_default().insert(row.get(2)?, row.get(3)?);
    }
    Ok(PreviousRun { is_aborted, suspects })
}

struct SqliteInFlightLog {
    store: Arc<SqliteStore>,
}

impl SqliteInFlightLog {
    async fn write(
        &self,
        reader: &GuardedReaderKey,
        change: impl FnOnce(&Connection, &GuardedReaderKey) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), JournalError> {
        let reader = reader.clone();
        self.store.write(move |c| change(c, &reader)).await.map_err(JournalError::Write)
    }
}

#[async_trait]
impl InFlightLog for SqliteInFlightLog {
    async fn record_in_flight(
        &self,
        reader: &GuardedReaderKey,
        items: Vec<i64>,
    ) -> Result<(), JournalError> {
        self.write(reader, move |c, reader| {
            delete_in_flight(c, reader)?;
            let mut insert =
                c.prepare_cached("INSERT OR IGNORE INTO under_way VALUES (?, ?, ?)")?;
            items
                .iter()
                .try_for_each(|item| insert.execute((reader.0.0, &reader.1, item)).map(drop))
        })
        .await
    }

    async fn clear(&self, reader: &GuardedReaderKey) -> Result<(), JournalError> {
        self.write(reader, delete_in_flight).await
    }

    async fn remove_suspects(
        &self,
        reader: &GuardedReaderKey,
        items: Vec<i64>,
    ) -> Result<(), JournalError> {
        self.write(reader, move |c, reader| {
            let sql = "DELETE FROM suspects WHERE site = ? AND reader = ? AND item = ?";
            let mut delete = c.prepare_cached(sql)?;
            items
                .iter()
                .try_for_each(|item| delete.execute((reader.0.0, &reader.1, item)).map(drop))
        })
        .await
    }
}

fn delete_in_flight(connection: &Connection, reader: &GuardedReaderKey) -> rusqlite::Result<()> {
    connection
        .prepare_cached("DELETE FROM under_way WHERE site = ? AND reader = ?")?
        .execute((reader.0.0, &reader.1))
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::CommitSyncMode;

    const SITE: SiteId = SiteId(1);

    async fn start(folder: &Path) -> (Arc<SqliteStore>, Arc<PoisonGuard>) {
        let schemas = [super::super::MIGRATIONS];
        let store = Arc::new(
            SqliteStore::open(folder, CommitSyncMode::Os, &schemas, Arc::default()).unwrap(),
        );
        let guard = open(&store, 3).await.unwrap();
        (store, Arc::new(guard))
    }

    #[tokio::test]
    async fn careful_mode_starts_after_an_abort_only() {
        let folder = tempfile::tempdir().unwrap();
        for (is_orderly, is_careful) in [(true, false), (false, false), (true, true), (true, false)]
        {
            let (store, guard) = start(folder.path()).await;
            let care = Arc::new(guard.reader_guard(SITE, "crm"));
            assert_eq!(care.is_careful(), is_careful);
            assert_eq!(care.group(1..=1000), if is_careful { 64 } else { 1000 });
            care.leave_careful_mode();
            assert_eq!(care.group(1..=1000), 1000);
            if is_orderly {
                store.write(end).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn record_in_flight_at_three_aborted_starts_in_a_row_is_poisoned() {
        let folder = tempfile::tempdir().unwrap();
        start(folder.path()).await;
        let care = async || {
            let (store, guard) = start(folder.path()).await;
            (store, Arc::new(guard.reader_guard(SITE, "crm")))
        };
        {
            let (_store, care) = care().await;
            care.begin((1..=10).collect()).await;
        }
        for first in [1, 2] {
            // From now on each is alone: the first gets through, the second does not.
            let (_store, care) = care().await;
            for item in first..=2 {
                assert_eq!(care.group(item..=10), 1);
                let under_way = care.begin(vec![item]).await;
                if item == 1 {
                    under_way.end().await;
                }
            }
        }
        let (store, care) = care().await;
        assert_eq!((1..=10).filter(|item| care.is_poisoned(*item)).collect::<Vec<_>>(), [2]);
        care.remove_suspects(&[2]).await;
        assert!(!care.is_poisoned(2) && care.has_suspects());
        store.write(end).await.unwrap();
        drop((store, care));
        let (_store, guard) = start(folder.path()).await;
        assert!(!guard.reader_guard(SITE, "crm").has_suspects(), "an orderly stop ends the row");
    }

    #[tokio::test]
    async fn careful_readers_take_turns_and_release_them_while_paused() {
        let folder = tempfile::tempdir().unwrap();
        start(folder.path()).await;
        {
            let (_store, guard) = start(folder.path()).await;
            let (a, b) =
                (Arc::new(guard.reader_guard(SITE, "a")), Arc::new(guard.reader_guard(SITE, "b")));
            let mut first = a.begin(vec![1]).await;
            let mut second = std::pin::pin!(b.begin(vec![7]));
            assert!(futures_util::poll!(second.as_mut()).is_pending());
            first.pause().await;
            second.await.end().await;
            first.resume().await;
            first.pause().await;
        }
        let (_store, guard) = start(folder.path()).await;
        let care = guard.reader_guard(SITE, "a");
        assert!(!care.has_suspects(), "it waited when the process died");
    }

    #[tokio::test]
    async fn reader_panic_counts_as_an_abort() {
        let folder = tempfile::tempdir().unwrap();
        let (_store, guard) = start(folder.path()).await;
        let care = Arc::new(guard.reader_guard(SITE, "crm"));
        for times in 1..=3 {
            let own = care.clone();
            let panics = async move {
                let _under_way = own.begin(vec![5]).await;
                panic!("a defect");
            };
            let mut tasks = tokio::task::JoinSet::new();
            tasks.spawn(panics);
            tasks.join_next().await.unwrap().unwrap_err();
            assert_eq!(care.is_poisoned(5), times == 3);
        }
    }
}
