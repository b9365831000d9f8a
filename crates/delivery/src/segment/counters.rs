//! Counters for events that pass a filter of some rule, under names of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use super::SegmentSettings;
use super::evaluate::passes;
use super::rule::{PropertyFilter, SegmentRule};
use tagway_core::event::Event;
use tagway_storage::profile::{CounterProgress, EventCounterSet};

/// Filters by the event's name, each under the name of its counter.
type CounterFilters = BTreeMap<String, BTreeMap<String, PropertyFilter>>;

/// The counters that one site needs.
#[derive(Debug, Default)]
pub struct SegmentCounterSet {
    filters: CounterFilters,
    /// The names of events whose counts the settings use.
    reserved: BTreeSet<String>,
}

impl SegmentCounterSet {
    /// Collects the counters that these segments need. `used` are the names of events whose counts other
    /// settings of the site use.
    pub fn of(segments: &[Arc<SegmentSettings>], used: impl IntoIterator<Item = String>) -> Self {
        let (mut filters, mut reserved) =
            (CounterFilters::new(), used.into_iter().collect::<BTreeSet<_>>());
        for segment in segments {
            segment.rule.each_event(&mut |event| {
                if !reserved.contains(&event.event) {
                    reserved.insert(event.event.clone());
                }
                if !event.filter.is_empty() {
                    let of_event = filters.entry(event.event.clone()).or_default();
                    of_event.insert(event.key(), event.filter.clone());
                }
            });
        }
        Self { filters, reserved }
    }
}

impl EventCounterSet for SegmentCounterSet {
    fn keys(&self, event: &Event, out: &mut Vec<String>) {
        let Some(filters) = self.filters.get(event.label()) else { return };
        let now_ms = event.timestamp.as_millisecond();
        let passing = filters
            .iter()
            .filter(|(_, filter)| passes(filter, event.properties.as_ref(), now_ms))
            .map(|(name, _)| name.clone());
        out.extend(passing);
    }

    fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.filters.values().flat_map(BTreeMap::keys).collect();
        names.into_iter().cloned().collect()
    }

    fn reserves(&self, name: &str) -> bool {
        self.reserved.contains(name)
    }
}

/// The progress of the counters that a rule needs.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct RuleCounterProgress {
    /// True if all events that the journal had are counted. Until then the rule is not evaluated.
    pub is_filled: bool,
    /// The counted share of these events, 0 to 1.
    pub share: f64,
    /// The start of the counts, in milliseconds since 1970: the time of the oldest event that the journal still
    /// had. `None` if there was none.
    pub since_ms: Option<i64>,
}

impl RuleCounterProgress {
    /// Returns the progress for a rule that tests properties of events; `None` for another rule.
    pub(super) fn of(rule: &SegmentRule, counters: &[CounterProgress]) -> Option<Self> {
        let mut names = BTreeSet::new();
        rule.each_event(&mut |event| {
            if !event.filter.is_empty() {
                names.insert(event.key());
            }
        });
        if names.is_empty() {
            return None;
        }
        let mut counting = Self { is_filled: true, share: 1.0, since_ms: None };
        for name in names {
            let known = counters.iter().find(|counter| counter.name == name);
            let (is_filled, share) = known.map_or((false, 0.0), |it| (it.is_filled(), it.share()));
            counting.is_filled &= is_filled;
            counting.share = counting.share.min(share);
            let since = known.and_then(|it| it.oldest).map(|oldest| oldest.received_at);
            counting.since_ms = counting.since_ms.max(since);
        }
        Some(counting)
    }
}
