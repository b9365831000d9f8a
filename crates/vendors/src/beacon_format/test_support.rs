//! Shared helpers of the beacons' tests: arbitrary requests, and their messages and replies.

use http::{HeaderMap, Method};
use proptest::prelude::*;

use crate::Beacon;
use crate::beacon::{BeaconDecodeError, BeaconLimits, BeaconOutcome, BeaconReply, BeaconRequest};
use crate::test_support::now;

/// The bounds of beacons in tests.
pub(crate) const BOUNDS: BeaconLimits = BeaconLimits {
    unpacked_bytes: 1 << 16,
    messages_bytes: 1 << 20,
    events: 2500,
    least_event_bytes: 1,
    event_bytes: 1 << 15,
    made_bytes: 1 << 16,
    json_depth: 64,
};

/// A request of a browser.
pub(crate) struct TestBeaconRequest {
    method: Method,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl TestBeaconRequest {
    /// Makes a request of `path?query` and a body.
    pub(crate) fn new(method: Method, target: &str, body: impl Into<Vec<u8>>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        Self { method, path, query, headers: HeaderMap::new(), body: body.into() }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn inbound(&self) -> BeaconRequest<'_> {
        BeaconRequest {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            body: &self.body,
            received_at: now(),
            secure: true,
            authority: "t.shop.example",
            mount: "/mount",
            daily_id: "daily1",
            bounds: BOUNDS,
        }
    }

    /// Returns the messages that the beacon reads from it, as JSON.
    pub(crate) fn decode(
        &self,
        beacon: &dyn Beacon,
    ) -> Result<Vec<tagway_core::event::JsonObject>, BeaconDecodeError> {
        let messages = beacon.decode(&self.inbound())?;
        let object = |message| serde_json::from_value(serde_json::to_value(message).unwrap());
        Ok(messages.iter().map(|message| object(message).unwrap()).collect())
    }

    /// Returns the beacon's reply to it.
    pub(crate) fn answer(&self, beacon: &dyn Beacon, verdict: BeaconOutcome) -> BeaconReply {
        beacon.answer(&self.inbound(), verdict)
    }

    /// Reads and answers it, and checks that its messages are no longer than so many times its own length.
    pub(crate) fn check(&self, beacon: &dyn Beacon, times: usize) {
        let length = self.query.len() + self.body.len();
        if let Ok(messages) = self.decode(beacon) {
            let made = serde_json::to_vec(&messages).unwrap().len();
            assert!(made <= times * length + 1000, "{made} bytes of {length}");
        }
        for verdict in [
            BeaconOutcome::Taken { events: 1 },
            BeaconOutcome::Ignored,
            BeaconOutcome::TooLarge,
            BeaconOutcome::RetryLater { limited: true },
            BeaconOutcome::RetryLater { limited: false },
        ] {
            self.answer(beacon, verdict);
        }
    }
}

/// Generates damaged variants of a text: parts are missing, doubled, or replaced.
pub(crate) fn broken(text: &str) -> BoxedStrategy<Vec<u8>> {
    let text = text.as_bytes().to_vec();
    let places = (0..=text.len(), 0..=text.len());
    let parts = proptest::collection::vec(any::<u8>(), 0..8);
    (places, parts, 0..4_u8)
        .prop_map(move |((one, two), part, way)| {
            let (start, end) = (one.min(two), one.max(two));
            let (head, middle, tail) = (&text[..start], &text[start..end], &text[end..]);
            match way {
                0 => [head, tail].concat(),
                1 => [head, middle, middle, tail].concat(),
                2 => [head, &part, tail].concat(),
                _ => [head, &part, middle, tail].concat(),
            }
        })
        .boxed()
}

/// Generates damaged variants of a text in a URL.
pub(crate) fn broken_query(text: &str) -> BoxedStrategy<String> {
    let visible = |bytes: Vec<u8>| {
        let visible = bytes.into_iter().filter(u8::is_ascii_graphic);
        visible.map(char::from).collect()
    };
    broken(text).prop_map(visible).boxed()
}
