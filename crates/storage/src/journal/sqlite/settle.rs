//! Settling: writes a reader's results, in one transaction with its new position.

use jiff::Timestamp;
use rusqlite::{Connection, named_params};

use super::super::failure_text::failure_text;
use super::super::{
    EndedEvent, Ending, JournalSettings, LastVendorCall, OutcomeCause, ParkRequest, ReaderId,
    ReaderPosition, ReaderSettlement, SiteId,
};
use super::disk_budget::JournalDiskBudget;
use super::position::{in_order, position, set_position};
use super::{gaps, outcomes, place, site_of, trimmed_to};
use crate::store::DatabaseDiskUse;

/// Applies a settlement. The reader's memory may lag behind evictions: the stored position never goes
/// back, and events that left meanwhile were counted then.
///
/// Returns the number of dead letters that were not kept because even servers' events have no room.
pub(super) fn settle(
    connection: &Connection,
    reader: ReaderId,
    settlement: &ReaderSettlement,
    now: Timestamp,
    room: &JournalDiskBudget,
    settings: &JournalSettings,
) -> rusqlite::Result<u64> {
    let site = site_of(connection, reader)?;
    let is_dead = |ended: &EndedEvent| ended.as_dead().is_some();
    let keeps_letters = !settlement.ended.iter().any(is_dead)
        || room.has_dead_letter_room(DatabaseDiskUse::of(connection)?);
    let mut unkept = 0;
    let held = RetainedEvents {
        connection,
        site,
        trimmed: trimmed_to(connection, site)?,
        has_gaps: gaps::missing(connection, site)? > 0,
    };
    let (mut delivered, mut skipped, mut dead) = (0_u64, 0_u64, 0_u64);
    let mut kept = Vec::with_capacity(settlement.ended.len());
    for ended in &settlement.ended {
        if !counts(&held, reader, ended)? {
            continue;
        }
        if held.keeps_outcome(ended)? {
            kept.push(ended);
        }
        match &ended.ending {
            Ending::Delivered => delivered += 1,
            Ending::Skipped(_) => skipped += 1,
            Ending::Dead(cause, call) => {
                dead += 1;
                if keeps_letters {
                    let letter = NewDeadLetter { ended, cause, call: call.as_deref(), now };
                    insert_dead_letter(connection, reader, site, &letter, settings.letter_chars)?;
                } else {
                    unkept += 1;
                }
            }
        }
    }
    let at = now.as_millisecond();
    outcomes::store_outcomes(connection, reader, &mut kept, at, settings.detail_chars)?;
    park(&held, reader, &settlement.park)?;
    // Parked rows of dead letters are removed last: the letter takes its body from them.
    for ended in settlement.ended.iter().filter(|ended| ended.was_parked) {
        connection
            .prepare_cached("DELETE FROM parked WHERE reader = ? AND seq = ?")?
            .execute((reader.0, ended.seq))?;
    }
    let stored = position(connection, reader)?;
    let reached = in_order(&settlement.position, stored.cursor.max(held.trimmed));
    set_position(connection, reader, &reached)?;
    // Events that the reader has found missing by now are settled in its new position.
    let found = match held.has_gaps {
        true => gaps::overlap(connection, site, &newly_settled_ranges(&stored, &reached))?,
        false => 0,
    };
    let sql = "UPDATE readers SET delivered = delivered + :delivered, skipped = skipped + :skipped,
            dead = dead + :dead, missed = missed - :found
        WHERE id = :id";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":delivered": delivered,
        ":skipped": skipped,
        ":dead": dead,
        ":found": found,
        ":id": reader.0,
    })?;
    Ok(unkept)
}

/// Parks events to be tried again later.
fn park(
    held: &RetainedEvents<'_>,
    reader: ReaderId,
    parked: &[ParkRequest],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO parked (reader, seq, due_at, attempt) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET due_at = excluded.due_at, attempt = excluded.attempt";
    let mut insert = held.connection.prepare_cached(sql)?;
    // A parked event with its own body, which has left the journal, stays parked.
    let sql = "UPDATE parked SET due_at = ?3, attempt = ?4 WHERE reader = ?1 AND seq = ?2";
    let mut update = held.connection.prepare_cached(sql)?;
    for parking in parked {
        let statement = if held.is_retained(parking.seq)? { &mut insert } else { &mut update };
        let due_at = parking.due_at.as_millisecond();
        statement.execute((reader.0, parking.seq, due_at, parking.attempt))?;
    }
    Ok(())
}

/// Returns the ranges that are settled or parked now and were not before.
fn newly_settled_ranges(before: &ReaderPosition, now: &ReaderPosition) -> Vec<gaps::SequenceRange> {
    let upto = now.ahead.last().map_or(now.cursor, |(_, last)| *last);
    gaps::difference(&gaps::open_ranges(before, upto), &gaps::open_ranges(now, upto))
}

/// The events of a site that are still in the journal.
struct RetainedEvents<'c> {
    connection: &'c Connection,
    site: SiteId,
    trimmed: u64,
    has_gaps: bool,
}

impl RetainedEvents<'_> {
    /// Returns true if the event has not left.
    fn is_retained(&self, seq: u64) -> rusqlite::Result<bool> {
        if seq <= self.trimmed || !self.has_gaps {
            return Ok(seq > self.trimmed);
        }
        self.connection
            .prepare_cached("SELECT 1 FROM events WHERE place = ?")?
            .exists([place(self.site, seq)])
    }

    /// Returns true if the outcome of this event is kept. It leaves with the event, so an event that
    /// has left has none. A detail may quote the event, whose person may be erased by now.
    fn keeps_outcome(&self, ended: &EndedEvent) -> rusqlite::Result<bool> {
        match ended.ending.cause().is_some_and(|cause| !cause.detail.is_empty()) {
            true => outcomes::has_body(self.connection, self.site, ended.seq),
            false => self.is_retained(ended.seq),
        }
    }
}

/// Returns true if the end of this event is still to be counted: an evicted one was counted as dead
/// when it left.
fn counts(
    held: &RetainedEvents<'_>,
    reader: ReaderId,
    ended: &EndedEvent,
) -> rusqlite::Result<bool> {
    if !ended.was_parked {
        return held.is_retained(ended.seq);
    }
    held.connection
        .prepare_cached("SELECT 1 FROM parked WHERE reader = ? AND seq = ?")?
        .exists((reader.0, ended.seq))
}

/// A dead letter to insert.
struct NewDeadLetter<'l> {
    ended: &'l EndedEvent,
    cause: &'l OutcomeCause,
    call: Option<&'l LastVendorCall>,
    now: Timestamp,
}

/// Inserts a dead letter, with its body, since the event itself may leave before the letter does. An
/// event whose person was erased meanwhile leaves no letter: the reason's detail may quote it.
fn insert_dead_letter(
    connection: &Connection,
    reader: ReaderId,
    site: SiteId,
    letter: &NewDeadLetter<'_>,
    chars: usize,
) -> rusqlite::Result<()> {
    let NewDeadLetter { ended: EndedEvent { seq, attempts, .. }, cause, call, now } = letter;
    let cut = |text: &String| -> String { text.chars().take(chars).collect() };
    let sql = "INSERT INTO dead (reader, seq, reason, detail, at, received_at, body, attempts,
            called_at, request, status, reply, failure, event)
        SELECT :reader, :seq, :reason, :detail, :at, received_at, body, :attempts,
            :called_at, :request, :status, :reply, :failure,
            coalesce(CASE WHEN NOT json_valid(body) THEN '' WHEN body ->> 'type' = 'track'
                THEN body ->> 'event' ELSE body ->> 'type' END, '')
        FROM (
            SELECT received_at, body FROM events WHERE place = :place AND body <> ''
            UNION ALL
            SELECT received_at, body FROM parked
            WHERE reader = :reader AND seq = :seq AND body IS NOT NULL
        ) LIMIT 1";
    connection
        .prepare_cached(sql)?
        .execute(named_params! {
            ":reader": reader.0,
            ":seq": seq,
            ":reason": cause.code,
            ":detail": cause.detail,
            ":at": now.as_millisecond(),
            ":place": place(site, *seq),
            ":attempts": attempts,
            ":called_at": call.map(|call| call.at.as_millisecond()),
            ":request": call.map(|call| cut(&call.request)),
            ":status": call.and_then(|call| call.status),
            ":reply": call.map(|call| cut(&call.reply)),
            ":failure": failure_text(cause, *call),
        })
        .map(drop)
}
