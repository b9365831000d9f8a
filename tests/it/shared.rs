//! Profiles in a shared PostgreSQL database of several gateways, with the real program.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatorKind, VendorSimulator};
use tagway_storage::postgres::test_server;

use crate::harness::{
    NO_RATES, Process, TAGWAY, batch, eventually, ledger, send, settled, vendor, webhook_site,
    whole,
};

fn settings(url: &str, schema: &str, webhook: SocketAddr) -> String {
    let rule = "[[sites.destinations.mapping.rules]]\n\
        set = { \"properties.plan\" = \"{{ profile.traits.plan }}\", \
        \"properties.orders\" = \"{{ profile.activity['Order Completed'].count }}\" }";
    let key = "write_key = \"shop-web\"\n";
    let site = webhook_site(webhook, rule).replace(key, &format!("{key}bots = \"pass\"\n"));
    format!(
        "{NO_RATES}\n[profiles]\nstore = \"postgres\"\n\
         [postgres]\nurl = \"{url}\"\nschema = \"{schema}\"\n{site}"
    )
}

fn start(folder: &Path, settings: &str) -> (Process, PathBuf) {
    let file = folder.join("tagway.toml");
    (Process::start(&folder.join("data"), &file, settings), file)
}

fn post(process: &Process, event: &Value) {
    let body = batch(std::slice::from_ref(event));
    let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
    assert_eq!(answer.unwrap().status, 200);
}

fn identify(id: &str) -> Value {
    json!({
        "type": "identify", "userId": "u", "anonymousId": "a", "messageId": id,
        "traits": { "plan": "pro" },
    })
}

fn order(id: &str) -> Value {
    json!({ "type": "track", "event": "Order Completed", "userId": "u", "messageId": id })
}

/// The profile that the destination received with an event.
fn received(webhook: &VendorSimulator, id: &str) -> Value {
    for request in webhook.tally().seen {
        let events: Value = serde_json::from_slice(&request.body).unwrap();
        for event in events.as_array().unwrap() {
            if event["messageId"] == id {
                return event["properties"].clone();
            }
        }
    }
    Value::Null
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_share_profiles() {
    let Some(url) = test_server::url() else { return };
    let webhook = vendor(SimulatorKind::Webhook).await;
    let settings = settings(url, "shared_people", webhook.address());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, _) = start(folders[0].path(), &settings);
    let (other, _) = start(folders[1].path(), &settings);
    post(&one, &identify("i1"));
    post(&one, &order("o1"));
    settled(one.admin, 2).await;
    post(&other, &order("o2"));
    settled(other.admin, 1).await;
    assert_eq!(received(&webhook, "o1"), json!({ "plan": "pro", "orders": 1 }));
    assert_eq!(received(&webhook, "o2"), json!({ "plan": "pro", "orders": 2 }));
    one.kill();
    // The first gateway's progress is stored: nothing is counted twice.
    let (one, file) = start(folders[0].path(), &settings);
    post(&one, &order("o3"));
    settled(one.admin, 3).await;
    assert_eq!(received(&webhook, "o3"), json!({ "plan": "pro", "orders": 3 }));
    let mut command = Command::new(TAGWAY);
    command.args(["profiles", "get", "u", "--admin", &one.admin.to_string()]);
    let output = command.arg("--config").arg(&file).output().unwrap();
    let profile: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(profile["activity"]["Order Completed"]["count"], 3);
    assert!(one.terminate().success());
    assert!(other.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_accepted_and_wait_while_the_database_is_down() {
    let Some(url) = test_server::url() else { return };
    let webhook = vendor(SimulatorKind::Webhook).await;
    // A port without a listener yet.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let away = format!("postgresql://tagway@{address}/postgres");
    let (gateway, _) = start(folder.path(), &settings(&away, "away", webhook.address()));
    post(&gateway, &identify("i1"));
    post(&gateway, &order("o1"));
    let rows = ledger(gateway.admin);
    assert!(rows.iter().all(|row| row.accepted == 2 && row.pending == 2), "{rows:?}");
    let host = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
    let (folder, port) = host.rsplit_once(':').unwrap();
    let socket = format!("{}/.s.PGSQL.{port}", folder.replace("%2F", "/"));
    forward(TcpListener::bind(address).unwrap(), socket);
    let is_told = || {
        let received = received(&webhook, "o1");
        if received.is_null() { Err("not yet".to_owned()) } else { Ok(received) }
    };
    assert_eq!(eventually(is_told).await, json!({ "plan": "pro", "orders": 1 }));
    settled(gateway.admin, 2).await;
    assert!(gateway.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database_is_trusted_only_by_its_certificate() {
    let Some((url, certificate)) = test_server::secure() else { return };
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagway.toml");
    let settings = settings(url, "by_tls", webhook.address());
    std::fs::write(&file, whole(&folder.path().join("data"), &settings)).unwrap();
    let mut command = Command::new(TAGWAY);
    let command = command.arg("serve").arg("--config").arg(&file);
    // The connection ends at the handshake, and everything waits.
    let stranger = Process::run(command.env("SSL_CERT_FILE", "/dev/null"));
    post(&stranger, &identify("i1"));
    post(&stranger, &order("o1"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let rows = ledger(stranger.admin);
    assert!(rows.iter().all(|row| row.accepted == 2 && row.pending == 2), "{rows:?}");
    stranger.terminate();
    let process = Process::run(command.env("SSL_CERT_FILE", certificate));
    settled(process.admin, 2).await;
    assert_eq!(received(&webhook, "o1"), json!({ "plan": "pro", "orders": 1 }));
    assert!(process.terminate().success());
}

/// Forwards connections of the listener to the server's socket.
fn forward(listener: TcpListener, socket: String) {
    let copy = |mut from: Box<dyn io::Read + Send>, mut to: Box<dyn io::Write + Send>| {
        std::thread::spawn(move || io::copy(&mut from, &mut to).ok());
    };
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            let far = UnixStream::connect(&socket).unwrap();
            copy(Box::new(near.try_clone().unwrap()), Box::new(far.try_clone().unwrap()));
            copy(Box::new(far), Box::new(near));
        }
    });
}
