//! Makes counts per minute of the gateway's readings.

use std::collections::BTreeMap;

use super::{MAX_REASONS, MINUTE, OTHER_REASON, SeriesKey, SeriesMeasure};
use crate::reading::{ConfigName, DestinationReading, GatewayReading};

/// The seconds that a clock may be set back before the counts follow it.
const MAX_SET_BACK: i64 = 5 * MINUTE;

/// The counts of one minute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MinuteCounts {
    /// The start of the minute, in seconds since 1970.
    pub at: i64,
    /// The counts of the minute, without zeros, and the most of its states.
    pub values: BTreeMap<SeriesKey, u64>,
    /// The totals at its end, for the next process.
    pub totals: BTreeMap<SeriesKey, u64>,
    /// Series whose points are added to the destination's other reasons: a larger one took their place.
    pub displaced: Vec<SeriesKey>,
}

/// The series that the database has: with its total, or the sum of its points.
pub type KnownSeries = Vec<(SeriesKey, KnownTotal)>;

/// The stored state of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownTotal {
    /// The total at the last write, for a counter of an account.
    pub total: Option<u64>,
    /// The sum of its points.
    pub sum: u64,
}

/// Makes counts per minute of readings.
#[derive(Debug, Default)]
pub struct SeriesRecorder {
    open: Option<MinuteCounts>,
    /// The totals of accounts at the last reading.
    totals: BTreeMap<SeriesKey, u64>,
    /// The counters of reasons at the last reading; they begin at zero with the process.
    counted: BTreeMap<SeriesKey, u64>,
    /// The reasons with a series of their own, by their totals' key, and the sum of each.
    reasons: BTreeMap<SeriesKey, BTreeMap<ConfigName, u64>>,
}

impl SeriesRecorder {
    /// Creates a recorder that continues the stored series.
    pub fn new(known: KnownSeries) -> Self {
        let mut recorder = Self::default();
        for (key, KnownTotal { total, sum }) in known {
            if let Some(total) = total {
                recorder.totals.insert(key.clone(), total);
            }
            if !key.reason.is_empty() && &*key.reason != OTHER_REASON {
                let of = SeriesKey { reason: "".into(), ..key.clone() };
                recorder.reasons.entry(of).or_default().insert(key.reason, sum);
            }
        }
        recorder
    }

    /// Adds a reading. Returns the minute before, once the reading is of a later one.
    pub fn record(&mut self, reading: &GatewayReading) -> Option<MinuteCounts> {
        let minute = reading.at.as_second().div_euclid(MINUTE) * MINUTE;
        // A clock that is set back a little adds to the open minute.
        let is_over = |open: &MinuteCounts| open.at < minute || open.at > minute + MAX_SET_BACK;
        let is_over = self.open.as_ref().is_some_and(is_over);
        let closed = if is_over { self.close() } else { None };
        let mut open =
            self.open.take().unwrap_or(MinuteCounts { at: minute, ..Default::default() });
        for site in &reading.sites {
            let key = SeriesKey {
                site: site.site.clone(),
                destination: "".into(),
                measure: SeriesMeasure::Accepted,
                reason: "".into(),
            };
            let count = self.advance(&key, site.accepted);
            add(&mut open, &key, count);
        }
        for destination in &reading.destinations {
            self.record_destination(&mut open, destination);
        }
        self.open = Some(open);
        closed
    }

    /// Ends the open minute: at the stop, it is written before it is over.
    pub fn close(&mut self) -> Option<MinuteCounts> {
        let mut closed = self.open.take()?;
        closed.totals = self.totals.clone();
        Some(closed)
    }

    fn record_destination(&mut self, open: &mut MinuteCounts, reading: &DestinationReading) {
        let key = |measure, reason: &str| SeriesKey {
            site: reading.site.clone(),
            destination: reading.destination.clone(),
            measure,
            reason: reason.into(),
        };
        let delivered = key(SeriesMeasure::Delivered, "");
        let count = self.advance(&delivered, reading.delivered);
        add(open, &delivered, count);
        for (measure, total) in
            [(SeriesMeasure::Skipped, reading.skipped), (SeriesMeasure::Dead, reading.dead)]
        {
            let of_account = self.advance(&key(measure, ""), total);
            let mut counted = 0_u64;
            for reason in reading.reasons.iter().filter(|it| it.outcome == measure.name()) {
                let own = key(measure, reason.reason);
                let before = self.counted.insert(own.clone(), reason.count).unwrap_or(0);
                let count = reason.count.saturating_sub(before);
                counted = counted.saturating_add(count);
                self.add_reason(open, own, count);
            }
            // Evicted events, and those of an aborted process, are in the account only.
            add(open, &key(measure, OTHER_REASON), of_account.saturating_sub(counted));
        }
        for (measure, value) in
            [(SeriesMeasure::Pending, reading.pending), (SeriesMeasure::Held, reading.held)]
        {
            // A zero makes the series known.
            let most = open.values.entry(key(measure, "")).or_default();
            *most = value.max(*most);
        }
    }

    /// Returns the increase of a total since the last reading; none for the first reading.
    fn advance(&mut self, key: &SeriesKey, total: u64) -> u64 {
        let before = self.totals.insert(key.clone(), total);
        total.saturating_sub(before.unwrap_or(total))
    }

    /// Counts a reason: in its own series if it is one of the largest, else in that of the others.
    fn add_reason(&mut self, open: &mut MinuteCounts, key: SeriesKey, count: u64) {
        if count == 0 {
            return;
        }
        let of = SeriesKey { reason: "".into(), ..key.clone() };
        let reasons = self.reasons.entry(of).or_default();
        if let Some(sum) = reasons.get_mut(&key.reason) {
            *sum = sum.saturating_add(count);
            return add(open, &key, count);
        }
        let other = SeriesKey { reason: OTHER_REASON.into(), ..key.clone() };
        if reasons.len() >= MAX_REASONS {
            let least = reasons.iter().min_by_key(|(_, sum)| **sum);
            let all = self.counted.get(&key).copied().unwrap_or(count);
            let Some((least, _)) = least.filter(|(_, sum)| **sum < all) else {
                return add(open, &other, count);
            };
            let least = least.clone();
            reasons.remove(&least);
            let displaced = SeriesKey { reason: least, ..key.clone() };
            if let Some(unwritten) = open.values.remove(&displaced) {
                add(open, &other, unwritten);
            }
            open.displaced.push(displaced);
        }
        reasons.insert(key.reason.clone(), count);
        add(open, &key, count);
    }
}

fn add(open: &mut MinuteCounts, key: &SeriesKey, count: u64) {
    if count > 0 {
        let sum = open.values.entry(key.clone()).or_default();
        *sum = sum.saturating_add(count);
    }
}
