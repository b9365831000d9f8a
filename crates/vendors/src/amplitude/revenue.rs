//! The revenue fields of events and of single products (`docs/contracts/destinations.md` 4.2 and 4.4).
//!
//! Amplitude counts price times quantity over revenue where it receives both, so only one of the two is sent:
//! price and quantity where both are written and do not contradict the revenue, else the revenue alone. Only
//! a completed order, a refund, and an event that names a type of revenue or is in the settings have revenue:
//! a cart has a property `revenue`, too, but brings none.

use serde_json::{Number, Value};

use super::settings::AmplitudeSettings;
use super::values::put_text;
use crate::naming::is_like;
use crate::products::{self, number};
use tagway_core::event::JsonObject;

/// The type of a sale's revenue.
const SALE: &str = "Purchase";

/// The difference below which sums are the same.
const CENT: f64 = 0.005;

/// Returns true if a track event of this name is a completed order.
pub(super) fn is_order(name: &str) -> bool {
    is_like("ORDER_COMPLETED", name)
}

/// Returns the revenue fields of a track event; empty if it brought no revenue.
pub(super) fn fields(
    name: &str,
    properties: &JsonObject,
    settings: &AmplitudeSettings,
) -> JsonObject {
    let mut fields = JsonObject::new();
    let kinds = ["revenueType", "revenue_type", "$revenueType"].iter();
    let mut kind = kinds.filter_map(|key| properties.get(*key)?.as_str()).find(|it| !it.is_empty());
    if is_like("ORDER_REFUNDED", name) {
        let Some(refund) = refund(properties) else { return fields };
        fields.insert("revenue".to_owned(), Value::Number(refund));
        kind = kind.or(Some("Refund"));
    } else if is_order(name) {
        let stated = properties.get("revenue").and_then(number);
        add_amount(&mut fields, properties, stated.or_else(|| order_revenue(properties)));
        kind = kind.or(Some(SALE));
    } else if (kind.is_some() || settings.is_revenue_event(name))
        && let Some(stated) = properties.get("revenue").and_then(number)
    {
        add_amount(&mut fields, properties, Some(stated));
    }
    if fields.is_empty() {
        return fields;
    }
    let product = match properties.get("products").and_then(Value::as_array).map(Vec::as_slice) {
        Some([Value::Object(only)]) => Some(only),
        Some(_) => None,
        None => Some(properties),
    };
    let product = product.and_then(|product| {
        let camel = product.get("productId").and_then(products::text);
        camel.or_else(|| products::id(product))
    });
    put_text(&mut fields, "productId", product.as_deref());
    put_text(&mut fields, "revenueType", kind);
    add_currency(&mut fields, properties, settings);
    fields
}

/// Returns the revenue fields of one product of an order.
pub(super) fn of_product(
    product: &JsonObject,
    order: &JsonObject,
    settings: &AmplitudeSettings,
) -> JsonObject {
    let mut fields = JsonObject::new();
    match (unit(product), product.get("price").and_then(number)) {
        (Some(unit), _) => add_unit(&mut fields, unit),
        (None, Some(price)) => {
            fields.insert("revenue".to_owned(), Value::Number(price));
        }
        (None, None) => return fields,
    }
    put_text(&mut fields, "productId", products::id(product).as_deref());
    put_text(&mut fields, "revenueType", Some(SALE));
    add_currency(&mut fields, order, settings);
    fields
}

fn add_currency(fields: &mut JsonObject, properties: &JsonObject, settings: &AmplitudeSettings) {
    if let Some(currency) = products::currency(properties, settings.currency.as_deref()) {
        fields.insert("currency".to_owned(), Value::String(currency));
    }
}

/// Adds price and quantity, if both are written and the stated sum is theirs; else the stated sum.
fn add_amount(fields: &mut JsonObject, properties: &JsonObject, stated: Option<Number>) {
    let sum = stated.as_ref().and_then(Number::as_f64);
    let is_sum = |(price, quantity): &(Number, i64)| {
        let worth = price.as_f64().and_then(|price| Some(price * exact(*quantity)?));
        sum.is_none_or(|sum| worth.is_some_and(|worth| (worth - sum).abs() < CENT))
    };
    match (unit(properties).filter(is_sum), stated) {
        (Some(unit), _) => add_unit(fields, unit),
        (None, Some(stated)) => {
            fields.insert("revenue".to_owned(), Value::Number(stated));
        }
        (None, None) => {}
    }
}

fn add_unit(fields: &mut JsonObject, (price, quantity): (Number, i64)) {
    fields.insert("price".to_owned(), Value::Number(price));
    fields.insert("quantity".to_owned(), quantity.into());
}

/// Returns price and quantity, if both are written: the quantity whole and above zero.
fn unit(properties: &JsonObject) -> Option<(Number, i64)> {
    let price = properties.get("price").and_then(number)?;
    let written = properties.get("quantity").and_then(number)?;
    let quantity = products::whole_number(&Value::Number(written.clone()))?;
    let is_whole = written.as_f64() == exact(quantity);
    (quantity > 0 && is_whole).then_some((price, quantity))
}

/// Returns a quantity as a float, if that is exact.
fn exact(quantity: i64) -> Option<f64> {
    Some(f64::from(i32::try_from(quantity).ok()?))
}

/// Returns the revenue of an order that does not state it, as the Segment spec defines revenue: without tax
/// and shipping.
fn order_revenue(properties: &JsonObject) -> Option<Number> {
    let of = |key: &str| properties.get(key).and_then(number).and_then(|number| number.as_f64());
    let net = || {
        let costs = of("tax").unwrap_or(0.0) + of("shipping").unwrap_or(0.0);
        products::amount(of("total")? - costs)
    };
    let stated = products::first_number(properties, &["value", "subtotal"]);
    stated.or_else(net).or_else(|| {
        // The price and the quantity of the only product are more precise than their product.
        unit(properties).is_none().then(|| products::total_price(properties)).flatten()
    })
}

/// Returns the amount of a refund: negative, with either sign in the event.
fn refund(properties: &JsonObject) -> Option<Number> {
    let stated = products::first_number(properties, &["total", "revenue", "value"]);
    let back = stated.or_else(|| products::total_price(properties))?;
    if back.as_f64()? <= 0.0 {
        return Some(back);
    }
    match back.as_i64() {
        Some(whole) => Some((-whole).into()),
        None => Number::from_f64(-back.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{self, object};

    fn of(name: &str, properties: Value) -> Value {
        let text =
            "api_key = \"0123456789abcdef\"\nrevenue_events = [\"upgraded\", \"Subscribed\"]";
        let settings =
            test_support::settings(text, |section| AmplitudeSettings::read(section, None));
        Value::Object(fields(name, &object(properties), &settings))
    }

    #[test]
    fn revenue_counts_for_sales_and_configured_events_only() {
        let cart = json!({ "revenue": 20, "currency": "EUR" });
        for name in ["Checkout Started", "Order Updated", "Order Cancelled", "Renewed"] {
            assert_eq!(of(name, cart.clone()), json!({}), "{name}");
        }
        for name in ["Upgraded", "Subscribed"] {
            assert_eq!(of(name, cart.clone()), cart, "{name}");
        }
        let typed = json!({ "revenue": 20, "revenue_type": "Renewal" });
        let expected = json!({ "revenue": 20, "revenueType": "Renewal" });
        assert_eq!(of("Renewed", typed.clone()), expected);
        assert_eq!(of("Order Completed", typed), expected);
        let sale = json!({ "revenue": 20, "currency": "EUR", "revenueType": "Purchase" });
        assert_eq!(of("Order Completed", cart), sale);
    }

    #[test]
    fn price_and_quantity_are_sent_only_if_both_are_written_and_agree() {
        for (properties, expected) in [
            (json!({ "revenue": 20 }), json!({ "revenue": 20 })),
            (json!({ "revenue": "20.50" }), json!({ "revenue": 20.5 })),
            (json!({ "revenue": 20, "price": 20 }), json!({ "revenue": 20 })),
            (
                json!({ "revenue": 20, "price": 10, "quantity": 2 }),
                json!({ "price": 10, "quantity": 2 }),
            ),
            (json!({ "revenue": 18, "price": 10, "quantity": 2 }), json!({ "revenue": 18 })),
            (json!({ "revenue": 25, "price": 10, "quantity": 2.5 }), json!({ "revenue": 25 })),
            (
                json!({ "revenue": -7, "currency": "eur" }),
                json!({ "revenue": -7, "currency": "EUR" }),
            ),
            (json!({ "price": 10, "quantity": 2 }), json!({})),
            (json!({ "revenue": "free" }), json!({})),
        ] {
            assert_eq!(of("Upgraded", properties.clone()), expected, "{properties}");
        }
    }

    #[test]
    fn order_without_revenue_uses_its_other_amounts() {
        let mut order = json!({ "revenue": 25, "value": 26, "subtotal": 27, "total": "30.0",
            "tax": 2, "shipping": 3, "products": [{ "price": 19.99, "quantity": 3 }] });
        for (key, amount) in [
            ("revenue", 25.0),
            ("value", 26.0),
            ("subtotal", 27.0),
            ("total", 25.0),
            ("products", 59.97),
        ] {
            let revenue = of("order completed", order.clone())["revenue"].as_f64();
            assert_eq!(revenue, Some(amount), "{key}");
            order.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(of("Order Completed", order), json!({}));
        let one = json!({ "product_id": "p", "price": 4.5, "quantity": 2 });
        let expected =
            json!({ "price": 4.5, "quantity": 2, "productId": "p", "revenueType": "Purchase" });
        assert_eq!(of("Order Completed", one), expected);
    }

    #[test]
    fn refund_is_negative_with_either_sign() {
        for (total, expected) in
            [(json!(30), json!(-30)), (json!(-30), json!(-30)), (json!("12.5"), json!(-12.5))]
        {
            let expected = json!({ "revenue": expected, "revenueType": "Refund" });
            let refunded = json!({ "total": total, "revenue": 1 });
            assert_eq!(of("Order Refunded", refunded), expected, "{total}");
        }
        assert_eq!(of("Order Refunded", json!({ "order_id": "1" })), json!({}));
    }

    #[test]
    fn product_id_is_set_for_a_single_product() {
        let product = |properties: Value| of("Order Completed", properties)["productId"].clone();
        let one = json!({ "revenue": 1, "products": [{ "sku": "a" }] });
        let two = json!({ "revenue": 1, "products": [{ "sku": "a" }, { "sku": "b" }] });
        assert_eq!((product(one), product(two)), (json!("a"), Value::Null));
        assert_eq!(product(json!({ "revenue": 1, "productId": 7 })), json!("7"));
    }
}
