//! The mapping of one event to Meta's form (`docs/contracts/destinations.md` 2.2 and 2.5).

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};

use super::rules::{self, MetaEventRule, MetaEventShape};
use super::settings::MetaSettings;
use super::source::{MetaEventSource, PHYSICAL_STORE};
use super::user::MetaUserData;
use super::{NAME, VENDOR, custom};
use crate::person::EventPerson;
use crate::{Outcome, products};
use tagway_core::event::{DroppedFields, EnrichedEvent, EventKind, JsonObject};

/// Characters of an event's name.
pub(super) const MAX_NAME_CHARS: usize = 50;

/// The greatest age of an event: Meta refuses the whole request for one that is older.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The greatest age of an event in a physical store.
const MAX_AGE_IN_STORE: SignedDuration = SignedDuration::from_hours(62 * 24);

/// Time reserved for the call: an event that becomes too old meanwhile fails the whole request.
const CALL_TIME_RESERVE: SignedDuration = SignedDuration::from_secs(60);

/// An event ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct MetaEvent {
    /// The event as JSON.
    pub(super) json: String,
    /// The latest time at which the event may be sent.
    until: Timestamp,
}

impl MetaEvent {
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        now > self.until
    }
}

/// The event's fields, in the contract's order.
#[derive(Serialize)]
struct MetaEventBody<'e> {
    event_name: String,
    event_time: i64,
    event_id: String,
    #[serde(flatten)]
    source: &'e MetaEventSource,
    /// True if the event is counted but not used for the delivery of advertisements.
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_out: Option<bool>,
    user_data: MetaUserData,
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    custom_data: JsonObject,
    /// The event whose value this one completes.
    #[serde(skip_serializing_if = "Option::is_none")]
    original_event_data: Option<JsonObject>,
    #[serde(flatten)]
    processing: MetaProcessingOptions,
}

/// Meta's data processing options of an event.
#[derive(Default, Serialize)]
struct MetaProcessingOptions {
    #[serde(rename = "data_processing_options", skip_serializing_if = "Option::is_none")]
    options: Option<Vec<&'static str>>,
    #[serde(rename = "data_processing_options_country", skip_serializing_if = "Option::is_none")]
    country: Option<u64>,
    #[serde(rename = "data_processing_options_state", skip_serializing_if = "Option::is_none")]
    state: Option<u64>,
}

/// Maps an event to Meta's form.
pub(super) fn map(
    event: &EnrichedEvent,
    settings: &MetaSettings,
    dropped: &mut DroppedFields,
) -> Result<MetaEvent, Outcome> {
    let empty = JsonObject::new();
    let properties = event.event.properties.as_ref().unwrap_or(&empty);
    let (event_name, shape, custom_data) = match event.event.kind {
        EventKind::Page => ("PageView".to_owned(), MetaEventShape::Open, JsonObject::new()),
        EventKind::Track => track(event, properties, settings, dropped)?,
        EventKind::Screen => {
            let name = event.event.name.as_deref().unwrap_or_default();
            let name = format!("Viewed {name} Screen");
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            track_named(&name, rules::find(&name), properties, settings, dropped)?
        }
        EventKind::Identify => return Err(Outcome::skipped("traits_ride_on_events")),
        EventKind::Group => return Err(Outcome::skipped("no_groups")),
        EventKind::Alias => return Err(Outcome::skipped("no_aliases")),
    };
    let source = MetaEventSource::of(event, settings).map_err(Outcome::dead)?;
    let user_data = MetaUserData::of(event, settings, source.action_source);
    EventPerson::of(event).note_unreadable(&settings.telephones, dropped);
    if !user_data.is_matchable() {
        return Err(Outcome::dead("unmatchable_user"));
    }
    let is_in_store = source.action_source == PHYSICAL_STORE;
    let max_age = if is_in_store { MAX_AGE_IN_STORE } else { MAX_AGE };
    let body = MetaEventBody {
        event_name,
        event_time: event.event.timestamp.as_second(),
        event_id: event_id(event, shape, settings),
        source: &source,
        opt_out: properties.get("opt_out").and_then(Value::as_bool),
        user_data,
        custom_data,
        original_event_data: original(properties),
        processing: MetaProcessingOptions::of(event, settings),
    };
    let json = serde_json::to_string(&body).map_err(|_impossible| Outcome::dead("unmappable"))?;
    let until = event.event.timestamp.saturating_add(max_age - CALL_TIME_RESERVE);
    Ok(MetaEvent { json, until: until.unwrap_or(Timestamp::MAX) })
}

fn track(
    event: &EnrichedEvent,
    properties: &JsonObject,
    settings: &MetaSettings,
    dropped: &mut DroppedFields,
) -> Result<(String, MetaEventShape, JsonObject), Outcome> {
    let name = event.event.event.as_deref().unwrap_or_default().trim();
    let renamed = settings.event_names.iter().find(|(from, _)| from.eq_ignore_ascii_case(name));
    if let Some((_, to)) = renamed {
        return track_named(to, rules::find(to), properties, settings, dropped);
    }
    if is_own(event, name) {
        return track_named(name, rules::find_own(name), properties, settings, dropped);
    }
    if crate::naming::is_like("PRODUCT_CLICKED", name) {
        // A click on a product leads to its view, which is sent as an event.
        return Err(Outcome::skipped("no_counterpart"));
    }
    track_named(name, rules::find(name), properties, settings, dropped)
}

/// Returns true if Meta's own library gave the event this name. If the name is not one of Meta's, it is
/// then a custom event, even if a canonical event has the same name.
fn is_own(event: &EnrichedEvent, name: &str) -> bool {
    let source = |member: &str| event.context_text(&["source", member]);
    source("client") == Some(NAME) && source("event") == Some(name)
}

fn track_named(
    name: &str,
    rule: MetaEventRule,
    properties: &JsonObject,
    settings: &MetaSettings,
    dropped: &mut DroppedFields,
) -> Result<(String, MetaEventShape, JsonObject), Outcome> {
    let name = if rule.name.is_empty() { name } else { rule.name };
    if name.is_empty() {
        return Err(Outcome::dead("missing_name"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        return Err(Outcome::dead("name_too_long"));
    }
    let data = custom::data(&rule, properties, settings, dropped).map_err(Outcome::dead)?;
    Ok((name.to_owned(), rule.shape, data))
}

/// Returns the event that this one completes, from the client's `original_event_data`.
fn original(properties: &JsonObject) -> Option<JsonObject> {
    let stated = properties.get("original_event_data")?.as_object()?;
    let mut original = JsonObject::new();
    for name in ["event_name", "order_id", "event_id"] {
        if let Some(text) = stated.get(name).and_then(products::text) {
            original.insert(name.to_owned(), text.into());
        }
    }
    if let Some(time) = stated.get("event_time").and_then(products::whole_number) {
        original.insert("event_time".to_owned(), time.into());
    }
    (!original.is_empty()).then_some(original)
}

/// Returns the id by which Meta deduplicates this event and the browser's own report of it.
fn event_id(event: &EnrichedEvent, shape: MetaEventShape, settings: &MetaSettings) -> String {
    let key = settings.order_event_id.filter(|_| shape == MetaEventShape::Order);
    let of_order = key.and_then(|key| products::text(event.property(key)?));
    let options = || VENDOR.options(event);
    of_order
        .or_else(|| own_id(event).map(str::to_owned))
        .or_else(|| products::text(event.property("event_id")?))
        .or_else(|| products::text(options()?.get("eventId")?))
        .or_else(|| products::text(options()?.get("event_id")?))
        .unwrap_or_else(|| event.event.message_id.clone())
}

/// Returns the id from Meta's own library, which several events of a page may share.
fn own_id(event: &EnrichedEvent) -> Option<&str> {
    let source = |member: &str| event.context_text(&["source", member]);
    source("event_id").filter(|_| source("client") == Some(NAME))
}

impl MetaProcessingOptions {
    /// Limits data use if the settings say so, if consent is missing, or if the event says so by the three
    /// arguments of Meta's own library.
    fn of(event: &EnrichedEvent, settings: &MetaSettings) -> Self {
        let limits = &settings.limited_data_use;
        let stated = event.context(&["dataProcessingOptions"]).and_then(Value::as_array);
        let options = stated.and_then(|stated| stated.first()?.as_array());
        let is_said = options.is_some_and(|options| options.contains(&json!("LDU")));
        let number = |index: usize| stated.and_then(|stated| stated.get(index)?.as_u64());
        if is_said {
            let country = number(1).filter(|country| *country <= 1);
            let state = number(2).filter(|state| *state == 0 || (1000..=1010).contains(state));
            // A state is valid only with its country; without either, Meta locates the visitor.
            let (country, state) = country.zip(state).unwrap_or((0, 0));
            return Self::limited(country, state);
        }
        let is_ungranted = |category: &String| grants(event, category) != Some(true);
        if limits.always || limits.without.iter().any(is_ungranted) {
            return Self::limited(limits.country.into(), limits.state.into());
        }
        let is_unlimited = options.is_some_and(Vec::is_empty);
        Self { options: is_unlimited.then(Vec::new), ..Self::default() }
    }

    fn limited(country: u64, state: u64) -> Self {
        Self { options: Some(vec!["LDU"]), country: Some(country), state: Some(state) }
    }
}

/// Returns the visitor's answer for a consent category, compared without regard to case.
fn grants(event: &EnrichedEvent, category: &str) -> Option<bool> {
    let answers = event.context(&["consent", "categoryPreferences"])?.as_object()?;
    let answer = answers.iter().find(|(name, _)| name.eq_ignore_ascii_case(category));
    answer.and_then(|(_, answer)| answer.as_bool())
}
