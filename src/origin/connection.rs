//! The pooled connections to an origin, and one request over them.
//!
//! An origin closes connections that are unused for long, and may do so just when the next request is
//! on its way. Such a request goes once more, over a connection made for it, if nothing is lost or
//! done twice by that.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Extensions, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use super::settings::Settings;
use crate::answer::BodyError;

/// Whether an address may be connected to.
pub type Guard = fn(IpAddr) -> bool;

/// The body of a request.
pub(super) type Sent = UnsyncBoxBody<Bytes, BodyError>;

/// Connections to one origin.
pub(super) struct Pool {
    kept: Client<HttpsConnector<Connector>, Reserved>,
    /// Keeps none.
    fresh: Client<HttpsConnector<Connector>, Reserved>,
}

impl Pool {
    /// Nothing is connected yet.
    pub(super) fn new(
        settings: &Settings,
        tls: &ClientConfig,
        guard: Guard,
        is_http1: bool,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(guard));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(settings.connect_timeout));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let connector = if is_http1 {
            tls.enable_http1().wrap_connector(Connector(tcp))
        } else {
            tls.enable_http1().enable_http2().wrap_connector(Connector(tcp))
        };
        let client = |connections: usize| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(settings.idle_time)
                .pool_max_idle_per_host(connections)
                .set_host(false)
                .build(connector.clone())
        };
        Self { kept: client(settings.idle_connections), fresh: client(0) }
    }

    /// The head of the answer, and what follows it.
    pub(super) async fn send(
        &self,
        request: Request<Sent>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (head, body) = request.into_parts();
        let (body, reserve) = Reserved::new(body);
        let mut again = Request::new(());
        (*again.method_mut(), *again.uri_mut()) = (head.method.clone(), head.uri.clone());
        *again.headers_mut() = head.headers.clone();
        let error = match self.kept.request(Request::from_parts(head, body)).await {
            Ok(mut answer) => {
                if let Some(Used(used)) = answer.extensions_mut().remove() {
                    used.store(true, Ordering::Relaxed);
                }
                return Ok(answer);
            }
            Err(error) => error,
        };
        let is_safe = |body: &Sent| !body.is_end_stream() || again.method().is_idempotent();
        match reserve.take().filter(is_safe) {
            Some(body) if is_stale(&error) => {
                self.fresh.request(again.map(|()| Reserved::new(body).0)).await
            }
            _ => Err(error),
        }
    }
}

/// Whether a connection that had served before was at its end.
fn is_stale(error: &ClientError) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    let was_used = extras.get().is_some_and(|Used(used)| used.load(Ordering::Relaxed));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<hyper::Error>());
    was_used && cause.is_some_and(|it| !it.is_parse() && !it.is_user() && !it.is_timeout())
}

/// A body that can be had back until it is begun.
struct Reserved {
    reserve: Reserve,
    begun: Option<Sent>,
    is_empty: bool,
    hint: SizeHint,
}

#[derive(Clone)]
struct Reserve(Arc<Mutex<Option<Sent>>>);

impl Reserve {
    fn take(&self) -> Option<Sent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Reserved {
    fn new(body: Sent) -> (Self, Reserve) {
        let (is_empty, hint) = (body.is_end_stream(), body.size_hint());
        let reserve = Reserve(Arc::new(Mutex::new(Some(body))));
        (Self { reserve: reserve.clone(), begun: None, is_empty, hint }, reserve)
    }
}

impl Body for Reserved {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.begun.is_none() {
            self.begun = self.reserve.take();
        }
        match &mut self.begun {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.as_ref().map_or(self.is_empty, Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.begun.as_ref().map_or_else(|| self.hint, Body::size_hint)
    }
}

/// Whether a connection has brought an answer.
#[derive(Clone)]
struct Used(Arc<AtomicBool>);

/// Makes connections that know whether they were used.
#[derive(Clone)]
struct Connector(HttpConnector<Resolver>);

struct Stream {
    tcp: TokioIo<TcpStream>,
    used: Used,
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BodyError;
    type Future = BoxFuture<'static, Result<Stream, BodyError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let tcp = connecting.await?;
            Ok(Stream { tcp, used: Used(Arc::default()) })
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.tcp.connected().extra(self.used.clone())
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, parts)
    }
}

/// What the guard says instead of an address.
#[derive(Debug, thiserror::Error)]
#[error("every address of the name is private or reserved")]
pub(super) struct Guarded;

/// Resolves names, leaving out the addresses that the guard refuses. The connection is made to the
/// very addresses that were checked, so that a second answer cannot differ.
#[derive(Clone, Copy)]
struct Resolver(Guard);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    /// Not `io::Error`, whose source hides what it was made of.
    type Error = BodyError;
    type Future = BoxFuture<'static, Result<Self::Response, BodyError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| guard(address.ip())).collect();
            if allowed.is_empty() {
                return Err(Guarded.into());
            }
            Ok(allowed.into_iter())
        })
    }
}
