//! The messages of one body, and the members that apply to all of them.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::DecodeContext;
use super::fields::MessageFields;
use super::loose::LooseText;
use super::message::{MessageDraft, RejectedMessage, RejectionCode, known_id};
use super::repeated::{FIELDS, fields_with_repeats, read_once};
use super::shim_message::canonical_from_shim;
use super::text::{BodyText, is_within};
use crate::gateway::rejection::RequestRejection;
use tagway_core::values::time::read_event_time;
use tagway_vendors::beacon_format::{self, JsonListError, UnreadableItem};

/// A body's messages, not yet judged, and the members that apply to all of them.
pub(in crate::gateway) struct MessageEnvelope<'a> {
    /// The write key in the body.
    write_key: LooseText<'a>,
    pub(super) sent_at: Option<Timestamp>,
    pub(super) context: Option<&'a RawValue>,
    pub(super) integrations: Option<&'a RawValue>,
    messages: EnvelopeMessages<'a>,
    /// True if readers of the journal can parse all of it.
    pub(super) is_plain: bool,
    /// The messages that are not JSON, and the reasons.
    faults: Vec<UnreadableItem>,
    /// The most nested levels of each message, where something in the body is nested too deep.
    max_depth: Option<usize>,
}

enum EnvelopeMessages<'a> {
    /// The body is the message; this is its text.
    One(Box<MessageFields<'a>>, &'a str),
    Many(Vec<&'a RawValue>),
}

/// Reads a body: one message, a list of messages, or an object whose `batch` is one. The two numbers limit the
/// messages of a list, and their bytes including the shared members.
pub(in crate::gateway) fn open<'a>(
    body: &'a BodyText<'_>,
    terms: &DecodeContext<'_>,
    (events, bytes): (usize, usize),
) -> Result<MessageEnvelope<'a>, RequestRejection> {
    let most = body.text().map_or(usize::MAX, |text| terms.limits.events_within(text.len()));
    let room = (events.min(terms.limits.batch_events).min(most), bytes);
    let Some(text) = body.text() else {
        return read_separately(body, terms, room)
            .unwrap_or(Err(RequestRejection::Malformed("not UTF-8")));
    };
    let made_bytes = terms.limits.made_of(text.len()).min(bytes);
    if text.starts_with('[') {
        return match beacon_format::items(text.as_bytes(), room.0) {
            Ok(messages) => {
                MessageEnvelope::bare(EnvelopeMessages::Many(messages), body.is_plain())
                    .within(body, terms, 1)?
                    .bounded(made_bytes)
            }
            Err(JsonListError::TooLong) => Err(RequestRejection::TooMany),
            Err(JsonListError::NotAList) => {
                read_separately(body, terms, room).unwrap_or(Err(NOT_JSON))
            }
        };
    }
    if !text.starts_with('{') {
        return Err(RequestRejection::Malformed("the body is neither a JSON object nor a list"));
    }
    let fields = match serde_json::from_str::<Box<MessageFields<'_>>>(text) {
        Ok(fields) => fields,
        Err(_) => match fields_with_repeats(text) {
            Some(fields) => fields,
            None => return read_separately(body, terms, room).unwrap_or(Err(NOT_JSON)),
        },
    };
    let Some(batch) = fields.batch else {
        if body.is_deep() {
            return Err(TOO_DEEP);
        }
        let write_key = fields.write_key.clone();
        let messages = EnvelopeMessages::One(fields, text);
        return Ok(MessageEnvelope {
            write_key,
            ..MessageEnvelope::bare(messages, body.is_plain())
        });
    };
    let messages = match beacon_format::items(batch.get().as_bytes(), room.0) {
        Ok(messages) => EnvelopeMessages::Many(messages),
        Err(JsonListError::TooLong) => return Err(RequestRejection::TooMany),
        Err(JsonListError::NotAList) => {
            return Err(RequestRejection::Malformed("batch is not a list"));
        }
    };
    let envelope = MessageEnvelope {
        write_key: fields.write_key,
        sent_at: fields.sent_at.text().and_then(read_event_time),
        context: fields.context,
        integrations: fields.integrations,
        ..MessageEnvelope::bare(messages, body.is_plain())
    };
    envelope.within(body, terms, 2)?.bounded(made_bytes)
}

const NOT_JSON: RequestRejection = RequestRejection::Malformed("the body is not JSON");
const TOO_DEEP: RequestRejection = RequestRejection::Malformed("the JSON is nested too deep");

/// Reads a body that is not JSON as a whole, so that one bad message does not cost the others. `None` if it is not
/// a body of several messages either.
fn read_separately<'a>(
    body: &'a BodyText<'_>,
    terms: &DecodeContext<'_>,
    (events, bytes): (usize, usize),
) -> Option<Result<MessageEnvelope<'a>, RequestRejection>> {
    const NAMES: [&str; 5] = ["batch", "writeKey", "sentAt", "context", "integrations"];
    let text = body.bytes();
    let (members, levels) = match text.first() {
        Some(b'{') => (beacon_format::split_members(text, NAMES)?, 2),
        _ => ([Some(text), None, None, None, None], 1),
    };
    let [batch, write_key, sent_at, context, integrations] = members;
    let (messages, faults) = match beacon_format::split_items(batch?, events) {
        Ok(found) => found,
        Err(JsonListError::TooLong) => return Some(Err(RequestRejection::TooMany)),
        Err(JsonListError::NotAList) => return None,
    };
    // The shared members must be JSON.
    let whole = |raw: Option<&'a [u8]>| raw.map(beacon_format::json_apart).transpose().ok();
    let (write_key, sent_at) = (whole(write_key)?, whole(sent_at)?);
    let (context, integrations) = (whole(context)?, whole(integrations)?);
    let loose = |raw: Option<&'a RawValue>| {
        raw.and_then(|raw| serde_json::from_str::<LooseText<'_>>(raw.get()).ok())
            .unwrap_or_default()
    };
    let envelope = MessageEnvelope {
        write_key: loose(write_key),
        sent_at: loose(sent_at).text().and_then(read_event_time),
        context,
        integrations,
        faults,
        ..MessageEnvelope::bare(EnvelopeMessages::Many(messages), body.is_plain())
    };
    let made_bytes = terms.limits.made_of(text.len()).min(bytes);
    Some(envelope.within(body, terms, levels).and_then(|envelope| envelope.bounded(made_bytes)))
}

/// Reads a text that is one message, whatever members it has.
pub(super) fn read_single_message<'a>(body: &'a BodyText<'_>) -> Option<MessageEnvelope<'a>> {
    let text = body.text().filter(|text| text.starts_with('{'))?;
    let fields = serde_json::from_str(text).ok()?;
    Some(MessageEnvelope::bare(EnvelopeMessages::One(fields, text), body.is_plain()))
}

impl<'a> MessageEnvelope<'a> {
    fn bare(messages: EnvelopeMessages<'a>, is_plain: bool) -> Self {
        let (write_key, sent_at) = (LooseText::Absent, None);
        let (context, integrations) = (None, None);
        let (faults, max_depth) = (Vec::new(), None);
        Self { write_key, sent_at, context, integrations, messages, is_plain, faults, max_depth }
    }

    /// Sets the most nested levels of each message within a body that has `levels` around it. Shared members must
    /// not be nested too deep.
    fn within(
        self,
        body: &BodyText<'_>,
        terms: &DecodeContext<'_>,
        levels: usize,
    ) -> Result<Self, RequestRejection> {
        if !body.is_deep() {
            return Ok(self);
        }
        let max = terms.limits.json_depth;
        let mut shared = [self.context, self.integrations].into_iter().flatten();
        if !shared.all(|raw| is_within(raw.get(), max.saturating_sub(1))) {
            return Err(TOO_DEEP);
        }
        Ok(Self { max_depth: Some(max.saturating_sub(levels)), ..self })
    }

    /// Returns the reason for which a message is rejected unread.
    fn fault(&self, index: usize, text: &str) -> Option<RejectionCode> {
        if let Ok(place) = self.faults.binary_search_by_key(&index, |(index, _)| *index) {
            return self.faults.get(place).map(|(_, reason)| *reason);
        }
        if !text.starts_with('{') {
            return Some("malformed");
        }
        self.max_depth.filter(|max| !is_within(text, *max)).map(|_| "too_deep")
    }

    /// Shared members become part of each message, and count towards the limit for each.
    fn bounded(self, max: usize) -> Result<Self, RequestRejection> {
        let EnvelopeMessages::Many(messages) = &self.messages else { return Ok(self) };
        if messages.is_empty() {
            return Err(RequestRejection::Malformed("there is no message in the body"));
        }
        let own: usize = messages.iter().map(|message| message.get().len()).sum();
        let shared = self.shared_bytes().saturating_mul(messages.len());
        if own.saturating_add(shared) > max {
            return Err(RequestRejection::TooLarge);
        }
        Ok(self)
    }

    /// Returns the bytes of the shared members.
    pub(super) fn shared_bytes(&self) -> usize {
        let shared = [self.context, self.integrations].into_iter().flatten();
        shared.map(|raw| raw.get().len()).sum()
    }

    /// Returns the write key in the body.
    pub(in crate::gateway) fn write_key(&self) -> Option<&str> {
        self.write_key.text()
    }

    /// Returns the number of messages.
    pub(in crate::gateway) fn len(&self) -> usize {
        match &self.messages {
            EnvelopeMessages::One(..) => 1,
            EnvelopeMessages::Many(messages) => messages.len(),
        }
    }

    /// Judges every message independently.
    pub(in crate::gateway) fn draft_messages(
        self,
        terms: &DecodeContext<'_>,
    ) -> (Vec<MessageDraft>, Vec<RejectedMessage>) {
        let (mut drafts, mut rejected) = (Vec::with_capacity(self.len()), Vec::new());
        let mut sort = |index, message_id, result: Result<MessageDraft, RejectionCode>| match result
        {
            Ok(draft) => drafts.push(draft),
            Err(reason) => rejected.push(RejectedMessage { index, message_id, reason }),
        };
        match &self.messages {
            EnvelopeMessages::One(fields, text) => {
                sort(0, known_id(fields, terms), self.draft_canonical(0, fields, text, terms));
            }
            EnvelopeMessages::Many(messages) => {
                for (index, raw) in messages.iter().enumerate() {
                    if let Some(reason) = self.fault(index, raw.get()) {
                        sort(index, None, Err(reason));
                        continue;
                    }
                    let judged = read_once(raw.get(), FIELDS, |text| {
                        let fields: MessageFields<'_> = serde_json::from_str(text).ok()?;
                        Some((
                            known_id(&fields, terms),
                            self.draft_canonical(index, &fields, raw.get(), terms),
                        ))
                    });
                    let (id, result) = judged.unwrap_or((None, Err("malformed")));
                    sort(index, id, result);
                }
            }
        }
        (drafts, rejected)
    }

    /// Drafts a message, which a shim may have written in its vendor's terms.
    fn draft_canonical(
        &self,
        index: usize,
        fields: &MessageFields<'_>,
        text: &str,
        terms: &DecodeContext<'_>,
    ) -> Result<MessageDraft, RejectionCode> {
        let shim = fields.shim.text().and_then(tagway_vendors::find).filter(|it| it.shim.is_some());
        let is_short = text.len() <= terms.limits.event_bytes;
        let mut draft = match canonical_from_shim(shim.filter(|_| is_short), text)? {
            None => self.draft(index, fields, text.len(), terms)?,
            Some(text) => {
                let fields: MessageFields<'_> =
                    serde_json::from_str(&text).map_err(|_invalid| "malformed")?;
                self.draft(index, &fields, text.len(), terms)?
            }
        };
        draft.shim = shim.map(|vendor| vendor.name);
        Ok(draft)
    }
}
