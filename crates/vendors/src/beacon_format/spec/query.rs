//! The message in the query of a pixel (`docs/contracts/beacons.md` 7.1): `data=` with base64 of its JSON, or plain
//! fields with dotted names.

use super::super::{FormFields, base64, insert_dotted, is_json};
use crate::beacon::BeaconDecodeError;
use tagway_core::event::JsonObject;

/// The message in a query.
#[derive(Debug)]
pub enum QueryMessage {
    /// The bytes of its JSON.
    Json(Vec<u8>),
    /// The members that its fields name.
    Members(JsonObject),
}

impl QueryMessage {
    /// Finds the message.
    ///
    /// # Errors
    ///
    /// Fails if the query has none, or its `data` is not base64.
    pub fn find(query: &str) -> Result<Self, BeaconDecodeError> {
        let fields = FormFields::form(query);
        if let Some(data) = fields.get("data") {
            let data = data.trim();
            if is_json(data.as_bytes()) {
                return Ok(Self::Json(data.into()));
            }
            const NOT_BASE64: BeaconDecodeError =
                BeaconDecodeError::Malformed("data is not base64 of JSON");
            return base64(data).map(Self::Json).ok_or(NOT_BASE64);
        }
        let mut message = JsonObject::new();
        for (name, value) in fields.iter() {
            insert_dotted(&mut message, name, value);
        }
        if message.is_empty() {
            return Err(BeaconDecodeError::Malformed("the query contains no event"));
        }
        Ok(Self::Members(message))
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use serde_json::{Value, json};

    use super::*;

    fn read(query: &str) -> Value {
        match QueryMessage::find(query).unwrap() {
            QueryMessage::Json(json) => serde_json::from_slice(&json).unwrap(),
            QueryMessage::Members(members) => Value::Object(members),
        }
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
        assert_eq!(read("event=x&type=page"), json!({ "event": "x", "type": "page" }));
        let deep = format!("{}x=1", "a.".repeat(3000));
        assert!(QueryMessage::find(&deep).is_err(), "left out, and then nothing is left");
        assert!(QueryMessage::find("").is_err());
        assert!(QueryMessage::find("data=***").is_err());
    }
}
