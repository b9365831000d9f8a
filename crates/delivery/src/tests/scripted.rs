//! A destination that answers by a script.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use tagway_core::event::EnrichedEvent;
use tagway_vendors::{BatchScope, DeliveryLimits, Destination, Outcome, VendorCall};

pub(super) type OutcomeScript =
    Box<dyn Fn(&EnrichedEvent, usize) -> Outcome + Send + std::marker::Sync>;

/// Answers each event by a script that gets the number of its tries.
pub(super) struct ScriptedDestination {
    pub(super) script: Mutex<OutcomeScript>,
    pub(super) tries: Mutex<HashMap<u64, usize>>,
    pub(super) taken: Mutex<Vec<(String, u64)>>,
    pub(super) calls: AtomicUsize,
    pub(super) limits: DeliveryLimits,
}

impl ScriptedDestination {
    pub(super) fn new(unit: BatchScope, script: OutcomeScript) -> Arc<Self> {
        let habits = DeliveryLimits {
            scope: unit,
            max_events: 10,
            max_bytes: 1 << 20,
            batch_delay: Duration::ZERO,
            max_age: Duration::from_secs(3600),
            concurrency: 4,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        };
        let (tries, taken, calls) = Default::default();
        Arc::new(Self { script: Mutex::new(script), tries, taken, calls, limits: habits })
    }

    pub(super) fn now_answer(&self, script: OutcomeScript) {
        *self.script.lock() = script;
    }

    pub(super) fn taken(&self) -> Vec<u64> {
        let mut seqs: Vec<u64> = self.taken.lock().iter().map(|(_, seq)| *seq).collect();
        seqs.sort_unstable();
        seqs
    }

    /// Returns the time in which this number of further calls arrive.
    pub(super) async fn time_of_calls(&self, count: usize) -> Duration {
        let (started, before) = (Instant::now(), self.calls.load(Ordering::Relaxed));
        while self.calls.load(Ordering::Relaxed) < before + count {
            assert!(started.elapsed() < Duration::from_secs(60), "no probe arrives");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    }

    pub(super) fn assert_order_and_once(&self) {
        let mut last: HashMap<String, u64> = HashMap::new();
        for (visitor, seq) in self.taken.lock().iter() {
            let before = last.insert(visitor.clone(), *seq).unwrap_or(0);
            assert!(before < *seq, "{visitor}: {seq} after {before}");
        }
    }
}

#[async_trait]
impl Destination for ScriptedDestination {
    fn delivery_limits(&self) -> DeliveryLimits {
        self.limits
    }

    fn admit_event(&self, event: &EnrichedEvent, _now: jiff::Timestamp) -> Result<(), Outcome> {
        match event.event.label() {
            "unwanted" => Err(Outcome::skipped("unwanted")),
            _ => Ok(()),
        }
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let script = self.script.lock();
        let mut tries = self.tries.lock();
        let outcomes: Vec<Outcome> = batch
            .iter()
            .map(|event| {
                let tried = tries.entry(event.seq).or_default();
                *tried += 1;
                script(event, *tried)
            })
            .collect();
        if let Some(refusal) = outcomes.iter().find(|o| matches!(o, Outcome::Refused(_))) {
            return vec![refusal.clone(); batch.len()];
        }
        let again = outcomes.iter().find(|o| matches!(o, Outcome::Retry { .. }));
        if let (BatchScope::Visitor, Some(again)) = (self.limits.scope, again) {
            // One call for the batch: all or nothing.
            return vec![again.clone(); batch.len()];
        }
        let mut taken = self.taken.lock();
        for (event, outcome) in batch.iter().zip(&outcomes) {
            if *outcome == Outcome::Delivered {
                taken.push((event.event.order_key().to_owned(), event.seq));
            }
        }
        outcomes
    }
}
