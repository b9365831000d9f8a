//! The edge: sockets to requests, and answers back.
//!
//! It accepts connections, ends TLS, parses HTTP within limits, finds the client's address through
//! trusted proxies, and hands each request to a [`RequestHandler`]. It knows no route. What a client can
//! hold is bounded and timed: connections, header bytes and time, requests in flight, unread
//! answers. The body is the handler's to read within limits of its own.

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

pub use settings::{CertificateFiles, EdgeLimits, EdgeSettings, ForwardedField};
pub use tls::CertificateExpiry;

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
use crate::answer::ResponseBody;
use crate::metrics::Metrics;

/// The body of an answer.
pub type EdgeResponseBody = ResponseBody;

/// What the edge knows of a request besides the request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeClientFacts {
    /// The other end of the connection, or the one that a PROXY header names.
    pub peer: IpAddr,
    /// The client, through trusted proxies.
    pub client: IpAddr,
    /// Whether the client speaks TLS: to us, or to a trusted proxy that says so.
    pub secure: bool,
}

/// Answers requests.
pub trait RequestHandler: Send + Sync + 'static {
    /// Answers one request. Dropped if the client goes away.
    fn handle(
        &self,
        request: Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> BoxFuture<'static, Response<EdgeResponseBody>>;

    /// Answers a request for which there is no place, at once and by its head alone.
    fn overloaded(
        &self,
        request: &Request<Incoming>,
        arrival: EdgeClientFacts,
    ) -> Response<EdgeResponseBody>;

    /// Returns true if the host that a request names is served here.
    fn serves(&self, request: &Request<Incoming>) -> bool;

    /// Is told of a request that the edge answers itself, and may add to the answer's head.
    fn answered(
        &self,
        request: &Request<Incoming>,
        arrival: EdgeClientFacts,
        answer: Response<EdgeResponseBody>,
    ) -> Response<EdgeResponseBody>;
}

/// Why the edge cannot start, or cannot take new settings.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// An address cannot be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of a certificate cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate and its key cannot be used.
    #[error("the certificate {} cannot be used", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A certificate's file holds none.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// The certificate's file.
        path: PathBuf,
    },
    /// A key is that of another certificate.
    #[error("the key in {} is not that of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// TLS itself cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// Reads the certificates as a start does, and returns when they expire.
pub async fn check(settings: &EdgeSettings) -> Result<Vec<CertificateExpiry>, EdgeError> {
    LiveEdgeSettings::load(settings).await.map(|live| live.expiries)
}

/// The bound listeners.
pub struct EdgeServer {
    http: Option<TcpListener>,
    https: Option<TcpListener>,
    http_addr: Option<SocketAddr>,
    https_addr: Option<SocketAddr>,
    shared: Arc<EdgeContext>,
}

/// Gives a running server new settings.
#[derive(Clone)]
pub struct EdgeReloadHandle(Arc<EdgeContext>);

impl EdgeServer {
    /// Reads the certificates and binds the listeners. Nothing is accepted yet.
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

    /// Where plain HTTP is served.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http_addr
    }

    /// Where TLS is served.
    pub fn https_addr(&self) -> Option<SocketAddr> {
        self.https_addr
    }

    /// The handle for later settings.
    pub fn reload_handle(&self) -> EdgeReloadHandle {
        EdgeReloadHandle(self.shared.clone())
    }

    /// Serves until `drain` is cancelled; then closes the listeners, lets requests under way finish
    /// within `limits.drain_time`, cuts what is left, and returns.
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
            tracing::warn!(tasks = ends.tasks.len(), "the drain time is over");
            ends.cut.cancel();
            // What is left of a cut connection ends at its next step.
            tokio::time::timeout(drain_time, ends.tasks.wait()).await.ok();
        }
    }
}

impl EdgeReloadHandle {
    /// Takes the certificates, the trusted proxies and the limits of these settings. Connections
    /// stay; those that come see the new settings. On an error the old settings stay. The
    /// addresses do not move, and a listener for TLS keeps its certificates as long as it has no
    /// others: it would be open to nobody.
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

    /// The expiry of the certificates in use.
    pub fn expiries(&self) -> Vec<CertificateExpiry> {
        self.0.live.load().expiries.clone()
    }
}
