//! The vendors: one folder per platform, holding all that the gateway knows about it.
//!
//! A vendor has up to five faces and a stand-in, each told of here and written in a file there: the
//! [`Destination`], which renders requests, hands them to [`VendorCall`] and reads the replies; its
//! [`VendorAudience`], which puts the members of segments on the vendor's lists; the [`Beacon`], which reads
//! what the vendor's own browser library sends; the [`VendorScripts`], which says where that library comes
//! from; and the [`VendorShim`], which stands in for it. Vendor code does no I/O of its own. It knows no
//! clock, no store, no HTTP client.
//!
//! What all vendors read alike is beside their folders: [`person`] and [`products`] find what an event
//! says under the many names that sites give it, [`naming`] recognises the Segment spec's events,
//! [`prices`] reads the amounts of an event before its vendor sees it, [`email`] finds addresses where
//! none should be, [`digest`] hashes, [`classify_reply`] reads replies, [`aliases`] knows what people call vendors,
//! [`request_preview`] shows requests to people. Vendors that take an event in several
//! calls share a `conversation`. What beacons have in common is in [`beacon_format`].
//!
//! Adding a vendor is a folder, its `mod` line, its entry in [`VENDORS`] and a fixtures folder; a
//! tidy test holds the four together.

pub mod aliases;
pub mod audience;
pub mod beacon;
pub mod beacon_format;
mod contact_api;
pub mod digest;
mod google;
pub mod naming;
pub mod person;
pub mod prices;
pub mod products;
mod reasons;
mod reply;
pub mod request_preview;
pub mod script;
pub mod shim;
#[cfg(test)]
pub(crate) mod test_support;

pub mod amplitude;
pub mod console;
pub mod drift;
pub mod forward;
pub mod ga4;
pub mod google_ads;
pub mod intercom;
pub mod jitsu;
pub mod klaviyo;
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

pub use crate::privacy::email;
pub use audience::VendorAudience;
pub use beacon::Beacon;
pub use reasons::REASONS;
pub use reply::{ReplyStatus, VendorReply, classify_reply};
pub use script::VendorScripts;
pub use shim::VendorShim;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use url::Url;

use crate::event::{AdClickId, EnrichedEvent, JsonObject};
use crate::settings::{SecretRedactor, SecretString, SettingsSection};
use prices::PriceUse;

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
    // Takes most paths of two parts, so at a shared mount the others come first.
    &snowplow::VENDOR,
];

/// What the house knows of one vendor.
pub struct Vendor {
    /// The name in configuration, routes and metrics.
    pub name: &'static str,
    /// Other names under which clients switch it and give it options (Segment's `integrations`).
    pub aliases: &'static [&'static str],
    /// Names (or prefixes ending in `*`) of the vendor's own first-party cookies, which are worth
    /// keeping with an event.
    pub cookies: &'static [&'static str],
    /// Makes those of its cookies that a browser lacks, where the vendor tells browsers apart by
    /// them. Asked at each request of a browser to a site that sends the vendor events.
    pub issue_cookies: Option<fn(&CookieContext<'_>) -> Vec<IssuedCookie>>,
    /// How its server API is called, if it is a destination.
    pub destination: Option<DestinationBuilder>,
    /// The end of a sentence about it: if it recognises an event that it is sent a second time, and by
    /// which of its parts.
    pub deduplication: &'static str,
    /// How its browser library speaks, if the gateway understands it.
    pub beacon: Option<&'static dyn Beacon>,
    /// The name under which the vendor takes a track event that it has no name of its own for, if it is
    /// particular about names.
    pub fit_name: Option<fn(&str) -> Option<String>>,
    /// Which of its browser scripts are served first-party, if any.
    pub script: Option<&'static VendorScripts>,
    /// What stands in for its browser API in the page, and makes events of its calls.
    pub shim: Option<&'static VendorShim>,
    /// How its own library in the page is fed, if it can be: `mode = "client"` and `"both"`.
    pub client: Option<ClientLibrary>,
}

/// How a vendor's own library in the page is fed.
#[derive(Clone, Copy, Debug)]
pub struct ClientLibrary {
    /// The adapter, built from the vendor's `client.ts`.
    pub script: &'static str,
    /// The library's path below the vendor's mount; `{key}` stands for a public setting.
    pub library: &'static str,
    /// The settings that the page needs to have: ids that the vendor shows to every visitor.
    pub required: &'static [&'static str],
    /// The settings that the page may have besides. No other setting gets there.
    pub optional: &'static [&'static str],
    /// Why the vendor may count an event twice that both the page and the gateway report; none if it
    /// does not.
    pub duplicate_risk: Option<&'static str>,
}

impl Vendor {
    /// A vendor of whom nothing is known: what an entry of [`VENDORS`] does not say.
    pub const EMPTY: Self = Self {
        name: "",
        aliases: &[],
        cookies: &[],
        issue_cookies: None,
        destination: None,
        deduplication: "cannot tell repetitions: each counts again",
        beacon: None,
        fit_name: None,
        script: None,
        shim: None,
        client: None,
    };

    /// The client's options for the vendor, of the first of its names that has any.
    pub fn options<'e>(&self, event: &'e EnrichedEvent) -> Option<&'e JsonObject> {
        let integrations = event.event.integrations.as_ref()?;
        let names = self.aliases.iter().chain([&self.name]);
        names.into_iter().find_map(|name| integrations.get(*name)?.as_object())
    }
}

/// Reads the vendor's own settings and builds its destination; mistakes go to the section. The
/// address stands in for the vendor's base URL.
pub type DestinationBuilder = fn(&mut SettingsSection<'_>, Option<Url>) -> Box<dyn Destination>;

/// The vendor with this name.
pub fn find(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name).copied()
}

/// What a vendor sees of a browser's request when it makes its cookies.
#[derive(Clone, Copy, Debug)]
pub struct CookieContext<'a> {
    /// The vendors' cookies that the browser has, by name.
    pub cookies: &'a BTreeMap<String, String>,
    /// Click ids of this and earlier landings, by the lower-case name of their query parameter.
    pub click_ids: &'a BTreeMap<String, AdClickId>,
    /// The URL of the page.
    pub url: Option<&'a str>,
    /// The domain that the cookies will be for; the host itself where it has none.
    pub domain: &'a str,
    /// Now.
    pub now: Timestamp,
    /// For ids.
    pub random: u32,
}

/// A first-party cookie that a vendor's own library in the page will read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCookie {
    /// Its name, which is one of [`Vendor::cookies`].
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// How long the browser keeps it.
    pub max_age: Duration,
}

/// How events become calls to a vendor's server API, and what the replies mean.
#[async_trait]
pub trait Destination: Send + Sync {
    /// How this vendor likes to be called. Settings may lower what is said here.
    fn delivery_limits(&self) -> DeliveryLimits;

    /// The age up to which the vendor takes an event as of when it happened.
    fn max_event_age(&self) -> Duration {
        self.delivery_limits().max_age
    }

    /// What must not be shown to those who watch its requests.
    fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }

    /// The use that it has for amounts.
    fn price_use(&self) -> PriceUse {
        PriceUse::AsWritten
    }

    /// Whether this event has anything to say to the vendor. Called once per event, before it is
    /// queued; an event that is refused here is settled as skipped or dead without a call.
    fn admit_event(&self, event: &EnrichedEvent, now: Timestamp) -> Admission;

    /// Sends a batch that passed [`Destination::admit_event`] and says how each event ended, in the
    /// order of the batch. The same events may come again after [`Outcome::Retry`], and must
    /// then carry the same dedupe keys.
    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome>;

    /// The settings without which it has no lists for the members of segments, of a vendor that has such.
    fn missing_list_settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// How the members of segments are put on its lists, if the vendor has such and the settings say
    /// enough.
    fn audience(&self) -> Option<&dyn VendorAudience> {
        None
    }
}

/// How a vendor likes to be called.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Which events may share a batch.
    pub scope: BatchScope,
    /// The most events in one batch.
    pub max_events: usize,
    /// The most bytes of journal records in one batch.
    pub max_bytes: usize,
    /// How long a batch that is not full waits for more events.
    pub batch_delay: Duration,
    /// Events older than this are dead: the vendor would not take them.
    pub max_age: Duration,
    /// Batches under way at once.
    pub concurrency: usize,
    /// The most calls per second, where the vendor states a limit.
    pub calls_per_second: Option<NonZeroU32>,
    /// How long one call may take.
    pub timeout: Duration,
}

/// Which events may share a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchScope {
    /// Only events of the same visitor, in their order.
    Visitor,
    /// Any events of the site.
    Site,
}

/// What a vendor says of an event before any call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Deliver it.
    Send,
    /// The vendor has no use for it; this is how it should be.
    Skip(OutcomeReason),
    /// It should have gone, but the vendor can never take it.
    Dead(OutcomeReason),
}

/// Why a mapping sends nothing of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingRefusal {
    /// The vendor has no such thing.
    Skip(&'static str),
    /// It lacks what the vendor requires.
    Dead(&'static str),
}

impl MappingRefusal {
    /// What it means before a call.
    pub fn into_admission(self) -> Admission {
        match self {
            Self::Skip(code) => Admission::Skip(OutcomeReason::new(code)),
            Self::Dead(code) => Admission::Dead(OutcomeReason::new(code)),
        }
    }

    /// How the event ends that got as far as a call.
    pub fn into_outcome(self) -> Outcome {
        match self {
            Self::Skip(code) => Outcome::Skipped(OutcomeReason::new(code)),
            Self::Dead(code) => Outcome::Dead(OutcomeReason::new(code)),
        }
    }
}

/// How one event ended at a destination, or that it has not ended yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The vendor took it.
    Delivered,
    /// The vendor has no use for it.
    Skipped(OutcomeReason),
    /// The vendor will never take this event.
    Dead(OutcomeReason),
    /// The call was refused as a whole and the reply does not say which event is to blame. A batch
    /// of one is dead; a larger one is split to find the bad event.
    Refused(OutcomeReason),
    /// Try again, not before `after` if the vendor named a time.
    Retry {
        /// What went wrong this time.
        reason: OutcomeReason,
        /// How long the vendor asked to wait.
        after: Option<Duration>,
    },
    /// Try again after this time, and not before: the vendor holds this visitor back, and goes on
    /// taking the events of others.
    Throttled {
        /// What the vendor said.
        reason: OutcomeReason,
        /// How long it asked to wait.
        after: Duration,
    },
    /// The vendor refused the credentials: nothing will work until someone mends the settings.
    Unauthorised(OutcomeReason),
}

impl Outcome {
    /// Why it did not end as delivered.
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

/// Why an event did not end as delivered: a code from a closed set, for labels and people, and an
/// optional detail for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeReason {
    /// `snake_case`, from the source: safe as a metric label.
    pub code: &'static str,
    /// What exactly, where it helps. May quote the vendor, so it is escaped and cut wherever shown.
    pub detail: Option<Box<str>>,
}

impl OutcomeReason {
    /// A reason that says it all in its code.
    pub const fn new(code: &'static str) -> Self {
        Self { code, detail: None }
    }

    /// A reason with a detail for people.
    pub fn detailed(code: &'static str, detail: impl Into<Box<str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    /// Takes the known secrets out of the detail, and cuts it to what a person reads.
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
    async fn call(&self, request: http::Request<Bytes>) -> Result<VendorReply, VendorCallError>;

    /// Says that the calls from now on are about one event of the batch alone, by its number. Of calls
    /// that are not, whoever asks for an event's last call sees no bodies: others' data are in them.
    fn set_current_event(&self, event: u64) {
        // Where nothing is kept there is nothing to tell apart.
        let _unkept = event;
    }

    /// Takes note of a secret that a reply gave out, such as an access token: no output shows it.
    fn register_secret(&self, secret: &SecretString) {
        // Where nothing is shown there is nothing to take note of.
        let _unshown = secret;
    }

    /// The time of day, for signatures and age checks.
    fn now(&self) -> Timestamp;
}

/// Goes with a request whose reply holds a secret, such as a token: watchers are not shown it.
#[derive(Clone, Copy, Debug)]
pub struct ConfidentialReply;

/// Why there is no reply.
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
    /// The address guard: the name resolves to an address that destinations must not be.
    #[error("the address is private or reserved, and egress.allow_private is off")]
    Forbidden,
    /// The destination is being stopped; the events stay in the journal.
    #[error("the destination is being stopped")]
    Stopping,
}

impl VendorCallError {
    /// Whether the vendor may have acted on the request all the same.
    pub const fn is_ambiguous(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Cut(_) => true,
            Self::Unreachable(_) | Self::Forbidden | Self::Stopping => false,
        }
    }
}
