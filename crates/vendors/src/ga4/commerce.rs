//! Items, values and currencies (`docs/contracts/destinations.md` 1.3).

use serde_json::{Number, Value};

use super::params::Ga4ParamBuilder;
use super::rules;
use super::settings::Ga4PurchaseValue;
use crate::products::{self, number};
use tagway_core::event::{DroppedFields, FieldDropReason, JsonObject};

/// The most items of one event.
pub(super) const MAX_ITEMS: usize = 200;

/// The most fields of one item: Google's own and up to 27 of the client's.
pub(super) const MAX_ITEM_FIELDS: usize = 27 + FIELDS.len();

/// The conversion of an item's field.
#[derive(Clone, Copy)]
enum Ga4ItemFieldKind {
    Text,
    Number,
    Integer,
    Currency,
}

/// Google's fields of an item, each with the keys of a product from which it is read: the spec's, then
/// Google's.
const FIELDS: &[(&str, &[&str], Ga4ItemFieldKind)] = &[
    ("item_id", &["product_id", "sku", "id", "item_id"], Ga4ItemFieldKind::Text),
    ("item_name", &["name", "item_name"], Ga4ItemFieldKind::Text),
    ("affiliation", &["affiliation"], Ga4ItemFieldKind::Text),
    ("coupon", &["coupon"], Ga4ItemFieldKind::Text),
    ("currency", &["currency"], Ga4ItemFieldKind::Currency),
    ("discount", &["discount"], Ga4ItemFieldKind::Number),
    ("index", &["position", "index"], Ga4ItemFieldKind::Integer),
    ("item_brand", &["brand", "item_brand"], Ga4ItemFieldKind::Text),
    ("item_category", &["category", "item_category"], Ga4ItemFieldKind::Text),
    ("item_category2", &["item_category2", "category2"], Ga4ItemFieldKind::Text),
    ("item_category3", &["item_category3", "category3"], Ga4ItemFieldKind::Text),
    ("item_category4", &["item_category4", "category4"], Ga4ItemFieldKind::Text),
    ("item_category5", &["item_category5", "category5"], Ga4ItemFieldKind::Text),
    ("item_list_id", &["item_list_id", "list_id"], Ga4ItemFieldKind::Text),
    ("item_list_name", &["item_list_name"], Ga4ItemFieldKind::Text),
    ("item_variant", &["variant", "item_variant"], Ga4ItemFieldKind::Text),
    ("location_id", &["location_id"], Ga4ItemFieldKind::Text),
    ("price", &["price"], Ga4ItemFieldKind::Number),
    ("quantity", &["quantity"], Ga4ItemFieldKind::Integer),
];

/// The properties of an event that list its products: the spec's, and Google's.
const LISTS: [&str; 2] = ["products", "items"];

/// The items of an event, and the properties that they are made of.
#[derive(Debug, Default)]
pub(super) struct Ga4ItemList {
    pub(super) items: Vec<Value>,
    source: Ga4ItemSource,
}

#[derive(Clone, Copy, Debug, Default)]
enum Ga4ItemSource {
    #[default]
    Nothing,
    /// A list among the properties.
    List,
    /// The properties themselves.
    Properties,
}

impl Ga4ItemList {
    /// Returns true if a property has become a part of the items.
    pub(super) fn is_made_of(&self, key: &str) -> bool {
        match self.source {
            Ga4ItemSource::Nothing => false,
            Ga4ItemSource::List => LISTS.contains(&key),
            // An empty list next to a product has no effect.
            Ga4ItemSource::Properties => LISTS.contains(&key) || is_known(key),
        }
    }
}

/// Returns the items of an event: those that it lists, else, where the rule allows it, the properties
/// themselves as one item.
pub(super) fn items(
    properties: &JsonObject,
    rule: rules::Ga4ItemPolicy,
    dropped: &mut DroppedFields,
) -> Ga4ItemList {
    let listed = LISTS.iter().find_map(|key| {
        let list = properties.get(*key)?.as_array()?;
        (!list.is_empty()).then_some(list)
    });
    let (items, source): (Vec<Value>, _) = match (listed, rule) {
        (_, rules::Ga4ItemPolicy::None) | (None, rules::Ga4ItemPolicy::Listed) => {
            return Ga4ItemList::default();
        }
        (Some(list), _) => {
            let surplus = list.len().saturating_sub(MAX_ITEMS);
            (0..surplus).for_each(|_| dropped.add("products", FieldDropReason::TooManyParameters));
            let products = list.iter().take(MAX_ITEMS).enumerate();
            let item = |(number, it): (usize, &Value)| item(it.as_object()?, number, dropped);
            (products.filter_map(item).collect(), Ga4ItemSource::List)
        }
        (None, rules::Ga4ItemPolicy::Optional | rules::Ga4ItemPolicy::Required) => {
            let own = own_item(properties, dropped).into_iter().collect();
            (own, Ga4ItemSource::Properties)
        }
    };
    if items.is_empty() { Ga4ItemList::default() } else { Ga4ItemList { items, source } }
}

/// Makes an item of one product, with the client's own keys, of objects with those in them. `None` without an
/// id and a name.
fn item(product: &JsonObject, number: usize, dropped: &mut DroppedFields) -> Option<Value> {
    let mut fields = Ga4ParamBuilder::of_product(MAX_ITEM_FIELDS, dropped, number);
    add_fields(&mut fields, product);
    if !fields.has("item_id") && !fields.has("item_name") {
        return None;
    }
    fields.add_properties(product, is_known);
    Some(Value::Object(fields.into_object()))
}

/// Makes an item of an event's properties, without the client's own: they are the event's.
fn own_item(properties: &JsonObject, dropped: &mut DroppedFields) -> Option<Value> {
    let mut fields = Ga4ParamBuilder::new(MAX_ITEM_FIELDS, dropped);
    add_fields(&mut fields, properties);
    (fields.has("item_id") || fields.has("item_name")).then(|| Value::Object(fields.into_object()))
}

fn add_fields(fields: &mut Ga4ParamBuilder<'_>, product: &JsonObject) {
    for (field, keys, kind) in FIELDS {
        fields.add(field, keys.iter().find_map(|key| convert(product.get(*key)?, *kind)));
    }
}

/// Returns true if a field of Google's is read from this key of a product.
fn is_known(key: &str) -> bool {
    FIELDS.iter().any(|(_, keys, _)| keys.contains(&key))
}

fn convert(value: &Value, kind: Ga4ItemFieldKind) -> Option<Value> {
    match kind {
        Ga4ItemFieldKind::Text => products::text(value).map(Value::String),
        Ga4ItemFieldKind::Currency => products::currency_code(value.as_str()?).map(Value::String),
        Ga4ItemFieldKind::Number => number(value).map(Value::Number),
        Ga4ItemFieldKind::Integer => products::whole_number(value).map(Value::from),
    }
}

/// Returns the event's value, from the source in its rule.
pub(super) fn value(
    properties: &JsonObject,
    rule: rules::Ga4ValueSource,
    purchase: Ga4PurchaseValue,
) -> Option<Number> {
    let of = |key: &str| properties.get(key).and_then(number);
    match rule {
        rules::Ga4ValueSource::None | rules::Ga4ValueSource::Virtual => None,
        rules::Ga4ValueSource::Of(keys) => {
            products::first_number(properties, keys).or_else(|| products::total_price(properties))
        }
        rules::Ga4ValueSource::Order => match purchase {
            Ga4PurchaseValue::Revenue => of("revenue")
                .or_else(|| of("value"))
                .or_else(|| of("subtotal"))
                .or_else(|| net(properties))
                .or_else(|| products::total_price(properties)),
            Ga4PurchaseValue::Total => {
                products::first_number(properties, &["total", "value", "revenue"])
            }
        },
    }
}

/// Returns the total without tax and shipping.
fn net(properties: &JsonObject) -> Option<Number> {
    let of = |key: &str| properties.get(key).and_then(number)?.as_f64();
    products::amount(of("total")? - of("tax").unwrap_or(0.0) - of("shipping").unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(properties: &Value, rule: rules::Ga4ItemPolicy) -> Vec<Value> {
        let dropped = &mut DroppedFields::default();
        items(properties.as_object().unwrap(), rule, dropped).items
    }

    fn order(properties: Value, purchase: Ga4PurchaseValue) -> Option<f64> {
        value(properties.as_object().unwrap(), rules::Ga4ValueSource::Order, purchase)?.as_f64()
    }

    #[test]
    fn order_value_is_net_unless_set_to_total() {
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
            assert_eq!(order(properties.clone(), Ga4PurchaseValue::Revenue), Some(amount), "{key}");
            properties.as_object_mut().unwrap().remove(key);
        }
        assert_eq!(order(properties, Ga4PurchaseValue::Revenue), None);
        assert_eq!(order(whole, Ga4PurchaseValue::Total), Some(30.0));
    }

    #[test]
    fn products_become_items_with_numbers_and_the_clients_own_keys() {
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
        assert_eq!(Value::Array(made(&properties, rules::Ga4ItemPolicy::Optional)), expected);
        let googles = json!({ "items": properties["products"], "products": [] });
        assert_eq!(Value::Array(made(&googles, rules::Ga4ItemPolicy::Listed)), expected);
    }

    #[test]
    fn items_are_bounded() {
        let products = json!({ "products": vec![json!({ "sku": "x" }); 300] });
        assert_eq!(made(&products, rules::Ga4ItemPolicy::Required).len(), MAX_ITEMS);
    }
}
