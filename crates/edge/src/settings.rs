//! The edge's settings from `[listen]`, `[limits]` and `[tls]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use tokio_rustls::TlsAcceptor;

use super::EdgeError;
use super::tls::{self, CertificateExpiry, LoadedCertificates};
use tagway_settings::{Setting, SettingsSection, SettingsTable};

/// The described settings of `[listen]`.
pub const LISTEN_SETTINGS: &[Setting] = &[
    Setting::form("http", "an IP address with a port")
        .default("127.0.0.1:8080")
        .doc("plain HTTP/1.1"),
    Setting::form("https", "an IP address with a port")
        .example("0.0.0.0:8443")
        .doc("TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2; needs [[tls.certificates]]"),
    Setting::texts("trusted_proxies").default("[]").doc(
        "networks of proxies whose forwarding fields are trusted, e.g. \
             [\"10.0.0.0/8\"]",
    ),
    Setting::word("forwarded", &["x-forwarded-for", "forwarded"]).default("x-forwarded-for").doc(
        "the field with the client's address: \"x-forwarded-for\" (with \
             X-Forwarded-Proto) or \"forwarded\" (RFC 7239); the other one is ignored, \
             because clients can set it",
    ),
    Setting::boolean("proxy_protocol").default("false").doc(
        "true: connections start with a PROXY header (v1 or v2), from trusted_proxies \
             only",
    ),
    Setting::boolean("redirect_to_https").default("false").doc(
        "true: plain requests for a site's hosts get 308 to https; requests for other \
             hosts are refused",
    ),
    Setting::integer("redirect_port", 1, 65_535)
        .default("443")
        .doc("the port of https in these redirects, as clients see it"),
];

/// The described settings of `[limits]` that limit connections.
pub const CONNECTION_LIMIT_SETTINGS: &[Setting] = &[
    Setting::integer("connections", 1, 10_000_000).default("20_000").doc(
        "limit of open connections; each takes a file descriptor and about 10 KiB. The \
             program raises its soft limit of open files to the hard limit, and warns if \
             that is too low",
    ),
    Setting::integer("connections_per_client", 1, 10_000_000).default("256").doc(
        "limit of one client's connections (/32 of IPv4, /64 of IPv6), except for \
             trusted proxies",
    ),
    Setting::size("header_bytes")
        .default("32KiB")
        .doc("limit of a request's head; vendors' pixels put JSON into the query"),
    Setting::integer("headers", 1, 1000)
        .default("100")
        .doc("limit of fields in a head; browsers send about 20"),
    Setting::positive_duration("header_time")
        .default("10s")
        .doc("the time for a head to arrive, and for the first request of a new connection"),
    Setting::positive_duration("idle_time")
        .default("60s")
        .doc("the longest time between two requests of a connection"),
    Setting::positive_duration("write_time").default("60s").doc(
        "the time for a client to read some bytes of its response; mobile clients pause in \
             tunnels. Any progress restarts it",
    ),
    Setting::integer("requests_in_flight", 1, 10_000_000)
        .default("10_000")
        .doc("limit of requests at once; above it, 503"),
    Setting::integer("http2_streams", 1, 10_000)
        .default("128")
        .doc("limit of streams at once in one HTTP/2 connection"),
    Setting::duration("drain_time")
        .default("20s")
        .doc("the time for requests in progress when the gateway stops"),
];

/// The described settings of `[tls]`.
pub const TLS_SETTINGS: &[Setting] = &[
    Setting::duration("expiry_warning").default("14d").doc(
        "a certificate that expires within this time causes a warning once a day; renew \
             it earlier. tagway_certificate_expires_timestamp_seconds has the time of expiry",
    ),
    Setting::duration("hsts_max_age")
        .default("0s")
        .doc("Strict-Transport-Security on responses over TLS, e.g. \"365d\"; \"0s\" = off"),
    Setting::tables("certificates", &SettingsTable(&[CERTIFICATE_SETTINGS])),
];

/// The described settings of `[[tls.certificates]]`.
const CERTIFICATE_SETTINGS: &[Setting] = &[
    Setting::path("cert").example("fullchain.pem").doc("the certificate and its chain"),
    Setting::path("key").example("privkey.pem").doc("its key"),
];

/// Resets by a client that are not served yet, per HTTP/2 connection: half of the usual streams. Browsers reset a few
/// when a page is left; an attack with rapid resets (CVE-2023-44487) sends thousands.
const HTTP2_RESETS: usize = 64;

/// The time limit for a TLS handshake: two round trips, and the certificate's bytes over a slow mobile network.
pub(super) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The edge's settings, as the configuration gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeSettings {
    /// The address of the plain HTTP listener.
    pub http: Option<SocketAddr>,
    /// The address of the TLS listener.
    pub https: Option<SocketAddr>,
    /// The networks of proxies whose forwarding field and PROXY headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The field in which they name the client.
    pub forwarded: ForwardedField,
    /// True if connections start with a PROXY header.
    pub proxy_protocol: bool,
    /// True if plain requests are redirected to HTTPS.
    pub redirect_to_https: bool,
    /// The port of HTTPS that clients see.
    pub redirect_port: u16,
    /// The limits on clients.
    pub limits: EdgeLimits,
    /// The certificates; the first is for clients that name no host.
    pub certificates: Vec<CertificateFiles>,
    /// The time limit for a TLS handshake.
    pub handshake_time: Duration,
    /// The time before a certificate's expiry at which operators are warned.
    pub expiry_warning: Duration,
    /// The time for which browsers insist on TLS (HSTS); zero omits the header.
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
    /// The PEM file with the certificate first, then its chain.
    pub cert: PathBuf,
    /// The PEM file with the private key.
    pub key: PathBuf,
}

/// The edge's part of `[limits]`: the limits on clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// The most connections at once.
    pub connections: usize,
    /// The most connections of one client (/32 of IPv4, /64 of IPv6) at once.
    pub connections_per_client: usize,
    /// The most bytes of a request's head.
    pub header_bytes: usize,
    /// The most fields of a request's head.
    pub headers: usize,
    /// The time for a request's head, and for a connection's first request.
    pub header_time: Duration,
    /// The time between two requests of a connection.
    pub idle_time: Duration,
    /// The time for a client to read some of its response.
    pub write_time: Duration,
    /// The most requests at once.
    pub requests_in_flight: usize,
    /// The most streams of one HTTP/2 connection at once.
    pub http2_streams: u32,
    /// The most streams that a client may reset faster than they are served.
    pub http2_resets: usize,
    /// The time for active requests when the gateway stops.
    pub drain_time: Duration,
}

impl EdgeSettings {
    /// Reads the edge's keys of the three tables.
    pub fn read(
        listen: &mut SettingsSection<'_>,
        limits: &mut SettingsSection<'_>,
        tls: &mut SettingsSection<'_>,
    ) -> Self {
        listen.describe(LISTEN_SETTINGS);
        tls.describe(TLS_SETTINGS);
        let mut certificates = Vec::new();
        for mut section in tls.sections("certificates", None) {
            section.describe(CERTIFICATE_SETTINGS);
            let files = CertificateFiles { cert: section.path("cert"), key: section.path("key") };
            files.check(&mut section, ("cert", "key"));
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
            redirect_port: listen.integer("redirect_port"),
            limits: EdgeLimits::read(limits),
            certificates,
            handshake_time: HANDSHAKE_TIME,
            expiry_warning: tls.duration("expiry_warning"),
            hsts_max_age: tls.duration("hsts_max_age"),
        };
        if settings.https.is_some() && settings.certificates.is_empty() {
            listen.error("https", "needs at least one of [[tls.certificates]]");
        }
        if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
            listen.error(
                "proxy_protocol",
                "needs trusted_proxies: PROXY headers of other networks are \
            refused",
            );
        }
        settings
    }
}

impl CertificateFiles {
    /// Checks the files as a start reads them, and reports mistakes at the two keys of the section. It may block.
    pub fn check(&self, section: &mut SettingsSection<'_>, keys: (&str, &str)) {
        let named = [(keys.0, &self.cert), (keys.1, &self.key)];
        // Messages name the file, so it must not contain a key in place of a path.
        let is_content = |path: &Path| path.to_string_lossy().contains("-----BEGIN");
        for (name, _) in named.iter().filter(|(_, path)| is_content(path)) {
            section.error(name, "must be the path of a file, not the file's content");
        }
        let is_path = |path: &Path| !path.as_os_str().is_empty() && !is_content(path);
        if named.iter().all(|(_, path)| is_path(path))
            && let Err((file, message)) = tls::check(self)
        {
            section.error(if file == "key" { keys.1 } else { keys.0 }, &message);
        }
    }
}

impl EdgeLimits {
    fn read(section: &mut SettingsSection<'_>) -> Self {
        section.describe(CONNECTION_LIMIT_SETTINGS);
        let limits = Self {
            connections: section.integer("connections"),
            connections_per_client: section.integer("connections_per_client"),
            header_bytes: section.byte_count("header_bytes"),
            headers: section.integer("headers"),
            header_time: section.duration("header_time"),
            idle_time: section.duration("idle_time"),
            write_time: section.duration("write_time"),
            requests_in_flight: section.integer("requests_in_flight"),
            http2_streams: section.integer("http2_streams"),
            http2_resets: HTTP2_RESETS,
            drain_time: section.duration("drain_time"),
        };
        // hyper's smallest read buffer.
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
    /// The expiry of each certificate.
    pub(super) expiries: Vec<CertificateExpiry>,
}

impl LiveEdgeSettings {
    /// Reads the certificates, and takes the other settings as they are.
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

    /// Returns true if the peer is a trusted proxy.
    pub(super) fn trusts(&self, peer: std::net::IpAddr) -> bool {
        super::client_addr::is_trusted(&self.trusted, peer)
    }
}
