//! The beacons of Mixpanel's browser library and the replies that it expects (`docs/contracts/beacons.md`
//! section 5).
//!
//! `/track` takes events, `/engage` people, `/groups` groups, one or up to fifty in a request: as
//! `data` in a form, in base64 for every host that is not Mixpanel's own, or in the query of a GET.
//! Session recordings (`/record`) are accepted and dropped. The replies to requests for flags and
//! settings say that there are none.
//!
//! The library keeps a batch that is not taken and retries it, so 429 and 503 lose nothing. The
//! parameter `redirect` is ignored: it would make the gateway an open redirect.

mod identity;
mod profiles;
#[cfg(test)]
mod tests;
mod to_canonical;
mod track;

pub(super) use to_canonical::to_canonical;

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use crate::beacon::{
    AllowedMethods, Beacon as Face, BeaconDecodeError, BeaconOutcome, BeaconReply, BeaconRequest,
};
use crate::beacon_format::{self, CanonicalMessage, FormFields, MessageBatch};
use tagway_core::event::JsonObject;

pub(super) struct MixpanelBeacon;

/// The client as `context.source` names it.
pub(super) const CLIENT: &str = "mixpanel";

/// A transparent PNG of one pixel.
const PNG: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\
    \x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\x0b\x49\x44\x41\
    \x54\x78\xda\x63\x60\x00\x02\x00\x00\x05\x00\x01\xe9\xfa\xdc\xd8\x00\x00\x00\x00\
    \x49\x45\x4e\x44\xae\x42\x60\x82";

/// The purpose of a path below the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MixpanelBeaconRoute {
    Track,
    /// Events of servers, as a list of JSON or as lines of it.
    Import,
    Engage,
    Groups,
    Record,
    Flags,
    /// All flags with their rules, for servers that decide themselves.
    FlagDefinitions,
    Settings,
    Decide,
}

/// The facts that all records of one request share.
struct MixpanelEnvelope {
    endpoint: &'static str,
    /// The library's clock when it sent them.
    at: Option<Timestamp>,
}

impl MixpanelBeaconRoute {
    fn of(path: &str) -> Option<Self> {
        match path.trim_end_matches('/') {
            "/track" => Some(Self::Track),
            "/import" => Some(Self::Import),
            "/engage" => Some(Self::Engage),
            "/groups" => Some(Self::Groups),
            "/record" => Some(Self::Record),
            "/flags" => Some(Self::Flags),
            "/flags/definitions" => Some(Self::FlagDefinitions),
            "/settings" => Some(Self::Settings),
            "/decide" => Some(Self::Decide),
            // Newer libraries report the flags that they have shown.
            below if below.starts_with("/flags/") => Some(Self::Flags),
            _ => None,
        }
    }
}

impl Face for MixpanelBeacon {
    fn endpoint(&self, path: &str) -> Option<AllowedMethods> {
        Some(match MixpanelBeaconRoute::of(path)? {
            MixpanelBeaconRoute::Track
            | MixpanelBeaconRoute::Import
            | MixpanelBeaconRoute::Engage
            | MixpanelBeaconRoute::Groups
            | MixpanelBeaconRoute::Flags
            | MixpanelBeaconRoute::FlagDefinitions => AllowedMethods::Both,
            MixpanelBeaconRoute::Record => AllowedMethods::Post,
            MixpanelBeaconRoute::Settings | MixpanelBeaconRoute::Decide => AllowedMethods::Get,
        })
    }

    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let (read, endpoint): (fn(JsonObject, &MixpanelEnvelope) -> Option<_>, _) =
            match MixpanelBeaconRoute::of(inbound.path) {
                Some(MixpanelBeaconRoute::Track) => (track::message, "/track"),
                Some(MixpanelBeaconRoute::Import) => (track::message, "/import"),
                Some(MixpanelBeaconRoute::Engage) => (profiles::person, "/engage"),
                Some(MixpanelBeaconRoute::Groups) => (profiles::group, "/groups"),
                _ => return Ok(()),
            };
        let query = FormFields::form(inbound.query);
        let sending =
            MixpanelEnvelope { endpoint, at: query.get("_").and_then(beacon_format::moment_of) };
        let payload = payload(inbound, &query)?;
        if let Cow::Owned(payload) = &payload {
            batch.add_unpacked(payload.len());
        }
        let mut is_any = false;
        for record in records(inbound, &payload)? {
            let Some(record) = batch.object(record) else { continue };
            if let Some(key) = token(&record) {
                batch.show_key(key);
            }
            if record.contains_key("$delete") {
                // A group is no person, whom the gateway could erase.
                match profiles::erased_person(record).filter(|_| endpoint == "/engage") {
                    Some(id) => batch.request_erasure(&id)?,
                    None => batch.reject("erasure"),
                }
                continue;
            }
            let Some(read) = read(record, &sending) else { continue };
            is_any = true;
            batch.extend(read.message)?;
        }
        if is_any || !batch.is_empty() {
            Ok(())
        } else {
            Err(BeaconDecodeError::Malformed("none of the records can be read"))
        }
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://api-js.mixpanel.com")
    }

    fn is_forwarded(&self, path: &str) -> bool {
        MixpanelBeaconRoute::of(path) == Some(MixpanelBeaconRoute::Record)
    }

    fn has_unique_ids(&self) -> bool {
        false
    }

    fn has_erasures(&self) -> bool {
        true
    }

    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply {
        match verdict {
            BeaconOutcome::RetryLater { limited: true } => {
                refused(BeaconReply::retry_later(true), "too many requests")
            }
            BeaconOutcome::RetryLater { limited: false } => {
                refused(BeaconReply::retry_later(false), "try again later")
            }
            // The library then halves its batch.
            BeaconOutcome::TooLarge => {
                refused(BeaconReply::too_large(), "the request is too large")
            }
            BeaconOutcome::Taken { events } => accepted_reply(inbound, events),
            BeaconOutcome::Ignored => accepted_reply(inbound, 0),
        }
    }
}

/// Adds a JSON body to a refusal: server libraries fail upon any other body.
fn refused(answer: BeaconReply, why: &str) -> BeaconReply {
    let reply = json!({ "code": answer.status.as_u16(), "status": 0, "error": why });
    let (content_type, body) = (Some("application/json"), Bytes::from(reply.to_string()));
    BeaconReply { content_type, body, ..answer }
}

/// One record that could be read.
struct MixpanelBeaconRecord {
    /// The message; `None` for a record without information about the visitor.
    message: Option<CanonicalMessage>,
}

/// Returns the project's token in a record.
fn token(record: &JsonObject) -> Option<&str> {
    let of_event = || record.get("properties")?.get("token");
    record.get("$token").or_else(of_event)?.as_str()
}

/// Splits a request into its records: one, a list, or, for `/import`, lines.
fn records<'p>(
    inbound: &BeaconRequest<'_>,
    payload: &'p [u8],
) -> Result<Vec<&'p RawValue>, BeaconDecodeError> {
    let is_import = MixpanelBeaconRoute::of(inbound.path) == Some(MixpanelBeaconRoute::Import);
    if !is_import || payload.first() == Some(&b'[') {
        return beacon_format::records(payload, &inbound.bounds);
    }
    let most = inbound.bounds.events_within(payload.len());
    let lines = payload.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut records = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if records.len() == most {
            return Err(BeaconDecodeError::TooMany);
        }
        let record = serde_json::from_slice(line);
        records
            .push(record.map_err(|_invalid| BeaconDecodeError::Malformed("a line is not JSON"))?);
    }
    Ok(records)
}

/// Returns the JSON of a request, from its body, a form's `data` or the query.
fn payload<'a>(
    inbound: &BeaconRequest<'a>,
    query: &FormFields<'_>,
) -> Result<Cow<'a, [u8]>, BeaconDecodeError> {
    const NONE: BeaconDecodeError = BeaconDecodeError::Malformed("there is no JSON in data");
    let unpack = |fields: &FormFields<'_>| {
        let data = fields.get("data").ok_or(NONE)?;
        Ok(Cow::Owned(beacon_format::unpacked(data, &inbound.bounds)?.into_owned()))
    };
    if inbound.body.is_empty() {
        return unpack(query);
    }
    if beacon_format::is_json(inbound.body) {
        return Ok(Cow::Borrowed(inbound.body));
    }
    let content_type = inbound.field("content-type").unwrap_or_default();
    if content_type.starts_with("multipart/") {
        return unpack(&FormFields::multipart(content_type, inbound.body).ok_or(NONE)?);
    }
    let fields = FormFields::of_bytes(inbound.body);
    match fields.get("data") {
        Some(_) => unpack(&fields),
        None => {
            let text = std::str::from_utf8(inbound.body).map_err(|_invalid| NONE)?;
            beacon_format::unpacked(text, &inbound.bounds)
        }
    }
}

/// Returns true if a request sets this option, in the query or, as servers do, among the body's fields.
fn asks(inbound: &BeaconRequest<'_>, name: &str) -> bool {
    let is_wish = |fields: &FormFields<'_>| fields.get(name).is_some_and(|value| value != "0");
    if is_wish(&FormFields::form(inbound.query)) {
        return true;
    }
    let is_form = !beacon_format::is_json(inbound.body);
    let text = std::str::from_utf8(inbound.body).ok().filter(|_| is_form);
    text.is_some_and(|text| is_wish(&FormFields::form(text)))
}

fn accepted_reply(inbound: &BeaconRequest<'_>, events: usize) -> BeaconReply {
    match MixpanelBeaconRoute::of(inbound.path) {
        Some(MixpanelBeaconRoute::Flags) => BeaconReply::json(r#"{"flags":{}}"#),
        Some(MixpanelBeaconRoute::FlagDefinitions) => BeaconReply::json(r#"{"flags":[]}"#),
        // Libraries that write events into `data` read the answer as that of `/track`.
        Some(MixpanelBeaconRoute::Import) if beacon_format::is_json(inbound.body) => {
            let reply = json!({ "code": 200, "num_records_imported": events, "status": "OK" });
            BeaconReply::json(reply.to_string())
        }
        Some(MixpanelBeaconRoute::Settings) => BeaconReply::json(r#"{"sdk_config":{"config":{}}}"#),
        Some(MixpanelBeaconRoute::Decide) => {
            let text = r#"{"notifications":[],"config":{"enable_collect_everything":false}}"#;
            BeaconReply::json(text)
        }
        Some(
            MixpanelBeaconRoute::Track
            | MixpanelBeaconRoute::Import
            | MixpanelBeaconRoute::Engage
            | MixpanelBeaconRoute::Groups
            | MixpanelBeaconRoute::Record,
        )
        | None => {
            if asks(inbound, "img") {
                return BeaconReply {
                    status: StatusCode::OK,
                    content_type: Some("image/png"),
                    body: Bytes::from_static(PNG),
                };
            }
            let is_verbose = asks(inbound, "verbose");
            BeaconReply::json(if is_verbose { r#"{"error":null,"status":1}"# } else { "1" })
        }
    }
}
