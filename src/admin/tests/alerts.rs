//! The routes of series and alerts over an embedded database with some of each.

use super::*;
use async_trait::async_trait;
use bytes::Bytes;
use tagway_console::alert::{AlertEgress, AlertService, AlertSettings};
use tagway_console::series::{MinuteCounts, SeriesKey, SeriesMeasure, SeriesStore};
use tagway_core::clock::ManualClock;
use tagway_core::metrics::Metrics;
use tagway_settings::test_support;

/// A channel that is out of order.
struct Unreachable;

#[async_trait]
impl AlertEgress for Unreachable {
    async fn post(&self, _: http::Request<Bytes>, _: Duration) -> Result<http::StatusCode, String> {
        Err("could not be reached".to_owned())
    }

    fn allows_private(&self) -> bool {
        false
    }
}

/// Five deliveries of `shop/ga4` in a minute of 1970, where the fake gateway's clock stands; the firing alert 7 about
/// it, and the alert 8 about the disk.
pub(super) async fn some(store: Arc<SqliteStore>) -> (Arc<SeriesStore>, Arc<AlertService>) {
    let series = Arc::new(SeriesStore::new(store.clone()));
    let key = |measure, reason: &str| SeriesKey {
        site: "shop".into(),
        destination: "ga4".into(),
        measure,
        reason: reason.into(),
    };
    let values = [
        (key(SeriesMeasure::Delivered, ""), 5),
        (key(SeriesMeasure::Skipped, "consent_denied"), 2),
        (key(SeriesMeasure::Skipped, "other"), 1),
    ];
    let minute = MinuteCounts { at: -60, values: values.into(), ..MinuteCounts::default() };
    series.write(minute).await.unwrap();
    let rows = "INSERT INTO alerts (id, rule, kind, site, object, severity, state, since, value, bound, title, text, link)
        VALUES (7, 'backlog-age', 'backlog_age', 'shop', 'ga4', 'page', 'firing', 0, 9, 5, 't', 'x', '#/destinations/shop/ga4'),
            (8, 'disk', 'disk', NULL, NULL, 'page', 'firing', 0, 0, 0.05, 't', 'x', '#/settings')";
    store.write(|c| c.execute_batch(rows)).await.unwrap();
    let text = "[channels.ops]\nkind = \"slack\"\nurl = \"https://hooks.example/T/B\"\n";
    let settings = test_support::settings(text, AlertSettings::read);
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let setup = (settings, Arc::new(Unreachable) as Arc<dyn AlertEgress>);
    let metrics = Arc::new(Metrics::new());
    let alerts = AlertService::new(store, series.clone(), setup, (clock, metrics));
    (series, Arc::new(alerts))
}

#[tokio::test]
async fn series_and_outcomes_answer_by_range() {
    let running = TestAdminServer::start().await;
    let ask = async |line: &str| running.ask_json(line, &Value::Null).await;
    let (status, answer) = ask("GET /api/v1/sites/shop/series?measure=delivered&range=1h").await;
    assert_eq!((status, &answer["step_seconds"]), (200, &json!(60)));
    let series = &answer["series"][0];
    assert_eq!(series["destination"], "ga4");
    let points = series["points"].as_array().unwrap();
    assert_eq!(
        (points[0].clone(), points.iter().rev().find(|it| !it.is_null())),
        (Value::Null, Some(&json!(5)))
    );
    let (_, answer) =
        ask("GET /api/v1/sites/shop/series?measure=delivered&from=1969-12-31T23:50:00Z&step=600")
            .await;
    assert_eq!(answer["series"][0]["points"], json!([5, null]));
    let (status, answer) = ask("GET /api/v1/sites/shop/outcomes?range=1h").await;
    assert_eq!(status, 200);
    let lines: Vec<_> = answer["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["reason"].clone(), row["count"].clone()))
        .collect();
    let expected =
        [(Value::Null, json!(5)), (json!("consent_denied"), json!(2)), (json!("other"), json!(1))];
    assert_eq!(lines, expected);
    assert!(answer["rows"][1]["text"].as_str().unwrap().contains("refused"), "{answer}");
    for (line, status, field) in [
        ("GET /api/v1/sites/nobody/series?measure=dead", 404, Value::Null),
        ("GET /api/v1/sites/shop/series?measure=x", 400, json!("measure")),
        ("GET /api/v1/sites/shop/series?measure=dead&range=2h", 400, json!("range")),
        ("GET /api/v1/sites/shop/series?measure=dead&from=yesterday", 400, json!("from")),
        ("GET /api/v1/sites/shop/series?measure=dead&range=30d&step=0", 400, Value::Null),
    ] {
        let (found, answer) = ask(line).await;
        assert_eq!((found, &answer["field"]), (status, &field), "{line}: {answer}");
    }
}

#[tokio::test]
async fn alerts_are_listed_acknowledged_and_channels_tested() {
    let running = TestAdminServer::start().await;
    let (_, answer) = running.ask_json("GET /api/v1/alerts", &Value::Null).await;
    let ids: Vec<_> =
        answer["rows"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!((ids, &answer["next"]), (vec![json!(8), json!(7)], &Value::Null));
    let seen = json!({ "note": "calling them" });
    let (_, answer) = running.ask_json("POST /api/v1/alerts/7/acknowledge", &seen).await;
    assert_eq!(answer["acknowledged"]["by"], "admin.token");
    let (status, _) = running.ask_json("POST /api/v1/alerts/9/acknowledge", &seen).await;
    assert_eq!(status, 404);
    let (_, answer) = running.ask_json("POST /api/v1/alerts/channels/ops/test", &json!({})).await;
    assert_eq!(answer, json!({ "sent": false, "error": "could not be reached" }));
    let (status, _) = running.ask_json("POST /api/v1/alerts/channels/x/test", &json!({})).await;
    assert_eq!(status, 404);
    let (_, answer) = running.ask_json("GET /api/v1/alerts/rules", &Value::Null).await;
    assert_eq!(
        (answer["rows"].as_array().unwrap().len(), &answer["channels"]),
        (8, &json!(["ops"]))
    );
    let rows = running.audit_rows().await;
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect();
    assert_eq!(rows[0], ["alert.acknowledge", "shop", "7 backlog-age", ""]);
    assert_eq!(rows[2], ["alert.test", "", "ops", "failed"]);
}
