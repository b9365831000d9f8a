//! Rejections: the problem names the member that is missing, unknown or wrong, and the head has its fields.

use super::*;

#[tokio::test]
async fn problem_names_the_field_of_the_request() {
    let running = TestAdminServer::start().await;
    let long = json!({ "ids": vec![1; 300] });
    let cases = [
        ("GET /api/v1/dead?sites=shop", Value::Null, json!("sites")),
        ("GET /api/v1/dead?limit=x", Value::Null, json!("limit")),
        ("GET /api/v1/dead?site=other", Value::Null, json!("site")),
        ("GET /api/v1/tail?sites=shop", Value::Null, json!("sites")),
        ("GET /api/v1/events/shop?limit=x", Value::Null, json!("limit")),
        ("GET /api/v1/events/shop?before=x", Value::Null, json!("before")),
        ("GET /api/v1/scripts/diff?site=shop&vendor=ga4", Value::Null, json!("script")),
        ("POST /api/v1/send", json!({ "event": {} }), json!("site")),
        ("POST /api/v1/send", json!({ "site": "shop", "event": {}, "x": 1 }), json!("x")),
        ("POST /api/v1/forget", json!({ "site": "shop", "id": " " }), json!("id")),
        ("POST /api/v1/export", json!({ "site": 1, "id": "ann" }), json!("site")),
        (
            "POST /api/v1/replay",
            json!({ "site": "shop", "destination": "ga4", "from": "today", "to": "today" }),
            json!("from"),
        ),
        (
            "POST /api/v1/dead/drop",
            json!({ "site": "shop", "destination": "x" }),
            json!("destination"),
        ),
        (
            "POST /api/v1/segments/preview",
            json!({ "site": "shop", "where": { "trait": "a", "equal": 1 } }),
            json!("where"),
        ),
        ("POST /api/v1/segments/preview", json!({ "site": "shop" }), Value::Null),
        ("POST /api/v1/send", Value::Null, Value::Null),
    ];
    for (line, body, field) in cases {
        let (status, problem) = running.ask_json(line, &body).await;
        assert_eq!((status, &problem["status"]), (400, &json!(400)), "{line}: {problem}");
        assert_eq!(problem["field"], field, "{line}: {problem}");
        assert_eq!(problem["title"], "Bad Request", "{line}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{line}");
    }
    assert_eq!(running.ask_json("POST /api/v1/dead/drop", &long).await.0, 200);
}

#[tokio::test]
async fn empty_parameters_are_absent() {
    let running = TestAdminServer::start().await;
    let line = "GET /api/v1/dead?site=&destination=&before=&limit=";
    assert_eq!(running.ask_json(line, &Value::Null).await.0, 200);
    assert_eq!(*running.asked.lock(), [format!("dead {:?} None 100", DeadLetterFilter::default())]);
}

#[tokio::test]
async fn responses_have_the_fields_of_their_status() {
    let running = TestAdminServer::start().await;
    let head = async |line: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let answer = running.raw(&request).await.to_lowercase();
        answer.split_once("\r\n\r\n").unwrap().0.to_owned()
    };
    let cases = [
        ("GET /api/v1/version", "200", &["content-type: application/json"][..]),
        ("HEAD /api/v1/version", "200", &["content-type: application/json"]),
        ("GET /", "200", &["content-type: text/plain; charset=utf-8"]),
        ("HEAD /livez", "200", &["content-type: text/plain; charset=utf-8", "content-length: 3"]),
        ("GET /api/v1/dead", "401", &["www-authenticate: bearer"]),
        ("PUT /api/v1/dead", "405", &["allow: get,head"]),
        ("GET /api/v1/dead/retry", "405", &["allow: post"]),
        ("OPTIONS /metrics", "405", &["allow: get,head"]),
        ("GET /readyz", "503", &["content-type: application/json"]),
        ("GET /api/v2/version", "404", &["content-type: application/problem+json"]),
    ];
    for (line, status, fields) in cases {
        let head = head(line).await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{line}: {head}");
        for field in
            fields.iter().chain(&["cache-control: no-store", "x-content-type-options: nosniff"])
        {
            assert!(head.contains(field), "{line}: {field} is missing in {head}");
        }
    }
}

#[tokio::test]
async fn index_lists_the_routes() {
    let running = TestAdminServer::start().await;
    let (_, index) = running.ask("GET /", "", "").await;
    for line in
        ["GET    /metrics\n", "GET    /api/v1/ledger: ", "POST   /api/v1/dead/drop (token): "]
    {
        assert!(index.contains(line), "{line} is missing in {index}");
    }
}
