//! One gateway of those that share a database keeps its segments: runs them, removes those that are no
//! more, and tells destinations. It holds a lock for as long as its connection lasts; when that ends,
//! the next gateway that asks goes on, from what stands in the tables.

use deadpool_postgres::{ClientWrapper, Object};
use tokio::sync::Mutex;

use crate::postgres::{PostgresDatabase, PostgresError};

/// Whether this gateway is the one.
#[derive(Default)]
pub(super) struct SegmentLeadership(Mutex<Option<ClientWrapper>>);

impl SegmentLeadership {
    /// Whether this gateway keeps the segments, from now on if nobody does.
    pub(super) async fn is_here(&self, database: &PostgresDatabase) -> Result<bool, PostgresError> {
        let mut own = self.0.lock().await;
        if own.as_ref().is_some_and(|own| !own.is_closed()) {
            return Ok(true);
        }
        *own = None;
        let client = database.client().await?;
        let asked =
            "SELECT pg_try_advisory_lock(hashtext('tagway segments in ' || current_schema()))";
        let is_here: bool = client.query_one(asked, &[]).await?.try_get(0)?;
        if is_here {
            // Out of the pool: the lock is the connection's.
            *own = Some(Object::take(client));
        }
        Ok(is_here)
    }
}
