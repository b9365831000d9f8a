//! Judges independent messages, such as those made of a vendor's beacon.

use super::envelope::read_single_message;
use super::message::{MessageDraft, RejectedMessage};
use super::{BodyText, DecodeContext};

/// Judges messages one by one. Each text is freed when its draft is made.
pub(in crate::gateway) fn draft_each(
    texts: Vec<Box<[u8]>>,
    terms: &DecodeContext<'_>,
) -> (Vec<MessageDraft>, Vec<RejectedMessage>) {
    let (mut drafts, mut rejected) = (Vec::with_capacity(texts.len()), Vec::new());
    for (index, text) in texts.into_iter().enumerate() {
        let body = BodyText::scan(&text, terms.limits.json_depth).ok();
        let body = body.as_ref().filter(|body| !body.is_deep());
        let Some(envelope) = body.and_then(read_single_message) else {
            rejected.push(RejectedMessage { index, message_id: None, reason: "malformed" });
            continue;
        };
        let (draft, refused) = envelope.draft_messages(terms);
        drafts.extend(draft.into_iter().map(|draft| MessageDraft { index, ..draft }));
        rejected.extend(refused.into_iter().map(|refused| RejectedMessage { index, ..refused }));
    }
    (drafts, rejected)
}
