//! Amplitude's upload, group and mapping APIs (`contracts/destinations.md` 4.1, 4.2 and 4.5): rejects a
//! request for one bad event, ignores repetitions, throttles users that send too much. And its cohorts
//! API.

mod cohorts;

use std::collections::HashMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use self::cohorts::SimulatedCohorts;
use super::{MemberLists, SimulatorOutcome, SimulatorRequest, VendorApi, answer, parse};
use tagway_core::event::JsonObject;
use tagway_vendors::amplitude::validate::{AmplitudeFieldFaults, AmplitudeFindings, validate};

/// One endpoint that accepts events.
struct UploadEndpoint {
    path: &'static str,
    max_bytes: usize,
    /// The number of events must be lower than this.
    events_below: usize,
    events_per_second: u32,
    /// True if a rejection names only the first bad event of a field.
    names_first_only: bool,
}

const ENDPOINTS: &[UploadEndpoint] = &[
    UploadEndpoint {
        path: "/2/httpapi",
        max_bytes: 1 << 20,
        events_below: 2000,
        events_per_second: 30,
        names_first_only: true,
    },
    UploadEndpoint {
        path: "/batch",
        max_bytes: 20 << 20,
        events_below: 2001,
        events_per_second: 1000,
        names_first_only: false,
    },
];

/// The window of the average rate.
const WINDOW_SECONDS: i64 = 60;

/// The most events of one user or device a day.
const DAILY_QUOTA: u32 = 500_000;

/// The time for which an insert id is remembered.
const DEDUPE_SECONDS: i64 = 7 * 24 * 3600;

/// The most entries in one form, and the most properties of all entries.
const MAX_FORM: usize = 1024;

/// The state of the simulated Amplitude.
#[derive(Default)]
pub(super) struct AmplitudeSimulator {
    /// The time at which each device's insert ids were accepted.
    taken: HashMap<(String, String), i64>,
    /// Events of each user and device, in the current window and on the current day.
    counts: HashMap<(&'static str, String), EventRateCounts>,
    cohorts: SimulatedCohorts,
}

#[derive(Clone, Copy, Default)]
struct EventRateCounts {
    window: i64,
    in_window: u32,
    day: i64,
    on_day: u32,
}

impl VendorApi for AmplitudeSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let path = asked.target.path();
        if asked.method != Method::POST {
            return refused(StatusCode::METHOD_NOT_ALLOWED, json!({}), "is not POST");
        }
        if let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == path) {
            return self.upload(endpoint, asked);
        }
        match path {
            "/groupidentify" => form(asked, "identification", group_problem),
            "/usermap" => form(asked, "mapping", mapping_problem),
            "/api/3/cohorts/upload" | "/api/3/cohorts/membership" => {
                let counts = &self.counts;
                self.cohorts.read(asked, |id| counts.contains_key(&("user_id", id.to_owned())))
            }
            _ => refused(StatusCode::NOT_FOUND, json!({}), &format!("there is no {path}")),
        }
    }

    fn lists(&self) -> MemberLists {
        self.cohorts.lists()
    }
}

impl AmplitudeSimulator {
    fn upload(
        &mut self,
        endpoint: &UploadEndpoint,
        asked: &SimulatorRequest<'_>,
    ) -> SimulatorOutcome {
        if !has_type(asked, "application/json") {
            return bad(json!({}), "the content type is not application/json");
        }
        if asked.body.len() > endpoint.max_bytes {
            return too_large();
        }
        let body = match parse(asked.body) {
            Ok(body) => body,
            Err(problem) => return bad(json!({}), &problem),
        };
        if let Some(refusal) = key_problem(asked, body.get("api_key").and_then(Value::as_str)) {
            return refusal;
        }
        let events = body.get("events").and_then(Value::as_array).map(Vec::as_slice);
        let events = match events {
            Some(events) if events.len() >= endpoint.events_below => return too_large(),
            Some(events) if !events.is_empty() => events,
            _ => {
                return bad(json!({ "missing_field": "events" }), "Request missing required field");
            }
        };
        let findings = validate(&body);
        if !findings.is_taken() {
            return invalid(&findings, endpoint.names_first_only);
        }
        if let Some(refusal) = self.too_many(events, endpoint, asked.now) {
            return refusal;
        }
        let accepted = events.iter().filter_map(|event| self.take(event, asked.now)).collect();
        let response = json!({
            "code": 200,
            "events_ingested": events.len(),
            "payload_size_bytes": asked.body.len(),
            "server_upload_time": asked.now.as_millisecond(),
        });
        let reply = answer(StatusCode::OK, response.to_string());
        SimulatorOutcome { reply, accepted, objections: findings.remarks }
    }

    /// Counts an event. Returns `None` for a repetition, otherwise its insert id if it has one.
    fn take(&mut self, event: &Value, now: Timestamp) -> Option<Option<String>> {
        for (kind, id) in ids(event) {
            let counts = self.counts.entry((kind, id.to_owned())).or_default();
            *counts = counts.at(now);
            counts.in_window += 1;
            counts.on_day += 1;
        }
        let text = |key: &str| event.get(key).and_then(Value::as_str).map(str::to_owned);
        let Some(insert_id) = text("insert_id") else { return Some(None) };
        let device = text("device_id").or_else(|| text("user_id")).unwrap_or_default();
        let before = self.taken.insert((device, insert_id.clone()), now.as_second());
        let is_new = before.is_none_or(|at| now.as_second() - at > DEDUPE_SECONDS);
        is_new.then_some(Some(insert_id))
    }

    /// The rejection of a request in which a user or device exceeds its limit.
    fn too_many(
        &self,
        events: &[Value],
        endpoint: &UploadEndpoint,
        now: Timestamp,
    ) -> Option<SimulatorOutcome> {
        let in_window = endpoint.events_per_second.saturating_mul(60);
        let mut asked: HashMap<(&str, &str), u32> = HashMap::new();
        let (mut throttled, mut spent) = (RateLimitFigures::default(), RateLimitFigures::default());
        let mut indices = Vec::new();
        for (index, event) in events.iter().enumerate() {
            let mut is_held = false;
            for (kind, id) in ids(event) {
                let known = self.counts.get(&(kind, id.to_owned())).copied().unwrap_or_default();
                let known = known.at(now);
                let more = asked.entry((kind, id)).or_default();
                *more += 1;
                if known.on_day + *more > DAILY_QUOTA {
                    spent.add(kind, id, known.on_day);
                    is_held = true;
                } else if known.in_window + *more > in_window {
                    throttled.add(kind, id, known.in_window / 60);
                    is_held = true;
                }
            }
            if is_held {
                indices.push(index);
            }
        }
        if indices.is_empty() {
            return None;
        }
        let response = json!({
            "code": 429,
            "error": "Too many requests for some devices and users",
            "eps_threshold": endpoint.events_per_second,
            "throttled_users": throttled.users,
            "throttled_devices": throttled.devices,
            "exceeded_daily_quota_users": spent.users,
            "exceeded_daily_quota_devices": spent.devices,
            "throttled_events": indices,
        });
        Some(refused(StatusCode::TOO_MANY_REQUESTS, response, "somebody sends too much"))
    }
}

impl EventRateCounts {
    /// The counts at this time.
    fn at(mut self, now: Timestamp) -> Self {
        let (window, day) = (now.as_second() / WINDOW_SECONDS, now.as_second() / 86_400);
        if self.window != window {
            (self.window, self.in_window) = (window, 0);
        }
        if self.day != day {
            (self.day, self.on_day) = (day, 0);
        }
        self
    }
}

/// Users and devices named in a reply, with a number for each.
#[derive(Default)]
struct RateLimitFigures {
    users: JsonObject,
    devices: JsonObject,
}

impl RateLimitFigures {
    fn add(&mut self, kind: &str, id: &str, figure: u32) {
        let list = if kind == "user_id" { &mut self.users } else { &mut self.devices };
        list.insert(id.to_owned(), figure.into());
    }
}

fn ids(event: &Value) -> impl Iterator<Item = (&'static str, &str)> {
    let kinds = ["user_id", "device_id"].into_iter();
    kinds.filter_map(|kind| Some((kind, event.get(kind)?.as_str()?)))
}

/// Answers one of the two calls that accept forms.
fn form(
    asked: &SimulatorRequest<'_>,
    field: &str,
    problem: fn(&JsonObject) -> Option<String>,
) -> SimulatorOutcome {
    if !has_type(asked, "application/x-www-form-urlencoded") {
        return bad(json!({}), "the content type is not that of a form");
    }
    if asked.body.len() > 1 << 20 {
        return too_large();
    }
    let fields: HashMap<String, String> =
        url::form_urlencoded::parse(asked.body).into_owned().collect();
    if let Some(refusal) = key_problem(asked, fields.get("api_key").map(String::as_str)) {
        return refusal;
    }
    let entries = fields.get(field).and_then(|text| serde_json::from_str(text).ok());
    let entries = match entries {
        Some(Value::Array(entries)) if (1..=MAX_FORM).contains(&entries.len()) => entries,
        Some(Value::Object(entry)) => vec![Value::Object(entry)],
        _ => return bad(json!({}), "missing_event"),
    };
    let properties = |entry: &Value| entry.get("group_properties")?.as_object().map(Map::len);
    if entries.iter().filter_map(properties).sum::<usize>() > MAX_FORM {
        return too_large();
    }
    for entry in &entries {
        let problem = match entry.as_object() {
            Some(entry) => problem(entry),
            None => Some("missing_event".to_owned()),
        };
        if let Some(problem) = problem {
            return bad(json!({}), &problem);
        }
    }
    let reply = answer(StatusCode::OK, "success");
    SimulatorOutcome { reply, accepted: vec![None; entries.len()], objections: Vec::new() }
}

fn group_problem(entry: &JsonObject) -> Option<String> {
    for field in ["group_type", "group_value"] {
        if entry.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Some(format!("invalid {field}"));
        }
    }
    let properties = entry.get("group_properties").and_then(Value::as_object);
    properties.is_none_or(Map::is_empty).then(|| "invalid group_properties".to_owned())
}

fn mapping_problem(entry: &JsonObject) -> Option<String> {
    let has_id =
        |key: &str| entry.get(key).and_then(Value::as_str).is_some_and(|id| !id.is_empty());
    let is_unmap = entry.get("unmap") == Some(&Value::Bool(true));
    let is_whole = has_id("user_id") && (is_unmap || has_id("global_user_id"));
    (!is_whole).then(|| "invalid mapping".to_owned())
}

/// The rejection of an invalid key: a valid one is 32 hexadecimal digits.
fn key_problem(asked: &SimulatorRequest<'_>, key: Option<&str>) -> Option<SimulatorOutcome> {
    match key {
        None | Some("") => {
            let response = json!({ "missing_field": "api_key" });
            Some(bad(response, "Request missing required field"))
        }
        Some(_) if !asked.checks_credentials => None,
        Some(key) if key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
        Some(key) => Some(bad(json!({}), &format!("Invalid API key: {key}"))),
    }
}

fn has_type(asked: &SimulatorRequest<'_>, kind: &str) -> bool {
    let given = asked.headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok());
    given.is_some_and(|given| given.split(';').next() == Some(kind))
}

fn too_large() -> SimulatorOutcome {
    refused(StatusCode::PAYLOAD_TOO_LARGE, json!({ "code": 413 }), "Payload too large")
}

fn invalid(findings: &AmplitudeFindings, first_only: bool) -> SimulatorOutcome {
    let by_field = |fields: &AmplitudeFieldFaults| {
        let listed = |indices: &[usize]| {
            let count = if first_only { 1 } else { indices.len() };
            json!(indices.iter().take(count).collect::<Vec<_>>())
        };
        let fields = fields.iter().map(|(field, indices)| ((*field).to_owned(), listed(indices)));
        Value::Object(fields.collect())
    };
    let response = json!({
        "events_with_invalid_fields": by_field(&findings.invalid),
        "events_with_missing_fields": by_field(&findings.missing),
        "events_with_invalid_id_lengths": by_field(&findings.id_lengths),
    });
    bad(response, "Invalid event JSON")
}

fn bad(response: Value, error: &str) -> SimulatorOutcome {
    refused(StatusCode::BAD_REQUEST, response, error)
}

/// A rejection in Amplitude's format. A 429 is no objection.
fn refused(status: StatusCode, mut response: Value, error: &str) -> SimulatorOutcome {
    if let Some(response) = response.as_object_mut() {
        response.entry("code").or_insert_with(|| status.as_u16().into());
        response.entry("error").or_insert_with(|| error.into());
    }
    let objections = match status {
        StatusCode::TOO_MANY_REQUESTS => Vec::new(),
        _ => vec![format!("{status}: {response}")],
    };
    let reply: Response<Bytes> = answer(status, response.to_string());
    SimulatorOutcome { reply, accepted: Vec::new(), objections }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri};

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn request(desk: &mut AmplitudeSimulator, path: &str, body: &Value) -> (u16, Value, usize) {
        let (target, body): (Uri, Bytes) = (path.parse().unwrap(), body.to_string().into());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let (method, target, headers) = (&Method::POST, &target, &headers);
        let reading = desk.handle_request(&SimulatorRequest {
            method,
            target,
            headers,
            body: &body,
            now,
            checks_credentials: true,
        });
        let response = serde_json::from_slice(reading.reply.body()).unwrap();
        (reading.reply.status().as_u16(), response, reading.accepted.len())
    }

    fn events(events: &[Value]) -> Value {
        json!({ "api_key": KEY, "events": events, "options": { "min_id_length": 1 } })
    }

    fn click(device: &str, number: usize) -> Value {
        json!({ "device_id": device, "event_type": "Clicked", "time": 1_795_435_200_000_i64,
            "insert_id": number.to_string() })
    }

    #[test]
    fn repetition_is_accepted_and_counted_once() {
        let mut desk = AmplitudeSimulator::default();
        let body = events(&[click("a", 1), click("a", 1), click("b", 1)]);
        let (status, response, accepted) = request(&mut desk, "/2/httpapi", &body);
        assert_eq!((status, &response["events_ingested"], accepted), (200, &json!(3), 2));
        assert_eq!(request(&mut desk, "/2/httpapi", &body).2, 0);
    }

    #[test]
    fn one_bad_event_rejects_all_and_only_batch_names_every_one() {
        let mut bad = click("a", 1);
        bad["time"] = json!("now");
        let body = events(&[click("a", 2), bad.clone(), bad]);
        for (path, listed) in [("/2/httpapi", json!([1])), ("/batch", json!([1, 2]))] {
            let (status, response, accepted) =
                request(&mut AmplitudeSimulator::default(), path, &body);
            assert_eq!((status, accepted), (400, 0));
            assert_eq!(response["events_with_invalid_fields"], json!({ "time": listed }));
        }
    }

    #[test]
    fn throttled_device_is_named_and_no_event_is_accepted() {
        let mut desk = AmplitudeSimulator::default();
        let flood: Vec<Value> = (0..1800).map(|number| click("greedy", number)).collect();
        assert_eq!(request(&mut desk, "/2/httpapi", &events(&flood)).0, 200);
        let body = events(&[click("a", 1), click("greedy", 1800)]);
        let (status, response, accepted) = request(&mut desk, "/2/httpapi", &body);
        assert_eq!((status, accepted), (429, 0));
        assert_eq!(response["throttled_events"], json!([1]));
        assert_eq!(response["throttled_devices"], json!({ "greedy": 30 }));
    }

    #[test]
    fn invalid_key_is_rejected() {
        let mut body = events(&[click("a", 1)]);
        body["api_key"] = json!("0123");
        let (status, response, _) = request(&mut AmplitudeSimulator::default(), "/batch", &body);
        assert_eq!((status, &response["error"]), (400, &json!("Invalid API key: 0123")));
    }
}
