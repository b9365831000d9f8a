//! Requests of Amplitude's browser libraries, and the replies that they expect (`docs/contracts/beacons.md`
//! section 6).
//!
//! The current library posts JSON to `/2/httpapi` or `/batch`, or to any other path that the site names, such
//! as the mount itself. It reads the `code` in a reply's JSON and treats a reply without one as a failure, so
//! every reply has it. The old library posts a form to `/` and waits for the text `success`, as the Identify
//! APIs do. Remote settings, diagnostics and session replays are answered and discarded.

mod event;
mod kinds;
#[cfg(test)]
mod tests;
mod to_canonical;

pub(super) use to_canonical::to_canonical;

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::beacon::{
    AllowedMethods, Beacon as Face, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{self, FormFields, MessageBatch};
use tagway_core::event::JsonObject;

pub(super) struct AmplitudeBeacon;

/// The client as `context.source` names it.
pub(super) const CLIENT: &str = "amplitude";

/// The paths of the Identify APIs: forms with people or groups instead of events, without an event type.
const IDENTIFY: &str = "/identify";
const GROUP_IDENTIFY: &str = "/groupidentify";

/// The kinds of requests of the libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AmplitudeBeaconRoute {
    /// Events, with the path that is recorded.
    Events(&'static str),
    /// Remote settings.
    Config,
    /// Reports of the library about itself.
    Diagnostics,
    /// Session replays.
    Replay,
}

/// The data that all events of one request share.
struct AmplitudeEnvelope<'a> {
    endpoint: &'static str,
    /// The library's clock when it sent them.
    at: Option<Timestamp>,
    /// The request's user agent.
    agent: Option<&'a str>,
    daily_id: &'a str,
}

impl AmplitudeBeaconRoute {
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

impl Face for AmplitudeBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        Some(match AmplitudeBeaconRoute::of(path)? {
            AmplitudeBeaconRoute::Events(_) | AmplitudeBeaconRoute::Diagnostics => {
                AllowedMethods::Post
            }
            AmplitudeBeaconRoute::Config => AllowedMethods::Get,
            AmplitudeBeaconRoute::Replay => AllowedMethods::Both,
        })
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let Some(AmplitudeBeaconRoute::Events(endpoint)) = AmplitudeBeaconRoute::of(inbound.path)
        else {
            return Ok(());
        };
        let AmplitudeUpload { events, at } = upload(inbound, batch)?;
        if let Cow::Owned(events) = &events {
            batch.add_unpacked(events.len());
        }
        let agent = inbound.field("user-agent");
        let sending = AmplitudeEnvelope { endpoint, at, agent, daily_id: inbound.daily_id };
        let mut messages = Vec::new();
        let mut is_any = false;
        for event in beacon_format::records(&events, &inbound.bounds)? {
            let Some(mut event) = batch.object(event) else { continue };
            name_identification(&mut event, endpoint);
            is_any |= event::read(event, &sending, &mut messages);
            batch.extend(messages.drain(..))?;
        }
        if is_any || !batch.is_empty() {
            Ok(())
        } else {
            Err(BeaconDecodeError::Malformed("none of the events has a type"))
        }
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://api2.amplitude.com")
    }

    fn has_unique_ids(&self) -> bool {
        false
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match verdict {
            BeaconOutcome::RetryLater { limited } => refusal(BeaconReply::retry_later(limited)),
            // The libraries then send smaller batches.
            BeaconOutcome::TooLarge => refusal(BeaconReply::too_large()),
            BeaconOutcome::Taken { events } => accepted_reply(inbound, events),
            BeaconOutcome::Ignored => accepted_reply(inbound, 0),
        }
    }
}

/// The events of a request, unparsed, and the time when the library sent them.
struct AmplitudeUpload<'a> {
    events: Cow<'a, [u8]>,
    at: Option<Timestamp>,
}

/// Reads a request except its events, and records the project's key.
fn upload<'a>(
    inbound: &BeaconRequest<'a>,
    batch: &mut MessageBatch<'_>,
) -> Result<AmplitudeUpload<'a>, BeaconDecodeError> {
    const NONE: BeaconDecodeError = BeaconDecodeError::Malformed("there are no events");
    const NAMES: [&str; 3] = ["events", "client_upload_time", "api_key"];
    if let Some([events, at, key]) = beacon_format::members(inbound.body, NAMES) {
        batch.show_key_in(key);
        let at = at.and_then(|at| beacon_format::tree(at, &inbound.bounds).ok());
        let events = Cow::Borrowed(events.ok_or(NONE)?);
        return Ok(AmplitudeUpload { events, at: at.as_ref().and_then(beacon_format::moment) });
    }
    let fields = FormFields::of_bytes(inbound.body);
    let events = ["e", "event", "identification"].into_iter().find_map(|name| fields.get(name));
    let events = events.ok_or(NONE)?;
    let at = fields.get("upload_time").and_then(beacon_format::moment_of);
    let events = beacon_format::unpacked(events, &inbound.bounds)?.into_owned();
    let key = fields.get("client").or_else(|| fields.get("api_key"));
    key.into_iter().for_each(|key| batch.show_key(key));
    Ok(AmplitudeUpload { events: Cow::Owned(events), at })
}

/// Adds the event type to a person or group of the Identify APIs, so that it reads like an event of a library.
fn name_identification(event: &mut JsonObject, endpoint: &str) {
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

/// Returns true if the request is the old library's, which posts forms.
fn is_old(inbound: &BeaconRequest<'_>) -> bool {
    let is_events =
        matches!(AmplitudeBeaconRoute::of(inbound.path), Some(AmplitudeBeaconRoute::Events(_)));
    is_events && !inbound.body.is_empty() && !matches!(inbound.body.first(), Some(b'{' | b'['))
}

fn accepted_reply(inbound: &BeaconRequest<'_>, events: usize) -> BeaconReply {
    if is_old(inbound) {
        return BeaconReply::text("success");
    }
    match AmplitudeBeaconRoute::of(inbound.path) {
        Some(AmplitudeBeaconRoute::Config) => BeaconReply::json("{}"),
        Some(AmplitudeBeaconRoute::Diagnostics | AmplitudeBeaconRoute::Replay) => {
            BeaconReply::json(r#"{"code":200}"#)
        }
        Some(AmplitudeBeaconRoute::Events(_)) | None => {
            let reply_body = json!({
                "code": 200,
                "events_ingested": events,
                "payload_size_bytes": inbound.body.len(),
                "server_upload_time": inbound.received_at.as_millisecond(),
            });
            BeaconReply::json(reply_body.to_string())
        }
    }
}

/// Makes a refusal with the body that the library reads.
fn refusal(answer: BeaconReply) -> BeaconReply {
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
    BeaconReply { content_type: Some("application/json"), body, ..answer }
}
