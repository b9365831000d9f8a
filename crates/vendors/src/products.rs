//! Products, amounts and currencies as the Segment spec writes them (`docs/contracts/destinations.md` 0.2), read
//! in the way that all vendors need.

use serde_json::{Number, Value};

use tagway_core::event::JsonObject;
use tagway_core::values::ParsedValue;
use tagway_core::values::amount::parse;
use tagway_core::values::currency::{self, CurrencyMark};
use tagway_settings::SettingsSection;

/// Returns the products of an event: those in `products`, else none.
pub fn listed_products(properties: &JsonObject) -> impl Iterator<Item = &JsonObject> {
    let listed = properties.get("products").and_then(Value::as_array).into_iter().flatten();
    listed.filter_map(Value::as_object)
}

/// Returns the products of an event: those in `products`, else the properties themselves if they name one. An
/// empty list has no effect.
pub fn all(properties: &JsonObject) -> Vec<&JsonObject> {
    if has_list(properties) {
        return listed_products(properties).collect();
    }
    if id(properties).is_some() { vec![properties] } else { Vec::new() }
}

fn has_list(properties: &JsonObject) -> bool {
    properties.get("products").and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Returns a product's id, under the first of its names.
pub fn id(product: &JsonObject) -> Option<String> {
    ["product_id", "sku", "id"].iter().find_map(|key| text(product.get(*key)?))
}

/// Returns a product's price times its quantity, which defaults to 1.
fn cost(product: &JsonObject) -> Option<f64> {
    let price = product.get("price").and_then(number)?.as_f64()?;
    let quantity = product.get("quantity").and_then(number).and_then(|number| number.as_f64());
    Some(price * quantity.unwrap_or(1.0))
}

/// Returns the sum of price times quantity of all products.
pub fn total_price(properties: &JsonObject) -> Option<Number> {
    if !has_list(properties) {
        return amount(cost(properties)?);
    }
    let costs: Vec<f64> = listed_products(properties).filter_map(cost).collect();
    if costs.is_empty() { None } else { amount(costs.iter().sum()) }
}

/// Returns the first of these properties that is a number.
pub fn first_number(properties: &JsonObject, keys: &[&str]) -> Option<Number> {
    keys.iter().find_map(|key| properties.get(*key).and_then(number))
}

/// Returns the event's currency: its own, else the store's. Never guessed: `None` if one is written and
/// unreadable.
pub fn currency(properties: &JsonObject, store: Option<&str>) -> Option<String> {
    match currency::read(properties.get("currency"), store) {
        ParsedValue::Read(code) => Some(code.to_owned()),
        ParsedValue::Absent => store.map(str::to_owned),
        ParsedValue::Unreadable => None,
    }
}

/// Returns a currency as ISO 4217 writes it, if it is one.
pub fn currency_code(written: &str) -> Option<String> {
    CurrencyMark::of(written)?.code(None).map(str::to_owned)
}

/// Reads the setting `currency`: the store's, for events that name none.
pub fn store_currency(section: &mut SettingsSection<'_>) -> Option<String> {
    let written = section.opt_string("currency")?;
    let code = currency::code(&written).map(str::to_owned);
    if code.is_none() {
        section.error("currency", "must be an ISO 4217 code, such as \"EUR\"");
    }
    code
}

/// Returns a number, written as one or as text in any notation. Amounts in the notation of the site's locale
/// are numbers already ([`PriceReader`](super::prices::PriceReader)).
pub fn number(value: &Value) -> Option<Number> {
    plain_number(value).or_else(|| Some(parse(value.as_str()?, None)?.number))
}

/// Returns a number, written as one or as text in JSON's grammar.
pub(super) fn plain_number(value: &Value) -> Option<Number> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => match serde_json::from_str(text.trim()).ok()? {
            Value::Number(number) => Some(number),
            _ => None,
        },
        _ => None,
    }
}

/// Returns a whole number, rounded if need be.
pub fn whole_number(value: &Value) -> Option<i64> {
    /// Beyond this, not every whole number is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = number(value)?;
    let rounded = |float: f64| {
        #[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
        (float.abs() <= EXACT).then(|| float.round() as i64)
    };
    number.as_i64().or_else(|| rounded(number.as_f64()?))
}

/// Returns a sum without floating-point noise: no currency has more than four decimals.
pub fn amount(sum: f64) -> Option<Number> {
    Number::from_f64((sum * 10_000.0).round() / 10_000.0)
}

/// Returns an id or a name: numbers are written out, empty text is none.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn all_returns_listed_products_or_the_event_itself() {
        let order = object(json!({ "product_id": "x", "products": [
            { "sku": 7, "price": "9.50", "quantity": "2" }, "text", { "id": "b", "price": 0.1 },
        ] }));
        let ids: Vec<_> = all(&order).into_iter().map(id).collect();
        assert_eq!(ids, [Some("7".to_owned()), Some("b".to_owned())]);
        assert_eq!(total_price(&order), Number::from_f64(19.1));
        let one = object(json!({ "product_id": "x", "price": 3 }));
        assert_eq!((all(&one).len(), total_price(&one)), (1, Number::from_f64(3.0)));
        assert!(all(&object(json!({ "price": 3 }))).is_empty());
        let empty = object(json!({ "products": [], "product_id": "x", "price": 3 }));
        assert_eq!((all(&empty).len(), total_price(&empty)), (1, Number::from_f64(3.0)));
    }

    #[test]
    fn numbers_and_currencies_are_read_as_clients_write_them() {
        assert_eq!(number(&json!(" 9.50 ")), Number::from_f64(9.5));
        assert_eq!(number(&json!("nine")), None);
        assert_eq!(number(&json!(true)), None);
        assert_eq!(whole_number(&json!("2.0")), Some(2));
        assert_eq!(whole_number(&json!(1e300)), None);
        assert_eq!(amount(0.1 + 0.2), Number::from_f64(0.3));
        let eur = object(json!({ "currency": " eur" }));
        assert_eq!(currency(&eur, Some("CHF")).as_deref(), Some("EUR"));
        assert_eq!(number(&json!("$1,299.00")), Number::from_f64(1299.0));
        let sign = object(json!({ "currency": "£" }));
        assert_eq!(currency(&sign, Some("CHF")).as_deref(), Some("GBP"));
        let bad = object(json!({ "currency": "points" }));
        assert_eq!(currency(&bad, Some("CHF")), None, "it is not the store's");
        let none = object(json!({ "currency": "" }));
        assert_eq!(currency(&none, Some("CHF")).as_deref(), Some("CHF"));
    }
}
