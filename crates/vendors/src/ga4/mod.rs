//! Google Analytics 4, by the Measurement Protocol for web streams
//! (`docs/contracts/destinations.md` section 1).
//!
//! The endpoint answers 204 to any request, so everything is checked here, before the call: names, lengths,
//! counts, types. Data that Google would ignore or refuse is left out or ends as a dead letter with its
//! reason; all delivered data is valid by Google's documentation.
//!
//! Decisions where the contract leaves a choice:
//! - An order without an id, a purchase without products, a search without a term are dead letters: Google
//!   requires them. So is an order with a value when neither the event nor the settings name a currency; set
//!   one, and retry the dead letters. Other events are then sent without their value.
//! - Standard events have the parameters of the mapping table, then the client's other properties, as other
//!   events do: flattened one level, under their own names made valid. Texts are cut to Google's lengths,
//!   surplus parameters are dropped.
//! - Names of other events are made valid as those of parameters are: letters of any language, digits and
//!   `_`, other characters become a `_`, and a name that begins with no letter gets `e_` in front.
//! - Texts that look like e-mail addresses are never sent. The person's data is sent as `user_data` only
//!   where the settings ask for it, of a known user who has not denied it.

mod beacon;
mod commerce;
mod device_context;
mod identity;
mod map;
mod params;
mod rules;
mod script;
mod settings;
#[cfg(test)]
mod tests;
mod user_data;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use jiff::Timestamp;

use self::map::{Ga4Envelope, Ga4Event, map};
use self::settings::Ga4Settings;
use super::prices::PriceUse;
use super::{
    BatchScope, ClientLibrary, DeliveryLimits, Destination, Outcome, Vendor, VendorCall,
    VendorCallError, VendorReply, VendorShim, classify_reply, shim,
};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// GA4's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "ga4",
    deduplication: "recognises orders by their transaction_id, and counts every other event again",
    aliases: &["Google Analytics 4", "Google Analytics 4 Web", "Google Analytics 4 (GA4)", "GA4"],
    cookies: &["_ga", "_ga_*"],
    settings: settings::SETTINGS,
    match_keys: map::MATCH_KEYS,
    destination: Some(|section, endpoint| {
        Box::new(Ga4Destination { settings: Ga4Settings::read(section, endpoint) })
    }),
    beacon: Some(&beacon::Ga4Beacon),
    fit_name: Some(params::fit_name),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/ga4.js"),
        needs: &[&shim::STUB, &shim::STATE],
        to_canonical: Some(beacon::to_canonical),
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/ga4.js"),
        library: "/gtag/js?id={measurement_id}",
        required: &["measurement_id"],
        optional: &[],
        duplicate_risk: Some("GA4 knows no event id: all but orders is counted twice"),
    }),
    ..Vendor::EMPTY
};

/// The most events in one request (Measurement Protocol limits).
const MAX_EVENTS: usize = 25;

/// The most bytes of events in one request: the documented limit is 130 kB, less the envelope.
const MAX_EVENT_BYTES: usize = 120_000;

/// The age up to which an event may be dated: 72 hours (Measurement Protocol reference, `timestamp_micros`).
const MAX_AGE: Duration = Duration::from_secs(72 * 3600);

/// The age below which an event needs no time of its own: its arrival is close enough.
const FRESH: Duration = Duration::from_secs(1);

/// The bytes of an event in a body besides its name and parameters, and of the envelope before all events.
const EVENT_OVERHEAD_BYTES: usize = 64;
const ENVELOPE_BYTES: usize = 512;

struct Ga4Destination {
    settings: Ga4Settings,
}

#[async_trait]
impl Destination for Ga4Destination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Visitor,
            max_events: MAX_EVENTS,
            max_bytes: 256 * 1024,
            batch_delay: Duration::ZERO,
            max_age: if self.settings.drop_late { MAX_AGE } else { Duration::MAX },
            concurrency: 32,
            calls_per_second: None,
            timeout: Duration::from_secs(10),
        }
    }

    fn max_event_age(&self) -> Duration {
        MAX_AGE
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.settings.api_secret.clone()]
    }

    fn price_use(&self) -> PriceUse {
        PriceUse::Orders
    }

    fn match_data(&self, event: &EnrichedEvent) -> serde_json::Value {
        let hit = self.hit(event);
        let envelope = hit.as_ref().as_ref().ok().map(|hit| &hit.envelope);
        serde_json::to_value(envelope).unwrap_or_default()
    }

    fn can_deduplicate(&self, event: &EnrichedEvent) -> Option<bool> {
        // GA4 recognises purchases only, by their transaction.
        let hit = self.hit(event);
        let hit = hit.as_ref().as_ref().ok().filter(|hit| hit.name == "purchase")?;
        Some(hit.params.contains("\"transaction_id\":"))
    }

    fn admit_event(&self, event: &EnrichedEvent, now: Timestamp) -> Result<(), Outcome> {
        match &*self.hit(event) {
            Ok(hit) if hit.bytes() > MAX_EVENT_BYTES => Err(Outcome::dead("event_too_large")),
            Ok(_) if self.is_late(event, now) => Err(Outcome::dead("too_old")),
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let hits: Vec<_> = batch.iter().map(|event| self.hit(event)).collect();
        let mut pairs = Vec::with_capacity(batch.len());
        for (hit, event) in hits.iter().zip(batch) {
            pairs.push((self.to_send(hit, event, call.now()), event));
        }
        let mut rest = pairs.into_iter().peekable();
        while let Some((first, _)) = rest.peek() {
            let first = match first {
                Ok(first) => *first,
                Err(outcome) => {
                    outcomes.push(outcome.clone());
                    rest.next();
                    continue;
                }
            };
            let (mut together, mut bytes) = (Vec::new(), 0);
            while let Some((Ok(hit), event)) =
                rest.next_if(|(hit, _)| hit.as_ref().is_ok_and(|hit| fits(first, hit, bytes)))
            {
                bytes += hit.bytes();
                together.push((hit, event));
            }
            let body = render(&first.envelope, &together, call.now());
            let result = call.call(self.request(body)).await;
            let ended = together.iter().map(|(hit, _)| self.outcome(hit, &result, call.now()));
            outcomes.extend(ended);
            if matches!(outcomes.last(), Some(Outcome::Retry { .. } | Outcome::Unauthorised(_))) {
                // The visitor's later events wait behind these, or they would overtake them.
                let last = outcomes.last().cloned();
                outcomes.extend(rest.map_while(|_| last.clone()));
                break;
            }
        }
        outcomes
    }
}

fn fits(first: &Ga4Event, hit: &Ga4Event, bytes: usize) -> bool {
    first.envelope == hit.envelope && (bytes == 0 || bytes + hit.bytes() <= MAX_EVENT_BYTES)
}

impl Ga4Destination {
    fn hit(&self, event: &EnrichedEvent) -> Arc<Result<Ga4Event, Outcome>> {
        event.rendered(|event, dropped| map(event, &self.settings, dropped))
    }

    /// Returns the event, or its outcome without a call: it may have waited for another try since its
    /// admission.
    fn to_send<'h>(
        &self,
        hit: &'h Result<Ga4Event, Outcome>,
        event: &EnrichedEvent,
        now: Timestamp,
    ) -> Result<&'h Ga4Event, Outcome> {
        match hit {
            Ok(_) if self.is_late(event, now) => Err(Outcome::dead("too_old")),
            Ok(hit) => Ok(hit),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    /// Returns true if the event is older than Google takes, and the settings drop such events.
    fn is_late(&self, event: &EnrichedEvent, now: Timestamp) -> bool {
        self.settings.drop_late && age(event, now) > MAX_AGE
    }

    fn request(&self, body: Bytes) -> Request<Bytes> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.collect.clone();
        let json = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        request
    }

    /// Returns the outcome of a reply for one event of the request. A purchase is deduplicated by Google, so
    /// it may always be sent again; for other events a timeout leaves the arrival uncertain.
    fn outcome(
        &self,
        hit: &Ga4Event,
        result: &Result<VendorReply, VendorCallError>,
        now: Timestamp,
    ) -> Outcome {
        let is_ambiguous = result.as_ref().is_err_and(VendorCallError::is_ambiguous);
        if is_ambiguous && !self.settings.retry_ambiguous && hit.name != "purchase" {
            return Outcome::dead("ambiguous_timeout");
        }
        classify_reply(result, now)
    }
}

/// Builds the body of a request. One event has its time on the whole request, several have their own.
fn render(
    envelope: &Ga4Envelope,
    together: &[(&Ga4Event, &EnrichedEvent)],
    now: Timestamp,
) -> Bytes {
    let own: usize = together.iter().map(|(hit, _)| hit.bytes() + EVENT_OVERHEAD_BYTES).sum();
    let mut body = Vec::with_capacity(own + ENVELOPE_BYTES);
    // All of the envelope can be written as JSON.
    let _written = serde_json::to_writer(&mut body, envelope);
    // The events belong into the same object.
    body.pop();
    let is_alone = together.len() == 1;
    if let [(_, event)] = together
        && let Some(micros) = timestamp_micros(event, now)
    {
        body.extend_from_slice(format!(",\"timestamp_micros\":{micros}").as_bytes());
    }
    body.extend_from_slice(b",\"events\":");
    for (index, (hit, event)) in together.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"[{\"name\":" } else { b",{\"name\":" });
        let _written = serde_json::to_writer(&mut body, &hit.name);
        body.extend_from_slice(b",\"params\":");
        body.extend_from_slice(hit.params.as_bytes());
        if let Some(micros) = timestamp_micros(event, now).filter(|_| !is_alone) {
            body.pop();
            body.extend_from_slice(format!(",\"timestamp_micros\":{micros}}}").as_bytes());
        }
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    Bytes::from(body)
}

/// Returns the event's own time, if it differs from the arrival.
fn timestamp_micros(event: &EnrichedEvent, now: Timestamp) -> Option<i64> {
    let age = age(event, now);
    (age > FRESH && age <= MAX_AGE).then(|| event.event.timestamp.as_microsecond())
}

fn age(event: &EnrichedEvent, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(event.event.timestamp)).unwrap_or(Duration::ZERO)
}
