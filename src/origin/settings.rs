//! What a site says of the server behind it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::trailers;
use crate::settings::{Section, TextualValue as _};

/// `origin` and `[sites.proxy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server: a scheme, a host and perhaps a port.
    pub origin: Url,
    /// Whether pages get the gateway's script.
    pub inject: bool,
    /// Whether tags of vendors point at the site's mounts.
    pub rewrite_tags: bool,
    /// Whether pages are compressed for clients that take it.
    pub compress: bool,
    /// Whether the origin is told the host that the client asked for.
    pub preserve_host: bool,
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For the head of an answer, from the last of its request that went out.
    pub head_time: Duration,
    /// Between two pieces of an answer, and for silence in a WebSocket.
    pub silence: Duration,
    /// An upload.
    pub upload_bytes: usize,
    /// Between two pieces of an upload.
    pub upload_silence: Duration,
    /// The requests of one client under way; 0 = unlimited.
    pub client_requests: usize,
    /// The trailer fields that pass.
    pub trailers: Arc<[HeaderName]>,
    /// What is held of a page until a tag in it is whole.
    pub tag_bytes: usize,
    /// The longest inline script that is looked through.
    pub inline_bytes: usize,
    /// The requests under way in one connection of HTTP/2.
    pub streams: usize,
    /// The bytes that each of them may be ahead of its client.
    pub stream_bytes: usize,
    /// The quiet time of a connection of HTTP/2 before a ping.
    pub ping_interval: Duration,
    /// For its answer to a ping.
    pub ping_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_time: Duration,
    /// Unused connections kept.
    pub idle_connections: usize,
}

impl Settings {
    /// Reads a site's. `None` if it has no origin.
    pub fn read(site: &mut Section<'_>) -> Option<Self> {
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
            silence: section.positive_duration("idle_timeout"),
            upload_bytes: section.byte_count("upload_bytes"),
            upload_silence: section.positive_duration("upload_idle_timeout"),
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
                // Any other text may hold a password, and is not quoted.
                match Url::better(&origin).filter(|_| !origin.contains("://")) {
                    Some(better) => site.mistake_about("origin", &origin, message, Some(&better)),
                    None => site.mistake("origin", message),
                }
            }
        }
        Some(settings)
    }
}
