//! Traits of people from an external store, with the real program.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tagway_simulator::vendors::SimulatorKind;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{
    NO_RATES, Process, admin_get, batch, eventually, send, settled, vendor, webhook_site,
};

/// A profile API with one known person. It ends with the tasks.
async fn profile_api() -> (u16, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, mut tasks) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let counted = asked.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut reader, mut path) = (BufReader::new(stream), String::new());
            reader.read_line(&mut path).await.unwrap();
            let (mut line, mut is_allowed) = (String::new(), false);
            while reader.read_line(&mut line).await.unwrap() > 2 {
                is_allowed |= line.trim_end() == "authorization: Bearer t0ken";
                line.clear();
            }
            counted.fetch_add(1, Ordering::Relaxed);
            let is_known = is_allowed && path.starts_with("GET /v1/users/jo%20%26/traits ");
            let (status, body) = match is_known {
                true => (200, r#"{"data":{"plan":"gold","name":"from outside"}}"#),
                false => (404, "{}"),
            };
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            reader.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, asked, tasks)
}

fn post(process: &Process, event: &Value) {
    let body = batch(std::slice::from_ref(event));
    let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
    assert_eq!(answer.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_use_external_traits_even_while_the_store_is_down() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let (port, asked, mut api) = profile_api().await;
    let rules = "[[sites.destinations.mapping.rules]]\nset = { \"properties.plan\" = \
        \"{{ profile.traits.plan }}\", \"properties.name\" = \"{{ profile.traits.name }}\" }";
    let site = webhook_site(webhook.address(), rules);
    let source = format!(
        "[sites.profiles.source]\nkind = \"http\"\npath = \"/data\"\nttl = \"200ms\"\n\
         url = \"http://127.0.0.1:{port}/v1/users/{{user_id}}/traits\"\n\
         headers = {{ authorization = \"Bearer t0ken\" }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let process = Process::start(&data, &file, &format!("{NO_RATES}{site}{source}"));
    let event = |id: &str, user: &str| json!({ "type": "track", "event": "Order", "messageId": id, "userId": user });
    let identify = json!({
        "type": "identify", "messageId": "i", "userId": "jo &", "traits": { "name": "Jo" },
    });
    post(&process, &event("before", "jo &"));
    post(&process, &event("stranger", "someone"));
    settled(process.admin, 2).await;
    post(&process, &identify);
    post(&process, &event("after", "jo &"));
    settled(process.admin, 4).await;
    api.shutdown().await;
    // Longer than an answer is cached.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = asked.load(Ordering::Relaxed);
    post(&process, &event("later", "jo &"));
    settled(process.admin, 5).await;
    assert_eq!(asked.load(Ordering::Relaxed), before);
    let enriched = |id: &'static str| {
        let seen = webhook.tally().seen;
        let bodies = seen.iter().map(|request| serde_json::from_slice::<Value>(&request.body));
        let events = bodies.flat_map(|body| body.unwrap().as_array().unwrap().clone());
        let event = events.into_iter().find(|event| event["messageId"] == id);
        let properties = event.map(|event| event["properties"].clone()).unwrap_or_default();
        (properties["plan"].clone(), properties["name"].clone())
    };
    assert_eq!(enriched("before"), (json!("gold"), json!("from outside")));
    assert_eq!(enriched("after"), (json!("gold"), json!("Jo")), "the site's own word wins");
    assert_eq!(enriched("later"), (json!("gold"), json!("Jo")));
    assert_ne!(enriched("stranger").0, "gold");
    eventually(|| {
        let metrics = admin_get(process.admin, "/metrics").unwrap().body;
        let counted = "tagway_profile_source_lookups_total{site=\"shop\",result=\"error\"} 1";
        if metrics.contains(counted) { Ok(()) } else { Err(metrics) }
    })
    .await;
}
