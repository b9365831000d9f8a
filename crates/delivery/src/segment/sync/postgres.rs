//! The rows sent to destinations, in the database that gateways share, next to the memberships.

use async_trait::async_trait;
use tokio_postgres::Row as DatabaseRow;
use tokio_postgres::types::ToSql;

use super::super::postgres::{PostgresSegmentStore, count};
use super::super::statements::{self, to_postgres_parameters};
use super::super::{ProfileSelection, SegmentError, SegmentId, SyncKind};
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

/// Selects the current data of people, each with their latest identities.
const SELECT_MEMBER_PROFILES: &str = "SELECT p.id, p.user_id, p.traits, p.consent,
         (SELECT i.value FROM identities i WHERE i.profile = p.id AND i.kind = 'anonymous'
          ORDER BY i.rank DESC, i.seen DESC, i.since DESC, i.value LIMIT 1),
         (SELECT i.value FROM identities i WHERE i.profile = p.id AND i.kind = 'email'
          ORDER BY i.rank DESC, i.seen DESC, i.since DESC, i.value LIMIT 1),
         p.place
     FROM unnest(?1::bigint[]) WITH ORDINALITY AS w (id, n)
     JOIN profiles p ON p.id = w.id WHERE p.site = ?2 ORDER BY w.n";

#[async_trait]
impl SyncStore for PostgresSegmentStore {
    async fn sync(
        &self,
        segment: SegmentId,
        destination: &str,
        kind: SyncKind,
    ) -> Result<SyncRecord, SegmentError> {
        self.ensure_leader().await?;
        let key: [&(dyn ToSql + Sync); 3] = [&segment.0, &destination, &kind.name()];
        self.execute(statements::INSERT_SYNC, &key).await?;
        self.query_one(statements::SELECT_SYNC, &key, |row| {
            Ok(SyncRecord {
                id: SyncId(row.try_get(0)?),
                list: row.try_get(1)?,
                synced: row.try_get(2)?,
                checked: row.try_get(3)?,
            })
        })
        .await
    }

    async fn synced_destinations(
        &self,
        segment: SegmentId,
    ) -> Result<Vec<(String, SyncKind)>, SegmentError> {
        self.query(statements::SELECT_SYNCED_DESTINATIONS, &[&segment.0], |row| {
            let kind = SyncKind::from_name(row.try_get(1)?).unwrap_or(SyncKind::List);
            Ok((row.try_get(0)?, kind))
        })
        .await
    }

    async fn store_list(&self, sync: SyncId, list: Option<String>) -> Result<(), SegmentError> {
        if list.is_none() {
            let some: [&(dyn ToSql + Sync); 2] = [&sync.0, &MAX_ROWS_DELETED_AT_ONCE];
            while self.execute(statements::DELETE_SOME_SYNCED_ROWS, &some).await?
                == MAX_ROWS_DELETED_AT_ONCE.unsigned_abs()
            {}
        }
        self.execute(statements::UPDATE_LIST, &[&sync.0, &list]).await?;
        Ok(())
    }

    async fn synced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        of: ProfileSelection,
    ) -> Result<Vec<SyncedMember>, SegmentError> {
        let statement = of.restrict(statements::SELECT_SYNCED_MEMBERS, "t.profile");
        let parameters: [&(dyn ToSql + Sync); 4] = [&sync.0, &segment.0, &of.after(), &of.limit()];
        self.query(statement, &parameters, read_synced_member).await
    }

    async fn unsynced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        of: ProfileSelection,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError> {
        let statement = of.restrict(statements::SELECT_UNSYNCED_MEMBERS, "m.profile");
        let parameters: [&(dyn ToSql + Sync); 4] = [&sync.0, &segment.0, &of.after(), &of.limit()];
        let read = |row: &DatabaseRow| Ok((ProfileId(row.try_get(0)?), row.try_get(1)?));
        self.query(statement, &parameters, read).await
    }

    async fn member_profiles(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<MemberProfile>, SegmentError> {
        let numbers: Vec<i64> = profiles.iter().map(|profile| profile.0).collect();
        let number = self.site_number(site).await?;
        let parameters: [&(dyn ToSql + Sync); 2] = [&numbers, &number];
        self.query(SELECT_MEMBER_PROFILES, &parameters, read_member_profile).await
    }

    async fn record_member_changes(
        &self,
        sync: SyncId,
        changes: Vec<(ProfileId, SyncedMemberChange)>,
    ) -> Result<(), SegmentError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changing = async {
            let mut client = self.database().client().await?;
            let transaction = client.transaction().await?;
            let prepare = async |statement| {
                transaction.prepare_cached(&to_postgres_parameters(statement)).await
            };
            let insert = prepare(statements::INSERT_SYNCED_ROW).await?;
            let update = prepare(statements::UPDATE_SYNCED_ROW).await?;
            let delete = prepare(statements::DELETE_SYNCED_ROW).await?;
            // All sent before the first answer: several changes of one person stay in order.
            let changes = changes.iter().map(async |(profile, change)| {
                match (change.next_status(), change) {
                    (_, SyncedMemberChange::Pending(row, at)) => {
                        let parameters: [&(dyn ToSql + Sync); 4] =
                            [&sync.0, &profile.0, &row.text(), at];
                        transaction.execute(&insert, &parameters).await
                    }
                    (Some(status), _) => {
                        let parameters: [&(dyn ToSql + Sync); 3] =
                            [&sync.0, &profile.0, &status.number()];
                        transaction.execute(&update, &parameters).await
                    }
                    (None, _) => transaction.execute(&delete, &[&sync.0, &profile.0]).await,
                }
            });
            futures_util::future::try_join_all(changes).await?;
            Ok(transaction.commit().await?)
        };
        Ok(self.database().with_timeout(changing).await?)
    }

    async fn record_synced_run(
        &self,
        sync: SyncId,
        ran_at: i64,
        checked: Option<i64>,
    ) -> Result<(), SegmentError> {
        let parameters: [&(dyn ToSql + Sync); 3] = [&sync.0, &ran_at, &checked];
        self.execute(statements::RECORD_SYNCED_RUN, &parameters).await?;
        Ok(())
    }

    async fn sizes(&self, sync: SyncId) -> Result<SyncMemberCounts, SegmentError> {
        self.query_one(statements::COUNT_SYNCED_MEMBERS, &[&sync.0], |row| {
            Ok(SyncMemberCounts {
                confirmed: count(row.try_get(0)?),
                removal_failed: count(row.try_get(1)?),
            })
        })
        .await
    }
}

fn read_member_profile(row: &DatabaseRow) -> Result<MemberProfile, PostgresError> {
    let text = |column: usize| row.try_get::<_, Option<String>>(column).map(|it| it.map(decoded));
    Ok(MemberProfile {
        profile: row.try_get(0)?,
        user_id: text(1)?,
        traits: serde_json::from_str(row.try_get(2)?).unwrap_or_default(),
        consent: serde_json::from_str(row.try_get(3)?).unwrap_or_default(),
        anonymous_id: text(4)?,
        email: text(5)?,
        country: country(serde_json::from_str(row.try_get(6)?).unwrap_or_default()),
    })
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
