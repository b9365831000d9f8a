//! Removal of profiles: those of unknown visitors not seen for long, and those made by claims alone if
//! there are too many.

use rusqlite::Connection;

use super::super::batch::ClaimedProfileDelta;
use super::super::{ExpiryOutcome, ExpiryPosition, ExpiryRequest, ProfileChanges, ProfileId};
use super::details;
use crate::journal::SiteId;

/// Profiles read in one transaction: some milliseconds of the writer's time.
const STEP: usize = 200;

/// Removes some of the profiles that have neither a user id nor an e-mail address and were last seen
/// before `unseen.since`, going on where the last step ended.
pub(super) fn expire(
    connection: &Connection,
    site: SiteId,
    unseen: ExpiryRequest,
) -> rusqlite::Result<ExpiryOutcome> {
    let sql = "SELECT p.id, p.last_seen, EXISTS (
            SELECT 1 FROM identities i WHERE i.profile = p.id AND i.kind = 'email')
        FROM profiles p INDEXED BY profiles_anonymous
        WHERE p.site = ?1 AND p.user_id IS NULL AND p.last_seen < ?2
            AND (p.last_seen, p.id) > (?3, ?4)
        ORDER BY p.last_seen, p.id LIMIT ?5";
    let mut next = connection.prepare_cached(sql)?;
    let ExpiryPosition { last_seen, profile: after } = unseen.after;
    let rows = next.query_map((site.0, unseen.since, last_seen, after.0, STEP), |row| {
        Ok((ProfileId(row.get(0)?), row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
    })?;
    let found: Vec<_> = rows.collect::<Result<_, _>>()?;
    let mut changes = ProfileChanges::default();
    for (profile, _, has_email) in &found {
        if !has_email {
            details::remove(connection, *profile, &mut changes)?;
        }
    }
    let last = found.last().filter(|_| found.len() == STEP);
    let position = |(profile, last_seen, _): &(ProfileId, i64, bool)| ExpiryPosition {
        last_seen: *last_seen,
        profile: *profile,
    };
    Ok(ExpiryOutcome { changes, next: last.map(position) })
}

/// Adds to the number of the site's profiles made by claims alone. Returns the new number.
pub(super) fn count(connection: &Connection, site: SiteId, more: i64) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO profile_counts (site, claimed) VALUES (?1, ?2)
        ON CONFLICT (site) DO UPDATE SET claimed = max(0, claimed + excluded.claimed)
        RETURNING claimed";
    connection.prepare_cached(sql)?.query_row((site.0, more), |row| row.get(0))
}

/// Counts the profiles that a batch created, and removes those made by claims alone while there are
/// more than `max`, the ones not seen for longest first: as many as were created, and a step more.
pub(super) fn evict(
    connection: &Connection,
    site: SiteId,
    census: ClaimedProfileDelta,
    max: u64,
) -> rusqlite::Result<ProfileChanges> {
    let mut changes = ProfileChanges::default();
    if census == ClaimedProfileDelta::default() {
        return Ok(changes);
    }
    let claimed = u64::try_from(count(connection, site, census.more)?).unwrap_or_default();
    let excess = claimed.saturating_sub(max).min(census.made + STEP as u64);
    if excess == 0 {
        return Ok(changes);
    }
    let sql = "SELECT id FROM profiles INDEXED BY profiles_claimed
        WHERE site = ? AND rank = 0 ORDER BY last_seen, id LIMIT ?";
    let mut oldest = connection.prepare_cached(sql)?;
    let found = oldest.query_map((site.0, excess), |row| Ok(ProfileId(row.get(0)?)))?;
    for profile in found.collect::<Result<Vec<_>, _>>()? {
        details::remove(connection, profile, &mut changes)?;
        changes.evicted += 1;
    }
    Ok(changes)
}

/// Removes the names of events that no profile has any more.
pub(super) fn forget_names(connection: &Connection, site: SiteId) -> rusqlite::Result<()> {
    let sql = "DELETE FROM event_names WHERE site = ?
        AND NOT EXISTS (SELECT 1 FROM activity a WHERE a.event = event_names.id)
        AND id NOT IN (SELECT event FROM dropped_counters)";
    connection.prepare_cached(sql)?.execute([site.0]).map(drop)
}
