//! Sends notifications to channels, and tries again those that fail.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::channel::{AlertChannel, ChannelKind};
use super::kind::{AlertKind, AlertSeverity};
use super::mail::{one_line, send_letter};
use super::message::{AlertMessage, AlertNotice};
use super::overview::AlertOverview;
use super::service::AlertService;
use super::state::AlertState;
use super::store::{AttemptResult, DueNotification};
use crate::ConsoleStoreError;
use tagway_core::metrics::AlertChannelLabels;

/// The most alerts of one message: more do not fit one screen. The rest follows in further messages.
const ALERTS_PER_MESSAGE: usize = 20;

/// Notifications that are taken at once.
const TAKEN: usize = 200;

/// The wait after the first failed attempt; each further one waits twice as long, up to the most.
const FIRST_WAIT: Duration = Duration::from_secs(10);
const MAX_WAIT: Duration = Duration::from_secs(600);

/// The time for which a notification is tried: an hour later people know by other means, or the reminder follows.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// The longest quotation of an error in characters.
const ERROR_CHARS: usize = 300;

/// The result of a test of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTest {
    /// The reason why the test did not arrive; `None` if it did.
    pub error: Option<String>,
}

/// The reason why a channel was not tested.
#[derive(Debug, thiserror::Error)]
pub enum ChannelTestError {
    /// There is no such channel.
    #[error("the configuration has no such channel")]
    Unknown,
}

impl AlertService {
    /// Sends what is due. Returns the time of the next attempt, if one waits.
    pub(super) async fn send_due(&self) -> Result<Option<Timestamp>, ConsoleStoreError> {
        loop {
            let due = self.store.take_due(self.clock.now(), TAKEN).await?;
            if due.is_empty() {
                return Ok(self.store.next_due().await?);
            }
            let mut of_channels: BTreeMap<String, Vec<DueNotification>> = BTreeMap::new();
            for notification in due {
                of_channels.entry(notification.channel.clone()).or_default().push(notification);
            }
            let sending = of_channels.into_iter().map(|(name, due)| self.send_to(name, due));
            for result in join_all(sending).await {
                result?;
            }
        }
    }

    /// Sends the due notifications of one channel, in their order.
    async fn send_to(
        &self,
        name: String,
        due: Vec<DueNotification>,
    ) -> Result<(), ConsoleStoreError> {
        let settings = self.settings.load_full();
        let channel = settings.alerts.channel(&name).cloned();
        for group in due.chunks(ALERTS_PER_MESSAGE) {
            let ids: Vec<i64> = group.iter().map(|it| it.id).collect();
            let result = match &channel {
                None => AttemptResult::Failed("the channel is no longer configured".to_owned()),
                Some(channel) => match self.try_channel(channel, group).await {
                    Ok(()) => AttemptResult::Sent,
                    Err(error) => retry(group, &one_line(&error, ERROR_CHARS), self.clock.now()),
                },
            };
            let code = match &result {
                AttemptResult::Sent => "sent",
                AttemptResult::Retry(..) => "retried",
                AttemptResult::Failed(error) => {
                    tracing::error!(channel = %name, %error, "people are not notified of alerts");
                    "failed"
                }
            };
            self.count_attempt(&name, code);
            self.store.finish(ids, result, self.clock.now()).await?;
        }
        Ok(())
    }

    async fn try_channel(
        &self,
        channel: &AlertChannel,
        group: &[DueNotification],
    ) -> Result<(), String> {
        let notices =
            group.iter().map(|it| AlertNotice { change: Some(it.change), alert: it.alert.clone() });
        let first = group.first().map_or(0, |it| it.id);
        self.send_message(
            channel,
            format!("tagway-alert-{first}-{}", group.len()),
            notices.collect(),
        )
        .await
    }

    pub(super) fn count_attempt(&self, channel: &str, result: &'static str) {
        let labels = AlertChannelLabels { channel: channel.into(), result };
        self.metrics.alert_notifications.get_or_create(&labels).inc();
    }

    pub(super) async fn send_message(
        &self,
        channel: &AlertChannel,
        id: String,
        notices: Vec<AlertNotice>,
    ) -> Result<(), String> {
        let settings = self.settings.load_full();
        let console_url = settings.alerts.console_url.clone();
        let message = AlertMessage { id, at: self.clock.now(), notices, console_url };
        let request = match &channel.kind {
            ChannelKind::Email(server) => {
                let allows_private = settings.egress.allows_private();
                return send_letter(server, &message, allows_private, channel.timeout).await;
            }
            ChannelKind::Webhook { url, token, key } => {
                message.webhook(url, token.as_ref(), key.as_ref())
            }
            ChannelKind::Slack { url } => message.slack(url),
        };
        let request = request.map_err(|_invalid| "the call cannot be made".to_owned())?;
        let status = settings.egress.post(request, channel.timeout).await?;
        if status.is_success() { Ok(()) } else { Err(format!("the channel answered {status}")) }
    }

    /// Sends a test to a channel, and returns once it has arrived or failed.
    ///
    /// # Errors
    ///
    /// Returns [`ChannelTestError::Unknown`] if there is no such channel.
    pub async fn test_channel(&self, name: &str) -> Result<ChannelTest, ChannelTestError> {
        let settings = self.settings.load_full();
        let channel = settings.alerts.channel(name).ok_or(ChannelTestError::Unknown)?;
        let now = self.clock.now();
        let alert = AlertOverview {
            id: 0,
            rule: "test".to_owned(),
            kind: AlertKind::Disk,
            site: None,
            destination: None,
            state: AlertState::Firing,
            severity: AlertSeverity::Ticket,
            title: "this is only a test".to_owned(),
            text: format!(
                "An operator has tested the channel {name}. Alerts will arrive like this message."
            ),
            link: "#/alerts".to_owned(),
            since: now,
            resolved_at: None,
            value: 0.0,
            limit: 0.0,
            acknowledged: None,
            note: None,
            notified: Vec::new(),
        };
        let id = format!("tagway-test-{}", now.as_millisecond());
        let sent = self.send_message(channel, id, vec![AlertNotice { change: None, alert }]).await;
        Ok(ChannelTest { error: sent.err().map(|error| one_line(&error, ERROR_CHARS)) })
    }
}

/// Decides if a failed message is tried again.
fn retry(group: &[DueNotification], error: &str, now: Timestamp) -> AttemptResult {
    let attempts = group.iter().map(|it| it.attempts).min().unwrap_or(0);
    let wait = FIRST_WAIT.saturating_mul(1 << attempts.min(10)).min(MAX_WAIT);
    let next = now.checked_add(wait).unwrap_or(now);
    let created = group.iter().map(|it| it.created_at).min().unwrap_or(now);
    if next.duration_since(created) > GIVE_UP_AFTER {
        return AttemptResult::Failed(error.to_owned());
    }
    AttemptResult::Retry(next, error.to_owned())
}
