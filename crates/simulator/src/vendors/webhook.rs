//! A receiver of Standard Webhooks (`contracts/destinations.md` 7.13): unsigned requests are rejected.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, StatusCode};
use serde_json::Value;
use sha2::Sha256;

use super::{
    SimulatorOutcome, SimulatorRequest, VendorApi, WEBHOOK_SECRET, age_seconds, answer, parse,
};

/// The most that the sender's clock may be off.
const TOLERANCE_SECONDS: i64 = 300;

/// The receiver of webhooks.
pub(super) struct WebhookSimulator;

impl VendorApi for WebhookSimulator {
    fn handle_request(&mut self, asked: &SimulatorRequest<'_>) -> SimulatorOutcome {
        let (status, accepted, objections) = match check(asked) {
            Ok(ids) => (StatusCode::OK, ids, Vec::new()),
            Err(objection) => (StatusCode::BAD_REQUEST, Vec::new(), vec![objection]),
        };
        let response = objections.first().map_or("{\"ok\":true}", String::as_str).to_owned();
        SimulatorOutcome { reply: answer(status, response), accepted, objections }
    }
}

/// The message ids of a valid request.
fn check(asked: &SimulatorRequest<'_>) -> Result<Vec<Option<String>>, String> {
    if asked.method != Method::POST {
        return Err(format!("{} is not POST", asked.method));
    }
    let field = |name: &str| {
        let value = asked.headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("{name} is missing"))
    };
    let (id, sent) = (field("webhook-id")?, field("webhook-timestamp")?);
    let seconds: i64 = sent.parse().map_err(|_not_a_number| "webhook-timestamp is no number")?;
    if age_seconds(seconds, asked.now).abs() > TOLERANCE_SECONDS {
        return Err("webhook-timestamp is too far from now".to_owned());
    }
    if !is_signed(field("webhook-signature")?, id, sent, asked.body) {
        return Err("no signature is right".to_owned());
    }
    let events = parse(asked.body)?;
    let events = events.as_array().ok_or("the body is not a list")?;
    let ids = events.iter().map(|event| event.get("messageId").and_then(Value::as_str));
    Ok(ids.map(|id| id.map(str::to_owned)).collect())
}

fn is_signed(signatures: &str, id: &str, sent: &str, body: &[u8]) -> bool {
    let key = WEBHOOK_SECRET.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
    let Some(key) = key else { return false };
    signatures.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|signature| {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return false };
        mac.update(format!("{id}.{sent}.").as_bytes());
        mac.update(body);
        STANDARD.decode(signature).is_ok_and(|code| mac.verify_slice(&code).is_ok())
    })
}
