//! Intercom, by its REST API (`docs/contracts/destinations.md` section 5).
//!
//! Intercom has contacts (users and leads), companies and events, and takes one of them a call: each message
//! needs a short conversation. Every call may be repeated: events are distinguished by contact, name and
//! second, contacts by their ids.
//!
//! Decisions where the contract leaves a choice or sources disagree:
//! - An event of a known user is sent at once, by `user_id`; if Intercom does not know the user, the contact
//!   is made and the event sent once more. People known by e-mail only are looked up first.
//! - Contacts are looked for by user id, then by e-mail. A lead found by e-mail becomes the user; a user
//!   found by e-mail who has another user id is another person, and a new contact is made.
//! - People without a user id become leads only with `leads = true`; those without an e-mail address need
//!   `lead_attribute` as well, the custom attribute by which they are found again. When they turn out to be a
//!   user, their lead is merged into it.
//! - The `revenue` of an event becomes `price` in minor units if the event or the settings name a currency,
//!   and `revenue` if there is a price as well; all other amounts stay numbers under their names. Metadata is
//!   flattened with `_`, without lists; the twenty keys kept are those of `metadata_priority`, then the
//!   revenue, then the first.
//! - Two events of one contact and name within a second are one to Intercom, and the second is lost.
//! - A workspace holds 120 names of events: choose them with the destination's `events`.

mod api;
mod audience;
mod contact;
mod contact_sync;
mod message;
mod metadata;
mod script;
mod settings;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::api::{IntercomApi, IntercomClient};
use self::contact_sync::IntercomContactSync;
use self::message::{IntercomAction, IntercomMessage};
use self::settings::IntercomSettings;
use super::contact_api::{ContactCache, deliver_in_order};
use super::prices::PriceUse;
use super::{
    BatchScope, ClientLibrary, DeliveryLimits, Destination, Outcome, Vendor, VendorAudience,
    VendorCall, VendorShim, shim,
};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// Intercom's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "intercom",
    deduplication: "recognises repetitions by the contact, the name and the second",
    aliases: &["Intercom"],
    settings: settings::SETTINGS,
    destination: Some(|section, endpoint| {
        let (api, token) = IntercomApi::read(section, endpoint);
        let (settings, contacts) = (IntercomSettings::read(section), ContactCache::new());
        Box::new(IntercomDestination { api, token, settings, contacts })
    }),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/intercom.js"),
        needs: &[&shim::STUB, &shim::STATE, &shim::CHAT],
        ids: &["app_id"],
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/intercom.js"),
        library: "/widget/{app_id}",
        required: &["app_id"],
        optional: &[],
        duplicate_risk: Some("Intercom knows no event id: events are counted twice"),
    }),
    ..Vendor::EMPTY
};

/// 10,000 calls a minute and app are counted in windows of ten seconds (Intercom's page on rate
/// limits), 1,666 in each: this rate and a second's burst stay below.
const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(150).unwrap();

struct IntercomDestination {
    api: IntercomApi,
    token: SecretString,
    settings: IntercomSettings,
    contacts: ContactCache<String>,
}

#[async_trait]
impl Destination for IntercomDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            // One event per call: a batch only keeps a visitor's events together.
            scope: BatchScope::Visitor,
            max_events: 20,
            max_bytes: 512 * 1024,
            batch_delay: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 16,
            calls_per_second: Some(CALLS_PER_SECOND),
            timeout: Duration::from_secs(15),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        vec![self.token.clone()]
    }

    fn price_use(&self) -> PriceUse {
        PriceUse::Numbers
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        self.message(event).as_ref().as_ref().map(|_| ()).map_err(Outcome::clone)
    }

    fn without_memory(&self) -> Option<Arc<dyn Destination>> {
        Some(Arc::new(Self {
            api: self.api.without_memory(),
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

impl IntercomDestination {
    fn message(&self, event: &EnrichedEvent) -> Arc<Result<IntercomMessage, Outcome>> {
        event.rendered(|event, dropped| message::render(event, &self.settings, dropped))
    }

    async fn sync_event(
        &self,
        event: &EnrichedEvent,
        call: &dyn VendorCall,
    ) -> Result<(), Outcome> {
        let message = self.message(event);
        let IntercomMessage { identity: who, action: say } =
            message.as_ref().as_ref().map_err(Outcome::clone)?;
        let talk = IntercomContactSync {
            client: IntercomClient { api: &self.api, call },
            contacts: &self.contacts,
            settings: &self.settings,
            event,
            identity: who,
        };
        match say {
            IntercomAction::Person { leaves } => talk.person(leaves.as_deref()).await,
            IntercomAction::Event(happening) => talk.event(happening).await,
            IntercomAction::Company(company) => talk.company(company).await,
            IntercomAction::Alias => talk.alias().await,
        }
    }
}
