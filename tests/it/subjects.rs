//! Subject rights, with the real program: a forgotten person is in no file any more, and others are
//! unaffected.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tagway_simulator::vendors::{SimulatedFault, SimulatorKind};

use crate::harness::{
    DEADLINE, NO_RATES, Process, TAGWAY, admin_get, batch, eventually, ledger, send, settled,
    vendor, webhook_site,
};

fn event(id: &str, person: &str, kind: &str) -> Value {
    json!({
        "type": kind, "messageId": id, "event": "Order Completed", "userId": person,
        "anonymousId": format!("{person}-device"),
        "traits": { "email": format!("{person}@mail.example"), "note": format!("{person}-secret") },
        "properties": { "note": format!("{person}-secret") },
        "context": { "traits": { "email": format!("{person}@mail.example") } },
    })
}

/// Posts events; the client sees them accepted.
fn post(process: &Process, events: &[Value]) {
    let answer = send(process.http, ("POST", "/v1/batch"), &[], batch(events).as_bytes());
    assert_eq!(answer.unwrap().status, 200);
}

/// The files that contain a text.
fn files_with(data: &Path, text: &str) -> Vec<String> {
    let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let holds = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    entries.filter(holds).map(|path| path.display().to_string()).collect()
}

fn assert_no_trace(data: &Path, person: &str) {
    for trace in ["@mail.example", "-device", "-secret"] {
        let trace = format!("{person}{trace}");
        assert_eq!(files_with(data, &trace), Vec::<String>::new(), "{trace}");
    }
}

/// The state after a forget that was killed after its first step: names are suppressed, and nothing is
/// erased.
fn suppress_only(data: &Path, names: &[(&str, &str)]) {
    let database = rusqlite::Connection::open(data.join("tagway.db")).unwrap();
    for (kind, name) in names {
        let key = Sha256::new().chain_update(1_u32.to_be_bytes()).chain_update(kind);
        let key: [u8; 32] = key.chain_update(name).finalize().into();
        database
            .execute("INSERT INTO forgotten (site, name, person) VALUES (1, ?, 77)", [key])
            .unwrap();
    }
}

fn tagway(process: &Process, file: &Path, words: &[&str]) -> String {
    let mut command = Command::new(TAGWAY);
    command.args(words).args(["--admin", &process.admin.to_string(), "--config"]).arg(file);
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{complaint}");
    printed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_person_is_in_no_file_and_others_are_complete() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let process = Process::start(&data, &file, &settings);
    let tagway = |process: &Process, words: &[&str]| tagway(process, &file, words);
    for (n, person) in ["ann", "bob", "cid"].into_iter().enumerate() {
        post(&process, &[event(&format!("{person}-1"), person, "identify")]);
        settled(process.admin, n as u64 + 1).await;
    }
    webhook.add_faults(1, SimulatedFault::Status(422));
    post(&process, &[event("ann-2", "ann", "track")]);
    let rows = settled(process.admin, 4).await;
    assert_eq!(rows[0].dead, 1);
    // From here on calls fail: these events wait in memory and are retried.
    webhook.set_fault(Some(SimulatedFault::Status(503)));
    for person in ["ann", "bob", "cid"] {
        post(&process, &[event(&format!("{person}-3"), person, "track")]);
    }
    let printed = tagway(&process, &["export", "ann@mail.example"]);
    let held: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = held.iter().map(|held| held["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["profile", "event", "event", "event", "dead"], "{printed}");
    assert_eq!(held[0]["identities"].as_array().unwrap().len(), 3, "{printed}");
    assert_eq!(held[1]["destinations"]["webhook"], "delivered", "{printed}");
    assert_eq!(held[2]["destinations"]["webhook"], "dead", "{printed}");
    assert_eq!(held[3]["destinations"]["webhook"], "pending", "{printed}");
    assert!(!printed.contains("bob"), "{printed}");

    let printed = tagway(&process, &["forget", "ann@mail.example", "--json"]);
    let answer: Value = serde_json::from_str(&printed).unwrap();
    let expected = json!({ "profiles": 1, "events": 3, "parked": 0, "dead": 1 });
    assert_eq!((&answer["suppressed"], &answer["erased"]), (&json!(3), &expected), "{printed}");
    // Her events seem accepted to the sender, and are dropped.
    post(&process, &[event("ann-4", "ann", "track"), event("bob-4", "bob", "track")]);
    assert_eq!(ledger(process.admin)[0].accepted, 8);
    let metrics = admin_get(process.admin, "/metrics").unwrap().body;
    let counted = "tagway_events_dropped_total{site=\"shop\",reason=\"forgotten\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    process.kill();

    suppress_only(&data, &[("u", "cid"), ("d", "cid-device")]);
    let process = Process::start(&data, &file, &settings);
    webhook.set_fault(None);
    let rows = settled(process.admin, 8).await;
    assert_eq!((rows[0].delivered, rows[0].dead), (5, 1), "{rows:?}");
    let all =
        |tally: &tagway_simulator::vendors::SimulatorTally| tally.events.contains_key("bob-4");
    webhook.wait_for(DEADLINE, all).await.expect("the others go on");
    let tally = webhook.tally();
    assert!(tally.events.contains_key("bob-3"));
    for id in ["ann-3", "ann-4", "cid-3"] {
        assert!(!tally.events.contains_key(id), "{id} was sent");
    }
    eventually(|| {
        let printed = tagway(&process, &["export", "cid"]);
        if printed.is_empty() { Ok(()) } else { Err(printed) }
    })
    .await;
    let bobs = tagway(&process, &["export", "bob"]);
    assert_eq!(bobs.lines().count(), 4, "{bobs}");
    assert!(process.terminate().success());
    assert_no_trace(&data, "ann");
    assert_no_trace(&data, "cid");
    assert!(!files_with(&data, "bob-secret").is_empty());

    let process = Process::start(&data, &file, &settings);
    assert_eq!(tagway(&process, &["forget", "ann", "--undo"]), "3 ids are no longer suppressed\n");
    post(&process, &[event("ann-5", "ann", "track")]);
    let all =
        |tally: &tagway_simulator::vendors::SimulatorTally| tally.events.contains_key("ann-5");
    webhook.wait_for(DEADLINE, all).await.expect("she is taken again");
    settled(process.admin, 9).await;
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_spares_people_whose_names_were_misused() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let process = Process::start(&data, &file, &settings);
    let identify = |id: &str, members: Value| {
        let mut event = json!({ "type": "identify", "messageId": id });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        event
    };
    let theirs = ["victim-1", "victim-2", "victim-3"];
    let address = json!({ "email": "victim@corp.example" });
    let events = [
        identify(theirs[0], json!({ "userId": "victim7", "traits": address })),
        identify(theirs[1], json!({ "userId": "victim7", "anonymousId": "laptop" })),
        identify(theirs[2], json!({ "anonymousId": "phone", "traits": address })),
        // A device with another person's id as its name, and a person who claims another's address.
        identify("attack-1", json!({ "userId": "attacker", "anonymousId": "victim7" })),
        identify("attack-2", json!({ "userId": "attacker2", "traits": address })),
    ];
    for (before, event) in (1..).zip(events) {
        post(&process, &[event]);
        settled(process.admin, before).await;
    }
    let exported = |id: &str| tagway(&process, &file, &["export", id]);
    for (person, own) in [("attacker", "attack-1"), ("attacker2", "attack-2")] {
        let printed = exported(person);
        assert_eq!(printed.lines().count(), 2, "the profile and the event: {printed}");
        assert!(printed.contains(own), "{printed}");
        let printed = tagway(&process, &file, &["forget", person, "--json"]);
        let answer: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(answer["erased"]["profiles"], 1, "{printed}");
        assert_eq!(answer["erased"]["events"], 1, "{printed}");
    }
    for id in ["victim7", "victim@corp.example"] {
        let printed = exported(id);
        assert!(theirs.iter().all(|event| printed.contains(event)), "{id}: {printed}");
        assert!(!printed.contains("attack"), "{id}: {printed}");
    }
    tagway(&process, &file, &["forget", "attacker2", "--undo"]);
    post(&process, &[identify("victim-4", json!({ "userId": "victim7", "traits": address }))]);
    assert_eq!(ledger(process.admin)[0].accepted, 6, "they are still taken");
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn person_whom_a_server_erases_stays_erased_after_a_power_cut() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let site = webhook_site(webhook.address(), "").replacen(
        "[[sites.destinations]]",
        &format!(
            "server_token = \"{TOKEN}\"\n[sites.vendors.mixpanel]\nerasures = \"forget\"\n\
             [[sites.destinations]]"
        ),
        1,
    );
    let settings = format!("{NO_RATES}{site}");
    let process = Process::start(&data, &file, &settings);
    for (n, person) in ["ann", "bob", "cid"].into_iter().enumerate() {
        post(&process, &[event(&format!("{person}-1"), person, "identify")]);
        settled(process.admin, n as u64 + 1).await;
    }
    let erase = |process: &Process, key: &str, people: &[&str]| {
        let records = people.iter().map(|person| {
            json!({ "$token": key, "$distinct_id": person, "$delete": "", "$ignore_alias": true })
        });
        let body = Value::from(records.collect::<Vec<_>>()).to_string();
        let answer = send(process.http, ("POST", "/mixpanel/engage"), &[], body.as_bytes());
        answer.unwrap().status
    };
    assert_eq!(erase(&process, "shop-web", &["bob"]), 400, "anyone knows the public key");
    assert_eq!(erase(&process, TOKEN, &["ann", "cid"]), 200);
    process.kill();

    let process = Process::start(&data, &file, &settings);
    for person in ["ann", "cid"] {
        assert_eq!(tagway(&process, &file, &["export", person]), "", "{person}");
        post(&process, &[event(&format!("{person}-2"), person, "track")]);
    }
    assert_eq!(tagway(&process, &file, &["export", "bob"]).lines().count(), 2);
    assert_eq!(ledger(process.admin)[0].accepted, 3, "their new events are dropped");
    let said = tagway(&process, &file, &["forget", "ann", "--undo"]);
    assert_eq!(said, "3 ids are no longer suppressed\n", "each of them is a person of their own");
    assert!(process.terminate().success());
    assert_no_trace(&data, "ann");
    assert_no_trace(&data, "cid");
}
