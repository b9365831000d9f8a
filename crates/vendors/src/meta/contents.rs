//! The products of an event: `contents`, `content_ids`, `num_items` (`docs/contracts/destinations.md` 2.2, 9.3).
//!
//! A line with a negative price is a discount and no product: it is left out, and the event's value stays
//! as the event has it.

use serde_json::{Value, json};

use super::custom::{MetaPropertyKind, is_negative, read};
use crate::email::is_email;
use crate::products::{self, number, text};
use tagway_core::event::{DroppedFields, FieldDropReason, JsonObject};

/// The values of Meta's `delivery_category`.
pub(super) const DELIVERY: &[&str] = &["in_store", "curbside", "home_delivery"];

/// Descriptive fields that a product in Meta's own fields may have.
const DESCRIPTIONS: [&str; 4] = ["title", "description", "brand", "category"];

/// Adds the products: their ids, the quantity of each, and the total quantity if `counts`.
pub(super) fn add<'p>(
    data: &mut JsonObject,
    products: impl IntoIterator<Item = &'p JsonObject>,
    counts: bool,
    dropped: &mut DroppedFields,
) {
    let (mut ids, mut contents, mut count) = (Vec::new(), Vec::new(), 0_i64);
    for (index, product) in products.into_iter().enumerate() {
        let Some(id) = products::id(product) else { continue };
        let quantity = quantity(product).unwrap_or(1);
        let Some(content) = content(&id, quantity, product, "price") else {
            dropped.add(&format!("products[{index}]"), FieldDropReason::ValueNotAllowed);
            continue;
        };
        count = count.saturating_add(quantity);
        if !ids.contains(&id) {
            ids.push(id);
        }
        contents.push(Value::Object(content));
    }
    if ids.is_empty() {
        return;
    }
    data.insert("content_type".to_owned(), json!("product"));
    data.insert("content_ids".to_owned(), json!(ids));
    data.insert("contents".to_owned(), Value::Array(contents));
    if counts {
        data.insert("num_items".to_owned(), json!(count));
    }
}

/// Reads products in Meta's own fields that have an id. `None` if none has.
pub(super) fn read_contents(value: &Value) -> Option<Value> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        Value::Object(_) => std::slice::from_ref(value),
        _ => return None,
    };
    let contents = list.iter().filter_map(|line| {
        let line = line.as_object()?;
        let id = text(line.get("id")?).filter(|id| !is_email(id))?;
        let mut content = content(&id, quantity(line).unwrap_or(1), line, "item_price")?;
        for name in DESCRIPTIONS {
            let stated = line.get(name).and_then(text).filter(|stated| !is_email(stated));
            if let Some(stated) = stated {
                content.insert(name.to_owned(), stated.into());
            }
        }
        Some(Value::Object(content))
    });
    let contents: Vec<Value> = contents.collect();
    (!contents.is_empty()).then_some(Value::Array(contents))
}

/// Reads product ids in Meta's own field: a list of texts, or one text.
pub(super) fn read_content_ids(value: &Value) -> Option<Value> {
    let id = |value: &Value| text(value).filter(|id| !is_email(id));
    let ids: Vec<String> = match value {
        Value::Array(ids) => ids.iter().filter_map(id).collect(),
        one => id(one).into_iter().collect(),
    };
    (!ids.is_empty()).then(|| json!(ids))
}

/// Converts one product. `None` if its price is negative.
fn content(id: &str, quantity: i64, product: &JsonObject, price: &str) -> Option<JsonObject> {
    let price = product.get(price).and_then(number);
    if price.as_ref().is_some_and(is_negative) {
        return None;
    }
    let mut content = JsonObject::new();
    content.insert("id".to_owned(), json!(id));
    content.insert("quantity".to_owned(), json!(quantity));
    if let Some(price) = price {
        content.insert("item_price".to_owned(), Value::Number(price));
    }
    let delivery = product.get("delivery_category");
    if let Some(delivery) = delivery.and_then(|it| read(it, MetaPropertyKind::OneOf(DELIVERY))) {
        content.insert("delivery_category".to_owned(), delivery);
    }
    Some(content)
}

fn quantity(product: &JsonObject) -> Option<i64> {
    let quantity = product.get("quantity").and_then(products::whole_number);
    quantity.filter(|quantity| *quantity > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_leave_out_discount_lines() {
        let list = json!([
            { "sku": "a", "price": "5", "quantity": 2 }, { "sku": "rebate", "price": -3 },
            { "price": 1 }, { "sku": "b", "quantity": 0, "delivery_category": "curbside" },
        ]);
        let (mut data, mut dropped) = (JsonObject::new(), DroppedFields::default());
        let products = list.as_array().unwrap().iter().filter_map(Value::as_object);
        add(&mut data, products, true, &mut dropped);
        let expected = json!({ "content_type": "product", "content_ids": ["a", "b"], "num_items": 3,
            "contents": [{ "id": "a", "quantity": 2, "item_price": 5 },
                { "id": "b", "quantity": 1, "delivery_category": "curbside" }] });
        assert_eq!(Value::Object(data), expected);
        assert_eq!(dropped.listed()[0].to_string(), "products[1] (value_not_allowed)");
    }

    #[test]
    fn contents_in_metas_own_fields_need_ids() {
        let given = json!([
            { "id": 7, "quantity": "2", "item_price": "1.5", "title": "Mug", "colour": "red" },
            { "id": "x", "item_price": -1 }, { "title": "no id" }, "text",
        ]);
        let expected = json!([{ "id": "7", "quantity": 2, "item_price": 1.5, "title": "Mug" }]);
        assert_eq!(read_contents(&given), Some(expected));
        for none in [json!([]), json!("x"), json!([{ "title": "x" }])] {
            assert_eq!(read_contents(&none), None, "{none}");
        }
        assert_eq!(read_content_ids(&json!(["a", 7, "", null])), Some(json!(["a", "7"])));
        assert_eq!(read_content_ids(&json!("a")), Some(json!(["a"])));
        assert_eq!(read_content_ids(&json!([{ "id": 1 }])), None);
    }
}
