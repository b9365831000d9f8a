//! The writer thread: applies the waiting writes in one transaction, commits, and reports the results.
//!
//! Failures that do not end it:
//!
//! - A write that panics fails alone, as one that breaks a rule of the schema does: its savepoint is
//!   rolled back and its writer gets the error. If the thread itself should end all the same, all
//!   waiting and later writes are refused: no task waits for an answer that cannot come.
//! - After a failed `fdatasync` the system drops what it could not write and takes the pages for clean:
//!   the next sync succeeds without them. The commits of the log that were not synced yet (the lazy
//!   ones) are then only in memory, and a commit behind them, though synced, would be lost with them in
//!   a power cut, since reading the log ends at its first hole. So before anything else is acknowledged
//!   the whole log is copied into the database file, which is synced, and the log is truncated. While
//!   that fails the store stays unwritable.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::CommitSyncMode;
use super::checkpoint::{Checkpointer, WalPageCount};
use tagway_core::metrics::Metrics;

/// The most writes in one group: bounds the time until the first of them is answered. A flush of
/// appended events is one write, however many they are.
const MAX_GROUP: usize = 512;

/// The most writes waiting. Every writer waits for its own last write, so that this many tasks would
/// have to write at once; it is a stop for a mistake in the program, not a tuning knob.
const MAX_QUEUE: usize = 16_384;

/// The time between two probes of a store that cannot be written, so that the gateway turns ready again
/// without traffic.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The time by which a write must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteUrgency {
    /// Before `done` is called.
    Now,
    /// With the next group that is synced.
    Lazy,
}

/// One change to the database, applied as part of a group.
pub trait StoreWrite: Send {
    /// Returns the time by which the write must be durable.
    fn urgency(&self) -> WriteUrgency;

    /// Makes the change. The transaction is the caller's; after an error this write is rolled back.
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()>;

    /// Receives the result. Called exactly once, on the writer thread: keep it short.
    fn done(self: Box<Self>, result: Result<(), Arc<StoreWriteError>>);
}

/// The reason why a write was not made.
#[derive(Debug, thiserror::Error)]
pub enum StoreWriteError {
    /// The disk is full or failing. The whole group was rolled back; later writes try again.
    #[error("the disk refused the write")]
    Disk(#[source] rusqlite::Error),
    /// Another write of the group met a full or failing disk.
    #[error("the disk refused the write")]
    Group,
    /// The write breaks a rule of the schema. No other write was rolled back.
    #[error("the database refused the write")]
    Rejected(#[source] rusqlite::Error),
    /// The write panicked, which is a mistake in the program. No other write was rolled back.
    #[error("the write panicked")]
    Panicked,
    /// The queue of writes is full.
    #[error("too many writes wait for the disk")]
    Busy,
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
}

/// Opens a fresh connection after a failure of the disk.
pub(super) type ConnectionOpener =
    Box<dyn Fn() -> rusqlite::Result<Connection> + Send + std::marker::Sync>;

/// The handle to the writer thread and its queue.
pub(super) struct StoreWriter {
    queue: Arc<WriteQueue>,
    writable: watch::Receiver<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct WriteQueue {
    state: Mutex<WriteQueueState>,
    ready: Condvar,
}

#[derive(Default)]
struct WriteQueueState {
    writes: VecDeque<Box<dyn StoreWrite>>,
    closed: bool,
    ended: Option<oneshot::Sender<()>>,
}

impl WriteQueue {
    fn lock(&self) -> MutexGuard<'_, WriteQueueState> {
        // A panic of another thread leaves the queue as it was; every change to it is one push.
        self.state.lock()
    }
}

impl StoreWriter {
    pub(super) fn start(
        mut connection: Connection,
        sync: CommitSyncMode,
        reopen: Arc<ConnectionOpener>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let pages = WalPageCount::default();
        pages.follow(&mut connection).map_err(io::Error::other)?;
        let checkpoints = Checkpointer::start(reopen.clone(), pages.clone())?;
        let queue = Arc::new(WriteQueue::default());
        let (sender, writable) = watch::channel(true);
        metrics.journal_writable.set(1);
        let thread = WriterThread {
            queue: queue.clone(),
            connection,
            sync,
            synchronous: sync,
            reopen,
            pages,
            checkpoints,
            writable: sender,
            is_log_doubtful: false,
            metrics,
        };
        let end = WriterExitGuard { queue: queue.clone(), writable: thread.writable.clone() };
        let builder = std::thread::Builder::new().name("tagway-writer".into());
        let thread = builder.spawn(move || {
            let _end = end;
            thread.run();
        })?;
        Ok(Self { queue, writable, thread: Some(thread) })
    }

    pub(super) fn submit(&self, write: Box<dyn StoreWrite>) {
        let mut state = self.queue.lock();
        let refusal = if state.closed {
            StoreWriteError::Closed
        } else if state.writes.len() >= MAX_QUEUE {
            StoreWriteError::Busy
        } else {
            state.writes.push_back(write);
            drop(state);
            self.queue.ready.notify_one();
            return;
        };
        drop(state);
        write.done(Err(Arc::new(refusal)));
    }

    pub(super) fn writable(&self) -> watch::Receiver<bool> {
        self.writable.clone()
    }

    pub(super) async fn close(&self) {
        let (sender, ended) = oneshot::channel();
        {
            let mut state = self.queue.lock();
            if state.closed {
                return;
            }
            state.closed = true;
            state.ended = Some(sender);
        }
        self.queue.ready.notify_one();
        // An error means that the thread has ended, which is the purpose.
        ended.await.ok();
    }
}

impl Drop for StoreWriter {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.ready.notify_one();
        // The files are complete, and another process may lock the folder, once the thread has ended. A
        // write may own the last handle of the store, and then the current thread is the writer's.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the database thread panicked");
        }
    }
}

/// Refuses waiting and later writes when the thread ends, for whatever reason.
struct WriterExitGuard {
    queue: Arc<WriteQueue>,
    writable: watch::Sender<bool>,
}

impl Drop for WriterExitGuard {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.queue.lock();
            state.closed = true;
            std::mem::take(&mut state.writes)
        };
        let refusal = Arc::new(StoreWriteError::Closed);
        for write in waiting {
            report_result(write, Err(refusal.clone()));
        }
        if std::thread::panicking() {
            self.writable.send_replace(false);
            tracing::error!("the writer thread panicked: no events are accepted until a restart");
        }
    }
}

/// Reports its result to a write. A panic of its `done` does not end the thread.
fn report_result(write: Box<dyn StoreWrite>, result: Result<(), Arc<StoreWriteError>>) {
    if catch_unwind(AssertUnwindSafe(|| write.done(result))).is_err() {
        tracing::error!("the completion of a write panicked");
    }
}

/// The `synchronous` pragma's value: FULL syncs the log at every commit, NORMAL at checkpoints.
pub(super) const fn synchronous(sync: CommitSyncMode) -> &'static str {
    match sync {
        CommitSyncMode::Disk => "FULL",
        CommitSyncMode::Os => "NORMAL",
    }
}

struct WriterThread {
    queue: Arc<WriteQueue>,
    connection: Connection,
    sync: CommitSyncMode,
    // The value that the connection has now.
    synchronous: CommitSyncMode,
    reopen: Arc<ConnectionOpener>,
    pages: WalPageCount,
    checkpoints: Checkpointer,
    writable: watch::Sender<bool>,
    // Set after a failed sync until the log has been moved.
    is_log_doubtful: bool,
    metrics: Arc<Metrics>,
}

impl WriterThread {
    fn run(mut self) {
        while let Some(group) = self.next_group() {
            self.commit(group);
        }
        drop(self.checkpoints);
        // The last commits may have been lazy; closing must leave everything on the disk.
        if let Err(error) = self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE") {
            tracing::warn!(%error, "the write-ahead log could not be merged into the database at the stop");
        }
        if let Some(ended) = self.queue.lock().ended.take() {
            ended.send(()).ok();
        }
    }

    /// Waits for writes. An empty group is a probe; `None` ends the thread.
    fn next_group(&self) -> Option<Vec<Box<dyn StoreWrite>>> {
        let mut state = self.queue.lock();
        loop {
            if !state.writes.is_empty() {
                let count = state.writes.len().min(MAX_GROUP);
                return Some(state.writes.drain(..count).collect());
            }
            if state.closed {
                return None;
            }
            let is_healthy = *self.writable.borrow();
            if is_healthy {
                self.queue.ready.wait(&mut state);
            } else {
                let timeout = self.queue.ready.wait_for(&mut state, PROBE_INTERVAL);
                if timeout.timed_out() && state.writes.is_empty() && !state.closed {
                    return Some(Vec::new());
                }
            }
        }
    }

    fn commit(&mut self, mut group: Vec<Box<dyn StoreWrite>>) {
        let started = Instant::now();
        let outcome = self.try_commit(&mut group);
        self.metrics.journal_commit.observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(results) => {
                self.set_writable(true);
                for (write, result) in group.into_iter().zip(results) {
                    report_result(write, result.map_err(Arc::new));
                }
                self.checkpoints.after_commit(&self.connection);
            }
            Err(error) => {
                if self.set_writable(false) {
                    tracing::error!(%error, "the disk refuses writes: requests are answered with 503");
                }
                self.is_log_doubtful |= is_io(&error);
                self.recover();
                let mut first = Some(StoreWriteError::Disk(error));
                for write in group {
                    report_result(
                        write,
                        Err(Arc::new(first.take().unwrap_or(StoreWriteError::Group))),
                    );
                }
            }
        }
    }

    /// Runs one transaction around the whole group. The inner results are the writes' own; the outer
    /// error is the disk's and rolls back everything.
    fn try_commit(
        &mut self,
        group: &mut [Box<dyn StoreWrite>],
    ) -> rusqlite::Result<Vec<Result<(), StoreWriteError>>> {
        if self.is_log_doubtful {
            move_whole_log(&self.connection)?;
            self.is_log_doubtful = false;
        }
        let urgent = group.is_empty() || group.iter().any(|w| w.urgency() == WriteUrgency::Now);
        self.set_synchronous(if urgent { self.sync } else { CommitSyncMode::Os })?;
        self.run_statement("BEGIN IMMEDIATE")?;
        let mut results = Vec::with_capacity(group.len());
        if group.is_empty() {
            // The probe: a row that really has to be written.
            let sql = "INSERT INTO migrations VALUES ('probe', 1)
                ON CONFLICT (name) DO UPDATE SET version = version + 1";
            self.connection.execute(sql, [])?;
        }
        for write in group {
            self.run_statement("SAVEPOINT one")?;
            // After a panic only what `apply` reached is visible, and that is rolled back.
            let apply = AssertUnwindSafe(|| write.apply(&self.connection));
            let result = match catch_unwind(apply) {
                Ok(Ok(())) => Ok(()),
                // The second condition is SQLite's own rollback of everything.
                Ok(Err(error)) if is_disk(&error) || self.connection.is_autocommit() => {
                    return Err(error);
                }
                Ok(Err(error)) => Err(StoreWriteError::Rejected(error)),
                Err(_) => {
                    tracing::error!(
                        "a write panicked: it is rolled back, and later writes continue"
                    );
                    Err(StoreWriteError::Panicked)
                }
            };
            if result.is_err() {
                self.run_statement("ROLLBACK TO one")?;
            }
            self.run_statement("RELEASE one")?;
            results.push(result);
        }
        self.run_statement("COMMIT")?;
        Ok(results)
    }

    fn run_statement(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn set_synchronous(&mut self, wanted: CommitSyncMode) -> rusqlite::Result<()> {
        if self.synchronous != wanted {
            self.connection.pragma_update(None, "synchronous", synchronous(wanted))?;
            self.synchronous = wanted;
        }
        Ok(())
    }

    /// Resets the connection to a state in which a later group can be tried.
    fn recover(&mut self) {
        if !self.connection.is_autocommit() {
            // If this fails the connection is replaced below, which undoes the transaction too.
            self.connection.execute_batch("ROLLBACK").ok();
        }
        let pages = &self.pages;
        let reopened = (self.reopen)().and_then(|mut connection| {
            pages.follow(&mut connection)?;
            Ok(connection)
        });
        match reopened {
            Ok(connection) => {
                self.connection = connection;
                self.synchronous = self.sync;
            }
            Err(error) => tracing::warn!(%error, "the database could not be reopened yet"),
        }
    }

    /// Publishes whether the store is writable. Returns true if that changed.
    fn set_writable(&self, writable: bool) -> bool {
        let changed = self.writable.send_if_modified(|current| {
            let changed = *current != writable;
            *current = writable;
            changed
        });
        if changed {
            self.metrics.journal_writable.set(writable.into());
            if writable {
                tracing::info!("the disk accepts writes again");
            }
        }
        changed
    }
}

/// Copies the whole log into the database, syncs that, and truncates the log. Waits for readers of
/// older snapshots, which are short, as long as a connection waits for a lock.
fn move_whole_log(connection: &Connection) -> rusqlite::Result<()> {
    let is_held: bool =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_held {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, Some("a reader blocks the log".into())));
    }
    Ok(())
}

/// Returns true if the error may come from a sync.
fn is_io(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure)
}

/// Returns true if the error is the disk's (or the machine's), not the write's.
fn is_disk(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
                | ErrorCode::NotADatabase
                | ErrorCode::PermissionDenied
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A write that runs the test's closure.
    struct ScriptedWrite<F>(F, Option<oneshot::Sender<Result<(), Arc<StoreWriteError>>>>);

    impl<F: FnMut(&Connection) -> rusqlite::Result<()> + Send> StoreWrite for ScriptedWrite<F> {
        fn urgency(&self) -> WriteUrgency {
            WriteUrgency::Now
        }

        fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()> {
            (self.0)(connection)
        }

        fn done(mut self: Box<Self>, result: Result<(), Arc<StoreWriteError>>) {
            self.1.take().unwrap().send(result).unwrap();
        }
    }

    struct WriterTestBench {
        folder: tempfile::TempDir,
        writer: StoreWriter,
    }

    impl WriterTestBench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("db");
            let open = move || super::super::connect(&path, CommitSyncMode::Disk);
            let connection = open().unwrap();
            let tables =
                "CREATE TABLE t (n); CREATE TABLE migrations (name TEXT PRIMARY KEY, version)";
            connection.execute_batch(tables).unwrap();
            let metrics = Arc::new(Metrics::new());
            let reopen: Arc<ConnectionOpener> = Arc::new(Box::new(open));
            let writer =
                StoreWriter::start(connection, CommitSyncMode::Disk, reopen, metrics).unwrap();
            Self { folder, writer }
        }

        async fn write(
            &self,
            apply: impl FnMut(&Connection) -> rusqlite::Result<()> + Send + 'static,
        ) -> Result<(), Arc<StoreWriteError>> {
            let (sender, answer) = oneshot::channel();
            self.writer.submit(Box::new(ScriptedWrite(apply, Some(sender))));
            answer.await.unwrap()
        }

        async fn insert(&self, n: i64) -> Result<(), Arc<StoreWriteError>> {
            self.write(move |c| c.execute("INSERT INTO t VALUES (?)", [n]).map(drop)).await
        }

        fn numbers(&self) -> Vec<i64> {
            let connection = Connection::open(self.folder.path().join("db")).unwrap();
            let mut rows = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
            rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        }
    }

    #[tokio::test]
    async fn a_write_that_panics_fails_alone() {
        let b = WriterTestBench::new();
        let panicking = b.write(|c| {
            c.execute("INSERT INTO t VALUES (1)", []).unwrap();
            panic!("a mistake in the program")
        });
        let (first, panicked, last) = tokio::join!(b.insert(0), panicking, b.insert(2));
        assert!(matches!(panicked.unwrap_err().as_ref(), StoreWriteError::Panicked));
        first.unwrap();
        last.unwrap();
        assert_eq!(b.numbers(), [0, 2]);
        assert!(*b.writer.writable().borrow());
    }

    #[tokio::test]
    async fn writes_are_refused_after_the_thread_ended() {
        let queue = Arc::new(WriteQueue::default());
        let end = WriterExitGuard { queue: queue.clone(), writable: watch::Sender::new(true) };
        let writer = StoreWriter { queue, writable: end.writable.subscribe(), thread: None };
        let submit = || {
            let (sender, answer) = oneshot::channel();
            writer.submit(Box::new(ScriptedWrite(|_: &Connection| Ok(()), Some(sender))));
            answer
        };
        let waiting = submit();
        std::thread::spawn(move || {
            let _end = end;
            panic!("a mistake in the program")
        })
        .join()
        .unwrap_err();
        for answer in [waiting, submit()] {
            assert!(matches!(answer.await.unwrap().unwrap_err().as_ref(), StoreWriteError::Closed));
        }
        assert!(!*writer.writable.borrow());
    }

    #[tokio::test]
    async fn after_a_failed_sync_the_log_is_moved_before_anything_is_acknowledged() {
        let b = WriterTestBench::new();
        let log_bytes = || b.folder.path().join("db-wal").metadata().unwrap().len();
        for n in 0..20 {
            b.insert(n).await.unwrap();
        }
        let before = log_bytes();
        let failed = |_: &Connection| {
            let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            Err(rusqlite::Error::SqliteFailure(error, None))
        };
        assert!(matches!(b.write(failed).await.unwrap_err().as_ref(), StoreWriteError::Disk(_)));
        b.insert(20).await.unwrap();
        assert!(log_bytes() < before / 2, "{} of {before}", log_bytes());
        assert_eq!(b.numbers(), (0..=20).collect::<Vec<_>>());
    }
}
