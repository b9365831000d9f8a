//! Events that would end the process, against the real program with little memory.

use std::process::Command;

use serde_json::json;
use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{
    NO_RATES, Process, TAGWAY, admin_get, batch, send, settled, track, vendor, webhook_site, whole,
};

/// A common mapping.
const MAPPING: &str = r#"
[[sites.destinations.mapping.rules]]
set = { "properties.value" = "{{ properties.price * properties.quantity }}" }
[[sites.destinations.mapping.rules]]
set = { "properties.label" = "{{ properties.price * properties.quantity }} {{ properties.currency }}" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn list_in_place_of_a_number_takes_no_memory() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), MAPPING));
    std::fs::write(&file, whole(&data, &settings)).unwrap();
    let limited = format!("ulimit -v 4194304 && exec {TAGWAY} serve --config {}", file.display());
    let process = Process::run(Command::new("sh").arg("-c").arg(limited));
    let mut events: Vec<_> = (0..20).map(|n| track(&format!("m{n}"), "Order Completed")).collect();
    events[0]["properties"] = json!({ "price": 100_000_000, "quantity": [1] });
    events[1]["properties"] = json!({ "price": ["x".repeat(1000)], "quantity": 90_000_000 });
    let body = batch(&events);
    let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let rows = settled(process.admin, 20).await;
    assert_eq!((rows[0].delivered, rows[0].dead), (20, 0), "{rows:?}");
    let metrics = admin_get(process.admin, "/metrics").unwrap().body;
    let counted = "tagway_mapping_values_left_out_total{site=\"shop\",destination=\"webhook\",\
                   result=\"template_steps\"} 4";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(process.terminate().success());
}
