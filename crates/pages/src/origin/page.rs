//! A streamed HTML page, which gets the gateway's script.

use std::future::poll_fn;
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

use super::coding::{PageCompression, PageCompressor};
use super::inject::PageRewriter;
use super::page_skip_reason::PageSkipReason;
use tagway_core::answer::{BodyStreamError, ResponseBody};

/// The bytes of a page that are processed in one step: less than a millisecond's work.
const STEP_BYTES: usize = 16 << 10;

const NO_TRANSFORM: &str = "no-transform";

/// Fields that describe the exact bytes of a body.
const OF_THE_BYTES: &[&str] = &["content-md5", "digest", "content-digest", "repr-digest"];

/// Fields of requests by scripts that insert a response into a page instead of showing it as one.
const OF_SCRIPTS: &[&str] =
    &["x-requested-with", "hx-request", "turbo-frame", "x-pjax", "x-inertia", "x-up-version"];

/// Returns true if the response may be shown as a page. A form may be sent with POST.
pub(super) fn may_be_page(head: &RequestParts) -> bool {
    let fields = &head.headers;
    if ![Method::GET, Method::HEAD, Method::POST].contains(&head.method) {
        return false;
    }
    let says = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    match says("sec-fetch-dest") {
        Some("document" | "iframe" | "frame") => true,
        // A request by a service worker, or a prefetch.
        Some("empty") => {
            says("sec-fetch-mode") == Some("navigate")
                || (is_prefetch(fields) && has_path_of_page(head.uri.path()))
        }
        Some(_) => false,
        None => {
            let is_scripts = OF_SCRIPTS.iter().any(|name| fields.contains_key(*name));
            !is_scripts && text(fields, ACCEPT).contains("text/html")
        }
    }
}

/// Returns true if a page prefetches it for a navigation, and no script requested it.
fn is_prefetch(fields: &HeaderMap) -> bool {
    let is_ahead = |name: &str| {
        let value = fields.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.contains("prefetch"))
    };
    is_ahead("sec-purpose") || is_ahead("purpose")
}

/// Returns false for the paths of files that are not pages: those may be requested compressed.
fn has_path_of_page(path: &str) -> bool {
    const PAGES: &[&str] = &["html", "htm", "xhtml", "php", "asp", "aspx", "jsp", "do", "cgi"];
    let name = path.rsplit('/').next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_none_or(|ending| PAGES.iter().any(|it| ending.eq_ignore_ascii_case(it)))
}

/// The kind of a response, by its head.
#[derive(Debug)]
pub(super) enum OriginResponseKind {
    /// A page in this encoding, which may be changed.
    Page { encoding: AsciiCompatibleEncoding, names_charset: bool },
    /// A page that must stay unchanged.
    Left(PageSkipReason),
    /// Anything else, including parts of pages.
    Other,
}

/// Returns the kind of a response: a page only if it is complete and to be shown.
pub(super) fn kind(head: &ResponseParts) -> OriginResponseKind {
    let has_body = !head.status.is_informational() && !head.status.is_redirection();
    let others = [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT];
    if !has_body || others.contains(&head.status) {
        return OriginResponseKind::Other;
    }
    html(&head.headers)
}

fn html(fields: &HeaderMap) -> OriginResponseKind {
    let kinds = || {
        let all = fields.get_all(CONTENT_TYPE).iter().filter_map(|kind| kind.to_str().ok());
        all.map(|kind| kind.split(';').next().unwrap_or_default().trim())
    };
    let is_any = |wanted: &str| kinds().any(|kind| kind.eq_ignore_ascii_case(wanted));
    let is_plain = fields.get_all(CONTENT_ENCODING).iter().all(|it| it == "identity");
    let is_html = is_any("text/html");
    match () {
        () if is_file(fields) => OriginResponseKind::Other,
        () if is_any("application/xhtml+xml") && !is_html => {
            OriginResponseKind::Left(PageSkipReason::Xhtml)
        }
        () if !is_html => OriginResponseKind::Other,
        () if kinds().nth(1).is_some() => OriginResponseKind::Left(PageSkipReason::Ambiguous),
        () if !may_change(fields) => OriginResponseKind::Left(PageSkipReason::NoTransform),
        () if !is_plain => OriginResponseKind::Left(PageSkipReason::Compressed),
        () => match charset(fields) {
            None => OriginResponseKind::Page {
                encoding: AsciiCompatibleEncoding::utf_8(),
                names_charset: false,
            },
            Some(encoding) => match AsciiCompatibleEncoding::new(encoding) {
                Some(encoding) => OriginResponseKind::Page { encoding, names_charset: true },
                None => OriginResponseKind::Left(PageSkipReason::Charset),
            },
        },
    }
}

/// Returns the charset that a head names, by a label that browsers know: they ignore others.
fn charset(fields: &HeaderMap) -> Option<&'static Encoding> {
    let parts = text(fields, CONTENT_TYPE).split(';').skip(1);
    let value = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim())
    })?;
    Encoding::for_label(value.trim_matches(['"', '\'']).as_bytes())
}

/// Names the charset that the page declares itself, but perhaps too late after the inserted script.
fn name_charset(fields: &mut HeaderMap, charset: &str) {
    let kind = text(fields, CONTENT_TYPE).split(';');
    let is_charset = |part: &&str| {
        let name = part.split('=').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("charset") || name.is_empty()
    };
    let mut kept: Vec<&str> = kind.filter(|part| !is_charset(part)).map(str::trim).collect();
    let charset = format!("charset={}", charset.to_ascii_lowercase());
    kept.push(&charset);
    if let Ok(value) = HeaderValue::try_from(kept.join("; ")) {
        fields.insert(CONTENT_TYPE, value);
    }
}

fn may_change(fields: &HeaderMap) -> bool {
    let values = fields.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    !values
        .flat_map(|value| value.split(','))
        .any(|it| it.trim().eq_ignore_ascii_case(NO_TRANSFORM))
}

/// Returns true if it is a download: any disposition but "inline" (RFC 6266, 4.2).
fn is_file(fields: &HeaderMap) -> bool {
    fields.get_all(CONTENT_DISPOSITION).iter().any(|value| {
        let kind = value.to_str().ok().and_then(|value| value.split(';').next());
        !kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("inline"))
    })
}

fn text(fields: &HeaderMap, name: HeaderName) -> &str {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Rewrites a page, and compresses it if that is enabled and the client accepts it.
pub(super) async fn rewritten<B>(
    head: &mut ResponseParts,
    body: B,
    rewriter: PageRewriter,
    coding: Option<Option<PageCompression>>,
) -> ResponseBody
where
    B: Body<Data = Bytes, Error = BodyStreamError> + Send + Unpin + 'static,
{
    let rewriter = Some(rewriter);
    let mut page = RewrittenPage {
        body,
        rewriter,
        first: None,
        encoder: None,
        rest: Bytes::new(),
        is_due: true,
    };
    let has_charset = charset(&head.headers).is_some();
    if !has_charset {
        page.look_ahead().await;
    }
    let moved = page.rewriter.as_ref().and_then(PageRewriter::moved_charset);
    if let Some(moved) = moved.filter(|_| !has_charset) {
        name_charset(&mut head.headers, moved);
    }
    page.encoder = announce(head, coding);
    ResponseBody::stream(page)
}

/// Adapts the head to the rewritten page, whether a body follows or not.
pub(super) fn announce(
    head: &mut ResponseParts,
    coding: Option<Option<PageCompression>>,
) -> Option<PageCompressor> {
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
    // Without an encoder the page passes uncompressed.
    let (coding, encoder) =
        coding.flatten().and_then(|it| Some((it, PageCompressor::new(it).ok()?)))?;
    fields.insert(CONTENT_ENCODING, coding.value());
    Some(encoder)
}

/// Adapts the head of a response that passes unchanged: parts of the origin's page are not parts of the rewritten
/// one, and a 304 confirms the rewritten page that the client has.
pub(super) fn pass(head: &mut ResponseParts) {
    let fields = &mut head.headers;
    let is_part = head.status == StatusCode::PARTIAL_CONTENT
        && matches!(html(fields), OriginResponseKind::Page { .. });
    if is_part {
        fields.remove(ACCEPT_RANGES);
    }
    if is_part || head.status == StatusCode::NOT_MODIFIED {
        weaken(fields);
    }
}

/// Adds the accepted codings to Vary.
fn vary(fields: &mut HeaderMap) {
    let all = fields.get_all(VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = all.flat_map(|value| value.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        fields.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// Weakens the entity tag: the page is equivalent, but its bytes differ.
fn weaken(fields: &mut HeaderMap) {
    let Some(tag) = fields.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/")) else {
        return;
    };
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => fields.insert(ETAG, weak),
        Err(_) => fields.remove(ETAG),
    };
}

/// The body of a page that is being rewritten.
struct RewrittenPage<B> {
    body: B,
    /// Set until the page ends.
    rewriter: Option<PageRewriter>,
    /// The bytes that were read ahead of the head, and true if they are the whole page.
    first: Option<Result<(Vec<u8>, bool), BodyStreamError>>,
    encoder: Option<PageCompressor>,
    /// The bytes that were received and not processed yet.
    rest: Bytes,
    /// True if the next step may run at once. Between two steps other tasks get a turn.
    is_due: bool,
}

impl<B: Body<Data = Bytes, Error = BodyStreamError> + Unpin> RewrittenPage<B> {
    /// Reads ahead until the head's charset is known: browsers also wait for that much of a page that names no
    /// charset.
    async fn look_ahead(&mut self) {
        let mut out = Vec::new();
        while self.rewriter.as_ref().is_some_and(PageRewriter::is_looking) {
            let step = poll_fn(|context| self.poll_step(context)).await;
            let Some(rewriter) = &mut self.rewriter else { break };
            match step {
                Some(Ok(bytes)) => out.extend(rewriter.write(&bytes)),
                Some(Err(error)) => {
                    self.first = Some(Err(error));
                    return;
                }
                None => {
                    out.extend(rewriter.end());
                    self.first = Some(Ok((out, true)));
                    return;
                }
            }
        }
        self.first = Some(Ok((out, false)));
    }

    /// Returns the output after this much more of the page; all of it if the page ended.
    fn advance(&mut self, more: Option<&Bytes>) -> Result<Vec<u8>, BodyStreamError> {
        let plain = match (more, &mut self.rewriter) {
            (Some(bytes), Some(rewriter)) => rewriter.write(bytes),
            (None, Some(rewriter)) => rewriter.end(),
            (_, None) => Vec::new(),
        };
        self.encoded(plain, more.is_none())
    }

    /// Returns the bytes in the coding for the client.
    fn encoded(&mut self, plain: Vec<u8>, is_all: bool) -> Result<Vec<u8>, BodyStreamError> {
        if is_all {
            self.rewriter = None;
        }
        let Some(encoder) = &mut self.encoder else { return Ok(plain) };
        let mut out = encoder.write(&plain)?;
        if is_all && let Some(encoder) = self.encoder.take() {
            out.extend(encoder.finish()?);
        }
        Ok(out)
    }

    /// Runs the next step of the page, once its bytes are here and it is due.
    fn poll_step(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyStreamError>>> {
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

impl<B: Body<Data = Bytes, Error = BodyStreamError> + Unpin> Body for RewrittenPage<B> {
    type Data = Bytes;
    type Error = BodyStreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStreamError>>> {
        let this = &mut *self;
        while this.rewriter.is_some() {
            let out = match this.first.take() {
                Some(first) => first.and_then(|(plain, is_all)| this.encoded(plain, is_all)),
                None => match ready!(this.poll_step(context)) {
                    Some(Ok(bytes)) => this.advance(Some(&bytes)),
                    Some(Err(error)) => Err(error),
                    None => this.advance(None),
                },
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

    use super::super::edits::tag;
    use super::super::inject::PageLimits;
    use super::super::inject::tests::task;
    use super::super::policy::CspScriptRules;
    use super::*;

    fn rewriter() -> PageRewriter {
        PageRewriter::new(
            AsciiCompatibleEncoding::utf_8(),
            task(),
            PageLimits { tag: 1 << 20, inline: 1 << 20 },
        )
    }

    /// One frame of an origin may be large; the thread is shared.
    #[tokio::test]
    async fn page_yields_between_its_steps() {
        let rewriter = rewriter();
        let text = Bytes::from("<p>x".repeat(STEP_BYTES));
        let snippet = tag(&CspScriptRules::default(), None).len();
        let frames = [Ok::<_, BodyStreamError>(Frame::data(text.clone()))];
        let body = StreamBody::new(stream::iter(frames));
        let kind = [(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))];
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.headers = HeaderMap::from_iter(kind);
        let mut page = rewritten(&mut head, body, rewriter, None).await;
        let mut context = Context::from_waker(Waker::noop());
        let (mut steps, mut length) = (0, 0);
        loop {
            match Pin::new(&mut page).poll_frame(&mut context) {
                Poll::Pending => steps += 1,
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => length += frame.unwrap().into_data().unwrap().len(),
            }
        }
        assert_eq!(length, text.len() + snippet);
        assert_eq!(steps, text.len() / STEP_BYTES - 1);
    }
}
