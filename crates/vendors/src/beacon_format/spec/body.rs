//! A body of the Segment protocol: one message, a list of them, or an object whose `batch` is one. The decoder of
//! the gateway's own routes and of vendors' libraries that use the protocol.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::body_text::{BodyText, is_within};
use super::loose_text::LooseText;
use super::message_fields::MessageFields;
use super::readable::is_readable;
use crate::beacon::{BeaconDecodeError, BeaconLimits};
use crate::beacon_format::lenient_json::{UnreadableItem, json};
use crate::beacon_format::message::{CanonicalMessage, MessageFault, MessageObjects, json_bytes};
use crate::beacon_format::scan::{JsonListError, fits, members, split_list};
use tagway_core::event::{EventKind, JsonObject, RawJsonObject};
use tagway_core::values::time::read_event_time;

type RawFields<'a> = MessageFields<'a, &'a RawValue>;

/// A body's messages, unread, and the members that apply to all of them.
pub struct MessageBody<'a> {
    /// The write key in the body.
    write_key: LooseText<'a>,
    sent_at: Option<Timestamp>,
    context: Option<&'a RawValue>,
    integrations: Option<&'a RawValue>,
    texts: Vec<&'a str>,
    /// True if the body is a list of messages, or has one.
    is_list: bool,
    /// The members of the body, if it is the message.
    fields: Option<Box<RawFields<'a>>>,
    /// True if readers of the journal can parse all of it.
    is_plain: bool,
    /// The messages that are not JSON, and the reasons.
    faults: Vec<UnreadableItem>,
    /// The most nested levels of each message, where something in the body is nested too deep.
    max_depth: Option<usize>,
    event_bytes: usize,
}

/// A message of a body.
#[expect(
    clippy::large_enum_variant,
    reason = "a message moves at once, and a box is an allocation"
)]
pub enum BodyMessage {
    /// A message whose objects are as its client wrote them.
    Text(CanonicalMessage<RawJsonObject>),
    /// A message whose objects had to be changed.
    Tree(CanonicalMessage),
}

const NOT_JSON: BeaconDecodeError = BeaconDecodeError::Malformed("the body is not JSON");
const TOO_DEEP: BeaconDecodeError = BeaconDecodeError::Malformed("the JSON is nested too deep");

/// The members of a body that apply to all its messages.
const SHARED: [&str; 5] = ["batch", "writeKey", "sentAt", "context", "integrations"];

impl<'a> MessageBody<'a> {
    /// Opens a body. The limits are those of all its messages, including the shared members of each.
    ///
    /// A body that is not JSON as a whole is split at its commas, so that one bad message does not cost the others.
    ///
    /// # Errors
    ///
    /// Fails if the body is unreadable, has no message, or exceeds the limits.
    pub fn open(text: &'a BodyText<'_>, limits: &BeaconLimits) -> Result<Self, BeaconDecodeError> {
        let mut body = Self {
            write_key: LooseText::Absent,
            sent_at: None,
            context: None,
            integrations: None,
            texts: Vec::new(),
            is_list: false,
            fields: None,
            is_plain: text.is_plain(),
            faults: Vec::new(),
            max_depth: None,
            event_bytes: limits.event_bytes,
        };
        let bytes = text.bytes();
        let list = match (text.text().and_then(RawFields::read), bytes.first()) {
            (Some(fields), _) => body.take_fields(fields),
            (None, Some(b'{')) => body.take_members(bytes)?,
            (None, Some(b'[')) => Some(bytes),
            _ => {
                return Err(BeaconDecodeError::Malformed(
                    "the body is neither a JSON object nor a list",
                ));
            }
        };
        let Some(list) = list else {
            body.texts = vec![text.text().ok_or(NOT_JSON)?];
            body.max_depth = text.is_deep().then_some(limits.json_depth);
            return Ok(body);
        };
        body.is_list = true;
        let levels = if list.len() == bytes.len() { 1 } else { 2 };
        body.split(list, levels, limits.events_within(bytes.len()))?;
        if text.is_deep() {
            body.limit_depth(limits.json_depth, levels)?;
        }
        // Shared members become part of each message, and count towards the limit for each.
        let own: usize = body.texts.iter().map(|text| text.len()).sum();
        let shared = body.shared_bytes().saturating_mul(body.len());
        if own.saturating_add(shared) > limits.made_of(bytes.len()) {
            return Err(BeaconDecodeError::TooLarge);
        }
        Ok(body)
    }

    /// Takes the members of an object; returns its list of messages, or `None` if it is the message.
    fn take_fields(&mut self, fields: Box<RawFields<'a>>) -> Option<&'a [u8]> {
        self.write_key = fields.write_key.clone();
        let Some(batch) = fields.batch else {
            self.fields = Some(fields);
            return None;
        };
        self.sent_at = fields.sent_at.text().and_then(read_event_time);
        (self.context, self.integrations) = (fields.context, fields.integrations);
        Some(batch.get().as_bytes())
    }

    /// Takes the same of an object that has repeated keys, or a message that is not JSON.
    fn take_members(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, BeaconDecodeError> {
        // The shared members must be JSON.
        let whole = |raw: Option<&'a [u8]>| raw.map(json).transpose().map_err(|_reason| NOT_JSON);
        let loose = |raw: Option<&'a RawValue>| {
            let text = raw.map(|raw| serde_json::from_str(raw.get()));
            text.and_then(Result::ok).unwrap_or(LooseText::Absent)
        };
        let [batch, write_key, sent_at, context, integrations] =
            members(bytes, SHARED).ok_or(NOT_JSON)?;
        let batch = batch.filter(|batch| *batch != b"null");
        self.write_key = loose(whole(write_key)?);
        if batch.is_none() {
            return whole(Some(bytes)).map(|_json| None);
        }
        self.sent_at = loose(whole(sent_at)?).text().and_then(read_event_time);
        (self.context, self.integrations) = (whole(context)?, whole(integrations)?);
        Ok(batch)
    }

    /// Splits a list of messages.
    fn split(
        &mut self,
        list: &'a [u8],
        levels: usize,
        most: usize,
    ) -> Result<(), BeaconDecodeError> {
        let (records, faults) = split_list(list, most).map_err(|error| match error {
            JsonListError::TooLong => BeaconDecodeError::TooMany,
            JsonListError::NotAList if levels == 1 => NOT_JSON,
            JsonListError::NotAList => BeaconDecodeError::Malformed("batch is not a list"),
        })?;
        if records.is_empty() {
            return Err(BeaconDecodeError::Malformed("there is no message in the body"));
        }
        self.texts = records.into_iter().map(RawValue::get).collect();
        self.faults = faults;
        Ok(())
    }

    /// Sets the most nested levels of each message within a body that has `levels` around it. Shared members must
    /// not be nested too deep.
    fn limit_depth(&mut self, max: usize, levels: usize) -> Result<(), BeaconDecodeError> {
        let mut shared = [self.context, self.integrations].into_iter().flatten();
        if !shared.all(|raw| is_within(raw.get(), max.saturating_sub(1))) {
            return Err(TOO_DEEP);
        }
        self.max_depth = Some(max.saturating_sub(levels));
        Ok(())
    }

    /// Returns the bytes of the shared members.
    fn shared_bytes(&self) -> usize {
        let shared = [self.context, self.integrations].into_iter().flatten();
        shared.map(|raw| raw.get().len()).sum()
    }

    /// Returns true if the body is one message, and nested too deep.
    pub fn is_one_too_deep(&self) -> bool {
        !self.is_list
            && matches!(self.texts.as_slice(), [text] if self.fault(0, text) == Some("too_deep"))
    }

    /// Returns the write key in the body.
    pub fn write_key(&self) -> Option<&str> {
        self.write_key.text()
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Returns true if there is no message, which a body that is open never has.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Returns the texts of the messages; the reason for one that is rejected unread.
    pub(super) fn texts(&self) -> impl Iterator<Item = Result<&'a str, &'static str>> {
        let texts = self.texts.iter().enumerate();
        texts.map(|(index, text)| self.fault(index, text).map_or(Ok(*text), Err))
    }

    /// Returns the reason for which a message is rejected unread.
    fn fault(&self, index: usize, text: &str) -> Option<&'static str> {
        if let Ok(place) = self.faults.binary_search_by_key(&index, |(index, _)| *index) {
            return self.faults.get(place).map(|(_, reason)| *reason);
        }
        self.max_depth.filter(|max| !is_within(text, *max)).map(|_| "too_deep")
    }

    /// Reads every message independently, as one of this kind if its route implies one. Of a key that a message
    /// repeats, the last value is used, as by every reader of the journal.
    pub fn read(
        mut self,
        kind: Option<EventKind>,
        mut each: impl FnMut(usize, Result<BodyMessage, MessageFault>),
    ) {
        let mut only = self.fields.take();
        for (index, text) in self.texts().enumerate() {
            let message = text.map_err(MessageFault::from);
            let message = message.and_then(|text| {
                self.message(only.take().or_else(|| RawFields::read(text)), text, kind)
            });
            each(index, message);
        }
    }

    fn message(
        &self,
        fields: Option<Box<RawFields<'_>>>,
        text: &str,
        kind: Option<EventKind>,
    ) -> Result<BodyMessage, MessageFault> {
        // Checked before anything is copied.
        let room = self.event_bytes.checked_sub(self.shared_bytes());
        let Some(room) = room.filter(|room| text.len() <= *room) else {
            let fault = |fields: Box<RawFields<'_>>| fields.fault("too_large");
            return Err(fields.map_or("too_large".into(), fault));
        };
        let is_readable = self.is_plain
            || self.has_readable_shared()
                && fields.as_ref().map_or_else(|| is_readable(text), |fields| fields.is_readable());
        if !is_readable {
            let fault = |fields: Box<RawFields<'_>>| fields.fault("malformed");
            return Err(fields.map_or("malformed".into(), fault));
        }
        match fields {
            Some(fields) if !self.needs_tree(&fields) => {
                let mut message = fields.into_message(kind)?;
                message.head.sent_at = message.head.sent_at.or(self.sent_at);
                Ok(BodyMessage::Text(message))
            }
            Some(fields) if !translates(&fields) => {
                // Members that are not kept are not parsed.
                let CanonicalMessage { kind, head, objects } = fields.into_message(kind)?;
                match objects.try_map(|object| object.parse()) {
                    Ok(objects) => self.complete(CanonicalMessage { kind, head, objects }, room),
                    Err(_invalid) => {
                        Err(MessageFault { message_id: head.message_id, reason: "malformed" })
                    }
                }
                .map(BodyMessage::Tree)
            }
            _ => {
                let object: JsonObject =
                    serde_json::from_str(text).map_err(|_invalid| "malformed")?;
                let message = CanonicalMessage::of_object(object, kind)?;
                self.complete(message, room).map(BodyMessage::Tree)
            }
        }
    }

    /// Returns true if readers of the journal can parse the shared members.
    fn has_readable_shared(&self) -> bool {
        [self.context, self.integrations].into_iter().flatten().all(|raw| is_readable(raw.get()))
    }

    /// Returns true if the objects of a message become others.
    fn needs_tree(&self, fields: &RawFields<'_>) -> bool {
        self.context.is_some() || self.integrations.is_some() || translates(fields)
    }

    /// Adds the shared members to a message whose own are within `room` bytes.
    fn complete(
        &self,
        mut message: CanonicalMessage,
        room: usize,
    ) -> Result<CanonicalMessage, MessageFault> {
        // Written again, numbers can be longer: 1e15.
        if json_bytes(&message) > room {
            let message_id = message.head.message_id;
            return Err(MessageFault { message_id, reason: "too_large" });
        }
        message.head.sent_at = message.head.sent_at.or(self.sent_at);
        let MessageObjects { context, integrations, .. } = &mut message.objects;
        *context = merged(self.context, context.take())?;
        *integrations = merged(self.integrations, integrations.take())?;
        Ok(message)
    }

    /// Returns the objects that all messages share, as trees: the context and the integrations.
    ///
    /// # Errors
    ///
    /// Fails if they are not JSON, or larger than one event may be: checked before the trees are built.
    pub(super) fn shared(
        &self,
        limits: &BeaconLimits,
    ) -> Result<MessageDefaults, BeaconDecodeError> {
        let texts = [self.context, self.integrations].into_iter().flatten();
        if !fits(texts.map(|raw| raw.get().as_bytes()), limits) {
            return Err(BeaconDecodeError::TooLarge);
        }
        let tree = |raw: Option<&RawValue>| {
            merged(raw, None).map_err(|_invalid| BeaconDecodeError::Malformed("it is not JSON"))
        };
        let (context, integrations) = (tree(self.context)?, tree(self.integrations)?);
        Ok(MessageDefaults { sent_at: self.sent_at, context, integrations })
    }
}

/// Returns true if the vendor's shim makes other objects of a message.
fn translates(fields: &RawFields<'_>) -> bool {
    let shim = fields.shim_vendor().and_then(|vendor| vendor.shim);
    shim.is_some_and(|shim| shim.to_canonical.is_some())
}

/// The members of a body that apply to all its messages, as trees.
pub(super) struct MessageDefaults {
    pub(super) sent_at: Option<Timestamp>,
    pub(super) context: Option<JsonObject>,
    pub(super) integrations: Option<JsonObject>,
}

/// Merges a message's own object over the one shared by all. A shared value that is no object is ignored.
fn merged(
    all: Option<&RawValue>,
    own: Option<JsonObject>,
) -> Result<Option<JsonObject>, &'static str> {
    let Some(all) = all.filter(|all| all.get().starts_with('{')) else { return Ok(own) };
    let mut merged: JsonObject = serde_json::from_str(all.get()).map_err(|_invalid| "malformed")?;
    merged.extend(own.unwrap_or_default());
    Ok(Some(merged))
}
