//! A site's settings for the server behind it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::trailers;
use tagway_settings::{SettingsSection, TextualValue as _};

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

impl OriginSettings {
    /// Reads a site's settings. `None` if it has no origin.
    pub fn read(site: &mut SettingsSection<'_>) -> Option<Self> {
        let origin = site.opt_string("origin");
        let mut section = site.section("proxy");
        let mut settings = Self {
            origin: Url::parse("http://origin.invalid").ok()?,
            inject: section.boolean("inject"),
            rewrite_tags: section.boolean("rewrite_tags"),
            compress: section.boolean("compress"),
            preserve_host: section.boolean("preserve_host"),
            connect_timeout: section.positive_duration("connect_timeout"),
            head_time: section.positive_duration("head_time"),
            idle_timeout: section.positive_duration("idle_timeout"),
            upload_bytes: section.byte_count("upload_bytes"),
            upload_idle_timeout: section.positive_duration("upload_idle_timeout"),
            client_requests: section.integer("client_requests", 0..=1_000_000),
            trailers: trailers::read(&mut section),
            tag_bytes: section.byte_count("tag_bytes"),
            inline_bytes: section.byte_count("inline_bytes"),
            streams: section.integer("streams", 1..=10_000),
            stream_bytes: section.byte_count("stream_bytes"),
            ping_interval: section.positive_duration("ping_interval"),
            ping_timeout: section.positive_duration("ping_timeout"),
            idle_time: section.positive_duration("idle_time"),
            idle_connections: section.integer("idle_connections", 0..=10_000),
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
