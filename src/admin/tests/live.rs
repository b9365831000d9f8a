//! The live feed's filters and masking, pages of events, groups of dead letters, traces and rehearsals.

use futures_util::{Stream, StreamExt};

use super::*;
use crate::admin::feed_filter::FeedFilter;
use crate::admin::tail::FeedView;
use tagway_console::access::SiteScope;
use tagway_core::feed::ArrivalSummary;

fn accepted(seq: u64, event: &str) -> FeedEvent {
    FeedEvent::Accepted {
        at: Timestamp::UNIX_EPOCH,
        site: "shop".into(),
        seq,
        subject: subject(event),
        format: "sdk".to_owned(),
        arrival: ArrivalSummary {
            page: Some("/u/alice@shop.example".to_owned()),
            ..ArrivalSummary::default()
        },
    }
}

fn called(seq: u64) -> FeedEvent {
    FeedEvent::Called {
        at: Timestamp::UNIX_EPOCH,
        site: "shop".into(),
        destination: "ga4".into(),
        seqs: vec![seq],
        request: "POST https://v.example/in?email=alice%40shop.example".to_owned(),
        body: "{\"em\":\"alice@shop.example\"}".to_owned(),
        status: Some(200),
        reply: "from 203.0.113.77".to_owned(),
        milliseconds: 3,
    }
}

fn view(query: &str, shows_personal: bool) -> FeedView {
    let query = serde_urlencoded::from_str(query).unwrap();
    FeedView { query, scope: SiteScope::all(), shows_personal }
}

/// The lines of a watcher, without heartbeats, up to the settled line of the event `last`.
async fn until_last(
    lines: impl Stream<Item = Result<hyper::body::Frame<bytes::Bytes>, std::convert::Infallible>>,
) -> Vec<Value> {
    let mut lines = Box::pin(lines);
    let mut seen = Vec::new();
    loop {
        let frame = lines.next().await.unwrap().unwrap();
        let text = String::from_utf8(frame.data_ref().unwrap().to_vec()).unwrap();
        let Ok(line) = serde_json::from_str::<Value>(&text) else { continue };
        if line["event"] == "last" {
            return seen;
        }
        seen.push(line);
    }
}

/// The happenings that a query selects.
fn selected(query: &str, happenings: &[FeedEvent]) -> Vec<String> {
    let watcher = LiveFeed::default().watch();
    let FeedView { query, scope, .. } = view(query, true);
    let mut filter = FeedFilter::new(query, scope);
    let selected = happenings.iter().filter(|happening| filter.matches(happening, &watcher));
    let name = |happening: &FeedEvent| {
        let value = serde_json::to_value(happening).unwrap();
        format!("{} {:?}", value["what"].as_str().unwrap(), happening.seqs())
    };
    selected.map(name).collect()
}

#[test]
fn tail_selects_by_event_visitor_source_outcome_and_reason() {
    let mut dead = settled("ga4", "dead");
    if let FeedEvent::Settled { seq, reason, .. } = &mut dead {
        (*seq, *reason) = (1, "refused");
    }
    let all = [accepted(1, "Order Completed"), accepted(2, "Clicked"), called(1), called(2), dead];
    let orders = ["accepted [1]", "called [1]"];
    assert_eq!(selected("event=Order *", &all), orders, "with the calls of its events");
    assert_eq!(selected("event=!Order *", &all), ["accepted [2]", "called [2]", "settled [1]"]);
    for everything in
        ["", "visitor=visitor-1", "visitor=visi…&source=sdk", "destination=ga4", "site=shop"]
    {
        assert_eq!(selected(everything, &all).len(), 5, "{everything}");
    }
    for settled in ["outcome=dead", "reason=refused", "outcome=dead&reason=refused&event=e"] {
        assert_eq!(selected(settled, &all), ["settled [1]"], "{settled}");
    }
    for nothing in
        ["outcome=delivered", "reason=x", "visitor=other", "source=api", "site=bare", "trace=t1"]
    {
        assert_eq!(selected(nothing, &all).len(), 0, "{nothing}");
    }
    assert_eq!(selected("destination=meta", &all), ["accepted [1]", "accepted [2]"]);
}

#[test]
fn tail_shows_the_sites_of_the_scope_only() {
    let watcher = LiveFeed::default().watch();
    let scope = SiteScope::of(Some(vec!["bare".to_owned()]));
    let mut filter = FeedFilter::new(view("", true).query, scope);
    assert!(!filter.matches(&accepted(1, "Order Completed"), &watcher));
}

#[tokio::test]
async fn tail_begins_with_recent_lines_and_says_where_they_end() {
    let feed = LiveFeed::default();
    let watcher = feed.watch();
    for seq in 0..10 {
        publish(&feed, accepted(seq, "Order Completed"));
    }
    drop(watcher);
    let (heartbeat, drain) = (Duration::from_secs(600), CancellationToken::new());
    let lines = tail::lines(&feed, view("backlog=3", true), heartbeat, drain);
    publish(&feed, accepted(10, "Order Completed"));
    publish(&feed, accepted(11, "last"));
    let seen = until_last(lines).await;
    let seen: Vec<Value> = seen
        .iter()
        .map(|line| if line["what"] == "live" { json!("live") } else { line["seq"].clone() })
        .collect();
    assert_eq!(seen, [json!(7), json!(8), json!(9), json!("live"), json!(10)]);
}

#[tokio::test]
async fn tail_masks_personal_data_without_the_right() {
    let feed = LiveFeed::default();
    let (heartbeat, drain) = (Duration::from_secs(600), CancellationToken::new());
    let lines = tail::lines(&feed, view("", false), heartbeat, drain);
    publish(&feed, accepted(1, "Order of alice@shop.example"));
    publish(&feed, called(1));
    publish(&feed, accepted(2, "last"));
    let shown = Value::Array(until_last(lines).await).to_string();
    for canary in ["alice", "shop.example", "203.0.113.77", "visitor-1"] {
        assert!(!shown.contains(canary), "{canary}: {shown}");
    }
    assert!(shown.contains("203.0.113.0") && shown.contains("\"visitor\":\"visi…\""), "{shown}");
}

#[tokio::test]
async fn events_are_paged_and_filtered() {
    let running = TestAdminServer::start().await;
    let page = async |query: &str| {
        let line = format!("GET /api/v1/events/shop?{query}");
        let (status, page) = running.ask_json(&line, &Value::Null).await;
        assert_eq!(status, 200, "{page}");
        let seqs = page["rows"].as_array().unwrap().iter().map(|row| row["seq"].as_u64().unwrap());
        (seqs.collect::<Vec<_>>(), page["next"].as_u64())
    };
    assert_eq!(page("").await, (vec![12, 11, 10], None));
    assert_eq!(page("limit=2").await, (vec![12, 11], Some(11)));
    assert_eq!(page("before=11").await, (vec![10], None));
    assert_eq!(page("event=Order*").await, (vec![12, 10], None));
    assert_eq!(page("event=!Order*").await, (vec![11], None));
    assert_eq!(page("source=api").await, (vec![11], None));
    assert_eq!(page("outcome=dead").await, (vec![12], None));
    let (_, page) = running.ask_json("GET /api/v1/events/shop?limit=1", &Value::Null).await;
    let row = json!({"seq": 12, "received_at": "1970-01-01T00:00:00Z", "event": "Order Completed",
        "message_id": "m12", "visitor": "visi…", "source": "sdk", "page": "/u/alice@shop.example"});
    assert_eq!(page["rows"][0], row);
    assert_eq!(running.ask_json("GET /api/v1/events/other", &Value::Null).await.0, 404);
}

#[tokio::test]
async fn event_is_masked_without_the_right() {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let TestContext { context, folder: _folder, .. } = TestContext::new(address).await;
    for (shows_personal, expected) in [(true, "alice@shop.example"), (false, "a…@…")] {
        let answer = events::event_answer(&context, "shop".to_owned(), 12, shows_personal).await;
        let answer = serde_json::to_value(answer.unwrap()).unwrap();
        assert_eq!(answer["event"]["userId"], expected);
        assert_eq!(answer["event"]["messageId"], "m1");
    }
}

#[tokio::test]
async fn dead_letters_are_grouped_counted_and_changed_by_filter() {
    let running = TestAdminServer::start().await;
    let ask = async |line: &str, body: Value| running.ask_json(line, &body).await;
    let line = "GET /api/v1/dead/groups?destination=ga4&q=field&from=2026-01-01T00:00:00Z";
    let (status, groups) = ask(line, Value::Null).await;
    let row = json!({"site": "shop", "destination": "ga4", "reason": "refused", "reply": "no such field",
        "status": 400, "count": 3, "first_at": "1970-01-01T00:00:00Z", "last_at": "1970-01-01T00:00:00Z",
        "last_id": 7, "sample_id": 7});
    assert_eq!((status, groups), (200, json!({"rows": [row], "total": 3, "bounded": false})));
    let act = json!({"filter": {"site": "shop", "reason": "refused", "reply": "x"}, "until_id": 7});
    let mut plan = act.clone();
    plan["plan"] = json!(true);
    assert_eq!(ask("POST /api/v1/dead/retry", plan.clone()).await, (200, json!({"count": 3})));
    assert_eq!(ask("POST /api/v1/dead/drop", plan).await, (200, json!({"count": 3})));
    assert_eq!(ask("POST /api/v1/dead/drop", act).await, (200, json!({"count": 2})));
    let asked = running.asked.lock().clone();
    let acts: Vec<&str> = asked.iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(acts, ["groups", "count", "count", "drop"]);
    assert!(
        asked[3].contains("until_id: 7") && asked[3].contains("Some([ReaderId(3)])"),
        "{asked:?}"
    );
    for (line, body) in [
        ("GET /api/v1/dead/groups?destination=other", Value::Null),
        ("GET /api/v1/dead?from=yesterday", Value::Null),
        ("POST /api/v1/dead/drop", json!({"filter": {}})),
        ("POST /api/v1/dead/drop", json!({"filter": {"sites": "shop"}, "until_id": 7})),
    ] {
        assert_eq!(ask(line, body).await.0, 400, "{line}");
    }
}

#[tokio::test]
async fn traces_are_started_read_and_ended() {
    let running = TestAdminServer::start().await;
    let ask = async |line: &str, body: Value| running.ask_json(line, &body).await;
    let (status, trace) = ask("POST /api/v1/traces", json!({"site": "shop"})).await;
    assert_eq!(status, 200, "{trace}");
    let id = trace["id"].as_str().unwrap().to_owned();
    assert_eq!(trace["link"], format!("https://shop.example/?tw_trace={id}"));
    assert_eq!(trace["expires_at"], "1970-01-01T00:30:00Z");
    running.feed.traces().follow(&[id.as_str().into()], 12);
    publish(&running.feed, settled("ga4", "delivered"));
    let (status, details) = ask(&format!("GET /api/v1/traces/{id}"), Value::Null).await;
    assert_eq!((status, &details["happenings"][0]["outcome"]), (200, &json!("delivered")));
    let visitor = json!({"site": "shop", "visitor": "visitor-1"});
    let (_, of_visitor) = ask("POST /api/v1/traces", visitor).await;
    assert_eq!((&of_visitor["visitor"], &of_visitor["link"]), (&json!("visitor-1"), &Value::Null));
    let (_, all) = ask("GET /api/v1/traces", Value::Null).await;
    assert_eq!(all["rows"].as_array().unwrap().len(), 2);
    let fields = format!("Authorization: Bearer {TOKEN}\r\n");
    let end = format!("DELETE /api/v1/traces/{id}");
    assert_eq!(running.ask(&end, &fields, "").await, (200, json!({ "id": id }).to_string()));
    assert_eq!(running.ask(&end, &fields, "").await.0, 404);
    assert_eq!(ask(&format!("GET /api/v1/traces/{id}"), Value::Null).await.0, 404);
    assert_eq!(ask("POST /api/v1/traces", json!({"site": "other"})).await.0, 404);
    for _ in 0..19 {
        assert_eq!(ask("POST /api/v1/traces", json!({"site": "shop"})).await.0, 200);
    }
    assert_eq!(ask("POST /api/v1/traces", json!({"site": "shop"})).await.0, 409);
}

#[tokio::test]
async fn rehearsals_show_the_requests_of_an_event() {
    let running = TestAdminServer::start().await;
    let ask = async |body: Value| running.ask_json("POST /api/v1/rehearse", &body).await;
    let (status, answer) = ask(json!({"site": "shop", "seq": 12})).await;
    assert_eq!(status, 200, "{answer}");
    let row = &answer["destinations"][0];
    assert_eq!((&row["outcome"], &row["destination"]), (&json!("sent"), &json!("ga4")));
    assert_eq!(row["request"]["url"], "https://vendor.example/in");
    assert_eq!(row["request"]["headers"]["content-type"], "application/json");
    assert_eq!(row["mapped"]["messageId"], "m1");
    assert_eq!(*running.asked.lock(), ["rehearse shop [\"ga4\"]"]);
    for (body, status) in [
        (json!({"site": "shop"}), 400),
        (json!({"site": "shop", "seq": 12, "event": {}}), 400),
        (json!({"site": "shop", "event": {"event": "Bad"}}), 400),
        (json!({"site": "shop", "seq": 12, "destinations": ["other"]}), 400),
        (json!({"site": "shop", "seq": 13}), 404),
        (json!({"site": "other", "event": {}}), 404),
    ] {
        assert_eq!(ask(body.clone()).await.0, status, "{body}");
    }
}
