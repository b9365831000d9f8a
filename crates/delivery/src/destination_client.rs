//! The calls of one batch to its vendor: throttled, timed, counted, and published to the live feed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use governor::DefaultDirectRateLimiter;
use http::Request;
use jiff::Timestamp;
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::DestinationActivity;
use super::egress::EgressClient;
use super::exchange::{BatchExchanges, FailedAttemptLog};
use tagway_core::clock::SharedClock;
use tagway_core::event::EnrichedEvent;
use tagway_core::feed::{EventSubject, FeedEvent, LiveFeed};
use tagway_core::metrics::{AttemptLabels, DestinationLabels, Metrics, OutcomeLabels};
use tagway_settings::{HIDDEN, SecretRedactor, SecretString};
use tagway_storage::journal::{EndedEvent, Ending, GuardedWork, LastVendorCall};
use tagway_vendors::{
    ConfidentialReply, VendorCall, VendorCallError, VendorReply, request_preview,
};

/// The most characters of a body in the live feed.
const SHOWN_CHARS: usize = 4000;

/// The most characters of a body that a trace keeps: whole requests, but for batches of large events.
const TRACED_CHARS: usize = 100_000;

/// The parts that all calls to one destination share.
pub(super) struct DestinationClient {
    pub(super) labels: DestinationLabels,
    pub(super) egress: EgressClient,
    pub(super) timeout: Duration,
    /// Cancelled when the destination is being stopped.
    pub(super) stop: CancellationToken,
    pub(super) throttle: Option<DefaultDirectRateLimiter>,
    pub(super) secrets: Vec<SecretString>,
    pub(super) redaction: SecretRedactor,
    pub(super) clock: SharedClock,
    pub(super) feed: LiveFeed,
    pub(super) metrics: Arc<Metrics>,
    /// The last tries of events that have not ended.
    pub(super) failures: FailedAttemptLog,
    /// The latest activity, for operators.
    pub(super) activity: Arc<DestinationActivity>,
    /// The most characters of a request, or of a reply, that are stored with an event.
    pub(super) kept_chars: usize,
    /// Read-locked while a settlement is written and counted, write-locked to show both at one moment.
    pub(super) settlement_lock: Arc<RwLock<()>>,
}

/// The calls of one batch to its vendor.
pub(super) struct BatchCaller {
    pub(super) client: Arc<DestinationClient>,
    /// The events of the batch, for the live feed.
    pub(super) seqs: Vec<u64>,
    /// The poison guard's record that the batch is being processed; `None` while the worker is not careful.
    pub(super) section: Mutex<Option<GuardedWork>>,
    exchanges: BatchExchanges,
}

impl BatchCaller {
    /// Builds a caller for calls without events.
    pub(super) fn without_events(line: Arc<DestinationClient>) -> Self {
        Self::of(line, Vec::new(), None)
    }

    /// Builds a caller for a batch of these events.
    pub(super) fn of(
        line: Arc<DestinationClient>,
        seqs: Vec<u64>,
        section: Option<GuardedWork>,
    ) -> Self {
        Self {
            client: line,
            seqs,
            section: Mutex::new(section),
            exchanges: BatchExchanges::default(),
        }
    }

    /// Returns the last call about an event of the batch, if there was one.
    pub(super) fn last_call(&self, seq: u64) -> Option<Arc<LastVendorCall>> {
        self.exchanges.last_call(seq, |text| self.client.stored_excerpt(text))
    }

    /// Returns the duration of the last call about any event of the batch, if there was one.
    pub(super) fn last_milliseconds(&self) -> Option<u64> {
        self.exchanges.last_milliseconds()
    }

    async fn send(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let line = &self.client;
        if let Some(throttle) = &line.throttle {
            tokio::select! {
                () = throttle.until_ready() => {}
                () = line.stop.cancelled() => {}
            }
        }
        // A running call may end, but no further call of the batch starts.
        if line.stop.is_cancelled() {
            return Err(VendorCallError::Stopping);
        }
        let shown = line.wants_call(&self.seqs).then(|| line.request_excerpt(&self.seqs, &request));
        // The body is shared; calls without events are not stored.
        let kept = (!self.seqs.is_empty()).then(|| (line.clock.now(), request.clone()));
        let started = Instant::now();
        let result = line.egress.send(request, line.timeout).await;
        let elapsed = started.elapsed();
        line.count(&result, elapsed);
        if let Some((at, request)) = kept {
            self.exchanges.remember(at, self.seqs.len(), request, (&result, elapsed));
        }
        if let Some(shown) = shown {
            let call = || line.call_feed_event(&self.seqs, shown, &result, elapsed);
            line.feed.publish(&line.labels.site, &self.seqs, call);
        }
        result
    }
}

#[async_trait]
impl VendorCall for BatchCaller {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        // While the batch waits for the vendor, no code of it runs here.
        if let Some(section) = &mut *self.section.lock().await {
            section.pause().await;
        }
        let result = self.send(request).await;
        if let Some(section) = &mut *self.section.lock().await {
            section.resume().await;
        }
        result
    }

    fn set_current_event(&self, event: u64) {
        self.exchanges.set_current_event(event);
    }

    fn register_secret(&self, secret: &SecretString) {
        self.client.redaction.add_issued(secret);
    }

    fn now(&self) -> Timestamp {
        self.client.clock.now()
    }
}

/// A request as the live feed shows it.
struct RequestExcerpt {
    request_line: String,
    body: String,
    /// True if the reply must not be shown.
    hides_reply: bool,
    /// The most characters of the reply.
    chars: usize,
}

/// The result of a try of an event, or of its screening, as the live feed shows it.
pub(super) struct PublishedOutcome<'o> {
    pub(super) outcome: &'static str,
    pub(super) reason: &'static str,
    pub(super) detail: Option<&'o str>,
    /// The number of tries, this one included.
    pub(super) attempt: u32,
    /// The duration of the last call.
    pub(super) milliseconds: Option<u64>,
}

impl RequestExcerpt {
    /// Returns the status of the reply, and its text for the live feed.
    fn reply(&self, result: &Result<VendorReply, VendorCallError>) -> (Option<u16>, String) {
        match result {
            Ok(reply) => {
                let body = String::from_utf8_lossy(&reply.body);
                let body = if self.hides_reply { HIDDEN.into() } else { body };
                (Some(reply.status.as_u16()), body.into_owned())
            }
            Err(error) => (None, error.to_string()),
        }
    }
}

impl DestinationClient {
    fn count(&self, result: &Result<VendorReply, VendorCallError>, elapsed: Duration) {
        let result = match result {
            Ok(reply) => match reply.status.as_u16() {
                200..=299 => "2xx",
                300..=399 => "3xx",
                429 => "429",
                400..=499 => "4xx",
                _ => "5xx",
            },
            Err(VendorCallError::Timeout(_)) => "timeout",
            Err(VendorCallError::Unreachable(_)) => "unreachable",
            Err(VendorCallError::Cut(_)) => "cut",
            Err(VendorCallError::Forbidden) => "forbidden",
            Err(VendorCallError::Stopping) => "stopping",
        };
        let DestinationLabels { site, destination } = self.labels.clone();
        let labels = AttemptLabels { site, destination, result };
        self.metrics.delivery_attempts.get_or_create(&labels).inc();
        self.metrics.delivery_seconds.get_or_create(&self.labels).observe(elapsed.as_secs_f64());
        self.activity.record_call(elapsed);
    }

    /// Counts an event whose end is settled.
    pub(super) fn count_ended(&self, ended: &EndedEvent) {
        let DestinationLabels { site, destination } = self.labels.clone();
        let reason = ended.ending.cause().map_or("", |cause| cause.code);
        if matches!(ended.ending, Ending::Skipped(_)) {
            self.activity.count_skipped(reason);
        }
        let labels = OutcomeLabels { site, destination, outcome: ended.ending.name(), reason };
        self.metrics.deliveries.count(&labels);
    }

    /// Publishes to the live feed that an event has ended, or is to be tried again.
    pub(super) fn publish_outcome(&self, event: &EnrichedEvent, published: PublishedOutcome<'_>) {
        let PublishedOutcome { outcome, reason, detail, attempt, milliseconds } = published;
        self.feed.publish(&self.labels.site, &[event.seq], || FeedEvent::Settled {
            at: self.clock.now(),
            site: self.labels.site.clone(),
            destination: self.labels.destination.clone(),
            seq: event.seq,
            subject: EventSubject::of(&event.event),
            outcome,
            reason,
            detail: detail.map(str::to_owned),
            attempt,
            milliseconds,
            dropped: event.dropped_fields().listed().iter().map(ToString::to_string).collect(),
        });
    }

    /// Returns true if the live feed shows a call about these events.
    fn wants_call(&self, seqs: &[u64]) -> bool {
        self.feed.wants(&self.labels.site, seqs)
    }

    fn request_excerpt(&self, seqs: &[u64], request: &Request<Bytes>) -> RequestExcerpt {
        let line = format!("{} {}", request.method(), request.uri());
        let is_traced = self.feed.traces().follows(&self.labels.site, seqs);
        let chars = if is_traced { TRACED_CHARS } else { SHOWN_CHARS };
        RequestExcerpt {
            request_line: self.cut(&line, SHOWN_CHARS),
            body: self.cut(&request_preview::body(request), chars),
            hides_reply: request.extensions().get::<ConfidentialReply>().is_some(),
            chars,
        }
    }

    /// Returns the part of a text that is stored with an event.
    fn stored_excerpt(&self, text: String) -> String {
        self.cut(&text, self.kept_chars)
    }

    fn cut(&self, text: &str, chars: usize) -> String {
        // Redacted first in all encodings: the remains of a longer form after `without` would not be found.
        let text = self.redaction.excerpt(text, chars);
        redact_secrets(&self.secrets, text)
    }

    fn call_feed_event(
        &self,
        seqs: &[u64],
        shown: RequestExcerpt,
        result: &Result<VendorReply, VendorCallError>,
        elapsed: Duration,
    ) -> FeedEvent {
        let (status, reply) = shown.reply(result);
        FeedEvent::Called {
            at: self.clock.now(),
            site: self.labels.site.clone(),
            destination: self.labels.destination.clone(),
            seqs: seqs.to_vec(),
            request: shown.request_line,
            body: shown.body,
            status,
            reply: self.cut(&reply, shown.chars),
            milliseconds: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Removes the destination's own secrets from a text, plain or percent-encoded: also those that are too
/// short to be searched for everywhere.
pub fn redact_secrets(secrets: &[SecretString], mut text: String) -> String {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let encoded: String =
            url::form_urlencoded::byte_serialize(secret.expose().as_bytes()).collect();
        for written in [secret.expose(), encoded.as_str()] {
            if text.contains(written) {
                text = text.replace(written, HIDDEN);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_with_a_secret_is_not_shown() {
        let (status, headers) = (http::StatusCode::OK, http::HeaderMap::new());
        let result =
            Ok(VendorReply { status, headers, body: Bytes::from_static(b"{\"token\":\"hush\"}") });
        let shown = |hides_reply| {
            let (request_line, body) = (String::new(), String::new());
            RequestExcerpt { request_line, body, hides_reply, chars: 100 }.reply(&result)
        };
        assert_eq!(shown(true), (Some(200), HIDDEN.to_owned()));
        assert!(shown(false).1.contains("hush"));
    }
}
