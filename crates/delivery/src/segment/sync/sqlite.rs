//! The rows sent to destinations, in the embedded database, next to the memberships.

use async_trait::async_trait;
use rusqlite::Row as DatabaseRow;
use serde_json::Value;

use super::super::sqlite::{SqliteSegmentStore, json_array};
use super::super::{ProfileSelection, SegmentError, SegmentId, SyncKind, statements};
use super::person::{MemberProfile, country};
use super::{
    SyncId, SyncMemberCounts, SyncRecord, SyncStatus, SyncStore, SyncedMember, SyncedMemberChange,
};
use tagway_core::event::JsonObject;
use tagway_storage::journal::SiteId;
use tagway_storage::profile::ProfileId;
use tagway_vendors::audience::AudienceRow;

/// The number of rows deleted in one transaction.
const MAX_ROWS_DELETED_AT_ONCE: usize = 5000;

/// Selects the current data of people, each with their latest identities. The list of people is read first.
const SELECT_MEMBER_PROFILES: &str = "SELECT p.id, p.user_id, p.traits, p.consent,
         (SELECT i.value FROM identities i WHERE i.profile = p.id AND i.kind = 'anonymous'
          ORDER BY i.rank DESC, i.seen DESC, i.since DESC, i.value LIMIT 1),
         (SELECT i.value FROM identities i WHERE i.profile = p.id AND i.kind = 'email'
          ORDER BY i.rank DESC, i.seen DESC, i.since DESC, i.value LIMIT 1),
         p.place
     FROM json_each(?1) w CROSS JOIN profiles p ON p.id = w.value
     WHERE p.site = ?2 ORDER BY w.key";

#[async_trait]
impl SyncStore for SqliteSegmentStore {
    async fn sync(
        &self,
        segment: SegmentId,
        destination: &str,
        kind: SyncKind,
    ) -> Result<SyncRecord, SegmentError> {
        let destination = destination.to_owned();
        let stored = self.store().write(move |c| {
            let key = (segment.0, &destination, kind.name());
            c.prepare_cached(statements::INSERT_SYNC)?.execute(key)?;
            let mut statement = c.prepare_cached(statements::SELECT_SYNC)?;
            statement.query_row(key, |row| {
                Ok(SyncRecord {
                    id: SyncId(row.get(0)?),
                    list: row.get(1)?,
                    synced: row.get(2)?,
                    checked: row.get(3)?,
                })
            })
        });
        Ok(stored.await?)
    }

    async fn synced_destinations(
        &self,
        segment: SegmentId,
    ) -> Result<Vec<(String, SyncKind)>, SegmentError> {
        self.query(statements::SELECT_SYNCED_DESTINATIONS, [segment.0], |row| {
            let kind: String = row.get(1)?;
            Ok((row.get(0)?, SyncKind::from_name(&kind).unwrap_or(SyncKind::List)))
        })
        .await
    }

    async fn store_list(&self, sync: SyncId, list: Option<String>) -> Result<(), SegmentError> {
        if list.is_none() {
            let forget = move |c: &rusqlite::Connection| {
                c.prepare_cached(statements::DELETE_SOME_SYNCED_ROWS)?
                    .execute((sync.0, MAX_ROWS_DELETED_AT_ONCE))
            };
            while self.store().write(move |c| forget(c)).await? == MAX_ROWS_DELETED_AT_ONCE {}
        }
        self.execute_durably(statements::UPDATE_LIST, (sync.0, list)).await
    }

    async fn synced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        of: ProfileSelection,
    ) -> Result<Vec<SyncedMember>, SegmentError> {
        let statement = of.restrict(statements::SELECT_SYNCED_MEMBERS, "t.profile");
        let parameters = (sync.0, segment.0, of.after(), of.limit());
        self.query(statement, parameters, read_synced_member).await
    }

    async fn unsynced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        of: ProfileSelection,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError> {
        let statement = of.restrict(statements::SELECT_UNSYNCED_MEMBERS, "m.profile");
        let parameters = (sync.0, segment.0, of.after(), of.limit());
        self.query(statement, parameters, |row| Ok((ProfileId(row.get(0)?), row.get(1)?))).await
    }

    async fn member_profiles(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<MemberProfile>, SegmentError> {
        let parameters = (json_array(&profiles), site.0);
        self.query(SELECT_MEMBER_PROFILES, parameters, read_member_profile).await
    }

    async fn record_member_changes(
        &self,
        sync: SyncId,
        changes: Vec<(ProfileId, SyncedMemberChange)>,
    ) -> Result<(), SegmentError> {
        if changes.is_empty() {
            return Ok(());
        }
        let changed = self.store().write_durably(move |c| {
            let mut insert = c.prepare_cached(statements::INSERT_SYNCED_ROW)?;
            let mut update = c.prepare_cached(statements::UPDATE_SYNCED_ROW)?;
            let mut delete = c.prepare_cached(statements::DELETE_SYNCED_ROW)?;
            for (profile, change) in changes {
                match (change.next_status(), &change) {
                    (_, SyncedMemberChange::Pending(row, at)) => {
                        insert.execute((sync.0, profile.0, row.text(), at))?
                    }
                    (Some(status), _) => update.execute((sync.0, profile.0, status.number()))?,
                    (None, _) => delete.execute((sync.0, profile.0))?,
                };
            }
            Ok(())
        });
        Ok(changed.await?)
    }

    async fn record_synced_run(
        &self,
        sync: SyncId,
        ran_at: i64,
        checked: Option<i64>,
    ) -> Result<(), SegmentError> {
        self.execute_durably(statements::RECORD_SYNCED_RUN, (sync.0, ran_at, checked)).await
    }

    async fn sizes(&self, sync: SyncId) -> Result<SyncMemberCounts, SegmentError> {
        self.query_one(statements::COUNT_SYNCED_MEMBERS, [sync.0], |row| {
            Ok(SyncMemberCounts { confirmed: row.get(0)?, removal_failed: row.get(1)? })
        })
        .await
    }
}

fn read_member_profile(row: &DatabaseRow<'_>) -> rusqlite::Result<MemberProfile> {
    let consent: Option<String> = row.get(3)?;
    Ok(MemberProfile {
        profile: row.get(0)?,
        user_id: row.get(1)?,
        traits: parsed(row.get_ref(2)?.as_str()?),
        consent: consent.map(|it| parsed(&it)).unwrap_or_default(),
        anonymous_id: row.get(4)?,
        email: row.get(5)?,
        country: country(parsed(row.get_ref(6)?.as_str()?)),
    })
}

fn read_synced_member(row: &DatabaseRow<'_>) -> rusqlite::Result<SyncedMember> {
    let consent: Option<String> = row.get(5)?;
    let is_known: bool = row.get(6)?;
    let place: Option<String> = row.get(7)?;
    Ok(SyncedMember {
        profile: ProfileId(row.get(0)?),
        row: AudienceRow::from_stored(row.get::<_, String>(1)?),
        sent_at_ms: row.get(2)?,
        status: SyncStatus::of_number(row.get(3)?),
        is_member: row.get(4)?,
        consent: is_known.then(|| consent.unwrap_or_default()),
        country: place.and_then(|place| country(parsed(&place))),
    })
}

/// Only the profiles write it; a damaged row counts as empty.
fn parsed(text: &str) -> JsonObject {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => JsonObject::new(),
    }
}
