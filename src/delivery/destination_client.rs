//! One batch's calls to its vendor: throttled, timed, counted, shown to those who watch.

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

use super::EgressClient;
use super::exchange::{BatchExchanges, FailedAttemptLog};
use crate::clock::SharedClock;
use crate::feed::{FeedEvent, LiveFeed};
use crate::journal::GuardedWork;
use crate::metrics::{AttemptLabels, DestinationLabels, Metrics};
use crate::settings::{HIDDEN, SecretRedactor, SecretString};
use crate::vendors::{
    ConfidentialReply, VendorCall, VendorCallError, VendorReply, request_preview,
};

/// The most characters of a body that watchers are shown.
const SHOWN_CHARS: usize = 4000;

/// What all calls to one destination share.
pub(super) struct DestinationClient {
    pub(super) labels: DestinationLabels,
    pub(super) egress: EgressClient,
    pub(super) timeout: Duration,
    /// The destination is being stopped.
    pub(super) stop: CancellationToken,
    pub(super) throttle: Option<DefaultDirectRateLimiter>,
    pub(super) secrets: Vec<SecretString>,
    pub(super) redaction: SecretRedactor,
    pub(super) clock: SharedClock,
    pub(super) feed: LiveFeed,
    pub(super) metrics: Arc<Metrics>,
    /// The last tries of events that have not ended.
    pub(super) failures: FailedAttemptLog,
    /// The most characters of a request, or of a reply, that are kept with an event.
    pub(super) kept_chars: usize,
    /// Held shared while a settlement is written and counted, and alone by who shows both at one moment.
    pub(super) settling: Arc<RwLock<()>>,
}

/// The calls of one batch.
pub(super) struct BatchCaller {
    pub(super) line: Arc<DestinationClient>,
    /// The events of the batch, for watchers.
    pub(super) seqs: Vec<u64>,
    /// The note of the poison guard that the batch is under way; `None` while the worker is not careful.
    pub(super) section: Mutex<Option<GuardedWork>>,
    pub(super) exchanges: BatchExchanges,
}

impl BatchCaller {
    /// Calls that carry no events.
    pub(super) fn alone(line: Arc<DestinationClient>) -> Self {
        Self::of(line, Vec::new(), None)
    }

    /// The calls of a batch of these events.
    pub(super) fn of(
        line: Arc<DestinationClient>,
        seqs: Vec<u64>,
        section: Option<GuardedWork>,
    ) -> Self {
        Self { line, seqs, section: Mutex::new(section), exchanges: BatchExchanges::default() }
    }

    async fn send(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let line = &self.line;
        if let Some(throttle) = &line.throttle {
            tokio::select! {
                () = throttle.until_ready() => {}
                () = line.stop.cancelled() => {}
            }
        }
        // A call under way may end; a conversation goes no further.
        if line.stop.is_cancelled() {
            return Err(VendorCallError::Stopping);
        }
        let shown = line.feed.is_watched().then(|| line.shown(&request));
        // The body is shared; what carries no events is not asked for later.
        let kept = (!self.seqs.is_empty()).then(|| (line.clock.now(), request.clone()));
        let started = Instant::now();
        let result = line.egress.send(request, line.timeout).await;
        let elapsed = started.elapsed();
        line.count(&result, elapsed);
        if let Some((at, request)) = kept {
            self.exchanges.remember((at, self.seqs.len()), request, &result);
        }
        if let Some(shown) = request_preview {
            line.feed
                .publish(|| line.call_feed_event(&self.seqs, request_preview, &result, elapsed));
        }
        result
    }
}

#[async_trait]
impl VendorCall for BatchCaller {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        // While the vendor is waited for, nothing of the batch is under way here.
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
        self.exchanges.concern(event);
    }

    fn register_secret(&self, secret: &SecretString) {
        self.line.redaction.add_issued(secret);
    }

    fn now(&self) -> Timestamp {
        self.line.clock.now()
    }
}

/// A request as watchers see it.
struct RequestExcerpt {
    line: String,
    body: String,
    /// Whether the reply is nothing for them.
    hides_reply: bool,
}

impl RequestExcerpt {
    /// The status of the reply, and what watchers see of it.
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
    }

    fn shown(&self, request: &Request<Bytes>) -> RequestExcerpt {
        let line = format!("{} {}", request.method(), request.uri());
        RequestExcerpt {
            line: self.excerpt(line),
            body: self.excerpt(request_preview::body(request)),
            hides_reply: request.extensions().get::<ConfidentialReply>().is_some(),
        }
    }

    /// What is shown of a text.
    fn excerpt(&self, text: String) -> String {
        self.cut(&text, SHOWN_CHARS)
    }

    /// The part of a text that is kept with an event.
    pub(super) fn kept_excerpt(&self, text: String) -> String {
        self.cut(&text, self.kept_chars)
    }

    fn cut(&self, text: &str, chars: usize) -> String {
        // First in all encodings: what `without` leaves of a longer form would not be found.
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
        let (status, reply) = request_preview.reply(result);
        FeedEvent::Called {
            at: self.clock.now(),
            site: self.labels.site.clone(),
            destination: self.labels.destination.clone(),
            seqs: seqs.to_vec(),
            request: request_preview.line,
            body: request_preview.body,
            status,
            reply: self.excerpt(reply),
            milliseconds: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// The text without the destination's own secrets, as they stand or percent-encoded: those too that
/// are too short to be looked for everywhere.
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
    fn a_reply_that_is_a_secret_is_not_shown() {
        let (status, headers) = (http::StatusCode::OK, http::HeaderMap::new());
        let result =
            Ok(VendorReply { status, headers, body: Bytes::from_static(b"{\"token\":\"hush\"}") });
        let shown = |hides_reply| {
            RequestExcerpt { line: String::new(), body: String::new(), hides_reply }.reply(&result)
        };
        assert_eq!(shown(true), (Some(200), HIDDEN.to_owned()));
        assert!(shown(false).1.contains("hush"));
    }
}
