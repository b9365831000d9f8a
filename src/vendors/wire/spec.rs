//! Clients that speak the Segment spec themselves (`contracts/beacons.md` 7): a body is one message, a
//! list of them, or an object whose `batch` is one.
//!
//! Such messages are what the gateway takes. Here they are only rid of what these clients write where
//! there is nothing to say, and of what was meant for their own servers; the gateway judges the rest.

use http::header::{COOKIE, ORIGIN};
use serde_json::Value;

use super::{Fields, base64, json, names_somebody, place, put, says_nothing};
use crate::event::{Kind, Object};
use crate::vendors::beacon::{Inbound, Malformed};

/// Members that name somebody.
const IDS: [&str; 4] = ["userId", "anonymousId", "groupId", "previousId"];

/// Members that say nothing of the event, but something to the client's own server.
const TRANSPORT: [&str; 4] = ["writeKey", "_metadata", "channel", "receivedAt"];

/// The messages of a body. Those that are no objects are left out.
///
/// What the body says for all its messages becomes part of each: no more than `max_bytes` in all.
pub fn read(body: &[u8], max_bytes: usize) -> Result<Vec<Object>, Malformed> {
    let messages = match json(body) {
        Some(Value::Object(mut body)) => match body.shift_remove("batch") {
            None => vec![body],
            Some(Value::Array(items)) => shared(objects(items), body, max_bytes)?,
            Some(_) => return Err(Malformed("batch is not a list")),
        },
        Some(Value::Array(items)) => objects(items),
        _ => return Err(Malformed("the body is neither a JSON object nor a list")),
    };
    if messages.is_empty() {
        return Err(Malformed("there is no message in the body"));
    }
    Ok(messages)
}

/// The message in the query of a pixel: `data=` with JSON or base64 of it, or fields with dotted names.
pub fn in_query(query: &str) -> Result<Object, Malformed> {
    let fields = Fields::form(query);
    if let Some(data) = fields.get("data") {
        let data = data.trim();
        let value = match json(data.as_bytes()) {
            Some(value) => Some(value),
            None => base64(data).and_then(|bytes| json(bytes.trim_ascii())),
        };
        let Some(Value::Object(message)) = value else {
            return Err(Malformed("data is not a JSON object, nor base64 of one"));
        };
        return Ok(message);
    }
    let mut message = Object::new();
    for (name, value) in fields.iter() {
        place(&mut message, name, value);
    }
    if message.is_empty() {
        Err(Malformed("there is no message in the query"))
    } else {
        Ok(message)
    }
}

fn objects(items: Vec<Value>) -> Vec<Object> {
    let objects = items.into_iter().filter_map(|item| match item {
        Value::Object(object) => Some(object),
        _ => None,
    });
    objects.collect()
}

/// Messages with what their body says for all of them, where they do not say it themselves.
fn shared(
    mut messages: Vec<Object>,
    mut body: Object,
    max_bytes: usize,
) -> Result<Vec<Object>, Malformed> {
    if let Some(sent_at) = body.get("sentAt").filter(|value| !says_nothing(value)) {
        check(sent_at, messages.len(), max_bytes)?;
        for message in &mut messages {
            if message.get("sentAt").is_none_or(Value::is_null) {
                message.insert("sentAt".to_owned(), sent_at.clone());
            }
        }
    }
    for name in ["context", "integrations"] {
        let Some(Value::Object(all)) = body.get_mut(name).map(Value::take) else { continue };
        let all = Value::Object(all);
        check(&all, messages.len(), max_bytes)?;
        for message in &mut messages {
            let own = message.shift_remove(name);
            let mut merged = all.clone();
            match (&mut merged, own) {
                (Value::Object(merged), Some(Value::Object(own))) => merged.extend(own),
                (_, None | Some(Value::Null)) => {}
                // The gateway says what is wrong with it.
                (merged, Some(other)) => *merged = other,
            }
            message.insert(name.to_owned(), merged);
        }
    }
    Ok(messages)
}

fn check(value: &Value, messages: usize, max_bytes: usize) -> Result<(), Malformed> {
    let bytes = serde_json::to_vec(value).map_or(usize::MAX, |text| text.len());
    if bytes.saturating_mul(messages) > max_bytes {
        return Err(Malformed("what the body says of all its messages is too long"));
    }
    Ok(())
}

/// Makes a message of such a client canonical. `kind` is what its endpoint takes, if only one.
pub fn mend(message: &mut Object, kind: Option<Kind>, client: &'static str) {
    if let Some(kind) = kind {
        message.insert("type".to_owned(), kind.name().into());
    }
    let original = message.shift_remove("originalTimestamp");
    if message.get("timestamp").is_none_or(says_nothing) {
        put(message, "timestamp", original);
    }
    message.retain(|name, value| {
        if IDS.contains(&name.as_str()) {
            unquote(value);
            return !value.is_null() && value.as_str().is_none_or(names_somebody);
        }
        !value.is_null() && !TRANSPORT.contains(&name.as_str())
    });
    if message.get("type").and_then(Value::as_str).and_then(Kind::from_name).is_none() {
        // Nobody will take it, so nothing is added to it.
        return;
    }
    let context = message.entry("context").or_insert_with(|| Value::Object(Object::new()));
    let Value::Object(context) = context else { return };
    context.retain(|_, value| !says_nothing(value));
    let mut source = Object::new();
    put(&mut source, "client", Some(client));
    let version = context.get("library").and_then(|library| library.get("version"));
    put(&mut source, "version", version.filter(|version| version.is_string()).cloned());
    put(context, "source", Some(source));
}

/// Names the visitor of messages that name nobody, for this day, where no cookie of the gateway's can:
/// these clients send none to another origin than the page's.
pub fn name_nobodies(messages: &mut [Object], inbound: &Inbound<'_>) {
    let is_same_origin = inbound.field("sec-fetch-site") == Some("same-origin");
    let is_cookieless = !inbound.headers.contains_key(COOKIE) && !is_same_origin;
    // A server would have to say whose its messages are.
    if !is_cookieless || !inbound.headers.contains_key(ORIGIN) {
        return;
    }
    for message in messages {
        if !message.contains_key("userId") && !message.contains_key("anonymousId") {
            put(message, "anonymousId", Some(inbound.daily_id));
        }
    }
}

/// A member of a message that is an object.
pub fn object_in<'m>(message: &'m mut Object, name: &str) -> Option<&'m mut Object> {
    message.get_mut(name).and_then(Value::as_object_mut)
}

/// Old libraries kept ids as JSON in their cookies, and send them so.
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
    use serde_json::json;

    use super::*;

    fn read_all(body: &Value) -> Value {
        Value::from_iter(read(body.to_string().as_bytes(), 1000).unwrap())
    }

    #[test]
    fn one_message_a_list_or_a_batch() {
        let (a, b) = (json!({ "type": "page" }), json!({ "type": "track" }));
        assert_eq!(read_all(&a), json!([a]));
        assert_eq!(read_all(&json!([a, 7, b])), json!([a, b]));
        assert_eq!(read_all(&json!({ "batch": [a, null, b], "writeKey": "k" })), json!([a, b]));
        for bad in ["", "x", "7", "[]", "{\"batch\":[]}", "{\"batch\":7}", "{", "[1]"] {
            assert!(read(bad.as_bytes(), 1000).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_a_body_says_of_all_is_said_by_each() {
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
                { "context": "wrong", "sentAt": "all", "integrations": { "All": true } },
            ])
        );
        let long = json!({ "batch": vec![json!({}); 20], "context": { "a": "x".repeat(50) } });
        assert!(read(long.to_string().as_bytes(), 1000).is_err());
        let long = json!({ "batch": vec![json!({}); 20], "sentAt": "x".repeat(50) });
        assert!(read(long.to_string().as_bytes(), 1000).is_err());
    }

    #[test]
    fn a_message_is_mended_where_it_deviates_only() {
        let mut message = json!({
            "type": "track", "event": "E", "userId": null, "anonymousId": "\"a1\"", "groupId": "",
            "previousId": 7, "originalTimestamp": "t", "writeKey": "k", "_metadata": {},
            "properties": { "empty": "", "none": null },
            "context": { "traits": {}, "campaign": {}, "library": { "version": "1" }, "os": "x" },
        });
        let Value::Object(message) = &mut message else { unreachable!() };
        mend(message, None, "segment");
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
        mend(other.as_object_mut().unwrap(), None, "segment");
        assert_eq!(other, json!({ "type": "x", "timestamp": "t" }));
        mend(other.as_object_mut().unwrap(), Some(Kind::Page), "segment");
        assert_eq!(other["type"], "page");
    }

    #[test]
    fn a_pixel_has_data_or_dotted_names() {
        let message = json!({ "event": "a>>?", "properties": { "n": 1 } });
        let text = message.to_string();
        for data in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text), text.clone()] {
            assert_eq!(Value::Object(in_query(&format!("data={data}")).unwrap()), message);
        }
        let dotted = in_query("event=a%3E%3E?&properties.n=1").unwrap();
        assert_eq!(Value::Object(dotted), message);
        for bad in ["", "data=x", "data=[]", "data=***"] {
            assert!(in_query(bad).is_err(), "{bad}");
        }
    }
}
