//! E-commerce of the plugin named after Google's enhanced e-commerce: an action, and entities for its
//! order, its products, its impressions and its promotions.

use serde_json::Value;

use super::commerce::{add, renamed, set_worth, starts_checkout};
use super::entities::SnowplowEntities;
use crate::beacon_format::put;
use tagway_core::event::JsonObject;

/// The vendor of the plugin's schemas.
pub(super) const VENDOR: &str = "com.google.analytics.enhanced-ecommerce";

/// The plugin's actions and their canonical names.
const ACTIONS: &[(&str, &str)] = &[
    ("detail", "Product Viewed"),
    ("click", "Product Clicked"),
    ("add", "Product Added"),
    ("remove", "Product Removed"),
    ("checkout", "Checkout Step Completed"),
    ("purchase", "Order Completed"),
    ("refund", "Order Refunded"),
    ("promo_click", "Promotion Clicked"),
];

/// Members of entities and their canonical names; all others keep theirs.
const ORDER: &[(&str, &str)] =
    &[("id", "order_id"), ("list", "list_id"), ("option", "payment_method")];
const PRODUCT: &[(&str, &str)] = &[("id", "product_id")];
const PROMOTION: &[(&str, &str)] = &[("id", "promotion_id")];

/// Returns the canonical name and the properties of an action.
pub(super) fn action(
    data: &mut JsonObject,
    entities: &mut SnowplowEntities,
) -> Option<(String, JsonObject)> {
    let Some(Value::String(action)) = data.get_mut("action").map(Value::take) else { return None };
    let mut properties = JsonObject::new();
    if let Some(order) = entities.take(VENDOR, "actionFieldObject") {
        add(&mut properties, renamed(order, ORDER));
    }
    if matches!(action.as_str(), "purchase" | "refund") {
        let worth = properties.get("revenue").cloned();
        set_worth(&mut properties, worth);
    }
    let mut promotions = entities.take_all(VENDOR, "promoFieldObject");
    let has_promotions = !promotions.is_empty();
    if let (Some(only), true) = (promotions.pop(), promotions.is_empty()) {
        add(&mut properties, renamed(only, PROMOTION));
    }
    let mut products = entities.take_all(VENDOR, "productFieldObject");
    products.extend(entities.take_all(VENDOR, "impressionFieldObject"));
    let products = products.into_iter().map(|product| renamed(product, PRODUCT));
    let mut products: Vec<JsonObject> = products.collect();
    let is_of_one = matches!(action.as_str(), "detail" | "click" | "add" | "remove");
    if let (true, 1, Some(only)) = (is_of_one, products.len(), products.last_mut()) {
        add(&mut properties, std::mem::take(only));
        products.clear();
    }
    let products: Vec<Value> = products.into_iter().map(Value::Object).collect();
    put(&mut properties, "products", Some(products));
    let known = ACTIONS.iter().find(|(known, _)| *known == action).map(|(_, name)| *name);
    let event = match (action.as_str(), known) {
        ("checkout", _) if starts_checkout(&properties) => "Checkout Started",
        // Only the entities tell what was viewed.
        ("view", _) if has_promotions => "Promotion Viewed",
        ("view", _) => "Product List Viewed",
        (_, Some(known)) => known,
        (other, None) => other,
    };
    Some((event.to_owned(), properties))
}
