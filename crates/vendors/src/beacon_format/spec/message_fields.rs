//! The members of a message as the client wrote them, in a text or in a tree.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::loose_text::LooseText;
use crate::beacon_format::message::{
    CanonicalMessage, MessageFault, MessageHead, MessageObjects, MessageTime,
};
use tagway_core::event::{EventKind, JsonObject, RawJsonObject, RawMembers};
use tagway_core::values::time::read_event_time;

/// The members of a message, or of a body that has messages. `O` is the representation of those that should be
/// objects: unread text, or a tree.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageFields<'a, O> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) message_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) event: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) name: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) category: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) user_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) anonymous_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) group_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) previous_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) timestamp: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) original_timestamp: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) sent_at: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) write_key: LooseText<'a>,
    pub(super) properties: Option<O>,
    pub(super) traits: Option<O>,
    pub(super) context: Option<O>,
    pub(super) integrations: Option<O>,
    pub(super) batch: Option<O>,
    /// The vendor whose terms the message uses, if a shim wrote it.
    #[serde(borrow, default)]
    pub(super) shim: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) proof: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) user_hash: LooseText<'a>,
    #[serde(borrow, default, rename = "user_hash")]
    pub(super) user_hash_2: LooseText<'a>,
}

/// A member that should be an object.
pub(super) trait ObjectMember: Sized {
    /// The representation of an object.
    type Object;

    /// Returns the object; `None` for a value of another type.
    fn into_object(self) -> Option<Self::Object>;

    /// Returns true for an object, and for what some clients write for an empty one: PHP writes a list.
    fn is_object_or_empty(&self) -> bool;
}

impl ObjectMember for &RawValue {
    type Object = RawJsonObject;

    fn into_object(self) -> Option<RawJsonObject> {
        RawJsonObject::new(self)
    }

    fn is_object_or_empty(&self) -> bool {
        self.get().starts_with('{') || matches!(self.get(), "[]" | "\"\"" | "false")
    }
}

impl ObjectMember for Value {
    type Object = JsonObject;

    fn into_object(self) -> Option<JsonObject> {
        match self {
            Self::Object(object) => Some(object),
            _ => None,
        }
    }

    fn is_object_or_empty(&self) -> bool {
        match self {
            Self::Object(_) | Self::Bool(false) => true,
            Self::Array(items) => items.is_empty(),
            Self::String(text) => text.is_empty(),
            _ => false,
        }
    }
}

impl CanonicalMessage {
    /// Reads the message in a tree, of this kind if its route implies one. A shim may have written it in its
    /// vendor's terms.
    ///
    /// # Errors
    ///
    /// Fails with the message's fault.
    pub fn of_object(
        mut object: JsonObject,
        kind: Option<EventKind>,
    ) -> Result<Self, MessageFault> {
        let vendor = object.get("shim").and_then(|name| crate::find(name.as_str()?));
        let vendor = vendor.filter(|vendor| vendor.shim.is_some());
        if let Some(to_canonical) = vendor.and_then(|vendor| vendor.shim?.to_canonical) {
            to_canonical(&mut object);
        }
        let fields = MessageFields::<Value>::deserialize(Value::Object(object));
        let fields = fields.map_err(|_invalid| MessageFault::from("malformed"))?;
        let mut message = fields.into_message(kind)?;
        message.head.shim = vendor.map(|vendor| vendor.name);
        Ok(message)
    }
}

impl<O: ObjectMember> MessageFields<'_, O> {
    /// Returns the message, of this kind if its route implies one.
    ///
    /// # Errors
    ///
    /// Fails with the reason if its own kind is missing or unknown.
    pub(super) fn into_message(
        self,
        kind: Option<EventKind>,
    ) -> Result<CanonicalMessage<O::Object>, MessageFault> {
        let kind = match (kind, self.kind.text()) {
            (Some(kind), _) => kind,
            (None, None) => return Err(self.fault("missing_type")),
            (None, Some(name)) => {
                EventKind::from_name(name).ok_or_else(|| self.fault("unknown_type"))?
            }
        };
        let has_wrong_type = self.has_wrong_type();
        let mut written = [&self.timestamp, &self.original_timestamp].into_iter();
        let proofs = [&self.proof, &self.user_hash, &self.user_hash_2].into_iter();
        let proofs = proofs.filter_map(LooseText::text).filter(|text| !text.is_empty());
        let head = MessageHead {
            kind,
            timestamp: written.find_map(|time| MessageTime::read(time.text()?)),
            sent_at: self.sent_at.text().and_then(read_event_time),
            proofs: proofs.map(Box::from).collect(),
            shim: None,
            has_wrong_type,
            message_id: self.message_id.into_text(),
            event: self.event.into_text(),
            name: self.name.into_text(),
            category: self.category.into_text(),
            user_id: self.user_id.into_text(),
            anonymous_id: self.anonymous_id.into_text(),
            group_id: self.group_id.into_text(),
            previous_id: self.previous_id.into_text(),
        };
        let object = |member: Option<O>| member.and_then(O::into_object);
        let objects = MessageObjects {
            properties: object(self.properties),
            traits: object(self.traits),
            context: object(self.context),
            integrations: object(self.integrations),
        };
        Ok(CanonicalMessage { head, objects })
    }

    /// Returns the fault of the message.
    pub(super) fn fault(&self, reason: &'static str) -> MessageFault {
        MessageFault { message_id: self.message_id.text().map(str::to_owned), reason }
    }

    /// Returns true if a member has the wrong type.
    fn has_wrong_type(&self) -> bool {
        let texts = [&self.event, &self.name, &self.category, &self.user_id];
        let ids = [&self.anonymous_id, &self.group_id, &self.previous_id, &self.message_id];
        let objects = [&self.properties, &self.traits, &self.context, &self.integrations];
        texts.into_iter().chain(ids).any(|field| *field == LooseText::Wrong)
            || objects.into_iter().flatten().any(|member| !member.is_object_or_empty())
    }
}

/// The keys of [`MessageFields`], as they appear in messages.
const FIELDS: &[&str] = &[
    "type",
    "messageId",
    "event",
    "name",
    "category",
    "userId",
    "anonymousId",
    "groupId",
    "previousId",
    "timestamp",
    "originalTimestamp",
    "sentAt",
    "writeKey",
    "properties",
    "traits",
    "context",
    "integrations",
    "batch",
    "shim",
    "proof",
    "userHash",
    "user_hash",
];

impl<'a> MessageFields<'a, &'a RawValue> {
    /// Reads the text of an object; `None` for any other text.
    pub(super) fn read(text: &'a str) -> Option<Box<Self>> {
        if !text.starts_with('{') {
            return None;
        }
        serde_json::from_str(text).ok().or_else(|| Self::read_repeated(text))
    }

    /// Reads an object with repeated keys. The last value of a key is used, as by every reader of the journal:
    /// otherwise one reader could act on a value that another ignores.
    fn read_repeated(text: &'a str) -> Option<Box<Self>> {
        let members = RawMembers::read(text, FIELDS)?;
        let loose = |name| match members.get(name) {
            Some(raw) => serde_json::from_str(raw.get()).ok(),
            None => Some(LooseText::Absent),
        };
        let object = |name| members.get(name).filter(|raw| raw.get() != "null");
        Some(Box::new(Self {
            kind: loose("type")?,
            message_id: loose("messageId")?,
            event: loose("event")?,
            name: loose("name")?,
            category: loose("category")?,
            user_id: loose("userId")?,
            anonymous_id: loose("anonymousId")?,
            group_id: loose("groupId")?,
            previous_id: loose("previousId")?,
            timestamp: loose("timestamp")?,
            original_timestamp: loose("originalTimestamp")?,
            sent_at: loose("sentAt")?,
            write_key: loose("writeKey")?,
            properties: object("properties"),
            traits: object("traits"),
            context: object("context"),
            integrations: object("integrations"),
            batch: object("batch"),
            shim: loose("shim")?,
            proof: loose("proof")?,
            user_hash: loose("userHash")?,
            user_hash_2: loose("user_hash")?,
        }))
    }
}
