//! Reads an event in a query (`docs/contracts/beacons.md` 7.1): `data=` with base64 of a message's JSON, or plain fields
//! with dotted names. Both become the text of a message, which is judged like any other. A pixel has no route that
//! implies the kind: an `event` makes it a track, unless it has a `type`.

use crate::gateway::rejection::RequestRejection;
use tagway_core::event::JsonObject;
use tagway_vendors::beacon_format;

/// The most fields in one query: the header limits bound its length, this one the tree.
const MAX_FIELDS: usize = 200;

/// Returns the text of the message in a query.
pub(in crate::gateway) fn from_query(query: &str) -> Result<Vec<u8>, RequestRejection> {
    let mut message = JsonObject::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()).take(MAX_FIELDS) {
        if name == "data" {
            return data(&value);
        }
        beacon_format::insert_dotted(&mut message, &name, &value);
    }
    if message.is_empty() {
        return Err(RequestRejection::Malformed("the query contains no event"));
    }
    if message.contains_key("event") {
        message.entry("type").or_insert_with(|| "track".into());
    }
    serde_json::to_vec(&message).map_err(|_impossible| RequestRejection::Malformed("not JSON"))
}

fn data(value: &str) -> Result<Vec<u8>, RequestRejection> {
    let value = value.trim();
    if value.starts_with('{') {
        return Ok(value.as_bytes().to_vec());
    }
    beacon_format::base64(value).ok_or(RequestRejection::Malformed("data is not base64 of JSON"))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::{Value, json};

    use super::*;

    fn read(query: &str) -> Value {
        serde_json::from_slice(&from_query(query).unwrap()).unwrap()
    }

    #[test]
    fn dotted_names_are_objects_and_numbers_are_numbers() {
        let query = "type=track&event=Email+Opened&userId=7&properties.price=9.5\
                     &properties.sku=007&properties.a.b=true&context.page.url=https%3A%2F%2Fx%2F";
        assert_eq!(
            read(query),
            json!({
                "type": "track", "event": "Email Opened", "userId": "7",
                "properties": { "price": 9.5, "sku": "007", "a": { "b": true } },
                "context": { "page": { "url": "https://x/" } },
            })
        );
    }

    #[test]
    fn data_is_json_or_base64_of_it() {
        let message = json!({ "type": "track", "event": "a>>?" });
        let text = message.to_string();
        for alphabet in [
            base64::engine::general_purpose::STANDARD,
            base64::engine::general_purpose::URL_SAFE_NO_PAD,
        ] {
            // Not percent-encoded: a plus sign is read as a space.
            assert_eq!(read(&format!("data={}", alphabet.encode(&text))), message);
        }
        assert_eq!(read(&format!("data={text}")), message);
    }

    #[test]
    fn contradictions_and_depth_are_handled() {
        assert_eq!(read("a=1&a.b=2"), json!({ "a": "1" }));
        assert_eq!(read("event=x"), json!({ "event": "x", "type": "track" }));
        assert_eq!(read("event=x&type=page"), json!({ "event": "x", "type": "page" }));
        let deep = format!("{}x=1", "a.".repeat(3000));
        assert!(from_query(&deep).is_err(), "left out, and then nothing is left");
        assert!(from_query("").is_err());
        assert!(from_query("data=***").is_err());
    }
}
