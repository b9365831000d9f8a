//! Accepted events in the live feed, and in the traces that follow their visitors.

use std::sync::Arc;

use jiff::Timestamp;

use super::decode::MessageDraft;
use super::snapshot::GatewaySite;
use super::{Gateway, trace_link};
use tagway_core::event::Event;
use tagway_core::feed::{ArrivalSummary, EventSubject, FeedEvent, LiveFeed};
use tagway_core::metrics::SharedName;
use tagway_core::privacy::ConsentRecord;
use tagway_storage::journal::{AppendCallback, AppendOutcome};

/// The parts of a message that the feed shows, and its event lacks.
#[derive(Clone, Debug, Default)]
pub(super) struct DraftSummary {
    page_url: Option<String>,
    consent: Option<ConsentRecord>,
}

impl DraftSummary {
    pub(super) fn of(draft: &MessageDraft) -> Self {
        let excerpt = &draft.excerpt;
        Self { page_url: excerpt.page_url.clone(), consent: excerpt.consent.clone() }
    }
}

/// An event to be accepted, as the feed shows it.
pub(super) struct FeedEntry {
    subject: EventSubject,
    arrival: ArrivalSummary,
    /// The traces that follow its visitor.
    traces: Vec<Arc<str>>,
}

impl Gateway {
    /// Returns true if accepted events are to be described: somebody watches, or a trace may follow one of them.
    pub(super) fn describes_events(&self) -> bool {
        self.feed.is_watched() || self.feed.traces().is_active()
    }

    /// Describes an event of a site.
    pub(super) fn describe_event<O>(
        &self,
        site: &GatewaySite,
        event: &Event<O>,
        summary: &DraftSummary,
        now: Timestamp,
    ) -> FeedEntry {
        let (subject, page) = (EventSubject::of(event), summary.page_url.as_deref());
        let registry = self.feed.traces();
        let traces = match registry.is_active() {
            true => {
                let keys = &site.visitor;
                let opened = page.and_then(|url| trace_link::opened(keys, &site.name, url, now));
                registry.of_event(&site.name, &subject, opened.as_deref(), now)
            }
            false => Vec::new(),
        };
        let arrival = ArrivalSummary::of(event, page, summary.consent.as_ref());
        FeedEntry { subject, arrival, traces }
    }

    /// Publishes an accepted event.
    pub(super) fn publish_accepted(
        &self,
        (site, seq): (&SharedName, u64),
        entry: FeedEntry,
        (at, format): (Timestamp, &str),
    ) {
        let FeedEntry { subject, arrival, .. } = entry;
        self.feed.publish(site, &[seq], || FeedEvent::Accepted {
            at,
            site: site.clone(),
            seq,
            subject,
            format: format.to_owned(),
            arrival,
        });
    }
}

/// Returns the callback of an append, which also makes the traces follow the events before any destination reads
/// them.
pub(super) fn following(
    feed: &LiveFeed,
    entries: &[FeedEntry],
    count: AppendCallback,
) -> AppendCallback {
    if entries.iter().all(|entry| entry.traces.is_empty()) {
        return count;
    }
    let traces: Vec<Vec<Arc<str>>> = entries.iter().map(|entry| entry.traces.clone()).collect();
    let registry = feed.traces().clone();
    Box::new(move |appended| {
        count(appended);
        for (traces, appended) in traces.iter().zip(appended) {
            if let AppendOutcome::New { seq } = *appended
                && !traces.is_empty()
            {
                registry.follow(traces, seq);
            }
        }
    })
}
