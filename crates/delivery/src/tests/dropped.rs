//! Tests that the fields that a destination drops are counted once an event.

use super::*;
use tagway_core::event::FieldDropReason;

/// A destination that drops two fields of each event, and accepts each at the second try.
#[derive(Default)]
struct LossyDestination {
    tries: Mutex<Vec<u64>>,
}

#[async_trait]
impl Destination for LossyDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        ScriptedDestination::new(BatchScope::Visitor, always(Outcome::Delivered)).limits
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: jiff::Timestamp) -> Result<(), Outcome> {
        let _rendered = event.rendered(|_, dropped| {
            dropped.add("list", FieldDropReason::Nested);
            dropped.add("title", FieldDropReason::TooLong);
        });
        Ok(())
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        let mut tries = self.tries.lock();
        let end = |event: &EnrichedEvent| {
            let is_known = tries.contains(&event.seq);
            tries.push(event.seq);
            if is_known { Outcome::Delivered } else { retry_outcome() }
        };
        batch.iter().map(end).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_fields_are_counted_once_by_reason() {
    let bench = DeliveryTestBench::new().await;
    bench.run_any(&[("lossy", Arc::new(LossyDestination::default()))]).await;
    bench.append((0..5).map(|n| (n, "a", "x"))).await;
    assert_eq!(bench.settled("lossy").await.delivered, 5);
    let text = bench.metrics.render();
    for reason in ["nested", "too_long"] {
        let labels = format!("site=\"shop\",destination=\"lossy\",reason=\"{reason}\"");
        let line = format!("tagway_fields_dropped_total{{{labels}}} 5\n");
        assert!(text.contains(&line), "{text}");
    }
    bench.end().await;
}
