//! Limits of a flood: the quotas of one client, and the space on the disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatedFault, SimulatorKind};

use crate::harness::{
    NO_RATES, Process, admin_get, batch, eventually, ledger, send, track, vendor, webhook_site,
};

const TOKEN: &str = "a-server-token-of-the-shop";

/// The space that the journal may take on the disk, and the space for other files.
const MAX_BYTES: u64 = 8 << 20;
const SPARE_BYTES: u64 = 16 << 20;

/// The other files in the data folder: empty tables of profiles, the pages' map.
const OTHER_BYTES: u64 = 1 << 20;

fn files(data: &Path) -> u64 {
    let length = |name: &str| data.join(name).metadata().map_or(0, |file| file.len());
    length("tagway.db") + length("tagway.db-wal")
}

/// A batch of an unknown visitor's invented events, about 250 KB.
fn invented(n: usize) -> String {
    let event = |k: usize| {
        json!({
            "type": "track", "event": "Invented", "messageId": format!("x-{n}-{k}"),
            "anonymousId": "nobody", "properties": { "filling": "x".repeat(2000) },
        })
    };
    batch(&(0..120).map(event).collect::<Vec<Value>>())
}

fn metric(admin: std::net::SocketAddr, name: &str) -> u64 {
    let text = admin_get(admin, "/metrics").unwrap().body;
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<u64>().ok());
    text.lines().filter(|line| line.starts_with(name)).filter_map(value).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flood_of_claims_is_bounded_on_disk_and_displaces_no_server_event() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    webhook.set_fault(Some(SimulatedFault::Status(503)));
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let key = "write_key = \"shop-web\"\n";
    let site = webhook_site(webhook.address(), "")
        .replace(key, &format!("{key}server_token = \"{TOKEN}\"\n"));
    let settings =
        format!("{NO_RATES}[journal]\nmax_bytes = \"8MiB\"\nspare_bytes = \"16MiB\"\n{site}");
    let process = Process::start(&data, &file, &settings);
    let (http, admin) = (process.http, process.admin);
    let bearer = format!("Bearer {TOKEN}");
    let order = |id: String| {
        let body = json!({ "batch": [track(&id, "Order Completed")] }).to_string();
        send(http, ("POST", "/v1/batch"), &[("authorization", &bearer)], body.as_bytes())
    };
    let mut promised: Vec<String> = (0..50).map(|n| format!("before-{n}")).collect();
    for id in &promised {
        assert_eq!(order(id.clone()).unwrap().status, 200);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let looking = {
        let (data, is_over) = (data.clone(), is_over.clone());
        std::thread::spawn(move || {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(files(&data));
                std::thread::yield_now();
            }
            most
        })
    };
    // About four times the journal's space, with a server's orders in between.
    let (mut taken, mut refused) = (0, 0);
    for n in 0..400 {
        match send(http, ("POST", "/v1/batch"), &[], invented(n).as_bytes()).unwrap().status {
            200 => taken += 1,
            503 => refused += 1,
            status => panic!("{status}"),
        }
        if n % 10 == 0 {
            let id = format!("during-{n}");
            assert_eq!(order(id.clone()).unwrap().status, 200, "a server is not refused");
            promised.push(id);
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let most = looking.join().unwrap();
    assert!(most < MAX_BYTES + SPARE_BYTES + OTHER_BYTES, "{most} bytes; {taken}, {refused}");
    assert!(metric(admin, "tagway_journal_evicted_total{rank=\"claimed\"}") > 0, "{taken}");
    assert_eq!(metric(admin, "tagway_journal_evicted_total{rank=\"server\"}"), 0);
    webhook.set_fault(None);
    eventually(|| {
        let tally = webhook.tally();
        let missing = promised.iter().filter(|id| !tally.events.contains_key(*id)).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} orders have not arrived")) }
    })
    .await;
    eventually(|| {
        let rows = ledger(admin);
        if rows.iter().all(|row| row.pending == 0) { Ok(()) } else { Err(format!("{rows:?}")) }
    })
    .await;
    assert_eq!(
        send(http, ("POST", "/v1/batch"), &[], invented(400).as_bytes()).unwrap().status,
        200
    );
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_quota_of_one_address_is_independent_of_batching() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let key = "write_key = \"shop-web\"\n";
    let token = format!("{key}server_token = \"{TOKEN}\"\n");
    let process = Process::start(&data, &file, &crate::harness::SITE.replace(key, &token));
    let events: Vec<Value> =
        (0..2500).map(|_| json!({ "type": "track", "event": "E", "anonymousId": "a" })).collect();
    let (body, bearer) = (batch(&events), format!("Bearer {TOKEN}"));
    let post = |path: &str, fields: &[(&str, &str)]| {
        send(process.http, ("POST", path), fields, body.as_bytes()).unwrap()
    };
    let page = [("origin", "https://shop.example")];
    let answers: Vec<u16> = (0..20).map(|_| post("/e", &page).status).collect();
    let taken = answers.iter().filter(|status| **status == 204).count();
    assert!((4..=6).contains(&taken), "{answers:?}");
    let limited = post("/e", &page);
    assert_eq!(limited.status, 429, "{limited:?}");
    let wait: u64 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=15).contains(&wait), "{limited:?}");
    assert_eq!(post("/v1/batch", &[]).status, 429, "of the same client");
    assert_eq!(
        post("/v1/batch", &[("authorization", &bearer)]).status,
        200,
        "a server is no client"
    );
    let over = "tagway_rate_limited_total{site=\"shop\",policy=\"client_events\"}";
    assert!(metric(process.admin, over) >= 15);
    assert!(process.terminate().success());
}
