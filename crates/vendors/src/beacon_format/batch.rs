//! The canonical messages of one beacon, as texts: each is written as soon as it is made and its tree is
//! freed before the next, so that a beacon of many events is never in memory as trees.

use serde_json::Value;
use serde_json::value::RawValue;

use super::scan::{self, UNREADABLE};
use crate::beacon::{BeaconDecodeError, BeaconLimits, BeaconRequest, MAX_EXPANSION};
use tagway_core::event::JsonObject;

/// Bytes of messages that may be made of each event in addition: the shortest hit has a page, a source and a
/// time.
const EVENT_BYTES: usize = 1024;

/// The longest key that is read; the gateway has no longer ones.
const MAX_KEY_BYTES: usize = 1024;

/// The index of an event that was refused, and the reason.
pub type RefusedEvent = (usize, &'static str);

/// The messages of one beacon.
#[derive(Debug)]
pub struct MessageBatch {
    bounds: BeaconLimits,
    /// The sum of the lengths of all messages received, in bytes.
    received_bytes: usize,
    /// Bytes of the messages made.
    message_bytes: usize,
    key: Option<Box<str>>,
    texts: Vec<Box<[u8]>>,
    refused: Vec<RefusedEvent>,
}

impl MessageBatch {
    /// Makes an empty batch for one beacon.
    pub fn new(inbound: &BeaconRequest<'_>) -> Self {
        let came = inbound.body.len() + inbound.query.len();
        let bounds = inbound.bounds;
        Self {
            bounds,
            received_bytes: came,
            message_bytes: 0,
            key: None,
            texts: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Returns the bounds of the beacon.
    pub fn bounds(&self) -> BeaconLimits {
        self.bounds
    }

    /// Counts bytes that were encoded within the body: their decoded size counts, not the encoded one.
    pub fn add_unpacked(&mut self, bytes: usize) {
        self.received_bytes = self.received_bytes.max(bytes);
    }

    /// Records the key in the beacon, where its vendor has one: servers may send the gateway's token there.
    /// The first counts.
    pub fn show_key(&mut self, key: &str) {
        if self.key.is_none() && (1..=MAX_KEY_BYTES).contains(&key.len()) {
            self.key = Some(key.into());
        }
    }

    /// Records a key in a JSON text.
    pub fn show_key_in(&mut self, json: Option<&[u8]>) {
        // A text may be escaped, which makes it six times as long.
        let json = json.filter(|json| json.len() <= 6 * MAX_KEY_BYTES);
        if let Some(key) = json.and_then(scan::string) {
            self.show_key(&key);
        }
    }

    /// Takes the recorded key.
    pub fn take_key(&mut self) -> Option<Box<str>> {
        self.key.take()
    }

    /// Checks that this many messages may each repeat this many bytes.
    ///
    /// # Errors
    ///
    /// Fails if their sum is over the limit.
    pub fn check_repeated(&self, bytes: usize, messages: usize) -> Result<(), BeaconDecodeError> {
        let sum = bytes.saturating_mul(messages);
        if sum > self.room(0) { Err(BeaconDecodeError::TooLarge) } else { Ok(()) }
    }

    /// Returns the bytes that so many messages may have.
    fn room(&self, messages: usize) -> usize {
        let of_bytes = self.received_bytes.saturating_mul(MAX_EXPANSION);
        let of_events = messages.saturating_mul(EVENT_BYTES);
        let room = of_bytes.saturating_add(of_events).saturating_add(self.bounds.made_bytes);
        room.min(self.bounds.messages_bytes)
    }

    /// Returns the bytes received: of the request, or of data decoded from it.
    pub fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    /// Adds a message.
    ///
    /// # Errors
    ///
    /// Fails if the batch has too many messages or bytes.
    pub fn push(&mut self, message: &JsonObject) -> Result<(), BeaconDecodeError> {
        if self.len() >= self.bounds.events_within(self.received_bytes) {
            return Err(BeaconDecodeError::TooMany);
        }
        let text =
            serde_json::to_vec(message).map_err(|_never| BeaconDecodeError::Malformed("JSON"))?;
        self.message_bytes = self.message_bytes.saturating_add(text.len());
        if self.message_bytes > self.room(self.texts.len() + 1) {
            return Err(BeaconDecodeError::TooLarge);
        }
        self.texts.push(text.into_boxed_slice());
        Ok(())
    }

    /// Adds several messages.
    ///
    /// # Errors
    ///
    /// Fails if the batch has too many messages or bytes.
    pub fn extend(
        &mut self,
        messages: impl IntoIterator<Item = JsonObject>,
    ) -> Result<(), BeaconDecodeError> {
        messages.into_iter().try_for_each(|message| self.push(&message))
    }

    /// Records an event that cannot be read, and the reason.
    pub fn refuse(&mut self, reason: &'static str) {
        self.refused.push((self.len(), reason));
    }

    /// Parses a record as a tree; `None` if it is no object or is refused. A refusal concerns this record
    /// alone.
    pub fn object(&mut self, record: &RawValue) -> Option<JsonObject> {
        if record.get() == UNREADABLE.get() {
            self.refuse("malformed");
            return None;
        }
        if !record.get().starts_with('{') {
            return None;
        }
        match scan::tree(record.get().as_bytes(), &self.bounds) {
            Ok(Value::Object(object)) => Some(object),
            Ok(_) => None,
            Err(BeaconDecodeError::TooLarge | BeaconDecodeError::TooMany) => {
                self.refuse("too_large");
                None
            }
            Err(BeaconDecodeError::Malformed(_)) => {
                self.refuse("malformed");
                None
            }
        }
    }

    /// Returns the number of messages and refused events.
    pub fn len(&self) -> usize {
        self.texts.len() + self.refused.len()
    }

    /// Returns true if there is neither a message nor a refused event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the texts of the messages, and the indices of the refused events with the reasons.
    pub fn into_parts(self) -> (Vec<Box<[u8]>>, Vec<RefusedEvent>) {
        (self.texts, self.refused)
    }
}
