//! Google's Measurement Protocol (`contracts/destinations.md` 1.1, 1.2 and 1.5): 204 for every readable
//! request, and a record of the validation endpoint's objections.

use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::Value;

use super::{SimulatorOutcome, SimulatorRequest, VendorApi, age_seconds, answer, parse};
use tagway_vendors::ga4::validate::validate;

/// The documented limit of a request's body, in bytes.
const MAX_BYTES: usize = 130_000;

/// The oldest accepted timestamp of a request.
const MAX_AGE_SECONDS: i64 = 72 * 3600;

/// Google's Measurement Protocol.
pub(super) struct Ga4Simulator;

impl VendorApi for Ga4Simulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let refused = |status, objection| SimulatorOutcome {
            reply: answer(status, ""),
            accepted: Vec::new(),
            objections: vec![objection],
        };
        if asked.target.path() != "/mp/collect" {
            let objection = format!("there is no {}", asked.target.path());
            return refused(StatusCode::NOT_FOUND, objection);
        }
        if asked.method != Method::POST {
            let objection = format!("{} is not POST", asked.method);
            return refused(StatusCode::METHOD_NOT_ALLOWED, objection);
        }
        let mut objections = Vec::new();
        let query = asked.target.query().unwrap_or_default();
        for name in ["measurement_id", "api_secret"] {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            if !pairs.any(|(key, value)| key == name && !value.is_empty()) {
                objections.push(format!("the query lacks {name}"));
            }
        }
        if asked.headers.get(CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
            objections.push("the content type is not application/json".to_owned());
        }
        if asked.body.len() >= MAX_BYTES {
            objections.push(format!("the body has {} bytes", asked.body.len()));
        }
        let accepted = match parse(asked.body) {
            Ok(body) => {
                objections.extend(validate(&body).iter().map(|objection| format!("{objection:?}")));
                objections.extend(too_old(&body, asked.now));
                keys(&body)
            }
            Err(objection) => {
                objections.push(objection);
                Vec::new()
            }
        };
        SimulatorOutcome { reply: answer(StatusCode::NO_CONTENT, ""), accepted, objections }
    }
}

fn too_old(body: &Value, now: Timestamp) -> Option<String> {
    let micros = body.get("timestamp_micros")?.as_i64()?;
    let age = age_seconds(micros / 1_000_000, now);
    (!(0..=MAX_AGE_SECONDS).contains(&age)).then(|| format!("dated {age} s before its arrival"))
}

/// The keys of events: Google deduplicates purchases by transaction, other events not at all.
fn keys(body: &Value) -> Vec<Option<String>> {
    let events = body.get("events").and_then(Value::as_array).into_iter().flatten();
    let key = |event: &Value| event.pointer("/params/transaction_id")?.as_str().map(str::to_owned);
    events.map(key).collect()
}
