//! Tests of a segment whose rule ends the process.

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::runs::segment;
use super::*;
use tagway_core::clock::ManualClock;
use tagway_core::metrics::{Metrics, PoisonLabels};
use tagway_storage::journal::{self, AppendDurability, Journal, SqliteJournal};

const SITE: SiteId = SiteId(7);

/// A store in which one rule's evaluation never ends: the process dies there.
#[derive(Default)]
struct FatalSegmentStore {
    is_harmless: Mutex<bool>,
    reached: Notify,
    ran: Mutex<Vec<SegmentRecord>>,
    has_run: Notify,
}

fn deadly() -> SegmentRule {
    rule(json!({ "trait": "deadly" }))
}

#[async_trait]
impl SegmentStore for FatalSegmentStore {
    async fn list_segments(&self, _site: SiteId) -> Result<Vec<SegmentRecord>, SegmentError> {
        Ok(self.ran.lock().clone())
    }

    async fn begin_run(
        &self,
        _site: SiteId,
        name: &str,
        now_ms: i64,
    ) -> Result<(SegmentId, i64), SegmentError> {
        let mut ran = self.ran.lock();
        let id = SegmentId(i64::try_from(ran.len()).unwrap());
        ran.push(SegmentRecord {
            id,
            name: name.to_owned(),
            begun_at: Some(now_ms),
            last_run: None,
        });
        Ok((id, now_ms))
    }

    async fn size(&self, _segment: SegmentId) -> Result<u64, SegmentError> {
        Ok(0)
    }

    async fn evaluate(
        &self,
        _site: SiteId,
        evaluation: RuleEvaluation,
    ) -> Result<ProfileBitSet, SegmentError> {
        if *evaluation.rule == deadly() && !*self.is_harmless.lock() {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
        Ok(ProfileBitSet::default())
    }

    async fn page(
        &self,
        _segment: SegmentId,
        _which: MembershipFilter,
        _of: ProfileSelection,
    ) -> Result<MembershipPage, SegmentError> {
        Ok(MembershipPage::new())
    }

    async fn change(
        &self,
        _segment: SegmentId,
        _changes: Vec<(ProfileId, MembershipChange)>,
        _at_ms: i64,
    ) -> Result<(), SegmentError> {
        Ok(())
    }

    async fn end_run(
        &self,
        segment: SegmentId,
        at_ms: i64,
        took_ms: i64,
        fingerprint: String,
    ) -> Result<SegmentRunSummary, SegmentError> {
        let ended =
            SegmentRunSummary { at_ms, took_ms, size: 0, added: 0, removed: 0, fingerprint };
        let mut ran = self.ran.lock();
        let known = ran.iter_mut().find(|known| known.id == segment).unwrap();
        (known.begun_at, known.last_run) = (None, Some(ended.clone()));
        self.has_run.notify_one();
        Ok(ended)
    }

    async fn trend(&self, _segment: SegmentId) -> Result<Vec<SegmentSize>, SegmentError> {
        Ok(Vec::new())
    }

    async fn people(
        &self,
        _profiles: Vec<ProfileId>,
    ) -> Result<Vec<(ProfileId, Value)>, SegmentError> {
        Ok(Vec::new())
    }

    async fn remove(&self, _segment: SegmentId, _limit: usize) -> Result<bool, SegmentError> {
        Ok(true)
    }
}

/// Starts a gateway over this folder, with a deadly segment before another.
async fn start(
    folder: &std::path::Path,
) -> (Arc<SqliteJournal>, Arc<FatalSegmentStore>, Arc<SegmentScheduler>, Arc<Metrics>) {
    let (metrics, clock) = (Arc::new(Metrics::new()), ManualClock::new(NOW.parse().unwrap()));
    let schemas = [journal::MIGRATIONS];
    let store =
        Arc::new(SqliteStore::open(folder, CommitSyncMode::Os, &schemas, metrics.clone()).unwrap());
    let settings = journal::JournalSettings {
        durability: AppendDurability::Os,
        retain: Duration::from_secs(60),
        max_bytes: u64::MAX,
        spare_bytes: 1 << 30,
        retain_dead: Duration::from_secs(60),
        dedupe_window: Duration::from_secs(60),
        dedupe_entries: 0,
        poison_starts: 3,
        letter_chars: 4000,
        detail_chars: 200,
        queue_bytes: 1 << 20,
    };
    let clock = Arc::new(clock);
    let journal = SqliteJournal::open(store, settings, clock.clone(), metrics.clone());
    let journal = Arc::new(journal.await.unwrap());
    let fatal = Arc::new(FatalSegmentStore::default());
    let settings = SegmentationSettings {
        evaluation_timeout: Duration::from_secs(60),
        jitter: Duration::ZERO,
        realtime_every: Duration::from_secs(60),
        realtime_delay: Duration::from_millis(20),
        realtime_people: 100,
        batch: 7,
        recheck: Duration::from_secs(86_400),
        fill_per_second: std::num::NonZeroU32::MIN,
    };
    let segments = SegmentScheduler::new(fatal.clone(), settings, clock, metrics.clone());
    let segments = Arc::new(segments.with_guard(journal.guard()));
    let others = segment("good", rule(json!({ "trait": "plan" })));
    let both = [segment("deadly", deadly()), others].map(Arc::new).to_vec();
    segments.apply(vec![SiteSegments { id: SITE, name: "shop".into(), segments: both }]);
    (journal, fatal, segments, metrics)
}

#[tokio::test]
async fn segment_that_aborts_is_disabled_until_an_operator_runs_it() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let (journal, fatal, segments, _) = start(folder.path()).await;
        let stop = CancellationToken::new();
        let mut following = JoinSet::new();
        following.spawn(segments.clone().run_until_stopped(stop));
        fatal.reached.notified().await;
        // Aborted in the middle, and the journal is not closed.
        following.shutdown().await;
        drop((journal, segments));
    }
    let (journal, fatal, segments, metrics) = start(folder.path()).await;
    let stop = CancellationToken::new();
    let mut following = JoinSet::new();
    following.spawn(segments.clone().run_until_stopped(stop.clone()));
    fatal.has_run.notified().await;
    let listed = segments.list(None).await.unwrap();
    let of = |name: &str| listed.iter().find(|it| &*it.name == name).unwrap();
    assert!(of("deadly").is_set_aside && of("deadly").due_ms.is_none());
    assert!(!of("good").is_set_aside && of("good").ran.is_some());
    let labels = PoisonLabels { site: "shop".into(), reader: "segment" };
    assert_eq!(metrics.poisoned.get_or_create(&labels).get(), 1);
    // An operator tries it again.
    *fatal.is_harmless.lock() = true;
    segments.run("shop", "deadly").await.unwrap();
    let listed = segments.list(None).await.unwrap();
    assert!(listed.iter().all(|it| !it.is_set_aside && it.ran.is_some()));
    stop.cancel();
    following.join_next().await.unwrap().unwrap();
    journal.close().await;
}
