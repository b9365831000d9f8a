//! The mapping of one payload to a canonical message.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::commerce;
use super::enhanced;
use super::entities::SnowplowEntities;
use super::payload::SnowplowPayload;
use super::schema::{SNOWPLOW, SelfDescribingJson, unwrapped};
use crate::beacon_format::{CanonicalMessage, moment, page, preallocated_object, put};
use tagway_core::event::{EventKind, JsonObject};

/// Facts of the request that all its payloads share.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnowplowSender<'a> {
    /// The visitor's id of the day; set if the request forbids any other id.
    pub(super) daily_id: Option<&'a str>,
}

/// The kind, name and properties of an event.
struct SnowplowEvent {
    message: CanonicalMessage,
    /// Snowplow's name or schema of the event.
    event: String,
}

/// The visitor's ids and traits in a payload.
#[derive(Default)]
struct SnowplowVisitor {
    user_id: Option<String>,
    domain_user_id: Option<String>,
    network_user_id: Option<String>,
    google_client: Option<Value>,
    traits: JsonObject,
}

/// Returns the message of a payload. `None` if its kind is unknown or its event is unreadable.
pub(super) fn message(
    payload: &mut SnowplowPayload,
    products: Vec<Value>,
    client: SnowplowSender<'_>,
) -> Option<CanonicalMessage> {
    let mut entities = SnowplowEntities::of(payload);
    let (url, title) = (payload.text("url"), payload.text("page"));
    let referrer = payload.text("refr");
    let page = page(url.as_deref(), title.as_deref(), referrer.as_deref());
    let SnowplowEvent { message, event } = event_message(payload, &page, products, &mut entities)?;
    let mut session = entities.session();
    let mut visitor = visitor(payload, session.as_mut(), &mut entities);
    if client.daily_id.is_some() {
        visitor = SnowplowVisitor::default();
    }
    let anonymous_id = match client.daily_id {
        Some(daily_id) => Some(daily_id),
        None => visitor.domain_user_id.as_deref().or(visitor.network_user_id.as_deref()),
    };
    // A true timestamp needs no correction by the client's clock.
    let true_time = time(payload, "ttm");
    let sent_at = time(payload, "stm").filter(|_| true_time.is_none());
    let message = message
        .with_message_id(payload.text("eid"))
        .with_ids(visitor.user_id.as_deref(), anonymous_id)
        .when(payload.value(if true_time.is_some() { "ttm" } else { "dtm" }))
        .sent_at(sent_at);
    let context = context(payload, page, event, session, visitor, entities);
    Some(message.with_context(context))
}

fn event_message(
    payload: &mut SnowplowPayload,
    page: &JsonObject,
    products: Vec<Value>,
    entities: &mut SnowplowEntities,
) -> Option<SnowplowEvent> {
    let kind = payload.text("e")?;
    let message = match kind.as_str() {
        "pv" => CanonicalMessage::new(EventKind::Page).with_properties(page.clone()),
        "pp" => CanonicalMessage::track("page_ping").with_properties(scrolled(payload)),
        "se" => structured(payload)?,
        "ue" => return self_describing(payload, entities),
        "tr" => {
            let order = commerce::order(payload, products);
            CanonicalMessage::track("Order Completed").with_properties(order)
        }
        "ti" => {
            // The order came in another request and has its own message.
            let mut item = JsonObject::new();
            put(&mut item, "order_id", payload.text("ti_id"));
            item.extend(commerce::item(payload));
            CanonicalMessage::track("transaction_item").with_properties(item)
        }
        _ => return None,
    };
    Some(SnowplowEvent { message, event: kind })
}

fn scrolled(payload: &SnowplowPayload) -> JsonObject {
    let mut properties = JsonObject::new();
    let offsets =
        [("min_x", "pp_mix"), ("max_x", "pp_max"), ("min_y", "pp_miy"), ("max_y", "pp_may")];
    for (name, field) in offsets {
        put(&mut properties, name, payload.number(field));
    }
    properties
}

fn structured(payload: &mut SnowplowPayload) -> Option<CanonicalMessage> {
    let (category, action) = (payload.text("se_ca"), payload.text("se_ac"));
    let mut properties = JsonObject::new();
    let event = action.clone().or_else(|| category.clone())?;
    put(&mut properties, "category", category);
    put(&mut properties, "action", action);
    put(&mut properties, "label", payload.text("se_la"));
    put(&mut properties, "property", payload.text("se_pr"));
    put(&mut properties, "value", payload.number("se_va"));
    Some(CanonicalMessage::track(&event).with_properties(properties))
}

fn self_describing(
    payload: &mut SnowplowPayload,
    entities: &mut SnowplowEntities,
) -> Option<SnowplowEvent> {
    let event = payload.event().or_else(|| payload.json("ue_pr", "ue_px"))?;
    let mut event = SelfDescribingJson::of(unwrapped(event, "unstruct_event")?)?;
    let mut data = std::mem::take(&mut event.data);
    let message = match event.name()? {
        (commerce::VENDOR, "snowplow_ecommerce_action") => {
            let (name, properties) = commerce::action(&mut data, entities)?;
            CanonicalMessage::track(&name).with_properties(properties)
        }
        (enhanced::VENDOR, "action") => {
            let (name, properties) = enhanced::action(&mut data, entities)?;
            CanonicalMessage::track(&name).with_properties(properties)
        }
        (SNOWPLOW, name @ ("add_to_cart" | "remove_from_cart")) => {
            let event = if name == "add_to_cart" { "Product Added" } else { "Product Removed" };
            CanonicalMessage::track(event).with_properties(commerce::cart_item(data))
        }
        (SNOWPLOW, "site_search") => {
            let terms = data.shift_remove("terms");
            put(&mut data, "query", terms.as_ref().and_then(query));
            CanonicalMessage::track("Products Searched").with_properties(data)
        }
        (_, "screen_view") => {
            let name = data.get("name").and_then(Value::as_str).map(str::to_owned);
            CanonicalMessage::new(EventKind::Screen).with_name(name).with_properties(data)
        }
        (_, name) => CanonicalMessage::track(name).with_properties(data),
    };
    Some(SnowplowEvent { message, event: event.schema })
}

/// Returns the search terms as one text.
fn query(terms: &Value) -> Option<String> {
    match terms {
        Value::String(text) => Some(text.clone()),
        Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
            Some(words.join(" "))
        }
        _ => None,
    }
}

fn visitor(
    payload: &mut SnowplowPayload,
    session: Option<&mut JsonObject>,
    entities: &mut SnowplowEntities,
) -> SnowplowVisitor {
    let mut user = entities.take(commerce::VENDOR, "user").unwrap_or_default();
    let is_guest = user.get("is_guest").and_then(Value::as_bool).unwrap_or_default();
    let mut traits = JsonObject::new();
    put(&mut traits, "email", user.get_mut("email").map(Value::take));
    let mut text = |name: &str| match user.get_mut(name)?.take() {
        Value::String(text) => Some(text),
        _ => None,
    };
    let own = payload.text("uid");
    let session_user = session.and_then(|session| match session.get_mut("userId")?.take() {
        Value::String(id) => Some(id),
        _ => None,
    });
    SnowplowVisitor {
        user_id: own.or_else(|| if is_guest { None } else { text("id") }),
        domain_user_id: payload.text("duid").or(session_user),
        network_user_id: payload.text("tnuid").or_else(|| payload.text("nuid")),
        google_client: entities.google_client(),
        traits,
    }
}

fn context(
    payload: &mut SnowplowPayload,
    mut page: JsonObject,
    event: String,
    session: Option<JsonObject>,
    visitor: SnowplowVisitor,
    mut entities: SnowplowEntities,
) -> JsonObject {
    let mut session = session.unwrap_or_default();
    let mut context = preallocated_object();
    put(&mut page, "view_id", entities.page_view());
    if let Some(mut kind) = entities.take(commerce::VENDOR, "page") {
        put(&mut page, "type", kind.get_mut("type").map(Value::take));
    }
    put(&mut context, "page", Some(page));
    put(&mut context, "locale", payload.text("lang"));
    put(&mut context, "timezone", payload.text("tz"));
    put(&mut context, "screen", Some(screen(payload)));
    let (app_id, platform) = (payload.text("aid"), payload.text("p"));
    // `aid` of a website is no app: destinations would take its visitors for an app's users.
    let is_web = platform.as_deref().is_none_or(|platform| platform == "web");
    if !is_web {
        put(&mut context, "app", app_id.as_deref().map(|name| json!({ "name": name })));
    }
    put(&mut context, "ip", payload.text("ip"));
    put(&mut context, "userAgent", payload.text("ua"));
    put(&mut context, "userAgentData", Some(entities.client_hints()));
    put(&mut context, "location", Some(entities.location()));
    let session_id = payload.text("sid").map(Value::from);
    let session_id = session_id.or_else(|| session.get_mut("sessionId").map(Value::take));
    put(&mut context, "sessionId", session_id);
    let number = payload.number("vid").map(Value::Number);
    let number = number.or_else(|| session.get_mut("sessionIndex").map(Value::take));
    put(&mut context, "sessionNumber", number);
    put(&mut context, "traits", Some(visitor.traits));
    let mut ids = JsonObject::new();
    let mut own = JsonObject::new();
    put(&mut own, "domain_user_id", visitor.domain_user_id);
    put(&mut own, "network_user_id", visitor.network_user_id);
    put(&mut ids, "snowplow", Some(own));
    if let Some(client_id) = visitor.google_client {
        put(&mut ids, "ga4", Some(json!({ "client_id": client_id })));
    }
    put(&mut context, "clientIds", Some(ids));
    put(&mut context, "entities", Some(entities.rest()));
    let mut source = JsonObject::new();
    put(&mut source, "client", Some("snowplow"));
    let library = payload.text("tv").map(|version| library(&version));
    let version = library.as_ref().and_then(|library| library.get("version").cloned());
    put(&mut source, "version", version);
    put(&mut source, "event", Some(event));
    put(&mut source, "tracker", payload.text("tna"));
    put(&mut source, "app_id", app_id);
    put(&mut source, "platform", platform);
    put(&mut context, "library", library);
    put(&mut context, "source", Some(source));
    context
}

fn screen(payload: &SnowplowPayload) -> JsonObject {
    let mut screen = JsonObject::new();
    for (field, width, height) in [("res", "width", "height"), ("vp", "innerWidth", "innerHeight")]
    {
        if let Some((x, y)) = payload.size(field) {
            put(&mut screen, width, Some(x));
            put(&mut screen, height, Some(y));
        }
    }
    put(&mut screen, "depth", payload.number("cd"));
    screen
}

/// Splits `js-4.10.1` into the tracker's name, which may have hyphens, and its version.
fn library(written: &str) -> JsonObject {
    let starts_version = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let split = written.match_indices('-').find_map(|(place, _)| {
        let (name, rest) = written.split_at_checked(place)?;
        let version = rest.strip_prefix('-')?;
        starts_version(version).then_some((name, version))
    });
    let (name, version) = split.unwrap_or((written, ""));
    let mut library = JsonObject::new();
    put(&mut library, "name", Some(format!("snowplow-{name}")));
    put(&mut library, "version", Some(version));
    library
}

/// Reads a time, which trackers write in milliseconds since 1970.
fn time(payload: &SnowplowPayload, name: &str) -> Option<Timestamp> {
    moment(payload.value(name)?)
}
