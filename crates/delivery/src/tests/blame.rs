//! Tests of failing events: events that fail while others pass must not make the others fail.

use std::sync::atomic::AtomicBool;

use super::*;

/// One call for the batch, even of several visitors: if it has an evil event, all of it fails with that.
struct WholeBatchDestination {
    inner: Arc<ScriptedDestination>,
    fails: fn() -> Outcome,
    is_mended: AtomicBool,
}

impl WholeBatchDestination {
    fn new(fails: fn() -> Outcome) -> Arc<Self> {
        let inner = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
        Arc::new(Self { inner, fails, is_mended: AtomicBool::new(false) })
    }
}

#[async_trait]
impl Destination for WholeBatchDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        self.inner.delivery_limits()
    }

    fn admit_event(&self, event: &EnrichedEvent, now: jiff::Timestamp) -> Result<(), Outcome> {
        self.inner.admit_event(event, now)
    }

    async fn deliver(&self, batch: &[EnrichedEvent], call: &dyn VendorCall) -> Vec<Outcome> {
        let has_evil = batch.iter().any(|event| event.event.label() == "evil");
        if has_evil && !self.is_mended.load(Ordering::Relaxed) {
            return vec![(self.fails)(); batch.len()];
        }
        self.inner.deliver(batch, call).await
    }
}

/// Returns a script with this answer to events named `evil`.
fn evil(answer: Outcome) -> OutcomeScript {
    Box::new(move |event, _| match event.event.label() {
        "evil" => answer.clone(),
        _ => Outcome::Delivered,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_unauthorised_event_is_dead_and_not_taken_for_wrong_credentials() {
    for unit in [BatchScope::Visitor, BatchScope::Site] {
        let bench = DeliveryTestBench::new().await;
        let forbids =
            evil(Outcome::Unauthorised(OutcomeReason::detailed("unauthorised", "HTTP 403")));
        let wary = ScriptedDestination::new(unit, forbids);
        bench.run(&[("wary", wary.clone())]).await;
        let visitors = ["a", "b", "c", "d"];
        let name = |n| if n == 3 { "evil" } else { "x" };
        for n in 0..40 {
            bench.append([(n, one_of(&visitors, n), name(n))]).await;
        }
        let ledger = bench.settled("wary").await;
        assert_eq!((ledger.delivered, ledger.dead), (39, 1), "{unit:?}");
        wary.assert_order_and_once();
        bench.eventually("wary", |_, status| status == DestinationStatus::Running).await;
        bench.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_that_always_fails_does_not_block_others() {
    let bench = DeliveryTestBench::new().await;
    let whole = WholeBatchDestination::new(retry_outcome);
    bench.run_any(&[("whole", whole.clone())]).await;
    bench.append((0..20).map(|n| (n, one_of(&["a", "b", "c"], n), "x"))).await;
    bench.append([(1000, "bad", "evil")]).await;
    bench.append((20..300).map(|n| (n, one_of(&["a", "b", "c"], n), "x"))).await;
    bench.eventually("whole", |ledger, _| ledger.delivered == 300).await;
    assert_eq!(bench.ledger("whole").await.pending, 1);
    whole.inner.assert_order_and_once();
    whole.is_mended.store(true, Ordering::Relaxed);
    assert_eq!(bench.settled("whole").await.delivered, 301, "the vendor takes it at last");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_of_one_visitor_keep_their_order() {
    let bench = DeliveryTestBench::new().await;
    let script: OutcomeScript = Box::new(|event, tried| match (id_of(&event.event), tried) {
        (7, _) => Outcome::Refused(OutcomeReason::new("refused")),
        (0..=4, 1..=4) => retry_outcome(),
        _ => Outcome::Delivered,
    });
    let picky = ScriptedDestination::new(BatchScope::Visitor, script);
    bench.run(&[("picky", picky.clone())]).await;
    bench.append((0..10).map(|n| (n, "v", "x"))).await;
    let ledger = bench.settled("picky").await;
    assert_eq!((ledger.delivered, ledger.dead), (9, 1));
    picky.assert_order_and_once();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_failing_events_use_bounded_memory() {
    let bench = DeliveryTestBench::new().await;
    let script: OutcomeScript = Box::new(|event, _| match id_of(&event.event) % 2 {
        0 => retry_outcome(),
        _ => Outcome::Delivered,
    });
    let half = ScriptedDestination::new(BatchScope::Site, script);
    bench.run(&[("half", half.clone())]).await;
    // Every visitor occurs once, so that no event waits behind another.
    let visitors: Vec<String> = (0..2000).map(|n| format!("v{n}")).collect();
    bench.append((0..2000).zip(&visitors).map(|(n, visitor)| (n, visitor.as_str(), "x"))).await;
    let ledger = bench.eventually("half", |ledger, _| ledger.delivered == 1000).await;
    assert_eq!(ledger.pending, 1000);
    half.now_answer(always(Outcome::Delivered));
    assert_eq!(bench.settled("half").await.delivered, 2000);
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panic_in_vendor_code_ends_its_event_only() {
    let bench = DeliveryTestBench::new().await;
    let clumsy = WholeBatchDestination::new(|| panic!("a defect"));
    bench.run_any(&[("clumsy", clumsy.clone())]).await;
    bench.append((0..30).map(|n| (n, "v", if n == 11 { "evil" } else { "x" }))).await;
    let ledger = bench.settled("clumsy").await;
    assert_eq!((ledger.delivered, ledger.dead), (29, 1));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_events_stay_before_later_ones_after_a_restart() {
    let bench = DeliveryTestBench::new().await;
    let script: OutcomeScript = Box::new(|event, _| match id_of(&event.event) {
        0 => retry_outcome(),
        _ => Outcome::Delivered,
    });
    let stuck = ScriptedDestination::new(BatchScope::Visitor, script);
    bench.run(&[("stuck", stuck.clone())]).await;
    bench.append([(0, "bad", "x")]).await;
    bench.append((1..200).map(|n| (n, if n % 50 == 0 { "bad" } else { "good" }, "x"))).await;
    bench.eventually("stuck", |ledger, _| ledger.pending == 4).await;
    bench.run(&[]).await;
    bench.run(&[("stuck", stuck.clone())]).await;
    bench.append([(200, "bad", "x"), (201, "good", "x")]).await;
    bench.eventually("stuck", |ledger, _| ledger.pending == 5).await;
    stuck.now_answer(always(Outcome::Delivered));
    assert_eq!(bench.settled("stuck").await.delivered, 202);
    stuck.assert_order_and_once();
    bench.end().await;
}
