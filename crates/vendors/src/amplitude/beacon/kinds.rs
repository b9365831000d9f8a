//! The messages that an event becomes: most are track events; some identify the visitor, or are about their
//! groups, the page that they see or a purchase (`docs/contracts/beacons.md` 6.3).

use serde_json::{Value, json};

use super::AmplitudeEnvelope;
use super::event::AmplitudeBeaconEvent;
use crate::beacon_format::{CampaignContext, CanonicalMessage, put};
use crate::products;
use tagway_core::event::{EventKind, JsonObject};

/// The most groups of one event that become messages; Amplitude takes no more of one type.
const MAX_GROUPS: usize = 5;

/// The text in `$setOnce` that stands for no value.
const EMPTY: &str = "EMPTY";

/// Amplitude's own names of a page view and of a purchase.
pub(super) const PAGE_VIEWED: &str = "[Amplitude] Page Viewed";
pub(super) const REVENUE: &str = "revenue_amount";

/// Adds the messages of an event.
pub(super) fn write(
    mut inbound: AmplitudeBeaconEvent,
    sending: &AmplitudeEnvelope<'_>,
    messages: &mut Vec<CanonicalMessage>,
) {
    match inbound.event_type.as_str() {
        "$identify" if !inbound.groups.is_empty() => member(inbound, sending, messages),
        "$identify" => messages.push(identify(inbound, sending, 0)),
        "$groupidentify" => {
            let traits = std::mem::take(&mut inbound.of_group);
            let traits = operated(traits, &mut inbound, false);
            groups(inbound, &traits, sending, messages);
        }
        _ => messages.push(event(inbound, sending)),
    }
}

/// Makes a page view, an order or any other track event.
fn event(mut inbound: AmplitudeBeaconEvent, sending: &AmplitudeEnvelope<'_>) -> CanonicalMessage {
    let mut properties = split(&mut inbound);
    let message = match inbound.event_type.as_str() {
        PAGE_VIEWED => {
            let mut all = inbound.page();
            all.extend(properties);
            CanonicalMessage::new(EventKind::Page).with_properties(all)
        }
        REVENUE => {
            order(&mut properties);
            CanonicalMessage::track("Order Completed").with_properties(properties)
        }
        name => CanonicalMessage::track(name).with_properties(properties),
    };
    let group = named(&inbound.groups).next().map(|(_, name)| name);
    let message = inbound.addressed(message, sending).with_message_id(inbound.message_id(0));
    let mut context = inbound.into_context(sending);
    put(&mut context, "groupId", group);
    message.with_context(context)
}

/// Returns the site's own properties; those about the page and the acquisition are taken out.
fn split(inbound: &mut AmplitudeBeaconEvent) -> JsonObject {
    let mut own = JsonObject::new();
    let mut fallback = (None, None);
    for (name, value) in std::mem::take(&mut inbound.properties) {
        match name.as_str() {
            "[Amplitude] Page Location" => inbound.url = Some(value),
            "[Amplitude] Page URL" => fallback.0 = Some(value),
            "[Amplitude] Page Title" => inbound.title = Some(value),
            "[Amplitude] Page Domain" | "[Amplitude] Page Path" => {}
            "[Amplitude] Previous Page Location" => fallback.1 = Some(value),
            "referrer" => inbound.referrer = Some(value),
            "referring_domain" => {}
            _ => {
                if let Some((name, value)) = inbound.campaign_context.take(name, value) {
                    own.insert(name, value);
                }
            }
        }
    }
    inbound.url = inbound.url.take().or(fallback.0);
    inbound.referrer = inbound.referrer.take().or(fallback.1);
    own
}

/// Translates a purchase to the spec's names: one product, and its worth.
pub(super) fn order(properties: &mut JsonObject) {
    let mut take = |names: [&str; 2]| names.iter().find_map(|name| properties.remove(*name));
    let (id, kind) = (take(["$productId", "product_id"]), take(["$revenueType", "revenue_type"]));
    let (price, quantity) = (take(["$price", "price"]), take(["$quantity", "quantity"]));
    let (revenue, currency) = (take(["$revenue", "revenue"]), take(["$currency", "currency"]));
    let number = |value: &Option<Value>| products::number(value.as_ref()?)?.as_f64();
    let worth = || products::amount(number(&price)? * number(&quantity).unwrap_or(1.0));
    // An amount in another notation than JSON's is read where the site's notation is known.
    let revenue = revenue.filter(|it| it.is_number() || it.is_string());
    let revenue = revenue.map(|it| products::plain_number(&it).map_or(it, Value::Number));
    let revenue = revenue.or_else(|| worth().map(Value::Number));
    for name in ["revenue", "total", "value"] {
        put(properties, name, revenue.clone());
    }
    put(properties, "currency", currency);
    put(properties, "revenue_type", kind);
    let mut product = JsonObject::new();
    put(&mut product, "product_id", id);
    put(&mut product, "price", price);
    put(&mut product, "quantity", quantity);
    if !product.is_empty() {
        put(properties, "products", Some(json!([product])));
    }
}

/// Makes the identify message of a visitor.
fn identify(
    mut inbound: AmplitudeBeaconEvent,
    sending: &AmplitudeEnvelope<'_>,
    number: usize,
) -> CanonicalMessage {
    let person = std::mem::take(&mut inbound.person);
    let traits = operated(person, &mut inbound, true);
    let message = CanonicalMessage::new(EventKind::Identify).with_traits(traits);
    let message = inbound.addressed(message, sending).with_message_id(inbound.message_id(number));
    message.with_context(inbound.into_context(sending))
}

/// Adds the messages of a visitor who belongs to groups. Properties that repeat the groups' names are
/// dropped.
fn member(
    mut inbound: AmplitudeBeaconEvent,
    sending: &AmplitudeEnvelope<'_>,
    messages: &mut Vec<CanonicalMessage>,
) {
    if let Some(Value::Object(set)) = inbound.person.get_mut("$set") {
        set.retain(|name, value| inbound.groups.get(name) != Some(value));
    }
    inbound.person.retain(|_, operation| operation.as_object().is_none_or(|all| !all.is_empty()));
    let person = std::mem::take(&mut inbound.person);
    let traits = operated(person, &mut inbound, true);
    let is_more = !traits.is_empty() || !inbound.operations.is_empty();
    let identify = is_more.then(|| {
        let number = named(&inbound.groups).count();
        let message = CanonicalMessage::new(EventKind::Identify).with_traits(traits);
        inbound.addressed(message, sending).with_message_id(inbound.message_id(number))
    });
    let operations = std::mem::take(&mut inbound.operations);
    let context = groups(inbound, &JsonObject::new(), sending, messages);
    if let Some(message) = identify {
        let mut context = context;
        if let Some(Value::Object(source)) = context.get_mut("source") {
            put(source, "operations", Some(operations));
        }
        messages.push(message.with_context(context));
    }
}

/// Adds a message for each group; returns the context of them all.
fn groups(
    inbound: AmplitudeBeaconEvent,
    traits: &JsonObject,
    sending: &AmplitudeEnvelope<'_>,
    messages: &mut Vec<CanonicalMessage>,
) -> JsonObject {
    let mut begun = Vec::new();
    for (number, (kind, name)) in named(&inbound.groups).enumerate() {
        let message = CanonicalMessage::new(EventKind::Group)
            .with_group_id(Some(&name))
            .with_traits(traits.clone());
        if message.head.group_id.is_some() {
            let message = inbound.addressed(message, sending);
            begun.push((kind.to_owned(), message.with_message_id(inbound.message_id(number))));
        }
    }
    let context = inbound.into_context(sending);
    for (kind, message) in begun {
        let mut context = context.clone();
        put(&mut context, "groupType", Some(kind));
        messages.push(message.with_context(context));
    }
    context
}

/// Returns the groups by type and name, as many as become messages.
fn named(groups: &JsonObject) -> impl Iterator<Item = (&str, String)> {
    let names = |value: &Value| match value {
        Value::Array(names) => names.iter().filter_map(products::text).collect(),
        name => products::text(name).into_iter().collect::<Vec<_>>(),
    };
    let all = groups.iter().flat_map(move |(kind, value)| {
        names(value).into_iter().map(move |name| (kind.as_str(), name))
    });
    all.take(MAX_GROUPS)
}

/// Returns the traits that operations set, or that are given without operations. The other operations are
/// recorded, and for a person the acquisition.
fn operated(own: JsonObject, inbound: &mut AmplitudeBeaconEvent, is_person: bool) -> JsonObject {
    let mut traits = JsonObject::new();
    for (name, value) in own {
        match (name.as_str(), value) {
            ("$set", Value::Object(set)) => {
                for (name, value) in set {
                    set_trait(&mut traits, inbound, name, value, is_person);
                }
            }
            ("$setOnce", Value::Object(set)) => {
                set_once(&mut traits, &set);
                put(&mut inbound.operations, "$setOnce", Some(set));
            }
            ("$unset", Value::Object(unset)) => {
                let mut of_arrival = JsonObject::new();
                for (name, mark) in unset {
                    // The removal of acquisition properties is of use to Amplitude only.
                    if is_person && is_of_arrival(&name) {
                        of_arrival.insert(name, mark);
                    } else {
                        traits.insert(name, Value::Null);
                    }
                }
                put(&mut inbound.operations, "$unset", Some(of_arrival));
            }
            (operation, value) if operation.starts_with('$') => {
                put(&mut inbound.operations, operation, Some(value));
            }
            (_, value) => set_trait(&mut traits, inbound, name, value, is_person),
        }
    }
    traits
}

/// Sets traits that have no value so far.
pub(super) fn set_once(traits: &mut JsonObject, set: &JsonObject) {
    for (name, value) in set {
        if *value != EMPTY && !value.is_null() {
            traits.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }
}

fn set_trait(
    traits: &mut JsonObject,
    inbound: &mut AmplitudeBeaconEvent,
    name: String,
    value: Value,
    is_person: bool,
) {
    if !is_person {
        traits.insert(name, value);
        return;
    }
    match name.as_str() {
        "referrer" => inbound.referrer = Some(value),
        "referring_domain" => {}
        _ => {
            if let Some((name, value)) = inbound.campaign_context.take(name, value) {
                traits.insert(name, value);
            }
        }
    }
}

fn is_of_arrival(name: &str) -> bool {
    CampaignContext::is_campaign_property(name) || matches!(name, "referrer" | "referring_domain")
}
