//! The amounts and currencies of an event, read once before a vendor that counts money sees them.
//!
//! Amounts that shops format become numbers, currencies ISO 4217 codes. A text that JSON's own grammar reads
//! stays as it was written. A text that cannot be read stays as well, and is recorded as dropped: a vendor's
//! mapping finds no number in it. The store's currency never replaces one that is written but unreadable.

use jiff::Timestamp;
use serde_json::{Number, Value};

use super::naming::is_like;
use super::products::{self, plain_number, store_currency};
use super::{Destination, Outcome, OutcomeReason};
use tagway_core::event::{
    DroppedFields, EnrichedEvent, Event, EventKind, FieldDropReason, JsonObject,
};
use tagway_core::values::ParsedValue;
use tagway_core::values::amount::{self, MoneyAmount};
use tagway_core::values::currency::{self, CurrencyMark};
use tagway_core::values::locale::NumberLocale;
use tagway_settings::{Setting, SettingsSection};

/// The properties of an event, and of its products, that are amounts.
const AMOUNT_PROPERTIES: [&str; 12] = [
    "revenue",
    "value",
    "total",
    "subtotal",
    "price",
    "tax",
    "shipping",
    "discount",
    "item_price",
    "net_revenue",
    "predicted_ltv",
    "quantity",
];

/// The properties that state an order's worth: without any of them the order is not counted.
const WORTH_PROPERTIES: [&str; 4] = ["revenue", "value", "total", "subtotal"];

/// The traits of a group that are amounts.
const GROUP_AMOUNTS: [&str; 2] = ["monthly_spend", "monthlySpend"];

/// The properties that list products.
const LISTS: [&str; 3] = ["products", "items", "contents"];

/// The most products of one event that are read: as many as GA4 takes. The events' size bounds the rest.
const MAX_PRODUCTS: usize = 200;

/// The most characters of a text that a reason quotes.
const MAX_QUOTED_CHARS: usize = 40;

/// The use that a vendor has for amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceUse {
    /// It gets them as they are written, or gets none.
    AsWritten,
    /// It gets numbers where they can be read.
    Numbers,
    /// As `Numbers`; and an order that it cannot count is refused.
    Orders,
}

/// The described setting of each destination's numbers.
pub const PRICE_SETTINGS: &[Setting] =
    &[Setting::form("locale", "a language tag (BCP 47)").example("de-CH").doc(
        "of any vendor: the way in which this destination's events write numbers, if not the \
             site's locale",
    )];

/// Reads the prices of one destination's events.
#[derive(Clone, Debug)]
pub struct PriceReader {
    usage: PriceUse,
    locale: Option<NumberLocale>,
    store: Option<String>,
}

impl PriceReader {
    /// Reads the site's number notation and the store's currency, which decides over `$` and `kr`.
    pub fn read(settings: &mut SettingsSection<'_>, usage: PriceUse) -> Self {
        settings.describe(PRICE_SETTINGS);
        let locale = settings.opt_parsed("locale");
        let store = match usage {
            PriceUse::AsWritten => None,
            PriceUse::Numbers | PriceUse::Orders => store_currency(settings),
        };
        Self { usage, locale, store }
    }

    /// Makes a reader that changes nothing.
    #[cfg(any(test, feature = "testing"))]
    pub fn as_written() -> Self {
        Self { usage: PriceUse::AsWritten, locale: None, store: None }
    }

    /// Returns the event with its amounts and currencies read, and the vendor's admission of it. An order
    /// that the vendor could not count is dead.
    ///
    /// # Errors
    ///
    /// The second part is the outcome of an event that is not sent: skipped, or dead.
    pub fn admit_event(
        &self,
        destination: &dyn Destination,
        event: EnrichedEvent,
        now: Timestamp,
    ) -> (EnrichedEvent, Result<(), Outcome>) {
        let (event, refusal) = self.apply(event);
        let admission = destination.admit_event(&event, now);
        // An event that the vendor skips needs no readable amounts.
        let is_skipped = matches!(admission, Err(Outcome::Skipped(_)));
        (event, refusal.filter(|_| !is_skipped).map_or(admission, Err))
    }

    /// Returns the event with its amounts and currencies read, and a refusal if it is an order that the
    /// vendor cannot count.
    fn apply(&self, event: EnrichedEvent) -> (EnrichedEvent, Option<Outcome>) {
        if self.usage == PriceUse::AsWritten || !has_prices(&event.event) {
            return (event, None);
        }
        let mut draft = (*event.event).clone();
        let mut found = PriceFindings::default();
        if let Some(properties) = &mut draft.properties {
            self.read_properties(properties, &mut found);
        }
        if let Some(traits) = draft.traits.as_mut().filter(|_| draft.kind == EventKind::Group) {
            for key in GROUP_AMOUNTS {
                self.read_amount(traits, key, "", &mut found);
            }
        }
        let refusal = self.refusal(&draft, &found);
        if self.usage == PriceUse::Numbers {
            // An unreadable amount is sent as it is written.
            found.dropped = DroppedFields::NONE;
        }
        let is_same = !found.has_changed && found.dropped.is_empty();
        let event = if is_same { event } else { event.with_event(draft, found.dropped) };
        (event, refusal)
    }

    fn read_properties(&self, properties: &mut JsonObject, found: &mut PriceFindings) {
        self.read_currency(properties, "", found);
        found.currency = products::currency(properties, self.store()).map(Into::into);
        for key in AMOUNT_PROPERTIES {
            self.read_amount(properties, key, "", found);
        }
        for list in LISTS {
            let products = properties.get_mut(list).and_then(Value::as_array_mut);
            let products = products.into_iter().flatten().take(MAX_PRODUCTS).enumerate();
            for (number, product) in products {
                let Some(product) = product.as_object_mut() else { continue };
                if has_text(product) {
                    let place = format!("{list}[{number}].");
                    for key in AMOUNT_PROPERTIES {
                        self.read_amount(product, key, &place, found);
                    }
                    self.read_product_currency(product, &place, found);
                }
            }
        }
        if let Some((mark, sign)) = found.mark.take()
            && currency::read(properties.get("currency"), self.store()) == ParsedValue::Absent
        {
            let stated = mark.code(self.store()).map(str::to_owned);
            if stated.is_none() {
                found.dropped.add("currency", FieldDropReason::UnreadableCurrency);
                found.unreadable_currency = Some(sign.clone());
            }
            // The vendor's mapping must not replace an unknown sign with the store's currency.
            properties.insert("currency".to_owned(), Value::String(stated.unwrap_or(sign)));
            found.has_changed = true;
        }
    }

    /// Converts an amount that is text to a number.
    fn read_amount(
        &self,
        object: &mut JsonObject,
        key: &str,
        place: &str,
        found: &mut PriceFindings,
    ) {
        let Some(value) = object.get_mut(key) else { return };
        match amount::read_in(Some(value), self.locale, found.currency.as_deref()) {
            ParsedValue::Absent => {}
            ParsedValue::Read(MoneyAmount { number, currency }) => {
                if let (Value::String(text), Some(mark), None) = (&*value, currency, &found.mark) {
                    found.mark = Some((mark, sign(text)));
                }
                let plain = if key == "quantity" || value.is_number() {
                    // A thousandth of a quantity is as likely as a thousand.
                    plain_number(value)
                } else {
                    plain_number(value).filter(|plain| is_equal(plain, &number))
                };
                if plain.is_none() {
                    *value = Value::Number(number);
                    found.has_changed = true;
                }
                found.has_worth |= place.is_empty() && WORTH_PROPERTIES.contains(&key);
            }
            ParsedValue::Unreadable => {
                found.dropped.add(&format!("{place}{key}"), FieldDropReason::UnreadableAmount);
                if place.is_empty()
                    && WORTH_PROPERTIES.contains(&key)
                    && found.unreadable_amount.is_none()
                {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    found.unreadable_amount = Some(format!("{key}: {}", quoted(&text)));
                }
            }
        }
    }

    /// Converts the event's currency to a code.
    fn read_currency(&self, object: &mut JsonObject, place: &str, found: &mut PriceFindings) {
        if let Some(unreadable) = self.read_product_currency(object, place, found) {
            found.unreadable_currency = Some(unreadable);
        }
    }

    /// Converts a currency to a code; returns it is written if it cannot be read.
    fn read_product_currency(
        &self,
        object: &mut JsonObject,
        place: &str,
        found: &mut PriceFindings,
    ) -> Option<String> {
        let value = object.get_mut("currency")?;
        match currency::read(Some(value), self.store()) {
            ParsedValue::Absent => None,
            ParsedValue::Read(code) => {
                if !is_code(value, code) {
                    *value = Value::String(code.to_owned());
                    found.has_changed = true;
                }
                None
            }
            ParsedValue::Unreadable => {
                found.dropped.add(&format!("{place}currency"), FieldDropReason::UnreadableCurrency);
                Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            }
        }
    }

    /// Returns the refusal of an order if its currency, or every property that states its worth, is
    /// unreadable.
    fn refusal(&self, event: &Event, found: &PriceFindings) -> Option<Outcome> {
        let is_order = self.usage == PriceUse::Orders && is_order(event);
        if let Some(stated) = found.unreadable_currency.as_ref().filter(|_| is_order) {
            let reason = OutcomeReason::detailed("unreadable_currency", quoted(stated));
            return Some(Outcome::Dead(reason));
        }
        let unreadable = found.unreadable_amount.as_ref();
        let stated = unreadable.filter(|_| is_order && !found.has_worth)?;
        Some(Outcome::Dead(OutcomeReason::detailed("unreadable_amount", stated.as_str())))
    }

    fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }
}

/// The findings among the amounts of one event.
#[derive(Default)]
struct PriceFindings {
    /// The first sign or code beside an amount, and its written form.
    mark: Option<(CurrencyMark, String)>,
    /// The event's currency, or the store's.
    currency: Option<Box<str>>,
    has_changed: bool,
    /// True if a readable property states the event's worth.
    has_worth: bool,
    unreadable_amount: Option<String>,
    unreadable_currency: Option<String>,
    dropped: DroppedFields,
}

/// Returns true if the event may have an amount or a currency that is text.
fn has_prices(event: &Event) -> bool {
    let listed = |properties: &JsonObject| {
        LISTS.iter().any(|list| {
            let products = properties.get(*list).and_then(Value::as_array);
            let mut products = products.into_iter().flatten().filter_map(Value::as_object);
            products.any(has_text)
        })
    };
    let is_group = event.kind == EventKind::Group;
    let group = event.traits.as_ref().filter(|_| is_group);
    event.properties.as_ref().is_some_and(|it| has_text(it) || listed(it))
        || group.is_some_and(|traits| GROUP_AMOUNTS.iter().any(|key| traits.contains_key(*key)))
}

fn has_text(object: &JsonObject) -> bool {
    let is_unread =
        |key: &&str| object.get(*key).is_some_and(|it| !it.is_number() && !it.is_null());
    let currency = object.get("currency").filter(|currency| !currency.is_null());
    let is_code = |it: &Value| it.as_str().and_then(currency::code).is_some();
    AMOUNT_PROPERTIES.iter().any(is_unread) || currency.is_some_and(|currency| !is_code(currency))
}

/// Returns true if it is this code already, as every vendor reads it.
fn is_code(value: &Value, code: &str) -> bool {
    value.as_str().is_some_and(|text| text.trim().eq_ignore_ascii_case(code))
}

fn is_order(event: &Event) -> bool {
    const ORDER_EVENTS: [&str; 4] = ["ORDER_COMPLETED", "ORDER_REFUNDED", "PURCHASE", "REFUND"];
    let name = event.event.as_deref().filter(|_| event.kind == EventKind::Track);
    name.is_some_and(|name| ORDER_EVENTS.iter().any(|order| is_like(order, name)))
}

fn is_equal(one: &Number, other: &Number) -> bool {
    one == other || one.as_f64() == other.as_f64()
}

/// Returns the sign beside an amount: the text without its number.
fn sign(text: &str) -> String {
    let is_of_number = |c: char| c.is_numeric() || c.is_whitespace() || ",.'’-+()".contains(c);
    text.trim_matches(is_of_number).to_owned()
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(MAX_QUOTED_CHARS).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support;

    fn reader(store: Option<&str>, locale: Option<&str>) -> PriceReader {
        PriceReader {
            usage: PriceUse::Orders,
            locale: locale.map(|locale| locale.parse().unwrap()),
            store: store.map(str::to_owned),
        }
    }

    fn order(properties: Value) -> EnrichedEvent {
        test_support::event(json!({ "event": "Order Completed", "properties": properties }))
    }

    fn read(reader: &PriceReader, properties: Value) -> (Value, Option<&'static str>, Vec<String>) {
        let (event, refusal) = reader.apply(order(properties));
        let code = refusal.map(|refusal| match refusal {
            Outcome::Dead(reason) => reason.code,
            other => panic!("{other:?}"),
        });
        let dropped = event.dropped_fields().listed().iter().map(ToString::to_string).collect();
        (Value::Object(event.event.properties.clone().unwrap()), code, dropped)
    }

    #[test]
    fn formatted_amounts_become_numbers_and_others_stay_as_they_are_written() {
        let reader = reader(Some("EUR"), None);
        let (properties, refusal, dropped) = read(
            &reader,
            json!({ "revenue": "1,299.00", "total": "9.50", "tax": 3, "currency": "eur", "coupon": "1,000",
                "products": [{ "price": "$1'299.00", "quantity": "1.000", "discount": "" }, { "price": 5 }] }),
        );
        let expected = json!({ "revenue": 1299.0, "total": "9.50", "tax": 3, "currency": "eur", "coupon": "1,000",
            "products": [{ "price": 1299.0, "quantity": "1.000", "discount": "" }, { "price": 5 }] });
        assert_eq!((properties, refusal, dropped), (expected, None, Vec::new()));
    }

    #[test]
    fn the_locale_of_the_site_decides_over_ambiguous_amounts() {
        let read = |locale| read(&reader(None, locale), json!({ "revenue": "1.299" })).0;
        assert_eq!(read(None), json!({ "revenue": 1299 }));
        assert_eq!(read(Some("de")), json!({ "revenue": 1299 }));
        assert_eq!(read(Some("en")), json!({ "revenue": "1.299" }));
    }

    #[test]
    fn a_currency_of_three_decimals_decides_over_three_digits() {
        let dinars =
            json!({ "revenue": "12.500", "currency": "KWD", "products": [{ "price": "1.250" }] });
        let (properties, refusal, _) = read(&reader(None, None), dinars.clone());
        assert_eq!((properties, refusal), (dinars, None), "JSON's grammar reads it so as well");
        let (properties, ..) = read(&reader(Some("KWD"), None), json!({ "revenue": "12,500" }));
        assert_eq!(properties, json!({ "revenue": 12.5 }));
    }

    #[test]
    fn currency_sign_of_an_amount_is_used_if_the_event_has_none() {
        let eur = reader(Some("EUR"), None);
        for (properties, currency, refusal) in [
            (json!({ "revenue": "£10" }), json!("GBP"), None),
            (json!({ "revenue": "10 GBP", "currency": "USD" }), json!("USD"), None),
            (json!({ "revenue": 1, "products": [{ "price": "10 CHF" }] }), json!("CHF"), None),
            (json!({ "revenue": "$10" }), json!("$"), Some("unreadable_currency")),
            (
                json!({ "revenue": 10, "currency": "points" }),
                json!("points"),
                Some("unreadable_currency"),
            ),
            (json!({ "revenue": 10, "currency": "£" }), json!("GBP"), None),
            (json!({ "revenue": 10 }), Value::Null, None),
        ] {
            let (read, code, dropped) = read(&eur, properties.clone());
            assert_eq!((&read["currency"], code), (&currency, refusal), "{properties}");
            assert_eq!(dropped.is_empty(), refusal.is_none(), "{properties}");
        }
        let (read, code, _) = read(&reader(Some("CAD"), None), json!({ "revenue": "$10" }));
        assert_eq!((&read["currency"], code), (&json!("CAD"), None));
    }

    #[test]
    fn order_without_readable_worth_is_refused_and_other_events_lose_the_field() {
        let reader = reader(None, None);
        let (_, code, dropped) = read(&reader, json!({ "revenue": "about ten" }));
        assert_eq!(
            (code, dropped),
            (Some("unreadable_amount"), vec!["revenue (unreadable_amount)".to_owned()])
        );
        let (_, code, dropped) =
            read(&reader, json!({ "revenue": 5, "tax": "some", "products": [{ "price": "ten" }] }));
        let expected = ["tax (unreadable_amount)", "products[0].price (unreadable_amount)"];
        assert_eq!((code, dropped), (None, expected.map(str::to_owned).to_vec()));
        let (_, code, _) =
            read(&reader, json!({ "products": [{ "price": "ten" }], "revenue": "" }));
        assert_eq!(code, None);
        let viewed = test_support::event(json!({ "event": "Product Viewed",
            "properties": { "price": "ten", "currency": "points" } }));
        let (event, refusal) = reader.apply(viewed);
        assert_eq!(refusal, None);
        assert_eq!(event.dropped_fields().listed().len(), 2);
        let numbers = PriceReader { usage: PriceUse::Numbers, ..reader };
        let (event, refusal) = numbers.apply(order(json!({ "revenue": "ten" })));
        assert_eq!((refusal, event.property("revenue")), (None, Some(&json!("ten"))));
        assert!(event.dropped_fields().is_empty(), "it goes as it is written");
    }

    #[test]
    fn vendor_without_revenue_gets_amounts_as_written() {
        let reader = PriceReader { usage: PriceUse::AsWritten, ..reader(None, None) };
        let (read, code, _) = read(&reader, json!({ "revenue": "1,299.00", "currency": "£" }));
        assert_eq!((read, code), (json!({ "revenue": "1,299.00", "currency": "£" }), None));
    }
}
