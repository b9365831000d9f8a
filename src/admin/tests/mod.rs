//! The listener from the callers' side, over a fake journal and a fake gateway.

mod alerts;
mod audit;
mod control;
mod journal;
mod live;
mod openapi;
mod overview;
mod problems;
mod rights;
mod room;
mod scripts;
mod segments;
mod sessions;
mod subjects;

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::control::FakeControl;
use self::journal::FakeJournal;
use super::*;
use tagway_console::account::SessionLifetimes;
use tagway_console::audit::{AuditFilter, AuditRow};
use tagway_core::clock::ManualClock;
use tagway_core::feed::{EventSubject, FeedEvent};
use tagway_storage::journal::*;
use tagway_storage::store::{CommitSyncMode, SqliteStore};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An event with this name, of the visitor `visitor-1`.
fn subject(event: &str) -> EventSubject {
    let event = json!({"type": "track", "event": event, "messageId": "m1", "userId": "visitor-1",
        "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z", "facts": {"format": "sdk"}});
    EventSubject::of(&serde_json::from_value::<tagway_core::event::Event>(event).unwrap())
}

/// Publishes a happening to event 12.
fn publish(feed: &LiveFeed, happening: FeedEvent) {
    let (site, seqs) = (happening.site().to_owned(), happening.seqs().to_vec());
    feed.publish(&site, &seqs, || happening);
}

fn settled(destination: &str, outcome: &'static str) -> FeedEvent {
    FeedEvent::Settled {
        at: Timestamp::UNIX_EPOCH,
        site: "shop".into(),
        destination: destination.into(),
        seq: 12,
        subject: subject("e"),
        outcome,
        reason: "",
        detail: None,
        attempt: 1,
        milliseconds: Some(35),
        dropped: Vec::new(),
    }
}

/// The settings of a listener with small limits.
pub(crate) fn settings(address: SocketAddr) -> AdminSettings {
    AdminSettings {
        address,
        names: vec!["ops.example".to_owned()],
        tls: AdminTls::Off,
        connections: 8,
        reserve: 2,
        body_bytes: 1000,
        header_time: Duration::from_secs(5),
        body_time: Duration::from_millis(200),
        heartbeat: Duration::from_secs(10),
        drain_time: Duration::from_secs(5),
        cookie: "tagway".to_owned(),
        sessions: SessionLifetimes {
            idle: Duration::from_secs(12 * 3600),
            max: Duration::from_secs(7 * 24 * 3600),
        },
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
    }
}

/// The dependencies of a listener, and the means to change them.
struct TestContext {
    context: AdminContext,
    asked: Arc<Mutex<Vec<String>>>,
    writable: watch::Sender<bool>,
    room: watch::Sender<bool>,
    clock: Arc<ManualClock>,
    gate: Arc<Notify>,
    folder: tempfile::TempDir,
}

impl TestContext {
    async fn new(address: SocketAddr) -> Self {
        let (feed, asked) = (LiveFeed::default(), Arc::new(Mutex::new(Vec::new())));
        let (writable, room) = (watch::Sender::new(true), watch::Sender::new(true));
        let readiness = Arc::new(ReadinessState::new(writable.subscribe(), room.subscribe()));
        let (folder, segments) = segments::some().await;
        let gate = Arc::new(Notify::new());
        let store = SqliteStore::open(
            &folder.path().join("console"),
            CommitSyncMode::Os,
            tagway_console::MIGRATIONS,
            Arc::default(),
        );
        let clock = Arc::new(ManualClock::new("2026-12-01T10:00:00Z".parse().unwrap()));
        let store = Arc::new(store.unwrap());
        let audit = Arc::new(AuditLog::new(store.clone(), clock.clone()));
        let settings = settings(address);
        let accounts = ConsoleAccounts::new(store.clone(), clock.clone(), settings.sessions);
        let (series, alerts) = alerts::some(store).await;
        let context = AdminContext {
            segments,
            settings,
            journal: Arc::new(FakeJournal { writable: writable.clone(), asked: asked.clone() }),
            search: Arc::new(FakeJournal { writable: writable.clone(), asked: asked.clone() }),
            feed: feed.clone(),
            redaction: Default::default(),
            control: Arc::new(FakeControl { feed, asked: asked.clone(), gate: gate.clone() }),
            readiness,
            token: SecretString::new(TOKEN),
            accounts: Arc::new(accounts),
            audit,
            series,
            alerts,
        };
        Self { context, asked, writable, room, clock, gate, folder }
    }
}

/// A listener on a free port.
pub(crate) struct TestAdminServer {
    pub(crate) address: SocketAddr,
    pub(crate) token: SecretString,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    feed: LiveFeed,
    readiness: Arc<ReadinessState>,
    writable: watch::Sender<bool>,
    room: watch::Sender<bool>,
    audit: Arc<AuditLog>,
    clock: Arc<ManualClock>,
    gate: Arc<Notify>,
    drain: CancellationToken,
    tasks: JoinSet<()>,
    _folder: Arc<tempfile::TempDir>,
}

impl TestAdminServer {
    pub(crate) async fn start() -> Self {
        let admin = AdminServer::bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).await.unwrap();
        let (address, drain) = (admin.address(), CancellationToken::new());
        let TestContext { context, asked, writable, room, clock, gate, folder } =
            TestContext::new(address).await;
        let (feed, readiness) = (context.feed.clone(), context.readiness.clone());
        let audit = context.audit.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(admin.serve(context, drain.clone()));
        let token = SecretString::new(TOKEN);
        let _folder = Arc::new(folder);
        Self {
            address,
            token,
            asked,
            feed,
            readiness,
            writable,
            room,
            audit,
            clock,
            gate,
            drain,
            tasks,
            _folder,
        }
    }

    /// Sends the text and reads until the listener closes.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn ask(&self, line: &str, fields: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n\
             {fields}\r\n{body}",
            self.address
        );
        let answer = self.raw(&request).await;
        let status = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The rows of the audit log, the oldest first: act, site, object and detail.
    async fn audit_rows(&self) -> Vec<[String; 4]> {
        let filter = AuditFilter { limit: 1000, ..AuditFilter::default() };
        let page = self.audit.page(filter).await.unwrap();
        assert!(page.chain.ok);
        let text = |row: AuditRow| {
            [Some(row.action), row.site, row.object, row.detail].map(Option::unwrap_or_default)
        };
        page.rows.into_iter().rev().map(text).collect()
    }

    async fn ask_json(&self, line: &str, body: &Value) -> (u16, Value) {
        let fields = format!("Authorization: Bearer {TOKEN}\r\n");
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = self.ask(line, &fields, &body).await;
        (status, serde_json::from_str(&text).unwrap())
    }
}

#[tokio::test]
async fn readyz_lists_the_reasons() {
    let running = TestAdminServer::start().await;
    let ready = async || running.ask("GET /readyz", "", "").await;
    let reasons = |text: &str| serde_json::from_str::<Value>(text).unwrap()["reasons"].clone();
    let (status, text) = ready().await;
    assert_eq!((status, reasons(&text)), (503, json!(["starting"])));
    running.readiness.set_started();
    assert_eq!(ready().await.0, 200);
    running.writable.send(false).unwrap();
    running.readiness.set_draining();
    let (status, text) = ready().await;
    assert_eq!((status, reasons(&text)), (503, json!(["draining", "journal not writable"])));
    running.room.send(false).unwrap();
    let all = json!(["draining", "journal not writable", "journal full"]);
    assert_eq!(reasons(&ready().await.1), all);
    assert_eq!(running.ask("GET /livez", "", "").await.0, 200);
}

#[tokio::test]
async fn token_is_required_for_writes_and_personal_data_only() {
    let running = TestAdminServer::start().await;
    let closed = [
        "POST /api/v1/dead/retry",
        "POST /api/v1/dead/drop",
        "POST /api/v1/replay",
        "POST /api/v1/send",
        "GET /api/v1/tail",
        "GET /api/v1/dead",
        "GET /api/v1/dead/groups",
        "GET /api/v1/events/shop",
        "POST /api/v1/rehearse",
        "GET /api/v1/traces",
        "POST /api/v1/traces",
        "GET /api/v1/traces/t1",
        "DELETE /api/v1/traces/t1",
        "GET /api/v1/dead/7",
        "GET /api/v1/events/shop/12",
        "GET /api/v1/events/shop?message_id=m1",
        "POST /api/v1/destinations/pause",
        "POST /api/v1/destinations/resume",
        "POST /api/v1/destinations/test",
        "GET /api/v1/destinations",
        "GET /api/v1/destinations/shop/ga4",
        "GET /api/v1/destinations/shop/ga4/match-quality",
        "GET /api/v1/sites/shop/overview",
        "GET /api/v1/sites/shop/profiles",
        "GET /api/v1/settings/effective",
        "GET /api/v1/warnings",
        "GET /api/v1/scripts",
        "GET /api/v1/scripts/diff?site=shop&vendor=ga4&script=/gtag/js",
        "POST /api/v1/scripts/approve",
        "GET /api/v1/sites/shop/series?measure=dead",
        "GET /api/v1/sites/shop/outcomes",
        "GET /api/v1/alerts",
        "GET /api/v1/alerts/rules",
        "GET /api/v1/alerts/7",
        "POST /api/v1/alerts/7/acknowledge",
        "POST /api/v1/alerts/channels/ops/test",
    ];
    for line in closed {
        for fields in ["", "Authorization: Bearer 0123456789abcdef0123456789abcdeX\r\n"] {
            let (status, body) = running.ask(line, fields, "{}").await;
            assert_eq!(status, 401, "{line}");
            assert!(!body.contains(TOKEN), "{line}");
        }
    }
    assert_eq!(*running.asked.lock(), Vec::<String>::new());
    for open in ["/", "/livez", "/metrics", "/api/v1/ledger", "/api/v1/version"] {
        assert_eq!(running.ask(&format!("GET {open}"), "", "").await.0, 200, "{open}");
    }
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_rejected_despite_the_token() {
    let running = TestAdminServer::start().await;
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let rebound = format!(
        "GET /api/v1/ledger HTTP/1.1\r\nHost: evil.example\r\n{token}Connection: close\r\n\r\n"
    );
    assert!(running.raw(&rebound).await.starts_with("HTTP/1.1 421 "));
    let fields = format!("{token}Origin: https://evil.example\r\n");
    assert_eq!(running.ask("POST /api/v1/dead/drop", &fields, "{\"ids\":[7]}").await.0, 403);
    assert!(running.asked.lock().is_empty());
    let fields = format!("{token}Origin: http://{}\r\n", running.address);
    assert_eq!(running.ask("POST /api/v1/dead/drop", &fields, "{\"ids\":[7]}").await.0, 200);
}

#[tokio::test]
async fn routes_read_and_change_the_journal() {
    let running = TestAdminServer::start().await;
    let ask = async |line: &str, body: Value| running.ask_json(line, &body).await;
    let (_, ledger) = ask("GET /api/v1/ledger", Value::Null).await;
    assert_eq!(ledger[0]["destination"], "ga4");
    assert_eq!((&ledger[0]["pending"], &ledger[0]["held"]), (&json!(1), &json!(2)));
    let (_, dead) = ask("GET /api/v1/dead?site=shop&destination=ga4&limit=9", Value::Null).await;
    assert_eq!(dead[0]["event"], "Order Completed");
    assert_eq!(dead[0]["site"], "shop");
    let (_, letter) = ask("GET /api/v1/dead/7", Value::Null).await;
    assert_eq!(
        (&letter["detail"], &letter["body"]["messageId"]),
        (&json!("HTTP 400"), &json!("m1"))
    );
    let (_, event) = ask("GET /api/v1/events/shop/12", Value::Null).await;
    assert_eq!(event["event"]["messageId"], "m1");
    let (_, found) = ask("GET /api/v1/events/shop?message_id=m%201", Value::Null).await;
    assert_eq!(found, event);
    let at = &event["destinations"][0];
    assert_eq!(
        (&at["destination"], &at["outcome"], &at["reason"], &at["attempts"]),
        (&json!("ga4"), &json!("dead"), &json!("refused"), &json!(2))
    );
    let call = json!({ "at": "1970-01-01T00:00:00Z", "request": "POST https://vendor.example/in",
        "status": 400, "reply": "no such field" });
    assert_eq!((&at["last_call"], &letter["last_call"]), (&call, &call));
    assert_eq!(ask("GET /api/v1/sites", Value::Null).await.1, json!(["shop", "bare"]));
    assert_eq!(ask("GET /api/v1/events/bare/12", Value::Null).await.0, 200);
    let window = json!({"site": "shop", "destination": "ga4",
        "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
    let mut plan = window.clone();
    plan["plan"] = json!(true);
    let planned = json!({"count": 5, "dead": 2, "pending": 1, "repeats": "recognises orders"});
    assert_eq!(ask("POST /api/v1/replay", plan).await, (200, planned));
    assert_eq!(ask("POST /api/v1/replay", window).await, (200, json!({"count": 5})));
    let one = json!({"ids": [7]});
    assert_eq!(ask("POST /api/v1/dead/retry", one).await, (200, json!({"count": 1})));
    let all = json!({"site": "shop", "destination": "ga4"});
    assert_eq!(ask("POST /api/v1/dead/drop", all).await, (200, json!({"count": 2})));
    assert_eq!(
        *running.asked.lock(),
        [
            &format!("dead {:?} None 9", DeadLetterFilter::of(ReaderId(3))),
            "plan ReaderId(3)",
            "replay ReaderId(3) 2026-01-01T00:00:00Z 2026-01-02T00:00:00Z",
            "wake ReaderId(3)",
            "retry Ids([7])",
            "wake ReaderId(3)",
            "drop Reader(ReaderId(3))",
        ]
    );
}

#[tokio::test]
async fn invalid_requests_get_a_problem_with_its_status() {
    let running = TestAdminServer::start().await;
    let long = json!({ "site": "shop", "event": "x".repeat(2000) });
    let cases = [
        ("GET /nothing", Value::Null, 404),
        ("GET /api/v1/dead/8", Value::Null, 404),
        ("GET /api/v1/events/shop/0", Value::Null, 404),
        ("GET /api/v1/events/other/12", Value::Null, 404),
        ("GET /api/v1/events/shop?message_id=m2", Value::Null, 404),
        ("GET /api/v1/events/shop?id=m1", Value::Null, 400),
        ("POST /api/v1/destinations/pause", json!({"site": "shop", "destination": "x"}), 404),
        ("POST /api/v1/destinations/resume", json!({"site": "shop", "destination": "ga4"}), 409),
        ("GET /api/v1/dead?sites=shop", Value::Null, 400),
        ("GET /api/v1/dead?limit=x", Value::Null, 400),
        ("DELETE /api/v1/dead/7", Value::Null, 405),
        ("POST /api/v1/dead/drop", json!({}), 400),
        ("POST /api/v1/dead/drop", json!({"ids": [1], "site": "shop"}), 400),
        ("POST /api/v1/send", json!({"site": "other", "event": {}}), 404),
        ("POST /api/v1/send", long, 413),
    ];
    for (line, body, expected) in cases {
        let (status, problem) = running.ask_json(line, &body).await;
        assert_eq!((status, &problem["status"]), (expected, &json!(expected)), "{line}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{line}");
    }
    let trickle = format!(
        "POST /api/v1/send HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 9\r\n\r\nx",
        running.address
    );
    assert!(running.raw(&trickle).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn tail_is_filtered_and_ends_with_the_drain() {
    let mut running = TestAdminServer::start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let request = format!(
        "GET /api/v1/tail?site=shop&destination=ga4 HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 1024];
    assert!(stream.read(&mut head).await.unwrap() > 0);
    publish(&running.feed, settled("other", "dead"));
    publish(&running.feed, settled("ga4", "delivered"));
    let mut rest = String::new();
    while !rest.contains("delivered") {
        let mut part = [0; 1024];
        let length = stream.read(&mut part).await.unwrap();
        rest += std::str::from_utf8(&part[..length]).unwrap();
    }
    running.drain.cancel();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains(r#""destination":"ga4""#), "{rest}");
    assert!(!rest.contains("other"), "{rest}");
    assert!(rest.ends_with("0\r\n\r\n"), "the stream ends whole: {rest}");
    running.tasks.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn tail_counts_entries_missed_by_a_slow_watcher() {
    use futures_util::StreamExt;
    let feed = LiveFeed::default();
    let view = tail::FeedView::default();
    let lines = tail::lines(&feed, view, Duration::from_secs(600), CancellationToken::new());
    let mut lines = Box::pin(lines);
    for _ in 0..1500 {
        publish(&feed, settled("ga4", "delivered"));
    }
    let mut seen = String::new();
    for _ in 0..3 {
        let frame = lines.next().await.unwrap().unwrap();
        seen += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    assert!(seen.contains(r#"{"what":"missed","count":476}"#), "{seen}");
}

#[tokio::test]
async fn silent_connections_are_evicted_for_new_ones() {
    let running = TestAdminServer::start().await;
    let mut watcher = TcpStream::connect(running.address).await.unwrap();
    let request = format!(
        "GET /api/v1/tail HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    watcher.write_all(request.as_bytes()).await.unwrap();
    let mut seen = [0; 1024];
    assert!(watcher.read(&mut seen).await.unwrap() > 0);
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"G").await.unwrap();
        silent.push(stream);
    }
    let started = tokio::time::Instant::now();
    assert_eq!(running.ask("GET /livez", "", "").await.0, 200);
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for header_time");
    assert_eq!(silent[0].read(&mut seen).await.unwrap_or(0), 0, "the one idle longest made room");
    publish(&running.feed, settled("ga4", "delivered"));
    while !String::from_utf8_lossy(&seen).contains("delivered") {
        assert!(watcher.read(&mut seen).await.unwrap() > 0, "a watcher is not idle");
    }
}
