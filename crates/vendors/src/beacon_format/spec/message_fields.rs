//! The members of a message as the client wrote them, in a text or in a tree.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::loose_text::LooseText;
use super::readable::is_readable;
use crate::Vendor;
use crate::beacon_format::message::{
    CanonicalMessage, MessageFault, MessageHead, MessageObjects, MessageTime,
};
use tagway_core::event::{EventKind, JsonObject, RawJsonObject};
use tagway_core::values::time::read_event_time;

/// The members of a message, or of a body that has messages. `O` is the representation of those that should be
/// objects: unread text, or a tree.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "'de: 'a, O: Deserialize<'de>"))]
pub(super) struct MessageFields<'a, O> {
    #[serde(rename = "type")]
    pub(super) kind: LooseText<'a>,
    pub(super) message_id: LooseText<'a>,
    pub(super) event: LooseText<'a>,
    pub(super) name: LooseText<'a>,
    pub(super) category: LooseText<'a>,
    pub(super) user_id: LooseText<'a>,
    pub(super) anonymous_id: LooseText<'a>,
    pub(super) group_id: LooseText<'a>,
    pub(super) previous_id: LooseText<'a>,
    pub(super) timestamp: LooseText<'a>,
    pub(super) original_timestamp: LooseText<'a>,
    pub(super) sent_at: LooseText<'a>,
    pub(super) write_key: LooseText<'a>,
    pub(super) properties: Option<O>,
    pub(super) traits: Option<O>,
    pub(super) context: Option<O>,
    pub(super) integrations: Option<O>,
    pub(super) batch: Option<O>,
    /// The vendor whose terms the message uses, if a shim wrote it.
    pub(super) shim: LooseText<'a>,
    pub(super) proof: LooseText<'a>,
    pub(super) user_hash: LooseText<'a>,
    #[serde(rename = "user_hash")]
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
        let shim = object.get("shim").and_then(|name| crate::find(name.as_str()?)?.shim);
        if let Some(to_canonical) = shim.and_then(|shim| shim.to_canonical) {
            to_canonical(&mut object);
        }
        let fields = MessageFields::<Value>::deserialize(Value::Object(object));
        fields.map_err(|_invalid| MessageFault::from("malformed"))?.into_message(kind)
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
            timestamp: written.find_map(|time| MessageTime::read(time.text()?)),
            sent_at: self.sent_at.text().and_then(read_event_time),
            proofs: proofs.map(Box::from).collect(),
            shim: self.shim_vendor().map(|vendor| vendor.name),
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
        Ok(CanonicalMessage { kind, head, objects })
    }

    /// Returns the vendor whose shim wrote the message.
    pub(super) fn shim_vendor(&self) -> Option<&'static Vendor> {
        self.shim.text().and_then(crate::find).filter(|vendor| vendor.shim.is_some())
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

impl<'a> MessageFields<'a, &'a RawValue> {
    /// Reads the text of an object without repeated keys; `None` for any other text.
    pub(super) fn read(text: &'a str) -> Option<Box<Self>> {
        text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
    }

    /// Returns true if readers of the journal can parse the members that a message copies.
    pub(super) fn is_readable(&self) -> bool {
        let own = [self.properties, self.traits, self.context, self.integrations];
        own.into_iter().flatten().all(|raw| is_readable(raw.get()))
    }
}
