//! The pool of read connections, opened on demand and reused.

use std::path::PathBuf;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};

/// The most idle connections. More may be in use at once, one per blocking thread.
const MAX_IDLE: usize = 8;

/// Read-only connections to the database.
pub(super) struct ReadConnectionPool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl ReadConnectionPool {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    /// Runs `query` on a connection, all of it on one snapshot. Blocks: call it from a blocking thread.
    pub(super) fn with<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect()?,
        };
        // Statements outside a transaction would each read the newest snapshot.
        let result = connection.unchecked_transaction().and_then(|moment| query(&moment));
        // A connection that has just failed may be broken; the next one is fresh.
        if result.is_ok() {
            let mut idle = self.idle.lock();
            if idle.len() < MAX_IDLE {
                idle.push(connection);
            }
        }
        result
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // Only a checkpoint that restarts the log can make a reader wait, and that is short.
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // Negative: KiB. Readers go through the events once, in order; a large cache gains nothing.
        connection.pragma_update(None, "cache_size", -1024)?;
        super::keep_plans(&connection)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    }
}
