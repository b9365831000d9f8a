//! Eviction: frees pages while the journal is over `journal.max_bytes`.
//!
//! Events of the least value go first: events that every active reader has settled, then dead letters,
//! then events that a destination has yet to settle, those of claimed senders before those of proven
//! ones; of each the oldest. An event of a server that an active reader has yet to settle is never
//! evicted: where only such events are left, `disk_budget` refuses new events.
//!
//! Events leave from anywhere in a site's sequence, since one that stays must not keep all behind it;
//! `gaps` explains how the readers' accounts stay correct. The newest event of a site leaves only when
//! all before it have: the next number follows from it.
//!
//! Each step is one write of bounded work. The search for evictable events runs on a reader's
//! connection and remembers its position, so that events that stay are passed over once. It restarts
//! with the process.
//!
//! An evicted event takes its message id along: after a restart within `journal.dedupe_window` the same
//! message would be accepted as a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use tokio::time::Instant;

use super::super::{JournalError, ReaderId, ReaderPosition, SiteId};
use super::disk_budget::label;
use super::position::position;
use super::retain::{
    EvictionCounts, STEP, active_readers, expire_dead, first_after, readers, sites, trim,
    trim_settled,
};
use super::{
    MAX_SEQ, RANK_MASK, RANK_SHIFT, SqliteJournal, gaps, newest, outcomes, place, trimmed_to,
};
use tagway_core::event::SenderRank;
use tagway_core::metrics::SenderRankLabels;

/// Events read by one step of the search: some megabytes.
const LOOK_EVENTS: u64 = 4000;

/// The time without a loss after which the next loss begins a new episode, with its own line in the
/// log.
const EPISODE: Duration = Duration::from_secs(600);

/// The events that a search looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionSearch {
    /// Events that every active reader has settled.
    Settled,
    /// Events of this rank, settled or not.
    Rank(SenderRank),
}

/// The progress of eviction.
#[derive(Default)]
pub(super) struct EvictionProgress {
    /// The event of each search up to which nothing evictable is left.
    searched: BTreeMap<(EvictionSearch, SiteId), u64>,
    losses: EvictionLosses,
}

/// Unsettled deliveries and dead letters that were evicted, for the log.
#[derive(Default)]
struct EvictionLosses {
    last: Option<Instant>,
    events: u64,
    letters: u64,
}

impl EvictionProgress {
    /// Restarts the search for settled events, since passed-over ones may have been settled since.
    pub(super) fn restart_search(&mut self) {
        self.searched.retain(|(search, _), _| *search != EvictionSearch::Settled);
    }
}

impl EvictionLosses {
    fn add(&mut self, deliveries: u64, letters: u64) {
        if deliveries + letters == 0 {
            return;
        }
        if self.last.is_none() {
            tracing::error!(
                deliveries,
                dead_letters = letters,
                "journal.max_bytes evicts events that destinations have not settled; see \
                 tagway_journal_evicted_total; raise journal.max_bytes or fix the destinations"
            );
        }
        self.last = Some(Instant::now());
        self.events += deliveries;
        self.letters += letters;
    }

    fn end_if_over(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= EPISODE) {
            let Self { events, letters, .. } = std::mem::take(self);
            tracing::warn!(
                deliveries = events,
                dead_letters = letters,
                "journal.max_bytes evicted these events; no eviction in the last ten minutes"
            );
        }
    }
}

impl SqliteJournal {
    /// Evicts until the journal is within its allowance or nothing more may leave. Returns the number
    /// of events evicted.
    pub(super) async fn evict(&self) -> Result<u64, JournalError> {
        let mut evictor = self.eviction_progress.lock().await;
        let mut removed = 0;
        loop {
            let disk = self.disk_use().await?;
            let is_measured = self.measure_others(disk).await?;
            let room = &self.append_queue.disk_budget;
            room.observe(disk);
            if !room.is_over_budget(disk) {
                break;
            }
            if is_measured {
                continue;
            }
            match self.evict_some(&mut evictor).await? {
                Some(step) => removed += step,
                None => break,
            }
        }
        evictor.losses.end_if_over();
        self.advance_log().await?;
        Ok(removed)
    }

    /// Runs one step. Returns `None` if nothing may leave.
    pub(super) async fn evict_some(
        &self,
        evictor: &mut EvictionProgress,
    ) -> Result<Option<u64>, JournalError> {
        let trimmed = self.write_db(trim_replayable).await?;
        if trimmed > 0 {
            return Ok(Some(trimmed));
        }
        if let Some(step) = self.evict_settled(evictor).await? {
            return Ok(Some(step));
        }
        let letters = self.write_db(|c| expire_dead(c, Timestamp::MAX)).await?;
        if letters > 0 {
            self.metrics.dead_evicted.inc_by(letters);
            evictor.losses.add(0, letters);
            return Ok(Some(0));
        }
        for rank in SenderRank::ALL.into_iter().filter(|rank| *rank < SenderRank::Server) {
            if let Some(step) = self.evict_rank(evictor, rank).await? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// Removes events that every active reader has settled, behind unsettled ones.
    async fn evict_settled(
        &self,
        evictor: &mut EvictionProgress,
    ) -> Result<Option<u64>, JournalError> {
        let Some((site, after)) = self.next_site(evictor, EvictionSearch::Settled).await? else {
            return Ok(None);
        };
        let step = self.write_db(move |c| evict_settled(c, site, after)).await?;
        let is_end = step.upto == after;
        evictor.searched.insert((EvictionSearch::Settled, site), step.upto);
        Ok((!is_end).then_some(step.evicted.events))
    }

    /// Removes the oldest events of a rank.
    async fn evict_rank(
        &self,
        evictor: &mut EvictionProgress,
        rank: SenderRank,
    ) -> Result<Option<u64>, JournalError> {
        let search = EvictionSearch::Rank(rank);
        let Some((site, after)) = self.next_site(evictor, search).await? else { return Ok(None) };
        let RankedEvents { seqs, upto } =
            self.read_db(move |c| of_rank(c, site, after, rank)).await?;
        let evicted = match seqs.is_empty() {
            true => EvictionCounts::default(),
            false => self.write_db(move |c| evict(c, site, &seqs)).await?,
        };
        evictor.searched.insert((search, site), upto);
        if evicted.lost > 0 {
            *self.evicted.lock() += evicted.lost;
            let labels = SenderRankLabels { rank: label(rank) };
            self.metrics.journal_evicted.get_or_create(&labels).inc_by(evicted.lost);
            evictor.losses.add(evicted.lost, 0);
        }
        Ok(Some(evicted.events))
    }

    /// Returns the site with the oldest event that a search has yet to read, and the position behind which to go on.
    async fn next_site(
        &self,
        evictor: &EvictionProgress,
        search: EvictionSearch,
    ) -> Result<Option<(SiteId, u64)>, JournalError> {
        let from = move |(at, seq): (&(EvictionSearch, SiteId), &u64)| {
            (at.0 == search).then_some((at.1, *seq))
        };
        let searched: BTreeMap<SiteId, u64> = evictor.searched.iter().filter_map(from).collect();
        self.read_db(move |c| {
            let mut oldest: Option<(Timestamp, SiteId, u64)> = None;
            for site in sites(c)? {
                let after = searched.get(&site).copied().unwrap_or(0).max(trimmed_to(c, site)?);
                let upto = match search {
                    EvictionSearch::Settled => settled_to(c, site)?,
                    // The newest event leaves with the one after it, or as the last.
                    EvictionSearch::Rank(_) => newest(c, site)?,
                };
                let Some((seq, at)) = first_after(c, site, after)?.filter(|(seq, _)| *seq <= upto)
                else {
                    continue;
                };
                if matches!(search, EvictionSearch::Rank(_))
                    && seq == upto
                    && !is_alone(c, site, seq)?
                {
                    continue;
                }
                if oldest.is_none_or(|(oldest, ..)| at < oldest) {
                    oldest = Some((at, site, after));
                }
            }
            Ok(oldest.map(|(_, site, after)| (site, after)))
        })
        .await
    }
}

/// Returns true if all events before this one have left.
fn is_alone(connection: &Connection, site: SiteId, seq: u64) -> rusqlite::Result<bool> {
    Ok(trimmed_to(connection, site)? + 1 == seq)
}

/// Removes the next events that every active reader is done with, of the site whose oldest event is the
/// oldest of all such sites.
fn trim_replayable(connection: &Connection) -> rusqlite::Result<u64> {
    let mut by_age = Vec::new();
    for site in sites(connection)? {
        let first = first_after(connection, site, trimmed_to(connection, site)?)?;
        by_age.extend(first.map(|(_, at)| (at, site)));
    }
    by_age.sort_unstable();
    for (_, site) in by_age {
        let removed = trim_settled(connection, site, Timestamp::MAX)?;
        if removed > 0 {
            return Ok(removed);
        }
    }
    Ok(0)
}

/// Returns the last event up to which every active reader has settled or parked everything.
fn settled_to(connection: &Connection, site: SiteId) -> rusqlite::Result<u64> {
    let mut upto = newest(connection, site)?;
    for reader in active_readers(connection, site)? {
        upto = upto.min(position(connection, reader)?.cursor);
    }
    Ok(upto)
}

/// One step of the removal of settled events.
pub(super) struct SettledEviction {
    pub(super) evicted: EvictionCounts,
    /// The last event that was read; where the step began if there is none.
    pub(super) upto: u64,
}

/// Events of one rank.
pub(super) struct RankedEvents {
    pub(super) seqs: Vec<u64>,
    /// The last event that was read.
    pub(super) upto: u64,
}

/// Removes some of the site's next events that every active reader has settled.
pub(super) fn evict_settled(
    connection: &Connection,
    site: SiteId,
    after: u64,
) -> rusqlite::Result<SettledEviction> {
    let upto = settled_to(connection, site)?;
    let mut events = connection.prepare_cached(
        "SELECT place - ?1 FROM events WHERE place > ?2 AND place <= ?3 ORDER BY place LIMIT ?4",
    )?;
    let (origin, after_place, last) = (place(site, 0), place(site, after), place(site, upto));
    let mut seqs: Vec<u64> = events
        .query_map((origin, after_place, last, STEP), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let Some(end) = seqs.last().copied() else {
        return Ok(SettledEviction { evicted: EvictionCounts::default(), upto: after });
    };
    for reader in active_readers(connection, site)? {
        let sql = "SELECT seq FROM parked
            WHERE reader = ? AND seq > ? AND seq <= ? AND body IS NULL ORDER BY seq";
        let mut parked = connection.prepare_cached(sql)?;
        let parked: Vec<u64> = parked
            .query_map((reader.0, after, end), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        seqs.retain(|seq| parked.binary_search(seq).is_err());
    }
    Ok(SettledEviction { evicted: evict(connection, site, &seqs)?, upto: end })
}

/// Returns the next events of this rank.
pub(super) fn of_rank(
    connection: &Connection,
    site: SiteId,
    after: u64,
    rank: SenderRank,
) -> rusqlite::Result<RankedEvents> {
    let newest = newest(connection, site)?;
    let sql = "SELECT place - ?1, flags >> ?2 & ?3 FROM events
        WHERE place > ?4 AND place <= ?5 ORDER BY place LIMIT ?6";
    let mut events = connection.prepare_cached(sql)?;
    let (origin, after_place) = (place(site, 0), place(site, after));
    let bounds = (origin, RANK_SHIFT, RANK_MASK, after_place, place(site, MAX_SEQ), LOOK_EVENTS);
    let mut rows = events.query(bounds)?;
    let (mut found, mut upto) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        if SenderRank::from_number(row.get(1)?) == rank {
            found.push(seq);
            if seq == newest {
                // The newest event may have to stay, and is read again.
                break;
            }
        }
        upto = seq;
        if found.len() as u64 >= STEP {
            break;
        }
    }
    Ok(RankedEvents { seqs: found, upto })
}

/// Removes these events, in order, from anywhere in the site's sequence. A reader that had not settled
/// one counts it as dead. The newest event stays unless it is the last.
pub(super) fn evict(
    connection: &Connection,
    site: SiteId,
    seqs: &[u64],
) -> rusqlite::Result<EvictionCounts> {
    let newest = newest(connection, site)?;
    let mut delete = connection.prepare_cached("DELETE FROM events WHERE place = ?")?;
    let mut gone = Vec::with_capacity(seqs.len());
    for seq in seqs.iter().filter(|seq| **seq < newest) {
        if delete.execute([place(site, *seq)])? > 0 {
            gone.push(*seq);
        }
    }
    let mut evicted = EvictionCounts { events: gone.len() as u64, lost: 0 };
    if !gone.is_empty() {
        for reader in readers(connection, site)? {
            let lost = count_as_dead(connection, reader.id, &gone)?;
            if reader.is_active_destination() {
                evicted.lost += lost;
            }
        }
        gaps::add(connection, site, &gone)?;
        outcomes::remove(connection, site, &gone)?;
    }
    // A gap at the front is no gap: the sequence begins behind it.
    let trimmed = trimmed_to(connection, site)?;
    let end = gaps::gap_end_after(connection, site, trimmed)?;
    trim(connection, site, end)?;
    if seqs.last() == Some(&newest) && end + 1 == newest {
        let trimmed = trim(connection, site, newest)?;
        evicted.events += trimmed.events;
        evicted.lost += trimmed.lost;
    }
    Ok(evicted)
}

/// Counts the events that the reader has not settled as dead. Returns how many.
fn count_as_dead(connection: &Connection, reader: ReaderId, gone: &[u64]) -> rusqlite::Result<u64> {
    let mut unpark = connection
        .prepare_cached("DELETE FROM parked WHERE reader = ? AND seq = ? AND body IS NULL")?;
    let position = position(connection, reader)?;
    let (mut parked, mut missed) = (0_u64, 0_u64);
    for seq in gone {
        if !is_settled(&position, *seq) {
            missed += 1;
        } else if unpark.execute((reader.0, seq))? > 0 {
            parked += 1;
        }
    }
    if parked + missed > 0 {
        connection
            .prepare_cached("UPDATE readers SET dead = dead + ?, missed = missed + ? WHERE id = ?")?
            .execute((parked + missed, missed, reader.0))?;
    }
    Ok(parked + missed)
}

/// Returns true if the event is settled or parked in the position.
fn is_settled(position: &ReaderPosition, seq: u64) -> bool {
    if seq <= position.cursor {
        return true;
    }
    let behind = position.ahead.partition_point(|(first, _)| *first <= seq);
    let range = behind.checked_sub(1).and_then(|index| position.ahead.get(index));
    range.is_some_and(|(_, last)| seq <= *last)
}
