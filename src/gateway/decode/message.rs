//! Messages of the Segment spec (`contracts/beacons.md` 1.2, 2 and 7.1), one or many in a body.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::fields::Fields;
use super::loose::Loose;
use super::proof::LoginProofs;
use super::readable::is_readable;
use super::repeated::{FIELDS, fields_with_repeats, read_once};
use super::retold::retold;
use super::text::Text;
use super::{Terms, time};
use crate::event::{Event, Facts, Kind, Object, RawBeacon, RawObject};
use crate::gateway::rejection::Rejection;
use crate::privacy::Consent;
use crate::vendors;
use crate::vendors::wire::{self, ListError};

/// A message that passed every check but those of identity, and what the gateway needs to know of
/// its context.
#[derive(Debug)]
pub struct Draft {
    /// Its place in the request.
    pub index: usize,
    /// The event, with empty facts.
    pub event: Event<RawObject>,
    /// The page's URL, as the client said.
    pub page_url: Option<String>,
    /// The visitor's address, as the client said.
    pub ip: Option<IpAddr>,
    /// The visitor's user agent, as the client said.
    pub user_agent: Option<String>,
    /// Whether the context says something of the person.
    pub has_traits: bool,
    /// What the visitor agreed to, as the client said.
    pub consent: Option<Consent>,
    /// The beacon that is all there is to it, if it is to be passed on to its vendor.
    pub beacon: Option<RawBeacon>,
    /// The vendor whose shim tells of it.
    pub shim: Option<&'static str>,
    /// The vendor that hears of it by its own beacon.
    pub told: Option<String>,
    /// Whether it is kept, and not only looked at on behalf of its beacon.
    pub is_kept: bool,
    /// What it brings to prove its user id.
    pub proofs: LoginProofs,
}

/// A message that was not accepted, as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// Its place in the request.
    pub index: usize,
    /// Its id, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Why: a word from the source.
    pub reason: &'static str,
}

/// Why a message cannot be accepted.
pub(in crate::gateway) type Invalid = &'static str;

/// A body's messages, not yet judged, and what the body says of all of them.
pub(in crate::gateway) struct Envelope<'a> {
    /// The write key in the body.
    write_key: Loose<'a>,
    sent_at: Option<Timestamp>,
    context: Option<&'a RawValue>,
    integrations: Option<&'a RawValue>,
    messages: Messages<'a>,
    /// Whether readers can parse all of it.
    is_plain: bool,
}

enum Messages<'a> {
    /// The body is the message; its text.
    One(Box<Fields<'a>>, &'a str),
    Many(Vec<&'a RawValue>),
}

/// Reads a body: one message, a list of messages, or an object whose `batch` is one. Of a list no more
/// than so many messages, and with what is said of all no more than so many bytes.
pub(in crate::gateway) fn open<'a>(
    body: &'a Text<'_>,
    terms: &Terms<'_>,
    (events, bytes): (usize, usize),
) -> Result<Envelope<'a>, Rejection> {
    let (text, is_plain) = (body.text(), body.is_plain());
    let events = events.min(terms.limits.events_within(text.len()));
    if text.starts_with('[') {
        let messages = messages(text, events, "the body is not JSON")?;
        return Envelope::bare(messages, is_plain)
            .bounded(terms.limits.made_of(text.len()).min(bytes));
    }
    if !text.starts_with('{') {
        return Err(Rejection::Malformed("the body is neither a JSON object nor a list"));
    }
    let fields = match serde_json::from_str::<Box<Fields<'_>>>(text) {
        Ok(fields) => fields,
        Err(_) => fields_with_repeats(text).ok_or(Rejection::Malformed("the body is not JSON"))?,
    };
    let Some(batch) = fields.batch else {
        let write_key = fields.write_key.clone();
        let messages = Messages::One(fields, text);
        return Ok(Envelope { write_key, ..Envelope::bare(messages, is_plain) });
    };
    let envelope = Envelope {
        write_key: fields.write_key,
        sent_at: fields.sent_at.text().and_then(time::parse),
        context: fields.context,
        integrations: fields.integrations,
        messages: messages(batch.get(), events, "batch is not a list")?,
        is_plain,
    };
    envelope.bounded(terms.limits.made_of(text.len()).min(bytes))
}

fn messages<'a>(
    list: &'a str,
    events: usize,
    otherwise: &'static str,
) -> Result<Messages<'a>, Rejection> {
    match wire::items(list.as_bytes(), events) {
        Ok(messages) => Ok(Messages::Many(messages)),
        Err(ListError::TooLong) => Err(Rejection::TooMany),
        Err(ListError::NotAList) => Err(Rejection::Malformed(otherwise)),
    }
}

/// Reads a text that is one message, whatever members it has.
pub(super) fn alone<'a>(body: &'a Text<'_>) -> Option<Envelope<'a>> {
    let fields = serde_json::from_str(body.text()).ok()?;
    Some(Envelope::bare(Messages::One(fields, body.text()), body.is_plain()))
}

impl<'a> Envelope<'a> {
    fn bare(messages: Messages<'a>, is_plain: bool) -> Self {
        let (write_key, sent_at) = (Loose::Absent, None);
        let (context, integrations) = (None, None);
        Self { write_key, sent_at, context, integrations, messages, is_plain }
    }

    /// What a body gives for all its messages becomes part of each, and is bounded as such.
    fn bounded(self, max: usize) -> Result<Self, Rejection> {
        let Messages::Many(messages) = &self.messages else { return Ok(self) };
        if messages.is_empty() {
            return Err(Rejection::Malformed("there is no message in the body"));
        }
        let own: usize = messages.iter().map(|message| message.get().len()).sum();
        let shared = self.shared_bytes().saturating_mul(messages.len());
        if own.saturating_add(shared) > max {
            return Err(Rejection::TooLarge);
        }
        Ok(self)
    }

    /// Bytes of what the body gives for all its messages.
    fn shared_bytes(&self) -> usize {
        let shared = [self.context, self.integrations].into_iter().flatten();
        shared.map(|raw| raw.get().len()).sum()
    }

    /// The write key that stands in the body.
    pub(in crate::gateway) fn write_key(&self) -> Option<&str> {
        self.write_key.text()
    }

    /// How many messages there are.
    pub(in crate::gateway) fn len(&self) -> usize {
        match &self.messages {
            Messages::One(..) => 1,
            Messages::Many(messages) => messages.len(),
        }
    }

    /// Judges every message by itself.
    pub(in crate::gateway) fn judge(self, terms: &Terms<'_>) -> (Vec<Draft>, Vec<Rejected>) {
        let (mut drafts, mut rejected) = (Vec::with_capacity(self.len()), Vec::new());
        let mut sort = |index, message_id, result: Result<Draft, Invalid>| match result {
            Ok(draft) => drafts.push(draft),
            Err(reason) => rejected.push(Rejected { index, message_id, reason }),
        };
        match &self.messages {
            Messages::One(fields, text) => {
                sort(0, known_id(fields, terms), self.told(0, fields, text, terms));
            }
            Messages::Many(messages) => {
                for (index, raw) in messages.iter().enumerate() {
                    let judged = read_once(raw.get(), FIELDS, |text| {
                        let fields: Fields<'_> = serde_json::from_str(text).ok()?;
                        Some((
                            known_id(&fields, terms),
                            self.told(index, &fields, raw.get(), terms),
                        ))
                    });
                    let (id, result) = judged.unwrap_or((None, Err("malformed")));
                    sort(index, id, result);
                }
            }
        }
        (drafts, rejected)
    }

    /// Whether readers can parse what a message copies.
    fn is_readable(&self, fields: &Fields<'_>) -> bool {
        let own = [fields.properties, fields.traits, fields.context, fields.integrations];
        let mut all = own.into_iter().chain([self.context, self.integrations]).flatten();
        all.all(is_readable)
    }

    /// The draft of a message, whose words may be a vendor's.
    fn told(
        &self,
        index: usize,
        fields: &Fields<'_>,
        text: &str,
        terms: &Terms<'_>,
    ) -> Result<Draft, Invalid> {
        let shim = fields.shim.text().and_then(vendors::find).filter(|it| it.shim.is_some());
        let is_short = text.len() <= terms.limits.event_bytes;
        let mut draft = match retold(shim.filter(|_| is_short), text)? {
            None => self.draft(index, fields, text.len(), terms)?,
            Some(text) => {
                let fields: Fields<'_> =
                    serde_json::from_str(&text).map_err(|_invalid| "malformed")?;
                self.draft(index, &fields, text.len(), terms)?
            }
        };
        draft.shim = shim.map(|vendor| vendor.name);
        Ok(draft)
    }

    fn draft(
        &self,
        index: usize,
        fields: &Fields<'_>,
        bytes: usize,
        terms: &Terms<'_>,
    ) -> Result<Draft, Invalid> {
        // Counted before anything is copied.
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
                Kind::from_name(name).ok_or("unknown_type")?
            }
        };
        let max = terms.limits.field_bytes;
        let mut context = merged(self.context, fields.context)?;
        let mut integrations = merged(self.integrations, fields.integrations)?;
        let own = [&fields.proof, &fields.user_hash, &fields.user_hash_2];
        let proofs = LoginProofs::take(own, &mut context, &mut integrations)?;
        let peek = context.as_ref().map(peek).unwrap_or_default();
        let happened = fields.timestamp.text().or(fields.original_timestamp.text());
        let happened = happened.and_then(time::parse);
        let sent_at = fields.sent_at.text().and_then(time::parse).or(self.sent_at);
        let message_id = id(&fields.message_id, max)?;
        let event = Event {
            kind,
            message_id: message_id.unwrap_or_else(|| mint(terms.received_at)),
            event: if kind == Kind::Track { plain(&fields.event, max)? } else { None },
            name: plain(&fields.name, max)?,
            category: plain(&fields.category, max)?,
            user_id: id(&fields.user_id, max)?,
            anonymous_id: id(&fields.anonymous_id, max)?,
            group_id: id(&fields.group_id, max)?,
            previous_id: id(&fields.previous_id, max)?,
            timestamp: time::correct(happened, sent_at, terms.received_at),
            received_at: terms.received_at,
            original_timestamp: happened,
            sent_at,
            properties: object(fields.properties)?,
            traits: object(fields.traits)?,
            context,
            integrations,
            facts: Facts::default(),
        };
        complete(&event)?;
        let Peek { page_url, ip, user_agent, has_traits, consent } = peek;
        Ok(Draft {
            index,
            event,
            page_url,
            ip,
            user_agent,
            has_traits,
            consent,
            beacon: None,
            shim: None,
            told: None,
            is_kept: true,
            proofs,
        })
    }
}

impl Draft {
    /// A draft that is nothing but a beacon, on behalf of whom its first message names. `consent`: what
    /// holds for all of its messages.
    pub(in crate::gateway) fn of_beacon(
        index: usize,
        beacon: RawBeacon,
        first: Option<&Self>,
        consent: Option<Consent>,
        received_at: Timestamp,
    ) -> Self {
        let event = Event {
            kind: Kind::Track,
            message_id: mint(received_at),
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
            facts: Facts::default(),
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
            told: None,
            is_kept: true,
            proofs: LoginProofs::default(),
        }
    }
}

/// A context that says nothing but what was agreed to.
fn context_of(consent: &Consent) -> Option<RawObject> {
    let answers: serde_json::Map<String, serde_json::Value> =
        consent.answers().map(|(name, answer)| (name.to_owned(), answer.into())).collect();
    let context = serde_json::json!({ "consent": { "categoryPreferences": answers } });
    RawObject::new(&to_raw_value(&context).ok()?)
}

/// What each kind cannot do without (the Segment spec).
fn complete(event: &Event<RawObject>) -> Result<(), Invalid> {
    match event.kind {
        Kind::Track if event.event.as_ref().is_none_or(|name| name.trim().is_empty()) => {
            Err("missing_event")
        }
        Kind::Group if event.group_id.is_none() => Err("missing_group_id"),
        Kind::Alias if event.previous_id.is_none() => Err("missing_previous_id"),
        Kind::Alias if event.user_id.is_none() => Err("missing_user_id"),
        _ => Ok(()),
    }
}

/// The message's own id, to name it in an answer.
fn known_id(fields: &Fields<'_>, terms: &Terms<'_>) -> Option<String> {
    id(&fields.message_id, terms.limits.field_bytes).ok().flatten()
}

fn id(field: &Loose<'_>, max: usize) -> Result<Option<String>, Invalid> {
    bounded(field, field.id(), max)
}

fn plain(field: &Loose<'_>, max: usize) -> Result<Option<String>, Invalid> {
    bounded(field, field.text().filter(|text| !text.is_empty()), max)
}

fn bounded(field: &Loose<'_>, text: Option<&str>, max: usize) -> Result<Option<String>, Invalid> {
    match (field, text) {
        (Loose::Wrong, _) => Err("field_not_text"),
        (_, Some(text)) if text.len() > max => Err("field_too_long"),
        (_, text) => Ok(text.map(str::to_owned)),
    }
}

fn object(raw: Option<&RawValue>) -> Result<Option<RawObject>, Invalid> {
    raw.map(|raw| RawObject::new(raw).ok_or("object_expected")).transpose()
}

/// The message's own object over the one the body gives for all.
fn merged(all: Option<&RawValue>, own: Option<&RawValue>) -> Result<Option<RawObject>, Invalid> {
    let (Some(all), Some(own)) = (all, own) else { return object(own.or(all)) };
    let parse = |raw: &RawValue| serde_json::from_str::<Object>(raw.get());
    let (Ok(mut merged), Ok(own)) = (parse(all), parse(own)) else { return Err("object_expected") };
    merged.extend(own);
    let raw = to_raw_value(&merged).map_err(|_impossible| "malformed")?;
    Ok(RawObject::new(&raw))
}

/// An id for a message whose client sent none: ordered by time, as others' are.
fn mint(received_at: Timestamp) -> String {
    let nanoseconds = u32::try_from(received_at.subsec_nanosecond()).unwrap_or_default();
    let seconds = u64::try_from(received_at.as_second()).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds);
    Uuid::new_v7(time).to_string()
}

#[derive(Default)]
struct Peek {
    page_url: Option<String>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    has_traits: bool,
    consent: Option<Consent>,
}

/// The keys of a context that the gateway looks at.
const CONTEXT: &[&str] = &["page", "traits", "consent", "ip", "userAgent"];

/// What the gateway itself needs of a context; members of another form are passed on unread.
fn peek(context: &RawObject) -> Peek {
    read_once(context.text(), CONTEXT, peek_once).unwrap_or_default()
}

/// The same of a context that has each key once.
fn peek_once(context: &str) -> Option<Peek> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Members<'a> {
        #[serde(borrow, default)]
        page: Option<&'a RawValue>,
        #[serde(borrow, default)]
        traits: Option<&'a RawValue>,
        #[serde(borrow, default)]
        consent: Option<&'a RawValue>,
        #[serde(borrow, default)]
        ip: Loose<'a>,
        #[serde(borrow, default)]
        user_agent: Loose<'a>,
    }
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow, default)]
        url: Loose<'a>,
    }
    let members: Members<'_> = serde_json::from_str(context).ok()?;
    let page_url = |page: &str| {
        let page: Page<'_> = serde_json::from_str(page).ok()?;
        Some(page.url.text().map(str::to_owned))
    };
    let page_url =
        members.page.and_then(|page| read_once(page.get(), &["url"], page_url)).flatten();
    Some(Peek {
        page_url,
        ip: members.ip.text().and_then(|ip| ip.parse().ok()),
        user_agent: members.user_agent.text().map(str::to_owned),
        has_traits: members.traits.is_some(),
        consent: members.consent.and_then(|record| Consent::parse(record.get())),
    })
}
