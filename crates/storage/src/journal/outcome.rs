//! The end of an event at a destination, as it is settled and as it can be looked up later.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{DeadLetterRecord, ReaderId};

/// One event that ended at a reader.
#[derive(Clone, Debug)]
pub struct EndedEvent {
    /// The number of the event.
    pub seq: u64,
    /// True if it came out of the parked events, not from behind the cursor.
    pub was_parked: bool,
    /// The number of tries.
    pub attempts: u32,
    /// The outcome with its cause.
    pub ending: Ending,
}

impl EndedEvent {
    /// Returns the cause, if it ended as dead.
    pub const fn as_dead(&self) -> Option<&OutcomeCause> {
        match &self.ending {
            Ending::Dead(cause, _) => Some(cause),
            Ending::Delivered | Ending::Skipped(_) => None,
        }
    }
}

/// The end of an event at a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The destination accepted it.
    Delivered,
    /// The event was not for this destination.
    Skipped(OutcomeCause),
    /// The event can never be delivered; it is kept as a dead letter, with the last call about it.
    Dead(OutcomeCause, Option<Arc<LastVendorCall>>),
}

impl Ending {
    /// Returns the name in the API and in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Skipped(_) => "skipped",
            Self::Dead(..) => "dead",
        }
    }

    /// Returns the cause, if the event was not delivered.
    pub const fn cause(&self) -> Option<&OutcomeCause> {
        match self {
            Self::Delivered => None,
            Self::Skipped(cause) | Self::Dead(cause, _) => Some(cause),
        }
    }
}

/// The reason why an event was not delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCause {
    /// The reason's code.
    pub code: &'static str,
    /// The reason's detail for operators, free of secrets; may be empty.
    pub detail: Box<str>,
}

impl OutcomeCause {
    /// Creates a cause without a detail.
    pub fn new(code: &'static str) -> Self {
        Self { code, ..Self::default() }
    }
}

/// The last call about an event, free of secrets and cut to what an operator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastVendorCall {
    /// The time of the call.
    pub at: Timestamp,
    /// Method and URL; and the body, if it contained this event alone: other people's data are not kept
    /// with this person's.
    pub request: String,
    /// The status of the reply; `None` if there was none.
    pub status: Option<u16>,
    /// The body of the reply, with the same care as the request's; or why there was none.
    pub reply: String,
}

/// The end of an event at a reader, kept for as long as the event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutcome {
    /// `delivered`, `skipped` or `dead`.
    pub outcome: &'static str,
    /// The reason's code; empty for delivered.
    pub reason: String,
    /// The reason's detail; may be empty.
    pub detail: String,
    /// The number of tries.
    pub attempts: u32,
    /// The time at which it was settled.
    pub at: Timestamp,
}

/// The state of an event at a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderEventState {
    /// The event is older than the reader.
    BeforeReader,
    /// The reader has yet to settle the event.
    Unsettled,
    /// The event is parked until another try or for its visitor.
    Parked {
        /// The time of the next try.
        due_at: Timestamp,
        /// The number of tries so far.
        attempt: u32,
    },
    /// The event has ended.
    Settled,
}

/// An event with its state and outcome at one reader.
#[derive(Debug)]
pub struct EventAtReader {
    /// The number of the reader.
    pub reader: ReaderId,
    /// The event's state at the reader.
    pub state: ReaderEventState,
    /// The last outcome, if that was recorded: a replayed or retried event has ended before.
    pub outcome: Option<StoredOutcome>,
    /// The dead letter, while it is kept.
    pub letter: Option<DeadLetterRecord>,
}

impl EventAtReader {
    /// Returns the name of the event's state, or of its outcome: `before_destination`, `pending`, `held`, `waiting`,
    /// `delivered`, `skipped`, `dead`, or `settled` where the outcome was not recorded.
    pub fn name(&self, now: Timestamp) -> &'static str {
        match self.state {
            ReaderEventState::BeforeReader => "before_destination",
            ReaderEventState::Unsettled => "pending",
            ReaderEventState::Parked { attempt: 0, due_at } if due_at > now => "held",
            ReaderEventState::Parked { attempt: 0, .. } => "pending",
            ReaderEventState::Parked { .. } => "waiting",
            ReaderEventState::Settled => {
                self.outcome.as_ref().map_or("settled", |kept| kept.outcome)
            }
        }
    }
}

/// An event of the journal with its recorded history.
#[derive(Debug)]
pub struct EventHistory {
    /// The event's number in its site's sequence.
    pub seq: u64,
    /// The time at which the gateway received it.
    pub received_at: Timestamp,
    /// The canonical event as JSON.
    pub body: Bytes,
    /// The event at the requested readers, in their order.
    pub readers: Vec<EventAtReader>,
}
