//! Tests of runs in each backend.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::segment::run::SegmentRun;
use crate::segment::schedule::SegmentSchedule;
use tagway_core::clock::{Clock, ManualClock};
use tagway_core::metrics::Metrics;

const SITE: SiteId = SiteId(7);

/// A bound on paused time, which passes automatically while the database works.
const PATIENCE: Duration = Duration::from_secs(10_000_000);

pub(in crate::segment) fn segment(name: &str, rule: SegmentRule) -> SegmentSettings {
    SegmentSettings {
        name: name.into(),
        unit: MembershipUnit::User,
        schedule: SegmentSchedule::Every(Duration::from_secs(3600)),
        jitter: Some(Duration::ZERO),
        rule_source: Value::from(format!("{rule:?}")),
        rule,
        syncs: Vec::new(),
    }
}

impl SegmentTestBed {
    pub(super) async fn with(self, people: i64) -> Self {
        for id in 1..=people {
            self.add(id, person_with_events(&[("A", id % 10)])).await;
        }
        self
    }

    async fn run(&self, segment: &SegmentSettings, now_ms: i64) -> SegmentRunSummary {
        let run = SegmentRun { store: &*self.segments, site: SITE, segment, batch: 7 };
        run.run(now_ms).await.unwrap()
    }

    async fn members(&self, which: MembershipFilter) -> Vec<(i64, bool)> {
        let id = self.segments.list_segments(SITE).await.unwrap()[0].id;
        let all = ProfileSelection::After(ProfileId(i64::MIN), 1000);
        let page = self.segments.page(id, which, all).await.unwrap();
        page.iter().map(|it| (it.profile.0, it.is_member)).collect()
    }

    fn scheduler(&self, clock: Arc<ManualClock>) -> (Arc<SegmentScheduler>, Arc<Metrics>) {
        let (segments, metrics) = self.segments(clock);
        (Arc::new(segments), metrics)
    }

    pub(super) fn segments(&self, clock: Arc<ManualClock>) -> (SegmentScheduler, Arc<Metrics>) {
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
        let metrics = Arc::new(Metrics::new());
        (SegmentScheduler::new(self.segments.clone(), settings, clock, metrics.clone()), metrics)
    }
}

in_every_backend!(
    run_writes_differences_and_keeps_former_members_until_the_next,
    aborted_run_and_its_repetition_are_one_run,
    preview_samples_people_from_the_whole_range,
    deleted_segment_is_removed_in_pieces,
    list_reports_event_names_without_counts,
    trend_has_the_sizes_of_the_last_runs,
);

async fn trend_has_the_sizes_of_the_last_runs(bed: SegmentTestBed) {
    let bed = bed.with(3).await;
    let segment = segment("a", rule(json!({ "trait": "plan", "=": "pro" })));
    for n in 0..35 {
        if n == 34 {
            bed.execute("UPDATE profiles SET traits = '{}' WHERE id = 1").await;
        }
        bed.run(&segment, 1000 * n).await;
    }
    let (scheduler, _) = bed.scheduler(Arc::new(ManualClock::new(NOW.parse().unwrap())));
    let segments = vec![Arc::new(segment)];
    scheduler.apply(vec![SiteSegments { id: SITE, name: "shop".into(), segments }]);
    let trend = scheduler.list(None).await.unwrap().remove(0).trend;
    let seen: Vec<(i64, u64)> = trend.iter().map(|it| (it.at.as_second(), it.size)).collect();
    let expected: Vec<(i64, u64)> = (5..35).map(|n| (n, if n == 34 { 2 } else { 3 })).collect();
    assert_eq!(seen, expected);
    let members = scheduler.memberships("shop", &[ProfileId(1), ProfileId(2)]).await.unwrap();
    assert_eq!(members, [(ProfileId(2), vec!["a".into()])].into());
}

async fn list_reports_event_names_without_counts(bed: SegmentTestBed) {
    let bed = bed.with(3).await;
    let (segments, metrics) = bed.segments(Arc::new(ManualClock::new(NOW.parse().unwrap())));
    let limits = profile::ProfileLimits::new(1000, 10, 10);
    let store: Arc<dyn profile::ProfileStore> = match &bed.people {
        TestPeopleStore::Sqlite(store, _) => {
            Arc::new(profile::SqliteProfileStore::new(store.clone(), limits))
        }
        TestPeopleStore::Postgres(database, _) => {
            let node = "one".to_owned();
            Arc::new(profile::PostgresProfileStore::new(database.clone(), node, limits))
        }
    };
    let settings = profile::ProfileSettings::small(limits);
    let runtime = tokio::runtime::Handle::current();
    let profiles = profile::ProfileService::new(store, &settings, metrics.clone(), runtime);
    let runner = segments.with_profiles(Arc::new(profiles));
    let rule = rule(json!({ "any": [{ "event": "A" }, { "event": "Never Done" }] }));
    let segments = vec![Arc::new(segment("a", rule))];
    runner.apply(vec![SiteSegments { id: SITE, name: "shop".into(), segments }]);
    assert_eq!(runner.run("shop", "a").await.unwrap().size, 3);
    assert_eq!(runner.list(None).await.unwrap()[0].uncounted, ["Never Done"]);
    let line = "tagway_segment_names_uncounted{site=\"shop\",segment=\"a\"} 1";
    assert!(metrics.render().contains(line), "{}", metrics.render());
}

fn counts(ran: &SegmentRunSummary) -> (u64, u64, u64) {
    (ran.size, ran.added, ran.removed)
}

async fn run_writes_differences_and_keeps_former_members_until_the_next(bed: SegmentTestBed) {
    let bed = bed.with(40).await;
    let segment = segment("a", rule(json!({ "trait": "plan", "=": "pro" })));
    assert_eq!(counts(&bed.run(&segment, 1000).await), (40, 40, 0));
    assert_eq!(counts(&bed.run(&segment, 2000).await), (40, 0, 0));
    bed.execute("UPDATE profiles SET traits = '{}' WHERE id <= 9").await;
    bed.execute("DELETE FROM profiles WHERE id = 40").await;
    bed.add(41, person_with_events(&[])).await;
    assert_eq!(counts(&bed.run(&segment, 3000).await), (31, 1, 10));
    let left = (1..=9).chain([40]).map(|id| (id, false));
    let mut changed: Vec<_> = left.chain([(41, true)]).collect();
    changed.sort_unstable();
    assert_eq!(bed.members(MembershipFilter::ChangedAt(3000)).await, changed);
    assert_eq!(bed.members(MembershipFilter::Members).await.len(), 31);
    assert_eq!(counts(&bed.run(&segment, 4000).await), (31, 0, 0));
    assert_eq!(bed.members(MembershipFilter::All).await.len(), 31, "who left is forgotten");
}

async fn aborted_run_and_its_repetition_are_one_run(bed: SegmentTestBed) {
    let bed = bed.with(40).await;
    let segment = segment("a", rule(json!({ "trait": "plan" })));
    let (id, at) = bed.segments.begin_run(SITE, "a", 1000).await.unwrap();
    let some = (1..=15).map(|id| (ProfileId(id), MembershipChange::Join)).collect();
    bed.segments.change(id, some, at).await.unwrap();
    let ran = bed.run(&segment, 9000).await;
    assert_eq!((ran.at_ms, counts(&ran)), (1000, (40, 40, 0)));
    assert_eq!(bed.members(MembershipFilter::ChangedAt(1000)).await.len(), 40);
    assert_eq!(bed.segments.list_segments(SITE).await.unwrap()[0].begun_at, None);
}

#[tokio::test(start_paused = true)]
async fn segments_run_when_due_by_their_stored_state() {
    let bed = SegmentTestBed::sqlite().with(20).await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let site = |segments: Vec<SegmentSettings>| {
        let segments = segments.into_iter().map(Arc::new).collect();
        vec![SiteSegments { id: SITE, name: "shop".into(), segments }]
    };
    let plan = || segment("a", rule(json!({ "trait": "plan" })));
    let start = |segments: Vec<SegmentSettings>| {
        let (runner, metrics) = bed.scheduler(clock.clone());
        runner.apply(site(segments));
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        task.spawn(runner.clone().run_until_stopped(stop.clone()));
        (runner, metrics, stop, task)
    };
    let ran_at = async |runner: &SegmentScheduler, at: i64| {
        let waiting = async {
            loop {
                let listed = runner.list(None).await.unwrap();
                if listed.iter().any(|it| it.ran.as_ref().is_some_and(|ran| ran.at_ms == at)) {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("it runs");
    };
    let began = now_ms();
    let (runner, metrics, stop, task) = start(vec![plan()]);
    ran_at(&runner, began).await;
    let listed = runner.list(Some("shop")).await.unwrap();
    assert_eq!(listed[0].due_ms, Some(began + 3_600_000));
    let size = "tagway_segment_members{site=\"shop\",segment=\"a\"} 20";
    let counted = async {
        while !metrics.render().contains(size) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("it is counted once it is written");
    stop.cancel();
    task.join_all().await;
    clock.advance(3_599_000);
    let (runner, _, stop, task) = start(vec![plan()]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    ran_at(&runner, began).await;
    clock.advance(1000);
    ran_at(&runner, clock.now().as_millisecond()).await;
    // A changed rule is evaluated at once.
    clock.advance(5000);
    runner.apply(site(vec![segment("a", rule(json!({ "trait": "x" })))]));
    ran_at(&runner, clock.now().as_millisecond()).await;
    assert_eq!(counts(runner.list(None).await.unwrap()[0].ran.as_ref().unwrap()), (0, 0, 20));
    runner.apply(site(Vec::new()));
    let gone = async {
        while !bed.segments.list_segments(SITE).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is removed");
    stop.cancel();
    task.join_all().await;
}

async fn preview_samples_people_from_the_whole_range(bed: SegmentTestBed) {
    let bed = bed.with(100).await;
    let (runner, _) = bed.scheduler(Arc::new(ManualClock::new(NOW.parse().unwrap())));
    runner.apply(vec![SiteSegments { id: SITE, name: "shop".into(), segments: Vec::new() }]);
    let rule = Arc::new(rule(json!({ "event": "A", "within": "3d" })));
    let preview = runner.preview("shop", rule.clone(), MembershipUnit::User, 4).await.unwrap();
    assert_eq!(preview.size, 40);
    let numbers: Vec<_> = preview.sample.iter().map(|person| person["profile"].clone()).collect();
    assert_eq!(numbers.len(), 4);
    assert!(numbers[3].as_i64().unwrap() > 60, "{numbers:?}");
    assert_eq!(preview.sample[0]["traits"]["plan"], "pro");
    let elsewhere = runner.preview("other", rule, MembershipUnit::User, 4).await;
    assert!(matches!(elsewhere, Err(SegmentError::Unknown)));
}

async fn deleted_segment_is_removed_in_pieces(bed: SegmentTestBed) {
    let bed = bed.with(10).await;
    bed.run(&segment("a", rule(json!({ "trait": "plan" }))), 1000).await;
    let id = bed.segments.list_segments(SITE).await.unwrap()[0].id;
    let mut pieces = vec![bed.segments.remove(id, 4).await.unwrap()];
    while !pieces[pieces.len() - 1] {
        pieces.push(bed.segments.remove(id, 4).await.unwrap());
    }
    assert_eq!(pieces, [false, false, true]);
    assert_eq!(bed.segments.list_segments(SITE).await.unwrap(), []);
}

/// With a database of their own two gateways would each run their segments.
#[tokio::test]
async fn one_of_the_gateways_that_share_a_database_runs_the_segments() {
    let Some(bed) = SegmentTestBed::postgres().await else { return };
    let TestPeopleStore::Postgres(database, _) = &bed.people else { panic!() };
    let other = PostgresSegmentStore::new(database.clone(), Duration::from_secs(60));
    bed.add(1, person_with_events(&[])).await;
    assert_eq!(bed.segments.list_segments(SITE).await.unwrap(), []);
    assert!(matches!(other.list_segments(SITE).await, Err(SegmentError::NotLeader)));
    assert!(matches!(other.begin_run(SITE, "a", 1).await, Err(SegmentError::NotLeader)));
    let (rule, unit) = (Arc::new(rule(json!({ "trait": "plan" }))), MembershipUnit::User);
    let all = RuleEvaluation { rule, unit, now_ms: 1, only: None };
    assert_eq!(other.evaluate(SITE, all).await.unwrap().len(), 1, "anyone may ask");
    let SegmentTestBed { segments, sync_store, .. } = bed;
    drop((segments, sync_store));
    let taken_over = async {
        while other.list_segments(SITE).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), taken_over).await.expect("it goes on");
}
