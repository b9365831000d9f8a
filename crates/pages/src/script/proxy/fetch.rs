//! Fetches a script from its vendor, with request fields that carry nothing about a visitor.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::sync::Semaphore;
use url::Url;

use super::settings::ScriptProxySettings;
use super::source::{FetchedScript, ScriptMetadata, hash};
use tagway_core::address::{EgressResolver, literal_is_public};

/// The `User-Agent` of a browser for which every vendor serves its modern build.
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                          Chrome/142.0.0.0 Safari/537.36";

/// The longest validator that is stored.
const MAX_VALIDATOR_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct ScriptFetcher {
    client: reqwest::Client,
    allow_private: bool,
    under_way: Arc<Semaphore>,
    script_bytes: usize,
    timeout: Duration,
}

/// The result of a fetch.
pub(super) enum ScriptFetchOutcome {
    New(FetchedScript),
    /// The stored copy is still valid, for this long.
    Same(Option<Duration>),
    /// The vendor has no such script.
    Absent,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ScriptFetchError {
    #[error("too many fetches are in progress")]
    Busy,
    #[error("the address is private or reserved, and egress.allow_private is off")]
    Forbidden,
    #[error("the answer was not complete in time")]
    Timeout,
    #[error("could not be fetched")]
    Cut(#[source] reqwest::Error),
    #[error("was answered with {0}")]
    Status(StatusCode),
    #[error("is not a script: {0:?}")]
    Type(String),
    #[error("is longer than scripts.script_bytes")]
    TooLong,
    #[error("does not match its Content-Encoding")]
    Encoding,
}

impl ScriptFetcher {
    pub(super) fn new(
        settings: &ScriptProxySettings,
        allow_private: bool,
    ) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(settings.timeout)
            .dns_resolver(Arc::new(EgressResolver::new(allow_private)))
            .build()?;
        Ok(Self {
            client,
            allow_private,
            under_way: Arc::new(Semaphore::new(settings.fetches)),
            script_bytes: settings.script_bytes,
            timeout: settings.timeout,
        })
    }

    /// Fetches a script, unless the stored copy is still valid.
    pub(super) async fn fetch(
        &self,
        url: &Url,
        known: Option<&ScriptMetadata>,
        now: i64,
    ) -> Result<ScriptFetchOutcome, ScriptFetchError> {
        let Ok(_place) = self.under_way.try_acquire() else { return Err(ScriptFetchError::Busy) };
        if !self.allow_private && !literal_is_public(url) {
            return Err(ScriptFetchError::Forbidden);
        }
        let exchange = self.exchange(url, known, now);
        tokio::time::timeout(self.timeout, exchange).await.unwrap_or(Err(ScriptFetchError::Timeout))
    }

    async fn exchange(
        &self,
        url: &Url,
        known: Option<&ScriptMetadata>,
        now: i64,
    ) -> Result<ScriptFetchOutcome, ScriptFetchError> {
        let cut = |error: reqwest::Error| ScriptFetchError::Cut(error.without_url());
        let mut request = self.client.get(url.clone()).header(ACCEPT, "*/*");
        request = request.header(ACCEPT_ENCODING, "gzip, br");
        if let Some(known) = known {
            if let Some(etag) = &known.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(date) = &known.last_modified {
                request = request.header(IF_MODIFIED_SINCE, date);
            }
        }
        let mut response = request.send().await.map_err(cut)?;
        let max_age = text(response.headers(), &CACHE_CONTROL).and_then(|field| max_age(&field));
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if known.is_some() => {
                return Ok(ScriptFetchOutcome::Same(max_age));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::BAD_REQUEST => {
                return Ok(ScriptFetchOutcome::Absent);
            }
            status => return Err(ScriptFetchError::Status(status)),
        }
        let content_type = text(response.headers(), &CONTENT_TYPE).unwrap_or_default();
        let content_type = media_type(&content_type)
            .ok_or_else(|| ScriptFetchError::Type(content_type.chars().take(64).collect()))?;
        let fields = std::mem::take(response.headers_mut());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(cut)? {
            if body.len() + chunk.len() > self.script_bytes {
                return Err(ScriptFetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        let coding = text(&fields, &CONTENT_ENCODING).unwrap_or_default();
        let body = decoded(&coding, body.freeze(), self.script_bytes)?;
        if content_type.contains("javascript") && is_page(&body) {
            return Err(ScriptFetchError::Type("a page".to_owned()));
        }
        let short = |text: &String| text.len() <= MAX_VALIDATOR_BYTES;
        let facts = ScriptMetadata {
            url: url.as_str().to_owned(),
            content_type: content_type.to_owned(),
            etag: text(&fields, &ETAG).filter(short),
            last_modified: text(&fields, &LAST_MODIFIED).filter(short),
            max_age,
            checked_at: now,
        };
        Ok(ScriptFetchOutcome::New(FetchedScript { facts, hash: hash(&body), body }))
    }
}

fn text(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    fields.get(name)?.to_str().ok().map(str::to_owned)
}

/// The media type to serve a script with. `None` if the vendor's type is not one of a script.
fn media_type(stated: &str) -> Option<&'static str> {
    let essence = stated.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/javascript"
        | "application/javascript"
        | "application/x-javascript"
        | "text/ecmascript"
        | "application/ecmascript" => Some("text/javascript; charset=utf-8"),
        "text/css" => Some("text/css; charset=utf-8"),
        "application/json" => Some("application/json"),
        "application/wasm" => Some("application/wasm"),
        _ => None,
    }
}

/// Returns true if the body begins like an HTML page, which no script does.
fn is_page(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    body.first() == Some(&b'<') && !body.starts_with(b"<!--")
}

fn max_age(field: &str) -> Option<Duration> {
    let directives = || field.split(',').map(str::trim);
    if directives()
        .any(|it| it.eq_ignore_ascii_case("no-store") || it.eq_ignore_ascii_case("no-cache"))
    {
        return Some(Duration::ZERO);
    }
    let seconds = directives().find_map(|it| it.strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn decoded(coding: &str, body: Bytes, max_bytes: usize) -> Result<Bytes, ScriptFetchError> {
    let limit = max_bytes as u64 + 1;
    let mut out = Vec::new();
    let read = match coding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => return Ok(body),
        "gzip" | "x-gzip" => {
            flate2::read::MultiGzDecoder::new(&*body).take(limit).read_to_end(&mut out)
        }
        "br" => brotli::Decompressor::new(&*body, 4096).take(limit).read_to_end(&mut out),
        _ => return Err(ScriptFetchError::Encoding),
    };
    match read {
        Ok(length) if length > max_bytes => Err(ScriptFetchError::TooLong),
        Ok(_) => Ok(out.into()),
        Err(_) => Err(ScriptFetchError::Encoding),
    }
}
