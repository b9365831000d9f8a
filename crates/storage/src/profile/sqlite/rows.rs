//! The rows of a batch, read and written one by one: each statement is in this process, and costs microseconds.

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::details::ProfileDetails;
use super::super::rows::{EventNameRank, IdentityLink, PendingTallies, ProfileRow, ProfileRows};
use super::super::stitch::{BindingUpdate, IdentityBinding, LatestAnonymousId};
use super::super::traits::{ProfileTraits, TraitByteLimits, TraitChanges, read_ranks, written};
use super::super::{Identity, IdentityKind, ProfileId};
use super::{details, parse};
use crate::journal::SiteId;
use tagway_core::event::{EventTally, SenderRank};

/// The profile rows of one site.
pub(super) struct SqliteProfileRows<'c> {
    connection: &'c Connection,
    site: SiteId,
    /// The number of the next profile, once one was created.
    next: Option<i64>,
}

impl<'c> SqliteProfileRows<'c> {
    pub(super) fn new(connection: &'c Connection, site: SiteId) -> Self {
        Self { connection, site, next: None }
    }
}

impl ProfileRows for SqliteProfileRows<'_> {
    type Error = rusqlite::Error;

    fn binding(&mut self, identity: &Identity) -> rusqlite::Result<Option<IdentityBinding>> {
        let read = |row: &Row<'_>| {
            Ok(IdentityBinding {
                profile: ProfileId(row.get(0)?),
                is_known: row.get(1)?,
                since: row.get(2)?,
                claimed: row.get(3)?,
                seen: row.get(4)?,
                rank: SenderRank::from_number(row.get(5)?),
                person: SenderRank::from_number(row.get(6)?),
            })
        };
        let sql = "SELECT i.profile, p.user_id IS NOT NULL, i.since, i.claimed, i.seen,
                i.rank, p.rank
            FROM identities i JOIN profiles p ON p.id = i.profile
            WHERE i.site = ? AND i.kind = ? AND i.value = ?";
        self.connection
            .prepare_cached(sql)?
            .query_row((self.site.0, identity.kind.name(), &identity.value), read)
            .optional()
    }

    fn latest_anonymous_id(
        &mut self,
        profile: ProfileId,
        client: &str,
    ) -> rusqlite::Result<Option<LatestAnonymousId>> {
        let sql = "SELECT value, seen FROM identities
            WHERE profile = ? AND site = ? AND kind = 'anonymous' AND client = ?
            ORDER BY seen DESC, value LIMIT 1";
        self.connection
            .prepare_cached(sql)?
            .query_row((profile.0, self.site.0, client), |row| {
                Ok(LatestAnonymousId { value: row.get(0)?, seen: row.get(1)? })
            })
            .optional()
    }

    fn create_profile(&mut self, at: i64) -> rusqlite::Result<ProfileId> {
        let number = match self.next {
            Some(next) => next,
            None => self
                .connection
                .prepare_cached("SELECT next FROM profile_numbers")?
                .query_row([], |row| row.get(0))?,
        };
        let sql = "INSERT INTO profiles (id, site, first_seen, last_seen) VALUES (?1, ?2, ?3, ?3)";
        self.connection.prepare_cached(sql)?.execute((number, self.site.0, at))?;
        self.next = Some(number + 1);
        Ok(ProfileId(number))
    }

    fn read_profile_row(&mut self, profile: ProfileId) -> rusqlite::Result<ProfileRow> {
        let read = |row: &Row<'_>| {
            Ok(ProfileRow {
                user_id: row.get(0)?,
                named_at: row.get(1)?,
                first_seen: row.get(2)?,
                last_seen: row.get(3)?,
                rank: SenderRank::from_number(row.get(4)?),
                is_shared: row.get(5)?,
            })
        };
        let sql = "SELECT user_id, named_at, first_seen, last_seen, rank, is_shared
            FROM profiles WHERE id = ?";
        self.connection.prepare_cached(sql)?.query_row([profile.0], read)
    }

    fn put_profile_row(&mut self, profile: ProfileId, person: &ProfileRow) -> rusqlite::Result<()> {
        let ProfileRow { user_id, named_at, first_seen, last_seen, rank, is_shared } = person;
        let sql = "UPDATE profiles SET user_id = ?, named_at = ?, first_seen = ?, last_seen = ?,
                rank = ?, is_shared = ?
            WHERE id = ?";
        self.connection
            .prepare_cached(sql)?
            .execute((
                user_id,
                named_at,
                first_seen,
                last_seen,
                rank.number(),
                is_shared,
                profile.0,
            ))
            .map(drop)
    }

    fn claim_all(&mut self, profile: ProfileId, at: i64) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE identities SET claimed = max(claimed, ?) WHERE profile = ?")?
            .execute((at, profile.0))
            .map(drop)
    }

    fn bind(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
        client: Option<&str>,
        at: i64,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT INTO identities
                (site, kind, value, profile, since, claimed, seen, client, rank)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            ON CONFLICT (site, kind, value) DO UPDATE SET
                profile = excluded.profile, since = excluded.since,
                claimed = excluded.claimed, seen = max(seen, excluded.seen),
                client = coalesce(excluded.client, client), rank = excluded.rank";
        self.connection
            .prepare_cached(sql)?
            .execute((
                self.site.0,
                identity.kind.name(),
                &identity.value,
                profile.0,
                held.since,
                held.claimed,
                at,
                client,
                held.rank.number(),
            ))
            .map(drop)
    }

    fn raise(
        &mut self,
        identity: &Identity,
        profile: ProfileId,
        held: BindingUpdate,
    ) -> rusqlite::Result<()> {
        let (kind, value) = (identity.kind.name(), &identity.value);
        let sql = "UPDATE identities SET rank = ?1, claimed = ?2, since = ?3
            WHERE site = ?4 AND kind = ?5 AND value = ?6 AND profile = ?7 AND rank < ?1";
        self.connection
            .prepare_cached(sql)?
            .execute((
                held.rank.number(),
                held.claimed,
                held.since,
                self.site.0,
                kind,
                value,
                profile.0,
            ))
            .map(drop)
    }

    fn evict(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        below: SenderRank,
    ) -> rusqlite::Result<Option<String>> {
        let sql = "DELETE FROM identities WHERE (site, kind, value) IN (
                SELECT site, kind, value FROM identities
                WHERE profile = ?1 AND site = ?2 AND kind = ?3 AND rank < ?4
                ORDER BY rank, seen, value LIMIT 1)
            RETURNING value";
        self.connection
            .prepare_cached(sql)?
            .query_row((profile.0, self.site.0, kind.name(), below.number()), |row| row.get(0))
            .optional()
    }

    fn count_identities(
        &mut self,
        profile: ProfileId,
        kind: IdentityKind,
        limit: usize,
    ) -> rusqlite::Result<usize> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM identities
            WHERE profile = ? AND site = ? AND kind = ? LIMIT ?)";
        self.connection
            .prepare_cached(sql)?
            .query_row((profile.0, self.site.0, kind.name(), limit), |row| row.get(0))
    }

    fn names_of(&mut self, profile: ProfileId) -> rusqlite::Result<Vec<IdentityLink>> {
        let link = |row: &Row<'_>| {
            let rank = SenderRank::from_number(row.get(2)?);
            Ok(IdentityLink { kind: row.get(0)?, value: row.get(1)?, rank })
        };
        let sql = "SELECT kind, value, rank FROM identities WHERE profile = ? ORDER BY kind, value";
        self.connection.prepare_cached(sql)?.query_map([profile.0], link)?.collect()
    }

    fn unbind(&mut self, kind: &str, value: &str) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM identities WHERE site = ? AND kind = ? AND value = ?")?
            .execute((self.site.0, kind, value))
            .map(drop)
    }

    fn transfer_identity(
        &mut self,
        kind: &str,
        value: &str,
        into: ProfileId,
        claim: i64,
    ) -> rusqlite::Result<()> {
        let sql = "UPDATE identities SET profile = ?4, claimed = max(claimed, ?5)
            WHERE site = ?1 AND kind = ?2 AND value = ?3";
        self.connection
            .prepare_cached(sql)?
            .execute((self.site.0, kind, value, into.0, claim))
            .map(drop)
    }

    fn traits(
        &mut self,
        profile: ProfileId,
        room: TraitByteLimits,
    ) -> rusqlite::Result<(ProfileTraits, TraitChanges)> {
        self.connection
            .prepare_cached("SELECT traits, trait_times, trait_ranks FROM profiles WHERE id = ?")?
            .query_row([profile.0], |row| {
                let text = row.get_ref(0)?.as_str()?;
                let times = serde_json::from_str(row.get_ref(1)?.as_str()?).unwrap_or_default();
                let ranks = read_ranks(row.get_ref(2)?.as_str()?);
                Ok(ProfileTraits::new(parse(text), times, ranks, text.len(), room))
            })
    }

    fn put_traits(&mut self, profile: ProfileId, traits: &ProfileTraits) -> rusqlite::Result<()> {
        let text = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        let values = text(serde_json::to_string(&traits.values))?;
        let times = text(serde_json::to_string(&traits.times))?;
        let sql = "UPDATE profiles SET traits = ?, trait_times = ?, trait_ranks = ? WHERE id = ?";
        self.connection
            .prepare_cached(sql)?
            .execute((values, times, written(&traits.ranks), profile.0))
            .map(drop)
    }

    fn details(&mut self, profile: ProfileId) -> rusqlite::Result<ProfileDetails> {
        details::read(self.connection, profile)
    }

    fn put_details(
        &mut self,
        profile: ProfileId,
        details: &ProfileDetails,
    ) -> rusqlite::Result<()> {
        details::write(self.connection, profile, details)
    }

    fn remove(&mut self, profile: ProfileId) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("DELETE FROM profiles WHERE id = ?")?
            .execute([profile.0])
            .map(drop)
    }

    fn event(&mut self, name: &str) -> rusqlite::Result<Option<(i64, EventNameRank)>> {
        self.connection
            .prepare_cached("SELECT id, rank FROM event_names WHERE site = ? AND name = ?")?
            .query_row((self.site.0, name), |row| {
                Ok((row.get(0)?, EventNameRank::from_number(row.get(1)?)))
            })
            .optional()
    }

    fn events_counted(&mut self, rank: EventNameRank) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached("SELECT count(*) FROM event_names WHERE site = ? AND rank = ?")?
            .query_row((self.site.0, rank.number()), |row| row.get(0))
    }

    fn add_event(&mut self, name: &str, rank: EventNameRank) -> rusqlite::Result<i64> {
        self.connection
            .prepare_cached("INSERT INTO event_names (site, name, rank) VALUES (?, ?, ?)")?
            .execute((self.site.0, name, rank.number()))?;
        Ok(self.connection.last_insert_rowid())
    }

    fn raise_event(&mut self, name: &str, rank: EventNameRank) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("UPDATE event_names SET rank = ? WHERE site = ? AND name = ?")?
            .execute((rank.number(), self.site.0, name))
            .map(drop)
    }

    fn move_activity(&mut self, from: ProfileId, into: ProfileId) -> rusqlite::Result<bool> {
        // `WHERE true` tells the parser that no join condition follows.
        let sql = "INSERT INTO activity (profile, event, day, count, first, last, sum)
            SELECT ?2, event, day, count, first, last, sum FROM activity
            WHERE profile = ?1 AND true
            ON CONFLICT (profile, event, day) DO UPDATE SET
                count = count + excluded.count, first = min(first, excluded.first),
                last = max(last, excluded.last), sum = sum + excluded.sum";
        self.connection.prepare_cached(sql)?.execute((from.0, into.0))?;
        let moved = self
            .connection
            .prepare_cached("DELETE FROM activity WHERE profile = ?")?
            .execute([from.0])?;
        Ok(moved > 0)
    }

    fn finish(&mut self, counted: &PendingTallies) -> rusqlite::Result<()> {
        if let Some(next) = self.next {
            self.connection
                .prepare_cached("UPDATE profile_numbers SET next = ?")?
                .execute([next])?;
        }
        let sql = "INSERT INTO activity (profile, event, day, count, first, last, sum)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
            ON CONFLICT (profile, event, day) DO UPDATE SET
                count = count + excluded.count, first = min(first, excluded.first),
                last = max(last, excluded.last), sum = sum + excluded.sum";
        let mut statement = self.connection.prepare_cached(sql)?;
        for ((profile, event, day), tally) in counted {
            let EventTally { count, first, last, sum } = *tally;
            statement.execute((profile.0, event, day, count, first, last, sum))?;
        }
        Ok(())
    }
}
