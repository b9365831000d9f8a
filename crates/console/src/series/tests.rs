//! Series over a real database, with a clock of their own: roll-up, gaps, restarts, limits, speed.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use super::*;
use crate::reading::{DestinationReading, GatewayReading, ReasonCount, SiteReading};
use tagway_storage::store::{CommitSyncMode, SqliteStore};

/// The start of a bucket of every length.
const START: i64 = 1_800_000_000 / 7200 * 7200;

struct Trial {
    folder: tempfile::TempDir,
    store: SeriesStore,
    recorder: SeriesRecorder,
}

impl Trial {
    async fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap()).await
    }

    async fn open(folder: tempfile::TempDir) -> Self {
        let store =
            SqliteStore::open(folder.path(), CommitSyncMode::Os, &[MIGRATIONS], Arc::default());
        let store = SeriesStore::new(Arc::new(store.unwrap()));
        let recorder = SeriesRecorder::new(store.load().await.unwrap());
        Self { folder, store, recorder }
    }

    /// Ends the process without a last word, and starts the next.
    async fn restart(self) -> Self {
        let Self { folder, store, .. } = self;
        store.database().close().await;
        drop(store);
        Self::open(folder).await
    }

    async fn read(&mut self, at: i64, of: &DestinationReading) {
        let reading = reading(at, 0, vec![of.clone()]);
        if let Some(minute) = self.recorder.record(&reading) {
            self.store.write(minute).await.unwrap();
        }
    }

    async fn close(&mut self) {
        if let Some(minute) = self.recorder.close() {
            self.store.write(minute).await.unwrap();
        }
    }

    async fn points(
        &self,
        measure: SeriesMeasure,
        from: i64,
        to: i64,
        step: i64,
    ) -> Vec<Option<u64>> {
        let query = SeriesQuery {
            site: "shop".to_owned(),
            measure,
            destination: Some("meta".to_owned()),
            from,
            to,
            step: Some(step),
        };
        let answer = self.store.points(query, to).await.unwrap();
        assert_eq!(answer.step_seconds, step);
        answer.series.into_iter().next().map(|it| it.points).unwrap_or_default()
    }
}

fn reading(at: i64, accepted: u64, destinations: Vec<DestinationReading>) -> GatewayReading {
    GatewayReading {
        at: Timestamp::from_second(at).unwrap(),
        sites: vec![SiteReading { site: "shop".into(), accepted }],
        destinations,
        segments: None,
        certificates: Vec::new(),
        disk: None,
    }
}

fn meta() -> DestinationReading {
    DestinationReading {
        site: "shop".into(),
        destination: "meta".into(),
        delivered: 1000,
        skipped: 0,
        dead: 0,
        pending: 0,
        held: 0,
        oldest_pending: None,
        is_paused: false,
        reasons: Vec::new(),
    }
}

#[tokio::test]
async fn minutes_add_up_to_longer_buckets_and_gauges_keep_the_most() {
    let mut trial = Trial::new().await;
    let mut of = meta();
    for minute in 0..=125_i64 {
        for half in 0..2 {
            of.pending = u64::try_from(minute % 7).unwrap();
            trial.read(START + minute * 60 + half * 30, &of).await;
            of.delivered += 5;
        }
    }
    let end = START + 125 * 60;
    let by_minute = trial.points(SeriesMeasure::Delivered, START, end, 60).await;
    // The first reading has none before it: what it finds is older.
    assert_eq!(by_minute[..3], [Some(5), Some(10), Some(10)]);
    let tens = trial.points(SeriesMeasure::Delivered, START, end, 600).await;
    assert_eq!(tens[..2], [Some(95), Some(100)]);
    let long = trial.points(SeriesMeasure::Delivered, START, end, 7200).await;
    assert_eq!(long, [Some(1195), Some(50)]);
    let pending = trial.points(SeriesMeasure::Pending, START, end, 600).await;
    assert_eq!(pending[0], Some(6));
    let pending = trial.points(SeriesMeasure::Pending, START, end, 60).await;
    assert_eq!(pending[..8], [0, 1, 2, 3, 4, 5, 6, 0].map(Some));
}

#[tokio::test]
async fn restart_leaves_a_gap_and_counts_what_happened_before_it_once() {
    let mut trial = Trial::new().await;
    let mut of = meta();
    for minute in 0..5 {
        trial.read(START + minute * 60, &of).await;
        of.delivered += 10;
    }
    // Minute 4 is open and lost; ten more events are settled before the process dies.
    let mut trial = trial.restart().await;
    of.delivered += 10;
    trial.read(START + 20 * 60, &of).await;
    trial.read(START + 21 * 60, &of).await;
    let points = trial.points(SeriesMeasure::Delivered, START, START + 22 * 60, 60).await;
    assert_eq!(points[..4], [Some(0), Some(10), Some(10), Some(10)]);
    assert!(points[4..20].iter().all(Option::is_none), "{points:?}");
    assert_eq!(points[20], Some(30));
    assert_eq!(points[21], None, "the open minute is not known yet");
    let all: u64 = points.iter().flatten().sum();
    assert_eq!(all, of.delivered - 1000);
}

#[tokio::test]
async fn close_stores_the_open_minute_and_the_next_process_adds_to_it() {
    let mut trial = Trial::new().await;
    let mut of = meta();
    trial.read(START, &of).await;
    of.delivered += 3;
    trial.read(START + 20, &of).await;
    trial.close().await;
    let mut trial = trial.restart().await;
    of.delivered += 4;
    trial.read(START + 50, &of).await;
    trial.close().await;
    let points = trial.points(SeriesMeasure::Delivered, START, START + 60, 60).await;
    assert_eq!(points, [Some(7)]);
}

#[tokio::test]
async fn counters_that_decrease_count_nothing() {
    let mut trial = Trial::new().await;
    let mut of = meta();
    of.dead = 50;
    trial.read(START, &of).await;
    // An operator retries the letters: they leave the account.
    of.dead = 2;
    trial.read(START + 60, &of).await;
    of.dead = 5;
    of.delivered = 0;
    trial.read(START + 120, &of).await;
    trial.close().await;
    let dead = trial.points(SeriesMeasure::Dead, START, START + 180, 60).await;
    assert_eq!(dead, [Some(0), Some(0), Some(3)]);
    let delivered = trial.points(SeriesMeasure::Delivered, START, START + 180, 60).await;
    assert_eq!(delivered, [Some(0), Some(0), Some(0)]);
}

#[tokio::test]
async fn reasons_are_kept_for_the_largest_and_the_rest_is_other() {
    const NAMES: [&str; 25] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r",
        "s", "t", "u", "v", "w", "x", "y",
    ];
    let mut trial = Trial::new().await;
    let mut of = meta();
    trial.read(START, &of).await;
    let reason =
        |index: usize, count| ReasonCount { outcome: "skipped", reason: NAMES[index], count };
    of.reasons = (0..24).map(|index| reason(index, 10)).collect();
    of.skipped = 240;
    trial.read(START + 60, &of).await;
    // The last one becomes the largest, and takes the place of another.
    of.reasons.push(reason(24, 500));
    of.skipped = 740 + 7;
    trial.read(START + 120, &of).await;
    trial.close().await;
    let counts = trial.store.outcomes("shop", START + 180, 3600).await.unwrap();
    let sum: u64 = counts.iter().map(|it| it.count).sum();
    assert_eq!(sum, 747);
    let of_reason = |name: &str| counts.iter().find(|it| it.reason == name).map(|it| it.count);
    assert_eq!(of_reason("y"), Some(500));
    assert_eq!(counts.len(), MAX_REASONS + 1);
    // 4 that had no place, one that lost it, and 7 of the account without a reason.
    assert_eq!(of_reason(OTHER_REASON), Some(4 * 10 + 10 + 7));
    let trial = trial.restart().await;
    let known = trial.store.load().await.unwrap();
    let reasons = known.iter().filter(|(key, _)| !key.reason.is_empty()).count();
    assert_eq!(reasons, MAX_REASONS + 1);
}

#[tokio::test]
async fn expired_buckets_are_removed_and_old_ranges_have_longer_ones() {
    let mut trial = Trial::new().await;
    let mut of = meta();
    for step in 0..40 {
        trial.read(START + step * 86_400, &of).await;
        of.delivered += 1;
    }
    let end = START + 40 * 86_400;
    trial.read(end, &of).await;
    trial.read(end + 600, &of).await;
    let rows = |resolution: i64| {
        trial.store.database().read(move |c| {
            let sql = "SELECT count(*) FROM series_points WHERE resolution = ?";
            c.query_row(sql, [resolution], |row| row.get::<_, i64>(0))
        })
    };
    assert!(rows(60).await.unwrap() <= 1);
    assert!(rows(600).await.unwrap() <= 4);
    assert!((34..=36).contains(&rows(7200).await.unwrap()));
    let days = trial.points(SeriesMeasure::Delivered, end - 20 * 86_400, end, 86_400).await;
    let sum: u64 = days.iter().flatten().sum();
    assert!((19..=21).contains(&sum), "{days:?}");
}

#[tokio::test]
async fn site_has_one_series_of_accepted_events_and_ranges_are_checked() {
    let mut trial = Trial::new().await;
    for (minute, accepted) in [(0, 100), (1, 130), (2, 131)] {
        let reading = reading(START + minute * 60, accepted, vec![meta()]);
        if let Some(minute) = trial.recorder.record(&reading) {
            trial.store.write(minute).await.unwrap();
        }
    }
    let query = SeriesQuery {
        site: "shop".to_owned(),
        measure: SeriesMeasure::Accepted,
        destination: None,
        from: START,
        to: START + 120,
        step: None,
    };
    let answer = trial.store.points(query.clone(), START + 120).await.unwrap();
    let expected = SeriesPoints { destination: None, points: vec![Some(0), Some(30)] };
    assert_eq!((answer.step_seconds, answer.series), (60, vec![expected]));
    let many = SeriesQuery { from: START - 34 * 86_400, step: Some(60), ..query.clone() };
    let answer = trial.store.points(many, START + 120).await.unwrap();
    assert_eq!(answer.step_seconds, 7200, "shorter points than the stored ones do not exist");
    for (from, step) in [(START + 500, None), (START, Some(0))] {
        let wrong = SeriesQuery { from, step, ..query.clone() };
        let error = trial.store.points(wrong, START + 120).await.unwrap_err();
        assert!(matches!(error, SeriesQueryError::Range(_)), "{error}");
    }
}

/// 35 days of 50 destinations, each with all measures and eight reasons, in every bucket.
#[tokio::test]
async fn queries_over_35_days_of_50_destinations_take_less_than_a_tenth_of_a_second() {
    let trial = Trial::new().await;
    let end = START;
    trial
        .store
        .database()
        .write(move |c| {
            c.execute_batch(&format!(
                "CREATE TEMP TABLE reasons AS
                    SELECT column1 AS measure, column2 AS reason FROM (VALUES ('delivered', ''),
                    ('pending', ''), ('held', ''), ('skipped', 'a'), ('skipped', 'b'), ('skipped', 'c'),
                    ('skipped', 'd'), ('dead', 'e'), ('dead', 'f'), ('dead', 'g'), ('dead', 'h'));
                 WITH RECURSIVE d (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < 50)
                 INSERT INTO series (site, destination, measure, reason, created_at, seen_at)
                    SELECT 'shop', 'd' || n, measure, reason, 0, {end} FROM d, reasons;"
            ))?;
            for (resolution, kept) in RESOLUTIONS {
                c.execute_batch(&format!(
                    "WITH RECURSIVE b (at) AS (SELECT {end} - {kept} UNION ALL SELECT at + {resolution} FROM b
                        WHERE at + {resolution} < {end})
                     INSERT INTO series_points SELECT id, {resolution}, at, 1 + id % 7 FROM series, b;
                     WITH RECURSIVE b (at) AS (SELECT {end} - {kept} UNION ALL SELECT at + {resolution} FROM b
                        WHERE at + {resolution} < {end})
                     INSERT INTO series_samples SELECT {resolution}, at FROM b;"
                ))?;
            }
            Ok(())
        })
        .await
        .unwrap();
    for range in SeriesRange::ALL {
        let mut best = std::time::Duration::MAX;
        // The best of some: other processes share the machine.
        for _ in 0..5 {
            let query = SeriesQuery {
                site: "shop".to_owned(),
                measure: SeriesMeasure::Skipped,
                destination: None,
                from: end - range.seconds,
                to: end,
                step: Some(range.step),
            };
            let began = Instant::now();
            let answer = trial.store.points(query, end).await.unwrap();
            best = best.min(began.elapsed());
            assert_eq!(answer.series.len(), 50);
            let full = answer.series.iter().all(|it| it.points.iter().all(Option::is_some));
            assert!(full && answer.series[0].points.len() >= 60);
        }
        println!("{}: {best:?}", range.name);
        assert!(best < std::time::Duration::from_millis(100), "{}: {best:?}", range.name);
    }
    let mut best = std::time::Duration::MAX;
    for _ in 0..5 {
        let began = Instant::now();
        let counts = trial.store.outcomes("shop", end, 30 * 86_400).await.unwrap();
        best = best.min(began.elapsed());
        assert_eq!(counts.len(), 50 * 9);
    }
    println!("outcomes: {best:?}");
    assert!(best < std::time::Duration::from_millis(100), "{best:?}");
}
