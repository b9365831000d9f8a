//! Which gateway this is: an id that lives and dies with the journal, since it says which journal the
//! place in the profiles is of.

use std::sync::Arc;

use uuid::Uuid;

use crate::store::{SqliteMigrations, SqliteStore, StoreWriteError};

/// The table of the id, in the embedded database.
pub const MIGRATIONS: SqliteMigrations =
    SqliteMigrations { name: "node", steps: &["CREATE TABLE node (id TEXT NOT NULL)"] };

/// The gateway's id, made when it is first asked for.
pub async fn node(store: &SqliteStore) -> Result<String, Arc<StoreWriteError>> {
    let new = Uuid::new_v4().to_string();
    store
        .write_durably(move |c| {
            c.execute("INSERT INTO node SELECT ? WHERE NOT EXISTS (SELECT 1 FROM node)", [new])?;
            c.query_row("SELECT id FROM node", [], |row| row.get(0))
        })
        .await
}
