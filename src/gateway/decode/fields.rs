//! The members of a message as the client wrote them, unread.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::loose::LooseText;

/// The members of a message, or of a body that has messages, unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageFields<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) message_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) event: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) name: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) category: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) user_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) anonymous_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) group_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) previous_id: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) timestamp: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) original_timestamp: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) sent_at: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) write_key: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) properties: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) traits: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) context: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) integrations: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) batch: Option<&'a RawValue>,
    /// The vendor whose terms the message uses, if a shim wrote it.
    #[serde(borrow, default)]
    pub(super) shim: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) proof: LooseText<'a>,
    #[serde(borrow, default)]
    pub(super) user_hash: LooseText<'a>,
    #[serde(borrow, default, rename = "user_hash")]
    pub(super) user_hash_2: LooseText<'a>,
}
