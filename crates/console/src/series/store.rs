//! The series in the embedded database.
//!
//! ```text
//! series         (id, site, destination, measure, reason, created_at, seen_at, total)
//! series_points  (series, resolution, at, value)     at = start of the bucket, in seconds since 1970; no zeros
//! series_samples (resolution, at)                    buckets in which the gateway was read
//! ```
//!
//! Each minute is added to the buckets of all lengths at once, so that a longer one is never behind. Writes are lazy
//! and small: the writer is the journal's too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

use super::recorder::{KnownSeries, KnownTotal, MinuteCounts};
use super::{LONGEST, MAX_SERIES, OTHER_REASON, RESOLUTIONS, SeriesKey, SeriesMeasure};
use crate::reading::ConfigName;
use tagway_storage::store::{SqliteMigrations, SqliteStore, StoreReadError, StoreWriteError};

/// The schema of the series.
pub const MIGRATIONS: SqliteMigrations = SqliteMigrations {
    name: "series",
    steps: &["CREATE TABLE series (
            id INTEGER PRIMARY KEY,
            site TEXT NOT NULL, destination TEXT NOT NULL, measure TEXT NOT NULL, reason TEXT NOT NULL,
            created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, total INTEGER,
            UNIQUE (site, measure, destination, reason)
        );
        CREATE TABLE series_points (
            series INTEGER NOT NULL, resolution INTEGER NOT NULL, at INTEGER NOT NULL, value INTEGER NOT NULL,
            PRIMARY KEY (series, resolution, at)
        ) WITHOUT ROWID;
        CREATE TABLE series_samples (
            resolution INTEGER NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (resolution, at)
        ) WITHOUT ROWID;"],
};

/// Series in one write: about two milliseconds of the writer's thread.
const SERIES_PER_WRITE: usize = 200;

/// The seconds between two removals of expired buckets.
const EXPIRE_EVERY: i64 = 600;

/// The sums of all series over a window.
#[derive(Clone, Debug, Default)]
pub struct WindowTotals {
    /// The share of the window's buckets in which the gateway was read, from 0 to 1.
    pub coverage: f64,
    /// The sums of counters.
    pub sums: BTreeMap<SeriesKey, u64>,
}

/// Stores the series.
pub struct SeriesStore {
    store: Arc<SqliteStore>,
    /// The numbers of the known series.
    ids: Mutex<HashMap<SeriesKey, i64>>,
    /// True once the limit of series was reported.
    is_full: Mutex<bool>,
}

impl SeriesStore {
    /// Creates a store over the embedded database.
    pub fn new(store: Arc<SqliteStore>) -> Self {
        Self { store, ids: Mutex::default(), is_full: Mutex::new(false) }
    }

    /// Reads the known series, for a recorder that continues them.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn load(&self) -> Result<KnownSeries, StoreReadError> {
        let (longest, _) = LONGEST;
        let read = move |c: &Connection| {
            let sql = "SELECT id, site, destination, measure, reason, total, CASE reason WHEN '' THEN 0 ELSE
                    (SELECT coalesce(sum(value), 0) FROM series_points WHERE series = id AND resolution = ?)
                END FROM series";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([longest], |row| {
                Ok((row.get(0)?, key(row, 1)?, KnownTotal { total: row.get(5)?, sum: row.get(6)? }))
            })?;
            rows.collect::<rusqlite::Result<Vec<(i64, Option<SeriesKey>, KnownTotal)>>>()
        };
        let rows = self.store.read(read).await?;
        let mut ids = self.ids.lock();
        let mut known = KnownSeries::new();
        for (id, key, total) in rows {
            // A measure of a newer version is no series of this one.
            let Some(key) = key else { continue };
            ids.insert(key.clone(), id);
            known.push((key, total));
        }
        Ok(known)
    }

    /// Adds a minute to the buckets of all lengths.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written. What was written of the minute stays.
    pub async fn write(&self, minute: MinuteCounts) -> Result<(), Arc<StoreWriteError>> {
        let MinuteCounts { at, values, totals, displaced } = minute;
        self.store.write(move |c| write_samples(c, at)).await?;
        for key in displaced {
            self.merge_into_others(key).await?;
        }
        let mut rows: BTreeMap<SeriesKey, SeriesRow> = BTreeMap::new();
        for (key, value) in values {
            rows.entry(key).or_default().value = value;
        }
        for (key, total) in totals {
            rows.entry(key).or_default().total = Some(total);
        }
        let mut rows: Vec<(SeriesKey, SeriesRow)> = rows.into_iter().collect();
        {
            let ids = self.ids.lock();
            for (key, row) in &mut rows {
                row.id = ids.get(key).copied();
            }
            let room = MAX_SERIES.saturating_sub(ids.len());
            self.limit_new(&mut rows, room);
        }
        while !rows.is_empty() {
            let chunk: Vec<_> = rows.drain(..rows.len().min(SERIES_PER_WRITE)).collect();
            let written = self.store.write(move |c| write_rows(c, at, chunk)).await?;
            self.ids.lock().extend(written);
        }
        if at.rem_euclid(EXPIRE_EVERY) == 0 {
            self.expire(at).await?;
        }
        Ok(())
    }

    /// Drops the new series for which there is no room.
    fn limit_new(&self, rows: &mut Vec<(SeriesKey, SeriesRow)>, mut room: usize) {
        let before = rows.len();
        rows.retain(|(_, row)| {
            let has_room = row.id.is_some() || room > 0;
            if row.id.is_none() {
                room = room.saturating_sub(1);
            }
            has_room
        });
        if rows.len() < before && !std::mem::replace(&mut *self.is_full.lock(), true) {
            tracing::warn!(
                limit = MAX_SERIES,
                "there are too many time series: those of further destinations and reasons are not stored"
            );
        }
    }

    /// Adds the points of a reason to those of the destination's other reasons, and removes the series.
    async fn merge_into_others(&self, key: SeriesKey) -> Result<(), Arc<StoreWriteError>> {
        let Some(id) = self.ids.lock().remove(&key) else { return Ok(()) };
        let other = SeriesKey { reason: OTHER_REASON.into(), ..key };
        let own = other.clone();
        let other_id = self
            .store
            .write(move |c| {
                let row = SeriesRow::default();
                let other_id = series_id(c, &own, 0, &row)?;
                let sql = "INSERT INTO series_points (series, resolution, at, value)
                    SELECT ?1, resolution, at, value FROM series_points WHERE series = ?2
                    ON CONFLICT DO UPDATE SET value = value + excluded.value";
                c.prepare_cached(sql)?.execute((other_id, id))?;
                remove_series(c, id)?;
                Ok(other_id)
            })
            .await?;
        self.ids.lock().insert(other, other_id);
        Ok(())
    }

    /// Removes buckets that are older than their time, and series without any.
    async fn expire(&self, now: i64) -> Result<(), Arc<StoreWriteError>> {
        let ids: Vec<i64> = self.ids.lock().values().copied().collect();
        for chunk in ids.chunks(SERIES_PER_WRITE) {
            let chunk = chunk.to_vec();
            self.store
                .write(move |c| {
                    let sql =
                        "DELETE FROM series_points WHERE series = ? AND resolution = ? AND at < ?";
                    let mut delete = c.prepare_cached(sql)?;
                    for id in &chunk {
                        for (resolution, kept) in RESOLUTIONS {
                            delete.execute((id, resolution, now - kept))?;
                        }
                    }
                    Ok(())
                })
                .await?;
        }
        let (_, longest) = LONGEST;
        let gone = self.store.write(move |c| {
            for (resolution, kept) in RESOLUTIONS {
                c.prepare_cached("DELETE FROM series_samples WHERE resolution = ? AND at < ?")?
                    .execute((resolution, now - kept))?;
            }
            let mut old = c.prepare_cached("SELECT id FROM series WHERE seen_at < ? LIMIT ?")?;
            let gone: Vec<i64> = old
                .query_map((now - longest, SERIES_PER_WRITE), |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            gone.iter().try_for_each(|id| remove_series(c, *id))?;
            Ok(gone)
        });
        let gone = gone.await?;
        self.ids.lock().retain(|_, id| !gone.contains(id));
        Ok(())
    }

    /// Returns the sums of all counters from `from` until before `to`, by the shortest buckets that are kept at `now`;
    /// all in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn sums(
        &self,
        (from, to): (i64, i64),
        now: i64,
    ) -> Result<WindowTotals, StoreReadError> {
        let read = move |c: &Connection| {
            let (resolution, _) = resolution_of(now - from);
            let first = from.div_euclid(resolution) * resolution;
            let sampled: i64 = c
                .prepare_cached(
                    "SELECT count(*) FROM series_samples WHERE resolution = ? AND at >= ? AND at < ?",
                )?
                .query_row((resolution, first, to), |row| row.get(0))?;
            let buckets = ((to - first) / resolution).max(1);
            let sql = "SELECT s.site, s.destination, s.measure, s.reason, sum(p.value)
                FROM series s CROSS JOIN series_points p
                    ON p.series = s.id AND p.resolution = ? AND p.at >= ? AND p.at < ?
                WHERE s.measure NOT IN ('held', 'pending') GROUP BY s.id";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map((resolution, first, to), |row| {
                Ok((key(row, 0)?, row.get::<_, u64>(4)?))
            })?;
            let mut sums = BTreeMap::new();
            for row in rows {
                if let (Some(key), sum) = row? {
                    sums.insert(key, sum);
                }
            }
            #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
            let coverage = (sampled as f64 / buckets as f64).min(1.0);
            Ok(WindowTotals { coverage, sums })
        };
        self.store.read(read).await
    }

    /// The database, for queries.
    pub(super) fn database(&self) -> &SqliteStore {
        &self.store
    }
}

/// One series of a minute.
#[derive(Clone, Copy, Debug, Default)]
struct SeriesRow {
    id: Option<i64>,
    value: u64,
    total: Option<u64>,
}

/// Returns the shortest buckets that are kept for this many seconds, and their time.
pub(super) fn resolution_of(age: i64) -> (i64, i64) {
    let long_enough = RESOLUTIONS.into_iter().find(|(_, kept)| age <= *kept);
    long_enough.unwrap_or(LONGEST)
}

/// Reads the four columns of a key; `None` for a measure that this version does not have.
fn key(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<SeriesKey>> {
    let text = |index: usize| row.get::<_, String>(first + index).map(ConfigName::from);
    let measure = SeriesMeasure::from_name(row.get_ref(first + 2)?.as_str()?);
    let (site, destination, reason) = (text(0)?, text(1)?, text(3)?);
    Ok(measure.map(|measure| SeriesKey { site, destination, measure, reason }))
}

fn write_samples(connection: &Connection, at: i64) -> rusqlite::Result<()> {
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO series_samples VALUES (?, ?)")?;
    for (resolution, _) in RESOLUTIONS {
        insert.execute((resolution, at.div_euclid(resolution) * resolution))?;
    }
    Ok(())
}

/// Writes some series of a minute. Returns their numbers.
fn write_rows(
    connection: &Connection,
    at: i64,
    rows: Vec<(SeriesKey, SeriesRow)>,
) -> rusqlite::Result<Vec<(SeriesKey, i64)>> {
    let mut written = Vec::with_capacity(rows.len());
    for (key, row) in rows {
        let id = series_id(connection, &key, at, &row)?;
        if row.value > 0 {
            let sql = if key.measure.is_gauge() {
                "INSERT INTO series_points VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET value = max(value, excluded.value)"
            } else {
                "INSERT INTO series_points VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET value = value + excluded.value"
            };
            let mut put = connection.prepare_cached(sql)?;
            for (resolution, _) in RESOLUTIONS {
                put.execute((id, resolution, at.div_euclid(resolution) * resolution, row.value))?;
            }
        }
        written.push((key, id));
    }
    Ok(written)
}

/// Returns the number of a series; makes it if it is new, and stores its total.
fn series_id(
    connection: &Connection,
    key: &SeriesKey,
    at: i64,
    row: &SeriesRow,
) -> rusqlite::Result<i64> {
    if let Some(id) = row.id {
        let sql =
            "UPDATE series SET seen_at = max(seen_at, ?), total = coalesce(?, total) WHERE id = ?";
        connection.prepare_cached(sql)?.execute((at, row.total, id))?;
        return Ok(id);
    }
    let sql = "INSERT INTO series (site, destination, measure, reason, created_at, seen_at, total)
        VALUES (:site, :destination, :measure, :reason, :at, :at, :total)
        ON CONFLICT DO UPDATE SET seen_at = max(seen_at, excluded.seen_at),
            total = coalesce(excluded.total, total)
        RETURNING id";
    let id = connection.prepare_cached(sql)?.query_row(
        named_params! {
            ":site": key.site, ":destination": key.destination, ":measure": key.measure.name(),
            ":reason": key.reason, ":at": at, ":total": row.total,
        },
        |row| row.get(0),
    );
    id.optional()?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn remove_series(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM series_points WHERE series = ?")?.execute([id])?;
    connection.prepare_cached("DELETE FROM series WHERE id = ?")?.execute([id])?;
    Ok(())
}
