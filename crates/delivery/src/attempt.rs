//! One try of a batch: its calls to the vendor, and the outcome of each event.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::admission::FORGOTTEN;
use super::context::{WorkerContext, guarded_item};
use super::destination_client::BatchCaller;
use super::queue::{DeliveryBatch, QueuedEvent};
use tagway_core::event::EnrichedEvent;
use tagway_storage::journal::LastVendorCall;
use tagway_vendors::{Outcome, OutcomeReason};

/// A batch that was tried, with the outcome of each of its events and the last call about it.
pub(super) struct AttemptedBatch {
    pub(super) batch: DeliveryBatch,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) calls: Vec<Option<Arc<LastVendorCall>>>,
    /// The duration of the last call.
    pub(super) milliseconds: Option<u64>,
}

impl AttemptedBatch {
    /// Tries a batch; `is_guarded` if the guard is to record it.
    pub(super) async fn of(
        context: Arc<WorkerContext>,
        batch: DeliveryBatch,
        is_guarded: bool,
    ) -> Self {
        let forgotten = context.journal.suppression_list();
        // Checked last: a batch may have waited for hours.
        let is_kept =
            |item: &QueuedEvent| !forgotten.matches_event(context.site, &item.event.event);
        let is_sent: Vec<bool> = batch.items.iter().map(is_kept).collect();
        let items = batch.items.iter().zip(&is_sent).filter(|(_, is_kept)| **is_kept);
        let events: Vec<EnrichedEvent> = items.map(|(item, _)| item.event.clone()).collect();
        if events.is_empty() {
            let outcomes = insert_forgotten_outcomes(Vec::new(), &is_sent);
            return Self { batch, outcomes, calls: Vec::new(), milliseconds: None };
        }
        let seqs: Vec<u64> = batch.items.iter().map(|item| item.event.seq).collect();
        let section = match is_guarded {
            true => {
                let items = seqs.iter().copied().map(guarded_item).collect();
                Some(context.reader_guard.begin(items).await)
            }
            false => None,
        };
        let call = BatchCaller::of(context.client.clone(), seqs, section);
        let destination = &context.settings.destination;
        let delivered = AssertUnwindSafe(destination.deliver(&events, &call)).catch_unwind();
        // A defect in a vendor's code: the event that triggers it is found and becomes a dead letter.
        let refused = |_panic| vec![Outcome::Refused(OutcomeReason::new("defect")); events.len()];
        let mut outcomes = delivered.await.unwrap_or_else(refused);
        for reason in outcomes.iter_mut().filter_map(Outcome::reason_mut) {
            // Details quote replies, and replies quote credentials.
            reason.redact(&call.client.redaction);
        }
        let outcomes = insert_forgotten_outcomes(outcomes, &is_sent);
        let calls = batch.items.iter().zip(&outcomes).map(|(item, outcome)| {
            let is_over = matches!(outcome, Outcome::Delivered | Outcome::Skipped(_));
            let seq = (!is_over).then_some(item.event.seq);
            seq.and_then(|seq| call.last_call(seq))
        });
        let (calls, milliseconds) = (calls.collect(), call.last_milliseconds());
        if let Some(section) = call.section.into_inner() {
            section.end().await;
        }
        Self { batch, outcomes, calls, milliseconds }
    }
}

/// Returns the outcomes of all events of a batch, from those of the events that were sent.
fn insert_forgotten_outcomes(outcomes: Vec<Outcome>, is_sent: &[bool]) -> Vec<Outcome> {
    let mut outcomes = outcomes.into_iter();
    // A vendor that reports nothing about an event has not shown that it arrived.
    let unmentioned = || Outcome::Retry { reason: OutcomeReason::new("no_outcome"), after: None };
    let outcome = |is_kept: &bool| match is_kept {
        true => outcomes.next().unwrap_or_else(unmentioned),
        false => Outcome::Skipped(OutcomeReason::new(FORGOTTEN)),
    };
    is_sent.iter().map(outcome).collect()
}
