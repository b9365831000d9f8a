//! Readers of values that people, shops and forms write in many ways: amounts, currencies, telephone
//! numbers, e-mail addresses, names, times, network addresses, non-finite numbers. Every vendor, beacon, import
//! and mapping reads them here, so that one value means the same everywhere.
//!
//! A reader never guesses: a text that exists but cannot be read is [`ParsedValue::Unreadable`], which its
//! caller counts or refuses; it is never treated as absent.

pub mod address;
pub mod amount;
pub mod currency;
pub mod digits;
pub mod email;
pub mod finite;
pub mod locale;
pub mod name;
pub mod telephone;
pub mod time;
pub mod unicode;

/// The result of reading a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedValue<T> {
    /// There is no value.
    Absent,
    /// The value that was read.
    Read(T),
    /// There is a value, but it cannot be read.
    Unreadable,
}

impl<T> ParsedValue<T> {
    /// Returns the value, if it was read.
    pub fn read(self) -> Option<T> {
        match self {
            Self::Read(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// Returns true if there is a value that cannot be read.
    pub const fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable)
    }
}
