//! A page on its way through, which gets the gateway's script.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use encoding_rs::Encoding;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    HeaderName, RANGE, TRAILER, VARY,
};
use http::request::Parts as RequestParts;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::{Body, Frame};
use lol_html::AsciiCompatibleEncoding;

use super::coding::{Coding, Encoder};
use super::connection::Flow;
use super::inject::Rewriter;
use crate::answer::{AnswerBody, BodyError};

/// Fields that speak of the very bytes of a body.
const OF_THE_BYTES: &[&str] = &["content-md5", "digest", "content-digest", "repr-digest"];

/// Whether the answer may be shown as a page.
pub(super) fn may_be_page(head: &RequestParts) -> bool {
    let fields = &head.headers;
    if head.method != Method::GET || fields.contains_key(RANGE) {
        return false;
    }
    match fields.get("sec-fetch-dest") {
        Some(dest) => ["document", "iframe", "frame"].iter().any(|it| dest == it),
        None => text(fields, ACCEPT).contains("text/html"),
    }
}

/// The encoding of an answer that is a page and may be changed.
pub(super) fn encoding(head: &ResponseParts) -> Option<AsciiCompatibleEncoding> {
    let has_body = !head.status.is_informational() && !head.status.is_redirection();
    let is_whole = ![StatusCode::NO_CONTENT, StatusCode::PARTIAL_CONTENT].contains(&head.status);
    let fields = &head.headers;
    let is_plain = fields.get(CONTENT_ENCODING).is_none_or(|it| it == "identity");
    let may_change = !text(fields, CACHE_CONTROL).to_ascii_lowercase().contains("no-transform");
    let mut parts = text(fields, CONTENT_TYPE).split(';').map(str::trim);
    let is_html = parts.next()?.eq_ignore_ascii_case("text/html");
    if !(has_body && is_whole && is_plain && may_change && is_html) {
        return None;
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    match charset {
        None => Some(AsciiCompatibleEncoding::utf_8()),
        Some(label) => AsciiCompatibleEncoding::new(Encoding::for_label(label.as_bytes())?),
    }
}

fn text(fields: &HeaderMap, name: HeaderName) -> &str {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The page as it has to be, and compressed if that is wanted and the client takes it.
pub(super) fn rewritten(
    head: &mut ResponseParts,
    body: Flow,
    rewriter: Rewriter,
    coding: Option<Option<Coding>>,
) -> AnswerBody {
    let fields = &mut head.headers;
    for name in [CONTENT_LENGTH, ACCEPT_RANGES, TRAILER, CONTENT_ENCODING] {
        fields.remove(name);
    }
    for name in OF_THE_BYTES {
        fields.remove(*name);
    }
    weaken(fields);
    if coding.is_some() {
        vary(fields);
    }
    // Without an encoder the page goes as it is.
    let encoder = coding.flatten().and_then(|coding| Some((coding, Encoder::new(coding).ok()?)));
    let encoder = encoder.map(|(coding, encoder)| {
        fields.insert(CONTENT_ENCODING, coding.value());
        encoder
    });
    AnswerBody::stream(Page { body, rewriter: Some(rewriter), encoder })
}

/// Says that the answer depends on what codings the client takes.
fn vary(fields: &mut HeaderMap) {
    let all = fields.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = all.flat_map(|value| value.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        fields.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// The page means the same, but its bytes differ.
pub(super) fn weaken(fields: &mut HeaderMap) {
    let Some(tag) = fields.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => fields.insert(ETAG, weak),
        Err(_) => fields.remove(ETAG),
    };
}

/// A page on its way through.
struct Page {
    body: Flow,
    /// Until the page ends.
    rewriter: Option<Rewriter>,
    encoder: Option<Encoder>,
}

impl Page {
    /// What more there is to send after this much more of the page; all if it ended.
    fn advance(&mut self, more: Option<&Bytes>) -> Result<Vec<u8>, BodyError> {
        let plain = match (more, &mut self.rewriter) {
            (Some(bytes), Some(rewriter)) => rewriter.write(bytes),
            (None, _) => self.rewriter.take().map(Rewriter::end).unwrap_or_default(),
            (Some(_), None) => Vec::new(),
        };
        let Some(encoder) = &mut self.encoder else { return Ok(plain) };
        let mut out = encoder.write(&plain)?;
        if more.is_none()
            && let Some(encoder) = self.encoder.take()
        {
            out.extend(encoder.finish()?);
        }
        Ok(out)
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        while this.rewriter.is_some() {
            let out = match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.advance(Some(&bytes)),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Err(error),
                None => this.advance(None),
            };
            match out {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => {
                    this.rewriter = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        Poll::Ready(None)
    }
}
