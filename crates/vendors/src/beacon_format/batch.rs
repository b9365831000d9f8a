//! The canonical messages of one beacon, one at a time: each is passed on, and its trees are freed, before the next
//! is made, so that a beacon of many events is never in memory as trees.

use serde_json::Value;
use serde_json::value::RawValue;

use super::message::{CanonicalMessage, MessageFault, RejectedMessage, json_bytes};
use super::scan::{self, UNREADABLE};
use crate::beacon::{BeaconDecodeError, BeaconLimits, BeaconRequest};
use tagway_core::event::JsonObject;

/// Bytes of messages that may be made of each event in addition: the shortest hit has a page, a source and a
/// time.
const EVENT_BYTES: usize = 1024;

/// The longest key that is read; the gateway has no longer ones.
const MAX_KEY_BYTES: usize = 1024;

/// A message as it is read.
#[derive(Debug)]
pub struct ReadMessage {
    /// Its index among the messages and the rejected events of the beacon.
    pub index: usize,
    /// The length of its JSON text.
    pub bytes: usize,
    /// The message, with its objects as trees.
    pub message: CanonicalMessage,
}

/// The request of a beacon to erase a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasureRequest {
    /// Its index among the messages and the rejected events of the beacon.
    pub index: usize,
    /// A user id or a device id.
    pub id: String,
}

/// The messages of one beacon, passed on as they are read.
pub struct MessageBatch<'s> {
    bounds: BeaconLimits,
    /// The sum of the lengths of all messages received, in bytes.
    received_bytes: usize,
    /// Bytes of the messages made.
    message_bytes: usize,
    key: Option<Box<str>>,
    /// The number of messages made.
    messages: usize,
    rejected: Vec<RejectedMessage>,
    erasures: Vec<ErasureRequest>,
    sink: &'s mut dyn FnMut(ReadMessage),
}

impl<'s> MessageBatch<'s> {
    /// Makes an empty batch for one beacon.
    pub fn new(inbound: &BeaconRequest<'_>, sink: &'s mut dyn FnMut(ReadMessage)) -> Self {
        Self {
            bounds: inbound.bounds,
            received_bytes: inbound.body.len() + inbound.query.len(),
            message_bytes: 0,
            key: None,
            messages: 0,
            rejected: Vec::new(),
            erasures: Vec::new(),
            sink,
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

    /// Returns the bytes received: of the request, or of data decoded from it.
    pub fn received_bytes(&self) -> usize {
        self.received_bytes
    }

    /// Adds a message.
    ///
    /// # Errors
    ///
    /// Fails if the batch has too many messages or bytes.
    pub fn push(&mut self, message: CanonicalMessage) -> Result<(), BeaconDecodeError> {
        let bytes = json_bytes(&message);
        self.push_sized(message, bytes)
    }

    /// Adds a message of the Segment protocol, which a shim may have written in its vendor's terms.
    ///
    /// # Errors
    ///
    /// Fails if the batch has too many messages or bytes.
    pub fn push_object(&mut self, object: JsonObject) -> Result<(), BeaconDecodeError> {
        // Members that become no part of the message count as well.
        let bytes = json_bytes(&object);
        match CanonicalMessage::of_object(object, None) {
            Ok(message) if message.head.shim.is_some() => {
                let bytes = bytes.max(json_bytes(&message));
                self.push_sized(message, bytes)
            }
            Ok(message) => self.push_sized(message, bytes),
            Err(MessageFault { message_id, reason }) => {
                self.check_room(bytes)?;
                self.rejected.push(RejectedMessage { index: self.len(), message_id, reason });
                Ok(())
            }
        }
    }

    fn push_sized(
        &mut self,
        message: CanonicalMessage,
        bytes: usize,
    ) -> Result<(), BeaconDecodeError> {
        self.check_room(bytes)?;
        let index = self.len();
        self.messages += 1;
        (self.sink)(ReadMessage { index, bytes, message });
        Ok(())
    }

    /// Counts a message of this length.
    fn check_room(&mut self, bytes: usize) -> Result<(), BeaconDecodeError> {
        if self.len() >= self.bounds.events_within(self.received_bytes) {
            return Err(BeaconDecodeError::TooMany);
        }
        self.message_bytes = self.message_bytes.saturating_add(bytes);
        let of_events = (self.len() + 1).saturating_mul(EVENT_BYTES);
        let received = self.bounds.made_of(self.received_bytes);
        let room = received.saturating_add(of_events).min(self.bounds.messages_bytes);
        if self.message_bytes > room { Err(BeaconDecodeError::TooLarge) } else { Ok(()) }
    }

    /// Adds several messages.
    ///
    /// # Errors
    ///
    /// Fails if the batch has too many messages or bytes.
    pub fn extend(
        &mut self,
        messages: impl IntoIterator<Item = CanonicalMessage>,
    ) -> Result<(), BeaconDecodeError> {
        messages.into_iter().try_for_each(|message| self.push(message))
    }

    /// Records that a person is to be erased. The gateway decides whether the sender may ask for it.
    ///
    /// # Errors
    ///
    /// Fails if the batch has too many messages or bytes.
    pub fn request_erasure(&mut self, id: &str) -> Result<(), BeaconDecodeError> {
        self.check_room(id.len())?;
        self.erasures.push(ErasureRequest { index: self.len(), id: id.to_owned() });
        Ok(())
    }

    /// Takes the requests to erase people.
    pub fn take_erasures(&mut self) -> Vec<ErasureRequest> {
        std::mem::take(&mut self.erasures)
    }

    /// Records an event that cannot be read, and the reason.
    pub fn reject(&mut self, reason: &'static str) {
        self.rejected.push(RejectedMessage { index: self.len(), message_id: None, reason });
    }

    /// Parses a record as a tree; `None` if it is no object or is rejected. A rejection concerns this record
    /// alone.
    pub fn object(&mut self, record: &RawValue) -> Option<JsonObject> {
        if record.get() == UNREADABLE.get() {
            self.reject("malformed");
            return None;
        }
        self.object_of(record.get())
    }

    /// Parses the same from a text.
    pub(super) fn object_of(&mut self, record: &str) -> Option<JsonObject> {
        if !record.starts_with('{') {
            return None;
        }
        match scan::tree(record.as_bytes(), &self.bounds) {
            Ok(Value::Object(object)) => Some(object),
            Ok(_) => None,
            Err(BeaconDecodeError::TooLarge | BeaconDecodeError::TooMany) => {
                self.reject("too_large");
                None
            }
            Err(BeaconDecodeError::Malformed(_)) => {
                self.reject("malformed");
                None
            }
        }
    }

    /// Returns the number of messages, rejected events and requests to erase people.
    pub fn len(&self) -> usize {
        self.messages + self.rejected.len() + self.erasures.len()
    }

    /// Returns true if there is no message, no rejected event and no request to erase a person.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the rejected events.
    pub fn into_rejected(self) -> Vec<RejectedMessage> {
        self.rejected
    }
}
