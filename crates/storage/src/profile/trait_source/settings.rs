//! The settings `source` of a site's `profiles`.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use url::Url;

use super::template::LookupTemplate;
use tagway_settings::{SecretString, Setting, SettingsSection};

/// The described settings of `[site_defaults.profiles.source]`.
pub(in super::super) const TRAIT_SOURCE_SETTINGS: &[Setting] = &[
    Setting::word("kind", &["off", "http", "redis"]).default("off").doc(
        "\"http\", a GET for each person; \"redis\", a hash for each person (Redis, \
             Valkey); or \"off\"",
    ),
    Setting::secret("url").example("https://cdp.example/v1/users/{user_id}/traits").doc(
        "the address for \"http\": {user_id}, {anonymous_id} and {email} come from the event, else \
             from the profile, percent-encoded; a person without one of them is not looked \
             up. GET /me uses {user_id} only, because a page can claim the others. Private \
             addresses need egress.allow_private, as for destinations. For \"redis\": the \
             server, such as \"rediss://:${REDIS_PASSWORD}@redis.example:6379/0\"; redis:// \
             is without TLS, and redis+unix:///path is a socket. Private addresses are \
             allowed",
    ),
    Setting::header_table("headers")
        .example("{ authorization = \"Bearer ${CDP_TOKEN}\" }")
        .doc("fields of the requests of \"http\"; their values are not shown"),
    Setting::text("path").example("/data/traits").doc(
        "for \"http\": a JSON Pointer to the object of traits; by default the whole body. \
             404 means an unknown person. Any other answer without traits is a refusal, \
             except 408, 429 and 5xx, which count as no answer",
    ),
    Setting::text("key").example("profile:{user_id}").doc(
        "for \"redis\": the key of a person's hash; each value is JSON if it parses as \
             JSON, else text",
    ),
    Setting::positive_duration("timeout").default("2s").doc(
        "the time for the traits of the visitors of a group of events, and for each call; with \
             on_timeout = \"deliver\", a slower source delays no event longer than this",
    ),
    Setting::size("reply_bytes").default("64KiB").doc(
        "limit of one person's traits: twice the size of the gateway's own profiles; a \
             larger answer is refused",
    ),
    Setting::integer("max_concurrent_lookups", 1, 10_000).default("32").doc(
        "limit of calls (\"http\") or batches (\"redis\") at once: a usual limit of such \
             APIs for one client, and 300 people per second at 100 ms per call",
    ),
    Setting::size("cache_bytes")
        .default("8MiB")
        .doc("limit of one site's answers in memory, about 1 KiB each"),
    Setting::positive_duration("ttl").default("10m").doc("the time for which an answer is cached"),
    Setting::positive_duration("negative_ttl").default("1m").doc(
        "the time for which an unknown or refused person is cached; the source may have \
             a new person soon",
    ),
    Setting::duration("stale")
        .default("24h")
        .doc("the age up to which an answer is used while the source does not answer"),
    Setting::positive_duration("retry")
        .default("10s")
        .doc("the time for which such an answer is used before the source is called again"),
];

/// Header fields that the connection sets itself.
const OWN: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The settings of a site's external source of traits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraitSourceSettings {
    pub(super) store: TraitClientSettings,
    /// The longest lookup of the visitors of some events.
    pub(super) timeout: Duration,
    /// The most bytes of one person's traits.
    pub(super) reply_bytes: usize,
    /// The most concurrent calls, or batches.
    pub(super) max_concurrent_lookups: usize,
    /// Memory for cached answers, in bytes.
    pub(super) cache_bytes: u64,
    /// The time for which an answer is fresh.
    pub(super) ttl: Duration,
    /// The time for which the answer "unknown" is fresh.
    pub(super) negative_ttl: Duration,
    /// The age from which an answer in use is renewed in the background.
    pub(super) renew_after: Duration,
    /// The age up to which an answer is used while there is no newer one.
    pub(super) stale: Duration,
    /// The time for which such an answer is used before the source is asked again.
    pub(super) retry: Duration,
}

/// The kind of source, with its own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TraitClientSettings {
    Http(HttpTraitSettings),
    Redis(RedisTraitSettings),
    /// The source of the tests.
    #[cfg(test)]
    Test(LookupTemplate),
}

/// The settings of a source over HTTP: a URL for each person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpTraitSettings {
    pub(super) url: LookupTemplate,
    pub(super) headers: Vec<(HeaderName, SecretString)>,
    /// A JSON Pointer (RFC 6901) to the object of traits.
    pub(super) path: String,
}

/// The settings of a Redis source: a hash for each person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedisTraitSettings {
    pub(super) url: SecretString,
    pub(super) key: LookupTemplate,
}

/// The share of an answer's ttl after which its use refreshes it in the background, so that events of frequent visitors
/// do not wait: at the default ttl, two minutes before the end.
const REFRESH_AHEAD: f64 = 0.8;

#[derive(Clone, Copy)]
enum TraitSourceKind {
    Off,
    Http,
    Redis,
}

impl TraitSourceSettings {
    /// Reads `source`. Returns `None` if it is off.
    pub(in super::super) fn read(section: &mut SettingsSection<'_>) -> Option<Self> {
        section.describe(TRAIT_SOURCE_SETTINGS);
        let kinds = [
            ("off", TraitSourceKind::Off),
            ("http", TraitSourceKind::Http),
            ("redis", TraitSourceKind::Redis),
        ];
        let store = match section.opt_choice("kind", &kinds).unwrap_or(TraitSourceKind::Off) {
            TraitSourceKind::Off => {
                section.ignore_rest();
                return None;
            }
            TraitSourceKind::Http => {
                HttpTraitSettings::read(section).map(TraitClientSettings::Http)
            }
            TraitSourceKind::Redis => {
                RedisTraitSettings::read(section).map(TraitClientSettings::Redis)
            }
        };
        let ttl = section.duration("ttl");
        let renew_after = ttl.mul_f64(REFRESH_AHEAD);
        let stale = section.duration("stale");
        Some(Self {
            timeout: section.duration("timeout"),
            reply_bytes: section.byte_count("reply_bytes"),
            max_concurrent_lookups: section.integer("max_concurrent_lookups"),
            cache_bytes: section.size("cache_bytes"),
            ttl,
            negative_ttl: section.duration("negative_ttl"),
            renew_after,
            stale,
            retry: section.duration("retry"),
            store: store?,
        })
    }

    /// Returns the template of the person's URL or key.
    pub(super) const fn template(&self) -> &LookupTemplate {
        match &self.store {
            TraitClientSettings::Http(http) => &http.url,
            TraitClientSettings::Redis(redis) => &redis.key,
            #[cfg(test)]
            TraitClientSettings::Test(template) => template,
        }
    }
}

impl HttpTraitSettings {
    fn read(section: &mut SettingsSection<'_>) -> Option<Self> {
        let url = template(section, "url", LookupTemplate::url);
        let path = section.opt_string("path").unwrap_or_default();
        if !path.is_empty() && !path.starts_with('/') {
            section.error("path", "must be a JSON Pointer: \"/data/traits\", or \"\" for all");
        }
        let mut headers = Vec::new();
        for (name, value) in section.header_table("headers") {
            match read_header(&name, &value) {
                Ok(header) => headers.push(header),
                Err(problem) => section.error("headers", &format!("{name:?} {problem}")),
            }
        }
        Some(Self { url: url?, headers, path })
    }
}

fn read_header(name: &str, value: &str) -> Result<(HeaderName, SecretString), &'static str> {
    let name: HeaderName = name.parse().map_err(|_invalid| "is not a header name")?;
    if OWN.contains(&name) {
        return Err("is set by the gateway itself");
    }
    HeaderValue::from_str(value).map_err(|_invalid| "has a value that is not valid in a header")?;
    Ok((name, SecretString::new(value)))
}

impl RedisTraitSettings {
    fn read(section: &mut SettingsSection<'_>) -> Option<Self> {
        let key = template(section, "key", LookupTemplate::key);
        let url = section.secret("url");
        let is_redis = |url: &Url| match url.scheme() {
            "redis" | "rediss" => url.has_host(),
            scheme => scheme == "redis+unix",
        };
        if !url.is_empty() && !Url::parse(url.expose()).is_ok_and(|url| is_redis(&url)) {
            section.error("url", "must be redis://HOST, rediss://HOST or redis+unix:///SOCKET");
        }
        Some(Self { url, key: key? })
    }
}

/// Reads a template. Its text may hold a secret and is not repeated in errors.
fn template(
    section: &mut SettingsSection<'_>,
    key: &str,
    read: fn(&str) -> Result<LookupTemplate, String>,
) -> Option<LookupTemplate> {
    let text = section.string(key);
    if text.is_empty() {
        return None;
    }
    read(&text).map_err(|problem| section.error(key, &problem)).ok()
}
