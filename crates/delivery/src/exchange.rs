//! The calls of a batch, stored with an event that does not get through: a later lookup shows the request and
//! the reply.
//!
//! A call with several events contains other people's data, which would outlive them if it were stored with
//! one event: of such a call only the request's line and the reply's status are stored.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use parking_lot::Mutex;

use tagway_settings::HIDDEN;
use tagway_storage::journal::LastVendorCall;
use tagway_vendors::{
    ConfidentialReply, OutcomeReason, VendorCallError, VendorReply, request_preview,
};

/// The most bytes of a reply that are kept while its batch is running.
const HELD_REPLY_BYTES: usize = 64 * 1024;

/// A call and its reply.
pub(super) struct CallExchange {
    at: Timestamp,
    request: Request<Bytes>,
    status: Option<u16>,
    reply: Bytes,
    /// The number of events in the call.
    events: usize,
    rendered: OnceLock<Arc<LastVendorCall>>,
}

impl CallExchange {
    /// Returns the call in its stored form: rendered once, however many events it is stored with.
    fn last_call(&self, excerpt: impl Fn(String) -> String) -> Arc<LastVendorCall> {
        self.rendered.get_or_init(|| Arc::new(self.render(excerpt))).clone()
    }

    fn render(&self, excerpt: impl Fn(String) -> String) -> LastVendorCall {
        let head = format!("{} {}", self.request.method(), self.request.uri());
        let is_alone = self.events == 1;
        let hides_reply = self.request.extensions().get::<ConfidentialReply>().is_some();
        let request = match is_alone {
            true => format!("{head}\n\n{}", request_preview::body(&self.request)),
            false => format!("{head} (of {} events: their bodies are not kept)", self.events),
        };
        let reply = match (self.status, is_alone) {
            (Some(_), _) if hides_reply => HIDDEN.to_owned(),
            (Some(_), false) => String::new(),
            _ => String::from_utf8_lossy(&self.reply).into_owned(),
        };
        LastVendorCall {
            at: self.at,
            request: excerpt(request),
            status: self.status,
            reply: excerpt(reply),
        }
    }
}

/// The latest calls of a batch.
#[derive(Default)]
pub(super) struct BatchExchanges(Mutex<LatestExchanges>);

#[derive(Default)]
struct LatestExchanges {
    /// The single event that the next calls are about.
    event: Option<u64>,
    of_event: HashMap<u64, Arc<CallExchange>>,
    of_batch: Option<Arc<CallExchange>>,
    /// The duration of the last call.
    elapsed: Option<Duration>,
}

impl BatchExchanges {
    /// Attributes the next calls to this event alone.
    pub(super) fn set_current_event(&self, seq: u64) {
        self.0.lock().event = Some(seq);
    }

    /// Records a call of a batch with this number of events.
    pub(super) fn remember(
        &self,
        at: Timestamp,
        batch: usize,
        request: Request<Bytes>,
        (result, elapsed): (&Result<VendorReply, VendorCallError>, Duration),
    ) {
        let (status, reply) = match result {
            Ok(reply) if reply.body.len() > HELD_REPLY_BYTES => {
                let start = reply.body.get(..HELD_REPLY_BYTES).unwrap_or_default();
                (Some(reply.status.as_u16()), Bytes::copy_from_slice(start))
            }
            Ok(reply) => (Some(reply.status.as_u16()), reply.body.clone()),
            Err(error) => (None, error.to_string().into()),
        };
        let mut latest = self.0.lock();
        latest.elapsed = Some(elapsed);
        let events = if latest.event.is_some() { 1 } else { batch };
        let rendered = OnceLock::new();
        let exchange = Arc::new(CallExchange { at, request, status, reply, events, rendered });
        match latest.event {
            Some(seq) => drop(latest.of_event.insert(seq, exchange)),
            None => latest.of_batch = Some(exchange),
        }
    }

    /// Returns the duration of the last call in milliseconds, if there was one.
    pub(super) fn last_milliseconds(&self) -> Option<u64> {
        let elapsed = self.0.lock().elapsed?;
        Some(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// Returns the last call about an event, if there was one. `excerpt` returns the part of a text that is
    /// stored, free of secrets.
    pub(super) fn last_call(
        &self,
        seq: u64,
        excerpt: impl Fn(String) -> String,
    ) -> Option<Arc<LastVendorCall>> {
        let latest = self.0.lock();
        let exchange = latest.of_event.get(&seq).or(latest.of_batch.as_ref()).cloned();
        drop(latest);
        exchange.map(|exchange| exchange.last_call(excerpt))
    }
}

/// The last try of an event that has not ended.
#[derive(Clone, Debug)]
pub struct FailedAttempt {
    /// The number of the event's tries.
    pub attempts: u32,
    /// The reason why the last try did not end it.
    pub reason: OutcomeReason,
    /// The last call about it, if there was one.
    pub call: Option<Arc<LastVendorCall>>,
}

/// The last tries of events that have not ended, in the memory of a destination: at most as many as it has
/// queued, or parked since its start.
#[derive(Default)]
pub(super) struct FailedAttemptLog(Mutex<HashMap<u64, FailedAttempt>>);

impl FailedAttemptLog {
    /// Records a try of an event, on top of the number `before` of earlier tries in the journal.
    pub(super) fn record_failure(
        &self,
        seq: u64,
        before: u32,
        reason: &OutcomeReason,
        call: Option<Arc<LastVendorCall>>,
    ) {
        let mut failures = self.0.lock();
        let known = failures.get(&seq).map_or(0, |failure| failure.attempts);
        let attempts = known.max(before).saturating_add(1);
        failures.insert(seq, FailedAttempt { attempts, reason: reason.clone(), call });
    }

    /// Removes the tries of an event that has ended, and returns the last.
    pub(super) fn take(&self, seq: u64) -> Option<FailedAttempt> {
        self.0.lock().remove(&seq)
    }

    /// Returns the last try of an event.
    pub(super) fn get(&self, seq: u64) -> Option<FailedAttempt> {
        self.0.lock().get(&seq).cloned()
    }
}
