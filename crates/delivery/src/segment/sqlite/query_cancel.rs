//! A long query that is interrupted when its caller no longer waits for the result.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};

/// The caller's guard. Dropped, it interrupts the query.
#[derive(Default)]
pub(super) struct QueryCancelGuard {
    pub(super) state: Arc<InterruptibleQuery>,
}

/// The stage of the query.
#[derive(Default)]
pub(super) struct InterruptibleQuery(Mutex<QueryStage>);

#[derive(Default)]
enum QueryStage {
    #[default]
    Waiting,
    Running(InterruptHandle),
    Over,
}

impl InterruptibleQuery {
    fn set(&self, stage: QueryStage) -> QueryStage {
        let mut own = self.0.lock();
        std::mem::replace(&mut *own, stage)
    }

    /// Runs the query, unless its caller is gone. The connection is not interrupted once this has returned,
    /// so that its next user is not affected.
    pub(super) fn run_query<T>(
        &self,
        connection: &Connection,
        ask: impl FnOnce() -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        if matches!(
            self.set(QueryStage::Running(connection.get_interrupt_handle())),
            QueryStage::Over
        ) {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT),
                None,
            ));
        }
        let answer = ask();
        self.set(QueryStage::Over);
        answer
    }
}

impl Drop for QueryCancelGuard {
    fn drop(&mut self) {
        let mut stage = self.state.0.lock();
        if let QueryStage::Running(handle) = &*stage {
            handle.interrupt();
        }
        *stage = QueryStage::Over;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn query_is_interrupted_when_its_caller_is_dropped() {
        let asking = QueryCancelGuard::default();
        let state = asking.state.clone();
        let (has_begun, begun) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let c = Connection::open_in_memory()?;
            let endless =
                "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n";
            let mut query = c.prepare(endless)?;
            state.run_query(&c, || {
                let mut rows = query.query([])?;
                while rows.next()?.is_some() {
                    has_begun.try_send(()).ok();
                }
                Ok(())
            })
        });
        begun.recv().unwrap();
        drop(asking);
        let error = thread.join().unwrap().unwrap_err();
        assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::OperationInterrupted));
    }

    #[test]
    fn query_does_not_start_after_its_caller_is_dropped() {
        let asking = QueryCancelGuard::default();
        let state = asking.state.clone();
        drop(asking);
        let c = Connection::open_in_memory().unwrap();
        assert!(state.run_query(&c, || -> rusqlite::Result<()> { panic!("asked") }).is_err());
    }
}
