//! Passes and whole syncs, with a vendor that has a list, takes so many calls and refuses some people.

mod keeping;
mod passes;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::pass::{Counts, Pass, Stopped};
use super::*;
use crate::clock::ManualClock;
use crate::delivery::{self, DestinationSettings, Dispatcher, EgressSettings};
use crate::event::Enriched;
use crate::feed::Feed;
use crate::journal::{self, Durability, Journal, ReadLimit, SqliteJournal};
use crate::metrics::Metrics;
use crate::privacy::Policy;
use crate::profile::{self, Limits, Profiles, SqliteProfiles};
use crate::segment::tests::{NOW, add};
use crate::segment::{
    self, Change as Membership, Person, SegmentSettings, SegmentStore, SiteSegments,
    SqliteSegments, SyncSettings,
};
use crate::store::{Store, Sync};
use crate::vendors::audience::{Audience, Change, LIST_GONE, Listed};
use crate::vendors::{Call, Destination, Habits, Outcome, Reason, Screening, Unit};

/// People in one call.
const CALL: usize = 4;

/// How often is looked whether something is so.
const TRIES: usize = 10_000;

/// A vendor with one list of addresses.
#[derive(Default)]
struct Vendor(Mutex<State>);

#[derive(Default)]
struct State {
    /// How often a list was made; the last one is there.
    made: u64,
    list: String,
    is_gone: bool,
    members: BTreeSet<String>,
    calls: Vec<(Change, Vec<String>)>,
    /// Calls after which it wants to be left alone.
    takes: Option<usize>,
    /// Calls that it did not take.
    turned_away: usize,
    /// A call with one of these is refused as a whole.
    refuses: BTreeSet<String>,
}

impl Vendor {
    fn set(&self, set: impl FnOnce(&mut State)) {
        set(&mut self.0.lock().unwrap());
    }

    fn members(&self) -> Vec<String> {
        self.0.lock().unwrap().members.iter().cloned().collect()
    }

    /// What it was told since the last look.
    fn calls(&self) -> Vec<(Change, Vec<String>)> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    /// How many people it was told of since the last look.
    fn rows(&self) -> usize {
        self.calls().iter().map(|(_, rows)| rows.len()).sum()
    }
}

fn later() -> Outcome {
    Outcome::Retry { reason: Reason::new("busy"), after: None }
}

#[async_trait]
impl Audience for Vendor {
    fn max_rows(&self) -> usize {
        CALL
    }

    fn row(&self, person: &Enriched) -> Result<Row, Reason> {
        let email = person.profile.traits.get("email").and_then(Value::as_str);
        Row::of(&email.ok_or(Reason::new("no_identifier"))?)
    }

    async fn open(&self, list: &Listed<'_>, _call: &dyn Call) -> Result<String, Outcome> {
        let mut state = self.0.lock().unwrap();
        state.made += 1;
        state.is_gone = false;
        state.members.clear();
        state.list = list.id.map_or_else(|| format!("l{}", state.made), str::to_owned);
        Ok(state.list.clone())
    }

    async fn change(
        &self,
        list: &str,
        change: Change,
        rows: &[Row],
        _call: &dyn Call,
    ) -> Vec<Outcome> {
        let mut state = self.0.lock().unwrap();
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
            return all(Outcome::Dead(Reason::new(LIST_GONE)));
        }
        if rows.iter().any(|row| state.refuses.contains(row)) {
            return all(Outcome::Refused(Reason::new("bad_row")));
        }
        for row in &rows {
            match change {
                Change::Add => state.members.insert(row.clone()),
                Change::Remove => state.members.remove(row),
            };
        }
        all(Outcome::Delivered)
    }
}

#[async_trait]
impl Destination for Vendor {
    fn habits(&self) -> Habits {
        Habits {
            unit: Unit::Site,
            max_events: 1,
            max_bytes: 1 << 20,
            linger: Duration::ZERO,
            max_age: Duration::MAX,
            concurrency: 1,
            calls_per_second: None,
            timeout: Duration::from_secs(1),
        }
    }

    fn screen(&self, _event: &Enriched, _now: Timestamp) -> Screening {
        Screening::Skip(Reason::new("lists_only"))
    }

    async fn deliver(&self, batch: &[Enriched], _call: &dyn Call) -> Vec<Outcome> {
        vec![Outcome::Delivered; batch.len()]
    }

    fn audience(&self) -> Option<&dyn Audience> {
        Some(self)
    }
}

/// A gateway with one segment, and the vendor as its destination `crm`.
struct Shop {
    store: Arc<Store>,
    segments: Arc<SqliteSegments>,
    journal: Arc<dyn Journal>,
    dispatcher: Arc<Dispatcher>,
    metrics: Arc<Metrics>,
    clock: Arc<ManualClock>,
    vendor: Arc<Vendor>,
    site: SiteId,
    segment: SegmentId,
    sync: SyncSettings,
    /// The countries that want a yes.
    opt_in: &'static [&'static str],
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open(kind: SyncKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new());
        let schemas = [journal::MIGRATIONS, profile::MIGRATIONS, segment::MIGRATIONS];
        let store = Store::open(folder.path(), Sync::Os, &schemas, metrics.clone()).unwrap();
        let (store, clock) = (Arc::new(store), Arc::new(ManualClock::new(NOW.parse().unwrap())));
        let settings = journal::Settings {
            durability: Durability::Os,
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
        let limits = Limits::new(1 << 15, 100, 100);
        let backend = Arc::new(SqliteProfiles::new(store.clone(), limits));
        let runtime = tokio::runtime::Handle::current();
        let settings = profile::Settings::small(limits);
        let profiles = Profiles::new(backend, &settings, metrics.clone(), runtime);
        let site = journal.site("shop").await.unwrap();
        let shared = delivery::Shared {
            journal: journal.clone(),
            profiles: Arc::new(profiles),
            clock: clock.clone(),
            feed: Feed::default(),
            redaction: Default::default(),
            metrics: metrics.clone(),
            runtime: Handle::current(),
        };
        let segments = Arc::new(SqliteSegments::new(store.clone(), Duration::from_secs(60)));
        let (segment, _) = segments.begin(site, "vip", 1000).await.unwrap();
        let shop = Self {
            store,
            segments,
            journal,
            dispatcher: Arc::new(Dispatcher::new(shared)),
            metrics,
            clock,
            vendor: Arc::default(),
            site,
            segment,
            sync: SyncSettings {
                destination: "crm".into(),
                kind,
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

    /// The configuration has the destination, which asks for consent to marketing, or has it no more.
    async fn connect(&self, is_there: bool) {
        let mut settings = DestinationSettings::for_tests("crm", self.vendor.clone());
        settings.filter.consent = vec!["marketing".to_owned()];
        settings.privacy = Arc::new(Policy::opting_in(self.opt_in));
        let (_, projected) = tokio::sync::watch::channel(0);
        let site = delivery::Site { id: self.site, name: "shop".into(), projected };
        let egress = EgressSettings {
            allow_private: true,
            reply_bytes: 1000,
            connect_timeout: Duration::from_secs(1),
            idle_time: Duration::from_secs(1),
            idle_per_host: 1,
        };
        let there = is_there.then(|| Arc::new(settings)).into_iter().collect();
        self.dispatcher.apply(&[(site, there)], &egress).await.unwrap();
    }

    /// These people exist, and are members.
    async fn fill(&self, ids: std::ops::RangeInclusive<i64>) {
        let site = i64::from(self.site.0);
        for id in ids.clone() {
            let person = Person {
                traits: object(json!({ "email": format!("{id:02}@a") })),
                consent: object(json!({ "marketing": true })),
                ..Person::default()
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

    async fn kept(&self) -> Kept {
        self.segments.sync(self.segment, "crm", self.sync.kind).await.unwrap()
    }

    async fn pass(&self, rechecks: bool) -> Result<Counts, Stopped> {
        self.clock.advance(1000);
        let outlet = self.dispatcher.outlet("shop", "crm").unwrap();
        let clock: crate::clock::SharedClock = self.clock.clone();
        let care = Arc::new(self.journal.guard().care(self.site, "(sync) test"));
        let pass = Pass {
            care: &care,
            store: &*self.segments,
            journal: &self.journal,
            clock: &clock,
            site: self.site,
            site_name: "shop",
            segment: self.segment,
            segment_name: "vip",
            sync: &self.sync,
            outlet: &outlet,
            rechecks,
            drains: false,
            of: None,
        };
        pass.run(&self.kept().await).await
    }

    async fn passes(&self, rechecks: bool) -> (u64, u64) {
        let counts = self.pass(rechecks).await.unwrap();
        (counts.added, counts.removed)
    }

    async fn sizes(&self) -> (u64, u64) {
        let sizes = self.segments.sizes(self.kept().await.id).await.unwrap();
        (sizes.heard, sizes.stuck)
    }

    /// The segment ran.
    async fn ran(&self, at_ms: i64) {
        self.segments.end(self.segment, at_ms, 0, String::new()).await.unwrap();
    }

    fn syncs(&self) -> Syncs {
        Syncs::new(SyncFooting {
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

    /// The site, whose segment goes to the destination or nowhere.
    fn sites(&self, is_synced: bool) -> Vec<SiteSegments> {
        let rule = crate::segment::Rule::parse(&json!({ "trait": "email" }));
        let rule = rule.ok().unwrap();
        let segment = SegmentSettings {
            syncs: is_synced.then(|| self.sync.clone()).into_iter().collect(),
            ..crate::segment::tests::segment("vip", rule)
        };
        vec![SiteSegments { id: self.site, name: "shop".into(), segments: vec![Arc::new(segment)] }]
    }
}

fn object(value: Value) -> crate::event::Object {
    value.as_object().cloned().unwrap()
}

fn addresses(ids: impl IntoIterator<Item = i64>) -> Vec<String> {
    ids.into_iter().map(|id| format!("{id:02}@a")).collect()
}

/// Until it is so, in a time that passes by itself, but not while the database's own thread has yet to do
/// what it was asked.
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
