//! The settings `source` of a site's `profiles`.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use url::Url;

use super::template::LookupTemplate;
use tagway_settings::{SecretString, SettingsSection};

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

#[derive(Clone, Copy)]
enum TraitSourceKind {
    Off,
    Http,
    Redis,
}

impl TraitSourceSettings {
    /// Reads `source`. Returns `None` if it is off.
    pub(in super::super) fn read(section: &mut SettingsSection<'_>) -> Option<Self> {
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
        let share = |section: &mut SettingsSection<'_>| section.number("refresh_ahead", 0.0..=1.0);
        let ttl = section.positive_duration("ttl");
        let renew_after = ttl.mul_f64(share(section));
        let stale = section.duration("stale");
        Some(Self {
            timeout: section.positive_duration("timeout"),
            reply_bytes: section.byte_count("reply_bytes"),
            max_concurrent_lookups: section.integer("max_concurrent_lookups", 1..=10_000),
            cache_bytes: section.size("cache_bytes"),
            ttl,
            negative_ttl: section.positive_duration("negative_ttl"),
            renew_after,
            stale,
            retry: section.positive_duration("retry"),
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
