//! Canonical messages in the making.

use jiff::Timestamp;
use serde_json::Value;

use super::value::scalar_text;
use crate::event::{EventKind, JsonObject, names_somebody};
use crate::values::time::read_event_time;

/// True if a value is as good as none: null, empty, or blank.
pub fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Members of a usual message.
const MEMBERS: usize = 8;

/// Members of a usual context or list of properties: grown from nothing, it would move three times.
const ROOM: usize = 14;

/// An object that will have several members.
pub fn preallocated_object() -> JsonObject {
    JsonObject::with_capacity(ROOM)
}

/// A message of the Segment spec. Members are left out where there is nothing to say.
#[derive(Clone, Debug)]
pub struct CanonicalMessage(JsonObject);

/// Puts a member where there is something to say.
pub fn put(object: &mut JsonObject, name: &str, value: Option<impl Into<Value>>) {
    let Some(value) = value.map(Into::into) else { return };
    if !says_nothing(&value) {
        object.insert(name.to_owned(), value);
    }
}

/// Takes a member that is an object out; what is none is dropped, and nothing in it.
pub fn take(object: &mut JsonObject, name: &str) -> JsonObject {
    match object.shift_remove(name) {
        Some(Value::Object(member)) => member,
        _ => JsonObject::new(),
    }
}

impl CanonicalMessage {
    /// A message of this kind.
    pub fn new(kind: EventKind) -> Self {
        let mut object = JsonObject::with_capacity(MEMBERS);
        object.insert("type".to_owned(), kind.name().into());
        Self(object)
    }

    /// A track message of this name.
    pub fn track(event: &str) -> Self {
        Self::new(EventKind::Track).with("event", Some(event))
    }

    /// With a member, if there is something to say.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        put(&mut self.0, name, value);
        self
    }

    /// With an id that names somebody.
    #[must_use]
    pub fn with_id(self, name: &str, id: Option<&str>) -> Self {
        let id = id.map(str::trim).filter(|id| names_somebody(id));
        self.with(name, id)
    }

    /// With a time.
    #[must_use]
    pub fn at(self, name: &str, time: Option<Timestamp>) -> Self {
        self.with(name, time.map(|time| time.to_string()))
    }

    /// With a time as the client wrote it. What cannot be read goes on as it is, for the gateway to count.
    #[must_use]
    pub fn when(self, name: &str, written: Option<&Value>) -> Self {
        let Some(text) = written.and_then(scalar_text) else { return self };
        match read_event_time(&text) {
            Some(time) => self.at(name, Some(time)),
            None => self.with(name, Some(text.into_owned())),
        }
    }

    /// Whether it has this member by now.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The message.
    pub fn finish(self) -> JsonObject {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_left_out() {
        let message = CanonicalMessage::track("Order Completed")
            .with_id("userId", Some("undefined"))
            .with_id("anonymousId", Some(" a1 "))
            .at("timestamp", Some(Timestamp::UNIX_EPOCH))
            .at("sentAt", None)
            .with("properties", Some(JsonObject::new()))
            .with("name", Some(""))
            .with("context", Some(json!({ "ip": "" })));
        assert_eq!(
            Value::Object(message.finish()),
            json!({
                "type": "track", "event": "Order Completed", "anonymousId": "a1",
                "timestamp": "1970-01-01T00:00:00Z", "context": { "ip": "" },
            })
        );
    }
}
