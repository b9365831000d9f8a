//! Login proofs in messages: a message's own `proof` or `userHash`, the context's `userHash`, the options of Tagway
//! or Intercom among the integrations. They are removed from the event, whether valid or not: whoever reads one can
//! act as its user.

use std::fmt;

use serde_json::Value;

use super::message::RejectionCode;
use tagway_core::event::{JsonObject, RawJsonObject};

/// The names of a proof where no other member has them.
const NAMES: [&str; 3] = ["proof", "userHash", "user_hash"];

/// The names of a proof in a context.
const HASH_NAMES: [&str; 2] = ["userHash", "user_hash"];

/// The integration whose options contain a proof for this gateway, in lower case.
const OURS: &str = "tagway";

/// The integration whose options contain a proof of the same form, made with this site's key or with the vendor's.
const SHARED: &str = "intercom";

/// The login proofs of one message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct LoginProofs {
    /// The proofs for this gateway.
    pub ours: Vec<Box<str>>,
    /// The proofs that may be for another vendor.
    pub shared: Vec<Box<str>>,
}

impl fmt::Debug for LoginProofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginProofs({} and {})", self.ours.len(), self.shared.len())
    }
}

impl LoginProofs {
    /// Takes the message's own members of these names.
    pub(super) fn of(ours: Vec<Box<str>>) -> Self {
        Self { ours, shared: Vec::new() }
    }

    /// Removes the proofs from a message's objects.
    pub(super) fn take_from_texts(
        &mut self,
        context: &mut Option<RawJsonObject>,
        integrations: &mut Option<RawJsonObject>,
    ) -> Result<(), RejectionCode> {
        change(integrations, |object| self.take_options(object))?;
        change(context, |object| self.take_from_context(object))
    }

    /// Removes the proofs from a message's objects.
    pub(super) fn take_from_trees(
        &mut self,
        context: &mut Option<JsonObject>,
        integrations: &mut Option<JsonObject>,
    ) {
        if let Some(integrations) = integrations {
            self.take_options(integrations);
        }
        if let Some(context) = context {
            self.take_from_context(context);
        }
    }

    /// Removes the proofs from a context; returns true if there were any.
    fn take_from_context(&mut self, context: &mut JsonObject) -> bool {
        let is_found = HASH_NAMES.iter().filter(|name| take(context, name, &mut self.ours));
        let is_found = is_found.count() > 0;
        self.take_options(context) || is_found
    }

    /// Removes the proofs from vendors' options; returns true if there were any.
    fn take_options(&mut self, object: &mut JsonObject) -> bool {
        let mut is_found = false;
        for (vendor, options) in object.iter_mut() {
            let proofs = match vendor {
                vendor if vendor.eq_ignore_ascii_case(OURS) => &mut self.ours,
                vendor if vendor.eq_ignore_ascii_case(SHARED) => &mut self.shared,
                _ => continue,
            };
            let Value::Object(options) = options else { continue };
            for name in NAMES {
                is_found |= take(options, name, proofs);
            }
        }
        is_found
    }
}

/// Removes a member; returns true if it was there.
fn take(object: &mut JsonObject, name: &str, into: &mut Vec<Box<str>>) -> bool {
    let Some(value) = object.shift_remove(name) else { return false };
    into.extend(value.as_str().filter(|text| !text.is_empty()).map(Box::from));
    true
}

/// Changes an object, if it may contain a proof and `work` returns true for a change.
fn change(
    object: &mut Option<RawJsonObject>,
    work: impl FnOnce(&mut JsonObject) -> bool,
) -> Result<(), RejectionCode> {
    let Some(raw) = object.as_ref().filter(|raw| may_hold(raw.text())) else { return Ok(()) };
    let mut tree = raw.parse().map_err(|_invalid| "malformed")?;
    if work(&mut tree) {
        *object = Some(RawJsonObject::of(&tree).ok_or("malformed")?);
    }
    Ok(())
}

/// Returns true if a text may have a member of these names. A name may be written with escapes.
fn may_hold(text: &str) -> bool {
    let has = |part: &str| memchr::memmem::find(text.as_bytes(), part.as_bytes()).is_some();
    has("serHash") || has("ser_hash") || has("proof") || has("\\u")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::gateway::decode::{DecodeContext, JudgedMessages, MessageDraft, read};
    use crate::gateway::tests::limits;

    fn drafts(body: &str) -> Vec<MessageDraft> {
        let limits = limits();
        let terms = DecodeContext {
            limits: &limits,
            kind: None,
            placeholder_ids: &[],
            anonymizes_ip: false,
            received_at: Timestamp::UNIX_EPOCH,
        };
        let JudgedMessages { drafts, rejected, .. } = read(body.as_bytes(), &terms).unwrap();
        assert_eq!(rejected, []);
        drafts
    }

    /// Returns the proofs of a message with these members, and its event's text.
    fn taken(members: &Value) -> (LoginProofs, String) {
        let mut message = json!({ "type": "identify", "messageId": "m", "userId": "u1" });
        message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let draft = drafts(&message.to_string()).remove(0);
        (draft.proofs, serde_json::to_string(&draft.event).unwrap())
    }

    #[test]
    fn proofs_are_taken_from_every_place_and_leave_the_event() {
        let ours = [
            json!({ "proof": "SECRET" }),
            json!({ "userHash": "SECRET" }),
            json!({ "user_hash": "SECRET" }),
            json!({ "context": { "userHash": "SECRET", "ip": "192.0.2.1" } }),
            json!({ "context": { "user_hash": "SECRET" } }),
            json!({ "integrations": { "All": true, "Tagway": { "userHash": "SECRET", "x": 1 } } }),
            json!({ "integrations": { "tagway": { "proof": "SECRET" } } }),
            json!({ "context": { "Tagway": { "user_hash": "SECRET" } } }),
        ];
        let shared = [
            json!({ "integrations": { "Intercom": { "user_hash": "SECRET" } } }),
            json!({ "integrations": { "Intercom": { "userHash": "SECRET" } } }),
            json!({ "context": { "Intercom": { "user_hash": "SECRET" } } }),
        ];
        for members in &ours {
            let (proofs, event) = taken(members);
            assert_eq!((&*proofs.ours, &*proofs.shared), (&["SECRET".into()][..], &[][..]));
            assert!(!event.contains("SECRET"), "{event}");
        }
        for members in &shared {
            let (proofs, event) = taken(members);
            assert_eq!((&*proofs.ours, &*proofs.shared), (&[][..], &["SECRET".into()][..]));
            assert!(!event.contains("SECRET"), "{event}");
            assert!(!format!("{proofs:?}").contains("SECRET"));
        }
        let (_, event) = taken(&ours[5]);
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["integrations"], json!({ "All": true, "Tagway": { "x": 1 } }));
        let (_, event) = taken(&ours[3]);
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(event["context"], json!({ "ip": "192.0.2.1" }));
    }

    #[test]
    fn proofs_leave_the_event_however_their_names_are_written() {
        let message =
            |context: &str| format!(r#"{{"type":"page","userId":"u1","context":{{{context}}}}}"#);
        for context in [
            r#""user\u0048ash":"SECRET""#,
            r#""userHash":"SECRET","userHash":"SECRET""#,
            r#""userHash":{"a":"SECRET"}"#,
            r#""page":{"url":"x"},"page":{"url":"y"},"user_hash":["SECRET"]"#,
        ] {
            let draft = drafts(&message(context)).remove(0);
            let event = serde_json::to_string(&draft.event).unwrap();
            assert!(!event.contains("SECRET"), "{event}");
        }
        // Shared members of a batch apply to each of its messages.
        let batch = r#"{"batch":[{"type":"page","userId":"u1"}],
            "integrations":{"Tagway":{"userHash":"SECRET"}}}"#;
        let draft = drafts(batch).remove(0);
        assert_eq!(draft.proofs.ours, [Box::<str>::from("SECRET")]);
        assert!(!serde_json::to_string(&draft.event).unwrap().contains("SECRET"));
    }

    #[test]
    fn messages_without_proofs_stay_as_they_were_written() {
        let text =
            r#"{"type":"page","userId":"u1","context":{ "title": "proof\u00e9" , "a":1.50}}"#;
        let draft = drafts(text).remove(0);
        assert_eq!(draft.event.context.unwrap().text(), r#"{ "title": "proof\u00e9" , "a":1.50}"#);
        assert_eq!(draft.proofs, LoginProofs::default());
    }
}
