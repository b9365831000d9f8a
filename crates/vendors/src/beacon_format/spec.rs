//! Clients that use the Segment spec themselves (`docs/contracts/beacons.md` 7): a body is one message, a list of
//! them, or an object whose `batch` is one.
//!
//! Such messages are in the gateway's own format. Here they only lose the placeholders that these clients
//! write for missing values, and the members meant for their own servers; the gateway checks the rest.

use http::header::{COOKIE, ORIGIN};
use serde_json::Value;

use super::{
    FormFields, MessageBatch, base64, insert_dotted, is_blank, is_json, members, put, records, tree,
};
use crate::beacon::{BeaconDecodeError, BeaconRequest};
use tagway_core::event::{EventKind, JsonObject, is_identifying_id};

/// Members that identify a person, a visitor or a group.
const IDS: [&str; 4] = ["userId", "anonymousId", "groupId", "previousId"];

/// Members for the client's own server, without data about the event.
const TRANSPORT: [&str; 4] = ["writeKey", "_metadata", "channel", "receivedAt"];

/// Adds the messages of a body, each as `complete` changes it. Records that are no objects are left out.
///
/// The body's shared members become part of each message, and are checked against the limit before any
/// message is made.
///
/// # Errors
///
/// Fails if the body is unreadable, has no message or is too large.
pub fn read(
    inbound: &BeaconRequest<'_>,
    batch: &mut MessageBatch,
    complete: impl Fn(&mut JsonObject),
) -> Result<(), BeaconDecodeError> {
    const EMPTY: BeaconDecodeError =
        BeaconDecodeError::Malformed("there is no message in the body");
    let body = inbound.body;
    let of_all = members(body, ["batch", "sentAt", "context", "integrations", "writeKey"]);
    batch.show_key_in(of_all.and_then(|of_all| of_all.last().copied().flatten()));
    let (list, shared) = match of_all {
        Some([None, ..]) => (body, BatchDefaults::default()),
        Some([Some(list), of_all @ .., _key]) if list.starts_with(b"[") => {
            (list, BatchDefaults::read(of_all, batch)?)
        }
        Some(_) => return Err(BeaconDecodeError::Malformed("batch is not a list")),
        None => (body, BatchDefaults::default()),
    };
    let records = records(list, &inbound.bounds)?;
    batch.check_repeated(shared.bytes, records.len())?;
    for record in records {
        let Some(mut message) = batch.object(record) else { continue };
        shared.complete(&mut message);
        complete(&mut message);
        batch.push(&message)?;
    }
    if batch.is_empty() { Err(EMPTY) } else { Ok(()) }
}

/// Reads the message in the query of a pixel: `data=` with JSON or base64 of it, or fields with dotted names.
///
/// # Errors
///
/// Fails if the query has no readable message, or the message is too large.
pub fn in_query(inbound: &BeaconRequest<'_>) -> Result<JsonObject, BeaconDecodeError> {
    let fields = FormFields::form(inbound.query);
    if let Some(data) = fields.get("data") {
        let data = data.trim();
        let decoded = if is_json(data.as_bytes()) { None } else { base64(data) };
        let text = decoded.as_deref().unwrap_or(data.as_bytes()).trim_ascii();
        return match tree(text, &inbound.bounds) {
            Ok(Value::Object(message)) => Ok(message),
            Err(BeaconDecodeError::TooLarge) => Err(BeaconDecodeError::TooLarge),
            _ => Err(BeaconDecodeError::Malformed("data is not a JSON object, nor base64 of one")),
        };
    }
    let mut message = JsonObject::new();
    for (name, value) in fields.iter() {
        insert_dotted(&mut message, name, value);
    }
    if message.is_empty() {
        Err(BeaconDecodeError::Malformed("there is no message in the query"))
    } else {
        Ok(message)
    }
}

/// The members of a body that apply to all its messages.
#[derive(Default)]
struct BatchDefaults {
    sent_at: Option<Value>,
    objects: [(&'static str, Option<JsonObject>); 2],
    bytes: usize,
}

impl BatchDefaults {
    fn read(of_all: [Option<&[u8]>; 3], batch: &MessageBatch) -> Result<Self, BeaconDecodeError> {
        let parse = |json: Option<&[u8]>| match json {
            Some(json) => tree(json, &batch.bounds()).map(Some),
            None => Ok(None),
        };
        let object = |raw| match parse(raw)? {
            Some(Value::Object(object)) => Ok(Some(object)),
            _ => Ok(None),
        };
        let [sent_at, context, integrations] = of_all;
        let bytes = of_all.into_iter().flatten().map(<[u8]>::len).sum();
        let sent_at = parse(sent_at)?.filter(|value| !is_blank(value));
        let objects = [("context", object(context)?), ("integrations", object(integrations)?)];
        Ok(Self { sent_at, objects, bytes })
    }

    /// Adds them to a message, where it does not have them itself.
    fn complete(&self, message: &mut JsonObject) {
        if let Some(sent_at) = &self.sent_at
            && message.get("sentAt").is_none_or(Value::is_null)
        {
            message.insert("sentAt".to_owned(), sent_at.clone());
        }
        for (name, all) in &self.objects {
            let Some(all) = all else { continue };
            let merged = match message.shift_remove(*name) {
                Some(Value::Object(own)) => {
                    let mut merged = all.clone();
                    merged.extend(own);
                    Value::Object(merged)
                }
                // A value that is no object is replaced.
                _ => Value::Object(all.clone()),
            };
            message.insert((*name).to_owned(), merged);
        }
    }
}

/// Makes a message of such a client canonical. `kind` is the only kind that its endpoint takes, if there is
/// one.
pub fn canonicalize(message: &mut JsonObject, kind: Option<EventKind>, client: &'static str) {
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
pub fn assign_daily_id(message: &mut JsonObject, inbound: &BeaconRequest<'_>) {
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

    /// A client of the spec that changes nothing.
    struct PlainSpecBeacon;

    impl Beacon for PlainSpecBeacon {
        fn endpoint(&self, _path: &str) -> Option<AllowedMethods> {
            Some(AllowedMethods::Both)
        }

        fn read(
            &self,
            inbound: &BeaconRequest<'_>,
            batch: &mut MessageBatch,
        ) -> Result<(), BeaconDecodeError> {
            if inbound.body.is_empty() {
                return batch.push(&in_query(inbound)?);
            }
            super::read(inbound, batch, |_| {})
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
        let (a, b) = (json!({ "type": "page" }), json!({ "type": "track" }));
        assert_eq!(read_all(&a), json!([a]));
        assert_eq!(read_all(&json!([a, 7, b])), json!([a, b]));
        assert_eq!(read_all(&json!({ "batch": [a, null, b], "writeKey": "k" })), json!([a, b]));
        for bad in ["x", "7", "[]", "{\"batch\":[]}", "{\"batch\":7}", "{", "[1]"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shared_members_of_a_body_are_added_to_each_message() {
        let body = json!({
            "batch": [
                { "a": 1 },
                { "sentAt": "own", "context": { "ip": "own" }, "integrations": { "x": false } },
                { "context": "wrong" },
            ],
            "sentAt": "all", "context": { "ip": "all", "os": "x" }, "integrations": { "All": true },
        });
        assert_eq!(
            read_all(&body),
            json!([
                { "a": 1, "sentAt": "all", "context": { "ip": "all", "os": "x" },
                  "integrations": { "All": true } },
                { "sentAt": "own", "context": { "ip": "own", "os": "x" },
                  "integrations": { "All": true, "x": false } },
                { "context": { "ip": "all", "os": "x" }, "sentAt": "all", "integrations": { "All": true } },
            ])
        );
        let text = "x".repeat(BOUNDS.event_bytes);
        for long in [json!({ "context": { "a": text } }), json!({ "sentAt": text })] {
            let batch = |count| {
                let mut body = long.clone();
                body["batch"] = json!(vec![json!({}); count]);
                read(&body.to_string()).map(|messages| messages.len())
            };
            assert_eq!((batch(4), batch(100)), (Ok(4), Err(BeaconDecodeError::TooLarge)));
        }
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
        let message = json!({ "event": "a>>?", "properties": { "n": 1 } });
        let text = message.to_string();
        for data in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text), text.clone()] {
            assert_eq!(in_the_query(&format!("data={data}")), Ok(message.clone()));
        }
        assert_eq!(in_the_query("event=a%3E%3E?&properties.n=1"), Ok(message));
        for bad in ["", "data=x", "data=[]", "data=***"] {
            assert!(in_the_query(bad).is_err(), "{bad}");
        }
    }
}
