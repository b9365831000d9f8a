//! What happened: `custom_data` (`contracts/destinations.md` 2.2 and 2.5).
//!
//! Commerce events say what the table names. All other events say their properties as well, without
//! those that say something of a person: Meta forbids personal data in the clear.

use serde_json::{Number, Value, json};

use super::rules::{self, Rule, Shape};
use super::settings::Settings;
use crate::event::{DropReason, DroppedFields, Object};
use crate::vendors::email::is_email;
use crate::vendors::products::{self, number, text};
use crate::vendors::wire::says_nothing;

/// Properties that say something of a person: lower case, letters and digits alone.
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

/// Properties that stand elsewhere, or nowhere.
const ELSEWHERE: &[&str] = &[
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

/// Meta's own fields, and what each must be: a property of that name is read so.
const FIELDS: &[(&str, Kind)] = &[
    ("content_ids", Kind::Never),
    ("contents", Kind::Never),
    ("content_type", Kind::OneOf(&["product", "product_group"])),
    ("content_name", Kind::Text),
    ("content_category", Kind::Text),
    ("num_items", Kind::Count),
    ("order_id", Kind::Text),
    ("search_string", Kind::Text),
    ("status", Kind::Scalar),
    ("predicted_ltv", Kind::Number),
    ("net_revenue", Kind::Number),
    ("delivery_category", Kind::OneOf(DELIVERY)),
    ("item_number", Kind::Text),
];

const DELIVERY: &[&str] = &["in_store", "curbside", "home_delivery"];

/// How a property is read.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Count,
    Scalar,
    OneOf(&'static [&'static str]),
    /// It is made of the products, never taken as it is.
    Never,
}

/// What the event says. The error is the code of a dead letter: it lacks what Meta requires.
pub(super) fn data(
    rule: &Rule,
    properties: &Object,
    settings: &Settings,
    dropped: &mut DroppedFields,
) -> Result<Object, &'static str> {
    let mut data = Object::new();
    add_money(&mut data, rule, properties, (settings, &mut *dropped))?;
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            data.insert(name.to_owned(), json!(value));
        }
    };
    match rule.shape {
        Shape::Search => {
            add("search_string", first(properties, &["query", "search_string"]));
            add("content_category", category(properties));
            add_contents(&mut data, products::listed(properties), false);
        }
        Shape::List => {
            let category = category(properties);
            add("content_name", first(properties, &["content_name"]));
            add("content_category", category.clone());
            add_contents(&mut data, products::listed(properties), false);
            let group = category.or_else(|| first(properties, &["list_id"]));
            if let Some(group) = group.filter(|_| !data.contains_key("content_ids")) {
                data.insert("content_ids".to_owned(), json!([group]));
                data.insert("content_type".to_owned(), json!("product_group"));
            }
        }
        Shape::Product => {
            add("content_name", first(properties, &["name", "content_name"]));
            add("content_category", category(properties));
            add_contents(&mut data, products::all(properties), false);
        }
        Shape::Cart | Shape::Order => {
            if rule.shape == Shape::Order {
                add("order_id", first(properties, &["order_id"]));
            }
            add_contents(&mut data, products::all(properties), true);
        }
        Shape::Person | Shape::Open => {
            add_contents(&mut data, products::listed(properties), false);
            add_properties(&mut data, rule.shape, properties, (settings, dropped));
        }
    }
    add_said(&mut data, properties);
    Ok(data)
}

/// What the client says by Meta's own names of products that are there: it knows better.
fn add_said(data: &mut Object, properties: &Object) {
    for name in ["content_type", "num_items"] {
        let kind = FIELDS.iter().find(|(field, _)| *field == name).map(|(_, kind)| *kind);
        let said = properties.get(name).zip(kind).and_then(|(value, kind)| read(value, kind));
        if let Some(said) = said
            && data.contains_key(name)
        {
            data.insert(name.to_owned(), said);
        }
    }
}

/// The value and its currency. Without a currency there is no value; an order without either is
/// refused by Meta.
fn add_money(
    data: &mut Object,
    rule: &Rule,
    properties: &Object,
    (settings, dropped): (&Settings, &mut DroppedFields),
) -> Result<(), &'static str> {
    let is_order = rule.value == rules::Value::Order;
    let value = match rule.value {
        rules::Value::Of(keys) => products::first_number(properties, keys),
        rules::Value::OrWorth(keys) => {
            products::first_number(properties, keys).or_else(|| products::worth(properties))
        }
        rules::Value::Order => products::first_number(properties, settings.purchase_value)
            .or_else(|| products::worth(properties)),
    };
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
        (Some(_), None) => dropped.add("value", DropReason::MissingCurrency),
        (None, None) => {}
    }
    Ok(())
}

fn is_negative(number: &Number) -> bool {
    number.as_f64().is_none_or(|number| number < 0.0)
}

/// The products: what they are, how many of each, and how many in all if that is asked.
fn add_contents<'p>(
    data: &mut Object,
    products: impl IntoIterator<Item = &'p Object>,
    counts: bool,
) {
    let (mut ids, mut contents, mut count) = (Vec::new(), Vec::new(), 0_i64);
    for product in products {
        let Some(id) = products::id(product) else { continue };
        let quantity = product.get("quantity").and_then(products::whole_number);
        let quantity = quantity.filter(|quantity| *quantity > 0).unwrap_or(1);
        count = count.saturating_add(quantity);
        let mut content = Object::new();
        content.insert("id".to_owned(), json!(id));
        content.insert("quantity".to_owned(), json!(quantity));
        let price = product.get("price").and_then(number);
        if let Some(price) = price.filter(|price| !is_negative(price)) {
            content.insert("item_price".to_owned(), Value::Number(price));
        }
        let delivery = product.get("delivery_category");
        if let Some(delivery) = delivery.and_then(|it| read(it, Kind::OneOf(DELIVERY))) {
            content.insert("delivery_category".to_owned(), delivery);
        }
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

/// The properties that are neither objects nor lists, and that say nothing of a person.
fn add_properties(
    data: &mut Object,
    shape: Shape,
    properties: &Object,
    (settings, dropped): (&Settings, &mut DroppedFields),
) {
    let has_value = data.contains_key("value");
    // A product and a promotion have names; of other things it may be the person's.
    let is_thing = products::id(properties).is_some() || properties.contains_key("promotion_id");
    let names_thing = is_thing && shape == Shape::Open;
    for (name, value) in properties {
        let is_elsewhere = ELSEWHERE.contains(&name.as_str())
            || (name == "revenue" && has_value)
            || data.contains_key(name);
        let is_allowed = settings.allowed_properties.contains(&name.to_lowercase());
        let is_personal = is_personal(name) || (name == "name" && !names_thing);
        if is_elsewhere || name.trim().is_empty() || says_nothing(value) {
            continue;
        }
        if is_personal && !is_allowed {
            dropped.add(name, DropReason::Personal);
            continue;
        }
        let kind = FIELDS.iter().find(|(field, _)| field == name).map(|(_, kind)| *kind);
        match read(value, kind.unwrap_or(Kind::Scalar)) {
            Some(value) => {
                data.insert(name.clone(), value);
            }
            None => dropped.add(name, unsent(value)),
        }
    }
}

/// Why a value cannot be sent.
fn unsent(value: &Value) -> DropReason {
    match value {
        Value::Array(_) | Value::Object(_) => DropReason::Nested,
        Value::String(text) if is_email(text) || text.contains("%40") => DropReason::Personal,
        _ => DropReason::ValueNotAllowed,
    }
}

/// Whether a property of this name says something of a person.
pub(super) fn is_personal(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let plain: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    PERSONAL.contains(&plain.as_str())
}

/// The value as Meta takes it, if it can be one: never empty, never an address.
fn read(value: &Value, kind: Kind) -> Option<Value> {
    match kind {
        Kind::Scalar => match value {
            Value::String(text) => {
                // Within a URL the sign is escaped.
                let names_nobody = !is_email(text) && !text.contains("%40");
                (!text.trim().is_empty() && names_nobody).then(|| value.clone())
            }
            Value::Number(_) | Value::Bool(_) => Some(value.clone()),
            _ => None,
        },
        Kind::Text => joined(value).map(Value::String),
        Kind::Number => number(value).map(Value::Number),
        Kind::Count => products::whole_number(value).filter(|count| *count >= 0).map(Value::from),
        Kind::OneOf(words) => {
            let said = value.as_str()?;
            words.iter().find(|word| **word == said).map(|word| json!(word))
        }
        Kind::Never => None,
    }
}

fn category(properties: &Object) -> Option<String> {
    ["category", "content_category"].iter().find_map(|key| joined(properties.get(*key)?))
}

/// A text; several are joined by commas. Never an address, nor a list with one.
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

fn first(properties: &Object, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| text(properties.get(*key)?)).filter(|text| !is_email(text))
}
