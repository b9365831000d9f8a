//! Masks personal data in answers to callers without the right to see it: in the server, so that it never leaves.
//!
//! In a canonical event the known members decide: ids are shortened, traits are hidden, addresses become networks.
//! Everywhere else, the names of members and the patterns of texts do: e-mail and network addresses, ids, long runs
//! of digits. A vendor's request is masked as the JSON, form or URL that it is.

mod keys;
#[cfg(test)]
mod tests;
mod text;

use std::net::IpAddr;

use serde_json::{Map, Value};

use self::keys::{KeyKind, is_thing};
use self::text::{MASKED, mask_id, mask_patterns, mask_value};
use tagway_core::privacy;

/// The most levels of objects, arrays and texts of JSON within each other; deeper ones are not shown.
const MAX_DEPTH: usize = 32;

/// The digits of a number from which it may be a telephone number or an id.
const LONG_DIGITS: usize = 9;

/// Masks a canonical event.
pub(super) fn mask_event(event: &mut Value) {
    let Some(event) = event.as_object_mut() else { return };
    for (key, value) in event {
        match key.as_str() {
            "userId" | "anonymousId" | "groupId" | "previousId" => mask_ids(value),
            "traits" => hide(value),
            "context" => mask_context(value),
            "facts" => mask_facts(value),
            "event" | "name" | "category" => mask_label(value),
            "messageId" => mask_message_id(value),
            "type" | "timestamp" | "receivedAt" | "originalTimestamp" | "sentAt" => {}
            _ => mask_json(value, MAX_DEPTH),
        }
    }
}

/// Masks a profile, as the API and exports show it.
pub(super) fn mask_profile(profile: &mut Value) {
    let Some(profile) = profile.as_object_mut() else { return };
    for (key, value) in profile {
        match key.as_str() {
            "traits" => hide(value),
            "user_id" => mask_ids(value),
            "identities" => {
                for identity in value.as_array_mut().into_iter().flatten() {
                    identity.get_mut("value").into_iter().for_each(mask_ids);
                }
            }
            "kind" | "rank" | "trait_ranks" | "days" => {}
            _ => mask_json(value, MAX_DEPTH),
        }
    }
}

/// Masks a happening of the live feed.
pub(super) fn mask_happening(happening: &mut Value) {
    let Some(happening) = happening.as_object_mut() else { return };
    for key in ["request", "body", "reply", "detail"] {
        if let Some(Value::String(text)) = happening.get_mut(key) {
            *text = mask_text(text);
        }
    }
    for key in ["event", "page"] {
        happening.get_mut(key).into_iter().for_each(mask_label);
    }
    happening.get_mut("message_id").into_iter().for_each(mask_message_id);
    for field in happening.get_mut("dropped").and_then(Value::as_array_mut).into_iter().flatten() {
        mask_label(field);
    }
}

/// Masks the text of a message id.
pub(super) fn mask_message_text(text: &str) -> String {
    if text.contains(['@', '%']) { mask_patterns(text) } else { text.to_owned() }
}

/// Masks a text of any kind: a vendor's request or reply, the detail of a reason.
pub(super) fn mask_text(text: &str) -> String {
    mask_text_within(text, MAX_DEPTH)
}

fn mask_text_within(text: &str, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return MASKED.to_owned() };
    if text.trim_start().starts_with(['{', '[']) {
        if let Ok(mut json) = serde_json::from_str::<Value>(text) {
            mask_json(&mut json, depth);
            return json.to_string();
        }
        // Bodies are shown up to a length.
        if let Some(mut json) = complete_json(text) {
            mask_json(&mut json, depth);
            return format!("{json}…");
        }
    }
    // A request: its line and its fields, then its body.
    match text.split_once("\n\n") {
        Some((head, body)) => {
            format!("{}\n\n{}", mask_patterns(head), mask_text_within(body, depth))
        }
        None => mask_patterns(text),
    }
}

/// Reads the complete members of JSON whose end was cut off. `None` if it is not JSON.
fn complete_json(text: &str) -> Option<Value> {
    let (mut open, mut is_text, mut is_escaped) = (Vec::new(), false, false);
    // The last position at which all members before are complete, and the brackets that are open there.
    let mut complete = (0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => {
                open.push(if byte == b'{' { '}' } else { ']' });
                complete = (at + 1, open.clone());
            }
            b'}' | b']' => {
                open.pop()?;
                complete = (at + 1, open.clone());
            }
            b',' => complete = (at, open.clone()),
            _ => {}
        }
        if open.len() > MAX_DEPTH {
            return None;
        }
    }
    let (end, open) = complete;
    let mut whole = text.get(..end)?.to_owned();
    whole.extend(open.iter().rev());
    serde_json::from_str(&whole).ok()
}

/// Masks a name that a site gave, or the path of a page: by patterns only.
fn mask_label(value: &mut Value) {
    if let Value::String(text) = value {
        *text = mask_patterns(text);
    }
}

/// Masks a message id, if a client made it of a person's address: otherwise it is a number, and needed to find the
/// event.
fn mask_message_id(value: &mut Value) {
    if value.as_str().is_some_and(|text| text.contains(['@', '%'])) {
        mask_label(value);
    }
}

fn mask_context(context: &mut Value) {
    let Some(context) = context.as_object_mut() else { return };
    for (key, value) in context {
        match key.as_str() {
            "traits" => hide(value),
            "userAgent" | "library" | "consent" | "locale" | "timezone" | "screen" | "os" => {}
            "ip" => mask_address(value),
            "device" | "network" => {
                for (key, value) in value.as_object_mut().into_iter().flatten() {
                    match KeyKind::of(key) {
                        _ if key == "id" || key == "token" => mask_ids(value),
                        _ if key == "model" || key == "manufacturer" || key == "type" => {}
                        _ => mask_member(key, value, false, MAX_DEPTH),
                    }
                }
            }
            _ => mask_member(key, value, false, MAX_DEPTH),
        }
    }
}

fn mask_facts(facts: &mut Value) {
    let Some(facts) = facts.as_object_mut() else { return };
    for (key, value) in facts {
        match key.as_str() {
            "ip" => mask_address(value),
            "visitor" => value.get_mut("id").into_iter().for_each(mask_ids),
            "cookies" => mask_ids(value),
            "clickIds" => {
                for id in value.as_object_mut().into_iter().flat_map(Map::values_mut) {
                    id.get_mut("value").into_iter().for_each(mask_ids);
                }
            }
            "place" => {
                for key in ["city", "postalCode"] {
                    value.get_mut(key).into_iter().for_each(hide);
                }
            }
            "beacon" => {
                for key in ["target", "body", "key"] {
                    value.get_mut(key).into_iter().for_each(hide);
                }
            }
            "campaign" => mask_json(value, MAX_DEPTH),
            // The user agent, the session and words of the program.
            _ => {}
        }
    }
}

/// Masks a value of JSON by the names of its members, and by patterns.
fn mask_json(value: &mut Value, depth: usize) {
    let Some(below) = depth.checked_sub(1) else {
        *value = Value::String(MASKED.to_owned());
        return;
    };
    match value {
        Value::Object(members) => {
            let is_thing = is_thing(members.keys());
            for (key, value) in members {
                mask_member(key, value, is_thing, below);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask_json(item, below)),
        Value::String(text) => *text = mask_text_within(text, below),
        Value::Number(number) if is_long(number) => *value = Value::String(MASKED.to_owned()),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn mask_member(key: &str, value: &mut Value, is_of_thing: bool, depth: usize) {
    match KeyKind::of(key) {
        KeyKind::Personal if value.is_object() => mask_json(value, depth),
        KeyKind::Personal => hide(value),
        KeyKind::Id if value.is_object() => mask_json(value, depth),
        KeyKind::Id => mask_ids(value),
        KeyKind::Time if value.is_number() => {}
        _ if key.eq_ignore_ascii_case("name") && value.is_string() && !is_of_thing => hide(value),
        _ if key.eq_ignore_ascii_case("traits") => hide(value),
        KeyKind::Time | KeyKind::Other => mask_json(value, depth),
    }
}

fn is_long(number: &serde_json::Number) -> bool {
    let text = number.to_string();
    !text.contains(['.', 'e']) && text.trim_start_matches('-').len() >= LONG_DIGITS
}

/// Hides the texts and numbers of a value; the names of members stay.
fn hide(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(hide),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::String(text) => *text = mask_value(text),
        Value::Number(_) => *value = Value::String(MASKED.to_owned()),
        Value::Bool(_) | Value::Null => {}
    }
}

/// Shortens the ids of a value.
fn mask_ids(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(mask_ids),
        Value::Array(items) => items.iter_mut().for_each(mask_ids),
        Value::String(text) => *text = mask_id(text),
        Value::Number(number) => *value = Value::String(mask_id(&number.to_string())),
        Value::Bool(_) | Value::Null => {}
    }
}

/// Replaces a network address by its network.
fn mask_address(value: &mut Value) {
    let network = value.as_str().and_then(|text| text.trim().parse::<IpAddr>().ok());
    let network = network.map(|address| privacy::truncate(address).to_string());
    *value = Value::String(network.unwrap_or_else(|| MASKED.to_owned()));
}
