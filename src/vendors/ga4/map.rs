//! One event as GA4 sees it: the envelope of its request, and the event itself.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::{Value, json};

use super::commerce;
use super::identity::{self, Session};
use super::params::{MAX_NAME_CHARS, MAX_PARAMS, Params, RESERVED_PREFIXES, cut};
use super::rules::{self, Items, RESERVED_EVENTS, Rule};
use super::settings::Settings;
use super::user_data::UserData;
use crate::event::{Enriched, Kind, Object};
use crate::vendors::email::is_email;
use crate::vendors::{Reason, Screening, products};

/// Characters of a user id; user properties per request, and of their names and values.
const MAX_USER_ID_CHARS: usize = 256;
const MAX_USER_PROPERTIES: usize = 25;
const MAX_USER_PROPERTY_NAME_CHARS: usize = 24;
const MAX_USER_PROPERTY_CHARS: usize = 36;

/// User properties that are Google's own.
const RESERVED_USER_PROPERTIES: [&str; 5] = [
    "first_open_time",
    "first_visit_time",
    "last_deep_link_referrer",
    "user_id",
    "first_open_after_install",
];

/// The longest user agent that is passed on.
const MAX_USER_AGENT_CHARS: usize = 1000;

/// Room kept for an event's own time.
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
    &["session_id", "session_number", "engagement_time_msec", "value", "currency", "products"];

/// What all events of a request share, as its body says it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Envelope {
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Object::is_empty")]
    user_properties: Object,
    #[serde(skip_serializing_if = "Object::is_empty")]
    consent: Object,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_data: Option<UserData>,
    #[serde(rename = "ip_override", skip_serializing_if = "Option::is_none")]
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

/// An event ready to go.
#[derive(Clone, Debug)]
pub(super) struct Hit {
    pub(super) envelope: Envelope,
    /// Google's name of it.
    pub(super) name: String,
    /// Its parameters as JSON, without its time: never empty, so that one can be added.
    pub(super) params: String,
}

/// Why an event does not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// GA4 has no such thing.
    Skip(&'static str),
    /// It lacks what Google requires.
    Dead(&'static str),
}

impl Refusal {
    pub(super) fn into_screening(self) -> Screening {
        match self {
            Self::Skip(code) => Screening::Skip(Reason::new(code)),
            Self::Dead(code) => Screening::Dead(Reason::new(code)),
        }
    }
}

impl Hit {
    /// Bytes of the event as JSON, about.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.params.len()
    }
}

/// Maps an event.
pub(super) fn map(event: &Enriched, settings: &Settings) -> Result<Hit, Refusal> {
    let (name, params) = match event.event.kind {
        Kind::Page => ("page_view".to_owned(), page(event, settings)),
        Kind::Track => track(event, settings)?,
        Kind::Group => {
            let mut params = common(event, settings);
            params.add("group_id", event.event.group_id.clone().map(Value::String));
            ("join_group".to_owned(), params)
        }
        Kind::Screen => return Err(Refusal::Skip("app_streams_only")),
        Kind::Identify => return Err(Refusal::Skip("traits_ride_on_events")),
        Kind::Alias => return Err(Refusal::Skip("no_aliases")),
    };
    let Some(client_id) = identity::client_id(event) else {
        return Err(Refusal::Dead("no_identity"));
    };
    let params = serde_json::to_string(&params.into_object());
    let user_id = event.user_id().filter(|id| !id.trim().is_empty() && !is_email(id));
    let user_id = user_id.filter(|id| id.chars().count() <= MAX_USER_ID_CHARS).map(str::to_owned);
    let consent = consent(event);
    let is_denied = consent.get("ad_user_data").is_some_and(|answer| answer == "DENIED");
    // Google takes it of known users only.
    let has_data = settings.user_data && user_id.is_some() && !is_denied;
    let envelope = Envelope {
        client_id,
        user_id,
        user_properties: user_properties(event, settings),
        consent,
        user_data: if has_data { UserData::of(event, &settings.telephones) } else { None },
        ip: event.ip(),
        user_agent: event.user_agent().map(|agent| cut(agent.to_owned(), MAX_USER_AGENT_CHARS)),
    };
    let params = params.map_err(|_impossible| Refusal::Dead("unmappable"))?;
    Ok(Hit { envelope, name, params })
}

/// The parameters that every event has: its session, its page.
fn common(event: &Enriched, settings: &Settings) -> Params {
    let mut params = Params::new(PARAMS_BESIDE_TIME);
    if let Some(Session { id, number }) = identity::session(event, settings) {
        params.add("session_id", Some(json!(id)));
        params.add("session_number", number.map(|number| json!(number)));
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
            Kind::Page => event.property(key).and_then(Value::as_str),
            _ => None,
        };
        params.add(name, text.or_else(own).map(|text| json!(text)));
    }
    params
}

fn page(event: &Enriched, settings: &Settings) -> Params {
    let mut params = common(event, settings);
    if let Some(properties) = &event.event.properties {
        add_money(&mut params, properties, settings);
        params.add_properties(properties, PAGE_DUPLICATES);
    }
    params
}

fn track(event: &Enriched, settings: &Settings) -> Result<(String, Params), Refusal> {
    let name = event.event.event.as_deref().unwrap_or_default();
    let empty = Object::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    match rules::find(name) {
        Some(rule) if applies(rule, properties) => {
            let params = standard(event, settings, rule, properties)?;
            Ok((rule.name.to_owned(), params))
        }
        _ => {
            let name = custom_event_name(name).map_err(|refusal| {
                // gtag itself sends events of Google's own names, such as how long a page was looked at.
                let is_gtags = event.context_text(&["source", "client"]) == Some("gtag");
                let is_reserved = refusal == Refusal::Dead("reserved_name");
                if is_gtags && is_reserved { Refusal::Skip("googles_own") } else { refusal }
            })?;
            let mut params = common(event, settings);
            let items = commerce::items(properties, Items::Listed);
            if !items.is_empty() {
                params.add_items(items);
            }
            add_money(&mut params, properties, settings);
            params.add_properties(properties, TRACK_DUPLICATES);
            // Google's own names keep Google's own demands, however the client came by them.
            if matches!(name.as_str(), "purchase" | "refund") && !params.has("transaction_id") {
                return Err(Refusal::Dead("missing_transaction_id"));
            }
            Ok((name, params))
        }
    }
}

/// The value and the currency of an event that the mapping has no rule for: a value only with a
/// currency, as Google requires.
fn add_money(params: &mut Params, properties: &Object, settings: &Settings) {
    let value = properties.get("value").and_then(products::number);
    let store = settings.currency.as_deref().filter(|_| value.is_some());
    let Some(currency) = products::currency(properties, store) else { return };
    params.add("currency", Some(json!(currency)));
    params.add("value", value.map(Value::Number));
}

/// A checkout step is about shipping only if it says how.
fn applies(rule: &Rule, properties: &Object) -> bool {
    rule.name != "add_shipping_info" || properties.contains_key("shipping_method")
}

fn standard(
    event: &Enriched,
    settings: &Settings,
    rule: &Rule,
    properties: &Object,
) -> Result<Params, Refusal> {
    let mut params = common(event, settings);
    for (name, keys) in rule.params {
        let value = keys.iter().find_map(|key| scalar(name, properties.get(*key)?));
        params.add(name, value);
    }
    if let Some((name, code)) = rule.required
        && !params.has(name)
    {
        return Err(Refusal::Dead(code));
    }
    if let Some(value) = commerce::value(properties, rule.value, settings.purchase_value) {
        match products::currency(properties, settings.currency.as_deref()) {
            Some(currency) => {
                params.add("currency", Some(json!(currency)));
                params.add("value", Some(Value::Number(value)));
            }
            None if rule.value == rules::Value::Order => {
                return Err(Refusal::Dead("missing_currency"));
            }
            None => {}
        }
    }
    if rule.items != Items::None {
        let items = commerce::items(properties, rule.items);
        if items.is_empty() && rule.items == Items::Required {
            return Err(Refusal::Dead("missing_items"));
        }
        params.add_items(items);
    }
    Ok(params)
}

/// The value of a mapped parameter: money as a number, ids as text.
fn scalar(name: &str, value: &Value) -> Option<Value> {
    match name {
        "tax" | "shipping" => products::number(value).map(Value::Number),
        _ => match value {
            Value::String(text) if text.trim().is_empty() => None,
            Value::String(_) => Some(value.clone()),
            Value::Number(number) => Some(json!(number.to_string())),
            _ => None,
        },
    }
}

/// The client's name for an event as Google takes it.
fn custom_event_name(name: &str) -> Result<String, Refusal> {
    let name: Vec<&str> = name.split_whitespace().collect();
    let name = name.join("_");
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_reserved = RESERVED_EVENTS.contains(&name.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if is_reserved {
        Err(Refusal::Dead("reserved_name"))
    } else if !is_plain {
        Err(Refusal::Dead("invalid_name"))
    } else if name.len() > MAX_NAME_CHARS {
        Err(Refusal::Dead("name_too_long"))
    } else {
        Ok(name)
    }
}

/// The traits that the site lets through.
fn user_properties(event: &Enriched, settings: &Settings) -> Object {
    let mut properties = Object::new();
    for name in settings.user_properties.iter().filter(|name| is_user_property(name)) {
        let value = match event.person_trait(name) {
            Some(Value::String(text)) if !text.is_empty() && !is_email(text) => {
                json!(cut(text.clone(), MAX_USER_PROPERTY_CHARS))
            }
            Some(Value::Number(number)) => json!(number),
            Some(Value::Bool(value)) => json!(value.to_string()),
            _ => continue,
        };
        if properties.len() < MAX_USER_PROPERTIES {
            properties.insert(name.clone(), json!({ "value": value }));
        }
    }
    properties
}

/// Whether Google takes a user property of this name.
pub(super) fn is_user_property(name: &str) -> bool {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_reserved = RESERVED_USER_PROPERTIES.contains(&name)
        || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_plain && !is_reserved && name.len() <= MAX_USER_PROPERTY_NAME_CHARS
}

/// What the visitor agreed to, as far as it is known.
fn consent(event: &Enriched) -> Object {
    let mut consent = Object::new();
    let options = identity::options(event).and_then(|options| options.get("consents"));
    let recorded = event.context(&["consent", "categoryPreferences"]).and_then(Value::as_object);
    for name in ["ad_user_data", "ad_personalization"] {
        let said = options.and_then(|options| options.get(name)).and_then(Value::as_str);
        let said =
            said.filter(|said| matches!(*said, "GRANTED" | "DENIED")).map(|said| said == "GRANTED");
        let answer = |category: &str| {
            let found = recorded?.iter().find(|(key, _)| key.eq_ignore_ascii_case(category));
            found.and_then(|(_, answer)| answer.as_bool())
        };
        let recorded =
            || answer(name).or_else(|| answer("advertising")).or_else(|| answer("marketing"));
        if let Some(granted) = said.or_else(recorded) {
            let word = if granted { "GRANTED" } else { "DENIED" };
            consent.insert(name.to_owned(), json!(word));
        }
    }
    consent
}
