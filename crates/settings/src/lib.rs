//! Reads TOML settings key by key, and collects every mistake.
//!
//! Each module declares its own `Settings` struct and reads it from a [`SettingsSection`]. Reading never
//! stops at a mistake: the reader notes it in the shared [`ConfigErrorReport`] with file, line, the value
//! found and the nearest valid name, and continues with a placeholder. The caller that composes the
//! settings discards them if the report is not empty.
//!
//! A section is a stack of layers, the most specific first (the user's file, then the embedded
//! default). Strings may contain `${ENV}` and `${file:PATH}`.

mod credentials;
mod decoded;
mod description;
mod effective;
mod errors;
mod files;
mod former_names;
mod headers;
mod layer;
mod numbers;
mod redaction;
mod report;
mod schema;
mod secret;
mod section;
mod source;
mod tables;
#[cfg(any(test, feature = "testing"))]
pub mod test_support;
#[cfg(test)]
mod tests;
mod textual;
mod units;

pub use decoded::DecodedText;
pub use description::{Setting, SettingKind, SettingsTable, SettingsVariant};
pub use effective::{EffectiveSetting, SettingSource, effective_settings, named_table};
pub use layer::SettingStep;
pub use redaction::{HIDDEN, MIN_SECRET_BYTES, SecretRedactor};
pub use report::{ConfigError, ConfigErrorReport, can_fool, nearest, shown};
pub use schema::json_schema;
pub use secret::SecretString;
pub use section::SettingsSection;
pub use source::{ConfigEnvironment, ConfigFile, ExpansionError};
pub use textual::TextualValue;
pub use units::{parse_duration, parse_size};
