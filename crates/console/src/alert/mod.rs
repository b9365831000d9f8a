//! Alerts without outside tools: rules over the readings and the time series, their states, and notifications.
//!
//! | module | content |
//! |---|---|
//! | `kind`, `settings` | the kinds of rules with their defaults; `[alerts]` |
//! | `condition`, `measuring` | the measurement of a rule at each of its targets: pure; of all rules |
//! | `words` | titles, texts and links |
//! | `state` | pending, firing, resolved: pure |
//! | `store`, `overview` | the states and the notifications in the embedded database; as operators see them |
//! | `service` | the evaluation, twice a minute |
//! | `channel`, `message`, `mail`, `notifier` | the settings of channels; what they are sent; e-mail; attempts and retries |
//!
//! A change of state and its notifications are stored in one transaction before anything is sent, and an attempt is
//! stored before it begins: a process that dies neither repeats a notification nor forgets one. An attempt that was
//! under way at that moment counts as failed, and the reminder follows.

mod channel;
mod condition;
mod kind;
mod mail;
mod measuring;
mod message;
mod notifier;
mod overview;
mod service;
mod settings;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod words;

pub use channel::{ALERT_CHANNEL_SETTINGS, AlertChannel, ChannelKind};
pub use kind::{AlertKind, AlertSeverity};
pub use message::AlertEgress;
pub use notifier::{ChannelTest, ChannelTestError};
pub use overview::{AlertOverview, NotifiedChannel};
pub use service::{AlertError, AlertService};
pub use settings::{ALERT_RULE_SETTINGS, ALERT_SETTINGS, AlertRule, AlertSettings, RuleSource};
pub use state::AlertState;
pub use store::MIGRATIONS;
