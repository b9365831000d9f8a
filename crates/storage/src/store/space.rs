//! The disk space of the database, and the return of what it no longer needs.
//!
//! Deleted rows leave free pages in the file. New rows take these first; beyond a reserve they are
//! returned to the file system in small steps, which only works for a database created with
//! `auto_vacuum`. One that an older version of the program created is rebuilt at the start while it is
//! small: that takes as much space again on the disk for a moment, and a second per 100 MiB or so.

use std::path::PathBuf;

use rusqlite::Connection;

/// The size, in bytes, up to which a database that cannot free pages is rebuilt at the start.
const REMADE_BYTES: u64 = 128 << 20;

/// Free bytes that stay in the file for new rows.
const RESERVE_BYTES: u64 = 16 << 20;

/// Pages freed by one write: about a millisecond.
const STEP_PAGES: u64 = 256;

/// The length, in bytes, that the log's file is cut to when the log starts over.
const LOG_BYTES: u64 = 4 << 20;

/// The value of `auto_vacuum` with which a database frees pages on request.
const INCREMENTAL: u64 = 2;

/// The disk space of the database, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseDiskUse {
    /// Bytes of pages that hold data.
    pub used: u64,
    /// Bytes of free pages.
    pub free: u64,
    /// Bytes of the write-ahead log's file.
    pub log: u64,
}

impl DatabaseDiskUse {
    /// Measures the database of a connection. Within a transaction its own changes count.
    ///
    /// # Errors
    ///
    /// Fails if SQLite cannot read the database.
    pub fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let page = pragma(connection, "PRAGMA page_size")?;
        let all = pragma(connection, "PRAGMA page_count")? * page;
        let free = pragma(connection, "PRAGMA freelist_count")? * page;
        // Without a log it counts as 0 bytes.
        let log = log_file(connection).and_then(|path| path.metadata().ok());
        let log = log.map_or(0, |file| file.len());
        Ok(Self { used: all.saturating_sub(free), free, log })
    }

    /// Returns the size of the database file and its log, in bytes.
    pub const fn total(&self) -> u64 {
        self.used + self.free + self.log
    }
}

/// Frees some of the free pages beyond the reserve. Returns whether there are more.
///
/// # Errors
///
/// Fails if the database cannot be written.
pub fn give_back(connection: &Connection) -> rusqlite::Result<bool> {
    let page = pragma(connection, "PRAGMA page_size")?;
    let reserve = RESERVE_BYTES / page.max(1);
    let spare = pragma(connection, "PRAGMA freelist_count")?.saturating_sub(reserve);
    if spare == 0 || pragma(connection, "PRAGMA auto_vacuum")? != INCREMENTAL {
        return Ok(false);
    }
    let pages = spare.min(STEP_PAGES);
    let mut vacuum = connection.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    // Each row is a page.
    while rows.next()?.is_some() {}
    Ok(spare > pages)
}

/// Prepares a connection: a new database can free pages, and the log's file stays short. To be called
/// before anything is written.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    // `auto_vacuum` has no effect on a database that has tables.
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    let limit = i64::try_from(LOG_BYTES).unwrap_or(i64::MAX);
    connection.pragma_update_and_check(None, "journal_size_limit", limit, |_| Ok(()))
}

/// Rebuilds a database that cannot free pages, if it is small. Its content stays the same.
pub(super) fn remake_if_small(connection: &Connection) -> rusqlite::Result<()> {
    if pragma(connection, "PRAGMA auto_vacuum")? == INCREMENTAL {
        return Ok(());
    }
    let size = DatabaseDiskUse::of(connection)?.total();
    if size > REMADE_BYTES {
        tracing::info!(
            bytes = size,
            "an older version created the database, which does not return free space to the disk; the \
             comment of journal.max_bytes in config/tagway.toml gives the command that changes this"
        );
        return Ok(());
    }
    // The copy is made on the disk, not in memory.
    connection.pragma_update(None, "temp_store", "FILE")?;
    connection.pragma_update(None, "auto_vacuum", INCREMENTAL)?;
    let remade = connection.execute_batch("VACUUM");
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if let Err(error) = remade {
        tracing::warn!(%error, "the database could not be rebuilt and does not return free space to the disk");
    }
    Ok(())
}

fn pragma(connection: &Connection, sql: &'static str) -> rusqlite::Result<u64> {
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

fn log_file(connection: &Connection) -> Option<PathBuf> {
    let path = connection.path().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(format!("{path}-wal")))
}

#[cfg(test)]
mod tests {
    use super::super::{CommitSyncMode, SqliteMigrations, SqliteStore};
    use super::*;
    use std::sync::Arc;
    use tagway_core::metrics::Metrics;

    const SCHEMA: SqliteMigrations = SqliteMigrations {
        name: "test",
        steps: &["CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)"],
    };

    fn open(folder: &std::path::Path) -> SqliteStore {
        SqliteStore::open(folder, CommitSyncMode::Os, &[SCHEMA], Arc::new(Metrics::new())).unwrap()
    }

    fn file_bytes(folder: &std::path::Path) -> u64 {
        let length = |name: &str| folder.join(name).metadata().map_or(0, |it| it.len());
        length("tagway.db") + length("tagway.db-wal")
    }

    /// Fills a table with 40 MiB, empties it, and frees what it may.
    async fn fill_and_empty(store: &SqliteStore) {
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)
            INSERT INTO t SELECT i, zeroblob(1048576) FROM n";
        store.write(|c| c.execute_batch(fill)).await.unwrap();
        let full = store.read(DatabaseDiskUse::of).await.unwrap();
        assert!(full.used > 40 << 20 && full.total() > full.used, "{full:?}");
        store.write(|c| c.execute_batch("DELETE FROM t")).await.unwrap();
        while store.write(give_back).await.unwrap() {}
    }

    #[tokio::test]
    async fn deleted_bytes_are_freed_on_disk_except_for_the_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        fill_and_empty(&store).await;
        let left = store.read(DatabaseDiskUse::of).await.unwrap();
        assert!(left.free <= RESERVE_BYTES, "{left:?}");
        store.close().await;
        drop(store);
        let bytes = file_bytes(folder.path());
        assert!(bytes < RESERVE_BYTES + (2 << 20), "{bytes}");
    }

    #[tokio::test]
    async fn small_database_of_an_older_version_frees_space_after_one_start() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).close().await;
        {
            let old = Connection::open(folder.path().join("tagway.db")).unwrap();
            let remake = "PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM";
            old.execute_batch(remake).unwrap();
            old.execute_batch("CREATE TABLE kept (n); INSERT INTO kept VALUES (7)").unwrap();
        }
        let store = open(folder.path());
        fill_and_empty(&store).await;
        let left = store.read(DatabaseDiskUse::of).await.unwrap();
        assert!(left.free <= RESERVE_BYTES, "{left:?}");
        let kept =
            store.read(|c| c.query_row("SELECT n FROM kept", [], |row| row.get::<_, i64>(0)));
        assert_eq!(kept.await.unwrap(), 7);
    }
}
