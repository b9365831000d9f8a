//! The rows that requests leave in the audit log.

use super::*;

#[tokio::test]
async fn each_act_leaves_a_row_and_reads_leave_none() {
    let running = TestAdminServer::start().await;
    let ask = async |line: &str, body: Value| running.ask_json(line, &body).await.0;
    let destination = json!({ "site": "shop", "destination": "ga4" });
    assert_eq!(ask("POST /api/v1/dead/retry", destination.clone()).await, 200);
    assert_eq!(ask("POST /api/v1/destinations/resume", destination).await, 409);
    let mut window = json!({ "site": "shop", "destination": "ga4", "plan": true,
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z" });
    assert_eq!(ask("POST /api/v1/replay", window.clone()).await, 200);
    window["plan"] = json!(false);
    assert_eq!(ask("POST /api/v1/replay", window).await, 200);
    let person = json!({ "site": "shop", "id": "ann@example.com" });
    assert_eq!(ask("POST /api/v1/forget", person).await, 200);
    assert_eq!(ask("POST /api/v1/dead/drop", json!({ "ids": "x" })).await, 400);
    assert_eq!(ask("GET /api/v1/dead", Value::Null).await, 200);
    assert_eq!(ask("GET /api/v1/dead/7", Value::Null).await, 200);
    assert_eq!(ask("GET /api/v1/dead/7?reveal=true", Value::Null).await, 200);
    let rows = running.audit_rows().await;
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(String::as_str)).collect();
    assert_eq!(
        rows,
        [
            ["dead.retry", "shop", "ga4", "1 letters"],
            ["destination.resume", "shop", "ga4", "refused: 409 Conflict"],
            ["replay", "shop", "ga4", "5 events of 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z"],
            ["person.forget", "shop", "", "3 ids, 1 profiles, 9 events, 6 dead letters"],
            ["dead.drop", "", "", "refused: 400 Bad Request"],
            ["personal.reveal", "", "/api/v1/dead/7", ""],
        ]
    );
}

#[tokio::test]
async fn act_has_a_row_although_its_caller_has_left() {
    let running = TestAdminServer::start().await;
    let body = json!({ "site": "shop", "id": "held" }).to_string();
    let request = format!(
        "POST /api/v1/forget HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    while running.asked.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    drop(stream);
    // The listener sees the end of that connection before the answers to later ones.
    for _ in 0..20 {
        assert_eq!(running.ask("GET /livez", "", "").await.0, 200);
    }
    running.gate.notify_one();
    let row = async {
        loop {
            match running.audit_rows().await.pop() {
                Some(row) => return row,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let row = tokio::time::timeout(Duration::from_secs(60), row).await.expect("no row");
    assert_eq!((row[0].as_str(), row[1].as_str()), ("person.forget", "shop"));
}
