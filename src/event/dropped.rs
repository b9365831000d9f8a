//! The fields of an event that a destination drops: what its vendor does not take, or what nobody can
//! read. They are collected while the vendor renders the event, then counted and shown.
//!
//! Only names and reasons are kept, never values. A field that the vendor's mapping does not ask for is
//! not dropped: it has no place there.

use std::fmt;

/// The fields of one event that are listed by name; the others are counted.
const MAX_LISTED: usize = 32;

/// Characters of a listed name.
const MAX_NAME_CHARS: usize = 100;

/// The reason why a field is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldDropReason {
    /// The vendor takes no more fields.
    TooManyParameters,
    /// The vendor takes no field of this name, and it cannot be made fit.
    NameNotAllowed,
    /// Another field of the event has the name that this one would get.
    NameTaken,
    /// The vendor takes no value of this kind in this field.
    ValueNotAllowed,
    /// The value is an object or a list, or lies too deep.
    Nested,
    /// The text is cut to the length that the vendor takes.
    TooLong,
    /// The value says who somebody is, which the vendor must not get in the clear.
    Personal,
    /// The amount has no currency, without which the vendor takes none.
    MissingCurrency,
    /// The text is no amount.
    UnreadableAmount,
    /// The text is no currency.
    UnreadableCurrency,
    /// The value is no time.
    UnreadableTime,
    /// The text is no possible telephone number.
    UnreadablePhone,
    /// The text is no e-mail address.
    UnreadableEmail,
}

impl FieldDropReason {
    /// The code for labels and people.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooManyParameters => "too_many_parameters",
            Self::NameNotAllowed => "name_not_allowed",
            Self::NameTaken => "name_taken",
            Self::ValueNotAllowed => "value_not_allowed",
            Self::Nested => "nested",
            Self::TooLong => "too_long",
            Self::Personal => "personal",
            Self::MissingCurrency => "missing_currency",
            Self::UnreadableAmount => "unreadable_amount",
            Self::UnreadableCurrency => "unreadable_currency",
            Self::UnreadableTime => "unreadable_time",
            Self::UnreadablePhone => "unreadable_phone",
            Self::UnreadableEmail => "unreadable_email",
        }
    }
}

/// A field that is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedField {
    /// The field's name as the client wrote it, cut to what a person reads. It comes from the network.
    pub name: Box<str>,
    /// Why.
    pub reason: FieldDropReason,
}

impl fmt::Display for DroppedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.reason.code())
    }
}

/// The fields of one event that a destination drops. Allocates nothing while there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedFields {
    listed: Vec<DroppedField>,
    counts: Vec<(FieldDropReason, u64)>,
}

impl DroppedFields {
    /// No field.
    pub const NONE: Self = Self { listed: Vec::new(), counts: Vec::new() };

    /// Adds a field.
    pub fn add(&mut self, name: &str, reason: FieldDropReason) {
        match self.counts.iter_mut().find(|(counted, _)| *counted == reason) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((reason, 1)),
        }
        if self.listed.len() < MAX_LISTED {
            let name = name.chars().take(MAX_NAME_CHARS).collect();
            self.listed.push(DroppedField { name, reason });
        }
    }

    /// True if nothing is dropped.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The first of the fields, in the order in which they were found.
    pub fn listed(&self) -> &[DroppedField] {
        &self.listed
    }

    /// The number of fields that are not listed.
    pub fn unlisted(&self) -> u64 {
        let all: u64 = self.counts.iter().map(|(_, count)| count).sum();
        all.saturating_sub(u64::try_from(self.listed.len()).unwrap_or(u64::MAX))
    }

    /// The number of fields by reason.
    pub fn counts(&self) -> &[(FieldDropReason, u64)] {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_fields_are_listed_up_to_a_bound_and_all_are_counted() {
        let mut dropped = DroppedFields::default();
        assert!(dropped.is_empty() && dropped == DroppedFields::NONE);
        dropped.add(&"n".repeat(1000), FieldDropReason::Nested);
        for number in 0..MAX_LISTED {
            dropped.add(&format!("p{number}"), FieldDropReason::TooManyParameters);
        }
        assert_eq!((dropped.listed().len(), dropped.unlisted()), (MAX_LISTED, 1));
        let counts = [(FieldDropReason::Nested, 1), (FieldDropReason::TooManyParameters, 32)];
        assert_eq!(dropped.counts(), counts);
        let shown: Vec<String> = dropped.listed().iter().map(ToString::to_string).collect();
        assert_eq!(shown[0], format!("{} (nested)", "n".repeat(MAX_NAME_CHARS)));
        assert_eq!(shown[1], "p0 (too_many_parameters)");
    }
}
