//! Schema migrations of the embedded database: numbered steps, each applied once, in its own transaction.

use rusqlite::{Connection, OptionalExtension};

/// The schema of one backend: step n brings it from version n to n + 1. Steps are only ever added.
#[derive(Clone, Copy, Debug)]
pub struct SqliteMigrations {
    /// The backend's name, the key in the table `migrations`.
    pub name: &'static str,
    /// The steps, oldest first.
    pub steps: &'static [&'static str],
}

/// Applies the missing steps. Returns false if the database has more steps than the program.
pub(super) fn apply(
    connection: &mut Connection,
    schema: &SqliteMigrations,
) -> rusqlite::Result<bool> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, version INTEGER NOT NULL)",
    )?;
    let done: usize = connection
        .query_row("SELECT version FROM migrations WHERE name = ?", [schema.name], |r| r.get(0))
        .optional()?
        .unwrap_or(0);
    for (index, step) in schema.steps.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        let sql = "INSERT INTO migrations VALUES (?1, ?2)
            ON CONFLICT (name) DO UPDATE SET version = excluded.version";
        transaction.execute(sql, (schema.name, index + 1))?;
        transaction.commit()?;
    }
    Ok(done <= schema.steps.len())
}
