//! Settling: what a reader did, in one transaction with its new position.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::super::{Ended, Ending, ReaderId, Settlement, SiteId};
use super::position::{in_order, position, set_position};
use super::{place, site_of, trimmed_to};

/// Applies a settlement. The reader's memory may lag behind what was forced out of the journal
/// since: the stored position never goes back, and what left meanwhile was counted then.
pub(super) fn settle(
    connection: &Connection,
    reader: ReaderId,
    settlement: &Settlement,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let site = site_of(connection, reader)?;
    let trimmed = trimmed_to(connection, site)?;
    let (mut delivered, mut skipped, mut dead) = (0_u64, 0_u64, 0_u64);
    for ended in &settlement.ended {
        if !counts(connection, reader, ended, trimmed)? {
            continue;
        }
        match &ended.ending {
            Ending::Delivered => delivered += 1,
            Ending::Skipped => skipped += 1,
            Ending::Dead { reason, detail } => {
                dead += 1;
                bury(connection, (reader, site), ended.seq, (reason, detail), now)?;
            }
        }
    }
    for parking in &settlement.park {
        if parking.seq > trimmed {
            connection
                .prepare_cached(
                    "INSERT INTO parked (reader, seq, due_at, attempt) VALUES (?, ?, ?, ?)
                     ON CONFLICT DO UPDATE SET due_at = excluded.due_at, attempt = excluded.attempt",
                )?
                .execute((reader.0, parking.seq, parking.due_at.as_millisecond(), parking.attempt))?;
        } else {
            // The event has left the journal. If it brought its own body it is parked still.
            connection
                .prepare_cached(
                    "UPDATE parked SET due_at = ?, attempt = ? WHERE reader = ? AND seq = ?",
                )?
                .execute((
                    parking.due_at.as_millisecond(),
                    parking.attempt,
                    reader.0,
                    parking.seq,
                ))?;
        }
    }
    // Parked rows of dead letters are removed last: the letter takes its body from them.
    for ended in settlement.ended.iter().filter(|ended| ended.was_parked) {
        connection
            .prepare_cached("DELETE FROM parked WHERE reader = ? AND seq = ?")?
            .execute((reader.0, ended.seq))?;
    }
    let stored = position(connection, reader)?;
    let reached = in_order(&settlement.position, stored.cursor.max(trimmed));
    set_position(connection, reader, &reached)?;
    connection
        .prepare_cached(
            "UPDATE readers SET delivered = delivered + :delivered, skipped = skipped + :skipped,
                 dead = dead + :dead
             WHERE id = :id",
        )?
        .execute(named_params! {
            ":delivered": delivered,
            ":skipped": skipped,
            ":dead": dead,
            ":id": reader.0,
        })?;
    Ok(())
}

/// Whether the end of this event is still to be counted: one that retention forced out was counted
/// as dead when it left.
fn counts(
    connection: &Connection,
    reader: ReaderId,
    ended: &Ended,
    trimmed: u64,
) -> rusqlite::Result<bool> {
    if !ended.was_parked {
        return Ok(ended.seq > trimmed);
    }
    connection
        .prepare_cached("SELECT 1 FROM parked WHERE reader = ? AND seq = ?")?
        .exists((reader.0, ended.seq))
}

/// Keeps a dead letter, with its body, since the event itself may leave before the letter does. Of an
/// event whose person was forgotten meanwhile nothing is kept: the reason's detail may quote it.
fn bury(
    connection: &Connection,
    (reader, site): (ReaderId, SiteId),
    seq: u64,
    (reason, detail): (&str, &str),
    now: Timestamp,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO dead (reader, seq, reason, detail, at, received_at, body)
             SELECT ?1, ?2, ?3, ?4, ?5, received_at, body FROM (
                 SELECT received_at, body FROM events WHERE place = ?6 AND body <> ''
                 UNION ALL
                 SELECT received_at, body FROM parked
                 WHERE reader = ?1 AND seq = ?2 AND body IS NOT NULL
             ) LIMIT 1",
        )?
        .execute((reader.0, seq, reason, detail, now.as_millisecond(), place(site, seq)))
        .map(drop)
}
