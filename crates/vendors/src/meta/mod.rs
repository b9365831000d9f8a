//! Meta, by the Conversions API and its Custom Audiences (`docs/contracts/destinations.md` section 2), and
//! the beacons of its pixel (`docs/contracts/beacons.md` section 4). An event that the pixel sent to the
//! gateway is sent to Meta under the same name and the same id.
//!
//! One invalid event fails its whole request, so an event that Meta would refuse becomes a dead letter
//! before the call. Delivery splits a request that is refused all the same until the bad event is alone.
//! The event id is the pixel's, if the client sends it, else the message's: Meta then counts both
//! reports, and any repetition, once.
//!
//! Decisions where the contract leaves a choice:
//! - An order without a value or without a currency is a dead letter; other events are then sent without
//!   their value. An order's value is its total, shipping and tax included, unless the settings say
//!   otherwise.
//! - An event of a page is one with a page's URL and a user agent, whoever sent it; an event of an app
//!   has the app, its system and the system's version. All others get the settings' `action_source`.
//! - An event without matching data is a dead letter: Meta requires an e-mail address, a telephone number,
//!   a cookie of its own, or the visitor's IP address with the user agent.
//! - Commerce events have the fields of the mapping table and the client's properties under Meta's own
//!   names, which win; other events have their properties, without personal ones. A click on a product is
//!   not sent: its view is.
//! - The gateway issues `_fbp` and `_fbc` to browsers that lack them, and never rewrites them.
//! - States outside North America and unknown countries are not cut to two letters (`normalise`).

mod answer;
mod audience;
mod beacon;
mod contents;
mod cookies;
mod custom;
mod map;
mod normalise;
mod places;
mod rules;
mod script;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod user;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use self::map::{MetaEvent, map};
use self::settings::MetaSettings;
use super::prices::PriceUse;
use super::{
    BatchScope, ClientLibrary, DeliveryLimits, Destination, Outcome, OutcomeReason, Vendor,
    VendorAudience, VendorCall, VendorShim, shim,
};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// Meta's name, as a destination and as the client of its own beacons.
const NAME: &str = "meta";

/// Meta's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: NAME,
    deduplication: "recognises repetitions by the event id, within 48 hours of each other",
    aliases: &[
        "Facebook Conversions API (Actions)",
        "Facebook Conversions API",
        "Facebook Conversions",
        "Facebook Pixel",
    ],
    match_keys: user::MATCH_KEYS,
    cookies: &[cookies::FBP, cookies::FBC],
    issue_cookies: Some(cookies::issue_cookies),
    settings: settings::SETTINGS,
    destination: Some(|section, endpoint| {
        Box::new(MetaDestination { settings: MetaSettings::read(section, endpoint) })
    }),
    beacon: Some(&beacon::MetaBeacon),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/meta.js"),
        needs: &[&shim::STUB, &shim::STATE],
        to_canonical: Some(beacon::to_canonical),
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/meta.js"),
        library: "/en_US/fbevents.js",
        required: &["pixel_id"],
        optional: &["order_event_id"],
        duplicate_risk: None,
    }),
    ..Vendor::EMPTY
};

/// Events in one request.
const MAX_EVENTS: usize = 1000;

/// Bytes of events in one request. Meta documents no limit; a thousand events are about as many.
const MAX_BYTES: usize = 1 << 20;

/// The partner agent that tells Meta that the gateway sent the events.
const PARTNER_AGENT: &str = "tagway";

struct MetaDestination {
    settings: MetaSettings,
}

#[async_trait]
impl Destination for MetaDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            max_events: MAX_EVENTS,
            max_bytes: 2 << 20,
            batch_delay: Duration::from_millis(500),
            max_age: Duration::from_secs(7 * 86_400),
            concurrency: 8,
            // Calls of the Conversions API have no rate limit of their own.
            calls_per_second: None,
            // Most replies come within 0.6 s; a repetition is counted once.
            timeout: Duration::from_secs(5),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        let settings = &self.settings;
        [Some(&settings.access_token), settings.app_secret.as_ref()]
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    fn price_use(&self) -> PriceUse {
        PriceUse::Orders
    }

    fn admit_event(&self, event: &EnrichedEvent, now: Timestamp) -> Result<(), Outcome> {
        match &*self.hit(event) {
            Ok(hit) if hit.is_late(now) => Err(Outcome::dead("too_old")),
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let hits: Vec<_> = batch.iter().map(|event| self.hit(event)).collect();
        let now = call.now();
        let mut ends: Vec<Option<Outcome>> =
            hits.iter().map(|hit| outcome_without_call(hit, now)).collect();
        let pairs = hits.iter().zip(&mut ends);
        let rest: Vec<(&MetaEvent, &mut Option<Outcome>)> =
            pairs.filter_map(|(hit, end)| Some((to_send(hit, end)?, end))).collect();
        let mut rest = rest.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut together, mut bytes) = (Vec::new(), 0);
            while let Some((hit, end)) = rest.next_if(|(hit, _)| {
                bytes == 0 || (bytes + hit.json.len() <= MAX_BYTES && together.len() < MAX_EVENTS)
            }) {
                bytes += hit.json.len();
                together.push((hit, end));
            }
            let body = self.body(together.iter().map(|(hit, _)| hit.json.as_str()), bytes);
            let request = self.graph(Method::POST, self.settings.events.clone(), body);
            let outcome = answer::outcome(&call.call(request).await, call.now());
            let is_over = matches!(outcome, Outcome::Retry { .. } | Outcome::Unauthorised(_));
            for (_, end) in together {
                *end = Some(outcome.clone());
            }
            if is_over {
                // The next call would fail in the same way.
                rest.for_each(|(_, end)| *end = Some(outcome.clone()));
                break;
            }
        }
        let unmentioned =
            || Outcome::Retry { reason: OutcomeReason::new("no_outcome"), after: None };
        ends.into_iter().map(|end| end.unwrap_or_else(unmentioned)).collect()
    }

    fn match_data(&self, event: &EnrichedEvent) -> Value {
        let hit = self.hit(event);
        let json = hit.as_ref().as_ref().ok().map(|hit| hit.json.as_str());
        let mut body: Value =
            json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        body.get_mut("user_data").map(Value::take).unwrap_or_default()
    }

    fn can_deduplicate(&self, event: &EnrichedEvent) -> Option<bool> {
        Some(self.hit(event).is_ok())
    }

    fn missing_list_settings(&self) -> &'static [&'static str] {
        if self.settings.audiences.is_some() { &[] } else { &["ad_account_id"] }
    }

    fn audience(&self) -> Option<&dyn VendorAudience> {
        self.settings.audiences.is_some().then_some(self)
    }
}

/// Returns the outcome of an event that must not be sent: it may have become too old while waiting.
fn outcome_without_call(hit: &Result<MetaEvent, Outcome>, now: Timestamp) -> Option<Outcome> {
    match hit {
        Ok(hit) => hit.is_late(now).then(|| Outcome::dead("too_old")),
        Err(refusal) => Some(refusal.clone()),
    }
}

fn to_send<'h>(
    hit: &'h Result<MetaEvent, Outcome>,
    end: &Option<Outcome>,
) -> Option<&'h MetaEvent> {
    hit.as_ref().ok().filter(|_| end.is_none())
}

impl MetaDestination {
    fn hit(&self, event: &EnrichedEvent) -> Arc<Result<MetaEvent, Outcome>> {
        event.rendered(|event, dropped| map(event, &self.settings, dropped))
    }

    /// Builds the body of a request with these events.
    fn body<'h>(&self, events: impl Iterator<Item = &'h str>, bytes: usize) -> String {
        let mut body = String::with_capacity(bytes + 256);
        body.push_str("{\"data\":[");
        for (index, event) in events.enumerate() {
            if index > 0 {
                body.push(',');
            }
            body.push_str(event);
        }
        body.push_str("],\"partner_agent\":\"");
        body.push_str(PARTNER_AGENT);
        body.push('"');
        if let Some(code) = &self.settings.test_event_code {
            body.push_str(",\"test_event_code\":");
            body.push_str(&json!(code).to_string());
        }
        body.push('}');
        body
    }

    /// Builds a call of Graph with this JSON body.
    fn graph(&self, method: Method, uri: Uri, body: String) -> Request<Bytes> {
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(AUTHORIZATION, self.settings.authorization.clone());
        request
    }
}
