//! Retention: what may leave, and what must when the disk allowance is used up.
//!
//! The allowance is for the events and the dead letters, not for the profiles in the same file:
//! throwing events away makes those no smaller.

use std::sync::PoisonError;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::super::{JournalError, PROJECTION, ReaderId, SiteId, Usage};
use super::position::{in_order, position, set_position, unsettled};
use super::{SqliteJournal, newest, place, time, trimmed_to};

/// Events removed by one write: about a millisecond, so that appends hardly notice.
const STEP: u64 = 500;

impl SqliteJournal {
    /// Does every part even if another fails, and then tells the first failure: a site that cannot
    /// be trimmed must not keep the dead letters of all.
    pub(super) async fn apply_retention(&self, now: Timestamp) -> Result<u64, JournalError> {
        let cutoff = now.checked_sub(self.settings.retain).unwrap_or(Timestamp::MIN);
        let dead_cutoff = now.checked_sub(self.settings.retain_dead).unwrap_or(Timestamp::MIN);
        let sites = self.read_db(sites).await?;
        let mut parts = Vec::with_capacity(sites.len() + 2);
        for site in &sites {
            let site = *site;
            parts.push(self.in_steps(move |c| trim_settled(c, site, cutoff)).await);
        }
        let expired = self.in_steps(move |c| expire_dead(c, dead_cutoff)).await;
        parts.push(expired.map(|_letters| 0));
        parts.push(self.evict(&sites).await);
        parts.into_iter().sum()
    }

    /// Repeats a step, each a write by itself, until it has less to remove than it may.
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

    /// Makes room while the events and dead letters are over their allowance. What is least missed
    /// goes first: events that are kept for replay only, then dead letters, then events that a
    /// destination has yet to settle; of each the oldest.
    async fn evict(&self, sites: &[SiteId]) -> Result<u64, JournalError> {
        let max_bytes = self.settings.max_bytes;
        if self.read_db(used_bytes).await? <= max_bytes {
            return Ok(0);
        }
        // The rest of the file hardly changes meanwhile, and measuring it means walking through it.
        let others = self.read_db(bytes_of_others).await?;
        let mut removed = 0;
        while self.read_db(used_bytes).await?.saturating_sub(others) > max_bytes {
            let of_sites = sites.to_vec();
            let settled = self.write_db(move |c| trim_replayable(c, &of_sites)).await?;
            removed += settled;
            if settled > 0 || self.evict_dead().await? > 0 {
                continue;
            }
            let of_sites = sites.to_vec();
            let (step, lost) = self.write_db(move |c| trim_oldest(c, &of_sites)).await?;
            if step == 0 {
                break;
            }
            removed += step;
            if lost > 0 {
                *self.evicted.lock().unwrap_or_else(PoisonError::into_inner) += lost;
                self.metrics.journal_evicted.inc_by(lost);
                tracing::error!(
                    deliveries = lost,
                    "journal.max_bytes forced out events that a destination had not settled"
                );
            }
        }
        Ok(removed)
    }

    /// Removes the oldest dead letters. Returns how many.
    async fn evict_dead(&self) -> Result<u64, JournalError> {
        let letters = self.write_db(|c| expire_dead(c, Timestamp::MAX)).await?;
        if letters > 0 {
            self.metrics.dead_evicted.inc_by(letters);
            tracing::error!(letters, "journal.max_bytes forced out dead letters");
        }
        Ok(letters)
    }
}

fn sites(connection: &Connection) -> rusqlite::Result<Vec<SiteId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM sites")?;
    statement.query_map([], |row| row.get(0).map(SiteId))?.collect()
}

/// Bytes of the whole database that hold something.
fn used_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pragma = |name: &str| -> rusqlite::Result<u64> {
        connection.pragma_query_value(None, name, |row| row.get(0))
    };
    let used = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(used * pragma("page_size")?)
}

/// Bytes of what `journal.max_bytes` does not speak of: all but events, parked events and dead
/// letters. Most of it is the profiles, which no eviction of events makes smaller. Counted page by
/// page, a second or so per gigabyte.
fn bytes_of_others(connection: &Connection) -> rusqlite::Result<u64> {
    let mut names = connection.prepare_cached(
        "SELECT name FROM sqlite_schema
         WHERE rootpage > 0 AND tbl_name NOT IN ('events', 'parked', 'dead')",
    )?;
    let mut size = connection
        .prepare_cached("SELECT sum(pgsize) FROM dbstat WHERE name = ? AND aggregate = TRUE")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.iter().map(|name| size.query_row([name], |row| row.get::<_, u64>(0))).sum()
}

pub(super) fn usage(connection: &Connection) -> rusqlite::Result<Usage> {
    let mut events = 0;
    for site in sites(connection)? {
        events += newest(connection, site)?.saturating_sub(trimmed_to(connection, site)?);
    }
    Ok(Usage { bytes: used_bytes(connection)?, events, evicted: 0 })
}

/// Removes dead letters that nobody looked at in time.
fn expire_dead(connection: &Connection, cutoff: Timestamp) -> rusqlite::Result<u64> {
    let expired = connection
        .prepare_cached(
            "DELETE FROM dead WHERE id IN (SELECT id FROM dead WHERE at < ? ORDER BY at LIMIT ?)",
        )?
        .execute((cutoff.as_millisecond(), STEP))?;
    Ok(expired as u64)
}

/// Removes the site's next events that every active reader is done with and that are older than
/// `cutoff`.
fn trim_settled(connection: &Connection, site: SiteId, cutoff: Timestamp) -> rusqlite::Result<u64> {
    let first = trimmed_to(connection, site)? + 1;
    let mut done = newest(connection, site)?.min(first + STEP - 1);
    for (reader, ..) in readers(connection, site)?.into_iter().filter(|(.., active)| *active) {
        done = done.min(position(connection, reader)?.cursor);
        let parked: Option<u64> = connection
            .prepare_cached("SELECT min(seq) FROM parked WHERE reader = ? AND body IS NULL")?
            .query_row([reader.0], |row| row.get(0))?;
        if let Some(parked) = parked {
            done = done.min(parked - 1);
        }
    }
    let young: Option<u64> = connection
        .prepare_cached(
            "SELECT min(place) - ?1 FROM events
             WHERE place BETWEEN ?2 AND ?3 AND received_at >= ?4",
        )?
        .query_row(
            (place(site, 0), place(site, first), place(site, done), cutoff.as_millisecond()),
            |row| row.get(0),
        )?;
    let upto = young.map_or(done, |young| young - 1);
    trim(connection, site, first, upto).map(|(removed, _)| removed)
}

/// Removes the next events that every active reader is done with, of the site whose oldest event is
/// oldest among those that have any.
fn trim_replayable(connection: &Connection, sites: &[SiteId]) -> rusqlite::Result<u64> {
    for (_, site, _) in by_age(connection, sites)? {
        let removed = trim_settled(connection, site, Timestamp::MAX)?;
        if removed > 0 {
            return Ok(removed);
        }
    }
    Ok(0)
}

/// Removes the next events of the site whose oldest event is oldest.
pub(super) fn trim_oldest(
    connection: &Connection,
    sites: &[SiteId],
) -> rusqlite::Result<(u64, u64)> {
    let Some((_, site, first)) = by_age(connection, sites)?.into_iter().next() else {
        return Ok((0, 0));
    };
    trim(connection, site, first, newest(connection, site)?.min(first + STEP - 1))
}

/// The sites that have events, with the first of each and when it was received, oldest first.
fn by_age(
    connection: &Connection,
    sites: &[SiteId],
) -> rusqlite::Result<Vec<(Timestamp, SiteId, u64)>> {
    let mut received =
        connection.prepare_cached("SELECT received_at FROM events WHERE place = ?")?;
    let mut oldest = Vec::with_capacity(sites.len());
    for site in sites {
        let first = trimmed_to(connection, *site)? + 1;
        let at = received.query_row([place(*site, first)], |row| row.get(0)).optional()?;
        oldest.extend(at.map(|at| (time(at), *site, first)));
    }
    oldest.sort();
    Ok(oldest)
}

/// Removes `first..=upto`. What a reader had not settled of it is dead for that reader. Returns how
/// many events left, and how many deliveries of active destinations never ended.
pub(super) fn trim(
    connection: &Connection,
    site: SiteId,
    first: u64,
    upto: u64,
) -> rusqlite::Result<(u64, u64)> {
    if upto < first {
        return Ok((0, 0));
    }
    let mut lost = 0;
    for (reader, name, is_active) in readers(connection, site)? {
        let abandoned = abandon(connection, reader, upto)?;
        if is_active && name != PROJECTION {
            lost += abandoned;
        }
    }
    let removed = connection
        .prepare_cached("DELETE FROM events WHERE place BETWEEN ? AND ?")?
        .execute([place(site, 0), place(site, upto)])?;
    connection.execute("UPDATE sites SET trimmed_to = ? WHERE id = ?", (upto, site.0))?;
    Ok((removed as u64, lost))
}

/// Counts as dead what the reader has not settled up to `upto`, and moves it past.
fn abandon(connection: &Connection, reader: ReaderId, upto: u64) -> rusqlite::Result<u64> {
    let parked = connection
        .prepare_cached("DELETE FROM parked WHERE reader = ? AND seq <= ? AND body IS NULL")?
        .execute((reader.0, upto))? as u64;
    let position = position(connection, reader)?;
    let abandoned = parked + unsettled(&position, upto);
    if position.cursor < upto {
        set_position(connection, reader, &in_order(&position, upto))?;
    }
    if abandoned > 0 {
        connection
            .execute("UPDATE readers SET dead = dead + ? WHERE id = ?", (abandoned, reader.0))?;
    }
    Ok(abandoned)
}

/// The site's readers: number, name, and whether they are active.
fn readers(
    connection: &Connection,
    site: SiteId,
) -> rusqlite::Result<Vec<(ReaderId, String, bool)>> {
    connection
        .prepare_cached("SELECT id, name, active FROM readers WHERE site = ?")?
        .query_map([site.0], |row| Ok((ReaderId(row.get(0)?), row.get(1)?, row.get(2)?)))?
        .collect()
}
