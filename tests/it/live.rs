//! Views of events while they happen: the live feed, traces, rehearsals, pages of events, and dead letters
//! by filter.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatedFault, SimulatorKind};

use crate::harness::{
    DEADLINE, Gateway, NO_RATES, Process, TAGWAY, admin_post, batch, eventually, raw, send,
    settled, track, vendor, webhook_site,
};

const ORIGIN: (&str, &str) = ("origin", "https://shop.example");

fn bearer(gateway: &Gateway) -> String {
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    format!("Bearer {}", token.trim())
}

/// Asks the operators' listener.
fn ask(gateway: &Gateway, line: &str, body: &Value) -> Value {
    let token = bearer(gateway);
    let (method, path) = line.split_once(' ').unwrap();
    if method == "POST" {
        return admin_post(gateway.admin, path, &[("authorization", &token)], body).json();
    }
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\nconnection: close\r\n\r\n"
    );
    raw(gateway.admin, request.as_bytes()).unwrap().json()
}

/// A view of a page, as the SDK sends it.
fn page_view(message_id: &str, url: &str) -> String {
    json!({ "writeKey": "shop-web", "batch": [{ "type": "page", "messageId": message_id,
        "context": { "page": { "url": url, "referrer": url, "search": "?tw_trace=x" } } }] })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trace_follows_the_browser_that_opened_its_link() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway =
        Gateway::start(&format!("{NO_RATES}{}", webhook_site(webhook.address(), ""))).await;
    let trace = ask(&gateway, "POST /api/v1/traces", &json!({ "site": "shop" }));
    let (id, link) = (trace["id"].as_str().unwrap(), trace["link"].as_str().unwrap());
    assert!(link.starts_with("https://shop.example/?tw_trace="), "{trace}");
    // The link is opened; the next page has no parameter, but the cookie; another browser is not followed.
    let opened = gateway.post("/e", &[ORIGIN], page_view("m1", link).as_bytes()).await;
    assert_eq!(opened.status, 204, "{opened:?}");
    let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let next = page_view("m2", "https://shop.example/cart");
    gateway.post("/e", &[ORIGIN, ("cookie", &cookie)], next.as_bytes()).await;
    let other = page_view("m3", "https://shop.example/cart");
    gateway.post("/e", &[ORIGIN], other.as_bytes()).await;
    let forged = page_view("m4", "https://shop.example/?tw_trace=forged");
    gateway.post("/e", &[ORIGIN], forged.as_bytes()).await;
    gateway.settled(4).await;
    let details = eventually(|| {
        let details = ask(&gateway, &format!("GET /api/v1/traces/{id}"), &Value::Null);
        let happenings = details["happenings"].as_array().unwrap();
        let settled = happenings.iter().filter(|it| it["what"] == "settled").count();
        if settled == 2 { Ok(details) } else { Err(details.to_string()) }
    });
    let details = details.await;
    assert_eq!(details["events"], 2, "{details}");
    let happenings = details["happenings"].as_array().unwrap();
    let names = |what: &str| -> Vec<&str> {
        let of_kind = happenings.iter().filter(|it| it["what"] == what);
        of_kind.filter_map(|it| it["message_id"].as_str()).collect()
    };
    assert_eq!(names("accepted"), ["m1", "m2"]);
    let called: Vec<&Value> = happenings.iter().filter(|it| it["what"] == "called").collect();
    assert!(!called.is_empty(), "calls are rendered although nobody watches: {details}");
    for call in called {
        let body = call["body"].as_str().unwrap();
        assert!(!body.contains("tw_trace"), "the vendor receives no token: {body}");
        assert_eq!(call["status"], 200);
    }
    let settled = happenings.iter().find(|it| it["what"] == "settled").unwrap();
    assert_eq!((&settled["attempt"], settled["milliseconds"].is_u64()), (&json!(1), true));
    let (_, source) = (&settled["visitor"], &settled["source"]);
    assert_eq!(source, "sdk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rehearsal_shows_the_request_and_sends_nothing() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let more = "events = [\"*\", \"!Secret*\"]";
    let gateway =
        Gateway::start(&format!("{NO_RATES}{}", webhook_site(webhook.address(), more))).await;
    gateway.accept(&[track("m1", "Order Completed")]).await;
    gateway.settled(1).await;
    let received = webhook.tally();
    let body = json!({ "site": "shop", "seq": 1 });
    let answer = ask(&gateway, "POST /api/v1/rehearse", &body);
    let row = &answer["destinations"][0];
    assert_eq!(
        (&row["destination"], &row["outcome"]),
        (&json!("webhook"), &json!("sent")),
        "{answer}"
    );
    let request = &row["request"];
    assert_eq!(request["method"], "POST");
    assert!(request["body"].as_str().unwrap().contains("\"m1\""), "{request}");
    assert!(!answer.to_string().contains(tagway_simulator::vendors::WEBHOOK_SECRET), "{answer}");
    let body = json!({ "site": "shop", "event": { "type": "track", "event": "Secret Thing", "userId": "u1" } });
    let answer = ask(&gateway, "POST /api/v1/rehearse", &body);
    let row = &answer["destinations"][0];
    assert_eq!((&row["outcome"], &row["reason"]), (&json!("skipped"), &json!("not_selected")));
    assert!(row["request"].is_null(), "{answer}");
    assert_eq!(format!("{:?}", webhook.tally()), format!("{received:?}"), "nothing was sent");
    let page = ask(&gateway, "GET /api/v1/events/shop?event=Order*", &Value::Null);
    assert_eq!(
        (&page["rows"][0]["message_id"], &page["next"]),
        (&json!("m1"), &Value::Null),
        "{page}"
    );
    assert_eq!(page["rows"].as_array().unwrap().len(), 1, "the rehearsed event is not stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_gets_recent_and_live_lines_of_the_events_that_it_selects() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway =
        Gateway::start(&format!("{NO_RATES}{}", webhook_site(webhook.address(), ""))).await;
    let watch = |query: &str| {
        let mut stream = TcpStream::connect(gateway.admin).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let token = bearer(&gateway);
        let request = format!(
            "GET /api/v1/tail?{query} HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        BufReader::new(stream)
    };
    let next = |reader: &mut BufReader<TcpStream>| loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        if let Ok(value @ Value::Object(_)) = serde_json::from_str::<Value>(&line) {
            return value;
        }
    };
    let mut all = tokio::task::block_in_place(|| watch("backlog=5"));
    assert_eq!(tokio::task::block_in_place(|| next(&mut all))["what"], "live");
    gateway.accept(&[track("m1", "Clicked"), track("m2", "Order Completed")]).await;
    gateway.settled(2).await;
    for _ in 0..5 {
        // Two accepted, one or two calls, two settled.
        if tokio::task::block_in_place(|| next(&mut all))["message_id"] == "m2" {
            break;
        }
    }
    drop(all);
    let mut orders = tokio::task::block_in_place(|| watch("backlog=500&event=Order*"));
    let first = tokio::task::block_in_place(|| next(&mut orders));
    assert_eq!(
        (&first["what"], &first["message_id"]),
        (&json!("accepted"), &json!("m2")),
        "{first}"
    );
    assert_eq!((&first["source"], &first["bot"]), (&json!("api"), &Value::Null), "{first}");
    while tokio::task::block_in_place(|| next(&mut orders))["what"] != "live" {}
    gateway.accept(&[track("m3", "Clicked"), track("m4", "Order Completed")]).await;
    let live = tokio::task::block_in_place(|| next(&mut orders));
    assert_eq!((&live["what"], &live["message_id"]), (&json!("accepted"), &json!("m4")), "{live}");
}

fn run(process: &Process, file: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(TAGWAY);
    command.args(words).args(["--admin", &process.admin.to_string(), "--config"]).arg(file);
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

fn output(process: &Process, file: &Path, words: &[&str]) -> String {
    let output = run(process, file, words);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_retried_and_dropped_by_filter_after_a_count() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let process =
        Process::start(&data, &file, &format!("{NO_RATES}{}", webhook_site(webhook.address(), "")));
    for (number, event) in ["Clicked", "Order Completed", "Order Completed"].into_iter().enumerate()
    {
        webhook.add_faults(1, SimulatedFault::Status(422));
        let body = batch(&[track(&format!("m{number}"), event)]);
        assert_eq!(
            send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes()).unwrap().status,
            200
        );
        settled(process.admin, number as u64 + 1).await;
    }
    let listed = output(&process, &file, &["dead", "ls", "--event", "Order Completed", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap().as_array().unwrap().len(), 2);
    let unasked = run(&process, &file, &["dead", "retry", "--event", "Order Completed"]);
    assert_eq!(unasked.status.code(), Some(2), "without a terminal and --yes nothing happens");
    let said = output(
        &process,
        &file,
        &["dead", "retry", "--event", "Order Completed", "--from", "1h", "--yes"],
    );
    assert_eq!(said, "2 dead letters match\n2 dead letters will be sent again\n");
    let rows = settled(process.admin, 3).await;
    assert_eq!((rows[0].delivered, rows[0].dead), (2, 1), "{rows:?}");
    let said =
        output(&process, &file, &["dead", "drop", "--reason", "refused", "--to", "1h", "--yes"]);
    assert_eq!(said, "no dead letters match\n");
    let said = output(
        &process,
        &file,
        &["dead", "drop", "--reason", "refused", "--destination", "webhook", "--yes"],
    );
    assert_eq!(said, "1 dead letter matches\n1 dead letter dropped\n");
    assert_eq!(output(&process, &file, &["dead", "ls"]), "no dead letters\n");
}
