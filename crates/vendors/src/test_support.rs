//! Shared helpers of the vendors' tests: settings from a text, an event from JSON, and a vendor that answers
//! with canned replies and records the requests that it receives.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{VendorCall, VendorCallError, VendorReply};
use tagway_core::event::{EnrichedEvent, JsonObject, ProfileView};
pub use tagway_settings::test_support::{read, settings};

/// The time of day in every test.
pub const NOW: &str = "2026-11-23T12:00:00Z";

/// Returns [`NOW`] as a timestamp.
pub fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Checks that a browser client's table names each canonical event (`ORDER_COMPLETED`) as the server does.
pub fn assert_client_names(
    script: &str,
    rules: impl IntoIterator<Item = (&'static str, &'static str)>,
) {
    for (canonical, name) in rules {
        let key = canonical.to_lowercase().replace('_', " ");
        assert!(script.contains(&format!("  \"{key}\": \"{name}\",\n")), "{key}: {name}");
    }
}

/// Generates any JSON object. Most keys are among those that a vendor looks for, given in one line; some
/// leaves are values that it examines more closely.
pub fn any_object(
    keys: &str,
    leaves: impl Strategy<Value = Value> + 'static,
) -> BoxedStrategy<Value> {
    let keys: Vec<String> = keys.split_whitespace().map(str::to_owned).collect();
    let key = prop_oneof![3 => proptest::sample::select(keys), 1 => ".{0,50}"].boxed();
    let object = move |value: BoxedStrategy<Value>, size: usize| {
        proptest::collection::hash_map(key.clone(), value, 0..size)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,300}".prop_map(Value::from),
        leaves,
    ];
    let inner_object = object.clone();
    let value = leaf.prop_recursive(5, 24, 6, move |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from);
        prop_oneof![list, inner_object(inner, 6)]
    });
    object(value.boxed(), 30).boxed()
}

/// Makes a track event of an anonymous visitor, now, with these fields.
pub fn event(fields: Value) -> EnrichedEvent {
    known(fields, None, json!({}))
}

/// Makes the same event for a visitor with a profile.
pub fn known(fields: Value, user_id: Option<&str>, traits: Value) -> EnrichedEvent {
    let mut event = json!({
        "type": "track", "messageId": "m", "anonymousId": "a1", "timestamp": NOW, "receivedAt": NOW,
    });
    event.as_object_mut().unwrap().extend(object(fields));
    let event = Arc::new(serde_json::from_value(event).unwrap());
    let profile = ProfileView { user_id: user_id.map(str::to_owned), traits: object(traits) };
    EnrichedEvent::new(1, event, Arc::new(profile))
}

/// Returns the object that this value is.
pub fn object(value: Value) -> JsonObject {
    value.as_object().unwrap().clone()
}

/// A vendor that gives its replies in turn, then 200 without a body.
#[derive(Default)]
pub struct CannedReplies {
    replies: Mutex<VecDeque<Result<VendorReply, VendorCallError>>>,
    requests: Mutex<Vec<Request<Bytes>>>,
}

impl CannedReplies {
    /// Adds replies with these statuses and no body.
    pub fn statuses(statuses: &[u16]) -> Self {
        statuses.iter().fold(Self::default(), |line, status| line.then(*status, json!(null)))
    }

    /// Adds a reply with this status and this body; `null` is none.
    pub fn then(self, status: u16, body: Value) -> Self {
        self.then_with(status, &[], body)
    }

    /// Adds a reply with this status, these headers and this body.
    pub fn then_with(self, status: u16, fields: &[(&str, &str)], body: Value) -> Self {
        let status = StatusCode::from_u16(status).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            headers.insert(name, value.parse().unwrap());
        }
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        self.push(Ok(VendorReply { status, headers, body }))
    }

    /// Adds a timeout.
    pub fn then_timeout(self) -> Self {
        self.push(Err(VendorCallError::Timeout(Duration::from_secs(1))))
    }

    fn push(self, reply: Result<VendorReply, VendorCallError>) -> Self {
        self.replies.lock().push_back(reply);
        self
    }

    /// Returns the requests so far, and clears them.
    pub fn requests(&self) -> Vec<Request<Bytes>> {
        std::mem::take(&mut self.requests.lock())
    }

    /// Returns the bodies of the requests so far as JSON, and clears the requests.
    pub fn bodies(&self) -> Vec<Value> {
        let body = |request: &Request<Bytes>| serde_json::from_slice(request.body()).unwrap();
        self.requests().iter().map(body).collect()
    }
}

#[async_trait]
impl VendorCall for CannedReplies {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        self.requests.lock().push(request);
        let next = self.replies.lock().pop_front();
        next.unwrap_or_else(|| {
            let (headers, body) = (HeaderMap::new(), Bytes::new());
            Ok(VendorReply { status: StatusCode::OK, headers, body })
        })
    }

    fn now(&self) -> Timestamp {
        now()
    }
}
