//! The edge: turns sockets into requests, and writes the responses.
//!
//! It accepts connections, terminates TLS, parses HTTP within limits, finds the client's address through trusted
//! proxies, and hands each request to a [`RequestHandler`]. It knows no route. Every resource that a client can
//! occupy is bounded and timed: connections, header bytes and time, active requests, unread responses. The handler
//! reads the body within limits of its own.

mod client_addr;
mod connection;
mod connection_activity;
mod head;
mod listener;
mod proxy_protocol;
mod redirect;
mod response_backpressure;
mod settings;
mod slots;
#[cfg(test)]
mod tests;
mod tls;
mod tls_terminator;

pub use client_addr::{ForwardedClient, resolve_client};
pub use connection::TrackedExecutor;
pub use settings::{
    CONNECTION_LIMIT_SETTINGS, CertificateFiles, EdgeLimits, EdgeSettings, ForwardedField,
    LISTEN_SETTINGS, TLS_SETTINGS,
};
pub use tls::CertificateExpiry;
pub use tls_terminator::{HttpVersionOffer, TerminatedStream, TlsTerminator};

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::connection::EdgeContext;
use self::listener::{ListenerScheme, ShutdownSignals};
use self::settings::LiveEdgeSettings;
use tagway_core::answer::ResponseBody;
use tagway_core::metrics::Metrics;

/// The body of a response.
pub type EdgeResponseBody = ResponseBody;

/// The edge's facts about a request besides the request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeClientFacts {
    /// The other end of the connection, or the source that a PROXY header names.
    pub peer: IpAddr,
    /// The client's address, found through trusted proxies.
    pub client: IpAddr,
    /// True if the client uses TLS: to the edge, or to a trusted proxy that reports it.
    pub secure: bool,
}

/// The application's side of the edge: it responds to requests.
pub trait RequestHandler: Send + Sync + 'static {
    /// Responds to one request. Dropped if the client goes away.
    fn handle(
        &self,
        request: Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> BoxFuture<'static, Response<EdgeResponseBody>>;

    /// Responds to a request beyond the limit of active requests, at once and from its head alone.
    fn respond_overloaded(
        &self,
        request: &Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> Response<EdgeResponseBody>;

    /// Returns true if the host that a request names is served here.
    fn is_host_served(&self, request: &Request<Incoming>) -> bool;

    /// Receives a request that the edge responds to itself, and may add header fields to the response.
    fn record_edge_response(
        &self,
        request: &Request<Incoming>,
        arrival: EdgeClientFacts,
        answer: Response<EdgeResponseBody>,
    ) -> Response<EdgeResponseBody>;
}

/// An error that keeps the edge from starting, or from applying new settings.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The listener's address.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A certificate or key file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file's path.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate and its key cannot be used.
    #[error("the certificate {} cannot be used", path.display())]
    Certificate {
        /// The path of the certificate's file.
        path: PathBuf,
        /// The TLS library's error.
        #[source]
        source: rustls::Error,
    },
    /// A certificate's file contains no certificate.
    #[error("{} contains no certificate", path.display())]
    Empty {
        /// The path of the certificate's file.
        path: PathBuf,
    },
    /// A key belongs to another certificate.
    #[error("the key in {} does not belong to the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The path of the certificate's file.
        cert: PathBuf,
        /// The path of the key's file.
        key: PathBuf,
    },
    /// The TLS configuration cannot be built.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Reads the certificates as a start does, and returns when they expire.
///
/// # Errors
///
/// Returns an error if a certificate or its key cannot be read or used.
pub async fn check(settings: &EdgeSettings) -> Result<Vec<CertificateExpiry>, EdgeError> {
    LiveEdgeSettings::load(settings).await.map(|live| live.expiries)
}

/// The server with its bound listeners.
pub struct EdgeServer {
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    http_addr: Option<SocketAddr>,
    https_addr: Option<SocketAddr>,
    shared: Arc<EdgeContext>,
}

/// The handle that gives a running server new settings.
#[derive(Clone)]
pub struct EdgeReloadHandle(Arc<EdgeContext>);

impl EdgeServer {
    /// Reads the certificates and binds the listeners. No connection is accepted yet.
    ///
    /// # Errors
    ///
    /// Returns an error if a certificate cannot be used or an address cannot be bound.
    pub async fn bind(
        settings: &EdgeSettings,
        metrics: Arc<Metrics>,
        handler: Arc<dyn RequestHandler>,
    ) -> Result<Self, EdgeError> {
        let live = LiveEdgeSettings::load(settings).await?;
        let http = settings.http.map(listener::bind).transpose()?;
        let https = settings.https.map(listener::bind).transpose()?;
        let address = |listener: &Option<TcpListener>| {
            listener.as_ref().and_then(|listener| listener.local_addr().ok())
        };
        let (http_addr, https_addr) = (address(&http), address(&https));
        let shared = Arc::new(EdgeContext::new(ArcSwap::from_pointee(live), metrics, handler));
        Ok(Self { http, https, http_addr, https_addr, shared })
    }

    /// Returns the address of the plain HTTP listener.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Returns the address of the TLS listener.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https_addr
    }

    /// Returns the handle for later settings.
    pub fn reload_handle(&self) -> EdgeReloadHandle {
        EdgeReloadHandle(self.shared.clone())
    }

    /// Serves until `drain` is cancelled; then closes the listeners, lets active requests finish within
    /// `limits.drain_time`, cuts the remaining connections, and returns.
    pub async fn serve(self, drain: CancellationToken) {
        let ends = ShutdownSignals {
            drain: drain.clone(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let listeners = [(self.http, ListenerScheme::Http), (self.https, ListenerScheme::Https)];
        let loops = listeners.into_iter().filter_map(|(listener, scheme)| {
            Some(listener::accept(listener?, scheme, self.shared.clone(), ends.clone()))
        });
        futures_util::future::join_all(loops).await;
        drain.cancelled().await;
        ends.tasks.close();
        let drain_time = self.shared.live.load().limits.drain_time;
        if tokio::time::timeout(drain_time, ends.tasks.wait()).await.is_err() {
            tracing::warn!(
                tasks = ends.tasks.len(),
                "the drain time is over: the remaining connections \
                are closed"
            );
            ends.cut.cancel();
            // The tasks of cut connections end at their next step.
            tokio::time::timeout(drain_time, ends.tasks.wait()).await.ok();
        }
    }
}

impl EdgeReloadHandle {
    /// Applies the certificates, the trusted proxies and the limits of these settings. Connections stay; new ones
    /// use the new settings. On an error the old settings stay. The addresses do not change, and a TLS listener
    /// without new certificates keeps its old ones: without any it could serve no client.
    ///
    /// # Errors
    ///
    /// Returns an error if a certificate or its key cannot be read or used.
    pub async fn reload(&self, settings: &EdgeSettings) -> Result<(), EdgeError> {
        let mut live = LiveEdgeSettings::load(settings).await?;
        if live.acceptor.is_none() {
            let running = self.0.live.load();
            live.acceptor.clone_from(&running.acceptor);
            live.expiries.clone_from(&running.expiries);
        }
        self.0.live.store(Arc::new(live));
        Ok(())
    }

    /// Returns the expiry of the certificates in use.
    pub fn expiries(&self) -> Vec<CertificateExpiry> {
        self.0.live.load().expiries.clone()
    }
}
