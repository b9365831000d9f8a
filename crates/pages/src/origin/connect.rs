//! Makes connections to an origin, at addresses that the guard admits.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;

use super::settings::OriginSettings;
use tagway_core::address::{AddressGuard, EgressResolver};

/// The connector, with TLS where the origin's URL says https.
pub(super) type OriginConnector = HttpsConnector<HttpConnector<EgressResolver>>;

/// Creates a connector that speaks HTTP/1.1 or, where TLS negotiates it, HTTP/2.
pub(super) fn connector(
    settings: &OriginSettings,
    tls: &ClientConfig,
    guard: AddressGuard,
    is_http1: bool,
) -> OriginConnector {
    let mut tcp = HttpConnector::new_with_resolver(EgressResolver::with_guard(guard));
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
