//! What Mixpanel's browser library sends, and what it wants to hear (`contracts/beacons.md` section 5).
//!
//! `/track` brings events, `/engage` people, `/groups` groups, one or up to fifty in a request: as
//! `data` in a form, in base64 for every host that is not Mixpanel's own, or in the query of a GET.
//! Session recordings (`/record`) are taken and left. Flags and settings come from nobody here: the
//! answers say that there are none.
//!
//! A batch that is not taken now is kept by the library and comes again, so 429 and 503 lose
//! nothing. `redirect` is not followed: anybody could lead visitors anywhere.

mod identity;
mod profiles;
mod retell;
#[cfg(test)]
mod tests;
mod track;

pub(super) use retell::retell;

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::RawValue;

use crate::event::Object;
use crate::vendors::beacon::{Answer, Beacon as Face, DecodeError, Inbound, Methods, Verdict};
use crate::vendors::wire::{self, Fields, MessageBatch};

pub(super) struct Beacon;

/// The client as `context.source` names it.
pub(super) const CLIENT: &str = "mixpanel";

/// A transparent PNG of one pixel.
const PNG: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\
    \x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\x0b\x49\x44\x41\
    \x54\x78\xda\x63\x60\x00\x02\x00\x00\x05\x00\x01\xe9\xfa\xdc\xd8\x00\x00\x00\x00\
    \x49\x45\x4e\x44\xae\x42\x60\x82";

/// What the library asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
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

/// What all records of one request share.
struct Sending {
    endpoint: &'static str,
    /// The library's clock when it sent them.
    at: Option<Timestamp>,
}

impl Endpoint {
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
            // What newer libraries tell of the flags they have shown.
            below if below.starts_with("/flags/") => Some(Self::Flags),
            _ => None,
        }
    }
}

impl Face for Beacon {
    fn endpoint(&self, path: &str) -> Option<Methods> {
        Some(match Endpoint::of(path)? {
            Endpoint::Track
            | Endpoint::Import
            | Endpoint::Engage
            | Endpoint::Groups
            | Endpoint::Flags
            | Endpoint::FlagDefinitions => Methods::Both,
            Endpoint::Record => Methods::Post,
            Endpoint::Settings | Endpoint::Decide => Methods::Get,
        })
    }

    fn read(&self, inbound: &Inbound<'_>, batch: &mut MessageBatch) -> Result<(), DecodeError> {
        let (read, endpoint): (fn(Object, &Sending) -> Option<_>, _) =
            match Endpoint::of(inbound.path) {
                Some(Endpoint::Track) => (track::message, "/track"),
                Some(Endpoint::Import) => (track::message, "/import"),
                Some(Endpoint::Engage) => (profiles::person, "/engage"),
                Some(Endpoint::Groups) => (profiles::group, "/groups"),
                _ => return Ok(()),
            };
        let query = Fields::form(inbound.query);
        let sending = Sending { endpoint, at: query.get("_").and_then(wire::moment_of) };
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
                // Who may erase a person is for the site's operator to say, not for a beacon.
                batch.refuse("erasure");
                continue;
            }
            let Some(read) = read(record, &sending) else { continue };
            is_any = true;
            batch.extend(read.message())?;
        }
        if is_any || !batch.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Malformed("none of the records can be read"))
        }
    }

    fn upstream(&self) -> Option<&'static str> {
        Some("https://api-js.mixpanel.com")
    }

    fn passes_on(&self, path: &str) -> bool {
        Endpoint::of(path) == Some(Endpoint::Record)
    }

    fn has_unique_ids(&self) -> bool {
        false
    }

    fn answer(&self, inbound: &Inbound<'_>, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Later { limited: true } => refused(Answer::later(true), "too many requests"),
            Verdict::Later { limited: false } => refused(Answer::later(false), "try again later"),
            // The library halves its batch.
            Verdict::TooLarge => refused(Answer::too_large(), "the request is too large"),
            Verdict::Taken { events } => taken(inbound, events),
            Verdict::Ignored => taken(inbound, 0),
        }
    }
}

/// A refusal as JSON: server libraries fail upon a body that is none.
fn refused(answer: Answer, why: &str) -> Answer {
    let said = json!({ "code": answer.status.as_u16(), "status": 0, "error": why });
    let (content_type, body) = (Some("application/json"), Bytes::from(said.to_string()));
    Answer { content_type, body, ..answer }
}

/// One record that could be read.
enum Read {
    Message(Object),
    /// It says nothing of the visitor.
    Nothing,
}

impl Read {
    fn message(self) -> Option<Object> {
        match self {
            Self::Message(message) => Some(message),
            Self::Nothing => None,
        }
    }
}

/// The project's token in a record.
fn token(record: &Object) -> Option<&str> {
    let of_event = || record.get("properties")?.get("token");
    record.get("$token").or_else(of_event)?.as_str()
}

/// The records of a request: one, a list, or, where servers import, lines.
fn records<'p>(inbound: &Inbound<'_>, payload: &'p [u8]) -> Result<Vec<&'p RawValue>, DecodeError> {
    let is_import = Endpoint::of(inbound.path) == Some(Endpoint::Import);
    if !is_import || payload.first() == Some(&b'[') {
        return wire::records(payload, &inbound.bounds);
    }
    let most = inbound.bounds.events_within(payload.len());
    let lines = payload.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut records = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        if records.len() == most {
            return Err(DecodeError::TooMany);
        }
        let record = serde_json::from_slice(line);
        records.push(record.map_err(|_invalid| DecodeError::Malformed("a line is not JSON"))?);
    }
    Ok(records)
}

/// The JSON of a request, wherever it stands.
fn payload<'a>(inbound: &Inbound<'a>, query: &Fields<'_>) -> Result<Cow<'a, [u8]>, DecodeError> {
    const NONE: DecodeError = DecodeError::Malformed("there is no JSON in data");
    let unpack = |fields: &Fields<'_>| {
        let data = fields.get("data").ok_or(NONE)?;
        Ok(Cow::Owned(wire::unpacked(data, &inbound.bounds)?.into_owned()))
    };
    if inbound.body.is_empty() {
        return unpack(query);
    }
    if wire::is_json(inbound.body) {
        return Ok(Cow::Borrowed(inbound.body));
    }
    let content_type = inbound.field("content-type").unwrap_or_default();
    if content_type.starts_with("multipart/") {
        return unpack(&Fields::multipart(content_type, inbound.body).ok_or(NONE)?);
    }
    let fields = Fields::of_bytes(inbound.body);
    match fields.get("data") {
        Some(_) => unpack(&fields),
        None => {
            let text = std::str::from_utf8(inbound.body).map_err(|_invalid| NONE)?;
            wire::unpacked(text, &inbound.bounds)
        }
    }
}

/// True if the library asks for something, in the query or, as servers do, among the fields of the body.
fn asks(inbound: &Inbound<'_>, name: &str) -> bool {
    let is_wish = |fields: &Fields<'_>| fields.get(name).is_some_and(|value| value != "0");
    if is_wish(&Fields::form(inbound.query)) {
        return true;
    }
    let is_form = !wire::is_json(inbound.body);
    let text = std::str::from_utf8(inbound.body).ok().filter(|_| is_form);
    text.is_some_and(|text| is_wish(&Fields::form(text)))
}

fn taken(inbound: &Inbound<'_>, events: usize) -> Answer {
    match Endpoint::of(inbound.path) {
        Some(Endpoint::Flags) => Answer::json(r#"{"flags":{}}"#),
        Some(Endpoint::FlagDefinitions) => Answer::json(r#"{"flags":[]}"#),
        // Libraries that write events into `data` read the answer as that of `/track`.
        Some(Endpoint::Import) if wire::is_json(inbound.body) => {
            let said = json!({ "code": 200, "num_records_imported": events, "status": "OK" });
            Answer::json(said.to_string())
        }
        Some(Endpoint::Settings) => Answer::json(r#"{"sdk_config":{"config":{}}}"#),
        Some(Endpoint::Decide) => {
            let text = r#"{"notifications":[],"config":{"enable_collect_everything":false}}"#;
            Answer::json(text)
        }
        Some(
            Endpoint::Track
            | Endpoint::Import
            | Endpoint::Engage
            | Endpoint::Groups
            | Endpoint::Record,
        )
        | None => {
            if asks(inbound, "img") {
                return Answer {
                    status: StatusCode::OK,
                    content_type: Some("image/png"),
                    body: Bytes::from_static(PNG),
                };
            }
            let is_verbose = asks(inbound, "verbose");
            Answer::json(if is_verbose { r#"{"error":null,"status":1}"# } else { "1" })
        }
    }
}
