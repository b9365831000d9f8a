//! The metadata of an event: flat, ten keys, in the types that Intercom knows
//! (`contracts/destinations.md` 5.2 and 5.3).

use serde_json::{Value, json};

use super::settings::Settings;
use crate::event::{DropReason, DroppedFields, Object};
use crate::values::currency;
use crate::vendors::{moments, products};

/// Keys of an event that Intercom keeps; it ignores the others, in the order sent.
const MAX_KEYS: usize = 10;

/// How deep objects within objects are flattened.
const MAX_DEPTH: usize = 5;

/// What a date's key ends with.
const DATE: &str = "_date";

/// Properties that may hold the event's amount, the surest first.
const AMOUNTS: [&str; 4] = ["revenue", "total", "price", "value"];

/// The metadata of an event with these properties.
pub(super) fn metadata(
    properties: &Object,
    settings: &Settings,
    dropped: &mut DroppedFields,
) -> Object {
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
            flatten(&mut all, key, value, (MAX_DEPTH, &mut *dropped));
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
    for (index, (key, value)) in all.into_iter().enumerate() {
        if index < room {
            kept.insert(key, value);
        } else {
            dropped.add(&key, DropReason::TooManyParameters);
        }
    }
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
    let factor = 10_f64.powi(i32::from(currency::decimals(currency)));
    // 19.99 times 100 is a little less than 1999.
    products::whole_number(&json!(amount * factor)).filter(|units| *units > 0)
}

fn flatten(
    all: &mut Object,
    key: &str,
    value: &Value,
    (depth, dropped): (usize, &mut DroppedFields),
) {
    match value {
        Value::Object(object) if !is_rich(object) && depth == 0 => {
            if !object.is_empty() {
                dropped.add(key, DropReason::Nested);
            }
        }
        Value::Object(object) if !is_rich(object) => {
            for (inner, value) in object {
                flatten(all, &format!("{key}_{inner}"), value, (depth - 1, &mut *dropped));
            }
        }
        _ => match leaf(key, value) {
            Ok(Some((key, _))) if all.contains_key(&key) => {
                dropped.add(&key, DropReason::NameTaken);
            }
            Ok(Some((key, value))) => {
                all.insert(key, value);
            }
            Ok(None) => {}
            Err(reason) => dropped.add(key, reason),
        },
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

/// A key and its value in a type that Intercom knows. `None` if the value says nothing.
fn leaf(key: &str, value: &Value) -> Result<Option<(String, Value)>, DropReason> {
    let key = key.trim().replace(['.', '$'], "-");
    let value = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::Array(list) if list.is_empty() => return Ok(None),
        _ if key.is_empty() => return Err(DropReason::NameNotAllowed),
        Value::Array(_) => return Err(DropReason::Nested),
        value if key.ends_with(DATE) => {
            let at = moments::read(value).ok_or(DropReason::UnreadableTime)?;
            at.as_second().into()
        }
        Value::Bool(claim) => claim.to_string().into(),
        Value::String(text) => match moments::iso(text) {
            Some(at) => return Ok(Some((format!("{key}{DATE}"), at.as_second().into()))),
            None => text.as_str().into(),
        },
        Value::Number(_) | Value::Object(_) => value.clone(),
    };
    Ok(Some((key, value)))
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
