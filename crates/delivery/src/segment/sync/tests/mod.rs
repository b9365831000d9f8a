//! Tests of sync runs and whole syncs, with a vendor that has a list, a bound on calls and refused people.

mod keeping;
mod passes;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::state::SyncRunError;
use super::sync_run::{SyncExtent, SyncRun, SyncRunCounts};
use super::*;
use crate::segment::tests::{NOW, add};
use crate::segment::{
    self, MembershipChange as Membership, RuleProfile, SegmentSettings, SegmentStore, SiteSegments,
    SqliteSegmentStore, SyncSettings,
};
use crate::{
    DeliveryContext, DeliveryDispatcher, DeliverySite, DestinationSettings, EgressSettings,
    SiteDestinations,
};
use tagway_core::clock::ManualClock;
use tagway_core::event::EnrichedEvent;
use tagway_core::feed::LiveFeed;
use tagway_core::metrics::Metrics;
use tagway_core::privacy::PrivacyPolicy;
use tagway_storage::journal::{self, AppendDurability, Journal, JournalReadLimits, SqliteJournal};
use tagway_storage::profile::{self, ProfileLimits, ProfileService, SqliteProfileStore};
use tagway_storage::store::{CommitSyncMode, SqliteStore};
use tagway_vendors::audience::{AudienceChange, AudienceList, LIST_GONE, VendorAudience};
use tagway_vendors::{BatchScope, DeliveryLimits, Destination, Outcome, OutcomeReason, VendorCall};

/// The most people in one call.
const CALL: usize = 4;

/// The most checks before a wait fails.
const TRIES: usize = 10_000;

/// A vendor with one list of addresses.
#[derive(Default)]
struct FakeListVendor(Mutex<FakeVendorState>);

#[derive(Default)]
struct FakeVendorState {
    /// The number of lists made; the last one exists.
    made: u64,
    list: String,
    is_gone: bool,
    members: BTreeSet<String>,
    calls: Vec<(AudienceChange, Vec<String>)>,
    /// The number of calls after which it asks for a pause.
    takes: Option<usize>,
    /// The number of calls that it did not accept.
    turned_away: usize,
    /// A call with one of these is refused as a whole.
    refuses: BTreeSet<String>,
}

impl FakeListVendor {
    fn set(&self, set: impl FnOnce(&mut FakeVendorState)) {
        set(&mut self.0.lock());
    }

    fn members(&self) -> Vec<String> {
        self.0.lock().members.iter().cloned().collect()
    }

    /// Returns the calls since the last check.
    fn calls(&self) -> Vec<(AudienceChange, Vec<String>)> {
        std::mem::take(&mut self.0.lock().calls)
    }

    /// Returns the number of people in the calls since the last check.
    fn rows(&self) -> usize {
        self.calls().iter().map(|(_, rows)| rows.len()).sum()
    }
}

fn later() -> Outcome {
    Outcome::Retry { reason: OutcomeReason::new("busy"), after: None }
}

#[async_trait]
impl VendorAudience for FakeListVendor {
    fn max_rows(&self) -> usize {
        CALL
    }

    fn row(&self, person: &EnrichedEvent) -> Result<AudienceRow, OutcomeReason> {
        let email = person.profile.traits.get("email").and_then(Value::as_str);
        AudienceRow::of(&email.ok_or(OutcomeReason::new("no_identifier"))?)
    }

    async fn open_list(
        &self,
        list: &AudienceList<'_>,
        _call: &dyn VendorCall,
    ) -> Result<String, Outcome> {
        let mut state = self.0.lock();
        state.made += 1;
        state.is_gone = false;
        state.members.clear();
        state.list = list.id.map_or_else(|| format!("l{}", state.made), str::to_owned);
        Ok(state.list.clone())
    }

    async fn change_members(
        &self,
        list: &str,
        change: AudienceChange,
        rows: &[AudienceRow],
        _call: &dyn VendorCall,
    ) -> Vec<Outcome> {
        let mut state = self.0.lock();
        let state = &mut *state;
        let rows: Vec<String> = rows.iter().map(|row| row.read().unwrap()).collect();
        let all = |end: Outcome| vec![end; rows.len()];
        if let Some(takes) = &mut state.takes {
            let Some(left) = takes.checked_sub(1) else {
                state.turned_away += 1;
                return all(later());
            };
            *takes = left;
        }
        state.calls.push((change, rows.clone()));
        if state.is_gone || list != state.list {
            return all(Outcome::dead(LIST_GONE));
        }
        if rows.iter().any(|row| state.refuses.contains(row)) {
            return all(Outcome::Refused(OutcomeReason::new("bad_row")));
        }
        for row in &rows {
            match change {
                AudienceChange::Add => state.members.insert(row.clone()),
                AudienceChange::Remove => state.members.remove(row),
            };
        }
        all(Outcome::Delivered)
    }
}

#[async_trait]
impl Destination for FakeListVendor {
    fn delivery_limits(&self) -> DeliveryLimits {
        DeliveryLimits {
            scope: BatchScope::Site,
            max_events: 1,
            max_bytes: 1 << 20,
            batch_delay: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn admit_event(&self, _event: &EnrichedEvent, _now: Timestamp) -> Result<(), Outcome> {
        Err(Outcome::skipped("lists_only"))
    }

    async fn deliver(&self, batch: &[EnrichedEvent], _call: &dyn VendorCall) -> Vec<Outcome> {
        vec![Outcome::Delivered; batch.len()]
    }

    fn audience(&self) -> Option<&dyn VendorAudience> {
        Some(self)
    }
}

/// A gateway with one segment, and the vendor as its destination `crm`.
struct SyncTestBed {
    store: Arc<SqliteStore>,
    segments: Arc<SqliteSegmentStore>,
    journal: Arc<dyn Journal>,
    dispatcher: Arc<DeliveryDispatcher>,
    metrics: Arc<Metrics>,
    clock: Arc<ManualClock>,
    vendor: Arc<FakeListVendor>,
    site: SiteId,
    segment: SegmentId,
    sync: SyncSettings,
    /// The countries that require opt-in.
    opt_in: &'static [&'static str],
    _folder: tempfile::TempDir,
}

impl SyncTestBed {
    async fn open(kind: SyncKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let schemas = [journal::MIGRATIONS, profile::MIGRATIONS, segment::MIGRATIONS];
        let store = SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, metrics.clone())
            .unwrap();
        let (store, clock) = (Arc::new(store), Arc::new(ManualClock::new(NOW.parse().unwrap())));
        let settings = journal::JournalSettings {
            durability: AppendDurability::Os,
            retain: Duration::from_secs(86_400),
            max_bytes: u64::MAX,
            spare_bytes: 1 << 30,
            retain_dead: Duration::from_secs(60),
            dedupe_window: Duration::from_secs(60),
            dedupe_entries: 1000,
            poison_starts: 3,
            letter_chars: 4000,
            detail_chars: 200,
            queue_bytes: 1 << 24,
        };
        let journal = SqliteJournal::open(store.clone(), settings, clock.clone(), metrics.clone());
        let journal = Arc::new(journal.await.unwrap());
        let limits = ProfileLimits::new(1 << 15, 100, 100);
        let backend = Arc::new(SqliteProfileStore::new(store.clone(), limits));
        let runtime = tokio::runtime::Handle::current();
        let settings = profile::ProfileSettings::small(limits);
        let profiles = ProfileService::new(backend, &settings, metrics.clone(), runtime);
        let site = journal.site("shop").await.unwrap();
        let shared = DeliveryContext {
            journal: journal.clone(),
            profiles: Arc::new(profiles),
            clock: clock.clone(),
            feed: LiveFeed::default(),
            redaction: Default::default(),
            metrics: metrics.clone(),
            runtime: Handle::current(),
        };
        let segments = Arc::new(SqliteSegmentStore::new(store.clone(), Duration::from_secs(60)));
        let (segment, _) = segments.begin_run(site, "vip", 1000).await.unwrap();
        let shop = Self {
            store,
            segments,
            journal,
            dispatcher: Arc::new(DeliveryDispatcher::new(shared)),
            metrics,
            clock,
            vendor: Arc::default(),
            site,
            segment,
            sync: SyncSettings {
                destination: "crm".into(),
                kind,
                is_kind_implied: false,
                audience: "VIP".to_owned(),
                list: None,
                traits: Vec::new(),
            },
            opt_in: &[],
            _folder: folder,
        };
        shop.connect(true).await;
        shop
    }

    /// Configures the destination, which requires consent to marketing, or removes it.
    async fn connect(&self, is_there: bool) {
        let mut settings = DestinationSettings::for_tests("crm", self.vendor.clone());
        settings.filter.consent = vec!["marketing".to_owned()];
        settings.privacy = Arc::new(PrivacyPolicy::opting_in(self.opt_in));
        let (_, projected) = tokio::sync::watch::channel(0);
        let site = DeliverySite { id: self.site, name: "shop".into(), projected };
        let egress = EgressSettings {
            allow_private: true,
            reply_bytes: 1000,
            connect_timeout: Duration::from_secs(1),
            idle_time: Duration::from_secs(1),
            idle_per_host: 1,
        };
        let destinations = is_there.then(|| Arc::new(settings)).into_iter().collect();
        let sites = [SiteDestinations { site, destinations }];
        self.dispatcher.apply(&sites, &egress).await.unwrap();
    }

    /// Makes these people exist as members.
    async fn fill(&self, ids: std::ops::RangeInclusive<i64>) {
        let site = i64::from(self.site.0);
        for id in ids.clone() {
            let person = RuleProfile {
                traits: object(json!({ "email": format!("{id:02}@a") })),
                consent: object(json!({ "marketing": true })),
                ..RuleProfile::default()
            };
            let added = self.store.write(move |c| {
                add(c, id, site, &person, None);
                Ok(())
            });
            added.await.unwrap();
        }
        self.change(ids, Membership::Join).await;
    }

    async fn change(&self, ids: impl IntoIterator<Item = i64>, change: Membership) {
        let changes = ids.into_iter().map(|id| (ProfileId(id), change)).collect();
        self.segments.change(self.segment, changes, 1000).await.unwrap();
    }

    async fn execute(&self, statement: &'static str) {
        self.store.write(move |c| c.execute(statement, [])).await.unwrap();
    }

    async fn kept(&self) -> SyncRecord {
        self.segments.sync(self.segment, "crm", self.sync.kind).await.unwrap()
    }

    async fn pass(&self, rechecks: bool) -> Result<SyncRunCounts, SyncRunError> {
        self.clock.advance(1000);
        let outlet = self.dispatcher.destination_handle("shop", "crm").unwrap();
        let clock: tagway_core::clock::SharedClock = self.clock.clone();
        let care = Arc::new(self.journal.guard().reader_guard(self.site, "(sync) test"));
        let pass = SyncRun {
            reader_guard: &care,
            store: &*self.segments,
            journal: &self.journal,
            clock: &clock,
            site: self.site,
            site_name: "shop",
            segment: self.segment,
            segment_name: "vip",
            sync: &self.sync,
            destination: &outlet,
            extent: SyncExtent { rechecks, ..SyncExtent::default() },
        };
        pass.run(&self.kept().await).await
    }

    async fn passes(&self, rechecks: bool) -> (u64, u64) {
        let counts = self.pass(rechecks).await.unwrap();
        (counts.added, counts.removed)
    }

    async fn sizes(&self) -> (u64, u64) {
        let sizes = self.segments.sizes(self.kept().await.id).await.unwrap();
        (sizes.confirmed, sizes.removal_failed)
    }

    /// Records a run of the segment.
    async fn ran(&self, at_ms: i64) {
        self.segments.end_run(self.segment, at_ms, 0, String::new()).await.unwrap();
    }

    fn syncs(&self) -> SyncManager {
        SyncManager::new(SyncDependencies {
            store: self.segments.clone(),
            segments: self.segments.clone(),
            journal: self.journal.clone(),
            dispatcher: self.dispatcher.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            recheck: Duration::from_secs(86_400),
            runtime: Handle::current(),
            realtime_people: 100,
        })
    }

    /// Returns the site, whose segment goes to the destination or nowhere.
    fn sites(&self, is_synced: bool) -> Vec<SiteSegments> {
        let rule = crate::segment::SegmentRule::parse(&json!({ "trait": "email" }));
        let rule = rule.ok().unwrap();
        let segment = SegmentSettings {
            syncs: is_synced.then(|| self.sync.clone()).into_iter().collect(),
            ..crate::segment::tests::segment("vip", rule)
        };
        vec![SiteSegments { id: self.site, name: "shop".into(), segments: vec![Arc::new(segment)] }]
    }
}

fn object(value: Value) -> tagway_core::event::JsonObject {
    value.as_object().cloned().unwrap()
}

fn addresses(ids: impl IntoIterator<Item = i64>) -> Vec<String> {
    ids.into_iter().map(|id| format!("{id:02}@a")).collect()
}

/// Waits until the condition holds, with the paused clock's time, but not while the database's own thread has
/// work to do.
async fn until(is_so: impl Fn() -> bool) {
    let mut pause = Duration::from_millis(20);
    for _ in 0..TRIES {
        if is_so() {
            return;
        }
        // The paused clock stands still as long as something blocks.
        let moment = || std::thread::park_timeout(Duration::from_millis(2));
        tokio::task::spawn_blocking(moment).await.unwrap();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(60));
    }
    panic!("it becomes so");
}
