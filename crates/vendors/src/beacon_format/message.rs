//! Canonical messages: those of the Segment spec, typed. Their objects are trees while a beacon is read, one
//! message at a time.

use std::io;

use jiff::Timestamp;
use serde::Serialize;
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

/// The usual number of members of a context or of properties: an object that grows from nothing would move
/// three times.
const ROOM: usize = 14;

/// Makes an object with room for several members.
pub fn preallocated_object() -> JsonObject {
    JsonObject::with_capacity(ROOM)
}

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

/// Returns the length of a value's JSON text, without making it.
pub(super) fn json_bytes(value: &impl Serialize) -> usize {
    struct ByteCount(usize);
    impl io::Write for ByteCount {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_add(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = ByteCount(0);
    // What is no JSON has no text.
    serde_json::to_writer(&mut count, value).map_or(usize::MAX, |()| count.0)
}

/// A message of the Segment spec. `O` is the representation of its objects, as in an event.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct CanonicalMessage<O = JsonObject> {
    /// The kind of the event.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The names, the ids and the times.
    #[serde(flatten)]
    pub head: MessageHead,
    /// The objects.
    #[serde(flatten)]
    pub objects: MessageObjects<O>,
}

/// The members of a message that are no objects, as the client wrote them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageHead {
    /// The client's id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The name of a track event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The name of a page or screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The category of a page or screen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The id by which the site knows the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The device's or browser's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_id: Option<String>,
    /// The group of a group event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// The older id of an alias event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_id: Option<String>,
    /// The time of the event by the client's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<MessageTime>,
    /// The time of sending by the client's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// The login proofs among the message's own members.
    #[serde(skip)]
    pub proofs: Vec<Box<str>>,
    /// The vendor whose shim sent the message.
    #[serde(skip)]
    pub shim: Option<&'static str>,
    /// True if a member has the wrong type, and is left out.
    #[serde(skip)]
    pub has_wrong_type: bool,
}

/// The objects of a message.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MessageObjects<O> {
    /// The properties of a track, page or screen event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub properties: Option<O>,
    /// The traits of a person or a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traits: Option<O>,
    /// The client's report of its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<O>,
    /// Switches and options for each destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integrations: Option<O>,
}

/// The fault for which a message is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageFault {
    /// The client's id of the message, if it has one.
    pub message_id: Option<String>,
    /// The reason: a code from the source.
    pub reason: &'static str,
}

impl From<&'static str> for MessageFault {
    fn from(reason: &'static str) -> Self {
        Self { message_id: None, reason }
    }
}

/// A rejected message, as its sender sees it in the response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RejectedMessage {
    /// The message's index in the request.
    pub index: usize,
    /// The message's id, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// The reason: a code from the source.
    pub reason: &'static str,
}

impl<O> MessageObjects<O> {
    /// Returns the objects in another representation.
    ///
    /// # Errors
    ///
    /// Fails if one cannot be converted.
    pub fn try_map<P, E>(
        self,
        mut convert: impl FnMut(O) -> Result<P, E>,
    ) -> Result<MessageObjects<P>, E> {
        let mut convert = |object: Option<O>| object.map(&mut convert).transpose();
        Ok(MessageObjects {
            properties: convert(self.properties)?,
            traits: convert(self.traits)?,
            context: convert(self.context)?,
            integrations: convert(self.integrations)?,
        })
    }
}

/// The time of an event as its client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MessageTime {
    /// A time.
    Read(Timestamp),
    /// A text that is no time, which the gateway counts.
    Unreadable(Box<str>),
}

impl MessageTime {
    /// Reads a time; `None` if the text is blank.
    pub fn read(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return None;
        }
        Some(read_event_time(text).map_or_else(|| Self::Unreadable(text.into()), Self::Read))
    }

    /// Returns the time, if it is readable.
    pub fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::Read(time) => Some(*time),
            Self::Unreadable(_) => None,
        }
    }
}

/// Returns the object, if it has members.
fn filled(object: JsonObject) -> Option<JsonObject> {
    (!object.is_empty()).then_some(object)
}

/// Returns an id, if it identifies someone.
fn real_id(id: Option<&str>) -> Option<String> {
    id.map(str::trim).filter(|id| is_identifying_id(id)).map(str::to_owned)
}

/// Members without content are left out.
impl CanonicalMessage {
    /// Makes a message of this kind.
    pub fn new(kind: EventKind) -> Self {
        Self { kind, head: MessageHead::default(), objects: MessageObjects::default() }
    }

    /// Makes a track message of this name.
    pub fn track(event: &str) -> Self {
        let mut message = Self::new(EventKind::Track);
        message.head.event = (!event.trim().is_empty()).then(|| event.to_owned());
        message
    }

    /// Sets the message's id.
    pub fn with_message_id(mut self, id: Option<String>) -> Self {
        self.head.message_id = id;
        self
    }

    /// Sets the name of a page or screen.
    pub fn with_name(mut self, name: Option<String>) -> Self {
        self.head.name = name.filter(|name| !name.trim().is_empty());
        self
    }

    /// Sets the ids of the user and the device, each if it identifies someone.
    pub fn with_ids(mut self, user_id: Option<&str>, anonymous_id: Option<&str>) -> Self {
        self.head.user_id = real_id(user_id);
        self.head.anonymous_id = real_id(anonymous_id);
        self
    }

    /// Sets the group's id, if it identifies one.
    pub fn with_group_id(mut self, id: Option<&str>) -> Self {
        self.head.group_id = real_id(id);
        self
    }

    /// Sets the older id of an alias, if it identifies someone.
    pub fn with_previous_id(mut self, id: Option<&str>) -> Self {
        self.head.previous_id = real_id(id);
        self
    }

    /// Sets the time of the event, if there is one.
    pub fn at(mut self, time: Option<Timestamp>) -> Self {
        self.head.timestamp = time.map(MessageTime::Read);
        self
    }

    /// Sets the time of the event as the client wrote it.
    pub fn when(mut self, written: Option<&Value>) -> Self {
        let text = written.and_then(scalar_text);
        self.head.timestamp = text.and_then(|text| MessageTime::read(&text));
        self
    }

    /// Sets the time of sending, if there is one.
    pub fn sent_at(mut self, time: Option<Timestamp>) -> Self {
        self.head.sent_at = time;
        self
    }

    /// Sets the properties.
    pub fn with_properties(mut self, properties: JsonObject) -> Self {
        self.objects.properties = filled(properties);
        self
    }

    /// Sets the traits.
    pub fn with_traits(mut self, traits: JsonObject) -> Self {
        self.objects.traits = filled(traits);
        self
    }

    /// Sets the context.
    pub fn with_context(mut self, context: JsonObject) -> Self {
        self.objects.context = filled(context);
        self
    }

    /// Sets the options of destinations.
    pub fn with_integrations(mut self, integrations: JsonObject) -> Self {
        self.objects.integrations = filled(integrations);
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_without_content_are_left_out() {
        let mut context = JsonObject::new();
        put(&mut context, "ip", Some(json!({ "is": "" })));
        put(&mut context, "locale", Some(" "));
        let message = CanonicalMessage::track("Order Completed")
            .with_ids(Some("undefined"), Some(" a1 "))
            .at(Some(Timestamp::UNIX_EPOCH))
            .sent_at(None)
            .with_properties(JsonObject::new())
            .with_name(Some(String::new()))
            .with_context(context);
        let expected = json!({
            "type": "track", "event": "Order Completed", "anonymousId": "a1",
            "timestamp": "1970-01-01T00:00:00Z", "context": { "ip": { "is": "" } },
        });
        assert_eq!(serde_json::to_value(&message).unwrap(), expected);
        assert_eq!(json_bytes(&message), serde_json::to_string(&message).unwrap().len());
    }

    #[test]
    fn unreadable_times_stay_as_they_are_and_blank_ones_are_left_out() {
        let time =
            |written: Value| CanonicalMessage::track("e").when(Some(&written)).head.timestamp;
        assert_eq!(time(json!("soon")), Some(MessageTime::Unreadable("soon".into())));
        let read = time(json!(1_795_434_250)).and_then(|time| time.timestamp());
        assert_eq!(read.map(|time| time.as_second()), Some(1_795_434_250));
        assert_eq!((time(json!(" ")), time(json!([]))), (None, None));
    }
}
