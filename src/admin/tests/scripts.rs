//! The routes of pinned scripts.

use super::*;

const SCRIPT: &str = "/gtag/js?id=G-1";

#[tokio::test]
async fn operators_diff_and_approve_a_waiting_version() {
    let running = TestAdminServer::start().await;
    let (_, list) = running.ask_json("GET /api/v1/scripts", &Value::Null).await;
    assert_eq!((&list[0]["state"], &list[0]["script"]), (&json!("pending"), &json!(SCRIPT)));
    let line = "GET /api/v1/scripts/diff?site=shop&vendor=ga4&script=%2Fgtag%2Fjs%3Fid%3DG-1";
    let (_, diff) = running.ask_json(line, &Value::Null).await;
    assert_eq!((&diff["pending"], &diff["cut"]), (&list[0]["pending"], &json!(false)));
    let approve = async |hash: &Value| {
        let body = json!({ "site": "shop", "vendor": "ga4", "script": SCRIPT, "hash": hash });
        running.ask_json("POST /api/v1/scripts/approve", &body).await
    };
    assert_eq!(approve(&list[0]["served"]["hash"]).await.0, 409);
    let (status, done) = approve(&list[0]["pending"]["hash"]).await;
    assert_eq!((status, &done["served"]), (200, &list[0]["pending"]["hash"]));
    assert_eq!(*running.asked.lock(), [format!("approve shop ga4 {SCRIPT}")]);
    for (line, status) in [
        ("GET /api/v1/scripts?site=shop", 400),
        ("GET /api/v1/scripts/diff?site=shop&vendor=ga4", 400),
        ("GET /api/v1/scripts/diff?site=shop&vendor=ga4&script=/other", 404),
        ("GET /api/v1/scripts/approve", 405),
    ] {
        assert_eq!(running.ask_json(line, &Value::Null).await.0, status, "{line}");
    }
    let body = json!({ "site": "shop", "vendor": "ga4", "script": SCRIPT });
    assert_eq!(running.ask_json("POST /api/v1/scripts/approve", &body).await.0, 400);
}
