//! The rows sent to destinations, in the embedded database, next to the memberships.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row as DatabaseRow};
use serde_json::Value;

use super::super::sqlite::SqliteSegmentStore;
use super::super::{SegmentError, SegmentId, SyncKind, statements};
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
        let heard = self.store().read(move |c| {
            let mut statement = c.prepare_cached(statements::SELECT_SYNCED_DESTINATIONS)?;
            let rows = statement.query_map([segment.0], |row| {
                let kind: String = row.get(1)?;
                let kind = SyncKind::from_name(&kind).unwrap_or(SyncKind::List);
                Ok((row.get(0)?, kind))
            })?;
            rows.collect()
        });
        Ok(heard.await?)
    }

    async fn store_list(&self, sync: SyncId, list: Option<String>) -> Result<(), SegmentError> {
        if list.is_none() {
            let forget = move |c: &rusqlite::Connection| {
                c.prepare_cached(statements::DELETE_SOME_SYNCED_ROWS)?
                    .execute((sync.0, MAX_ROWS_DELETED_AT_ONCE))
            };
            while self.store().write(move |c| forget(c)).await? == MAX_ROWS_DELETED_AT_ONCE {}
        }
        let noted =
            self.store().write_durably(move |c| c.execute(statements::UPDATE_LIST, (sync.0, list)));
        noted.await?;
        Ok(())
    }

    async fn synced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<SyncedMember>, SegmentError> {
        let read = self.store().read(move |c| {
            let mut statement = c.prepare_cached(statements::SELECT_SYNCED_MEMBERS)?;
            statement.query_map((sync.0, segment.0, after.0, limit), read_synced_member)?.collect()
        });
        Ok(read.await?)
    }

    async fn unsynced_members(
        &self,
        sync: SyncId,
        segment: SegmentId,
        after: ProfileId,
        limit: usize,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError> {
        let read = self.store().read(move |c| {
            let mut statement = c.prepare_cached(statements::SELECT_UNSYNCED_MEMBERS)?;
            statement
                .query_map((sync.0, segment.0, after.0, limit), read_unsynced_member)?
                .collect()
        });
        Ok(read.await?)
    }

    async fn synced_members_of(
        &self,
        sync: SyncId,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<SyncedMember>, SegmentError> {
        let read = self.store().read(move |c| {
            let text = statements::restrict_to_profiles(
                statements::SELECT_SYNCED_MEMBERS,
                "t.profile",
                &profiles,
            );
            let asked = (sync.0, segment.0, i64::MIN, profiles.len());
            c.prepare(&text)?.query_map(asked, read_synced_member)?.collect()
        });
        Ok(read.await?)
    }

    async fn unsynced_members_of(
        &self,
        sync: SyncId,
        segment: SegmentId,
        profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Option<i64>)>, SegmentError> {
        let read = self.store().read(move |c| {
            let text = statements::restrict_to_profiles(
                statements::SELECT_UNSYNCED_MEMBERS,
                "m.profile",
                &profiles,
            );
            let asked = (sync.0, segment.0, i64::MIN, profiles.len());
            c.prepare(&text)?.query_map(asked, read_unsynced_member)?.collect()
        });
        Ok(read.await?)
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
        notes: Vec<(ProfileId, SyncedMemberChange)>,
    ) -> Result<(), SegmentError> {
        if notes.is_empty() {
            return Ok(());
        }
        let noted = self.store().write_durably(move |c| {
            let mut telling = c.prepare_cached(
                "INSERT INTO told (sync, profile, row, at, is_sure) VALUES (?1, ?2, ?3, ?4, 0)
                 ON CONFLICT DO UPDATE SET row = excluded.row, at = excluded.at, is_sure = 0",
            )?;
            let mut told =
                c.prepare_cached("UPDATE told SET is_sure = 1 WHERE sync = ?1 AND profile = ?2")?;
            let mut untold =
                c.prepare_cached("DELETE FROM told WHERE sync = ?1 AND profile = ?2")?;
            let mut stuck =
                c.prepare_cached("UPDATE told SET is_sure = 2 WHERE sync = ?1 AND profile = ?2")?;
            for (profile, note) in notes {
                match note {
                    SyncedMemberChange::Pending(row, at) => {
                        telling.execute((sync.0, profile.0, row.text(), at))?
                    }
                    SyncedMemberChange::Confirmed => told.execute((sync.0, profile.0))?,
                    SyncedMemberChange::Removed => untold.execute((sync.0, profile.0))?,
                    SyncedMemberChange::RemovalFailed => stuck.execute((sync.0, profile.0))?,
                };
            }
            Ok(())
        });
        noted.await?;
        Ok(())
    }

    async fn record_synced_run(
        &self,
        sync: SyncId,
        ran_at: i64,
        checked: Option<i64>,
    ) -> Result<(), SegmentError> {
        let finished = self.store().write_durably(move |c| {
            c.execute(statements::RECORD_SYNCED_RUN, (sync.0, ran_at, checked))
        });
        finished.await?;
        Ok(())
    }

    async fn sizes(&self, sync: SyncId) -> Result<SyncMemberCounts, SegmentError> {
        let sizes = self.store().read(move |c| {
            c.query_row(statements::COUNT_SYNCED_MEMBERS, [sync.0], |row| {
                Ok(SyncMemberCounts { confirmed: row.get(0)?, removal_failed: row.get(1)? })
            })
        });
        Ok(sizes.await?)
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

fn read_unsynced_member(row: &DatabaseRow<'_>) -> rusqlite::Result<(ProfileId, Option<i64>)> {
    Ok((ProfileId(row.get(0)?), row.get(1)?))
}

/// Only the profiles write it; a damaged row counts as empty.
fn parsed(text: &str) -> JsonObject {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ => JsonObject::new(),
    }
}
