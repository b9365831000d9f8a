//! Alerts as operators and channels see them.

use jiff::Timestamp;

use super::condition::AlertTarget;
use super::kind::{AlertKind, AlertScope, AlertSeverity};
use super::state::{ActiveAlert, AlertState};

/// A channel's last notification of an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifiedChannel {
    /// The channel's name.
    pub channel: String,
    /// The time of the last attempt, or since when it waits for the first.
    pub at: Timestamp,
    /// The reason why it was not sent.
    pub error: Option<String>,
}

/// An alert as operators see it.
#[derive(Clone, Debug)]
pub struct AlertOverview {
    /// Its number.
    pub id: i64,
    /// The rule's name.
    pub rule: String,
    /// The rule's kind.
    pub kind: AlertKind,
    /// The site's name.
    pub site: Option<String>,
    /// The destination's name, for a rule about destinations.
    pub destination: Option<String>,
    /// Firing or resolved.
    pub state: AlertState,
    /// The urgency, by its rule.
    pub severity: AlertSeverity,
    /// One line.
    pub title: String,
    /// The text with the numbers.
    pub text: String,
    /// The console's screen.
    pub link: String,
    /// The time since which the limit is exceeded.
    pub since: Timestamp,
    /// Its end.
    pub resolved_at: Option<Timestamp>,
    /// The last value.
    pub value: f64,
    /// The rule's limit.
    pub limit: f64,
    /// The person who has seen it, and when.
    pub acknowledged: Option<(String, Timestamp)>,
    /// The note of the person who has seen it.
    pub note: Option<String>,
    /// The last notification of each channel.
    pub notified: Vec<NotifiedChannel>,
}

impl ActiveAlert {
    /// The alert as operators see it.
    pub(super) fn overview(&self) -> AlertOverview {
        let is_destination = self.kind.scope() == AlertScope::Destination;
        let AlertTarget { site, object } = &self.target;
        AlertOverview {
            id: self.id,
            rule: self.rule.clone(),
            kind: self.kind,
            site: site.as_ref().map(ToString::to_string),
            destination: object.as_ref().filter(|_| is_destination).map(ToString::to_string),
            state: self.state,
            severity: self.severity,
            title: self.words.title.clone(),
            text: self.words.text.clone(),
            link: self.words.link.clone(),
            since: self.since,
            resolved_at: None,
            value: self.value,
            limit: self.limit,
            acknowledged: None,
            note: None,
            notified: Vec::new(),
        }
    }
}
