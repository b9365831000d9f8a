//! Mixpanel, by its ingestion API (`docs/contracts/destinations.md` section 3).
//!
//! Events are sent to `/import` in gzipped batches, where Mixpanel names the records that it refuses;
//! people to `/engage`, groups to `/groups`, and in projects with original merging, links of ids to
//! `/track`. An event may need several of these calls: it is delivered when all of them have taken it,
//! and a retried event continues with the first call that is not done.
//!
//! Decisions where the contract leaves a choice:
//! - Ids are the event's own. The profile may change between two tries, and Mixpanel recognises a
//!   repetition by the id among others; it joins a visitor's events itself.
//! - With simplified merging an identify becomes an event of device and user, unless an event of both
//!   follows in the batch: without such an event Mixpanel would never join the two.
//! - With original merging `$identify` takes random UUIDs only; other devices are joined by `$merge`,
//!   which needs a service account. Without one such an identify is a dead letter.
//! - A client's event named `$identify`, `$merge` or `$create_alias` is a dead letter: it would link
//!   ids, and a merge cannot be undone.
//! - Traits are not copied onto events. A trait that is `null` is unset.
//! - Later events have the group's key if they have it as a property of their own, as
//!   `context.groupId`, or as a trait of the person.
//! - Bodies have up to 2 MB, events fewer than 255 properties, keys and elements: the smaller of the
//!   figures that Mixpanel gives. The surplus is cut or left out; an event without a name or over 1 MB is
//!   dead.
//! - With `transactions` an order's refund is written as a negative amount.
//! - After a timeout `$add` and `$append` may be counted twice; nothing else can be.
//! - Events from the vendor's own library are sent under its own names: pages, operations on people,
//!   the type of a group, the campaign.

mod agent;
mod audience;
mod batch_run;
mod beacon;
mod fields;
mod identity;
mod names;
mod plan;
mod profiles;
mod record;
mod replies;
mod script;
mod settings;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use jiff::Timestamp;

use self::batch_run::MixpanelBatchRun;
use self::plan::{MixpanelEndpoint, MixpanelRecordPlan, plan};
use self::settings::MixpanelSettings;
use super::prices::PriceUse;
use super::{
    BatchScope, ClientLibrary, DeliveryLimits, Destination, Outcome, Vendor, VendorAudience,
    VendorCall, VendorShim, shim,
};
use tagway_core::event::EnrichedEvent;
use tagway_settings::SecretString;

/// Mixpanel's entry in the list of vendors.
pub static VENDOR: Vendor = Vendor {
    name: "mixpanel",
    deduplication: "recognises repetitions by $insert_id, the time and the visitor",
    aliases: &["Mixpanel", "Mixpanel (Actions)", "Actions Mixpanel"],
    match_keys: identity::MATCH_KEYS,
    settings: settings::SETTINGS,
    destination: Some(|section, endpoint| {
        Box::new(MixpanelDestination { settings: MixpanelSettings::read(section, endpoint) })
    }),
    beacon: Some(&beacon::MixpanelBeacon),
    script: Some(&script::SCRIPT),
    shim: Some(&VendorShim {
        script: include_str!("../../../../static/sdk/dist/shims/mixpanel.js"),
        needs: &[&shim::STUB, &shim::STATE],
        to_canonical: Some(beacon::to_canonical),
        ..VendorShim::PLAIN
    }),
    client: Some(ClientLibrary {
        script: include_str!("../../../../static/sdk/dist/clients/mixpanel.js"),
        library: "/libs/mixpanel-2-latest.min.js",
        required: &["project_token"],
        optional: &[],
        duplicate_risk: Some(
            "Mixpanel's library and the gateway know visitors by different ids until they are identified: \
             till then their events are counted twice",
        ),
    }),
    ..Vendor::EMPTY
};

/// The earliest time, in milliseconds since 1970: Mixpanel rejects events before 1971.
const EARLIEST: i64 = 365 * 24 * 3600 * 1000;

/// The furthest time in the future: Mixpanel rejects later events.
const MAX_AHEAD: Duration = Duration::from_secs(3600);

/// The least body that is compressed: one within a packet gains nothing by compression.
const MIN_GZIP_BYTES: usize = 1400;

struct MixpanelDestination {
    settings: MixpanelSettings,
}

#[async_trait]
impl Destination for MixpanelDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            // Events in one request to /import.
            max_events: 2000,
            max_bytes: batch_run::MAX_BODY_BYTES,
            batch_delay: Duration::from_millis(500),
            max_age: Duration::MAX,
            // Mixpanel suggests 10 to 20 senders with full batches.
            concurrency: 10,
            calls_per_second: None,
            timeout: Duration::from_secs(30),
        }
    }

    fn secrets(&self) -> Vec<SecretString> {
        self.settings.secrets()
    }

    fn price_use(&self) -> PriceUse {
        PriceUse::Numbers
    }

    fn match_data(&self, event: &EnrichedEvent) -> serde_json::Value {
        let ids = identity::MixpanelIds::of(event);
        serde_json::json!({ "user_id": ids.user, "device_id": ids.device })
    }

    fn can_deduplicate(&self, event: &EnrichedEvent) -> Option<bool> {
        Some(self.plan(event).is_ok())
    }

    fn admit_event(&self, event: &EnrichedEvent, now: Timestamp) -> Result<(), Outcome> {
        let at = event.event.timestamp;
        if at.as_millisecond() < EARLIEST {
            return Err(Outcome::dead("too_old"));
        }
        if Duration::try_from(at.duration_since(now)).is_ok_and(|ahead| ahead > MAX_AHEAD) {
            return Err(Outcome::dead("in_the_future"));
        }
        self.plan(event).as_ref().as_ref().map(|_| ()).map_err(Outcome::clone)
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let plans: Vec<_> = batch.iter().map(|event| self.plan(event)).collect();
        let plans: Vec<Result<&MixpanelRecordPlan, Outcome>> =
            plans.iter().map(|plan| plan.as_ref().as_ref().map_err(Outcome::clone)).collect();
        let mut round = MixpanelBatchRun::new(batch, &plans);
        while let Some(path) = round.next_endpoint() {
            while let Some(chunk) = round.next_chunk(path) {
                let result = call.call(self.request(path, chunk.body())).await;
                let answer = replies::read(path, &result, call.now(), &chunk.insert_ids());
                round.settle(path, &chunk, answer);
            }
        }
        round.into_outcomes()
    }

    fn audience(&self) -> Option<&dyn VendorAudience> {
        Some(self)
    }
}

impl MixpanelDestination {
    fn plan(&self, event: &EnrichedEvent) -> Arc<Result<MixpanelRecordPlan, Outcome>> {
        event.rendered(|event, dropped| plan(event, &self.settings, dropped))
    }

    fn request(&self, path: MixpanelEndpoint, body: Vec<u8>) -> Request<Bytes> {
        let MixpanelSettings { import, track, engage, groups, authorization, .. } = &self.settings;
        // Mixpanel takes no compressed people and groups.
        let packed = (path == MixpanelEndpoint::Import && body.len() >= MIN_GZIP_BYTES)
            .then(|| gzip(&body))
            .flatten();
        let is_packed = packed.is_some();
        let mut request = Request::new(packed.unwrap_or(body).into());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = match path {
            MixpanelEndpoint::Import => import.clone(),
            MixpanelEndpoint::Track => track.clone(),
            MixpanelEndpoint::Engage => engage.clone(),
            MixpanelEndpoint::Groups => groups.clone(),
        };
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if path == MixpanelEndpoint::Import {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if is_packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        request
    }
}

/// Compresses the bytes at the fast level: a batch of repeated names shrinks well at any level.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}
