//! Mixpanel's ingestion API (`contracts/destinations.md` 3.1 to 3.6): `/import` rejects single records,
//! `/track`, `/engage` and `/groups` answer 200 with `0` in the body.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::io::Read as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    MIXPANEL_ACCOUNT, MIXPANEL_TOKEN, MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi,
    age_seconds, answer,
};

/// The largest uncompressed body, in bytes: the smaller of the documented figures.
const MAX_BYTES: usize = 2_097_152;

/// The largest record, in bytes.
const MAX_RECORD_BYTES: usize = 1_000_000;

/// Ids that count as mistakes.
const PLACEHOLDERS: &str = "00000000-0000-0000-0000-000000000000 anon anonymous nil none null n/a na undefined unknown 0 -1 true false [] {}";

/// The operations on a person, and on a group.
const PERSON: &[&str] =
    &["$set", "$set_once", "$add", "$union", "$append", "$remove", "$unset", "$delete"];
const GROUP: &[&str] = &["$set", "$set_once", "$add", "$union", "$remove", "$unset", "$delete"];

/// The other fields of a record with an operation.
const BESIDE: &[&str] = &[
    "$token",
    "$distinct_id",
    "$group_key",
    "$group_id",
    "$ip",
    "$time",
    "$ignore_time",
    "$ignore_alias",
];

/// The identity system of the project, according to its first requests.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MixpanelMerging {
    Simplified,
    Original,
}

/// The state of one simulated project.
#[derive(Default)]
pub(super) struct MixpanelSimulator {
    /// Received events, by Mixpanel's deduplication key.
    seen: HashSet<String>,
    merging: Option<MixpanelMerging>,
    /// The people that have each text in a list property.
    lists: MemberLists,
}

impl VendorApi for MixpanelSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        if asked.method != Method::POST {
            return refused(
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("{} is not POST", asked.method),
            );
        }
        match asked.target.path() {
            "/import" => self.import(asked),
            path @ ("/track" | "/engage" | "/groups") => self.by_token(path, asked),
            path => refused(StatusCode::NOT_FOUND, &format!("there is no {path}")),
        }
    }

    fn lists(&self) -> MemberLists {
        self.lists.clone()
    }
}

impl MixpanelSimulator {
    fn import(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        if !is_authorised(asked) {
            return refused(StatusCode::UNAUTHORIZED, "Invalid credentials");
        }
        let body = match unpacked(asked) {
            Ok(body) => body,
            Err(objection) => return refused(StatusCode::BAD_REQUEST, &objection),
        };
        if body.len() > MAX_BYTES {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "request body too large");
        }
        let records = match list(asked, &body, 2000) {
            Ok(records) => records,
            Err(objection) => return refused(StatusCode::BAD_REQUEST, &objection),
        };
        let (mut accepted, mut failed, mut objections) = (Vec::new(), Vec::new(), Vec::new());
        if query(asked, "strict").as_deref() != Some("1") {
            objections.push("without strict=1 nobody learns what was refused".to_owned());
        }
        for (index, record) in records.iter().enumerate() {
            match self.event(record, asked) {
                Ok(key) => accepted.extend(key),
                Err((field, message)) => {
                    let id = record.pointer("/properties/$insert_id");
                    failed.push(json!({ "index": index, "$insert_id": id, "field": field, "message": message }));
                    objections.push(format!("{field}: {message}"));
                }
            }
        }
        let imported = records.len() - failed.len();
        let (status, response) = if failed.is_empty() {
            let response = json!({ "code": 200, "num_records_imported": imported, "status": "OK" });
            (StatusCode::OK, response)
        } else {
            let response = json!({ "code": 400, "num_records_imported": imported, "status": "Bad Request",
                "error": "some data points in the request failed validation", "failed_records": failed });
            (StatusCode::BAD_REQUEST, response)
        };
        SimulatorOutcome { reply: answer(status, response.to_string()), accepted, objections }
    }

    /// Checks one event; returns its key, unless it is a repetition.
    fn event(
        &mut self,
        record: &Value,
        asked: &SimulatorRequest<'_>,
    ) -> Result<Option<Option<String>>, MixpanelRefusal> {
        let now = asked.now;
        let name = record.get("event").and_then(Value::as_str).unwrap_or_default();
        check(!name.is_empty() && name.chars().count() <= 255, "event", "1 to 255 characters")?;
        let properties = record.get("properties").and_then(Value::as_object);
        let properties = properties.ok_or(("properties", "must be an object".to_owned()))?;
        let text = |name: &str| properties.get(name).and_then(Value::as_str);
        if name == "$merge" {
            self.merges(MixpanelMerging::Original)?;
            let ids = properties.get("$distinct_ids").and_then(Value::as_array);
            let are_two = ids.is_some_and(|ids| ids.len() == 2 && ids.iter().all(is_id));
            check(are_two, "properties.$distinct_ids", "two ids")?;
            check(is_own(asked, text("token")), "properties.token", "is another project's")?;
            return Ok(Some(None));
        }
        check(!name.starts_with("$identify"), "event", "$identify goes to /track")?;
        let size = record.to_string().len();
        check(size < MAX_RECORD_BYTES, "event", "must be smaller than 1 MB")?;
        check(properties.len() < 255, "properties", "must be fewer than 255")?;
        let time = properties.get("time").and_then(Value::as_i64);
        let time = time.ok_or(("properties.time", "must be a whole number".to_owned()))?;
        let seconds = if time > 100_000_000_000 { time / 1000 } else { time };
        check(seconds >= 31_536_000, "properties.time", "must be after 1971")?;
        check(age_seconds(seconds, now) >= -3600, "properties.time", "must not be in the future")?;
        let distinct =
            text("distinct_id").ok_or(("properties.distinct_id", "is missing".to_owned()))?;
        let is_fine = distinct.is_empty() || is_plain_id(distinct);
        check(is_fine, "properties.distinct_id", "is a placeholder")?;
        let insert = text("$insert_id").unwrap_or_default();
        let is_short = (1..=36).contains(&insert.len());
        let is_plain = insert.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let is_fine = is_short && is_plain && is_plain_id(insert);
        check(is_fine, "properties.$insert_id", "1 to 36 letters, digits and -, no placeholder")?;
        if properties.contains_key("$device_id") || properties.contains_key("$user_id") {
            self.merges(MixpanelMerging::Simplified)?;
            let expected = match (text("$user_id"), text("$device_id")) {
                (Some(user), _) => user.to_owned(),
                (None, device) => format!("$device:{}", device.unwrap_or_default()),
            };
            check(
                distinct == expected,
                "properties.distinct_id",
                "is not that of the ids beside it",
            )?;
        }
        let located = text("ip");
        let is_fine = located.is_some_and(|ip| ip == "0" || ip.parse::<std::net::IpAddr>().is_ok());
        check(is_fine, "properties.ip", "without it the sender is located")?;
        for (name, value) in properties {
            let is_reserved = matches!(name.as_str(), "bucket" | "$bucket" | "$ignore" | "token");
            check(!is_reserved, "properties", name)?;
            let may_be_empty = name == "distinct_id";
            check(
                may_be_empty || fits(value, 3),
                "properties",
                &format!("{name} is out of bounds"),
            )?;
        }
        let key = format!("{name}\n{distinct}\n{time}\n{insert}");
        Ok(self.seen.insert(key).then(|| Some(insert.to_owned())))
    }

    fn merges(&mut self, merging: MixpanelMerging) -> Result<(), MixpanelRefusal> {
        let known = *self.merging.get_or_insert(merging);
        check(known == merging, "event", "is of the other identity system")
    }

    /// Answers `/track`, `/engage` and `/groups`.
    fn by_token(&mut self, path: &str, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let mut objections = Vec::new();
        if asked.headers.contains_key(CONTENT_ENCODING) {
            objections.push(format!("{path} takes nothing compressed"));
        }
        if query(asked, "verbose").as_deref() != Some("1") {
            objections.push("without verbose=1 nobody learns what was wrong".to_owned());
        }
        let is_unlocated = query(asked, "ip").as_deref() == Some("0");
        let most = if path == "/groups" { 200 } else { 2000 };
        let records = match list(asked, asked.body, most) {
            Ok(records) => records,
            Err(objection) => {
                objections.push(objection);
                Vec::new()
            }
        };
        for record in &records {
            let checked = match path {
                "/track" => self.identity(record, asked),
                "/engage" => person(record, is_unlocated, asked),
                _ => group(record, asked),
            };
            objections.extend(checked.err().map(|(field, message)| format!("{field}: {message}")));
        }
        let response = match objections.first() {
            Some(objection) => json!({ "status": 0, "error": objection }),
            None => json!({ "status": 1, "error": null }),
        };
        let taken = if objections.is_empty() { records.len() } else { 0 };
        if path == "/engage" {
            records.iter().take(taken).for_each(|record| self.list(record));
        }
        let reply = answer(StatusCode::OK, response.to_string());
        SimulatorOutcome { reply, accepted: vec![None; taken], objections }
    }

    /// Records additions to lists of people, and removals.
    fn list(&mut self, record: &Value) {
        let id = record.get("$distinct_id").and_then(Value::as_str).unwrap_or_default();
        let values = |operation: &str| {
            let lists = record.get(operation).and_then(Value::as_object).into_iter();
            let all = lists.flat_map(|lists| lists.values()).flat_map(|value| match value {
                Value::Array(values) => values.iter().collect(),
                value => vec![value],
            });
            all.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        for name in values("$union") {
            self.lists.entry(name).or_default().insert(id.to_owned());
        }
        for name in values("$remove") {
            self.lists.entry(name).or_default().remove(id);
        }
    }

    /// Checks `$identify` and `$create_alias`; other events are not sent by this path.
    fn identity(
        &mut self,
        record: &Value,
        asked: &SimulatorRequest<'_>,
    ) -> Result<(), MixpanelRefusal> {
        self.merges(MixpanelMerging::Original)?;
        let text = |name: &str| {
            let value = record.get("properties").and_then(|properties| properties.get(name));
            value.and_then(Value::as_str).unwrap_or_default()
        };
        check(is_own(asked, Some(text("token"))), "properties.token", "is another project's")?;
        match record.get("event").and_then(Value::as_str) {
            Some("$identify") => {
                check(is_plain_id(text("$identified_id")), "$identified_id", "is no id")?;
                let device = Uuid::parse_str(text("$anon_id"));
                let is_random = device.is_ok_and(|device| device.get_version_num() == 4);
                check(is_random, "$anon_id", "errAnonDistinctIdNonGUIDForm")
            }
            Some("$create_alias") => {
                let (old, new) = (text("distinct_id"), text("alias"));
                let are_two = is_plain_id(old) && is_plain_id(new) && old != new;
                check(are_two, "alias", "must be another id than distinct_id")
            }
            other => Err(("event", format!("{other:?} belongs to /import"))),
        }
    }
}

/// The objection to a record: the field, and the message.
type MixpanelRefusal = (&'static str, String);

fn check(is_fine: bool, field: &'static str, message: &str) -> Result<(), MixpanelRefusal> {
    if is_fine { Ok(()) } else { Err((field, message.to_owned())) }
}

fn person(
    record: &Value,
    is_unlocated: bool,
    asked: &SimulatorRequest<'_>,
) -> Result<(), MixpanelRefusal> {
    let id = record.get("$distinct_id").and_then(Value::as_str).unwrap_or_default();
    check(is_plain_id(id), "$distinct_id", "is no id")?;
    let ip = record.get("$ip").and_then(Value::as_str);
    let is_located = ip.is_some_and(|ip| ip == "0" || ip.parse::<std::net::IpAddr>().is_ok());
    check(is_located || (ip.is_none() && is_unlocated), "$ip", "the sender would be located")?;
    operation(record, PERSON, asked)
}

fn group(record: &Value, asked: &SimulatorRequest<'_>) -> Result<(), MixpanelRefusal> {
    for name in ["$group_key", "$group_id"] {
        let text = record.get(name).and_then(Value::as_str).unwrap_or_default();
        check(!text.is_empty(), "$group_key", &format!("{name} is missing"))?;
    }
    operation(record, GROUP, asked)
}

/// Checks the token, and that there is exactly one valid operation.
fn operation(
    record: &Value,
    allowed: &[&str],
    asked: &SimulatorRequest<'_>,
) -> Result<(), MixpanelRefusal> {
    let record = record.as_object().ok_or(("data", "is no object".to_owned()))?;
    let token = record.get("$token").and_then(Value::as_str);
    check(is_own(asked, token), "$token", "is another project's")?;
    let mut operations = record.iter().filter(|(name, _)| !BESIDE.contains(&name.as_str()));
    let (Some((name, value)), None) = (operations.next(), operations.next()) else {
        return Err(("data", "needs exactly one operation".to_owned()));
    };
    check(allowed.contains(&name.as_str()), "data", &format!("{name} is no operation here"))?;
    let is_right = match (name.as_str(), value) {
        ("$unset", Value::Array(names)) => names.iter().all(Value::is_string),
        ("$add", Value::Object(sums)) => sums.values().all(Value::is_number),
        ("$union", Value::Object(lists)) => lists.values().all(Value::is_array),
        ("$set" | "$set_once" | "$append" | "$remove", Value::Object(_)) => true,
        ("$delete", _) => true,
        _ => false,
    };
    check(is_right && !is_void(value), "data", &format!("{name} does not take this"))?;
    let has_reserved = value.get("bucket").is_some() || value.get("$bucket").is_some();
    check(!has_reserved, "data", "bucket is reserved")?;
    let size = Value::Object(record.clone()).to_string().len();
    check(size < MAX_RECORD_BYTES, "data", "must be smaller than 1 MB")
}

/// Returns true for an empty value, or one whose members are all empty.
fn is_void(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty() || object.values().any(is_nothing),
        Value::Array(list) => list.is_empty() || list.iter().any(is_nothing),
        other => is_nothing(other),
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

/// Returns true if a property's value is within the limits of events.
fn fits(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => (1..=255).contains(&text.chars().count()),
        Value::Array(list) => {
            depth > 0 && list.len() < 255 && list.iter().all(|value| fits(value, depth - 1))
        }
        Value::Object(object) => {
            depth > 0 && object.len() < 255 && object.values().all(|value| fits(value, depth - 1))
        }
    }
}

fn is_id(value: &Value) -> bool {
    value.as_str().is_some_and(is_plain_id)
}

fn is_plain_id(id: &str) -> bool {
    !id.trim().is_empty() && !PLACEHOLDERS.split(' ').any(|placeholder| placeholder == id)
}

/// Returns true if a record names the project.
fn is_own(asked: &SimulatorRequest<'_>, token: Option<&str>) -> bool {
    match asked.checks_credentials {
        true => token == Some(MIXPANEL_TOKEN),
        false => token.is_some_and(|token| !token.is_empty()),
    }
}

/// Returns true for the project's token without a password, or the service account with the project's number.
fn is_authorised(asked: &SimulatorRequest<'_>) -> bool {
    let given = asked.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| STANDARD.decode(value.strip_prefix("Basic ")?).ok());
    let Some(given) = given.and_then(|bytes| String::from_utf8(bytes).ok()) else { return false };
    let (user, secret, project) = MIXPANEL_ACCOUNT;
    let is_account = given == format!("{user}:{secret}");
    !asked.checks_credentials
        || given == format!("{MIXPANEL_TOKEN}:")
        || (is_account && query(asked, "project_id").as_deref() == Some(project))
}

fn query(asked: &SimulatorRequest<'_>, name: &str) -> Option<String> {
    let query = asked.target.query().unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The uncompressed body.
fn unpacked(asked: &SimulatorRequest<'_>) -> Result<Bytes, String> {
    match asked.headers.get(CONTENT_ENCODING) {
        None => Ok(asked.body.clone()),
        Some(encoding) if encoding == "gzip" => {
            let mut body = Vec::new();
            let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX) + 1;
            let read = GzDecoder::new(&**asked.body).take(limit).read_to_end(&mut body);
            read.map_err(|error| format!("the body is not gzip: {error}"))?;
            Ok(body.into())
        }
        Some(other) => Err(format!("{other:?} is not understood")),
    }
}

/// The records of a body: a JSON list, not empty and not too long.
fn list(asked: &SimulatorRequest<'_>, body: &Bytes, most: usize) -> Result<Vec<Value>, String> {
    if asked.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return Err("the content type is not application/json".to_owned());
    }
    match super::parse(body)? {
        Value::Array(records) if records.is_empty() => Err("data, missing or empty".to_owned()),
        Value::Array(records) if records.len() <= most => Ok(records),
        Value::Array(records) => Err(format!("{} records, but {most} at most", records.len())),
        _ => Err("the body is no list".to_owned()),
    }
}

fn refused(status: StatusCode, objection: &str) -> SimulatorOutcome {
    let reason = status.canonical_reason().unwrap_or_default();
    let response = json!({ "code": status.as_u16(), "error": objection, "status": reason });
    SimulatorOutcome {
        reply: answer(status, response.to_string()),
        accepted: Vec::new(),
        objections: vec![objection.to_owned()],
    }
}
