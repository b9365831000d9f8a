//! The start and the progress of counters, in the embedded database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::super::rows::{EventNameRank, PendingTallies, ProfileRows as _};
use super::super::{
    BackfillStep, CountedEvent, CounterProgress, CounterStore, OldestRecord, ProfileError,
    ProfileId,
};
use super::SqliteProfileStore;
use super::rows::SqliteProfileRows;
use crate::journal::SiteId;
use tagway_core::event::EventTally;

const DAY_MS: i64 = 86_400_000;

/// Counts removed in one transaction: some milliseconds of the writer's time.
const CLEAR: usize = 1000;

#[async_trait]
impl CounterStore for SqliteProfileStore {
    async fn set_counters(
        &self,
        site: SiteId,
        at: u64,
        names: Vec<String>,
    ) -> Result<(), ProfileError> {
        Ok(self.store.write(move |c| follow(c, site, at, &names)).await?)
    }

    async fn counters(&self, site: SiteId) -> Result<Vec<CounterProgress>, ProfileError> {
        Ok(self.store.read(move |c| counters(c, site)).await?)
    }

    async fn fill(
        &self,
        site: SiteId,
        step: BackfillStep,
    ) -> Result<BTreeSet<ProfileId>, ProfileError> {
        let step = Arc::new(step);
        Ok(self.store.write(move |c| fill(c, site, &step)).await?)
    }

    async fn remove_dropped_counts(&self, site: SiteId) -> Result<bool, ProfileError> {
        let dropped = self.store.read(move |c| dropped(c, site)).await?;
        let Some(event) = dropped else { return Ok(true) };
        self.store.write(move |c| clear(c, event)).await?;
        Ok(false)
    }
}

fn follow(c: &Connection, site: SiteId, at: u64, names: &[String]) -> rusqlite::Result<()> {
    // Otherwise, after a crash, the projection would count events again that the backfill counts.
    let sql = "INSERT INTO projected VALUES (?1, ?2)
        ON CONFLICT (site) DO UPDATE SET seq = max(seq, excluded.seq)";
    c.prepare_cached(sql)?.execute((site.0, at))?;
    let known: Vec<String> = c
        .prepare_cached("SELECT name FROM counters WHERE site = ?")?
        .query_map([site.0], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for name in known.iter().filter(|name| !names.contains(name)) {
        forget(c, site, name)?;
        c.prepare_cached("DELETE FROM counters WHERE site = ? AND name = ?")?
            .execute((site.0, name))?;
    }
    for name in names.iter().filter(|name| !known.contains(name)) {
        // Older versions counted without recording the start: that is not to be counted twice.
        forget(c, site, name)?;
        c.prepare_cached("INSERT INTO counters (site, name, since) VALUES (?, ?, ?)")?
            .execute((site.0, name, at))?;
    }
    Ok(())
}

/// Detaches the counts from their name, so that they are removed in time.
fn forget(c: &Connection, site: SiteId, name: &str) -> rusqlite::Result<()> {
    let known = SqliteProfileRows::new(c, site).event(name)?;
    let Some((event, _)) = known else { return Ok(()) };
    c.prepare_cached("INSERT INTO dropped_counters (event, site) VALUES (?, ?)")?
        .execute((event, site.0))?;
    c.prepare_cached("UPDATE event_names SET name = char(31) || id WHERE id = ?")?
        .execute([event])
        .map(drop)
}

fn counters(c: &Connection, site: SiteId) -> rusqlite::Result<Vec<CounterProgress>> {
    let mut statement = c.prepare_cached(
        "SELECT name, since, filled, oldest, oldest_at FROM counters WHERE site = ? ORDER BY name",
    )?;
    let rows = statement.query_map([site.0], |row| {
        let oldest = row.get::<_, Option<u64>>(3)?.zip(row.get(4)?);
        let oldest = oldest.map(|(seq, received_at)| OldestRecord { seq, received_at });
        Ok(CounterProgress { name: row.get(0)?, since: row.get(1)?, filled: row.get(2)?, oldest })
    })?;
    rows.collect()
}

fn fill(
    c: &Connection,
    site: SiteId,
    step: &BackfillStep,
) -> rusqlite::Result<BTreeSet<ProfileId>> {
    let (seq, at) = step.oldest.map(|oldest| (oldest.seq, oldest.received_at)).unzip();
    let mut is_there = Vec::with_capacity(step.counters.len());
    for counter in &step.counters {
        let filled = step.upto.min(counter.since).max(counter.filled);
        let sql = "UPDATE counters SET filled = ?1, oldest = coalesce(oldest, ?2),
                oldest_at = coalesce(oldest_at, ?3)
            WHERE site = ?4 AND name = ?5 AND since = ?6 AND filled = ?7";
        let changed = c.prepare_cached(sql)?.execute((
            filled,
            seq,
            at,
            site.0,
            &counter.name,
            counter.since,
            counter.filled,
        ))?;
        is_there.push(changed > 0);
    }
    let mut rows = SqliteProfileRows::new(c, site);
    let (mut counted, mut numbers) = (PendingTallies::new(), BTreeMap::new());
    for deed in &step.counted_events {
        let Some(profile) = find_event_profile(&mut rows, deed)? else { continue };
        for index in deed.counters.iter().filter(|it| is_there.get(**it) == Some(&true)) {
            let Some(counter) = step.counters.get(*index) else { continue };
            let event = match numbers.get(index) {
                Some(event) => *event,
                None => number_or_new(&mut rows, &counter.name)?,
            };
            numbers.insert(*index, event);
            let tally = EventTally::single(deed.at_ms, deed.value);
            let known = counted.entry((profile, event, deed.at_ms.div_euclid(DAY_MS)));
            known.and_modify(|known| known.add(tally)).or_insert(tally);
        }
    }
    rows.finish(&counted)?;
    Ok(counted.into_keys().map(|(profile, ..)| profile).collect())
}

fn number_or_new(rows: &mut SqliteProfileRows<'_>, name: &str) -> rusqlite::Result<i64> {
    match rows.event(name)? {
        Some((number, _)) => Ok(number),
        None => rows.add_event(name, EventNameRank::Reserved),
    }
}

/// Returns the profile of the surest of the identities that has one now.
fn find_event_profile(
    rows: &mut SqliteProfileRows<'_>,
    deed: &CountedEvent,
) -> rusqlite::Result<Option<ProfileId>> {
    for identity in &deed.identities {
        if let Some(binding) = rows.binding(identity)? {
            return Ok(Some(binding.profile));
        }
    }
    Ok(None)
}

fn dropped(c: &Connection, site: SiteId) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("SELECT event FROM dropped_counters WHERE site = ? LIMIT 1")?
        .query_row([site.0], |row| row.get(0))
        .optional()
}

fn clear(c: &Connection, event: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM activity WHERE (profile, event, day) IN (
        SELECT profile, event, day FROM activity WHERE event = ? LIMIT ?)";
    let removed = c.prepare_cached(sql)?.execute((event, CLEAR))?;
    if removed < CLEAR {
        c.prepare_cached("DELETE FROM event_names WHERE id = ?")?.execute([event])?;
        c.prepare_cached("DELETE FROM dropped_counters WHERE event = ?")?.execute([event])?;
    }
    Ok(())
}
