//! A vendor's destination connected to its simulator without a network, for tests.

use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request};
use jiff::Timestamp;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{MIXPANEL_TOKEN, SimulatorKind, SimulatorRequest, SimulatorTally, VendorApi};
use tagway_core::event::EnrichedEvent;
use tagway_vendors::test_support;
use tagway_vendors::{Destination, Outcome, VendorCall, VendorCallError, VendorReply, find};

/// One destination and its simulator.
pub(super) struct DirectDestination {
    destination: Box<dyn Destination>,
    simulator: DirectSimulator,
}

/// The simulator, its record of calls and its clock.
struct DirectSimulator {
    api: Mutex<Box<dyn VendorApi>>,
    tally: Mutex<SimulatorTally>,
    calls: Mutex<Vec<String>>,
    clock: AtomicI64,
}

impl DirectDestination {
    /// Creates a destination with these settings, and a simulator of this kind.
    pub(super) fn new(vendor: &str, settings: &str, kind: SimulatorKind) -> Self {
        let room = DirectSimulator {
            api: Mutex::new(kind.build_api()),
            tally: Mutex::default(),
            calls: Mutex::default(),
            clock: test_support::now().as_second().into(),
        };
        Self { destination: destination(vendor, settings), simulator: room }
    }

    /// Clears the destination's memory, as a restart does.
    pub(super) fn restart(&mut self, vendor: &str, settings: &str) {
        self.destination = destination(vendor, settings);
    }

    /// Advances the clock by some seconds.
    pub(super) fn wait(&self, seconds: i64) {
        self.simulator.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Delivers one event; returns its outcome in a word, with the reason.
    pub(super) async fn deliver(&self, event: EnrichedEvent) -> String {
        let outcomes = match self.destination.admit_event(&event, self.simulator.now()) {
            Ok(()) => self.destination.deliver(&[event], &self.simulator).await,
            Err(outcome) => vec![outcome],
        };
        match outcomes.as_slice() {
            [Outcome::Delivered] => "delivered".to_owned(),
            [Outcome::Skipped(reason)] => format!("skipped {}", reason.code),
            [Outcome::Dead(reason)] => format!("dead {}", reason.code),
            [Outcome::Retry { reason, after }] => match after {
                Some(after) => format!("retry {} after {} s", reason.code, after.as_secs()),
                None => format!("retry {}", reason.code),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The calls since the last time, such as `PUT /contacts/c1 200`.
    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.simulator.calls.lock())
    }

    /// The simulator's accepted events and objections.
    pub(super) fn tally(&self) -> SimulatorTally {
        self.simulator.tally.lock().clone()
    }

    /// The simulator's answer to a call that no destination makes.
    pub(super) async fn request(&self, method: Method, path: &str, body: Value) -> Value {
        let mut request = Request::new(Bytes::from(body.to_string()));
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://vendor.example{path}").parse().unwrap();
        for (name, value) in [
            ("authorization", "Bearer t"),
            ("accept", "application/json"),
            ("content-type", "application/json"),
            ("intercom-version", "2.14"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let reply = self.simulator.call(request).await.unwrap();
        self.simulator.calls.lock().pop();
        reply.json().unwrap_or_default()
    }
}

fn destination(vendor: &str, settings: &str) -> Box<dyn Destination> {
    let credentials = match vendor {
        "mixpanel" => format!("project_token = \"{MIXPANEL_TOKEN}\""),
        "meta" => "pixel_id = \"123\"\naccess_token = \"hush\"".to_owned(),
        _ => "access_token = \"t\"".to_owned(),
    };
    let text = format!("{credentials}\n{settings}");
    let build = find(vendor).unwrap().destination.unwrap();
    test_support::settings(&text, |section| build(section, None))
}

#[async_trait]
impl VendorCall for DirectSimulator {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let (head, body) = request.into_parts();
        let asked = SimulatorRequest {
            method: &head.method,
            target: &head.uri,
            headers: &head.headers,
            body: &body,
            now: self.now(),
            checks_credentials: true,
        };
        let reading = self.api.lock().handle_request(&asked);
        let (status, target) = (reading.reply.status(), head.uri.path_and_query().unwrap());
        self.calls.lock().push(format!("{} {target} {}", head.method, status.as_u16()));
        let mut tally = self.tally.lock();
        for key in reading.accepted.into_iter().flatten() {
            *tally.events.entry(key).or_default() += 1;
        }
        tally.objections.extend(reading.objections);
        let (head, body) = reading.reply.into_parts();
        Ok(VendorReply { status: head.status, headers: head.headers, body })
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock.load(Ordering::Relaxed)).unwrap()
    }
}

/// Any JSON object, not too deep, as properties or traits.
pub(super) fn any_object() -> impl Strategy<Value = Value> {
    const KNOWN: &str = "email name phone avatar createdAt owner_id unsubscribedFromEmails \
        company id remove plan address city revenue total price value currency amount url \
        ship_date order_id products employees size monthlySpend monthly_spend website industry \
        domain tags renewal_at";
    test_support::any_object(
        KNOWN,
        prop_oneof![
            "[a-z]{1,5}@[a-z]{1,5}\\.com".prop_map(Value::from),
            proptest::sample::select(
                &["12.50", "EUR", "JPY", "2026-11-23", "2026-11-23T10:00:00Z", "+41441234567"][..]
            )
            .prop_map(Value::from),
        ],
    )
}

/// Any event of a person with an id, an address, both or neither.
pub(super) fn any_event() -> impl Strategy<Value = EnrichedEvent> {
    let kinds = &["track", "page", "screen", "identify", "group", "alias"][..];
    let email = "[a-z]{1,3}@x\\.example";
    (
        (proptest::sample::select(kinds), ".{0,40}", proptest::option::of(".{0,20}")),
        (proptest::option::of(email), any_object(), any_object()),
    )
        .prop_map(|((kind, name, user_id), (email, properties, mut traits))| {
            if let Some(email) = email {
                traits["email"] = email.into();
            }
            let fields = json!({
                "type": kind, "event": name, "name": name, "groupId": name, "userId": user_id,
                "previousId": "a0", "properties": properties, "traits": traits,
            });
            test_support::known(fields, None, traits)
        })
}
