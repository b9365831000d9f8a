//! The meaning of Amplitude's replies (`docs/contracts/destinations.md` 4.5).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::identity::AmplitudeIds;
use super::settings::AmplitudeSettings;
use crate::{Outcome, OutcomeReason, VendorCallError, VendorReply, classify_reply};
use tagway_core::event::JsonObject;

/// The wait of visitors who sent too many events.
const THROTTLE_WAIT: Duration = Duration::from_secs(30);

/// The wait of the forms, which Amplitude counts separately.
const FORM_WAIT: Duration = Duration::from_secs(15);

/// The most characters of the vendor's error message that are kept.
const MAX_ERROR_CHARS: usize = 300;

/// The parts of a reply that blame events by their index, and the reason code of each.
const REJECTION_FIELDS: &[(&str, &str)] = &[
    ("events_with_invalid_fields", "invalid_field"),
    ("events_with_missing_fields", "missing_field"),
    ("events_with_invalid_id_lengths", "invalid_id_length"),
];

/// The meaning of a reply for the events of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AmplitudeOutcome {
    /// One outcome for all of them.
    Whole(Outcome),
    /// The outcomes of the events that the reply names, in the order of the request; the others may be sent
    /// at once, as nothing was taken.
    Parted(Vec<Option<Outcome>>),
}

/// Reads the reply to an upload of events with these ids.
pub(super) fn read(
    result: &Result<VendorReply, VendorCallError>,
    sent: &[&AmplitudeIds],
    now: Timestamp,
    settings: &AmplitudeSettings,
) -> AmplitudeOutcome {
    let Ok(reply) = result else {
        return AmplitudeOutcome::Whole(classify_reply(result, now));
    };
    let status = reply.status.as_u16();
    if !matches!(status, 400 | 429) {
        return AmplitudeOutcome::Whole(plain(reply, result, now, settings));
    }
    let body = reply.json();
    let empty = JsonObject::new();
    let body = body.as_ref().and_then(Value::as_object).unwrap_or(&empty);
    if status == 400 && is_about_key(body) {
        return AmplitudeOutcome::Whole(invalid_key());
    }
    let after = reply.retry_after(now);
    let mut outcomes = vec![None; sent.len()];
    mark_rejected(&mut outcomes, body);
    mark_throttled(&mut outcomes, body, sent, after.unwrap_or(THROTTLE_WAIT));
    if outcomes.iter().any(Option::is_some) {
        return AmplitudeOutcome::Parted(outcomes);
    }
    let message = error_message(reply, settings);
    AmplitudeOutcome::Whole(if status == 400 {
        Outcome::Refused(OutcomeReason::detailed("refused", message))
    } else {
        // No event is named: the whole project sends too much.
        let after = Some(after.unwrap_or(THROTTLE_WAIT));
        Outcome::Retry { reason: OutcomeReason::detailed("rate_limited", message), after }
    })
}

/// Reads the reply to a form: one outcome for all of its entries.
pub(super) fn read_form(
    result: &Result<VendorReply, VendorCallError>,
    now: Timestamp,
    settings: &AmplitudeSettings,
) -> Outcome {
    let Ok(reply) = result else { return classify_reply(result, now) };
    match reply.status.as_u16() {
        400 => {
            let body = reply.json();
            let names_key = body.as_ref().and_then(Value::as_object).is_some_and(is_about_key);
            if names_key || mentions_key(&String::from_utf8_lossy(&reply.body)) {
                return invalid_key();
            }
            Outcome::Refused(OutcomeReason::detailed("refused", error_message(reply, settings)))
        }
        429 => {
            let reason = OutcomeReason::detailed("throttled", error_message(reply, settings));
            let after = reply.retry_after(now).unwrap_or(FORM_WAIT);
            Outcome::Throttled { reason, after }
        }
        _ => plain(reply, result, now, settings),
    }
}

/// Reads the reply to a change of a cohort. Concurrent changes are refused as too many.
pub(super) fn read_cohort(
    result: &Result<VendorReply, VendorCallError>,
    now: Timestamp,
    settings: &AmplitudeSettings,
) -> Outcome {
    match (classify_reply(result, now), result) {
        (Outcome::Refused(reason), Ok(reply)) => {
            Outcome::Refused(OutcomeReason::detailed(reason.code, error_message(reply, settings)))
        }
        (outcome, _) => outcome,
    }
}

/// Classifies statuses that have the same meaning at all endpoints.
fn plain(
    reply: &VendorReply,
    result: &Result<VendorReply, VendorCallError>,
    now: Timestamp,
    settings: &AmplitudeSettings,
) -> Outcome {
    match reply.status.as_u16() {
        // A firewall rejects the event's content, or Amplitude the gateway's region. The key is not the
        // cause.
        403 => {
            Outcome::Refused(OutcomeReason::detailed("forbidden", error_message(reply, settings)))
        }
        413 => {
            Outcome::Refused(OutcomeReason::detailed("too_large", error_message(reply, settings)))
        }
        _ => classify_reply(result, now),
    }
}

/// The outcome of an unknown key. The vendor's message quotes the key, so it is not kept.
fn invalid_key() -> Outcome {
    Outcome::Unauthorised(OutcomeReason::detailed("invalid_api_key", "HTTP 400"))
}

fn is_about_key(body: &JsonObject) -> bool {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    text("missing_field") == "api_key" || mentions_key(text("error"))
}

fn mentions_key(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("api key") || error.contains("api_key")
}

/// Marks the events that the reply blames as dead: Amplitude takes the others without them.
fn mark_rejected(outcomes: &mut [Option<Outcome>], body: &JsonObject) {
    for (part, code) in REJECTION_FIELDS {
        for (field, indices) in body.get(*part).and_then(Value::as_object).into_iter().flatten() {
            for index in whole_numbers(indices) {
                let field = field.chars().take(MAX_ERROR_CHARS).collect::<String>();
                settle(outcomes, index, || Outcome::Dead(OutcomeReason::detailed(code, field)));
            }
        }
    }
    for index in body.get("silenced_events").into_iter().flat_map(whole_numbers) {
        settle(outcomes, index, silenced_outcome);
    }
}

fn silenced_outcome() -> Outcome {
    Outcome::Dead(OutcomeReason::detailed("silenced", "Amplitude silences this device"))
}

/// Marks the events of users and devices that the reply throttles or silences, or whose quota is used up.
fn mark_throttled(
    outcomes: &mut [Option<Outcome>],
    body: &JsonObject,
    sent: &[&AmplitudeIds],
    after: Duration,
) {
    let spent = || {
        let message = "the user's or device's daily quota is used up";
        Outcome::Dead(OutcomeReason::detailed("daily_quota_exceeded", message))
    };
    let throttled = || Outcome::Throttled { reason: OutcomeReason::new("throttled"), after };
    let listed = |user_part: &str, device_part: &str, ids: &AmplitudeIds| {
        let is_in = |part: &str, id: &Option<String>| {
            id.as_deref().is_some_and(|id| body.get(part).is_some_and(|part| names(part, id)))
        };
        is_in(user_part, &ids.user) || is_in(device_part, &ids.device)
    };
    for (index, ids) in sent.iter().enumerate() {
        if listed("silenced_users", "silenced_devices", ids) {
            settle(outcomes, index, silenced_outcome);
        }
        if listed("exceeded_daily_quota_users", "exceeded_daily_quota_devices", ids) {
            settle(outcomes, index, spent);
        }
        if listed("throttled_users", "throttled_devices", ids) {
            settle(outcomes, index, throttled);
        }
    }
    for index in body.get("throttled_events").into_iter().flat_map(whole_numbers) {
        settle(outcomes, index, throttled);
    }
}

/// Records how an event ended; the first outcome counts. Indices beyond the request are ignored.
fn settle(outcomes: &mut [Option<Outcome>], index: usize, outcome: impl FnOnce() -> Outcome) {
    if let Some(slot) = outcomes.get_mut(index) {
        slot.get_or_insert_with(outcome);
    }
}

/// Returns true if an object has this key, or a list this text.
fn names(part: &Value, id: &str) -> bool {
    match part {
        Value::Object(object) => object.contains_key(id),
        Value::Array(items) => items.iter().any(|item| item.as_str() == Some(id)),
        _ => false,
    }
}

fn whole_numbers(value: &Value) -> impl Iterator<Item = usize> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| usize::try_from(item.as_u64()?).ok())
}

/// Returns the vendor's error message, without the key and cut to its first characters.
fn error_message(reply: &VendorReply, settings: &AmplitudeSettings) -> String {
    let body = reply.json();
    let error = body.as_ref().and_then(|body| body.get("error")?.as_str());
    let text = match error {
        Some(error) => error.to_owned(),
        None => String::from_utf8_lossy(&reply.body).into_owned(),
    };
    let key = settings.api_key.expose();
    let text = if key.is_empty() { text } else { text.replace(key, "[api_key]") };
    let text: String = text.trim().chars().take(MAX_ERROR_CHARS).collect();
    let status = reply.status.as_u16();
    if text.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {text}") }
}
