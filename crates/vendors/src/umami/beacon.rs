//! `POST /api/send`: one event as JSON; `POST /api/batch`: a list of them. The script sends no cookies,
//! reads the ids of session and visit from the reply, and never retries.
//!
//! Servers may send their visitor's address and user agent in the payload: the gateway trusts those with
//! the site's token.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::beacon::{
    AllowedMethods, Beacon, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{self, CanonicalMessage, MessageBatch, put};
use tagway_core::event::{EventKind, JsonObject};

pub(super) struct UmamiBeacon;

const BATCH: &str = "/api/batch";

/// The path of health checks.
const HEARTBEAT: &str = "/api/heartbeat";

/// The longest token that is echoed, in bytes; the gateway's own has 32 characters.
const MAX_TOKEN_BYTES: usize = 2048;

/// Fields of a page's own performance measurements.
const MEASURES: [&str; 6] = ["ttfb", "fcp", "lcp", "cls", "inp", "duration"];

impl Beacon for UmamiBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        match path.trim_end_matches('/') {
            "/api/send" | BATCH => Some(AllowedMethods::Post),
            HEARTBEAT => Some(AllowedMethods::Get),
            _ => None,
        }
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        if inbound.path.trim_end_matches('/') == HEARTBEAT {
            return Ok(());
        }
        if inbound.body.first() != Some(&b'[') {
            let event = beacon_format::tree(inbound.body, &inbound.bounds)?;
            return batch.push(message(event, inbound)?);
        }
        for event in beacon_format::records(inbound.body, &inbound.bounds)? {
            let Some(event) = batch.object(event) else { continue };
            if let Ok(message) = message(Value::Object(event), inbound) {
                batch.push(message)?;
            }
        }
        Ok(())
    }

    fn is_anonymous(&self, _inbound: &BeaconRequest<'_>) -> bool {
        true
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        let events = match verdict {
            BeaconOutcome::RetryLater { limited } => return BeaconReply::retry_later(limited),
            BeaconOutcome::Taken { events } => events,
            BeaconOutcome::Ignored | BeaconOutcome::TooLarge => 0,
        };
        if inbound.path.trim_end_matches('/') == HEARTBEAT {
            return BeaconReply::json(r#"{"ok":true}"#);
        }
        let session = id(&[inbound.daily_id]);
        let token = inbound.field("x-umami-cache").filter(|token| !token.is_empty());
        let token = token.filter(|token| token.len() <= MAX_TOKEN_BYTES).map(str::to_owned);
        let cache = token.unwrap_or_else(|| session.simple().to_string());
        let body = if inbound.path.trim_end_matches('/') == BATCH {
            let (size, errors) = (events, 0);
            json!({
                "size": size, "processed": events, "errors": errors, "details": [], "cache": cache,
            })
        } else {
            // Umami's visits end with the hour as well.
            let hour = (inbound.received_at.as_second() / 3600).to_string();
            let visit = id(&[inbound.daily_id, &hour]);
            json!({ "cache": cache, "sessionId": session, "visitId": visit })
        };
        BeaconReply::json(body.to_string())
    }
}

/// Returns an id that is the same for the same parts. The visitor's daily id already differs by site.
fn id(parts: &[&str]) -> Uuid {
    let mut hash = Sha256::new();
    hash.update("umami");
    for part in parts {
        hash.update([0]);
        hash.update(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, of)| *byte = of);
    Builder::from_random_bytes(bytes).into_uuid()
}

fn message(
    event: Value,
    inbound: &BeaconRequest<'_>,
) -> Result<CanonicalMessage, BeaconDecodeError> {
    let Value::Object(mut event) = event else {
        return Err(BeaconDecodeError::Malformed("an event is not an object"));
    };
    let Some(Value::Object(mut payload)) = event.remove("payload") else {
        return Err(BeaconDecodeError::Malformed("there is no payload"));
    };
    let sites = ["website", "link", "pixel"];
    if !sites.iter().any(|site| payload.get(*site).is_some_and(Value::is_string)) {
        return Err(BeaconDecodeError::Malformed("there is no website"));
    }
    let data = match payload.remove("data") {
        Some(Value::Object(data)) => data,
        _ => JsonObject::new(),
    };
    let stated = |name: &str| payload.get(name)?.as_str().filter(|text| !text.is_empty());
    let url = stated("url").map(|url| full_url(url, stated("hostname")));
    let page = beacon_format::page(url.as_deref(), stated("title"), stated("referrer"));
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let mut properties = JsonObject::new();
    let (message, theirs) = match (kind, stated("name")) {
        ("event", None) => {
            properties.extend(page.clone());
            put(&mut properties, "tag", stated("tag"));
            properties.extend(data);
            (CanonicalMessage::new(EventKind::Page).with_properties(properties), "pageview")
        }
        ("event", Some(name)) => {
            put(&mut properties, "tag", stated("tag"));
            properties.extend(data);
            (CanonicalMessage::track(name).with_properties(properties), name)
        }
        ("identify", _) => (CanonicalMessage::new(EventKind::Identify).with_traits(data), kind),
        ("performance", _) => {
            for measure in MEASURES {
                put(&mut properties, measure, payload.get(measure).cloned());
            }
            (CanonicalMessage::track("Page Performance").with_properties(properties), kind)
        }
        _ => return Err(BeaconDecodeError::Malformed("the type is unknown")),
    };
    let mut context = beacon_format::preallocated_object();
    put(&mut context, "page", Some(page));
    put(&mut context, "locale", stated("language"));
    if !inbound.is_from_page() {
        put(&mut context, "ip", stated("ip"));
        put(&mut context, "userAgent", stated("userAgent"));
    }
    put(&mut context, "screen", stated("screen").and_then(beacon_format::screen));
    let endpoint = inbound.path.trim_end_matches('/');
    let source = json!({ "client": "umami", "endpoint": endpoint, "event": theirs });
    put(&mut context, "source", Some(source));
    let message = message.with_ids(stated("id"), Some(inbound.daily_id)).with_context(context);
    Ok(message)
}

/// Completes a URL that old scripts send without its host.
fn full_url(url: &str, host: Option<&str>) -> String {
    match host {
        Some(host) if url.starts_with('/') => format!("https://{host}{url}"),
        _ => url.to_owned(),
    }
}
