//! Segments in the PostgreSQL database that gateways share, next to the profiles. One gateway runs them
//! (`leadership.rs`); any gateway may evaluate a rule.

pub(super) mod dialect;
mod leadership;

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Object;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use self::dialect::bound;
use self::leadership::SegmentLeadership;
use super::sql::{SqlStatement, compile};
use super::statements::{self, to_postgres_parameters};
use super::{
    MembershipChange, MembershipFilter, MembershipPage, ProfileBitSet, ProfileSelection,
    RuleEvaluation, SegmentError, SegmentId, SegmentMembership, SegmentRecord, SegmentRunSummary,
    SegmentSize, SegmentStore, TREND_RUNS,
};
use tagway_storage::journal::SiteId;
use tagway_storage::postgres::{
    PostgresClient, PostgresDatabase, PostgresError, PostgresMigrations, decoded, encoded,
};
use tagway_storage::profile::ProfileId;

/// The segments' tables, as in the embedded database. `since`, `at` and the runs' times are
/// milliseconds since 1970; `state` is 1 for a member, 0 for a former one.
pub const SCHEMA: PostgresMigrations = PostgresMigrations {
    name: "segments",
    steps: &[
        "
    CREATE TABLE segments (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        site BIGINT NOT NULL,
        name TEXT COLLATE \"C\" NOT NULL,
        begun_at BIGINT,
        ran_at BIGINT,
        took_ms BIGINT NOT NULL DEFAULT 0,
        size BIGINT NOT NULL DEFAULT 0,
        added BIGINT NOT NULL DEFAULT 0,
        removed BIGINT NOT NULL DEFAULT 0,
        fingerprint TEXT NOT NULL DEFAULT '',
        UNIQUE (site, name)
    );
    CREATE TABLE memberships (
        segment BIGINT NOT NULL,
        profile BIGINT NOT NULL,
        state BIGINT NOT NULL,
        since BIGINT NOT NULL,
        PRIMARY KEY (segment, profile)
    );
    CREATE TABLE syncs (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        segment BIGINT NOT NULL,
        destination TEXT NOT NULL,
        kind TEXT NOT NULL,
        list TEXT,
        synced BIGINT NOT NULL DEFAULT 0,
        checked BIGINT NOT NULL DEFAULT 0,
        UNIQUE (segment, destination, kind)
    );
    CREATE TABLE told (
        sync BIGINT NOT NULL,
        profile BIGINT NOT NULL,
        row TEXT NOT NULL,
        at BIGINT NOT NULL,
        is_sure BIGINT NOT NULL,
        PRIMARY KEY (sync, profile)
    );
    ",
        // The sizes of the last runs.
        "
    CREATE TABLE segment_runs (
        segment BIGINT NOT NULL,
        at BIGINT NOT NULL,
        size BIGINT NOT NULL,
        PRIMARY KEY (segment, at)
    );
    ",
    ],
};

/// The memory for one query: the sets of people in a rule are built in it, some 50 bytes each. With less,
/// PostgreSQL would scan such a set again for every person.
const MEMORY: &str = "256MB";

/// The segment store in the shared database.
pub struct PostgresSegmentStore {
    database: Arc<PostgresDatabase>,
    evaluate_time: Duration,
    leadership: SegmentLeadership,
}

impl PostgresSegmentStore {
    /// Builds a store in a database with [`SCHEMA`] and that of the profiles. The evaluation of a rule takes
    /// `evaluate_time` at most.
    pub fn new(database: Arc<PostgresDatabase>, evaluate_time: Duration) -> Self {
        Self { database, evaluate_time, leadership: SegmentLeadership::default() }
    }

    pub(super) fn database(&self) -> &PostgresDatabase {
        &self.database
    }

    /// Returns an error if another gateway is the leader.
    pub(super) async fn ensure_leader(&self) -> Result<(), SegmentError> {
        let keeping = self.leadership.is_leader(&self.database);
        if self.database.with_timeout(keeping).await? {
            Ok(())
        } else {
            Err(SegmentError::NotLeader)
        }
    }

    /// Runs a statement in SQLite's form, and reads its rows.
    pub(super) async fn query<T>(
        &self,
        statement: impl Into<Cow<'static, str>>,
        parameters: &[&(dyn ToSql + Sync)],
        read: fn(&Row) -> Result<T, PostgresError>,
    ) -> Result<Vec<T>, SegmentError> {
        let statement = statement.into();
        let reading = async {
            let client = self.database.client().await?;
            let text = to_postgres_parameters(&statement);
            let prepared = match statement {
                Cow::Borrowed(_) => client.prepare_cached(&text).await?,
                // Used once: the cache has no bound.
                Cow::Owned(_) => client.prepare(&text).await?,
            };
            client.query(&prepared, parameters).await?.iter().map(read).collect()
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    /// Runs a statement that returns one row, and reads it.
    pub(super) async fn query_one<T>(
        &self,
        statement: impl Into<Cow<'static, str>>,
        parameters: &[&(dyn ToSql + Sync)],
        read: fn(&Row) -> Result<T, PostgresError>,
    ) -> Result<T, SegmentError> {
        let rows = self.query(statement, parameters, read).await?;
        Ok(rows.into_iter().next().ok_or(PostgresError::Incomplete)?)
    }

    /// Runs a statement that changes rows, and returns their number.
    pub(super) async fn execute(
        &self,
        statement: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SegmentError> {
        let changing = async {
            let client = self.database.client().await?;
            let statement = client.prepare_cached(&to_postgres_parameters(statement)).await?;
            Ok(client.execute(&statement, parameters).await?)
        };
        Ok(self.database.with_timeout(changing).await?)
    }

    /// Returns the number of a site in the shared database.
    pub(super) async fn site_number(&self, site: SiteId) -> Result<i64, SegmentError> {
        let asking = async {
            let client = self.database.client().await?;
            self.database.site(&client, site.0).await
        };
        Ok(self.database.with_timeout(asking).await?)
    }

    async fn select(
        &self,
        site: SiteId,
        evaluation: &RuleEvaluation,
    ) -> Result<ProfileBitSet, PostgresError> {
        let client = self.database.client().await?;
        let number = self.database.site(&client, site.0).await?;
        let statement = compile(evaluation, number, &dialect::PostgresDialect);
        let mut asking = LongQueryConnection(Some(client));
        let members = asking.members(&statement, self.evaluate_time).await?;
        asking.0.take();
        Ok(members)
    }
}

fn membership(row: &Row) -> Result<SegmentMembership, PostgresError> {
    Ok(SegmentMembership {
        profile: ProfileId(row.try_get(0)?),
        is_member: row.try_get::<_, i64>(1)? != 0,
        since_ms: row.try_get(2)?,
    })
}

/// A connection for a long query. Dropped before the answer it is closed: its next user would have to wait
/// for the rest.
struct LongQueryConnection(Option<PostgresClient>);

impl LongQueryConnection {
    async fn members(
        &mut self,
        statement: &SqlStatement,
        limit: Duration,
    ) -> Result<ProfileBitSet, PostgresError> {
        let client = self.0.as_ref().ok_or(PostgresError::Incomplete)?;
        let begin = format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = {}; SET LOCAL work_mem = '{MEMORY}'; \
             SET LOCAL jit = off",
            limit.as_millis()
        );
        client.batch_execute(&begin).await?;
        let query = client.prepare(&statement.text).await?;
        let parameters: Vec<String> = statement.parameters.iter().map(bound).collect();
        let mut members = ProfileBitSet::default();
        let mut rows = pin!(client.query_raw(&query, parameters).await?);
        while let Some(row) = rows.try_next().await? {
            members.insert(row.try_get(0)?);
        }
        client.batch_execute("COMMIT").await?;
        Ok(members)
    }
}

impl Drop for LongQueryConnection {
    fn drop(&mut self) {
        self.0.take().map(Object::take);
    }
}

#[async_trait]
impl SegmentStore for PostgresSegmentStore {
    async fn list_segments(&self, site: SiteId) -> Result<Vec<SegmentRecord>, SegmentError> {
        self.ensure_leader().await?;
        let number = self.site_number(site).await?;
        self.query(statements::SELECT_SEGMENTS, &[&number], read_segment_record).await
    }

    async fn begin_run(
        &self,
        site: SiteId,
        name: &str,
        now_ms: i64,
    ) -> Result<(SegmentId, i64), SegmentError> {
        self.ensure_leader().await?;
        let (number, name) = (self.site_number(site).await?, encoded(name));
        let parameters: [&(dyn ToSql + Sync); 3] = [&number, &name, &now_ms];
        self.query_one(statements::BEGIN_RUN, &parameters, |row| {
            Ok((SegmentId(row.try_get(0)?), row.try_get(1)?))
        })
        .await
    }

    async fn evaluate(
        &self,
        site: SiteId,
        evaluation: RuleEvaluation,
    ) -> Result<ProfileBitSet, SegmentError> {
        let selected = self.select(site, &evaluation);
        let found = tokio::time::timeout(self.evaluate_time, selected).await;
        match found.map_err(|_elapsed| SegmentError::TooSlow)? {
            Err(error) if error.is_too_slow() => Err(SegmentError::TooSlow),
            found => Ok(found?),
        }
    }

    async fn page(
        &self,
        segment: SegmentId,
        which: MembershipFilter,
        of: ProfileSelection,
    ) -> Result<MembershipPage, SegmentError> {
        let (state, since) = which.parameters();
        let statement = of.restrict(statements::SELECT_MEMBERSHIPS, "profile");
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&segment.0, &of.after(), &state, &since, &of.limit()];
        self.query(statement, &parameters, membership).await
    }

    async fn change(
        &self,
        segment: SegmentId,
        changes: Vec<(ProfileId, MembershipChange)>,
        at_ms: i64,
    ) -> Result<(), SegmentError> {
        let (mut kept, mut states, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for (profile, change) in changes {
            match change {
                MembershipChange::Join => states.push(1_i64),
                MembershipChange::Leave => states.push(0),
                MembershipChange::Forget => {
                    forgotten.push(profile.0);
                    continue;
                }
            }
            kept.push(profile.0);
        }
        let changing = async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            let set = transaction
                .prepare_cached(
                    "INSERT INTO memberships
                     SELECT $1, w.*, $4::bigint FROM unnest($2::bigint[], $3::bigint[]) AS w
                     ON CONFLICT (segment, profile)
                     DO UPDATE SET state = excluded.state, since = excluded.since",
                )
                .await?;
            transaction.execute(&set, &[&segment.0, &kept, &states, &at_ms]).await?;
            let forget = transaction
                .prepare_cached("DELETE FROM memberships WHERE segment = $1 AND profile = ANY($2)")
                .await?;
            transaction.execute(&forget, &[&segment.0, &forgotten]).await?;
            Ok(transaction.commit().await?)
        };
        Ok(self.database.with_timeout(changing).await?)
    }

    async fn size(&self, segment: SegmentId) -> Result<u64, SegmentError> {
        self.ensure_leader().await?;
        let size = |row: &Row| Ok(count(row.try_get(0)?));
        self.query_one(statements::COUNT_MEMBERS, &[&segment.0], size).await
    }

    async fn end_run(
        &self,
        segment: SegmentId,
        at_ms: i64,
        took_ms: i64,
        fingerprint: String,
    ) -> Result<SegmentRunSummary, SegmentError> {
        let sizes = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let (size, added, removed): (i64, i64, i64) =
            self.query_one(statements::COUNT_CHANGES, &[&segment.0, &at_ms], sizes).await?;
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&segment.0, &at_ms, &took_ms, &size, &added, &removed, &fingerprint];
        self.execute(statements::END_RUN, &parameters).await?;
        self.execute(statements::INSERT_RUN, &[&segment.0, &at_ms, &size]).await?;
        self.execute(statements::DELETE_OLD_RUNS, &[&segment.0, &TREND_RUNS]).await?;
        let (size, added, removed) = (count(size), count(added), count(removed));
        Ok(SegmentRunSummary { at_ms, took_ms, size, added, removed, fingerprint })
    }

    async fn trend(&self, segment: SegmentId) -> Result<Vec<SegmentSize>, SegmentError> {
        let size = |row: &Row| Ok(SegmentSize::new(row.try_get(0)?, count(row.try_get(1)?)));
        self.query(statements::SELECT_RUNS, &[&segment.0], size).await
    }

    async fn people(
        &self,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Value)>, SegmentError> {
        let numbers: Vec<i64> = profiles.iter().map(|profile| profile.0).collect();
        let statement = "SELECT p.id, p.user_id, p.traits
             FROM unnest(?1::bigint[]) WITH ORDINALITY AS w (id, n)
             JOIN profiles p ON p.id = w.id ORDER BY w.n";
        let person = |row: &Row| {
            let profile: i64 = row.try_get(0)?;
            let user_id = row.try_get::<_, Option<String>>(1)?.map(decoded);
            let traits: Value = serde_json::from_str(row.try_get(2)?).unwrap_or_default();
            let shown = json!({ "profile": profile, "user_id": user_id, "traits": traits });
            Ok((ProfileId(profile), shown))
        };
        self.query(statement, &[&numbers], person).await
    }

    async fn remove(&self, segment: SegmentId, limit: usize) -> Result<bool, SegmentError> {
        self.ensure_leader().await?;
        let removing = async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            let fewer = transaction
                .prepare_cached(&to_postgres_parameters(statements::DELETE_SOME_MEMBERSHIPS))
                .await?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let removed = transaction.execute(&fewer, &[&segment.0, &limit]).await?;
            for statement in [
                statements::DELETE_EMPTY_SYNCS,
                statements::DELETE_SEGMENT,
                statements::DELETE_RUNS,
            ] {
                transaction.execute(&to_postgres_parameters(statement), &[&segment.0]).await?;
            }
            transaction.commit().await?;
            Ok(removed < limit.unsigned_abs())
        };
        Ok(self.database.with_timeout(removing).await?)
    }
}

/// Converts a number of rows from a result.
pub(super) fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

fn read_segment_record(row: &Row) -> Result<SegmentRecord, PostgresError> {
    let ran_at: Option<i64> = row.try_get(3)?;
    let ran = |at_ms| {
        Ok::<SegmentRunSummary, PostgresError>(SegmentRunSummary {
            at_ms,
            took_ms: row.try_get(4)?,
            size: count(row.try_get(5)?),
            added: count(row.try_get(6)?),
            removed: count(row.try_get(7)?),
            fingerprint: row.try_get(8)?,
        })
    };
    Ok(SegmentRecord {
        id: SegmentId(row.try_get(0)?),
        name: decoded(row.try_get(1)?),
        begun_at: row.try_get(2)?,
        last_run: ran_at.map(ran).transpose()?,
    })
}
