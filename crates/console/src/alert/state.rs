//! The life of an alert: pending, firing, resolved.
//!
//! A limit that is exceeded makes an alert pending; after the rule's `for` it fires. It ends after the value was beyond
//! the limit again, by the margin of its kind, for the same time. A pending alert whose value returns is dropped.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::condition::{AlertCondition, AlertTarget, ConditionLevel};
use super::kind::{AlertKind, AlertSeverity};
use super::settings::AlertRule;
use super::words::AlertWords;

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertState {
    /// Its limit is exceeded, but not yet for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It has ended.
    Resolved,
}

impl AlertState {
    /// All states with their names.
    pub const ALL: [(&str, Self); 3] =
        [("pending", Self::Pending), ("firing", Self::Firing), ("resolved", Self::Resolved)];

    /// Returns the state's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// An alert that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ActiveAlert {
    /// Its number.
    pub id: i64,
    /// The rule's name.
    pub rule: String,
    /// The rule's kind.
    pub kind: AlertKind,
    /// The thing that it is about.
    pub target: AlertTarget,
    /// The urgency, by its rule.
    pub severity: AlertSeverity,
    /// Pending, or firing.
    pub state: AlertState,
    /// The time since which its limit is exceeded.
    pub since: Timestamp,
    /// The time since which its limit is kept again.
    pub clear_since: Option<Timestamp>,
    /// The time of its last notification.
    pub notified_at: Option<Timestamp>,
    /// True once a person has seen it.
    pub is_acknowledged: bool,
    /// The last value.
    pub value: f64,
    /// The rule's limit.
    pub limit: f64,
    /// Title, text and link.
    pub words: AlertWords,
}

/// A change of an alert that people are notified of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AlertChange {
    /// It began to fire.
    Firing,
    /// It still fires.
    Reminder,
    /// It ended.
    Resolved,
}

impl AlertChange {
    /// All changes with their names.
    pub(super) const ALL: [(&str, Self); 3] =
        [("firing", Self::Firing), ("reminder", Self::Reminder), ("resolved", Self::Resolved)];

    /// Returns the change's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
        }
    }
}

/// The result of one evaluation for an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AlertStep {
    /// Nothing that anybody is notified of.
    Keep,
    /// It was pending and is dropped.
    Drop,
    /// People are notified.
    Notify(AlertChange),
}

impl ActiveAlert {
    /// Creates the alert of a condition, if that exceeds its limit; it has no number yet.
    pub(super) fn begin(
        rule: &AlertRule,
        condition: &AlertCondition,
        now: Timestamp,
    ) -> Option<(Self, AlertStep)> {
        if condition.level != ConditionLevel::Breached {
            return None;
        }
        let mut alert = Self {
            id: 0,
            rule: rule.name.clone(),
            kind: rule.kind,
            target: condition.target.clone(),
            severity: rule.severity,
            state: AlertState::Pending,
            since: now,
            clear_since: None,
            notified_at: None,
            is_acknowledged: false,
            value: condition.value,
            limit: rule.limit,
            words: condition.words.clone(),
        };
        let step = alert.advance(rule, condition, Duration::ZERO, now);
        Some((alert, step))
    }

    /// Advances the alert by a measurement of its rule.
    pub(super) fn advance(
        &mut self,
        rule: &AlertRule,
        condition: &AlertCondition,
        repeat_after: Duration,
        now: Timestamp,
    ) -> AlertStep {
        self.severity = rule.severity;
        self.limit = rule.limit;
        if condition.level == ConditionLevel::Breached {
            self.value = condition.value;
            self.words = condition.words.clone();
            self.clear_since = None;
        }
        let has_lasted = |since: Timestamp| has_passed(since, rule.hold, now);
        match (self.state, condition.level) {
            (AlertState::Pending, ConditionLevel::Clear) => AlertStep::Drop,
            (AlertState::Pending, ConditionLevel::Breached) if has_lasted(self.since) => {
                self.state = AlertState::Firing;
                self.notify(AlertChange::Firing, now)
            }
            (AlertState::Firing, ConditionLevel::Clear) => {
                self.value = condition.value;
                let since = *self.clear_since.get_or_insert(now);
                if has_lasted(since) { self.end(now) } else { self.remind(repeat_after, now) }
            }
            (AlertState::Firing, _) => self.remind(repeat_after, now),
            (AlertState::Pending | AlertState::Resolved, _) => AlertStep::Keep,
        }
    }

    /// Ends the alert, as its rule or target is gone.
    pub(super) fn end(&mut self, now: Timestamp) -> AlertStep {
        match std::mem::replace(&mut self.state, AlertState::Resolved) {
            AlertState::Firing => self.notify(AlertChange::Resolved, now),
            AlertState::Pending => AlertStep::Drop,
            AlertState::Resolved => AlertStep::Keep,
        }
    }

    fn remind(&mut self, repeat_after: Duration, now: Timestamp) -> AlertStep {
        let last = self.notified_at.unwrap_or(self.since);
        let is_due = !repeat_after.is_zero() && has_passed(last, repeat_after, now);
        if is_due && !self.is_acknowledged {
            self.notify(AlertChange::Reminder, now)
        } else {
            AlertStep::Keep
        }
    }

    fn notify(&mut self, change: AlertChange, now: Timestamp) -> AlertStep {
        self.notified_at = Some(now);
        AlertStep::Notify(change)
    }
}

/// Returns true if the time has passed since then. A clock that was set back has passed nothing.
fn has_passed(since: Timestamp, time: Duration, now: Timestamp) -> bool {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    now.duration_since(since) >= time
}
