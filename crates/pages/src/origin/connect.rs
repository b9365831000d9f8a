//! Makes connections to an origin, and guards to which addresses.

use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::ClientConfig;
use tower_service::Service;

use super::settings::OriginSettings;
use tagway_core::answer::BodyStreamError;

/// A function that returns true if an address may be connected to.
pub type AddressGuard = fn(IpAddr) -> bool;

/// The connector, with TLS where the origin's URL says https.
pub(super) type OriginConnector = HttpsConnector<HttpConnector<OriginResolver>>;

/// Creates a connector that speaks HTTP/1.1 or, where TLS negotiates it, HTTP/2.
pub(super) fn connector(
    settings: &OriginSettings,
    tls: &ClientConfig,
    guard: AddressGuard,
    is_http1: bool,
) -> OriginConnector {
    let mut tcp = HttpConnector::new_with_resolver(OriginResolver(guard));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(settings.connect_timeout));
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    if is_http1 {
        tls.enable_http1().wrap_connector(tcp)
    } else {
        tls.enable_http1().enable_http2().wrap_connector(tcp)
    }
}

/// The guard's error when no address of a name is admitted.
#[derive(Debug, thiserror::Error)]
#[error("every address of the name is private or reserved")]
pub(super) struct PrivateOriginError;

/// Resolves names, leaving out the addresses that the guard refuses. The connection is made to the very addresses
/// that were checked, so that a second lookup cannot differ.
#[derive(Clone, Copy)]
pub(super) struct OriginResolver(AddressGuard);

impl Service<Name> for OriginResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    /// Not `io::Error`, whose `source` hides the error that it was made from.
    type Error = BodyStreamError;
    type Future = BoxFuture<'static, Result<Self::Response, BodyStreamError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BodyStreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let guard = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| guard(address.ip())).collect();
            if allowed.is_empty() {
                return Err(PrivateOriginError.into());
            }
            Ok(allowed.into_iter())
        })
    }
}
