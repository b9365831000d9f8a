//! Objects with repeated keys. The last value of a key is used, here as by every reader of the journal: otherwise
//! one reader could act on a value that another ignores.

use super::fields::MessageFields;
use super::loose::LooseText;
use tagway_core::event::RawMembers;

/// The keys of [`MessageFields`], as they appear in messages.
pub(super) const FIELDS: &[&str] = &[
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

/// Reads the fields of an object with repeated keys: the last value is used, as by every reader of trees.
pub(super) fn fields_with_repeats(text: &str) -> Option<Box<MessageFields<'_>>> {
    let members = RawMembers::read(text, FIELDS)?;
    let loose = |name| match members.get(name) {
        Some(raw) => serde_json::from_str(raw.get()).ok(),
        None => Some(LooseText::Absent),
    };
    let object = |name| members.get(name).filter(|raw| raw.get() != "null");
    Some(Box::new(MessageFields {
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

/// Reads the text of an object; if that fails, perhaps because of a repeated key, reads the text with each key once
/// and its last value.
pub(super) fn read_once<T>(
    text: &str,
    keys: &[&'static str],
    read: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    read(text).or_else(|| read(&RawMembers::read(text, keys)?.to_text()?))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::Value;

    use crate::gateway::decode::{DecodeContext, MessageDraft, read};
    use crate::gateway::tests::limits;

    fn drafts(text: &str) -> Vec<MessageDraft> {
        let limits = limits();
        let terms = DecodeContext {
            limits: &limits,
            kind: None,
            placeholder_ids: &[],
            received_at: Timestamp::UNIX_EPOCH,
        };
        let (drafts, rejected) = read(text.as_bytes(), &terms).unwrap();
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
            assert_eq!(draft.page_url.as_deref(), Some("https://x.example/"));
            assert_eq!(draft.ip, Some("192.0.2.3".parse().unwrap()));
            assert!(draft.has_traits);
            assert!(draft.consent.as_ref().unwrap().refuses(&["ads".to_owned()]));
            let record: Value = serde_json::to_value(&draft.event).unwrap();
            assert_eq!(record["traits"]["email"], "b");
            assert_eq!(record["context"]["ip"], "192.0.2.3");
        }
    }
}
