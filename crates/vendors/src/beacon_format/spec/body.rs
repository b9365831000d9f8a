//! A body of the Segment protocol: one message, a list of them, or an object whose `batch` is one. The decoder of
//! the gateway's own routes and of vendors' libraries that use the protocol.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::body_text::{BodyText, is_within};
use super::loose_text::LooseText;
use super::message_fields::MessageFields;
use super::readable::is_readable;
use crate::beacon::{BeaconDecodeError, BeaconLimits};
use crate::beacon_format::lenient_json::{UnreadableItem, json, split_items, split_members};
use crate::beacon_format::message::{CanonicalMessage, MessageFault, MessageObjects, json_bytes};
use crate::beacon_format::scan::{JsonListError, items};
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
    records: BodyRecords<'a>,
    /// The members of the only message.
    fields: Option<Box<RawFields<'a>>>,
    /// True if readers of the journal can parse all of it.
    is_plain: bool,
    /// The messages that are not JSON, and the reasons.
    faults: Vec<UnreadableItem>,
    /// The most nested levels of each message, where something in the body is nested too deep.
    max_depth: Option<usize>,
    event_bytes: usize,
}

enum BodyRecords<'a> {
    /// The body is the message; this is its text.
    One(&'a str),
    Many(Vec<&'a RawValue>),
}

/// A message of a body. Its objects are the client's own text, or trees if they had to be changed.
pub enum BodyMessage {
    /// A message as its client wrote it.
    Written(CanonicalMessage<RawJsonObject>),
    /// A message that a shim wrote in its vendor's terms, in the spec's terms.
    Translated(CanonicalMessage),
}

const NOT_JSON: BeaconDecodeError = BeaconDecodeError::Malformed("the body is not JSON");
const TOO_DEEP: BeaconDecodeError = BeaconDecodeError::Malformed("the JSON is nested too deep");

impl<'a> MessageBody<'a> {
    /// Opens a body. The limits are those of all its messages, including the shared members of each.
    ///
    /// # Errors
    ///
    /// Fails if the body is unreadable, has no message, or exceeds the limits.
    pub fn open(text: &'a BodyText<'_>, limits: &BeaconLimits) -> Result<Self, BeaconDecodeError> {
        let Some(json) = text.text() else {
            return Self::open_apart(text, limits)
                .unwrap_or(Err(BeaconDecodeError::Malformed("not UTF-8")));
        };
        let most = limits.events_within(json.len());
        if json.starts_with('[') {
            return match items(json.as_bytes(), most) {
                Ok(messages) => Self::bare(BodyRecords::Many(messages), text, limits)
                    .within(text, limits, 1)?
                    .bounded(text, limits),
                Err(JsonListError::TooLong) => Err(BeaconDecodeError::TooMany),
                Err(JsonListError::NotAList) => {
                    Self::open_apart(text, limits).unwrap_or(Err(NOT_JSON))
                }
            };
        }
        if !json.starts_with('{') {
            return Err(BeaconDecodeError::Malformed(
                "the body is neither a JSON object nor a list",
            ));
        }
        let Some(fields) = RawFields::read(json) else {
            return Self::open_apart(text, limits).unwrap_or(Err(NOT_JSON));
        };
        let Some(batch) = fields.batch else {
            if text.is_deep() {
                return Err(TOO_DEEP);
            }
            return Ok(Self {
                write_key: fields.write_key.clone(),
                fields: Some(fields),
                ..Self::bare(BodyRecords::One(json), text, limits)
            });
        };
        let records = match items(batch.get().as_bytes(), most) {
            Ok(messages) => BodyRecords::Many(messages),
            Err(JsonListError::TooLong) => return Err(BeaconDecodeError::TooMany),
            Err(JsonListError::NotAList) => {
                return Err(BeaconDecodeError::Malformed("batch is not a list"));
            }
        };
        let body = Self {
            write_key: fields.write_key,
            sent_at: fields.sent_at.text().and_then(read_event_time),
            context: fields.context,
            integrations: fields.integrations,
            ..Self::bare(records, text, limits)
        };
        body.within(text, limits, 2)?.bounded(text, limits)
    }

    /// Opens a body that is not JSON as a whole, so that one bad message does not cost the others. `None` if it is
    /// not a body of several messages either.
    fn open_apart(
        text: &'a BodyText<'_>,
        limits: &BeaconLimits,
    ) -> Option<Result<Self, BeaconDecodeError>> {
        const NAMES: [&str; 5] = ["batch", "writeKey", "sentAt", "context", "integrations"];
        let bytes = text.bytes();
        let (members, levels) = match bytes.first() {
            Some(b'{') => (split_members(bytes, NAMES)?, 2),
            _ => ([Some(bytes), None, None, None, None], 1),
        };
        let [batch, write_key, sent_at, context, integrations] = members;
        let (messages, faults) = match split_items(batch?, limits.events_within(bytes.len())) {
            Ok(found) => found,
            Err(JsonListError::TooLong) => return Some(Err(BeaconDecodeError::TooMany)),
            Err(JsonListError::NotAList) => return None,
        };
        // The shared members must be JSON.
        let whole = |raw: Option<&'a [u8]>| raw.map(json).transpose().ok();
        let (write_key, sent_at) = (whole(write_key)?, whole(sent_at)?);
        let (context, integrations) = (whole(context)?, whole(integrations)?);
        let loose = |raw: Option<&'a RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<LooseText<'_>>(raw.get()).ok())
                .unwrap_or_default()
        };
        let body = Self {
            write_key: loose(write_key),
            sent_at: loose(sent_at).text().and_then(read_event_time),
            context,
            integrations,
            faults,
            ..Self::bare(BodyRecords::Many(messages), text, limits)
        };
        Some(body.within(text, limits, levels).and_then(|body| body.bounded(text, limits)))
    }

    fn bare(records: BodyRecords<'a>, text: &BodyText<'_>, limits: &BeaconLimits) -> Self {
        Self {
            write_key: LooseText::Absent,
            sent_at: None,
            context: None,
            integrations: None,
            records,
            fields: None,
            is_plain: text.is_plain(),
            faults: Vec::new(),
            max_depth: None,
            event_bytes: limits.event_bytes,
        }
    }

    /// Sets the most nested levels of each message within a body that has `levels` around it. Shared members must
    /// not be nested too deep.
    fn within(
        self,
        text: &BodyText<'_>,
        limits: &BeaconLimits,
        levels: usize,
    ) -> Result<Self, BeaconDecodeError> {
        if !text.is_deep() {
            return Ok(self);
        }
        let max = limits.json_depth;
        let mut shared = [self.context, self.integrations].into_iter().flatten();
        if !shared.all(|raw| is_within(raw.get(), max.saturating_sub(1))) {
            return Err(TOO_DEEP);
        }
        Ok(Self { max_depth: Some(max.saturating_sub(levels)), ..self })
    }

    /// Shared members become part of each message, and count towards the limit for each.
    fn bounded(
        self,
        text: &BodyText<'_>,
        limits: &BeaconLimits,
    ) -> Result<Self, BeaconDecodeError> {
        let BodyRecords::Many(messages) = &self.records else { return Ok(self) };
        if messages.is_empty() {
            return Err(BeaconDecodeError::Malformed("there is no message in the body"));
        }
        let own: usize = messages.iter().map(|message| message.get().len()).sum();
        let shared = self.shared_bytes().saturating_mul(messages.len());
        if own.saturating_add(shared) > limits.made_of(text.bytes().len()) {
            return Err(BeaconDecodeError::TooLarge);
        }
        Ok(self)
    }

    /// Returns the bytes of the shared members.
    fn shared_bytes(&self) -> usize {
        let shared = [self.context, self.integrations].into_iter().flatten();
        shared.map(|raw| raw.get().len()).sum()
    }

    /// Returns the write key in the body.
    pub fn write_key(&self) -> Option<&str> {
        self.write_key.text()
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        match &self.records {
            BodyRecords::One(_) => 1,
            BodyRecords::Many(messages) => messages.len(),
        }
    }

    /// Returns true if there is no message, which a body that is open never has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the texts of the messages; the reason for one that is rejected unread.
    pub(super) fn texts(&self) -> impl Iterator<Item = Result<&'a str, &'static str>> {
        let (one, many) = match &self.records {
            BodyRecords::One(text) => (Some(*text), &[][..]),
            BodyRecords::Many(messages) => (None, messages.as_slice()),
        };
        let texts = one.into_iter().chain(many.iter().map(|message| message.get()));
        texts.enumerate().map(|(index, text)| self.fault(index, text).map_or(Ok(text), Err))
    }

    /// Returns the reason for which a message is rejected unread.
    fn fault(&self, index: usize, text: &str) -> Option<&'static str> {
        if let Ok(place) = self.faults.binary_search_by_key(&index, |(index, _)| *index) {
            return self.faults.get(place).map(|(_, reason)| *reason);
        }
        self.max_depth.filter(|max| !is_within(text, *max)).map(|_| "too_deep")
    }

    /// Reads every message independently, as one of this kind if its route implies one.
    pub fn read(
        mut self,
        kind: Option<EventKind>,
        mut each: impl FnMut(usize, Result<BodyMessage, MessageFault>),
    ) {
        let mut only = self.fields.take();
        for (index, text) in self.texts().enumerate() {
            let message = text.map_err(MessageFault::from).and_then(|text| {
                let fields = only.take().or_else(|| RawFields::read(text));
                self.message(fields.ok_or("malformed")?, text, kind)
            });
            each(index, message);
        }
    }

    fn message(
        &self,
        fields: Box<RawFields<'_>>,
        text: &str,
        kind: Option<EventKind>,
    ) -> Result<BodyMessage, MessageFault> {
        // Checked before anything is copied.
        let room = self.event_bytes.checked_sub(self.shared_bytes());
        let room = room.filter(|room| text.len() <= *room);
        let Some(room) = room else { return Err(fields.fault("too_large")) };
        if !self.is_plain && !self.is_readable(&fields) {
            return Err(fields.fault("malformed"));
        }
        let shim = fields.shim.text().and_then(crate::find).filter(|vendor| vendor.shim.is_some());
        if shim.is_some_and(|vendor| vendor.shim.is_some_and(|shim| shim.to_canonical.is_some())) {
            let object: JsonObject =
                serde_json::from_str(text).map_err(|_invalid| fields.fault("malformed"))?;
            let mut message = CanonicalMessage::of_object(object, kind)?;
            if json_bytes(&message) > room {
                return Err(fields.fault("too_large"));
            }
            message.head.sent_at = message.head.sent_at.or(self.sent_at);
            let MessageObjects { context, integrations, .. } = &mut message.objects;
            *context = merged_tree(self.context, context.take())?;
            *integrations = merged_tree(self.integrations, integrations.take())?;
            return Ok(BodyMessage::Translated(message));
        }
        let mut message = fields.into_message(kind)?;
        message.head.sent_at = message.head.sent_at.or(self.sent_at);
        message.head.shim = shim.map(|vendor| vendor.name);
        let MessageObjects { context, integrations, .. } = &mut message.objects;
        *context = merged(self.context, context.take())?;
        *integrations = merged(self.integrations, integrations.take())?;
        Ok(BodyMessage::Written(message))
    }

    /// Returns true if readers of the journal can parse the members that a message copies.
    fn is_readable(&self, fields: &RawFields<'_>) -> bool {
        let own = [fields.properties, fields.traits, fields.context, fields.integrations];
        let mut all = own.into_iter().chain([self.context, self.integrations]).flatten();
        all.all(is_readable)
    }

    /// Returns the objects that all messages share, as trees: the context and the integrations.
    pub(super) fn shared(&self) -> Result<MessageDefaults, BeaconDecodeError> {
        let tree = |raw: Option<&RawValue>| {
            merged_tree(raw, None)
                .map_err(|_invalid| BeaconDecodeError::Malformed("it is not JSON"))
        };
        let (context, integrations) = (tree(self.context)?, tree(self.integrations)?);
        Ok(MessageDefaults { sent_at: self.sent_at, context, integrations })
    }
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
    own: Option<RawJsonObject>,
) -> Result<Option<RawJsonObject>, &'static str> {
    let (all, own) = match (all.and_then(RawJsonObject::new), own) {
        (Some(all), Some(own)) => (all, own),
        (all, own) => return Ok(own.or(all)),
    };
    let own = own.parse().map_err(|_invalid| "malformed")?;
    let mut merged = all.parse().map_err(|_invalid| "malformed")?;
    merged.extend(own);
    RawJsonObject::of(&merged).map(Some).ok_or("malformed")
}

/// Merges the same as trees.
fn merged_tree(
    all: Option<&RawValue>,
    own: Option<JsonObject>,
) -> Result<Option<JsonObject>, &'static str> {
    let Some(all) = all.filter(|all| all.get().starts_with('{')) else { return Ok(own) };
    let mut merged: JsonObject = serde_json::from_str(all.get()).map_err(|_invalid| "malformed")?;
    merged.extend(own.unwrap_or_default());
    Ok(Some(merged))
}
