//! Segments in the embedded database, next to the profiles.

pub(super) mod dialect;
mod query_cancel;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, Params, Row, ToSql, params_from_iter};
use serde_json::{Value, json};

use self::dialect::SqliteDialect;
use self::query_cancel::QueryCancelGuard;
use super::sql::{SqlParameter, SqlStatement, compile};
use super::statements;
use super::{
    MembershipChange, MembershipFilter, MembershipPage, ProfileBitSet, ProfileSelection,
    RuleEvaluation, SegmentError, SegmentId, SegmentMembership, SegmentRecord, SegmentRunSummary,
    SegmentSize, SegmentStore, TREND_RUNS,
};
use tagway_storage::journal::SiteId;
use tagway_storage::profile::ProfileId;
use tagway_storage::store::{SqliteMigrations, SqliteStore};

/// The segments' tables. `since`, `at` and the runs' times are milliseconds since 1970; `state` is 1 for a
/// member, 0 for a former one; `is_sure` is 0 for a row that was perhaps sent to a destination, 1 for one that
/// surely was, 2 for one that it failed to remove.
pub const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "segments",
    steps: &[
        "
    CREATE TABLE segments (
        id INTEGER PRIMARY KEY,
        site INTEGER NOT NULL,
        name TEXT NOT NULL,
        begun_at INTEGER,
        ran_at INTEGER,
        took_ms INTEGER NOT NULL DEFAULT 0,
        size INTEGER NOT NULL DEFAULT 0,
        added INTEGER NOT NULL DEFAULT 0,
        removed INTEGER NOT NULL DEFAULT 0,
        fingerprint TEXT NOT NULL DEFAULT '',
        UNIQUE (site, name)
    );
    CREATE TABLE memberships (
        segment INTEGER NOT NULL,
        profile INTEGER NOT NULL,
        state INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (segment, profile)
    ) WITHOUT ROWID;
    CREATE TABLE syncs (
        id INTEGER PRIMARY KEY,
        segment INTEGER NOT NULL,
        destination TEXT NOT NULL,
        kind TEXT NOT NULL,
        list TEXT,
        synced INTEGER NOT NULL DEFAULT 0,
        checked INTEGER NOT NULL DEFAULT 0,
        UNIQUE (segment, destination, kind)
    );
    CREATE TABLE told (
        sync INTEGER NOT NULL,
        profile INTEGER NOT NULL,
        row TEXT NOT NULL,
        at INTEGER NOT NULL,
        is_sure INTEGER NOT NULL,
        PRIMARY KEY (sync, profile)
    ) WITHOUT ROWID;
    ",
        // The sizes of the last runs.
        "
    CREATE TABLE segment_runs (
        segment INTEGER NOT NULL,
        at INTEGER NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (segment, at)
    ) WITHOUT ROWID;
    ",
    ],
};

/// The segment store in the embedded database.
pub struct SqliteSegmentStore {
    store: Arc<SqliteStore>,
    evaluate_time: Duration,
}

impl SqliteSegmentStore {
    /// Builds a store in a database with [`MIGRATIONS`] and those of the profiles. The evaluation of a rule takes
    /// `evaluate_time` at most.
    pub fn new(store: Arc<SqliteStore>, evaluate_time: Duration) -> Self {
        Self { store, evaluate_time }
    }

    pub(super) fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// Runs a statement, and reads its rows.
    pub(super) async fn query<T: Send + 'static>(
        &self,
        statement: impl Into<Cow<'static, str>>,
        parameters: impl Params + Send + 'static,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, SegmentError> {
        let statement = statement.into();
        let rows = self.store.read(move |c| match statement {
            Cow::Borrowed(text) => c.prepare_cached(text)?.query_map(parameters, read)?.collect(),
            Cow::Owned(text) => c.prepare(&text)?.query_map(parameters, read)?.collect(),
        });
        Ok(rows.await?)
    }

    /// Runs a statement that returns one row, and reads it.
    pub(super) async fn query_one<T: Send + 'static>(
        &self,
        statement: &'static str,
        parameters: impl Params + Send + 'static,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, SegmentError> {
        let row =
            self.store.read(move |c| c.prepare_cached(statement)?.query_row(parameters, read));
        Ok(row.await?)
    }

    /// Runs a statement that changes rows; durable when it returns.
    pub(super) async fn execute_durably(
        &self,
        statement: &'static str,
        parameters: impl Params + Send + 'static,
    ) -> Result<(), SegmentError> {
        self.store.write_durably(move |c| c.execute(statement, parameters)).await?;
        Ok(())
    }
}

#[async_trait]
impl SegmentStore for SqliteSegmentStore {
    async fn list_segments(&self, site: SiteId) -> Result<Vec<SegmentRecord>, SegmentError> {
        self.query(statements::SELECT_SEGMENTS, [site.0], read_segment_record).await
    }

    async fn begin_run(
        &self,
        site: SiteId,
        name: &str,
        now_ms: i64,
    ) -> Result<(SegmentId, i64), SegmentError> {
        let name = name.to_owned();
        let begun = self.store.write(move |c| {
            let mut statement = c.prepare_cached(statements::BEGIN_RUN)?;
            statement
                .query_row((site.0, name, now_ms), |row| Ok((SegmentId(row.get(0)?), row.get(1)?)))
        });
        Ok(begun.await?)
    }

    async fn evaluate(
        &self,
        site: SiteId,
        evaluation: RuleEvaluation,
    ) -> Result<ProfileBitSet, SegmentError> {
        let asking = QueryCancelGuard::default();
        let asked = asking.state.clone();
        let found = self.store.read(move |c| {
            let statement = compile(&evaluation, site.0.into(), &SqliteDialect);
            asked.run_query(c, || members(c, &statement))
        });
        // Dropped, the query ends on its thread as well.
        let found = tokio::time::timeout(self.evaluate_time, found).await;
        Ok(found.map_err(|_elapsed| SegmentError::TooSlow)??)
    }

    async fn page(
        &self,
        segment: SegmentId,
        which: MembershipFilter,
        of: ProfileSelection,
    ) -> Result<MembershipPage, SegmentError> {
        let (state, since) = which.parameters();
        let statement = of.restrict(statements::SELECT_MEMBERSHIPS, "profile");
        let parameters = (segment.0, of.after(), state, since, of.limit());
        self.query(statement, parameters, membership).await
    }

    async fn change(
        &self,
        segment: SegmentId,
        changes: Vec<(ProfileId, MembershipChange)>,
        at_ms: i64,
    ) -> Result<(), SegmentError> {
        let changed = self.store.write(move |c| {
            let mut set = c.prepare_cached(
                "INSERT INTO memberships VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET state = excluded.state, since = excluded.since",
            )?;
            let mut forget =
                c.prepare_cached("DELETE FROM memberships WHERE segment = ?1 AND profile = ?2")?;
            for (profile, change) in changes {
                match change {
                    MembershipChange::Join => set.execute((segment.0, profile.0, 1, at_ms))?,
                    MembershipChange::Leave => set.execute((segment.0, profile.0, 0, at_ms))?,
                    MembershipChange::Forget => forget.execute((segment.0, profile.0))?,
                };
            }
            Ok(())
        });
        Ok(changed.await?)
    }

    async fn size(&self, segment: SegmentId) -> Result<u64, SegmentError> {
        self.query_one(statements::COUNT_MEMBERS, [segment.0], |row| row.get(0)).await
    }

    async fn end_run(
        &self,
        segment: SegmentId,
        at_ms: i64,
        took_ms: i64,
        fingerprint: String,
    ) -> Result<SegmentRunSummary, SegmentError> {
        // Counted outside the writer: no other task changes memberships meanwhile.
        let sizes = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let counting = self.query_one(statements::COUNT_CHANGES, (segment.0, at_ms), sizes);
        let (size, added, removed): (u64, u64, u64) = counting.await?;
        let parameters = (segment.0, at_ms, took_ms, size, added, removed, fingerprint.clone());
        let ended = self.store.write_durably(move |c| {
            c.execute(statements::END_RUN, parameters)?;
            c.execute(statements::INSERT_RUN, (segment.0, at_ms, size))?;
            c.execute(statements::DELETE_OLD_RUNS, (segment.0, TREND_RUNS))?;
            Ok(())
        });
        ended.await?;
        Ok(SegmentRunSummary { at_ms, took_ms, size, added, removed, fingerprint })
    }

    async fn trend(&self, segment: SegmentId) -> Result<Vec<SegmentSize>, SegmentError> {
        let size = |row: &Row<'_>| Ok(SegmentSize::new(row.get(0)?, row.get(1)?));
        self.query(statements::SELECT_RUNS, [segment.0], size).await
    }

    async fn people(
        &self,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Value)>, SegmentError> {
        let statement = "SELECT p.id, p.user_id, p.traits
             FROM json_each(?1) w CROSS JOIN profiles p ON p.id = w.value ORDER BY w.key";
        self.query(statement, [json_array(&profiles)], |row| {
            let (profile, user_id): (i64, Option<String>) = (row.get(0)?, row.get(1)?);
            // Only the profiles write it; a damaged row shows nothing.
            let traits: Value = serde_json::from_str(row.get_ref(2)?.as_str()?).unwrap_or_default();
            let person = json!({ "profile": profile, "user_id": user_id, "traits": traits });
            Ok((ProfileId(profile), person))
        })
        .await
    }

    async fn remove(&self, segment: SegmentId, limit: usize) -> Result<bool, SegmentError> {
        let removed = self.store.write(move |c| {
            let removed = c.execute(statements::DELETE_SOME_MEMBERSHIPS, (segment.0, limit))?;
            c.execute(statements::DELETE_EMPTY_SYNCS, [segment.0])?;
            c.execute(statements::DELETE_SEGMENT, [segment.0])?;
            c.execute(statements::DELETE_RUNS, [segment.0])?;
            Ok(removed < limit)
        });
        Ok(removed.await?)
    }
}

/// Returns the profiles' numbers as a statement's parameter, for `json_each`.
pub(super) fn json_array(profiles: &[ProfileId]) -> String {
    let numbers: Vec<String> = profiles.iter().map(|profile| profile.0.to_string()).collect();
    format!("[{}]", numbers.join(","))
}

fn read_segment_record(row: &Row<'_>) -> rusqlite::Result<SegmentRecord> {
    let ran_at: Option<i64> = row.get(3)?;
    Ok(SegmentRecord {
        id: SegmentId(row.get(0)?),
        name: row.get(1)?,
        begun_at: row.get(2)?,
        last_run: ran_at.map(|at_ms| read_run_summary(row, at_ms)).transpose()?,
    })
}

fn read_run_summary(row: &Row<'_>, at_ms: i64) -> rusqlite::Result<SegmentRunSummary> {
    Ok(SegmentRunSummary {
        at_ms,
        took_ms: row.get(4)?,
        size: row.get(5)?,
        added: row.get(6)?,
        removed: row.get(7)?,
        fingerprint: row.get(8)?,
    })
}

fn membership(row: &Row<'_>) -> rusqlite::Result<SegmentMembership> {
    Ok(SegmentMembership {
        profile: ProfileId(row.get(0)?),
        is_member: row.get(1)?,
        since_ms: row.get(2)?,
    })
}

fn members(c: &Connection, statement: &SqlStatement) -> rusqlite::Result<ProfileBitSet> {
    let mut query = c.prepare(&statement.text)?;
    let mut rows = query.query(params_from_iter(&statement.parameters))?;
    let mut members = ProfileBitSet::default();
    while let Some(row) = rows.next()? {
        members.insert(row.get(0)?);
    }
    Ok(members)
}

impl ToSql for SqlParameter {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Integer(number) => number.to_sql(),
            Self::Real(number) => number.to_sql(),
            Self::Text(text) => text.to_sql(),
        }
    }
}
