//! The rows sent to destinations, in the embedded database, next to the memberships.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row as DatabaseRow};
use serde_json::Value;

use super::super::sqlite::SqliteSegmentStore;
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

#[async_trait]
impl SyncStore for SqliteSegmentStore {
    async fn sync(
        &self,
        segment: SegmentId,
        destination: &str,
        kind: SyncKind,
    ) -> Result<SyncRecord, SegmentError> {
        let destination = destination.to_owned();
        let kept = self.store().write(move |c| {
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
        Ok(kept.await?)
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
        let people = self.store().read(move |c| {
            let mut person = c.prepare_cached(
                "SELECT user_id, traits, consent, place FROM profiles WHERE id = ?1 AND site = ?2",
            )?;
            let mut name = c.prepare_cached(
                "SELECT value FROM identities WHERE profile = ?1 AND kind = ?2
                 ORDER BY rank DESC, seen DESC, since DESC, value LIMIT 1",
            )?;
            let mut people = Vec::with_capacity(profiles.len());
            for profile in profiles {
                let found = person.query_row((profile.0, site.0), |row| {
                    let user_id = row.get(0)?;
                    let consent: Option<String> = row.get(2)?;
                    let place = parsed(row.get_ref(3)?.as_str()?);
                    let traits = parsed(row.get_ref(1)?.as_str()?);
                    Ok((user_id, traits, consent.map(|it| parsed(&it)), place))
                });
                let Some((user_id, traits, consent, place)) = found.optional()? else { continue };
                let mut last = |kind: &str| {
                    name.query_row((profile.0, kind), |row| row.get::<_, String>(0)).optional()
                };
                people.push(MemberProfile {
                    profile: profile.0,
                    user_id,
                    anonymous_id: last("anonymous")?,
                    email: last("email")?,
                    traits,
                    consent: consent.unwrap_or_default(),
                    country: country(place),
                });
            }
            Ok(people)
        });
        Ok(people.await?)
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
