//! Gateways to test: [`Gateway`] in this process, [`Process`] as the real program. Both take the
//! settings that differ from the embedded default, listen on free ports, and assert the ledger when
//! they end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tagway::app::TagwayApp;
use tagway::config::{self, ConfigSource};
use tagway_core::clock::SystemClock;
use tagway_settings::{ConfigEnvironment, ConfigFile};
use tagway_simulator::vendors::{SimulatorKind, VendorSimulator};
use tempfile::TempDir;
use tokio::time::Instant;

/// The longest wait in a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A simulated vendor on a free port.
pub(crate) async fn vendor(kind: SimulatorKind) -> VendorSimulator {
    VendorSimulator::start(kind, ([127, 0, 0, 1], 0).into(), Arc::new(SystemClock)).await.unwrap()
}

/// The settings of a site named `shop` that sends to `webhook`, with `more` for the destination.
pub(crate) fn webhook_site(webhook: SocketAddr, more: &str) -> String {
    let secret = tagway_simulator::vendors::WEBHOOK_SECRET;
    format!(
        r#"
{SITE}
[[sites.destinations]]
name = "webhook"
vendor = "webhook"
{more}
[sites.destinations.retry]
min_wait = "5ms"
max_wait = "50ms"
[sites.destinations.breaker]
min_open = "10ms"
max_open = "100ms"
[sites.destinations.settings]
url = "http://{webhook}/hook"
secret = "{secret}"
"#
    )
}

/// A site named `shop`.
pub(crate) const SITE: &str = r#"
[[sites]]
name = "shop"
hosts = ["*"]
origins = ["https://shop.example"]
write_key = "shop-web"
"#;

/// The common settings of every test's gateway. Tests send fast and from one address.
fn base(data_dir: &Path) -> String {
    let data_dir = json!(data_dir);
    format!(
        r#"
data_dir = {data_dir}
[listen]
http = "127.0.0.1:0"
admin = "127.0.0.1:0"
[egress]
allow_private = true
"#
    )
}

/// Lifts the limits that a test's single fast client would meet.
pub(crate) const NO_RATES: &str = "[limits]\nclient_per_second = 0\nclient_events_per_second = 0\n\
    client_bytes_per_second = \"0B\"\nconnections_per_client = 20000\n";

/// A track event of the Segment API.
pub(crate) fn track(message_id: &str, event: &str) -> Value {
    json!({
        "type": "track", "event": event, "messageId": message_id, "userId": "u1",
        "properties": { "order_id": message_id, "revenue": 10, "currency": "EUR",
            "products": [{ "product_id": "p1", "price": 10 }] },
    })
}

/// A batch of the Segment API.
pub(crate) fn batch(events: &[Value]) -> String {
    json!({ "writeKey": "shop-web", "batch": events }).to_string()
}

/// A response to a test's request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }
}

/// Sends one request unchanged on a separate connection. An error is a connection that was cut.
pub(crate) fn raw(address: SocketAddr, request: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    // A server that rejects early may close before it has read everything.
    let written = stream.write_all(request);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    if bytes.is_empty() {
        written?;
        read?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Sends a request with a body on a separate connection.
pub(crate) fn send(
    address: SocketAddr,
    (method, path): (&str, &str),
    fields: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: t.shop.example\r\n");
    for (name, value) in fields {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "content-length: {}\r\nconnection: close\r\n\r\n", body.len()).unwrap();
    raw(address, &[request.as_bytes(), body].concat())
}

/// Sends a GET to the operators' listener.
pub(crate) fn admin_get(admin: SocketAddr, path: &str) -> std::io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    raw(admin, request.as_bytes())
}

/// Sends a GET with the operators' token.
pub(crate) fn admin_read(admin: SocketAddr, token: &str, path: &str) -> Answer {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         connection: close\r\n\r\n"
    );
    raw(admin, request.as_bytes()).unwrap()
}

/// Sends a POST to the operators' listener.
pub(crate) fn admin_post(
    admin: SocketAddr,
    path: &str,
    fields: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (name, value) in fields {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    let body = body.to_string();
    write!(request, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    raw(admin, request.as_bytes()).unwrap()
}

/// One destination's account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) destination: String,
    pub(crate) state: String,
    pub(crate) accepted: u64,
    pub(crate) delivered: u64,
    pub(crate) skipped: u64,
    pub(crate) dead: u64,
    pub(crate) pending: u64,
    pub(crate) held: u64,
}

/// The accounts of all destinations; each must add up.
pub(crate) fn ledger(admin: SocketAddr) -> Vec<Row> {
    let answer = admin_get(admin, "/api/v1/ledger").expect("the operators' listener answers");
    let answer = answer.json();
    let rows = answer.as_array().unwrap().iter().map(|row| {
        let number = |key: &str| row[key].as_u64().unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        Row {
            destination: text("destination"),
            state: text("state"),
            accepted: number("accepted"),
            delivered: number("delivered"),
            skipped: number("skipped"),
            dead: number("dead"),
            pending: number("pending"),
            held: number("held"),
        }
    });
    let rows: Vec<Row> = rows.collect();
    for row in &rows {
        let sum = row.delivered + row.skipped + row.dead + row.pending + row.held;
        assert_eq!(row.accepted, sum, "the ledger does not add up: {row:?}");
    }
    rows
}

/// Waits until `look` returns a value. The last look is the error after [`DEADLINE`].
pub(crate) async fn eventually<T: std::fmt::Debug>(
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {last}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every destination has settled `accepted` events.
pub(crate) async fn settled(admin: SocketAddr, accepted: u64) -> Vec<Row> {
    let rows = eventually(|| {
        let rows = ledger(admin);
        let is_done = |row: &Row| row.accepted >= accepted && row.pending + row.held == 0;
        if rows.iter().all(is_done) { Ok(rows) } else { Err(format!("{rows:?}")) }
    });
    rows.await
}

/// A gateway in this process.
pub(crate) struct Gateway {
    app: Arc<TagwayApp>,
    pub(crate) http: SocketAddr,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    folder: Arc<TempDir>,
}

impl Gateway {
    pub(crate) async fn start(settings: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), settings).await
    }

    /// Stops it and starts another with the same data.
    pub(crate) async fn restart(self, settings: &str) -> Self {
        let folder = self.folder.clone();
        drop(self);
        Self::start_in(folder, settings).await
    }

    async fn start_in(folder: Arc<TempDir>, settings: &str) -> Self {
        // Tables may be in any order, but only once: the test's file is layered over the base.
        let sources = [
            ConfigFile { name: "the test's settings".to_owned(), text: settings.to_owned() },
            ConfigFile { name: "the harness's settings".to_owned(), text: base(folder.path()) },
        ];
        let settings = config::load(&sources, &ConfigEnvironment::default())
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let app = TagwayApp::start(ConfigSource::default(), settings).await.unwrap();
        let addresses = app.addresses();
        let (http, https, admin) = (addresses.http.unwrap(), addresses.https, addresses.admin);
        Self { app, http, https, admin, folder }
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    /// The operators' token.
    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.data().join("admin.token")).unwrap().trim().to_owned()
    }

    /// The answer to an operator's GET.
    pub(crate) fn read(&self, path: &str) -> Value {
        admin_read(self.admin, &self.token(), path).json()
    }

    /// The answer to an operator's POST.
    pub(crate) fn act(&self, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {}", self.token());
        admin_post(self.admin, path, &[("authorization", &bearer)], body)
    }

    /// The vendors' scripts in the operators' list.
    pub(crate) fn scripts(&self) -> Value {
        self.read("/api/v1/scripts")
    }

    /// Posts to the site, from a blocking thread.
    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let answer = tokio::task::block_in_place(|| send(self.http, ("POST", path), fields, body));
        answer.unwrap()
    }

    /// Posts a batch that must be accepted completely.
    pub(crate) async fn accept(&self, events: &[Value]) {
        let answer = self.post("/v1/batch", &[], batch(events).as_bytes()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(crate) async fn settled(&self, accepted: u64) -> Vec<Row> {
        settled(self.admin, accepted).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // After a failure the accounts are not checked.
        if !std::thread::panicking() {
            tokio::task::block_in_place(|| {
                ledger(self.admin);
                tokio::runtime::Handle::current().block_on(self.app.stop());
            });
        }
    }
}

/// The real program.
pub(crate) struct Process {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Process {
    /// Starts `serve` over `data_dir`, with its configuration in `file`.
    pub(crate) fn start(data_dir: &Path, file: &Path, settings: &str) -> Self {
        std::fs::write(file, whole(data_dir, settings)).unwrap();
        Self::run(Command::new(TAGWAY).arg("serve").arg("--config").arg(file))
    }

    /// Starts the program with this command, and waits until it is ready.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the first line is not its addresses: {line:?}"));
        let address = |name: &str| ready["ready"][name].as_str().unwrap().parse().unwrap();
        Self { http: address("http"), admin: address("admin"), child }
    }

    /// Kills it, like a power cut.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        if !std::thread::panicking() {
            ledger(self.admin);
        }
        self.signal("TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone, unless a test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The program under test.
pub(crate) const TAGWAY: &str = env!("CARGO_BIN_EXE_tagway");

/// A configuration file: the base with the test's settings after it. The test's tables must not be in
/// the base.
pub(crate) fn whole(data_dir: &Path, settings: &str) -> String {
    format!("{}{settings}", base(data_dir))
}
