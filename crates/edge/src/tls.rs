//! TLS 1.2 and 1.3: selects the certificate for the name that the client requests.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use webpki::EndEntityCert;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::{CertificateFiles, EdgeError};

/// The protocols offered over TLS, in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The protocols offered over TLS where HTTP/2 is not.
pub(super) const HTTP1_ONLY: [&[u8]; 1] = [b"http/1.1"];

/// The expiry of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// The first name that the certificate is for; empty if it names none.
    pub name: Arc<str>,
    /// The last moment at which clients accept it.
    pub expires_at: Timestamp,
}

impl CertificateExpiry {
    /// Returns true if the certificate has expired or does within this time.
    pub fn is_near(&self, now: Timestamp, lead: Duration) -> bool {
        // An error means a moment that has passed.
        Duration::try_from(self.expires_at.duration_since(now)).map_or(true, |left| left <= lead)
    }
}

/// The TLS configuration built from the settings' certificates.
pub(super) struct LoadedCertificates {
    pub(super) config: ServerConfig,
    pub(super) expiries: Vec<CertificateExpiry>,
}

/// Reads and checks the certificates on a blocking thread.
pub(super) async fn server_config(
    files: &[CertificateFiles],
) -> Result<LoadedCertificates, EdgeError> {
    let files = files.to_vec();
    let loaded = tokio::task::spawn_blocking(move || {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates: Result<Vec<_>, EdgeError> =
            files.iter().map(|files| load(files, &provider)).collect();
        Ok::<_, EdgeError>((provider, certificates?))
    });
    let (provider, certificates) = match loaded.await {
        Ok(loaded) => loaded?,
        Err(_) => return Err(rustls::Error::General("the task was stopped".to_owned()).into()),
    };
    let expiries = certificates.iter().filter_map(|certificate| expiry(certificate)).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(CertificateResolver(certificates)));
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(LoadedCertificates { config, expiries })
}

/// Checks the files of a certificate as a start reads them. `Err` names the wrong key of the settings and describes
/// the problem. It may block.
pub(super) fn check(files: &CertificateFiles) -> Result<(), (&'static str, String)> {
    let Err(error) = load(files, &aws_lc_rs::default_provider()) else { return Ok(()) };
    let key = match &error {
        EdgeError::Read { path, .. } if *path == files.cert => "cert",
        EdgeError::Read { .. } | EdgeError::Mismatch { .. } => "key",
        _ => "cert",
    };
    let message = match error {
        EdgeError::Read { source: pem::Error::Io(source), .. } => {
            format!("the file cannot be read: {source}")
        }
        EdgeError::Read { source: pem::Error::NoItemsFound, .. } if key == "key" => {
            "the file contains no private key in PEM format".to_owned()
        }
        EdgeError::Read { source, .. } => format!("the file is not in PEM format: {source}"),
        EdgeError::Mismatch { .. } => "the key does not belong to the certificate".to_owned(),
        EdgeError::Empty { .. } => "the file contains no certificate in PEM format".to_owned(),
        EdgeError::Certificate { source, .. } => {
            format!("the certificate cannot be used: {source}")
        }
        other => other.to_string(),
    };
    Err((key, message))
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
    if chain.is_empty() {
        return Err(EdgeError::Empty { path: files.cert.clone() });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unread(&files.key))?;
    // This also checks that the key matches the certificate.
    let certified =
        CertifiedKey::from_der(chain, key, provider).map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => {
                EdgeError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
            }
            source => EdgeError::Certificate { path: files.cert.clone(), source },
        })?;
    Ok(Arc::new(certified))
}

fn expiry(certified: &CertifiedKey) -> Option<CertificateExpiry> {
    let (_, certificate) = parse_x509_certificate(certified.end_entity_cert().ok()?).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let name =
        names.iter().flat_map(|names| &names.value.general_names).find_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
    let expires_at = Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()?;
    Some(CertificateExpiry { name: name.unwrap_or_default().into(), expires_at })
}

/// The certificates in the order of the settings.
struct CertificateResolver(Vec<Arc<CertifiedKey>>);

impl fmt::Debug for CertificateResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificates({})", self.0.len())
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let found = name.and_then(|name| self.0.iter().find(|key| is_for(key, &name)));
        // A client that names no host, or an unknown one, gets the first and decides itself.
        found.or(self.0.first()).cloned()
    }
}

fn is_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.end_entity_cert().ok().and_then(|der| EndEntityCert::try_from(der).ok());
    certificate
        .is_some_and(|certificate| certificate.verify_is_valid_for_subject_name(name).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_near_within_the_lead_and_ever_after() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let expiry =
            CertificateExpiry { name: "a.example".into(), expires_at: at("2026-11-23T10:00:00Z") };
        for (now, near) in [
            ("2026-11-22T09:59:59Z", false),
            ("2026-11-22T10:00:00Z", true),
            ("2026-11-23T10:00:00Z", true),
            ("2027-11-23T10:00:00Z", true),
        ] {
            assert_eq!(expiry.is_near(at(now), Duration::from_secs(86_400)), near, "{now}");
        }
    }
}
