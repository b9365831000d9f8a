//! Tests that counters made later count the same as those that were there from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::journal::{
    self, AppendDurability, Journal, MessageKey, NewJournalRecord, SiteId, SqliteJournal,
};
use crate::profile::{
    self, BackfillStep, CountedEvent, CounterProgress, CounterStore, DeviceIdentity,
    EmptyCounterSet, EventCounterSet, Identity, IdentityKind, MIGRATIONS, OldestRecord,
    ProfileLimits, ProfileProjection, ProfileService, ProfileStore, ProfileUpdate,
    ProjectionConfig, SiteProfileSettings, SqliteProfileStore,
};
use crate::store::{CommitSyncMode, SqliteStore};
use tagway_core::clock::ManualClock;
use tagway_core::event::Event;
use tagway_core::metrics::Metrics;

const SITE: SiteId = SiteId(1);

const LIMITS: ProfileLimits = ProfileLimits::new(1000, 100, 100);

/// Counts events of at least these values.
struct ThresholdCounterSet(Vec<u64>);

fn key(value: u64) -> String {
    format!("Order\u{1f}{value:03}")
}

impl EventCounterSet for ThresholdCounterSet {
    fn reserves(&self, _name: &str) -> bool {
        false
    }

    fn keys(&self, event: &Event, out: &mut Vec<String>) {
        let properties = event.properties.as_ref();
        let value = properties.and_then(|it| it.get("value")).and_then(Value::as_u64).unwrap_or(0);
        out.extend(self.0.iter().filter(|least| value >= **least).map(|least| key(*least)));
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|least| key(*least)).collect()
    }
}

fn counting(values: &[u64]) -> Arc<dyn EventCounterSet> {
    Arc::new(ThresholdCounterSet(values.to_vec()))
}

/// A gateway's journal and profiles. Ends like a program that is killed.
struct BackfillTestBed {
    folder: tempfile::TempDir,
    running: Option<RunningBackfill>,
}

struct RunningBackfill {
    journal: Arc<SqliteJournal>,
    profiles: Arc<ProfileService>,
    store: Arc<SqliteStore>,
    site: SiteId,
    counters: watch::Sender<Arc<dyn EventCounterSet>>,
    projected: watch::Receiver<u64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    _settings: watch::Sender<SiteProfileSettings>,
}

impl BackfillTestBed {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), running: None }
    }

    async fn start(
        &mut self,
        counters: Arc<dyn EventCounterSet>,
        per_second: u32,
    ) -> &RunningBackfill {
        let metrics = Arc::new(Metrics::new());
        let schemas = [journal::MIGRATIONS, MIGRATIONS];
        let opened =
            SqliteStore::open(self.folder.path(), CommitSyncMode::Os, &schemas, metrics.clone());
        let store = Arc::new(opened.unwrap());
        let settings = journal::JournalSettings {
            durability: AppendDurability::Os,
            retain: Duration::from_secs(86_400),
            max_bytes: u64::MAX,
            spare_bytes: 1 << 30,
            retain_dead: Duration::from_secs(60),
            dedupe_window: Duration::from_secs(60),
            dedupe_entries: 0,
            poison_starts: 3,
            letter_chars: 4000,
            detail_chars: 200,
            queue_bytes: 1 << 24,
        };
        let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
        let journal = SqliteJournal::open(store.clone(), settings, clock, metrics.clone()).await;
        let journal = Arc::new(journal.unwrap());
        let limits = LIMITS;
        let settings = profile::ProfileSettings::small(limits);
        let backend = Arc::new(SqliteProfileStore::new(store.clone(), limits));
        let runtime = tokio::runtime::Handle::current();
        let profiles = Arc::new(ProfileService::new(backend, &settings, metrics.clone(), runtime));
        let site = journal.site("shop").await.unwrap();
        let (kept, settings) = watch::channel(SiteProfileSettings {
            activity: true,
            anonymous_retain: Duration::from_secs(86_400),
            public: profile::PublicProfilePaths::default(),
            source: None,
        });
        let (counters, watched) = watch::channel(counters);
        let setup = ProjectionConfig { site, name: "shop".into(), settings, counters: watched };
        let projection =
            ProfileProjection::start(setup, journal.clone(), profiles.clone(), metrics);
        let projection = projection.await.unwrap();
        let filling = projection.counter_backfill(NonZeroU32::new(per_second).unwrap());
        let projected = projection.progress();
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Handle::current();
        let tasks =
            vec![runtime.spawn(filling.run(stop.clone())), runtime.spawn(projection.run(stop))];
        self.running.insert(RunningBackfill {
            journal,
            profiles,
            store,
            site,
            counters,
            projected,
            tasks,
            _settings: kept,
        })
    }

    fn now(&self) -> &RunningBackfill {
        self.running.as_ref().unwrap()
    }

    async fn kill(&mut self) {
        let running = self.running.take().unwrap();
        for task in running.tasks {
            task.abort();
            task.await.ok();
        }
        // A write in flight on the writer's thread may still be done, as in a program that dies later.
        running.store.close().await;
    }
}

impl RunningBackfill {
    async fn append(&self, events: &[Value]) {
        let record = |event: &Value| NewJournalRecord {
            site: self.site,
            message: MessageKey::new("shop", event["messageId"].as_str().unwrap()),
            rank: tagway_core::event::SenderRank::Server,
            received_at: "2026-11-23T09:00:00Z".parse().unwrap(),
            identifies: event.get("userId").is_some(),
            body: serde_json::to_vec(event).unwrap(),
        };
        self.journal.append(events.iter().map(record).collect()).await.unwrap();
    }

    async fn projected(&self, upto: u64) {
        let mut projected = self.projected.clone();
        let reached = projected.wait_for(|at| *at >= upto);
        tokio::time::timeout(Duration::from_secs(120), reached).await.unwrap().unwrap();
    }

    async fn counters(&self) -> Vec<CounterProgress> {
        self.profiles.counters().unwrap().counters(self.site).await.unwrap()
    }

    async fn until(&self, is_so: impl Fn(&[CounterProgress]) -> bool) -> Vec<CounterProgress> {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let counters = self.counters().await;
            if is_so(&counters) {
                return counters;
            }
            assert!(Instant::now() < deadline, "{counters:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn filled(&self, names: usize) {
        self.until(|all| all.len() == names && all.iter().all(CounterProgress::is_filled)).await;
    }

    /// Returns the counts of the counters, by the persons' own names, day by day.
    async fn counts(&self) -> CounterRows {
        let rows = self.store.read(|c| {
            let mut statement = c.prepare(
                "SELECT (SELECT min(kind || '=' || value) FROM identities i
                         WHERE i.profile = a.profile),
                     n.name, day, count, first, last, CAST(sum AS INTEGER)
                 FROM activity a JOIN event_names n ON n.id = a.event
                 WHERE n.name LIKE 'Order' || char(31) || '%'",
            )?;
            let rows = statement.query_map([], |row| {
                let key: (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((key, (row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?)))
            })?;
            rows.collect()
        });
        rows.await.unwrap()
    }
}

type CounterRows = BTreeMap<(String, String, i64), (i64, i64, i64, i64)>;

/// Returns orders of forty visitors over three days. Every tenth event identifies one of them.
fn events(range: std::ops::Range<u64>) -> Vec<Value> {
    let noon: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    let event = |n: u64| {
        let visitor = n * 7919 % 40;
        let days = i64::try_from(n * 31 % 3).unwrap() * 86_400;
        let at = noon + jiff::SignedDuration::from_secs(days + i64::try_from(n % 3600).unwrap());
        let mut event = json!({
            "type": "track", "event": "Order", "messageId": n.to_string(),
            "anonymousId": format!("a{visitor:02}"), "timestamp": at, "receivedAt": at,
            "properties": { "value": n * 53 % 100 },
        });
        if n % 10 == 9 {
            // Each user has two devices.
            event["userId"] = json!(format!("u{:02}", visitor / 2));
        }
        event
    };
    range.map(event).collect()
}

const EARLIER: u64 = 4000;
const LATER: u64 = 600;

async fn counted_from_the_start() -> CounterRows {
    let mut bed = BackfillTestBed::new();
    bed.start(counting(&[30, 80]), 1_000_000).await;
    bed.now().append(&events(0..EARLIER + LATER)).await;
    bed.now().projected(EARLIER + LATER).await;
    bed.now().filled(2).await;
    let counts = bed.now().counts().await;
    bed.kill().await;
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backfill_counts_as_the_projection_would_despite_kills() {
    let mut bed = BackfillTestBed::new();
    bed.start(Arc::new(EmptyCounterSet), 1000).await;
    bed.now().append(&events(0..EARLIER)).await;
    bed.now().projected(EARLIER).await;
    bed.now().counters.send_replace(counting(&[30]));
    // Steps of five hundred, with a kill after each; after the last but one the gateway stays down longer.
    for least in [500, 1000, 1500, 2000] {
        let is_so = |all: &[CounterProgress]| all.first().is_some_and(|it| it.filled >= least);
        let counters = bed.now().until(is_so).await;
        assert!(!counters[0].is_filled() && counters[0].share() < 1.0, "{counters:?}");
        assert_eq!((counters[0].since, counters[0].oldest.unwrap().seq), (EARLIER, 1));
        bed.kill().await;
        bed.start(counting(&[30]), if least < 2000 { 1000 } else { 10 }).await;
    }
    // While the backfill runs, more events arrive, and another counter begins.
    bed.now().append(&events(EARLIER..EARLIER + LATER)).await;
    bed.now().projected(EARLIER + LATER).await;
    // The same call as the projection makes.
    let names = counting(&[30, 80]).names();
    let store = bed.now().profiles.counters().unwrap();
    store.set_counters(bed.now().site, EARLIER + LATER, names).await.unwrap();
    let counters = bed.now().counters().await;
    assert!(!counters[0].is_filled(), "the two are filled at once: {counters:?}");
    bed.kill().await;
    bed.start(counting(&[30, 80]), 1_000_000).await;
    let counters = bed.now().until(|all| all.len() == 2).await;
    assert_eq!(counters.iter().map(|it| it.since).collect::<Vec<_>>(), [EARLIER, EARLIER + LATER]);
    bed.now().filled(2).await;
    let counts = bed.now().counts().await;
    assert!(counts.len() > 100, "{}", counts.len());
    assert_eq!(counts, counted_from_the_start().await);
    bed.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_counter_counts_everything_once() {
    let mut bed = BackfillTestBed::new();
    bed.start(counting(&[30, 80]), 1_000_000).await;
    bed.now().append(&events(0..EARLIER)).await;
    bed.now().projected(EARLIER).await;
    let before = bed.now().counts().await;
    bed.now().counters.send_replace(counting(&[80]));
    bed.now().until(|all| all.len() == 1).await;
    assert!(bed.now().counts().await.keys().all(|(_, name, _)| *name == key(80)));
    bed.now().append(&events(EARLIER..EARLIER + LATER)).await;
    bed.now().projected(EARLIER + LATER).await;
    bed.now().counters.send_replace(counting(&[30, 80]));
    bed.now().filled(2).await;
    let counts = bed.now().counts().await;
    assert_ne!(counts, before);
    assert_eq!(counts, counted_from_the_start().await);
    // The counts of the dropped counter are removed in time.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let left = bed.now().store.read(|c| {
            c.query_row("SELECT count(*) FROM dropped_counters", [], |row| row.get::<_, i64>(0))
        });
        if left.await.unwrap() == 0 {
            break;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let names = bed.now().store.read(|c| {
        let mut statement = c.prepare("SELECT DISTINCT event FROM activity")?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<BTreeSet<i64>, _>>()
    });
    assert_eq!(names.await.unwrap().len(), 3, "orders, and both counters");
    assert_eq!(bed.now().counts().await, counts);
    bed.kill().await;
}

#[tokio::test]
async fn outdated_step_counts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let opened = SqliteStore::open(
        folder.path(),
        CommitSyncMode::Os,
        &[MIGRATIONS],
        Arc::new(Metrics::new()),
    );
    let store = SqliteProfileStore::new(Arc::new(opened.unwrap()), LIMITS);
    let name = |kind, value: &str| Identity { kind, value: value.to_owned() };
    let (anonymous, user) = (|v| name(IdentityKind::Anonymous, v), |v| name(IdentityKind::User, v));
    let devices = vec![DeviceIdentity { identity: anonymous("a"), client: None }];
    let update = ProfileUpdate { user: Some(user("u")), devices, ..ProfileUpdate::default() };
    store.apply(SITE, 9, vec![update]).await.unwrap();
    store.set_counters(SITE, 9, vec![key(1)]).await.unwrap();
    let counter = CounterStore::counters(&store, SITE).await.unwrap().remove(0);
    assert_eq!((counter.since, counter.filled, counter.is_filled()), (9, 0, false));
    let oldest = OldestRecord { seq: 2, received_at: 7 };
    let deed =
        |name| CountedEvent { identities: vec![name], at_ms: 5, value: 2.0, counters: vec![0] };
    let step = BackfillStep {
        counters: vec![counter],
        upto: 4,
        oldest: Some(oldest),
        counted_events: vec![deed(anonymous("a")), deed(anonymous("stranger")), deed(user("u"))],
    };
    let changed = store.fill(SITE, step.clone()).await.unwrap();
    assert_eq!(changed.len(), 1);
    assert_eq!(store.fill(SITE, step).await.unwrap(), BTreeSet::new(), "it was counted");
    let (id, _) = store.find(SITE, vec![user("u")]).await.unwrap().remove(0).unwrap();
    let computed = store.computed(SITE, vec![id]).await.unwrap().computed.remove(0).unwrap();
    assert_eq!(computed.activity[&key(1)].count, 2);
    let counter = CounterStore::counters(&store, SITE).await.unwrap().remove(0);
    assert_eq!((counter.filled, counter.oldest), (4, Some(oldest)));
    assert_eq!(counter.share(), 3.0 / 8.0);
}
