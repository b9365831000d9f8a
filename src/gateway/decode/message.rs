//! Messages of the Segment spec (`docs/contracts/beacons.md` 1.2, 2 and 7.1), each judged independently.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::envelope::MessageEnvelope;
use super::fields::MessageFields;
use super::loose::LooseText;
use super::proof::LoginProofs;
use super::readable::is_readable;
use super::repeated::read_once;
use super::{DecodeContext, time};
use tagway_core::event::{Event, EventFacts, EventKind, JsonObject, RawBeacon, RawJsonObject};
use tagway_core::privacy::ConsentRecord;
use tagway_core::values::address::read_visitor_address;
use tagway_core::values::time::read_event_time;

/// A message that passed every check but those of identity, and the members of its context that the gateway needs.
#[derive(Debug)]
pub struct MessageDraft {
    /// The message's index in the request.
    pub index: usize,
    /// The event, with empty facts.
    pub event: Event<RawJsonObject>,
    /// The page's URL, as the client sent it.
    pub page_url: Option<String>,
    /// The visitor's address, as the client sent it.
    pub ip: Option<IpAddr>,
    /// The visitor's user agent, as the client sent it.
    pub user_agent: Option<String>,
    /// True if the context has traits of the person.
    pub has_traits: bool,
    /// The visitor's consent, as the client sent it.
    pub consent: Option<ConsentRecord>,
    /// The raw beacon that is the only content, if it is to be passed on to its vendor.
    pub beacon: Option<RawBeacon>,
    /// The vendor whose shim sent it.
    pub shim: Option<&'static str>,
    /// The vendor that receives it by its own beacon.
    pub forwarded_to: Option<String>,
    /// True if it becomes an event, and is not only read on behalf of its beacon.
    pub becomes_event: bool,
    /// The login proofs for its user id.
    pub proofs: LoginProofs,
    /// The members that cannot be read and are left out.
    pub unread: UnreadMembers,
}

/// The unreadable members of a message, which are left out without losing the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnreadMembers {
    /// True if the event's time is unreadable: the time of its receipt replaces it.
    pub time: bool,
    /// True if a member has the wrong type.
    pub member: bool,
}

impl UnreadMembers {
    /// Returns the reasons, as they are counted and shown.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        let all = [("unreadable_time", self.time), ("wrong_type", self.member)];
        all.into_iter().filter_map(|(reason, is_so)| is_so.then_some(reason))
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

/// The code for the rejection of a message.
pub(in crate::gateway) type RejectionCode = &'static str;

impl MessageEnvelope<'_> {
    /// Returns true if readers of the journal can parse the members that a message copies.
    fn is_readable(&self, fields: &MessageFields<'_>) -> bool {
        let own = [fields.properties, fields.traits, fields.context, fields.integrations];
        let mut all = own.into_iter().chain([self.context, self.integrations]).flatten();
        all.all(is_readable)
    }

    /// Drafts a message whose text has this many bytes.
    pub(super) fn draft(
        &self,
        index: usize,
        fields: &MessageFields<'_>,
        bytes: usize,
        terms: &DecodeContext<'_>,
    ) -> Result<MessageDraft, RejectionCode> {
        // Checked before anything is copied.
        if bytes.saturating_add(self.shared_bytes()) > terms.limits.event_bytes {
            return Err("too_large");
        }
        if !self.is_plain && !self.is_readable(fields) {
            return Err("malformed");
        }
        let kind = match terms.kind {
            Some(kind) => kind,
            None => {
                let name = fields.kind.text().ok_or("missing_type")?;
                EventKind::from_name(name).ok_or("unknown_type")?
            }
        };
        let max = terms.limits.field_bytes;
        let mut context = merged(self.context, fields.context)?;
        let mut integrations = merged(self.integrations, fields.integrations)?;
        let own = [&fields.proof, &fields.user_hash, &fields.user_hash_2];
        let proofs = LoginProofs::take(own, &mut context, &mut integrations)?;
        let peek = context.as_ref().map(peek).unwrap_or_default();
        let mut written = [&fields.timestamp, &fields.original_timestamp].into_iter();
        let written = written.find_map(|time| time.text().filter(|text| !text.trim().is_empty()));
        let happened = written.and_then(read_event_time);
        let unread = UnreadMembers {
            time: written.is_some() && happened.is_none(),
            member: has_wrong_types(fields),
        };
        let sent_at = fields.sent_at.text().and_then(read_event_time).or(self.sent_at);
        let id = |field: &LooseText<'_>| bounded(field.id(terms.placeholder_ids), max);
        let plain =
            |field: &LooseText<'_>| bounded(field.text().filter(|text| !text.is_empty()), max);
        let message_id = id(&fields.message_id)?;
        let event = Event {
            kind,
            message_id: message_id.unwrap_or_else(|| new_message_id(terms.received_at)),
            event: if kind == EventKind::Track { plain(&fields.event)? } else { None },
            name: plain(&fields.name)?,
            category: plain(&fields.category)?,
            user_id: id(&fields.user_id)?,
            anonymous_id: id(&fields.anonymous_id)?,
            group_id: id(&fields.group_id)?,
            previous_id: id(&fields.previous_id)?,
            timestamp: time::correct(happened, sent_at, terms.received_at),
            received_at: terms.received_at,
            original_timestamp: happened,
            sent_at,
            properties: fields.properties.and_then(RawJsonObject::new),
            traits: fields.traits.and_then(RawJsonObject::new),
            context,
            integrations,
            facts: EventFacts::default(),
        };
        complete(&event)?;
        let ContextExcerpt { page_url, ip, user_agent, has_traits, consent } = peek;
        Ok(MessageDraft {
            index,
            event,
            page_url,
            ip,
            user_agent,
            has_traits,
            consent,
            beacon: None,
            shim: None,
            forwarded_to: None,
            becomes_event: true,
            proofs,
            unread,
        })
    }
}

impl MessageDraft {
    /// Drafts a message that is only a raw beacon, for the person of its first message. `consent`: the consent that
    /// all of its messages share.
    pub(in crate::gateway) fn of_beacon(
        index: usize,
        beacon: RawBeacon,
        first: Option<&Self>,
        consent: Option<ConsentRecord>,
        received_at: Timestamp,
    ) -> Self {
        let event = Event {
            kind: EventKind::Track,
            message_id: new_message_id(received_at),
            event: Some("Beacon".to_owned()),
            name: None,
            category: None,
            user_id: first.and_then(|first| first.event.user_id.clone()),
            anonymous_id: first.and_then(|first| first.event.anonymous_id.clone()),
            group_id: None,
            previous_id: None,
            timestamp: received_at,
            received_at,
            original_timestamp: None,
            sent_at: None,
            properties: None,
            traits: None,
            context: consent.as_ref().and_then(context_of),
            integrations: None,
            facts: EventFacts::default(),
        };
        Self {
            index,
            event,
            page_url: first.and_then(|first| first.page_url.clone()),
            ip: None,
            user_agent: None,
            has_traits: false,
            consent,
            beacon: Some(beacon),
            shim: None,
            forwarded_to: None,
            becomes_event: true,
            proofs: LoginProofs::default(),
            unread: UnreadMembers::default(),
        }
    }
}

/// Returns a context that has only this consent.
fn context_of(consent: &ConsentRecord) -> Option<RawJsonObject> {
    let answers: serde_json::Map<String, serde_json::Value> =
        consent.answers().map(|(name, answer)| (name.to_owned(), answer.into())).collect();
    let context = serde_json::json!({ "consent": { "categoryPreferences": answers } });
    RawJsonObject::new(&to_raw_value(&context).ok()?)
}

/// Checks the members that each kind requires (the Segment spec).
fn complete(event: &Event<RawJsonObject>) -> Result<(), RejectionCode> {
    match event.kind {
        EventKind::Track if event.event.as_ref().is_none_or(|name| name.trim().is_empty()) => {
            Err("missing_event")
        }
        EventKind::Group if event.group_id.is_none() => Err("missing_group_id"),
        EventKind::Alias if event.previous_id.is_none() => Err("missing_previous_id"),
        EventKind::Alias if event.user_id.is_none() => Err("missing_user_id"),
        _ => Ok(()),
    }
}

/// Returns the message's own id, to name it in a response.
pub(super) fn known_id(fields: &MessageFields<'_>, terms: &DecodeContext<'_>) -> Option<String> {
    bounded(fields.message_id.id(terms.placeholder_ids), terms.limits.field_bytes).ok().flatten()
}

fn bounded(text: Option<&str>, max: usize) -> Result<Option<String>, RejectionCode> {
    match text {
        Some(text) if text.len() > max => Err("field_too_long"),
        text => Ok(text.map(str::to_owned)),
    }
}

/// Returns true if a member has the wrong type. An empty list is accepted: it is how PHP writes an empty object.
fn has_wrong_types(fields: &MessageFields<'_>) -> bool {
    let texts = [&fields.event, &fields.name, &fields.category, &fields.user_id];
    let ids = [&fields.anonymous_id, &fields.group_id, &fields.previous_id, &fields.message_id];
    let objects = [fields.properties, fields.traits, fields.context, fields.integrations];
    texts.into_iter().chain(ids).any(|field| *field == LooseText::Wrong)
        || objects.into_iter().flatten().any(|raw| {
            let is_empty = matches!(raw.get(), "[]" | "\"\"" | "false");
            !raw.get().starts_with('{') && !is_empty
        })
}

/// Merges the message's own object over the one shared by all. Values that are no objects are ignored.
fn merged(
    all: Option<&RawValue>,
    own: Option<&RawValue>,
) -> Result<Option<RawJsonObject>, RejectionCode> {
    let is_object = |raw: &&RawValue| raw.get().starts_with('{');
    let (all, own) = (all.filter(is_object), own.filter(is_object));
    let (Some(all), Some(own)) = (all, own) else {
        return Ok(own.or(all).and_then(RawJsonObject::new));
    };
    let parse = |raw: &RawValue| {
        serde_json::from_str::<JsonObject>(raw.get()).map_err(|_invalid| "malformed")
    };
    let mut merged = parse(all)?;
    merged.extend(parse(own)?);
    let raw = to_raw_value(&merged).map_err(|_impossible| "malformed")?;
    Ok(RawJsonObject::new(&raw))
}

/// Returns an id for a message whose client sent none: ordered by time, as others' are.
fn new_message_id(received_at: Timestamp) -> String {
    let nanoseconds = u32::try_from(received_at.subsec_nanosecond()).unwrap_or_default();
    let seconds = u64::try_from(received_at.as_second()).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds);
    Uuid::new_v7(time).to_string()
}

#[derive(Default)]
struct ContextExcerpt {
    page_url: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    has_traits: bool,
    consent: Option<ConsentRecord>,
}

/// The keys of a context that the gateway reads.
const CONTEXT: &[&str] = &["page", "traits", "consent", "ip", "userAgent"];

/// Reads the members of a context that the gateway itself needs; members of another type are passed on unread.
fn peek(context: &RawJsonObject) -> ContextExcerpt {
    read_once(context.text(), CONTEXT, peek_once).unwrap_or_default()
}

/// Reads them from a context that has each key once.
fn peek_once(context: &str) -> Option<ContextExcerpt> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ContextMembers<'a> {
        #[serde(borrow, default)]
        page: Option<&'a RawValue>,
        #[serde(borrow, default)]
        traits: Option<&'a RawValue>,
        #[serde(borrow, default)]
        consent: Option<&'a RawValue>,
        #[serde(borrow, default)]
        ip: LooseText<'a>,
        #[serde(borrow, default)]
        user_agent: LooseText<'a>,
    }
    #[derive(Deserialize)]
    struct ContextPage<'a> {
        #[serde(borrow, default)]
        url: LooseText<'a>,
    }
    let members: ContextMembers<'_> = serde_json::from_str(context).ok()?;
    let page_url = |page: &str| {
        let page: ContextPage<'_> = serde_json::from_str(page).ok()?;
        Some(page.url.text().map(str::to_owned))
    };
    let page_url =
        members.page.and_then(|page| read_once(page.get(), &["url"], page_url)).flatten();
    Some(ContextExcerpt {
        page_url,
        ip: members.ip.text().and_then(read_visitor_address),
        user_agent: members.user_agent.text().map(str::to_owned),
        has_traits: members.traits.is_some(),
        consent: members.consent.and_then(|record| ConsentRecord::parse(record.get())),
    })
}
