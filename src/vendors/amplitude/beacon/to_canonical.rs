//! What the shim of the library tells: events by their names, revenue by Amplitude's properties of it,
//! and of people and groups what is set and done.

use serde_json::Value;

use super::{CLIENT, kinds};
use crate::event::JsonObject;
use crate::vendors::beacon_format::{note_source, put, take};

/// Puts a message of Amplitude's words into the spec's.
pub(in crate::vendors::amplitude) fn to_canonical(message: &mut JsonObject) {
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
    fn amplitudes_names_are_the_specs() {
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
