//! Intercom's validation, field by field (`contracts/destinations.md` 5.1 and 5.2).

use http::header::ACCEPT;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::SimulatorRequest;

/// The most keys of metadata.
const MAX_KEYS: usize = 20;

/// The most that the sender's clock may be ahead.
const TOLERANCE_SECONDS: i64 = 300;

/// Text fields of contacts and of companies, and whole numbers of both, some of them times.
const CONTACT_TEXTS: [&str; 6] = ["role", "external_id", "email", "phone", "name", "avatar"];
const CONTACT_NUMBERS: [&str; 3] = ["signed_up_at", "last_seen_at", "owner_id"];
const MOMENTS: [&str; 3] = ["signed_up_at", "last_seen_at", "remote_created_at"];
const COMPANY_TEXTS: [&str; 5] = ["company_id", "name", "plan", "website", "industry"];
const COMPANY_NUMBERS: [&str; 3] = ["size", "monthly_spend", "remote_created_at"];

/// The end of the year 9999 in seconds; a larger number is in milliseconds.
const MAX_SECONDS: i64 = 253_402_300_800;

/// The objections to the fields that every call has.
pub(super) fn head(asked: &SimulatorRequest<'_>) -> Vec<String> {
    let field = |name: &str| asked.headers.get(name).and_then(|value| value.to_str().ok());
    let mut objections = Vec::new();
    let version = field("intercom-version").and_then(|version| version.split_once('.'));
    let is_number = |part: &str| part.parse::<u8>().is_ok();
    if !version.is_some_and(|(major, minor)| is_number(major) && is_number(minor)) {
        objections.push("the version is not pinned".to_owned());
    }
    if field(ACCEPT.as_str()) != Some("application/json") {
        objections.push("the answer's type is not asked for".to_owned());
    }
    objections
}

/// Checks an event; returns its name and second.
pub(super) fn event(event: &Value, now: Timestamp) -> Result<(&str, i64), String> {
    let event = event.as_object().ok_or("an event is an object")?;
    known(event, &["event_name", "created_at", "user_id", "id", "email", "metadata"])?;
    let name = event.get("event_name").and_then(Value::as_str).unwrap_or_default();
    if name.trim().is_empty() || name.contains(['.', '$']) {
        return Err(format!("event_name {name:?}"));
    }
    let created_at = event.get("created_at").and_then(Value::as_i64).ok_or("created_at")?;
    if created_at < 0 || created_at > now.as_second() + TOLERANCE_SECONDS {
        return Err("created_at is not of the past".to_owned());
    }
    let metadata = match event.get("metadata") {
        Some(metadata) => metadata.as_object().ok_or("metadata is an object")?,
        None => &Map::new(),
    };
    if metadata.len() > MAX_KEYS {
        return Err(format!("metadata of {} keys", metadata.len()));
    }
    for (key, value) in metadata {
        if !is_metadata(key, value) {
            return Err(format!("metadata {key:?}: {value}"));
        }
    }
    Ok((name, created_at))
}

fn is_metadata(key: &str, value: &Value) -> bool {
    if key.is_empty() || key.contains(['.', '$']) {
        return false;
    }
    if key.ends_with("_date") {
        return value.as_i64().is_some_and(|second| second.abs() < MAX_SECONDS);
    }
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        Value::Object(object) => {
            let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
            let is_amount =
                object.get("amount").and_then(Value::as_u64).is_some_and(|cents| cents > 0)
                    && text("currency").len() == 3;
            let is_link = text("url").starts_with("http") && !text("value").is_empty();
            object.len() == 2 && (is_amount || is_link)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) => false,
    }
}

/// Checks a search; returns its field and value.
pub(super) fn query(body: &Value) -> Result<(&str, &str), String> {
    let query = body.get("query").and_then(Value::as_object).ok_or("query")?;
    let text = |key: &str| query.get(key).and_then(Value::as_str).ok_or(format!("query.{key}"));
    if text("operator")? != "=" {
        return Err("query.operator".to_owned());
    }
    let (field, value) = (text("field")?, text("value")?);
    let is_field = ["email", "external_id", "role"].contains(&field)
        || field.strip_prefix("custom_attributes.").is_some_and(|name| !name.is_empty());
    if is_field && !value.is_empty() { Ok((field, value)) } else { Err("query.field".to_owned()) }
}

/// Checks the fields of a contact, or of a part of one.
pub(super) fn contact(body: &Value) -> Result<(), String> {
    let body = body.as_object().ok_or("a contact is an object")?;
    let others = ["email_verified", "unsubscribed_from_emails", "custom_attributes"];
    known(body, &[&CONTACT_TEXTS[..], &CONTACT_NUMBERS, &others].concat())?;
    texts(body, &CONTACT_TEXTS)?;
    numbers(body, &CONTACT_NUMBERS)?;
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    if text("role").is_some_and(|role| !["user", "lead"].contains(&role)) {
        return Err("role".to_owned());
    }
    if text("email").is_some_and(|email| !email.contains('@') || email.contains(' ')) {
        return Err("email".to_owned());
    }
    if text("avatar").is_some_and(|avatar| !avatar.starts_with("http")) {
        return Err("avatar".to_owned());
    }
    let is_e164 = |phone: &str| {
        let digits = phone.strip_prefix('+').unwrap_or_default();
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if text("phone").is_some_and(|phone| !is_e164(phone)) {
        return Err("phone".to_owned());
    }
    if body.get("unsubscribed_from_emails").is_some_and(|claim| !claim.is_boolean()) {
        return Err("unsubscribed_from_emails".to_owned());
    }
    custom(body)
}

/// Checks a company; returns the site's id of it.
pub(super) fn company(body: &Value) -> Result<&str, String> {
    let body = body.as_object().ok_or("a company is an object")?;
    known(body, &[&COMPANY_TEXTS[..], &COMPANY_NUMBERS, &["custom_attributes"]].concat())?;
    texts(body, &COMPANY_TEXTS)?;
    numbers(body, &COMPANY_NUMBERS)?;
    if body.get("monthly_spend").and_then(Value::as_i64).is_some_and(|s| s > i64::from(i32::MAX)) {
        return Err("monthly_spend".to_owned());
    }
    custom(body)?;
    body.get("company_id").and_then(Value::as_str).ok_or("company_id".to_owned())
}

fn custom(body: &Map<String, Value>) -> Result<(), String> {
    let Some(custom) = body.get("custom_attributes") else { return Ok(()) };
    let custom = custom.as_object().filter(|custom| !custom.is_empty());
    let custom = custom.ok_or("custom_attributes")?;
    let is_flat = |value: &Value| match value {
        Value::String(text) => !text.is_empty() && text.chars().count() <= 255,
        Value::Number(_) | Value::Bool(_) => true,
        _ => false,
    };
    match custom.iter().find(|(name, value)| !is_flat(value) || name.contains('.')) {
        Some((name, _)) => Err(format!("custom_attributes.{name}")),
        None => Ok(()),
    }
}

fn known(body: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match body.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(format!("there is no {name}")),
        None => Ok(()),
    }
}

fn texts(body: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    all(body, names, is_text)
}

fn numbers(body: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    all(body, names, Value::is_i64)?;
    let is_moment = |value: &Value| value.as_i64().is_some_and(|at| at.abs() < MAX_SECONDS);
    all(body, &MOMENTS, is_moment)
}

fn all(
    body: &Map<String, Value>,
    names: &[&str],
    is_right: impl Fn(&Value) -> bool,
) -> Result<(), String> {
    let is_wrong = |name: &&&str| body.get(**name).is_some_and(|value| !is_right(value));
    match names.iter().find(is_wrong) {
        Some(name) => Err(format!("{name}: {}", body.get(*name).unwrap_or(&Value::Null))),
        None => Ok(()),
    }
}
