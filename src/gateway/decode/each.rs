//! Messages that stand by themselves, such as those that are made of a vendor's beacon.

use super::envelope::alone;
use super::message::{Draft, Rejected};
use super::{Terms, Text};

/// Judges messages. Each text is gone when its draft is there.
pub(in crate::gateway) fn judge_each(
    texts: Vec<Box<[u8]>>,
    terms: &Terms<'_>,
) -> (Vec<Draft>, Vec<Rejected>) {
    let (mut drafts, mut rejected) = (Vec::with_capacity(texts.len()), Vec::new());
    for (index, text) in texts.into_iter().enumerate() {
        let body = Text::look(&text, terms.limits.json_depth).ok();
        let body = body.as_ref().filter(|body| !body.is_deep());
        let Some(envelope) = body.and_then(alone) else {
            rejected.push(Rejected { index, message_id: None, reason: "malformed" });
            continue;
        };
        let (draft, refused) = envelope.judge(terms);
        drafts.extend(draft.into_iter().map(|draft| Draft { index, ..draft }));
        rejected.extend(refused.into_iter().map(|refused| Rejected { index, ..refused }));
    }
    (drafts, rejected)
}
