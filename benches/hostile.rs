//! The cost of hostile requests: `cargo bench --bench hostile`, with `-- SECONDS` for the flood, and with the
//! names of tables for those alone.
//!
//! Starts the real program with its default limits and prints three tables. Machines differ: read the
//! ratios.
//!
//! - *CPU*: for each format the time for a kilobyte of the costliest shape, as a multiple of that of
//!   `/v1/batch`.
//! - *flood*: the waiting times of other clients without and with one address that sends ten times its
//!   quota of worst cases.
//! - *memory*: for each format and encoding the program's peak while 64 worst cases come at once, for each
//!   byte of their bodies, decompressed, and beside what the settings allow in all.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot set up has nothing to say")]
#![expect(clippy::print_stdout, reason = "the tables are its output")]
#![expect(clippy::string_slice, reason = "shapes cut their own texts")]
#![expect(clippy::disallowed_methods, reason = "the load is made by threads, and time is measured")]

#[path = "../tests/bounds/shapes.rs"]
mod shapes;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use shapes::{BEACONS, Format, ROUTES, VALUES};
use socket2::{Domain, Protocol, Socket, Type};

/// Concurrent worst cases.
const AT_ONCE: usize = 64;

/// `limits.inflated_bytes`, and `limits.body_bytes`, of the default settings.
const INFLATED_BYTES: usize = 8 << 20;
const BODY_BYTES: usize = 1 << 20;

/// The memory that the default settings allow in all, in MiB: `limits.inflating_bytes` and `limits.arriving_bytes`.
const ALLOWED_MIB: usize = 320 + 256;

/// `limits.least_event_bytes` of the default settings.
const LEAST_EVENT_BYTES: usize = 32;

/// Requests a second that one client may send.
const QUOTA: u32 = 50;

const ENCODINGS: [&str; 5] = ["", "gzip", "deflate", "br", "zstd"];

/// The program, with a site that accepts everything.
struct Program {
    child: Child,
    http: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Value::from(folder.path().join("data").to_str().unwrap());
        let text = format!(
            "data_dir = {data}\n[listen]\nhttp = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n\
             [limits]\n{limits}\n[log]\nlevel = \"error\"\naccess_sample = 0.0\n\
             [[sites]]\nname = \"shop\"\nhosts = [\"*\"]\norigins = [\"https://shop.example\"]\n\
             write_key = \"shop-web\"\n"
        );
        let file = folder.path().join("tagway.toml");
        fs::write(&file, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tagway"))
            .args(["serve", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let http = ready.pointer("/ready/http").and_then(Value::as_str).unwrap().parse().unwrap();
        Self { child, http, _folder: folder }
    }

    fn status(&self, name: &str) -> usize {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The most resident bytes since the last call.
    fn peak(&self) -> usize {
        let peak = self.status("VmHWM:") * 1024;
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
        peak
    }

    /// The CPU time so far.
    fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let times = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn encoded(encoding: &str, text: &[u8]) -> Vec<u8> {
    let best = flate2::Compression::best();
    match encoding {
        "gzip" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), best);
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "deflate" => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), best);
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 22).write_all(text).unwrap();
            out
        }
        "zstd" => zstd::encode_all(text, 9).unwrap(),
        _ => text.to_vec(),
    }
}

fn request(format: &Format, encoding: &str, text: &[u8]) -> Vec<u8> {
    let body = encoded(encoding, text);
    let encoding = match encoding {
        "" => String::new(),
        encoding => format!("content-encoding: {encoding}\r\n"),
    };
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: t.shop.example\r\norigin: https://shop.example\r\n\
         user-agent: Firefox\r\n{encoding}content-length: {}\r\nconnection: close\r\n\r\n",
        format.target,
        body.len()
    );
    [head.as_bytes(), &body].concat()
}

/// Sends one request from an address; returns its status if it was answered.
fn send(to: SocketAddr, from: [u8; 4], request: &[u8]) -> Option<u16> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).ok()?;
    socket.bind(&SocketAddr::from((IpAddr::from(from), 0)).into()).ok()?;
    socket.connect_timeout(&to.into(), Duration::from_secs(10)).ok()?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    stream.write_all(request).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// The shapes of bodies that cost most: those rejected by count, and those processed as far as possible.
fn worst(format: &Format, bytes: usize) -> Vec<(&'static str, String)> {
    let mut shapes = Vec::new();
    let shortest = format.shortest.len() + 3;
    shapes.push(("shortest", format.body(&vec![format.shortest.to_owned(); bytes / shortest])));
    // The most that a body may have: events are padded with spaces to the least length where the format allows it.
    let is_json = format.list.0.starts_with(['{', '[']);
    let width = if is_json { LEAST_EVENT_BYTES } else { 0 };
    let shortest = format!("{:width$}", format.shortest);
    let allowed = vec![shortest.clone(); 2500.min(bytes / (shortest.len() + 3))];
    shapes.push(("allowed", format.body(&allowed)));
    for (name, value) in VALUES {
        let one = format.event(&value(3000)).len() + 3;
        let count = if format.is_single { 1 } else { (bytes / one).min(2500) };
        let size = if format.is_single { bytes / 4 } else { 3000 };
        shapes.push((name, format.body(&vec![format.event(&value(size)); count.max(1)])));
    }
    shapes.retain(|(_, text)| text.len() <= bytes);
    shapes
}

fn formats() -> impl Iterator<Item = &'static Format> {
    ROUTES.iter().filter(|route| !route.is_single).chain(BEACONS)
}

/// The settings that accept every request at any rate.
const UNLIMITED: &str = "client_per_second = 0\nclient_events_per_second = 0\n\
    client_bytes_per_second = \"0B\"\nconnections_per_client = 20000";

/// The events of one format alone would fill a disk: each case is 64 bodies of small events.
const SMALL_JOURNAL: &str = "[journal]\nmax_bytes = \"1GiB\"";

fn memory() {
    println!(
        "memory of {AT_ONCE} worst cases at once, of {ALLOWED_MIB} MiB that the settings allow"
    );
    println!(
        "{:12} {:8} {:10} {:>9} {:>9} {:>7}",
        "format", "encoding", "shape", "MiB sent", "MiB more", "times"
    );
    for format in formats() {
        let program = &Program::start(&format!("{UNLIMITED}\n{SMALL_JOURNAL}"));
        for encoding in ENCODINGS {
            let bytes = if encoding.is_empty() { BODY_BYTES } else { INFLATED_BYTES };
            let mut most = (0, "", 0);
            for (shape, text) in worst(format, bytes) {
                let request = request(format, encoding, text.as_bytes());
                if request.len() > BODY_BYTES {
                    continue;
                }
                let before = program.status("VmRSS:") * 1024;
                program.peak();
                thread::scope(|scope| {
                    for number in 0..AT_ONCE {
                        let (request, last) = (&request, u8::try_from(number % 250).unwrap());
                        scope.spawn(move || send(program.http, [127, 0, 1, 1 + last], request));
                    }
                });
                let more = program.peak().saturating_sub(before);
                if more >= most.0 {
                    most = (more, shape, text.len() * AT_ONCE);
                }
            }
            let (more, shape, came) = most;
            let times = more as f64 / came.max(1) as f64;
            println!(
                "{:12} {:8} {shape:10} {:9} {:9} {times:7.2}",
                format.name,
                if encoding.is_empty() { "-" } else { encoding },
                came >> 20,
                more >> 20
            );
        }
    }
}

fn cpu(program: &Program) {
    const BYTES: usize = 256 * 1024;
    const ROUNDS: u32 = 8;
    let mut costs = Vec::new();
    for format in formats() {
        let mut most = (0.0, "");
        for (shape, text) in worst(format, BYTES) {
            let request = request(format, "", text.as_bytes());
            let before = program.cpu();
            for _ in 0..ROUNDS {
                send(program.http, [127, 0, 0, 2], &request);
            }
            let spent = (program.cpu() - before).as_secs_f64() * 1e6 / f64::from(ROUNDS);
            let of_kilobyte = spent / (text.len() as f64 / 1024.0);
            if of_kilobyte > most.0 {
                most = (of_kilobyte, shape);
            }
        }
        costs.push((format.name, most));
    }
    let base = costs.iter().find(|(name, _)| *name == "batch").map_or(1.0, |(_, cost)| cost.0);
    println!("\nCPU of the costliest shape");
    println!("{:12} {:10} {:>8} {:>15}", "format", "shape", "us/KiB", "times /v1/batch");
    for (name, (cost, shape)) in costs {
        println!("{name:12} {shape:10} {cost:8.1} {:15.2}", cost / base);
    }
}

/// The 99th percentile of the time that other clients wait for the response to a small event.
fn others(program: &Program, time: Duration) -> Duration {
    let event = r#"{"type":"track","event":"x","anonymousId":"a","properties":{"a":1}}"#;
    let request = request(ROUTES.first().unwrap(), "gzip", event.as_bytes());
    let mut waits: Vec<Duration> = thread::scope(|scope| {
        let clients = (0..8).map(|number| {
            let request = &request;
            scope.spawn(move || {
                let (end, mut waits) = (Instant::now() + time, Vec::new());
                while Instant::now() < end {
                    let asked = Instant::now();
                    assert_eq!(send(program.http, [127, 0, 0, 10 + number], request), Some(204));
                    waits.push(asked.elapsed());
                    thread::sleep(Duration::from_millis(25));
                }
                waits
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    waits.sort();
    waits.get(waits.len() * 99 / 100).copied().unwrap_or_default()
}

fn flood(time: Duration) {
    let program = Program::start("");
    others(&program, Duration::from_secs(1));
    println!("\nanswers to others: 99th percentile, and one address floods at 10 times its quota");
    println!("{:12} {:>10} {:>10} {:>6}", "flood", "without us", "with us", "times");
    for name in ["amplitude", "matomo", "batch"] {
        let format = formats().find(|format| format.name == name).unwrap();
        let texts = worst(format, INFLATED_BYTES);
        let (_, text) = texts.iter().find(|(shape, _)| *shape == "members").unwrap();
        let request = request(format, "gzip", text.as_bytes());
        let without = others(&program, time);
        let stop = AtomicBool::new(false);
        let with = thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let pause = Duration::from_secs(16) / (10 * QUOTA);
                    while !stop.load(Ordering::Relaxed) {
                        let sent = Instant::now();
                        send(program.http, [127, 0, 0, 2], &request);
                        thread::sleep(pause.saturating_sub(sent.elapsed()));
                    }
                });
            }
            let with = others(&program, time);
            stop.store(true, Ordering::Relaxed);
            with
        });
        let times = with.as_secs_f64() / without.as_secs_f64();
        println!("{name:12} {:10} {:10} {times:6.2}", without.as_micros(), with.as_micros());
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok());
    let is_named = |table: &str| arguments.iter().any(|argument| argument == table);
    let has_names = ["cpu", "flood", "memory"].into_iter().any(is_named);
    if !has_names || is_named("cpu") {
        cpu(&Program::start(UNLIMITED));
    }
    if !has_names || is_named("flood") {
        flood(Duration::from_secs(seconds.unwrap_or(10)));
    }
    if !has_names || is_named("memory") {
        memory();
    }
}
