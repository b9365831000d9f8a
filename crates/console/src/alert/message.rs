//! The messages of channels: JSON for webhooks, text for Slack, letters.
//!
//! Alerts that are due at the same time are one message: fifty destinations that fail with the network are not fifty
//! letters.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use url::Url;

use super::overview::AlertOverview;
use super::state::{AlertChange, AlertState};
use tagway_core::signature::{WebhookSigningKey, signatures};
use tagway_settings::SecretString;

/// The guarded way out of the gateway: connections to private addresses are refused unless the settings allow them.
#[async_trait]
pub trait AlertEgress: Send + Sync {
    /// Posts a request, and returns the status of the reply.
    ///
    /// # Errors
    ///
    /// Returns the reason, without secrets, if there is no reply in time.
    async fn post(&self, request: Request<Bytes>, timeout: Duration) -> Result<StatusCode, String>;

    /// Returns true if connections to private addresses are allowed.
    fn allows_private(&self) -> bool;
}

/// One alert in a message.
#[derive(Clone, Debug)]
pub(super) struct AlertNotice {
    /// The change; `None` for a test.
    pub(super) change: Option<AlertChange>,
    pub(super) alert: AlertOverview,
}

/// A message of one channel.
#[derive(Clone, Debug)]
pub(super) struct AlertMessage {
    /// The same for each attempt with the same alerts: receivers recognise a repetition by it.
    pub(super) id: String,
    pub(super) at: Timestamp,
    pub(super) notices: Vec<AlertNotice>,
    pub(super) console_url: Option<Url>,
}

impl AlertNotice {
    fn change_name(&self) -> &'static str {
        self.change.map_or("test", AlertChange::name)
    }

    fn heading(&self) -> String {
        let title = &self.alert.title;
        match self.change {
            None => format!("Test: {title}"),
            Some(AlertChange::Firing) => format!("Alert: {title}"),
            Some(AlertChange::Reminder) => format!("Still: {title}"),
            Some(AlertChange::Resolved) => format!("Resolved: {title}"),
        }
    }

    fn times(&self) -> String {
        let since = format!("Since {}", self.alert.since.strftime("%Y-%m-%d %H:%M UTC"));
        match self.alert.resolved_at {
            Some(at) if self.alert.state == AlertState::Resolved => {
                format!("{since}, until {}", at.strftime("%Y-%m-%d %H:%M UTC"))
            }
            _ => since,
        }
    }
}

impl AlertMessage {
    /// The link to the console's screen; without the console's address, the screen alone.
    fn link(&self, alert: &AlertOverview) -> String {
        self.console_url
            .as_ref()
            .map_or_else(|| alert.link.clone(), |console| format!("{console}{}", alert.link))
    }

    /// One line for all alerts.
    pub(super) fn subject(&self) -> String {
        let first = self.notices.first().map(AlertNotice::heading).unwrap_or_default();
        match self.notices.len() {
            0 | 1 => first,
            count => format!("{first} (and {} more)", count - 1),
        }
    }

    /// The text of a letter.
    pub(super) fn letter(&self) -> String {
        let mut text = String::new();
        for notice in &self.notices {
            let alert = &notice.alert;
            let (heading, times, link) = (notice.heading(), notice.times(), self.link(alert));
            text.push_str(&format!("{heading}\n\n{}\n\n{times}.\n{link}\n\n", alert.text));
        }
        text
    }

    /// The call of a webhook.
    pub(super) fn webhook(
        &self,
        url: &Url,
        token: Option<&SecretString>,
        key: Option<&WebhookSigningKey>,
    ) -> Result<Request<Bytes>, http::Error> {
        let alerts: Vec<Value> = self.notices.iter().map(|notice| self.json(notice)).collect();
        let body =
            json!({ "version": 1, "id": self.id, "at": self.at, "alerts": alerts }).to_string();
        let timestamp = self.at.as_second().to_string();
        let mut request = post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &self.id)
            .header("webhook-timestamp", &timestamp);
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let keys: Vec<WebhookSigningKey> = key.cloned().into_iter().collect();
        if let Some(signature) = signatures(&keys, &self.id, &timestamp, body.as_bytes()) {
            request = request.header("webhook-signature", signature);
        }
        request.body(body.into())
    }

    fn json(&self, notice: &AlertNotice) -> Value {
        let alert = &notice.alert;
        json!({
            "change": notice.change_name(),
            "id": alert.id,
            "rule": alert.rule,
            "kind": alert.kind.name(),
            "site": alert.site,
            "destination": alert.destination,
            "state": alert.state.name(),
            "severity": alert.severity.name(),
            "title": alert.title,
            "text": alert.text,
            "link": self.link(alert),
            "since": alert.since,
            "resolved_at": alert.resolved_at,
            "value": alert.value,
            "limit": alert.limit,
        })
    }

    /// The call of Slack's incoming webhook.
    pub(super) fn slack(&self, url: &Url) -> Result<Request<Bytes>, http::Error> {
        let mut text = String::new();
        for notice in &self.notices {
            let alert = &notice.alert;
            let (heading, body) = (slack_text(&notice.heading()), slack_text(&alert.text));
            let link = slack_text(&self.link(alert));
            let link = if self.console_url.is_some() {
                format!("<{link}|Open the console>")
            } else {
                link
            };
            text.push_str(&format!("*{heading}*\n{body}\n{}. {link}\n\n", notice.times()));
        }
        let body = json!({ "text": text.trim_end() }).to_string();
        post(url).header(CONTENT_TYPE, "application/json").body(body.into())
    }
}

fn post(url: &Url) -> http::request::Builder {
    Request::post(url.as_str())
}

/// Escapes the characters with a meaning in Slack's text (docs.slack.dev, "Formatting message text", read 2026-11).
fn slack_text(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // A star in a name must not end the heading.
    text.replace('*', "\u{2217}")
}
