//! The schema's numbered steps, each applied once. Gateways that start together wait for each other.

use deadpool_postgres::Client;

use super::PostgresError;

/// The advisory lock of schema changes: any number that no other program uses.
const LOCK: i64 = 0x7461_6777_6179;

/// The schema of one backend: step n brings it from version n to n + 1. Steps are only ever added.
#[derive(Clone, Copy, Debug)]
pub struct PostgresMigrations {
    /// The backend's name, the key in the table of versions.
    pub name: &'static str,
    /// The steps, oldest first.
    pub steps: &'static [&'static str],
}

/// The tables that all backends share. `version` is that of the site's profiles: it rises with every change of them.
const SHARED: PostgresMigrations = PostgresMigrations {
    name: "shared",
    steps: &["
    CREATE TABLE sites (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name TEXT COLLATE \"C\" NOT NULL UNIQUE,
        version BIGINT NOT NULL DEFAULT 0
    );
    "],
};

/// Applies the missing steps, all or none of them.
pub(super) async fn apply(
    client: &mut Client,
    schema: &str,
    schemas: &[PostgresMigrations],
) -> Result<(), PostgresError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // The name has only letters, digits and underscores.
    transaction
        .batch_execute(&format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {schema}.migrations (
                 name TEXT PRIMARY KEY, version BIGINT NOT NULL
             );"
        ))
        .await?;
    for part in std::iter::once(&SHARED).chain(schemas) {
        let done = transaction
            .query_opt("SELECT version FROM migrations WHERE name = $1", &[&part.name])
            .await?;
        let done: i64 = done.map(|row| row.try_get(0)).transpose()?.unwrap_or(0);
        let done = usize::try_from(done).unwrap_or(usize::MAX);
        if done > part.steps.len() {
            return Err(PostgresError::Newer);
        }
        for step in part.steps.iter().skip(done) {
            transaction.batch_execute(step).await?;
        }
        let version = i64::try_from(part.steps.len()).unwrap_or(i64::MAX);
        let sql = "INSERT INTO migrations VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET version = excluded.version";
        transaction.execute(sql, &[&part.name, &version]).await?;
    }
    transaction.commit().await?;
    Ok(())
}
