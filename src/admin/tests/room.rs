//! Health while the listener has no slot for anything else.

use super::*;

/// Opens a watcher, which is never idle.
async fn watch(running: &TestAdminServer) -> TcpStream {
    let mut watcher = TcpStream::connect(running.address).await.unwrap();
    let request = format!(
        "GET /api/v1/tail HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    watcher.write_all(request.as_bytes()).await.unwrap();
    assert!(watcher.read(&mut [0; 1024]).await.unwrap() > 0);
    watcher
}

#[tokio::test]
async fn health_is_answered_while_all_connections_are_watchers() {
    let running = TestAdminServer::start().await;
    let mut watchers = Vec::new();
    for _ in 0..8 {
        watchers.push(watch(&running).await);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, body) = running.ask(&format!("GET {path}"), "", "").await;
        assert!(status == 200 || body.contains("reasons"), "{path}: {status} {body}");
    }
    let (status, body) = running.ask("GET /api/v1/sites", "", "").await;
    assert!(status == 503 && body.contains("admin.connections"), "{status} {body}");
    // Idle connections in the reserve do not block health either.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    assert_eq!(running.ask("GET /livez", "", "").await.0, 200);
    drop(watchers.pop());
    // Everything is answered again after one watcher has left.
    while running.ask("GET /api/v1/sites", "", "").await.0 != 200 {}
}

#[tokio::test]
async fn health_is_answered_behind_a_burst_of_idle_connections() {
    let running = TestAdminServer::start().await;
    // All at once: the listener accepts them before any of their tasks runs.
    let connect = || std::net::TcpStream::connect(running.address).unwrap();
    let _idle: Vec<_> = (0..100).map(|_| connect()).collect();
    let started = tokio::time::Instant::now();
    assert_eq!(running.ask("GET /livez", "", "").await.0, 200);
    assert!(started.elapsed() < Duration::from_secs(4), "it waited for header_time");
}
