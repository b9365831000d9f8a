//! The mapping of one event to Amplitude: to one or several of its own events, and for groups and aliases to
//! a form (`docs/contracts/destinations.md` 4.2 and 4.4).

use serde_json::{Map, Value, json};

use super::attribution::{self, AmplitudeAttribution};
use super::identity::{self, AmplitudeIds, AmplitudeSdkCookie, valid_id};
use super::settings::{AmplitudeProductMode, AmplitudeSettings};
use super::values::{
    MAX_DEPTH, cut, plain_properties, properties, put_object, put_text, value_within,
};
use super::{VENDOR, beacon, device_context, revenue};
use crate::{Outcome, beacon_format, products};
use tagway_core::event::{DroppedFields, EnrichedEvent, EventKind, JsonObject};

/// The event names that are Amplitude's own.
pub(super) const RESERVED_EVENTS: &[&str] = &[
    "[Amplitude] Start Session",
    "[Amplitude] End Session",
    "[Amplitude] Revenue",
    "[Amplitude] Revenue (Verified)",
    "[Amplitude] Revenue (Unverified)",
    "[Amplitude] Merged User",
    "$identify",
    "$groupidentify",
];

/// The most group types of one event, and groups of all its types together.
const MAX_GROUP_TYPES: usize = 5;
const MAX_GROUPS: usize = 10;

/// The most properties of one group.
pub(super) const MAX_GROUP_PROPERTIES: usize = 1024;

/// Operations of the vendor's own library on a person's properties that canonical messages cannot express.
const OPERATIONS: [&str; 6] =
    ["$add", "$append", "$prepend", "$remove", "$preInsert", "$postInsert"];

/// The name of the sender for the vendor's support.
const LIBRARY: &str = concat!("tagway/", env!("CARGO_PKG_VERSION"));

/// An event ready to be sent.
#[derive(Clone, Debug, Default)]
pub(super) struct AmplitudePayload {
    pub(super) ids: AmplitudeIds,
    /// Amplitude's own events, each as JSON, in their order.
    pub(super) uploads: Vec<String>,
    /// The form entry that is sent after them.
    pub(super) form: Option<AmplitudeFormEntry>,
}

/// One entry of a form.
#[derive(Clone, Debug)]
pub(super) struct AmplitudeFormEntry {
    pub(super) kind: AmplitudeFormKind,
    /// The entry as JSON.
    pub(super) text: String,
    /// The number of properties in it.
    pub(super) properties: usize,
}

/// The two calls that take forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AmplitudeFormKind {
    /// Properties of a group.
    Group,
    /// Two ids of one person.
    Mapping,
}

/// Maps an event to its payload.
pub(super) fn map(
    event: &EnrichedEvent,
    settings: &AmplitudeSettings,
    dropped: &mut DroppedFields,
) -> Result<AmplitudePayload, Outcome> {
    if event.event.kind == EventKind::Alias {
        return alias(event, settings);
    }
    let cookie = identity::sdk_cookie(event, settings);
    let ids = AmplitudeIds::of(event, cookie.as_ref());
    let draft = AmplitudeMapper { event, settings, cookie, ids, dropped };
    match event.event.kind {
        EventKind::Group => draft.group(),
        _ if draft.ids.are_none() => Err(Outcome::dead("no_identity")),
        EventKind::Identify => draft.identify(),
        EventKind::Page => draft.viewed("Page"),
        EventKind::Screen => draft.viewed("Screen"),
        EventKind::Track | EventKind::Alias => draft.track(),
    }
}

struct AmplitudeMapper<'e> {
    event: &'e EnrichedEvent,
    settings: &'e AmplitudeSettings,
    cookie: Option<AmplitudeSdkCookie>,
    ids: AmplitudeIds,
    dropped: &'e mut DroppedFields,
}

impl AmplitudeMapper<'_> {
    fn track(mut self) -> Result<AmplitudePayload, Outcome> {
        let name = self.event.event.event.as_deref().map(str::trim).unwrap_or_default();
        if name.is_empty() {
            return Err(Outcome::dead("missing_name"));
        }
        if RESERVED_EVENTS.contains(&name) {
            return Err(Outcome::dead("reserved_name"));
        }
        let empty = JsonObject::new();
        let given = self.event.event.properties.as_ref().unwrap_or(&empty);
        let bought = match self.settings.products {
            AmplitudeProductMode::Listed => Vec::new(),
            AmplitudeProductMode::Events | AmplitudeProductMode::Revenue
                if !revenue::is_order(name) =>
            {
                Vec::new()
            }
            AmplitudeProductMode::Events | AmplitudeProductMode::Revenue => self.bought(given),
        };
        let has_shares = self.settings.products == AmplitudeProductMode::Revenue
            && bought
                .iter()
                .any(|share| share.contains_key("price") || share.contains_key("revenue"));
        // The vendor's own library's name; events about identity are never track events.
        let own = self.own_name().filter(|own| !RESERVED_EVENTS.contains(own));
        let mut upload = self.upload(own.unwrap_or(name), None);
        let mut event_properties = properties(given, MAX_DEPTH, self.dropped);
        self.add_campaign_context(&mut event_properties);
        put_object(&mut upload, "event_properties", event_properties);
        self.add_event_facts(&mut upload, true);
        if !has_shares {
            upload.extend(revenue::fields(name, given, self.settings));
        }
        let uploads = std::iter::once(upload).chain(bought).map(json_text).collect();
        Ok(AmplitudePayload { ids: self.ids, uploads, form: None })
    }

    /// Returns the name that the vendor's own library gave the event, if it sent it.
    fn own_name(&self) -> Option<&str> {
        beacon_format::own_name(self.event, beacon::CLIENT)
    }

    /// Adds the visitor's acquisition, if the vendor's own library sent it with the event.
    fn add_campaign_context(&self, own: &mut JsonObject) {
        if self.own_name().is_none() {
            return;
        }
        for (key, value) in attribution::campaign(self.event) {
            put_text(own, &format!("utm_{key}"), Some(value));
        }
        let clicks = self.event.context(&["clickIds"]).and_then(Value::as_object);
        for (name, id) in clicks.into_iter().flatten() {
            put_text(own, name, id.as_str());
        }
    }

    /// Makes an event for each product of an order.
    fn bought(&mut self, order: &JsonObject) -> Vec<JsonObject> {
        let mut bought = Vec::new();
        for (number, product) in (1..).zip(products::listed_products(order)) {
            let mut upload = self.upload("Product Purchased", Some(number));
            let mut own = properties(product, MAX_DEPTH, self.dropped);
            let order_id = order.get("order_id").and_then(products::text);
            put_text(&mut own, "order_id", order_id.as_deref());
            put_object(&mut upload, "event_properties", own);
            self.add_event_facts(&mut upload, false);
            if self.settings.products == AmplitudeProductMode::Revenue {
                upload.extend(revenue::of_product(product, order, self.settings));
            }
            bought.push(upload);
        }
        bought
    }

    fn viewed(mut self, what: &str) -> Result<AmplitudePayload, Outcome> {
        let event = &*self.event.event;
        let given = event.properties.as_ref();
        let stated = |own: &Option<String>, key: &str| {
            let property = || products::text(given?.get(key)?);
            let own = own.clone().filter(|name| !name.trim().is_empty());
            own.or_else(property).map(|name| cut(name.trim()).to_owned())
        };
        let (name, category) = (stated(&event.name, "name"), stated(&event.category, "category"));
        let event_type = match name.as_ref().or(category.as_ref()) {
            Some(shown) => format!("Viewed {shown} {what}"),
            None => format!("Loaded a {what}"),
        };
        let mut own =
            given.map(|given| properties(given, MAX_DEPTH, self.dropped)).unwrap_or_default();
        put_text(&mut own, "name", name.as_deref());
        put_text(&mut own, "category", category.as_deref());
        if event.kind == EventKind::Page {
            for key in ["url", "path", "referrer", "title", "search"] {
                if !own.contains_key(key) {
                    put_text(&mut own, key, self.event.context_text(&["page", key]));
                }
            }
        }
        let own_name = self.own_name().filter(|own| !RESERVED_EVENTS.contains(own));
        let mut upload = self.upload(cut(own_name.unwrap_or(&event_type)), None);
        self.add_campaign_context(&mut own);
        put_object(&mut upload, "event_properties", own);
        self.add_event_facts(&mut upload, true);
        Ok(AmplitudePayload { ids: self.ids, uploads: vec![json_text(upload)], form: None })
    }

    fn identify(mut self) -> Result<AmplitudePayload, Outcome> {
        let operations = self.operations();
        // Two ids suffice for an event: they join a person's history.
        if operations.is_empty() && (self.ids.user.is_none() || self.ids.device.is_none()) {
            return Err(Outcome::skipped("nothing_to_say"));
        }
        let mut upload = self.upload("$identify", None);
        put_object(&mut upload, "user_properties", operations);
        device_context::add(&mut upload, self.event);
        Ok(AmplitudePayload { ids: self.ids, uploads: vec![json_text(upload)], form: None })
    }

    /// Returns the operations of an identify on the person's properties.
    fn operations(&mut self) -> JsonObject {
        let (mut set, mut set_once, mut unset) =
            (JsonObject::new(), JsonObject::new(), JsonObject::new());
        let own = beacon_format::own_operations(self.event, beacon::CLIENT);
        let operation = |name: &str| own.and_then(|own| own.get(name)).and_then(Value::as_object);
        let mut of_own =
            |name: &str| Some(properties(operation(name)?, MAX_DEPTH - 1, self.dropped));
        if let Some(once) = of_own("$setOnce") {
            set_once = once;
        }
        if let Some(gone) = of_own("$unset") {
            unset = gone;
        }
        for (key, value) in self.event.event.traits.iter().flatten() {
            if set_once.contains_key(key) {
            } else if value.is_null() {
                // The trait was removed.
                unset.insert(key.clone(), json!("-"));
            } else if let Some(value) = value_within(key, value, MAX_DEPTH - 2, self.dropped) {
                set.insert(key.clone(), value);
            }
        }
        let named = VENDOR.options(self.event).and_then(|options| options.get("fieldsToUnset"));
        for key in named.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            set.remove(key);
            unset.insert(key.to_owned(), json!("-"));
        }
        let mut came = AmplitudeAttribution::known_of(self.event);
        set.append(&mut came.set);
        for (key, value) in came.set_once {
            set_once.insert(key, value);
        }
        self.add_campaign_context(&mut set);
        for empty in [&mut set, &mut set_once, &mut unset] {
            empty.retain(|key, _| !key.is_empty());
        }
        let mut operations = JsonObject::new();
        put_object(&mut operations, "$set", set);
        put_object(&mut operations, "$setOnce", set_once);
        put_object(&mut operations, "$unset", unset);
        for name in OPERATIONS {
            if let Some(own) = operation(name) {
                put_object(&mut operations, name, properties(own, MAX_DEPTH - 1, self.dropped));
            }
        }
        operations
    }

    fn group(self) -> Result<AmplitudePayload, Outcome> {
        let empty = JsonObject::new();
        let traits = self.event.event.traits.as_ref().unwrap_or(&empty);
        let of_trait = |name: &Option<String>| products::text(traits.get(name.as_ref()?)?);
        let stated = || self.event.context_text(&["groupType"]).map(str::to_owned);
        let kind = of_trait(&self.settings.group_type_trait)
            .or_else(stated)
            .unwrap_or_else(|| self.settings.group_type.clone());
        let name = of_trait(&self.settings.group_value_trait)
            .or_else(|| self.event.event.group_id.clone());
        let Some(name) = name.filter(|name| !name.trim().is_empty()) else {
            return Err(Outcome::dead("missing_group"));
        };
        let (kind, name) = (cut(kind.trim()), cut(name.trim()));
        let mut hit = AmplitudePayload::default();
        if !self.ids.are_none() {
            let groups = json!({ kind: name });
            let mut upload = self.upload("$identify", None);
            upload.insert("user_properties".to_owned(), json!({ "$set": groups }));
            upload.insert("groups".to_owned(), groups);
            device_context::add(&mut upload, self.event);
            hit.uploads.push(json_text(upload));
        }
        let of_group: JsonObject = plain_properties(traits, MAX_DEPTH, self.dropped);
        let of_group: JsonObject = of_group.into_iter().take(MAX_GROUP_PROPERTIES).collect();
        if !of_group.is_empty() {
            let properties = of_group.len();
            let identification = json!({
                "group_type": kind, "group_value": name, "group_properties": of_group,
            });
            let text = identification.to_string();
            hit.form =
                Some(AmplitudeFormEntry { kind: AmplitudeFormKind::Group, text, properties });
        }
        if hit.uploads.is_empty() && hit.form.is_none() {
            return Err(Outcome::skipped("nothing_to_say"));
        }
        hit.ids = self.ids;
        Ok(hit)
    }

    /// Makes an event of Amplitude's, without the fields that only some kinds have. `number` distinguishes
    /// the events that are made of one.
    fn upload(&self, event_type: &str, number: Option<usize>) -> JsonObject {
        let event = &*self.event.event;
        let mut upload = Map::with_capacity(24);
        let mut add = |key: &str, value: Value| upload.insert(key.to_owned(), value);
        if let Some(user) = &self.ids.user {
            add("user_id", json!(user));
        }
        if let Some(device) = &self.ids.device {
            add("device_id", json!(device));
        }
        add("event_type", json!(cut(event_type)));
        add("time", json!(event.timestamp.as_millisecond()));
        let insert_id = match number {
            Some(number) => format!("{}-{number}", event.message_id),
            None => event.message_id.clone(),
        };
        add("insert_id", json!(insert_id));
        add("library", json!(LIBRARY));
        if let Some(session) = identity::session(self.event, self.cookie.as_ref()) {
            add("session_id", json!(session));
        }
        upload
    }

    /// Adds the fields of ordinary events about the person, the groups and the surroundings; and the person's
    /// acquisition, if requested. The vendor's own library sends the acquisition in an event of its own.
    fn add_event_facts(&mut self, upload: &mut JsonObject, with_attribution: bool) {
        let mut person = JsonObject::new();
        for name in self.settings.user_properties.iter().filter(|name| !name.starts_with('$')) {
            let value = self.event.person_trait(name);
            let value =
                value.and_then(|value| value_within(name, value, MAX_DEPTH - 1, self.dropped));
            if let Some(value) = value {
                person.insert(name.clone(), value);
            }
        }
        if with_attribution && self.own_name().is_none() {
            person = with(AmplitudeAttribution::of(self.event), person);
        }
        put_object(upload, "user_properties", person);
        let groups = VENDOR.options(self.event).and_then(|options| options.get("groups"));
        if let Some(groups) = groups.and_then(Value::as_object) {
            put_object(upload, "groups", within_limits(groups));
        }
        device_context::add(upload, self.event);
    }
}

/// Joins a person's properties with their acquisition: Amplitude takes either properties or operations.
fn with(attribution: AmplitudeAttribution, mut person: JsonObject) -> JsonObject {
    let AmplitudeAttribution { mut set, set_once } = attribution;
    if set.is_empty() {
        return person;
    }
    set.append(&mut person);
    let mut operations = JsonObject::new();
    put_object(&mut operations, "$set", set);
    put_object(&mut operations, "$setOnce", set_once);
    operations
}

/// Returns the groups of an event, as many as Amplitude takes.
fn within_limits(groups: &JsonObject) -> JsonObject {
    let (mut kept, mut room) = (JsonObject::new(), MAX_GROUPS);
    for (kind, names) in groups.iter().filter(|(kind, _)| !kind.is_empty()) {
        let names: Vec<String> = match names {
            Value::Array(names) => names.iter().filter_map(products::text).take(room).collect(),
            name => products::text(name).into_iter().take(room).collect(),
        };
        if names.is_empty() || kept.len() == MAX_GROUP_TYPES {
            continue;
        }
        room -= names.len();
        let mut names: Vec<Value> = names.iter().map(|name| json!(cut(name))).collect();
        let names = if names.len() == 1 { names.swap_remove(0) } else { Value::Array(names) };
        kept.insert(kind.clone(), names);
    }
    kept
}

/// Maps two ids of one person to each other, or removes the mapping of an id.
fn alias(event: &EnrichedEvent, settings: &AmplitudeSettings) -> Result<AmplitudePayload, Outcome> {
    if settings.user_map.is_none() {
        return Err(Outcome::skipped("no_aliases"));
    }
    let previous = event.event.previous_id.as_deref().and_then(valid_id);
    let user = event.event.user_id.as_deref().and_then(valid_id);
    let mapping = match VENDOR.options(event).and_then(|options| options.get("unmap")) {
        Some(Value::String(id)) => valid_id(id).map(|id| json!({ "user_id": id, "unmap": true })),
        Some(Value::Bool(true)) => {
            previous.or(user).map(|id| json!({ "user_id": id, "unmap": true }))
        }
        _ => previous
            .zip(user)
            .filter(|(previous, user)| previous != user)
            .map(|(previous, user)| json!({ "user_id": previous, "global_user_id": user })),
    };
    let text = mapping.ok_or(Outcome::dead("missing_ids"))?.to_string();
    let form = Some(AmplitudeFormEntry { kind: AmplitudeFormKind::Mapping, text, properties: 0 });
    Ok(AmplitudePayload { form, ..AmplitudePayload::default() })
}

fn json_text(object: JsonObject) -> String {
    Value::Object(object).to_string()
}
