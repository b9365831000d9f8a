//! The end of an event at a destination, as it is settled and as it can be asked for later.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{DeadLetterRecord, ReaderId};

/// One event that ended at a reader.
#[derive(Clone, Debug)]
pub struct EndedEvent {
    /// The event.
    pub seq: u64,
    /// True if it came out of the parked events, not from behind the cursor.
    pub was_parked: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// How it ended.
    pub ending: FinalOutcome,
}

impl EndedEvent {
    /// The reason, if it ended as dead.
    pub const fn as_dead(&self) -> Option<&OutcomeCause> {
        match &self.ending {
            FinalOutcome::Dead(cause, _) => Some(cause),
            FinalOutcome::Delivered | FinalOutcome::Skipped(_) => None,
        }
    }
}

/// The end of an event at a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinalOutcome {
    /// The destination took it.
    Delivered,
    /// It was not for this destination.
    Skipped(OutcomeCause),
    /// It will never arrive; it is kept as a dead letter, with the last call about it.
    Dead(OutcomeCause, Option<Arc<LastVendorCall>>),
}

impl FinalOutcome {
    /// The name in the API and in metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Skipped(_) => "skipped",
            Self::Dead(..) => "dead",
        }
    }

    /// The reason, of what was not delivered.
    pub const fn cause(&self) -> Option<&OutcomeCause> {
        match self {
            Self::Delivered => None,
            Self::Skipped(cause) | Self::Dead(cause, _) => Some(cause),
        }
    }
}

/// The reason why an event did not end as delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCause {
    /// The reason's code.
    pub code: &'static str,
    /// The reason's detail for people, free of secrets; may be empty.
    pub detail: Box<str>,
}

impl OutcomeCause {
    /// A reason that says it all in its code.
    pub fn new(code: &'static str) -> Self {
        Self { code, ..Self::default() }
    }
}

/// The last call about an event, free of secrets and cut to what a person reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastVendorCall {
    /// When it was made.
    pub at: Timestamp,
    /// Method and URL; and the body, if it spoke of this event alone: other people's data are not kept
    /// with this one's.
    pub request: String,
    /// The status of the reply; `None` if there was none.
    pub status: Option<u16>,
    /// The body of the reply, with the same care as the request's; or why there was none.
    pub reply: String,
}

/// The end of an event at a reader, as it is kept for as long as the event is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOutcome {
    /// `delivered`, `skipped` or `dead`.
    pub outcome: &'static str,
    /// The reason's code; empty for delivered.
    pub reason: String,
    /// The reason's detail; may be empty.
    pub detail: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was settled.
    pub at: Timestamp,
}

/// The place of an event on its way to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReaderEventState {
    /// It is older than the reader.
    BeforeReader,
    /// The reader has yet to settle it.
    Unsettled,
    /// It waits, parked, for another try or for its visitor.
    Parked {
        /// When it is to be tried.
        due_at: Timestamp,
        /// The number of its tries.
        attempt: u32,
    },
    /// It has ended.
    Settled,
}

/// An event as one reader has it.
#[derive(Debug)]
pub struct EventAtReader {
    /// The reader.
    pub reader: ReaderId,
    /// The event's place on its way.
    pub standing: ReaderEventState,
    /// How it ended last, if that was recorded: a replayed or retried event has ended before.
    pub outcome: Option<StoredOutcome>,
    /// Its dead letter, while it is kept.
    pub letter: Option<DeadLetterRecord>,
}

impl EventAtReader {
    /// The name of where the event is, or of how it ended: `before_destination`, `pending`, `held`,
    /// `waiting`, `delivered`, `skipped`, `dead`, or `settled` where the outcome was not recorded.
    pub fn name(&self, now: Timestamp) -> &'static str {
        match self.standing {
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

/// An event of the journal with all that is kept of its way.
#[derive(Debug)]
pub struct EventHistory {
    /// The event's place in its site's sequence.
    pub seq: u64,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// The canonical event as JSON.
    pub body: Bytes,
    /// What became of it at the readers that were asked for, in their order.
    pub readers: Vec<EventAtReader>,
}
