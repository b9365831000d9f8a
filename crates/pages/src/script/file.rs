//! A served script: every encoding is made beforehand, and the file is named by its content.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};

use super::encoding::EncodedText;

/// Hexadecimal digits of a content's name: 64 bits, enough to rule out chance collisions.
pub(super) const HASH_CHARS: usize = 16;

/// The browser caching of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrowserCaching {
    /// Cached without end: the name changes with the content.
    Immutable,
    /// Never cached: the content depends on the client.
    Never,
    /// Cached for a time, and then used while the browser revalidates it.
    For {
        /// The time during which it is fresh.
        max_age: Duration,
        /// The time after that in which the browser uses it and revalidates it in the background.
        stale: Duration,
    },
}

/// A script in every encoding that browsers accept.
#[derive(Debug)]
pub struct ServedScript {
    hash: String,
    encoded: EncodedText,
}

impl ServedScript {
    /// Makes the file of this script. Compresses at the best levels: not for the request path.
    pub fn new(text: String) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let hex: String = hex::encode(digest);
        let hash: String = hex.chars().take(HASH_CHARS).collect();
        let encoded = EncodedText::new(text.into(), &hash);
        encoded.compress();
        Self { hash, encoded }
    }

    /// The hash of the content, as in the file's name.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The uncompressed text of the script.
    pub fn text(&self) -> &[u8] {
        &self.encoded.plain().body
    }

    /// The response to a `GET` or `HEAD` with these fields: 200, or 304 if the browser has it.
    pub fn answer(
        &self,
        method: &Method,
        fields: &HeaderMap,
        caching: BrowserCaching,
    ) -> Response<Full<Bytes>> {
        const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
        let mut response = Response::new(Full::default());
        let answer = response.headers_mut();
        answer.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        let Some(form) = self.encoded.best(fields) else {
            *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
            return response;
        };
        answer.insert(POLICY, HeaderValue::from_static("cross-origin"));
        if let Ok(value) = HeaderValue::try_from(caching.to_string()) {
            answer.insert(CACHE_CONTROL, value);
        }
        answer.insert(ETAG, form.etag.clone());
        if self.encoded.is_known(fields) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return response;
        }
        let javascript = HeaderValue::from_static("text/javascript; charset=utf-8");
        answer.insert(CONTENT_TYPE, javascript);
        answer.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(encoding) = form.coding {
            answer.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        answer.insert(CONTENT_LENGTH, HeaderValue::from(form.body.len()));
        if method != Method::HEAD {
            *response.body_mut() = Full::new(form.body.clone());
        }
        response
    }
}

impl std::fmt::Display for BrowserCaching {
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
