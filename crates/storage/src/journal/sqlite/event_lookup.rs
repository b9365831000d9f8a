//! The lookup of one event and its outcomes.

use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;

use super::super::{
    EventAtReader, EventHistory, JournalError, ReaderEventState, ReaderId, ReaderPosition, SiteId,
};
use super::position::position;
use super::{SqliteJournal, dead, newest, outcomes, place, text_bytes, time, trimmed_to};

/// Events read in one step: some milliseconds of a reader's connection.
const LOOK_EVENTS: u64 = 2000;

/// Reads the event with its state at these readers.
pub(super) fn event(
    connection: &Connection,
    site: SiteId,
    seq: u64,
    readers: &[ReaderId],
) -> rusqlite::Result<Option<EventHistory>> {
    let found = connection
        .prepare_cached("SELECT received_at, body FROM events WHERE place = ? AND body <> ''")?
        .query_row([place(site, seq)], |row| Ok((time(row.get(0)?), text_bytes(row, 1)?)))
        .optional()?;
    let Some((received_at, body)) = found else { return Ok(None) };
    let at_reader = |reader: &ReaderId| at_reader(connection, *reader, seq);
    let readers = readers.iter().map(at_reader).collect::<rusqlite::Result<_>>()?;
    Ok(Some(EventHistory { seq, received_at, body, readers }))
}

fn at_reader(
    connection: &Connection,
    reader: ReaderId,
    seq: u64,
) -> rusqlite::Result<EventAtReader> {
    Ok(EventAtReader {
        reader,
        state: reader_event_state(connection, reader, seq)?,
        outcome: outcomes::last(connection, reader, seq)?,
        letter: dead::of_event(connection, reader, seq)?,
    })
}

fn reader_event_state(
    connection: &Connection,
    reader: ReaderId,
    seq: u64,
) -> rusqlite::Result<ReaderEventState> {
    let parked = connection
        .prepare_cached("SELECT due_at, attempt FROM parked WHERE reader = ? AND seq = ?")?
        .query_row((reader.0, seq), |row| {
            Ok(ReaderEventState::Parked { due_at: time(row.get(0)?), attempt: row.get(1)? })
        })
        .optional()?;
    if let Some(parked) = parked {
        return Ok(parked);
    }
    let start: u64 = connection
        .prepare_cached("SELECT start_seq FROM readers WHERE id = ?")?
        .query_row([reader.0], |row| row.get(0))?;
    let ReaderPosition { cursor, ahead } = position(connection, reader)?;
    let is_ahead = ahead.iter().any(|(first, last)| (*first..=*last).contains(&seq));
    Ok(match seq {
        _ if seq <= start => ReaderEventState::BeforeReader,
        _ if seq <= cursor || is_ahead => ReaderEventState::Settled,
        _ => ReaderEventState::Unsettled,
    })
}

impl SqliteJournal {
    /// Finds the newest event of the site with this message id.
    pub(super) async fn look_for_message(
        &self,
        site: SiteId,
        message_id: &str,
    ) -> Result<Option<u64>, JournalError> {
        let (trimmed, mut last) =
            self.read_db(move |c| Ok((trimmed_to(c, site)?, newest(c, site)?))).await?;
        while last > trimmed {
            let first = last.saturating_sub(LOOK_EVENTS - 1).max(trimmed + 1);
            let id = message_id.to_owned();
            let found = self.read_db(move |c| with_message(c, site, first..=last, &id)).await?;
            if found.is_some() {
                return Ok(found);
            }
            last = first - 1;
        }
        Ok(None)
    }
}

/// Returns the newest of these events that has the message id.
fn with_message(
    connection: &Connection,
    site: SiteId,
    seqs: RangeInclusive<u64>,
    message_id: &str,
) -> rusqlite::Result<Option<u64>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RecordIdentity {
        message_id: String,
    }
    // The SQL finds the id anywhere in the text; then the event's own id is compared.
    let written = serde_json::to_string(message_id).unwrap_or_default();
    let sql = "SELECT place - ?1, body FROM events
        WHERE place BETWEEN ?2 AND ?3 AND instr(body, ?4) > 0 ORDER BY place DESC";
    let mut events = connection.prepare_cached(sql)?;
    let (first, last) = (place(site, *seqs.start()), place(site, *seqs.end()));
    let bounds = (place(site, 0), first, last, written);
    let mut rows = events.query(bounds)?;
    while let Some(row) = rows.next()? {
        let glance = serde_json::from_str::<RecordIdentity>(row.get_ref(1)?.as_str()?);
        if glance.is_ok_and(|glance| glance.message_id == message_id) {
            return row.get(0).map(Some);
        }
    }
    Ok(None)
}
