//! Retention: removes events that no reader needs and that are old enough. Eviction under the disk
//! budget is in `evict`.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::super::{JournalError, JournalUsage, PROJECTION, ReaderId, SiteId};
use super::position::{in_order, position, set_position};
use super::{MAX_SEQ, SqliteJournal, gaps, newest, outcomes, place, time, trimmed_to};
use crate::store::DatabaseDiskUse;

/// Events removed by one write: about a millisecond, so that appends are hardly delayed.
pub(super) const STEP: u64 = 500;

impl SqliteJournal {
    /// Runs every part even if another fails, and then returns the first failure: a site that cannot be
    /// trimmed must not keep the dead letters of all.
    pub(super) async fn apply_retention(&self, now: Timestamp) -> Result<u64, JournalError> {
        let cutoff = now.checked_sub(self.settings.retain).unwrap_or(Timestamp::MIN);
        let dead_cutoff = now.checked_sub(self.settings.retain_dead).unwrap_or(Timestamp::MIN);
        let sites = self.read_db(sites).await?;
        let mut parts = Vec::with_capacity(sites.len() + 3);
        for site in &sites {
            let site = *site;
            parts.push(self.in_steps(move |c| trim_settled(c, site, cutoff)).await);
        }
        let expired = self.in_steps(move |c| expire_dead(c, dead_cutoff)).await;
        parts.push(expired.map(|_letters| 0));
        self.eviction_progress.lock().await.restart_search();
        parts.push(self.evict().await);
        parts.push(self.give_back().await.map(|()| 0));
        parts.into_iter().sum()
    }

    /// Repeats a step, each a write of its own, until it removes less than its limit.
    async fn in_steps(
        &self,
        step: impl Fn(&Connection) -> rusqlite::Result<u64> + Clone + Send + 'static,
    ) -> Result<u64, JournalError> {
        let mut removed = 0;
        loop {
            let step = self.write_db(step.clone()).await?;
            removed += step;
            if step < STEP {
                return Ok(removed);
            }
        }
    }
}

pub(super) fn sites(connection: &Connection) -> rusqlite::Result<Vec<SiteId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM sites")?;
    statement.query_map([], |row| row.get(0).map(SiteId))?.collect()
}

pub(super) fn usage(connection: &Connection) -> rusqlite::Result<JournalUsage> {
    let mut events = 0;
    for site in sites(connection)? {
        let left = trimmed_to(connection, site)? + gaps::missing(connection, site)?;
        events += newest(connection, site)?.saturating_sub(left);
    }
    let disk = DatabaseDiskUse::of(connection)?;
    Ok(JournalUsage { bytes: disk.used, disk_bytes: disk.total(), events, evicted: 0 })
}

/// Removes dead letters older than `cutoff`.
pub(super) fn expire_dead(connection: &Connection, cutoff: Timestamp) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE at < ? ORDER BY at LIMIT ?)";
    let expired = connection.prepare_cached(sql)?.execute((cutoff.as_millisecond(), STEP))?;
    Ok(expired as u64)
}

/// Removes the site's next events that every active reader is done with and that are older than
/// `cutoff`.
pub(super) fn trim_settled(
    connection: &Connection,
    site: SiteId,
    cutoff: Timestamp,
) -> rusqlite::Result<u64> {
    let trimmed = trimmed_to(connection, site)?;
    let mut done = newest(connection, site)?;
    for reader in active_readers(connection, site)? {
        done = done.min(position(connection, reader)?.cursor);
        let parked: Option<u64> = connection
            .prepare_cached("SELECT min(seq) FROM parked WHERE reader = ? AND body IS NULL")?
            .query_row([reader.0], |row| row.get(0))?;
        if let Some(parked) = parked {
            done = done.min(parked - 1);
        }
    }
    // Rows are counted, not numbers: between them may be gaps.
    let sql = "SELECT place - ?1, received_at < ?4 FROM events
        WHERE place > ?2 AND place <= ?3 ORDER BY place LIMIT ?5";
    let mut next = connection.prepare_cached(sql)?;
    let (after, last) = (place(site, trimmed), place(site, done));
    let mut rows = next.query((place(site, 0), after, last, cutoff.as_millisecond(), STEP))?;
    let mut upto = trimmed;
    while let Some(row) = rows.next()? {
        if !row.get::<_, bool>(1)? {
            break;
        }
        upto = row.get(0)?;
    }
    drop(rows);
    Ok(trim(connection, site, upto)?.events)
}

/// Returns the site's first event after this one, and the time at which it was received.
pub(super) fn first_after(
    connection: &Connection,
    site: SiteId,
    after: u64,
) -> rusqlite::Result<Option<(u64, Timestamp)>> {
    let sql = "SELECT place - ?1, received_at FROM events
        WHERE place > ?2 AND place <= ?3 ORDER BY place LIMIT 1";
    connection
        .prepare_cached(sql)?
        .query_row((place(site, 0), place(site, after), place(site, MAX_SEQ)), |row| {
            Ok((row.get(0)?, time(row.get(1)?)))
        })
        .optional()
}

/// The events and deliveries that one write evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EvictionCounts {
    /// The number of events.
    pub(super) events: u64,
    /// Deliveries of active destinations that were lost.
    pub(super) lost: u64,
}

/// Removes the site's events up to `upto`, and the gap behind. A reader counts those it had not settled
/// as dead.
pub(super) fn trim(
    connection: &Connection,
    site: SiteId,
    upto: u64,
) -> rusqlite::Result<EvictionCounts> {
    if upto <= trimmed_to(connection, site)? {
        return Ok(EvictionCounts::default());
    }
    let upto = gaps::gap_end_after(connection, site, upto)?;
    let mut lost = 0;
    for reader in readers(connection, site)? {
        let abandoned = abandon(connection, reader.id, site, upto)?;
        outcomes::trim(connection, reader.id, upto)?;
        if reader.is_active_destination() {
            lost += abandoned;
        }
    }
    gaps::forget(connection, site, upto)?;
    let removed = connection
        .prepare_cached("DELETE FROM events WHERE place BETWEEN ? AND ?")?
        .execute([place(site, 0), place(site, upto)])?;
    connection.execute("UPDATE sites SET trimmed_to = ? WHERE id = ?", (upto, site.0))?;
    Ok(EvictionCounts { events: removed as u64, lost })
}

/// Counts the reader's unsettled events up to `upto` as dead, and moves it past.
fn abandon(
    connection: &Connection,
    reader: ReaderId,
    site: SiteId,
    upto: u64,
) -> rusqlite::Result<u64> {
    let parked = connection
        .prepare_cached("DELETE FROM parked WHERE reader = ? AND seq <= ? AND body IS NULL")?
        .execute((reader.0, upto))? as u64;
    let position = position(connection, reader)?;
    let open = gaps::open_ranges(&position, upto);
    // Those in gaps were counted when they were evicted.
    let missed = gaps::overlap(connection, site, &open)?;
    let unsettled: u64 = open.iter().map(|(first, last)| last - first + 1).sum();
    let abandoned = parked + unsettled - missed;
    if position.cursor < upto {
        set_position(connection, reader, &in_order(&position, upto))?;
    }
    if abandoned + missed > 0 {
        let sql = "UPDATE readers SET dead = dead + ?, missed = missed - ? WHERE id = ?";
        connection.execute(sql, (abandoned, missed, reader.0))?;
    }
    Ok(abandoned)
}

/// A reader of a site.
pub(super) struct SiteReader {
    pub(super) id: ReaderId,
    name: String,
    is_active: bool,
}

impl SiteReader {
    /// Returns true if an event that it has not settled is lost with the event.
    pub(super) fn is_active_destination(&self) -> bool {
        self.is_active && self.name != PROJECTION
    }
}

/// Returns the site's readers.
pub(super) fn readers(connection: &Connection, site: SiteId) -> rusqlite::Result<Vec<SiteReader>> {
    connection
        .prepare_cached("SELECT id, name, active FROM readers WHERE site = ?")?
        .query_map([site.0], |row| {
            Ok(SiteReader { id: ReaderId(row.get(0)?), name: row.get(1)?, is_active: row.get(2)? })
        })?
        .collect()
}

/// Returns the site's active readers.
pub(super) fn active_readers(
    connection: &Connection,
    site: SiteId,
) -> rusqlite::Result<impl Iterator<Item = ReaderId>> {
    let readers = readers(connection, site)?.into_iter();
    Ok(readers.filter(|reader| reader.is_active).map(|reader| reader.id))
}
