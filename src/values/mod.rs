//! Readers of the values that people, shops and forms write in many ways: amounts, currencies,
//! telephone numbers, e-mail addresses, names, times, addresses of computers, numbers that are none. Every vendor, beacon, import and mapping reads them
//! here, so that one value means the same everywhere.
//!
//! A reader never guesses: a text that is there and cannot be read is [`Reading::Unreadable`], which
//! its caller counts or refuses, and never the same as one that is not there.

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

/// A value as a reader found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// There is no value.
    Absent,
    /// The value.
    Read(T),
    /// There is a value, and it cannot be read.
    Unreadable,
}

impl<T> Reading<T> {
    /// The value, if it was read.
    pub fn read(self) -> Option<T> {
        match self {
            Self::Read(value) => Some(value),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// True if there is a value that cannot be read.
    pub const fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable)
    }
}
