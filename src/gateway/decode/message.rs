//! Events made of canonical messages (`docs/contracts/beacons.md` 1.2, 2 and 7.1), each judged independently.

use jiff::Timestamp;
use uuid::Uuid;

use super::context_excerpt::ContextExcerpt;
use super::proof::LoginProofs;
use super::{DecodeContext, time};
use tagway_core::event::{
    Event, EventFacts, EventKind, JsonObject, RawBeacon, RawJsonObject, is_placeholder,
};
use tagway_core::privacy::{self, ConsentRecord};
use tagway_vendors::beacon_format::spec::{BodyMessage, is_readable_object};
use tagway_vendors::beacon_format::{
    CanonicalMessage, MessageFault, MessageHead, MessageObjects, MessageTime, ReadMessage,
    RejectedMessage,
};

/// A message that passed every check but those of identity.
#[derive(Debug)]
pub struct MessageDraft {
    /// The message's index in the request.
    pub index: usize,
    /// The event, with empty facts.
    pub event: Event<RawJsonObject>,
    /// The members of its context that the gateway needs.
    pub excerpt: ContextExcerpt,
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

/// The code for the rejection of a message.
pub(in crate::gateway) type RejectionCode = &'static str;

/// The objects of a message as the journal stores them, and the gateway's findings in them.
struct MessageContent {
    objects: MessageObjects<RawJsonObject>,
    excerpt: ContextExcerpt,
    proofs: LoginProofs,
}

impl MessageContent {
    /// Takes objects as their client wrote them.
    fn of_texts(
        mut objects: MessageObjects<RawJsonObject>,
        mut proofs: LoginProofs,
        anonymizes_ip: bool,
    ) -> Result<Self, RejectionCode> {
        proofs.take_from_texts(&mut objects.context, &mut objects.integrations)?;
        let excerpt = objects.context.as_ref().map(ContextExcerpt::of_text).unwrap_or_default();
        let addressed = [&mut objects.context, &mut objects.properties, &mut objects.traits];
        addressed.into_iter().flatten().filter(|_| anonymizes_ip).for_each(anonymize);
        Ok(Self { objects, excerpt, proofs })
    }

    /// Writes objects that are trees.
    fn of_trees(
        mut objects: MessageObjects<JsonObject>,
        mut proofs: LoginProofs,
        terms: &DecodeContext<'_>,
    ) -> Result<Self, RejectionCode> {
        let DecodeContext { limits, anonymizes_ip, .. } = *terms;
        proofs.take_from_trees(&mut objects.context, &mut objects.integrations);
        let excerpt = objects.context.as_ref().map(ContextExcerpt::of_tree).unwrap_or_default();
        let addressed = [&mut objects.context, &mut objects.properties, &mut objects.traits];
        for object in addressed.into_iter().flatten().filter(|_| anonymizes_ip) {
            privacy::anonymize(object);
        }
        // The message itself is a level.
        let max_depth = limits.json_depth.saturating_sub(1);
        let objects = objects.try_map(|object| {
            let written = RawJsonObject::of(&object);
            written.filter(|object| is_readable_object(object, max_depth)).ok_or("malformed")
        })?;
        Ok(Self { objects, excerpt, proofs })
    }
}

impl DecodeContext<'_> {
    /// Drafts the message of a body.
    pub(super) fn draft(
        &self,
        index: usize,
        message: BodyMessage,
    ) -> Result<MessageDraft, RejectedMessage> {
        match message {
            BodyMessage::Text(CanonicalMessage { kind, mut head, objects }) => {
                let proofs = LoginProofs::of(std::mem::take(&mut head.proofs));
                let content = MessageContent::of_texts(objects, proofs, self.anonymizes_ip);
                self.draft_content(index, kind, head, content)
            }
            BodyMessage::Tree(message) => self.draft_tree(index, message),
        }
    }

    /// Drafts a message that is not longer than an event may be.
    pub(super) fn draft_tree(
        &self,
        index: usize,
        message: CanonicalMessage,
    ) -> Result<MessageDraft, RejectedMessage> {
        let CanonicalMessage { kind, mut head, objects } = message;
        let proofs = LoginProofs::of(std::mem::take(&mut head.proofs));
        let content = MessageContent::of_trees(objects, proofs, self);
        self.draft_content(index, kind, head, content)
    }

    /// Drafts a message of a vendor's beacon.
    pub(in crate::gateway) fn draft_read(
        &self,
        read: ReadMessage,
    ) -> Result<MessageDraft, RejectedMessage> {
        let ReadMessage { index, bytes, message } = read;
        if bytes > self.limits.event_bytes {
            let message_id = message.head.message_id;
            return Err(self.reject(index, MessageFault { message_id, reason: "too_large" }));
        }
        self.draft_tree(index, message)
    }

    /// Returns a rejected message of this fault.
    pub(super) fn reject(&self, index: usize, fault: MessageFault) -> RejectedMessage {
        let MessageFault { message_id, reason } = fault;
        self.shown(RejectedMessage { index, message_id, reason })
    }

    /// Returns a rejected message, with its id only if that is a real one.
    pub(in crate::gateway) fn shown(&self, rejected: RejectedMessage) -> RejectedMessage {
        let message_id = self.id(rejected.message_id).unwrap_or_default();
        RejectedMessage { message_id, ..rejected }
    }

    fn draft_content(
        &self,
        index: usize,
        kind: EventKind,
        mut head: MessageHead,
        content: Result<MessageContent, RejectionCode>,
    ) -> Result<MessageDraft, RejectedMessage> {
        let (message_id, draft) = match self.id(head.message_id.take()) {
            Err(reason) => (None, Err(reason)),
            Ok(id) => {
                (id, content.and_then(|content| self.draft_event(index, kind, head, content)))
            }
        };
        match draft {
            Ok(mut draft) => {
                draft.event.message_id =
                    message_id.unwrap_or_else(|| new_message_id(self.received_at));
                Ok(draft)
            }
            Err(reason) => Err(RejectedMessage { index, message_id, reason }),
        }
    }

    /// Drafts a message whose event gets its id later.
    fn draft_event(
        &self,
        index: usize,
        kind: EventKind,
        head: MessageHead,
        content: MessageContent,
    ) -> Result<MessageDraft, RejectionCode> {
        let MessageContent { objects, excerpt, proofs } = content;
        let happened = head.timestamp.as_ref().and_then(MessageTime::timestamp);
        let unread = UnreadMembers {
            time: head.timestamp.is_some() && happened.is_none(),
            member: head.has_wrong_type,
        };
        let track_name = head.event.filter(|_| kind == EventKind::Track);
        let event = Event {
            kind,
            message_id: String::new(),
            event: self.name(track_name)?,
            name: self.name(head.name)?,
            category: self.name(head.category)?,
            user_id: self.id(head.user_id)?,
            anonymous_id: self.id(head.anonymous_id)?,
            group_id: self.id(head.group_id)?,
            previous_id: self.id(head.previous_id)?,
            timestamp: time::correct(happened, head.sent_at, self.received_at),
            received_at: self.received_at,
            original_timestamp: happened,
            sent_at: head.sent_at,
            properties: objects.properties,
            traits: objects.traits,
            context: objects.context,
            integrations: objects.integrations,
            facts: EventFacts::default(),
        };
        complete(&event)?;
        Ok(MessageDraft {
            index,
            event,
            excerpt,
            beacon: None,
            shim: head.shim,
            forwarded_to: None,
            becomes_event: true,
            proofs,
            unread,
        })
    }

    /// Returns an id without the space around it, if it is a real one.
    fn id(&self, id: Option<String>) -> Result<Option<String>, RejectionCode> {
        let Some(id) = id else { return Ok(None) };
        let trimmed = id.trim();
        if is_placeholder(trimmed, self.placeholder_ids) {
            return Ok(None);
        }
        let id = if trimmed.len() == id.len() { id } else { trimmed.to_owned() };
        self.name(Some(id))
    }

    /// Returns a name, if it is not empty.
    fn name(&self, name: Option<String>) -> Result<Option<String>, RejectionCode> {
        match name.filter(|name| !name.is_empty()) {
            Some(name) if name.len() > self.limits.field_bytes => Err("field_too_long"),
            name => Ok(name),
        }
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
        terms: &DecodeContext<'_>,
    ) -> Result<Self, RejectedMessage> {
        let mut message = CanonicalMessage::track("Beacon");
        message.head.user_id = first.and_then(|first| first.event.user_id.clone());
        message.head.anonymous_id = first.and_then(|first| first.event.anonymous_id.clone());
        message.objects.context = consent.as_ref().map(context_of);
        let mut draft = terms.draft_tree(index, message)?;
        draft.excerpt.page_url = first.and_then(|first| first.excerpt.page_url.clone());
        (draft.excerpt.consent, draft.beacon) = (consent, Some(beacon));
        Ok(draft)
    }
}

/// Truncates every address in an object to its network.
fn anonymize(object: &mut RawJsonObject) {
    if !privacy::may_name_address(object.text()) {
        return;
    }
    if let Ok(mut tree) = object.parse()
        && privacy::anonymize(&mut tree)
        && let Some(raw) = RawJsonObject::of(&tree)
    {
        *object = raw;
    }
}

/// Returns a context that has only this consent.
fn context_of(consent: &ConsentRecord) -> JsonObject {
    let answers = consent.answers().map(|(name, answer)| (name.to_owned(), answer.into()));
    let answers = JsonObject::from_iter(answers);
    let consent = serde_json::json!({ "categoryPreferences": answers });
    JsonObject::from_iter([("consent".to_owned(), consent)])
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

/// Returns an id for a message whose client sent none: ordered by time, as others' are.
fn new_message_id(received_at: Timestamp) -> String {
    let nanoseconds = u32::try_from(received_at.subsec_nanosecond()).unwrap_or_default();
    let seconds = u64::try_from(received_at.as_second()).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds);
    Uuid::new_v7(time).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::gateway::GatewayLimits;
    use crate::gateway::decode::{DecodeContext, JudgedMessages, MessageDraft, read, read_query};
    use crate::gateway::tests::limits;
    use jiff::Timestamp;
    use tagway_core::event::EventKind;

    fn terms(limits: &GatewayLimits) -> DecodeContext<'_> {
        DecodeContext {
            limits,
            kind: None,
            placeholder_ids: &[],
            anonymizes_ip: false,
            received_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn shim_messages_are_translated_to_the_spec() {
        let limits = limits();
        let terms = terms(&limits);
        let message = |shim: &str| {
            json!({ "type": "track", "event": "purchase", "messageId": shim, "shim": shim,
                    "anonymousId": "a", "properties": { "transaction_id": "T" } })
        };
        let of = |body: Value| {
            let JudgedMessages { drafts, rejected, .. } =
                read(body.to_string().as_bytes(), &terms).unwrap();
            assert_eq!(rejected, []);
            let name = |it: &MessageDraft| it.event.event.clone().unwrap();
            drafts.iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(of(message("ga4")), ["Order Completed"]);
        let batch = json!({ "batch": [message("ga4"), message("segment"), message("nobody")] });
        assert_eq!(of(batch.clone()), ["Order Completed", "purchase", "purchase"]);
        let JudgedMessages { drafts, .. } = read(batch.to_string().as_bytes(), &terms).unwrap();
        let shims: Vec<_> = drafts.iter().map(|draft| draft.shim).collect();
        assert_eq!(shims, [Some("ga4"), Some("segment"), None]);
    }

    #[test]
    fn translated_messages_keep_the_limits_of_an_event() {
        let limits = limits();
        let terms = terms(&limits);
        // Its value becomes three.
        let value = "x".repeat(limits.event_bytes / 2);
        let message = json!({ "type": "track", "event": "purchase", "shim": "ga4",
            "anonymousId": "a", "properties": { "value": value } });
        let JudgedMessages { drafts, rejected, .. } =
            read(message.to_string().as_bytes(), &terms).unwrap();
        assert!(drafts.is_empty());
        assert_eq!(rejected[0].reason, "too_large");
    }

    #[test]
    fn messages_that_are_written_again_keep_the_limits_of_an_event() {
        let limits = limits();
        let terms = terms(&limits);
        let reasons = |judged: JudgedMessages| {
            assert!(judged.drafts.is_empty());
            judged.rejected.iter().map(|it| it.reason).collect::<Vec<_>>()
        };
        // Four bytes of a number become eighteen.
        let numbers = vec!["1e15"; limits.event_bytes / 10].join(",");
        let message = format!(
            r#"{{"type":"track","type":"track","event":"e","userId":"u","properties":{{"a":[{numbers}]}}}}"#
        );
        assert_eq!(reasons(read(message.as_bytes(), &terms).unwrap()), ["too_large"]);
        // A byte of a query becomes six of a text.
        let query =
            format!("event=x&userId=u&properties.a={}", "%01".repeat(limits.event_bytes / 5));
        let judged = read_query(&query, &terms, &limits.body_limits()).unwrap();
        assert_eq!(reasons(judged), ["too_large"]);
    }

    #[test]
    fn values_that_readers_of_the_journal_would_change_are_rejected() {
        let limits = limits();
        let terms = terms(&limits);
        let key = r#""x":{"$serde_json::private::RawValue":"{\"y\":1}"}"#;
        let message = format!(
            r#"{{"type":"track","event":"e","messageId":"m","userId":"u","properties":{{{key}}}}}"#
        );
        for text in [message.clone(), format!(r#"{{"context":{{"a":1}},"batch":[{message}]}}"#)] {
            let judged = read(text.as_bytes(), &terms).unwrap();
            assert!(judged.drafts.is_empty(), "{text}");
            assert_eq!(judged.rejected[0].reason, "malformed", "{text}");
            assert_eq!(judged.rejected[0].message_id.as_deref(), Some("m"), "{text}");
        }
        // A number of a member that is not kept is not read.
        let unknown = r#"{"context":{"a":1},"batch":[{"type":"page","userId":"u","x":1e999}]}"#;
        assert_eq!(read(unknown.as_bytes(), &terms).unwrap().drafts.len(), 1);
        let repeated = r#"{"type":"page","type":"page","userId":"u","batch":null}"#;
        assert_eq!(read(repeated.as_bytes(), &terms).unwrap().drafts.len(), 1);
    }

    fn drafts(text: &str) -> Vec<MessageDraft> {
        let limits = limits();
        let terms = terms(&limits);
        let JudgedMessages { drafts, rejected, .. } = read(text.as_bytes(), &terms).unwrap();
        assert_eq!(rejected, [], "{text}");
        drafts
    }

    #[test]
    fn last_value_of_a_repeated_key_is_used_by_the_gateway_and_its_readers() {
        let message = r#"{"type":"page","type":"track","event":"a","event":"b","messageId":"m",
            "userId":"x","anonymousId":"d","\u0075serId":"y","traits":{"email":"a","email":"b"},
            "context":{"ip":"192.0.2.1"},
            "context":{"page":{"url":"u","url":"v"},"page":{"url":"w","url":"https://x.example/"},
            "traits":{},"consent":{"categoryPreferences":{"ads":true}},
            "consent":{"categoryPreferences":{"ads":true,"ads":false}},"ip":"192.0.2.2",
            "ip":"192.0.2.3"}}"#;
        for text in [
            message.to_owned(),
            format!("[{message}]"),
            format!(r#"{{"batch":[{message}]}}"#),
            format!(r#"{{"batch":7,"writeKey":"a","writeKey":"b","batch":[{message}]}}"#),
        ] {
            let drafts = drafts(&text);
            let [draft] = drafts.as_slice() else { panic!("{text}") };
            assert_eq!(draft.event.event.as_deref(), Some("b"));
            assert_eq!(draft.event.user_id.as_deref(), Some("y"));
            assert_eq!(draft.excerpt.page_url.as_deref(), Some("https://x.example/"));
            assert_eq!(draft.excerpt.ip, Some("192.0.2.3".parse().unwrap()));
            assert!(draft.excerpt.has_traits);
            assert!(draft.excerpt.consent.as_ref().unwrap().refuses(&["ads".to_owned()]));
            let record: Value = serde_json::to_value(&draft.event).unwrap();
            assert_eq!(record["traits"]["email"], "b");
            assert_eq!(record["context"]["ip"], "192.0.2.3");
        }
    }

    #[test]
    fn placeholders_are_no_ids() {
        let (limits, placeholder_ids) = (limits(), ["gast".to_owned()]);
        let terms = DecodeContext { placeholder_ids: &placeholder_ids, ..terms(&limits) };
        for none in ["", " ", "0", "null", "undefined", "false", "(not set)", "gast"] {
            assert_eq!(terms.id(Some(none.to_owned())), Ok(None), "{none:?}");
        }
        assert_eq!(terms.id(Some(" u1 ".to_owned())), Ok(Some("u1".to_owned())));
        assert_eq!(terms.id(None), Ok(None));
    }

    #[test]
    fn event_of_a_pixel_is_a_track_unless_it_has_a_type() {
        let limits = limits();
        let terms = terms(&limits);
        for (query, expected) in [
            ("event=x", Ok(EventKind::Track)),
            ("event=x&type=page", Ok(EventKind::Page)),
            ("data=eyJldmVudCI6IngiLCJ0eXBlIjoidHJhY2sifQ", Ok(EventKind::Track)),
            ("userId=x", Err("missing_type")),
        ] {
            let judged = read_query(query, &terms, &limits.body_limits()).unwrap();
            let found = match (judged.drafts.first(), judged.rejected.first()) {
                (Some(draft), None) => Ok(draft.event.kind),
                (None, Some(rejected)) => Err(rejected.reason),
                other => panic!("{query}: {other:?}"),
            };
            assert_eq!(found, expected, "{query}");
        }
    }
}
