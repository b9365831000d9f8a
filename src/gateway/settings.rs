//! The gateway's settings from `[limits]` and `[[sites]]`.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use url::{Origin, Url};

use super::cors::own_port;
use super::mounts::VendorMount;
use tagway_core::bots;
use tagway_core::privacy::PrivacyPolicy;
use tagway_pages::origin;
use tagway_pages::script::ShimSettings;
use tagway_settings::{SecretString, Setting, SettingsSection, TextualValue as _};

/// The described settings of `[limits]`.
pub const LIMIT_SETTINGS: &[Setting] = &[
    Setting::size("body_bytes")
        .default("1MiB")
        .doc("limit of a request's body as sent; browsers send 64 KiB, servers 500 KB"),
    Setting::size("inflated_bytes").default("8MiB").doc(
        "limit of a decompressed body, and of all its events together: stops compression \
             bombs",
    ),
    Setting::size("made_bytes").default("1MiB").doc(
        "limit of the bytes of one body's events: three times the body plus this. A \
             batch's shared members (context) are copied into each event, and count once per \
             event",
    ),
    Setting::size("inflating_bytes").default("320MiB").doc(
        "memory for the requests whose bodies are decompressed and decoded, each with \
             the most that it may need. Small bodies, up to 64 KiB decompressed and 100 \
             events, do not count. Above it, requests wait within body_time, then 503",
    ),
    Setting::size("arriving_bytes").default("256MiB").doc(
        "limit of bodies above 64 KiB that arrive or wait for memory; above it, 503. One \
             client may use a quarter",
    ),
    Setting::size("inflating_client_bytes").default("80MiB").doc(
        "the part of inflating_bytes that one client may use (/32 of IPv4, /64 of IPv6; \
             a site's servers with their token in the head count as one client). Waiting \
             clients are served in turns",
    ),
    Setting::positive_duration("body_time")
        .default("10s")
        .doc("the time for the whole body to arrive and to get its memory"),
    Setting::size("event_bytes")
        .default("32KiB")
        .doc("limit of one message (the Segment API's own limit)"),
    Setting::size("field_bytes").default("1KiB").doc("limit of one id, name or user agent"),
    Setting::integer("batch_events", 1, 100_000)
        .default("2500")
        .doc("limit of messages in one request (the Segment API's own limit)"),
    Setting::integer("least_event_bytes", 1, 1_000).default("32").doc(
        "minimum bytes of a decompressed body per message beyond the first 25, on \
             average; clients write 60 and more. An event of `{},` costs as much as one of a \
             kilobyte, and a few kilobytes could contain 2,500 of them",
    ),
    Setting::integer("client_per_second", 0, 1_000_000)
        .default("50")
        .doc("requests of one client (/32 of IPv4, /64 of IPv6) to one site; 0 = unlimited"),
    Setting::integer("client_burst", 1, 1_000_000)
        .default("200")
        .doc("limit of these requests at once, above the rate for a moment: a page that starts \
             with many events"),
    Setting::integer("unverified_requests_per_second", 0, 1_000_000).default("200").doc(
        "requests of a site above their client's quota that are still read, because the \
             body may contain a server token. Servers with the token in the head need no \
             such requests, because no client quota applies to them",
    ),
    Setting::integer("client_events_per_second", 0, 1_000_000_000).default("200").doc(
        "events of one client to one site, in any number of requests; an office behind \
             one address sends about 100; 0 = unlimited. Servers with their token are \
             limited by the site's quotas only",
    ),
    Setting::integer("client_events_burst", 1, 1_000_000_000).default("10_000").doc(
        "limit of these events at once, above the rate for a moment. A request is admitted while any quota is left, and its whole \
             size is deducted: a batch of any size passes once, and the following wait is \
             proportional to it",
    ),
    Setting::size("client_bytes_per_second").default("1MiB").doc(
        "decompressed bytes of bodies of one client; session recordings are the largest; \
             \"0B\" = unlimited",
    ),
    Setting::size("client_bytes_burst")
        .default("32MiB")
        .doc("limit of these bytes at once, above the rate for a moment"),
    Setting::integer("network_clients", 0, 65_536).default("16").doc(
        "all /64 networks of one /48 network together have the quotas of this many clients for \
             requests, events and bytes, because one customer may have 65,536 of them; 0 = \
             no such quota",
    ),
    Setting::integer("site_per_second", 0, 1_000_000)
        .default("0")
        .doc("requests to one site; 0 = unlimited"),
    Setting::integer("site_burst", 1, 1_000_000)
        .default("1000")
        .doc("limit of these requests at once, above the rate for a moment"),
    Setting::integer("site_events_per_second", 0, 1_000_000_000)
        .default("0")
        .doc("events to one site, including those of servers; 0 = unlimited"),
    Setting::integer("site_events_burst", 1, 1_000_000_000)
        .default("100_000")
        .doc("limit of these events at once, above the rate for a moment"),
    Setting::size("site_bytes_per_second")
        .default("0B")
        .doc("decompressed bytes of bodies to one site; \"0B\" = unlimited"),
    Setting::size("site_bytes_burst")
        .default("256MiB")
        .doc("limit of these bytes at once, above the rate for a moment"),
];

/// The described settings of a site.
pub const SITE_REQUEST_SETTINGS: &[Setting] = &[
    Setting::texts("hosts")
        .example("[\"t.shop.example\"]")
        .required()
        .doc("the names that this site answers to; \"*\" answers to any"),
    Setting::text("write_key").example("default").doc("public, since pages contain it"),
    Setting::texts("origins").default("[]").doc(
        "pages that may send, as browsers write them: [\"https://shop.example\"]; \
             \"http://*:8000\" is the requested host at another port, for a page and a \
             gateway on one machine",
    ),
    Setting::texts("placeholder_ids").default("[]").doc(
        "ids that tags of this site send for unknown visitors, case ignored, besides the \
             usual ones: \"null\", \"(not set)\", \"anonymous\", \"{{user_id}}\", ...",
    ),
    Setting::secret("server_token").example("${SHOP_TOKEN}").doc(
        "a server that sends it in place of the write key, or of a vendor's key below \
             the vendor's mount, acts for its visitors",
    ),
];

/// The gateway's part of `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// The most bytes of a request's body, as sent.
    pub body_bytes: usize,
    /// The most bytes of a request's body, decompressed; and of all events that are made of it.
    pub inflated_bytes: usize,
    /// The memory of all requests whose bodies are decompressed and decoded at once, except small ones.
    pub inflating_bytes: usize,
    /// The memory of bodies that are not small, while they arrive and wait.
    pub arriving_bytes: usize,
    /// The part of `inflating_bytes` that one client may take.
    pub inflating_client_bytes: usize,
    /// The most bytes of the events made of a short body.
    pub made_bytes: usize,
    /// The most bodies that are decompressed and decoded at once, except small ones; 0 is one a core.
    pub decoders: usize,
    /// The time for the whole body to arrive, and to get its share of `inflating_bytes`.
    pub body_time: Duration,
    /// The most bytes of one message.
    pub event_bytes: usize,
    /// The most bytes of one id or name of a message.
    pub field_bytes: usize,
    /// The most messages in one request.
    pub batch_events: usize,
    /// The bytes of a body for each of its messages, on average; the first 25 need none.
    pub least_event_bytes: usize,
    /// The most nested levels of objects and arrays.
    pub json_depth: usize,
    /// The rate limits of clients and sites.
    pub rates: RateLimitSettings,
}

/// The rate limits of clients and sites. Zero is no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// The sustained requests per second of one client prefix to one site.
    pub client_per_second: Option<NonZeroU32>,
    /// The most requests of one client prefix at once.
    pub client_burst: NonZeroU32,
    /// The sustained requests per second to one site.
    pub site_per_second: Option<NonZeroU32>,
    /// The most requests to one site at once.
    pub site_burst: NonZeroU32,
    /// Requests per second to one site beyond their client's quota that are read all the same, because the body may
    /// contain a server token.
    pub unproven_per_second: u32,
    /// The number of client quotas that all networks of one /48 of IPv6 share.
    pub network_clients: Option<NonZeroU32>,
    /// The limits on events and bytes of one client prefix to one site.
    pub client_volumes: VolumeLimits,
    /// The limits on events and bytes to one site.
    pub site_volumes: VolumeLimits,
    /// The most client prefixes that are remembered.
    pub client_entries: usize,
}

/// The limits on events and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VolumeLimits {
    /// Messages per second, and at once.
    pub events: Option<VolumeRate>,
    /// Bytes of bodies, decompressed, per second and at once.
    pub bytes: Option<VolumeRate>,
}

/// The limit on one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeRate {
    /// The sustained rate.
    pub per_second: NonZeroU64,
    /// The most at once.
    pub burst: NonZeroU64,
}

impl VolumeRate {
    /// Creates a rate; `None` if it is zero.
    pub fn new(per_second: u64, burst: u64) -> Option<Self> {
        let per_second = NonZeroU64::new(per_second)?;
        Some(Self { per_second, burst: NonZeroU64::new(burst).unwrap_or(NonZeroU64::MIN) })
    }
}

impl VolumeLimits {
    /// Reads the four keys of clients or of sites.
    fn read(section: &mut SettingsSection<'_>, keys: [&'static str; 4]) -> Self {
        let [events_per_second, events_burst, bytes_per_second, bytes_burst] = keys;
        let per_second = section.integer(events_per_second);
        let burst = section.integer(events_burst);
        let events = VolumeRate::new(per_second, burst);
        let per_second = section.size(bytes_per_second);
        let bytes = VolumeRate::new(per_second, section.size(bytes_burst));
        Self { events, bytes }
    }
}

impl GatewayLimits {
    /// Reads the gateway's keys of `[limits]`.
    pub fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(LIMIT_SETTINGS);
        let burst = |burst: u32| NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let limits = Self {
            body_bytes: section.byte_count("body_bytes"),
            inflated_bytes: section.byte_count("inflated_bytes"),
            inflating_bytes: section.byte_count("inflating_bytes"),
            arriving_bytes: section.byte_count("arriving_bytes"),
            inflating_client_bytes: section.byte_count("inflating_client_bytes"),
            made_bytes: section.byte_count("made_bytes"),
            decoders: 0,
            body_time: section.duration("body_time"),
            event_bytes: section.byte_count("event_bytes"),
            field_bytes: section.byte_count("field_bytes"),
            batch_events: section.integer("batch_events"),
            least_event_bytes: section.integer("least_event_bytes"),
            json_depth: JSON_DEPTH,
            rates: RateLimitSettings {
                client_per_second: NonZeroU32::new(section.integer("client_per_second")),
                client_burst: burst(section.integer("client_burst")),
                site_per_second: NonZeroU32::new(section.integer("site_per_second")),
                site_burst: burst(section.integer("site_burst")),
                unproven_per_second: section.integer("unverified_requests_per_second"),
                network_clients: NonZeroU32::new(section.integer("network_clients")),
                client_volumes: VolumeLimits::read(
                    section,
                    [
                        "client_events_per_second",
                        "client_events_burst",
                        "client_bytes_per_second",
                        "client_bytes_burst",
                    ],
                ),
                site_volumes: VolumeLimits::read(
                    section,
                    [
                        "site_events_per_second",
                        "site_events_burst",
                        "site_bytes_per_second",
                        "site_bytes_burst",
                    ],
                ),
                client_entries: CLIENT_ENTRIES,
            },
        };
        for (key, bytes) in [
            ("inflating_bytes", limits.inflating_bytes),
            ("inflating_client_bytes", limits.inflating_client_bytes),
        ] {
            if bytes < limits.largest_share() {
                let least = limits.largest_share().div_ceil(1 << 20);
                section.error(
                    key,
                    &format!(
                        "must be at least {least} MiB, so that one body has room: 8 times inflated_bytes, \
                         3 KiB times batch_events, and made_bytes"
                    ),
                );
            }
        }
        if limits.arriving_bytes < limits.body_bytes.saturating_mul(4) {
            section.error(
                "arriving_bytes",
                "must be at least 4 times body_bytes, because one client may use a quarter",
            );
        }
        limits
    }
}

/// The limit of nested objects and lists in a body, because the parsers use recursion; clients nest to about ten.
const JSON_DEPTH: usize = 64;

/// The limit of remembered clients, about 100 bytes each; further clients share quotas.
const CLIENT_ENTRIES: usize = 100_000;

/// The gateway's part of one of `[[sites]]`.
#[derive(Clone, Debug)]
pub struct GatewaySiteSettings {
    /// The host names of the site, lower case; `*` is any.
    pub hosts: Vec<String>,
    /// The origins of the pages that may send to it, as browsers write origins.
    pub origins: Vec<String>,
    /// The public key of the Segment-compatible API; without one only servers use it.
    pub write_key: Option<String>,
    /// The secret that proves that the caller is one of the site's servers.
    pub server_token: Option<SecretString>,
    /// The site's rules on visitors' data.
    pub privacy: Arc<PrivacyPolicy>,
    /// The site's placeholder ids for unknown visitors, besides the general ones; in lower case.
    pub placeholder_ids: Arc<[String]>,
    /// The bot settings of the site.
    pub bots: bots::BotSettings,
    /// The mounts that the vendors' own browser libraries use.
    pub mounts: Vec<VendorMount>,
    /// The settings of their shims.
    pub shims: ShimSettings,
    /// The site's own server, which responds to requests without a route of the gateway's.
    pub origin: Option<origin::OriginSettings>,
}

/// The shortest accepted server token: its holder can send for any visitor.
const MIN_TOKEN_CHARS: usize = 16;

impl GatewaySiteSettings {
    /// Reads the gateway's keys of one site. `in_page`: the vendors whose own libraries run in its pages.
    pub fn read(
        section: &mut SettingsSection<'_>,
        privacy: Arc<PrivacyPolicy>,
        in_page: &[&str],
    ) -> Self {
        section.describe(SITE_REQUEST_SETTINGS);
        let (mounts, shims) = VendorMount::read_all(section, in_page);
        let settings = Self {
            privacy,
            hosts: section.strings("hosts").iter().map(|host| host.to_ascii_lowercase()).collect(),
            origins: section.strings("origins"),
            write_key: section.opt_string("write_key"),
            server_token: section.opt_secret("server_token"),
            placeholder_ids: section
                .strings("placeholder_ids")
                .iter()
                .map(|id| id.trim().to_ascii_lowercase())
                .collect(),
            bots: bots::BotSettings::read(section),
            mounts,
            shims,
            origin: origin::OriginSettings::read(section),
        };
        if !section.has("hosts") {
            section.error("hosts", "is required");
        } else if settings.hosts.is_empty() {
            section.error("hosts", "must name at least one host, or \"*\" for any");
        }
        for host in settings.hosts.iter().filter(|host| *host != "*") {
            let requested = as_requested(host);
            if requested.as_ref() != Some(host) {
                let message = "is not a host name as requests have it: ASCII, no scheme, no port, no \
                               path, no last dot";
                let better = requested.or_else(|| host_within(host));
                section.error_about("hosts", host, message, better.as_deref());
            }
        }
        for origin in settings.origins.iter().filter(|origin| own_port(origin).is_none()) {
            if let Err(CorsOriginError { message, better }) = check_origin(origin) {
                section.error_about("origins", origin, &message, better.as_deref());
            }
        }
        if settings.write_key.as_deref() == Some("") {
            section.error("write_key", "must not be empty");
        }
        let token = settings.server_token.as_ref().map(SecretString::expose);
        if token.is_some_and(|token| token.len() < MIN_TOKEN_CHARS) {
            section.error("server_token", "must have at least 16 characters");
        }
        if token.is_some() && token == settings.write_key.as_deref() {
            section.error("server_token", "must differ from the write key, which is public");
        }
        settings
    }
}

/// Returns the host's name as requests have it. `None` if no request can name it so.
fn as_requested(host: &str) -> Option<String> {
    if host.contains(['/', ':', '@', ' ', '*', '%']) {
        return None;
    }
    let name = url::Host::parse(host).ok()?.to_string();
    let name = name.strip_suffix('.').unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// Returns the host in a text that is a URL, or a host with a port.
fn host_within(text: &str) -> Option<String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    as_requested(url.host_str()?)
}

/// The error of a text that is no origin.
#[derive(Debug, PartialEq, Eq)]
struct CorsOriginError {
    message: String,
    /// The origin that was probably meant.
    better: Option<String>,
}

/// Checks an origin: browsers write each in exactly one way, and any other text would never match.
fn check_origin(origin: &str) -> Result<(), CorsOriginError> {
    const NO_ORIGIN: &str = "is not an origin as browsers write it: a scheme, a host and perhaps a port, such as \
         \"https://shop.example\"";
    let exact = |url: &Url| match url.origin() {
        Origin::Tuple(..) if matches!(url.scheme(), "http" | "https") => {
            Some(url.origin().ascii_serialization())
        }
        _ => None,
    };
    let written = Url::parse(origin).ok().as_ref().and_then(exact);
    if written.as_deref() == Some(origin) {
        return Ok(());
    }
    // A host without its scheme: "shop.example", "shop.example:8443".
    let completed = || exact(&Url::parse(&Url::suggest(origin)?).ok()?);
    let better = written.or_else(completed);
    let message = if better.is_some() { "is not an origin" } else { NO_ORIGIN };
    Err(CorsOriginError { message: message.to_owned(), better })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use tagway_settings::{ConfigEnvironment, ConfigFile};

    #[test]
    fn origins_are_exact() {
        for good in ["https://shop.example", "http://127.0.0.1:8000", "https://a.b:444"] {
            assert_eq!(check_origin(good), Ok(()), "{good}");
        }
        for bad in
            ["shop.example", "https://shop.example/", "https://shop.example:443", "*", "file:///x"]
        {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
        for (written, better) in [
            ("shop.example", "https://shop.example"),
            ("shop.example:8443", "https://shop.example:8443"),
            ("https://shop.example/x", "https://shop.example"),
        ] {
            let better = Some(better.to_owned());
            assert_eq!(check_origin(written).unwrap_err().better, better, "{written}");
        }
    }

    #[test]
    fn one_body_must_fit_into_the_budget_of_all() {
        let mistakes = |limits: &str| {
            let site = "[[sites]]\nname = \"shop\"\nhosts = [\"*\"]\n";
            let text = format!("[limits]\n{limits}\n{site}");
            let source = ConfigFile { name: "a file".to_owned(), text };
            let result = config::load(&[source], &ConfigEnvironment::default());
            result
                .err()
                .map(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(mistakes(""), None);
        for small in [
            "inflating_bytes = \"64MiB\"",
            "inflating_client_bytes = \"64MiB\"",
            "inflated_bytes = \"64MiB\"",
        ] {
            let found = mistakes(small).unwrap().join("\n");
            assert!(found.contains("one body has room"), "{small}: {found}");
        }
        assert!(mistakes("arriving_bytes = \"3MiB\"").is_some());
    }

    #[test]
    fn hosts_are_names_as_requests_have_them() {
        for good in ["t.shop.example", "127.0.0.1", "xn--bcher-kva.example", "a_b.example"] {
            assert_eq!(as_requested(good).as_deref(), Some(good));
        }
        for bad in
            ["", ".", "a b", "shop.example:80", "http://shop.example", "shop/x", "*.x", "a%62"]
        {
            assert_eq!(as_requested(bad), None, "{bad}");
        }
        assert_eq!(as_requested("shop.example.").as_deref(), Some("shop.example"));
        for meant in ["https://shop.example/x", "shop.example:80", "shop.example/x"] {
            assert_eq!(host_within(meant).as_deref(), Some("shop.example"), "{meant}");
        }
    }
}
