//! Rights of each route, by the document: credentials, roles, sites, personal data and audit rows. A new route is
//! checked without a change here.

use super::openapi::{document, filled, operations};
use super::*;

/// An API token with these rights.
async fn token(running: &TestAdminServer, role: &str, personal: bool, sites: &Value) -> String {
    let count = running.audit_rows().await.len();
    let name = format!("{role} {count}");
    let body = json!({ "name": name, "role": role, "personal": personal, "sites": sites });
    let (status, made) = running.ask_json("POST /api/v1/tokens", &body).await;
    assert_eq!(status, 200, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

/// Sends a request with a token, and returns the status and the problem.
async fn ask(running: &TestAdminServer, token: &str, line: &str, body: &str) -> (u16, Value) {
    let fields = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let (status, text) = running.ask(line, &fields, body).await;
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// Reads the head of an answer only: streams do not end.
async fn head(running: &TestAdminServer, token: &str, line: &str) -> u16 {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    while !text.contains("\r\n") {
        let mut part = [0; 64];
        let length = stream.read(&mut part).await.unwrap();
        text += std::str::from_utf8(&part[..length]).unwrap();
    }
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

const ROLES: [&str; 3] = ["viewer", "editor", "admin"];

#[tokio::test]
async fn each_route_rejects_lower_roles_and_records_writes() {
    let running = TestAdminServer::start().await;
    let document = document(&running).await;
    let mut tokens = Vec::new();
    for role in ROLES {
        tokens.push(token(&running, role, true, &Value::Null).await);
    }
    let mut checked = 0;
    for (path, method, operation) in operations(&document) {
        let line = format!("{method} {}", filled(path));
        let role = operation["x-tagway-role"].as_str().unwrap();
        let action = operation["x-tagway-audit"].as_str();
        if method != "GET" && role != "none" {
            let reads = ["preview", "profiles", "rehearse", "session", "me"];
            let is_read = reads.iter().any(|name| path.contains(name));
            assert!(action.is_some() || is_read, "{line} changes something without a row");
        }
        if matches!(role, "none" | "self") {
            continue;
        }
        let least = ROLES.iter().position(|known| *known == role);
        for (rank, token) in tokens.iter().enumerate() {
            let before = running.audit_rows().await.len();
            let status = head(&running, token, &line).await;
            let is_admitted = least.is_some_and(|least| rank >= least);
            let shown = format!("{line} as {}: {status}", ROLES[rank]);
            assert_eq!(status == 403, !is_admitted, "{shown}");
            assert_ne!(status, 401, "{shown}");
            let rows = running.audit_rows().await;
            match action {
                Some(action) => {
                    assert!(rows[before..].iter().any(|row| row[0] == action), "{shown}")
                }
                None => assert_eq!(rows.len(), before, "{shown}"),
            }
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked}");
}

#[tokio::test]
async fn each_route_hides_personal_data_without_the_right() {
    let running = TestAdminServer::start().await;
    let document = document(&running).await;
    let without = token(&running, "admin", false, &Value::Null).await;
    let with = token(&running, "admin", true, &Value::Null).await;
    let (mut masked, mut required) = (0, 0);
    for (path, method, operation) in operations(&document) {
        let line = format!("{method} {}", filled(path));
        match operation["x-tagway-personal"].as_str() {
            Some("required") => {
                required += 1;
                assert_eq!(head(&running, &without, &line).await, 403, "{line}");
            }
            Some("masked") => {
                masked += 1;
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|it| it["name"] == "reveal"), "{line}");
                let line = format!("{line}?reveal=true");
                assert_eq!(head(&running, &without, &line).await, 403, "{line}");
                let before = running.audit_rows().await.len();
                let status = head(&running, &with, &line).await;
                let rows = running.audit_rows().await;
                let reveals = rows[before..].iter().filter(|row| row[0] == "personal.reveal");
                assert_eq!(reveals.count(), usize::from(status == 200), "{line}: {status}");
            }
            Some(other) => panic!("{line}: {other}"),
            None => {}
        }
    }
    assert!(masked > 0 && required > 0);
    let (_, letter) = ask(&running, &without, "GET /api/v1/dead/7", "").await;
    assert_eq!((&letter["id"], &letter["body"]["userId"]), (&json!(7), &json!("a…@…")), "masked");
    let (_, letter) = ask(&running, &with, "GET /api/v1/dead/7", "").await;
    assert_eq!(letter["body"]["userId"], "alice@shop.example");
}

#[tokio::test]
async fn each_route_hides_foreign_sites_from_limited_callers() {
    let running = TestAdminServer::start().await;
    let document = document(&running).await;
    let limited = token(&running, "admin", true, &json!(["bare"])).await;
    let foreign = json!({ "site": "shop", "destination": "ga4", "segment": "pros" }).to_string();
    let nested = json!({ "filter": { "site": "shop" }, "until_id": 9, "plan": true }).to_string();
    for (path, method, operation) in operations(&document) {
        let line = format!("{method} {}", filled(path));
        if matches!(operation["x-tagway-role"].as_str(), Some("none" | "self" | "file")) {
            continue;
        }
        if operation["x-tagway-sites"] == "all" {
            assert_eq!(head(&running, &limited, &line).await, 403, "{line}");
            continue;
        }
        if path.contains("{site}") {
            assert_eq!(head(&running, &limited, &line).await, 404, "{line}");
        }
        let line = if method == "GET" { format!("{line}?site=shop") } else { line };
        assert_eq!(ask(&running, &limited, &line, &foreign).await.0, 404, "{line}");
        if method == "POST" {
            assert_eq!(ask(&running, &limited, &line, &nested).await.0, 404, "{line}");
            let (status, _) = ask(&running, &limited, &line, "{").await;
            assert!(matches!(status, 400 | 404), "{line}: {status}");
        }
    }
    assert_eq!(*running.asked.lock(), Vec::<String>::new(), "nothing reached the journal");
    let get = async |path: &str| ask(&running, &limited, &format!("GET /api/v1/{path}"), "").await;
    assert_eq!(get("sites").await.1, json!(["bare"]));
    assert_eq!(get("ledger").await.1, json!([]));
    assert_eq!(get("segments").await.1, json!([]));
    assert_eq!(get("scripts").await.1, json!([]));
    assert_eq!(get("dead").await.1, json!([]));
    assert_eq!(get("dead/7").await.0, 404);
    let retry = "POST /api/v1/dead/retry";
    let (status, _) = ask(&running, &limited, retry, &json!({ "ids": [7] }).to_string()).await;
    assert_eq!((status, running.asked.lock().pop().as_deref()), (200, Some("retry Ids([])")));
    let own = token(&running, "viewer", true, &json!(["shop"])).await;
    let (_, dead) = ask(&running, &own, "GET /api/v1/dead", "").await;
    assert_eq!(dead[0]["id"], 7);
    assert_eq!(ask(&running, &own, "GET /api/v1/dead/7", "").await.0, 200);
}

#[tokio::test]
async fn watcher_of_some_sites_gets_their_happenings_only() {
    let running = TestAdminServer::start().await;
    let limited = token(&running, "viewer", true, &json!(["bare"])).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!(
        "GET /api/v1/tail HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {limited}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let mut part = [0; 1024];
    let length = stream.read(&mut part).await.unwrap();
    seen += std::str::from_utf8(&part[..length]).unwrap();
    publish(&running.feed, settled("ga4", "delivered"));
    let FeedEvent::Settled { at, seq, subject, outcome, reason, detail, attempt, .. } =
        settled("own", "delivered")
    else {
        unreachable!("it is settled")
    };
    let (site, destination, dropped) = ("bare".into(), "own".into(), Vec::new());
    let own = FeedEvent::Settled {
        at,
        site,
        destination,
        seq,
        subject,
        outcome,
        reason,
        detail,
        attempt,
        milliseconds: None,
        dropped,
    };
    publish(&running.feed, own);
    while !seen.contains("own") {
        let length = stream.read(&mut part).await.unwrap();
        assert!(length > 0, "{seen}");
        seen += std::str::from_utf8(&part[..length]).unwrap();
    }
    assert!(!seen.contains("shop"), "{seen}");
}

#[tokio::test]
async fn tokens_end_and_plans_leave_no_rows() {
    let running = TestAdminServer::start().await;
    let editor = token(&running, "editor", false, &Value::Null).await;
    let mut window = json!({ "site": "shop", "destination": "ga4", "plan": true,
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z" });
    let replay = "POST /api/v1/replay";
    assert_eq!(ask(&running, &editor, replay, &window.to_string()).await.0, 200);
    window["plan"] = json!(false);
    let (status, problem) = ask(&running, &editor, replay, &window.to_string()).await;
    assert_eq!((status, &problem["field"]), (403, &json!("role")), "the act is the admin's");
    let rows = running.audit_rows().await;
    assert_eq!(rows.iter().filter(|row| row[0] == "replay").count(), 1);
    let (_, tokens) = running.ask_json("GET /api/v1/tokens", &Value::Null).await;
    let id = &tokens["rows"][0]["id"];
    assert_eq!(tokens["rows"][0]["author"], "admin.token");
    assert!(!tokens.to_string().contains(&editor));
    let line = format!("DELETE /api/v1/tokens/{id}");
    assert_eq!(running.ask_json(&line, &Value::Null).await.0, 200);
    assert_eq!(ask(&running, &editor, "GET /api/v1/dead", "").await.0, 401);
    assert_eq!(ask(&running, &editor, "GET /api/v1/version", "").await.0, 401, "not as nobody");
    let (_, log) = running.ask_json("GET /api/v1/audit?action=token.*", &Value::Null).await;
    assert_eq!(log["rows"][0]["action"], "token.remove");
    assert_eq!(log["chain"], json!({ "ok": true, "checked": 2, "broken_at": null }));
    assert!(!log.to_string().contains(&editor));
    let (_, check) = running.ask_json("GET /api/v1/audit/check", &Value::Null).await;
    assert_eq!((&check["chain"]["ok"], &check["next"]), (&json!(true), &Value::Null));
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let (_, lines) = running.ask("GET /api/v1/audit/export", &bearer, "").await;
    let lines = lines.lines().filter(|line| line.starts_with('{')).count();
    assert_eq!(lines, running.audit_rows().await.len());
}
