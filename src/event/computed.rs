//! What the gateway computes of a person's events, for mappings that ask for it.

use std::collections::BTreeMap;

use super::Object;

/// How often something happened. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// When first.
    pub first: i64,
    /// When last.
    pub last: i64,
    /// The sum of the events' values.
    pub sum: f64,
}

impl Tally {
    /// Of one event.
    pub const fn one(at: i64, value: f64) -> Self {
        Self { count: 1, first: at, last: at, sum: value }
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            sum: self.sum + other.sum,
        }
    }

    /// Takes another in.
    pub fn add(&mut self, other: Self) {
        *self = self.and(other);
    }
}

/// What is computed of one person's events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Computed {
    /// When the person was first seen, in milliseconds since 1970.
    pub first_seen: Option<i64>,
    /// When the person was last seen, to the hour.
    pub last_seen: Option<i64>,
    /// What led here: `first` and `last`, each with `at`, `campaign`, `referrer`, `click_ids`.
    pub touches: Object,
    /// `type`, `os`, `browser`.
    pub device: Object,
    /// `country`, `region`, `city`.
    pub place: Object,
    /// What the person agreed to, by category.
    pub consent: Object,
    /// The group they were last said to be of.
    pub group_id: Option<String>,
    /// Their events by name.
    pub activity: BTreeMap<String, Tally>,
}
