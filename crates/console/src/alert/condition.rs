//! The measurement of a rule at each of its targets, from a reading and the sums of its window.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::kind::AlertKind;
use super::settings::AlertRule;
use super::words::{self, AlertWords};
use crate::reading::{ConfigName, DestinationReading, DiskReading, GatewayReading};
use crate::series::{SeriesKey, SeriesMeasure, WindowTotals};

/// The fewest due events of a window whose delivery rate says something: one late event of two is no outage.
const MIN_DUE_EVENTS: u64 = 20;

/// The fewest ended events of a window whose share of skips says something.
const MIN_ENDED_EVENTS: u64 = 200;

/// The share of a window in which the gateway must have been read, to say that a site sent nothing.
const MIN_COVERAGE: f64 = 0.8;

/// The reasons of skips for want of consent.
const CONSENT_REASONS: [&str; 2] = ["consent_denied", "consent_unknown"];

/// The identity of an alert among those of its rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AlertTarget {
    /// The site's name.
    pub site: Option<ConfigName>,
    /// The name of the destination, the segment or the certificate.
    pub object: Option<ConfigName>,
}

/// The side of the limit on which a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConditionLevel {
    /// The limit is exceeded.
    Breached,
    /// The value is near the limit, or cannot be measured: nothing changes.
    Between,
    /// The limit is kept.
    Clear,
}

/// The measurement of a rule at one target.
#[derive(Clone, Debug)]
pub(super) struct AlertCondition {
    /// The thing that was measured.
    pub target: AlertTarget,
    /// The measured value, in the kind's unit.
    pub value: f64,
    /// Its side of the limit.
    pub level: ConditionLevel,
    /// Title and text with the numbers.
    pub words: AlertWords,
}

/// The sums that rules measure by.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleWindows {
    /// The sums of the window before now.
    pub window: WindowTotals,
    /// The events that each site usually accepts in the window: the least of comparable windows before. Empty for
    /// other kinds.
    pub usual: BTreeMap<ConfigName, f64>,
}

/// Measures a rule at its targets.
pub(super) fn measure(
    rule: &AlertRule,
    reading: &GatewayReading,
    windows: &RuleWindows,
) -> Option<Vec<AlertCondition>> {
    let conditions = match rule.kind {
        AlertKind::NoTraffic => no_traffic(rule, reading, windows),
        AlertKind::DeliveryRate
        | AlertKind::DeadLetters
        | AlertKind::BacklogAge
        | AlertKind::ConsentSkips => destinations(rule, reading, windows),
        AlertKind::SegmentLate => segments(rule, reading)?,
        AlertKind::Certificate => certificates(rule, reading),
        AlertKind::Disk => vec![disk(rule, reading.disk?)],
    };
    let covered = |it: &AlertCondition| {
        let AlertTarget { site, object } = &it.target;
        rule.covers(site.as_deref(), object.as_deref())
    };
    Some(conditions.into_iter().filter(covered).collect())
}

/// Returns the side of the limit; `None` is a value that cannot be measured.
fn level(rule: &AlertRule, value: Option<f64>) -> ConditionLevel {
    let Some(value) = value else { return ConditionLevel::Between };
    let end = rule.kind.end(rule.limit);
    let (is_breached, is_clear) = if rule.kind.is_alert_below() {
        (value < rule.limit, value >= end)
    } else {
        (value > rule.limit, value <= end)
    };
    match (is_breached, is_clear) {
        (true, _) => ConditionLevel::Breached,
        (false, true) => ConditionLevel::Clear,
        (false, false) => ConditionLevel::Between,
    }
}

fn no_traffic(
    rule: &AlertRule,
    reading: &GatewayReading,
    windows: &RuleWindows,
) -> Vec<AlertCondition> {
    let of_site = |site: &ConfigName| {
        let key = SeriesKey {
            site: site.clone(),
            destination: "".into(),
            measure: SeriesMeasure::Accepted,
            reason: "".into(),
        };
        let count = windows.window.sums.get(&key).copied().unwrap_or(0);
        let usual = windows.usual.get(site).copied().unwrap_or(0.0);
        let level = match (count, usual >= rule.limit) {
            (1.., _) => ConditionLevel::Clear,
            (0, true) if windows.window.coverage >= MIN_COVERAGE => ConditionLevel::Breached,
            // At night a site that fell silent by day is still silent.
            (0, _) => ConditionLevel::Between,
        };
        AlertCondition {
            target: AlertTarget { site: Some(site.clone()), object: None },
            value: float(count),
            level,
            words: words::no_traffic(site, rule.window, usual),
        }
    };
    reading.sites.iter().map(|site| of_site(&site.site)).collect()
}

/// The events of a destination in the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EndedCounts {
    pub(super) delivered: u64,
    pub(super) skipped: u64,
    pub(super) without_consent: u64,
    pub(super) dead: u64,
}

fn ended_counts(windows: &WindowTotals, of: &DestinationReading) -> EndedCounts {
    let mut counts = EndedCounts::default();
    let first = SeriesKey {
        site: of.site.clone(),
        destination: "".into(),
        measure: SeriesMeasure::Accepted,
        reason: "".into(),
    };
    let of_site = windows.sums.range(first..).take_while(|(key, _)| key.site == of.site);
    for (key, sum) in of_site.filter(|(key, _)| key.destination == of.destination) {
        match key.measure {
            SeriesMeasure::Delivered => counts.delivered += sum,
            SeriesMeasure::Dead => counts.dead += sum,
            SeriesMeasure::Skipped => {
                counts.skipped += sum;
                if CONSENT_REASONS.contains(&&*key.reason) {
                    counts.without_consent += sum;
                }
            }
            SeriesMeasure::Accepted | SeriesMeasure::Held | SeriesMeasure::Pending => {}
        }
    }
    counts
}

fn destinations(
    rule: &AlertRule,
    reading: &GatewayReading,
    windows: &RuleWindows,
) -> Vec<AlertCondition> {
    let of_destination = |it: &DestinationReading| {
        let counts = ended_counts(&windows.window, it);
        let age = it.oldest_pending.map_or(0.0, |at| seconds_between(at, reading.at));
        let named = (&*it.site, &*it.destination);
        let (value, words) = match rule.kind {
            AlertKind::DeadLetters => {
                (Some(float(counts.dead)), words::dead_letters(named, counts.dead, rule.window))
            }
            AlertKind::BacklogAge => {
                (Some(age), words::backlog_age(named, age, it.pending, rule.limit))
            }
            AlertKind::ConsentSkips => {
                let ended = counts.delivered + counts.skipped + counts.dead;
                let share = (ended >= MIN_ENDED_EVENTS)
                    .then(|| float(counts.without_consent) / float(ended));
                (share, words::consent_skips(named, counts, rule.window))
            }
            // An event that has just arrived is not late.
            _ => {
                let late = if age > 60.0 { it.pending } else { 0 };
                let due = counts.delivered + counts.dead + late;
                let rate = match due {
                    MIN_DUE_EVENTS.. => Some(float(counts.delivered) / float(due)),
                    // Without events there is nothing to deliver, and nothing that is late.
                    0 => Some(1.0),
                    _ => None,
                };
                (rate, words::delivery_rate(named, counts, late, rule.window))
            }
        };
        let is_excused =
            it.is_paused && matches!(rule.kind, AlertKind::BacklogAge | AlertKind::DeliveryRate);
        AlertCondition {
            target: AlertTarget {
                site: Some(it.site.clone()),
                object: Some(it.destination.clone()),
            },
            value: value.unwrap_or(0.0),
            level: if is_excused { ConditionLevel::Clear } else { level(rule, value) },
            words,
        }
    };
    reading.destinations.iter().map(of_destination).collect()
}

fn segments(rule: &AlertRule, reading: &GatewayReading) -> Option<Vec<AlertCondition>> {
    let conditions = reading.segments.as_ref()?.iter().map(|it| {
        let late = it.due_at.map_or(0.0, |due| seconds_between(due, reading.at));
        AlertCondition {
            target: AlertTarget { site: Some(it.site.clone()), object: Some(it.segment.clone()) },
            value: late,
            level: level(rule, Some(late)),
            words: words::segment_late(it, late),
        }
    });
    Some(conditions.collect())
}

fn certificates(rule: &AlertRule, reading: &GatewayReading) -> Vec<AlertCondition> {
    let conditions = reading.certificates.iter().map(|it| {
        let days = signed_seconds(reading.at, it.expires_at) / 86_400.0;
        AlertCondition {
            target: AlertTarget { site: None, object: Some(it.name.clone()) },
            value: days,
            level: level(rule, Some(days)),
            words: words::certificate(&it.name, days, it.expires_at),
        }
    });
    conditions.collect()
}

fn disk(rule: &AlertRule, disk: DiskReading) -> AlertCondition {
    let free = match disk.total_bytes {
        0 => 1.0,
        total => float(disk.free_bytes) / float(total),
    };
    let is_refusing = !disk.is_writable || !disk.has_room;
    let value = if is_refusing { 0.0 } else { free };
    AlertCondition {
        target: AlertTarget::default(),
        value,
        level: if is_refusing { ConditionLevel::Breached } else { level(rule, Some(value)) },
        words: words::disk(disk, free),
    }
}

/// The seconds from one time to a later one; zero if it is not later.
fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    signed_seconds(from, to).max(0.0)
}

fn signed_seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a share or a number for people")]
fn float(count: u64) -> f64 {
    count as f64
}
