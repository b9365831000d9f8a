//! What Amplitude's browser libraries send, and what they want to hear (`contracts/beacons.md`
//! section 6).
//!
//! The library of today posts JSON to `/2/httpapi` or `/batch`, or to whatever else the site names,
//! such as the mount itself. It reads the `code` in an answer's JSON and takes an answer without one
//! for a failure, so every answer has it. The old library posts a form to `/` and waits for the text
//! `success`, as do those that call the Identify APIs. Remote settings, diagnostics and session replays are answered and left.

mod event;
mod kinds;
mod retell;
#[cfg(test)]
mod tests;

pub(super) use retell::retell;

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::event::Object;
use crate::vendors::beacon::{Answer, Beacon as Face, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{self, Fields, MessageBatch};

pub(super) struct Beacon;

/// The client as `context.source` names it.
pub(super) const CLIENT: &str = "amplitude";

/// The Identify APIs: forms with people or groups in place of events, which name no type.
const IDENTIFY: &str = "/identify";
const GROUP_IDENTIFY: &str = "/groupidentify";

/// What the libraries ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    /// Events, and the path as it is noted.
    Events(&'static str),
    /// Remote settings.
    Config,
    /// How the library itself fares.
    Diagnostics,
    /// Session replays.
    Replay,
}

/// What all events of one request share.
struct Sending<'a> {
    endpoint: &'static str,
    /// The library's clock when it sent them.
    at: Option<Timestamp>,
    /// The request's user agent.
    agent: Option<&'a str>,
    daily_id: &'a str,
}

impl Endpoint {
    fn of(path: &str) -> Option<Self> {
        match path.trim_end_matches('/') {
            "" => Some(Self::Events("/")),
            "/2/httpapi" => Some(Self::Events("/2/httpapi")),
            "/batch" => Some(Self::Events("/batch")),
            "/httpapi" => Some(Self::Events("/httpapi")),
            IDENTIFY => Some(Self::Events(IDENTIFY)),
            GROUP_IDENTIFY => Some(Self::Events(GROUP_IDENTIFY)),
            "/v1/capture" => Some(Self::Diagnostics),
            below if below == "/config" || below.starts_with("/config/") => Some(Self::Config),
            below if below.starts_with("/sessions/v2/") => Some(Self::Replay),
            _ => None,
        }
    }
}

impl Face for Beacon {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        Some(match Endpoint::of(path)? {
            Endpoint::Events(_) | Endpoint::Diagnostics => Methods::Post,
            Endpoint::Config => Methods::Get,
            Endpoint::Replay => Methods::Both,
        })
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        let Some(Endpoint::Events(endpoint)) = Endpoint::of(inbound.path) else { return Ok(()) };
        let Upload { events, at } = upload(inbound, batch)?;
        if let Cow::Owned(events) = &events {
            batch.add_unpacked(events.len());
        }
        let agent = inbound.field("user-agent");
        let sending = Sending { endpoint, at, agent, daily_id: inbound.daily_id };
        let mut messages = Vec::new();
        let mut is_any = false;
        for event in wire::records(&events, &inbound.bounds)? {
            let Some(mut event) = batch.object(event) else { continue };
            name_identification(&mut event, endpoint);
            is_any |= event::read(event, &sending, &mut messages);
            batch.extend(messages.drain(..))?;
        }
        if is_any || !batch.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("none of the events has a type"))
        }
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://api2.amplitude.com")
    }

    fn has_unique_ids(&self) -> bool {
        false
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Later { limited } => refusal(Answer::later(limited)),
            // The libraries send smaller batches then.
            Verdict::TooLarge => refusal(Answer::too_large()),
            Verdict::Taken { events } => taken(inbound, events),
            Verdict::Ignored => taken(inbound, 0),
        }
    }
}

/// The events of a request, unread, and when the library sent them.
struct Upload<'a> {
    events: Cow<'a, [u8]>,
    at: Option<Timestamp>,
}

/// Reads a request, but for its events, and notes the project's key.
fn upload<'a>(inbound: &Inbound<'a>, batch: &mut MessageBatch) -> Result<Upload<'a>, DecodeError> {
    const NONE: DecodeError = DecodeError::Malformed("there are no events");
    const NAMES: [&str; 3] = ["events", "client_upload_time", "api_key"];
    if let Some([events, at, key]) = wire::members(inbound.body, NAMES) {
        batch.show_key_in(key);
        let at = at.and_then(|at| wire::tree(at, &inbound.bounds).ok());
        let events = Cow::Borrowed(events.ok_or(NONE)?);
        return Ok(Upload { events, at: at.as_ref().and_then(wire::moment) });
    }
    let fields = Fields::of_bytes(inbound.body);
    let events = ["e", "event", "identification"].into_iter().find_map(|name| fields.get(name));
    let events = events.ok_or(NONE)?;
    let at = fields.get("upload_time").and_then(wire::moment_of);
    let events = wire::unpacked(events, &inbound.bounds)?.into_owned();
    let key = fields.get("client").or_else(|| fields.get("api_key"));
    key.into_iter().for_each(|key| batch.show_key(key));
    Ok(Upload { events: Cow::Owned(events), at })
}

/// Makes a person or group of the Identify APIs an event as the libraries send it.
fn name_identification(event: &mut Object, endpoint: &str) {
    let event_type = match endpoint {
        IDENTIFY => "$identify",
        GROUP_IDENTIFY => "$groupidentify",
        _ => return,
    };
    event.insert("event_type".to_owned(), event_type.into());
    if let Some(Value::String(group_type)) = event.swap_remove("group_type")
        && let Some(value) = event.swap_remove("group_value")
    {
        event.insert("groups".to_owned(), json!({ group_type: value }));
    }
}

/// Whether the request is the old library's, which posts forms.
fn is_old(inbound: &Inbound<'_>) -> bool {
    let is_events = matches!(Endpoint::of(inbound.path), Some(Endpoint::Events(_)));
    is_events && !inbound.body.is_empty() && !matches!(inbound.body.first(), Some(b'{' | b'['))
}

fn taken(inbound: &Inbound<'_>, events: usize) -> Answer {
    if is_old(inbound) {
        return Answer::text("success");
    }
    match Endpoint::of(inbound.path) {
        Some(Endpoint::Config) => Answer::json("{}"),
        Some(Endpoint::Diagnostics | Endpoint::Replay) => Answer::json(r#"{"code":200}"#),
        Some(Endpoint::Events(_)) | None => {
            let said = json!({
                "code": 200,
                "events_ingested": events,
                "payload_size_bytes": inbound.body.len(),
                "server_upload_time": inbound.received_at.as_millisecond(),
            });
            Answer::json(said.to_string())
        }
    }
}

/// A refusal in the words that the library reads.
fn refusal(answer: Answer) -> Answer {
    let text = match answer.status {
        StatusCode::PAYLOAD_TOO_LARGE => r#"{"code":413,"error":"Payload too large"}"#,
        StatusCode::TOO_MANY_REQUESTS => {
            "{\"code\":429,\"error\":\"Too many requests\",\"eps_threshold\":0,\
             \"throttled_devices\":{},\"throttled_users\":{},\"throttled_events\":[],\
             \"exceeded_daily_quota_devices\":{},\"exceeded_daily_quota_users\":{}}"
        }
        _ => r#"{"code":503,"error":"Service unavailable"}"#,
    };
    let body = Bytes::from_static(text.as_bytes());
    Answer { content_type: Some("application/json"), body, ..answer }
}
