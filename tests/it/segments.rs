//! Segments at destinations, with the real program: visitors fill one, an order empties it, and a sync
//! that is killed goes on where it stood.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use tagway::demo::simulator::{Kind, Simulator, Workspace};

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

    /// Dies, and comes back.
    fn again(self, settings: &str) -> Self {
        let Self { process, file, folder } = self;
        process.kill();
        let process = Process::start(&folder.path().join("data"), &file, settings);
        Self { process, file, folder }
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

fn members(vendor: &Simulator) -> BTreeSet<String> {
    vendor.lists().remove(TITLE).unwrap_or_default()
}

async fn become_members(vendor: &Simulator, wanted: &BTreeSet<String>) {
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
async fn who_abandons_a_cart_is_on_both_lists_until_they_order() {
    let (meta, intercom) =
        (vendor(Kind::Meta).await, vendor(Kind::Intercom(Workspace::PLAIN)).await);
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
async fn a_sync_that_is_killed_ends_with_exactly_the_right_members() {
    let (meta, intercom) =
        (vendor(Kind::Meta).await, vendor(Kind::Intercom(Workspace::PLAIN)).await);
    let settings = settings(meta.address(), intercom.address());
    let mut shop = Shop::open(&settings);
    let users: Vec<String> = (0..120).map(|n| format!("u{n}")).collect();
    let events: Vec<Value> = users.iter().flat_map(|user| came(user)).collect();
    shop.post(&events);
    settled(shop.process.admin, 240).await;
    shop.run();
    for some in [5, 60] {
        eventually(|| {
            let told = members(&intercom).len();
            if told >= some { Ok(()) } else { Err(told.to_string()) }
        })
        .await;
        assert!(members(&intercom).len() < users.len(), "killed half way");
        shop = shop.again(&settings);
    }
    // One who was told of buys meanwhile.
    let buyer = members(&intercom).into_iter().next().unwrap();
    shop.post(&[ordered(&buyer)]);
    settled(shop.process.admin, 241).await;
    shop.run();
    let wanted: BTreeSet<String> = users.into_iter().filter(|user| *user != buyer).collect();
    become_members(&intercom, &wanted).await;
    become_members(&meta, &wanted).await;
    shop.process.terminate();
}

/// A shop that, perhaps, looks for those who twice bought for a hundred and more.
fn spenders(webhook: SocketAddr, segment: &str) -> String {
    let site = crate::harness::webhook_site(webhook, "");
    let key = "write_key = \"shop-web\"\n";
    let more = "bots = \"pass\"\nprofiles = { activity = true }\n";
    let site = site.replace(key, &format!("{key}{more}"));
    format!("{NO_RATES}\n[segments]\njitter = \"0s\"\nfill_per_second = 1000\n{site}\n{segment}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_comes_later_selects_by_what_was_done_before_it() {
    let webhook = vendor(Kind::Webhook).await;
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
