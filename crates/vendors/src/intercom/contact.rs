//! Contacts and companies as Intercom writes them (`docs/contracts/destinations.md` 5.2 and 5.3).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Number, Value};
use url::Url;

use super::settings::IntercomSettings;
use crate::beacon_format::is_blank;
use crate::contact_api::{ContactIdentity, cut, phone, select_values};
use crate::person::EventPerson;
use crate::products;
use tagway_core::event::{DroppedFields, EnrichedEvent, Event, FieldDropReason, JsonObject};
use tagway_core::values::time;

/// The age up to which an event counts as a visit; older ones may be replayed.
const MAX_VISIT_AGE: Duration = Duration::from_secs(15 * 60);

/// The longest text of a custom attribute.
const MAX_TEXT_CHARS: usize = 255;

/// The largest `monthly_spend` (a 32-bit integer).
const MAX_SPEND: i64 = 2_147_483_647;

/// Returns the contact with the data that the event and the profile have of the person.
pub(super) fn contact(
    event: &EnrichedEvent,
    who: &ContactIdentity,
    settings: &IntercomSettings,
    now: Timestamp,
) -> JsonObject {
    let person = EventPerson::of(event);
    let mut contact = JsonObject::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            contact.insert(key.to_owned(), value);
        }
    };
    if let Some(user_id) = &who.user_id {
        set("role", Some("user".into()));
        set("external_id", Some(user_id.as_str().into()));
    }
    set("email", who.email.clone().map(Value::from));
    set("phone", phone(event, &settings.telephones).map(Value::from));
    set("name", person.name().map(|name| name.trim().into()));
    let avatar = person.avatar().and_then(|url| Url::parse(url.trim()).ok());
    let avatar = avatar.filter(|url| matches!(url.scheme(), "http" | "https"));
    set("avatar", avatar.map(|url| url.as_str().into()));
    let created_at = person.created_at().and_then(|at| time::read_value(&Value::from(at.as_ref())));
    set("signed_up_at", created_at.map(|at| at.as_second().into()));
    set("last_seen_at", last_seen_at(event, now).map(Value::from));
    let stated = |keys: [&str; 2]| keys.iter().find_map(|key| event.person_trait(key));
    let owner = stated(["owner_id", "ownerId"]).and_then(products::whole_number);
    set("owner_id", owner.filter(|owner| *owner > 0).map(Value::from));
    let refuses = stated(["unsubscribed_from_emails", "unsubscribedFromEmails"]);
    set("unsubscribed_from_emails", refuses.and_then(Value::as_bool).map(Value::from));
    let mut custom = match settings.attributes.is_empty() {
        true => JsonObject::new(),
        false => attributes(&person.traits(), &settings.attributes, &mut DroppedFields::default()),
    };
    if let (None, Some(attribute), Some(id)) =
        (&who.user_id, &settings.lead_attribute, &who.anonymous_id)
    {
        custom.insert(attribute.clone(), id.as_str().into());
    }
    set("custom_attributes", (!custom.is_empty()).then_some(Value::Object(custom)));
    contact
}

/// Returns the time of the visit, unless the event is old and may be replayed.
fn last_seen_at(event: &EnrichedEvent, now: Timestamp) -> Option<i64> {
    let at = event.event.timestamp;
    let age = Duration::try_from(now.duration_since(at)).unwrap_or_default();
    (age <= MAX_VISIT_AGE).then(|| at.as_second())
}

/// Records the traits of a person that no attribute can hold.
pub(super) fn note_dropped(
    event: &EnrichedEvent,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) {
    if !settings.attributes.is_empty() {
        let _sent_later =
            attributes(&EventPerson::of(event).traits(), &settings.attributes, dropped);
    }
}

/// Returns the traits of these names that an attribute can hold.
fn attributes(traits: &JsonObject, names: &[String], dropped: &mut DroppedFields) -> JsonObject {
    let mut attributes = JsonObject::new();
    for (name, value) in select_values(traits, names) {
        match attribute_value(&name, value) {
            Some(value) => {
                attributes.insert(name, value);
            }
            None if is_blank(value) => {}
            None => dropped.add(&name, FieldDropReason::Nested),
        }
    }
    attributes
}

fn attribute_value(name: &str, value: &Value) -> Option<Value> {
    match value {
        Value::String(text) if text.trim().is_empty() => None,
        // Intercom's attributes of this ending are dates, in seconds.
        Value::String(text) if name.ends_with("_at") => match time::read_date_text(text) {
            Some(at) => Some(at.as_second().into()),
            None => Some(cut(text, MAX_TEXT_CHARS).into()),
        },
        Value::String(text) => Some(cut(text, MAX_TEXT_CHARS).into()),
        Value::Number(_) | Value::Bool(_) => Some(value.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns the company of a group event; `None` without its id.
pub(super) fn company(
    event: &Event,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) -> Option<JsonObject> {
    let id = event.group_id.as_deref().filter(|id| !id.trim().is_empty())?;
    let empty = JsonObject::new();
    let traits = event.traits.as_ref().unwrap_or(&empty);
    let mut company = JsonObject::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            company.insert(key.to_owned(), value);
        }
    };
    set("company_id", Some(id.into()));
    let text = |keys: &[&str]| {
        let found = keys.iter().find_map(|key| products::text(traits.get(*key)?));
        found.map(|text| Value::from(text.trim()))
    };
    let whole =
        |keys: &[&str]| keys.iter().find_map(|key| products::whole_number(traits.get(*key)?));
    set("name", text(&["name"]));
    set("plan", text(&["plan"]));
    let size = whole(&["employees", "size"]).filter(|size| *size >= 0);
    set("size", size.map(Value::from));
    set("website", text(&["website"]));
    set("industry", text(&["industry"]));
    let spend = ["monthly_spend", "monthlySpend"];
    let spend = spend.iter().find_map(|key| products::number(traits.get(*key)?));
    set("monthly_spend", spend.and_then(|spend| truncated(&spend)).map(Value::from));
    let created = ["remote_created_at", "remoteCreatedAt", "createdAt", "created_at"];
    let created = created.iter().find_map(|key| time::read_value(traits.get(*key)?));
    set("remote_created_at", created.map(|at| at.as_second().into()));
    let custom = attributes(traits, &settings.company_attributes, dropped);
    set("custom_attributes", (!custom.is_empty()).then_some(Value::Object(custom)));
    Some(company)
}

/// Returns a spend without its decimals, as Intercom requires.
fn truncated(spend: &Number) -> Option<i64> {
    let whole = match (spend.as_i64(), spend.as_f64()) {
        (Some(whole), _) => whole,
        (None, Some(float)) => products::whole_number(&float.trunc().into())?,
        (None, None) => return None,
    };
    (0..=MAX_SPEND).contains(&whole).then_some(whole)
}

/// Returns a company's id, as sites write it.
pub(super) fn company_id(written: &Value) -> Option<String> {
    products::text(written)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn monthly_spend_is_truncated() {
        for (written, expected) in [
            (json!(830.5), Some(830)),
            (json!(830.999), Some(830)),
            (json!(49), Some(49)),
            (json!(0.9), Some(0)),
            (json!(-1), None),
            (json!(3e9), None),
        ] {
            assert_eq!(truncated(written.as_number().unwrap()), expected, "{written}");
        }
    }
}
