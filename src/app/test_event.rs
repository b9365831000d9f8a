//! The test events that operators send to one destination.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::admin::{AdminSendError, TestEventError};
use crate::config::SiteSettings;
use crate::gateway::{DryRunEvent, GatewayLimits, dry_run_event};
use tagway_core::event::{EnrichedEvent, ProfileView};
use tagway_delivery::DestinationSettings;
use tagway_vendors::Outcome;

/// The name of the event that the gateway makes: no report mistakes it for a visitor's.
const NAME: &str = "Tagway Test";

/// The browser of the event that the gateway makes; vendors require one.
const USER_AGENT: &str = "Mozilla/5.0 (compatible; Tagway test event)";

/// The reasons for which a destination's settings exclude an event of their kind.
const NOT_SELECTED: [&str; 3] = ["not_selected", "switched_off", "passed_on"];

/// A test event for a destination of a site.
pub(super) struct TestEvent<'s> {
    pub(super) limits: &'s GatewayLimits,
    pub(super) site: &'s SiteSettings,
    pub(super) destination: &'s DestinationSettings,
}

impl TestEvent<'_> {
    /// Returns the message to send: the operator's, or one that the destination selects.
    pub(super) fn message(
        &self,
        event: Option<Value>,
        now: Timestamp,
    ) -> Result<Value, TestEventError> {
        let candidates = match event {
            Some(event) => vec![event],
            None => vec![self.made(&json!({ "type": "track", "event": NAME })), self.page()],
        };
        for message in candidates {
            if self.is_selected(&message, now)? {
                return Ok(message);
            }
        }
        Err(TestEventError::NotSelected)
    }

    fn page(&self) -> Value {
        self.made(&json!({ "type": "page", "name": NAME }))
    }

    /// Completes a message with a visitor of its own, who consents, and a page of the site.
    fn made(&self, message: &Value) -> Value {
        let host = self.site.gateway.hosts.iter().find(|host| **host != "*");
        let host = host.map_or("tagway-test.example", String::as_str);
        let categories = self.destination.filter.consent.iter();
        let categories: Map<String, Value> =
            categories.map(|category| (category.clone(), true.into())).collect();
        let mut made = json!({
            "anonymousId": format!("tagway-test-{:016x}", fastrand::u64(..)),
            "properties": { "test": true },
            "context": {
                "page": { "url": format!("https://{host}/"), "path": "/", "title": NAME },
                "userAgent": USER_AGENT,
                "consent": { "categoryPreferences": categories },
            },
        });
        if let (Some(made), Some(message)) = (made.as_object_mut(), message.as_object()) {
            made.extend(message.clone());
        }
        made
    }

    /// Returns true if the destination selects the message. One that it gets and refuses is selected: the operator
    /// sees the reason.
    fn is_selected(&self, message: &Value, now: Timestamp) -> Result<bool, TestEventError> {
        let text = message.to_string();
        let tried = dry_run_event(self.limits, &self.site.gateway, text.as_bytes(), now);
        let DryRunEvent { mut event, .. } =
            tried.map_err(|error| AdminSendError::Invalid(error.to_string()))?;
        event.facts.test_of = Some(self.destination.name.to_string());
        self.destination.privacy.protect(&mut event);
        let enriched = EnrichedEvent::new(0, Arc::new(event), Arc::new(ProfileView::default()));
        let (_, admitted) = self.destination.rehearse(enriched, now);
        let is_excluded = matches!(
            admitted,
            Err(Outcome::Skipped(reason)) if NOT_SELECTED.contains(&reason.code)
        );
        Ok(!is_excluded)
    }
}
