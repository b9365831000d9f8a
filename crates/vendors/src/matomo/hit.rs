//! The mapping of one hit: its kind is the first that its parameters show; the context is the same for
//! all kinds (`docs/contracts/beacons.md` 9.3).

use serde_json::{Value, json};

use crate::beacon::{BeaconLimits, BeaconRequest};
use crate::beacon_format::{self, CanonicalMessage, FormFields, put};
use tagway_core::event::{EventKind, JsonObject};

/// Parameters of plug-ins' hits that are no events of the visitor: forms being filled in, recordings,
/// heatmaps.
const RECORDED: [&str; 4] = ["fa_vid", "hsr_vid", "hsr_ev", "hsr_ids"];

/// The amounts of an order: Matomo's parameter and the Segment spec's name.
const ORDER: [(&str, &str); 4] =
    [("ec_st", "subtotal"), ("ec_tx", "tax"), ("ec_sh", "shipping"), ("ec_dt", "discount")];

/// Returns the canonical messages of a hit: none for a heartbeat, two for the page of a product.
pub(super) fn messages(
    fields: &FormFields<'_>,
    id: &Option<String>,
    inbound: &BeaconRequest<'_>,
) -> Vec<CanonicalMessage> {
    let bounds = &inbound.bounds;
    if fields.get("ping") == Some("1") || RECORDED.iter().any(|name| fields.get(name).is_some()) {
        return Vec::new();
    }
    let context = context(fields, inbound);
    if let Some((event, mut properties)) = action(fields, bounds) {
        own(fields, &mut properties, bounds);
        return vec![track(fields, event, properties, context, id.clone())];
    }
    // The marker of a custom action that is none of those above.
    if fields.get("ca") == Some("1") {
        return Vec::new();
    }
    let page = context.get("page").and_then(Value::as_object).cloned();
    let mut properties = page.unwrap_or_default();
    own(fields, &mut properties, bounds);
    let viewed = viewed(fields, bounds);
    let page_context = if viewed.is_some() { context.clone() } else { context };
    let page = with_ids(CanonicalMessage::new(EventKind::Page), fields)
        .with_message_id(id.clone())
        .with_properties(properties)
        .with_context(page_context.clone());
    let Some((event, properties)) = viewed else { return vec![page] };
    let id = id.as_ref().map(|id| format!("{id}-product"));
    vec![page, track(fields, event, properties, page_context, id)]
}

fn track(
    fields: &FormFields<'_>,
    event: &str,
    properties: JsonObject,
    context: JsonObject,
    id: Option<String>,
) -> CanonicalMessage {
    with_ids(CanonicalMessage::track(event), fields)
        .with_message_id(id)
        .with_properties(properties)
        .with_context(context)
}

/// Adds the visitor's ids, which hits have if the library may set cookies; else the gateway's cookie
/// identifies the visitor.
fn with_ids(message: CanonicalMessage, fields: &FormFields<'_>) -> CanonicalMessage {
    message.with_ids(fields.get("uid"), fields.get("cid").or(fields.get("_id")))
}

/// Returns the track event of a hit that is no page view.
fn action<'f>(fields: &'f FormFields<'_>, bounds: &BeaconLimits) -> Option<(&'f str, JsonObject)> {
    let mut stated = JsonObject::new();
    let put_text = |stated: &mut JsonObject, name: &str, parameter: &str| {
        put(stated, name, fields.get(parameter));
    };
    if let Some(goal) = fields.get("idgoal") {
        if goal == "0" {
            return Some(order(fields, bounds));
        }
        put(&mut stated, "goal_id", Some(goal));
        put(&mut stated, "revenue", amount(fields, "revenue"));
        return Some(("Goal Conversion", stated));
    }
    if let Some(medium) = fields.get("ma_mt") {
        put_text(&mut stated, "content_asset_id", "ma_id");
        put_text(&mut stated, "title", "ma_ti");
        put_text(&mut stated, "url", "ma_re");
        put(&mut stated, "position", number(fields, "ma_ps"));
        put(&mut stated, "total_length", number(fields, "ma_le"));
        put(&mut stated, "played", number(fields, "ma_st"));
        let is_video = medium == "video";
        return Some((
            if is_video { "Video Content Playing" } else { "Audio Content Playing" },
            stated,
        ));
    }
    if let Some(url) = fields.get("download") {
        put(&mut stated, "url", Some(url));
        return Some(("File Downloaded", stated));
    }
    if let Some(url) = fields.get("link") {
        put(&mut stated, "url", Some(url));
        return Some(("Outbound Link Clicked", stated));
    }
    if let Some(query) = fields.get("search") {
        put(&mut stated, "query", Some(query));
        put_text(&mut stated, "category", "search_cat");
        put(&mut stated, "results", number(fields, "search_count"));
        return Some(("Products Searched", stated));
    }
    if fields.get("c_n").is_some() || fields.get("c_i").is_some() {
        put_text(&mut stated, "content_name", "c_n");
        put_text(&mut stated, "content_piece", "c_p");
        put_text(&mut stated, "content_target", "c_t");
        put_text(&mut stated, "interaction", "c_i");
        let is_interaction = fields.get("c_i").is_some();
        return Some((if is_interaction { "Content Clicked" } else { "Content Viewed" }, stated));
    }
    let (category, action) = (fields.get("e_c")?, fields.get("e_a")?);
    put(&mut stated, "category", Some(category));
    put(&mut stated, "action", Some(action));
    put_text(&mut stated, "label", "e_n");
    put(&mut stated, "value", number(fields, "e_v"));
    Some((action, stated))
}

/// Returns an order, or the cart's current state if there is no order number.
fn order<'f>(fields: &'f FormFields<'_>, bounds: &BeaconLimits) -> (&'f str, JsonObject) {
    let mut stated = JsonObject::new();
    let worth = amount(fields, "revenue");
    let items =
        fields.get("ec_items").and_then(|text| beacon_format::json(text.as_bytes(), bounds));
    let items = match items {
        Some(Value::Array(items)) => items.into_iter().filter_map(product).collect(),
        _ => Vec::new(),
    };
    let event = if let Some(order_id) = fields.get("ec_id") {
        put(&mut stated, "order_id", Some(order_id));
        put(&mut stated, "total", worth.clone());
        put(&mut stated, "revenue", worth.clone());
        "Order Completed"
    } else {
        "Cart Updated"
    };
    put(&mut stated, "value", worth);
    for (parameter, name) in ORDER {
        put(&mut stated, name, amount(fields, parameter));
    }
    put(&mut stated, "products", Some(items));
    (event, stated)
}

/// Reads `[sku, name, category or [categories], price, quantity]`.
fn product(item: Value) -> Option<Value> {
    let Value::Array(item) = item else { return None };
    let mut parts = item.into_iter();
    let mut product = JsonObject::new();
    let sku = parts.next();
    put(&mut product, "product_id", sku.clone());
    put(&mut product, "sku", sku);
    put(&mut product, "name", parts.next());
    put_categories(&mut product, parts.next());
    put(&mut product, "price", parts.next().map(as_number));
    put(&mut product, "quantity", parts.next().map(as_number));
    (!product.is_empty()).then_some(Value::Object(product))
}

/// Returns the product, or the list of products, that the page shows. Later hits of the page repeat it,
/// but they are no page views.
fn viewed(fields: &FormFields<'_>, bounds: &BeaconLimits) -> Option<(&'static str, JsonObject)> {
    let mut stated = JsonObject::new();
    let category = fields.get("_pkc").map(|text| {
        beacon_format::json(text.as_bytes(), bounds).unwrap_or_else(|| Value::from(text))
    });
    let is_product = fields.get("_pks").is_some() || fields.get("_pkn").is_some();
    if is_product {
        put(&mut stated, "product_id", fields.get("_pks"));
        put(&mut stated, "sku", fields.get("_pks"));
        put(&mut stated, "name", fields.get("_pkn"));
        put(&mut stated, "price", amount(fields, "_pkp"));
    }
    put_categories(&mut stated, category);
    if stated.is_empty() {
        return None;
    }
    Some((if is_product { "Product Viewed" } else { "Product List Viewed" }, stated))
}

/// Sets the first of several categories as the product's, and keeps all in `categories`.
fn put_categories(stated: &mut JsonObject, categories: Option<Value>) {
    let Some(Value::Array(mut all)) = categories else {
        return put(stated, "category", categories);
    };
    all.retain(|category| category.as_str().is_some_and(|name| !name.is_empty()));
    put(stated, "category", all.first().cloned());
    if all.len() > 1 {
        put(stated, "categories", Some(all));
    }
}

/// Adds the site's custom data: dimensions, and variables of the page and of the visit.
fn own(fields: &FormFields<'_>, properties: &mut JsonObject, bounds: &BeaconLimits) {
    for (name, value) in fields.iter() {
        let number = name.strip_prefix("dimension").unwrap_or_default();
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            put(properties, name, Some(value));
        }
    }
    for (parameter, name) in [("_cvar", "visit_variables"), ("cvar", "page_variables")] {
        let text = fields.get(parameter).unwrap_or_default();
        let Some(Value::Object(slots)) = beacon_format::json(text.as_bytes(), bounds) else {
            continue;
        };
        let mut variables = JsonObject::new();
        for slot in slots.into_iter().map(|(_, slot)| slot) {
            let Value::Array(pair) = slot else { continue };
            let mut pair = pair.into_iter();
            if let (Some(Value::String(name)), value) = (pair.next(), pair.next()) {
                put(&mut variables, &name, value);
            }
        }
        put(properties, name, Some(variables));
    }
}

fn page(fields: &FormFields<'_>) -> JsonObject {
    beacon_format::page(fields.get("url"), fields.get("action_name"), fields.get("urlref"))
}

fn context(fields: &FormFields<'_>, inbound: &BeaconRequest<'_>) -> JsonObject {
    let (path, bounds) = (inbound.path, &inbound.bounds);
    let mut context = beacon_format::preallocated_object();
    put(&mut context, "page", Some(page(fields)));
    put(&mut context, "locale", fields.get("lang"));
    if !inbound.is_from_page() {
        put(&mut context, "ip", fields.get("cip"));
        put(&mut context, "userAgent", fields.get("ua"));
        put(&mut context, "location", Some(location(fields)));
    }
    put(&mut context, "screen", fields.get("res").and_then(beacon_format::screen));
    let hints = fields.get("uadata").and_then(|text| beacon_format::json(text.as_bytes(), bounds));
    put(&mut context, "userAgentData", hints.filter(Value::is_object));
    let mut campaign = JsonObject::new();
    put(&mut campaign, "name", fields.get("_rcn"));
    put(&mut campaign, "term", fields.get("_rck"));
    put(&mut context, "campaign", Some(campaign));
    if let Some(referrer) = fields.get("_ref") {
        put(&mut context, "referrer", Some(json!({ "url": referrer })));
    }
    if let Some(agreed) = fields.get("consent") {
        let analytics = match agreed {
            "0" | "1" => json!({ "analytics": agreed == "1" }),
            other => json!({ "analytics": other }),
        };
        put(&mut context, "consent", Some(json!({ "categoryPreferences": analytics })));
    }
    let mut ids = JsonObject::new();
    put(&mut ids, "visitor_id", fields.get("cid").or(fields.get("_id")));
    put(&mut ids, "pageview_id", fields.get("pv_id"));
    if !ids.is_empty() {
        put(&mut context, "clientIds", Some(json!({ "matomo": ids })));
    }
    let mut source = JsonObject::new();
    put(&mut source, "client", Some("matomo"));
    put(&mut source, "endpoint", Some(path));
    put(&mut source, "event", Some(theirs(fields)));
    put(&mut context, "source", Some(source));
    context
}

/// Returns the visitor's location, which servers send.
fn location(fields: &FormFields<'_>) -> JsonObject {
    let mut location = JsonObject::new();
    for (parameter, name) in [("country", "country"), ("region", "region"), ("city", "city")] {
        put(&mut location, name, fields.get(parameter));
    }
    for (parameter, name) in [("lat", "latitude"), ("long", "longitude")] {
        put(&mut location, name, number(fields, parameter));
    }
    location
}

/// Returns Matomo's name for a hit of this kind.
fn theirs<'f>(fields: &'f FormFields<'_>) -> &'f str {
    const KINDS: [(&str, &str); 8] = [
        ("idgoal", "goal"),
        ("ma_mt", "media"),
        ("download", "download"),
        ("link", "link"),
        ("search", "search"),
        ("c_i", "content_interaction"),
        ("c_n", "content_impression"),
        ("e_a", "event"),
    ];
    let kind = KINDS.iter().find(|(parameter, _)| fields.get(parameter).is_some());
    match kind {
        Some(("idgoal", _)) if fields.get("idgoal") == Some("0") => "ecommerce",
        Some((_, kind)) => kind,
        None => "action",
    }
}

/// Reads an amount: a number, or its text unchanged for destinations to parse. The text `false` (no
/// discount) is left out.
fn amount(fields: &FormFields<'_>, parameter: &str) -> Option<Value> {
    let text = fields
        .get(parameter)
        .filter(|text| !matches!(*text, "" | "false" | "null" | "undefined"))?;
    as_number_text(text).or_else(|| Some(Value::from(text)))
}

/// Reads a number. Any other text, such as `false` for no discount, is left out.
fn number(fields: &FormFields<'_>, parameter: &str) -> Option<Value> {
    let number = fields.get(parameter).map(as_number_text)?;
    number.filter(Value::is_number)
}

fn as_number(value: Value) -> Value {
    match value.as_str().and_then(as_number_text) {
        Some(number) => number,
        None => value,
    }
}

fn as_number_text(text: &str) -> Option<Value> {
    let whole = text.parse::<i64>().ok().map(Value::from);
    whole.or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from))
}
