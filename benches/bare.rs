//! The cost of bare posting: `cargo bench --bench bare -- URL SECONDS`.
//!
//! Renders a thousand events of two hundred visitors for GA4, Meta, Mixpanel and Amplitude, and then
//! only posts those requests to the URL with a plain client, repeatedly. Compare a gateway's deliveries
//! with it: a program that also reads, maps and settles cannot be faster.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to say")]
#![expect(clippy::print_stdout, reason = "the figure is its output")]

mod destinations;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tagway_core::event::{EnrichedEvent, ProfileView};
use tagway_vendors::{BatchScope, Destination, VendorCall, VendorCallError, VendorReply};
use tokio::time::Instant;
use url::Url;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VISITORS: usize = 200;
const EVENTS_OF_EACH: usize = 5;

/// Concurrent requests: about as many as the four destinations have.
const AT_ONCE: usize = 54;

/// Records the requests, and accepts everything.
#[derive(Default)]
struct Keep(Mutex<Vec<Request<Bytes>>>);

#[async_trait]
impl VendorCall for Keep {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        self.0.lock().push(request);
        let body = Bytes::from_static(b"{\"code\":200,\"status\":\"OK\"}");
        Ok(VendorReply { status: StatusCode::OK, headers: HeaderMap::new(), body })
    }

    fn now(&self) -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }
}

fn events() -> Vec<EnrichedEvent> {
    let event = |n: usize| {
        let visitor = n / EVENTS_OF_EACH;
        let event = json!({
            "type": "track", "event": "Product Viewed", "messageId": format!("m-{n}"),
            "anonymousId": format!("a-{visitor}"), "timestamp": "2026-11-23T12:00:00Z",
            "receivedAt": "2026-11-23T12:00:00Z",
            "properties": { "product_id": format!("p{n}"), "name": "Mug", "price": 9.5,
                "quantity": 2, "currency": "EUR" },
            "context": {
                "page": { "url": format!("https://shop.example/p/{n}"), "title": "Mug" },
                "traits": { "email": format!("a{visitor}@shop.example") },
            },
        });
        let event = Arc::new(serde_json::from_value(event).unwrap());
        EnrichedEvent::new(n as u64, event, Arc::new(ProfileView::default()))
    };
    (0..VISITORS * EVENTS_OF_EACH).map(event).collect()
}

/// The requests that send these events to one vendor.
fn requests(destination: &dyn Destination, events: &[EnrichedEvent]) -> Vec<Request<Bytes>> {
    let habits = destination.delivery_limits();
    let together = match habits.scope {
        BatchScope::Visitor => EVENTS_OF_EACH,
        BatchScope::Site => habits.max_events,
    };
    let keep = Keep::default();
    for batch in events.chunks(together) {
        destination.deliver(batch, &keep).now_or_never().unwrap();
    }
    keep.0.into_inner()
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let (Some(url), Some(seconds)) = (words.next(), words.next()) else {
        println!("usage: cargo bench --bench bare -- URL SECONDS");
        return;
    };
    let (url, seconds): (Url, u64) = (url.parse().unwrap(), seconds.parse().unwrap());
    let events = events();
    let mut all = Vec::new();
    for (vendor, settings) in [
        ("ga4", "measurement_id = 'G-BENCH1'\napi_secret = 'secret'"),
        ("meta", "pixel_id = '123'\naccess_token = 'secret'"),
        ("mixpanel", "project_token = '0f1e2d3c4b5a69788796a5b4c3d2e1f0'"),
        ("amplitude", "api_key = '0123456789abcdef0123456789abcdef'"),
    ] {
        let destination = destinations::build(vendor, settings, Some(url.clone()));
        all.extend(requests(&*destination, &events));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = runtime.block_on(async {
        let client = reqwest::Client::new();
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut rounds = 0;
        while Instant::now() < until {
            stream::iter(&all)
                .map(|request| async {
                    let request = reqwest::Request::try_from(request.clone()).unwrap();
                    let mut reply = client.execute(request).await.unwrap();
                    assert!(reply.status().is_success(), "{}", reply.status());
                    while reply.chunk().await.unwrap().is_some() {}
                })
                .buffer_unordered(AT_ONCE)
                .for_each(|_reply| async {})
                .await;
            rounds += 1;
        }
        rounds
    });
    let posted = rounds * events.len() as u64;
    println!("{} requests a round, {} events/s to each vendor", all.len(), posted / seconds);
}
