//! Turns canonical messages into events: the client's objects copied unchanged, every message judged independently.
//! Pure.

mod context_excerpt;
mod message;
mod proof;
mod time;

pub use context_excerpt::ContextExcerpt;
pub(super) use message::RejectionCode;
pub use message::{MessageDraft, UnreadMembers};
pub use proof::LoginProofs;

use jiff::Timestamp;

use super::settings::GatewayLimits;
use tagway_core::event::EventKind;
use tagway_vendors::beacon::{BeaconDecodeError, BeaconLimits};
use tagway_vendors::beacon_format::spec::{BodyText, MessageBody, QueryMessage};
use tagway_vendors::beacon_format::{ErasureRequest, RejectedMessage};

/// The facts of a request that its messages are read with.
#[derive(Clone, Copy, Debug)]
pub struct DecodeContext<'l> {
    /// The limits of messages.
    pub limits: &'l GatewayLimits,
    /// The kind of the messages, if the route implies one.
    pub kind: Option<EventKind>,
    /// The site's own placeholder ids for an unknown visitor, in lower case.
    pub placeholder_ids: &'l [String],
    /// True if only the network of an address may be kept.
    pub anonymizes_ip: bool,
    /// The time at which the request arrived.
    pub received_at: Timestamp,
}

/// The judged messages of a request.
#[derive(Debug, Default)]
pub struct JudgedMessages {
    /// The write key in the body.
    pub write_key: Option<String>,
    /// The messages that passed every check.
    pub drafts: Vec<MessageDraft>,
    /// The messages that were rejected.
    pub rejected: Vec<RejectedMessage>,
    /// The requests to erase people.
    pub erasures: Vec<ErasureRequest>,
}

/// Reads a body and judges each of its messages.
///
/// # Errors
///
/// Fails if the body is unreadable, has no message, or exceeds the limits of a request.
pub fn read(body: &[u8], terms: &DecodeContext<'_>) -> Result<JudgedMessages, BeaconDecodeError> {
    read_within(body, terms, &terms.limits.body_limits())
}

/// Reads a body within these limits and judges each of its messages.
pub(super) fn read_within(
    body: &[u8],
    terms: &DecodeContext<'_>,
    limits: &BeaconLimits,
) -> Result<JudgedMessages, BeaconDecodeError> {
    let text = BodyText::scan(body, limits.json_depth)?;
    let body = MessageBody::open(&text, limits)?;
    if body.is_one_too_deep() {
        return Err(BeaconDecodeError::Malformed("the JSON is nested too deep"));
    }
    let mut judged = JudgedMessages {
        write_key: body.write_key().map(str::to_owned),
        drafts: Vec::with_capacity(body.len()),
        ..JudgedMessages::default()
    };
    body.read(terms.kind, |index, message| {
        let message = message.map_err(|fault| terms.reject(index, fault));
        judged.add(message.and_then(|message| terms.draft(index, message)));
    });
    Ok(judged)
}

/// Reads the message in the query of a pixel, and judges it. A pixel has no route that implies the kind: an `event`
/// makes it a track, unless it has a `type`.
pub(super) fn read_query(
    query: &str,
    terms: &DecodeContext<'_>,
    limits: &BeaconLimits,
) -> Result<JudgedMessages, BeaconDecodeError> {
    let mut message = match QueryMessage::find(query)? {
        QueryMessage::Json(json) => return read_within(&json, terms, limits),
        QueryMessage::Members(message) => message,
    };
    if message.contains_key("event") {
        message.entry("type").or_insert_with(|| "track".into());
    }
    // Read as a body, which is judged by its bytes.
    let text = serde_json::to_vec(&message)
        .map_err(|_invalid| BeaconDecodeError::Malformed("the query contains no event"))?;
    read_within(&text, terms, limits)
}

impl JudgedMessages {
    /// Adds a message.
    pub(super) fn add(&mut self, message: Result<MessageDraft, RejectedMessage>) {
        match message {
            Ok(draft) => self.drafts.push(draft),
            Err(rejected) => self.rejected.push(rejected),
        }
    }
}
