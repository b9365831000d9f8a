//! The check of a gateway's certificate by files, where the system's authorities do not know it: of a private
//! authority, or of the gateway's own configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Trusts the certificates of a file: each as an authority, and as the gateway's own certificate.
pub(super) fn trust_authorities(file: &Path) -> anyhow::Result<ClientConfig> {
    let trusted = read(file)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let authorities =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let authorities = authorities.with_context(|| format!("{} (--admin-ca)", file.display()))?;
    client_config(FileVerifier { trusted, authorities: Some(authorities), provider })
}

/// Trusts the certificates that the configuration gives to the gateway, whatever their names: a command on the
/// gateway's machine calls it by its address.
pub(super) fn trust_own(files: &[PathBuf]) -> anyhow::Result<ClientConfig> {
    let mut trusted = Vec::new();
    for file in files {
        // The first certificate is the gateway's, the others are its chain.
        trusted.extend(read(file)?.into_iter().next());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    client_config(FileVerifier { trusted, authorities: None, provider })
}

fn read(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    let certificates: Vec<_> = certificates
        .with_context(|| format!("the certificate {} cannot be read", file.display()))?;
    if certificates.is_empty() {
        bail!("{} contains no certificate in PEM format", file.display());
    }
    Ok(certificates)
}

fn client_config(verifier: FileVerifier) -> anyhow::Result<ClientConfig> {
    let config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// Accepts exactly the trusted certificates, and those that the authorities signed for the host's name.
#[derive(Debug)]
struct FileVerifier {
    trusted: Vec<CertificateDer<'static>>,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for FileVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.trusted.iter().any(|trusted| trusted == certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(certificate, chain, name, ocsp, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
