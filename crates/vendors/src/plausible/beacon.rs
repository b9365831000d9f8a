//! `POST /api/event`: JSON as plain text, one event, no id of any kind. The script neither reads the
//! reply nor retries.

use serde_json::{Number, Value};

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconLimits, BeaconOutcome, BeaconReply,
    BeaconRequest,
};
use crate::beacon_format::{self, CanonicalMessage, MessageBatch, put};
use tagway_core::event::{EventKind, JsonObject};

pub(super) struct PlausibleBeacon;

/// Plausible's event of a page's visibility; no action of the visitor.
const ENGAGEMENT: &str = "engagement";

impl Beacon for PlausibleBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        (path.trim_end_matches('/') == "/api/event").then_some(AllowedMethods::Post)
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let bounds = &inbound.bounds;
        let Value::Object(body) = beacon_format::tree(inbound.body, bounds)? else {
            return Err(BeaconDecodeError::Malformed("the body is not a JSON object"));
        };
        let text = |short: &str, long: &str| body.get(short).or(body.get(long))?.as_str();
        let event = text("n", "name").ok_or(BeaconDecodeError::Malformed("there is no name"))?;
        let url = text("u", "url").ok_or(BeaconDecodeError::Malformed("there is no url"))?;
        let page = beacon_format::page(Some(url), None, text("r", "referrer"));
        let mut properties = object(&body, &["p", "props", "m", "meta"], bounds);
        let revenue = object(&body, &["$", "revenue"], bounds);
        put(&mut properties, "revenue", revenue.get("amount").and_then(amount));
        put(&mut properties, "currency", revenue.get("currency").cloned());
        let message = match event {
            "pageview" => {
                CanonicalMessage::new(EventKind::Page).with_properties(joined(&page, properties))
            }
            ENGAGEMENT => {
                put(&mut properties, "engaged_ms", body.get("e").cloned());
                put(&mut properties, "scroll_depth", body.get("sd").cloned());
                CanonicalMessage::track("Page Engagement").with_properties(properties)
            }
            name => CanonicalMessage::track(name).with_properties(properties),
        };
        let mut context = beacon_format::preallocated_object();
        put(&mut context, "page", Some(page));
        // Servers send their visitor's address and user agent in the headers.
        if !inbound.is_from_page() {
            put(&mut context, "ip", inbound.field("x-forwarded-for").and_then(first_of_list));
            put(&mut context, "userAgent", inbound.field("user-agent"));
        }
        let mut source = JsonObject::new();
        put(&mut source, "client", Some("plausible"));
        put(&mut source, "version", body.get("v").cloned());
        put(&mut source, "event", Some(event));
        put(&mut context, "source", Some(source));
        let message = message.with_ids(None, Some(inbound.daily_id)).with_context(context);
        batch.push(message)
    }

    fn is_anonymous(&self, _inbound: &BeaconRequest<'_>) -> bool {
        true
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://plausible.io")
    }

    fn answer(&self, _inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match verdict {
            BeaconOutcome::RetryLater { limited } => BeaconReply::retry_later(limited),
            BeaconOutcome::Taken { .. } | BeaconOutcome::Ignored | BeaconOutcome::TooLarge => {
                BeaconReply { status: http::StatusCode::ACCEPTED, ..BeaconReply::text("ok") }
            }
        }
    }
}

/// Reads the member of one of these names: an object, or its JSON text as old scripts wrote it.
fn object(body: &JsonObject, names: &[&str], bounds: &BeaconLimits) -> JsonObject {
    let found = names.iter().find_map(|name| body.get(*name));
    match found {
        Some(Value::Object(members)) => members.clone(),
        Some(Value::String(text)) => match beacon_format::json(text.trim().as_bytes(), bounds) {
            Some(Value::Object(members)) => members,
            _ => JsonObject::new(),
        },
        _ => JsonObject::new(),
    }
}

/// Returns the first address of a comma-separated list.
fn first_of_list(list: &str) -> Option<&str> {
    list.split(',').map(str::trim).find(|address| !address.is_empty())
}

/// Reads an amount of money: a number, or its text unchanged for destinations to parse.
fn amount(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => match text.parse::<f64>().ok().and_then(Number::from_f64) {
            Some(number) => Some(Value::Number(number)),
            None => (!text.trim().is_empty()).then(|| value.clone()),
        },
        _ => None,
    }
}

fn joined(page: &JsonObject, properties: JsonObject) -> JsonObject {
    let mut all = page.clone();
    all.extend(properties);
    all
}
