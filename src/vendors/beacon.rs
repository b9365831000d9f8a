//! The Beacon face: vendors' own browser libraries send to the gateway, which reads what they say and
//! answers as the vendor would (`contracts/beacons.md`).
//!
//! A beacon becomes canonical messages: objects as the Segment spec has them, which the gateway then
//! judges like those of any other client. The face does no I/O and knows no clock.

use bytes::Bytes;
use http::header::{HeaderName, ORIGIN, REFERER};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;

use super::beacon_format::MessageBatch;
use crate::event::JsonObject;

/// How a vendor's browser library speaks to its servers.
pub trait Beacon: Send + Sync {
    /// The methods that a path below the vendor's mount takes. `None`: there is nothing. The path
    /// begins with `/` and is as sent: some clients end it with another.
    fn endpoint(&self, path: &str) -> Option<AllowedMethods>;

    /// Adds the canonical messages of a beacon, in its order. None at all is fine for those that bring
    /// no event: settings, flags, recordings.
    ///
    /// Events are counted before any is built, and one at a time is built: what all of them become is
    /// bounded by the batch.
    fn read(
        &self,
        inbound: &BeaconRequest<'_>,
        batch: &mut MessageBatch,
    ) -> Result<(), BeaconDecodeError>;

    /// The canonical messages of a beacon as trees, all at once.
    fn decode(&self, inbound: &BeaconRequest<'_>) -> Result<Vec<JsonObject>, BeaconDecodeError> {
        let mut batch = MessageBatch::new(inbound);
        self.read(inbound, &mut batch)?;
        let (texts, _) = batch.into_parts();
        let trees = texts.iter().map(|text| serde_json::from_slice(text));
        trees.collect::<Result<_, _>>().map_err(|_never| BeaconDecodeError::Malformed("JSON"))
    }

    /// Where the vendor itself takes its beacons, if that is one place for all: what the paths below the
    /// mount are paths of.
    fn upstream(&self) -> Option<&'static str> {
        None
    }

    /// Whether a request that brings no event is worth passing on: recordings of visits.
    fn is_forwarded(&self, _path: &str) -> bool {
        false
    }

    /// Whether this request's library promises to know nobody again: then no cookie is set or read.
    fn is_anonymous(&self, _inbound: &BeaconRequest<'_>) -> bool {
        false
    }

    /// True if an event's id alone tells it from all others. At some vendors an id is of an event's name
    /// and person: a site may use an order's number for all events of the order.
    fn has_unique_ids(&self) -> bool {
        true
    }

    /// The field of the head in which the library shows its public key, if its vendor needs it there.
    fn key_field(&self) -> Option<HeaderName> {
        None
    }

    /// What the library expects to be told, so that it neither tries again nor complains.
    fn answer(&self, inbound: &BeaconRequest<'_>, verdict: BeaconOutcome) -> BeaconReply;
}

/// The methods of an endpoint, preflights apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedMethods {
    /// Settings, and images.
    Get,
    /// Bodies.
    Post,
    /// Either.
    Both,
}

impl AllowedMethods {
    /// As the `Allow` field lists them.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Get => "GET, OPTIONS",
            Self::Post => "POST, OPTIONS",
            Self::Both => "GET, POST, OPTIONS",
        }
    }

    /// Whether the method is one of them.
    pub fn take(self, method: &Method) -> bool {
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
    /// One that the endpoint takes.
    pub method: &'a Method,
    /// The path below the vendor's mount, as sent.
    pub path: &'a str,
    /// The query, without its question mark; empty if there is none.
    pub query: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The body, decompressed as its head and its first bytes say, without space around it.
    pub body: &'a [u8],
    /// When it arrived.
    pub received_at: Timestamp,
    /// Whether it came over TLS.
    pub secure: bool,
    /// The gateway's host, with a port if one was named.
    pub authority: &'a str,
    /// The vendor's mount: `/mixpanel`. Empty if it is the root.
    pub mount: &'a str,
    /// Names the visitor for this day at this site, for libraries that send no id of their own.
    pub daily_id: &'a str,
    /// What it may hold and become.
    pub bounds: BeaconLimits,
}

/// What one beacon may hold and become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeaconLimits {
    /// Bytes of anything that is compressed within the body, decompressed.
    pub unpacked_bytes: usize,
    /// Bytes of all messages.
    pub messages_bytes: usize,
    /// Events.
    pub events: usize,
    /// Bytes for each event, on average, if there are many.
    pub least_event_bytes: usize,
    /// Bytes of one message.
    pub event_bytes: usize,
    /// Bytes that the messages of a short beacon may come to.
    pub made_bytes: usize,
}

/// Bytes of messages that may be made of each byte of a beacon, beside `made_bytes`.
pub const MAX_EXPANSION: usize = 3;

/// Events that a beacon may have however short they are.
const FREE_EVENTS: usize = 25;

/// The events that a body of so many bytes may have at most: an event costs as much work as some
/// kilobytes of text, so bodies of many events that say nothing would cost far more than they weigh.
pub fn events_within(bytes: usize, most: usize, least_event_bytes: usize) -> usize {
    most.min(FREE_EVENTS.max(bytes / least_event_bytes.max(1)))
}

impl BeaconLimits {
    /// The events that so many bytes may have at most.
    pub fn events_within(&self, bytes: usize) -> usize {
        events_within(bytes, self.events, self.least_event_bytes)
    }

    /// Bytes of one event as a client writes it: encoded, and with what is left out of its message.
    pub const fn hit_bytes(&self) -> usize {
        self.event_bytes.saturating_mul(8)
    }

    /// Bytes of one event as a tree: 64 times what a message may have.
    pub const fn tree_bytes(&self) -> usize {
        self.event_bytes.saturating_mul(64)
    }
}

impl BeaconRequest<'_> {
    /// True if it tells of a page, as browsers do. What a page says of addresses and places is not read.
    pub fn is_of_page(&self) -> bool {
        [ORIGIN, REFERER].iter().any(|name| self.headers.contains_key(name))
            || self.headers.contains_key("sec-fetch-site")
    }

    /// The vendor's URL at this gateway, without a slash at its end.
    pub fn base(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.mount)
    }

    /// A header field that is text, of whatever letters.
    pub fn field(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.headers.get(name)?.as_bytes()).ok()
    }
}

/// What became of a beacon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeaconOutcome {
    /// So many of its events are kept.
    Taken {
        /// How many; 0 for beacons that bring none.
        events: usize,
    },
    /// It is not wanted, or says nothing that can be read: to be told as a success, because a library
    /// can only try again, or complain where nobody looks.
    Ignored,
    /// Its body is longer than the gateway takes: some libraries then send it in parts.
    TooLarge,
    /// It may be taken later. `limited` if this client sends too much, else nobody's can be taken now.
    Later {
        /// Whether it is this client's doing.
        limited: bool,
    },
}

/// Why a beacon is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeaconDecodeError {
    /// It cannot be read; the text says why, to people.
    #[error("{0}")]
    Malformed(&'static str),
    /// It has more events than it may.
    #[error("there are too many events")]
    TooMany,
    /// An event, what is compressed within the beacon, or all that would be made of it is too long.
    #[error("the beacon is too long")]
    TooLarge,
}

/// What a vendor's library is told. The gateway adds what all its answers have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeaconReply {
    /// The status. With 429 and 503 the gateway says when to come again.
    pub status: StatusCode,
    /// The type of the body.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: Bytes,
}

/// A transparent GIF of one pixel.
pub const GIF: &[u8] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\
    \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;";

impl BeaconReply {
    /// 204.
    pub const fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT, content_type: None, body: Bytes::new() }
    }

    /// 200 with plain text.
    pub const fn text(text: &'static str) -> Self {
        let body = Bytes::from_static(text.as_bytes());
        Self { status: StatusCode::OK, content_type: Some("text/plain;charset=utf-8"), body }
    }

    /// 200 with JSON.
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type: Some("application/json"), body: text.into() }
    }

    /// 200 with an image of one pixel.
    pub const fn gif() -> Self {
        let body = Bytes::from_static(GIF);
        Self { status: StatusCode::OK, content_type: Some("image/gif"), body }
    }

    /// 413.
    pub const fn too_large() -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, content_type: None, body: Bytes::new() }
    }

    /// 429 if the client sends too much, else 503.
    pub const fn later(limited: bool) -> Self {
        let status =
            if limited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE };
        Self { status, content_type: None, body: Bytes::new() }
    }
}
