//! Any HTTP endpoint, by the Standard Webhooks convention (`docs/contracts/destinations.md` section 7.13).
//!
//! A request is a bare JSON array of canonical events, each as stored in the journal, with the observed
//! user agent in its context as well, and the person's user id and traits under `profile`. The signature
//! covers the exact bytes sent.
//!
//! `webhook-id` is made of the batch's message ids, so the same batch has the same id however often
//! it is sent: receivers recognise repetitions by it. `webhook-timestamp` is the attempt's own.

mod settings;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::settings::WebhookSettings;
use super::{
    BatchScope, DeliveryLimits, Destination, Outcome, OutcomeReason, Vendor, VendorCall,
    classify_reply,
};
use tagway_core::event::{EnrichedEvent, Event, JsonObject};
use tagway_core::signature;
use tagway_settings::SecretString;

/// The webhook's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "webhook",
    deduplication: "can recognise repetitions, if the receiver keeps the webhook-id",
    aliases: &["Webhooks"],
    settings: settings::SETTINGS,
    destination: Some(|section, endpoint| {
        Box::new(WebhookDestination { settings: WebhookSettings::read(section, endpoint) })
    }),
    ..Vendor::EMPTY
};

struct WebhookDestination {
    settings: WebhookSettings,
}

#[async_trait]
impl Destination for WebhookDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            // The convention names no size; this keeps a request well under the 1 MiB that common
            // servers and functions take.
            max_events: 100,
            max_bytes: 512 * 1024,
            batch_delay: Duration::ZERO,
            // Long enough for any outage that gets repaired; an event that its receiver never
            // takes must not block its visitor for ever.
            max_age: Duration::from_secs(7 * 24 * 3600),
            concurrency: 8,
            calls_per_second: None,
            // The convention asks senders to wait 15 to 30 seconds.
            timeout: Duration::from_secs(20),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        self.settings.secrets()
    }

    fn admit_event(&self, _event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        Ok(())
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let messages: Vec<WebhookMessage<'_>> = batch.iter().map(WebhookMessage::of).collect();
        let outcome = match serde_json::to_vec(&messages) {
            Ok(body) => {
                let request = self.request(&webhook_id(batch), body.into(), call.now());
                let result = call.call(request).await;
                let is_gone = result.as_ref().is_ok_and(|reply| reply.status == StatusCode::GONE);
                if is_gone {
                    // The convention: 410 means "do not send here again". A person must act.
                    Outcome::Unauthorised(OutcomeReason::detailed("endpoint_gone", "HTTP 410"))
                } else {
                    classify_reply(&result, call.now())
                }
            }
            Err(error) => {
                Outcome::Refused(OutcomeReason::detailed("unmappable", error.to_string()))
            }
        };
        vec![outcome; batch.len()]
    }
}

impl WebhookDestination {
    fn request(&self, id: &str, body: Bytes, now: Timestamp) -> Request<Bytes> {
        let timestamp = now.as_second().to_string();
        let signature = signature::signatures(&self.settings.keys, id, &timestamp, &body);
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.settings.url.clone();
        let headers = request.headers_mut();
        headers.extend(self.settings.headers.iter().cloned());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let own = [("webhook-id", id), ("webhook-timestamp", &timestamp)];
        let signature = signature.as_deref().map(|signature| ("webhook-signature", signature));
        for (name, value) in own.into_iter().chain(signature) {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        request
    }
}

/// One event in the form that receivers get.
#[derive(Serialize)]
struct WebhookMessage<'a> {
    #[serde(flatten)]
    event: Cow<'a, Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<WebhookProfile<'a>>,
}

/// The person's user id and traits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookProfile<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    traits: &'a JsonObject,
}

impl<'a> WebhookMessage<'a> {
    fn of(event: &'a EnrichedEvent) -> Self {
        let profile = &*event.profile;
        let person =
            WebhookProfile { user_id: profile.user_id.as_deref(), traits: &profile.traits };
        let is_known = person.user_id.is_some() || !person.traits.is_empty();
        Self { event: with_user_agent(&event.event), profile: is_known.then_some(person) }
    }
}

/// Adds the observed user agent to the context, where receivers of Segment's events look for it, and leaves out
/// that an event is a test.
fn with_user_agent(event: &Event) -> Cow<'_, Event> {
    const USER_AGENT: &str = "userAgent";
    let is_said = event.context.as_ref().is_some_and(|context| context.contains_key(USER_AGENT));
    let agent = event.facts.user_agent.clone().filter(|_| !is_said);
    if agent.is_none() && event.facts.test_of.is_none() {
        return Cow::Borrowed(event);
    }
    let mut event = event.clone();
    event.facts.test_of = None;
    if let Some(agent) = agent {
        event.context.get_or_insert_default().insert(USER_AGENT.to_owned(), agent.into());
    }
    Cow::Owned(event)
}

/// Returns the batch's id, the same for the same events in the same order.
fn webhook_id(batch: &[EnrichedEvent]) -> String {
    let mut digest = Sha256::new();
    for event in batch {
        digest.update(event.event.message_id.as_bytes());
        // No message id contains this byte, so no two lists of ids are equal.
        digest.update([0]);
    }
    let digest = digest.finalize();
    let half = digest.get(..18).unwrap_or_default();
    format!("msg_{}", URL_SAFE_NO_PAD.encode(half))
}
