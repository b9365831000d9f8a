//! `source` of a site's `profiles`.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use url::Url;

use super::template::Template;
use crate::settings::{Secret, Section};

/// Fields that the connection decides.
const OWN: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Where else traits of a site's people are kept, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    pub(super) store: Store,
    /// For what is known of some events' visitors.
    pub(super) timeout: Duration,
    /// The most bytes of one person's traits.
    pub(super) reply_bytes: usize,
    /// Calls, or batches, under way at once.
    pub(super) lookups: usize,
    /// Memory for what was answered.
    pub(super) cache_bytes: u64,
    /// How long an answer holds.
    pub(super) ttl: Duration,
    /// How long it holds that somebody is not known.
    pub(super) negative_ttl: Duration,
    /// After how long an answer that is used is renewed behind its use.
    pub(super) renew_after: Duration,
    /// How old an answer is used while there is no newer.
    pub(super) stale: Duration,
    /// How long that is used before the source is asked again.
    pub(super) retry: Duration,
}

/// A kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Http(HttpSettings),
    Redis(RedisSettings),
    /// One of the tests'.
    #[cfg(test)]
    Test(Template),
}

/// A URL for each person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpSettings {
    pub(super) url: Template,
    pub(super) headers: Vec<(HeaderName, Secret)>,
    /// A JSON Pointer (RFC 6901) to the object of traits.
    pub(super) path: String,
}

/// A hash for each person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RedisSettings {
    pub(super) url: Secret,
    pub(super) key: Template,
}

#[derive(Clone, Copy)]
enum Kind {
    Off,
    Http,
    Redis,
}

impl SourceSettings {
    /// Reads `source`; `None` where it is off.
    pub(in super::super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let kinds = [("off", Kind::Off), ("http", Kind::Http), ("redis", Kind::Redis)];
        let store = match section.opt_choice("kind", &kinds).unwrap_or(Kind::Off) {
            Kind::Off => {
                section.ignore_rest();
                return None;
            }
            Kind::Http => HttpSettings::read(section).map(Store::Http),
            Kind::Redis => RedisSettings::read(section).map(Store::Redis),
        };
        let share = |section: &mut Section<'_>| section.number("refresh_ahead", 0.0..=1.0);
        let ttl = section.positive_duration("ttl");
        let renew_after = ttl.mul_f64(share(section));
        let stale = section.duration("stale");
        Some(Self {
            timeout: section.positive_duration("timeout"),
            reply_bytes: section.byte_count("reply_bytes"),
            lookups: section.integer("max_concurrent_lookups", 1..=10_000),
            cache_bytes: section.size("cache_bytes"),
            ttl,
            negative_ttl: section.positive_duration("negative_ttl"),
            renew_after,
            stale,
            retry: section.positive_duration("retry"),
            store: store?,
        })
    }

    /// What a person is asked for by.
    pub(super) const fn template(&self) -> &Template {
        match &self.store {
            Store::Http(http) => &http.url,
            Store::Redis(redis) => &redis.key,
            #[cfg(test)]
            Store::Test(template) => template,
        }
    }
}

impl HttpSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = template(section, "url", Template::url);
        let path = section.opt_string("path").unwrap_or_default();
        if !path.is_empty() && !path.starts_with('/') {
            section.mistake("path", "must be a JSON Pointer: \"/data/traits\", or \"\" for all");
        }
        let mut headers = Vec::new();
        for (name, value) in section.header_table("headers") {
            match read_header(&name, &value) {
                Ok(header) => headers.push(header),
                Err(problem) => section.mistake("headers", &format!("{name:?} {problem}")),
            }
        }
        Some(Self { url: url?, headers, path })
    }
}

fn read_header(name: &str, value: &str) -> Result<(HeaderName, Secret), &'static str> {
    let name: HeaderName = name.parse().map_err(|_invalid| "is not a header name")?;
    if OWN.contains(&name) {
        return Err("is set by the gateway itself");
    }
    HeaderValue::from_str(value).map_err(|_invalid| "has a value that no header can carry")?;
    Ok((name, Secret::new(value)))
}

impl RedisSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let key = template(section, "key", Template::key);
        let url = section.secret("url");
        let is_redis = |url: &Url| match url.scheme() {
            "redis" | "rediss" => url.has_host(),
            scheme => scheme == "redis+unix",
        };
        if !url.is_empty() && !Url::parse(url.expose()).is_ok_and(|url| is_redis(&url)) {
            section.mistake("url", "must be redis://HOST, rediss://HOST or redis+unix:///SOCKET");
        }
        Some(Self { url, key: key? })
    }
}

/// A template, whose text may hold a secret and is not repeated.
fn template(
    section: &mut Section<'_>,
    key: &str,
    read: fn(&str) -> Result<Template, String>,
) -> Option<Template> {
    let text = section.string(key);
    if text.is_empty() {
        return None;
    }
    read(&text).map_err(|problem| section.mistake(key, &problem)).ok()
}
