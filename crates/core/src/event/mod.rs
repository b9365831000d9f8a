//! The canonical event: every beacon decodes to it and every destination maps from it.
//!
//! The shape is the Segment spec's message plus [`EventFacts`], the gateway's own observations. The
//! model does no I/O, contains no vendor words, and is the journal's record format (JSON, camelCase),
//! so a field may be added but never renamed or given another meaning.
//!
//! The object fields (`properties`, `traits`, `context`, `integrations`) come in two
//! representations. The request path stores them as the client's own text ([`RawJsonObject`]): they are
//! validated once and copied, never built into trees. Readers of the journal parse the same record
//! into [`JsonObject`] trees.

mod computed;
mod dropped;
mod enriched;
mod facts;
pub mod identity;
mod members;
mod placeholder_ids;
mod rank;

pub use computed::{ComputedAttributes, EventTally};
pub use dropped::{DroppedField, DroppedFields, FieldDropReason};
pub use enriched::{EnrichedEvent, ProfileView};
pub use facts::{
    AdClickId, BotSuspicion, ClientHints, EventFacts, GeoLocation, RawBeacon, UtmCampaign,
    VisitorIdentity, VisitorSession,
};
pub use members::RawMembers;
pub use placeholder_ids::{is_identifying_id, is_placeholder};
pub use rank::SenderRank;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// The format, in an event's facts, of events that report a segment's members to destinations: no visitor
/// caused them.
pub const MEMBERSHIP: &str = "membership";

/// A JSON object as a tree, in the order the client wrote it.
pub type JsonObject = serde_json::Map<String, serde_json::Value>;

/// The kind of an event. The names are the Segment spec's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A named action: `event` is its name.
    Track,
    /// A web page was viewed.
    Page,
    /// An app screen was viewed.
    Screen,
    /// The traits of the visitor.
    Identify,
    /// The visitor belongs to a group; `traits` are the group's.
    Group,
    /// `previous_id` and `user_id` are the same person.
    Alias,
}

impl EventKind {
    /// Every kind, in the order of the Segment spec.
    pub const ALL: [Self; 6] =
        [Self::Track, Self::Page, Self::Screen, Self::Identify, Self::Group, Self::Alias];

    /// Returns the wire name, as in the `type` field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Identify => "identify",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }

    /// Returns the kind with this wire name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One canonical event. `O` is the representation of the object fields: [`JsonObject`] for readers,
/// [`RawJsonObject`] on the request path.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "O: Deserialize<'de>"))]
pub struct Event<O = JsonObject> {
    /// The kind of the event.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Unique per event: the dedupe key everywhere. Issued by the gateway when the client sent none.
    pub message_id: String,
    /// The name of a track event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The name of a page or screen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The category of a page or screen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The id by which the site knows the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The device or browser's own id; the first-party cookie's when the client sent none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous_id: Option<String>,
    /// The group of a group event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// The older id of an alias event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_id: Option<String>,
    /// The time of the event, corrected for the client's clock skew. Never after `received_at`.
    pub timestamp: Timestamp,
    /// The time when the gateway received it.
    pub received_at: Timestamp,
    /// The client's own clock at the event, uncorrected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_timestamp: Option<Timestamp>,
    /// The client's own clock when it sent the beacon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// The properties of the event (track, page, screen).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<O>,
    /// The traits of the person (identify) or the group (group).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traits: Option<O>,
    /// The client's report of its environment. Not trusted: see [`EventFacts`] for what was observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<O>,
    /// Per-destination switches and options, by the destination's public name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub integrations: Option<O>,
    /// The facts that the gateway observed when the event arrived.
    #[serde(default)]
    pub facts: EventFacts,
}

impl<O> Event<O> {
    /// Returns the name that event globs and reports use: the track name, or the kind for the others.
    pub fn label(&self) -> &str {
        match (self.kind, &self.event) {
            (EventKind::Track, Some(event)) => event,
            _ => self.kind.name(),
        }
    }

    /// Returns the id whose events must stay in order: the device's, else the user's, else the event's own.
    pub fn order_key(&self) -> &str {
        self.anonymous_id.as_deref().or(self.user_id.as_deref()).unwrap_or(self.message_id.as_str())
    }
}

/// The client's own JSON text of an object: checked to be an object, otherwise not parsed.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct RawJsonObject(Box<RawValue>);

impl RawJsonObject {
    /// Wraps a value that is a JSON object; `None` for any other value.
    pub fn new(value: &RawValue) -> Option<Self> {
        value.get().starts_with('{').then(|| Self(value.to_owned()))
    }

    /// Writes an object; `None` if it has no JSON text.
    pub fn of(object: &JsonObject) -> Option<Self> {
        to_raw_value(object).ok().map(Self)
    }

    /// The object's JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// Parses the object into a tree.
    ///
    /// # Errors
    ///
    /// Returns the parser's error if the text is not valid JSON.
    pub fn parse(&self) -> Result<JsonObject, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl fmt::Debug for RawJsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip_through_their_names() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
        assert_eq!(EventKind::from_name("Track"), None);
    }

    #[test]
    fn raw_object_accepts_objects_only() {
        let number: Box<RawValue> = serde_json::from_str("12").unwrap();
        assert!(RawJsonObject::new(&number).is_none());
        let object: Box<RawValue> = serde_json::from_str(r#" {"a": 1} "#).unwrap();
        assert_eq!(RawJsonObject::new(&object).unwrap().text(), r#"{"a": 1}"#);
    }
}
