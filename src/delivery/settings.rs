//! One destination's settings: the site's wishes over the vendor's habits.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use url::Url;

use super::backoff::{BreakerSettings, RetrySettings};
use super::client::ClientSettings;
use super::filter::Filter;
use crate::event::{Enriched, Event, Facts, Object, ProfileView};
use crate::mapping::{Globs, Mapping, Withheld};
use crate::metrics::Name;
use crate::privacy::{Consent, Decision, Policy, Unknown, decide};
use crate::settings::Section;
use crate::vendors::aliases::meant;
use crate::vendors::forward;
use crate::vendors::prices::PriceReader;
use crate::vendors::{
    Build, Call, Destination, Habits, Outcome, Reason, Screening, Unit, VENDORS, Vendor, find,
};

/// Where a destination's events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The gateway calls the vendor's server API.
    Server,
    /// The vendor's own library in the page does; the gateway delivers nothing.
    Client,
    /// Both, with the same ids, so that the vendor can deduplicate.
    Both,
}

impl Mode {
    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Both => "both",
        }
    }

    /// Whether the gateway delivers.
    pub fn is_server(self) -> bool {
        matches!(self, Self::Server | Self::Both)
    }
}

/// `[[sites.destinations]]`.
#[derive(Clone)]
pub struct DestinationSettings {
    /// Its name in the site.
    pub name: Name,
    /// Its vendor's name.
    pub vendor: &'static str,
    /// Where its events come from.
    pub mode: Mode,
    /// The ids by which the vendor shows every visitor whose pages these are.
    pub public_ids: Vec<String>,
    /// Which events are for it.
    pub filter: Filter,
    /// In which form.
    pub mapping: Arc<Mapping>,
    /// The reader of its amounts.
    pub prices: PriceReader,
    /// What the site does with its visitors' data.
    pub privacy: Arc<Policy>,
    /// How it is called.
    pub habits: Habits,
    /// When it is tried again.
    pub retry: RetrySettings,
    /// How long events wait for their visitor's consent, where they do.
    pub hold: Duration,
    /// How long events of visitors nobody knows wait for who it is; zero if they do not.
    pub hold_identity: Duration,
    /// True if it is paused: its events wait.
    pub paused: bool,
    /// How often new dead letters are reported in the log at most; zero for never.
    pub dead_report: Duration,
    /// When it is left alone.
    pub breaker: BreakerSettings,
    /// How often refused credentials are tried again.
    pub unauthorised_probe: Duration,
    /// Events in memory at most.
    pub queue_events: usize,
    /// Bytes of events in memory at most.
    pub queue_bytes: usize,
    /// What the page is told, where the vendor's own library runs there.
    pub client: Option<ClientSettings>,
    /// The vendor's face, built from its own settings; one that does nothing in client mode.
    pub destination: Arc<dyn Destination>,
    // What the table said, so that a reload restarts only what changed.
    fingerprint: String,
}

impl DestinationSettings {
    /// Reads one destination's table. `None` if the vendor is not known.
    pub fn read(section: &mut Section<'_>, privacy: Arc<Policy>) -> Option<Self> {
        let name = section.string("name");
        let mode = section.choice(
            "mode",
            &[("server", Mode::Server), ("client", Mode::Client), ("both", Mode::Both)],
        );
        let had_vendor = section.has("vendor");
        let vendor = section.string("vendor");
        let found = find(&vendor).and_then(|vendor| {
            // In the page alone, a vendor needs no server API, nor its secrets.
            let is_page_alone = mode == Mode::Client && vendor.client.is_some();
            let build = if is_page_alone { Some(absent as Build) } else { vendor.destination };
            Some((vendor, build?))
        });
        let Some((vendor, build)) = found else {
            if had_vendor {
                let known = VENDORS.iter().filter(|vendor| vendor.destination.is_some());
                // Beacons are passed on by sites.vendors.NAME, and not by a destination of the user's.
                let names: Vec<&str> =
                    known.map(|vendor| vendor.name).filter(|name| *name != forward::NAME).collect();
                let meant = meant(&vendor).filter(|name| names.contains(name));
                section.unknown_word("vendor", &vendor, "vendor", (&names, meant));
            }
            // Whose settings these are is unknown, so none of them can be called wrong.
            section.ignore_rest();
            return None;
        };
        let fingerprint = format!("{} {privacy:?}", section.fingerprint());
        let endpoint = read_endpoint(section);
        let mut settings = section.section("settings");
        let destination = build(&mut settings, endpoint);
        let keys = vendor.client.iter().flat_map(|client| client.required);
        let public_ids = keys.filter_map(|key| settings.opt_string(key)).collect();
        let prices = PriceReader::read(&mut settings, destination.price_use());
        let habits = read_habits(section, destination.habits());
        let hold_identity = read_hold_identity(section, habits.max_age.min(destination.oldest()));
        let filter = Filter {
            name: name.clone(),
            vendor: vendor.name,
            known_as: vendor.known_as,
            events: Globs::new(&section.strings("events")),
            tags: read_tags(section),
            consent: section.strings("consent"),
            unknown_consent: section.choice(
                "unknown_consent",
                &[("allow", Unknown::Allow), ("deny", Unknown::Deny), ("hold", Unknown::Hold)],
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
            mapping: Arc::new(Mapping::read(section)),
            habits,
            paused: section.boolean("paused"),
            dead_report: section.duration("dead_report"),
            hold: section.positive_duration("consent_wait"),
            hold_identity,
            retry: RetrySettings::read(&mut section.section("retry")),
            breaker: BreakerSettings::read(&mut section.section("breaker")),
            unauthorised_probe: section.duration("auth_retry_interval"),
            queue_events: section.integer("queue_events", 1..=1_000_000),
            queue_bytes: section.byte_count("queue_bytes"),
            destination: destination.into(),
            fingerprint,
        })
    }
}

impl DestinationSettings {
    /// Whether it needs to see what is computed of a person's events.
    pub fn wants_computed(&self) -> bool {
        self.mapping.wants_computed()
    }

    /// The names of events of which it looks at a person's counts.
    pub fn counted_events(&self) -> &BTreeSet<String> {
        self.mapping.counted_events()
    }

    /// Takes, of what vendors' tags in the page tell, only what its own vendor's do, unless the site says
    /// which: the same is told once by each of them.
    pub fn hear_own_tags(&mut self) {
        if self.filter.tags.is_none() {
            self.filter.tags = Some(Globs::new(&[self.vendor.to_owned()]));
            self.fingerprint.push_str(" own tags");
        }
    }

    /// A member of a segment as this destination is to see them, or why it is not to hear of them. The
    /// event says who they are; it is no event that the site's filters speak of.
    pub fn admit_member(&self, person: Enriched) -> Result<Enriched, Reason> {
        let unknown = self.privacy.unknown(&person.event.facts, self.filter.unknown_consent);
        if let Some(reason) = self.filter.refuse_consent(person.event.context.as_ref(), unknown) {
            return Err(reason);
        }
        self.mapping.apply(self.without_denied(person)).map_err(|withheld| match withheld {
            Withheld::NotSelected => Reason::new("not_selected"),
            Withheld::Undecided(why) => Reason::detailed("where_undecided", why),
        })
    }

    /// The event beside a profile without the traits that do not leave.
    fn without_denied(&self, mut event: Enriched) -> Enriched {
        if self.privacy.denies_any() && !event.profile.traits.is_empty() {
            let mut profile = ProfileView::clone(&event.profile);
            self.privacy.deny_traits(&mut profile.traits);
            event.profile = Arc::new(profile);
        }
        event
    }

    /// Returns true if the event may have to wait here for its visitor's choice.
    pub fn may_hold(&self, event: &Event) -> bool {
        // A beacon that is passed on is nothing to any other destination.
        let is_raw = event.facts.beacon.is_some();
        !is_raw && !self.filter.consent.is_empty() && self.filter.unknown_consent == Unknown::Hold
    }

    /// Returns true if the event waits here for its visitor's choice, as far as it says itself.
    pub fn holds(&self, event: &Event) -> bool {
        let record = event.context.as_ref().and_then(Consent::read);
        self.may_hold(event)
            && decide(&self.filter.consent, record.as_ref(), Unknown::Hold) == Decision::Hold
    }

    /// Whether somebody of whom this was observed, and whose choice stands in this context, may be known
    /// to this destination.
    pub fn consents(&self, context: &Object, facts: &Facts) -> bool {
        let unknown = self.privacy.unknown(facts, self.filter.unknown_consent);
        self.filter.refuse_consent(Some(context), unknown).is_none()
    }

    /// Whether the event is for this destination, as far as that is the same whoever its visitor is.
    pub fn is_for(&self, event: &Event) -> bool {
        let unknown = self.privacy.unknown(&event.facts, self.filter.unknown_consent);
        !self.has_passed(event)
            && self.filter.refuse(event, unknown).is_none()
            && self.mapping.is_for(event)
    }

    /// Whether the vendor has the event already, or only the destination that passes beacons on is to.
    fn has_passed(&self, event: &Event) -> bool {
        let facts = &event.facts;
        let is_told = facts.told.as_deref() == Some(self.vendor);
        is_told || (facts.beacon.is_some() && self.vendor != forward::NAME)
    }

    /// The event as this destination is to see it, or why it is not for it.
    pub fn admit(&self, event: Enriched, now: Timestamp) -> (Enriched, Screening) {
        if self.has_passed(&event.event) {
            return (event, Screening::Skip(Reason::new("passed_on")));
        }
        let unknown = self.privacy.unknown(&event.event.facts, self.filter.unknown_consent);
        if let Some(reason) = self.filter.refuse(&event.event, unknown) {
            return (event, Screening::Skip(reason));
        }
        let event = self.without_denied(event);
        let mapped = match self.mapping.apply(event.clone()) {
            Ok(mapped) => mapped,
            Err(Withheld::NotSelected) => {
                return (event, Screening::Skip(Reason::new("not_selected")));
            }
            Err(Withheld::Undecided(why)) => {
                return (event, Screening::Dead(Reason::detailed("where_undecided", why)));
            }
        };
        self.prices.screen(&*self.destination, mapped, now)
    }
}

#[cfg(test)]
impl DestinationSettings {
    /// Settings as the embedded default gives them, with short waits.
    pub(crate) fn for_tests(name: &str, destination: Arc<dyn Destination>) -> Self {
        let ms = Duration::from_millis;
        Self {
            public_ids: Vec::new(),
            name: name.into(),
            vendor: "console",
            mode: Mode::Server,
            filter: Filter {
                name: name.into(),
                vendor: "console",
                known_as: &[],
                events: Globs::new(&[]),
                tags: None,
                consent: Vec::new(),
                unknown_consent: Unknown::Allow,
            },
            privacy: Arc::default(),
            mapping: Arc::default(),
            prices: PriceReader::as_written(),
            habits: destination.habits(),
            paused: false,
            dead_report: ms(300_000),
            hold: ms(3_600_000),
            hold_identity: Duration::ZERO,
            retry: RetrySettings {
                min_wait: ms(1),
                max_wait: ms(20),
                max_retry_after: ms(3_600_000),
                tries_before_parking: 4,
                parked_max: 1000,
            },
            breaker: BreakerSettings { failures: 5, min_open: ms(5), max_open: ms(40) },
            unauthorised_probe: ms(30),
            queue_events: 64,
            queue_bytes: 1 << 20,
            client: None,
            destination,
            fingerprint: name.to_owned(),
        }
    }
}

/// What the page is told, in the modes in which it calls the vendor.
fn read_client(
    section: &mut Section<'_>,
    settings: &mut Section<'_>,
    (vendor, mode): (&Vendor, Mode),
    (filter, policy): (&Filter, &Policy),
) -> Option<ClientSettings> {
    if mode == Mode::Server {
        // The default of every destination; it has no meaning here.
        section.opt_string("client_load");
        return None;
    }
    let Some(client) = &vendor.client else {
        section.opt_string("client_load");
        let has = VENDORS.iter().filter(|vendor| vendor.client.is_some());
        let names: Vec<&str> = has.map(|vendor| vendor.name).collect();
        let names = names.join(", ");
        section.mistake("mode", &format!("must be \"server\": only {names} run in the page"));
        return None;
    };
    let mut read = ClientSettings::read(section, settings, (vendor, client), filter, policy);
    read.both = mode == Mode::Both;
    if mode == Mode::Client {
        // What the gateway's own deliveries need may stay where it is.
        settings.ignore_rest();
    }
    Some(read)
}

/// The face of a vendor that only the page calls.
fn absent(_settings: &mut Section<'_>, _endpoint: Option<Url>) -> Box<dyn Destination> {
    Box::new(Absent)
}

struct Absent;

#[async_trait]
impl Destination for Absent {
    fn habits(&self) -> Habits {
        Habits {
            unit: Unit::Site,
            max_events: 1,
            max_bytes: 1 << 20,
            linger: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn screen(&self, _event: &Enriched, _now: Timestamp) -> Screening {
        Screening::Skip(Reason::new("page_delivers"))
    }

    async fn deliver(&self, batch: &[Enriched], _call: &dyn Call) -> Vec<Outcome> {
        batch.iter().map(|_| Outcome::Skipped(Reason::new("page_delivers"))).collect()
    }
}

/// Whose tags a destination takes events of, if the site says so: of nobody's, if it names none.
fn read_tags(section: &mut Section<'_>) -> Option<Globs> {
    if !section.has("tags") {
        return None;
    }
    let mut tags = section.strings("tags");
    let known: Vec<&str> = VENDORS.iter().map(|vendor| vendor.name).collect();
    for tag in &tags {
        let name = tag.trim_start_matches('!');
        if !name.contains(['*', '?']) && !known.contains(&name) {
            section.unknown_word("tags", name, "vendor", (&known, meant(name)));
        }
    }
    if tags.is_empty() {
        tags.push("!*".to_owned());
    }
    Some(Globs::new(&tags))
}

/// The base URL that stands in for the vendor's.
fn read_endpoint(section: &mut Section<'_>) -> Option<Url> {
    let url: Url = section.opt_parsed("endpoint")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        section.mistake("endpoint", "must be an http or https URL with a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        section.mistake("endpoint", "must not hold a user name or password");
    }
    Some(url)
}

/// The vendor's habits, where the site does not say otherwise.
fn read_habits(section: &mut Section<'_>, vendor: Habits) -> Habits {
    Habits {
        unit: vendor.unit,
        max_events: section
            .opt_integer("batch_events", 1..=vendor.max_events)
            .unwrap_or(vendor.max_events),
        max_bytes: vendor.max_bytes,
        linger: section.opt_duration("batch_delay").unwrap_or(vendor.linger),
        max_age: section.opt_duration("max_age").unwrap_or(vendor.max_age),
        concurrency: section.opt_integer("concurrency", 1..=1024).unwrap_or(vendor.concurrency),
        calls_per_second: section
            .opt_integer("calls_per_second", 1..=1_000_000)
            .and_then(std::num::NonZeroU32::new)
            .or(vendor.calls_per_second),
        timeout: section.opt_duration("timeout").unwrap_or(vendor.timeout),
    }
}

/// How long events wait for who their visitor is. Half of the age up to which the vendor takes them is
/// left for what may go wrong afterwards.
fn read_hold_identity(section: &mut Section<'_>, oldest: Duration) -> Duration {
    let hold = section.duration("identity_wait");
    let longest = oldest / 2;
    if hold > longest {
        let (hours, minutes) = (longest.as_secs() / 3600, longest.as_secs() % 3600 / 60);
        let longest = if hours > 0 { format!("{hours}h") } else { format!("{minutes}m") };
        let message = format!(
            "must be at most {longest}, half the age up to which the destination takes events"
        );
        section.mistake("identity_wait", &message);
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
