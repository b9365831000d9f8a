//! The event's own data: `custom_data` (`docs/contracts/destinations.md` 2.2 and 2.5).
//!
//! Commerce events have the fields of the mapping table. All other events have their properties as well,
//! without personal ones: Meta forbids personal data in the clear.

use serde_json::{Number, Value, json};

use super::contents::{self, DELIVERY};
use super::rules::{self, MetaEventRule, MetaEventShape};
use super::settings::MetaSettings;
use crate::beacon_format::is_blank;
use crate::email::is_email;
use crate::products::{self, number, text};
use tagway_core::event::{DroppedFields, FieldDropReason, JsonObject};

/// Names of personal properties: lower case, letters and digits alone.
const PERSONAL: &[&str] = &[
    "email",
    "emailaddress",
    "mail",
    "phone",
    "phonenumber",
    "mobile",
    "telephone",
    "firstname",
    "lastname",
    "fullname",
    "middlename",
    "surname",
    "username",
    "gender",
    "sex",
    "birthday",
    "birthdate",
    "dateofbirth",
    "dob",
    "address",
    "address1",
    "address2",
    "street",
    "line1",
    "line2",
    "city",
    "state",
    "region",
    "province",
    "zip",
    "zipcode",
    "postalcode",
    "postcode",
    "country",
    "countrycode",
    "ip",
    "ipaddress",
    "useragent",
    "userid",
    "anonymousid",
    "password",
    "token",
    "ssn",
    "passport",
    "iban",
    "cardnumber",
    "creditcard",
    "latitude",
    "longitude",
];

/// Properties that are sent in other fields, or not at all.
const SEPARATELY_SENT: &[&str] = &[
    "products",
    "value",
    "currency",
    "action_source",
    "event_id",
    "fbc",
    "fbp",
    "fb_login_id",
    "subscription_id",
    "lead_id",
    "opt_out",
    "original_event_data",
];

/// Meta's own fields and their types: a property of that name is read as that type.
const FIELDS: &[(&str, MetaPropertyKind)] = &[
    ("content_ids", MetaPropertyKind::Ids),
    ("contents", MetaPropertyKind::Contents),
    ("content_type", MetaPropertyKind::OneOf(&["product", "product_group"])),
    ("content_name", MetaPropertyKind::Text),
    ("content_category", MetaPropertyKind::Text),
    ("num_items", MetaPropertyKind::Count),
    ("order_id", MetaPropertyKind::Reference),
    ("search_string", MetaPropertyKind::Text),
    ("status", MetaPropertyKind::Scalar),
    ("predicted_ltv", MetaPropertyKind::Number),
    ("net_revenue", MetaPropertyKind::Number),
    ("delivery_category", MetaPropertyKind::OneOf(DELIVERY)),
    ("item_number", MetaPropertyKind::Reference),
];

/// The type that a property is read as.
#[derive(Clone, Copy)]
pub(super) enum MetaPropertyKind {
    Text,
    /// A text that the spec has under the same name: not every event sends it to Meta.
    Reference,
    Number,
    Count,
    Scalar,
    OneOf(&'static [&'static str]),
    Ids,
    Contents,
}

/// Maps an event's properties to `custom_data`.
///
/// # Errors
///
/// Returns a dead letter's code if a field that Meta requires is missing.
pub(super) fn data(
    rule: &MetaEventRule,
    properties: &JsonObject,
    settings: &MetaSettings,
    dropped: &mut DroppedFields,
) -> Result<JsonObject, &'static str> {
    let mut data = JsonObject::new();
    add_money(&mut data, rule, properties, (settings, &mut *dropped))?;
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            data.insert(name.to_owned(), json!(value));
        }
    };
    match rule.shape {
        MetaEventShape::Search => {
            add("search_string", first(properties, &["query", "search_string"]));
            add("content_category", category(properties));
            contents::add(&mut data, products::all(properties), false, dropped);
        }
        MetaEventShape::List => {
            let category = category(properties);
            add("content_name", first(properties, &["content_name"]));
            add("content_category", category.clone());
            contents::add(&mut data, products::listed_products(properties), false, dropped);
            let group = category.or_else(|| first(properties, &["list_id"]));
            if let Some(group) = group.filter(|_| !data.contains_key("content_ids")) {
                data.insert("content_ids".to_owned(), json!([group]));
                data.insert("content_type".to_owned(), json!("product_group"));
            }
        }
        MetaEventShape::Product => {
            add("content_name", first(properties, &["name", "content_name"]));
            add("content_category", category(properties));
            contents::add(&mut data, products::all(properties), false, dropped);
        }
        MetaEventShape::Cart | MetaEventShape::Order => {
            if rule.shape == MetaEventShape::Order {
                add("order_id", first(properties, &["order_id"]));
            }
            contents::add(&mut data, products::all(properties), true, dropped);
        }
        MetaEventShape::Person | MetaEventShape::Open => {
            contents::add(&mut data, products::listed_products(properties), false, dropped);
            add_properties(&mut data, rule.shape, properties, (settings, &mut *dropped));
            return Ok(data);
        }
    }
    add_meta_properties(&mut data, properties, dropped);
    Ok(data)
}

/// Adds properties under Meta's own names; they replace values made of the spec's.
fn add_meta_properties(
    data: &mut JsonObject,
    properties: &JsonObject,
    dropped: &mut DroppedFields,
) {
    for (name, kind) in
        FIELDS.iter().filter(|(_, kind)| !matches!(kind, MetaPropertyKind::Reference))
    {
        let Some(value) = properties.get(*name).filter(|value| !is_blank(value)) else {
            continue;
        };
        match read(value, *kind) {
            Some(stated) => {
                data.insert((*name).to_owned(), stated);
            }
            None => dropped.add(name, unsent(value)),
        }
    }
}

/// Adds the value and its currency. A value without a currency is dropped; Meta refuses an order that
/// lacks either.
fn add_money(
    data: &mut JsonObject,
    rule: &MetaEventRule,
    properties: &JsonObject,
    (settings, dropped): (&MetaSettings, &mut DroppedFields),
) -> Result<(), &'static str> {
    let is_order = rule.value == rules::MetaValueSource::Order;
    let value = match rule.value {
        rules::MetaValueSource::Of(keys) => products::first_number(properties, keys),
        rules::MetaValueSource::OrWorth(keys) => {
            products::first_number(properties, keys).or_else(|| products::total_price(properties))
        }
        rules::MetaValueSource::Order => {
            products::first_number(properties, settings.purchase_value)
                .or_else(|| products::total_price(properties))
        }
    };
    if value.as_ref().is_some_and(is_negative) {
        dropped.add("value", FieldDropReason::ValueNotAllowed);
    }
    let value = value.filter(|value| !is_negative(value));
    let store = settings.currency.as_deref().filter(|_| value.is_some());
    let currency = products::currency(properties, store);
    match (value, currency) {
        (Some(value), Some(currency)) => {
            data.insert("value".to_owned(), Value::Number(value));
            data.insert("currency".to_owned(), json!(currency));
        }
        (None, _) if is_order => return Err("missing_value"),
        (_, None) if is_order => return Err("missing_currency"),
        (None, Some(currency)) => {
            data.insert("currency".to_owned(), json!(currency));
        }
        (Some(_), None) => dropped.add("value", FieldDropReason::MissingCurrency),
        (None, None) => {}
    }
    Ok(())
}

pub(super) fn is_negative(number: &Number) -> bool {
    number.as_f64().is_none_or(|number| number < 0.0)
}

/// Adds the properties that are neither objects nor lists nor personal.
fn add_properties(
    data: &mut JsonObject,
    shape: MetaEventShape,
    properties: &JsonObject,
    (settings, dropped): (&MetaSettings, &mut DroppedFields),
) {
    let has_value = data.contains_key("value");
    // A product and a promotion have a `name`; on other events it may be the person's.
    let is_thing = products::id(properties).is_some() || properties.contains_key("promotion_id");
    let names_thing = is_thing && shape == MetaEventShape::Open;
    for (name, value) in properties {
        let is_elsewhere =
            SEPARATELY_SENT.contains(&name.as_str()) || (name == "revenue" && has_value);
        let is_allowed = settings.allowed_properties.contains(&name.to_lowercase());
        let is_personal = is_personal(name) || (name == "name" && !names_thing);
        if is_elsewhere || name.trim().is_empty() || is_blank(value) {
            continue;
        }
        if is_personal && !is_allowed {
            dropped.add(name, FieldDropReason::Personal);
            continue;
        }
        let kind = FIELDS.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
        match read(value, kind.unwrap_or(MetaPropertyKind::Scalar)) {
            Some(value) => {
                data.insert(name.clone(), value);
            }
            None => dropped.add(name, unsent(value)),
        }
    }
}

/// Returns the reason why a value cannot be sent.
fn unsent(value: &Value) -> FieldDropReason {
    match value {
        Value::Array(_) | Value::Object(_) => FieldDropReason::Nested,
        Value::String(text) if is_email(text) || text.contains("%40") => FieldDropReason::Personal,
        _ => FieldDropReason::ValueNotAllowed,
    }
}

/// Returns true if a property of this name is personal.
pub(super) fn is_personal(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    PERSONAL.contains(&plain.as_str())
}

/// Reads a value as this type. `None` if it does not fit, is empty or is an e-mail address.
pub(super) fn read(value: &Value, kind: MetaPropertyKind) -> Option<Value> {
    match kind {
        MetaPropertyKind::Scalar => match value {
            Value::String(text) => {
                // In a URL the @ is escaped.
                let names_nobody = !is_email(text) && !text.contains("%40");
                (!text.trim().is_empty() && names_nobody).then(|| value.clone())
            }
            Value::Number(_) | Value::Bool(_) => Some(value.clone()),
            _ => None,
        },
        MetaPropertyKind::Text | MetaPropertyKind::Reference => joined(value).map(Value::String),
        MetaPropertyKind::Number => number(value).map(Value::Number),
        MetaPropertyKind::Count => {
            products::whole_number(value).filter(|count| *count >= 0).map(Value::from)
        }
        MetaPropertyKind::OneOf(words) => {
            let stated = value.as_str()?;
            words.iter().find(|word| **word == stated).map(|word| json!(word))
        }
        MetaPropertyKind::Ids => contents::read_content_ids(value),
        MetaPropertyKind::Contents => contents::read_contents(value),
    }
}

fn category(properties: &JsonObject) -> Option<String> {
    ["category", "content_category"].iter().find_map(|key| joined(properties.get(*key)?))
}

/// Returns a text, or the texts of a list joined by commas. E-mail addresses are left out.
fn joined(value: &Value) -> Option<String> {
    let whole = match value {
        Value::Array(parts) => {
            let parts = parts.iter().filter_map(text).filter(|part| !is_email(part));
            parts.collect::<Vec<String>>().join(",")
        }
        value => text(value)?,
    };
    (!whole.is_empty() && !is_email(&whole)).then_some(whole)
}

fn first(properties: &JsonObject, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| text(properties.get(*key)?)).filter(|text| !is_email(text))
}
