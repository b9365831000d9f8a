//! Changed settings in a running gateway.

use std::io::{Read, Write};
use std::net::TcpStream;

use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{
    DEADLINE, Process, admin_get, batch, eventually, send, track, vendor, webhook_site, whole,
};

fn metric(process: &Process, name: &str) -> Option<String> {
    let body = admin_get(process.admin, "/metrics").ok()?.body;
    let line = body.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_change_without_a_lost_connection_and_bad_ones_change_nothing() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let settings = webhook_site(webhook.address(), "");
    let process = Process::start(&data, &file, &settings);
    let origin = [("origin", "https://new.example"), ("content-type", "text/plain")];
    let post = |id: &str| {
        let body = batch(&[track(id, "Clicked")]);
        send(process.http, ("POST", "/e"), &origin, body.as_bytes()).unwrap().status
    };
    assert_eq!(post("before"), 403, "the origin is not known yet");

    // A connection that stays open across both reloads.
    let mut held = TcpStream::connect(process.http).unwrap();
    held.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut ask = || {
        held.write_all(b"GET /nothing HTTP/1.1\r\nhost: t.shop.example\r\n\r\n").unwrap();
        let mut bytes = [0; 4096];
        let read = held.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).lines().next().unwrap().to_owned()
    };
    assert!(ask().contains("404"));

    let wider = settings.replace("shop.example\"]", "shop.example\", \"https://new.example\"]");
    std::fs::write(&file, whole(&data, &wider)).unwrap();
    process.signal("HUP");
    eventually(|| match post("after") {
        204 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    assert!(ask().contains("404"), "the connection lives on");
    assert_eq!(metric(&process, "tagway_config_reload_success").as_deref(), Some("1"));

    std::fs::write(&file, whole(&data, &wider.replace("write_key", "wriet_key"))).unwrap();
    process.signal("HUP");
    eventually(|| match metric(&process, "tagway_config_reload_success").as_deref() {
        Some("0") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(post("still"), 204, "the running settings stay");
    assert!(ask().contains("404"));
    webhook.wait_for(DEADLINE, |tally| tally.events.len() == 2).await.expect("both events");
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_data_folder_waits_for_the_next_start() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    let file = folder.path().join("tagway.toml");
    std::fs::create_dir(&other).unwrap();
    let settings = webhook_site(webhook.address(), "");
    let process = Process::start(&data, &file, &settings);
    let wider = settings.replace("shop.example\"]", "shop.example\", \"https://new.example\"]");
    std::fs::write(&file, whole(&other, &wider)).unwrap();
    process.signal("HUP");
    let origin = [("origin", "https://new.example"), ("content-type", "text/plain")];
    let body = batch(&[track("a", "Clicked")]);
    eventually(|| match send(process.http, ("POST", "/e"), &origin, body.as_bytes()) {
        Ok(answer) if answer.status == 204 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let made: Vec<_> = std::fs::read_dir(&other).unwrap().collect();
    assert!(made.is_empty(), "visitors' cookies are signed with the keys of the start: {made:?}");
    assert!(process.terminate().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_site_removed_before_the_start_are_released() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let journal = "[journal]\nretain = \"1s\"\ndedupe_window = \"1s\"\n";
    // No server listens there, so the event waits for its destination.
    let site = webhook_site(([127, 0, 0, 1], 9).into(), "");
    let process = Process::start(&data, &file, &format!("{journal}{site}"));
    let accept = |process: &Process, ids: &[&str]| {
        let headers = [("origin", "https://shop.example"), ("content-type", "text/plain")];
        let events: Vec<_> = ids.iter().map(|id| track(id, "Clicked")).collect();
        let answer = send(process.http, ("POST", "/e"), &headers, batch(&events).as_bytes());
        assert_eq!(answer.unwrap().status, 204);
    };
    accept(&process, &["one"]);
    assert!(process.terminate().success());
    let other = site.replace("name = \"shop\"", "name = \"other\"");
    let process = Process::start(&data, &file, &format!("{journal}{other}"));
    accept(&process, &["two", "three"]);
    eventually(|| match metric(&process, "tagway_journal_events").as_deref() {
        Some("2") => Ok(()),
        held => Err(format!("{held:?}")),
    })
    .await;
    assert!(process.terminate().success());
}
