//! Items (`docs/contracts/beacons.md` 3.5): fields separated by `~`, each two letters and a value. A `~` within a
//! value is doubled, so that the text must be read from left to right.

use serde_json::{Number, Value};

use crate::beacon_format::put;
use tagway_core::event::JsonObject;

/// The most items of one event, as many as gtag sends.
const MAX_ITEMS: usize = 200;

/// The most fields of one item: gtag's own and 27 of the page's, a name and a value each.
const MAX_FIELDS: usize = 80;

/// The conversion of a field's value.
#[derive(Clone, Copy)]
enum Ga4BeaconFieldKind {
    Text,
    Number,
}

/// The letters of a field and the product's member.
const FIELDS: &[(&str, &str, Ga4BeaconFieldKind)] = &[
    ("id", "product_id", Ga4BeaconFieldKind::Text),
    ("nm", "name", Ga4BeaconFieldKind::Text),
    ("br", "brand", Ga4BeaconFieldKind::Text),
    ("ca", "category", Ga4BeaconFieldKind::Text),
    ("c2", "item_category2", Ga4BeaconFieldKind::Text),
    ("c3", "item_category3", Ga4BeaconFieldKind::Text),
    ("c4", "item_category4", Ga4BeaconFieldKind::Text),
    ("c5", "item_category5", Ga4BeaconFieldKind::Text),
    ("va", "variant", Ga4BeaconFieldKind::Text),
    ("pr", "price", Ga4BeaconFieldKind::Number),
    ("qt", "quantity", Ga4BeaconFieldKind::Number),
    ("cp", "coupon", Ga4BeaconFieldKind::Text),
    ("ln", "item_list_name", Ga4BeaconFieldKind::Text),
    ("li", "item_list_id", Ga4BeaconFieldKind::Text),
    ("lp", "position", Ga4BeaconFieldKind::Number),
    ("ds", "discount", Ga4BeaconFieldKind::Number),
    ("af", "affiliation", Ga4BeaconFieldKind::Text),
    ("pi", "promotion_id", Ga4BeaconFieldKind::Text),
    ("pn", "promotion_name", Ga4BeaconFieldKind::Text),
    ("cn", "creative_name", Ga4BeaconFieldKind::Text),
    ("cs", "creative_slot", Ga4BeaconFieldKind::Text),
    ("lo", "location_id", Ga4BeaconFieldKind::Text),
];

/// The pages' names for the members of an item, where products have another name for them.
const PAGE_ITEM_NAMES: &[(&str, &str)] = &[
    ("item_id", "product_id"),
    ("item_name", "name"),
    ("item_brand", "brand"),
    ("item_category", "category"),
    ("item_variant", "variant"),
    ("index", "position"),
];

/// Makes a product of an item as a page gives it to gtag.
pub(super) fn item_to_product(item: Value) -> Option<Value> {
    let Value::Object(item) = item else { return None };
    let product: JsonObject = item
        .into_iter()
        .map(|(name, value)| {
            match PAGE_ITEM_NAMES.iter().find(|(vendors_name, _)| *vendors_name == name) {
                Some((_, member)) => ((*member).to_owned(), value),
                None => (name, value),
            }
        })
        .collect();
    (!product.is_empty()).then_some(Value::Object(product))
}

/// Returns the number of a parameter among the items: `pr1` is the first.
pub(super) fn item_index(name: &str) -> Option<usize> {
    let place = name.strip_prefix("pr")?.parse::<usize>().ok()?;
    (1..=MAX_ITEMS).contains(&place).then_some(place)
}

/// Makes a product of an item.
pub(super) fn product(item: &str) -> JsonObject {
    let (mut product, mut names) = (JsonObject::new(), Vec::<(char, String)>::new());
    for field in fields(item).into_iter().take(MAX_FIELDS) {
        let mut letters = field.chars();
        let (Some(first), Some(second)) = (letters.next(), letters.next()) else { continue };
        let value = letters.as_str();
        let known = FIELDS.iter().find(|(code, ..)| {
            let mut code = code.chars();
            (code.next(), code.next()) == (Some(first), Some(second))
        });
        match (known, first) {
            (Some((_, member, Ga4BeaconFieldKind::Text)), _) => {
                put(&mut product, member, Some(value))
            }
            (Some((_, member, Ga4BeaconFieldKind::Number)), _) => {
                put(&mut product, member, Some(number(value)))
            }
            // The page's own fields: a name and a value with the same index.
            (None, 'k') => names.push((second, value.to_owned())),
            (None, 'v') => {
                let name = names.iter().find(|(index, _)| *index == second);
                if let Some((_, name)) = name {
                    put(&mut product, name, Some(value));
                }
            }
            _ => {}
        }
    }
    product
}

/// Returns the fields, with doubled separators made single.
fn fields(item: &str) -> Vec<String> {
    let (mut fields, mut field) = (Vec::new(), String::new());
    let mut letters = item.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '~' {
            field.push(letter);
        } else if letters.next_if_eq(&'~').is_some() {
            field.push('~');
        } else {
            fields.push(std::mem::take(&mut field));
        }
    }
    fields.push(field);
    fields
}

/// Reads a number where it is one: pages give prices in any form.
pub(super) fn number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return Value::from(whole);
    }
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    number.map_or_else(|| Value::from(text), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_read_from_left_to_right() {
        for (item, expected) in [
            (
                "idSKU_1~nmA~~tilde~pr10.01~qt3~caApparel~k0color~v0red~k1size~v1L",
                json!({
                    "product_id": "SKU_1", "name": "A~tilde", "price": 10.01, "quantity": 3,
                    "category": "Apparel", "color": "red", "size": "L",
                }),
            ),
            ("nmX~~~pr3", json!({ "name": "X~", "price": 3 })),
            ("idX~kAfit~vAslim", json!({ "product_id": "X", "fit": "slim" })),
            ("k10color~v1red", json!({ "0color": "red" })),
            ("idX~pr~qt1,5~zz~v0lost~é", json!({ "product_id": "X", "quantity": "1,5" })),
            ("", json!({})),
        ] {
            assert_eq!(Value::Object(product(item)), expected, "{item}");
        }
    }

    #[test]
    fn item_places_are_numbers_from_1() {
        assert_eq!((item_index("pr1"), item_index("pr200")), (Some(1), Some(200)));
        for other in ["pr", "pr0", "pr201", "price", "pr-1", "ep.pr1"] {
            assert_eq!(item_index(other), None, "{other}");
        }
    }
}
