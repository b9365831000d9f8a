//! Items, values and currencies (`contracts/destinations.md` 1.3).

use serde_json::{Number, Value};

use super::params::Params;
use super::rules;
use super::settings::PurchaseValue;
use crate::event::{DropReason, DroppedFields, Object};
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

/// Google's fields of an item, each from the first of these keys of a product: the spec's, then Google's.
const FIELDS: &[(&str, &[&str], Kind)] = &[
    ("item_id", &["product_id", "sku", "id", "item_id"], Kind::Text),
    ("item_name", &["name", "item_name"], Kind::Text),
    ("affiliation", &["affiliation"], Kind::Text),
    ("coupon", &["coupon"], Kind::Text),
    ("currency", &["currency"], Kind::Currency),
    ("discount", &["discount"], Kind::Number),
    ("index", &["position", "index"], Kind::Integer),
    ("item_brand", &["brand", "item_brand"], Kind::Text),
    ("item_category", &["category", "item_category"], Kind::Text),
    ("item_category2", &["item_category2", "category2"], Kind::Text),
    ("item_category3", &["item_category3", "category3"], Kind::Text),
    ("item_category4", &["item_category4", "category4"], Kind::Text),
    ("item_category5", &["item_category5", "category5"], Kind::Text),
    ("item_list_id", &["item_list_id", "list_id"], Kind::Text),
    ("item_list_name", &["item_list_name"], Kind::Text),
    ("item_variant", &["variant", "item_variant"], Kind::Text),
    ("location_id", &["location_id"], Kind::Text),
    ("price", &["price"], Kind::Number),
    ("quantity", &["quantity"], Kind::Integer),
];

/// The properties of an event that list its products: the spec's, and Google's.
pub(super) const LISTS: [&str; 2] = ["products", "items"];

/// The items of an event: those that it lists, else, where the rule says that they may be one, the
/// properties themselves. The properties that made an item are noted.
pub(super) fn items<'p>(
    properties: &'p Object,
    rule: rules::Items,
    used: &mut UsedKeys<'p>,
    dropped: &mut DroppedFields,
) -> Vec<Value> {
    let listed = LISTS.iter().find_map(|key| {
        let list = properties.get(*key)?.as_array()?;
        (!list.is_empty()).then_some(list)
    });
    match (listed, rule) {
        (_, rules::Items::None) => Vec::new(),
        (Some(list), _) => {
            let surplus = list.len().saturating_sub(MAX_ITEMS);
            (0..surplus).for_each(|_| dropped.add("products", DropReason::TooManyParameters));
            let products = list.iter().take(MAX_ITEMS).enumerate();
            products.filter_map(|(number, it)| item(it.as_object()?, number, dropped)).collect()
        }
        (None, rules::Items::Listed) => Vec::new(),
        (None, rules::Items::Optional | rules::Items::Required) => {
            own_item(properties, used, dropped).into_iter().collect()
        }
    }
}

/// One product as an item, with the client's own keys, of objects with those in them. Without an id and
/// a name it is none.
fn item(product: &Object, number: usize, dropped: &mut DroppedFields) -> Option<Value> {
    let mut fields = Params::of_product(MAX_ITEM_FIELDS, dropped, number);
    for (field, keys, kind) in FIELDS {
        fields.add(field, keys.iter().find_map(|key| convert(product.get(*key)?, *kind)));
    }
    if !fields.has("item_id") && !fields.has("item_name") {
        return None;
    }
    fields.add_properties(product, is_known);
    Some(Value::Object(fields.into_object()))
}

/// The item that an event's properties are.
fn own_item<'p>(
    properties: &'p Object,
    used: &mut UsedKeys<'p>,
    dropped: &mut DroppedFields,
) -> Option<Value> {
    let mut fields = Params::of_product(MAX_ITEM_FIELDS, dropped, 0);
    let mut own = UsedKeys::default();
    for (field, keys, kind) in FIELDS {
        let found = keys.iter().find_map(|key| {
            let (key, value) = properties.get_key_value(*key)?;
            Some((key, convert(value, *kind)?))
        });
        if let Some((key, value)) = found {
            own.add(key);
            fields.add(field, Some(value));
        }
    }
    if !fields.has("item_id") && !fields.has("item_name") {
        return None;
    }
    used.extend(own);
    Some(Value::Object(fields.into_object()))
}

/// The properties of an event that have become something of Google's: the others go under their own
/// names.
#[derive(Debug, Default)]
pub(super) struct UsedKeys<'p>(Vec<&'p str>);

impl<'p> UsedKeys<'p> {
    pub(super) fn add(&mut self, key: &'p str) {
        self.0.push(key);
    }

    pub(super) fn contain(&self, key: &str) -> bool {
        self.0.contains(&key)
    }

    fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
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
        rules::Value::None | rules::Value::Virtual => None,
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

    fn made(properties: &Value, rule: rules::Items) -> Vec<Value> {
        let dropped = &mut DroppedFields::default();
        items(properties.as_object().unwrap(), rule, &mut UsedKeys::default(), dropped)
    }

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
              "brand": "", "colour": "red", "size": { "eu": 44, "us": 10 }, "gift": true },
            { "price": 1 }, "text", { "item_id": "x", "item_brand": "B", "index": 2 },
        ] });
        let expected = json!([
            { "item_id": "7", "item_name": "Mug", "index": 1, "price": 9.5, "quantity": 2,
              "colour": "red", "size_eu": 44, "size_us": 10, "gift": "true" },
            { "item_id": "x", "item_brand": "B", "index": 2 },
        ]);
        assert_eq!(Value::Array(made(&properties, rules::Items::Optional)), expected);
        let googles = json!({ "items": properties["products"], "products": [] });
        assert_eq!(Value::Array(made(&googles, rules::Items::Listed)), expected);
    }

    #[test]
    fn there_is_a_bound_to_items() {
        let products = json!({ "products": vec![json!({ "sku": "x" }); 300] });
        assert_eq!(made(&products, rules::Items::Required).len(), MAX_ITEMS);
    }
}
