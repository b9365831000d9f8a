//! Runs every folder under `tests/fixtures/vendors/<vendor>/<face>/<case>/` as a separate test.
//!
//! A destination's case holds
//! - `input.json`: an event, or a list of events that make one batch. `timestamp` and `receivedAt`
//!   are [`NOW`] and `messageId` is `m1`, `m2`, ... unless the case says otherwise;
//! - `settings.toml`: the vendor's settings, by default the one in the vendor's own folder;
//! - `profile.json` (optional): the person's profile, `{"userId", "traits"}`;
//! - `replies.txt` (optional): the vendor's replies in turn, one a line: a status, header fields and a
//!   JSON body, parted by ` | `; or `timeout`, or `unreachable`. After the last it answers 204;
//! - `expected.http`: the requests, header fields sorted, bodies decompressed, JSON pretty, forms one
//!   field a line;
//! - `expected.outcomes.json`: the outcome of each event.
//!
//! An audience's case holds
//! - `members.json`: the people, each `{"userId", "anonymousId", "traits"}`; for each, the identifiers
//!   sent to the vendor are stored as its row;
//! - `change.txt` (optional): `add` (the default) or `remove`; and `list.txt` (optional), the vendor's
//!   own name of a list that was made by hand;
//! - `settings.toml` and `replies.txt`, as above;
//! - `expected.rows.json`, `expected.http` and `expected.outcomes.json`: the rows, the requests, and the
//!   outcome of each member.
//!
//! A beacon's case holds
//! - `request.http`: method and target below the vendor's mount, header fields, an empty line, and the
//!   body, whose last line break is not part of it (in a multipart form they are all CRLF);
//! - `expected.messages.json`: the canonical messages, each of which the gateway must accept;
//! - `expected.answer.http`: the reply to the library, and the statuses when it sends too much, when
//!   no events can be accepted, and when it sends more at once than is accepted.
//!
//! `cargo bless` rewrites the expectations; reading the difference is the review.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test program may stop at a broken fixture"
)]

#[path = "it/recorded.rs"]
mod recorded;

use std::collections::VecDeque;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use jiff::Timestamp;
use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::Mutex;
use recorded::Recorded;
use serde_json::{Value, json};
use tagway::gateway::decode::{self, DecodeContext};
use tagway_core::event::{EnrichedEvent, ProfileView};
use tagway_settings::{ConfigEnvironment, ConfigErrorReport, ConfigFile, SettingsSection};
use tagway_vendors::audience::{AudienceChange, AudienceList};
use tagway_vendors::beacon::{BeaconLimits, BeaconOutcome, BeaconRequest};
use tagway_vendors::prices::PriceReader;
use tagway_vendors::{
    Destination, Outcome, OutcomeReason, Vendor, VendorCall, VendorCallError, VendorReply, find,
    request_preview,
};

/// The time of day in every case.
const NOW: &str = "2026-11-23T12:00:00Z";

fn main() {
    let mut words: Vec<String> = std::env::args().collect();
    let bless = words.iter().any(|word| word == "--bless");
    words.retain(|word| word != "--bless");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vendors");
    let mut trials = Vec::new();
    for vendor in folders(&root) {
        let name = |case: &Path| case.strip_prefix(&root).unwrap().display().to_string();
        for case in folders(&vendor.join("destination")) {
            trials.push(Trial::test(name(&case), move || run(&case, bless)));
        }
        for case in folders(&vendor.join("audience")) {
            trials.push(Trial::test(name(&case), move || run_audience(&case, bless)));
        }
        for case in folders(&vendor.join("beacon")) {
            trials.push(Trial::test(name(&case), move || run_beacon(&case, bless)));
        }
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    // Whole requests are replayed where memory is measured (`tests/bounds`).
    let vendors = folders(&corpus).into_iter().filter(|folder| !folder.ends_with("request"));
    for vendor in vendors {
        let name = format!("corpus/{}", vendor.file_name().unwrap().display());
        trials.push(Trial::test(name, move || replay(&vendor)));
    }
    assert!(!trials.is_empty(), "no fixtures in {}", root.display());
    libtest_mimic::run(&Arguments::from_iter(words), trials).exit();
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders
}

fn run(case: &Path, bless: bool) -> Result<(), Failed> {
    let (destination, prices, line) = stage(case)?;
    let events = events(case)?;
    let outcomes = deliver(&*destination, &prices, events, &line);
    conclude(case, bless, line, &outcomes)
}

/// Adds members to a vendor's list, or removes them.
fn run_audience(case: &Path, bless: bool) -> Result<(), Failed> {
    let (destination, _, line) = stage(case)?;
    let audience = destination.audience().ok_or("the vendor has no lists with these settings")?;
    let members: Vec<Value> =
        serde_json::from_str(&read(&case.join("members.json")).unwrap_or_default())?;
    let rows: Vec<_> = members.into_iter().map(|it| audience.row(&member(it))).collect();
    let shown = rows.iter().map(|row| match row {
        Ok(row) => serde_json::from_str(row.text()).unwrap(),
        Err(reason) => json!({ "none": reason.code }),
    });
    let shown = format!("{}\n", serde_json::to_string_pretty(&shown.collect::<Vec<Value>>())?);
    check(&case.join("expected.rows.json"), &shown, bless)?;
    let rows: Vec<_> = rows.into_iter().flatten().collect();
    let change = match read(&case.join("change.txt")).unwrap_or_default().trim() {
        "" | "add" => AudienceChange::Add,
        "remove" => AudienceChange::Remove,
        other => return Err(format!("{other} is no change").into()),
    };
    let id = read(&case.join("list.txt"));
    let listed = AudienceList {
        title: "Cart abandoners",
        segment: "cart_abandoners",
        id: id.as_deref().map(str::trim),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ends = runtime.block_on(async {
        match audience.open_list(&listed, &line).await {
            Ok(list) => audience.change_members(&list, change, &rows, &line).await,
            Err(outcome) => vec![outcome],
        }
    });
    let outcomes: Vec<Value> = ends.into_iter().map(|end| written(described(Some(end)))).collect();
    conclude(case, bless, line, &outcomes)
}

/// A person as an audience receives them.
fn member(mut given: Value) -> EnrichedEvent {
    let traits = given["traits"].take();
    let user_id = given["userId"].as_str().map(str::to_owned);
    let mut event = json!({
        "type": "identify", "messageId": "m1", "timestamp": NOW, "receivedAt": NOW,
    });
    event.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    event.as_object_mut().unwrap().remove("traits");
    let event = Arc::new(serde_json::from_value(event).unwrap());
    let traits = traits.as_object().cloned().unwrap_or_default();
    EnrichedEvent::new(0, event, Arc::new(ProfileView { user_id, traits }))
}

/// The destination of a case, the reader of its amounts, and the simulated vendor.
fn stage(case: &Path) -> Result<(Box<dyn Destination>, PriceReader, Line), Failed> {
    let vendor_folder = case.parent().and_then(Path::parent).unwrap();
    let vendor = find(vendor_folder.file_name().unwrap().to_str().unwrap())
        .ok_or("there is no vendor of this folder's name")?;
    let own = read(&case.join("settings.toml"));
    let settings = own.or_else(|| read(&vendor_folder.join("settings.toml"))).unwrap_or_default();
    let line = Line::new(&read(&case.join("replies.txt")).unwrap_or_default())?;
    let (destination, prices) = build(vendor, settings)?;
    Ok((destination, prices, line))
}

/// Compares the requests and outcomes with the expected ones.
fn conclude(case: &Path, bless: bool, line: Line, outcomes: &[Value]) -> Result<(), Failed> {
    let requests = line.requests.into_inner();
    check(&case.join("expected.http"), &requests, bless)?;
    let outcomes = format!("{}\n", serde_json::to_string_pretty(&outcomes)?);
    check(&case.join("expected.outcomes.json"), &outcomes, bless)?;
    if line.replies.into_inner().is_empty() {
        Ok(())
    } else {
        Err("the vendor was called less often than replies.txt says".into())
    }
}

/// Reads a beacon, judges its messages, and answers it.
fn run_beacon(case: &Path, bless: bool) -> Result<(), Failed> {
    let vendor_folder = case.parent().and_then(Path::parent).unwrap();
    let name = vendor_folder.file_name().unwrap().to_str().unwrap();
    let vendor = find(name).ok_or("there is no vendor of this folder's name")?;
    let beacon = vendor.beacon.ok_or("the vendor has no beacons")?;
    let Recorded { method, path, query, headers, body } = Recorded::read(case);
    if !beacon.endpoint(&path).is_some_and(|methods| methods.accepts(&method)) {
        return Err(format!("{method} {path} is no endpoint").into());
    }
    let inbound = BeaconRequest {
        method: &method,
        path: &path,
        query: &query,
        headers: &headers,
        body: &body,
        received_at: NOW.parse()?,
        secure: true,
        authority: "t.shop.example",
        mount: &format!("/{name}"),
        daily_id: "daily1",
        bounds: BeaconLimits {
            unpacked_bytes: 1 << 20,
            messages_bytes: 8 << 20,
            events: 2500,
            least_event_bytes: 32,
            event_bytes: 32 << 10,
            made_bytes: 1 << 20,
            json_depth: 64,
        },
    };
    let (messages, verdict) = match beacon.decode(&inbound) {
        Ok(messages) => {
            judge(&serde_json::to_vec(&messages)?)?;
            (serde_json::to_value(&messages)?, BeaconOutcome::Taken { events: messages.len() })
        }
        Err(malformed) => (json!({ "malformed": malformed.to_string() }), BeaconOutcome::Ignored),
    };
    // The order of the members is no part of a message.
    let path = case.join("expected.messages.json");
    let expected = read(&path).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if expected.as_ref() != Some(&messages) {
        check(&path, &format!("{}\n", serde_json::to_string_pretty(&messages)?), bless)?;
    }
    let described = beacon.answer(&inbound, verdict);
    let mut answer = format!("{}\n", described.status.as_u16());
    if let Some(content_type) = described.content_type {
        writeln!(answer, "content-type: {content_type}")?;
    }
    writeln!(answer, "\n{}", described.body.escape_ascii())?;
    for (what, verdict) in [
        ("too much", BeaconOutcome::RetryLater { limited: true }),
        ("not now", BeaconOutcome::RetryLater { limited: false }),
        ("too large", BeaconOutcome::TooLarge),
    ] {
        writeln!(answer, "{what}: {}", beacon.answer(&inbound, verdict).status.as_u16())?;
    }
    check(&case.join("expected.answer.http"), &answer, bless)
}

/// Reads the fuzzing corpus of a vendor's beacons (`fuzz/src/lib.rs`): no panic, and every result can be
/// judged.
fn replay(corpus: &Path) -> Result<(), Failed> {
    let vendor = find(corpus.file_name().unwrap().to_str().unwrap()).ok_or("no such vendor")?;
    let beacon = vendor.beacon.ok_or("the vendor has no beacons")?;
    let mut inputs = 0;
    for entry in fs::read_dir(corpus)? {
        let data = fs::read(entry?.path())?;
        let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
        let (line, body) = data.split_at(end);
        let Some((method, target)) = str::from_utf8(line).ok().and_then(|it| it.split_once(' '))
        else {
            continue;
        };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Ok(method) = method.parse::<http::Method>() else { continue };
        if !beacon.endpoint(path).is_some_and(|methods| methods.accepts(&method)) {
            continue;
        }
        let headers = HeaderMap::new();
        let inbound = BeaconRequest {
            method: &method,
            path,
            query,
            headers: &headers,
            body: body.strip_prefix(b"\n").unwrap_or(body),
            received_at: NOW.parse()?,
            secure: true,
            authority: "t.shop.example",
            mount: "/x",
            daily_id: "daily1",
            bounds: BeaconLimits {
                unpacked_bytes: 1 << 20,
                messages_bytes: 8 << 20,
                events: 2500,
                least_event_bytes: 32,
                event_bytes: 32 << 10,
                made_bytes: 1 << 20,
                json_depth: 64,
            },
        };
        let verdict = match beacon.decode(&inbound) {
            Ok(messages) => BeaconOutcome::Taken { events: messages.len() },
            Err(_malformed) => BeaconOutcome::Ignored,
        };
        beacon.answer(&inbound, verdict);
        inputs += 1;
    }
    if inputs > 0 { Ok(()) } else { Err("the corpus has no input".into()) }
}

/// Judges messages with the embedded limits. All must be valid.
fn judge(messages: &[u8]) -> Result<(), Failed> {
    if messages == b"[]" {
        return Ok(());
    }
    let site = "[[sites]]\nname = \"shop\"\nhosts = [\"*\"]\n".to_owned();
    let source = ConfigFile { name: "site.toml".to_owned(), text: site };
    let settings = tagway::config::load(&[source], &ConfigEnvironment::default())
        .map_err(|mistakes| format!("{mistakes:?}"))?;
    let terms = DecodeContext {
        limits: &settings.limits,
        kind: None,
        placeholder_ids: &[],
        anonymizes_ip: false,
        received_at: NOW.parse()?,
    };
    let rejected = decode::read(messages, &terms)?.rejected;
    if rejected.is_empty() { Ok(()) } else { Err(format!("refused: {rejected:?}").into()) }
}

fn read(path: &Path) -> Option<String> {
    path.exists().then(|| fs::read_to_string(path).unwrap())
}

fn check(path: &Path, actual: &str, bless: bool) -> Result<(), Failed> {
    if bless {
        fs::write(path, actual)?;
        return Ok(());
    }
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let expected = read(path).ok_or_else(|| format!("{name} is missing: run cargo bless"))?;
    if expected == actual {
        return Ok(());
    }
    let mut message = format!("{name} differs\n");
    for line in expected.lines().filter(|line| !actual.lines().any(|other| other == *line)) {
        writeln!(message, "  expected  {line}")?;
    }
    for line in actual.lines().filter(|line| !expected.lines().any(|other| other == *line)) {
        writeln!(message, "  found     {line}")?;
    }
    Err(message.into())
}

fn build(vendor: &Vendor, text: String) -> Result<(Box<dyn Destination>, PriceReader), Failed> {
    let (report, environment) = (ConfigErrorReport::default(), ConfigEnvironment::default());
    let source = ConfigFile { name: "settings.toml".to_owned(), text };
    let table = source.parse(&report);
    let mut section = SettingsSection::root(vec![(&source, &table)], &environment, &report);
    let build = vendor.destination.ok_or("the vendor is no destination")?;
    let destination = build(&mut section, None);
    let prices = PriceReader::read(&mut section, destination.price_use());
    drop(section);
    let mistakes: Vec<String> = report.into_errors().iter().map(ToString::to_string).collect();
    if mistakes.is_empty() { Ok((destination, prices)) } else { Err(mistakes.join("\n").into()) }
}

fn events(case: &Path) -> Result<Vec<EnrichedEvent>, Failed> {
    let input: Value = serde_json::from_str(&read(&case.join("input.json")).unwrap_or_default())?;
    let input = match input {
        Value::Array(events) => events,
        event => vec![event],
    };
    let profile = match read(&case.join("profile.json")) {
        Some(text) => {
            let mut known: Value = serde_json::from_str(&text)?;
            ProfileView {
                user_id: known["userId"].as_str().map(str::to_owned),
                traits: known["traits"].as_object_mut().map(std::mem::take).unwrap_or_default(),
            }
        }
        None => ProfileView::default(),
    };
    let profile = Arc::new(profile);
    let mut events = Vec::new();
    for (seq, given) in (1..).zip(input) {
        let mut event =
            json!({ "messageId": format!("m{seq}"), "timestamp": NOW, "receivedAt": NOW });
        let given = given.as_object().ok_or("an event is an object")?;
        event.as_object_mut().unwrap().extend(given.clone());
        let event = Arc::new(serde_json::from_value(event)?);
        events.push(EnrichedEvent::new(seq, event, profile.clone()));
    }
    Ok(events)
}

/// Screens and delivers as one batch; returns the outcome of each event.
fn deliver(
    destination: &dyn Destination,
    prices: &PriceReader,
    events: Vec<EnrichedEvent>,
    line: &Line,
) -> Vec<Value> {
    let screened = events.into_iter().map(|it| prices.admit_event(destination, it, line.now()));
    let (events, screened): (Vec<EnrichedEvent>, Vec<Result<(), Outcome>>) = screened.unzip();
    let passed = events.iter().zip(&screened).filter(|(_, screening)| screening.is_ok());
    let batch: Vec<EnrichedEvent> = passed.map(|(event, _)| event.clone()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut delivered = runtime.block_on(destination.deliver(&batch, line)).into_iter();
    let ends = events.iter().zip(&screened).map(|(event, screening)| {
        let mut end = json!({ "messageId": event.event.message_id });
        let written = written(match screening {
            Err(outcome) => described(Some(outcome.clone())),
            Ok(()) => described(delivered.next()),
        });
        end.as_object_mut().unwrap().extend(written.as_object().unwrap().clone());
        end
    });
    let ends = ends.collect();
    assert_eq!(delivered.next(), None, "more outcomes than events");
    ends
}

/// An outcome in the form of the expectations.
fn written((outcome, reason, after): (&str, Option<OutcomeReason>, Option<Duration>)) -> Value {
    let mut end = json!({ "outcome": outcome });
    if let Some(OutcomeReason { code, detail }) = reason {
        end["reason"] = code.into();
        if let Some(detail) = detail {
            end["detail"] = detail.into_string().into();
        }
    }
    if let Some(after) = after {
        end["afterSeconds"] = after.as_secs().into();
    }
    end
}

fn described(outcome: Option<Outcome>) -> (&'static str, Option<OutcomeReason>, Option<Duration>) {
    match outcome {
        None => ("nothing was said", None, None),
        Some(Outcome::Delivered) => ("delivered", None, None),
        Some(Outcome::Skipped(reason)) => ("skipped", Some(reason), None),
        Some(Outcome::Dead(reason)) => ("dead", Some(reason), None),
        Some(Outcome::Refused(reason)) => ("refused", Some(reason), None),
        Some(Outcome::Retry { reason, after }) => ("retry", Some(reason), after),
        Some(Outcome::Throttled { reason, after }) => ("throttled", Some(reason), Some(after)),
        Some(Outcome::Unauthorised(reason)) => ("unauthorised", Some(reason), None),
    }
}

/// A vendor that replies as the case says, and records the requests.
struct Line {
    replies: Mutex<VecDeque<Result<VendorReply, VendorCallError>>>,
    requests: Mutex<String>,
}

impl Line {
    fn new(script: &str) -> Result<Self, Failed> {
        let replies = script.lines().filter(|line| !line.is_empty()).map(reply);
        let replies = replies.collect::<Result<_, Failed>>()?;
        Ok(Self { replies: Mutex::new(replies), requests: Mutex::default() })
    }
}

/// Parses `429 | retry-after: 5 | {"code":429}`, `timeout` or `unreachable`.
fn reply(line: &str) -> Result<Result<VendorReply, VendorCallError>, Failed> {
    match line {
        "timeout" => return Ok(Err(VendorCallError::Timeout(Duration::from_secs(10)))),
        "unreachable" => return Ok(Err(VendorCallError::Unreachable("refused".into()))),
        _ => {}
    }
    let mut parts = line.split(" | ");
    let status = parts.next().unwrap_or_default().parse::<StatusCode>()?;
    let mut reply = VendorReply { status, headers: HeaderMap::new(), body: Bytes::new() };
    for part in parts {
        match part.split_once(": ").filter(|_| !part.starts_with(['{', '[', '"'])) {
            Some((name, value)) => {
                reply.headers.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
            }
            None => reply.body = part.to_owned().into(),
        }
    }
    Ok(Ok(reply))
}

#[async_trait]
impl VendorCall for Line {
    async fn call(&self, request: Request<Bytes>) -> Result<VendorReply, VendorCallError> {
        let mut log = self.requests.lock();
        if !log.is_empty() {
            log.push_str("\n###\n");
        }
        log.push_str(&request_preview::request(&request));
        let next = self.replies.lock().pop_front();
        next.unwrap_or_else(|| {
            let (headers, body) = (HeaderMap::new(), Bytes::new());
            Ok(VendorReply { status: StatusCode::NO_CONTENT, headers, body })
        })
    }

    fn now(&self) -> Timestamp {
        NOW.parse().unwrap()
    }
}
