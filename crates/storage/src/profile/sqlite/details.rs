//! The computed attributes of a person, in the profile's columns and counters.

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::details::ProfileDetails;
use super::super::{DailyActivity, ProfileChanges, ProfileId};
use super::{expire, parse, subject};
use crate::journal::SiteId;
use tagway_core::event::{ComputedAttributes, EventTally, JsonObject};

const COLUMNS: &str = "touches, device, place, consent, group_id, stated";

fn details(row: &Row<'_>) -> rusqlite::Result<ProfileDetails> {
    let object = |n: usize| Ok::<JsonObject, rusqlite::Error>(parse(row.get_ref(n)?.as_str()?));
    Ok(ProfileDetails {
        touches: object(0)?,
        device: object(1)?,
        place: object(2)?,
        consent: object(3)?,
        group: row.get(4)?,
        stated: object(5)?,
    })
}

pub(super) fn read(
    connection: &Connection,
    profile: ProfileId,
) -> rusqlite::Result<ProfileDetails> {
    let query = format!("SELECT {COLUMNS} FROM profiles WHERE id = ?");
    connection.prepare_cached(&query)?.query_row([profile.0], details)
}

pub(super) fn write(
    connection: &Connection,
    profile: ProfileId,
    details: &ProfileDetails,
) -> rusqlite::Result<()> {
    let text =
        |object: &JsonObject| serde_json::to_string(object).unwrap_or_else(|_| "{}".to_owned());
    let ProfileDetails { touches, device, place, consent, group, stated } = details;
    let sql = "UPDATE profiles SET touches = ?, device = ?, place = ?, consent = ?, group_id = ?,
        stated = ? WHERE id = ?";
    connection
        .prepare_cached(sql)?
        .execute((
            text(touches),
            text(device),
            text(place),
            text(consent),
            group,
            text(stated),
            profile.0,
        ))
        .map(drop)
}

/// Reads all computed attributes of a person. Returns `None` if there is no such profile.
pub(super) fn computed(
    connection: &Connection,
    profile: ProfileId,
) -> rusqlite::Result<Option<ComputedAttributes>> {
    let query = format!("SELECT {COLUMNS}, first_seen, last_seen FROM profiles WHERE id = ?");
    let read = |row: &Row<'_>| Ok(details(row)?.into_computed(row.get(6)?, row.get(7)?));
    let known = connection.prepare_cached(&query)?.query_row([profile.0], read).optional()?;
    let Some(mut computed) = known else { return Ok(None) };
    let sql = "SELECT n.name, sum(a.count), min(a.first), max(a.last), sum(a.sum)
        FROM activity a JOIN event_names n ON n.id = a.event
        WHERE a.profile = ? GROUP BY a.event";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([profile.0])?;
    while let Some(row) = rows.next()? {
        let tally = EventTally {
            count: row.get(1)?,
            first: row.get(2)?,
            last: row.get(3)?,
            sum: row.get(4)?,
        };
        computed.activity.insert(row.get(0)?, tally);
    }
    Ok(Some(computed))
}

/// Reads a person's activity, day by day.
pub(super) fn activity(
    connection: &Connection,
    profile: ProfileId,
) -> rusqlite::Result<Vec<DailyActivity>> {
    let sql = "SELECT n.name, a.day, a.count, a.first, a.last, a.sum
        FROM activity a JOIN event_names n ON n.id = a.event
        WHERE a.profile = ? ORDER BY a.day, n.name";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([profile.0], |row| {
        let tally = EventTally {
            count: row.get(2)?,
            first: row.get(3)?,
            last: row.get(4)?,
            sum: row.get(5)?,
        };
        Ok(DailyActivity { event: row.get(0)?, day: row.get(1)?, tally })
    })?;
    rows.collect()
}

/// Removes a profile and all its rows, and adds it to the changes.
pub(super) fn remove(
    connection: &Connection,
    profile: ProfileId,
    changes: &mut ProfileChanges,
) -> rusqlite::Result<()> {
    let names = subject::links_of(connection, profile)?;
    changes.identities.extend(names.into_iter().map(|(identity, _)| identity));
    changes.profiles.insert(profile);
    for statement in
        ["DELETE FROM identities WHERE profile = ?", "DELETE FROM activity WHERE profile = ?"]
    {
        connection.prepare_cached(statement)?.execute([profile.0])?;
    }
    let removed = connection
        .prepare_cached("DELETE FROM profiles WHERE id = ? RETURNING site, rank")?
        .query_row([profile.0], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    if let Some((site, 0)) = removed {
        expire::count(connection, SiteId(site), -1)?;
    }
    Ok(())
}
