//! People and groups in the form of `/engage` and `/groups` (`docs/contracts/destinations.md` 3.3 and 3.5):
//! one operation a record; a property that is `null` is unset.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::beacon;
use super::fields::{MixpanelObjectWriter, MixpanelValueLimits, is_geo_source};
use super::identity::MixpanelIds;
use super::settings::MixpanelSettings;
use crate::{beacon_format, naming, products};
use tagway_core::event::{DroppedFields, EnrichedEvent, FieldDropReason, JsonObject};
use tagway_core::values::time::read_value;

/// Traits and Mixpanel's own names for them.
const NAMES: &[(&str, &str)] = &[
    ("email", "$email"),
    ("name", "$name"),
    ("firstName", "$first_name"),
    ("first_name", "$first_name"),
    ("firstname", "$first_name"),
    ("lastName", "$last_name"),
    ("last_name", "$last_name"),
    ("lastname", "$last_name"),
    ("username", "$username"),
    ("phone", "$phone"),
    ("avatar", "$avatar"),
    ("createdAt", CREATED),
    ("created_at", CREATED),
    ("created", CREATED),
    ("city", "$city"),
    ("region", "$region"),
    ("state", "$region"),
    ("country_code", "$country_code"),
    ("countryCode", "$country_code"),
    ("timezone", "$timezone"),
];

const CREATED: &str = "$created";

/// Names that Mixpanel reserves.
const RESERVED: [&str; 2] = ["bucket", "$bucket"];

/// Operations of Mixpanel's own library on people that canonical messages cannot express. Those that must
/// not be repeated come last.
const OPERATIONS: [&str; 4] = ["$union", "$remove", "$append", "$add"];

/// Returns the updates of a person for an identify event.
pub(super) fn identify(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Vec<Vec<u8>> {
    let own = beacon_format::own_operations(event, beacon::CLIENT);
    let operation = |name: &str| own.and_then(|own| own.get(name)).and_then(Value::as_object);
    let mut records = match &event.event.traits {
        Some(traits) => of_traits(event, traits, operation("$set_once"), settings, dropped),
        None => Vec::new(),
    };
    for name in OPERATIONS {
        if let Some(properties) = operation(name).filter(|properties| !properties.is_empty()) {
            records.push(update(event, settings, |fields| fields.put_profile(name, properties)));
        }
    }
    records
}

/// Returns the updates for traits. Mixpanel's own library may have marked some to be set only once.
fn of_traits(
    event: &EnrichedEvent,
    traits: &JsonObject,
    said_once: Option<&JsonObject>,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Vec<Vec<u8>> {
    let is_said_once = |name: &str| said_once.is_some_and(|stated| stated.contains_key(name));
    let (mut set, mut once, mut union) = (JsonObject::new(), JsonObject::new(), JsonObject::new());
    let mut unset = Vec::new();
    for (name, value) in traits {
        let (property, value) = own_property(name, value);
        if !is_sendable_name(name) {
            dropped.add(name, FieldDropReason::NameNotAllowed);
        } else if !is_geo_source(property, &value) {
            dropped.add(name, FieldDropReason::ValueNotAllowed);
        } else if value.is_null() {
            unset.push(property.to_owned());
        } else if !MixpanelValueLimits::PROFILE.allow(&value) {
        } else if settings.set_once.contains(name) || is_said_once(property) {
            once.entry(property).or_insert(value);
        } else if settings.union.contains(name) {
            union.insert(property.to_owned(), as_list(value));
        } else {
            set.entry(property).or_insert(value);
        }
    }
    complete(&mut set, traits);
    let mut records = Vec::new();
    for (operation, properties) in [("$set", set), ("$set_once", once), ("$union", union)] {
        if !properties.is_empty() {
            records.push(update(event, settings, |fields| {
                fields.put_profile(operation, &properties);
            }));
        }
    }
    if !unset.is_empty() {
        records.push(update(event, settings, |fields| fields.put("$unset", &unset)));
    }
    records
}

/// Returns the updates of a person for a track event, by the settings: sums and revenue. They must not
/// be repeated, so they come last.
pub(super) fn counts(event: &EnrichedEvent, settings: &MixpanelSettings) -> Vec<Vec<u8>> {
    let Some(properties) = &event.event.properties else { return Vec::new() };
    let mut sums = JsonObject::new();
    for name in &settings.increments {
        if let Some(number) = properties.get(name).and_then(products::number) {
            sums.insert(name.clone(), Value::Number(number));
        }
    }
    let mut records = Vec::new();
    if !sums.is_empty() {
        records.push(update(event, settings, |fields| fields.put_profile("$add", &sums)));
    }
    if let Some(amount) =
        properties.get("revenue").filter(|_| settings.transactions).and_then(|revenue| {
            let revenue = products::number(revenue)?;
            let name = event.event.event.as_deref().unwrap_or_default();
            // A refund is negative revenue.
            let is_refund = naming::is_like("ORDER_REFUNDED", name);
            if is_refund { products::amount(-revenue.as_f64()?.abs()) } else { Some(revenue) }
        })
    {
        let transaction = json!({ "$transactions": {
            "$time": event.event.timestamp.to_string(), "$amount": amount } });
        records.push(update(event, settings, |fields| fields.put("$append", &transaction)));
    }
    records
}

/// Returns the ids of a group event by group key: the group's trait of the key's name; for the first key
/// else the group id.
pub(super) fn group_ids<'e>(
    event: &'e EnrichedEvent,
    settings: &'e MixpanelSettings,
) -> Vec<(&'e str, String)> {
    let traits = event.event.traits.as_ref();
    // A client that names the key of the id means no other key.
    let stated = event.context_text(&["groupType"]).zip(event.event.group_id.clone());
    if let Some((stated, id)) = stated
        && let Some(key) = settings.group_keys.iter().find(|key| *key == stated)
    {
        return vec![(key.as_str(), id)];
    }
    let mut ids = Vec::new();
    for (index, key) in settings.group_keys.iter().enumerate() {
        let own = traits.and_then(|traits| traits.get(key)).and_then(products::text);
        let named =
            || event.event.group_id.clone().filter(|id| index == 0 && !id.trim().is_empty());
        if let Some(id) = own.or_else(named) {
            ids.push((key.as_str(), id));
        }
    }
    ids
}

/// Returns the update that makes the person a member of groups.
pub(super) fn membership(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    groups: &[(&str, String)],
) -> Vec<u8> {
    let keys: JsonObject =
        groups.iter().map(|(key, id)| ((*key).to_owned(), json!([id]))).collect();
    update(event, settings, |fields| fields.put_profile("$set", &keys))
}

/// Returns the updates of one group.
pub(super) fn group(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    (key, id): (&str, &str),
) -> Vec<Vec<u8>> {
    let Some(traits) = &event.event.traits else { return Vec::new() };
    let (mut set, mut unset) = (JsonObject::new(), Vec::new());
    for (name, value) in traits.iter().filter(|(name, _)| is_sendable_name(name)) {
        let property = if name == "name" { "$name" } else { name };
        if value.is_null() {
            unset.push(property.to_owned());
        } else if MixpanelValueLimits::PROFILE.allow(value) && name != key {
            set.insert(property.to_owned(), value.clone());
        }
    }
    let record = |write: &dyn Fn(&mut MixpanelObjectWriter<'_>)| {
        let mut out = Vec::with_capacity(256);
        let mut fields = MixpanelObjectWriter::open(&mut out);
        fields.put("$token", settings.token.expose());
        fields.put("$group_key", key);
        fields.put("$group_id", id);
        write(&mut fields);
        fields.close();
        out
    };
    let mut records = Vec::new();
    if !set.is_empty() {
        records.push(record(&|fields| fields.put_profile("$set", &set)));
    }
    if !unset.is_empty() {
        records.push(record(&|fields| fields.put("$unset", &unset)));
    }
    records
}

/// Builds one update of the event's person.
fn update(
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    operation: impl FnOnce(&mut MixpanelObjectWriter<'_>),
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut fields = MixpanelObjectWriter::open(&mut out);
    fields.put("$token", settings.token.expose());
    fields.put("$distinct_id", &*MixpanelIds::of(event).distinct(settings.id_merge));
    if let Some(ip) = event.ip().filter(|_| settings.locate) {
        fields.put("$ip", &ip);
    }
    if event.context(&["active"]) == Some(&Value::Bool(false)) {
        // The person did nothing: this is not the time when they were last seen.
        fields.put("$ignore_time", &true);
    }
    operation(&mut fields);
    fields.close();
    out
}

fn is_sendable_name(name: &str) -> bool {
    !name.is_empty() && !RESERVED.contains(&name)
}

/// Returns Mixpanel's name for a trait, and the value in Mixpanel's form.
fn own_property<'n>(name: &'n str, value: &Value) -> (&'n str, Value) {
    let property = NAMES.iter().find(|(known, _)| *known == name).map(|(_, property)| *property);
    match property {
        Some(CREATED) if !value.is_null() => match moment(value) {
            Some(moment) => (CREATED, Value::String(moment)),
            None => (name, value.clone()),
        },
        Some(property) => (property, value.clone()),
        None => (name, value.clone()),
    }
}

/// Adds Mixpanel's own properties that follow from other traits: the full name and the location.
fn complete(set: &mut JsonObject, traits: &JsonObject) {
    let text =
        |set: &JsonObject, name: &str| set.get(name).and_then(Value::as_str).map(str::to_owned);
    if let (Some(first), Some(last)) = (text(set, "$first_name"), text(set, "$last_name")) {
        set.entry("$name").or_insert_with(|| Value::String(format!("{first} {last}")));
    }
    let Some(address) = traits.get("address").and_then(Value::as_object) else { return };
    let part = |keys: &[&str]| keys.iter().find_map(|key| products::text(address.get(*key)?));
    let country = part(&["country_code", "countryCode", "country"]);
    for (property, value) in [
        ("$city", part(&["city"])),
        ("$region", part(&["state", "region"])),
        ("$country_code", country.filter(|code| code.len() == 2)),
    ] {
        if let Some(value) = value {
            set.entry(property).or_insert(Value::String(value));
        }
    }
}

/// Returns a date or a time in ISO 8601, from ISO text or from seconds or milliseconds since 1970.
fn moment(value: &Value) -> Option<String> {
    if let Some(text) = value.as_str().map(str::trim)
        && (text.parse::<Timestamp>().is_ok() || text.parse::<Date>().is_ok())
    {
        return Some(text.to_owned());
    }
    read_value(value).map(|at| at.to_string())
}

fn as_list(value: Value) -> Value {
    if value.is_array() { value } else { Value::Array(vec![value]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_dates_are_read_in_their_usual_forms() {
        for (written, read) in [
            (json!("2026-01-02T03:04:05Z"), Some("2026-01-02T03:04:05Z")),
            (json!("2026-01-02"), Some("2026-01-02")),
            (json!(1_767_323_045), Some("2026-01-02T03:04:05Z")),
            (json!("1767323045"), Some("2026-01-02T03:04:05Z")),
            (json!(1_767_323_045_006_i64), Some("2026-01-02T03:04:05.006Z")),
            (json!("yesterday"), None),
            (json!(true), None),
        ] {
            assert_eq!(moment(&written).as_deref(), read, "{written}");
        }
        let (name, value) = own_property("createdAt", &json!("yesterday"));
        assert_eq!((name, value), ("createdAt", json!("yesterday")), "under its own name");
    }
}
