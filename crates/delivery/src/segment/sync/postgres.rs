//! The rows sent to destinations, in the database that gateways share, next to the memberships.

use async_trait::async_trait;
use tokio_postgres::Row as DatabaseRow;
use tokio_postgres::types::ToSql;

use super::super::postgres::{PostgresSegmentStore, count, rows_of};
use super::super::statements::{self, to_postgres_parameters};
use super::super::{SegmentError, SegmentId, SyncKind};
use super::person::{MemberProfile, country};
use super::{
    SyncId, SyncMemberCounts, SyncRecord, SyncStatus, SyncStore, SyncedMember, SyncedMemberChange,
};
use tagway_storage::journal::SiteId;
use tagway_storage::postgres::{PostgresError, decoded};
use tagway_storage::profile::ProfileId;
use tagway_vendors::audience::AudienceRow;

/// The number of rows deleted in one transaction.
const MAX_ROWS_DELETED_AT_ONCE: i64 = 5000;

#[async_trait]
impl SyncStore for PostgresSegmentStore {
    async fn sync(
        &self,
        segment: SegmentId,
        destination: &str,
        kind: SyncKind,
    ) -> Result<SyncRecord, SegmentError> {
        self.ensure_leader().await?;
        let asking = async {
            let client = self.database().client().await?;
            let key: [&(dyn ToSql + Sync); 3] = [&segment.0, &destination, &kind.name()];
            client.execute(&to_postgres_parameters(statements::INSERT_SYNC), &key).await?;
            let row =
                client.query_one(&to_postgres_parameters(statements::SELECT_SYNC), &key).await?;
            Ok(SyncRecord {
                id: SyncId(row.try_get(0)?),
                list: row.try_get(1)?,
                synced: row.try_get(2)?,
                checked: row.try_get(3)?,
            })
        };
        Ok(self.database().with_timeout(asking).await?)
    }

    async fn synced_destinations(
        &self,
        segment: SegmentId,
    ) -> Result<Vec<(String, SyncKind)>, SegmentError> {
        let asking = async {
            let client = self.database().client().await?;
            let heard = |row: &DatabaseRow| {
                let kind = SyncKind::from_name(row.try_get(1)?).unwrap_or(SyncKind::List);
                Ok((row.try_get(0)?, kind))
            };
            let rows = client
                .query(
                    &to_postgres_parameters(statements::SELECT_SYNCED_DESTINATIONS),
                    &[&segment.0],
                )
                .await?;
            rows.iter().map(heard).collect()
        };
        Ok(self.database().with_timeout(asking).await?)
    }

    async fn store_list(&self, sync: SyncId, list: Option<String>) -> Result<(), SegmentError> {
        let mut is_left = list.is_none();
        while is_left {
            let forgetting = async {
                let client = self.database().client().await?;
                let text = to_postgres_parameters(statements::DELETE_SOME_SYNCED_ROWS);
                Ok(client.execute(&text, &[&sync.0, &MAX_ROWS_DELETED_AT_ONCE]).await?)
            };
            is_left = self.database().with_timeout(forgetting).await?
                == MAX_ROWS_DELETED_AT_ONCE.unsigned_abs();
        }
        let noting = async {
            let client = self.database().client().await?;
            Ok(client
                .execute(&to_postgres_parameters(statements::UPDATE_LIST), &[&sync.0, &list])
                .await?)
        };
        self.database().with_timeout(noting).await?;
        Ok(())
    }

    async fn synced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<SyncedMember>, SegmentError> {
        let reading = async {
            let client = self.database().client().await?;
            let statement = client
                .prepare_cached(&to_postgres_parameters(statements::SELECT_SYNCED_MEMBERS))
                .await?;
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&sync.0, &segment.0, &after.0, &rows_of(limit)];
            client.query(&statement, &parameters).await?.iter().map(read_synced_member).collect()
        };
        Ok(self.database().with_timeout(reading).await?)
    }

    async fn unsynced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError> {
        let reading = async {
            let client = self.database().client().await?;
            let statement = client
                .prepare_cached(&to_postgres_parameters(statements::SELECT_UNSYNCED_MEMBERS))
                .await?;
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&sync.0, &segment.0, &after.0, &rows_of(limit)];
            client.query(&statement, &parameters).await?.iter().map(read_unsynced_member).collect()
        };
        Ok(self.database().with_timeout(reading).await?)
    }

    async fn synced_members_of(
        &self,
        sync: SyncId,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<SyncedMember>, SegmentError> {
        let reading = async {
            let client = self.database().client().await?;
            let text = statements::restrict_to_profiles(
                statements::SELECT_SYNCED_MEMBERS,
                "t.profile",
                &profiles,
            );
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&sync.0, &segment.0, &i64::MIN, &rows_of(profiles.len())];
            client
                .query(&to_postgres_parameters(&text), &parameters)
                .await?
                .iter()
                .map(read_synced_member)
                .collect()
        };
        Ok(self.database().with_timeout(reading).await?)
    }

    async fn unsynced_members_of(
        &self,
        sync: SyncId,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError> {
        let reading = async {
            let client = self.database().client().await?;
            let text = statements::restrict_to_profiles(
                statements::SELECT_UNSYNCED_MEMBERS,
                "m.profile",
                &profiles,
            );
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&sync.0, &segment.0, &i64::MIN, &rows_of(profiles.len())];
            client
                .query(&to_postgres_parameters(&text), &parameters)
                .await?
                .iter()
                .map(read_unsynced_member)
                .collect()
        };
        Ok(self.database().with_timeout(reading).await?)
    }

    async fn member_profiles(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<MemberProfile>, SegmentError> {
        let numbers: Vec<i64> = profiles.iter().map(|profile| profile.0).collect();
        let reading = async {
            let client = self.database().client().await?;
            let site = self.database().site(&client, site.0).await?;
            let last = |kind: &str| {
                format!(
                    "(SELECT i.value FROM identities i WHERE i.profile = p.id AND i.kind = '{kind}'
                      ORDER BY i.rank DESC, i.seen DESC, i.since DESC, i.value LIMIT 1)"
                )
            };
            let text = format!(
                "SELECT p.id, p.user_id, p.traits, p.consent, {}, {}, p.place
                 FROM unnest($1::bigint[]) WITH ORDINALITY AS w (id, n)
                 JOIN profiles p ON p.id = w.id WHERE p.site = $2 ORDER BY w.n",
                last("anonymous"),
                last("email")
            );
            let statement = client.prepare_cached(&text).await?;
            let someone = |row: &DatabaseRow| {
                let text = |column: usize| {
                    row.try_get::<_, Option<String>>(column).map(|it| it.map(decoded))
                };
                Ok(MemberProfile {
                    profile: row.try_get(0)?,
                    user_id: text(1)?,
                    traits: serde_json::from_str(row.try_get(2)?).unwrap_or_default(),
                    consent: serde_json::from_str(row.try_get(3)?).unwrap_or_default(),
                    anonymous_id: text(4)?,
                    email: text(5)?,
                    country: country(serde_json::from_str(row.try_get(6)?).unwrap_or_default()),
                })
            };
            client.query(&statement, &[&numbers, &site]).await?.iter().map(someone).collect()
        };
        Ok(self.database().with_timeout(reading).await?)
    }

    async fn record_member_changes(
        &self,
        sync: SyncId,
        notes: Vec<(ProfileId, SyncedMemberChange)>,
    ) -> Result<(), SegmentError> {
        if notes.is_empty() {
            return Ok(());
        }
        let noting = async {
            let mut client = self.database().client().await?;
            let transaction = client.transaction().await?;
            let telling = transaction
                .prepare_cached(
                    "INSERT INTO told (sync, profile, row, at, is_sure) VALUES ($1, $2, $3, $4, 0)
                     ON CONFLICT (sync, profile)
                     DO UPDATE SET row = excluded.row, at = excluded.at, is_sure = 0",
                )
                .await?;
            let told = transaction
                .prepare_cached("UPDATE told SET is_sure = 1 WHERE sync = $1 AND profile = $2")
                .await?;
            let untold = transaction
                .prepare_cached("DELETE FROM told WHERE sync = $1 AND profile = $2")
                .await?;
            let stuck = transaction
                .prepare_cached("UPDATE told SET is_sure = 2 WHERE sync = $1 AND profile = $2")
                .await?;
            // All sent before the first answer: several changes of one person stay in order.
            let notes = notes.iter().map(async |(profile, note)| match note {
                SyncedMemberChange::Pending(row, at) => {
                    let parameters: [&(dyn ToSql + Sync); 4] =
                        [&sync.0, &profile.0, &row.text(), at];
                    transaction.execute(&telling, &parameters).await
                }
                SyncedMemberChange::Confirmed => {
                    transaction.execute(&told, &[&sync.0, &profile.0]).await
                }
                SyncedMemberChange::Removed => {
                    transaction.execute(&untold, &[&sync.0, &profile.0]).await
                }
                SyncedMemberChange::RemovalFailed => {
                    transaction.execute(&stuck, &[&sync.0, &profile.0]).await
                }
            });
            futures_util::future::try_join_all(notes).await?;
            Ok(transaction.commit().await?)
        };
        self.database().with_timeout(noting).await?;
        Ok(())
    }

    async fn record_synced_run(
        &self,
        sync: SyncId,
        ran_at: i64,
        checked: Option<i64>,
    ) -> Result<(), SegmentError> {
        let noting = async {
            let client = self.database().client().await?;
            let text = to_postgres_parameters(statements::RECORD_SYNCED_RUN);
            Ok(client.execute(&text, &[&sync.0, &ran_at, &checked]).await?)
        };
        self.database().with_timeout(noting).await?;
        Ok(())
    }

    async fn sizes(&self, sync: SyncId) -> Result<SyncMemberCounts, SegmentError> {
        let counting = async {
            let client = self.database().client().await?;
            let row = client
                .query_one(&to_postgres_parameters(statements::COUNT_SYNCED_MEMBERS), &[&sync.0])
                .await?;
            Ok(SyncMemberCounts {
                confirmed: count(row.try_get(0)?),
                removal_failed: count(row.try_get(1)?),
            })
        };
        Ok(self.database().with_timeout(counting).await?)
    }
}

fn read_synced_member(row: &DatabaseRow) -> Result<SyncedMember, PostgresError> {
    let consent: Option<String> = row.try_get(5)?;
    let is_known: bool = row.try_get(6)?;
    let place: Option<&str> = row.try_get(7)?;
    let place = place.map(|place| serde_json::from_str(place).unwrap_or_default());
    Ok(SyncedMember {
        profile: ProfileId(row.try_get(0)?),
        row: AudienceRow::from_stored(row.try_get::<_, String>(1)?),
        sent_at_ms: row.try_get(2)?,
        status: SyncStatus::of_number(row.try_get(3)?),
        is_member: row.try_get::<_, i64>(4)? != 0,
        consent: is_known.then(|| consent.unwrap_or_default()),
        country: place.and_then(country),
    })
}

fn read_unsynced_member(row: &DatabaseRow) -> Result<(ProfileId, Option<i64>), PostgresError> {
    Ok((ProfileId(row.try_get(0)?), row.try_get(1)?))
}
