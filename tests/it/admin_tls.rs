//! The admin listener over TLS, and the command line that calls it from elsewhere.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Client, ClientBuilder, Response, Version};
use tempfile::TempDir;

use crate::harness::{
    Process, SITE, TAGWAY, batch, eventually, raw, send, track, webhook_site, whole,
};

/// A private authority, and the certificate of a listener that it signed.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a new certificate for these names.
    fn issue(&self, names: &[&str]) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer);
        std::fs::write(self.file("ops.pem"), certificate.unwrap().pem()).unwrap();
        std::fs::write(self.file("ops.key"), key.serialize_pem()).unwrap();
    }

    /// The lines of `[admin]` with the certificate.
    fn settings(&self) -> String {
        let (cert, key) = (self.file("ops.pem"), self.file("ops.key"));
        format!("certificate = {cert:?}\nkey = {key:?}\n")
    }

    /// A client of `ops.example` that trusts the authority.
    fn client(&self, admin: SocketAddr) -> ClientBuilder {
        let authority = std::fs::read(self.file("ca.pem")).unwrap();
        Client::builder()
            .no_proxy()
            .tls_certs_only([Certificate::from_pem(&authority).unwrap()])
            .resolve("ops.example", admin)
            .resolve("evil.example", admin)
    }
}

/// A gateway, with its configuration and token.
struct Operated {
    process: Process,
    folder: TempDir,
}

impl Operated {
    fn start(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
        Self { process: Process::start(&data, &file, settings), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tagway.toml")
    }

    fn token(&self) -> String {
        let token = std::fs::read_to_string(self.folder.path().join("data/admin.token"));
        token.unwrap().trim().to_owned()
    }

    fn url(&self, path: &str) -> String {
        format!("https://ops.example:{}{path}", self.process.admin.port())
    }

    async fn get(&self, client: &Client, path: &str) -> reqwest::Result<Response> {
        client.get(self.url(path)).bearer_auth(self.token()).send().await
    }

    /// Runs `destinations ls` from elsewhere; returns its success and what it printed.
    fn list(&self, admin: &str, more: &[&str]) -> (bool, String) {
        cli(&[&["--admin", admin, "--token", &self.token()], more].concat())
    }
}

/// Runs `destinations ls` without a configuration.
fn cli(options: &[&str]) -> (bool, String) {
    let nowhere = tempfile::tempdir().unwrap();
    let output = Command::new(TAGWAY)
        .args(["destinations", "ls"])
        .args(options)
        .current_dir(nowhere.path())
        .env_remove("TAGWAY_ADMIN_TOKEN")
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_listener_multiplexes_streams_and_keeps_its_reserve_over_tls() {
    let authority = Authority::new();
    authority.issue(&["ops.example"]);
    let (cert, key) = (authority.file("ops.pem"), authority.file("ops.key"));
    let running = Operated::start(&format!(
        "{SITE}[admin]\ntls = true\nconnections = 1\nnames = [\"ops.example\"]\n\
         [[tls.certificates]]\ncert = {cert:?}\nkey = {key:?}\n"
    ));
    let admin = running.process.admin;
    let browser = authority.client(admin).build().unwrap();
    let health = running.get(&browser, "/livez").await.unwrap();
    assert_eq!((health.version(), health.status().as_u16()), (Version::HTTP_2, 200));
    // Eight tabs over the one connection that the listener has.
    let mut tabs = Vec::new();
    for _ in 0..8 {
        let tab = running.get(&browser, "/api/v1/tail").await.unwrap();
        assert_eq!(tab.status(), 200);
        tabs.push(tab);
    }
    let sites = running.get(&browser, "/api/v1/sites").await.unwrap();
    assert_eq!((sites.version(), sites.status().as_u16()), (Version::HTTP_2, 200));
    // The end of one request does not make the connection idle: it is not closed for another.
    drop(tabs.pop());
    // Others get the reserve, one request a connection and health only.
    for (path, status) in [("/livez", 200), ("/metrics", 200), ("/api/v1/sites", 503)] {
        let probe = authority.client(admin).build().unwrap();
        let answer = running.get(&probe, path).await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (Version::HTTP_11, status));
    }
    let tab = tabs.first_mut().unwrap();
    assert!(tab.chunk().await.unwrap().is_some(), "the streams go on");
    drop(browser);
    // The listener stops with open streams: they end, and are not cut.
    running.process.signal("TERM");
    let tab = tabs.first_mut().unwrap();
    while tab.chunk().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_listener_over_tls_checks_versions_names_and_origins() {
    let authority = Authority::new();
    authority.issue(&["ops.example", "evil.example"]);
    let settings = format!("{SITE}[admin]\nnames = [\"ops.example\"]\n{}", authority.settings());
    let running = Operated::start(&settings);
    let admin = running.process.admin;
    let old = authority.client(admin).http1_only().build().unwrap();
    let new = authority.client(admin).build().unwrap();
    for (client, version) in [(&old, Version::HTTP_11), (&new, Version::HTTP_2)] {
        let own = running.get(client, "/api/v1/ledger").await.unwrap();
        assert_eq!((own.version(), own.status().as_u16()), (version, 200));
        let foreign = format!("https://evil.example:{}/livez", admin.port());
        assert_eq!(client.get(foreign).send().await.unwrap().status(), 421, "{version:?}");
        for (scheme, status) in [("https", 200), ("http", 403)] {
            let origin = format!("{scheme}://ops.example:{}", admin.port());
            let asked = client.get(running.url("/livez")).header("origin", origin);
            assert_eq!(asked.send().await.unwrap().status(), status, "{version:?} {scheme}");
        }
    }
    // A host beside that of the target is the sign of a confused proxy.
    let asked = new.get(running.url("/livez")).header("host", "127.0.0.1");
    assert_eq!(asked.send().await.unwrap().status(), 400);
    let stranger = Authority::new().client(admin).build().unwrap();
    assert!(running.get(&stranger, "/livez").await.unwrap_err().is_connect());
    let plain = raw(admin, b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(plain.is_err() || plain.is_ok_and(|answer| answer.status == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_certificate_is_reloaded_and_a_broken_one_is_not() {
    let authority = Authority::new();
    authority.issue(&["ops.example"]);
    let settings = format!("{SITE}[admin]\n{}", authority.settings());
    let running = Operated::start(&settings);
    let admin = format!("https://127.0.0.1:{}", running.process.admin.port());
    // A copy of the certificate is trusted as it is, and no other.
    let copy = authority.file("copy.pem");
    let list = || running.list(&admin, &["--admin-ca", copy.to_str().unwrap()]);
    std::fs::copy(authority.file("ops.pem"), &copy).unwrap();
    assert!(list().0, "{:?}", list());
    let key = std::fs::read(authority.file("ops.key")).unwrap();
    authority.issue(&["ops.example"]);
    let new_key = std::fs::read(authority.file("ops.key")).unwrap();
    std::fs::write(authority.file("ops.key"), key).unwrap();
    let check = Command::new(TAGWAY).args(["check", "--config"]).arg(running.file()).output();
    let printed = String::from_utf8(check.unwrap().stderr).unwrap();
    assert!(printed.contains("admin.key: the key does not belong to the certificate"), "{printed}");
    assert!(list().0, "the old one stays");
    std::fs::write(authority.file("ops.key"), new_key).unwrap();
    std::fs::copy(authority.file("ops.pem"), &copy).unwrap();
    eventually(|| match list() {
        (true, _) => Ok(()),
        (false, printed) => Err(printed),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_line_calls_the_listener_over_tls_and_names_what_fails() {
    let authority = Authority::new();
    authority.issue(&["ops.example", "localhost"]);
    let settings = format!("{SITE}[admin]\n{}", authority.settings());
    let running = Operated::start(&settings);
    let port = running.process.admin.port();
    let (secure, ca) = (format!("https://localhost:{port}"), authority.file("ca.pem"));
    let trusted = ["--admin-ca", ca.to_str().unwrap()];
    let list = |admin: &str, more: &[&str]| running.list(admin, more);
    assert!(list(&secure, &trusted).0, "{:?}", list(&secure, &trusted));
    // On the gateway's machine the configuration has the certificate and the token.
    let local = format!("127.0.0.1:{port}");
    let file = running.file();
    let own = cli(&["--config", file.to_str().unwrap(), "--admin", &local]);
    assert!(own.0, "{own:?}");
    let foreign = Authority::new();
    let wrong_ca = foreign.file("ca.pem");
    let plain = running.process.http.port();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failures = [
        (secure.clone(), vec![], "is not trusted"),
        (secure.clone(), vec!["--admin-ca", wrong_ca.to_str().unwrap()], "is not trusted"),
        (
            format!("https://127.0.0.1:{port}"),
            trusted.to_vec(),
            "its certificate is for other names",
        ),
        (format!("http://localhost:{port}"), vec![], "set --admin https://localhost"),
        (format!("https://127.0.0.1:{plain}"), trusted.to_vec(), "speaks no TLS"),
        (free.to_string(), vec![], "connection refused"),
        (format!("https://{free}"), trusted.to_vec(), "connection refused"),
        ("ftp://localhost".to_owned(), vec![], "--admin must be"),
        (format!("http://127.0.0.1:{plain}"), vec![], "refused (404)"),
    ];
    for (admin, more, text) in failures {
        let (is_done, printed) = list(&admin, &more);
        assert!(!is_done && printed.contains(text), "{admin} {more:?}: {printed}");
        assert!(!printed.contains(&running.token()), "{printed}");
    }
    let wrong = "0123456789abcdef0123456789abcdef";
    let refused = cli(&[&["--admin", &secure, "--token", wrong], &trusted[..]].concat());
    assert!(!refused.0 && refused.1.contains("refused the token (401)"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_shows_events_over_tls() {
    let authority = Authority::new();
    authority.issue(&["localhost"]);
    let running = Operated::start(&format!("{SITE}[admin]\n{}", authority.settings()));
    let admin = format!("https://localhost:{}", running.process.admin.port());
    let mut tail = Command::new(TAGWAY)
        .args(["tail", "--json", "--admin", &admin, "--token", &running.token(), "--admin-ca"])
        .arg(authority.file("ca.pem"))
        .current_dir(running.folder.path().join("data"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tail.stdout.take().unwrap());
    let seen = std::thread::spawn(move || {
        lines.lines().map_while(Result::ok).find(|line| line.contains("Order Completed"))
    });
    // The command watches from some moment on: one of the events comes after it.
    let mut number = 0;
    while !seen.is_finished() {
        number += 1;
        assert!(number < 10_000, "the command shows nothing");
        let body = batch(&[track(&format!("m{number}"), "Order Completed")]);
        let answer = send(running.process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(seen.join().unwrap().is_some());
    tail.kill().unwrap();
    tail.wait().unwrap();
}

/// A proxy that serves the listener below `/tagway/`, and redirects everything else there.
fn proxy(admin: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let Some(rest) = head.strip_prefix("GET /tagway/") else {
                let moved = "HTTP/1.1 308 Moved\r\nlocation: /tagway/\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(moved.as_bytes()).unwrap();
                continue;
            };
            let mut listener = TcpStream::connect(admin).unwrap();
            let request =
                format!("GET /{}", rest.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
            listener.write_all(request.as_bytes()).unwrap();
            std::io::copy(&mut listener, &mut stream).unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn command_line_calls_a_listener_below_a_path_and_warns_of_plain_http() {
    let running = Operated::start(&webhook_site("127.0.0.1:9".parse().unwrap(), ""));
    let proxy = proxy(running.process.admin);
    for path in ["/tagway/", "/tagway"] {
        let (is_done, printed) = running.list(&format!("http://{proxy}{path}"), &[]);
        assert!(is_done && printed.contains("webhook"), "{printed}");
        assert!(!printed.contains("warning"), "{printed}");
    }
    let (is_done, printed) = running.list(&format!("http://{proxy}"), &[]);
    assert!(!is_done && printed.contains("redirects to /tagway/ (308)"), "{printed}");
    // Linux connects the unspecified address to this machine, but it is not a loopback address.
    let port = running.process.admin.port();
    let (is_done, printed) = running.list(&format!("http://0.0.0.0:{port}"), &[]);
    assert!(is_done && printed.contains("travels unencrypted to 0.0.0.0"), "{printed}");
    let (is_done, printed) = running.list(&format!("0.0.0.0:{port}"), &[]);
    assert!(!is_done && printed.contains("speaks no TLS"), "{printed}");
}

#[test]
fn admin_tls_without_a_certificate_is_a_mistake() {
    let check = |admin: &str| {
        let folder = tempfile::tempdir().unwrap();
        let file: &Path = &folder.path().join("tagway.toml");
        std::fs::write(file, whole(folder.path(), &format!("{SITE}[admin]\n{admin}\n"))).unwrap();
        let output = Command::new(TAGWAY).args(["check", "--config"]).arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(check("tls = true").contains("admin.tls: needs [[tls.certificates]]"));
    assert!(check("certificate = \"a.pem\"").contains("admin.certificate: needs key"));
    assert!(check("key = \"a.key\"").contains("admin.key: needs certificate"));
}
