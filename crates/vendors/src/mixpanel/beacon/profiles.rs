//! People of `/engage` and groups of `/groups` (`docs/contracts/beacons.md` 5.4).
//!
//! Properties that are set become traits, unset ones traits that are `null`. All other operations, and
//! properties to be set only once, stay in `context.source.operations` as sent.

use serde_json::Value;

use super::identity::MixpanelBeaconIds;
use super::track::put_context;
use super::{CLIENT, MixpanelBeaconRecord, MixpanelEnvelope};
use crate::beacon_format::{self, CanonicalMessage, put};
use tagway_core::event::{EventKind, JsonObject};
use tagway_core::values::address::read_visitor_address;

/// Mixpanel's own properties and the traits that they become.
const RESERVED: &[(&str, &str)] = &[
    ("$email", "email"),
    ("$name", "name"),
    ("$first_name", "first_name"),
    ("$last_name", "last_name"),
    ("$phone", "phone"),
    ("$avatar", "avatar"),
    ("$created", "created"),
    ("$username", "username"),
    ("$city", "city"),
    ("$region", "region"),
    ("$country_code", "country_code"),
    ("$timezone", "timezone"),
];

/// One update of a person or a group.
#[derive(Default)]
struct MixpanelProfileUpdate {
    ids: MixpanelBeaconIds,
    group_key: Option<String>,
    group_id: Option<String>,
    time: Option<Value>,
    traits: JsonObject,
    operations: JsonObject,
    context: JsonObject,
}

/// Returns the identify message of an update. `None` if it has neither an id nor a change.
pub(super) fn person(
    record: JsonObject,
    sending: &MixpanelEnvelope,
) -> Option<MixpanelBeaconRecord> {
    let update = read(record);
    if update.ids.user().is_none() && update.ids.device().is_none() && update.is_blank() {
        return None;
    }
    let message = update.ids.write(CanonicalMessage::new(EventKind::Identify));
    Some(update.into_read(message, sending))
}

/// Returns the id of the person whom a `$delete` names: the user's, else the device's.
pub(super) fn erased_person(record: JsonObject) -> Option<String> {
    let mut ids = MixpanelBeaconIds::default();
    for (name, value) in record {
        ids.take(&name, value);
    }
    let id = ids.user().or_else(|| ids.device())?.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// Returns the group message of an update. `None` if it names no group.
pub(super) fn group(
    record: JsonObject,
    sending: &MixpanelEnvelope,
) -> Option<MixpanelBeaconRecord> {
    let mut update = read(record);
    let message = CanonicalMessage::new(EventKind::Group).with_group_id(update.group_id.as_deref());
    message.head.group_id.as_ref()?;
    put(&mut update.context, "groupType", update.group_key.take());
    let message = update.ids.write(message);
    Some(update.into_read(message, sending))
}

fn read(record: JsonObject) -> MixpanelProfileUpdate {
    let mut update = MixpanelProfileUpdate::default();
    for (name, value) in record {
        let Some(value) = update.ids.take(&name, value) else { continue };
        match (name.as_str(), value) {
            ("$token", _) => {}
            ("$group_key", value) => update.group_key = beacon_format::id(value),
            ("$group_id", value) => update.group_id = beacon_format::id(value),
            ("$time", value) => update.time = Some(value),
            // No action of the visitor: not the time when they were last seen.
            ("$ignore_time", Value::Bool(true)) => put(&mut update.context, "active", Some(false)),
            ("$ip", Value::String(ip)) => {
                let address = read_visitor_address(&ip).map(|address| address.to_string());
                put(&mut update.context, "ip", address);
            }
            ("$set", Value::Object(set)) => update.set(set),
            ("$set_once", Value::Object(set)) => update.set_once(set),
            ("$unset", Value::Array(names)) => {
                for name in names.iter().filter_map(Value::as_str) {
                    update.traits.insert(trait_name(name).to_owned(), Value::Null);
                }
            }
            (operation, value) if operation.starts_with('$') => {
                update.operations.insert(name, value);
            }
            _ => {}
        }
    }
    update
}

impl MixpanelProfileUpdate {
    fn is_blank(&self) -> bool {
        self.traits.is_empty() && self.operations.is_empty()
    }

    fn set(&mut self, set: JsonObject) {
        for (name, value) in set {
            // The library adds the browser's properties to those that are set.
            if let Some(value) = put_context(&mut self.context, &name, value) {
                self.traits.insert(renamed(name), value);
            }
        }
    }

    fn set_once(&mut self, set: JsonObject) {
        add_once(&mut self.traits, &set);
        self.operations.insert("$set_once".to_owned(), Value::Object(set));
    }

    fn into_read(
        mut self,
        message: CanonicalMessage,
        sending: &MixpanelEnvelope,
    ) -> MixpanelBeaconRecord {
        let message = message
            .when(self.time.as_ref())
            .sent_at(sending.at)
            .with_traits(std::mem::take(&mut self.traits));
        let mut context = self.context;
        self.ids.finish(&mut context);
        let mut source = beacon_format::source(CLIENT, None, sending.endpoint, None);
        put(&mut source, "operations", Some(self.operations));
        put(&mut context, "source", Some(source));
        MixpanelBeaconRecord { message: Some(message.with_context(context)) }
    }
}

/// Converts the properties that a shim sets, or sets once, of a person or a group to traits.
pub(super) fn set(stated: JsonObject, once: Option<&JsonObject>) -> JsonObject {
    let mut traits = stated.into_iter().map(|(name, value)| (renamed(name), value)).collect();
    if let Some(once) = once {
        add_once(&mut traits, once);
    }
    traits
}

/// Adds properties that are set once; those without a value are neither set nor unset.
fn add_once(traits: &mut JsonObject, set: &JsonObject) {
    for (name, value) in set {
        if !value.is_null() && *value != "$direct" {
            traits.entry(trait_name(name)).or_insert_with(|| value.clone());
        }
    }
}

fn trait_name(name: &str) -> &str {
    RESERVED.iter().find(|(own, _)| *own == name).map_or(name, |(_, plain)| plain)
}

fn renamed(name: String) -> String {
    match trait_name(&name) {
        plain if plain == name => name,
        plain => plain.to_owned(),
    }
}
