//! The canonical messages of one beacon, as texts: each is written as soon as it is made and its tree
//! is gone before the next, so that a beacon of many events never stands in memory as trees.

use serde_json::Value;
use serde_json::value::RawValue;

use super::scan::{self, UNREADABLE};
use crate::event::JsonObject;
use crate::vendors::beacon::{BeaconDecodeError, BeaconLimits, BeaconRequest, MAX_EXPANSION};

/// Bytes of messages that may be made of each event besides: the shortest hit has a page, a source and
/// a time.
const EVENT_BYTES: usize = 1024;

/// Longer keys are none of the gateway's.
const MAX_KEY_BYTES: usize = 1024;

/// The place of an event that was refused, and the reason.
pub type RefusedEvent = (usize, &'static str);

/// The messages of one beacon.
#[derive(Debug)]
pub struct MessageBatch {
    bounds: BeaconLimits,
    /// Bytes that came.
    came: usize,
    /// Bytes that were made.
    made: usize,
    key: Option<Box<str>>,
    texts: Vec<Box<[u8]>>,
    refused: Vec<RefusedEvent>,
}

impl MessageBatch {
    /// An empty batch for one beacon.
    pub fn new(inbound: &BeaconRequest<'_>) -> Self {
        let came = inbound.body.len() + inbound.query.len();
        let bounds = inbound.bounds;
        Self { bounds, came, made: 0, key: None, texts: Vec::new(), refused: Vec::new() }
    }

    /// The bounds of the beacon.
    pub fn bounds(&self) -> BeaconLimits {
        self.bounds
    }

    /// Notes bytes that were encoded within the body: what they become counts, not how they came.
    pub fn add_unpacked(&mut self, bytes: usize) {
        self.came = self.came.max(bytes);
    }

    /// Notes the key that the beacon shows where its vendor has one: servers may show the gateway's token
    /// there. The first counts.
    pub fn show_key(&mut self, key: &str) {
        if self.key.is_none() && (1..=MAX_KEY_BYTES).contains(&key.len()) {
            self.key = Some(key.into());
        }
    }

    /// Notes a key that stands in JSON.
    pub fn show_key_in(&mut self, json: Option<&[u8]>) {
        // A text may be escaped, which makes it six times as long.
        let json = json.filter(|json| json.len() <= 6 * MAX_KEY_BYTES);
        if let Some(key) = json.and_then(scan::string) {
            self.show_key(&key);
        }
    }

    /// The key that was shown.
    pub fn take_key(&mut self) -> Option<Box<str>> {
        self.key.take()
    }

    /// Fails if so many messages of which each repeats so many bytes would be too much.
    pub fn check_repeated(&self, bytes: usize, messages: usize) -> Result<(), BeaconDecodeError> {
        let sum = bytes.saturating_mul(messages);
        if sum > self.room(0) { Err(BeaconDecodeError::TooLarge) } else { Ok(()) }
    }

    /// Bytes that so many messages may have.
    fn room(&self, messages: usize) -> usize {
        let of_bytes = self.came.saturating_mul(MAX_EXPANSION);
        let of_events = messages.saturating_mul(EVENT_BYTES);
        let room = of_bytes.saturating_add(of_events).saturating_add(self.bounds.made_bytes);
        room.min(self.bounds.messages_bytes)
    }

    /// Bytes that came: of the request, or of what was encoded within it.
    pub fn came(&self) -> usize {
        self.came
    }

    /// Adds a message.
    pub fn push(&mut self, message: &JsonObject) -> Result<(), BeaconDecodeError> {
        if self.len() >= self.bounds.events_within(self.came) {
            return Err(BeaconDecodeError::TooMany);
        }
        let text =
            serde_json::to_vec(message).map_err(|_never| BeaconDecodeError::Malformed("JSON"))?;
        self.made = self.made.saturating_add(text.len());
        if self.made > self.room(self.texts.len() + 1) {
            return Err(BeaconDecodeError::TooLarge);
        }
        self.texts.push(text.into_boxed_slice());
        Ok(())
    }

    /// Adds several messages.
    pub fn extend(
        &mut self,
        messages: impl IntoIterator<Item = JsonObject>,
    ) -> Result<(), BeaconDecodeError> {
        messages.into_iter().try_for_each(|message| self.push(&message))
    }

    /// Notes an event that cannot be read, and why.
    pub fn refuse(&mut self, reason: &'static str) {
        self.refused.push((self.len(), reason));
    }

    /// A record as a tree. `None` if it is no object, or is refused: then by itself, not with the others.
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

    /// Messages and refused events.
    pub fn len(&self) -> usize {
        self.texts.len() + self.refused.len()
    }

    /// Whether there is neither a message nor an event that was refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The texts of the messages, and the places of events that were refused with the reasons.
    pub fn into_parts(self) -> (Vec<Box<[u8]>>, Vec<RefusedEvent>) {
        (self.texts, self.refused)
    }
}
