//! The client of a site's origin: it makes one exchange per request.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::upgrade::OnUpgrade;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::time::{Instant, timeout_at};

use super::addresses::OriginOwnAddress;
use super::client_requests::ClientRequestSlots;
use super::coding::PageCompression;
use super::connection::{OriginPool, OriginRequestBody, OriginResponseBody};
use super::edits::PageEditPlan;
use super::inject::{PageLimits, PageRewriter};
use super::page;
use super::page_skip_reason::PageSkipReporter;
use super::policy::{CspHosts, CspScriptRules};
use super::settings::OriginSettings;
use super::tags::VendorTags;
use super::trailers::TrailerAnnouncement;
use super::upload::{UploadBody, UploadError, UploadLimits, UploadState};
use super::{fields, hints, tunnel};
use tagway_core::address::{AddressGuard, PrivateAddressError};
use tagway_core::answer::{BodyStreamError, ResponseBody, UpgradeTunnel};

/// The client of the server behind a site.
pub struct OriginClient {
    settings: OriginSettings,
    /// Connections of HTTP/1.1 and, where TLS negotiates it, HTTP/2.
    any: Arc<OriginPool>,
    /// Connections of HTTP/1.1 only, for upgrades.
    http1: Arc<OriginPool>,
    authority: HeaderValue,
    own: OriginOwnAddress,
    /// The active requests of its clients.
    clients: Arc<ClientRequestSlots>,
}

/// The gateway's facts about a request that goes to the origin.
#[derive(Clone, Copy, Debug)]
pub struct OriginExchange<'r> {
    /// The client's address.
    pub client: IpAddr,
    /// True if the client uses TLS.
    pub secure: bool,
    /// The host and port that the client requested.
    pub authority: &'r str,
    /// The vendors' tags that the site's pages may have.
    pub tags: &'r Arc<VendorTags>,
    /// The host and port that the gateway's script sends to, if not the client's.
    pub events: Option<&'r str>,
    /// The reporter of pages that are not rewritten.
    pub report: &'r PageSkipReporter,
}

/// An error that kept the origin from responding.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The address of the origin is private.
    #[error("the origin is at a private address, and egress.allow_private is false")]
    Forbidden,
    /// The request cannot be passed on.
    #[error("the request cannot be passed on")]
    Unfit,
    /// The request came from this gateway: a loop.
    #[error("the request comes from the gateway itself")]
    Loop,
    /// The client has `client_requests` active already.
    #[error("too many requests of this client are in progress")]
    Busy,
    /// The client did not complete its upload.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The connection took longer than `connect_timeout`, or the head longer than `head_time` after the request's
    /// end.
    #[error("the origin took too long")]
    Timeout,
    /// The connection failed, or the response is not valid HTTP.
    #[error("the origin does not answer")]
    Unreachable(#[source] Option<BodyStreamError>),
}

impl OriginError {
    /// Returns the status that reports the error to the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unfit => StatusCode::BAD_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Upload(error) => error.status(),
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Tls(_) | Self::Forbidden | Self::Unreachable(_) => StatusCode::BAD_GATEWAY,
        }
    }
}

impl OriginClient {
    /// Creates the client of one origin. `guard` decides to which addresses it may connect; nothing is connected
    /// yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the guard refuses a literal address, or TLS cannot be set up.
    pub fn new(settings: OriginSettings, guard: AddressGuard) -> Result<Self, OriginError> {
        let literal = match settings.origin.host() {
            Some(url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        // Literal addresses in the URL never reach the resolver.
        if literal.is_some_and(|ip| !guard(ip)) {
            return Err(OriginError::Forbidden);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        let origin = settings.origin.as_str();
        let authority = origin.split("://").nth(1).unwrap_or_default().trim_end_matches('/');
        let authority = HeaderValue::try_from(authority).map_err(|_unfit| OriginError::Unfit)?;
        let pool = |is_http1| {
            let pool = OriginPool::new(&settings, &tls, guard, is_http1);
            pool.map_err(|_unfit| OriginError::Unfit)
        };
        let (any, http1) = (pool(false)?, pool(true)?);
        let clients = ClientRequestSlots::new(settings.client_requests);
        let own = OriginOwnAddress::of(&settings.origin);
        Ok(Self { settings, any, http1, authority, own, clients })
    }

    /// Passes a request to the origin, and returns the response.
    ///
    /// # Errors
    ///
    /// Returns an error if the request cannot be passed on, or the origin does not respond in time.
    pub async fn exchange<B>(
        &self,
        mut head: Parts,
        body: B,
        from: OriginExchange<'_>,
    ) -> Result<Response<ResponseBody>, OriginError>
    where
        B: Body<Data = Bytes, Error: Into<BodyStreamError>> + Send + 'static,
    {
        if fields::has_own_via(&head.headers) {
            return Err(OriginError::Loop);
        }
        let (version, coding) = (head.version, self.coding(&head));
        let client = head.extensions.remove::<OnUpgrade>();
        let upgrade =
            client.filter(|_| version == Version::HTTP_11 && fields::is_websocket(&head.headers));
        let rewrites = self.settings.rewrite_tags && !from.tags.is_empty();
        let is_page = (self.settings.inject || rewrites) && page::may_be_page(&head);
        let place = self.clients.acquire_slot(from.client).ok_or(OriginError::Busy)?;
        let upload = UploadState::new(Some(place));
        let is_head = head.method == Method::HEAD;
        let asked = head.uri.path_and_query().cloned();
        let body = UploadBody::new(body, self.upload_limits(), upload.clone());
        let request = self.request(head, body, from, upgrade.is_some(), is_page)?;
        let pool = if upgrade.is_some() { &self.http1 } else { &self.any };
        let mut answer = self.answered(pin!(pool.send(request, &upload)), &upload).await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let client = upgrade.ok_or(OriginError::Unreachable(None))?;
            let origin = hyper::upgrade::on(&mut answer);
            return Ok(self.switch(answer.map(drop), (client, origin), upload));
        }
        let version = answer.version();
        let (mut head, body) = answer.into_parts();
        let trailers = TrailerAnnouncement::of(&head.headers, &self.settings.trailers);
        fields::strip(&mut head.headers);
        fields::add_via(&mut head.headers, version);
        trailers.write(&mut head.headers);
        head.version = Version::default();
        let asked = asked.as_ref().map_or("", PathAndQuery::as_str);
        self.own.map((from.authority, from.secure), asked).apply(&mut head.headers);
        if !is_page {
            return Ok(Response::from_parts(head, ResponseBody::stream(body)));
        }
        let (encoding, names_charset) = match page::kind(&head) {
            page::OriginResponseKind::Page { encoding, names_charset } => (encoding, names_charset),
            kind => {
                if let page::OriginResponseKind::Left(reason) = kind
                    && self.settings.inject
                {
                    from.report.report(reason);
                }
                page::pass(&mut head);
                return Ok(Response::from_parts(head, ResponseBody::stream(body)));
            }
        };
        if is_head {
            page::announce(&mut head, coding);
            return Ok(Response::from_parts(head, ResponseBody::stream(body)));
        }
        let events = from.events.unwrap_or(from.authority);
        let task = PageEditPlan {
            injects: self.settings.inject,
            tags: if rewrites { from.tags.clone() } else { Arc::default() },
            admitted: CspScriptRules::of(&head.headers, CspHosts { page: from.authority, events }),
            authority: from.authority.to_owned(),
            secure: from.secure,
            events: events.to_owned(),
            names_charset,
            report: from.report.clone(),
        };
        if task.admitted.may_load(None) {
            hints::prune(&mut head.headers, &task.tags);
        }
        let limits =
            PageLimits { tag: self.settings.tag_bytes, inline: self.settings.inline_bytes };
        let rewriter = PageRewriter::new(encoding, task, limits);
        let body = Box::pin(page::rewritten(&mut head, body, rewriter, coding)).await;
        Ok(Response::from_parts(head, body))
    }

    /// Returns the head of the response, if it arrives within `head_time` of the request's latest progress.
    async fn answered(
        &self,
        mut sending: Pin<
            &mut impl Future<Output = Result<Response<OriginResponseBody>, BodyStreamError>>,
        >,
        upload: &UploadState,
    ) -> Result<Response<OriginResponseBody>, OriginError> {
        loop {
            match timeout_at(upload.progress() + self.settings.head_time, sending.as_mut()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => {
                    return Err(upload.error().map_or_else(|| failure(error), Into::into));
                }
                // The upload progressed meanwhile, or waits for its client.
                Err(_elapsed) if upload.progress() + self.settings.head_time > Instant::now() => {}
                Err(_elapsed) => return Err(OriginError::Timeout),
            }
        }
    }

    fn upload_limits(&self) -> UploadLimits {
        UploadLimits {
            bytes: self.settings.upload_bytes as u64,
            idle_timeout: self.settings.upload_idle_timeout,
            trailers: self.settings.trailers.clone(),
        }
    }

    /// Returns the compression of a page for the client; the inner `None` if the client accepts none of ours.
    fn coding(&self, head: &Parts) -> Option<Option<PageCompression>> {
        let accepts = head.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        self.settings.compress.then(|| PageCompression::best(accepts.unwrap_or_default()))
    }

    fn request<B>(
        &self,
        head: Parts,
        body: UploadBody<B>,
        from: OriginExchange<'_>,
        upgrades: bool,
        is_page: bool,
    ) -> Result<Request<OriginRequestBody>, OriginError>
    where
        B: Body<Data = Bytes, Error: Into<BodyStreamError>> + Send + 'static,
    {
        let path = head.uri.path_and_query().filter(|path| path.as_str().starts_with('/'));
        let path = path.filter(|_| head.method != Method::CONNECT).ok_or(OriginError::Unfit)?;
        let hint = body.size_hint();
        if hint.lower() > self.settings.upload_bytes as u64 {
            return Err(UploadError::TooLarge.into());
        }
        let uri = Uri::from(path.clone());
        let mut sent = head.headers;
        let trailers = TrailerAnnouncement::of(&sent, &self.settings.trailers);
        fields::strip(&mut sent);
        fields::join_cookies(&mut sent);
        fields::set_forwarded_fields(&mut sent, from.client, from.secure, from.authority);
        fields::add_via(&mut sent, head.version);
        trailers.write(&mut sent);
        let host = if self.settings.preserve_host {
            HeaderValue::from_str(from.authority).map_err(|_unfit| OriginError::Unfit)?
        } else {
            self.authority.clone()
        };
        sent.insert(HOST, host);
        // The framing follows from the body: the client's framing fields were for its own connection.
        let has_length = sent.remove(CONTENT_LENGTH).is_some();
        sent.remove(TRANSFER_ENCODING);
        if let Some(length) = hint.exact().filter(|&length| has_length || length > 0) {
            sent.insert(CONTENT_LENGTH, length.into());
        }
        // With these methods a body of unknown length goes out over HTTP/1 only if its framing is named.
        if hint.exact().is_none() && [Method::GET, Method::HEAD].contains(&head.method) {
            sent.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if is_page {
            sent.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if upgrades {
            sent.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            sent.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        let mut request = Request::new(body.boxed_unsync());
        *request.method_mut() = head.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = sent;
        Ok(request)
    }

    /// Returns the response to a client whose connection is joined to one to the origin.
    fn switch(
        &self,
        answer: Response<()>,
        (client, origin): (OnUpgrade, OnUpgrade),
        upload: Arc<UploadState>,
    ) -> Response<ResponseBody> {
        let (mut head, ()) = answer.into_parts();
        fields::strip(&mut head.headers);
        fields::add_via(&mut head.headers, Version::HTTP_11);
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        head.extensions.clear();
        let tunnel = tunnel::run(client, origin, self.settings.idle_timeout);
        // It counts as a request of its client until it ends.
        head.extensions.insert(UpgradeTunnel::new(tunnel.map(move |()| drop(upload))));
        Response::from_parts(head, ResponseBody::default())
    }
}

fn failure(error: BodyStreamError) -> OriginError {
    let mut source: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(cause) = source {
        if cause.is::<PrivateAddressError>() {
            return OriginError::Forbidden;
        }
        let cause_of_io = cause.downcast_ref::<io::Error>();
        if cause_of_io.is_some_and(|it| it.kind() == io::ErrorKind::TimedOut) {
            return OriginError::Timeout;
        }
        source = cause.source();
    }
    OriginError::Unreachable(Some(error))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use http_body_util::{Empty, StreamBody};
    use hyper::body::Frame;

    use super::*;

    pub(in crate::origin) fn settings(origin: &str) -> OriginSettings {
        let time = Duration::from_secs(5);
        OriginSettings {
            origin: origin.parse().unwrap(),
            inject: true,
            rewrite_tags: true,
            compress: true,
            preserve_host: true,
            connect_timeout: time,
            head_time: time,
            idle_timeout: time,
            upload_bytes: 1 << 20,
            upload_idle_timeout: time,
            client_requests: 2,
            trailers: Arc::new([]),
            tag_bytes: 1 << 20,
            inline_bytes: 1 << 20,
            streams: 100,
            stream_bytes: 1 << 18,
            ping_interval: time,
            ping_timeout: time,
            idle_time: time,
            idle_connections: 1,
        }
    }

    /// Guarded addresses are not connected to, however the origin is named.
    #[tokio::test]
    async fn guarded_addresses_are_not_connected_to() {
        for literal in ["http://127.0.0.1:1", "https://[::1]", "http://2130706433"] {
            let refused = OriginClient::new(settings(literal), |_| false);
            assert!(matches!(refused, Err(OriginError::Forbidden)), "{literal}");
        }
        let origin = OriginClient::new(settings("http://localhost:1"), |_| false).unwrap();
        let from = OriginExchange {
            client: "127.0.0.1".parse().unwrap(),
            secure: false,
            authority: "t.shop.example",
            tags: &Arc::default(),
            events: None,
            report: &PageSkipReporter::new(|_| {}),
        };
        let (head, ()) = Request::new(()).into_parts();
        let body = Empty::new().map_err(|never| match never {});
        let answer = origin.exchange::<OriginRequestBody>(head, body.boxed_unsync(), from);
        assert!(matches!(answer.await, Err(OriginError::Forbidden)));
    }

    /// The time of an upload is limited by the client's progress; the origin's time starts at its end.
    #[tokio::test(start_paused = true)]
    async fn origin_head_time_starts_at_the_uploads_latest_progress() {
        let origin = OriginClient::new(settings("http://localhost:1"), |_| true).unwrap();
        let time = origin.settings.head_time;
        let pieces = futures_util::stream::unfold(20, |left| async move {
            tokio::time::sleep(Duration::from_secs(4)).await;
            let piece = Ok::<_, BodyStreamError>(Frame::data(Bytes::from_static(b"x")));
            (left > 0).then_some((piece, left - 1))
        });
        let state = UploadState::new(None);
        let mut body =
            UploadBody::new(StreamBody::new(pieces), origin.upload_limits(), state.clone());
        let began = Instant::now();
        let sending = async {
            while let Some(piece) = body.frame().await {
                piece?;
            }
            std::future::pending().await
        };
        let answer = origin.answered(pin!(sending), &state).await;
        assert!(matches!(answer, Err(OriginError::Timeout)));
        assert_eq!(began.elapsed().as_secs(), 21 * 4 + time.as_secs());
    }
}
