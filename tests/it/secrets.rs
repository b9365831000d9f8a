//! No output shows a secret: every vendor is driven, with a distinctive value in each of its secret
//! settings, against a server that echoes its requests. All output of the program is then searched for
//! every value in every encoding. Vendors and their secret settings are found by the list of vendors and
//! the settings' own declarations.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tagway::config;
use tagway_settings::{ConfigEnvironment, ConfigFile, HIDDEN};
use tagway_vendors::VENDORS;

use crate::harness::{
    NO_RATES, Process, SITE, TAGWAY, admin_get, admin_post, batch, eventually, send, whole,
};
use crate::overview::settings_outputs;

/// The access token of Google's token service in this test.
const ACCESS_TOKEN: &str = "ya29.given-out/at+run-time";

/// Answers every request with the set status, and with the complete request in the body and in a
/// field.
#[derive(Clone)]
struct Echo {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    /// All received requests.
    received: Arc<Mutex<String>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = Self { address, status: Arc::new(400.into()), received: Arc::default() };
        let shared = echo.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        echo
    }

    fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().ok()?;
                }
                if line == "\r\n" {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            let mut inflated = String::new();
            let body = match flate2::read::GzDecoder::new(&*body).read_to_string(&mut inflated) {
                Ok(_) => inflated,
                Err(_) => String::from_utf8_lossy(&body).into_owned(),
            };
            self.received.lock().push_str(&format!("{head}{body}\n"));
            let is_token = head.starts_with("POST /token");
            let all = format!("bad credentials: {head}{body}");
            let reply = if is_token {
                json!({ "access_token": ACCESS_TOKEN, "expires_in": 3599 })
            } else {
                json!({ "error": all, "message": all, "errors": [{ "message": all, "detail": all }],
                    "base64": STANDARD.encode(&all) })
            };
            let status = if is_token { 200 } else { self.status.load(Ordering::Relaxed) };
            let authorization = head.lines().find(|line| line.starts_with("authorization:"));
            let authorization = authorization.unwrap_or_default();
            let reply = reply.to_string();
            let field = authorization.split_once(": ").map_or("-", |(_, value)| value);
            let length = reply.len();
            write!(
                stream,
                "HTTP/1.1 {status} Echo\r\ncontent-type: application/json\r\nx-echo: {field}\r\n\
                 content-length: {length}\r\n\r\n{reply}"
            )
            .ok()?;
        }
    }
}

/// A unique value for a secret setting, from forms that the setting may accept.
fn candidates(vendor: &str, setting: &str) -> [String; 3] {
    let plain = format!("hush0{vendor}0{setting}0hush").replace(['_', '.'], "0");
    let key = STANDARD.encode(format!("{plain:0<40}").get(..40).unwrap());
    [format!("hush/{vendor}+{setting}%\"&=?;hush"), plain, format!("whsec_{key}")]
}

struct Destination {
    vendor: &'static str,
    settings: toml::Table,
    secrets: Vec<String>,
    has_audience: bool,
}

impl Destination {
    fn text(&self, echo: SocketAddr, name: &str) -> String {
        let mut whole = toml::Table::new();
        whole.insert("settings".to_owned(), self.settings.clone().into());
        let settings = toml::to_string(&json!({ "d": whole })).unwrap();
        let settings = settings.replace("[d.", "[sites.destinations.");
        format!(
            "[[sites.destinations]]\nname = \"{name}\"\nvendor = \"{}\"\n\
             endpoint = \"http://{echo}\"\ntimeout = \"2s\"\nauth_retry_interval = \"20ms\"\n\
             [sites.destinations.retry]\nmin_wait = \"5ms\"\nmax_wait = \"50ms\"\n\
             [sites.destinations.breaker]\nmin_open = \"10ms\"\nmax_open = \"100ms\"\n{settings}\n",
            self.vendor
        )
    }
}

/// The mistakes of these settings, and the paths declared as secret.
fn load(text: &str) -> (Result<config::TagwaySettings, Vec<String>>, Vec<String>) {
    let environment = ConfigEnvironment::default();
    let source = ConfigFile { name: "test".to_owned(), text: text.to_owned() };
    let settings = config::load(&[source], &environment);
    let settings = settings.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect());
    (settings, environment.redaction.settings())
}

fn put(table: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        None => drop(table.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = table.entry(first).or_insert_with(|| toml::Table::new().into());
            put(inner.as_table_mut().unwrap(), rest, value);
        }
    }
}

/// The vendor's settings from its fixtures, with a unique value in each secret. `None` for a vendor
/// that is not a destination, or has no secrets.
fn destination(vendor: &'static str, echo: SocketAddr) -> Option<Destination> {
    const AT: &str = "sites[0].destinations[0].settings.";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vendors").join(vendor);
    let audience = fs::read_dir(folder.join("audience")).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = audience.map(|case| case.path().join("settings.toml")).collect();
    files.sort();
    files.push(folder.join("settings.toml"));
    let mut best: Option<Destination> = None;
    for file in files.iter().filter(|file| file.exists()) {
        let settings: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        let mut it = Destination { vendor, settings, secrets: Vec::new(), has_audience: false };
        let text = |it: &Destination| format!("{SITE}{}", it.text(echo, vendor));
        let mut done = Vec::new();
        loop {
            let (_, declared) = load(&text(&it));
            let own = declared.iter().filter_map(|path| path.strip_prefix(AT));
            let Some(setting) = own
                .map(|path| path.split('[').next().unwrap().to_owned())
                .find(|path| !done.contains(path))
            else {
                break;
            };
            let accepted = candidates(vendor, &setting).into_iter().find_map(|value| {
                [json!(value), json!([value])].into_iter().find_map(|written| {
                    let mut tried = it.settings.clone();
                    put(&mut tried, &setting, toml::Value::try_from(written).unwrap());
                    let probe = Destination { settings: tried.clone(), secrets: vec![], ..it };
                    let complaint = format!("{AT}{setting}");
                    let (loaded, _) = load(&text(&probe));
                    let fits = loaded
                        .as_ref()
                        .err()
                        .is_none_or(|all| !all.iter().any(|one| one.contains(&complaint)));
                    fits.then_some((tried, value.clone()))
                })
            });
            let (settings, value) = accepted.unwrap_or_else(|| panic!("{vendor}: {setting}"));
            it.settings = settings;
            it.secrets.push(value);
            done.push(setting);
        }
        // Other settings that the secrets need.
        for _ in 0..5 {
            let missing = load(&text(&it)).0.err().into_iter().flatten();
            for missing in missing.filter(|mistake| mistake.contains("is required")) {
                let key = missing.split_once(AT).and_then(|(_, rest)| rest.split(':').next());
                put(&mut it.settings, key.unwrap(), "1234567890".into());
            }
        }
        let Ok(loaded) = load(&text(&it)).0 else { continue };
        it.has_audience = loaded.sites[0].destinations[0].destination.audience().is_some();
        if best.as_ref().is_none_or(|best| {
            (it.has_audience, it.secrets.len()) > (best.has_audience, best.secrets.len())
        }) {
            best = Some(it);
        }
    }
    best.filter(|it| !it.secrets.is_empty())
}

/// Every encoding of a text; base64 without the characters that depend on its surroundings.
fn encodings(secret: &str) -> Vec<String> {
    let json = json!(secret).to_string();
    let json = json.get(1..json.len() - 1).unwrap().to_owned();
    let percent = |is_lower: bool, keep: &str| {
        secret.bytes().fold(String::new(), |mut text, byte| {
            match (byte.is_ascii_alphanumeric() || keep.as_bytes().contains(&byte), is_lower) {
                (true, _) => text.push(byte.into()),
                (false, true) => write!(text, "%{byte:02x}").unwrap(),
                (false, false) => write!(text, "%{byte:02X}").unwrap(),
            }
            text
        })
    };
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let html = secret.replace('&', "&amp;").replace('"', "&quot;");
    let mut all = vec![secret.to_owned(), json, hex.to_uppercase(), hex, html];
    for keep in ["", "*-._", "*-._~!'()", "/?;", "-_.!~*'();/?:@&=+$,#"] {
        all.extend([percent(false, keep), percent(true, keep)]);
    }
    for before in 0..3 {
        let text = format!("{}{secret}", " ".repeat(before));
        for alphabet in [&STANDARD, &URL_SAFE] {
            let whole = alphabet.encode(&text);
            let decided = before + usize::from(before > 0)..text.len() * 8 / 6;
            let inner = whole.get(decided).unwrap().to_owned();
            all.extend([inner.replace('+', "%2B").replace('/', "%2F"), inner]);
        }
    }
    all
}

fn assert_hidden(what: &str, output: &str, secrets: &[String]) {
    for secret in secrets {
        for written in encodings(secret) {
            if let Some(at) = output.find(&written) {
                let around = output.get(at.saturating_sub(300)..output.len().min(at + 200));
                panic!("{what} shows {secret:?} as {written:?}: {around:?}");
            }
        }
    }
}

/// Ends its program when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run(file: &Path, admin: SocketAddr, words: &[&str]) -> String {
    let mut command = Command::new(TAGWAY);
    command.args(words).arg("--config").arg(file);
    if !words.contains(&"--dry-run") && words != ["check"] {
        command.args(["--admin", &admin.to_string()]);
    }
    let output = command.output().unwrap();
    [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
}

fn visit(n: u32) -> Vec<Value> {
    let context = json!({ "clientIds": { "ga4": "12.34", "fbp": "fb.1.2.3" },
        "page": { "url": "https://shop.example/", "title": "Shop" } });
    vec![
        json!({ "type": "identify", "userId": "u1", "messageId": format!("i{n}"),
            "context": context, "traits": { "email": "jo@shop.example", "phone": "+41441234567" } }),
        json!({ "type": "track", "event": "Product Added", "userId": "u1",
            "messageId": format!("a{n}"), "context": context,
            "properties": { "product_id": "p1", "price": 5, "currency": "EUR" } }),
        json!({ "type": "track", "event": "Order Completed", "userId": "u1",
            "messageId": format!("o{n}"), "context": context,
            "properties": { "order_id": format!("o{n}"), "total": 10, "currency": "EUR" } }),
    ]
}

const SERVER_TOKEN: &str = "hush-server+token/of\"the\"site";

/// A site that sends to all of them, and puts the members of a segment on their lists; and all of its
/// secrets.
fn site(destinations: &[Destination], echo: SocketAddr) -> (String, Vec<String>) {
    let server_token = SERVER_TOKEN.to_owned();
    let site_secret = "hush-site-secret-of-40-characters+/\"-end".to_owned();
    let mut secrets = vec![server_token.clone(), site_secret.clone(), ACCESS_TOKEN.to_owned()];
    let mut text = format!(
        "[log]\nlevel = \"trace\"\nformat = \"json\"\n{NO_RATES}[segments]\njitter = \"0s\"\n{SITE}\
         bots = \"pass\"\nserver_token = {}\nsecret = {}\n",
        json!(server_token),
        json!(site_secret)
    );
    for it in destinations {
        secrets.extend(it.secrets.iter().cloned());
        text += &it.text(echo, it.vendor);
    }
    text += "[[sites.segments]]\nname = \"buyers\"\nevery = \"24h\"\n\
             where = { event = \"Product Added\", count = \">= 1\", within = \"7d\" }\n";
    let audiences: Vec<_> = destinations.iter().filter(|it| it.has_audience).collect();
    assert!(audiences.len() >= 6, "{}", audiences.len());
    for it in &audiences {
        let sync = format!("[[sites.segments.sync]]\ndestination = \"{}\"\n", it.vendor);
        // Existing lists: vendors whose lists are made elsewhere are not called otherwise.
        text += &format!("{sync}audience = \"Buyers\"\nlist = \"555\"\n");
    }
    (text, secrets)
}

/// The output of the commands and of the operators' listener.
fn outputs(file: &Path, admin: SocketAddr, destinations: &[Destination]) -> Vec<(String, String)> {
    let mut outputs = vec![
        ("dead letters".to_owned(), run(file, admin, &["dead", "ls", "--json"])),
        ("check".to_owned(), run(file, admin, &["check"])),
        ("segments".to_owned(), run(file, admin, &["segments", "ls"])),
        ("metrics".to_owned(), admin_get(admin, "/metrics").unwrap().body),
        ("the ledger".to_owned(), admin_get(admin, "/api/v1/ledger").unwrap().body),
    ];
    let letters: Value = serde_json::from_str(&outputs[0].1).unwrap();
    for letter in letters.as_array().unwrap() {
        let id = letter["id"].to_string();
        outputs.push(("a dead letter".to_owned(), run(file, admin, &["dead", "show", &id])));
    }
    for it in destinations {
        let words = ["send", "--dry-run", "--user", "u1", "--destination", it.vendor];
        outputs.push((format!("the dry run of {}", it.vendor), run(file, admin, &words)));
    }
    outputs
}

/// Starts watchers of the live feed, with the files of their output.
fn watch(folder: &Path, file: &Path, admin: SocketAddr) -> Vec<(PathBuf, Running)> {
    let mut tails = Vec::new();
    for words in [&["tail"][..], &["tail", "--json"]] {
        let seen = folder.join(format!("tail{}", tails.len()));
        let mut command = Command::new(TAGWAY);
        command.args(words).arg("--config").arg(file);
        command.args(["--admin", &admin.to_string()]);
        command.stdout(Stdio::from(File::create(&seen).unwrap())).stdin(Stdio::null());
        tails.push((seen, Running(command.spawn().unwrap())));
    }
    tails
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_output_shows_a_secret_of_any_vendor_in_any_encoding() {
    let echo = Echo::start();
    let found = VENDORS.iter().filter_map(|vendor| destination(vendor.name, echo.address));
    let destinations: Vec<Destination> = found.collect();
    let with_destination = VENDORS.iter().filter(|vendor| vendor.destination.is_some()).count();
    // The console and forwarding destinations have no secrets.
    assert_eq!(destinations.len(), with_destination - 2);
    let (text, mut secrets) = site(&destinations, echo.address);
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("tagway.toml"));
    fs::write(&file, whole(&data, &text)).unwrap();
    let log = folder.path().join("log");
    let process = Process::run(
        Command::new(TAGWAY)
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stderr(Stdio::from(File::create(&log).unwrap())),
    );
    let token = fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
    secrets.push(token.clone());
    let tails = watch(folder.path(), &file, process.admin);
    // Statuses with another meaning for most vendors: refused, failure, wrong credentials.
    for (n, status) in (1..).zip([400, 500, 401]) {
        echo.status.store(status, Ordering::Relaxed);
        let before = fs::read_to_string(&tails[1].0).unwrap().len();
        let body = batch(&visit(n));
        let answer = send(process.http, ("POST", "/v1/batch"), &[], body.as_bytes());
        assert_eq!(answer.unwrap().status, 200);
        let bearer = format!("Bearer {token}");
        let asked = json!({ "site": "shop", "segment": "buyers" });
        let fields = [("authorization", bearer.as_str())];
        eventually(|| {
            let ran = admin_post(process.admin, "/api/v1/segments/run", &fields, &asked);
            if ran.json()["size"] == 1 { Ok(()) } else { Err(format!("{ran:?}")) }
        })
        .await;
        eventually(|| {
            let seen = fs::read_to_string(&tails[1].0).unwrap();
            let new = seen.get(before..).unwrap_or_default();
            let calls = new.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let calls = calls.filter(|it| it["what"] == "called" && it["status"] == status);
            let called: BTreeSet<String> =
                calls.filter_map(|it| it["destination"].as_str().map(str::to_owned)).collect();
            // Each is waited for the first time; later some wait longer than a test may.
            let is_enough = match n {
                1 => destinations.iter().all(|it| called.contains(it.vendor)),
                _ => called.len() >= 4,
            };
            if is_enough { Ok(()) } else { Err(format!("{called:?} of {status}")) }
        })
        .await;
    }
    let received = echo.received.lock().clone();
    for it in &destinations {
        let sent =
            |secret: &String| encodings(secret).iter().any(|written| received.contains(written));
        // A webhook's own key signs and is not sent, but its fields are.
        assert!(it.secrets.iter().any(sent), "{}: nothing to hide was sent", it.vendor);
    }
    assert!(received.contains(ACCESS_TOKEN));
    let mut outputs = outputs(&file, process.admin, &destinations);
    // A response quotes the operator's request.
    let bearer = format!("Bearer {token}");
    let asked = json!({ SERVER_TOKEN: 1 });
    let fields = [("authorization", bearer.as_str())];
    let quoted = admin_post(process.admin, "/api/v1/replay", &fields, &asked).body;
    assert!(quoted.contains(HIDDEN), "{quoted}");
    outputs.push(("an answer".to_owned(), quoted));
    let vendors: Vec<&str> = destinations.iter().map(|it| it.vendor).collect();
    outputs.extend(settings_outputs(process.admin, &token, &vendors));
    assert!(process.terminate().success());
    for (seen, running) in tails {
        drop(running);
        outputs.push(("tail".to_owned(), fs::read_to_string(seen).unwrap()));
    }
    outputs.push(("the log".to_owned(), fs::read_to_string(log).unwrap()));
    for (what, output) in &outputs {
        assert_hidden(what, output, &secrets);
    }
    let shown: String = outputs.iter().map(|(_, output)| output.as_str()).collect();
    assert!(shown.contains(HIDDEN));
}

#[test]
fn mistakes_and_failures_show_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tagway.toml");
    let database = "postgres://me:hush%2Fpassword@127.0.0.1:1/tagway";
    let text = format!(
        "{SITE}server_token = \"hush server token\"\nsecret = \"hush-secret\"\n\
         [[sites.destinations]]\nname = \"hush server token\"\nvendor = \"hush-secret\"\n\
         [profiles]\nstore = \"postgres\"\n[postgres]\nurl = \"{database}\"\n\
         [log]\nlevel = \"trace\"\n"
    );
    fs::write(&file, whole(&folder.path().join("data"), &text)).unwrap();
    let secrets = ["hush server token", "hush-secret", "hush/password"].map(str::to_owned).to_vec();
    for command in ["check", "serve"] {
        let output = Command::new(TAGWAY).args([command, "--config"]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(printed.contains("vendor"), "{printed}");
        assert_hidden(command, &printed, &secrets);
    }
    // Valid for the check, but the database does not answer.
    let text =
        format!("{SITE}[profiles]\nstore = \"postgres\"\n[postgres]\nurl = \"{database}\"\n");
    let log = "[log]\nlevel = \"trace\"\n";
    fs::write(&file, whole(&folder.path().join("data"), &format!("{text}{log}"))).unwrap();
    let output = Command::new(TAGWAY).args(["check", "--config"]).arg(&file).output().unwrap();
    let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_hidden("check", &printed, &secrets);
}
