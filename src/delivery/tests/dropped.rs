//! The fields that a destination drops are counted once an event.

use super::*;
use crate::event::DropReason;

/// A destination that drops two fields of each event, and takes each at the second try.
#[derive(Default)]
struct Lossy {
    tries: Mutex<Vec<u64>>,
}

#[async_trait]
impl Destination for Lossy {
    fn habits(&self) -> Habits {
        Scripted::new(Unit::Visitor, always(Outcome::Delivered)).habits
    }

    fn screen(&self, event: &Enriched, _now: jiff::Timestamp) -> Screening {
        let _rendered = event.rendered(|_, dropped| {
            dropped.add("list", DropReason::Nested);
            dropped.add("title", DropReason::TooLong);
        });
        Screening::Send
    }

    async fn deliver(&self, batch: &[Enriched], _call: &dyn Call) -> Vec<Outcome> {
        let mut tries = self.tries.lock().unwrap();
        let end = |event: &Enriched| {
            let is_known = tries.contains(&event.seq);
            tries.push(event.seq);
            if is_known { Outcome::Delivered } else { again() }
        };
        batch.iter().map(end).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_fields_are_counted_once_by_reason() {
    let bench = Bench::new().await;
    bench.run_any(&[("lossy", Arc::new(Lossy::default()))]).await;
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
