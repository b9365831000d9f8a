//! The settings `[profiles]`, and `profiles` of a site.

use std::time::Duration;

use super::public::PublicProfilePaths;
use super::trait_source::{TRAIT_SOURCE_SETTINGS, TraitSourceSettings};
use tagway_core::event::identity::IdentityKind;
use tagway_settings::{Setting, SettingsSection, SettingsTable};

/// The described settings of `[profiles]`.
pub const PROFILE_SETTINGS: &[Setting] = &[
    Setting::word("store", &["sqlite", "postgres"]).default("sqlite").doc(
        "where profiles and segments are stored: \"sqlite\" in data_dir, or \
             \"postgres\", which several gateways may share ([postgres]). The journal is \
             always in data_dir. Data is not moved from one store to the other",
    ),
    Setting::size("cache_bytes")
        .default("16MiB")
        .doc("limit of profiles in memory; others are read from the store on demand"),
    Setting::duration("cache_idle")
        .default("30m")
        .doc("an unused profile leaves memory after this time: a session's length"),
    Setting::positive_duration("cache_ttl").default("24h").doc(
        "any profile leaves memory after this time. Changes by this gateway are visible \
             at once; changes by other programs in the same store only after this time",
    ),
    Setting::positive_duration("timeout").default("2s").doc(
        "the time for reading the profiles of the visitors of a group of events. A slower read \
             continues, and its result is cached",
    ),
    Setting::integer("max_concurrent_lookups", 1, 100_000).default("64").doc(
        "limit of reads of the store at once, each for the visitors of a group of \
             events: more than destinations start at a time, few enough for a slow store",
    ),
    Setting::word("on_timeout", &["wait", "deliver"]).default("wait").doc(
        "when timeout is over: \"wait\" and read again, or \"deliver\" the events with \
             the profiles in memory. Both are counted. With \"deliver\", events also do not \
             wait for profiles that cannot be written",
    ),
    Setting::size("traits_bytes")
        .default("32KiB")
        .doc("limit of one profile's traits, as JSON; further traits are rejected and counted"),
    Setting::size("claimed_traits_bytes").default("32KiB").doc(
        "the part of traits_bytes that senders without proof may fill. The full size is \
             safe, because claimed traits are removed when a server or a proven visitor needs \
             the space",
    ),
    Setting::integer("identities", 1, 100_000).default("1000").doc(
        "limit of one profile's devices of each kind (anonymous ids, cookies, each \
             vendor's ids); further ones are counted but not linked, so that one visitor \
             cannot slow down all others. Proven devices replace claimed ones",
    ),
    Setting::integer("event_names", 0, 1_000_000).default("1000").doc(
        "limit of event names that are counted for one site; further names are not \
             counted, because anyone can invent names. A name that no profile has any more \
             is removed. Servers and proven visitors have a limit of the same size of their \
             own. Names in segments, mappings and public are always counted",
    ),
    Setting::integer("claimed_max", 1, 1_000_000_000).default("2_000_000").doc(
        "limit of profiles of one site without data from a server or a proven visitor, \
             because anyone can invent user ids. Above it, the profiles that were inactive \
             longest are removed and counted. About 1 KB of disk each",
    ),
];

/// The described settings of `[site_defaults.profiles]`.
pub const SITE_PROFILE_SETTINGS: &[Setting] = &[
    Setting::boolean("activity").example("true").doc(
        "true: stores for every visitor, known or not, how often and when they did what, \
             their campaign and referrer, device, place and consent; false: stores data of \
             identified people only, and only their ids and traits. Unset, it is stored if \
             something uses it: a segment with such a condition or a sync, a mapping, or \
             public",
    ),
    Setting::positive_duration("anonymous_retain")
        .default("90d")
        .doc("an unknown visitor without activity for this time is deleted"),
    Setting::texts("public").default("[]").doc(
        "the values that GET /me returns to a page about its visitor, by the first-party \
             cookie: [\"traits.plan\", \"activity[\\\"Order Completed\\\"].count\", ...]. \
             Anyone who uses the browser can read them; empty, there is no /me. Values of a \
             user are returned only if a login proof, or a server that sent both the \
             cookie's id and the user id, linked the browser to the user, until a reset. \
             Otherwise /me returns the values that the cookie alone collected, or nothing if \
             the visitor also has an id that pages can write. If other browsers added data \
             to a user's profile by such ids, only proven values are returned",
    ),
    Setting::table("source", &SettingsTable(&[TRAIT_SOURCE_SETTINGS])),
];

/// The store of profiles, and of segments with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileBackend {
    /// The embedded database.
    Sqlite,
    /// The PostgreSQL database that gateways share.
    Postgres,
}

impl ProfileBackend {
    const ALL: [(&str, Self); 2] = [("sqlite", Self::Sqlite), ("postgres", Self::Postgres)];
}

/// The settings `[profiles]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileSettings {
    /// The store that keeps the profiles.
    pub store: ProfileBackend,
    /// Memory for recently used profiles, in bytes.
    pub cache_bytes: u64,
    /// The time for which an unused profile stays in memory.
    pub cache_idle: Duration,
    /// The time for which any profile stays in memory.
    pub cache_ttl: Duration,
    /// The longest lookup of the visitors of some events.
    pub timeout: Duration,
    /// The most concurrent reads of the store.
    pub max_concurrent_lookups: usize,
    /// The policy for events whose visitors could not be looked up.
    pub on_timeout: LookupTimeoutPolicy,
    /// The limits of one profile.
    pub limits: ProfileLimits,
}

/// The policy for events whose visitors could not be looked up in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupTimeoutPolicy {
    /// Deliver the events with cached profiles only.
    Deliver,
    /// Keep the events pending, and look their visitors up again.
    Wait,
}

/// The limits of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileLimits {
    /// The most bytes of its traits as JSON.
    pub traits_bytes: usize,
    /// The part of these bytes that claims may fill.
    pub claimed_traits_bytes: usize,
    /// The most devices of each kind: anonymous ids, cookies, ids of each vendor.
    pub identities: usize,
    /// The most names of events that are counted at one site: of names that only claims gave, and as
    /// many of others.
    pub event_names: usize,
    /// The most profiles of one site made by claims alone.
    pub claimed_max: u64,
}

impl ProfileLimits {
    /// Returns limits without a separate share for claims.
    pub const fn new(traits_bytes: usize, identities: usize, event_names: usize) -> Self {
        let (claimed_traits_bytes, claimed_max) = (traits_bytes, u64::MAX);
        Self { traits_bytes, claimed_traits_bytes, identities, event_names, claimed_max }
    }
}

/// The settings `profiles` of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteProfileSettings {
    /// True if every event counts, those of unknown visitors as well; otherwise only events that
    /// identify a visitor are read.
    pub activity: bool,
    /// The time for which an unknown visitor is kept without being seen.
    pub anonymous_retain: Duration,
    /// The parts of a profile that pages may know of their own visitor.
    pub public: PublicProfilePaths,
    /// The external source of traits, if there is one.
    pub source: Option<TraitSourceSettings>,
}

impl SiteProfileSettings {
    /// Reads `profiles` of a site. Without an explicit value the site decides whether `activity` is
    /// needed.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(SITE_PROFILE_SETTINGS);
        Self {
            activity: section.opt_boolean("activity").unwrap_or_default(),
            anonymous_retain: section.duration("anonymous_retain"),
            public: PublicProfilePaths::read(section),
            source: TraitSourceSettings::read(&mut section.section("source")),
        }
    }
}

/// The most user ids of one profile. It has one, unless the site's servers state that several are the
/// same person's; a profile with more changes of account than this is no person.
const MAX_USERS: usize = 16;

/// The most e-mail addresses of one profile: more than a person uses, fewer than a shared till sees.
const MAX_EMAILS: usize = 16;

impl ProfileLimits {
    /// Returns the most identities of this kind that a profile may have.
    pub(super) fn of(self, kind: IdentityKind) -> usize {
        match kind {
            IdentityKind::User => MAX_USERS,
            IdentityKind::Email => MAX_EMAILS,
            IdentityKind::Anonymous
            | IdentityKind::Visitor
            | IdentityKind::Ga
            | IdentityKind::Fbp
            | IdentityKind::Device(_) => self.identities,
        }
    }
}

impl ProfileSettings {
    /// Reads `[profiles]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(PROFILE_SETTINGS);
        Self {
            store: section.choice("store", &ProfileBackend::ALL),
            cache_bytes: section.size("cache_bytes"),
            cache_idle: section.duration("cache_idle"),
            cache_ttl: section.duration("cache_ttl"),
            timeout: section.duration("timeout"),
            max_concurrent_lookups: section.integer("max_concurrent_lookups"),
            on_timeout: section.choice(
                "on_timeout",
                &[("wait", LookupTimeoutPolicy::Wait), ("deliver", LookupTimeoutPolicy::Deliver)],
            ),
            limits: ProfileLimits {
                traits_bytes: section.byte_count("traits_bytes"),
                claimed_traits_bytes: section.byte_count("claimed_traits_bytes"),
                identities: section.integer("identities"),
                event_names: section.integer("event_names"),
                claimed_max: section.integer("claimed_max"),
            },
        }
    }

    /// Returns the settings for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn small(limits: ProfileLimits) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            store: ProfileBackend::Sqlite,
            cache_bytes: 1 << 20,
            cache_idle: minute,
            cache_ttl: minute,
            timeout: minute,
            max_concurrent_lookups: 64,
            on_timeout: LookupTimeoutPolicy::Wait,
            limits,
        }
    }
}
