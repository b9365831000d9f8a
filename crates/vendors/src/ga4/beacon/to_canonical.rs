//! Messages of the gtag shim: the name and the parameters of a call, as the page gave them.

use serde_json::Value;

use super::canonical::{canonical, canonical_event_name};
use super::items;
use crate::beacon_format::{note_source, put, take};
use crate::ga4::rules;
use tagway_core::event::JsonObject;

/// The prefixes of parameters that are addressed to the library, and are not part of the event.
const TO_LIBRARY: [&str; 11] = [
    "developer_id.",
    "send_",
    "event_callback",
    "event_timeout",
    "user_id",
    "user_properties",
    "user_data",
    "transport",
    "page_",
    "cookie_",
    "debug",
];

/// The settings of the library, which pages give with parameters.
const SETTINGS: [&str; 20] = [
    "ads_data_redaction",
    "allow_ad_personalization_signals",
    "allow_custom_scripts",
    "allow_direct_google_requests",
    "allow_enhanced_conversions",
    "allow_google_signals",
    "allow_interest_groups",
    "anonymize_ip",
    "client_id",
    "client_storage",
    "conversion_linker",
    "custom_map",
    "first_party_collection",
    "forceSSL",
    "groups",
    "ignore_referrer",
    "link_attribution",
    "linker",
    "server_container_url",
    "url_passthrough",
];

/// The parameters of a page view about the page, and their properties.
const OF_PAGE: [(&str, &str); 4] = [
    ("page_location", "url"),
    ("page_title", "title"),
    ("page_referrer", "referrer"),
    ("page_path", "path"),
];

/// Members of `user_data` that are digests, and Meta's names of them, which takes the same ones.
const DIGESTS: [(&str, &str); 2] = [("sha256_email_address", "em"), ("sha256_phone_number", "ph")];

/// The parts of an address in `user_data`, and their traits.
const OF_ADDRESS: [(&str, &str); 5] = [
    ("street", "street"),
    ("city", "city"),
    ("region", "state"),
    ("postal_code", "postalCode"),
    ("country", "country"),
];

/// Translates a message from gtag's words to the spec's.
pub(in crate::ga4) fn to_canonical(message: &mut JsonObject) {
    let is_page = message.get("type").is_some_and(|kind| kind == "page");
    let name = match message.get("event").and_then(Value::as_str) {
        _ if is_page => "page_view",
        Some(name) => name,
        None => return,
    };
    let name = name.to_owned();
    let mut context = take(message, "context");
    let mut stated = take(message, "properties");
    let mut traits = take(&mut context, "traits");
    traits.extend(take(&mut stated, "user_properties"));
    let mut person = take(&mut stated, "user_data");
    put(
        &mut traits,
        "email",
        first(person.remove("email").or_else(|| person.remove("email_address"))),
    );
    put(&mut traits, "phone", first(person.remove("phone_number")));
    add_address(&mut traits, first(person.remove("address")));
    put(&mut context, "traits", Some(traits));
    let mut ids = take(&mut context, "clientIds");
    let mut digests = take(&mut ids, "meta");
    for (member, key) in DIGESTS {
        put(&mut digests, key, first(person.remove(member)));
    }
    put(&mut ids, "meta", Some(digests));
    put(&mut context, "clientIds", Some(ids));
    note_source(&mut context, "gtag", Some(&name));
    put(message, "context", Some(context));

    let products = match stated.shift_remove("items") {
        Some(Value::Array(items)) => items.into_iter().filter_map(items::item_to_product).collect(),
        _ => Vec::new(),
    };
    let mut own = JsonObject::new();
    for (param, value) in stated {
        let of_page = OF_PAGE.iter().find(|(known, _)| is_page && *known == param);
        if let Some((_, property)) = of_page {
            put(&mut own, property, Some(value));
        } else if !is_setting(&param) {
            put(&mut own, &param, Some(value));
        }
    }
    if is_page {
        message.shift_remove("name");
        put(message, "properties", Some(own));
        return;
    }
    let rule = rules::of_vendors(&name);
    put(message, "event", Some(canonical_event_name(&name, rule)));
    put(message, "properties", Some(canonical(own, products, &name, rule)));
}

/// Returns the first of several: pages may give up to three of each.
fn first(value: Option<Value>) -> Option<Value> {
    match value {
        Some(Value::Array(values)) => values.into_iter().next(),
        value => value,
    }
}

/// Adds the name and the address of `user_data`. Digests in it are of use to Google only.
fn add_address(traits: &mut JsonObject, address: Option<Value>) {
    let Some(Value::Object(mut stated)) = address else { return };
    put(traits, "firstName", stated.remove("first_name"));
    put(traits, "lastName", stated.remove("last_name"));
    let mut own = take(traits, "address");
    for (member, key) in OF_ADDRESS {
        put(&mut own, key, stated.remove(member));
    }
    put(traits, "address", Some(own));
}

fn is_setting(param: &str) -> bool {
    SETTINGS.contains(&param) || TO_LIBRARY.iter().any(|start| param.starts_with(start))
}
