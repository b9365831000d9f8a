//! One event in the form of `/import` (`docs/contracts/destinations.md` 3.2 and 3.5): its ids, the client's
//! own properties, and Mixpanel's default properties from the context.

use serde_json::Value;
use url::Url;

use super::agent;
use super::fields::{MixpanelObjectWriter, MixpanelValueLimits, is_geo_source};
use super::identity::MixpanelIds;
use super::settings::{MixpanelIdMerge, MixpanelSettings};
use tagway_core::event::{
    DroppedFields, EnrichedEvent, EventKind, FieldDropReason, JsonObject, UtmCampaign,
};

/// Names that Mixpanel or the gateway uses: a client's property of this name is left out.
const RESERVED: [&str; 13] = [
    "time",
    "distinct_id",
    "$insert_id",
    "$device_id",
    "$user_id",
    "ip",
    "token",
    "bucket",
    "$bucket",
    "$ignore",
    "$identified_id",
    "$anon_id",
    "$distinct_ids",
];

/// Default properties that are texts in the client's context.
const CONTEXT_TEXTS: &[(&str, &[&str])] = &[
    ("$os_version", &["os", "version"]),
    ("$device", &["device", "name"]),
    ("$device_type", &["device", "type"]),
    ("$manufacturer", &["device", "manufacturer"]),
    ("$model", &["device", "model"]),
    ("$brand", &["device", "brand"]),
    ("$carrier", &["network", "carrier"]),
    ("$app_name", &["app", "name"]),
    ("$app_namespace", &["app", "namespace"]),
    ("$app_version_string", &["app", "version"]),
    ("$app_build_number", &["app", "build"]),
    ("$lib_version", &["library", "version"]),
    ("mp_country_code", &["location", "country"]),
    ("$region", &["location", "region"]),
    ("$city", &["location", "city"]),
    ("$initial_referrer", &["page", "initial_referrer"]),
    ("$initial_referring_domain", &["page", "initial_referring_domain"]),
];

/// Default properties that are numbers or booleans in the client's context.
const CONTEXT_VALUES: &[(&str, &[&str])] = &[
    ("$screen_width", &["screen", "width"]),
    ("$screen_height", &["screen", "height"]),
    ("$screen_dpi", &["screen", "density"]),
    ("$wifi", &["network", "wifi"]),
];

/// The campaign's parts that have a default property.
const UTM: [(&str, &str); 5] = [
    ("utm_campaign", "name"),
    ("utm_source", "source"),
    ("utm_medium", "medium"),
    ("utm_term", "term"),
    ("utm_content", "content"),
];

/// The key of a record. It is the same at every try.
#[derive(Clone, Debug)]
pub(super) struct MixpanelRecordKey {
    /// The event's time, in milliseconds since 1970.
    pub(super) time: i64,
    pub(super) insert_id: String,
}

/// Properties that the client gave, without some.
#[derive(Clone, Copy)]
pub(super) struct MixpanelPropertySet<'e> {
    pub(super) object: &'e JsonObject,
    pub(super) except: &'static [&'static str],
}

impl MixpanelPropertySet<'_> {
    fn has(&self, name: &str) -> bool {
        let value = self.object.get(name).filter(|value| MixpanelValueLimits::EVENT.allow(value));
        value.is_some() && !self.except.contains(&name)
    }
}

/// Returns the record's JSON text. If a property occurs twice, the first counts.
pub(super) fn record(
    name: &str,
    stamp: &MixpanelRecordKey,
    stated: &[MixpanelPropertySet<'_>],
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
    dropped: &mut DroppedFields,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1536);
    let mut fields = MixpanelObjectWriter::open(&mut out);
    fields.put("event", name);
    fields.put_object("properties", |fields| {
        put_own(fields, stamp, event, settings);
        let mut properties = MixpanelProperties { fields, property_sets: stated, dropped };
        properties.put_groups(event, settings);
        properties.put_properties();
        properties.put_names(event);
        properties.put_campaign(event);
        properties.put_clicks(event);
        properties.put_page(event);
        properties.put_device(event);
    });
    fields.close();
    out
}

/// Adds time, ids and IP address.
fn put_own(
    fields: &mut MixpanelObjectWriter<'_>,
    stamp: &MixpanelRecordKey,
    event: &EnrichedEvent,
    settings: &MixpanelSettings,
) {
    let ids = MixpanelIds::of(event);
    fields.put("time", &stamp.time);
    // The empty text is documented: an event of an unknown visitor.
    fields.put("distinct_id", &*ids.distinct(settings.id_merge));
    fields.put("$insert_id", &stamp.insert_id);
    if settings.id_merge == MixpanelIdMerge::Simplified {
        fields.put_text("$device_id", ids.device);
        fields.put_text("$user_id", ids.user);
    }
    match event.ip().filter(|_| settings.locate) {
        Some(ip) => fields.put("ip", &ip),
        // Without it Mixpanel would locate the gateway.
        None => fields.put("ip", "0"),
    }
}

/// The writer of a record's properties.
struct MixpanelProperties<'f, 'b, 'e> {
    fields: &'f mut MixpanelObjectWriter<'b>,
    property_sets: &'e [MixpanelPropertySet<'e>],
    dropped: &'e mut DroppedFields,
}

impl MixpanelProperties<'_, '_, '_> {
    fn has_property(&self, name: &str) -> bool {
        self.property_sets.iter().any(|stated| stated.has(name))
    }

    fn put_properties(&mut self) {
        for (index, stated) in self.property_sets.iter().enumerate() {
            let earlier = self.property_sets.get(..index).unwrap_or_default();
            for (name, value) in stated.object {
                let is_elsewhere = stated.except.contains(&name.as_str())
                    || earlier.iter().any(|earlier| earlier.has(name));
                if is_elsewhere {
                } else if RESERVED.contains(&name.as_str()) {
                    self.dropped.add(name, FieldDropReason::NameNotAllowed);
                } else if is_geo_source(name, value) {
                    self.put_value(name, value);
                } else {
                    self.dropped.add(name, FieldDropReason::ValueNotAllowed);
                }
            }
        }
    }

    /// Adds the visitor's groups: from `context.groupId` for the first key, else from the person's trait of
    /// the key's name.
    fn put_groups(&mut self, event: &EnrichedEvent, settings: &MixpanelSettings) {
        for (index, key) in settings.group_keys.iter().enumerate() {
            if self.has_property(key) {
                continue;
            }
            let current = event.context(&["groupId"]).filter(|_| index == 0);
            let value = current.or_else(|| event.person_trait(key)).filter(|value| is_group(value));
            if let Some(value) = value {
                self.put_value(key, value);
            }
        }
    }

    /// Adds a page's or screen's name and category.
    fn put_names(&mut self, event: &EnrichedEvent) {
        if matches!(event.event.kind, EventKind::Page | EventKind::Screen) {
            self.put_text("name", event.event.name.as_deref());
            self.put_text("category", event.event.category.as_deref());
        }
    }

    /// Adds the campaign: this event's, else the one that brought the visitor.
    fn put_campaign(&mut self, event: &EnrichedEvent) {
        if let Some(campaign) = event.context(&["campaign"]).and_then(Value::as_object) {
            for (name, value) in campaign {
                let known = UTM.iter().find(|(_, key)| key == name);
                match known {
                    Some((property, _)) => self.put_text(property, value.as_str()),
                    None => self.put_text(&format!("utm_{name}"), value.as_str()),
                }
            }
        } else if let Some(campaign) = &event.event.facts.campaign {
            let UtmCampaign { name, source, medium, term, content, id } = campaign;
            let parts = [name, source, medium, term, content];
            for ((property, _), value) in UTM.iter().zip(parts) {
                self.put_text(property, value.as_deref());
            }
            self.put_text("utm_id", id.as_deref());
        }
    }

    /// Adds the advertisement click ids that the client sent apart from the page's URL.
    fn put_clicks(&mut self, event: &EnrichedEvent) {
        let clicks = event.context(&["clickIds"]).and_then(Value::as_object);
        for (name, id) in clicks.into_iter().flatten() {
            self.put_text(name, id.as_str());
        }
    }

    fn put_page(&mut self, event: &EnrichedEvent) {
        let text = |key: &str| {
            let own = || event.property(key)?.as_str();
            let own = || if event.event.kind == EventKind::Page { own() } else { None };
            event.context_text(&["page", key]).or_else(own)
        };
        self.put_text("$current_url", text("url"));
        let referrer = text("referrer");
        self.put_text("$referrer", referrer);
        let domain = referrer.and_then(|referrer| Url::parse(referrer).ok());
        self.put_text("$referring_domain", domain.as_ref().and_then(Url::host_str));
    }

    fn put_device(&mut self, event: &EnrichedEvent) {
        let agent = event.user_agent();
        if let Some(browser) = agent.and_then(agent::browser) {
            self.put_text("$browser", Some(browser.name));
            if let Some(version) =
                browser.version.filter(|_| !self.has_property("$browser_version"))
            {
                self.put_value("$browser_version", &number(version));
            }
        }
        let hint = event.event.facts.hints.as_ref().and_then(|hints| hints.platform.as_deref());
        let system = event
            .context_text(&["os", "name"])
            .or_else(|| hint.filter(|hint| *hint != "Unknown").map(agent::hinted_system))
            .or_else(|| agent.and_then(agent::system));
        self.put_text("$os", system);
        for (name, path) in CONTEXT_TEXTS {
            self.put_text(name, event.context_text(path));
        }
        for (name, path) in CONTEXT_VALUES {
            let value = event.context(path).filter(|value| value.is_number() || value.is_boolean());
            if let Some(value) = value.filter(|_| !self.has_property(name)) {
                self.put_value(name, value);
            }
        }
        let locale = event.context_text(&["locale"]).or(event.event.facts.language.as_deref());
        self.put_text("$locale", locale);
        self.put_text("mp_lib", Some(event.context_text(&["library", "name"]).unwrap_or("tagway")));
    }

    /// Adds a value, and records the reason if a part of it is lost.
    fn put_value(&mut self, name: &str, value: &Value) {
        if let Some(reason) = self.fields.put_value(name, value) {
            self.dropped.add(name, reason);
        }
    }

    /// Adds a text, unless the client sent that property.
    fn put_text(&mut self, name: &str, text: Option<&str>) {
        if text.is_some() && !self.has_property(name) {
            self.fields.put_text(name, text);
        }
    }
}

/// Returns a whole number without decimals.
fn number(version: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "versions are small, and it saturates")]
    if version.fract() == 0.0 { Value::from(version as i64) } else { Value::from(version) }
}

/// Returns true if a value can be the id of a group, or a list of them.
fn is_group(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.is_empty(),
        Value::Number(_) => true,
        Value::Array(ids) => {
            !ids.is_empty() && ids.iter().all(|id| id.is_string() || id.is_number())
        }
        _ => false,
    }
}
