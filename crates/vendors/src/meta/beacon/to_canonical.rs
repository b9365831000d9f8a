//! Messages of the pixel's shim: the name and the custom data of a call, and the page's advanced matching
//! data, as the page gave them.

use serde_json::{Value, json};

use super::commerce::{self, MetaTrackEvent};
use super::message;
use crate::beacon_format::{note_source, put, take};
use crate::meta::NAME;
use crate::products;
use tagway_core::event::JsonObject;

/// Converts a message from Meta's names to the spec's.
pub(in crate::meta) fn to_canonical(message: &mut JsonObject) {
    let is_page = message.get("type").is_some_and(|kind| kind == "page");
    let name = match message.get("event").and_then(Value::as_str) {
        _ if is_page => "PageView",
        Some(name) => name,
        None => return,
    };
    let name = name.to_owned();
    let mut context = take(message, "context");
    let stated = take(&mut context, "traits");
    let stated: Vec<(String, String)> = stated
        .into_iter()
        .filter_map(|(key, value)| Some((key, products::text(&value)?)))
        .collect();
    let (traits, digests) =
        message::person(stated.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    put(&mut context, "traits", Some(traits));
    let mut ids = take(&mut context, "clientIds");
    put(&mut ids, "meta", Some(digests));
    put(&mut context, "clientIds", Some(ids));
    let options = context.get("dataProcessingOptions").and_then(|stated| stated.get(0));
    let is_limited = options
        .and_then(Value::as_array)
        .is_some_and(|options| options.iter().any(|option| option == "LDU"));
    if is_limited {
        let mut consent = take(&mut context, "consent");
        consent.insert("meta_ldu".to_owned(), json!(true));
        put(&mut context, "consent", Some(consent));
    }
    note_source(&mut context, NAME, Some(&name));
    put(message, "context", Some(context));

    let properties = commerce::parse_custom_data(take(message, "properties"));
    if is_page {
        message.shift_remove("name");
        put(message, "properties", Some(properties));
        return;
    }
    let MetaTrackEvent { event, properties } = commerce::to_track_event(&name, properties);
    put(message, "event", Some(event));
    put(message, "properties", Some(properties));
}
