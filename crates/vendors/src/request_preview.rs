//! The preview of a request for people: in the live feed, in rehearsals, in the fixtures of the tests.

use std::fmt::Write as _;
use std::io::Read as _;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Request};
use serde_json::Value;

/// Returns the body as text, decompressed if need be.
pub fn body(request: &Request<Bytes>) -> String {
    let is_gzip = request.headers().get(CONTENT_ENCODING).is_some_and(|kind| kind == "gzip");
    let mut inflated = Vec::new();
    // The gateway compressed it itself, so it is complete and within the limits.
    if is_gzip && GzDecoder::new(&**request.body()).read_to_end(&mut inflated).is_ok() {
        return String::from_utf8_lossy(&inflated).into_owned();
    }
    String::from_utf8_lossy(request.body()).into_owned()
}

/// Formats the whole request: its headers sorted, JSON indented, forms one field a line.
pub fn request(request: &Request<Bytes>) -> String {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in headers(request) {
        let _infallible = writeln!(text, "{name}: {value}");
    }
    let _infallible = writeln!(text, "\n{}", pretty_body(request));
    text
}

/// Returns the headers with their values as text, sorted.
pub fn headers(request: &Request<Bytes>) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = request.headers().iter();
    let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_string(), text(value))).collect();
    fields.sort();
    fields
}

/// Returns the body for people: JSON indented, a form one field a line.
pub fn pretty_body(request: &Request<Bytes>) -> String {
    let text = body(request);
    if let Some(pretty) = pretty(&text) {
        return pretty;
    }
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/x-www-form-urlencoded") {
        return text;
    }
    let fields = url::form_urlencoded::parse(text.as_bytes());
    let line = |(name, value): (std::borrow::Cow<'_, str>, std::borrow::Cow<'_, str>)| {
        format!("{name} = {}", pretty(&value).unwrap_or_else(|| value.into_owned()))
    };
    fields.map(line).collect::<Vec<_>>().join("\n")
}

fn pretty(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    serde_json::to_string_pretty(&value).ok()
}
