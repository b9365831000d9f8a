//! TLS for a listener beside the edge, the operators' one: the same versions, protocols and choice of certificates.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::settings::HANDSHAKE_TIME;
use super::tls::{self, CertificateExpiry, HTTP1_ONLY, LoadedCertificates};
use super::{CertificateFiles, EdgeError};

/// The certificates of a listener beside the edge. They can be replaced while it runs.
#[derive(Clone)]
pub struct TlsTerminator(Arc<ArcSwap<TerminatorState>>);

struct TerminatorState {
    /// Offers both versions of HTTP.
    all_versions: TlsAcceptor,
    http1_only: TlsAcceptor,
    expiries: Vec<CertificateExpiry>,
}

/// The versions of HTTP that a listener offers to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersionOffer {
    /// HTTP/2, and HTTP/1.1 for clients without it.
    All,
    /// HTTP/1.1, also for clients that prefer HTTP/2.
    Http1,
}

/// A connection whose TLS ends here.
pub struct TerminatedStream {
    /// The stream of decrypted bytes.
    pub stream: TlsStream<TcpStream>,
    /// True if the client chose HTTP/2.
    pub is_http2: bool,
}

impl TlsTerminator {
    /// Reads the certificates; the first is for clients that name no host.
    ///
    /// # Errors
    ///
    /// Returns an error if a certificate or its key cannot be read or used.
    pub async fn load(files: &[CertificateFiles]) -> Result<Self, EdgeError> {
        let LoadedCertificates { config, expiries } = tls::server_config(files).await?;
        let mut http1 = config.clone();
        http1.alpn_protocols = HTTP1_ONLY.map(<[u8]>::to_vec).to_vec();
        let state = TerminatorState {
            all_versions: TlsAcceptor::from(Arc::new(config)),
            http1_only: TlsAcceptor::from(Arc::new(http1)),
            expiries,
        };
        Ok(Self(Arc::new(ArcSwap::from_pointee(state))))
    }

    /// Takes over the certificates of another one. Connections stay; new ones use the new certificates.
    pub fn replace_with(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// Performs the handshake with a client, within the time limit.
    ///
    /// # Errors
    ///
    /// Returns an error if the client and the listener do not agree, or not in time.
    pub async fn accept(
        &self,
        stream: TcpStream,
        offer: HttpVersionOffer,
    ) -> io::Result<TerminatedStream> {
        let state = self.0.load_full();
        let acceptor = match offer {
            HttpVersionOffer::All => &state.all_versions,
            HttpVersionOffer::Http1 => &state.http1_only,
        };
        let stream = timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await??;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(TerminatedStream { stream, is_http2 })
    }

    /// Returns the expiry of the certificates in use.
    pub fn expiries(&self) -> Vec<CertificateExpiry> {
        self.0.load().expiries.clone()
    }
}
