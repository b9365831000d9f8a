//! The values that the gateway computes from a person's events, for mappings that use them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::JsonObject;

/// The count, times and sum of one kind of event. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventTally {
    /// The number of events.
    pub count: u64,
    /// The time of the first event.
    pub first: i64,
    /// The time of the last event.
    pub last: i64,
    /// The sum of the events' values.
    pub sum: f64,
}

impl EventTally {
    /// Returns the tally of one event.
    pub const fn single(at: i64, value: f64) -> Self {
        Self { count: 1, first: at, last: at, sum: value }
    }

    /// Returns the sum of two tallies.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            sum: self.sum + other.sum,
        }
    }

    /// Returns the tally as JSON, with times as events write theirs.
    pub fn members(&self) -> Value {
        let Self { count, first, last, sum } = self;
        json!({ "count": count, "first": time(*first), "last": time(*last), "sum": sum })
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: Self) {
        *self = self.combine(other);
    }
}

/// The attributes computed from one person's events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ComputedAttributes {
    /// The time when the person was first seen, in milliseconds since 1970.
    pub first_seen: Option<i64>,
    /// The time when the person was last seen, in milliseconds since 1970, to the hour.
    pub last_seen: Option<i64>,
    /// The sources of the person's visits: `first` and `last`, each with `at`, `campaign`, `referrer`, `click_ids`.
    pub touches: JsonObject,
    /// The device: `type`, `os`, `browser`.
    pub device: JsonObject,
    /// The location: `country`, `region`, `city`.
    pub place: JsonObject,
    /// The person's consent, by category.
    pub consent: JsonObject,
    /// The last group recorded for the person.
    pub group_id: Option<String>,
    /// Tallies of the person's events, by event name.
    pub activity: BTreeMap<String, EventTally>,
}

impl ComputedAttributes {
    /// Returns all attributes as JSON, with times as events write theirs.
    pub fn members(&self) -> JsonObject {
        let mut touches = self.touches.clone();
        for touch in touches.values_mut().filter_map(Value::as_object_mut) {
            if let Some(at) = touch.get_mut("at") {
                *at = at.as_i64().and_then(time).into();
            }
        }
        let activity: JsonObject =
            self.activity.iter().map(|(name, tally)| (name.clone(), tally.members())).collect();
        [
            ("first_seen", self.first_seen.and_then(time).into()),
            ("last_seen", self.last_seen.and_then(time).into()),
            ("touches", Value::Object(touches)),
            ("device", Value::Object(self.device.clone())),
            ("place", Value::Object(self.place.clone())),
            ("consent", Value::Object(self.consent.clone())),
            ("group_id", self.group_id.clone().into()),
            ("activity", Value::Object(activity)),
        ]
        .map(|(key, value): (&str, Value)| (key.to_owned(), value))
        .into_iter()
        .collect()
    }
}

/// Formats a time in milliseconds since 1970 as events write theirs.
fn time(ms: i64) -> Option<String> {
    Some(Timestamp::from_millisecond(ms).ok()?.to_string())
}
