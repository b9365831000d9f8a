//! Dead letters, and the replay of a window of the journal.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row};

use super::super::{
    DeadLetterRecord, DeadLetterSelection, JournalError, LastVendorCall, ReaderId, ReplayPlan,
    SiteId,
};
use super::position::position;
use super::search::matching_ids;
use super::{SqliteJournal, newest, place, site_of, text_bytes, time, trimmed_to};

/// Events or letters handled by one write: keeps the writer free for appends.
const STEP: u64 = 500;

/// The most by which receive times may be out of the order of the sequence, in milliseconds: requests
/// are stamped before they queue for the disk.
const DISORDER_MS: i64 = 10_000;

const COLUMNS: &str =
    "id, reader, at, seq, reason, detail, body, attempts, called_at, request, status, reply";

fn record(row: &Row<'_>) -> rusqlite::Result<DeadLetterRecord> {
    Ok(DeadLetterRecord {
        id: row.get(0)?,
        reader: ReaderId(row.get(1)?),
        at: time(row.get(2)?),
        seq: row.get(3)?,
        reason: row.get(4)?,
        detail: row.get(5)?,
        body: text_bytes(row, 6)?,
        attempts: row.get(7)?,
        last_call: last_call(row)?,
    })
}

fn last_call(row: &Row<'_>) -> rusqlite::Result<Option<LastVendorCall>> {
    let Some(at) = row.get::<_, Option<i64>>(8)? else { return Ok(None) };
    Ok(Some(LastVendorCall {
        at: time(at),
        request: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
        status: row.get(10)?,
        reply: row.get::<_, Option<String>>(11)?.unwrap_or_default(),
    }))
}

/// Returns the event's newest letter of one reader.
pub(super) fn of_event(
    connection: &Connection,
    reader: ReaderId,
    seq: u64,
) -> rusqlite::Result<Option<DeadLetterRecord>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM dead WHERE reader = ? AND seq = ? ORDER BY id DESC LIMIT 1"
        ))?
        .query_row((reader.0, seq), record)
        .optional()
}

pub(super) fn one(connection: &Connection, id: i64) -> rusqlite::Result<Option<DeadLetterRecord>> {
    connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM dead WHERE id = ?"))?
        .query_row([id], record)
        .optional()
}

/// Parks a letter as due now. A letter whose event is parked already stays: an event is in flight once
/// at a time.
pub(super) fn retry(connection: &Connection, id: i64, now: Timestamp) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO parked (reader, seq, due_at, attempt, received_at, body)
        SELECT reader, seq, ?2, 0, received_at, body FROM dead WHERE id = ?1
        ON CONFLICT DO NOTHING";
    let parked = connection.prepare_cached(sql)?.execute((id, now.as_millisecond()))?;
    if parked == 0 {
        return Ok(false);
    }
    connection.execute(
        "UPDATE readers SET dead = dead - 1 WHERE id = (SELECT reader FROM dead WHERE id = ?)",
        [id],
    )?;
    remove(connection, id)
}

pub(super) fn remove(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    Ok(connection.prepare_cached("DELETE FROM dead WHERE id = ?")?.execute([id])? > 0)
}

impl SqliteJournal {
    /// Applies `act` to each selected letter, a few at a time. Returns the number of letters changed.
    pub(super) async fn each_dead(
        &self,
        which: DeadLetterSelection,
        act: impl Fn(&Connection, i64) -> rusqlite::Result<bool> + Clone + Send + 'static,
    ) -> Result<u64, JournalError> {
        let ids = self.read_db(move |c| matching_ids(c, which)).await?;
        let mut done = 0;
        for chunk in ids.chunks(usize::try_from(STEP).unwrap_or(usize::MAX)) {
            let (chunk, act) = (chunk.to_vec(), act.clone());
            done += self
                .write_db(move |c| {
                    let mut done = 0;
                    for id in chunk {
                        done += u64::from(act(c, id)?);
                    }
                    Ok(done)
                })
                .await?;
        }
        Ok(done)
    }
}

/// The events of a reader's site that were received in `from..to`.
#[derive(Clone, Copy)]
pub(super) struct ReplayWindow {
    pub(super) reader: ReaderId,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

/// Returns the window's site, and the part of its sequence that can contain the window's events.
pub(super) fn replay_range(
    connection: &Connection,
    window: ReplayWindow,
) -> rusqlite::Result<(SiteId, RangeInclusive<u64>)> {
    let site = site_of(connection, window.reader)?;
    let (first, last) = (trimmed_to(connection, site)? + 1, newest(connection, site)?);
    // The number may be that of an evicted event; then the next event's time counts.
    let mut received = connection.prepare_cached(
        "SELECT received_at FROM events WHERE place >= ? AND place <= ? ORDER BY place LIMIT 1",
    )?;
    // Returns the first seq in the range whose event was received at `limit` or later.
    let mut boundary = |limit: i64| -> rusqlite::Result<u64> {
        let (mut low, mut high) = (first, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let at: i64 =
                received.query_row([place(site, middle), place(site, last)], |row| row.get(0))?;
            if at < limit {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    };
    let start = boundary(window.from.as_millisecond().saturating_sub(DISORDER_MS))?;
    let end = boundary(window.to.as_millisecond().saturating_add(DISORDER_MS))?;
    Ok((site, start..=end.saturating_sub(1)))
}

pub(super) fn chunks(range: RangeInclusive<u64>) -> impl Iterator<Item = RangeInclusive<u64>> {
    let (start, end) = range.into_inner();
    let mut next = start;
    std::iter::from_fn(move || {
        let first = next;
        next = first.saturating_add(STEP);
        (first <= end).then(|| first..=end.min(next - 1))
    })
}

/// Returns the chunk's events of the window that the reader is done with, and those that it is not.
fn split_by_settled(
    connection: &Connection,
    window: ReplayWindow,
    site: SiteId,
    chunk: &RangeInclusive<u64>,
) -> rusqlite::Result<(Vec<u64>, Vec<u64>)> {
    let position = position(connection, window.reader)?;
    let is_done = |seq: &u64| {
        seq <= &position.cursor
            || position.ahead.iter().any(|(first, last)| (*first..=*last).contains(seq))
    };
    let sql = "SELECT place - ?1 FROM events WHERE place BETWEEN ?2 AND ?3
        AND received_at >= ?4 AND received_at < ?5";
    let mut seqs = connection.prepare_cached(sql)?;
    let bounds = (place(site, *chunk.start()), place(site, *chunk.end()));
    let window = (window.from.as_millisecond(), window.to.as_millisecond());
    let seqs: Vec<u64> = seqs
        .query_map((place(site, 0), bounds.0, bounds.1, window.0, window.1), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(seqs.into_iter().partition(is_done))
}

/// Counts the dead letters of the window.
pub(super) fn dead_in_window(
    connection: &Connection,
    ReplayWindow { reader, from, to }: ReplayWindow,
) -> rusqlite::Result<u64> {
    let window = (reader.0, from.as_millisecond(), to.as_millisecond());
    let sql = "SELECT COUNT(DISTINCT seq) FROM dead
        WHERE reader = ? AND received_at >= ? AND received_at < ?";
    let mut dead = connection.prepare_cached(sql)?;
    dead.query_row(window, |row| row.get(0))
}

/// Returns what [`replay_chunk`] would do, but for dead letters.
pub(super) fn plan_chunk(
    connection: &Connection,
    window: ReplayWindow,
    site: SiteId,
    chunk: &RangeInclusive<u64>,
) -> rusqlite::Result<ReplayPlan> {
    let (done, pending) = split_by_settled(connection, window, site, chunk)?;
    let mut parked =
        connection.prepare_cached("SELECT 1 FROM parked WHERE reader = ? AND seq = ?")?;
    let mut plan = ReplayPlan { pending: count(&pending), ..ReplayPlan::default() };
    for seq in done {
        if parked.exists((window.reader.0, seq))? {
            plan.pending += 1;
        } else {
            plan.count += 1;
        }
    }
    Ok(plan)
}

fn count(seqs: &[u64]) -> u64 {
    u64::try_from(seqs.len()).unwrap_or(u64::MAX)
}

/// Parks the chunk's events that the reader is done with and that are not parked already.
pub(super) fn replay_chunk(
    connection: &Connection,
    window: ReplayWindow,
    site: SiteId,
    chunk: &RangeInclusive<u64>,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let (reader, (done, _)) = (window.reader, split_by_settled(connection, window, site, chunk)?);
    let sql = "INSERT INTO parked (reader, seq, due_at, attempt) VALUES (?, ?, ?, 0)
        ON CONFLICT DO NOTHING";
    let mut park = connection.prepare_cached(sql)?;
    let mut replayed = 0_u64;
    for seq in done {
        replayed += u64::from(park.execute((reader.0, seq, now.as_millisecond()))? > 0);
    }
    connection
        .execute("UPDATE readers SET replayed = replayed + ? WHERE id = ?", (replayed, reader.0))?;
    Ok(replayed)
}
