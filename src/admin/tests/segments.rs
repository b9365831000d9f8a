//! The segments' routes over an embedded database with a few people.

use super::*;
use tagway_core::clock::ManualClock;
use tagway_delivery::segment::{self, SegmentScheduler, SiteSegments, SqliteSegmentStore};
use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile, SettingsSection};
use tagway_storage::journal::SiteId;
use tagway_storage::profile;
use tagway_storage::store::{CommitSyncMode, SqliteStore};

const SEGMENT: &str = r#"
name = "pros"
every = "1h"
where = { trait = "plan", "=" = "pro" }
"#;

/// A site `shop` with 1200 people, every second of them in the segment `pros`.
pub(super) async fn some() -> (tempfile::TempDir, Arc<SegmentScheduler>) {
    let folder = tempfile::tempdir().unwrap();
    let schemas = [profile::MIGRATIONS, segment::MIGRATIONS];
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &schemas, Arc::default()).unwrap();
    let filled = store.write(|c| {
        c.execute_batch(
            "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 1200)
             INSERT INTO profiles (id, site, user_id, traits) SELECT id, 1, 'u' || id,
             iif(id % 2, '{\"plan\":\"pro\"}', '{}') FROM n",
        )
    });
    filled.await.unwrap();
    let settings = segment::SegmentationSettings {
        evaluation_timeout: Duration::from_secs(60),
        jitter: Duration::ZERO,
        realtime_every: Duration::from_secs(60),
        realtime_delay: Duration::from_secs(1),
        realtime_people: 100,
        batch: 100,
        recheck: Duration::from_secs(86_400),
        fill_per_second: std::num::NonZeroU32::MIN,
    };
    let backend = SqliteSegmentStore::new(Arc::new(store), settings.evaluation_timeout);
    let clock = Arc::new(ManualClock::new("2026-11-25T18:00:00Z".parse().unwrap()));
    let segments = SegmentScheduler::new(
        Arc::new(backend),
        settings,
        clock,
        Arc::new(tagway_core::metrics::Metrics::new()),
    );
    let (report, environment) = (ConfigErrorReport::default(), ConfigEnvironment::default());
    let source = ConfigFile { name: "test".to_owned(), text: SEGMENT.to_owned() };
    let table = source.parse(&report);
    let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
    let read = segment::SegmentSettings::read(&mut section, &[]);
    drop(section);
    assert!(report.is_empty(), "{report:?}");
    let all = read.map(Arc::new).into_iter().collect();
    segments.apply(vec![SiteSegments { id: SiteId(1), name: "shop".into(), segments: all }]);
    (folder, Arc::new(segments))
}

fn token() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

#[tokio::test]
async fn segment_is_previewed_run_and_streamed() {
    let running = TestAdminServer::start().await;
    let asked = json!({ "site": "shop", "where": { "trait": "plan" }, "sample": 2 }).to_string();
    let (status, body) = running.ask("POST /api/v1/segments/preview", &token(), &asked).await;
    let preview: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &preview["size"]), (200, &json!(600)), "{body}");
    assert_eq!(preview["sample"].as_array().map(Vec::len), Some(2));
    let run = json!({ "site": "shop", "segment": "pros" }).to_string();
    let (status, body) = running.ask("POST /api/v1/segments/run", &token(), &run).await;
    let ran: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &ran["size"], &ran["added"]), (200, &json!(600), &json!(600)));
    for what in ["members", "diff"] {
        let line = format!("GET /api/v1/segments/shop/pros/{what}");
        let (status, body) = running.ask(&line, &token(), "").await;
        assert_eq!(status, 200);
        let lines: Vec<Value> =
            body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let people: Vec<&Value> = lines.iter().filter(|it| it.is_object()).collect();
        assert_eq!(people.len(), 600, "{what}");
        assert_eq!(people[599]["user_id"], "u1199");
    }
    let (_, body) = running.ask("GET /api/v1/segments?site=shop", &token(), "").await;
    let listed: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(listed[0]["ran"]["size"], 600);
    assert_eq!(listed[0]["schedule"], "every 1h");
}

#[tokio::test]
async fn segment_routes_reject_mistakes_missing_tokens_and_unknown_names() {
    let running = TestAdminServer::start().await;
    let body = json!({ "site": "shop", "where": { "trait": "a", "equal": 1 } }).to_string();
    let (status, answer) = running.ask("POST /api/v1/segments/preview", &token(), &body).await;
    assert_eq!(status, 400);
    assert!(answer.contains("where.equal: unknown key"), "{answer}");
    let paths = ["/api/v1/segments", "/api/v1/segments/shop/pros/members"];
    for path in paths {
        assert_eq!(running.ask(&format!("GET {path}"), "", "").await.0, 401, "{path}");
    }
    for path in ["/api/v1/segments/shop/x", "/api/v1/segments/x/pros/diff"] {
        assert_eq!(running.ask(&format!("GET {path}"), &token(), "").await.0, 404, "{path}");
    }
    assert_eq!(running.ask("GET /api/v1/segments/run", &token(), "").await.0, 405);
}
