//! Turns a body's text into canonical events: one pass over the text, the client's objects copied unchanged if
//! readers of the journal can parse them, every message judged independently. Pure.

mod each;
mod envelope;
mod fields;
mod loose;
mod message;
mod pixel;
mod proof;
mod readable;
mod repeated;
mod shim_message;
mod text;
mod time;

pub(super) use each::draft_each;
pub(super) use envelope::open;
pub(super) use message::RejectionCode;
pub use message::{MessageDraft, RejectedMessage, UnreadMembers};
pub(super) use pixel::from_query;
pub use proof::LoginProofs;
pub(super) use text::BodyText;

use jiff::Timestamp;

use super::settings::GatewayLimits;
use tagway_core::event::EventKind;

/// The facts of a request that its messages are read with.
#[derive(Clone, Copy, Debug)]
pub struct DecodeContext<'l> {
    /// The limits of messages.
    pub limits: &'l GatewayLimits,
    /// The kind of the messages, if the route implies one.
    pub kind: Option<EventKind>,
    /// The site's own placeholder ids for an unknown visitor, in lower case.
    pub placeholder_ids: &'l [String],
    /// The time at which the request arrived.
    pub received_at: Timestamp,
}

/// Reads a body that needs no write key and judges each of its messages. The error is the code of the rejection of
/// the whole.
pub fn read(
    text: &[u8],
    terms: &DecodeContext<'_>,
) -> Result<(Vec<MessageDraft>, Vec<RejectedMessage>), &'static str> {
    let text =
        BodyText::scan(text, terms.limits.json_depth).map_err(|rejection| rejection.code())?;
    let room = (terms.limits.batch_events, terms.limits.inflated_bytes);
    let envelope = open(&text, terms, room).map_err(|rejection| rejection.code())?;
    Ok(envelope.draft_messages(terms))
}
