//! The selection and the groups of dead letters.

use jiff::Timestamp;

use super::ReaderId;

/// A filter of dead letters. An absent member selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// The readers at which the events died.
    pub readers: Option<Vec<ReaderId>>,
    /// The reason's code.
    pub reason: Option<String>,
    /// The name of the event.
    pub event: Option<String>,
    /// A part of the event's name, of the reason's code or of the failure's text, without regard to the case of
    /// ASCII letters. Nothing else is searched: the rest may be personal.
    pub text: Option<String>,
    /// The failure's text, as the groups show it.
    pub failure: Option<String>,
    /// The earliest time of the death.
    pub from: Option<Timestamp>,
    /// The end of the times, not included.
    pub to: Option<Timestamp>,
}

impl DeadLetterFilter {
    /// Selects all letters of a reader.
    pub fn of(reader: ReaderId) -> Self {
        Self { readers: Some(vec![reader]), ..Self::default() }
    }

    /// Returns true if it selects by more than the readers.
    pub(super) fn is_detailed(&self) -> bool {
        *self != Self { readers: self.readers.clone(), ..Self::default() }
    }
}

/// A selection of dead letters.
#[derive(Clone, Debug)]
pub enum DeadLetterSelection {
    /// The letters with these numbers.
    Ids(Vec<i64>),
    /// All letters of one reader.
    Reader(ReaderId),
    /// The letters that a filter selects, up to and including a number: those that an operator has seen.
    Matching {
        /// The members that letters must have.
        filter: DeadLetterFilter,
        /// The greatest number.
        until_id: i64,
    },
}

/// Dead letters of one reader that failed in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// The reader at which they died.
    pub reader: ReaderId,
    /// The reason's code.
    pub reason: String,
    /// The normalised text of the reply, or of the reason's detail; empty for letters of older versions.
    pub failure: String,
    /// The status of the reply.
    pub status: Option<u16>,
    /// The number of letters.
    pub count: u64,
    /// The time of the first.
    pub first_at: Timestamp,
    /// The time of the last.
    pub last_at: Timestamp,
    /// The greatest number.
    pub last_id: i64,
}

/// The groups of dead letters, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterGroups {
    /// The groups, as many as were asked for.
    pub groups: Vec<DeadLetterGroup>,
    /// The number of letters in all groups, the left out ones included.
    pub total: u64,
    /// True if groups are left out.
    pub is_bounded: bool,
}
