//! Events of `/track` (`docs/contracts/beacons.md` 5.3).
//!
//! A group's key is a property whose value is a list like any other: it stays among the properties,
//! where the destination reads it.

use serde_json::Value;

use super::identity::{MixpanelBeaconIds, bare, is_device};
use super::{CLIENT, MixpanelBeaconRecord, MixpanelEnvelope};
use crate::beacon_format::{self, CampaignContext, CanonicalMessage, put};
use tagway_core::event::{EventKind, JsonObject};
use tagway_core::values::address::read_visitor_address;

/// Default properties, each with its object and member in the context.
const CONTEXT_PROPERTIES: &[(&str, &str, &str)] = &[
    ("$os", "os", "name"),
    ("$os_version", "os", "version"),
    ("$browser", "browser", "name"),
    ("$browser_version", "browser", "version"),
    ("$device", "device", "name"),
    ("$screen_width", "screen", "width"),
    ("$screen_height", "screen", "height"),
    ("mp_lib", "library", "name"),
    ("$lib_version", "library", "version"),
];

/// Properties that repeat others.
const REPEATED: [&str; 7] = [
    "token",
    "mp_sent_by_lib_version",
    "current_domain",
    "current_url_path",
    "current_url_search",
    "current_url_protocol",
    "$referring_domain",
];

/// An event's properties, sorted by purpose.
#[derive(Default)]
struct MixpanelBeaconEvent {
    ids: MixpanelBeaconIds,
    insert_id: Option<String>,
    time: Option<Value>,
    url: Option<Value>,
    title: Option<Value>,
    referrer: Option<Value>,
    campaign_context: CampaignContext,
    context: JsonObject,
    /// The site's own properties.
    properties: JsonObject,
}

/// Returns the message of an event. `None` if it has no name.
pub(super) fn message(
    record: JsonObject,
    sending: &MixpanelEnvelope,
) -> Option<MixpanelBeaconRecord> {
    let (mut name, mut properties) = (None, JsonObject::new());
    for (member, value) in record {
        match (member.as_str(), value) {
            ("event", Value::String(text)) => name = Some(text),
            ("properties", Value::Object(inbound)) => properties = inbound,
            _ => {}
        }
    }
    let name = name.filter(|name| !name.trim().is_empty())?;
    // `$opt_in` is about the visitor's choice; `mp_loaded` said that the library had loaded.
    if matches!(name.as_str(), "$opt_in" | "mp_loaded") {
        return Some(MixpanelBeaconRecord { message: None });
    }
    Some(read_properties(properties).into_read(&name, sending))
}

fn read_properties(properties: JsonObject) -> MixpanelBeaconEvent {
    let mut inbound = MixpanelBeaconEvent::default();
    for (name, value) in properties {
        let Some(value) = inbound.ids.take(&name, value) else { continue };
        match name.as_str() {
            "$insert_id" => inbound.insert_id = beacon_format::id(value),
            "time" => inbound.time = Some(value),
            // A server's word for where its visitor is.
            "ip" | "$ip" => match value.as_str().and_then(read_visitor_address) {
                Some(address) => put(&mut inbound.context, "ip", Some(address.to_string())),
                None => put(&mut inbound.properties, &name, Some(value)),
            },
            "$current_url" | "mp_page" => inbound.url = Some(value),
            "current_page_title" => inbound.title = Some(value),
            "$referrer" | "mp_referrer" => inbound.referrer = Some(value),
            // `$direct` means that there was no page before; it is no property.
            "$initial_referrer" | "$initial_referring_domain" if value == "$direct" => {}
            repeated if REPEATED.contains(&repeated) => {}
            _ => {
                let Some(value) = put_context(&mut inbound.context, &name, value) else { continue };
                if let Some((name, value)) = inbound.campaign_context.take(name, value) {
                    inbound.properties.insert(name, value);
                }
            }
        }
    }
    inbound
}

/// Puts a default property into the context; any other is returned.
pub(super) fn put_context(context: &mut JsonObject, name: &str, value: Value) -> Option<Value> {
    let known = CONTEXT_PROPERTIES.iter().find(|(property, _, _)| *property == name);
    let Some((_, object, member)) = known else { return Some(value) };
    let object = context.entry(*object).or_insert_with(|| Value::Object(JsonObject::new()));
    if let Value::Object(object) = object {
        put(object, member, Some(value));
    }
    None
}

/// A person's earlier and later id.
#[derive(Default)]
struct MixpanelAlias {
    previous: Option<String>,
    user: Option<String>,
}

impl MixpanelBeaconEvent {
    fn into_read(mut self, name: &str, sending: &MixpanelEnvelope) -> MixpanelBeaconRecord {
        let message = match name {
            "$identify" => self.identify(),
            "$create_alias" => {
                let previous = self.ids.distinct().map(str::to_owned);
                let ids = MixpanelAlias { previous, user: self.take_id("alias") };
                self.alias(ids)
            }
            "$merge" => {
                let ids = self.merged();
                self.alias(ids)
            }
            _ => Some(self.event(name)),
        };
        let Some(message) = message else { return MixpanelBeaconRecord { message: None } };
        let message = message
            .with_message_id(self.insert_id.take())
            .when(self.time.as_ref())
            .sent_at(sending.at)
            .with_context(self.into_context(name, sending));
        MixpanelBeaconRecord { message: Some(message) }
    }

    /// Builds a page or a track message.
    fn event(&mut self, name: &str) -> CanonicalMessage {
        let properties = std::mem::take(&mut self.properties);
        let message = match name {
            "$mp_web_page_view" | "mp_page_view" => {
                let mut all = self.page();
                all.extend(properties);
                CanonicalMessage::new(EventKind::Page).with_properties(all)
            }
            _ => CanonicalMessage::track(name).with_properties(properties),
        };
        self.ids.write(message)
    }

    /// Builds an identify message: by the user's id, or by the two ids of server libraries.
    fn identify(&mut self) -> Option<CanonicalMessage> {
        let (known, before) = (self.take_id("$identified_id"), self.take_id("$anon_id"));
        let anonymous = self.take_id("$anon_distinct_id").filter(|id| is_device(id)).or(before);
        let user = self.ids.user().or(known.as_deref())?;
        let device = self.ids.device().or(anonymous.as_deref().map(bare));
        let message = CanonicalMessage::new(EventKind::Identify);
        Some(message.with_ids(Some(user), device))
    }

    /// Builds an alias message of a person's earlier and later id.
    fn alias(&self, ids: MixpanelAlias) -> Option<CanonicalMessage> {
        let (previous, user) = (ids.previous?, ids.user?);
        if bare(&previous) == bare(&user) {
            return None;
        }
        let message = CanonicalMessage::new(EventKind::Alias)
            .with_previous_id(Some(bare(&previous)))
            .with_ids(Some(bare(&user)), self.ids.device());
        message.head.previous_id.is_some().then_some(())?;
        message.head.user_id.is_some().then_some(message)
    }

    /// Returns the two ids of a merge; a device's is the earlier one, whatever their order.
    fn merged(&mut self) -> MixpanelAlias {
        let Some(Value::Array(ids)) = self.properties.remove("$distinct_ids") else {
            return MixpanelAlias::default();
        };
        let mut ids = ids.into_iter().filter_map(beacon_format::id);
        let (first, second) = (ids.next(), ids.next());
        if second.as_deref().is_some_and(is_device) {
            return MixpanelAlias { previous: second, user: first };
        }
        MixpanelAlias { previous: first, user: second }
    }

    fn take_id(&mut self, name: &str) -> Option<String> {
        beacon_format::id(self.properties.remove(name)?)
    }

    fn page(&self) -> JsonObject {
        fn text(value: &Option<Value>) -> Option<&str> {
            value.as_ref().and_then(Value::as_str)
        }
        beacon_format::page(text(&self.url), text(&self.title), text(&self.referrer))
    }

    fn into_context(self, name: &str, sending: &MixpanelEnvelope) -> JsonObject {
        let mut context = beacon_format::preallocated_object();
        put(&mut context, "page", Some(self.page()));
        self.campaign_context.finish(&mut context);
        let version = self.context.get("library").and_then(|library| library.get("version"));
        let version = version.and_then(Value::as_str);
        let source = beacon_format::source(CLIENT, version, sending.endpoint, Some(name));
        context.extend(self.context);
        self.ids.finish(&mut context);
        put(&mut context, "source", Some(source));
        context
    }
}
