//! The metadata of an event: flat, ten keys, in the types that Intercom knows
//! (`contracts/destinations.md` 5.2 and 5.3).

use serde_json::{Value, json};

use super::settings::Settings;
use crate::event::Object;
use crate::values::time;
use crate::vendors::products;

/// Keys of an event that Intercom keeps; it ignores the others, in the order sent.
const MAX_KEYS: usize = 10;

/// How deep objects within objects are flattened.
const MAX_DEPTH: usize = 5;

/// What a date's key ends with.
const DATE: &str = "_date";

/// Properties that may hold the event's amount, the surest first.
const AMOUNTS: [&str; 4] = ["revenue", "total", "price", "value"];

/// Currencies without minor units, and those with more than two digits of them (ISO 4217).
const WHOLE: [&str; 17] = [
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND",
    "VUV", "XAF", "XOF", "XPF",
];
const THOUSANDTHS: [&str; 7] = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
const TEN_THOUSANDTHS: [&str; 2] = ["CLF", "UYW"];

/// The metadata of an event with these properties.
pub(super) fn metadata(properties: &Object, settings: &Settings) -> Object {
    let mut all = Object::new();
    let price = price(properties, settings.currency.as_deref());
    let spent: &[&str] = match price {
        Some((source, amount)) => {
            all.insert("price".to_owned(), amount);
            &["email", "currency", source]
        }
        None => &["email"],
    };
    for (key, value) in properties {
        if !spent.contains(&key.as_str()) {
            flatten(&mut all, key, value, MAX_DEPTH);
        }
    }
    if all.len() <= MAX_KEYS {
        return all;
    }
    let mut kept = Object::new();
    for key in &settings.metadata_priority {
        if kept.len() < MAX_KEYS
            && let Some((key, value)) = all.shift_remove_entry(key)
        {
            kept.insert(key, value);
        }
    }
    let room = MAX_KEYS - kept.len();
    kept.extend(all.into_iter().take(room));
    kept
}

/// The event's amount in minor units, and the property that it stood in. Intercom takes no amount that
/// is not positive, and no currency is guessed.
fn price(properties: &Object, store: Option<&str>) -> Option<(&'static str, Value)> {
    let currency = products::currency(properties, store)?;
    let (source, amount) = AMOUNTS.iter().find_map(|key| {
        let amount = products::number(properties.get(*key)?)?.as_f64()?;
        Some((*key, minor_units(amount, &currency)?))
    })?;
    Some((source, json!({ "amount": amount, "currency": currency })))
}

/// An amount in its currency's smallest unit, if it is positive.
pub(super) fn minor_units(amount: f64, currency: &str) -> Option<i64> {
    let factor = if WHOLE.contains(&currency) {
        1.0
    } else if THOUSANDTHS.contains(&currency) {
        1000.0
    } else if TEN_THOUSANDTHS.contains(&currency) {
        10_000.0
    } else {
        100.0
    };
    // 19.99 times 100 is a little less than 1999.
    products::whole_number(&json!(amount * factor)).filter(|units| *units > 0)
}

fn flatten(all: &mut Object, key: &str, value: &Value, depth: usize) {
    match value {
        Value::Object(object) if !is_rich(object) => {
            for (inner, value) in object {
                if depth > 0 {
                    flatten(all, &format!("{key}_{inner}"), value, depth - 1);
                }
            }
        }
        _ => {
            if let Some((key, value)) = leaf(key, value)
                && !all.contains_key(&key)
            {
                all.insert(key, value);
            }
        }
    }
}

/// Whether an object is one that Intercom takes whole: an amount or a link with its text.
fn is_rich(object: &Object) -> bool {
    if object.len() != 2 {
        return false;
    }
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_amount = object.get("amount").and_then(Value::as_i64).is_some_and(|units| units > 0)
        && products::currency_code(text("currency")).is_some();
    let is_link = is_web(text("url")) && !text("value").is_empty();
    is_amount || is_link
}

fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// A key and its value in a type that Intercom knows.
fn leaf(key: &str, value: &Value) -> Option<(String, Value)> {
    let key = key.trim().replace(['.', '$'], "-");
    if key.is_empty() {
        return None;
    }
    if key.ends_with(DATE) {
        let at = time::read_value(value)?;
        return Some((key, at.as_second().into()));
    }
    let value = match value {
        Value::Null | Value::Array(_) => return None,
        Value::Bool(claim) => claim.to_string().into(),
        Value::String(text) if text.trim().is_empty() => return None,
        Value::String(text) => match time::read_date_text(text) {
            Some(at) => return Some((format!("{key}{DATE}"), at.as_second().into())),
            None => text.as_str().into(),
        },
        Value::Number(_) | Value::Object(_) => value.clone(),
    };
    Some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_in_every_currency() {
        for (amount, currency, units) in [
            (19.99, "USD", Some(1999)),
            (0.1 + 0.2, "EUR", Some(30)),
            (1.005, "CHF", Some(100)),
            (1500.0, "JPY", Some(1500)),
            (1500.4, "KRW", Some(1500)),
            (1.5, "KWD", Some(1500)),
            (1.2345, "CLF", Some(12_345)),
            (0.0, "USD", None),
            (0.004, "USD", None),
            (-5.0, "USD", None),
            (f64::MAX, "USD", None),
        ] {
            assert_eq!(minor_units(amount, currency), units, "{amount} {currency}");
        }
    }
}
