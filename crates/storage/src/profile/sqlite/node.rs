//! The gateway's id. It has the same lifetime as the journal, since it shows to which journal a
//! position in the profiles belongs.

use std::sync::Arc;

use uuid::Uuid;

use crate::store::{SqliteMigrations, SqliteStore, StoreWriteError};

/// The migrations of the id's table, in the embedded database.
pub const MIGRATIONS: SqliteMigrations =
    SqliteMigrations { name: "node", steps: &["CREATE TABLE node (id TEXT NOT NULL)"] };

/// Returns the gateway's id; creates it on first use.
///
/// # Errors
///
/// Fails if the database cannot be written.
pub async fn node(store: &SqliteStore) -> Result<String, Arc<StoreWriteError>> {
    let new = Uuid::new_v4().to_string();
    store
        .write_durably(move |c| {
            c.execute("INSERT INTO node SELECT ? WHERE NOT EXISTS (SELECT 1 FROM node)", [new])?;
            c.query_row("SELECT id FROM node", [], |row| row.get(0))
        })
        .await
}
