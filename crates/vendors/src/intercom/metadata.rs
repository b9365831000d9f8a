//! The metadata of an event: flat, at most twenty keys, in the types that Intercom takes
//! (`docs/contracts/destinations.md` 5.2 and 5.3).

use serde_json::{Value, json};

use super::settings::IntercomSettings;
use crate::beacon_format::is_blank;
use crate::products;
use tagway_core::event::{DroppedFields, FieldDropReason, JsonObject};
use tagway_core::values::{currency, time};

/// The most keys of an event that Intercom stores; it ignores the others, in the order sent.
const MAX_KEYS: usize = 20;

/// The most levels of nested objects that are flattened.
const MAX_DEPTH: usize = 5;

/// The suffix of a date's key.
const DATE: &str = "_date";

/// Returns the metadata of an event with these properties.
pub(super) fn metadata(
    properties: &JsonObject,
    settings: &IntercomSettings,
    dropped: &mut DroppedFields,
) -> JsonObject {
    let mut all = JsonObject::new();
    let revenue = revenue(properties, settings.currency.as_deref());
    let spent: &[&str] = match revenue {
        Some(revenue) => {
            // If there is a price, the revenue is another amount.
            let has_price = properties.get("price").is_some_and(|price| !is_blank(price));
            let key = if has_price { "revenue" } else { "price" };
            all.insert(key.to_owned(), revenue);
            &["email", "currency", "revenue"]
        }
        None => &["email"],
    };
    let mut flat = MetadataBuilder { all, dates: settings.dates, dropped };
    for (key, value) in properties {
        if !spent.contains(&key.as_str()) {
            flat.add(key, value, MAX_DEPTH);
        }
    }
    let mut all = flat.all;
    if all.len() <= MAX_KEYS {
        return all;
    }
    let mut kept = JsonObject::new();
    for key in &settings.metadata_priority {
        if kept.len() < MAX_KEYS
            && let Some((key, value)) = all.shift_remove_entry(key)
        {
            kept.insert(key, value);
        }
    }
    for (key, value) in all {
        if kept.len() < MAX_KEYS {
            kept.insert(key, value);
        } else {
            dropped.add(&key, FieldDropReason::TooManyParameters);
        }
    }
    kept
}

/// Returns the event's revenue in minor units. Intercom takes only positive amounts, and no currency is
/// guessed.
fn revenue(properties: &JsonObject, store: Option<&str>) -> Option<Value> {
    let revenue = products::number(properties.get("revenue")?)?.as_f64()?;
    let currency = products::currency(properties, store)?;
    let amount = minor_units(revenue, &currency)?;
    Some(json!({ "amount": amount, "currency": currency }))
}

/// Returns an amount in its currency's smallest unit, if it is positive.
pub(super) fn minor_units(amount: f64, currency: &str) -> Option<i64> {
    let factor = 10_f64.powi(i32::from(currency::decimals(currency)));
    // 19.99 times 100 is a little less than 1999.
    products::whole_number(&json!(amount * factor)).filter(|units| *units > 0)
}

/// Collects metadata and the dropped fields.
struct MetadataBuilder<'d> {
    all: JsonObject,
    /// True if a date gets a second key in Intercom's form.
    dates: bool,
    dropped: &'d mut DroppedFields,
}

impl MetadataBuilder<'_> {
    /// Adds a value or an object's members, `depth` levels down.
    fn add(&mut self, key: &str, value: &Value, depth: usize) {
        match value {
            value if is_blank(value) => {}
            Value::Object(object) if !is_rich(object) && depth > 0 => {
                for (inner, value) in object {
                    self.add(&format!("{key}_{inner}"), value, depth - 1);
                }
            }
            Value::Object(object) if !is_rich(object) => {
                self.dropped.add(key, FieldDropReason::Nested)
            }
            value => self.add_leaf(key, value),
        }
    }

    fn add_leaf(&mut self, written: &str, value: &Value) {
        let key = written.trim().replace(['.', '$'], "-");
        if key.is_empty() {
            return self.dropped.add(written, FieldDropReason::NameNotAllowed);
        }
        if self.all.contains_key(&key) {
            return self.dropped.add(written, FieldDropReason::NameTaken);
        }
        match leaf(&key, value) {
            Ok(leaf) => {
                let date = value.as_str().filter(|_| self.dates && !key.ends_with(DATE));
                let date =
                    date.and_then(time::read_date_text).map(|at| (format!("{key}{DATE}"), at));
                self.all.insert(key, leaf);
                if let Some((key, at)) = date {
                    self.all.entry(key).or_insert(at.as_second().into());
                }
            }
            Err(reason) => self.dropped.add(written, reason),
        }
    }
}

/// Returns true if an object is one that Intercom takes whole: an amount, or a link with its text.
fn is_rich(object: &JsonObject) -> bool {
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

/// Returns a key's value in a type that Intercom takes.
fn leaf(key: &str, value: &Value) -> Result<Value, FieldDropReason> {
    match value {
        Value::Null | Value::Array(_) => Err(FieldDropReason::Nested),
        value if key.ends_with(DATE) => {
            let at = time::read_value(value).ok_or(FieldDropReason::UnreadableTime)?;
            Ok(at.as_second().into())
        }
        Value::Bool(claim) => Ok(claim.to_string().into()),
        Value::String(_) | Value::Number(_) | Value::Object(_) => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{object, settings};

    fn of(text: &str, properties: Value) -> (Value, Vec<String>) {
        let mut dropped = DroppedFields::default();
        let settings = settings(text, IntercomSettings::read);
        let metadata = metadata(&object(properties), &settings, &mut dropped);
        (metadata.into(), dropped.listed().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn revenue_without_price_becomes_an_amount() {
        let amount = |units: i64| json!({ "amount": units, "currency": "EUR" });
        for (properties, expected) in [
            (json!({ "revenue": 19.99, "currency": "eur" }), json!({ "price": amount(1999) })),
            (
                json!({ "revenue": 30, "price": 10, "currency": "EUR" }),
                json!({ "revenue": amount(3000), "price": 10 }),
            ),
            (json!({ "total": 30, "currency": "EUR" }), json!({ "total": 30, "currency": "EUR" })),
            (json!({ "value": 10, "price": "18.99" }), json!({ "value": 10, "price": "18.99" })),
            (json!({ "revenue": 30 }), json!({ "revenue": 30 })),
            (
                json!({ "revenue": -3, "currency": "EUR" }),
                json!({ "revenue": -3, "currency": "EUR" }),
            ),
        ] {
            assert_eq!(of("", properties.clone()).0, expected, "{properties}");
        }
        assert_eq!(
            of("currency = \"EUR\"", json!({ "revenue": 1 })).0,
            json!({ "price": amount(100) })
        );
    }

    #[test]
    fn dates_keep_their_names_and_get_a_second_key_if_set() {
        let given = json!({ "start": "2026-11-23T10:00:00Z", "end_date": "2026-11-23", "day_date": "soon" });
        let plain = json!({ "start": "2026-11-23T10:00:00Z", "end_date": 1_795_392_000 });
        let dropped = ["day_date (unreadable_time)"];
        assert_eq!(of("", given.clone()), (plain, dropped.map(str::to_owned).to_vec()));
        let dated = json!({ "start": "2026-11-23T10:00:00Z", "start_date": 1_795_428_000,
            "end_date": 1_795_392_000 });
        assert_eq!(of("dates = true", given).0, dated);
    }

    #[test]
    fn metadata_keeps_twenty_keys_and_reports_the_others() {
        let many: JsonObject = (0..22).map(|n| (format!("k{n:02}"), json!(n))).collect();
        let (kept, dropped) = of("metadata_priority = [\"k21\"]", many.into());
        assert_eq!(kept.as_object().unwrap().len(), 20);
        assert_eq!(kept["k21"], 21);
        assert_eq!(dropped, ["k19 (too_many_parameters)", "k20 (too_many_parameters)"]);
        let (_, dropped) = of("", json!({ "list": [1], "a": { "b": 1 }, "a_b": 2, "none": [] }));
        assert_eq!(dropped, ["list (nested)", "a_b (name_taken)"]);
    }

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
