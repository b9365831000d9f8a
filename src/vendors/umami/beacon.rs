//! `POST /api/send`: one event as JSON; `POST /api/batch`: a list of them. The script sends no cookies,
//! reads ids of session and visit from the answer, and never tries again.
//!
//! Address and user agent may stand in the payload for servers that call: the gateway believes those that
//! show the site's token.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::event::{Kind, Object};
use crate::vendors::beacon::{Answer, Beacon, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{self, Message, MessageBatch, put};

pub(super) struct Umami;

const BATCH: &str = "/api/batch";

/// Asked by those that look whether the server lives.
const HEARTBEAT: &str = "/api/heartbeat";

/// The longest token that is given back; ours has 32 characters.
const MAX_TOKEN_BYTES: usize = 2048;

/// What a page measured of its own loading.
const MEASURES: [&str; 6] = ["ttfb", "fcp", "lcp", "cls", "inp", "duration"];

impl Beacon for Umami {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        match path.trim_end_matches('/') {
            "/api/send" | BATCH => Some(Methods::Post),
            HEARTBEAT => Some(Methods::Get),
            _ => None,
        }
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        if inbound.path.trim_end_matches('/') == HEARTBEAT {
            return Ok(());
        }
        if inbound.body.first() != Some(&b'[') {
            let event = wire::tree(inbound.body, &inbound.bounds)?;
            return batch.push(&message(event, inbound)?);
        }
        for event in wire::records(inbound.body, &inbound.bounds)? {
            let Some(event) = batch.object(event) else { continue };
            if let Ok(message) = message(Value::Object(event), inbound) {
                batch.push(&message)?;
            }
        }
        Ok(())
    }

    fn is_anonymous(&self, _inbound: &Inbound<'_>) -> bool {
        true
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        let events = match verdict {
            Verdict::Later { limited } => return Answer::later(limited),
            Verdict::Taken { events } => events,
            Verdict::Ignored | Verdict::TooLarge => 0,
        };
        if inbound.path.trim_end_matches('/') == HEARTBEAT {
            return Answer::json(r#"{"ok":true}"#);
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
            // A visit of theirs ends with the hour, too.
            let hour = (inbound.received_at.as_second() / 3600).to_string();
            let visit = id(&[inbound.daily_id, &hour]);
            json!({ "cache": cache, "sessionId": session, "visitId": visit })
        };
        Answer::json(body.to_string())
    }
}

/// An id that is the same for the same parts. The visitor's id of the day is already the site's own.
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

fn message(event: Value, inbound: &Inbound<'_>) -> Result<Object, DecodeError> {
    let Value::Object(mut event) = event else {
        return Err(DecodeError::Malformed("an event is not an object"));
    };
    let Some(Value::Object(mut payload)) = event.remove("payload") else {
        return Err(DecodeError::Malformed("there is no payload"));
    };
    let sites = ["website", "link", "pixel"];
    if !sites.iter().any(|site| payload.get(*site).is_some_and(Value::is_string)) {
        return Err(DecodeError::Malformed("there is no website"));
    }
    let data = match payload.remove("data") {
        Some(Value::Object(data)) => data,
        _ => Object::new(),
    };
    let said = |name: &str| payload.get(name)?.as_str().filter(|text| !text.is_empty());
    let url = said("url").map(|url| full_url(url, said("hostname")));
    let page = wire::page(url.as_deref(), said("title"), said("referrer"));
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let mut properties = Object::new();
    let (message, theirs) = match (kind, said("name")) {
        ("event", None) => {
            properties.extend(page.clone());
            put(&mut properties, "tag", said("tag"));
            properties.extend(data);
            (Message::new(Kind::Page).with("properties", Some(properties)), "pageview")
        }
        ("event", Some(name)) => {
            put(&mut properties, "tag", said("tag"));
            properties.extend(data);
            (Message::track(name).with("properties", Some(properties)), name)
        }
        ("identify", _) => (Message::new(Kind::Identify).with("traits", Some(data)), kind),
        ("performance", _) => {
            for measure in MEASURES {
                put(&mut properties, measure, payload.get(measure).cloned());
            }
            (Message::track("Page Performance").with("properties", Some(properties)), kind)
        }
        _ => return Err(DecodeError::Malformed("the type is unknown")),
    };
    let mut context = wire::roomy();
    put(&mut context, "page", Some(page));
    put(&mut context, "locale", said("language"));
    if !inbound.is_of_page() {
        put(&mut context, "ip", said("ip"));
        put(&mut context, "userAgent", said("userAgent"));
    }
    put(&mut context, "screen", said("screen").and_then(wire::screen));
    let endpoint = inbound.path.trim_end_matches('/');
    let source = json!({ "client": "umami", "endpoint": endpoint, "event": theirs });
    put(&mut context, "source", Some(source));
    let message = message
        .with_id("userId", said("id"))
        .with_id("anonymousId", Some(inbound.daily_id))
        .with("context", Some(context));
    Ok(message.finish())
}

/// Old scripts send the URL without its host.
fn full_url(url: &str, host: Option<&str>) -> String {
    match host {
        Some(host) if url.starts_with('/') => format!("https://{host}{url}"),
        _ => url.to_owned(),
    }
}
