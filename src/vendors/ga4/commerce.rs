//! Items, values and currencies (`contracts/destinations.md` 1.3).

use serde_json::{Number, Value};

use super::params::Params;
use super::rules;
use super::settings::PurchaseValue;
use crate::event::Object;
use crate::vendors::products::{self, number};

/// Items of one event.
pub(super) const MAX_ITEMS: usize = 200;

/// Fields of one item: Google's own and up to 27 of the client's.
pub(super) const MAX_ITEM_FIELDS: usize = 27 + FIELDS.len();

/// How a field of an item is read.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Integer,
    Currency,
}

/// Google's fields of an item, each from the first of these keys of a product.
const FIELDS: &[(&str, &[&str], Kind)] = &[
    ("item_id", &["product_id", "sku", "id"], Kind::Text),
    ("item_name", &["name"], Kind::Text),
    ("affiliation", &["affiliation"], Kind::Text),
    ("coupon", &["coupon"], Kind::Text),
    ("currency", &["currency"], Kind::Currency),
    ("discount", &["discount"], Kind::Number),
    ("index", &["position"], Kind::Integer),
    ("item_brand", &["brand"], Kind::Text),
    ("item_category", &["category"], Kind::Text),
    ("item_category2", &["item_category2", "category2"], Kind::Text),
    ("item_category3", &["item_category3", "category3"], Kind::Text),
    ("item_category4", &["item_category4", "category4"], Kind::Text),
    ("item_category5", &["item_category5", "category5"], Kind::Text),
    ("item_list_id", &["item_list_id", "list_id"], Kind::Text),
    ("item_list_name", &["item_list_name"], Kind::Text),
    ("item_variant", &["variant"], Kind::Text),
    ("location_id", &["location_id"], Kind::Text),
    ("price", &["price"], Kind::Number),
    ("quantity", &["quantity"], Kind::Integer),
];

/// The items of an event: those of `products`, else, where the rule says that they may be one,
/// the properties themselves.
pub(super) fn items(properties: &Object, rule: rules::Items) -> Vec<Value> {
    match (properties.get("products"), rule) {
        (_, rules::Items::None) => Vec::new(),
        (Some(Value::Array(_)), _) => {
            let items = products::listed(properties).filter_map(|product| item(product, true));
            items.take(MAX_ITEMS).collect()
        }
        (_, rules::Items::Listed) => Vec::new(),
        (_, rules::Items::Optional | rules::Items::Required) => {
            item(properties, false).into_iter().collect()
        }
    }
}

/// One product as an item. The client's own keys go along where the object is nothing but a
/// product. Without an id and a name it is none.
fn item(product: &Object, with_custom: bool) -> Option<Value> {
    let mut fields = Params::new(MAX_ITEM_FIELDS);
    for (field, keys, kind) in FIELDS {
        let value = keys.iter().find_map(|key| convert(product.get(*key)?, *kind));
        fields.add(field, value);
    }
    if !fields.has("item_id") && !fields.has("item_name") {
        return None;
    }
    if with_custom {
        for (key, value) in product.iter().filter(|(key, _)| !is_known(key)) {
            fields.add_custom(key, value);
        }
    }
    Some(Value::Object(fields.into_object()))
}

/// Whether a field of Google's is read from this key of a product.
fn is_known(key: &str) -> bool {
    FIELDS.iter().any(|(_, keys, _)| keys.contains(&key))
}

fn convert(value: &Value, kind: Kind) -> Option<Value> {
    match kind {
        Kind::Text => products::text(value).map(Value::String),
        Kind::Currency => products::currency_code(value.as_str()?).map(Value::String),
        Kind::Number => number(value).map(Value::Number),
        Kind::Integer => products::whole_number(value).map(Value::from),
    }
}

/// The event's value.
pub(super) fn value(
    properties: &Object,
    rule: rules::Value,
    purchase: PurchaseValue,
) -> Option<Number> {
    let of = |key: &str| properties.get(key).and_then(number);
    match rule {
        rules::Value::None => None,
        rules::Value::Of(keys) => {
            products::first_number(properties, keys).or_else(|| products::worth(properties))
        }
        rules::Value::Order => match purchase {
            PurchaseValue::Revenue => of("revenue")
                .or_else(|| of("value"))
                .or_else(|| of("subtotal"))
                .or_else(|| net(properties))
                .or_else(|| products::worth(properties)),
            PurchaseValue::Total => {
                products::first_number(properties, &["total", "value", "revenue"])
            }
        },
    }
}

/// The total without tax and shipping.
fn net(properties: &Object) -> Option<Number> {
    let of = |key: &str| properties.get(key).and_then(number)?.as_f64();
    products::amount(of("total")? - of("tax").unwrap_or(0.0) - of("shipping").unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(properties: Value, purchase: PurchaseValue) -> Option<f64> {
        value(properties.as_object().unwrap(), rules::Value::Order, purchase)?.as_f64()
    }

    #[test]
    fn an_orders_value_is_without_tax_and_shipping_unless_the_settings_say_so() {
        let whole = json!({ "revenue": 25, "value": 26, "subtotal": 27, "total": "30.0", "tax": 2,
            "shipping": 3, "products": [{ "price": 19.99, "quantity": 3 }, { "price": "1" }] });
        let expected = [
            ("revenue", 25.0),
            ("value", 26.0),
            ("subtotal", 27.0),
            ("total", 25.0),
            ("products", 60.97),
        ];
        let mut properties = whole.clone();
        for (key, amount) in expected {
            assert_eq!(order(properties.clone(), PurchaseValue::Revenue), Some(amount), "{key}");
            properties.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(order(properties, PurchaseValue::Revenue), None);
        assert_eq!(order(whole, PurchaseValue::Total), Some(30.0));
    }

    #[test]
    fn products_are_items_with_numbers_and_the_clients_own_keys() {
        let properties = json!({ "products": [
            { "product_id": 7, "name": "Mug", "price": "9.50", "quantity": "2", "position": 1.0,
              "brand": "", "colour": "red", "nested": { "a": 1 }, "gift": true },
            { "price": 1 }, "text",
        ] });
        let expected = json!([{ "item_id": "7", "item_name": "Mug", "index": 1, "price": 9.5,
            "quantity": 2, "colour": "red", "gift": "true" }]);
        assert_eq!(
            Value::Array(items(properties.as_object().unwrap(), rules::Items::Optional)),
            expected
        );
    }

    #[test]
    fn there_is_a_bound_to_items() {
        let products = json!({ "products": vec![json!({ "sku": "x" }); 300] });
        assert_eq!(items(products.as_object().unwrap(), rules::Items::Required).len(), MAX_ITEMS);
    }
}
