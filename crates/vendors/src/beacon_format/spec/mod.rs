//! The Segment protocol (`docs/contracts/beacons.md` 7), which the gateway's own routes and vendors' libraries use: a
//! body is one message, a list of them, or an object whose `batch` is one.
//!
//! The messages of vendors' libraries also lose the placeholders that these write for missing values, and the members
//! meant for their own servers.

mod body;
mod body_text;
mod loose_text;
mod message_fields;
mod query;
mod readable;

pub use body::{BodyMessage, MessageBody};
pub use body_text::{BodyText, is_readable_object};
pub use loose_text::LooseText;
pub use query::QueryMessage;

use http::Method;
use http::header::{COOKIE, ORIGIN};
use serde_json::Value;

use body::MessageDefaults;

use super::{MessageBatch, is_blank, put, tree};
use crate::beacon::{BeaconDecodeError, BeaconLimits, BeaconRequest};
use tagway_core::event::{EventKind, JsonObject, is_identifying_id};

/// Members that identify a person, a visitor or a group.
const IDS: [&str; 4] = ["userId", "anonymousId", "groupId", "previousId"];

/// Members for the client's own server, without data about the event.
const TRANSPORT: [&str; 4] = ["writeKey", "_metadata", "channel", "receivedAt"];

/// The protocol as a vendor's library speaks it.
pub struct SpecDialect<'d> {
    /// The library's name.
    pub client: &'static str,
    /// The only kind that the endpoint takes, if there is one.
    pub kind: Option<EventKind>,
    /// Changes what is the library's own in a canonical message.
    pub adapt: &'d dyn Fn(&mut JsonObject),
}

impl SpecDialect<'_> {
    /// Adds the messages of a body. Records that are no objects are left out.
    ///
    /// The body's shared members become part of each message, and are checked against the limit before any
    /// message is made.
    ///
    /// # Errors
    ///
    /// Fails if the body is unreadable, has no message or is too large.
    pub fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let text = BodyText::scan(inbound.body, inbound.bounds.json_depth)?;
        // The shared members of all messages are limited here; their own are as they are pushed.
        let made_bytes = inbound.bounds.made_bytes.saturating_add(inbound.body.len());
        let body = MessageBody::open(&text, &BeaconLimits { made_bytes, ..inbound.bounds })?;
        body.write_key().into_iter().for_each(|key| batch.show_key(key));
        let shared = body.shared(&inbound.bounds)?;
        for text in body.texts() {
            let text = match text {
                Ok(text) => text,
                Err(reason) => {
                    batch.reject(reason);
                    continue;
                }
            };
            let Some(mut message) = batch.object_of(text) else { continue };
            shared.complete(&mut message);
            self.complete(&mut message, inbound);
            batch.push_object(message)?;
        }
        if batch.is_empty() {
            return Err(BeaconDecodeError::Malformed("there is no message in the body"));
        }
        Ok(())
    }

    /// Adds the message in the query of a pixel.
    ///
    /// # Errors
    ///
    /// Fails if the query has no readable message, or the message is too large.
    pub fn read_query(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError> {
        let mut message = in_query(inbound)?;
        self.complete(&mut message, inbound);
        batch.push_object(message)
    }

    fn complete(&self, message: &mut JsonObject, inbound: &BeaconRequest<'_>) {
        canonicalize(message, self.kind, self.client);
        (self.adapt)(message);
        // Images are sent with cookies and need no daily id.
        if inbound.method == Method::POST {
            assign_daily_id(message, inbound);
        }
    }
}

/// Reads the message in the query of a pixel.
fn in_query(inbound: &BeaconRequest<'_>) -> Result<JsonObject, BeaconDecodeError> {
    match QueryMessage::find(inbound.query)? {
        QueryMessage::Members(message) => Ok(message),
        QueryMessage::Json(json) => match tree(json.trim_ascii(), &inbound.bounds) {
            Ok(Value::Object(message)) => Ok(message),
            Err(BeaconDecodeError::TooLarge) => Err(BeaconDecodeError::TooLarge),
            _ => Err(BeaconDecodeError::Malformed("data is not a JSON object, nor base64 of one")),
        },
    }
}

impl MessageDefaults {
    /// Adds them to a message, where it does not have them itself.
    fn complete(&self, message: &mut JsonObject) {
        if message.get("sentAt").is_none_or(Value::is_null) {
            put(message, "sentAt", self.sent_at.map(|time| time.to_string()));
        }
        for (name, all) in [("context", &self.context), ("integrations", &self.integrations)] {
            let Some(mut merged) = all.clone() else { continue };
            // A value that is no object is replaced.
            if let Some(Value::Object(own)) = message.shift_remove(name) {
                merged.extend(own);
            }
            message.insert(name.to_owned(), Value::Object(merged));
        }
    }
}

/// Makes a message of such a client canonical. `kind` is the only kind that its endpoint takes, if there is
/// one.
fn canonicalize(message: &mut JsonObject, kind: Option<EventKind>, client: &'static str) {
    if let Some(kind) = kind {
        message.insert("type".to_owned(), kind.name().into());
    }
    let original = message.shift_remove("originalTimestamp");
    if message.get("timestamp").is_none_or(is_blank) {
        put(message, "timestamp", original);
    }
    message.retain(|name, value| {
        if IDS.contains(&name.as_str()) {
            unquote(value);
            // Placeholder ids are removed, so that they do not take precedence over a valid one.
            return !value.is_null() && value.as_str().is_none_or(is_identifying_id);
        }
        !value.is_null() && !TRANSPORT.contains(&name.as_str())
    });
    if message.get("type").and_then(Value::as_str).and_then(EventKind::from_name).is_none() {
        // The gateway will refuse it, so nothing is added to it.
        return;
    }
    let context = message.entry("context").or_insert_with(|| Value::Object(JsonObject::new()));
    if !context.is_object() {
        *context = Value::Object(JsonObject::new());
    }
    let Value::Object(context) = context else { return };
    context.retain(|_, value| !is_blank(value));
    let mut source = JsonObject::new();
    put(&mut source, "client", Some(client));
    let version = context.get("library").and_then(|library| library.get("version"));
    put(&mut source, "version", version.filter(|version| version.is_string()).cloned());
    put(context, "source", Some(source));
}

/// Adds the daily id to a message without ids, where the gateway's cookie is unavailable: these clients send
/// no cookies to another origin than the page's.
fn assign_daily_id(message: &mut JsonObject, inbound: &BeaconRequest<'_>) {
    if message.contains_key("userId") || message.contains_key("anonymousId") {
        return;
    }
    let is_same_origin = inbound.field("sec-fetch-site") == Some("same-origin");
    let is_cookieless = !inbound.headers.contains_key(COOKIE) && !is_same_origin;
    // A server would have to name the visitor itself.
    if is_cookieless && inbound.headers.contains_key(ORIGIN) {
        put(message, "anonymousId", Some(inbound.daily_id));
    }
}

/// Returns a member of a message that is an object.
pub fn object_in<'m>(message: &'m mut JsonObject, name: &str) -> Option<&'m mut JsonObject> {
    message.get_mut(name).and_then(Value::as_object_mut)
}

/// Removes the quotation marks of ids that old libraries stored as JSON in their cookies.
fn unquote(id: &mut Value) {
    let Value::String(text) = id else { return };
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    if let Some(inner) = inner {
        *text = inner.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::beacon::{AllowedMethods, Beacon, BeaconOutcome, BeaconReply};
    use crate::beacon_format::test_support::{BOUNDS, TestBeaconRequest};

    const PLAIN: SpecDialect<'_> = SpecDialect { client: "plain", kind: None, adapt: &|_| {} };

    /// A client of the spec that changes nothing of its own.
    struct PlainSpecBeacon;

    impl Beacon for PlainSpecBeacon {
        fn endpoint(&self, _path: &str) -> Option<AllowedMethods> {
            Some(AllowedMethods::Both)
        }

        fn read(
            &self,
            inbound: &BeaconRequest<'_>,
            batch: &mut MessageBatch<'_>,
        ) -> Result<(), BeaconDecodeError> {
            if inbound.body.is_empty() {
                return PLAIN.read_query(inbound, batch);
            }
            PLAIN.read(inbound, batch)
        }

        fn answer(&self, _inbound: &BeaconRequest<'_>, _verdict: BeaconOutcome) -> BeaconReply {
            BeaconReply::empty()
        }
    }

    fn read(body: &str) -> Result<Vec<JsonObject>, BeaconDecodeError> {
        TestBeaconRequest::new(Method::POST, "/", body).decode(&PlainSpecBeacon)
    }

    fn read_all(body: &Value) -> Value {
        Value::from_iter(read(&body.to_string()).unwrap())
    }

    fn in_the_query(query: &str) -> Result<Value, BeaconDecodeError> {
        let messages = TestBeaconRequest::new(Method::GET, &format!("/?{query}"), "")
            .decode(&PlainSpecBeacon)?;
        Ok(Value::from_iter(messages)[0].take())
    }

    #[test]
    fn body_is_one_message_a_list_or_a_batch() {
        let of =
            |kind: &str| json!({ "type": kind, "context": { "source": { "client": "plain" } } });
        let (a, b) = (of("page"), of("track"));
        assert_eq!(read_all(&a), json!([a]));
        assert_eq!(read_all(&json!([a, 7, b])), json!([a, b]));
        assert_eq!(read_all(&json!({ "batch": [a, null, b], "writeKey": "k" })), json!([a, b]));
        for bad in ["x", "7", "[]", "{\"batch\":[]}", "{\"batch\":7}", "{", "[1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shared_members_of_a_body_are_added_to_each_message() {
        let (own, all) = ("2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z");
        let body = json!({
            "batch": [
                { "type": "page" },
                { "type": "page", "sentAt": own, "context": { "ip": "own" }, "integrations": { "x": false } },
                { "type": "page", "context": "wrong" },
            ],
            "sentAt": all, "context": { "ip": "all", "os": "x" }, "integrations": { "All": true },
        });
        let source = json!({ "client": "plain" });
        let shared = json!({ "type": "page", "sentAt": all, "integrations": { "All": true },
            "context": { "ip": "all", "os": "x", "source": source } });
        assert_eq!(
            read_all(&body),
            json!([
                shared,
                { "type": "page", "sentAt": own, "context": { "ip": "own", "os": "x", "source": source },
                  "integrations": { "All": true, "x": false } },
                shared,
            ])
        );
        let mut long = json!({ "context": { "a": "x".repeat(BOUNDS.event_bytes) } });
        let mut batch = |count| {
            long["batch"] = json!(vec![json!({ "type": "page" }); count]);
            read(&long.to_string()).map(|messages| messages.len())
        };
        assert_eq!((batch(4), batch(100)), (Ok(4), Err(BeaconDecodeError::TooLarge)));
    }

    #[test]
    fn canonicalize_changes_only_what_deviates() {
        let mut message = json!({
            "type": "track", "event": "E", "userId": null, "anonymousId": "\"a1\"", "groupId": "",
            "previousId": 7, "originalTimestamp": "t", "writeKey": "k", "_metadata": {},
            "properties": { "empty": "", "none": null },
            "context": { "traits": {}, "campaign": {}, "library": { "version": "1" }, "os": "x" },
        });
        let Value::Object(message) = &mut message else { unreachable!() };
        canonicalize(message, None, "segment");
        assert_eq!(
            Value::Object(message.clone()),
            json!({
                "type": "track", "event": "E", "anonymousId": "a1", "previousId": 7,
                "properties": { "empty": "", "none": null }, "timestamp": "t",
                "context": { "library": { "version": "1" }, "os": "x",
                             "source": { "client": "segment", "version": "1" } },
            })
        );
        let mut other = json!({ "type": "x", "timestamp": "t", "originalTimestamp": "o" });
        canonicalize(other.as_object_mut().unwrap(), None, "segment");
        assert_eq!(other, json!({ "type": "x", "timestamp": "t" }));
        canonicalize(other.as_object_mut().unwrap(), Some(EventKind::Page), "segment");
        assert_eq!(other["type"], "page");
    }

    #[test]
    fn pixel_query_has_data_or_dotted_names() {
        let mut message = json!({ "type": "track", "event": "a>>?", "properties": { "n": 1 } });
        let text = message.to_string();
        message["context"] = json!({ "source": { "client": "plain" } });
        for data in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text), text.clone()] {
            assert_eq!(in_the_query(&format!("data={data}")), Ok(message.clone()));
        }
        assert_eq!(in_the_query("type=track&event=a%3E%3E?&properties.n=1"), Ok(message));
        for bad in ["", "data=x", "data=[]", "data=***"] {
            assert!(in_the_query(bad).is_err(), "{bad}");
        }
    }
}
