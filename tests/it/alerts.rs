//! Alerts of the real program: a destination that dies, channels that are told once, a link that is right.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tagway_simulator::vendors::{SimulatedFault, SimulatorKind};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{
    NO_RATES, Process, admin_get, batch, eventually, raw, send, track, vendor, webhook_site,
};

/// Everything that a receiver of notifications got, in its order.
type Received<T> = Arc<Mutex<Vec<T>>>;

/// A receiver of webhooks. It ends with the tasks.
async fn hook(tasks: &mut JoinSet<()>) -> (SocketAddr, Received<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, received) = (listener.local_addr().unwrap(), Received::default());
    let calls = received.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut reader = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).await.unwrap() > 2 {
                if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).await.unwrap();
            calls.lock().push(serde_json::from_slice(&body).unwrap());
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            reader.write_all(answer).await.unwrap();
        }
    });
    (address, received)
}

/// A mail server without TLS. It ends with the tasks.
async fn mail_server(tasks: &mut JoinSet<()>) -> (SocketAddr, Received<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, received) = (listener.local_addr().unwrap(), Received::default());
    let letters = received.clone();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that is killed in the middle leaves no letter.
            if let Some(letter) = receive_letter(stream).await {
                letters.lock().push(letter);
            }
        }
    });
    (address, received)
}

/// One conversation of a mail server: returns the letter once the client ended it.
async fn receive_letter(stream: TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    reader.write_all(b"220 mail.example ESMTP\r\n").await.ok()?;
    let (mut letter, mut is_data) = (String::new(), false);
    let mut line = String::new();
    while reader.read_line(&mut line).await.ok()? > 0 {
        let command = line.trim_end().to_uppercase();
        let answer = match (is_data, command.as_str()) {
            (true, ".") => {
                is_data = false;
                "250 queued\r\n"
            }
            (true, _) => {
                letter.push_str(&line);
                ""
            }
            (false, "DATA") => {
                is_data = true;
                "354 go on\r\n"
            }
            (false, "QUIT") => "221 bye\r\n",
            (false, _) => "250 mail.example\r\n",
        };
        reader.write_all(answer.as_bytes()).await.ok()?;
        line.clear();
    }
    (!letter.is_empty()).then_some(letter)
}

fn post(process: &Process, id: &str) {
    let body = batch(&[track(id, "Order Completed")]);
    let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
    assert_eq!(answer.unwrap().status, 200);
}

fn firing(process: &Process) -> Result<(), String> {
    let body = admin_get(process.admin, "/metrics").unwrap().body;
    let is_firing = body.contains("tagway_alerts_firing{severity=\"page\"} 1");
    if is_firing { Ok(()) } else { Err("no alert fires".to_owned()) }
}

fn changes(calls: &Received<Value>) -> Vec<String> {
    let calls = calls.lock();
    let alerts = calls.iter().flat_map(|call| call["alerts"].as_array().unwrap().clone());
    alerts.map(|alert| alert["change"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_destination_is_told_once_over_kills_and_its_mend_is_told_too() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let mut tasks = JoinSet::new();
    let (hook, calls) = hook(&mut tasks).await;
    let (mail, letters) = mail_server(&mut tasks).await;
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    let alerts = format!(
        r#"
[alerts]
evaluate_every = "500ms"
console_url = "https://ops.example/tagway"
[[alerts.rules]]
name = "backlog-age"
limit = 1
for = "0s"
[alerts.channels.hook]
kind = "webhook"
url = "http://{hook}/in"
secret = "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"
[alerts.channels.mail]
kind = "email"
host = "localhost"
port = {}
tls = "none"
from = "Tagway <tagway@shop.example>"
to = ["ops@shop.example"]
"#,
        mail.port()
    );
    let settings = format!("{NO_RATES}{alerts}{}", webhook_site(webhook.address(), ""));
    let process = Process::start(&data, &file, &settings);
    webhook.set_fault(Some(SimulatedFault::Status(503)));
    post(&process, "m1");
    eventually(|| {
        let told = (calls.lock().len(), letters.lock().len());
        if told == (1, 1) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    let alert = calls.lock()[0]["alerts"][0].clone();
    assert_eq!((&alert["change"], &alert["rule"]), (&json!("firing"), &json!("backlog-age")));
    let link = "https://ops.example/tagway/#/destinations/shop/webhook";
    assert_eq!(alert["link"], link);
    let letter = letters.lock()[0].clone();
    assert!(letter.contains("Subject: Alert: shop/webhook: events wait"), "{letter}");
    assert!(letter.contains("To: ops@shop.example"), "{letter}");
    // It dies and comes back, and the alert still fires: nobody is told again.
    process.kill();
    let process = Process::start(&data, &file, &settings);
    eventually(|| firing(&process)).await;
    process.kill();
    let process = Process::start(&data, &file, &settings);
    eventually(|| firing(&process)).await;
    let told = (changes(&calls), letters.lock().len());
    assert_eq!(told, (vec!["firing".to_owned()], 1));
    webhook.set_fault(None);
    eventually(|| {
        let told = (calls.lock().len(), letters.lock().len());
        if told == (2, 2) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    assert_eq!(changes(&calls), ["firing", "resolved"]);
    let listed = raw(process.admin, list_request(&data).as_bytes()).unwrap().json();
    let row = &listed["rows"][0];
    assert_eq!(
        (&row["state"], &row["link"]),
        (&json!("resolved"), &json!("#/destinations/shop/webhook"))
    );
    let notified = row["notified"].as_array().unwrap();
    assert_eq!(notified.len(), 2);
    assert!(notified.iter().all(|it| it["error"].is_null()), "{row}");
    assert!(process.terminate().success());
    assert_eq!((calls.lock().len(), letters.lock().len()), (2, 2));
}

fn list_request(data: &std::path::Path) -> String {
    let token = std::fs::read_to_string(data.join("admin.token")).unwrap();
    let token = token.trim();
    format!(
        "GET /api/v1/alerts HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\n\r\n"
    )
}
