//! Drift, by its REST API (`docs/contracts/destinations.md` section 6).
//!
//! Drift has contacts and their timelines. A timeline entry needs an existing contact, so every event is a
//! short conversation: find or make the contact, then write the entry.
//!
//! Decisions where the contract leaves a choice:
//! - The contact is looked for by the user's id, then by e-mail; a contact of that address with another id is
//!   another person. A contact can be made only where an address is known; otherwise the event is skipped, as
//!   Drift has no contact for it. Only the widget has anonymous visitors.
//! - The timeline has no dedupe key: after a timeout the event is a dead letter, unless `retry_ambiguous`
//!   accepts duplicates. All other calls may be repeated.
//! - Attributes of timeline entries are deprecated: none are sent, except those of `event_attributes`. Drift
//!   advises to name the application in an entry's text: `event_prefix`.
//! - The contact's tags are those of one trait, if the settings name it: Drift's newer pages say that
//!   attributes took their place. Tags are added, never removed.
//! - Events about promotions and coupons are not sent, as in the contract's cross-walk.
//! - A group is the contact's attribute `company`; with `account_owner_id` it is an account as well, made by
//!   its domain, or changed under the id that Drift gives it: the organisation's id and the domain.

mod api;
mod audience;
mod contact_sync;
mod message;
mod script;
mod settings;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::api::DriftClient;
use self::contact_sync::DriftContactSync;
use self::message::{DriftAction, DriftMessage};
use self::settings::DriftSettings;
use super::contact_api::{ApiClient, ContactCache, deliver_in_order};
use super::{
    BatchScope, ClientLibrary, DeliveryLimits, Destination, Outcome, Vendor, VendorAudience,
    VendorCall, VendorShim, shim,
};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// Drift's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "drift",
    aliases: &["Drift"],
    settings: settings::SETTINGS,
    destination: Some(|section, endpoint| {
        let base = endpoint.as_ref().map_or(BASE, url::Url::as_str);
        let (front, token) = ApiClient::read(section, base);
        let (settings, contacts) = (DriftSettings::read(section), ContactCache::new());
        Box::new(DriftDestination { api_client: front, token, settings, contacts })
    }),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/drift.js"),
        needs: &[&shim::STUB, &shim::CHAT],
        ids: &["embed_id"],
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/drift.js"),
        // The number only serves to get past caches.
        library: "/include/0/{embed_id}.js",
        required: &["embed_id"],
        optional: &[],
        duplicate_risk: Some("Drift knows no event id: events are counted twice"),
    }),
    ..Vendor::EMPTY
};

/// Drift's address. There is one region.
const BASE: &str = "https://driftapi.com";

/// A rate that the contract takes for safe: Drift publishes no limit.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();

struct DriftDestination {
    api_client: ApiClient,
    token: SecretString,
    settings: DriftSettings,
    contacts: ContactCache<i64>,
}

#[async_trait]
impl Destination for DriftDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            // One event per call: a batch only keeps a visitor's events together.
            scope: BatchScope::Visitor,
            max_events: 20,
            max_bytes: 512 * 1024,
            batch_delay: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 4,
            calls_per_second: Some(CALLS_PER_SECOND),
            timeout: Duration::from_secs(15),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.token.clone()]
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        self.message(event).as_ref().as_ref().map(|_| ()).map_err(Outcome::clone)
    }

    fn without_memory(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(Self {
            api_client: self.api_client.clone(),
            token: self.token.clone(),
            settings: self.settings.clone(),
            contacts: ContactCache::new(),
        }))
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        deliver_in_order(batch, call, |event| self.sync_event(event, call)).await
    }

    fn audience(&self) -> Option<&dyn VendorAudience> {
        Some(self)
    }
}

impl DriftDestination {
    fn message(&self, event: &EnrichedEvent) -> Arc<Result<DriftMessage, Outcome>> {
        event.rendered(|event, dropped| message::render(event, &self.settings, dropped))
    }

    async fn sync_event(
        &self,
        event: &EnrichedEvent,
        call: &dyn VendorCall,
    ) -> Result<(), Outcome> {
        let message = self.message(event);
        let DriftMessage { identity: who, action: say } =
            message.as_ref().as_ref().map_err(Outcome::clone)?;
        let line = DriftClient {
            api_client: &self.api_client,
            call,
            may_repeat: self.settings.retry_ambiguous,
        };
        let talk = DriftContactSync {
            client: line,
            contacts: &self.contacts,
            settings: &self.settings,
            event,
            identity: who,
        };
        match say {
            DriftAction::Person { tags } => talk.person(tags).await,
            DriftAction::Event(entry) => talk.event(entry).await,
            DriftAction::Company { name, account } => talk.company(name, account.as_ref()).await,
        }
    }
}
