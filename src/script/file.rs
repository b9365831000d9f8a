//! A script as it is served: every encoding made beforehand, named by its content.

use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    HeaderName, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of a content's name: 64 bits, which nobody meets twice by chance.
pub(super) const HASH_CHARS: usize = 16;

/// How long a browser keeps a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// For good: the name changes with the content.
    Immutable,
    /// Not at all: it depends on who asks.
    Never,
    /// For a time, and then while it is asked for anew.
    For {
        /// As if it were fresh.
        max_age: Duration,
        /// After that: shown at once, and asked for behind.
        stale: Duration,
    },
}

/// A script in every encoding that browsers take.
#[derive(Debug)]
pub struct File {
    hash: String,
    /// From the most to the least wanted; the last is the text itself.
    forms: Vec<Form>,
}

#[derive(Debug)]
struct Form {
    /// The name of the encoding; none for the text itself.
    encoding: Option<&'static str>,
    etag: String,
    content: Bytes,
}

impl File {
    /// The file of this script. Compresses as far as it goes: not for the request path.
    pub fn new(text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let hash: String = hex.chars().take(HASH_CHARS).collect();
        let compressed = [
            ("br", brotli(text.as_bytes())),
            ("zstd", zstd::bulk::compress(text.as_bytes(), 19)),
            ("gzip", gzip(text.as_bytes())),
        ];
        // Writing to memory does not fail; if it did, the encoding would not be offered.
        let mut forms: Vec<Form> = compressed
            .into_iter()
            .filter_map(|(name, content)| {
                let etag = format!("\"{hash}-{name}\"");
                Some(Form { encoding: Some(name), etag, content: Bytes::from(content.ok()?) })
            })
            .collect();
        forms.push(Form { encoding: None, etag: format!("\"{hash}\""), content: text.into() });
        Self { hash, forms }
    }

    /// The content's name.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The script itself.
    pub fn text(&self) -> &[u8] {
        self.forms.last().map(|form| form.content.as_ref()).unwrap_or_default()
    }

    /// The answer to a `GET` or `HEAD` with these fields: 200, or 304 if the browser has it.
    pub fn answer(
        &self,
        method: &Method,
        fields: &HeaderMap,
        caching: Caching,
    ) -> Response<Full<Bytes>> {
        const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
        let mut response = Response::new(Full::default());
        let Some(form) = self.forms.iter().find(|form| form.is_wanted(fields)) else {
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let answer = response.headers_mut();
        answer.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        answer.insert(POLICY, HeaderValue::from_static("cross-origin"));
        if let Ok(value) = HeaderValue::try_from(caching.to_string()) {
            answer.insert(CACHE_CONTROL, value);
        }
        if let Ok(value) = HeaderValue::try_from(form.etag.as_str()) {
            answer.insert(ETAG, value);
        }
        if is_known(fields, &form.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let javascript = HeaderValue::from_static("text/javascript; charset=utf-8");
        answer.insert(CONTENT_TYPE, javascript);
        answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(encoding) = form.encoding {
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        answer.insert(CONTENT_LENGTH, HeaderValue::from(form.content.len()));
        if method != Method::HEAD {
            *response.body_mut() = Full::new(form.content.clone());
        }
        response
    }
}

impl std::fmt::Display for Caching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Immutable => f.write_str("public, max-age=31536000, immutable"),
            Self::Never => f.write_str("no-store"),
            Self::For { max_age, stale } => {
                let (fresh, stale) = (max_age.as_secs(), stale.as_secs());
                write!(f, "public, max-age={fresh}, stale-while-revalidate={stale}")
            }
        }
    }
}

impl Form {
    /// Whether the client takes it (RFC 9110 section 12.5.3).
    fn is_wanted(&self, fields: &HeaderMap) -> bool {
        let Some(own) = self.encoding else { return true };
        let lines = fields.get_all(ACCEPT_ENCODING).into_iter();
        let mut items = lines.filter_map(|line| line.to_str().ok()).flat_map(|l| l.split(','));
        items.any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(own));
            let weight = parts.next().and_then(|weight| weight.strip_prefix("q="));
            let is_refused =
                weight.and_then(|weight| weight.parse::<f32>().ok()).is_some_and(|q| q <= 0.0);
            is_named && !is_refused
        })
    }
}

/// Whether `If-None-Match` names the tag, weakly compared (RFC 9110 section 13.1.2).
pub(super) fn is_known(fields: &HeaderMap, etag: &str) -> bool {
    let lines = fields.get_all(IF_NONE_MATCH).into_iter();
    let mut tags = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    tags.any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag
    })
}

fn brotli(text: &[u8]) -> io::Result<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams { quality: 11, ..Default::default() };
    let mut content = Vec::new();
    brotli::BrotliCompress(&mut &*text, &mut content, &params)?;
    Ok(content)
}

fn gzip(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text)?;
    encoder.finish()
}
