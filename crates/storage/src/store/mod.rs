//! The embedded database: one SQLite file in WAL mode, one writer thread, many readers.
//!
//! Constraints that shape it:
//!
//! - All writes go through one thread, which commits them in groups: everything that waits when a
//!   group starts shares one transaction and one `fdatasync`. Appends of events are durable when
//!   their write is done; other writes ([`WriteUrgency::Lazy`]) are durable with the next group that
//!   syncs, so a crash may undo the newest of them, in order, and never tears one.
//! - A write that breaks a rule of the schema, or panics, fails alone. A disk that is full or broken fails the whole
//!   group: it is rolled back, every writer gets the error, and the next group tries again. After a failed sync that
//!   group first secures the content of the log; `writer` has the reason.
//! - Readers have their own connections and never wait for the writer.
//! - One process owns the data folder: the lock is held until the store is dropped.
//! - The files hold personal data: they are readable by their owner alone, whatever the folder's mode.
//!
//! The store defines no tables. Each backend (`journal/sqlite`, `profile/sqlite`) has its own
//! migrations and statements.

mod checkpoint;
mod files;
mod migrate;
mod pool;
mod space;
mod writer;

pub use files::DatabaseFileError;
pub use migrate::SqliteMigrations;
pub use space::{DatabaseDiskUse, give_back};
pub use writer::{StoreWrite, StoreWriteError, WriteUrgency};

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use tokio::sync::{oneshot, watch};

use tagway_core::metrics::Metrics;

/// The database file's name in the data folder.
const FILE: &str = "tagway.db";

/// The durability of a commit that carries events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitSyncMode {
    /// Wait for `fdatasync`.
    Disk,
    /// Leave it to the operating system.
    Os,
}

/// The reason why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// The data folder cannot be made or used.
    #[error("the data folder {0} cannot be used")]
    Folder(PathBuf, #[source] io::Error),
    /// Another process has locked the folder.
    #[error("the data folder {0} is in use by another process")]
    InUse(PathBuf),
    /// The database cannot be opened, or the file is not a database.
    #[error("the database in {0} cannot be opened")]
    Database(PathBuf, #[source] rusqlite::Error),
    /// The database's files were cut, replaced or lost since the store was closed.
    #[error(transparent)]
    Unsound(#[from] DatabaseFileError),
    /// The database was written by a newer program.
    #[error("the database in {0} was written by a newer version of this program")]
    Newer(PathBuf),
    /// The writer thread could not be started.
    #[error("the writer thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The reason why a read failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreReadError {
    /// The database returned an error.
    #[error("the database cannot be read")]
    Database(#[source] Arc<rusqlite::Error>),
    /// The gateway is shutting down.
    #[error("the database is closed")]
    Closed,
}

/// The open database: its writer thread, its readers and its lock.
pub struct SqliteStore {
    writer: writer::StoreWriter,
    readers: Arc<pool::ReadConnectionPool>,
    // Released by `close`, or when the file is dropped.
    lock: File,
}

impl SqliteStore {
    /// Opens or creates the database in `folder`, applies the migrations of every schema, and starts
    /// the writer thread.
    ///
    /// # Errors
    ///
    /// Fails if the folder is in use or unusable, or its database is damaged, newer or cannot be
    /// opened.
    pub fn open(
        folder: &Path,
        sync: CommitSyncMode,
        schemas: &[SqliteMigrations],
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreOpenError> {
        make_private(folder).map_err(|error| StoreOpenError::Folder(folder.to_owned(), error))?;
        if is_open_to_others(folder) {
            tracing::warn!(
                folder = %folder.display(),
                "other users of this machine can access data_dir: change its mode to 0700"
            );
        }
        let lock = lock(folder)?;
        let path = folder.join(FILE);
        files::examine(&path)?;
        // SQLite would create it with the umask's mode; its other files take the mode of this one.
        private_file(&path).map_err(|error| StoreOpenError::Folder(folder.to_owned(), error))?;
        let refused = |error| StoreOpenError::Database(folder.to_owned(), error);
        let connection = Connection::open(&path).map_err(refused)?;
        if files::is_foreign(&connection).map_err(refused)? {
            return Err(DatabaseFileError::Foreign(path).into());
        }
        space::prepare(&connection).map_err(refused)?;
        let mut connection = configured(connection, sync).map_err(refused)?;
        for schema in schemas {
            if !migrate::apply(&mut connection, schema).map_err(refused)? {
                return Err(StoreOpenError::Newer(folder.to_owned()));
            }
        }
        space::remake_if_small(&connection).map_err(refused)?;
        files::sign(&connection).map_err(refused)?;
        let reopen = {
            let path = path.clone();
            move || connect(&path, sync)
        };
        let writer =
            writer::StoreWriter::start(connection, sync, Arc::new(Box::new(reopen)), metrics)
                .map_err(StoreOpenError::Thread)?;
        Ok(Self { writer, readers: Arc::new(pool::ReadConnectionPool::new(path)), lock })
    }

    /// Queues a write. Its `done` is called exactly once, on the writer thread.
    pub fn submit(&self, write: Box<dyn StoreWrite>) {
        self.writer.submit(write);
    }

    /// Runs `change` in a savepoint of its own and returns its result. Durable with the next synced group.
    ///
    /// # Errors
    ///
    /// Fails if `change` does, if the disk refuses the group, if the queue is full, or if the store is
    /// closed.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Arc<StoreWriteError>> {
        self.change(WriteUrgency::Lazy, change).await
    }

    /// Runs `change` as [`Self::write`] does; durable when it returns.
    ///
    /// # Errors
    ///
    /// The same as of [`Self::write`].
    pub async fn write_durably<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Arc<StoreWriteError>> {
        self.change(WriteUrgency::Now, change).await
    }

    async fn change<T: Send + 'static>(
        &self,
        urgency: WriteUrgency,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Arc<StoreWriteError>> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Box::new(ClosureWrite { urgency, change: Some(change), value: None, sender }));
        receiver.await.unwrap_or_else(|_| Err(Arc::new(StoreWriteError::Closed)))
    }

    /// Runs `query` on a reader's connection, off the asynchronous threads. All its statements read the
    /// same snapshot.
    ///
    /// # Errors
    ///
    /// Fails if `query` does, or if the store is closed.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreReadError> {
        let readers = self.readers.clone();
        let task = tokio::task::spawn_blocking(move || readers.with(query));
        match task.await {
            Ok(result) => result.map_err(|error| StoreReadError::Database(Arc::new(error))),
            Err(_) => Err(StoreReadError::Closed),
        }
    }

    /// Returns the store's health: true while the last write reached the disk. Changes are published.
    pub fn writable(&self) -> watch::Receiver<bool> {
        self.writer.writable()
    }

    /// Writes and syncs what is queued, refuses later writes, ends the writer thread and releases the
    /// data folder.
    pub async fn close(&self) {
        self.writer.close().await;
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock of data_dir cannot be released before the process ends");
        }
    }
}

/// Runs `change` so that what it deletes or replaces is overwritten in the file's pages. Not for
/// everyday deletions: it writes pages that would otherwise only be freed.
///
/// # Errors
///
/// Fails if `change` does, or if SQLite rejects the setting.
pub fn overwriting<T>(
    connection: &Connection,
    change: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.pragma_update(None, "secure_delete", true)?;
    let result = change();
    connection.pragma_update(None, "secure_delete", "FAST")?;
    result
}

/// A closure as a [`StoreWrite`], with the channel for its result.
struct ClosureWrite<F, T> {
    urgency: WriteUrgency,
    change: Option<F>,
    value: Option<T>,
    sender: oneshot::Sender<Result<T, Arc<StoreWriteError>>>,
}

impl<F, T> StoreWrite for ClosureWrite<F, T>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn urgency(&self) -> WriteUrgency {
        self.urgency
    }

    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(change) = self.change.take() {
            self.value = Some(change(connection)?);
        }
        Ok(())
    }

    fn done(self: Box<Self>, result: Result<(), Arc<StoreWriteError>>) {
        let Self { value, sender, .. } = *self;
        let value = result.and_then(|()| value.ok_or_else(|| Arc::new(StoreWriteError::Closed)));
        // The receiver may have been dropped; the write stands in any case.
        sender.send(value).ok();
    }
}

fn connect(path: &Path, sync: CommitSyncMode) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    space::prepare(&connection)?;
    configured(connection, sync)
}

fn configured(connection: Connection, sync: CommitSyncMode) -> rusqlite::Result<Connection> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Content that leaves a page which is rewritten anyway, as when the tree grows, is overwritten
    // there: otherwise it would stay in the file after its row is erased.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    connection.pragma_update(None, "synchronous", writer::synchronous(sync))?;
    // `checkpoint` does the checkpoints.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "foreign_keys", "OFF")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Negative: KiB. The writer touches the end of a few trees; readers have their own caches.
    connection.pragma_update(None, "cache_size", -8192)?;
    connection.set_prepared_statement_cache_capacity(64);
    keep_plans(&connection)?;
    Ok(connection)
}

/// Keeps a statement's plan whatever values are bound. By default SQLite may plan again for other
/// values, and every event has other values.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_is_on| ())
}

/// Opens the file; creates it, if it is missing, readable by its owner alone.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

fn is_open_to_others(folder: &Path) -> bool {
    folder.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

fn make_private(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn lock(folder: &Path) -> Result<File, StoreOpenError> {
    let refused = |error| StoreOpenError::Folder(folder.to_owned(), error);
    let mut file = private_file(&folder.join("lock")).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreOpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => return Err(refused(error)),
    }
    // The process id helps an operator find who holds the lock. The lock is the flock, not the content,
    // and a disk that is full today must not keep the gateway from starting.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).ok();
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: SqliteMigrations =
        SqliteMigrations { name: "test", steps: &["CREATE TABLE t (n INTEGER PRIMARY KEY)"] };

    fn open(folder: &Path) -> Result<SqliteStore, StoreOpenError> {
        SqliteStore::open(folder, CommitSyncMode::Disk, &[SCHEMA], Arc::new(Metrics::new()))
    }

    async fn insert(store: &SqliteStore, n: i64) -> Result<usize, Arc<StoreWriteError>> {
        store.write(move |c| c.execute("INSERT INTO t VALUES (?)", [n])).await
    }

    async fn count(store: &SqliteStore) -> i64 {
        store.read(|c| c.query_row("SELECT count(*) FROM t", [], |row| row.get(0))).await.unwrap()
    }

    #[tokio::test]
    async fn written_rows_are_there_after_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        insert(&store, 1).await.unwrap();
        store.close().await;
        assert!(matches!(insert(&store, 2).await.unwrap_err().as_ref(), StoreWriteError::Closed));
        drop(store);
        let store = open(folder.path()).unwrap();
        assert_eq!(count(&store).await, 1);
    }

    #[tokio::test]
    async fn a_write_that_breaks_a_rule_fails_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let (a, b, c) = tokio::join!(insert(&store, 1), insert(&store, 1), insert(&store, 2));
        a.unwrap();
        assert!(matches!(b.unwrap_err().as_ref(), StoreWriteError::Rejected(_)));
        c.unwrap();
        assert_eq!(count(&store).await, 2);
        assert!(*store.writable().borrow(), "a broken rule is not a broken disk");
    }

    #[tokio::test]
    async fn full_disk_fails_the_group_and_later_writes_recover() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let limit = |pages: i64| {
            store.write(move |c| {
                c.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            })
        };
        limit(8).await.unwrap();
        let mut refused = None;
        for n in 0..10_000 {
            if let Err(error) = insert(&store, n * 1_000_003).await {
                refused = Some((n, error));
                break;
            }
        }
        let (n, error) = refused.expect("eight pages are soon full");
        assert!(matches!(error.as_ref(), StoreWriteError::Disk(_)), "{error:?}");
        assert!(!*store.writable().borrow());
        limit(100_000).await.unwrap();
        insert(&store, -1).await.unwrap();
        assert!(*store.writable().borrow());
        assert_eq!(count(&store).await, n + 1, "nothing of the refused group stayed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn read_uses_one_snapshot_for_all_its_statements() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path()).unwrap();
        let (has_begun, begun) = std::sync::mpsc::sync_channel(1);
        let (has_written, written) = std::sync::mpsc::sync_channel(1);
        let reading = store.read(move |c| {
            let count = |c: &Connection| c.query_row("SELECT count(*) FROM t", [], |r| r.get(0));
            let before: i64 = count(c)?;
            has_begun.send(()).unwrap();
            written.recv().unwrap();
            let after: i64 = count(c)?;
            Ok((before, after))
        });
        let writing = async {
            tokio::task::block_in_place(|| begun.recv().unwrap());
            insert(&store, 1).await.unwrap();
            has_written.send(()).unwrap();
        };
        let (moments, ()) = tokio::join!(reading, writing);
        assert_eq!(moments.unwrap(), (0, 0));
        assert_eq!(count(&store).await, 1);
    }

    #[tokio::test]
    async fn files_are_private_to_their_owner_whatever_the_folder_mode() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, is_open) in [(0o700, false), (0o755, true)] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.path(), permissions).unwrap();
            assert_eq!(is_open_to_others(folder.path()), is_open);
        }
        let store = open(folder.path()).unwrap();
        insert(&store, 1).await.unwrap();
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{entry:?}");
            names.push(entry.file_name().into_string().unwrap());
        }
        assert!(names.contains(&"tagway.db-wal".to_owned()), "{names:?}");
    }

    #[tokio::test]
    async fn a_second_owner_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).unwrap();
        assert!(matches!(open(folder.path()), Err(StoreOpenError::InUse(_))));
        drop(first);
        open(folder.path()).unwrap();
    }

    #[test]
    fn a_newer_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        const TWO: &[&str] = &["CREATE TABLE t (n INTEGER PRIMARY KEY)", "CREATE TABLE u (n)"];
        let two = SqliteMigrations { name: "test", steps: TWO };
        let metrics = Arc::new(Metrics::new());
        drop(SqliteStore::open(folder.path(), CommitSyncMode::Os, &[two], metrics).unwrap());
        assert!(matches!(open(folder.path()), Err(StoreOpenError::Newer(_))));
    }
}
