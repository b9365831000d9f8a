//! Moves what the write-ahead log holds into the database file, on a thread beside the writer's.
//!
//! A checkpoint waits for the disk, and the commits that wait for the same disk meanwhile wait with it.
//! So it runs often and is short each time, on its own thread, while commits go on. They leave the log
//! a little longer than what was moved, and the log starts over only when all of it has been moved; so
//! the writer itself moves the rest, which is short.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::{io, mem};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;

use super::writer::ConnectionOpener;

/// The length of the log, in pages, at which it is moved: 1 MiB. Under the load of `benches/load` the
/// slowest hundredth of requests then waits about 5 ms; with 16 MiB it waits 30 ms, at the same rate,
/// and with less than this the rate falls.
const FULL_PAGES: u32 = 256;

/// The state that the checkpoint thread and the writer share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckpointPhase {
    /// No checkpoint is due.
    Idle,
    /// The thread has to move the log, or is moving it.
    Moving,
    /// The thread has moved it; the writer moves the rest.
    Moved,
    /// The thread has to end.
    Closed,
}

struct CheckpointState {
    phase: Mutex<CheckpointPhase>,
    changed: Condvar,
}

impl CheckpointState {
    fn lock(&self) -> MutexGuard<'_, CheckpointPhase> {
        self.phase.lock()
    }

    fn set(&self, phase: CheckpointPhase) {
        *self.lock() = phase;
        self.changed.notify_one();
    }
}

/// The length of the log after the last commit, in pages. SQLite's commit hook sets it.
#[derive(Clone, Debug, Default)]
pub(super) struct WalPageCount(Arc<AtomicU32>);

impl WalPageCount {
    /// Counts the commits of this connection. SQLite no longer checkpoints automatically then.
    pub(super) fn follow(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let seen = self.0.clone();
        connection.wal_hook(Some(move |_log: &mut rusqlite::hooks::Wal, pages: i32| {
            seen.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The checkpoints of one database.
pub(super) struct Checkpointer {
    shared: Arc<CheckpointState>,
    thread: Option<JoinHandle<()>>,
    pages: WalPageCount,
    /// The length at which the log is moved next: later than usual if a reader held it last time.
    due_at: u32,
}

impl Checkpointer {
    /// Starts the thread, which opens a connection of its own when it first has work.
    pub(super) fn start(connect: Arc<ConnectionOpener>, pages: WalPageCount) -> io::Result<Self> {
        let shared = Arc::new(CheckpointState {
            phase: Mutex::new(CheckpointPhase::Idle),
            changed: Condvar::new(),
        });
        let thread = {
            let shared = shared.clone();
            let name = "tagway-log".to_owned();
            std::thread::Builder::new().name(name).spawn(move || work(&shared, &connect))?
        };
        Ok(Self { shared, thread: Some(thread), pages, due_at: FULL_PAGES })
    }

    /// Starts a checkpoint, or moves the rest of one, if the log is long enough. To be called between two commits.
    pub(super) fn after_commit(&mut self, connection: &Connection) {
        if self.pages.get() < self.due_at {
            return;
        }
        let phase = *self.shared.lock();
        match phase {
            CheckpointPhase::Idle => self.shared.set(CheckpointPhase::Moving),
            CheckpointPhase::Moving | CheckpointPhase::Closed => {}
            CheckpointPhase::Moved => {
                self.shared.set(CheckpointPhase::Idle);
                let is_all = matches!(move_log(connection), Ok((pages, moved)) if moved >= pages);
                // An old reader's snapshot pins the log; trying at every commit would only cost.
                self.due_at = if is_all { FULL_PAGES } else { self.pages.get() + FULL_PAGES / 4 };
            }
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.shared.set(CheckpointPhase::Closed);
        if let Some(thread) = mem::take(&mut self.thread)
            && thread.join().is_err()
        {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

fn work(shared: &CheckpointState, connect: &ConnectionOpener) {
    let mut connection = None;
    loop {
        let mut phase = shared.lock();
        while !matches!(*phase, CheckpointPhase::Moving | CheckpointPhase::Closed) {
            shared.changed.wait(&mut phase);
        }
        if *phase == CheckpointPhase::Closed {
            return;
        }
        drop(phase);
        let moved = match connection.take().map_or_else(connect, Ok) {
            Ok(open) => move_log(connection.insert(open)),
            Err(error) => Err(error),
        };
        if let Err(error) = moved {
            // The disk is full or failing, which the writer notices and logs. The log stays.
            tracing::debug!(%error, "the write-ahead log could not be checkpointed");
            connection = None;
        }
        let mut phase = shared.lock();
        if *phase == CheckpointPhase::Moving {
            *phase = CheckpointPhase::Moved;
        }
    }
}

/// Moves the pages that no reader needs. Returns the number of pages in the log, and of those moved.
fn move_log(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?
        .query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}
