//! A page on its way through, which gets the gateway's script.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use encoding_rs::Encoding;
use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ETAG, HeaderName, TRAILER, VARY,
};
use http::request::Parts as RequestParts;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::{Body, Frame};
use lol_html::AsciiCompatibleEncoding;

use super::coding::{Coding, Encoder};
use super::inject::Rewriter;
use crate::answer::{AnswerBody, BodyError};

/// The bytes of a page that are read at once: less than a millisecond's work.
const STEP_BYTES: usize = 16 << 10;

const NO_TRANSFORM: &str = "no-transform";

/// Fields that speak of the very bytes of a body.
const OF_THE_BYTES: &[&str] = &["content-md5", "digest", "content-digest", "repr-digest"];

/// Whether the answer may be shown as a page.
pub(super) fn may_be_page(head: &RequestParts) -> bool {
    let fields = &head.headers;
    if head.method != Method::GET && head.method != Method::HEAD {
        return false;
    }
    match fields.get("sec-fetch-dest") {
        Some(dest) => ["document", "iframe", "frame"].iter().any(|it| dest == it),
        None => text(fields, ACCEPT).contains("text/html"),
    }
}

/// The encoding of an answer that is a page and may be changed: the whole of it, to be shown.
pub(super) fn encoding(head: &ResponseParts) -> Option<AsciiCompatibleEncoding> {
    let has_body = !head.status.is_informational() && !head.status.is_redirection();
    let others = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT];
    if !has_body || others.contains(&head.status) {
        return None;
    }
    html(&head.headers)
}

/// The encoding of HTML that may be changed.
fn html(fields: &HeaderMap) -> Option<AsciiCompatibleEncoding> {
    let is_plain = fields.get_all(CONTENT_ENCODING).iter().all(|it| it == "identity");
    let mut kinds = fields.get_all(CONTENT_TYPE).iter();
    let (kind, other) = (kinds.next()?, kinds.next());
    let mut parts = kind.to_str().ok()?.split(';').map(str::trim);
    let is_html = parts.next()?.eq_ignore_ascii_case("text/html");
    if !is_html || other.is_some() || !is_plain || !may_change(fields) || is_file(fields) {
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

fn may_change(fields: &HeaderMap) -> bool {
    let values = fields.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    !values
        .flat_map(|value| value.split(','))
        .any(|it| it.trim().eq_ignore_ascii_case(NO_TRANSFORM))
}

/// Returns true if it is kept as a file and not shown: any disposition but "inline" (RFC 6266, 4.2).
fn is_file(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_DISPOSITION).iter().any(|value| {
        let kind = value.to_str().ok().and_then(|value| value.split(';').next());
        !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("inline"))
    })
}

fn text(fields: &HeaderMap, name: HeaderName) -> &str {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The page as it has to be, and compressed if that is wanted and the client takes it.
pub(super) fn rewritten<B>(
    head: &mut ResponseParts,
    body: B,
    rewriter: Rewriter,
    coding: Option<Option<Coding>>,
) -> AnswerBody
where
    B: Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static,
{
    let encoder = announce(head, coding);
    let page = Page { body, rewriter: Some(rewriter), encoder, rest: Bytes::new(), is_due: true };
    AnswerBody::stream(page)
}

/// Makes the head that of the page as it has to be, whether that follows or not.
pub(super) fn announce(
    head: &mut ResponseParts,
    coding: Option<Option<Coding>>,
) -> Option<Encoder> {
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
    let (coding, encoder) = coding.flatten().and_then(|it| Some((it, Encoder::new(it).ok()?)))?;
    fields.insert(CONTENT_ENCODING, coding.value());
    Some(encoder)
}

/// Makes the head of an answer that passes agree with that of the page that is changed: parts of the
/// one are none of the other, and the one that a client has is the same still.
pub(super) fn pass(head: &mut ResponseParts) {
    let fields = &mut head.headers;
    let is_part = head.status == StatusCode::PARTIAL_CONTENT && html(fields).is_some();
    if is_part {
        fields.remove(ACCEPT_RANGES);
    }
    if is_part || head.status == StatusCode::NOT_MODIFIED {
        weaken(fields);
    }
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
fn weaken(fields: &mut HeaderMap) {
    let Some(tag) = fields.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => fields.insert(ETAG, weak),
        Err(_) => fields.remove(ETAG),
    };
}

/// A page on its way through.
struct Page<B> {
    body: B,
    /// Until the page ends.
    rewriter: Option<Rewriter>,
    encoder: Option<Encoder>,
    /// The bytes that came and are still to be read.
    rest: Bytes,
    /// True if the next step may be taken at once. Between two steps other tasks have their turn.
    is_due: bool,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Page<B> {
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

    /// The next step of the page, once it is here and its turn has come.
    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while self.rest.is_empty() {
            self.is_due = true;
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                // A page has no trailers.
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        if !mem::replace(&mut self.is_due, false) {
            self.is_due = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let step = self.rest.split_to(self.rest.len().min(STEP_BYTES));
        Poll::Ready(Some(Ok(step)))
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Page<B> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        while this.rewriter.is_some() {
            let out = match ready!(this.poll_step(context)) {
                Some(Ok(bytes)) => this.advance(Some(&bytes)),
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::super::inject::Task;
    use super::*;

    /// One frame of an origin's may be large; the thread is not its own.
    #[test]
    fn page_yields_between_its_steps() {
        let task = Task {
            injects: true,
            tags: Default::default(),
            admitted: Default::default(),
            authority: "t.shop.example".to_owned(),
            secure: true,
        };
        let rewriter = Rewriter::new(AsciiCompatibleEncoding::utf_8(), task, (1 << 20, 1 << 20));
        let text = Bytes::from("<p>x".repeat(STEP_BYTES));
        let frames = [Ok::<_, BodyError>(Frame::data(text.clone()))];
        let body = StreamBody::new(stream::iter(frames));
        let (mut head, ()) = http::Response::new(()).into_parts();
        let mut page = rewritten(&mut head, body, rewriter, None);
        let mut context = Context::from_waker(Waker::noop());
        let (mut steps, mut length) = (0, 0);
        loop {
            match Pin::new(&mut page).poll_frame(&mut context) {
                Poll::Pending => steps += 1,
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => length += frame.unwrap().into_data().unwrap().len(),
            }
        }
        assert_eq!(length, text.len());
        assert_eq!(steps, text.len() / STEP_BYTES - 1);
    }
}
