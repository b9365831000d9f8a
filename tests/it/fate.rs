//! Fate of past events, paused destinations, and metrics of one moment, through the operators' commands.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatedFault, SimulatorKind};

use crate::harness::{
    NO_RATES, Process, TAGWAY, admin_get, batch, eventually, ledger, send, settled, track, vendor,
    webhook_site,
};

fn run(process: &Process, file: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(TAGWAY);
    command.args(words).args(["--admin", &process.admin.to_string(), "--config"]).arg(file);
    command.output().unwrap()
}

fn tagway(process: &Process, file: &Path, words: &[&str]) -> String {
    let output = run(process, file, words);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn post(process: &Process, events: &[Value]) {
    let answer = send(process.http, ("POST", "/v1/batch"), &[], batch(events).as_bytes());
    assert_eq!(answer.unwrap().status, 200);
}

/// The sum of a metric's values on the lines with this text.
fn metric(process: &Process, text: &str) -> f64 {
    let body = admin_get(process.admin, "/metrics").unwrap().body;
    let lines = body.lines().filter(|line| line.starts_with(text));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn event_command_shows_the_outcomes_of_an_event() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let site = webhook_site(webhook.address(), "events = [\"*\", \"!Secret*\"]");
    let process = Process::start(&data, &file, &format!("{NO_RATES}{site}"));
    post(&process, &[track("m1", "Order Completed"), track("m2", "Secret Thing")]);
    settled(process.admin, 2).await;
    webhook.add_faults(1, SimulatedFault::Status(422));
    post(&process, &[track("m3", "Order Completed")]);
    settled(process.admin, 3).await;
    let of = |id: &str| -> Value {
        let printed = tagway(&process, &file, &["event", id, "--json"]);
        serde_json::from_str::<Value>(&printed).unwrap()["destinations"][0].clone()
    };
    let (delivered, skipped, dead) = (of("m1"), of("m2"), of("m3"));
    assert_eq!((&delivered["outcome"], &delivered["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(
        (&skipped["outcome"], &skipped["reason"]),
        (&json!("skipped"), &json!("not_selected"))
    );
    assert_eq!((&dead["outcome"], &dead["reason"]), (&json!("dead"), &json!("refused")));
    let call = &dead["last_call"];
    assert_eq!(call["status"], 422, "{dead}");
    assert!(call["request"].as_str().unwrap().contains("\"m3\""), "{dead}");
    assert_eq!(of("shop/3"), dead);
    let letter = dead["dead_letter"].to_string();
    let shown = tagway(&process, &file, &["dead", "show", &letter]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(&shown["last_call"], call);
    let text = tagway(&process, &file, &["event", "m3"]);
    assert!(text.contains("refused") && text.contains("reply 422"), "{text}");
    let unknown = run(&process, &file, &["event", "m4"]);
    assert_eq!(unknown.status.code(), Some(1));
    // The dead letter's last call is erased with the person.
    let person = "u-gone";
    webhook.add_faults(1, SimulatedFault::Status(422));
    let mut event = track("m5", "Order Completed");
    event["userId"] = json!(person);
    post(&process, &[event]);
    settled(process.admin, 4).await;
    tagway(&process, &file, &["forget", person]);
    assert_eq!(run(&process, &file, &["event", "shop/4"]).status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_destination_stays_paused_over_a_restart_until_it_is_resumed() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let process = Process::start(&data, &file, &settings);
    let printed = tagway(&process, &file, &["destinations", "pause", "webhook"]);
    assert_eq!(printed, "shop/webhook is paused\n");
    post(&process, &[track("m1", "Order Completed"), track("m2", "Order Completed")]);
    process.kill();
    let process = Process::start(&data, &file, &settings);
    let row = ledger(process.admin).remove(0);
    assert_eq!((row.state.as_str(), row.pending, row.delivered), ("paused", 2, 0));
    let of = "{site=\"shop\",destination=\"webhook\"}";
    assert_eq!(metric(&process, &format!("tagway_destination_paused{of}")), 1.0);
    assert_eq!(metric(&process, &format!("tagway_destination_up{of}")), 0.0);
    let listed = tagway(&process, &file, &["destinations", "ls"]);
    assert!(listed.contains("paused"), "{listed}");
    tagway(&process, &file, &["destinations", "resume", "shop/webhook"]);
    let rows = settled(process.admin, 2).await;
    assert_eq!((rows[0].delivered, rows[0].state.as_str()), (2, "running"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledger_adds_up_in_each_scrape_and_held_events_are_no_backlog() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let more = "consent = [\"analytics\"]\nunknown_consent = \"hold\"";
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), more));
    let process = Process::start(&data, &file, &settings);
    let of = "{site=\"shop\",destination=\"webhook\"";
    for n in 0..20 {
        post(&process, &[track(&format!("m{n}"), "Order Completed")]);
        let body = admin_get(process.admin, "/metrics").unwrap().body;
        let column = |column: &str| -> u64 {
            let start = format!("tagway_ledger_events{of},column=\"{column}\"}} ");
            let line = body.lines().find_map(|line| line.strip_prefix(&*start));
            line.unwrap_or_else(|| panic!("{start} is not in\n{body}")).parse().unwrap()
        };
        let parts = ["delivered", "skipped", "dead", "pending", "held"].map(column);
        assert_eq!((column("accepted"), parts.iter().sum::<u64>()), (n + 1, n + 1), "{parts:?}");
    }
    eventually(|| {
        let held = metric(&process, &format!("tagway_held_events{of}"));
        if held == 20.0 { Ok(()) } else { Err(held.to_string()) }
    })
    .await;
    assert_eq!(metric(&process, &format!("tagway_pending_events{of}")), 0.0);
    assert_eq!(metric(&process, &format!("tagway_pending_oldest_seconds{of}")), 0.0);
}
