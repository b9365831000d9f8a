//! Rehearsals: the exact requests that an event would cause at a destination, made by the vendor's own code and sent
//! nowhere. If the next request depends on the vendor's reply, its simulator replies, or an empty success where the
//! program has none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request};
use jiff::Timestamp;
use parking_lot::Mutex;

use tagway_core::event::{DroppedFields, EnrichedEvent, Event};
use tagway_delivery::{DestinationSettings, redact_secrets};
use tagway_settings::{HIDDEN, SecretRedactor, SecretString};
#[cfg(feature = "simulator")]
use tagway_simulator::vendors::{InProcessVendor, SimulatorKind};
use tagway_vendors::mapping::MissingValue;
use tagway_vendors::{
    Outcome, OutcomeReason, VendorCall, VendorCallError, VendorReply, request_preview,
};

/// The most characters of a request, or of a text about it.
pub const SHOWN_CHARS: usize = 100_000;

/// The reason of a panic in a vendor's code.
const DEFECT: &str = "defect";

/// The most requests of one rehearsal that are kept: vendors that are called in steps need five.
const MAX_REQUESTS: usize = 20;

/// A request that would be sent, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RehearsedRequest {
    /// The method, in capitals.
    pub method: String,
    /// The address with its query.
    pub url: String,
    /// The header fields, sorted.
    pub headers: Vec<(String, String)>,
    /// The body for people: JSON indented, a form one field a line.
    pub body: String,
}

/// The end that an event would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RehearsedEnding {
    /// It would be held until the visitor chooses about these categories.
    Held(Vec<String>),
    /// The vendor's code reports this outcome, if any. The details are free of secrets.
    Ended(Option<Outcome>),
}

/// The rehearsal of one event at one destination.
#[derive(Clone, Debug)]
pub struct EventRehearsal {
    /// The destination's name.
    pub destination: Arc<str>,
    /// The end that the event would have.
    pub ending: RehearsedEnding,
    /// The event as the mapping leaves it; absent if it would be held.
    pub mapped: Option<Arc<Event>>,
    /// The requests in their order.
    pub requests: Vec<RehearsedRequest>,
    /// The fields that the destination would not receive.
    pub dropped: DroppedFields,
    /// The values of the mapping that the event lacks.
    pub problems: Vec<MissingValue>,
}

/// Rehearses an event of the journal, with its visitor's profile, at a destination.
pub async fn rehearse(
    settings: &DestinationSettings,
    enriched: EnrichedEvent,
    now: Timestamp,
    redaction: &SecretRedactor,
) -> EventRehearsal {
    let mut rehearsal = EventRehearsal {
        destination: settings.name.clone(),
        ending: RehearsedEnding::Ended(None),
        mapped: None,
        requests: Vec::new(),
        dropped: DroppedFields::default(),
        problems: Vec::new(),
    };
    if settings.is_held_for_consent(&enriched.event) {
        rehearsal.ending = RehearsedEnding::Held(settings.filter.consent.clone());
        return rehearsal;
    }
    rehearsal.problems = settings.mapping.missing(enriched.clone());
    for missing in &mut rehearsal.problems {
        missing.problem = redaction.excerpt(&missing.problem, SHOWN_CHARS);
    }
    let admitted = catch_unwind(AssertUnwindSafe(|| settings.rehearse(enriched.clone(), now)));
    // As in a worker: a defect in a vendor's code ends this event only.
    let (enriched, screening) =
        admitted.unwrap_or_else(|_panic| (enriched, Err(Outcome::dead(DEFECT))));
    rehearsal.dropped = enriched.dropped_fields().clone();
    rehearsal.mapped = Some(enriched.event.clone());
    let mut outcome = match screening {
        Err(outcome) => Some(outcome),
        Ok(()) => {
            let stage = RehearsalCall {
                #[cfg(feature = "simulator")]
                vendor: SimulatorKind::of_vendor(settings.vendor).map(InProcessVendor::trusting),
                secrets: settings.destination.secrets(),
                redaction: redaction.clone(),
                now,
                requests: Mutex::default(),
            };
            // The running destination must not learn from replies that are not the vendor's.
            let fresh = settings.destination.without_memory();
            let destination = fresh.as_ref().unwrap_or(&settings.destination);
            let batch = [enriched];
            let delivered = AssertUnwindSafe(destination.deliver(&batch, &stage)).catch_unwind();
            let outcomes = delivered.await.unwrap_or_else(|_panic| vec![Outcome::dead(DEFECT)]);
            rehearsal.requests = stage.requests.into_inner();
            outcomes.into_iter().next()
        }
    };
    let reason = outcome.as_mut().and_then(Outcome::reason_mut);
    if let Some(detail) = reason.and_then(|reason| reason.detail.as_mut()) {
        *detail = redaction.excerpt(detail, SHOWN_CHARS).into();
    }
    rehearsal.ending = RehearsedEnding::Ended(outcome);
    rehearsal
}

impl EventRehearsal {
    /// Returns the name of the outcome: `sent`, `skipped`, `dead`, `retry`, `paused` or `held`.
    pub fn outcome(&self) -> &'static str {
        match &self.ending {
            RehearsedEnding::Held(_) => "held",
            RehearsedEnding::Ended(None | Some(Outcome::Delivered)) => "sent",
            RehearsedEnding::Ended(Some(Outcome::Skipped(_))) => "skipped",
            RehearsedEnding::Ended(Some(Outcome::Dead(_) | Outcome::Refused(_))) => "dead",
            RehearsedEnding::Ended(Some(Outcome::Retry { .. } | Outcome::Throttled { .. })) => {
                "retry"
            }
            RehearsedEnding::Ended(Some(Outcome::Unauthorised(_))) => "paused",
        }
    }

    /// Returns the reason, if the event would not be delivered.
    pub fn reason(&self) -> Option<&OutcomeReason> {
        match &self.ending {
            RehearsedEnding::Held(_) | RehearsedEnding::Ended(None | Some(Outcome::Delivered)) => {
                None
            }
            RehearsedEnding::Ended(Some(
                Outcome::Skipped(reason)
                | Outcome::Dead(reason)
                | Outcome::Refused(reason)
                | Outcome::Unauthorised(reason)
                | Outcome::Retry { reason, .. }
                | Outcome::Throttled { reason, .. },
            )) => Some(reason),
        }
    }
}

/// Records the requests, and replies for the vendor.
struct RehearsalCall {
    #[cfg(feature = "simulator")]
    vendor: Option<InProcessVendor>,
    secrets: Vec<SecretString>,
    redaction: SecretRedactor,
    now: Timestamp,
    requests: Mutex<Vec<RehearsedRequest>>,
}

impl RehearsalCall {
    #[cfg(feature = "simulator")]
    fn reply(&self, request: &Request<Bytes>) -> http::Response<Bytes> {
        let vendor = self.vendor.as_ref();
        vendor.map(|vendor| vendor.answer(request, self.now)).unwrap_or_default()
    }

    #[cfg(not(feature = "simulator"))]
    fn reply(&self, _request: &Request<Bytes>) -> http::Response<Bytes> {
        http::Response::default()
    }

    fn record(&self, request: &Request<Bytes>) {
        let request = without_sensitive_fields(request);
        let shown =
            |text: &str| redact_secrets(&self.secrets, self.redaction.excerpt(text, SHOWN_CHARS));
        let headers = request_preview::headers(&request).into_iter();
        let recorded = RehearsedRequest {
            method: request.method().to_string(),
            url: shown(&request.uri().to_string()),
            headers: headers.map(|(name, value)| (name, shown(&value))).collect(),
            body: shown(&request_preview::pretty_body(&request)),
        };
        let mut requests = self.requests.lock();
        if requests.len() < MAX_REQUESTS {
            requests.push(recorded);
        }
    }
}

#[async_trait]
impl VendorCall for RehearsalCall {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        self.record(&request);
        let (head, body) = self.reply(&request).into_parts();
        Ok(VendorReply { status: head.status, headers: head.headers, body })
    }

    fn register_secret(&self, secret: &SecretString) {
        self.redaction.add_issued(secret);
    }

    fn now(&self) -> Timestamp {
        self.now
    }
}

/// The request with the vendor's sensitive fields hidden.
fn without_sensitive_fields(request: &Request<Bytes>) -> Request<Bytes> {
    let mut request = request.clone();
    for value in request.headers_mut().values_mut().filter(|value| value.is_sensitive()) {
        *value = HeaderValue::from_static(HIDDEN);
    }
    request
}
