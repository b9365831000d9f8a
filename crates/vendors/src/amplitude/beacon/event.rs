//! One event of an upload, read member by member (`docs/contracts/beacons.md` 6.3 and 6.5).

use serde_json::Value;

use super::{AmplitudeEnvelope, CLIENT, kinds};
use crate::beacon_format::{self, CampaignContext, CanonicalMessage, put};
use tagway_core::event::JsonObject;
use tagway_core::values::address::read_visitor_address;

/// Members of the event and their place in the context: an object of it, and the name there.
const CONTEXT_MEMBERS: &[(&str, &str, &str)] = &[
    ("app_version", "app", "version"),
    ("version_name", "app", "version"),
    ("os_version", "os", "version"),
    ("device_brand", "device", "brand"),
    ("device_manufacturer", "device", "manufacturer"),
    ("device_model", "device", "model"),
    ("carrier", "network", "carrier"),
    ("country", "location", "country"),
    ("region", "location", "region"),
    ("city", "location", "city"),
    ("location_lat", "location", "latitude"),
    ("location_lng", "location", "longitude"),
    ("idfa", "device", "advertisingId"),
    ("adid", "device", "advertisingId"),
];

/// Members with an order's amounts besides its properties, and the spec's names for them.
const REVENUE: &[(&str, &str)] = &[
    ("price", "price"),
    ("quantity", "quantity"),
    ("revenue", "revenue"),
    ("productId", "product_id"),
    ("revenueType", "revenue_type"),
    ("currency", "currency"),
];

/// Members that are stored unchanged.
const KEPT: [&str; 4] = ["plan", "ingestion_metadata", "partner_id", "extra"];

/// The content of an event, by its members.
#[derive(Default)]
pub(super) struct AmplitudeBeaconEvent {
    pub(super) event_type: String,
    pub(super) user: Option<String>,
    pub(super) device: Option<String>,
    insert_id: Option<String>,
    time: Option<Value>,
    session: Option<Value>,
    pub(super) properties: JsonObject,
    pub(super) person: JsonObject,
    pub(super) of_group: JsonObject,
    pub(super) groups: JsonObject,
    pub(super) campaign_context: CampaignContext,
    pub(super) url: Option<Value>,
    pub(super) title: Option<Value>,
    pub(super) referrer: Option<Value>,
    /// Operations on properties besides setting them.
    pub(super) operations: JsonObject,
    library: Option<Value>,
    platform: Option<Value>,
    system: Option<Value>,
    context: JsonObject,
    kept: JsonObject,
}

/// Reads an event and adds its messages; returns true if it is an event.
pub(super) fn read(
    event: JsonObject,
    sending: &AmplitudeEnvelope<'_>,
    messages: &mut Vec<CanonicalMessage>,
) -> bool {
    let inbound = read_event(event, sending);
    if inbound.event_type.trim().is_empty() {
        return false;
    }
    kinds::write(inbound, sending, messages);
    true
}

fn read_event(event: JsonObject, sending: &AmplitudeEnvelope<'_>) -> AmplitudeBeaconEvent {
    let mut inbound = AmplitudeBeaconEvent::default();
    let mut revenue = JsonObject::new();
    for (name, value) in event {
        match (name.as_str(), value) {
            ("event_type", value) => {
                inbound.event_type =
                    beacon_format::scalar_text(&value).unwrap_or_default().into_owned();
            }
            ("user_id", value) => inbound.user = beacon_format::id(value),
            ("device_id", value) => inbound.device = beacon_format::id(value),
            ("insert_id" | "uuid", value) => {
                inbound.insert_id = beacon_format::id(value).or(inbound.insert_id)
            }
            ("time" | "timestamp", value) => inbound.time = Some(value),
            ("session_id", value) => inbound.session = Some(value),
            ("event_properties", Value::Object(own)) => inbound.properties = own,
            ("user_properties", Value::Object(own)) => inbound.person = own,
            ("group_properties", Value::Object(own)) => inbound.of_group = own,
            ("groups", Value::Object(groups)) => inbound.groups = groups,
            ("library", value) => inbound.library = Some(value),
            ("platform", value) => inbound.platform = Some(value),
            ("os_name", value) => inbound.system = Some(value),
            ("language", Value::String(language)) => {
                put(&mut inbound.context, "locale", Some(language));
            }
            // The placeholder for the sender's own address is no address.
            ("ip", Value::String(ip)) => {
                let address = read_visitor_address(&ip).map(|address| address.to_string());
                put(&mut inbound.context, "ip", address);
            }
            ("user_agent", Value::String(agent)) if sending.agent != Some(&agent) => {
                put(&mut inbound.context, "userAgent", Some(agent));
            }
            (kept, value) if KEPT.contains(&kept) => put(&mut inbound.kept, kept, Some(value)),
            (other, value) => {
                if let Some((_, property)) = REVENUE.iter().find(|(known, _)| *known == other) {
                    put(&mut revenue, property, Some(value));
                } else if let Some(place) =
                    CONTEXT_MEMBERS.iter().find(|(known, ..)| *known == other)
                {
                    put_within(&mut inbound.context, place.1, place.2, Some(value));
                }
            }
        }
    }
    for (name, value) in revenue {
        inbound.properties.entry(name).or_insert(value);
    }
    inbound
}

fn put_within(context: &mut JsonObject, object: &str, member: &str, value: Option<Value>) {
    let Some(value) = value.filter(|value| !value.is_null() && *value != "") else { return };
    let object = context.entry(object).or_insert_with(|| Value::Object(JsonObject::new()));
    if let Value::Object(object) = object {
        put(object, member, Some(value));
    }
}

impl AmplitudeBeaconEvent {
    /// Adds all that the messages of the event share, except the message id.
    pub(super) fn addressed(
        &self,
        message: CanonicalMessage,
        sending: &AmplitudeEnvelope<'_>,
    ) -> CanonicalMessage {
        let mut message = message.with_ids(self.user.as_deref(), self.device.as_deref());
        // The library sends no cookies: without an id, visitors could not be distinguished.
        if message.head.user_id.is_none() && message.head.anonymous_id.is_none() {
            message = message.with_ids(None, Some(sending.daily_id));
        }
        message.when(self.time.as_ref()).sent_at(sending.at).with_integrations(self.options())
    }

    /// Returns the id of the event's message of this number.
    pub(super) fn message_id(&self, number: usize) -> Option<String> {
        let id = self.insert_id.as_deref()?;
        Some(if number == 0 { id.to_owned() } else { format!("{id}-{number}") })
    }

    /// Returns the options for Amplitude alone: the groups, and the mark of an event outside any session.
    fn options(&self) -> JsonObject {
        let mut own = JsonObject::new();
        let is_outside = self.session.as_ref().is_some_and(|session| *session == -1);
        put(&mut own, "session_id", is_outside.then_some(-1));
        if !self.event_type.starts_with('$') {
            put(&mut own, "groups", Some(self.groups.clone()));
        }
        let mut options = JsonObject::new();
        put(&mut options, "Amplitude", Some(own));
        options
    }

    pub(super) fn page(&self) -> JsonObject {
        fn text(value: &Option<Value>) -> Option<&str> {
            value.as_ref().and_then(Value::as_str).filter(|text| !text.is_empty())
        }
        beacon_format::page(text(&self.url), text(&self.title), text(&self.referrer))
    }

    /// Builds the context of all messages of the event.
    pub(super) fn into_context(self, sending: &AmplitudeEnvelope<'_>) -> JsonObject {
        let mut context = beacon_format::preallocated_object();
        put(&mut context, "page", Some(self.page()));
        self.campaign_context.finish(&mut context);
        context.extend(self.context);
        if self.platform.as_ref().is_some_and(|platform| *platform == "Web") {
            put(&mut context, "channel", Some("web"));
            // The old library writes the browser's name there.
            put_within(&mut context, "browser", "name", self.system);
            if let Some(Value::Object(mut system)) = context.remove("os") {
                put_within(&mut context, "browser", "version", system.remove("version"));
            }
        } else {
            put_within(&mut context, "os", "name", self.system);
            let platform = self.platform.filter(Value::is_string);
            put_within(&mut context, "device", "type", platform);
        }
        let session = self.session.filter(|session| session.as_i64().is_some_and(|id| id > 0));
        put(&mut context, "sessionId", session.clone());
        let (name, version) = library(self.library);
        let mut library = JsonObject::new();
        put(&mut library, "name", name);
        put(&mut library, "version", version.as_deref());
        put(&mut context, "library", Some(library));
        let mut own = JsonObject::new();
        put(&mut own, "device_id", self.device);
        put(&mut own, "session_id", session);
        let mut ids = JsonObject::new();
        put(&mut ids, CLIENT, Some(own));
        put(&mut context, "clientIds", Some(ids));
        let version = version.as_deref();
        let mut source =
            beacon_format::source(CLIENT, version, sending.endpoint, Some(&self.event_type));
        put(&mut source, "operations", Some(self.operations));
        source.extend(self.kept);
        put(&mut context, "source", Some(source));
        context
    }
}

/// Reads the library's name and version: an object of both, or a text with a slash between them.
fn library(inbound: Option<Value>) -> (Option<String>, Option<String>) {
    match inbound {
        Some(Value::String(text)) => match text.rsplit_once('/') {
            Some((name, version)) => (Some(name.to_owned()), Some(version.to_owned())),
            None => (Some(text), None),
        },
        Some(Value::Object(mut library)) => {
            let mut text = |name| library.remove(name).and_then(beacon_format::id);
            (text("name"), text("version"))
        }
        _ => (None, None),
    }
}
