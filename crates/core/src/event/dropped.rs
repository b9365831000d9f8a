//! The fields of an event that a destination drops: unreadable ones, and those that its vendor does not
//! accept. They are collected while the vendor renders the event, then counted and shown.
//!
//! Only names and reasons are stored, never values. A field that the vendor's mapping does not use does
//! not count as dropped.

use std::fmt;

/// The number of an event's fields that are listed by name; the others are counted.
const MAX_LISTED: usize = 32;

/// Characters of a listed name.
const MAX_NAME_CHARS: usize = 100;

/// The reason why a field is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldDropReason {
    /// The vendor accepts no more fields.
    TooManyParameters,
    /// The vendor accepts no field of this name, and the name cannot be adapted.
    NameNotAllowed,
    /// Another field of the event already has the name that this field would get.
    NameTaken,
    /// The vendor accepts no value of this kind in this field.
    ValueNotAllowed,
    /// The value is an object or a list, or is nested too deeply.
    Nested,
    /// The text is cut to the vendor's maximum length.
    TooLong,
    /// The value identifies a person, and the vendor must not receive it in the clear.
    Personal,
    /// The amount has no currency, and the vendor requires one.
    MissingCurrency,
    /// The text is not an amount.
    UnreadableAmount,
    /// The text is not a currency.
    UnreadableCurrency,
    /// The value is not a time.
    UnreadableTime,
    /// The text is not a possible telephone number.
    UnreadablePhone,
    /// The text is not an e-mail address.
    UnreadableEmail,
}

impl FieldDropReason {
    /// The code for metric labels and reports.
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
    /// The field's name as the client wrote it, cut to a readable length. It comes from the network.
    pub name: Box<str>,
    /// The reason why it is dropped.
    pub reason: FieldDropReason,
}

impl fmt::Display for DroppedField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.reason.code())
    }
}

/// The fields of one event that a destination drops. Allocates nothing while there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DroppedFields {
    listed: Vec<DroppedField>,
    counts: Vec<(FieldDropReason, u64)>,
}

impl DroppedFields {
    /// The empty value: no dropped fields.
    pub const NONE: Self = Self { listed: Vec::new(), counts: Vec::new() };

    /// Adds a field with its reason; beyond the listed bound it is only counted.
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

    /// Returns true if no field is dropped.
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
