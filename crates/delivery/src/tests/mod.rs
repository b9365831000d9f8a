//! Tests of whole workers over a real journal, against a scripted destination.

mod awaiting;
mod blame;
mod dropped;
mod fate;
mod holding;
mod poison;
mod scripted;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::scripted::{OutcomeScript, ScriptedDestination};
use super::*;
use tagway_core::clock::{SharedClock, SystemClock};
use tagway_core::event::{EnrichedEvent, Event};
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::{DestinationLabels, Metrics};
use tagway_storage::journal::{
    AppendDurability, DeadLetterFilter, DeadLetterSelection, Journal, JournalSearch,
    JournalSettings, MessageKey, NewJournalRecord, ReaderAccount, ReaderLedger, SqliteJournal,
};
use tagway_storage::profile::{ProfileProjection, ProfileService, SqliteProfileStore};
use tagway_storage::store::{CommitSyncMode, SqliteStore};
use tagway_vendors::{BatchScope, DeliveryLimits, Destination, Outcome, OutcomeReason, VendorCall};

struct DeliveryTestBench {
    folder: tempfile::TempDir,
    journal: Arc<SqliteJournal>,
    metrics: Arc<Metrics>,
    dispatcher: DeliveryDispatcher,
    site: DeliverySite,
    stop: CancellationToken,
    projection: tokio::task::JoinHandle<()>,
}

impl DeliveryTestBench {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), tagway_storage::profile::EmptyCounterSet::watched())
            .await
    }

    async fn at(
        folder: tempfile::TempDir,
        counters: watch::Receiver<Arc<dyn tagway_storage::profile::EventCounterSet>>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new());
        let schemas = [tagway_storage::journal::MIGRATIONS, tagway_storage::profile::MIGRATIONS];
        let store = Arc::new(
            SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone())
                .unwrap(),
        );
        let settings = JournalSettings {
            durability: AppendDurability::Os,
            retain: Duration::from_secs(3600),
            max_bytes: u64::MAX,
            spare_bytes: 1 << 30,
            retain_dead: Duration::from_secs(3600),
            dedupe_window: Duration::from_secs(600),
            dedupe_entries: 100_000,
            poison_starts: 3,
            letter_chars: 100,
            detail_chars: 100,
            queue_bytes: 1 << 24,
        };
        let clock: SharedClock = Arc::new(SystemClock);
        let journal = SqliteJournal::open(store.clone(), settings, clock.clone(), metrics.clone());
        let journal = Arc::new(journal.await.unwrap());
        let cache = tagway_storage::profile::ProfileSettings::small(
            tagway_storage::profile::ProfileLimits::new(1 << 15, 1000, 100),
        );
        let profiles = Arc::new(ProfileService::new(
            Arc::new(SqliteProfileStore::new(store, cache.limits)),
            &cache,
            metrics.clone(),
            tokio::runtime::Handle::current(),
        ));
        let id = journal.site("shop").await.unwrap();
        let (_, settings) =
            tokio::sync::watch::channel(tagway_storage::profile::SiteProfileSettings {
                activity: true,
                anonymous_retain: Duration::from_secs(86_400),
                public: tagway_storage::profile::PublicProfilePaths::default(),
                source: None,
            });
        let setup = tagway_storage::profile::ProjectionConfig {
            site: id,
            name: "shop".into(),
            settings,
            counters,
        };
        let projection =
            ProfileProjection::start(setup, journal.clone(), profiles.clone(), metrics.clone())
                .await
                .unwrap();
        let site = DeliverySite { id, name: "shop".into(), projected: projection.progress() };
        let stop = CancellationToken::new();
        let projection = Handle::current().spawn(projection.run(stop.clone()));
        let dispatcher = DeliveryDispatcher::new(DeliveryContext {
            journal: journal.clone(),
            profiles,
            clock,
            feed: LiveFeed::default(),
            redaction: Default::default(),
            metrics: metrics.clone(),
            runtime: Handle::current(),
        });
        Self { folder, journal, metrics, dispatcher, site, stop, projection }
    }

    async fn run(&self, destinations: &[(&str, Arc<ScriptedDestination>)]) {
        self.run_any(destinations).await;
    }

    async fn run_any<D: Destination + 'static>(&self, destinations: &[(&str, Arc<D>)]) {
        let destinations = destinations
            .iter()
            .map(|(name, destination)| {
                Arc::new(DestinationSettings::for_tests(name, destination.clone()))
            })
            .collect();
        self.apply(destinations).await;
    }

    async fn apply(&self, destinations: Vec<Arc<DestinationSettings>>) {
        let egress = EgressSettings {
            allow_private: true,
            reply_bytes: 1000,
            connect_timeout: Duration::from_secs(1),
            idle_time: Duration::from_secs(1),
            idle_per_host: 1,
        };
        let sites = [SiteDestinations { site: self.site.clone(), destinations }];
        self.dispatcher.apply(&sites, &egress).await.unwrap();
    }

    async fn append(&self, events: impl IntoIterator<Item = (u64, &str, &str)>) {
        let now = SystemClock;
        let records = events.into_iter().map(|(id, visitor, name)| {
            let received_at = tagway_core::clock::Clock::now(&now);
            let event = serde_json::json!({
                "type": "track", "event": name, "messageId": id.to_string(),
                "anonymousId": visitor, "timestamp": received_at, "receivedAt": received_at,
            });
            NewJournalRecord {
                site: self.site.id,
                message: MessageKey::new("shop", &id.to_string()),
                rank: tagway_core::event::SenderRank::Server,
                received_at,
                identifies: false,
                body: serde_json::to_vec(&event).unwrap(),
            }
        });
        self.journal.append(records.collect()).await.unwrap();
    }

    fn reader(&self, name: &str) -> RunningDestination {
        self.dispatcher
            .running_destinations()
            .into_iter()
            .find(|r| &*r.destination == name)
            .unwrap()
    }

    async fn account(&self, name: &str) -> ReaderAccount {
        self.journal.accounts(vec![self.reader(name).reader]).await.unwrap().remove(0)
    }

    async fn ledger(&self, name: &str) -> ReaderLedger {
        let ledger = self.account(name).await.ledger;
        let ended = ledger.delivered + ledger.skipped + ledger.dead;
        assert_eq!(ledger.accepted, ended + ledger.pending + ledger.held, "{ledger:?}");
        ledger
    }

    async fn settled(&self, name: &str) -> ReaderLedger {
        self.eventually(name, |ledger, _| ledger.pending + ledger.held == 0).await
    }

    async fn eventually(
        &self,
        name: &str,
        is_so: impl Fn(&ReaderLedger, DestinationStatus) -> bool,
    ) -> ReaderLedger {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let ledger = self.ledger(name).await;
            if is_so(&ledger, self.reader(name).status) {
                return ledger;
            }
            assert!(Instant::now() < deadline, "{ledger:?} {:?}", self.reader(name));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn end(self) {
        self.dispatcher.stop().await;
        self.stop.cancel();
        self.projection.await.unwrap();
    }
}

fn always(outcome: Outcome) -> OutcomeScript {
    Box::new(move |_, _| outcome.clone())
}

fn retry_outcome() -> Outcome {
    Outcome::Retry { reason: OutcomeReason::new("vendor_error"), after: None }
}

fn id_of(event: &Event) -> u64 {
    event.message_id.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_arrive_once_in_their_visitors_order() {
    let bench = DeliveryTestBench::new().await;
    for unit in [BatchScope::Visitor, BatchScope::Site] {
        let name = format!("{unit:?}");
        let flaky = ScriptedDestination::new(
            unit,
            Box::new(|event, tried| {
                if tried <= usize::try_from(event.seq % 3).unwrap() {
                    retry_outcome()
                } else {
                    Outcome::Delivered
                }
            }),
        );
        bench.run(&[(&name, flaky.clone())]).await;
        let visitors = ["a", "b", "c", "d", "e", "f", "g"];
        let base = if unit == BatchScope::Site { 10_000 } else { 0 };
        bench.append((0..500).map(|n| (base + n, one_of(&visitors, n * 31), "x"))).await;
        let ledger = bench.settled(&name).await;
        assert_eq!((ledger.delivered, flaky.taken().len()), (500, 500));
        if unit == BatchScope::Visitor {
            flaky.assert_order_and_once();
        }
    }
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_batch_is_split_until_the_bad_event_is_alone() {
    let bench = DeliveryTestBench::new().await;
    let picky = ScriptedDestination::new(
        BatchScope::Site,
        Box::new(|event, _| match id_of(&event.event) {
            7 | 33 => Outcome::Refused(OutcomeReason::detailed("refused", "HTTP 400")),
            _ => Outcome::Delivered,
        }),
    );
    bench.run(&[("picky", picky.clone())]).await;
    bench.append((0..50).map(|n| (n, "v", if n % 10 == 9 { "unwanted" } else { "x" }))).await;
    let ledger = bench.settled("picky").await;
    assert_eq!((ledger.delivered, ledger.skipped, ledger.dead), (43, 5, 2));
    let reader = bench.reader("picky").reader;
    let letters =
        bench.journal.list_dead_letters(DeadLetterFilter::of(reader), None, 10).await.unwrap();
    assert_eq!(letters.iter().map(|l| l.seq).collect::<Vec<_>>(), [34, 8]);
    assert_eq!(letters[0].detail, "HTTP 400");
    // Once the vendor is repaired, they are retried and arrive.
    picky.now_answer(always(Outcome::Delivered));
    bench.journal.retry_dead(DeadLetterSelection::Reader(reader)).await.unwrap();
    bench.dispatcher.wake(reader);
    let ledger = bench.settled("picky").await;
    assert_eq!((ledger.delivered, ledger.dead), (45, 0));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_destination_is_paused_without_memory_or_delay_for_others() {
    let bench = DeliveryTestBench::new().await;
    let down = ScriptedDestination::new(BatchScope::Site, always(retry_outcome()));
    let well = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    bench.run(&[("down", down.clone()), ("well", well.clone())]).await;
    bench.append((0..1000).map(|n| (n, "v", "x"))).await;
    assert_eq!(bench.settled("well").await.delivered, 1000);
    let ledger = bench.eventually("down", |_, status| status == DestinationStatus::Broken).await;
    assert_eq!((ledger.pending, ledger.dead), (1000, 0));
    // A busy machine makes pauses longer, never shorter.
    let took = down.time_of_calls(10).await;
    assert!(
        took >= Duration::from_millis(100),
        "10 probes in {took:?}, with pauses of 20 to 40 ms"
    );
    down.now_answer(always(Outcome::Delivered));
    assert_eq!(bench.settled("down").await.delivered, 1000);
    down.assert_order_and_once();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_pause_visibly_without_dead_letters() {
    let bench = DeliveryTestBench::new().await;
    let locked = ScriptedDestination::new(
        BatchScope::Visitor,
        always(Outcome::Unauthorised(OutcomeReason::detailed("unauthorised", "HTTP 401"))),
    );
    bench.run(&[("locked", locked.clone())]).await;
    bench.append((0..100).map(|n| (n, one_of(&["a", "b", "c"], n), "x"))).await;
    bench.eventually("locked", |_, status| status == DestinationStatus::Unauthorised).await;
    let took = locked.time_of_calls(4).await;
    assert!(took >= Duration::from_millis(60), "4 probes in {took:?}, one each 30 ms");
    locked.now_answer(always(Outcome::Delivered));
    assert_eq!(bench.settled("locked").await.delivered, 100);
    bench.eventually("locked", |_, status| status == DestinationStatus::Running).await;
    locked.assert_order_and_once();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_event_is_parked_with_its_visitors_later_events_behind() {
    let bench = DeliveryTestBench::new().await;
    let stuck = ScriptedDestination::new(
        BatchScope::Visitor,
        Box::new(|event, tried| match (id_of(&event.event), tried) {
            (0, 0..=12) => retry_outcome(),
            _ => Outcome::Delivered,
        }),
    );
    bench.run(&[("stuck", stuck.clone())]).await;
    bench.append([(0, "bad", "x")]).await;
    bench.append((1..400).map(|n| (n, if n % 50 == 0 { "bad" } else { "good" }, "x"))).await;
    assert_eq!(bench.settled("stuck").await.delivered, 400, "the window of 64 was no obstacle");
    stuck.assert_order_and_once();
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttled_visitor_delays_no_other() {
    let bench = DeliveryTestBench::new().await;
    let fair = ScriptedDestination::new(
        BatchScope::Site,
        Box::new(|event, _| match event.event.order_key() {
            "greedy" => {
                let after = Duration::from_secs(3600);
                Outcome::Throttled { reason: OutcomeReason::new("throttled"), after }
            }
            _ => Outcome::Delivered,
        }),
    );
    bench.run(&[("fair", fair.clone())]).await;
    bench.append([(0, "greedy", "x")]).await;
    bench.eventually("fair", |_, status| status == DestinationStatus::Retrying).await;
    bench.append((1..100).map(|n| (n, one_of(&["greedy", "a", "b"], n), "x"))).await;
    let ledger = bench.eventually("fair", |ledger, _| ledger.delivered == 66).await;
    assert_eq!((ledger.pending, fair.tries.lock()[&1]), (34, 1));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_worker_resumes_where_it_stood() {
    let bench = DeliveryTestBench::new().await;
    let steady = ScriptedDestination::new(BatchScope::Site, always(Outcome::Delivered));
    for round in 0..5 {
        bench.run(&[("steady", steady.clone())]).await;
        bench.append((0..100).map(|n| (round * 100 + n, "v", "x"))).await;
        // Stopped while it works.
        bench.run(&[]).await;
    }
    bench.run(&[("steady", steady.clone())]).await;
    assert_eq!(bench.settled("steady").await.delivered, 500);
    assert_eq!(steady.taken(), (1..=500).collect::<Vec<_>>(), "each once");
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probe_that_is_refused_or_skipped_does_not_block_delivery() {
    for odd in [Outcome::Unauthorised(OutcomeReason::new("x")), Outcome::skipped("x")] {
        let bench = DeliveryTestBench::new().await;
        let script: OutcomeScript = Box::new(move |_, tried| match tried {
            // The breaker opens after five, and the sixth is its probe.
            1..=5 => retry_outcome(),
            6 => odd.clone(),
            _ => Outcome::Delivered,
        });
        let slow = ScriptedDestination::new(BatchScope::Visitor, script);
        bench.run(&[("slow", slow.clone())]).await;
        bench.append([(0, "a", "x")]).await;
        bench.settled("slow").await;
        slow.now_answer(always(Outcome::Delivered));
        bench.append([(1, "b", "x")]).await;
        bench.settled("slow").await;
        bench.end().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_event_ends_once_for_any_vendor_answers(
        answers in prop::collection::vec((0..6_u8, 0..4_usize), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let bench = DeliveryTestBench::new().await;
            let count = answers.len() as u64;
            let script: OutcomeScript = Box::new(move |event, tried| {
                let (answer, patience) = answers[usize::try_from(event.seq).unwrap() - 1];
                match answer {
                    _ if tried <= patience => retry_outcome(),
                    0 => Outcome::dead("dead"),
                    1 => Outcome::skipped("skipped"),
                    2 => Outcome::Refused(OutcomeReason::new("refused")),
                    3 if tried <= patience + 1 => {
                        Outcome::Unauthorised(OutcomeReason::new("unauthorised"))
                    }
                    _ => Outcome::Delivered,
                }
            });
            let odd = ScriptedDestination::new(BatchScope::Site, script);
            bench.run(&[("odd", odd.clone())]).await;
            bench.append((0..count).map(|n| (n, one_of(&["a", "b"], n), "x"))).await;
            let ledger = bench.settled("odd").await;
            assert_eq!(ledger.accepted, count);
            let mut taken = odd.taken();
            taken.dedup();
            assert_eq!(taken.len() as u64, ledger.delivered, "none twice");
            bench.end().await;
        });
    }
}

fn one_of(names: &[&'static str], n: u64) -> &'static str {
    names[usize::try_from(n).unwrap() % names.len()]
}
