//! Segments at destinations, with the real program: visitors fill a segment, an order empties it, and a
//! killed sync resumes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tagway_simulator::vendors::{IntercomWorkspace, SimulatorKind, VendorSimulator};

use crate::harness::{
    NO_RATES, Process, SITE, admin_post, batch, eventually, send, settled, vendor,
};

const TITLE: &str = "Cart abandoners";

fn settings(meta: SocketAddr, intercom: SocketAddr) -> String {
    format!(
        r#"
{NO_RATES}
[segments]
jitter = "0s"
{SITE}
bots = "pass"
[[sites.destinations]]
name = "meta"
vendor = "meta"
endpoint = "http://{meta}"
events = ["Order Completed"]
[sites.destinations.settings]
pixel_id = "1"
access_token = "t"
ad_account_id = "7"
currency = "EUR"
[[sites.destinations]]
name = "intercom"
vendor = "intercom"
endpoint = "http://{intercom}"
events = ["identify"]
calls_per_second = 100
[sites.destinations.settings]
access_token = "t"
[[sites.segments]]
name = "cart_abandoners"
every = "24h"
where = {{ all = [
    {{ event = "Product Added", count = ">= 1", within = "7d" }},
    {{ not = {{ event = "Order Completed", within = "7d" }} }},
] }}
[[sites.segments.sync]]
destination = "meta"
audience = "{TITLE}"
[[sites.segments.sync]]
destination = "intercom"
audience = "{TITLE}"
"#
    )
}

struct Shop {
    process: Process,
    file: PathBuf,
    folder: tempfile::TempDir,
}

impl Shop {
    fn open(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tagway.toml");
        let process = Process::start(&folder.path().join("data"), &file, settings);
        Self { process, file, folder }
    }

    /// Kills it, and starts it again.
    fn again(self, settings: &str) -> Self {
        let Self { process, file, folder } = self;
        process.kill();
        let process = Process::start(&folder.path().join("data"), &file, settings);
        Self { process, file, folder }
    }

    /// The output of a command.
    fn tagway(&self, arguments: &[&str]) -> String {
        let output = std::process::Command::new(crate::harness::TAGWAY)
            .args(arguments)
            .args(["--admin", &self.process.admin.to_string(), "--config"])
            .arg(&self.file)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }

    /// Waits until the list of segments has these words: destinations receive members before it changes.
    async fn is_listed(&self, words: &str) {
        eventually(|| {
            let listed = self.tagway(&["segments", "ls"]);
            if listed.contains(words) { Ok(()) } else { Err(listed) }
        })
        .await;
    }

    fn post(&self, events: &[Value]) {
        let body = batch(events);
        let answer = send(self.process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    }

    fn run(&self) -> Value {
        let asked = json!({ "site": "shop", "segment": "cart_abandoners" });
        let token = std::fs::read_to_string(self.folder.path().join("data/admin.token")).unwrap();
        let bearer = format!("Bearer {}", token.trim());
        let fields = [("authorization", bearer.as_str())];
        let answer = admin_post(self.process.admin, "/api/v1/segments/run", &fields, &asked);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

fn came(user: &str) -> [Value; 2] {
    let email = format!("{user}@shop.example");
    [
        json!({ "type": "identify", "userId": user, "messageId": format!("i-{user}"),
            "traits": { "email": email } }),
        json!({ "type": "track", "event": "Product Added", "userId": user,
            "messageId": format!("a-{user}"), "properties": { "product_id": "p1" } }),
    ]
}

fn ordered(user: &str) -> Value {
    json!({ "type": "track", "event": "Order Completed", "userId": user,
        "messageId": format!("o-{user}"),
        "properties": { "order_id": user, "total": 10, "currency": "EUR" } })
}

fn members(vendor: &VendorSimulator) -> BTreeSet<String> {
    vendor.lists().remove(TITLE).unwrap_or_default()
}

async fn become_members(vendor: &VendorSimulator, wanted: &BTreeSet<String>) {
    eventually(|| {
        let members = members(vendor);
        if members == *wanted { Ok(()) } else { Err(format!("{members:?}, not {wanted:?}")) }
    })
    .await;
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cart_abandoner_is_on_both_lists_until_the_order() {
    let (meta, intercom) = (
        vendor(SimulatorKind::Meta).await,
        vendor(SimulatorKind::Intercom(IntercomWorkspace::PLAIN)).await,
    );
    let shop = Shop::open(&settings(meta.address(), intercom.address()));
    shop.post(&["u1", "u2", "u3"].map(came).concat());
    shop.post(&[ordered("u3")]);
    settled(shop.process.admin, 7).await;
    assert_eq!(shop.run()["size"], 2);
    become_members(&meta, &names(&["u1", "u2"])).await;
    become_members(&intercom, &names(&["u1", "u2"])).await;
    shop.post(&[ordered("u1")]);
    settled(shop.process.admin, 8).await;
    assert_eq!(shop.run()["removed"], 1);
    become_members(&meta, &names(&["u2"])).await;
    become_members(&intercom, &names(&["u2"])).await;
    shop.process.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_sync_ends_with_exactly_the_right_members() {
    let (meta, intercom) = (
        vendor(SimulatorKind::Meta).await,
        vendor(SimulatorKind::Intercom(IntercomWorkspace::PLAIN)).await,
    );
    let settings = settings(meta.address(), intercom.address());
    let mut shop = Shop::open(&settings);
    let users: Vec<String> = (0..120).map(|n| format!("u{n}")).collect();
    let events: Vec<Value> = users.iter().flat_map(|user| came(user)).collect();
    shop.post(&events);
    settled(shop.process.admin, 240).await;
    shop.run();
    for some in [5, 60] {
        eventually(|| {
            let synced = members(&intercom).len();
            if synced >= some { Ok(()) } else { Err(synced.to_string()) }
        })
        .await;
        assert!(members(&intercom).len() < users.len(), "killed half way");
        shop = shop.again(&settings);
    }
    // One of the sent members orders meanwhile.
    let buyer = members(&intercom).into_iter().next().unwrap();
    shop.post(&[ordered(&buyer)]);
    settled(shop.process.admin, 241).await;
    shop.run();
    let wanted: BTreeSet<String> = users.into_iter().filter(|user| *user != buyer).collect();
    become_members(&intercom, &wanted).await;
    become_members(&meta, &wanted).await;
    shop.process.terminate();
}

/// A shop that optionally selects people who bought twice for a hundred or more.
fn spenders(webhook: SocketAddr, segment: &str) -> String {
    let site = crate::harness::webhook_site(webhook, "");
    let key = "write_key = \"shop-web\"\n";
    let more = "bots = \"pass\"\nprofiles = { activity = true }\n";
    let site = site.replace(key, &format!("{key}{more}"));
    format!("{NO_RATES}\n[segments]\njitter = \"0s\"\nfill_per_second = 1000\n{site}\n{segment}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_rule_selects_by_earlier_activity() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let without = spenders(webhook.address(), "");
    let with = spenders(
        webhook.address(),
        "[[sites.segments]]\nname = \"cart_abandoners\"\nevery = \"24h\"\n\
         where = { event = \"Order Completed\", count = \">= 2\", where = { value = { \">=\" = 100 } } }\n",
    );
    let shop = Shop::open(&without);
    let orders = |from: u64| {
        let order = |n: u64| {
            json!({ "type": "track", "event": "Order Completed", "userId": format!("u{}", n % 100),
                "messageId": format!("o{n}"),
                "properties": { "value": if n % 100 < 40 { 150 } else { 50 } } })
        };
        (from..from + 100).map(order).collect::<Vec<_>>()
    };
    for from in (0..4000).step_by(100) {
        shop.post(&orders(from));
    }
    settled(shop.process.admin, 4000).await;
    let mut shop = shop.again(&with);
    let listed = |shop: &Shop| {
        let token = std::fs::read_to_string(shop.folder.path().join("data/admin.token")).unwrap();
        let request = format!(
            "GET /api/v1/segments HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
             connection: close\r\n\r\n",
            token.trim()
        );
        let answer = crate::harness::raw(shop.process.admin, request.as_bytes()).unwrap();
        answer.json()[0].clone()
    };
    for least in [0.1, 0.3] {
        let half_way = eventually(|| {
            let listed = listed(&shop);
            let share = listed["counting"]["share"].as_f64().unwrap();
            if share > least { Ok(listed) } else { Err(listed.to_string()) }
        });
        let half_way = half_way.await;
        assert_eq!(half_way["counting"]["is_filled"], false, "{half_way}");
        assert_eq!(half_way["ran"], Value::Null, "it is not asked before: {half_way}");
        shop = shop.again(&with);
        // Counted by the projection meanwhile: too few alone.
        if least < 0.2 {
            shop.post(&[json!({ "type": "track", "event": "Order Completed", "userId": "u77",
                "messageId": "late", "properties": { "value": 200 } })]);
        }
    }
    let ran = eventually(|| {
        let listed = listed(&shop);
        if listed["ran"].is_object() { Ok(listed) } else { Err(listed.to_string()) }
    });
    let ran = ran.await;
    assert_eq!((&ran["counting"]["is_filled"], &ran["ran"]["size"]), (&json!(true), &json!(40)));
    assert!(ran["counting"]["since_ms"].is_i64(), "{ran}");
    let admin = shop.process.admin.to_string();
    let output = std::process::Command::new(crate::harness::TAGWAY)
        .args(["profiles", "get", "u7", "--admin", &admin, "--config"])
        .arg(&shop.file)
        .output()
        .unwrap();
    let profile: Value = serde_json::from_slice(&output.stdout).unwrap();
    let activity = profile["activity"].as_object().unwrap();
    let mut counts = activity.iter().filter(|(name, _)| name.starts_with("Order Completed"));
    assert!(counts.all(|(_, tally)| tally["count"] == 40), "each once: {profile}");
    assert_eq!(activity.len(), 2, "{profile}");
    shop.process.terminate();
}

/// A shop with lists of cart abandoners at Google, TikTok and Klaviyo.
fn listed(vendors: [SocketAddr; 3], segments: &str, every: &str) -> String {
    let [google, tiktok, klaviyo] = vendors;
    let destination = |name: &str, address: SocketAddr, settings: &str| {
        format!(
            "[[sites.destinations]]\nname = \"{name}\"\nvendor = \"{name}\"\n\
             endpoint = \"http://{address}\"\ncalls_per_second = 200\n\
             [sites.destinations.settings]\n{settings}\n"
        )
    };
    let google = destination(
        "google_ads",
        google,
        "client_id = \"c\"\nclient_secret = \"s\"\nrefresh_token = \"r\"\ncustomer_id = \"1234567890\"",
    );
    let tiktok = destination("tiktok", tiktok, "access_token = \"t\"\nadvertiser_id = \"1\"");
    let klaviyo = destination("klaviyo", klaviyo, "api_key = \"pk\"");
    format!(
        r#"
{NO_RATES}
[segments]
jitter = "0s"
realtime_every = "1h"
{segments}
{SITE}
bots = "pass"
{google}{tiktok}{klaviyo}
[[sites.segments]]
name = "cart_abandoners"
every = "{every}"
where = {{ all = [
    {{ event = "Product Added", count = ">= 1", within = "7d" }},
    {{ not = {{ event = "Order Completed", within = "7d" }} }},
] }}
[[sites.segments.sync]]
destination = "google_ads"
list = "4711"
[[sites.segments.sync]]
destination = "tiktok"
audience = "{TITLE}"
[[sites.segments.sync]]
destination = "klaviyo"
audience = "{TITLE}"
"#
    )
}

fn digest(user: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(format!("{user}@shop.example"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn vendors_of_lists() -> [VendorSimulator; 3] {
    [
        vendor(SimulatorKind::GoogleAds).await,
        vendor(SimulatorKind::TikTok).await,
        vendor(SimulatorKind::Klaviyo).await,
    ]
}

/// Waits until exactly these people are on each list.
async fn all_have(vendors: &[VendorSimulator; 3], wanted: &BTreeSet<String>) {
    let digests: BTreeSet<String> = wanted.iter().map(|user| digest(user)).collect();
    for (vendor, list, wanted) in [(0, "4711", &digests), (1, TITLE, &digests), (2, TITLE, wanted)]
    {
        eventually(|| {
            let members = vendors[vendor].lists().remove(list).unwrap_or_default();
            let tally = vendors[vendor].tally();
            let report = || format!("{list} {members:?} {:?}", tally.objections);
            if members == *wanted { Ok(()) } else { Err(report()) }
        })
        .await;
    }
    for vendor in vendors {
        let objections = vendor.tally().objections;
        assert!(objections.is_empty(), "{objections:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn google_tiktok_and_klaviyo_lists_follow_a_segment_despite_a_kill() {
    let vendors = vendors_of_lists().await;
    let addresses = [0, 1, 2].map(|index: usize| vendors[index].address());
    let settings = listed(addresses, "", "24h");
    let mut shop = Shop::open(&settings);
    let users: Vec<String> = (0..120).map(|n| format!("u{n}")).collect();
    let events: Vec<Value> = users.iter().flat_map(|user| came(user)).collect();
    shop.post(&events);
    settled(shop.process.admin, 240).await;
    shop.run();
    let members = || vendors[2].lists().remove(TITLE).unwrap_or_default();
    eventually(|| if members().is_empty() { Err("nobody yet".to_owned()) } else { Ok(()) }).await;
    assert!(members().len() < users.len(), "killed half way");
    shop = shop.again(&settings);
    let wanted: BTreeSet<String> = users.into_iter().collect();
    all_have(&vendors, &wanted).await;
    // Fifty are sent at once: only those under way at the kill may be sent again.
    let synced = vendors[2]
        .tally()
        .seen
        .into_iter()
        .filter(|seen| seen.target.path().contains("relationships"));
    let synced = synced.map(|seen| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        body["data"].as_array().unwrap().len()
    });
    let synced: usize = synced.sum();
    assert!((120..=170).contains(&synced), "{synced}");
    shop.post(&[ordered("u7")]);
    settled(shop.process.admin, 241).await;
    assert_eq!(shop.run()["removed"], 1);
    let wanted = wanted.into_iter().filter(|user| user != "u7").collect();
    all_have(&vendors, &wanted).await;
    shop.process.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_time_segment_is_synced_on_a_profile_change() {
    let vendors = vendors_of_lists().await;
    let addresses = [0, 1, 2].map(|index: usize| vendors[index].address());
    let shop = Shop::open(&listed(addresses, "realtime_delay = \"100ms\"", "realtime"));
    // The first run, without members; the next is an hour away.
    shop.run();
    shop.post(&["u1", "u2"].map(came).concat());
    all_have(&vendors, &names(&["u1", "u2"])).await;
    shop.post(&[ordered("u1")]);
    all_have(&vendors, &names(&["u2"])).await;
    let new = json!({ "type": "identify", "userId": "u2", "messageId": "new",
        "traits": { "email": "u3@shop.example" } });
    shop.post(&[new]);
    let wanted = BTreeSet::from([digest("u3")]);
    eventually(|| {
        let members = vendors[1].lists().remove(TITLE).unwrap_or_default();
        if members == wanted { Ok(()) } else { Err(format!("{members:?}")) }
    })
    .await;
    shop.process.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphaned_members_are_listed_and_can_be_forgotten() {
    let (meta, intercom) = (
        vendor(SimulatorKind::Meta).await,
        vendor(SimulatorKind::Intercom(IntercomWorkspace::PLAIN)).await,
    );
    let with = settings(meta.address(), intercom.address());
    let mut shop = Shop::open(&with);
    shop.post(&["u1", "u2"].map(came).concat());
    settled(shop.process.admin, 4).await;
    shop.run();
    become_members(&meta, &names(&["u1", "u2"])).await;
    become_members(&intercom, &names(&["u1", "u2"])).await;
    shop.is_listed("intercom 2").await;
    let (head, _) = with.split_once("[[sites.segments.sync]]\ndestination = \"intercom\"").unwrap();
    let (before, rest) = head.split_once("[[sites.destinations]]\nname = \"intercom\"").unwrap();
    let (_, after) = rest.split_once("[[sites.segments]]").unwrap();
    let without = format!("{before}[[sites.segments]]{after}");
    shop = shop.again(&without);
    shop.is_listed("intercom 2 abandoned").await;
    let refused = shop.tagway(&["segments", "forget", "cart_abandoners", "meta"]);
    assert!(refused.contains("the segment is synced"), "{refused}");
    let forgotten = shop.tagway(&["segments", "forget", "cart_abandoners", "intercom"]);
    assert_eq!(forgotten, "the record of 2 people is deleted; the destination keeps them\n");
    eventually(|| {
        let listed = shop.tagway(&["segments", "ls"]);
        if listed.contains("intercom") { Err(listed) } else { Ok(()) }
    })
    .await;
    assert_eq!(members(&intercom).len(), 2, "they stay");
    shop.process.terminate();
}
