//! The language of settings: reading TOML key by key, collecting every mistake.
//!
//! Each module declares its own `Settings` struct and reads it from a [`Section`]. Reading never
//! stops at a mistake: the reader notes it in the shared [`Report`] with file, line, the value seen
//! and the nearest valid name, and goes on with a placeholder. Whoever composes the settings throws
//! them away if the report is not empty.
//!
//! A section is a stack of layers, the most specific first (the user's file, then the embedded
//! default). Strings may hold `${ENV}` and `${file:PATH}`.

mod credentials;
mod decoded;
mod former_names;
mod headers;
mod layer;
mod mistakes;
mod redaction;
mod report;
mod secret;
mod section;
mod source;
mod tables;
#[cfg(test)]
mod tests;
mod texts;
mod textual;
mod units;

pub use layer::Step;
pub use redaction::{HIDDEN, MIN_SECRET_BYTES, Redaction};
pub use report::{Mistake, Report, can_fool, nearest, shown};
pub use secret::Secret;
pub use section::Section;
pub use source::{Environment, Source, SourceError};
pub use textual::TextualValue;
pub use units::{parse_duration, parse_size};
