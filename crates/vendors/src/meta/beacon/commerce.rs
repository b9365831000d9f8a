//! An event's properties by the names of the Segment spec (`docs/contracts/beacons.md` 2 and 4.4).

use serde_json::Value;

use crate::beacon_format::put;
use crate::meta::rules::{self, MetaEventShape};
use crate::{naming, products};
use tagway_core::event::JsonObject;

/// Meta's own fields that are numbers, however a site writes them.
const NUMBERS: [&str; 4] = ["value", "predicted_ltv", "net_revenue", "num_items"];

/// Meta's own fields that are texts, even if they look like another type.
const TEXTS: [&str; 7] = [
    "currency",
    "content_name",
    "content_category",
    "content_type",
    "order_id",
    "search_string",
    "delivery_category",
];

/// The name and properties of a track event.
#[derive(Debug)]
pub(super) struct MetaTrackEvent {
    /// Its canonical name, else its own.
    pub(super) event: String,
    /// Its properties by canonical names.
    pub(super) properties: JsonObject,
}

/// Converts an event of this name with these custom data.
pub(super) fn to_track_event(name: &str, mut properties: JsonObject) -> MetaTrackEvent {
    let products = products(&mut properties);
    let rule = rules::canonical(name, products.len() > 1);
    let event = rule.map_or_else(|| name.to_owned(), |rule| naming::spec_name(rule.canonical));
    let shape = rule.map_or(MetaEventShape::Open, |rule| rule.shape);
    if !products.is_empty() && properties.get("content_type").is_some_and(|it| it == "product") {
        // The default of all products.
        properties.shift_remove("content_type");
    }
    match shape {
        MetaEventShape::Search => {
            rename(&mut properties, "search_string", "query");
            rename(&mut properties, "content_category", "category");
        }
        MetaEventShape::List => rename(&mut properties, "content_category", "category"),
        MetaEventShape::Product => {
            if products.len() <= 1 {
                rename(&mut properties, "content_name", "name");
            }
            rename(&mut properties, "content_category", "category");
        }
        MetaEventShape::Order => split(&mut properties),
        MetaEventShape::Cart | MetaEventShape::Person | MetaEventShape::Open => {}
    }
    add(&mut properties, products, shape);
    MetaTrackEvent { event, properties }
}

/// Parses the custom data of a beacon.
pub(super) fn properties(data: &[(&str, &str)]) -> JsonObject {
    data.iter().map(|(name, text)| ((*name).to_owned(), value(name, text))).collect()
}

/// Parses the custom data that a page gave: texts are read like those of a beacon's fields.
pub(super) fn parse_custom_data(data: JsonObject) -> JsonObject {
    let read = |(name, written): (String, Value)| {
        let read = written.as_str().map(|text| value(&name, text));
        (name, read.unwrap_or(written))
    };
    data.into_iter().map(read).collect()
}

/// Parses the text of a field: objects and lists are JSON, numbers and booleans are written out.
fn value(name: &str, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    if TEXTS.contains(&name) {
        return as_text();
    }
    // The first byte tells numbers and JSON from texts, so that texts are not parsed.
    match text.trim_start().bytes().next() {
        Some(b'{' | b'[') => serde_json::from_str(text).unwrap_or_else(|_| as_text()),
        Some(b'-' | b'0'..=b'9') => match serde_json::from_str::<Value>(text) {
            // Digits that are not a number's usual notation are an id.
            Ok(Value::Number(number)) if NUMBERS.contains(&name) || number.to_string() == text => {
                Value::Number(number)
            }
            _ => as_text(),
        },
        _ => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => as_text(),
        },
    }
}

/// Takes the event's products: its contents, else the products of `content_ids`.
fn products(properties: &mut JsonObject) -> Vec<JsonObject> {
    for (field, is_list) in [("contents", true), ("content_ids", false)] {
        let found = match properties.get_mut(field) {
            Some(Value::Array(items)) if items.iter().any(names_product) => std::mem::take(items),
            Some(item @ Value::Object(_)) if is_list && names_product(item) => vec![item.take()],
            Some(item @ (Value::String(_) | Value::Number(_))) if !is_list => vec![item.take()],
            _ => continue,
        };
        properties.shift_remove(field);
        if is_list {
            properties.shift_remove("content_ids");
        }
        return found.into_iter().filter_map(product).collect();
    }
    Vec::new()
}

fn names_product(item: &Value) -> bool {
    match item {
        Value::Object(members) => products::id(members).is_some(),
        item => products::text(item).is_some(),
    }
}

fn product(item: Value) -> Option<JsonObject> {
    let mut product = match item {
        Value::Object(mut members) => {
            rename(&mut members, "id", "product_id");
            rename(&mut members, "item_price", "price");
            members
        }
        id => {
            JsonObject::from_iter([("product_id".to_owned(), Value::String(products::text(&id)?))])
        }
    };
    for field in ["price", "quantity"] {
        if let Some(number) = product.get(field).and_then(products::number) {
            put(&mut product, field, Some(number));
        }
    }
    Some(product)
}

/// Adds the products: a single one to the event's own properties, if the spec has it so; several as a list.
fn add(properties: &mut JsonObject, mut products: Vec<JsonObject>, shape: MetaEventShape) {
    let is_free = |product: &JsonObject| product.keys().all(|key| !properties.contains_key(key));
    if let [product] = products.as_mut_slice()
        && shape == MetaEventShape::Product
        && is_free(product)
    {
        properties.append(product);
        return;
    }
    put(properties, "products", Some(products.into_iter().map(Value::Object).collect::<Value>()));
}

/// Copies an order's value to total and revenue: it may or may not include shipping and taxes.
fn split(properties: &mut JsonObject) {
    let Some(value) = properties.get("value").filter(|value| value.is_number()).cloned() else {
        return;
    };
    for name in ["total", "revenue"] {
        properties.entry(name).or_insert_with(|| value.clone());
    }
}

/// Gives a member its canonical name, unless another member has it.
fn rename(members: &mut JsonObject, from: &str, to: &str) {
    if !members.contains_key(to)
        && let Some(value) = members.shift_remove(from)
    {
        members.insert(to.to_owned(), value);
    }
}
