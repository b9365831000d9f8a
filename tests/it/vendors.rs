//! One visit at all vendors at once; each simulator checks what the real vendor checks.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatedFault, SimulatorTally, VendorSimulator};
use tagway_simulator::{VENDORS, vendor_settings};
use tagway_vendors::request_preview;

use crate::harness::{
    DEADLINE, Gateway, NO_RATES, Process, Row, SITE, admin_get, batch, eventually, ledger, send,
    vendor,
};

/// All simulators, by the vendor's name.
struct RunningSimulators(Vec<(&'static str, VendorSimulator)>);

impl RunningSimulators {
    async fn start() -> Self {
        let mut simulators = Vec::new();
        for (name, kind) in VENDORS {
            simulators.push((name, vendor(kind).await));
        }
        Self(simulators)
    }

    fn of(&self, name: &str) -> &VendorSimulator {
        &self.0.iter().find(|(own, _)| *own == name).unwrap().1
    }

    /// A site that sends to all of them.
    fn settings(&self) -> String {
        let mut text = format!("{NO_RATES}{SITE}");
        for (name, simulator) in &self.0 {
            let address = simulator.address();
            let settings = vendor_settings(name, address);
            text += &format!(
                "[[sites.destinations]]\nname = \"{name}\"\nvendor = \"{name}\"\n\
                 endpoint = \"http://{address}\"\ntimeout = \"2s\"\nauth_retry_interval = \"50ms\"\n\
                 [sites.destinations.retry]\nmin_wait = \"5ms\"\nmax_wait = \"50ms\"\n\
                 [sites.destinations.breaker]\nmin_open = \"10ms\"\nmax_open = \"100ms\"\n\
                 [sites.destinations.settings]\n{settings}\n"
            );
        }
        text
    }
}

/// A visit of a browser: everything up to an order, by a person who identifies themselves.
fn visit(visitor: &str) -> Vec<Value> {
    let product = json!({ "product_id": "p1", "name": "Mug", "price": 12.5, "quantity": 2 });
    let event = |name: &str, properties: Value| json!({ "type": "track", "event": name, "properties": properties });
    let order = json!({ "order_id": format!("o-{visitor}"), "revenue": 25, "total": 30, "tax": 2,
        "shipping": 3, "currency": "EUR", "products": [product] });
    let messages = [
        json!({ "type": "page", "name": "Mug" }),
        json!({ "type": "identify", "traits": { "email": format!("{visitor}@x.example"),
            "name": "Mary Jones", "plan": "pro" } }),
        json!({ "type": "group", "groupId": "g1", "traits": { "name": "ACME" } }),
        event("Product Viewed", product.clone()),
        event("Product Added", product.clone()),
        event("Checkout Started", order.clone()),
        event("Order Completed", order),
    ];
    let common = json!({ "anonymousId": format!("a-{visitor}"), "userId": format!("u-{visitor}"),
        "context": { "page": { "url": "https://shop.example/mug", "title": "Mug" } } });
    let complete = |(index, mut message): (usize, Value)| {
        let fields = message.as_object_mut().unwrap();
        fields.extend(common.as_object().unwrap().clone());
        fields.insert("messageId".to_owned(), json!(format!("m-{visitor}-{index}")));
        message
    };
    messages.into_iter().enumerate().map(complete).collect()
}

/// Sends it like a page of the site.
const BROWSER: [(&str, &str); 4] = [
    ("origin", "https://shop.example"),
    ("content-type", "text/plain"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"),
    ("cookie", "_ga=GA1.1.111.222; _ga_DEMO1=GS1.1.333.4.0.0.0.0"),
];

/// The decompressed bodies of a vendor's requests.
fn bodies(tally: &SimulatorTally) -> String {
    let body = |seen: &tagway_simulator::vendors::RecordedRequest| {
        let mut request = http::Request::new(seen.body.clone());
        *request.headers_mut() = seen.headers.clone();
        request_preview::body(&request) + "\n"
    };
    tally.seen.iter().map(body).collect()
}

fn row<'r>(rows: &'r [Row], name: &str) -> &'r Row {
    rows.iter().find(|row| row.destination == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visit_reaches_all_vendors_in_their_formats() {
    let city = RunningSimulators::start().await;
    let gateway = Gateway::start(&city.settings()).await;
    for message in visit("one") {
        let answer = gateway.post("/e", &BROWSER, batch(&[message]).as_bytes()).await;
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let rows = gateway.settled(7).await;
    for (name, simulator) in &city.0 {
        let (row, tally) = (row(&rows, name), simulator.tally());
        assert_eq!(tally.objections, Vec::<String>::new(), "{name}");
        assert_eq!((row.accepted, row.dead), (7, 0), "{name}: {row:?}");
        assert!(tally.events.values().all(|times| *times == 1), "{name}: {:?}", tally.events);
    }
    let assert_sent = |name: &str, expected: &[&str]| {
        let sent = bodies(&city.of(name).tally());
        for text in expected {
            assert!(sent.contains(text), "{name} lacks {text}:\n{sent}");
        }
    };
    assert_sent(
        "ga4",
        &[
            "\"client_id\":\"111.222\"",
            "\"session_id\":333",
            "\"session_number\":4",
            "\"user_id\":\"u-one\"",
            "\"name\":\"page_view\"",
            "\"name\":\"view_item\"",
            "\"name\":\"add_to_cart\"",
            "\"name\":\"begin_checkout\"",
            "\"name\":\"purchase\"",
            "\"transaction_id\":\"o-one\"",
            "\"name\":\"join_group\"",
            "\"plan\":{\"value\":\"pro\"}",
        ],
    );
    let email = tagway_vendors::digest::sha256("one@x.example").unwrap();
    assert_sent(
        "meta",
        &[
            "\"event_id\":\"m-one-6\"",
            "\"event_name\":\"Purchase\"",
            "\"value\":30",
            "\"fbp\":\"fb.",
            "\"event_name\":\"PageView\"",
            "\"event_name\":\"InitiateCheckout\"",
            email.as_str(),
        ],
    );
    assert_sent(
        "mixpanel",
        &["\"$insert_id\":\"m-one-6\"", "\"$user_id\":\"u-one\"", "\"$email\"", "Order Completed"],
    );
    assert_sent(
        "amplitude",
        &["\"insert_id\":\"m-one-6\"", "\"user_id\":\"u-one\"", "$identify", "\"revenue\":25"],
    );
    assert_sent(
        "intercom",
        &["\"event_name\":\"Order Completed\"", "\"amount\":2500", "\"company_id\":\"g1\""],
    );
    assert_sent("drift", &["\"event\":\"Order Completed\"", "one@x.example"]);
    for private in ["one@x.example", "Mary"] {
        for name in ["ga4", "meta"] {
            assert!(!bodies(&city.of(name).tally()).contains(private), "{name} was told {private}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outage_of_one_vendor_does_not_delay_the_others() {
    let city = RunningSimulators::start().await;
    let gateway = Gateway::start(&city.settings()).await;
    for (name, simulator) in &city.0 {
        simulator.set_fault(Some(SimulatedFault::Hang));
        let before = city.0.iter().map(|(name, other)| (name, other.tally().requests));
        let before: Vec<_> = before.collect();
        gateway.accept(&visit(name)).await;
        let expected = ledger(gateway.admin)[0].accepted;
        eventually(|| {
            let rows = ledger(gateway.admin);
            let others = rows.iter().filter(|row| row.destination != *name);
            let late: Vec<_> =
                others.filter(|row| row.pending > 0 || row.accepted < expected).collect();
            if late.is_empty() { Ok(()) } else { Err(format!("while {name} hangs: {late:?}")) }
        })
        .await;
        for (other, requests) in before.iter().filter(|(other, _)| *other != name) {
            assert!(city.of(other).tally().requests > *requests, "{other} was sent something");
        }
        simulator.set_fault(None);
        gateway.settled(expected).await;
    }
    for (name, simulator) in &city.0 {
        assert_eq!(simulator.tally().objections, Vec::<String>::new(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_pause_one_destination_and_it_resumes_when_they_are_corrected() {
    let city = RunningSimulators::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let good = city.settings();
    let token = tagway_simulator::vendors::MIXPANEL_TOKEN;
    let process = Process::start(&data, &file, &good.replace(token, &"0".repeat(32)));
    let body = batch(&visit("p"));
    assert_eq!(
        send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes()).unwrap().status,
        200
    );
    eventually(|| {
        let rows = ledger(process.admin);
        let paused = row(&rows, "mixpanel");
        let others = rows.iter().filter(|row| row.destination != "mixpanel");
        let done = others.clone().all(|row| row.pending == 0 && row.accepted == 7);
        if paused.state == "unauthorised" && done { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    let metrics = admin_get(process.admin, "/metrics").unwrap().body;
    let down = "tagway_destination_up{site=\"shop\",destination=\"mixpanel\"} 0";
    assert!(metrics.contains(down), "{metrics}");
    assert_eq!(row(&ledger(process.admin), "mixpanel").pending, 7, "none is burnt");
    std::fs::write(&file, crate::harness::whole(&data, &good)).unwrap();
    process.signal("HUP");
    // A destination with changed settings is stopped for a moment.
    eventually(|| {
        let rows = ledger(process.admin);
        let back = rows.iter().find(|row| row.destination == "mixpanel");
        if back.is_some_and(|row| row.delivered == 7) { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    assert_eq!(city.of("mixpanel").tally().events.values().max(), Some(&1));
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replay_sends_the_same_dedupe_keys() {
    let city = RunningSimulators::start().await;
    let gateway = Gateway::start(&city.settings()).await;
    gateway.accept(&visit("r")).await;
    gateway.settled(7).await;
    // The simulators that deduplicate by their own key count a repetition once.
    let keyed = ["meta", "mixpanel", "amplitude", "intercom"];
    let keys =
        |name: &str| -> BTreeSet<String> { city.of(name).tally().events.into_keys().collect() };
    let before = keyed.map(keys);
    let token = std::fs::read_to_string(gateway.data().join("admin.token")).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    for name in keyed {
        let window = json!({ "site": "shop", "destination": name,
            "from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z" });
        let fields =
            [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let answer = crate::harness::admin_post(gateway.admin, "/api/v1/replay", &fields, &window);
        assert_eq!(answer.json()["count"], 7, "{name}: {answer:?}");
    }
    let requests = keyed.map(|name| city.of(name).tally().requests);
    let rows = eventually(|| {
        let rows = ledger(gateway.admin);
        let done = keyed.iter().all(|name| row(&rows, name).pending == 0);
        if done { Ok(rows) } else { Err(format!("{rows:?}")) }
    })
    .await;
    for (index, name) in keyed.into_iter().enumerate() {
        assert_eq!(row(&rows, name).accepted, 14, "{name}");
        assert_eq!(keys(name), before[index], "{name}: no new key");
        let tally =
            city.of(name).wait_for(DEADLINE, |tally| tally.requests >= requests[index]).await;
        let tally = tally.unwrap();
        assert!(tally.events.values().all(|times| *times == 1), "{name}: {:?}", tally.events);
    }
}
