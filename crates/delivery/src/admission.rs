//! The decision to send an event to the destination, and its form there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jiff::Timestamp;

use super::context::WorkerContext;
use tagway_core::event::{DroppedFields, EnrichedEvent, Event};
use tagway_core::feed::remove_trace_parameter;
use tagway_core::metrics::{AttemptLabels, DestinationLabels, FieldDropLabels, MappingRuleLabels};
use tagway_storage::journal::{Ending, JournalRecord, OutcomeCause};
use tagway_vendors::{Outcome, OutcomeReason};

/// The reason for skipping an event of an erased person.
pub(super) const FORGOTTEN: &str = "forgotten";

impl WorkerContext {
    /// Decodes the event of a record, without what the site's privacy settings exclude.
    pub(super) fn decode_record(&self, record: &JournalRecord) -> Option<Event> {
        match serde_json::from_slice::<Event>(&record.body) {
            Ok(mut event) => {
                self.settings.privacy.protect(&mut event);
                remove_trace_parameter(&mut event);
                Some(event)
            }
            // Erased, since its person was erased.
            Err(_) if record.body.is_empty() => None,
            Err(error) => {
                // The gateway wrote it; only a damaged disk gets here.
                tracing::error!(seq = record.seq, %error, "an event in the journal is not readable; the \
                    disk may be damaged");
                None
            }
        }
    }

    /// Returns the event in its form for the destination, with the decision to send it or not.
    pub(super) fn decide_admission(
        &self,
        event: EnrichedEvent,
        age: Duration,
        now: Timestamp,
    ) -> (EnrichedEvent, Result<(), Outcome>) {
        let admitted = catch_unwind(AssertUnwindSafe(|| self.settings.admit(event.clone(), now)));
        self.count_left_out();
        self.count_failures();
        match admitted {
            Ok((event, Ok(()))) if age > self.settings.limits.max_age => {
                (event, Err(Outcome::dead("too_old")))
            }
            Ok(admitted) => admitted,
            // A defect in a vendor's code must not stop the destination.
            Err(_panic) => (event, Err(Outcome::dead("defect"))),
        }
    }

    /// Counts the values that the mapping left out.
    fn count_left_out(&self) {
        let Some((counts, is_news)) = self.settings.mapping.take_omissions() else { return };
        let DestinationLabels { site, destination } = &self.client.labels;
        for (bound, count) in counts {
            let (site, destination, result) = (site.clone(), destination.clone(), bound.name());
            if is_news {
                tracing::warn!(
                    %site, %destination, setting = result,
                    "a value of the mapping exceeded this limit and is left out; \
                     tagway_mapping_values_left_out_total counts later ones"
                );
            }
            let labels = AttemptLabels { site, destination, result };
            self.client.metrics.left_out.get_or_create(&labels).inc_by(count);
        }
    }

    /// Counts the fields of an event that the vendor does not get. An event that was tried before is counted
    /// already.
    pub(super) fn count_dropped(&self, dropped: &DroppedFields) {
        for (reason, count) in dropped.counts() {
            let DestinationLabels { site, destination } = self.client.labels.clone();
            let labels = FieldDropLabels { site, destination, reason: reason.code() };
            self.client.metrics.fields_dropped.get_or_create(&labels).inc_by(*count);
        }
    }

    /// Counts the conditions and templates of the mapping's rules that failed.
    fn count_failures(&self) {
        let Some((counts, is_news)) = self.settings.mapping.take_failures() else { return };
        let DestinationLabels { site, destination } = &self.client.labels;
        for (rule, count) in counts {
            let (site, destination) = (site.clone(), destination.clone());
            if is_news {
                tracing::warn!(
                    %site, %destination, %rule,
                    "a condition or template of the mapping failed and its value is left out; \
                     tagway_mapping_failures_total counts later ones; \"tagway send --dry-run\" shows \
                     the reason"
                );
            }
            let labels = MappingRuleLabels { site, destination, rule };
            self.client.metrics.mapping_failures.get_or_create(&labels).inc_by(count);
        }
    }
}

/// Returns the end of an event with this outcome, after which it is not tried again.
pub(super) fn to_ending(outcome: Outcome) -> Ending {
    let cause =
        |OutcomeReason { code, detail }| OutcomeCause { code, detail: detail.unwrap_or_default() };
    match outcome {
        Outcome::Delivered => Ending::Delivered,
        Outcome::Skipped(reason) => Ending::Skipped(cause(reason)),
        Outcome::Dead(reason)
        | Outcome::Refused(reason)
        | Outcome::Retry { reason, .. }
        | Outcome::Throttled { reason, .. }
        | Outcome::Unauthorised(reason) => Ending::Dead(cause(reason), None),
    }
}
