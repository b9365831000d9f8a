//! Stored data of visitors and its uses, with the real program: enrichment, import, export.

use std::fs;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{NO_RATES, Process, TAGWAY, batch, send, settled, vendor, webhook_site};

const TOKEN: &str = "a-server-token-of-the-shop";

fn order(id: &str, visitor: &str, value: u64) -> Value {
    json!({
        "type": "track", "event": "Order Completed", "messageId": id, "anonymousId": visitor,
        "properties": { "value": value },
    })
}

struct Shop {
    process: Process,
    file: std::path::PathBuf,
    folder: tempfile::TempDir,
}

impl Shop {
    /// Opens a shop with these additional settings in its destination's table.
    fn open(webhook: std::net::SocketAddr, more: &str) -> Self {
        Self::limited(webhook, more, "")
    }

    /// Opens a shop with these limits as well.
    fn limited(webhook: std::net::SocketAddr, more: &str, limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
        let key = "write_key = \"shop-web\"\n";
        let site = webhook_site(webhook, more)
            .replace(key, &format!("{key}bots = \"pass\"\nserver_token = \"{TOKEN}\"\n"));
        let process = Process::start(&data, &file, &format!("{NO_RATES}{limits}{site}"));
        Self { process, file, folder }
    }

    fn post(&self, events: &[Value]) {
        let body = batch(events);
        let answer = send(self.process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
    }

    fn tagway(&self, words: &[&str]) -> Output {
        let mut command = Command::new(TAGWAY);
        command.args(words).arg("--config").arg(&self.file);
        command.output().unwrap()
    }

    fn profile(&self, id: &str) -> Value {
        let admin = self.process.admin.to_string();
        let output = self.tagway(&["profiles", "get", id, "--admin", &admin]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_carry_the_visitors_earlier_activity() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let orders = "profile.activity['Order Completed']";
    let rules = format!(
        "[[sites.destinations.mapping.rules]]\nset = {{ \"properties.orders\" = \
         \"{{{{ {orders}.count }}}}\", \"properties.spent\" = \"{{{{ {orders}.sum }}}}\" }}"
    );
    let shop = Shop::open(webhook.address(), &rules);
    for n in 1..=3_u64 {
        shop.post(&[order(&format!("a{n}"), "a", 10 * n), order(&format!("b{n}"), "b", 1)]);
        settled(shop.process.admin, n * 2).await;
    }
    // Both visitors belong to one person.
    shop.post(&[
        json!({ "type": "identify", "userId": "u", "anonymousId": "a", "messageId": "i1" }),
    ]);
    shop.post(&[
        json!({ "type": "identify", "userId": "u", "anonymousId": "b", "messageId": "i2" }),
    ]);
    shop.post(&[order("a4", "a", 7)]);
    settled(shop.process.admin, 9).await;
    let mut seen = std::collections::BTreeMap::new();
    for request in webhook.tally().seen {
        let events: Value = serde_json::from_slice(&request.body).unwrap();
        for event in events.as_array().unwrap() {
            let counts = (&event["properties"]["orders"], &event["properties"]["spent"]);
            let counts = json!([counts.0, counts.1]);
            seen.insert(event["messageId"].as_str().unwrap().to_owned(), counts);
        }
    }
    let counts = |id: &str| seen[id].clone();
    let expected = [json!([1, 10.0]), json!([2, 30.0]), json!([3, 60.0])];
    assert_eq!([counts("a1"), counts("a2"), counts("a3")], expected);
    assert_eq!(counts("a4"), json!([7, 70.0]), "{seen:?}");
    let profile = shop.profile("u");
    assert_eq!(profile["activity"]["Order Completed"]["count"], 7);
    assert_eq!(profile["days"][0]["count"], 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_fills_profiles_and_is_idempotent() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let shop = Shop::open(webhook.address(), "");
    let path = shop.folder.path().join("people.csv");
    let mut text = "id,email,plan,age\n".to_owned();
    for n in 0..1200 {
        text.push_str(&format!("p{n},p{n}@mail.example,pro,{n}\n"));
    }
    text.push_str("p1200,x@mail.example,pro,old\n");
    fs::write(&path, text).unwrap();
    let to = shop.process.http.to_string();
    let file = path.display().to_string();
    let import = |state: Option<&str>| {
        let mut words = vec!["profiles", "import", &file, "--to", &to];
        words.extend(["--map", "id=user_id", "--map", "age=traits.age:number"]);
        if let Some(state) = state {
            fs::write(format!("{file}.import"), state).unwrap();
        }
        let output = shop.tagway(&words);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{printed}");
        printed
    };
    let printed = import(None);
    assert!(printed.contains("1201 rows: 1200 accepted, 1 rejected"), "{printed}");
    let rejects = fs::read_to_string(format!("{file}.rejects")).unwrap();
    let reject: Value = serde_json::from_str(rejects.trim()).unwrap();
    assert_eq!((&reject["row"], &reject["found"]["id"]), (&json!(1201), &json!("p1200")));
    assert!(printed.contains("--deliver"), "{printed}");
    let rows = settled(shop.process.admin, 1200).await;
    assert_eq!((rows[0].skipped, webhook.tally().accepted), (1200, 0), "profiles alone: {rows:?}");
    let profile = shop.profile("p777@mail.example");
    assert_eq!(profile["user_id"], "p777");
    assert_eq!(
        (&profile["traits"]["plan"], &profile["traits"]["age"]),
        (&json!("pro"), &json!(777))
    );
    // The state after a kill before the last two requests were recorded.
    let printed = import(Some(r#"{"rows":500,"taken":500,"rejected":0}"#));
    assert!(
        printed.contains("resuming after row 500") && printed.contains("1200 accepted"),
        "{printed}"
    );
    assert!(!fs::exists(format!("{file}.import")).unwrap(), "what is done is not noted");
    let rows = settled(shop.process.admin, 1200).await;
    assert_eq!(rows[0].accepted, 1200, "no row was taken twice");
    fs::write(&path, "user_id,plan\nnew,pro\n").unwrap();
    let output = shop.tagway(&["profiles", "import", &file, "--to", &to, "--deliver"]);
    assert!(output.status.success(), "{output:?}");
    let rows = settled(shop.process.admin, 1201).await;
    assert_eq!((rows[0].delivered, webhook.tally().accepted), (1, 1), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_continues_after_rejected_rows() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let shop = Shop::limited(webhook.address(), "", "body_bytes = \"16KiB\"\n");
    let path = shop.folder.path().join("people.csv");
    let mut text = "\u{feff}user_id,bio\n".to_owned();
    // One request of the import has more events than the gateway accepts.
    for n in 0..40 {
        text.push_str(&format!("p{n},{}\n", "x".repeat(2000)));
    }
    text.push_str(&format!("huge,{}\n", "x".repeat(1_500_000)));
    text.push_str("open,\"never closed\nlarge,");
    text.push_str(&format!("{}\np40,\"a\nb\"\nnul,\0\np41,c\n", "x".repeat(20_000)));
    fs::write(&path, text).unwrap();
    let (file, to) = (path.display().to_string(), shop.process.http.to_string());
    let output = shop.tagway(&["profiles", "import", &file, "--to", &to]);
    let printed = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("46 rows: 42 accepted, 4 rejected"), "{printed}");
    let rejects = fs::read_to_string(format!("{file}.rejects")).unwrap();
    assert!(rejects.len() < 10_000, "of a row that is too long its beginning is kept");
    let rejects: Vec<Value> =
        rejects.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let why: Vec<_> = rejects
        .iter()
        .map(|it| (it["row"].as_u64().unwrap(), it["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        why,
        [
            (41, "is longer than --row-bytes"),
            (42, "opens a quote and does not close it"),
            (43, "has 20110 bytes, more than limits.body_bytes"),
            (45, "has NUL bytes"),
        ]
    );
    settled(shop.process.admin, 42).await;
}
