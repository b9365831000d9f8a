//! TLS 1.2 and 1.3: the certificate for the name that the client asks for.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::EndEntityCert;

use super::{CertificateFiles, EdgeError};

/// What is spoken over TLS, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Reads the certificates. Reading and checking them may block, so it happens aside.
pub(super) async fn server_config(files: &[CertificateFiles]) -> Result<ServerConfig, EdgeError> {
    let files = files.to_vec();
    let loaded = tokio::task::spawn_blocking(move || {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates: Result<Vec<_>, EdgeError> =
            files.iter().map(|files| load(files, &provider)).collect();
        Ok::<_, EdgeError>((provider, Certificates(certificates?)))
    });
    let (provider, certificates) = match loaded.await {
        Ok(loaded) => loaded?,
        Err(_) => return Err(rustls::Error::General("the task was stopped".to_owned()).into()),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(config)
}

fn load(
    files: &CertificateFiles,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, EdgeError> {
    let unread = |path: &Path| {
        let path = path.to_owned();
        move |source| EdgeError::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unread(&files.cert))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    // This also checks that the key is the certificate's.
    let certified = CertifiedKey::from_der(chain, key, provider)
        .map_err(|source| EdgeError::Certificate { path: files.cert.clone(), source })?;
    Ok(Arc::new(certified))
}

/// The certificates in the order of the settings.
struct Certificates(Vec<Arc<CertifiedKey>>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let found = name.and_then(|name| self.0.iter().find(|key| is_for(key, &name)));
        // A client that asks for no name, or for one we lack, sees the first and decides itself.
        found.or(self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok());
    certificate
        .is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
}
