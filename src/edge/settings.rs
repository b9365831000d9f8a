//! What `[listen]`, `[limits]` and `[tls]` say to the edge.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::EdgeError;
use super::tls::{self, CertificateExpiry, LoadedCertificates};
use crate::settings::SettingsSection;

/// The edge's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Where plain HTTP is served.
    pub http: Option<SocketAddr>,
    /// Where TLS is served.
    pub https: Option<SocketAddr>,
    /// Whose word on the client is believed: their forwarding field and PROXY headers.
    pub trusted_proxies: Vec<IpNet>,
    /// The field in which they name the client.
    pub forwarded: ForwardedField,
    /// Whether connections start with a PROXY header.
    pub proxy_protocol: bool,
    /// Whether plain requests are sent to HTTPS.
    pub redirect_to_https: bool,
    /// The port of HTTPS that clients see.
    pub redirect_port: u16,
    /// What clients may hold.
    pub limits: EdgeLimits,
    /// The certificates; the first is for clients that name no host.
    pub certificates: Vec<CertificateFiles>,
    /// For the TLS handshake.
    pub handshake_time: Duration,
    /// How long before a certificate expires operators are warned.
    pub expiry_warning: Duration,
    /// How long browsers are to insist on TLS; zero says nothing.
    pub hsts_max_age: Duration,
}

/// The field in which trusted proxies name the client. The other one is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedField {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the certificate first, then its chain.
    pub cert: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// The edge's part of `[limits]`: what clients may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one client (/32 of IPv4, /64 of IPv6) at once.
    pub connections_per_client: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Fields of a request's head.
    pub headers: usize,
    /// For a request's head, and for a connection's first request.
    pub header_time: Duration,
    /// Between two requests of a connection.
    pub idle_time: Duration,
    /// For a client to read some of its answer.
    pub write_time: Duration,
    /// Requests at once.
    pub requests_in_flight: usize,
    /// Streams of one HTTP/2 connection at once.
    pub http2_streams: u32,
    /// Streams that a client may reset faster than they are served.
    pub http2_resets: usize,
    /// For requests under way when the gateway stops.
    pub drain_time: Duration,
}

impl EdgeSettings {
    /// Reads the edge's keys of the three tables.
    pub fn read(
        listen: &mut SettingsSection<'_>,
        limits: &mut SettingsSection<'_>,
        tls: &mut SettingsSection<'_>,
    ) -> Self {
        let mut certificates = Vec::new();
        for mut section in tls.sections("certificates", None) {
            let (cert, key) = (section.path("cert"), section.path("key"));
            // Messages name the file, and must not hold a key instead.
            for (name, path) in [("cert", &cert), ("key", &key)] {
                if path.to_string_lossy().contains("-----BEGIN") {
                    section.error(name, "must be a file's path, not what is in the file");
                }
            }
            let are_paths = [&cert, &key].iter().all(|path| {
                !path.as_os_str().is_empty() && !path.to_string_lossy().contains("-----BEGIN")
            });
            let files = CertificateFiles { cert, key };
            if let (true, Err((name, message))) = (are_paths, tls::check(&files)) {
                section.error(name, &message);
            }
            certificates.push(files);
        }
        let settings = Self {
            http: listen.opt_parsed("http"),
            https: listen.opt_parsed("https"),
            trusted_proxies: listen.parsed_list("trusted_proxies"),
            forwarded: listen.choice(
                "forwarded",
                &[
                    ("x-forwarded-for", ForwardedField::XForwardedFor),
                    ("forwarded", ForwardedField::Forwarded),
                ],
            ),
            proxy_protocol: listen.boolean("proxy_protocol"),
            redirect_to_https: listen.boolean("redirect_to_https"),
            redirect_port: listen.integer("redirect_port", 1..=u16::MAX),
            limits: EdgeLimits::read(limits),
            certificates,
            handshake_time: tls.positive_duration("handshake_time"),
            expiry_warning: tls.duration("expiry_warning"),
            hsts_max_age: tls.duration("hsts_max_age"),
        };
        if settings.https.is_some() && settings.certificates.is_empty() {
            listen.error("https", "needs at least one of [[tls.certificates]]");
        }
        if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
            listen.error("proxy_protocol", "needs trusted_proxies: headers of others are refused");
        }
        settings
    }
}

impl EdgeLimits {
    fn read(section: &mut SettingsSection<'_>) -> Self {
        let limits = Self {
            connections: section.integer("connections", 1..=10_000_000),
            connections_per_client: section.integer("connections_per_client", 1..=10_000_000),
            header_bytes: section.byte_count("header_bytes"),
            headers: section.integer("headers", 1..=1000),
            header_time: section.positive_duration("header_time"),
            idle_time: section.positive_duration("idle_time"),
            write_time: section.positive_duration("write_time"),
            requests_in_flight: section.integer("requests_in_flight", 1..=10_000_000),
            http2_streams: section.integer("http2_streams", 1..=10_000),
            http2_resets: section.integer("http2_resets", 1..=10_000),
            drain_time: section.duration("drain_time"),
        };
        // hyper reads no less at a time.
        if limits.header_bytes < 8 * 1024 {
            section.error("header_bytes", "must be at least 8KiB");
        }
        limits
    }
}

/// The settings that a running server can change, in the form that connections use.
pub(super) struct LiveEdgeSettings {
    pub(super) trusted: Vec<IpNet>,
    pub(super) forwarded: ForwardedField,
    pub(super) proxy_protocol: bool,
    pub(super) redirect: Option<u16>,
    pub(super) hsts: Option<HeaderValue>,
    pub(super) limits: EdgeLimits,
    pub(super) handshake_time: Duration,
    pub(super) acceptor: Option<TlsAcceptor>,
    /// The ends of the certificates' times.
    pub(super) expiries: Vec<CertificateExpiry>,
}

impl LiveEdgeSettings {
    /// Reads the certificates, and completes the rest.
    pub(super) async fn load(settings: &EdgeSettings) -> Result<Self, EdgeError> {
        let (acceptor, expiries) = if settings.certificates.is_empty() {
            (None, Vec::new())
        } else {
            let LoadedCertificates { config, expiries } =
                tls::server_config(&settings.certificates).await?;
            (Some(TlsAcceptor::from(Arc::new(config))), expiries)
        };
        let age = settings.hsts_max_age.as_secs();
        let hsts =
            (age > 0).then(|| HeaderValue::try_from(format!("max-age={age}")).ok()).flatten();
        Ok(Self {
            trusted: settings.trusted_proxies.clone(),
            forwarded: settings.forwarded,
            proxy_protocol: settings.proxy_protocol,
            redirect: settings.redirect_to_https.then_some(settings.redirect_port),
            hsts,
            limits: settings.limits.clone(),
            handshake_time: settings.handshake_time,
            acceptor,
            expiries,
        })
    }

    /// Whether the peer is one of ours.
    pub(super) fn trusts(&self, peer: std::net::IpAddr) -> bool {
        super::client_addr::is_trusted(&self.trusted, peer)
    }
}
