//! Segments in the PostgreSQL database that gateways share, next to the profiles. One gateway runs them
//! (`leadership.rs`); any gateway may evaluate a rule.

pub(super) mod dialect;
mod leadership;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Object;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tokio_postgres::Row;

use self::dialect::bound;
use self::leadership::SegmentLeadership;
use super::sql::{SqlStatement, compile};
use super::statements::{self, to_postgres_parameters};
use super::{
    MembershipChange, MembershipFilter, MembershipPage, MembershipUnit, ProfileBitSet,
    SegmentError, SegmentId, SegmentMembership, SegmentRecord, SegmentRule, SegmentRunSummary,
    SegmentStore,
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
    steps: &["
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
    "],
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

    async fn select(
        &self,
        (site, of): (SiteId, Option<Vec<ProfileId>>),
        rule: &SegmentRule,
        by: MembershipUnit,
        now_ms: i64,
    ) -> Result<ProfileBitSet, PostgresError> {
        let client = self.database.client().await?;
        let number = self.database.site(&client, site.0).await?;
        let statement =
            compile(rule, by, (number, of.as_deref()), now_ms, &dialect::PostgresDialect);
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
        let asking = async {
            let client = self.database.client().await?;
            let number = self.database.site(&client, site.0).await?;
            let statement =
                client.prepare_cached(&to_postgres_parameters(statements::SELECT_SEGMENTS)).await?;
            client.query(&statement, &[&number]).await?.iter().map(read_segment_record).collect()
        };
        Ok(self.database.with_timeout(asking).await?)
    }

    async fn begin_run(
        &self,
        site: SiteId,
        name: &str,
        now_ms: i64,
    ) -> Result<(SegmentId, i64), SegmentError> {
        self.ensure_leader().await?;
        let beginning = async {
            let client = self.database.client().await?;
            let number = self.database.site(&client, site.0).await?;
            let statement =
                client.prepare_cached(&to_postgres_parameters(statements::BEGIN_RUN)).await?;
            let row = client.query_one(&statement, &[&number, &encoded(name), &now_ms]).await?;
            Ok((SegmentId(row.try_get(0)?), row.try_get(1)?))
        };
        Ok(self.database.with_timeout(beginning).await?)
    }

    async fn evaluate_profiles(
        &self,
        site: SiteId,
        rule: Arc<SegmentRule>,
        by: MembershipUnit,
        now_ms: i64,
        of: Option<Vec<ProfileId>>,
    ) -> Result<ProfileBitSet, SegmentError> {
        let selected = self.select((site, of), &rule, by, now_ms);
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
        after: ProfileId,
        limit: usize,
    ) -> Result<MembershipPage, SegmentError> {
        let (state, since): (Option<i64>, Option<i64>) = match which {
            MembershipFilter::All => (None, None),
            MembershipFilter::Members => (Some(1), None),
            MembershipFilter::ChangedAt(since) => (None, Some(since)),
        };
        let reading = async {
            let client = self.database.client().await?;
            let statement = client
                .prepare_cached(&to_postgres_parameters(statements::SELECT_MEMBERSHIPS))
                .await?;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&segment.0, &after.0, &state, &since, &rows_of(limit)];
            client.query(&statement, &parameters).await?.iter().map(membership).collect()
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    async fn memberships_of(
        &self,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<MembershipPage, SegmentError> {
        let reading = async {
            let client = self.database.client().await?;
            let text = statements::restrict_to_profiles(
                statements::SELECT_MEMBERSHIPS,
                "profile",
                &profiles,
            );
            let statement = client.prepare(&to_postgres_parameters(&text)).await?;
            let none: Option<i64> = None;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
                [&segment.0, &i64::MIN, &none, &none, &rows_of(profiles.len())];
            client.query(&statement, &parameters).await?.iter().map(membership).collect()
        };
        Ok(self.database.with_timeout(reading).await?)
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
        let counting = async {
            let client = self.database.client().await?;
            let counted =
                format!("SELECT ({})::bigint", to_postgres_parameters(statements::COUNT_MEMBERS));
            let counted = client.prepare_cached(&counted).await?;
            Ok(client.query_one(&counted, &[&segment.0]).await?.try_get(0)?)
        };
        Ok(count(self.database.with_timeout(counting).await?))
    }

    async fn end_run(
        &self,
        segment: SegmentId,
        at_ms: i64,
        took_ms: i64,
        fingerprint: String,
    ) -> Result<SegmentRunSummary, SegmentError> {
        let ending = async {
            let client = self.database.client().await?;
            // PostgreSQL returns sums of whole numbers as decimal ones.
            let counted = format!(
                "SELECT a::bigint, b::bigint, c::bigint FROM ({}) AS counted (a, b, c)",
                to_postgres_parameters(statements::COUNT_CHANGES)
            );
            let counted = client.prepare_cached(&counted).await?;
            let row = client.query_one(&counted, &[&segment.0, &at_ms]).await?;
            let ended = client.prepare_cached(&to_postgres_parameters(statements::END_RUN)).await?;
            let (size, added, removed): (i64, i64, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&segment.0, &at_ms, &took_ms, &size, &added, &removed, &fingerprint];
            client.execute(&ended, &parameters).await?;
            Ok((count(size), count(added), count(removed)))
        };
        let (size, added, removed) = self.database.with_timeout(ending).await?;
        Ok(SegmentRunSummary { at_ms, took_ms, size, added, removed, fingerprint })
    }

    async fn people(
        &self,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Value)>, SegmentError> {
        let numbers: Vec<i64> = profiles.iter().map(|profile| profile.0).collect();
        let reading = async {
            let client = self.database.client().await?;
            let statement = client
                .prepare_cached(
                    "SELECT p.id, p.user_id, p.traits
                     FROM unnest($1::bigint[]) WITH ORDINALITY AS w (id, n)
                     JOIN profiles p ON p.id = w.id ORDER BY w.n",
                )
                .await?;
            let person = |row: &Row| {
                let profile: i64 = row.try_get(0)?;
                let user_id = row.try_get::<_, Option<String>>(1)?.map(decoded);
                let traits: Value = serde_json::from_str(row.try_get(2)?).unwrap_or_default();
                let shown = json!({ "profile": profile, "user_id": user_id, "traits": traits });
                Ok((ProfileId(profile), shown))
            };
            client.query(&statement, &[&numbers]).await?.iter().map(person).collect()
        };
        Ok(self.database.with_timeout(reading).await?)
    }

    async fn remove(&self, segment: SegmentId, limit: usize) -> Result<bool, SegmentError> {
        self.ensure_leader().await?;
        let removing = async {
            let mut client = self.database.client().await?;
            let transaction = client.transaction().await?;
            let fewer = transaction
                .prepare_cached(&to_postgres_parameters(statements::DELETE_SOME_MEMBERSHIPS))
                .await?;
            let removed = transaction.execute(&fewer, &[&segment.0, &rows_of(limit)]).await?;
            for statement in [statements::DELETE_EMPTY_SYNCS, statements::DELETE_SEGMENT] {
                transaction.execute(&to_postgres_parameters(statement), &[&segment.0]).await?;
            }
            transaction.commit().await?;
            Ok(removed < u64::try_from(limit).unwrap_or(u64::MAX))
        };
        Ok(self.database.with_timeout(removing).await?)
    }
}

/// Converts a number of rows for a parameter.
pub(super) fn rows_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
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
