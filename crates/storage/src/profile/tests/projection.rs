//! Tests of the projection: its position in the journal, and deliveries while it stands still.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::journal::{
    self, AppendDurability, Journal, MessageKey, NewJournalRecord, PersonNameDigest, ReaderId,
    SiteId, SqliteJournal,
};
use crate::profile::{
    self, ComputedSnapshot, ExpiryOutcome, ExpiryRequest, Identity, LookupTimeoutPolicy,
    PageProfile, ProfileChanges, ProfileError, ProfileId, ProfileLimits, ProfilePage,
    ProfileProjection, ProfileSearch, ProfileService, ProfileStore, ProfileUpdate,
    ProjectionConfig, SiteProfileSettings, SqliteProfileStore, SubjectProfile,
};
use crate::store::{CommitSyncMode, SqliteStore};
use tagway_core::clock::{Clock, ManualClock};
use tagway_core::event::ProfileView;
use tagway_core::metrics::Metrics;

/// The longest time that any step may take.
const SOON: Duration = Duration::from_secs(60);

/// The time for which events wait for the profiles, if they do not wait permanently.
const PATIENCE: Duration = Duration::from_millis(200);

/// A store that is unavailable at times: it fails, or it hangs.
struct UnavailableStore {
    is_away: AtomicBool,
    hangs: bool,
    store: SqliteProfileStore,
}

impl UnavailableStore {
    async fn answers(&self) -> Result<(), ProfileError> {
        while self.is_away.load(Ordering::Relaxed) {
            if !self.hangs {
                return Err(ProfileError::Timeout);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

#[async_trait]
impl ProfileStore for UnavailableStore {
    async fn projected_seq(&self, site: SiteId) -> Result<u64, ProfileError> {
        self.answers().await?;
        self.store.projected_seq(site).await
    }

    async fn apply(
        &self,
        site: SiteId,
        upto: u64,
        updates: Vec<ProfileUpdate>,
    ) -> Result<ProfileChanges, ProfileError> {
        self.answers().await?;
        self.store.apply(site, upto, updates).await
    }

    async fn find(
        &self,
        site: SiteId,
        identities: Vec<Identity>,
    ) -> Result<Vec<Option<(ProfileId, ProfileView)>>, ProfileError> {
        self.store.find(site, identities).await
    }

    async fn find_page_profile(
        &self,
        site: SiteId,
        id: String,
    ) -> Result<Option<PageProfile>, ProfileError> {
        self.store.find_page_profile(site, id).await
    }

    async fn computed(
        &self,
        site: SiteId,
        profiles: Vec<ProfileId>,
    ) -> Result<ComputedSnapshot, ProfileError> {
        self.store.computed(site, profiles).await
    }

    async fn expire(
        &self,
        site: SiteId,
        unseen: ExpiryRequest,
    ) -> Result<ExpiryOutcome, ProfileError> {
        self.store.expire(site, unseen).await
    }

    async fn counted_names(
        &self,
        site: SiteId,
        names: Vec<String>,
    ) -> Result<Vec<String>, ProfileError> {
        self.store.counted_names(site, names).await
    }

    async fn forget_names(&self, site: SiteId) -> Result<(), ProfileError> {
        self.store.forget_names(site).await
    }

    async fn subjects(
        &self,
        site: SiteId,
        name: String,
    ) -> Result<Vec<SubjectProfile>, ProfileError> {
        self.store.subjects(site, name).await
    }

    async fn search(
        &self,
        site: SiteId,
        search: ProfileSearch,
    ) -> Result<ProfilePage, ProfileError> {
        self.store.search(site, search).await
    }

    async fn erase(
        &self,
        site: SiteId,
        names: Arc<HashSet<PersonNameDigest>>,
    ) -> Result<ProfileChanges, ProfileError> {
        self.store.erase(site, names).await
    }
}

struct ProjectionTestBed {
    clock: Arc<ManualClock>,
    journal: Arc<SqliteJournal>,
    store: Arc<UnavailableStore>,
    site: SiteId,
    reader: ReaderId,
    open: watch::Receiver<u64>,
    stop: CancellationToken,
    tasks: TaskTracker,
    _settings: watch::Sender<SiteProfileSettings>,
    _folder: tempfile::TempDir,
}

impl ProjectionTestBed {
    async fn new(on_timeout: LookupTimeoutPolicy, hangs: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let schemas = [journal::MIGRATIONS, profile::MIGRATIONS];
        let store = SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone())
            .unwrap();
        let store = Arc::new(store);
        let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
        let settings = journal::JournalSettings {
            durability: AppendDurability::Os,
            retain: Duration::from_secs(60),
            max_bytes: u64::MAX,
            spare_bytes: 1 << 30,
            retain_dead: Duration::from_secs(60),
            dedupe_window: Duration::from_secs(60),
            dedupe_entries: 100,
            poison_starts: 3,
            letter_chars: 4000,
            detail_chars: 200,
            queue_bytes: 1 << 20,
        };
        let journal =
            SqliteJournal::open(store.clone(), settings, clock.clone(), metrics.clone()).await;
        let journal = Arc::new(journal.unwrap());
        let limits = ProfileLimits::new(1 << 15, 1000, 100);
        let settings = profile::ProfileSettings {
            on_timeout,
            timeout: PATIENCE,
            ..profile::ProfileSettings::small(limits)
        };
        let store = SqliteProfileStore::new(store, limits);
        let store = Arc::new(UnavailableStore { is_away: AtomicBool::new(false), hangs, store });
        let runtime = tokio::runtime::Handle::current();
        let profiles = ProfileService::new(store.clone(), &settings, metrics.clone(), runtime);
        let profiles = Arc::new(profiles);
        let site = journal.site("shop").await.unwrap();
        let (kept, settings) = watch::channel(SiteProfileSettings {
            activity: true,
            anonymous_retain: Duration::from_secs(86_400),
            public: profile::PublicProfilePaths::default(),
            source: None,
        });
        let counters = profile::EmptyCounterSet::watched();
        let setup = ProjectionConfig { site, name: "shop".into(), settings, counters };
        let projection = ProfileProjection::start(setup, journal.clone(), profiles, metrics);
        let projection = projection.await.unwrap();
        let (reader, open) = (projection.reader(), projection.progress());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(projection.run(stop.clone()));
        let (_settings, _folder) = (kept, folder);
        Self { clock, journal, store, site, reader, open, stop, tasks, _settings, _folder }
    }

    async fn append(&self, message: &str) {
        let record = NewJournalRecord {
            site: self.site,
            message: MessageKey::new("shop", message),
            rank: tagway_core::event::SenderRank::Server,
            received_at: self.clock.now(),
            identifies: false,
            body: b"{}".to_vec(),
        };
        self.journal.append(vec![record]).await.unwrap();
    }

    /// Waits until events up to here may be delivered.
    async fn is_open(&mut self, upto: u64) -> bool {
        let reached = self.open.wait_for(|open| *open == upto);
        tokio::time::timeout(SOON, reached).await.is_ok_and(|open| open.is_ok())
    }

    fn is_away(&self, is_away: bool) {
        self.store.is_away.store(is_away, Ordering::Relaxed);
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test(start_paused = true)]
async fn anonymous_events_leave_the_journal_as_well() {
    let bed = ProjectionTestBed::new(LookupTimeoutPolicy::Wait, false).await;
    bed.append("1").await;
    // The paused clock advances while the writer works, so that only tries can be bounded.
    let mut tries = 0;
    while bed.journal.position(bed.reader).await.unwrap().cursor < 1 {
        tries += 1;
        assert!(tries < 1_000_000, "its place is written down");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bed.clock.advance(61_000);
    assert_eq!(bed.journal.retain(bed.clock.now()).await.unwrap(), 1);
    bed.end().await;
}

#[tokio::test]
async fn events_wait_while_the_projection_stops() {
    for hangs in [false, true] {
        let mut bed = ProjectionTestBed::new(LookupTimeoutPolicy::Wait, hangs).await;
        bed.append("1").await;
        assert!(bed.is_open(1).await);
        bed.is_away(true);
        bed.append("2").await;
        let waits = tokio::time::timeout(PATIENCE * 8, bed.is_open(2)).await;
        assert!(waits.is_err(), "delivered without what it says of its visitor");
        bed.is_away(false);
        assert!(bed.is_open(2).await);
        bed.end().await;
    }
}

#[tokio::test]
async fn events_are_delivered_without_profiles_if_the_projection_stops() {
    for hangs in [false, true] {
        let mut bed = ProjectionTestBed::new(LookupTimeoutPolicy::Deliver, hangs).await;
        bed.append("1").await;
        assert!(bed.is_open(1).await);
        bed.is_away(true);
        let began = tokio::time::Instant::now();
        bed.append("2").await;
        assert!(bed.is_open(2).await, "held up for longer than they wait");
        assert!(began.elapsed() >= PATIENCE, "gone ahead at once");
        bed.append("3").await;
        assert!(bed.is_open(3).await);
        bed.is_away(false);
        bed.append("4").await;
        assert!(bed.is_open(4).await);
        let caught_up = async {
            while bed.store.projected_seq(bed.site).await.unwrap() < 4 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(SOON, caught_up).await.expect("the profiles come after");
        bed.end().await;
    }
}
