//! The members of a message as the client wrote them, unread.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::loose::Loose;

/// The members of a message, or of a body that holds messages, unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) message_id: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) event: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) name: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) category: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) user_id: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) anonymous_id: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) group_id: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) previous_id: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) timestamp: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) original_timestamp: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) sent_at: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) write_key: Loose<'a>,
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
    /// The vendor in whose words it is.
    #[serde(borrow, default)]
    pub(super) shim: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) proof: Loose<'a>,
    #[serde(borrow, default)]
    pub(super) user_hash: Loose<'a>,
    #[serde(borrow, default, rename = "user_hash")]
    pub(super) user_hash_2: Loose<'a>,
}
