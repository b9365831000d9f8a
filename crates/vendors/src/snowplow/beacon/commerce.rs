//! E-commerce: the plugin's actions, whose products and orders are entities; the older cart events; and
//! the oldest transactions and their items. All get the Segment spec's names
//! (`docs/contracts/beacons.md` 2).

use serde_json::Value;

use super::entities::SnowplowEntities;
use super::payload::SnowplowPayload;
use crate::beacon_format::put;
use crate::products;
use tagway_core::event::JsonObject;

/// The vendor of the plugin's schemas.
pub(super) const VENDOR: &str = "com.snowplowanalytics.snowplow.ecommerce";

/// The plugin's actions and their canonical names.
const ACTIONS: &[(&str, &str)] = &[
    ("product_view", "Product Viewed"),
    ("list_view", "Product List Viewed"),
    ("list_click", "Product Clicked"),
    ("add_to_cart", "Product Added"),
    ("remove_from_cart", "Product Removed"),
    ("promo_view", "Promotion Viewed"),
    ("promo_click", "Promotion Clicked"),
    ("checkout_step", "Checkout Step Completed"),
    ("transaction", "Order Completed"),
    ("refund", "Order Refunded"),
];

/// Members of entities and their canonical names; all others keep theirs.
const PRODUCT: &[(&str, &str)] = &[("id", "product_id")];
const PROMOTION: &[(&str, &str)] = &[("id", "promotion_id"), ("creative_id", "creative")];
const CART: &[(&str, &str)] = &[("total_value", "cart_total")];
const CHECKOUT: &[(&str, &str)] =
    &[("coupon_code", "coupon"), ("delivery_method", "shipping_method")];
const ORDER: &[(&str, &str)] =
    &[("transaction_id", "order_id"), ("discount_code", "coupon"), ("discount_amount", "discount")];
const REFUND: &[(&str, &str)] = &[("transaction_id", "order_id"), ("refund_amount", "revenue")];
const CART_ITEM: &[(&str, &str)] = &[("unitPrice", "price"), ("unit_price", "price")];

/// Members that are numbers, even where a site writes them as text.
const NUMBERS: &[&str] = &[
    "price",
    "quantity",
    "position",
    "revenue",
    "tax",
    "shipping",
    "discount",
    "step",
    "cart_total",
    "total_quantity",
];

/// Returns the canonical name and the properties of a plugin's action.
pub(super) fn action(
    data: &mut JsonObject,
    entities: &mut SnowplowEntities,
) -> Option<(String, JsonObject)> {
    let Some(Value::String(action)) = data.get_mut("type").map(Value::take) else { return None };
    let mut properties = JsonObject::new();
    let parts = [
        ("transaction", ORDER),
        ("refund", REFUND),
        ("checkout_step", CHECKOUT),
        ("promotion", PROMOTION),
        ("cart", CART),
        ("transaction_error", &[]),
    ];
    for (entity, names) in parts {
        if let Some(entity) = entities.take(VENDOR, entity) {
            add(&mut properties, renamed(entity, names));
        }
    }
    if matches!(action.as_str(), "transaction" | "refund") {
        let worth = properties.get("revenue").cloned();
        set_worth(&mut properties, worth);
    }
    let mut products: Vec<JsonObject> = entities.take_all(VENDOR, "product");
    for product in &mut products {
        *product = renamed(std::mem::take(product), PRODUCT);
    }
    // Events of one product have it among their own properties in the spec.
    let is_of_one = matches!(
        action.as_str(),
        "product_view" | "list_click" | "add_to_cart" | "remove_from_cart"
    );
    match (products.pop(), is_of_one) {
        (Some(only), true) if products.is_empty() => add(&mut properties, only),
        (Some(last), _) => {
            products.push(last);
            let products = products.into_iter().map(Value::Object).collect::<Vec<_>>();
            properties.insert("products".to_owned(), products.into());
        }
        (None, _) => {}
    }
    put(&mut properties, "list_id", data.get_mut("name").map(Value::take));
    let starts_checkout = action == "checkout_step" && starts_checkout(&properties);
    let known = ACTIONS.iter().find(|(known, _)| *known == action).map(|(_, name)| *name);
    let event = if starts_checkout { "Checkout Started" } else { known.unwrap_or(&action) };
    Some((event.to_owned(), properties))
}

/// Returns the properties of a cart event from before the plugin.
pub(super) fn cart_item(data: JsonObject) -> JsonObject {
    renamed(data, CART_ITEM)
}

/// Returns the properties of an old transaction.
pub(super) fn order(payload: &mut SnowplowPayload, products: Vec<Value>) -> JsonObject {
    let mut order = JsonObject::new();
    put(&mut order, "order_id", payload.text("tr_id"));
    put(&mut order, "affiliation", payload.text("tr_af"));
    let total = payload.number("tr_tt").map(Value::Number);
    put(&mut order, "revenue", total.clone());
    set_worth(&mut order, total);
    put(&mut order, "tax", payload.number("tr_tx"));
    put(&mut order, "shipping", payload.number("tr_sh"));
    put(&mut order, "currency", payload.text("tr_cu"));
    put(&mut order, "city", payload.text("tr_ci"));
    put(&mut order, "state", payload.text("tr_st"));
    put(&mut order, "country", payload.text("tr_co"));
    put(&mut order, "products", Some(products));
    order
}

/// Returns an item of an old transaction, without the transaction's id.
pub(super) fn item(payload: &mut SnowplowPayload) -> JsonObject {
    let mut item = JsonObject::new();
    put(&mut item, "sku", payload.text("ti_sk"));
    let name = payload.text("ti_nm").or_else(|| payload.text("ti_na"));
    put(&mut item, "name", name);
    put(&mut item, "category", payload.text("ti_ca"));
    put(&mut item, "price", payload.number("ti_pr"));
    put(&mut item, "quantity", payload.number("ti_qu"));
    put(&mut item, "currency", payload.text("ti_cu"));
    item
}

/// Returns true if a checkout step is the first.
pub(super) fn starts_checkout(properties: &JsonObject) -> bool {
    properties.get("step").and_then(products::whole_number) == Some(1)
}

/// Sets `total` and `value` to one amount: revenue and amount paid are not distinguished.
pub(super) fn set_worth(properties: &mut JsonObject, worth: Option<Value>) {
    put(properties, "total", worth.clone());
    put(properties, "value", worth);
}

/// Renames members to their canonical names. Empty ones are left out.
pub(super) fn renamed(members: JsonObject, names: &[(&str, &str)]) -> JsonObject {
    let mut renamed = JsonObject::new();
    for (name, value) in members {
        let canonical = names.iter().find(|(known, _)| *known == name).map(|(_, name)| *name);
        let canonical = canonical.unwrap_or(&name);
        let number = NUMBERS.contains(&canonical).then(|| products::number(&value)).flatten();
        put(&mut renamed, canonical, Some(number.map_or(value, Value::Number)));
    }
    renamed
}

/// Adds members whose names are not set yet.
pub(super) fn add(properties: &mut JsonObject, members: JsonObject) {
    for (name, value) in members {
        properties.entry(name).or_insert(value);
    }
}
