//! Tests of segments in real time, in each backend.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::segment::schedule::SegmentSchedule;
use tagway_core::clock::ManualClock;
use tagway_storage::profile::{ChangedProfiles, ProfileChanges};

const SITE: SiteId = SiteId(7);

/// Far longer than an evaluation takes.
const PATIENCE: Duration = Duration::from_secs(60);

in_every_backend!(changed_people_are_evaluated_alone_and_at_once);

async fn members(scheduler: &SegmentScheduler, name: &str) -> Vec<i64> {
    let page = scheduler.page("shop", name, false, ProfileId(i64::MIN), 1000).await.unwrap();
    page.iter().map(|(it, _)| it.profile.0).collect()
}

async fn are_members(scheduler: &SegmentScheduler, wanted: &[i64]) {
    let waiting = async {
        while members(scheduler, "now").await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("they become members");
}

async fn changed_people_are_evaluated_alone_and_at_once(bed: SegmentTestBed) {
    let bed = bed.with(6).await;
    // A clock that stands still: nothing is due but the first runs.
    let (segments, metrics) = bed.segments(Arc::new(ManualClock::new(NOW.parse().unwrap())));
    let changed = Arc::new(ChangedProfiles::new(4));
    let scheduler = Arc::new(segments.with_changed(changed.clone()));
    let rule = || rule(json!({ "trait": "plan", "=": "pro" }));
    let segments =
        [("now", SegmentSchedule::Realtime), ("daily", SegmentSchedule::Every(PATIENCE))];
    let segments = segments
        .map(|(name, schedule)| Arc::new(SegmentSettings { schedule, ..segment(name, rule()) }));
    let site = SiteSegments { id: SITE, name: "shop".into(), segments: segments.to_vec() };
    scheduler.apply(vec![site]);
    let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
    task.spawn(scheduler.clone().run_until_stopped(stop.clone()));
    let have_run = async {
        while scheduler.list(None).await.unwrap().iter().any(|it| it.ran.is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, have_run).await.expect("both run once");
    are_members(&scheduler, &[1, 2, 3, 4, 5, 6]).await;
    bed.execute("UPDATE profiles SET traits = '{}' WHERE id IN (1, 2)").await;
    bed.execute("DELETE FROM profiles WHERE id = 3").await;
    bed.add(7, person_with_events(&[])).await;
    let say = |ids: &[i64]| {
        let profiles = ids.iter().copied().map(ProfileId).collect();
        changed.record_changes(SITE, &ProfileChanges { profiles, ..ProfileChanges::default() });
    };
    say(&[1, 3, 6, 7]);
    are_members(&scheduler, &[2, 4, 5, 6, 7]).await;
    assert_eq!(members(&scheduler, "daily").await, [1, 2, 3, 4, 5, 6], "it has a plan");
    let size = "tagway_segment_members{site=\"shop\",segment=\"now\"} 5";
    let counted = async {
        while !metrics.render().contains(size) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("they are counted after they are written");
    // With too many changes no one is evaluated; a later change of one person evaluates only that one.
    bed.execute("DELETE FROM profiles WHERE id = 5").await;
    say(&[1, 2, 3, 4, 5]);
    let taken = async {
        while !changed.is_taken(SITE) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("it is taken");
    say(&[2]);
    are_members(&scheduler, &[4, 5, 6, 7]).await;
    stop.cancel();
    task.join_all().await;
}
