//! The Beacon interface: the requests of vendors' own browser libraries, which the gateway reads and answers
//! as the vendor would (`docs/contracts/beacons.md`).
//!
//! A beacon becomes canonical messages of the Segment spec, which the gateway then checks like those of any other
//! client. The interface does no I/O and uses no clock.

use bytes::Bytes;
use http::header::{HeaderName, ORIGIN, REFERER};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;

use super::beacon_format::{CanonicalMessage, MessageBatch, ReadMessage};

/// The protocol between a vendor's browser library and its servers.
pub trait Beacon: Send + Sync {
    /// Returns the methods that a path below the vendor's mount takes; `None` if the path has no endpoint.
    /// The path begins with `/` and is as sent: some clients end it with another.
    fn endpoint(&self, path: &str) -> Option<AllowedMethods>;

    /// Adds the canonical messages of a beacon, in its order. Beacons without an event (settings, flags,
    /// recordings) add none.
    ///
    /// Events are counted before any is built, and they are built one at a time: the batch bounds the size of
    /// all their messages.
    ///
    /// # Errors
    ///
    /// Fails if the beacon cannot be read or exceeds its limits.
    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch<'_>,
    ) -> Result<(), BeaconDecodeError>;

    /// Returns the canonical messages of a beacon, all at once.
    ///
    /// # Errors
    ///
    /// Fails if the beacon cannot be read or exceeds its limits.
    fn decode(
        &self,
        inbound: &BeaconRequest<'_>,
    ) -> Result<Vec<CanonicalMessage>, BeaconDecodeError> {
        let mut messages = Vec::new();
        let mut keep = |read: ReadMessage| messages.push(read.message);
        self.read(inbound, &mut MessageBatch::new(inbound, &mut keep))?;
        Ok(messages)
    }

    /// Returns the URL to which the vendor itself takes its beacons, if there is one for all: paths below the
    /// mount are paths of that URL.
    fn upstream(&self) -> Option<&'static str> {
        None
    }

    /// Returns true if a request without an event is worth forwarding: recordings of visits.
    fn is_forwarded(&self, _path: &str) -> bool {
        false
    }

    /// Returns true if this request's library promises to recognise no visitor again: then no cookie is set
    /// or read.
    fn is_anonymous(&self, _inbound: &BeaconRequest<'_>) -> bool {
        false
    }

    /// Returns true if an event's id alone distinguishes it from all others. At some vendors an id is of an
    /// event's name and person: a site may use an order's number for all events of the order.
    fn has_unique_ids(&self) -> bool {
        true
    }

    /// Returns true if its libraries can ask to erase a person ([`MessageBatch::request_erasure`]).
    fn has_erasures(&self) -> bool {
        false
    }

    /// Returns the header in which the library sends its public key, if its vendor needs it there.
    fn key_field(&self) -> Option<HeaderName> {
        None
    }

    /// Returns the reply that the library expects, so that it neither tries again nor complains.
    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply;
}

/// The methods of an endpoint, preflights apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedMethods {
    /// Settings, and images.
    Get,
    /// Events in bodies.
    Post,
    /// Either.
    Both,
}

impl AllowedMethods {
    /// Returns the value of the `Allow` header.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, OPTIONS",
            Self::Post => "POST, OPTIONS",
            Self::Both => "GET, POST, OPTIONS",
        }
    }

    /// Returns true if the endpoint takes this method.
    pub fn accepts(self, method: &Method) -> bool {
        match self {
            Self::Get => method == Method::GET,
            Self::Post => method == Method::POST,
            Self::Both => method == Method::GET || method == Method::POST,
        }
    }
}

/// One request of a vendor's library.
#[derive(Clone, Copy, Debug)]
pub struct BeaconRequest<'a> {
    /// The method, one that the endpoint takes.
    pub method: &'a Method,
    /// The path below the vendor's mount, as sent.
    pub path: &'a str,
    /// The query, without its question mark; empty if there is none.
    pub query: &'a str,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The body, decompressed by its headers and its first bytes, without space around it.
    pub body: &'a [u8],
    /// The time when it arrived.
    pub received_at: Timestamp,
    /// True if it came over TLS.
    pub secure: bool,
    /// The gateway's host, with a port if one was named.
    pub authority: &'a str,
    /// The vendor's mount: `/mixpanel`. Empty if it is the root.
    pub mount: &'a str,
    /// An id of the visitor for this day at this site, for libraries that send no id of their own.
    pub daily_id: &'a str,
    /// The limits of its size and of its messages.
    pub bounds: BeaconLimits,
}

/// The limits of one beacon's size and of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeaconLimits {
    /// Bytes of anything that is compressed within the body, decompressed.
    pub unpacked_bytes: usize,
    /// Bytes of all messages.
    pub messages_bytes: usize,
    /// The most events.
    pub events: usize,
    /// The least average bytes of an event, if there are many.
    pub least_event_bytes: usize,
    /// Bytes of one message.
    pub event_bytes: usize,
    /// Bytes that the messages of a short beacon may come to.
    pub made_bytes: usize,
    /// The most nested objects and lists of one message.
    pub json_depth: usize,
}

/// Bytes of messages that may be made of each byte of a beacon, in addition to `made_bytes`.
pub const MAX_EXPANSION: usize = 3;

/// The events that a beacon of any length may have.
const FREE_EVENTS: usize = 25;

/// Returns the most events that a body of so many bytes may have: an event costs as much work as some
/// kilobytes of text, so bodies of many empty events would cost far more than their size suggests.
pub fn events_within(bytes: usize, most: usize, least_event_bytes: usize) -> usize {
    most.min(FREE_EVENTS.max(bytes / least_event_bytes.max(1)))
}

impl BeaconLimits {
    /// Returns the most events that so many bytes may have.
    pub fn events_within(&self, bytes: usize) -> usize {
        events_within(bytes, self.events, self.least_event_bytes)
    }

    /// Returns the most bytes of all messages made of this many bytes.
    pub fn made_of(&self, received_bytes: usize) -> usize {
        let of_bytes = received_bytes.saturating_mul(MAX_EXPANSION);
        of_bytes.saturating_add(self.made_bytes).min(self.messages_bytes)
    }

    /// Returns the most bytes of one event as a client writes it: encoded, and with what is left out of its
    /// message.
    pub const fn hit_bytes(&self) -> usize {
        self.event_bytes.saturating_mul(8)
    }

    /// Returns the most bytes of one event as a tree: 64 times what a message may have.
    pub const fn tree_bytes(&self) -> usize {
        self.event_bytes.saturating_mul(64)
    }
}

impl BeaconRequest<'_> {
    /// Returns true if it comes from a page, as a browser's request does. Addresses and places in a page's
    /// beacon are ignored.
    pub fn is_from_page(&self) -> bool {
        [ORIGIN, REFERER].iter().any(|name| self.headers.contains_key(name))
            || self.headers.contains_key("sec-fetch-site")
    }

    /// Returns the vendor's URL at this gateway, without a slash at its end.
    pub fn base(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.mount)
    }

    /// Returns a header's value if it is UTF-8 text.
    pub fn field(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }
}

/// The gateway's decision about a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeaconOutcome {
    /// So many of its events are stored.
    Taken {
        /// The number of events; 0 for beacons without one.
        events: usize,
    },
    /// It is not wanted, or is unreadable: answered as a success, because a library can only try again, or
    /// complain where nobody looks.
    Ignored,
    /// Its body is longer than the gateway takes: some libraries then split it.
    TooLarge,
    /// It may be taken later. `limited` if this client sends too much, else no client's beacons can be taken
    /// now.
    RetryLater {
        /// True if this client exceeds its rate limit.
        limited: bool,
    },
}

/// The reason why a beacon is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconDecodeError {
    /// It cannot be read; the text is the reason, for people.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has more events than it may.
    #[error("there are too many events")]
    TooMany,
    /// An event, compressed data within the beacon, or the sum of its messages is too long.
    #[error("the beacon is too long")]
    TooLarge,
}

/// The reply to a vendor's library. The gateway adds the headers that all its answers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeaconReply {
    /// The status. With 429 and 503 the gateway adds a time to retry after.
    pub status: StatusCode,
    /// The body's media type, if it has a body.
    pub content_type: Option<&'static str>,
    /// The body, empty if the reply has none.
    pub body: Bytes,
}

/// A transparent GIF of one pixel.
pub const GIF: &[u8] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;";

impl BeaconReply {
    /// Returns 204 without a body.
    pub const fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, content_type: None, body: Bytes::new() }
    }

    /// Returns 200 with plain text.
    pub const fn text(text: &'static str) -> Self {
        let body = Bytes::from_static(text.as_bytes());
        Self { status: StatusCode::OK, content_type: Some("text/plain;charset=utf-8"), body }
    }

    /// Returns 200 with JSON.
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type: Some("application/json"), body: text.into() }
    }

    /// Returns 200 with an image of one pixel.
    pub const fn gif() -> Self {
        let body = Bytes::from_static(GIF);
        Self { status: StatusCode::OK, content_type: Some("image/gif"), body }
    }

    /// Returns 413 without a body.
    pub const fn too_large() -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, content_type: None, body: Bytes::new() }
    }

    /// Returns 429 if the client sends too much, else 503.
    pub const fn retry_later(limited: bool) -> Self {
        let status =
            if limited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, content_type: None, body: Bytes::new() }
    }
}
