//! Canonical messages under construction.

use jiff::Timestamp;
use serde_json::Value;

use super::value::scalar_text;
use tagway_core::event::{EventKind, JsonObject, is_identifying_id};
use tagway_core::values::time::read_event_time;

/// Returns true if a value has no content: null, empty, or blank.
pub fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The usual number of members of a message.
const MEMBERS: usize = 8;

/// The usual number of members of a context or of properties: an object that grows from nothing would move
/// three times.
const ROOM: usize = 14;

/// Makes an object with room for several members.
pub fn preallocated_object() -> JsonObject {
    JsonObject::with_capacity(ROOM)
}

/// A message of the Segment spec. Members without content are left out.
#[derive(Clone, Debug)]
pub struct CanonicalMessage(JsonObject);

/// Puts a member, if it has content.
pub fn put(object: &mut JsonObject, name: &str, value: Option<impl Into<Value>>) {
    let Some(value) = value.map(Into::into) else { return };
    if !is_blank(&value) {
        object.insert(name.to_owned(), value);
    }
}

/// Removes a member and returns it if it is an object; any other value is dropped.
pub fn take(object: &mut JsonObject, name: &str) -> JsonObject {
    match object.shift_remove(name) {
        Some(Value::Object(member)) => member,
        _ => JsonObject::new(),
    }
}

impl CanonicalMessage {
    /// Makes a message of this kind.
    pub fn new(kind: EventKind) -> Self {
        let mut object = JsonObject::with_capacity(MEMBERS);
        object.insert("type".to_owned(), kind.name().into());
        Self(object)
    }

    /// Makes a track message of this name.
    pub fn track(event: &str) -> Self {
        Self::new(EventKind::Track).with("event", Some(event))
    }

    /// Adds a member, if it has content.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        put(&mut self.0, name, value);
        self
    }

    /// Adds an id, if it identifies someone.
    #[must_use]
    pub fn with_id(self, name: &str, id: Option<&str>) -> Self {
        let id = id.map(str::trim).filter(|id| is_identifying_id(id));
        self.with(name, id)
    }

    /// Adds a time, if there is one.
    #[must_use]
    pub fn at(self, name: &str, time: Option<Timestamp>) -> Self {
        self.with(name, time.map(|time| time.to_string()))
    }

    /// Adds a time as the client wrote it. An unreadable one stays as it is, for the gateway to count.
    #[must_use]
    pub fn when(self, name: &str, written: Option<&Value>) -> Self {
        let Some(text) = written.and_then(scalar_text) else { return self };
        match read_event_time(&text) {
            Some(time) => self.at(name, Some(time)),
            None => self.with(name, Some(text.into_owned())),
        }
    }

    /// Returns true if it has this member already.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns the finished message.
    pub fn finish(self) -> JsonObject {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_without_content_are_left_out() {
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
