//! Messages of the library's shim: events under their own names, revenue with Amplitude's properties, and the
//! traits and operations of people and groups.

use serde_json::Value;

use super::{CLIENT, kinds};
use crate::beacon_format::{note_source, put, take};
use tagway_core::event::JsonObject;

/// Translates a message from Amplitude's words to the spec's.
pub(in crate::amplitude) fn to_canonical(message: &mut JsonObject) {
    let name = match message.get("type").and_then(Value::as_str) {
        Some("page") => Some(kinds::PAGE_VIEWED),
        Some("identify") => Some("$identify"),
        Some("group") => Some("$groupidentify"),
        _ => message.get("event").and_then(Value::as_str),
    };
    let Some(name) = name.map(str::to_owned) else { return };
    let mut context = take(message, "context");
    note_source(&mut context, CLIENT, Some(&name));
    let once = context
        .get("source")
        .and_then(|source| source.get("operations")?.get("$setOnce")?.as_object());
    if let (Some(once), Some(traits)) =
        (once, message.get_mut("traits").and_then(Value::as_object_mut))
    {
        kinds::set_once(traits, once);
    }
    put(message, "context", Some(context));
    if name == kinds::REVENUE {
        let mut properties = take(message, "properties");
        kinds::order(&mut properties);
        put(message, "event", Some("Order Completed"));
        put(message, "properties", Some(properties));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shim_messages_get_the_specs_names() {
        let mut revenue = json!({ "type": "track", "event": "revenue_amount", "properties": {
            "$productId": "p1", "$price": 12.75, "$quantity": 2, "$revenueType": "sale", "own": 1 } });
        to_canonical(revenue.as_object_mut().unwrap());
        assert_eq!(revenue["event"], "Order Completed");
        assert_eq!(
            revenue["properties"],
            json!({ "revenue": 25.5, "total": 25.5, "value": 25.5, "revenue_type": "sale", "own": 1,
                    "products": [{ "product_id": "p1", "price": 12.75, "quantity": 2 }] })
        );
        assert_eq!(revenue["context"]["source"]["event"], "revenue_amount");
        let mut person = json!({ "type": "identify", "traits": { "plan": "pro" },
            "context": { "source": { "operations": { "$setOnce": { "plan": "x", "first": 1 } } } } });
        to_canonical(person.as_object_mut().unwrap());
        assert_eq!(person["traits"], json!({ "plan": "pro", "first": 1 }));
    }
}
