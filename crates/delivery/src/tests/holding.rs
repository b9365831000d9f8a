//! Tests of events held for their visitor's consent choice.

use serde_json::{Value, json};

use super::*;
use tagway_core::privacy::UnknownConsent;

impl DeliveryTestBench {
    /// Runs one destination that holds events for consent to analytics for this long.
    async fn run_holding(&self, destination: &Arc<ScriptedDestination>, hold: Duration) {
        let mut settings = DestinationSettings::for_tests("held", destination.clone());
        settings.filter.consent = vec!["analytics".to_owned()];
        settings.filter.unknown_consent = UnknownConsent::Hold;
        settings.consent_wait = hold;
        self.apply(vec![Arc::new(settings)]).await;
    }

    /// Appends an event of a visitor with the page's consent record.
    async fn append_with(&self, id: u64, visitor: &str, consent: Option<bool>) {
        let received_at = tagway_core::clock::Clock::now(&SystemClock);
        let context: Value = match consent {
            Some(answer) => {
                json!({ "consent": { "categoryPreferences": { "analytics": answer } } })
            }
            None => json!({}),
        };
        let event = json!({
            "type": "track", "event": "x", "messageId": id.to_string(), "anonymousId": visitor,
            "timestamp": received_at, "receivedAt": received_at, "context": context,
        });
        let record = NewJournalRecord {
            site: self.site.id,
            message: MessageKey::new("shop", &id.to_string()),
            rank: tagway_core::event::SenderRank::Server,
            received_at,
            identifies: false,
            body: serde_json::to_vec(&event).unwrap(),
        };
        self.journal.append(vec![record]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_applies_the_choice_to_earlier_events() {
    let bench = DeliveryTestBench::new().await;
    let taking = ScriptedDestination::new(BatchScope::Visitor, always(Outcome::Delivered));
    bench.run_holding(&taking, Duration::from_secs(600)).await;
    for (id, visitor) in [(1, "yes"), (2, "no"), (3, "silent"), (4, "yes")] {
        bench.append_with(id, visitor, None).await;
    }
    bench.eventually("held", |ledger, _| ledger.held == 4).await;
    assert_eq!(bench.account("held").await.oldest_pending, None, "what is held is no backlog");
    assert_eq!(taking.taken(), Vec::<u64>::new(), "nobody has agreed");
    bench.append_with(5, "yes", Some(true)).await;
    bench.append_with(6, "no", Some(false)).await;
    bench.append_with(7, "yes", None).await;
    let ledger = bench.eventually("held", |ledger, _| ledger.pending + ledger.held == 1).await;
    assert_eq!((ledger.delivered, ledger.skipped), (4, 2));
    assert_eq!(taking.taken(), [1, 4, 5, 7], "and what says nothing afterwards as well");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_skips_events_of_visitors_who_never_choose() {
    let bench = DeliveryTestBench::new().await;
    let taking = ScriptedDestination::new(BatchScope::Visitor, always(Outcome::Delivered));
    bench.run_holding(&taking, Duration::from_millis(300)).await;
    bench.append_with(1, "silent", None).await;
    let ledger = bench.settled("held").await;
    assert_eq!((ledger.delivered, ledger.skipped), (0, 1));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hold_for_consent_survives_a_restart_of_its_destination() {
    let bench = DeliveryTestBench::new().await;
    let taking = ScriptedDestination::new(BatchScope::Visitor, always(Outcome::Delivered));
    bench.run_holding(&taking, Duration::from_secs(600)).await;
    bench.append_with(1, "yes", None).await;
    bench.append_with(2, "other", None).await;
    // It is probably parked by then; in both cases nothing may be lost.
    tokio::time::sleep(Duration::from_millis(100)).await;
    bench.apply(Vec::new()).await;
    bench.run_holding(&taking, Duration::from_secs(600)).await;
    bench.append_with(3, "yes", Some(true)).await;
    let ledger = bench.eventually("held", |ledger, _| ledger.delivered == 2).await;
    assert_eq!((ledger.pending + ledger.held, taking.taken()), (1, vec![1, 3]));
    bench.end().await;
}
