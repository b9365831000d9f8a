//! Destinations, overviews, settings and the search for profiles from the callers' side.

use super::*;

#[tokio::test]
async fn destination_shows_its_activity_and_its_pause() {
    let running = TestAdminServer::start().await;
    let (status, list) = running.ask_json("GET /api/v1/destinations", &Value::Null).await;
    assert_eq!(status, 200);
    let row = &list["rows"][0];
    assert_eq!((&row["destination"], &row["credentials"]), (&json!("ga4"), &json!("ok")));
    assert_eq!(row["latency"], json!({ "p50_ms": 20, "p99_ms": 90, "count": 5 }));
    assert_eq!(
        (&row["paused"]["by"], &row["paused"]["why"]),
        (&json!("ana"), &json!("broken tag"))
    );
    assert_eq!(row["last_error"]["reply"], "HTTP 400");
    assert_eq!(row["last_error"]["text"].as_str().map(str::is_empty), Some(false));
    let reasons: Vec<_> = row["skip_reasons"].as_array().unwrap().iter().collect();
    assert_eq!((&reasons[0]["reason"], &reasons[0]["count"]), (&json!("not_selected"), &json!(9)));
    assert!(reasons[1]["text"].as_str().unwrap().contains("refused"));
    assert_eq!(row["age_limit_seconds"], 72 * 3600);
    let (status, one) = running.ask_json("GET /api/v1/destinations/shop/ga4", &Value::Null).await;
    assert_eq!((status, &one["toml"]), (200, &json!("vendor = \"ga4\"")));
    let (status, _) = running.ask_json("GET /api/v1/destinations/shop/other", &Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn match_quality_is_in_shares_and_words() {
    let running = TestAdminServer::start().await;
    let line = "GET /api/v1/destinations/shop/ga4/match-quality";
    let (status, quality) = running.ask_json(line, &Value::Null).await;
    assert_eq!((status, &quality["sampled"]), (200, &json!(3)));
    let key = &quality["keys"][0];
    assert_eq!((&key["key"], &key["share"]), (&json!("client_id"), &json!(0.3333)));
    assert_eq!((&quality["score"], &quality["consent"]["denied"]), (&json!(3.3), &json!(1)));
    assert!(quality["score_text"].as_str().unwrap().starts_with("Poor"));
    assert!(quality["dedupe"]["raise"].is_string());
}

#[tokio::test]
async fn pause_has_a_reason_and_an_end() {
    let running = TestAdminServer::start().await;
    let pause = |until: &str| json!({ "site": "shop", "destination": "ga4", "why": "broken tag", "until": until });
    let line = "POST /api/v1/destinations/pause";
    let (status, paused) = running.ask_json(line, &pause("2030-01-01T00:00:00Z")).await;
    assert_eq!((status, &paused["state"]), (200, &json!("paused")));
    assert_eq!(*running.asked.lock(), ["pause broken tag Some(2030-01-01T00:00:00Z)"]);
    let (status, problem) = running.ask_json(line, &pause("1969-01-01T00:00:00Z")).await;
    assert_eq!((status, &problem["field"]), (400, &json!("until")));
}

#[tokio::test]
async fn test_event_of_an_unselected_kind_is_a_conflict() {
    let running = TestAdminServer::start().await;
    let line = "POST /api/v1/destinations/test";
    let ask = |destination: &str, event: Value| json!({ "site": "shop", "destination": destination, "event": event });
    let (status, sent) = running.ask_json(line, &ask("ga4", Value::Null)).await;
    assert_eq!((status, &sent["seq"]), (200, &json!(12)));
    let (status, problem) = running.ask_json(line, &ask("ga4", json!({}))).await;
    assert_eq!((status, &problem["field"]), (409, &json!("event")));
    let (status, problem) = running.ask_json(line, &ask("other", Value::Null)).await;
    assert_eq!((status, &problem["field"]), (404, &json!("destination")));
}

#[tokio::test]
async fn overview_adds_up_the_site() {
    let running = TestAdminServer::start().await;
    let (status, home) = running.ask_json("GET /api/v1/sites/shop/overview", &Value::Null).await;
    assert_eq!(status, 200, "{home}");
    assert_eq!((&home["balanced"], &home["has_events"]), (&json!(true), &json!(false)));
    let alerts = home["alerts"].as_array().unwrap().iter();
    let alerts: Vec<_> = alerts.map(|it| it["rule"].as_str().unwrap()).collect();
    assert_eq!((&home["hosts"], alerts), (&json!(["t.shop.example"]), vec!["disk", "backlog-age"]));
    assert_eq!((&home["scripts_waiting"], &home["warnings"]), (&json!(1), &json!(["a slip"])));
    assert_eq!(home["destinations"][0]["destination"], "ga4");
    let line = "GET /api/v1/sites/other/overview";
    assert_eq!(running.ask_json(line, &Value::Null).await.0, 404);
}

#[tokio::test]
async fn settings_are_selected_by_path() {
    let running = TestAdminServer::start().await;
    let line = "GET /api/v1/settings/effective?path=journal";
    let (_, settings) = running.ask_json(line, &Value::Null).await;
    assert_eq!(settings["rows"].as_array().unwrap().len(), 1);
    let row = &settings["rows"][0];
    assert_eq!(
        (&row["value"], &row["source"], &row["line"]),
        (&json!("7d"), &json!("file"), &json!(3))
    );
    assert_eq!(row["restart"], true);
    let (_, warnings) = running.ask_json("GET /api/v1/warnings", &Value::Null).await;
    assert_eq!(warnings["rows"][0]["place"], "listen.admin");
}

#[tokio::test]
async fn search_names_people_and_the_next_page() {
    let running = TestAdminServer::start().await;
    let line = "GET /api/v1/sites/shop/profiles?q=an&limit=1";
    let (status, page) = running.ask_json(line, &Value::Null).await;
    assert_eq!((status, &page["next"]), (200, &json!("7.user")));
    let names = page["rows"][0]["names"].as_array().unwrap();
    let names: Vec<_> = names.iter().map(|it| it["value"].as_str().unwrap()).collect();
    assert_eq!(names, ["ana", "ana@shop.example", "d1"]);
    assert_eq!(*running.asked.lock(), ["search Some(\"an\") 1"]);
    let (status, problem) =
        running.ask_json("GET /api/v1/sites/shop/profiles?after=x", &Value::Null).await;
    assert_eq!((status, &problem["field"]), (400, &json!("after")));
}
