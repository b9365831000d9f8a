//! Events that pass a filter of some rule are counted under names of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::SegmentSettings;
use super::evaluate::passes;
use super::rule::Filter;
use crate::event::Event;
use crate::profile::Counters;

/// Filters by the event's name; each by the name under which it counts.
type Filters = BTreeMap<String, BTreeMap<String, Filter>>;

/// The counters that the segments of one site need. They follow its settings.
#[derive(Debug, Default)]
pub struct FilterCounters(ArcSwap<Filters>);

impl FilterCounters {
    /// Counts what these segments ask for from now on.
    pub fn set(&self, segments: &[Arc<SegmentSettings>]) {
        let mut filters = Filters::new();
        for segment in segments {
            segment.rule.each_event(&mut |event| {
                if !event.filter.is_empty() {
                    let of_event = filters.entry(event.event.clone()).or_default();
                    of_event.insert(event.key(), event.filter.clone());
                }
            });
        }
        self.0.store(Arc::new(filters));
    }
}

impl Counters for FilterCounters {
    fn keys(&self, event: &Event, out: &mut Vec<String>) {
        let filters = self.0.load();
        let Some(filters) = filters.get(event.label()) else { return };
        let now_ms = event.timestamp.as_millisecond();
        let passing = filters
            .iter()
            .filter(|(_, filter)| passes(filter, event.properties.as_ref(), now_ms))
            .map(|(name, _)| name.clone());
        out.extend(passing);
    }
}
