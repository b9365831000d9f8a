//! Messages of the library's shim: events by their names, and the operations on people and groups, by
//! Mixpanel's names.

use serde_json::Value;

use super::CLIENT;
use super::profiles;
use crate::beacon_format::{note_source, put, take};
use tagway_core::event::JsonObject;

/// Converts a message from Mixpanel's names to the spec's.
pub(in crate::mixpanel) fn to_canonical(message: &mut JsonObject) {
    let mut context = take(message, "context");
    let name = match message.get("type").and_then(Value::as_str) {
        Some("page") => Some("$mp_web_page_view"),
        Some("track") => message.get("event").and_then(Value::as_str),
        _ => None,
    };
    note_source(&mut context, CLIENT, name);
    let once = context
        .get("source")
        .and_then(|source| source.get("operations")?.get("$set_once")?.as_object());
    if let Some(traits) = message.get_mut("traits").and_then(Value::as_object_mut) {
        *traits = profiles::set(std::mem::take(traits), once);
    }
    put(message, "context", Some(context));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn to_canonical_renames_traits_and_notes_the_source() {
        let mut person = json!({
            "type": "identify", "traits": { "$email": "a@b.co", "plan": null },
            "context": { "source": { "operations": { "$set_once": { "$name": "A", "$email": "x" } } } },
        });
        to_canonical(person.as_object_mut().unwrap());
        assert_eq!(person["traits"], json!({ "email": "a@b.co", "plan": null, "name": "A" }));
        assert_eq!(person["context"]["source"]["client"], "mixpanel");
        assert_eq!(
            person["context"]["source"].get("event"),
            None,
            "it says who is whose by identify"
        );
        for (mut message, name) in [
            (json!({ "type": "track", "event": "$own" }), "$own"),
            (json!({ "type": "page" }), "$mp_web_page_view"),
        ] {
            to_canonical(message.as_object_mut().unwrap());
            assert_eq!(message["context"]["source"]["event"], name);
        }
    }
}
