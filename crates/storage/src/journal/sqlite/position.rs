//! Reading: events, parked events, positions and accounts.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::{
    JournalReadLimits, JournalRecord, ParkedRecord, ReaderAccount, ReaderId, ReaderLedger,
    ReaderPause, ReaderPosition, SiteId,
};
use super::{IDENTIFIES, MAX_SEQ, newest, place, site_of, text_bytes, time};

pub(super) fn read_events(
    connection: &Connection,
    site: SiteId,
    after: u64,
    upto: u64,
    limit: JournalReadLimits,
) -> rusqlite::Result<Vec<JournalRecord>> {
    let sql = "SELECT place - ?1, received_at, flags, body FROM events
        WHERE place > ?2 AND place <= ?3 ORDER BY place LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let (after, upto) = (place(site, after), place(site, upto));
    let mut rows = statement.query((place(site, 0), after, upto, limit.events))?;
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let body = text_bytes(row, 3)?;
        bytes += body.len();
        if bytes > limit.bytes && !records.is_empty() {
            break;
        }
        records.push(record(row, body)?);
    }
    Ok(records)
}

pub(super) fn read_identifying(
    connection: &Connection,
    site: SiteId,
    after: u64,
    upto: u64,
    limit: usize,
) -> rusqlite::Result<Vec<JournalRecord>> {
    let sql = "SELECT place - ?1, received_at, flags, body FROM events
        WHERE place > ?2 AND place <= ?3 AND flags & ?4 ORDER BY place LIMIT ?5";
    let mut statement = connection.prepare_cached(sql)?;
    let (after, upto) = (place(site, after), place(site, upto));
    let rows = statement.query_map((place(site, 0), after, upto, IDENTIFIES, limit), |row| {
        record(row, text_bytes(row, 3)?)
    })?;
    rows.collect()
}

/// Builds a record from the columns seq, received_at and flags, and its body.
fn record(row: &Row<'_>, body: Bytes) -> rusqlite::Result<JournalRecord> {
    Ok(JournalRecord {
        seq: row.get(0)?,
        received_at: time(row.get(1)?),
        identifies: row.get::<_, i64>(2)? & IDENTIFIES != 0,
        body,
    })
}

/// The query of parked events with their records; a condition on `p` follows.
const PARKED: &str = "SELECT p.seq, coalesce(p.received_at, e.received_at), coalesce(e.flags, 0),
        coalesce(p.body, e.body), p.attempt, p.due_at
    FROM parked p LEFT JOIN events e ON e.place = ?1 + p.seq
    WHERE coalesce(p.body, e.body) IS NOT NULL AND p.reader = ?2 AND ";

pub(super) fn due(
    connection: &Connection,
    reader: ReaderId,
    now: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<ParkedRecord>> {
    let site = site_of(connection, reader)?;
    let query = format!("{PARKED} p.due_at <= ?3 ORDER BY p.due_at, p.seq LIMIT ?4");
    let mut statement = connection.prepare_cached(&query)?;
    let bounds = (place(site, 0), reader.0, now.as_millisecond(), limit);
    statement.query_map(bounds, parked_row)?.collect()
}

/// Returns the earliest due time of the parked events that are not due at `now`.
pub(super) fn next_due(
    connection: &Connection,
    reader: ReaderId,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let due: Option<i64> = connection
        .prepare_cached("SELECT min(due_at) FROM parked WHERE reader = ? AND due_at > ?")?
        .query_row((reader.0, now.as_millisecond()), |row| row.get(0))?;
    Ok(due.map(time))
}

pub(super) fn parked(
    connection: &Connection,
    reader: ReaderId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<ParkedRecord>> {
    let site = site_of(connection, reader)?;
    let query = format!("{PARKED} p.seq > ?3 ORDER BY p.seq LIMIT ?4");
    let mut statement = connection.prepare_cached(&query)?;
    statement.query_map((place(site, 0), reader.0, after, limit), parked_row)?.collect()
}

fn parked_row(row: &Row<'_>) -> rusqlite::Result<ParkedRecord> {
    let record = record(row, text_bytes(row, 3)?)?;
    Ok(ParkedRecord { record, attempt: row.get(4)?, due_at: time(row.get(5)?) })
}

pub(super) fn position(
    connection: &Connection,
    reader: ReaderId,
) -> rusqlite::Result<ReaderPosition> {
    connection.prepare_cached("SELECT cursor, ahead FROM readers WHERE id = ?")?.query_row(
        [reader.0],
        |row| {
            let position =
                ReaderPosition { cursor: row.get(0)?, ahead: ranges(row.get_ref(1)?.as_str()?) };
            Ok(in_order(&position, 0))
        },
    )
}

/// Stores the reader's position, in the form that [`in_order`] gives.
pub(super) fn set_position(
    connection: &Connection,
    reader: ReaderId,
    position: &ReaderPosition,
) -> rusqlite::Result<()> {
    let ahead = serde_json::to_string(&position.ahead).unwrap_or_else(|_| "[]".to_owned());
    connection
        .prepare_cached("UPDATE readers SET cursor = ?, ahead = ? WHERE id = ?")?
        .execute((position.cursor, ahead, reader.0))
        .map(drop)
}

/// Reads the operator's pause of a reader.
pub(super) fn pause(
    connection: &Connection,
    reader: ReaderId,
) -> rusqlite::Result<Option<ReaderPause>> {
    let sql = "SELECT paused, pause FROM readers WHERE id = ?";
    connection.prepare_cached(sql)?.query_row([reader.0], |row| {
        let stored: Option<String> = row.get(1)?;
        // A pause of an earlier version has no details, and one that cannot be read is a pause all the same.
        let details = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        Ok(row.get::<_, bool>(0)?.then_some(details))
    })
}

/// Stores the operator's pause of a reader, or its end.
pub(super) fn set_pause(
    connection: &Connection,
    reader: ReaderId,
    pause: Option<&ReaderPause>,
) -> rusqlite::Result<()> {
    let details = pause.and_then(|pause| serde_json::to_string(pause).ok());
    connection
        .prepare_cached("UPDATE readers SET paused = ?, pause = ? WHERE id = ?")?
        .execute((pause.is_some(), details, reader.0))
        .map(drop)
}

/// Returns the position with its cursor at `floor` or later and its ranges beyond the cursor, in order
/// and apart from each other: all arithmetic on positions relies on that. A reader's own memory does
/// not have this form once events that it had yet to settle were evicted.
pub(super) fn in_order(position: &ReaderPosition, floor: u64) -> ReaderPosition {
    let mut cursor = position.cursor.max(floor);
    let mut ahead: Vec<(u64, u64)> = Vec::with_capacity(position.ahead.len());
    for (first, last) in &position.ahead {
        let next = ahead.last().map_or(cursor, |(_, last)| *last) + 1;
        let first = *first.max(&next);
        if *last < first {
            continue;
        }
        if first == cursor + 1 {
            cursor = *last;
        } else {
            ahead.push((first, *last));
        }
    }
    ReaderPosition { cursor, ahead }
}

/// Counts the events up to and including `upto` that the position leaves unsettled: the gaps between
/// its ranges.
pub(super) fn unsettled(position: &ReaderPosition, upto: u64) -> u64 {
    let (mut count, mut next) = (0, position.cursor + 1);
    for (first, last) in position.ahead.iter().filter(|(first, _)| *first <= upto) {
        count += first - next;
        next = last + 1;
    }
    // The cursor or the last range may end beyond.
    count + (upto + 1).saturating_sub(next)
}

/// Parses the stored form of `ReaderPosition::ahead`: `[[5,7],[9,9]]`. This program alone writes the
/// table; if it is damaged, an empty list only repeats deliveries.
fn ranges(text: &str) -> Vec<(u64, u64)> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The condition of held events: parked, never tried and not due, they wait for their visitor.
const HELD: &str = "attempt = 0 AND due_at > ?2";

/// Returns the account of a reader at `now`.
pub(super) fn account(
    connection: &Connection,
    reader: ReaderId,
    now: Timestamp,
) -> rusqlite::Result<ReaderAccount> {
    let (site, now) = (site_of(connection, reader)?, now.as_millisecond());
    let head = newest(connection, site)?;
    let position = position(connection, reader)?;
    let waiting = unsettled(&position, head);
    let (parked, held): (u64, u64) = connection
        .prepare_cached(&format!(
            "SELECT count(*), coalesce(sum({HELD}), 0) FROM parked WHERE reader = ?1"
        ))?
        .query_row((reader.0, now), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql =
        "SELECT start_seq, replayed, delivered, skipped, dead, missed FROM readers WHERE id = ?";
    let ledger = connection.prepare_cached(sql)?.query_row([reader.0], |row| {
        let start: u64 = row.get(0)?;
        let replayed: u64 = row.get(1)?;
        let missed: u64 = row.get(5)?;
        Ok(ReaderLedger {
            accepted: head.saturating_sub(start) + replayed,
            delivered: row.get(2)?,
            skipped: row.get(3)?,
            dead: row.get(4)?,
            pending: waiting.saturating_sub(missed) + parked - held,
            held,
        })
    })?;
    let oldest_pending = oldest_pending(connection, reader, site, position.cursor, now)?;
    Ok(ReaderAccount { reader, ledger, oldest_pending })
}

/// Returns the receive time of the oldest event that the reader has not settled and that is not held.
fn oldest_pending(
    connection: &Connection,
    reader: ReaderId,
    site: SiteId,
    cursor: u64,
    now: i64,
) -> rusqlite::Result<Option<Timestamp>> {
    let sql =
        "SELECT received_at FROM events WHERE place > ? AND place <= ? ORDER BY place LIMIT 1";
    let waiting: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row([place(site, cursor), place(site, MAX_SEQ)], |row| row.get(0))
        .optional()?;
    let parked: Option<i64> = connection
        .prepare_cached(&format!(
            "SELECT coalesce(p.received_at, e.received_at)
             FROM parked p LEFT JOIN events e ON e.place = ?3 + p.seq
             WHERE p.reader = ?1 AND NOT ({HELD}) ORDER BY p.seq LIMIT 1"
        ))?
        .query_row((reader.0, now, place(site, 0)), |row| row.get(0))
        .optional()?
        .flatten();
    Ok(waiting.into_iter().chain(parked).min().map(time))
}
