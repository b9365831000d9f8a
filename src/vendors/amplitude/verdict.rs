//! What Amplitude's replies mean (`contracts/destinations.md` 4.5).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::identity::Ids;
use super::settings::Settings;
use crate::event::Object;
use crate::vendors::{CallError, Outcome, Reason, Reply, judge};

/// How long those wait who sent too many events.
const THROTTLE_WAIT: Duration = Duration::from_secs(30);

/// How long the forms wait, which are counted apart.
const FORM_WAIT: Duration = Duration::from_secs(15);

/// Characters of the vendor's own words that are kept.
const MAX_SAID_CHARS: usize = 300;

/// The parts of a reply that blame events by their index, and what each means.
const BLAME: &[(&str, &str)] = &[
    ("events_with_invalid_fields", "invalid_field"),
    ("events_with_missing_fields", "missing_field"),
    ("events_with_invalid_id_lengths", "invalid_id_length"),
];

/// What a reply means for the events of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The same for all of them.
    Whole(Outcome),
    /// How those ended that the reply names, in the order of the request; the others may go at once,
    /// for nothing was taken.
    Parted(Vec<Option<Outcome>>),
}

/// Reads the reply to an upload of events with these ids.
pub(super) fn read(
    result: &Result<Reply, CallError>,
    sent: &[&Ids],
    now: Timestamp,
    settings: &Settings,
) -> Reading {
    let Ok(reply) = result else { return Reading::Whole(judge(result, now).outcome()) };
    let status = reply.status.as_u16();
    if !matches!(status, 400 | 429) {
        return Reading::Whole(plain(reply, result, now, settings));
    }
    let body = reply.json();
    let empty = Object::new();
    let body = body.as_ref().and_then(Value::as_object).unwrap_or(&empty);
    if status == 400 && is_about_key(body) {
        return Reading::Whole(invalid_key());
    }
    let after = reply.retry_after(now);
    let mut outcomes = vec![None; sent.len()];
    blame(&mut outcomes, body);
    hold(&mut outcomes, body, sent, after.unwrap_or(THROTTLE_WAIT));
    if outcomes.iter().any(Option::is_some) {
        return Reading::Parted(outcomes);
    }
    let said = said(reply, settings);
    Reading::Whole(if status == 400 {
        Outcome::Refused(Reason::detailed("refused", said))
    } else {
        // Nobody is named: the project sends too much.
        let after = Some(after.unwrap_or(THROTTLE_WAIT));
        Outcome::Retry { reason: Reason::detailed("rate_limited", said), after }
    })
}

/// Reads the reply to a form: one outcome for all of its entries.
pub(super) fn read_form(
    result: &Result<Reply, CallError>,
    now: Timestamp,
    settings: &Settings,
) -> Outcome {
    let Ok(reply) = result else { return judge(result, now).outcome() };
    match reply.status.as_u16() {
        400 => {
            let body = reply.json();
            let names_key = body.as_ref().and_then(Value::as_object).is_some_and(is_about_key);
            if names_key || mentions_key(&String::from_utf8_lossy(&reply.body)) {
                return invalid_key();
            }
            Outcome::Refused(Reason::detailed("refused", said(reply, settings)))
        }
        429 => {
            let reason = Reason::detailed("throttled", said(reply, settings));
            let after = reply.retry_after(now).unwrap_or(FORM_WAIT);
            Outcome::Throttled { reason, after }
        }
        _ => plain(reply, result, now, settings),
    }
}

/// Reads the reply to a change of a cohort. Two changes at once are refused as too many.
pub(super) fn read_cohort(
    result: &Result<Reply, CallError>,
    now: Timestamp,
    settings: &Settings,
) -> Outcome {
    match (judge(result, now).outcome(), result) {
        (Outcome::Refused(reason), Ok(reply)) => {
            Outcome::Refused(Reason::detailed(reason.code, said(reply, settings)))
        }
        (outcome, _) => outcome,
    }
}

/// Statuses that mean the same wherever they come from.
fn plain(
    reply: &Reply,
    result: &Result<Reply, CallError>,
    now: Timestamp,
    settings: &Settings,
) -> Outcome {
    match reply.status.as_u16() {
        // A firewall dislikes what an event says, or Amplitude dislikes where the gateway stands. The
        // key is not what it is about.
        403 => Outcome::Refused(Reason::detailed("forbidden", said(reply, settings))),
        413 => Outcome::Refused(Reason::detailed("too_large", said(reply, settings))),
        _ => judge(result, now).outcome(),
    }
}

/// The vendor quotes the key that it does not know, so its own words are not kept.
fn invalid_key() -> Outcome {
    Outcome::Unauthorised(Reason::detailed("invalid_api_key", "HTTP 400"))
}

fn is_about_key(body: &Object) -> bool {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    text("missing_field") == "api_key" || mentions_key(text("error"))
}

fn mentions_key(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("api key") || error.contains("api_key")
}

/// Events that the reply blames are dead: Amplitude takes the others without them.
fn blame(outcomes: &mut [Option<Outcome>], body: &Object) {
    for (part, code) in BLAME {
        for (field, indices) in body.get(*part).and_then(Value::as_object).into_iter().flatten() {
            for index in whole_numbers(indices) {
                let field = field.chars().take(MAX_SAID_CHARS).collect::<String>();
                settle(outcomes, index, || Outcome::Dead(Reason::detailed(code, field)));
            }
        }
    }
    for index in body.get("silenced_events").into_iter().flat_map(whole_numbers) {
        settle(outcomes, index, silenced);
    }
}

fn silenced() -> Outcome {
    Outcome::Dead(Reason::detailed("silenced", "Amplitude silences this device"))
}

/// Events of users and devices that the reply holds back.
fn hold(outcomes: &mut [Option<Outcome>], body: &Object, sent: &[&Ids], after: Duration) {
    let spent = || {
        let said = "the user's or device's daily quota is used up";
        Outcome::Dead(Reason::detailed("daily_quota_exceeded", said))
    };
    let throttled = || Outcome::Throttled { reason: Reason::new("throttled"), after };
    let listed = |user_part: &str, device_part: &str, ids: &Ids| {
        let is_in = |part: &str, id: &Option<String>| {
            id.as_deref().is_some_and(|id| body.get(part).is_some_and(|part| names(part, id)))
        };
        is_in(user_part, &ids.user) || is_in(device_part, &ids.device)
    };
    for (index, ids) in sent.iter().enumerate() {
        if listed("silenced_users", "silenced_devices", ids) {
            settle(outcomes, index, silenced);
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

/// Notes how an event ended; the first word counts. Indices beyond the request say nothing.
fn settle(outcomes: &mut [Option<Outcome>], index: usize, outcome: impl FnOnce() -> Outcome) {
    if let Some(slot) = outcomes.get_mut(index) {
        slot.get_or_insert_with(outcome);
    }
}

/// Whether an object has this key, or a list this text.
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

/// The vendor's own words, without the key and not too many of them.
fn said(reply: &Reply, settings: &Settings) -> String {
    let body = reply.json();
    let error = body.as_ref().and_then(|body| body.get("error")?.as_str());
    let text = match error {
        Some(error) => error.to_owned(),
        None => String::from_utf8_lossy(&reply.body).into_owned(),
    };
    let key = settings.api_key.expose();
    let text = if key.is_empty() { text } else { text.replace(key, "[api_key]") };
    let text: String = text.trim().chars().take(MAX_SAID_CHARS).collect();
    let status = reply.status.as_u16();
    if text.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {text}") }
}
