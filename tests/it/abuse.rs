//! Clients that send slowly, wrongly, or in great numbers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use tagway_simulator::vendors::SimulatorKind;

use crate::harness::{
    DEADLINE, Gateway, NO_RATES, Process, batch, raw, send, track, vendor, webhook_site,
};

/// Sends `start`, then a byte every 50 ms; returns the time until the server ends it.
fn patience(address: SocketAddr, start: &[u8]) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "measures the server's own clock")]
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.write_all(start).unwrap();
    let mut byte = [0];
    while started.elapsed() < DEADLINE {
        if stream.write_all(b"a").is_err() {
            return started.elapsed();
        }
        match stream.read(&mut byte) {
            Ok(0) => return started.elapsed(),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return started.elapsed();
            }
            // A response before the end (408), or nothing yet.
            Ok(_) | Err(_) => {}
        }
    }
    panic!("the server waits for ever");
}

const SHORT: &str =
    "[limits]\nheader_time = \"400ms\"\nbody_time = \"400ms\"\nidle_time = \"1s\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_request_is_ended_without_effect_on_others() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&format!("{SHORT}{}", webhook_site(webhook.address(), ""))).await;
    let head = b"POST /v1/batch HTTP/1.1\r\nhost: t.shop.example\r\nx-slow: ";
    let body =
        b"POST /v1/batch HTTP/1.1\r\nhost: t.shop.example\r\ncontent-length: 100000\r\n\r\n{";
    for start in [&head[..], &body[..]] {
        let http = gateway.http;
        let meanwhile = [track(&format!("t{}", start.len()), "Clicked")];
        let (trickle, ()) = tokio::join!(
            tokio::task::spawn_blocking(move || patience(http, start)),
            gateway.accept(&meanwhile),
        );
        let trickle = trickle.unwrap();
        assert!(trickle >= Duration::from_millis(400), "cut before its time: {trickle:?}");
    }
    assert_eq!(gateway.settled(2).await[0].delivered, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_content_length_is_rejected() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&format!("{SHORT}{}", webhook_site(webhook.address(), ""))).await;
    let body = batch(&[track("liar", "Clicked")]);
    let request = |length: usize| {
        format!(
            "POST /v1/batch HTTP/1.1\r\nhost: t.shop.example\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    };
    // Too long: the rest never arrives.
    let answer = raw(gateway.http, request(body.len() + 10).as_bytes()).unwrap();
    assert_eq!(answer.status, 408, "{answer:?}");
    // Too short: the body is not JSON.
    let answer = raw(gateway.http, request(body.len() - 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 400, "{answer:?}");
    // Absurd: rejected before it is read.
    let answer = raw(gateway.http, request(usize::MAX >> 1).as_bytes()).unwrap();
    assert_eq!(answer.status, 413, "{answer:?}");
    // Two lengths, or a length and chunks, are used for request smuggling.
    for second in ["content-length: 5", "transfer-encoding: chunked"] {
        let head = format!("content-length: {}\r\n{second}\r\n", body.len());
        let request = format!(
            "POST /v1/batch HTTP/1.1\r\nhost: t.shop.example\r\nconnection: close\r\n{head}\r\n{body}"
        );
        let status = raw(gateway.http, request.as_bytes()).map_or(0, |answer| answer.status);
        assert_ne!(status, 200, "{second}");
    }
    gateway.accept(&[track("honest", "Clicked")]).await;
    assert_eq!(gateway.settled(1).await[0].accepted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_beyond_its_limits_is_refused() {
    let webhook = vendor(SimulatorKind::Webhook).await;
    let gateway = Gateway::start(&webhook_site(webhook.address(), "")).await;
    let long = "x".repeat(64 << 10);
    let answer = send(gateway.http, ("POST", "/v1/batch"), &[("x-long", &long)], b"");
    let status = answer.map_or(0, |answer| answer.status);
    assert!(matches!(status, 0 | 431), "{status}");
    let many: Vec<(String, String)> =
        (0..300).map(|n| (format!("x-{n}"), "1".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (&**k, &**v)).collect();
    let answer = send(gateway.http, ("POST", "/v1/batch"), &many, b"");
    let status = answer.map_or(0, |answer| answer.status);
    assert!(matches!(status, 0 | 431), "{status}");
    gateway.accept(&[track("short", "Clicked")]).await;
    gateway.settled(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_requests_succeed_beside_ten_thousand_idle_connections() {
    const CROWD: usize = 10_000;
    let webhook = vendor(SimulatorKind::Webhook).await;
    let folder = tempfile::tempdir().unwrap();
    // A separate process: both ends in one would need twice the descriptors.
    let settings = format!("{NO_RATES}{}", webhook_site(webhook.address(), ""));
    let gateway =
        Process::start(&folder.path().join("data"), &folder.path().join("tagway.toml"), &settings);
    let mut crowd = Vec::with_capacity(CROWD);
    for n in 0..CROWD {
        match TcpStream::connect(gateway.http) {
            Ok(stream) => crowd.push(stream),
            Err(error) => panic!("connection {n}: {error} (is the descriptor limit below 11000?)"),
        }
    }
    let body = batch(&[track("through", "Clicked")]);
    let answer = send(gateway.http, ("POST", "/v1/batch"), &[], body.as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    webhook.wait_for(DEADLINE, |tally| tally.accepted == 1).await.expect("delivered");
    assert!(gateway.terminate().success());
}
