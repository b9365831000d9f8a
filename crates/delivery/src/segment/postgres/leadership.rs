//! One of the gateways that share a database is the leader for its segments: it runs them, removes deleted
//! ones, and syncs destinations. It keeps a lock for as long as its connection lasts; after that, the next
//! gateway that asks for the lock continues from the tables.

use deadpool_postgres::{ClientWrapper, Object};
use tokio::sync::Mutex;

use tagway_storage::postgres::{PostgresDatabase, PostgresError};

/// The leader's connection with the lock, if this gateway is the leader.
#[derive(Default)]
pub(super) struct SegmentLeadership(Mutex<Option<ClientWrapper>>);

impl SegmentLeadership {
    /// Returns true if this gateway is the leader; becomes the leader if there is none.
    pub(super) async fn is_leader(
        &self,
        database: &PostgresDatabase,
    ) -> Result<bool, PostgresError> {
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
            // Taken out of the pool: the lock belongs to the connection.
            *own = Some(Object::take(client));
        }
        Ok(is_here)
    }
}
