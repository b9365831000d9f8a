//! Responses to browsers' requests of vendors' scripts.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::ScriptRequest;
use super::served::ProxiedScript;
use crate::script::encoding::EncodedForm;
use tagway_vendors::script::ScriptFile;

const POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The most fields of a response.
const FIELDS: usize = 12;

/// A response without a script: the vendor has none (404), or it cannot be fetched now (502).
pub(super) fn none(failed: bool) -> Response<Full<Bytes>> {
    let status = if failed { StatusCode::BAD_GATEWAY } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The response 406: the client accepts none of the available codings.
fn unacceptable() -> Response<Full<Bytes>> {
    let mut response = none(false);
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// The script, the requested part of it, or 304 if the client has this version.
pub(super) fn script(
    asked: &ScriptRequest<'_>,
    file: &ScriptFile,
    served: &ProxiedScript,
) -> Response<Full<Bytes>> {
    let range = asked.fields.get(RANGE).filter(|_| asked.method == Method::GET);
    // Ranges are of the uncompressed text.
    let coded = match range {
        Some(_) => Some(served.encoded.plain()),
        None => served.encoded.best(asked.fields),
    };
    let Some(coded) = coded else { return unacceptable() };
    let mut response = Response::new(Full::default());
    let fields = response.headers_mut();
    // Reserves the final number, the date included: a map that grows hashes all of them again.
    fields.reserve(FIELDS);
    let age = if file.immutable {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=900, stale-while-revalidate=86400, stale-if-error=604800"
    };
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(age));
    fields.insert(ETAG, coded.etag.clone());
    fields.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(POLICY, HeaderValue::from_static("cross-origin"));
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if served.encoded.is_known(asked.fields) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    fields.insert(CONTENT_TYPE, served.content_type.clone());
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(coding) = coded.coding {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    let body = match range.filter(|_| is_range_of(asked, coded)).and_then(|it| part(it, coded)) {
        None => coded.body.clone(),
        Some(part) => {
            let length = coded.body.len();
            let (status, content_range, body) = match part {
                Some((first, last)) => (
                    StatusCode::PARTIAL_CONTENT,
                    format!("bytes {first}-{last}/{length}"),
                    coded.body.slice(first..=last),
                ),
                None => {
                    (StatusCode::RANGE_NOT_SATISFIABLE, format!("bytes */{length}"), Bytes::new())
                }
            };
            *response.status_mut() = status;
            if let Ok(content_range) = HeaderValue::try_from(content_range) {
                response.headers_mut().insert(CONTENT_RANGE, content_range);
            }
            body
        }
    };
    if asked.method == Method::HEAD {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    } else {
        *response.body_mut() = Full::new(body);
    }
    response
}

/// Returns true if the range applies to this form of the text (`If-Range`).
fn is_range_of(asked: &ScriptRequest<'_>, coded: &EncodedForm) -> bool {
    asked.fields.get(IF_RANGE).is_none_or(|tag| *tag == coded.etag)
}

/// First and last byte of a single range; `Some(None)` if it lies outside the text. Any other range is
/// ignored, as RFC 9110 lets a server do.
#[expect(clippy::option_option, reason = "no range, one outside, one inside")]
fn part(range: &HeaderValue, coded: &EncodedForm) -> Option<Option<(usize, usize)>> {
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let (length, digits) =
        (coded.body.len(), |text: &str| text.bytes().all(|it| it.is_ascii_digit()));
    if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
        return None;
    }
    let number = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
    let end = length.checked_sub(1);
    if first.is_empty() {
        let wanted = number(last).min(length);
        return Some(end.filter(|_| wanted > 0).map(|end| (length - wanted, end)));
    }
    let (first, last) = (number(first), if last.is_empty() { usize::MAX } else { number(last) });
    if last < first {
        return None;
    }
    Some(end.filter(|end| first <= *end).map(|end| (first, last.min(end))))
}
