//! Time series of each site's and destination's events: accepted, delivered, skipped and dead by reason, pending, held.
//!
//! [`SeriesRecorder`] makes counts per minute of readings of the gateway. [`SeriesStore`] adds them to buckets of three
//! lengths in the embedded database, each kept for its own time ([`RESOLUTIONS`]), and answers queries. Nothing here is
//! on the path of a request.
//!
//! - A minute without a reading has no bucket: it is a gap, not a zero. In a minute with readings, a series without a
//!   row counts zero, so that quiet series take no space.
//! - Counters never decrease: a counter that restarts, or an account from which dead letters were taken for a retry,
//!   adds nothing.
//! - The totals of the last minute are stored, so that events between the last write and an aborted process are counted
//!   in the first minute afterwards.

mod query;
mod recorder;
mod store;
#[cfg(test)]
mod tests;

pub use query::{
    OutcomeCount, SeriesAnswer, SeriesPoints, SeriesQuery, SeriesQueryError, SeriesRange,
};
pub use recorder::{KnownSeries, KnownTotal, MinuteCounts, SeriesRecorder};
pub use store::{MIGRATIONS, SeriesStore, WindowTotals};

use crate::reading::ConfigName;

/// The seconds of a minute, the shortest bucket.
pub const MINUTE: i64 = 60;

/// The buckets: their seconds, and the seconds for which they are kept. An hour is shown by minutes, a day by ten
/// minutes, a month by two hours: each a few hundred points, as many as a chart has room for.
pub const RESOLUTIONS: [(i64, i64); 3] = [(MINUTE, 6 * 3600), (600, 3 * 86_400), LONGEST];

/// The longest bucket.
const LONGEST: (i64, i64) = (7200, 35 * 86_400);

/// The most series: 40 sites with 10 destinations each, with all measures and usual reasons. Each takes up to 25 KB.
pub const MAX_SERIES: usize = 10_000;

/// The most reasons of one destination's skipped, and of its dead events: the largest. A destination usually has five.
pub const MAX_REASONS: usize = 20;

/// The reason of events beyond [`MAX_REASONS`], and of those whose reason an aborted process had not written yet.
pub const OTHER_REASON: &str = "other";

/// One measure of a site or a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SeriesMeasure {
    /// Events accepted by the site.
    Accepted,
    /// Events delivered to the destination.
    Delivered,
    /// Events that were not for the destination, by reason.
    Skipped,
    /// Events that the destination refused for good, by reason.
    Dead,
    /// Events that wait for their visitor; the most of the bucket.
    Held,
    /// Events that have not ended; the most of the bucket.
    Pending,
}

impl SeriesMeasure {
    /// All measures with their names in the API.
    pub const ALL: [(&str, Self); 6] = [
        ("accepted", Self::Accepted),
        ("delivered", Self::Delivered),
        ("skipped", Self::Skipped),
        ("dead", Self::Dead),
        ("held", Self::Held),
        ("pending", Self::Pending),
    ];

    /// Returns the measure's name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    /// Returns the measure with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, measure)| measure)
    }

    /// Returns true for a state, of which a bucket has the most; false for a counter, of which it has the sum.
    pub const fn is_gauge(self) -> bool {
        matches!(self, Self::Held | Self::Pending)
    }
}

/// The identity of a series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The site's name.
    pub site: ConfigName,
    /// The destination's name; empty for a series of the site.
    pub destination: ConfigName,
    /// The kind of number.
    pub measure: SeriesMeasure,
    /// The reason's code of skipped and dead events. Empty for others, and for the totals of the account, which have
    /// no points.
    pub reason: ConfigName,
}
