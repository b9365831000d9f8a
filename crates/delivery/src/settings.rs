//! The settings of one destination: the site's values, with the vendor's limits as defaults.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use super::backoff::{BreakerSettings, RetrySettings};
use super::client::{CLIENT_LOADS, build_page_only_destination, read_client_mode};
use super::destination_table::DESTINATION_SETTINGS;
use super::filter::DestinationFilter;
use tagway_core::event::{EnrichedEvent, Event, EventFacts, JsonObject, ProfileView};
use tagway_core::metrics::SharedName;
use tagway_core::privacy::{ConsentDecision, ConsentRecord, PrivacyPolicy, UnknownConsent, decide};
use tagway_settings::SettingsSection;
use tagway_vendors::aliases::resolve_alias;
use tagway_vendors::forward;
use tagway_vendors::mapping::{EventMapping, GlobPatterns, WithheldReason};
use tagway_vendors::prices::PriceReader;
use tagway_vendors::{
    ClientModeSettings, DeliveryLimits, Destination, DestinationBuilder, Outcome, OutcomeReason,
    VENDORS, Vendor, find,
};

/// The sender of a destination's events: the gateway, the page, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationMode {
    /// The gateway calls the vendor's server API.
    Server,
    /// The vendor's own library in the page calls it; the gateway delivers nothing.
    Client,
    /// Both, with the same ids, so that the vendor can deduplicate.
    Both,
}

impl DestinationMode {
    /// Returns the word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "both",
        }
    }

    /// Returns true if the gateway delivers.
    pub fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Both)
    }
}

/// The settings of one of `[[sites.destinations]]`.
#[derive(Clone)]
pub struct DestinationSettings {
    /// The destination's name in the site.
    pub name: SharedName,
    /// The vendor's name.
    pub vendor: &'static str,
    /// The sender of its events.
    pub mode: DestinationMode,
    /// The ids in the vendor's client settings, which the vendor's tag shows to every visitor.
    pub public_ids: Vec<String>,
    /// The selection of its events.
    pub filter: DestinationFilter,
    /// The changes to its events.
    pub mapping: Arc<EventMapping>,
    /// The reader of its amounts.
    pub prices: PriceReader,
    /// The site's privacy settings for its visitors' data.
    pub privacy: Arc<PrivacyPolicy>,
    /// The limits of its calls.
    pub limits: DeliveryLimits,
    /// The waits and limits of retries.
    pub retry: RetrySettings,
    /// The longest hold of events for their visitor's consent, where they are held.
    pub consent_wait: Duration,
    /// The longest hold of events of unknown visitors for their identity; zero for none.
    pub identity_wait: Duration,
    /// True if it is paused: its events wait.
    pub paused: bool,
    /// The shortest time between two log reports of new dead letters; zero for none.
    pub dead_report: Duration,
    /// The settings of its circuit breaker.
    pub breaker: BreakerSettings,
    /// The interval between tries with refused credentials.
    pub auth_retry_interval: Duration,
    /// The most events in memory.
    pub queue_events: usize,
    /// The most bytes of events in memory.
    pub queue_bytes: usize,
    /// The settings for the page, where the vendor's own library runs there.
    pub client: Option<ClientModeSettings>,
    /// The vendor's implementation, built from its own settings; one that does nothing in client mode.
    pub destination: Arc<dyn Destination>,
    // The content of the table, so that a reload restarts only changed destinations.
    fingerprint: String,
}

/// The values of `mode`.
const MODES: &[(&str, DestinationMode)] = &[
    ("server", DestinationMode::Server),
    ("client", DestinationMode::Client),
    ("both", DestinationMode::Both),
];

impl DestinationSettings {
    /// Reads one destination's table. `None` if the vendor is unknown.
    pub fn read(section: &mut SettingsSection<'_>, privacy: Arc<PrivacyPolicy>) -> Option<Self> {
        section.describe(DESTINATION_SETTINGS);
        let name = section.string("name");
        let mode = section.choice("mode", MODES);
        let had_vendor = section.has("vendor");
        let vendor = section.string("vendor");
        let found = find(&vendor).and_then(|vendor| {
            // In client mode alone, a vendor needs no server API, nor its secrets.
            let is_page_alone = mode == DestinationMode::Client && vendor.client.is_some();
            let build = if is_page_alone {
                Some(build_page_only_destination as DestinationBuilder)
            } else {
                vendor.destination
            };
            Some((vendor, build?))
        });
        let Some((vendor, build)) = found else {
            if had_vendor {
                let known = VENDORS.iter().filter(|vendor| vendor.destination.is_some());
                // Beacons are forwarded by sites.vendors.NAME, and not by a destination of the user's.
                let names: Vec<&str> =
                    known.map(|vendor| vendor.name).filter(|name| *name != forward::NAME).collect();
                let meant = resolve_alias(&vendor).filter(|name| names.contains(name));
                section.unknown_word("vendor", &vendor, "vendor", (&names, meant));
            }
            // The vendor of these settings is unknown, so none of them can be called wrong.
            section.ignore_rest();
            return None;
        };
        let fingerprint = format!("{} {privacy:?}", section.fingerprint());
        let endpoint = read_endpoint(section);
        let mut settings = section.section("settings");
        settings.describe(vendor.settings);
        let destination = build(&mut settings, endpoint);
        let keys = vendor.client.iter().flat_map(|client| client.required);
        let public_ids = keys.filter_map(|key| settings.opt_string(key)).collect();
        let prices = PriceReader::read(&mut settings, destination.price_use());
        let limits = read_delivery_limits(section, destination.delivery_limits());
        let max_age = limits.max_age.min(destination.max_event_age());
        let identity_wait = read_identity_wait(section, max_age);
        let filter = DestinationFilter {
            name: name.clone(),
            vendor: vendor.name,
            vendor_aliases: vendor.aliases,
            events: GlobPatterns::new(&section.strings("events")),
            tags: read_tags(section),
            consent: section.strings("consent"),
            unknown_consent: section.choice(
                "unknown_consent",
                &[
                    ("allow", UnknownConsent::Allow),
                    ("deny", UnknownConsent::Deny),
                    ("hold", UnknownConsent::Hold),
                ],
            ),
        };
        let client = read_client(section, &mut settings, (vendor, mode), (&filter, &privacy));
        Some(Self {
            name: name.into(),
            vendor: vendor.name,
            mode,
            client,
            public_ids,
            filter,
            privacy,
            prices,
            mapping: Arc::new(EventMapping::read(section)),
            limits,
            paused: section.boolean("paused"),
            dead_report: section.duration("dead_report"),
            consent_wait: section.duration("consent_wait"),
            identity_wait,
            retry: RetrySettings::read(&mut section.section("retry")),
            breaker: BreakerSettings::read(&mut section.section("breaker")),
            auth_retry_interval: section.duration("auth_retry_interval"),
            queue_events: section.integer("queue_events"),
            queue_bytes: section.byte_count("queue_bytes"),
            destination: destination.into(),
            fingerprint,
        })
    }
}

impl DestinationSettings {
    /// Returns true if it needs the attributes computed from a person's events.
    pub fn needs_computed_attributes(&self) -> bool {
        self.mapping.needs_computed_attributes()
    }

    /// Returns the names of events whose counts per person it uses.
    pub fn counted_events(&self) -> &BTreeSet<String> {
        self.mapping.counted_events()
    }

    /// Limits the events from vendors' tags in the page to those of its own vendor's tag, unless the site
    /// selects the tags: each of the tags reports the same action once.
    pub fn restrict_to_own_tags(&mut self) {
        if self.filter.tags.is_none() {
            self.filter.tags = Some(GlobPatterns::new(&[self.vendor.to_owned()]));
            self.fingerprint.push_str(" own tags");
        }
    }

    /// Returns a segment's member in its form for this destination, or the reason for excluding them. The
    /// event only identifies the person; the site's event filters do not apply to it.
    ///
    /// # Errors
    ///
    /// Returns the reason if consent or the mapping excludes the person.
    pub fn admit_member(&self, person: EnrichedEvent) -> Result<EnrichedEvent, OutcomeReason> {
        let unknown = self.privacy.unknown(&person.event.facts, self.filter.unknown_consent);
        if let Some(reason) = self.filter.refuse_consent(person.event.context.as_ref(), unknown) {
            return Err(reason);
        }
        self.mapping.apply(self.without_denied(person)).map_err(|withheld| match withheld {
            WithheldReason::NotSelected => OutcomeReason::new("not_selected"),
            WithheldReason::Undecided(why) => OutcomeReason::detailed("where_undecided", why),
        })
    }

    /// Returns the event with a profile without the traits that must not leave.
    fn without_denied(&self, mut event: EnrichedEvent) -> EnrichedEvent {
        if self.privacy.denies_any() && !event.profile.traits.is_empty() {
            let mut profile = ProfileView::clone(&event.profile);
            self.privacy.deny_traits(&mut profile.traits);
            event.profile = Arc::new(profile);
        }
        event
    }

    /// Returns true if the event may be held here for its visitor's choice.
    pub fn can_hold_for_consent(&self, event: &Event) -> bool {
        // A forwarded beacon is not for any other destination.
        let is_raw = event.facts.beacon.is_some();
        !is_raw
            && !self.filter.consent.is_empty()
            && self.filter.unknown_consent == UnknownConsent::Hold
    }

    /// Returns true if the event is held here for its visitor's choice, judged by the event alone.
    pub fn is_held_for_consent(&self, event: &Event) -> bool {
        let record = event.context.as_ref().and_then(ConsentRecord::read);
        self.can_hold_for_consent(event)
            && decide(&self.filter.consent, record.as_ref(), UnknownConsent::Hold)
                == ConsentDecision::Hold
    }

    /// Returns true if a person with these facts, and the choice in this context, may be known to this
    /// destination.
    pub fn consents(&self, context: &JsonObject, facts: &EventFacts) -> bool {
        let unknown = self.privacy.unknown(facts, self.filter.unknown_consent);
        self.filter.refuse_consent(Some(context), unknown).is_none()
    }

    /// Returns true if the event is for this destination, as far as that does not depend on its visitor.
    pub fn is_for(&self, event: &Event) -> bool {
        let unknown = self.privacy.unknown(&event.facts, self.filter.unknown_consent);
        !self.is_delivered_elsewhere(event)
            && self.filter.refuse(event, unknown).is_none()
            && self.mapping.is_for(event)
    }

    /// Returns true if the vendor has the event already, or if it is a beacon for the forwarding destination.
    fn is_delivered_elsewhere(&self, event: &Event) -> bool {
        let facts = &event.facts;
        let is_told = facts.forwarded_to.as_deref() == Some(self.vendor);
        is_told || (facts.beacon.is_some() && self.vendor != forward::NAME)
    }

    /// Returns the event in its form for this destination, with the decision to send it or not.
    ///
    /// # Errors
    ///
    /// The second part is the outcome of an event that is not sent: skipped, dead or to be held.
    pub fn admit(
        &self,
        event: EnrichedEvent,
        now: Timestamp,
    ) -> (EnrichedEvent, Result<(), Outcome>) {
        self.admit_mapped(event, now, |event| self.mapping.apply(event))
    }

    /// Returns the same for an event that was delivered before: nothing is counted.
    pub fn rehearse(
        &self,
        event: EnrichedEvent,
        now: Timestamp,
    ) -> (EnrichedEvent, Result<(), Outcome>) {
        self.admit_mapped(event, now, |event| self.mapping.rehearse(event))
    }

    fn admit_mapped(
        &self,
        event: EnrichedEvent,
        now: Timestamp,
        map: impl FnOnce(EnrichedEvent) -> Result<EnrichedEvent, WithheldReason>,
    ) -> (EnrichedEvent, Result<(), Outcome>) {
        if self.is_delivered_elsewhere(&event.event) {
            return (event, Err(Outcome::skipped("passed_on")));
        }
        let unknown = self.privacy.unknown(&event.event.facts, self.filter.unknown_consent);
        if let Some(reason) = self.filter.refuse(&event.event, unknown) {
            return (event, Err(Outcome::Skipped(reason)));
        }
        let event = self.without_denied(event);
        let mapped = match map(event.clone()) {
            Ok(mapped) => mapped,
            Err(WithheldReason::NotSelected) => {
                return (event, Err(Outcome::skipped("not_selected")));
            }
            Err(WithheldReason::Undecided(why)) => {
                let reason = OutcomeReason::detailed("where_undecided", why);
                return (event, Err(Outcome::Dead(reason)));
            }
        };
        self.prices.admit_event(&*self.destination, mapped, now)
    }
}

#[cfg(test)]
impl DestinationSettings {
    /// Builds settings with the embedded defaults, but short waits.
    pub(crate) fn for_tests(name: &str, destination: Arc<dyn Destination>) -> Self {
        let ms = Duration::from_millis;
        Self {
            public_ids: Vec::new(),
            name: name.into(),
            vendor: "console",
            mode: DestinationMode::Server,
            filter: DestinationFilter {
                name: name.into(),
                vendor: "console",
                vendor_aliases: &[],
                events: GlobPatterns::new(&[]),
                tags: None,
                consent: Vec::new(),
                unknown_consent: UnknownConsent::Allow,
            },
            privacy: Arc::default(),
            mapping: Arc::default(),
            prices: PriceReader::as_written(),
            limits: destination.delivery_limits(),
            paused: false,
            dead_report: ms(300_000),
            consent_wait: ms(3_600_000),
            identity_wait: Duration::ZERO,
            retry: RetrySettings {
                min_wait: ms(1),
                max_wait: ms(20),
                max_retry_after: ms(3_600_000),
                tries_before_parking: 4,
                parked_max: 1000,
            },
            breaker: BreakerSettings { failures: 5, min_open: ms(5), max_open: ms(40) },
            auth_retry_interval: ms(30),
            queue_events: 64,
            queue_bytes: 1 << 20,
            client: None,
            destination,
            fingerprint: name.to_owned(),
        }
    }
}

/// Reads the settings for the page, in the modes in which it calls the vendor.
fn read_client(
    section: &mut SettingsSection<'_>,
    settings: &mut SettingsSection<'_>,
    (vendor, mode): (&Vendor, DestinationMode),
    (filter, policy): (&DestinationFilter, &PrivacyPolicy),
) -> Option<ClientModeSettings> {
    if mode == DestinationMode::Server {
        // The default of every destination; it has no meaning here.
        section.choice("client_load", &CLIENT_LOADS);
        return None;
    }
    let Some(client) = &vendor.client else {
        section.choice("client_load", &CLIENT_LOADS);
        let has = VENDORS.iter().filter(|vendor| vendor.client.is_some());
        let names: Vec<&str> = has.map(|vendor| vendor.name).collect();
        let names = names.join(", ");
        section.error("mode", &format!("must be \"server\": only {names} run in the page"));
        return None;
    };
    let mut read = read_client_mode(section, settings, (vendor, client), filter, policy);
    read.both = mode == DestinationMode::Both;
    if mode == DestinationMode::Client {
        // Settings of the gateway's own deliveries may stay where they are.
        settings.ignore_rest();
    }
    Some(read)
}

/// Reads the tags whose events a destination accepts, if the site sets them; an empty list means none.
fn read_tags(section: &mut SettingsSection<'_>) -> Option<GlobPatterns> {
    if !section.has("tags") {
        return None;
    }
    let mut tags = section.strings("tags");
    let known: Vec<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
    for tag in &tags {
        let name = tag.trim_start_matches('!');
        if !name.contains(['*', '?']) && !known.contains(&name) {
            section.unknown_word("tags", name, "vendor", (&known, resolve_alias(name)));
        }
    }
    if tags.is_empty() {
        tags.push("!*".to_owned());
    }
    Some(GlobPatterns::new(&tags))
}

/// Reads the base URL that replaces the vendor's.
fn read_endpoint(section: &mut SettingsSection<'_>) -> Option<Url> {
    let url: Url = section.opt_parsed("endpoint")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        section.error("endpoint", "must be an http or https URL with a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        section.error("endpoint", "must not contain a user name or password");
    }
    Some(url)
}

/// Reads the limits of calls; the vendor's are the defaults.
fn read_delivery_limits(
    section: &mut SettingsSection<'_>,
    vendor: DeliveryLimits,
) -> DeliveryLimits {
    DeliveryLimits {
        scope: vendor.scope,
        max_events: read_max_events(section, vendor.max_events),
        max_bytes: vendor.max_bytes,
        batch_delay: section.opt_duration("batch_delay").unwrap_or(vendor.batch_delay),
        max_age: section.opt_duration("max_age").unwrap_or(vendor.max_age),
        concurrency: section.opt_integer("concurrency").unwrap_or(vendor.concurrency),
        calls_per_second: section
            .opt_integer("calls_per_second")
            .and_then(std::num::NonZeroU32::new)
            .or(vendor.calls_per_second),
        timeout: section.opt_duration("timeout").unwrap_or(vendor.timeout),
    }
}

/// Reads the limit of events in a batch, at most the vendor's own.
fn read_max_events(section: &mut SettingsSection<'_>, most: usize) -> usize {
    let events = section.opt_integer("batch_events").unwrap_or(most);
    if events > most {
        section.error("batch_events", &format!("{events} is not between 1 and {most}"));
    }
    events.min(most)
}

/// Reads the longest hold for a visitor's identity. Half of the age up to which the vendor accepts events
/// is left for later failures.
fn read_identity_wait(section: &mut SettingsSection<'_>, oldest: Duration) -> Duration {
    let hold = section.duration("identity_wait");
    let longest = oldest / 2;
    if hold > longest {
        let (hours, minutes) = (longest.as_secs() / 3600, longest.as_secs() % 3600 / 60);
        let longest = if hours > 0 { format!("{hours}h") } else { format!("{minutes}m") };
        let message = format!(
            "must be at most {longest}, half the age up to which the destination takes events"
        );
        section.error("identity_wait", &message);
    }
    hold
}

impl PartialEq for DestinationSettings {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl fmt::Debug for DestinationSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DestinationSettings")
            .field("name", &self.name)
            .field("vendor", &self.vendor)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
