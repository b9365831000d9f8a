//! TLS to the database. The URL's `sslmode` selects it: `disable`, `prefer` (if the server has it) or
//! `require`. Under TLS the server's certificate is always verified, by the system's roots.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Creates the connector of TLS streams to the hosts of the URL.
///
/// # Errors
///
/// Fails if the system's roots cannot be read.
pub(super) fn connector() -> Result<MakeRustlsConnect, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_platform_verifier()?
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
