//! The vendors: one folder per platform, with all that the gateway knows about it.
//!
//! A vendor has up to five interfaces and a shim, each declared here and implemented in a file of the
//! vendor's folder: the [`Destination`] renders requests, passes them to [`VendorCall`] and reads the
//! replies; its [`VendorAudience`] adds the members of segments to the vendor's lists; the [`Beacon`] reads
//! what the vendor's own browser library sends; the [`VendorScripts`] list the origins of that library; the
//! [`ClientLibrary`] passes events to it in the page; and the [`VendorShim`] stands in for it. Vendor code
//! does no I/O of its own. It uses no clock, no store and no HTTP client.
//!
//! Code that all vendors share is beside their folders: [`person`] and [`products`] find an event's values
//! under the many names that sites give them, [`naming`] recognises the Segment spec's events, [`prices`]
//! reads the amounts of an event before its vendor sees it, [`email`] finds addresses where none should be,
//! [`digest`] hashes, [`classify_reply`] reads replies, [`aliases`] maps everyday names to vendors,
//! [`request_preview`] formats requests for people. Vendors that take an event in several calls share
//! `contact_api`. The code that beacons share is in [`beacon_format`].
//!
//! Adding a vendor takes a folder, its `mod` line, its entry in [`VENDORS`] and a fixtures folder; a tidy
//! test checks that the four agree.

pub mod aliases;
pub mod audience;
pub mod beacon;
pub mod beacon_format;
mod client_mode;
mod contact_api;
pub mod digest;
mod google;
pub mod match_keys;
pub mod naming;
pub mod person;
pub mod prices;
pub mod products;
mod reasons;
mod reply;
pub mod request_preview;
pub mod script;
pub mod shim;
#[cfg(any(test, feature = "testing"))]
pub mod test_support;

pub mod amplitude;
pub mod console;
pub mod drift;
pub mod forward;
pub mod ga4;
pub mod google_ads;
pub mod intercom;
pub mod jitsu;
pub mod klaviyo;
pub mod mapping;
pub mod matomo;
pub mod meta;
pub mod mixpanel;
pub mod plausible;
pub mod posthog;
pub mod rudderstack;
pub mod segment;
pub mod snowplow;
pub mod tiktok;
pub mod umami;
pub mod webhook;

pub use audience::VendorAudience;
pub use beacon::Beacon;
pub use client_mode::ClientModeSettings;
pub use reasons::REASONS;
pub use reply::{VendorReply, classify_reply};
pub use script::VendorScripts;
pub use shim::VendorShim;
pub use tagway_core::privacy::email;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use url::Url;

use match_keys::MatchKey;
use prices::PriceUse;
use tagway_core::event::{AdClickId, EnrichedEvent, JsonObject};
use tagway_settings::{SecretRedactor, SecretString, Setting, SettingsSection};

/// The most characters of a reason's detail.
const DETAIL_CHARS: usize = 500;

/// All vendors, in the order of their first release. The only list of them.
pub static VENDORS: &[&Vendor] = &[
    &ga4::VENDOR,
    &meta::VENDOR,
    &mixpanel::VENDOR,
    &amplitude::VENDOR,
    &intercom::VENDOR,
    &drift::VENDOR,
    &webhook::VENDOR,
    &console::VENDOR,
    &plausible::VENDOR,
    &forward::VENDOR,
    &segment::VENDOR,
    &rudderstack::VENDOR,
    &jitsu::VENDOR,
    &posthog::VENDOR,
    &matomo::VENDOR,
    &umami::VENDOR,
    &google_ads::VENDOR,
    &tiktok::VENDOR,
    &klaviyo::VENDOR,
    // Matches most paths of two parts, so at a shared mount the others come first.
    &snowplow::VENDOR,
];

/// The gateway's description of one vendor.
pub struct Vendor {
    /// The name in configuration, routes and metrics.
    pub name: &'static str,
    /// Other names under which clients switch it and give it options (Segment's `integrations`).
    pub aliases: &'static [&'static str],
    /// Names (or prefixes ending in `*`) of the vendor's own first-party cookies, which are stored with an
    /// event.
    pub cookies: &'static [&'static str],
    /// Makes those of its cookies that a browser lacks, where the vendor tells browsers apart by them. Called
    /// at each request of a browser to a site that sends the vendor events.
    pub issue_cookies: Option<fn(&CookieContext<'_>) -> Vec<IssuedCookie>>,
    /// The described settings of its destinations (`[sites.destinations.settings]`).
    pub settings: &'static [Setting],
    /// The builder of its server API's destination, if it is a destination.
    pub destination: Option<DestinationBuilder>,
    /// The end of a sentence about it: if it recognises an event that it receives a second time, and by which
    /// of the event's parts.
    pub deduplication: &'static str,
    /// The identifiers by which it matches events with people, the most useful first.
    pub match_keys: &'static [MatchKey],
    /// The reader of its browser library's requests, if the gateway understands them.
    pub beacon: Option<&'static dyn Beacon>,
    /// Returns the name under which the vendor takes a track event that it has no name of its own for, if the
    /// vendor restricts names.
    pub fit_name: Option<fn(&str) -> Option<String>>,
    /// Its browser scripts that are served first-party, if any.
    pub script: Option<&'static VendorScripts>,
    /// The script that stands in for its browser API in the page and makes events of its calls.
    pub shim: Option<&'static VendorShim>,
    /// The adapter to its own library in the page, if it has one: `mode = "client"` and `"both"`.
    pub client: Option<ClientLibrary>,
}

/// The adapter that passes events to a vendor's own library in the page.
#[derive(Clone, Copy, Debug)]
pub struct ClientLibrary {
    /// The adapter, built from the vendor's `client.ts`.
    pub script: &'static str,
    /// The library's path below the vendor's mount; `{key}` stands for a public setting.
    pub library: &'static str,
    /// The settings that the page must have: ids that the vendor shows to every visitor.
    pub required: &'static [&'static str],
    /// The settings that the page may have as well. No other setting reaches the page.
    pub optional: &'static [&'static str],
    /// The reason why the vendor may count an event twice that both the page and the gateway report; none if
    /// it does not.
    pub duplicate_risk: Option<&'static str>,
}

impl Vendor {
    /// A vendor without any property: the defaults of an entry of [`VENDORS`].
    pub const EMPTY: Self = Self {
        name: "",
        aliases: &[],
        cookies: &[],
        issue_cookies: None,
        settings: &[],
        destination: None,
        deduplication: "cannot tell repetitions: each counts again",
        match_keys: match_keys::OWN_KEYS,
        beacon: None,
        fit_name: None,
        script: None,
        shim: None,
        client: None,
    };

    /// Returns the client's options for the vendor, under the first of its names that has any.
    pub fn options<'e>(&self, event: &'e EnrichedEvent) -> Option<&'e JsonObject> {
        let integrations = event.event.integrations.as_ref()?;
        let names = self.aliases.iter().chain([&self.name]);
        names.into_iter().find_map(|name| integrations.get(*name)?.as_object())
    }
}

/// Reads the vendor's own settings and builds its destination; mistakes are reported to the section. The
/// address replaces the vendor's base URL.
pub type DestinationBuilder = fn(&mut SettingsSection<'_>, Option<Url>) -> Box<dyn Destination>;

/// Returns the vendor with this name.
pub fn find(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name).copied()
}

/// The parts of a browser's request that a vendor uses to make its cookies.
#[derive(Clone, Copy, Debug)]
pub struct CookieContext<'a> {
    /// The vendors' cookies that the browser has, by name.
    pub cookies: &'a BTreeMap<String, String>,
    /// Click ids of this and earlier landings, by the lower-case name of their query parameter.
    pub click_ids: &'a BTreeMap<String, AdClickId>,
    /// The URL of the page.
    pub url: Option<&'a str>,
    /// The domain that the cookies are set for; the host itself where it has none.
    pub domain: &'a str,
    /// The time of the request.
    pub now: Timestamp,
    /// Random bits for ids.
    pub random: u32,
}

/// A first-party cookie that a vendor's own library in the page will read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCookie {
    /// Its name, which is one of [`Vendor::cookies`].
    pub name: &'static str,
    /// The value, not encoded.
    pub value: String,
    /// The time for which the browser stores it.
    pub max_age: Duration,
}

/// The mapping from events to calls of a vendor's server API, and the meaning of the replies.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Returns the vendor's limits for batches and calls. Settings may lower them.
    fn delivery_limits(&self) -> DeliveryLimits;

    /// Returns the age up to which the vendor takes an event as of the time when it happened.
    fn max_event_age(&self) -> Duration {
        self.delivery_limits().max_age
    }

    /// Returns the secrets that must not appear in previews of its requests.
    fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }

    /// Returns the vendor's use of amounts.
    fn price_use(&self) -> PriceUse {
        PriceUse::AsWritten
    }

    /// Returns the identifiers of the person in the vendor's form of an event that it admits, at the places of
    /// [`Vendor::match_keys`]; the event's own by default.
    fn match_data(&self, event: &EnrichedEvent) -> serde_json::Value {
        match_keys::person_data(event)
    }

    /// Returns true if the vendor recognises a second report of this event, by an id that the page's tag sends as
    /// well; `None` if that does not matter for this event, or the vendor never does.
    fn can_deduplicate(&self, event: &EnrichedEvent) -> Option<bool> {
        let _unused = event;
        None
    }

    /// Decides if this event is sent to the vendor. Called once per event, before it is queued; an event that
    /// is refused here ends with this outcome, skipped or dead, without a call.
    ///
    /// # Errors
    ///
    /// Returns the outcome of an event that is not sent.
    fn admit_event(&self, event: &EnrichedEvent, now: Timestamp) -> Result<(), Outcome>;

    /// Sends a batch that passed [`Destination::admit_event`] and returns how each event ended, in the order
    /// of the batch. The same events may come again after [`Outcome::Retry`], and must then carry the same
    /// dedupe keys.
    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome>;

    /// Returns a copy without anything that earlier calls taught it, for rehearsals: their replies are not the
    /// vendor's. `None` if calls teach it nothing.
    fn without_memory(&self) -> Option<Arc<dyn Destination>> {
        None
    }

    /// Returns the settings without which it has no lists for the members of segments, if the vendor has
    /// lists.
    fn missing_list_settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the interface that puts the members of segments on its lists, if the vendor has lists and the
    /// settings suffice.
    fn audience(&self) -> Option<&dyn VendorAudience> {
        None
    }
}

/// A vendor's limits for batches and calls.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// The events that may share a batch.
    pub scope: BatchScope,
    /// The most events in one batch.
    pub max_events: usize,
    /// The most bytes of journal records in one batch.
    pub max_bytes: usize,
    /// The time that a batch that is not full waits for more events.
    pub batch_delay: Duration,
    /// The age beyond which events are dead: the vendor would not take them.
    pub max_age: Duration,
    /// The most batches in flight at once.
    pub concurrency: usize,
    /// The most calls per second, where the vendor states a limit.
    pub calls_per_second: Option<NonZeroU32>,
    /// The time limit of one call.
    pub timeout: Duration,
}

/// The events that may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchScope {
    /// Only events of the same visitor, in their order.
    Visitor,
    /// Any events of the site.
    Site,
}

/// The outcome of one event at a destination, final or not: of its mapping, of one call, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor took it.
    Delivered,
    /// The vendor has no use for it.
    Skipped(OutcomeReason),
    /// The vendor will never take this event.
    Dead(OutcomeReason),
    /// The call was refused as a whole and the reply does not name the bad event. A batch of one is dead; a
    /// larger one is split to find the bad event.
    Refused(OutcomeReason),
    /// Try again, not before `after` if the vendor named a time.
    Retry {
        /// The cause of this failure.
        reason: OutcomeReason,
        /// The wait that the vendor asked for.
        after: Option<Duration>,
    },
    /// Try again after this time, and not before: the vendor throttles this visitor, and goes on taking the
    /// events of others.
    Throttled {
        /// The vendor's reason.
        reason: OutcomeReason,
        /// The wait that it asked for.
        after: Duration,
    },
    /// The vendor refused the credentials: no call will work until the settings are corrected.
    Unauthorised(OutcomeReason),
}

impl Outcome {
    /// Makes the outcome of an event that the vendor has no use for.
    pub const fn skipped(code: &'static str) -> Self {
        Self::Skipped(OutcomeReason::new(code))
    }

    /// Makes the outcome of an event that the vendor will never take.
    pub const fn dead(code: &'static str) -> Self {
        Self::Dead(OutcomeReason::new(code))
    }

    /// Returns the reason why it did not end as delivered.
    pub fn reason_mut(&mut self) -> Option<&mut OutcomeReason> {
        match self {
            Self::Delivered => None,
            Self::Skipped(reason)
            | Self::Dead(reason)
            | Self::Refused(reason)
            | Self::Retry { reason, .. }
            | Self::Throttled { reason, .. }
            | Self::Unauthorised(reason) => Some(reason),
        }
    }
}

/// The reason why an event did not end as delivered: a code from a closed set, for labels and people, and an
/// optional detail for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeReason {
    /// `snake_case`, from the source: safe as a metric label.
    pub code: &'static str,
    /// The particulars, where they help. May quote the vendor, so it is escaped and cut wherever shown.
    pub detail: Option<Box<str>>,
}

impl OutcomeReason {
    /// Makes a reason without a detail.
    pub const fn new(code: &'static str) -> Self {
        Self { code, detail: None }
    }

    /// Makes a reason with a detail for people.
    pub fn detailed(code: &'static str, detail: impl Into<Box<str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    /// Removes the known secrets from the detail and cuts it to `DETAIL_CHARS` characters.
    pub fn redact(&mut self, redaction: &SecretRedactor) {
        if let Some(detail) = &mut self.detail {
            *detail = redaction.excerpt(detail, DETAIL_CHARS).into();
        }
    }
}

/// Sends one HTTP request to a vendor through the shared egress client: address guard, throttle,
/// timeout, capped reply, metrics and the live feed.
#[async_trait]
pub trait VendorCall: Send + Sync {
    /// Sends `request` and returns the reply, whatever its status.
    ///
    /// # Errors
    ///
    /// Fails if there is no complete reply.
    async fn call(&self, request: http::Request<Bytes>) -> Result<VendorReply, VendorCallError>;

    /// Marks the calls from now on as about one event of the batch alone, by its number. For a call without
    /// this mark, a query for an event's last call shows no bodies: they contain other visitors' data.
    fn set_current_event(&self, event: u64) {
        // The default implementation stores no calls.
        let _unkept = event;
    }

    /// Registers a secret that a reply contains, such as an access token: no output shows it.
    fn register_secret(&self, secret: &SecretString) {
        // The default implementation shows no replies.
        let _unshown = secret;
    }

    /// Returns the time of day, for signatures and age checks.
    fn now(&self) -> Timestamp;
}

/// Marks a request whose reply contains a secret, such as a token: the live feed does not show the reply.
#[derive(Clone, Copy, Debug)]
pub struct ConfidentialReply;

/// The reason why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum VendorCallError {
    /// No complete reply within the destination's timeout.
    #[error("no complete reply within {0:?}")]
    Timeout(Duration),
    /// The name did not resolve, or no connection could be made: nothing was sent.
    #[error("could not be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection was cut before the reply was complete.
    #[error("the connection was cut")]
    Cut(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address guard: the name resolves to an address that is forbidden to destinations.
    #[error("the address is private or reserved, and egress.allow_private is off")]
    Forbidden,
    /// The destination is being stopped; the events stay in the journal.
    #[error("the destination is being stopped")]
    Stopping,
}

impl VendorCallError {
    /// Returns true if the vendor may have acted on the request all the same.
    pub const fn is_ambiguous(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Cut(_) => true,
            Self::Unreachable(_) | Self::Forbidden | Self::Stopping => false,
        }
    }
}
