//! Tests of events held until their visitor is known.

use serde_json::{Value, json};

use super::*;

/// A destination that records the user id of each event it receives.
struct RecordingDestination(Mutex<Vec<(u64, String)>>);

#[async_trait]
impl Destination for RecordingDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        ScriptedDestination::new(BatchScope::Visitor, always(Outcome::Delivered)).limits
    }

    fn admit_event(&self, _event: &EnrichedEvent, _now: jiff::Timestamp) -> Result<(), Outcome> {
        Ok(())
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        let who = |event: &EnrichedEvent| event.user_id().unwrap_or("nobody").to_owned();
        let mut recorded = self.0.lock();
        recorded.extend(batch.iter().map(|event| (event.seq, who(event))));
        vec![Outcome::Delivered; batch.len()]
    }
}

impl RecordingDestination {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    fn taken(&self) -> Vec<(u64, String)> {
        self.0.lock().clone()
    }
}

fn of(seqs: &[(u64, &str)]) -> Vec<(u64, String)> {
    seqs.iter().map(|(seq, who)| (*seq, (*who).to_owned())).collect()
}

fn settings(destination: &Arc<RecordingDestination>, hold: Duration) -> DestinationSettings {
    let mut settings = DestinationSettings::for_tests("held", destination.clone());
    settings.identity_wait = hold;
    settings
}

const LONG: Duration = Duration::from_secs(600);

impl DeliveryTestBench {
    async fn run_awaiting(&self, destination: &Arc<RecordingDestination>, hold: Duration) {
        self.apply(vec![Arc::new(settings(destination, hold))]).await;
    }

    /// Appends an event with these members.
    async fn append_message(&self, id: u64, stated: Value) {
        let received_at = tagway_core::clock::Clock::now(&SystemClock);
        let mut event = json!({
            "type": "track", "event": "x", "messageId": id.to_string(),
            "timestamp": received_at, "receivedAt": received_at,
        });
        let identifies = stated.get("userId").is_some() || stated.get("traits").is_some();
        event.as_object_mut().unwrap().extend(stated.as_object().unwrap().clone());
        let record = NewJournalRecord {
            site: self.site.id,
            message: MessageKey::new("shop", &id.to_string()),
            rank: tagway_core::event::SenderRank::Server,
            received_at,
            identifies,
            body: serde_json::to_vec(&event).unwrap(),
        };
        self.journal.append(vec![record]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_releases_earlier_events_with_the_user_id_in_order() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    bench.run_awaiting(&recorded, LONG).await;
    bench.append_message(1, json!({ "anonymousId": "a" })).await;
    bench.append_message(2, json!({ "anonymousId": "b" })).await;
    bench.append_message(3, json!({ "anonymousId": "a" })).await;
    bench.append_message(4, json!({ "anonymousId": "c", "userId": "known" })).await;
    bench
        .eventually("held", |ledger, _| ledger.delivered == 1 && ledger.pending + ledger.held == 3)
        .await;
    assert_eq!(recorded.taken(), of(&[(4, "known")]), "who is known waits for nobody");
    bench.append_message(5, json!({ "anonymousId": "a", "userId": "u", "type": "identify" })).await;
    bench.append_message(6, json!({ "anonymousId": "a" })).await;
    bench
        .eventually("held", |ledger, _| ledger.delivered == 5 && ledger.pending + ledger.held == 1)
        .await;
    let of_a: Vec<_> = recorded.taken().into_iter().filter(|(_, who)| who == "u").collect();
    assert_eq!(of_a, of(&[(1, "u"), (3, "u"), (5, "u"), (6, "u")]));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_releases_events_of_devices_linked_to_the_known_user() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    bench.run_awaiting(&recorded, LONG).await;
    let visitor = json!({ "visitor": { "id": "v", "since": "2026-11-23T10:00:00Z" } });
    bench.append_message(1, json!({ "anonymousId": "a" })).await;
    bench.append_message(2, json!({ "anonymousId": "a", "facts": visitor })).await;
    bench.eventually("held", |ledger, _| ledger.pending + ledger.held == 2).await;
    bench.append_message(3, json!({ "userId": "u", "facts": visitor })).await;
    bench.settled("held").await;
    let mut taken = recorded.taken();
    taken.sort();
    assert_eq!(taken, of(&[(1, "u"), (2, "u"), (3, "u")]));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_releases_events_once_an_email_is_known() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    bench.run_awaiting(&recorded, LONG).await;
    bench.append_message(1, json!({ "anonymousId": "a" })).await;
    bench.eventually("held", |ledger, _| ledger.pending + ledger.held == 1).await;
    let stated = json!({
        "anonymousId": "a", "type": "identify", "traits": { "email": "a@mail.example" },
    });
    bench.append_message(2, stated).await;
    bench.settled("held").await;
    assert_eq!(recorded.taken(), of(&[(1, "nobody"), (2, "nobody")]));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_ends_for_unknown_visitors_after_identity_wait() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    bench.run_awaiting(&recorded, Duration::from_millis(300)).await;
    bench.append_message(1, json!({ "anonymousId": "a" })).await;
    bench.append_message(2, json!({ "anonymousId": "a" })).await;
    bench.settled("held").await;
    assert_eq!(recorded.taken(), of(&[(1, "nobody"), (2, "nobody")]));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_skips_events_not_for_the_destination() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    let mut wants_orders = settings(&recorded, LONG);
    wants_orders.filter.events = tagway_vendors::mapping::GlobPatterns::new(&["Order*".to_owned()]);
    bench.apply(vec![Arc::new(wants_orders)]).await;
    bench.append_message(1, json!({ "anonymousId": "a" })).await;
    bench.append_message(2, json!({ "anonymousId": "a", "event": "Order Completed" })).await;
    let ledger = bench.eventually("held", |ledger, _| ledger.skipped == 1).await;
    assert_eq!(ledger.pending + ledger.held, 1);
    // The identify is not for the destination either, but it names the user.
    bench.append_message(3, json!({ "anonymousId": "a", "userId": "u", "type": "identify" })).await;
    bench.settled("held").await;
    assert_eq!(recorded.taken(), of(&[(2, "u")]));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_skips_visitors_with_ephemeral_or_daily_ids() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    bench.run_awaiting(&recorded, LONG).await;
    bench.append_message(1, json!({ "anonymousId": "once", "facts": { "passing": true } })).await;
    bench
        .append_message(2, json!({ "anonymousId": "daily", "facts": { "format": "plausible" } }))
        .await;
    bench.settled("held").await;
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_releases_the_oldest_beyond_parked_max() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    let mut small = settings(&recorded, LONG);
    small.retry.parked_max = 3;
    bench.apply(vec![Arc::new(small)]).await;
    for id in 1..=5 {
        bench.append_message(id, json!({ "anonymousId": id.to_string() })).await;
    }
    let ledger = bench.eventually("held", |ledger, _| ledger.delivered == 2).await;
    // Different visitors do not wait for each other.
    let mut taken = recorded.taken();
    taken.sort();
    assert_eq!((ledger.pending + ledger.held, taken), (3, of(&[(1, "nobody"), (2, "nobody")])));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_survives_a_restart_of_its_destination() {
    let bench = DeliveryTestBench::new().await;
    let recorded = RecordingDestination::new();
    bench.run_awaiting(&recorded, LONG).await;
    for id in 1..=40 {
        bench.append_message(id, json!({ "anonymousId": "a" })).await;
        if id % 10 == 0 {
            bench.apply(Vec::new()).await;
            bench.run_awaiting(&recorded, LONG).await;
        }
    }
    assert_eq!(recorded.taken(), of(&[]));
    bench.append_message(41, json!({ "anonymousId": "a", "userId": "u" })).await;
    bench.settled("held").await;
    let expected: Vec<_> = (1..=41).map(|seq| (seq, "u".to_owned())).collect();
    assert_eq!(recorded.taken(), expected, "in order, each once");
    bench.end().await;
}
