//! A site's settings for the server behind it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::trailers;
use tagway_settings::{Setting, SettingsSection, TextualValue as _};

/// The described key of a site that names its origin.
pub const ORIGIN_ADDRESS_SETTINGS: &[Setting] = &[Setting::text("origin")
    .example("https://www.shop.example")
    .doc("a scheme, a host and perhaps a port")];

/// The described settings of `[site_defaults.proxy]`.
pub const ORIGIN_SETTINGS: &[Setting] = &[
    Setting::boolean("inject").default("true").doc(
        "true: inserts the snippet, which loads /tw.js, into HTML pages, before anything \
             in their head that loads or runs. `tagway check-page URL` shows why a page has \
             none, and tagway_pages_left_alone_total counts the reasons",
    ),
    Setting::boolean("rewrite_tags").default("true").doc(
        "true: vendors' tags in these pages load their scripts from the vendor's mount, \
             if the site has a destination of the vendor or a table for it and its scripts \
             are not \"off\". Changed are <script src>, <link rel=\"preload\"> \
             (\"preconnect\" goes to the page's own host), and loaders in inline scripts, \
             unless the page's Content-Security-Policy would then block them (hashes, other \
             hosts)",
    ),
    Setting::boolean("compress").default("true").doc(
        "true: compresses these pages for clients that accept it, with zstd, brotli or \
             gzip at fast levels, as a stream. The origin is always asked for uncompressed \
             pages, so that they can be changed. If a page shows a secret (a CSRF token) \
             beside text that others can choose (a search term), the length of a compressed \
             page may reveal the secret (BREACH), whoever compresses it: mask such tokens, \
             or set false. Other responses pass as the origin compressed them",
    ),
    Setting::boolean("preserve_host").default("true").doc(
        "true: the origin gets the host that the client requested; applications compare \
             it with Origin and write it into addresses. false: it gets the host of \
             `origin`, for servers that serve that name only (name-based hosting). Redirects \
             and cookies of that host become the visitor's host in both cases",
    ),
    Setting::positive_duration("connect_timeout")
        .default("5s")
        .doc("the time for a connection to the origin to be established"),
    Setting::positive_duration("head_time")
        .default("60s")
        .doc("the time for the head of the response, after the end of the request; above it, 504"),
    Setting::positive_duration("idle_timeout").default("5m").doc(
        "the longest time without data from the origin within a response, or from either end of a \
             WebSocket; above it, the connection is cut",
    ),
    Setting::size("upload_bytes")
        .default("100MiB")
        .doc("limit of one request to the origin, streamed; above it, 413"),
    Setting::positive_duration("upload_idle_timeout").default("30s").doc(
        "the longest time without data from a client within its upload; above it, 408. The total time of \
             an upload is not limited",
    ),
    Setting::integer("client_requests", 0, 1_000_000).default("512").doc(
        "limit of one client's requests at once (/32 of IPv4, /64 of IPv6), including \
             WebSockets and uploads that continue after their responses; above it, 429. A \
             slow client uses one connection to the origin for each request. A loading page \
             has about 100 for a moment, an office behind one address several times that; 0 \
             = unlimited",
    ),
    Setting::size("tag_bytes").default("256KiB").doc(
        "buffer for an incomplete tag of a page; above it, the rest of the page passes \
             unchanged",
    ),
    Setting::texts("trailers").default("[]").doc(
        "trailer fields that are passed in both directions, e.g. [\"grpc-status\", \
             \"grpc-message\"]. Others are removed: servers may treat a client's trailers as \
             fields of the head, which the gateway has already checked. Changed pages have \
             no trailers",
    ),
    Setting::positive_duration("idle_time")
        .default("60s")
        .doc("unused connections to the origin are kept for this time"),
];

/// The settings from `origin` and `[sites.proxy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSettings {
    /// The server: a scheme, a host and perhaps a port.
    pub origin: Url,
    /// True if pages get the gateway's script.
    pub inject: bool,
    /// True if vendors' tags are rewritten to the site's mounts.
    pub rewrite_tags: bool,
    /// True if pages are compressed for clients that accept it.
    pub compress: bool,
    /// True if the origin receives the `Host` that the client requested.
    pub preserve_host: bool,
    /// The time limit for a connection to be made.
    pub connect_timeout: Duration,
    /// The time limit for the head of a response, from the request's latest progress.
    pub head_time: Duration,
    /// The longest silence between two pieces of a response, and in a WebSocket.
    pub idle_timeout: Duration,
    /// The most bytes of an upload.
    pub upload_bytes: usize,
    /// The longest silence between two pieces of an upload.
    pub upload_idle_timeout: Duration,
    /// The most active requests of one client; 0 = unlimited.
    pub client_requests: usize,
    /// The trailer fields that pass.
    pub trailers: Arc<[HeaderName]>,
    /// The most bytes of a page that are buffered until a tag is complete.
    pub tag_bytes: usize,
    /// The longest inline script that is rewritten, in bytes.
    pub inline_bytes: usize,
    /// The most active requests on one HTTP/2 connection.
    pub streams: usize,
    /// The most bytes that each of them may be ahead of its client.
    pub stream_bytes: usize,
    /// The quiet time of an HTTP/2 connection before a ping.
    pub ping_interval: Duration,
    /// The time limit for the reply to a ping.
    pub ping_timeout: Duration,
    /// The time for which an unused connection is kept.
    pub idle_time: Duration,
    /// The most unused connections that are kept.
    pub idle_connections: usize,
}

/// The limit of inline scripts that are buffered and searched for vendors' addresses, about 1 ms; vendors' loaders have
/// 5 KB.
const INLINE_BYTES: usize = 64 * 1024;

/// Unused connections to the origin that are kept: more than a busy site has requests to its origin at once.
const IDLE_CONNECTIONS: usize = 128;

/// Requests at once in one HTTP/2 connection, the least that RFC 9113 (6.5.2) recommends; an origin may allow fewer.
const STREAMS: usize = 100;

/// The buffer for a response over HTTP/2 that its client does not read: each response has its own, so that none waits
/// for another client.
const STREAM_BYTES: usize = 256 * 1024;

/// The time after which an idle HTTP/2 connection is pinged: load balancers and firewalls silently drop connections,
/// some after a minute, and all requests on a shared connection would then wait.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// The time for the reply to a ping: a few round trips to any place.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

impl OriginSettings {
    /// Reads a site's settings. `None` if it has no origin.
    pub fn read(site: &mut SettingsSection<'_>) -> Option<Self> {
        site.describe(ORIGIN_ADDRESS_SETTINGS);
        let origin = site.opt_string("origin");
        let mut section = site.section("proxy");
        section.describe(ORIGIN_SETTINGS);
        let mut settings = Self {
            origin: Url::parse("http://origin.invalid").ok()?,
            inject: section.boolean("inject"),
            rewrite_tags: section.boolean("rewrite_tags"),
            compress: section.boolean("compress"),
            preserve_host: section.boolean("preserve_host"),
            connect_timeout: section.duration("connect_timeout"),
            head_time: section.duration("head_time"),
            idle_timeout: section.duration("idle_timeout"),
            upload_bytes: section.byte_count("upload_bytes"),
            upload_idle_timeout: section.duration("upload_idle_timeout"),
            client_requests: section.integer("client_requests"),
            trailers: trailers::read(&mut section),
            tag_bytes: section.byte_count("tag_bytes"),
            inline_bytes: INLINE_BYTES,
            streams: STREAMS,
            stream_bytes: STREAM_BYTES,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            idle_time: section.duration("idle_time"),
            idle_connections: IDLE_CONNECTIONS,
        };
        let origin = origin?;
        match Url::parse(&origin) {
            Ok(url)
                if matches!(url.scheme(), "http" | "https")
                    && url.origin().ascii_serialization() == origin =>
            {
                settings.origin = url;
            }
            _ => {
                let message =
                    "must be http:// or https://, a host and perhaps a port, and nothing after";
                // Any other text may contain a password, and is not quoted.
                match Url::suggest(&origin).filter(|_| !origin.contains("://")) {
                    Some(better) => site.error_about("origin", &origin, message, Some(&better)),
                    None => site.error("origin", message),
                }
            }
        }
        Some(settings)
    }
}
