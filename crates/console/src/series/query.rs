//! Queries of the series: points of a range by steps, and sums by outcome and reason.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::store::resolution_of;
use super::{LONGEST, RESOLUTIONS, SeriesMeasure, SeriesStore};
use tagway_storage::store::StoreReadError;

/// The most points of one series in an answer: more than a chart has pixels.
const MAX_POINTS: i64 = 2000;

/// The most series in an answer.
const MAX_ANSWERED: usize = 500;

/// A range that ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesRange {
    /// Its name in the API.
    pub name: &'static str,
    /// Its length in seconds.
    pub seconds: i64,
    /// The seconds of a point.
    pub step: i64,
}

impl SeriesRange {
    /// All ranges; each has 60 to 360 points.
    pub const ALL: [Self; 5] = [
        Self { name: "1h", seconds: 3600, step: 60 },
        Self { name: "6h", seconds: 6 * 3600, step: 60 },
        Self { name: "24h", seconds: 86_400, step: 600 },
        Self { name: "7d", seconds: 7 * 86_400, step: 7200 },
        Self { name: "30d", seconds: 30 * 86_400, step: 7200 },
    ];

    /// Returns the range with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|range| range.name == name)
    }
}

/// A selection of points.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// The site's name.
    pub site: String,
    /// The kind of number.
    pub measure: SeriesMeasure,
    /// The destination's name; `None` for all of the site.
    pub destination: Option<String>,
    /// The first second.
    pub from: i64,
    /// The second behind the last.
    pub to: i64,
    /// The wanted seconds of a point; `None` for those of the stored buckets.
    pub step: Option<i64>,
}

/// The reason why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SeriesQueryError {
    /// The range is empty, or has too many points.
    #[error("{0}")]
    Range(&'static str),
    /// The database could not be read.
    #[error("the time series cannot be read")]
    Read(#[from] StoreReadError),
}

/// The points of several series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesAnswer {
    /// The seconds of a point.
    pub step_seconds: i64,
    /// The start of the first point, in seconds since 1970.
    pub from: i64,
    /// The series, by destination.
    pub series: Vec<SeriesPoints>,
}

/// The points of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesPoints {
    /// The destination's name; `None` for the site's series.
    pub destination: Option<String>,
    /// The values. `None` where the gateway was not read.
    pub points: Vec<Option<u64>>,
}

/// The events of a destination that ended in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeCount {
    /// The destination's name.
    pub destination: String,
    /// `delivered`, `skipped` or `dead`.
    pub outcome: &'static str,
    /// The reason's code; empty for delivered.
    pub reason: String,
    /// Their number.
    pub count: u64,
}

/// The grid of an answer.
#[derive(Clone, Copy)]
struct SeriesGrid {
    resolution: i64,
    step: i64,
    from: i64,
    to: i64,
}

impl SeriesGrid {
    fn of(query: &SeriesQuery, now: i64) -> Result<Self, SeriesQueryError> {
        let to = query.to.min(now + 1);
        if query.from >= to {
            return Err(SeriesQueryError::Range("from must be before to, and not in the future"));
        }
        let (by_age, _) = resolution_of(now - query.from);
        let wanted = query.step.unwrap_or(by_age);
        if !(1..=LONGEST.1).contains(&wanted) {
            return Err(SeriesQueryError::Range("step must be from one second to 35 days"));
        }
        // Longer buckets answer a long step with fewer rows.
        let longer =
            RESOLUTIONS.into_iter().rev().find(|(it, _)| *it >= by_age && wanted % it == 0);
        let resolution = longer.map_or(by_age, |(resolution, _)| resolution);
        let step = wanted.saturating_add(resolution - 1) / resolution * resolution;
        let from = query.from.div_euclid(step) * step;
        if (to - from) / step >= MAX_POINTS {
            return Err(SeriesQueryError::Range(
                "step is too short for the range: an answer has at most 2,000 points",
            ));
        }
        Ok(Self { resolution, step, from, to })
    }

    fn len(self) -> usize {
        usize::try_from((self.to - self.from + self.step - 1) / self.step).unwrap_or_default()
    }

    fn index(self, at: i64) -> usize {
        usize::try_from((at - self.from) / self.step).unwrap_or(usize::MAX)
    }
}

impl SeriesStore {
    /// Returns the points that a query selects, as of `now` in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Fails if the range is invalid or the database cannot be read.
    pub async fn points(
        &self,
        query: SeriesQuery,
        now: i64,
    ) -> Result<SeriesAnswer, SeriesQueryError> {
        let grid = SeriesGrid::of(&query, now)?;
        let series = self.database().read(move |c| read_points(c, &query, grid)).await?;
        Ok(SeriesAnswer { step_seconds: grid.step, from: grid.from, series })
    }

    /// Returns the events of a site's destinations that ended in the last `seconds`, by outcome and reason, the most
    /// first.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub async fn outcomes(
        &self,
        site: &str,
        now: i64,
        seconds: i64,
    ) -> Result<Vec<OutcomeCount>, StoreReadError> {
        let totals = self.sums((now - seconds, now + 1), now).await?;
        let of_site = totals
            .sums
            .into_iter()
            .filter(|(key, sum)| &*key.site == site && !key.destination.is_empty() && *sum > 0);
        let mut counts: Vec<OutcomeCount> = of_site
            .map(|(key, count)| OutcomeCount {
                destination: key.destination.to_string(),
                outcome: key.measure.name(),
                reason: key.reason.to_string(),
                count,
            })
            .collect();
        counts.sort_by(|one, other| {
            let order = one.destination.cmp(&other.destination);
            order.then(other.count.cmp(&one.count))
        });
        Ok(counts)
    }
}

fn read_points(
    connection: &Connection,
    query: &SeriesQuery,
    grid: SeriesGrid,
) -> rusqlite::Result<Vec<SeriesPoints>> {
    let mut is_sampled = vec![false; grid.len()];
    let sql = "SELECT at FROM series_samples WHERE resolution = ? AND at >= ? AND at < ?";
    let mut samples = connection.prepare_cached(sql)?;
    let mut rows = samples.query((grid.resolution, grid.from, grid.to))?;
    while let Some(row) = rows.next()? {
        if let Some(sampled) = is_sampled.get_mut(grid.index(row.get(0)?)) {
            *sampled = true;
        }
    }
    let sql = "SELECT destination, min(created_at) FROM series
        WHERE site = ?1 AND measure = ?2 AND (?3 IS NULL OR destination = ?3)
        GROUP BY destination ORDER BY destination LIMIT ?4";
    // The series of a site itself has no destination.
    let destination =
        query.destination.as_deref().filter(|_| query.measure != SeriesMeasure::Accepted);
    let selected = (&query.site, query.measure.name(), destination, MAX_ANSWERED);
    let mut series: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
    let mut known = connection.prepare_cached(sql)?;
    let mut rows = known.query(selected)?;
    while let Some(row) = rows.next()? {
        let created: i64 = row.get(1)?;
        let start = (created.max(grid.from) - grid.from) / grid.step;
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let points = is_sampled.iter().enumerate();
        let points = points.map(|(index, sampled)| (*sampled && index >= start).then_some(0));
        series.insert(row.get(0)?, points.collect());
    }
    let sql = "SELECT s.destination, p.at, p.value
        FROM series s CROSS JOIN series_points p
            ON p.series = s.id AND p.resolution = ?4 AND p.at >= ?5 AND p.at < ?6
        WHERE s.site = ?1 AND s.measure = ?2 AND (?3 IS NULL OR s.destination = ?3)";
    let mut values = connection.prepare_cached(sql)?;
    let selected =
        (&query.site, query.measure.name(), destination, grid.resolution, grid.from, grid.to);
    let mut rows = values.query(selected)?;
    let is_gauge = query.measure.is_gauge();
    while let Some(row) = rows.next()? {
        let index = grid.index(row.get(1)?);
        let of = series.get_mut(row.get_ref(0)?.as_str()?);
        let Some(point) = of.and_then(|points| points.get_mut(index)) else {
            continue;
        };
        let (sum, value) = (point.unwrap_or(0), row.get::<_, u64>(2)?);
        *point = Some(if is_gauge { sum.max(value) } else { sum.saturating_add(value) });
    }
    let named = |(name, points): (String, _)| SeriesPoints {
        destination: (!name.is_empty()).then_some(name),
        points,
    };
    Ok(series.into_iter().map(named).collect())
}
