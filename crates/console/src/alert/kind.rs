//! The kinds of alert rules, and the rule of each kind that is on without configuration.

use std::time::Duration;

/// The urgency of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertSeverity {
    /// A person should act now: data are being lost or delayed.
    Page,
    /// A person should look at it on a working day.
    Ticket,
}

impl AlertSeverity {
    /// All severities with their names.
    pub const ALL: [(&str, Self); 2] = [("page", Self::Page), ("ticket", Self::Ticket)];

    /// Returns the severity's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Ticket => "ticket",
        }
    }
}

/// The subject of a rule, of which it has one alert each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertScope {
    /// Each site.
    Site,
    /// Each destination.
    Destination,
    /// Each segment.
    Segment,
    /// The gateway's certificates.
    Certificate,
    /// The gateway as a whole.
    Gateway,
}

/// The measurement of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertKind {
    /// The share of the due events that a destination accepted.
    DeliveryRate,
    /// No event of a site that usually has some.
    NoTraffic,
    /// New dead letters of a destination.
    DeadLetters,
    /// The age of a destination's oldest pending event.
    BacklogAge,
    /// The share of a destination's events that are skipped for want of consent.
    ConsentSkips,
    /// The time by which a segment's run is overdue.
    SegmentLate,
    /// The days until a certificate expires.
    Certificate,
    /// The free share of the data folder's file system.
    Disk,
}

/// The values of a kind's rule that are not configured.
#[derive(Clone, Copy, Debug)]
pub struct KindDefaults {
    /// The name of the rule that is on without configuration.
    pub name: &'static str,
    /// The limit, in the kind's unit.
    pub limit: f64,
    /// The window of the measurement.
    pub window: Duration,
    /// The time for which the limit must be exceeded, or kept again.
    pub hold: Duration,
    /// The urgency of its alerts.
    pub severity: AlertSeverity,
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

impl AlertKind {
    /// All kinds with their names.
    pub const ALL: [(&str, Self); 8] = [
        ("delivery_rate", Self::DeliveryRate),
        ("no_traffic", Self::NoTraffic),
        ("dead_letters", Self::DeadLetters),
        ("backlog_age", Self::BacklogAge),
        ("consent_skips", Self::ConsentSkips),
        ("segment_late", Self::SegmentLate),
        ("certificate", Self::Certificate),
        ("disk", Self::Disk),
    ];

    /// The names of all kinds.
    pub const NAMES: &[&str] = &[
        "delivery_rate",
        "no_traffic",
        "dead_letters",
        "backlog_age",
        "consent_skips",
        "segment_late",
        "certificate",
        "disk",
    ];

    /// Returns the kind's name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    /// Returns the kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    /// Returns the kind's subjects.
    pub const fn scope(self) -> AlertScope {
        match self {
            Self::NoTraffic => AlertScope::Site,
            Self::DeliveryRate | Self::DeadLetters | Self::BacklogAge | Self::ConsentSkips => {
                AlertScope::Destination
            }
            Self::SegmentLate => AlertScope::Segment,
            Self::Certificate => AlertScope::Certificate,
            Self::Disk => AlertScope::Gateway,
        }
    }

    /// Returns the values of the rule that is on without configuration. They are quiet: a destination that restarts, a
    /// night without visitors and a single refused event are no alerts.
    pub const fn defaults(self) -> KindDefaults {
        let (name, limit, window, hold, severity) = match self {
            Self::DeliveryRate => {
                ("delivery-rate", 0.9, minutes(15), minutes(5), AlertSeverity::Page)
            }
            Self::NoTraffic => ("no-traffic", 20.0, minutes(30), minutes(0), AlertSeverity::Page),
            Self::DeadLetters => {
                ("dead-letters", 10.0, minutes(60), minutes(0), AlertSeverity::Ticket)
            }
            Self::BacklogAge => {
                ("backlog-age", 3600.0, minutes(1), minutes(5), AlertSeverity::Page)
            }
            Self::ConsentSkips => {
                ("consent-skips", 0.98, minutes(360), minutes(30), AlertSeverity::Ticket)
            }
            Self::SegmentLate => {
                ("segment-late", 3600.0, minutes(1), minutes(5), AlertSeverity::Ticket)
            }
            Self::Certificate => ("certificate", 7.0, minutes(1), minutes(0), AlertSeverity::Page),
            Self::Disk => ("disk", 0.05, minutes(1), minutes(1), AlertSeverity::Page),
        };
        KindDefaults { name, limit, window, hold, severity }
    }

    /// Returns true if a value below the limit is the alert; false if one above is.
    pub const fn is_alert_below(self) -> bool {
        matches!(self, Self::DeliveryRate | Self::Certificate | Self::Disk)
    }

    /// Returns the value at which an alert ends, beyond the limit: values that vary around the limit change nothing.
    pub fn end(self, limit: f64) -> f64 {
        match self {
            // A tenth above, or half way to all.
            Self::DeliveryRate | Self::Disk => (limit * 1.1).min(f64::midpoint(limit, 1.0)),
            Self::Certificate | Self::NoTraffic => limit,
            Self::DeadLetters | Self::BacklogAge | Self::ConsentSkips | Self::SegmentLate => {
                limit * 0.9
            }
        }
    }
}
