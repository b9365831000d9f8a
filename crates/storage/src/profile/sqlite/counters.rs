//! The start and the progress of counters, in the embedded database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::super::rows::EventNameRank;
use super::super::{
    BackfillStep, CountedEvent, CounterProgress, CounterStore, ProfileError, ProfileId,
};
use super::SqliteProfileStore;
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
    c.prepare_cached(
        "INSERT INTO projected VALUES (?1, ?2)
         ON CONFLICT (site) DO UPDATE SET seq = max(seq, excluded.seq)",
    )?
    .execute((site.0, at))?;
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
    let Some(event) = number(c, site, name)? else { return Ok(()) };
    c.prepare_cached("INSERT INTO dropped_counters (event, site) VALUES (?, ?)")?
        .execute((event, site.0))?;
    c.prepare_cached("UPDATE event_names SET name = char(31) || id WHERE id = ?")?
        .execute([event])
        .map(drop)
}

fn number(c: &Connection, site: SiteId, name: &str) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("SELECT id FROM event_names WHERE site = ? AND name = ?")?
        .query_row((site.0, name), |row| row.get(0))
        .optional()
}

fn counters(c: &Connection, site: SiteId) -> rusqlite::Result<Vec<CounterProgress>> {
    let mut statement = c.prepare_cached(
        "SELECT name, since, filled, oldest, oldest_at FROM counters WHERE site = ? ORDER BY name",
    )?;
    let rows = statement.query_map([site.0], |row| {
        let oldest = row.get::<_, Option<u64>>(3)?.zip(row.get(4)?);
        Ok(CounterProgress { name: row.get(0)?, since: row.get(1)?, filled: row.get(2)?, oldest })
    })?;
    rows.collect()
}

fn fill(
    c: &Connection,
    site: SiteId,
    step: &BackfillStep,
) -> rusqlite::Result<BTreeSet<ProfileId>> {
    let (seq, at) = step.oldest.unzip();
    let mut is_there = Vec::with_capacity(step.counters.len());
    for counter in &step.counters {
        let filled = step.upto.min(counter.since).max(counter.filled);
        let changed = c
            .prepare_cached(
                "UPDATE counters SET filled = ?1, oldest = coalesce(oldest, ?2),
                     oldest_at = coalesce(oldest_at, ?3)
                 WHERE site = ?4 AND name = ?5 AND since = ?6 AND filled = ?7",
            )?
            .execute((filled, seq, at, site.0, &counter.name, counter.since, counter.filled))?;
        is_there.push(changed > 0);
    }
    let mut counted: BTreeMap<(ProfileId, usize, i64), EventTally> = BTreeMap::new();
    for deed in &step.counted_events {
        let Some(profile) = find_event_profile(c, site, deed)? else { continue };
        for counter in deed.counters.iter().filter(|it| is_there.get(**it) == Some(&true)) {
            let tally = EventTally::single(deed.at_ms, deed.value);
            let known = counted.entry((profile, *counter, deed.at_ms.div_euclid(DAY_MS)));
            known.and_modify(|known| known.add(tally)).or_insert(tally);
        }
    }
    let mut numbers = BTreeMap::new();
    let mut write = c.prepare_cached(
        "INSERT INTO activity (profile, event, day, count, first, last, sum)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (profile, event, day) DO UPDATE SET
             count = count + excluded.count, first = min(first, excluded.first),
             last = max(last, excluded.last), sum = sum + excluded.sum",
    )?;
    for ((profile, counter, day), tally) in &counted {
        let event = match numbers.get(counter) {
            Some(event) => *event,
            None => {
                let name = step.counters.get(*counter).map(|it| it.name.as_str());
                let event = number_or_new(c, site, name.unwrap_or_default())?;
                numbers.insert(*counter, event);
                event
            }
        };
        let EventTally { count, first, last, sum } = tally;
        write.execute((profile.0, event, day, count, first, last, sum))?;
    }
    Ok(counted.into_keys().map(|(profile, ..)| profile).collect())
}

fn number_or_new(c: &Connection, site: SiteId, name: &str) -> rusqlite::Result<i64> {
    if let Some(number) = number(c, site, name)? {
        return Ok(number);
    }
    c.prepare_cached("INSERT INTO event_names (site, name, rank) VALUES (?, ?, ?)")?.execute((
        site.0,
        name,
        EventNameRank::Reserved.number(),
    ))?;
    Ok(c.last_insert_rowid())
}

/// Returns the profile of the surest of the identities that has one now.
fn find_event_profile(
    c: &Connection,
    site: SiteId,
    deed: &CountedEvent,
) -> rusqlite::Result<Option<ProfileId>> {
    let mut statement = c.prepare_cached(
        "SELECT profile FROM identities WHERE site = ? AND kind = ? AND value = ?",
    )?;
    for identity in &deed.identities {
        let named = (site.0, identity.kind.name(), &identity.value);
        if let Some(profile) = statement.query_row(named, |row| row.get(0)).optional()? {
            return Ok(Some(ProfileId(profile)));
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
    let removed = c
        .prepare_cached(
            "DELETE FROM activity WHERE (profile, event, day) IN (
                 SELECT profile, event, day FROM activity WHERE event = ? LIMIT ?)",
        )?
        .execute((event, CLEAR))?;
    if removed < CLEAR {
        c.prepare_cached("DELETE FROM event_names WHERE id = ?")?.execute([event])?;
        c.prepare_cached("DELETE FROM dropped_counters WHERE event = ?")?.execute([event])?;
    }
    Ok(())
}
