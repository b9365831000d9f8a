//! The mapping of one event to GA4: the envelope of its request, and the event itself.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Number, Value, json};

use super::VENDOR;
use super::commerce::{self, Ga4ItemList};
use super::device_context::{Ga4DeviceFields, Ga4UserLocation};
use super::identity::{self, Ga4Session};
use super::params::{Ga4ParamBuilder, MAX_PARAMS, RESERVED_PREFIXES, cut, fit_name, is_name};
use super::rules::{self, Ga4EventRule, Ga4ItemPolicy, NUMBERS, RESERVED_EVENTS, SHIPPING_TIER};
use super::settings::Ga4Settings;
use super::user_data::Ga4UserData;
use crate::email::is_email;
use crate::match_keys::MatchWeight::{High, Low, Medium};
use crate::match_keys::{MatchKey, RAISE_BROWSER, RAISE_IP, RAISE_USER_AGENT, RAISE_USER_ID, key};
use crate::person::EventPerson;
use crate::{Outcome, products};
use tagway_core::event::{
    DroppedFields, EnrichedEvent, EventKind, FieldDropReason, JsonObject, UtmCampaign,
};

/// The most characters of a user id; user properties per request, and characters of their names and values.
const MAX_USER_ID_CHARS: usize = 256;
const MAX_USER_PROPERTIES: usize = 25;
const MAX_USER_PROPERTY_NAME_CHARS: usize = 24;
const MAX_USER_PROPERTY_CHARS: usize = 36;

/// The user properties that are Google's own.
const RESERVED_USER_PROPERTIES: [&str; 5] = [
    "first_open_time",
    "first_visit_time",
    "last_deep_link_referrer",
    "user_id",
    "first_open_after_install",
];

/// The most characters of a user agent that is passed on.
const MAX_USER_AGENT_CHARS: usize = 1000;

/// The most parameters besides the event's own time.
const PARAMS_BESIDE_TIME: usize = MAX_PARAMS - 1;

/// Page properties that have parameters of their own.
const PAGE_DUPLICATES: &[&str] = &[
    "url",
    "path",
    "referrer",
    "title",
    "search",
    "name",
    "category",
    "session_id",
    "session_number",
    "engagement_time_msec",
    "value",
    "currency",
];

/// Properties of other events that have parameters of their own.
const TRACK_DUPLICATES: &[&str] =
    &["session_id", "session_number", "engagement_time_msec", "value", "currency"];

/// The identifiers by which Google joins events: of a browser, of a user, and of a person for advertisements.
pub(super) const MATCH_KEYS: &[MatchKey] = &[
    key("client_id", "Browser", "/client_id", High, RAISE_BROWSER),
    key("user_id", "Your own user id", "/user_id", High, RAISE_USER_ID),
    key(
        "email",
        "E-mail address",
        "/user_data/sha256_email_address",
        Medium,
        "set `user_data = true` in the destination's settings, and send `email` with identify",
    ),
    key(
        "phone",
        "Telephone number",
        "/user_data/sha256_phone_number",
        Medium,
        "set `user_data = true` in the destination's settings, and send `phone` with identify",
    ),
    key(
        "name",
        "Name and address",
        "/user_data/address",
        Low,
        "set `user_data = true` in the destination's settings, and send name and `address` with identify",
    ),
    key("ip", "IP address", "/ip_override", Low, RAISE_IP),
    key("user_agent", "Browser's name", "/user_agent", Low, RAISE_USER_AGENT),
];

/// The members of the request's body that all its events share.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Ga4Envelope {
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    user_properties: JsonObject,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    consent: JsonObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<Ga4UserData>,
    #[serde(rename = "ip_override", skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_location: Option<Ga4UserLocation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Ga4DeviceFields>,
}

/// An event ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Ga4Event {
    pub(super) envelope: Ga4Envelope,
    /// The event's name at Google.
    pub(super) name: String,
    /// Its parameters as JSON, without its time: never empty, so that one can be added.
    pub(super) params: String,
}

impl Ga4Event {
    /// Returns the approximate bytes of the event as JSON.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.params.len()
    }
}

/// Maps an event to the request's envelope and GA4's event.
pub(super) fn map(
    event: &EnrichedEvent,
    settings: &Ga4Settings,
    dropped: &mut DroppedFields,
) -> Result<Ga4Event, Outcome> {
    let (name, params) = match event.event.kind {
        EventKind::Page => ("page_view".to_owned(), page(event, settings, dropped)),
        EventKind::Track => track(event, settings, dropped)?,
        EventKind::Group => {
            let mut params = common(event, settings, dropped);
            params.add("group_id", event.event.group_id.clone().map(Value::String));
            ("join_group".to_owned(), params)
        }
        EventKind::Screen => return Err(Outcome::skipped("app_streams_only")),
        EventKind::Identify => return Err(Outcome::skipped("traits_ride_on_events")),
        EventKind::Alias => return Err(Outcome::skipped("no_aliases")),
    };
    let Some(client_id) = identity::client_id(event) else {
        return Err(Outcome::dead("no_identity"));
    };
    let params = serde_json::to_string(&params.into_object());
    let user_id = event.user_id().filter(|id| !id.trim().is_empty() && !is_email(id));
    let user_id = user_id.filter(|id| id.chars().count() <= MAX_USER_ID_CHARS).map(str::to_owned);
    let consent = consent(event);
    let is_denied = consent.get("ad_user_data").is_some_and(|answer| answer == "DENIED");
    // Google takes user data of known users only.
    let has_data = settings.user_data && user_id.is_some() && !is_denied;
    if has_data {
        EventPerson::of(event).note_unreadable(&settings.telephones, dropped);
    }
    let envelope = Ga4Envelope {
        client_id,
        user_id,
        user_properties: user_properties(event, settings, dropped),
        consent,
        user_data: if has_data { Ga4UserData::of(event, &settings.telephones) } else { None },
        ip: event.ip(),
        user_location: Ga4UserLocation::of(event),
        user_agent: event.user_agent().map(|agent| cut(agent.to_owned(), MAX_USER_AGENT_CHARS)),
        device: Ga4DeviceFields::of(event),
    };
    let params = params.map_err(|_impossible| Outcome::dead("unmappable"))?;
    Ok(Ga4Event { envelope, name, params })
}

/// Starts the parameters that every event has: its session, its page.
fn common<'d>(
    event: &EnrichedEvent,
    settings: &Ga4Settings,
    dropped: &'d mut DroppedFields,
) -> Ga4ParamBuilder<'d> {
    let mut params = Ga4ParamBuilder::new(PARAMS_BESIDE_TIME, dropped);
    if let Some(Ga4Session { id, number }) = identity::session(event, settings) {
        params.add("session_id", Some(json!(id)));
        params.add("session_number", number.map(|number| json!(number)));
    }
    if event.property("session_id").is_some_and(identity::is_no_session) {
        params.dropped().add("session_id", FieldDropReason::ValueNotAllowed);
    }
    let engaged = event.property("engagement_time_msec");
    let engaged = engaged.and_then(products::whole_number).filter(|engaged| *engaged >= 0);
    let engaged = engaged.map(Value::from);
    params.add("engagement_time_msec", Some(engaged.unwrap_or(json!(1))));
    for (name, key) in
        [("page_location", "url"), ("page_referrer", "referrer"), ("page_title", "title")]
    {
        let text = event.context_text(&["page", key]);
        let own = || match event.event.kind {
            EventKind::Page => event.property(key).and_then(Value::as_str),
            _ => None,
        };
        params.add(name, text.or_else(own).map(|text| json!(text)));
    }
    params
}

fn page<'d>(
    event: &EnrichedEvent,
    settings: &Ga4Settings,
    dropped: &'d mut DroppedFields,
) -> Ga4ParamBuilder<'d> {
    let mut params = common(event, settings, dropped);
    if let Some(properties) = &event.event.properties {
        add_money(&mut params, properties, settings);
        params.add_properties(properties, |name| PAGE_DUPLICATES.contains(&name));
    }
    params
}

fn track<'d>(
    event: &EnrichedEvent,
    settings: &Ga4Settings,
    dropped: &'d mut DroppedFields,
) -> Result<(String, Ga4ParamBuilder<'d>), Outcome> {
    let name = event.event.event.as_deref().unwrap_or_default();
    let empty = JsonObject::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    if let Some(rule) = rules::find(name).filter(|rule| applies(rule, properties)) {
        let params = standard(event, settings, rule, dropped)?;
        return Ok((rule.name.to_owned(), params));
    }
    let name = custom_event_name(name).map_err(|refusal| {
        // gtag itself sends events with Google's own names, such as the time spent on a page.
        let is_gtags = event.context_text(&["source", "client"]) == Some("gtag");
        let is_reserved = refusal == Outcome::dead("reserved_name");
        if is_gtags && is_reserved { Outcome::skipped("googles_own") } else { refusal }
    })?;
    let mut params = common(event, settings, dropped);
    let mut listed = commerce::items(properties, Ga4ItemPolicy::Listed, params.dropped());
    params.add_items(std::mem::take(&mut listed.items));
    add_money(&mut params, properties, settings);
    params.add_properties(properties, |name| {
        TRACK_DUPLICATES.contains(&name) || listed.is_made_of(name)
    });
    // Google's own event names keep Google's requirements, even if the client chose them.
    if matches!(name.as_str(), "purchase" | "refund") && !params.has("transaction_id") {
        return Err(Outcome::dead("missing_transaction_id"));
    }
    Ok((name, params))
}

/// Adds the value and the currency of an event that the mapping has no rule for: a value only with a
/// currency, as Google requires.
fn add_money(params: &mut Ga4ParamBuilder<'_>, properties: &JsonObject, settings: &Ga4Settings) {
    let value = properties.get("value").and_then(products::number);
    add_value(params, value, properties, settings);
}

/// Adds a value with its currency, the event's or the store's; a currency alone only if it is the event's.
fn add_value(
    params: &mut Ga4ParamBuilder<'_>,
    value: Option<Number>,
    properties: &JsonObject,
    settings: &Ga4Settings,
) {
    let store = settings.currency.as_deref().filter(|_| value.is_some());
    match (value, products::currency(properties, store)) {
        (value, Some(currency)) => {
            params.add("currency", Some(json!(currency)));
            params.add("value", value.map(Value::Number));
        }
        (Some(_), None) => params.dropped().add("value", FieldDropReason::MissingCurrency),
        (None, None) => {}
    }
}

/// Returns false for a checkout step that does not state its shipping, where the rule is about shipping.
fn applies(rule: &Ga4EventRule, properties: &JsonObject) -> bool {
    rule.name != "add_shipping_info"
        || SHIPPING_TIER.iter().any(|key| properties.contains_key(*key))
}

/// Builds the parameters of an event of the mapping: those of its rule, then the client's own.
fn standard<'d>(
    event: &EnrichedEvent,
    settings: &Ga4Settings,
    rule: &Ga4EventRule,
    dropped: &'d mut DroppedFields,
) -> Result<Ga4ParamBuilder<'d>, Outcome> {
    let empty = JsonObject::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    let mut params = common(event, settings, dropped);
    let mut used: Vec<&str> = Vec::with_capacity(rule.params.len());
    for (name, keys) in rule.params {
        let mut found = keys.iter().filter_map(|key| properties.get_key_value(*key));
        if let Some((key, value)) = found.find_map(|(key, value)| Some((key, scalar(name, value)?)))
        {
            used.push(key);
            params.add(name, Some(value));
        }
    }
    if rule.name == "campaign_details" {
        add_campaign(&mut params, event);
    }
    if let Some((name, code)) = rule.required
        && !params.has(name)
    {
        return Err(Outcome::dead(code));
    }
    add_value_of(&mut params, rule, properties, settings)?;
    let mut listed = Ga4ItemList::default();
    if rule.items != Ga4ItemPolicy::None {
        listed = commerce::items(properties, rule.items, params.dropped());
        if listed.items.is_empty() && rule.items == Ga4ItemPolicy::Required {
            return Err(Outcome::dead("missing_items"));
        }
        params.add_items(std::mem::take(&mut listed.items));
    }
    params.add_properties(properties, |name| {
        TRACK_DUPLICATES.contains(&name)
            || rule.value.keys().contains(&name)
            || listed.is_made_of(name)
            || used.contains(&name)
            // A value that was read and is no number.
            || (NUMBERS.contains(&name) && rule.params.iter().any(|(param, _)| *param == name))
    });
    Ok(params)
}

/// Adds the value of an event of the mapping, by its rule.
fn add_value_of(
    params: &mut Ga4ParamBuilder<'_>,
    rule: &Ga4EventRule,
    properties: &JsonObject,
    settings: &Ga4Settings,
) -> Result<(), Outcome> {
    match rule.value {
        rules::Ga4ValueSource::None => add_money(params, properties, settings),
        rules::Ga4ValueSource::Virtual => params.add("value", properties.get("value").cloned()),
        rules::Ga4ValueSource::Of(_) | rules::Ga4ValueSource::Order => {
            let value = commerce::value(properties, rule.value, settings.purchase_value);
            let has_value = value.is_some();
            add_value(params, value, properties, settings);
            if rule.value == rules::Ga4ValueSource::Order && has_value && !params.has("currency") {
                return Err(Outcome::dead("missing_currency"));
            }
        }
    }
    Ok(())
}

/// Adds the campaign of the event's context, else the one that brought the visitor, where the properties have
/// none.
fn add_campaign(params: &mut Ga4ParamBuilder<'_>, event: &EnrichedEvent) {
    let seen = UtmCampaign::default();
    let seen = event.event.facts.campaign.as_ref().unwrap_or(&seen);
    for (param, key, seen) in [
        ("campaign_id", "id", &seen.id),
        ("campaign", "name", &seen.name),
        ("source", "source", &seen.source),
        ("medium", "medium", &seen.medium),
        ("term", "term", &seen.term),
        ("content", "content", &seen.content),
    ] {
        let text = event.context_text(&["campaign", key]).or(seen.as_deref());
        params.add(param, text.map(|text| json!(text)));
    }
}

/// Converts the value of a mapped parameter: money to a number, ids to text.
fn scalar(name: &str, value: &Value) -> Option<Value> {
    match name {
        _ if NUMBERS.contains(&name) => products::number(value).map(Value::Number),
        _ => match value {
            Value::String(text) if text.trim().is_empty() => None,
            Value::String(_) => Some(value.clone()),
            Value::Number(number) => Some(json!(number.to_string())),
            _ => None,
        },
    }
}

/// Makes a valid name for Google of the client's event name.
fn custom_event_name(written: &str) -> Result<String, Outcome> {
    let name = fit_name(written).ok_or(Outcome::dead("invalid_name"))?;
    let is_reserved = RESERVED_EVENTS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if is_reserved { Err(Outcome::dead("reserved_name")) } else { Ok(name) }
}

/// Returns the traits that the site sends as user properties.
fn user_properties(
    event: &EnrichedEvent,
    settings: &Ga4Settings,
    dropped: &mut DroppedFields,
) -> JsonObject {
    let mut properties = JsonObject::new();
    for name in settings.user_properties.iter().filter(|name| is_user_property(name)) {
        let value = match event.person_trait(name) {
            Some(Value::String(text)) if is_email(text) => Err(FieldDropReason::Personal),
            Some(Value::String(text)) if !text.is_empty() => {
                let cut = cut(text.clone(), MAX_USER_PROPERTY_CHARS);
                if cut.len() < text.len() {
                    dropped.add(name, FieldDropReason::TooLong);
                }
                Ok(json!(cut))
            }
            Some(Value::Number(number)) => Ok(json!(number)),
            Some(Value::Bool(value)) => Ok(json!(value.to_string())),
            Some(Value::Array(_) | Value::Object(_)) => Err(FieldDropReason::Nested),
            Some(Value::String(_) | Value::Null) | None => continue,
        };
        let room = if properties.len() < MAX_USER_PROPERTIES {
            value
        } else {
            Err(FieldDropReason::TooManyParameters)
        };
        match room {
            Ok(value) => {
                properties.insert(name.clone(), json!({ "value": value }));
            }
            Err(reason) => dropped.add(name, reason),
        }
    }
    properties
}

/// Returns true if Google takes a user property of this name.
pub(super) fn is_user_property(name: &str) -> bool {
    let is_reserved = RESERVED_USER_PROPERTIES.contains(&name)
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_name(name) && !is_reserved && name.chars().count() <= MAX_USER_PROPERTY_NAME_CHARS
}

/// Returns the visitor's consent, as far as it is known.
fn consent(event: &EnrichedEvent) -> JsonObject {
    let mut consent = JsonObject::new();
    let options = VENDOR.options(event).and_then(|options| options.get("consents"));
    let recorded = event.context(&["consent", "categoryPreferences"]).and_then(Value::as_object);
    for name in ["ad_user_data", "ad_personalization"] {
        let stated = options.and_then(|options| options.get(name)).and_then(Value::as_str);
        let stated = stated
            .filter(|stated| matches!(*stated, "GRANTED" | "DENIED"))
            .map(|stated| stated == "GRANTED");
        let answer = |category: &str| {
            let found = recorded?.iter().find(|(key, _)| key.eq_ignore_ascii_case(category));
            found.and_then(|(_, answer)| answer.as_bool())
        };
        let recorded =
            || answer(name).or_else(|| answer("advertising")).or_else(|| answer("marketing"));
        if let Some(granted) = stated.or_else(recorded) {
            let word = if granted { "GRANTED" } else { "DENIED" };
            consent.insert(name.to_owned(), json!(word));
        }
    }
    consent
}
