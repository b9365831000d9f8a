//! The counters of settled events. Other code reads them by their labels: the library lists no family's members.

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::OutcomeLabels;

/// The counters of settled events, by destination, outcome and reason.
#[derive(Default)]
pub struct OutcomeCounters {
    family: Family<OutcomeLabels, Counter>,
    known: Mutex<Vec<OutcomeLabels>>,
}

impl OutcomeCounters {
    /// Counts one event.
    pub fn count(&self, labels: &OutcomeLabels) {
        if let Some(counter) = self.family.get(labels) {
            counter.inc();
            return;
        }
        let mut known = self.known.lock();
        if !known.contains(labels) {
            known.push(labels.clone());
        }
        self.family.get_or_create(labels).inc();
    }

    /// Returns every counter with its value since the start of the process.
    pub fn counts(&self) -> Vec<(OutcomeLabels, u64)> {
        let known = self.known.lock().clone();
        let count = |labels: OutcomeLabels| {
            let count = self.family.get(&labels).map_or(0, |counter| counter.get());
            (labels, count)
        };
        known.into_iter().map(count).collect()
    }

    /// Returns the metric, for the exposition.
    pub(super) const fn family(&self) -> &Family<OutcomeLabels, Counter> {
        &self.family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lists_each_counter_once() {
        let counters = OutcomeCounters::default();
        let of = |reason| OutcomeLabels {
            site: "shop".into(),
            destination: "ga4".into(),
            outcome: "skipped",
            reason,
        };
        counters.count(&of("a"));
        counters.count(&of("a"));
        counters.count(&of("b"));
        assert_eq!(counters.counts(), [(of("a"), 2), (of("b"), 1)]);
    }
}
