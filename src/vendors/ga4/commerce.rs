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
const LISTS: [&str; 2] = ["products", "items"];

/// The items of an event, and the properties that they are made of.
#[derive(Debug, Default)]
pub(super) struct ItemList {
    pub(super) items: Vec<Value>,
    source: ItemSource,
}

#[derive(Clone, Copy, Debug, Default)]
enum ItemSource {
    #[default]
    Nothing,
    /// A list among the properties.
    List,
    /// The properties themselves.
    Properties,
}

impl ItemList {
    /// True if a property has become a part of the items.
    pub(super) fn is_made_of(&self, key: &str) -> bool {
        match self.source {
            ItemSource::Nothing => false,
            ItemSource::List => LISTS.contains(&key),
            // An empty list beside a product says nothing.
            ItemSource::Properties => LISTS.contains(&key) || is_known(key),
        }
    }
}

/// The items of an event: those that it lists, else, where the rule says that they may be one, the
/// properties themselves.
pub(super) fn items(
    properties: &Object,
    rule: rules::Items,
    dropped: &mut DroppedFields,
) -> ItemList {
    let listed = LISTS.iter().find_map(|key| {
        let list = properties.get(*key)?.as_array()?;
        (!list.is_empty()).then_some(list)
    });
    let (items, source): (Vec<Value>, _) = match (listed, rule) {
        (_, rules::Items::None) | (None, rules::Items::Listed) => return ItemList::default(),
        (Some(list), _) => {
            let surplus = list.len().saturating_sub(MAX_ITEMS);
            (0..surplus).for_each(|_| dropped.add("products", DropReason::TooManyParameters));
            let products = list.iter().take(MAX_ITEMS).enumerate();
            let item = |(number, it): (usize, &Value)| item(it.as_object()?, number, dropped);
            (products.filter_map(item).collect(), ItemSource::List)
        }
        (None, rules::Items::Optional | rules::Items::Required) => {
            let own = own_item(properties, dropped).into_iter().collect();
            (own, ItemSource::Properties)
        }
    };
    if items.is_empty() { ItemList::default() } else { ItemList { items, source } }
}

/// One product as an item, with the client's own keys, of objects with those in them. Without an id and
/// a name it is none.
fn item(product: &Object, number: usize, dropped: &mut DroppedFields) -> Option<Value> {
    let mut fields = Params::of_product(MAX_ITEM_FIELDS, dropped, number);
    add_fields(&mut fields, product);
    if !fields.has("item_id") && !fields.has("item_name") {
        return None;
    }
    fields.add_properties(product, is_known);
    Some(Value::Object(fields.into_object()))
}

/// The item that an event's properties are, without the client's own: they are the event's.
fn own_item(properties: &Object, dropped: &mut DroppedFields) -> Option<Value> {
    let mut fields = Params::new(MAX_ITEM_FIELDS, dropped);
    add_fields(&mut fields, properties);
    (fields.has("item_id") || fields.has("item_name")).then(|| Value::Object(fields.into_object()))
}

fn add_fields(fields: &mut Params<'_>, product: &Object) {
    for (field, keys, kind) in FIELDS {
        fields.add(field, keys.iter().find_map(|key| convert(product.get(*key)?, *kind)));
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
        items(properties.as_object().unwrap(), rule, dropped).items
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
