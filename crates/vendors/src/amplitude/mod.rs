//! Amplitude, by its HTTP V2 or its Batch Event Upload API (`docs/contracts/destinations.md` section 4),
//! and its cohorts.
//!
//! An upload is refused as a whole for one bad event, so all that can be checked is checked here: ids, names,
//! sizes, depth. Events that a reply still blames or throttles are taken out and the rest is sent again at
//! once, a bounded number of times. `insert_id` is the message id, so a repeated event does not count twice.
//!
//! Decisions where the contract leaves a choice:
//! - Identify and group are `$identify` events among the others, which keeps the order of a visitor's events.
//!   Operations on the person's properties are in these, and in events with the person's acquisition:
//!   campaign, referrer and clicks. The properties of a group are sent to `/groupidentify` afterwards,
//!   aliases to `/usermap`, and only if the settings ask for it.
//! - A trait that is `null` is unset. The referrer counts only if it is another site's. An identify without
//!   traits is sent if it joins two ids.
//! - Revenue is the stated revenue of a completed order, the amount of a refund, and the revenue of an event
//!   that names a type of revenue or is in the settings. A cart's is none. A price and a quantity alone are
//!   no revenue: they are sent instead of the revenue where they are the same sum, for Amplitude would count
//!   them over it. An order's amounts stay in its properties as well.
//! - The session of the browser SDK's cookie counts while it is open, before the gateway's own: a page that
//!   runs both shows one session.
//! - A browser's user agent is sent raw, without fields of the system and the device; an app's event has the
//!   fields and no user agent.
//! - 403 is the answer of a firewall or of a blocked region, not of the key: the batch is split until each
//!   refused event is alone and becomes a dead letter, to be alerted on by its reason `forbidden`.
//! - Users and devices over their daily quota are dead letters, as Amplitude's own SDK gives them up.
//! - Events of the vendor's own library return to it under its own names: pages, operations on people, the
//!   type of a group, the campaign.

mod attribution;
mod audience;
mod beacon;
mod device_context;
mod dispatch;
mod identity;
mod map;
mod reply_status;
mod revenue;
mod script;
mod settings;
#[cfg(test)]
mod tests;
pub mod validate;
mod values;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use self::dispatch::AmplitudeBatchRun;
use self::map::{AmplitudePayload, map};
use self::settings::{AmplitudeSettings, AmplitudeUploadApi};
use super::prices::PriceUse;
use super::{
    BatchScope, ClientLibrary, DeliveryLimits, Destination, Outcome, Vendor, VendorAudience,
    VendorCall, VendorShim, shim,
};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// Amplitude's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "amplitude",
    deduplication: "recognises repetitions by insert_id, within 7 days of each other",
    aliases: &["Amplitude", "Actions Amplitude", "Amplitude (Actions)"],
    match_keys: identity::MATCH_KEYS,
    cookies: &["AMP_*"],
    settings: settings::SETTINGS,
    destination: Some(|section, endpoint| {
        Box::new(AmplitudeDestination { settings: AmplitudeSettings::read(section, endpoint) })
    }),
    beacon: Some(&beacon::AmplitudeBeacon),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/amplitude.js"),
        needs: &[&shim::STUB, &shim::STATE],
        to_canonical: Some(beacon::to_canonical),
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/amplitude.js"),
        library: "/libs/analytics-browser-2.11.1-min.js.gz",
        required: &["api_key"],
        optional: &["region"],
        duplicate_risk: None,
    }),
    ..Vendor::EMPTY
};

/// The uploads per second of the smallest plan.
const CALLS_PER_SECOND: Option<NonZeroU32> = NonZeroU32::new(100);

struct AmplitudeDestination {
    settings: AmplitudeSettings,
}

#[async_trait]
impl Destination for AmplitudeDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        // Journal records are about as large as the events made of them; a larger batch takes several calls.
        let (max_bytes, timeout) = match self.settings.api {
            AmplitudeUploadApi::Http => (1 << 20, Duration::from_secs(10)),
            AmplitudeUploadApi::Batch => (4 << 20, Duration::from_secs(30)),
        };
        DeliveryLimits {
            scope: BatchScope::Site,
            max_events: dispatch::limits(&self.settings).events,
            max_bytes,
            batch_delay: Duration::from_millis(500),
            max_age: Duration::MAX,
            concurrency: 4,
            calls_per_second: CALLS_PER_SECOND,
            timeout,
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        self.settings.secrets()
    }

    fn price_use(&self) -> PriceUse {
        PriceUse::Orders
    }

    fn match_data(&self, event: &EnrichedEvent) -> serde_json::Value {
        let cookie = identity::sdk_cookie(event, &self.settings);
        let ids = identity::AmplitudeIds::of(event, cookie.as_ref());
        serde_json::json!({ "user_id": ids.user, "device_id": ids.device })
    }

    fn can_deduplicate(&self, event: &EnrichedEvent) -> Option<bool> {
        Some(self.hit(event).is_ok())
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        match &*self.hit(event) {
            Ok(hit) if dispatch::is_too_large(hit, &self.settings) => {
                Err(Outcome::dead("event_too_large"))
            }
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.clone()),
        }
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let hits: Vec<_> = batch.iter().map(|event| self.hit(event)).collect();
        let hits: Vec<Result<&AmplitudePayload, Outcome>> =
            hits.iter().map(|hit| hit.as_ref().as_ref().map_err(Outcome::clone)).collect();
        AmplitudeBatchRun::new(&self.settings, batch, call).run(&hits).await
    }

    fn missing_list_settings(&self) -> &'static [&'static str] {
        if self.settings.cohorts.is_some() {
            &[]
        } else {
            &["app_id", "cohort_owner", "secret_key"]
        }
    }

    fn audience(&self) -> Option<&dyn VendorAudience> {
        self.settings.cohorts.is_some().then_some(self)
    }
}

impl AmplitudeDestination {
    fn hit(&self, event: &EnrichedEvent) -> Arc<Result<AmplitudePayload, Outcome>> {
        event.rendered(|event, dropped| map(event, &self.settings, dropped))
    }
}
