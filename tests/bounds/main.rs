//! Memory of requests: never more than the manual says (`[limits]` in `config/tagway.toml`), for every
//! vendor's beacons and every route, in every encoding, whatever the shape of the body.
//!
//! The allocator counts, so one request is measured at a time: the tests run one after the other.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up has failed")]
#![expect(clippy::panic, clippy::string_slice, reason = "tests fail by panicking")]
#![expect(clippy::indexing_slicing, reason = "the tables are the test's own")]
#![expect(clippy::print_stdout, reason = "BOUNDS_SHOW prints what was measured")]

mod alone;
mod shapes;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use alone::Alone;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, StatusCode};
use libtest_mimic::{Arguments, Failed, Trial};
use peak_alloc::PeakAlloc;
use shapes::{BEACONS, Format, ROUTES, VALUES};
use tagway_vendors::VENDORS;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The limits of the tests: so small that fixed costs hide nothing.
const LIMITS: &str = r#"
[limits]
client_per_second = 0
client_events_per_second = 0
client_bytes_per_second = "0B"
body_bytes = "300KiB"
inflated_bytes = "300KiB"
inflating_bytes = "16MiB"
inflating_client_bytes = "16MiB"
made_bytes = "64KiB"
event_bytes = "4KiB"
batch_events = 200
least_event_bytes = 8
"#;

/// A body that is decoded on a separate thread, and one that is small enough to be decoded at once.
const SIZES: [usize; 2] = [240 * 1024, 60 * 1024];

/// Memory for each byte of a body, decompressed.
const TIMES: usize = 8;

/// Memory for each event of a request.
const EVENT_BYTES: usize = 3 * 1024;

/// Memory for the one event that is being read, for each byte of `limits.event_bytes`.
const EVENT_TIMES: usize = 128;

/// The fixed memory of decompressors: tables, and windows as far as they are filled.
const DECOMPRESSOR_BYTES: usize = 512 * 1024;

const ENCODINGS: [&str; 5] = ["", "gzip", "deflate", "br", "zstd"];

fn encoded(encoding: &str, text: &[u8]) -> Vec<u8> {
    let fast = flate2::Compression::fast();
    match encoding {
        "gzip" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), fast);
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "deflate" => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), fast);
            out.write_all(text).unwrap();
            out.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 1, 18).write_all(text).unwrap();
            out
        }
        "zstd" => zstd::encode_all(text, 1).unwrap(),
        _ => text.to_vec(),
    }
}

/// Sends a body, and fails if it took more memory than allowed.
fn check(alone: &Alone, what: &str, target: &str, encoding: &str, text: &[u8]) -> StatusCode {
    let limits = &alone.limits;
    let sent = Bytes::from(encoded(encoding, text));
    let request = Request::builder().method("POST").uri(target).header("host", "t.shop.example");
    let request = request.header("origin", "https://shop.example").header("user-agent", "Firefox");
    let request = match encoding {
        "" => request,
        encoding => request.header("content-encoding", encoding),
    };
    let request = request.body(sent).unwrap();
    let came = (text.len() + target.len()).min(limits.inflated_bytes);
    let events = limits.batch_events.min((came / limits.least_event_bytes).max(25));
    let most = TIMES * came
        + EVENT_BYTES * events
        + limits.made_bytes
        + EVENT_TIMES * limits.event_bytes
        + DECOMPRESSOR_BYTES;
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let status = alone.request(request);
    let taken = ALLOCATOR.peak_usage().saturating_sub(before);
    if std::env::var_os("BOUNDS_SHOW").is_some() {
        let times = taken as f64 / came as f64;
        println!("{what:40} {encoding:8} {came:8} {taken:9} {times:6.1} of {most} {status}");
    }
    assert!(taken <= most, "{what} {encoding}: {taken} bytes of memory for {came}, over {most}");
    status
}

/// Checks every shape of a body of one format.
fn memory_is_bounded(alone: &Alone, format: &Format) {
    for bytes in SIZES {
        for (shape, value) in VALUES {
            let what = |count: usize| format!("{} {shape} {count}x{}", format.name, bytes / count);
            let one = format.body(&[format.event(&value(bytes))]);
            check(alone, &what(1), format.target, "", one.as_bytes());
            if !format.is_single {
                let count = bytes / 3000;
                let many = format.body(&vec![format.event(&value(3000)); count]);
                check(alone, &what(count), format.target, "", many.as_bytes());
            }
        }
        let shortest = vec![format.shortest.to_owned(); bytes / format.shortest.len()];
        let shortest = format.body(&shortest);
        let full = format.body(&vec![format.event(&VALUES[4].1(2000)); bytes / 2500]);
        for encoding in ENCODINGS {
            let what = format!("{} shortest", format.name);
            check(alone, &what, format.target, encoding, shortest.as_bytes());
            let what = format!("{} full", format.name);
            check(alone, &what, format.target, encoding, full.as_bytes());
        }
        packed(alone, format, shortest.as_bytes());
        packed(alone, format, full.as_bytes());
        for (shape, text) in [
            ("fields", "a=1&".repeat(bytes / 4)),
            ("encoded", format!("data={}", "%ff".repeat(bytes / 3))),
            ("plain", "x".repeat(bytes)),
            ("brackets", "[{".repeat(bytes / 2)),
        ] {
            check(alone, &format!("{} {shape}", format.name), format.target, "", text.as_bytes());
        }
        let not_text = vec![0xff; bytes];
        check(alone, &format!("{} bytes", format.name), format.target, "", &not_text);
    }
}

/// Checks the same within the field of a form, as base64, and as base64 of gzip.
fn packed(alone: &Alone, format: &Format, text: &[u8]) {
    for (what, packed) in [("base64", text.to_vec()), ("base64 gzip", encoded("gzip", text))] {
        for name in ["data", "e"] {
            let form = format!("{name}={}", STANDARD.encode(&packed).replace('+', "%2B"));
            // The final, decompressed length counts.
            let padded = format!("{form}&{}", "x".repeat(text.len().saturating_sub(form.len())));
            let what = format!("{} {what}", format.name);
            check(alone, &what, format.target, "", padded.as_bytes());
        }
    }
}

/// A batch with the most events is accepted, and one with one more event is rejected.
fn batches_end_at_their_limit(alone: &Alone, format: &Format) {
    // gtag sends 20 lines at most.
    let most = if format.name == "ga4" { 25 } else { alone.limits.batch_events };
    let before = alone.accepted();
    let of = |count: usize| format.body(&vec![format.shortest.to_owned(); count]);
    check(alone, format.name, format.target, "", of(most).as_bytes());
    let taken = alone.accepted() - before;
    assert_eq!(taken, most as u64, "{}", format.name);
    if format.name != "ga4" {
        check(alone, format.name, format.target, "", of(most + 1).as_bytes());
        assert_eq!(alone.accepted() - before, taken, "{}: one too many", format.name);
    }
}

/// Shared parts of a body are counted for each event, before any event is made.
fn repeated_parts_are_bounded(alone: &Alone) {
    let shared = format!("\"context\":{{\"a\":\"{}\"}}", "x".repeat(3500));
    for (target, event) in [
        ("/e", SPEC_EVENT),
        ("/v1/batch", SPEC_EVENT),
        ("/segment/v1/batch", SPEC_EVENT),
        ("/rudderstack/v1/batch", SPEC_EVENT),
        ("/jitsu/api/s/track", SPEC_EVENT),
    ] {
        let events = vec![event; alone.limits.batch_events].join(",");
        let body = format!("{{\"writeKey\":\"shop-web\",{shared},\"batch\":[{events}]}}");
        let before = alone.accepted();
        check(alone, &format!("{target} shared"), target, "", body.as_bytes());
        assert_eq!(alone.accepted(), before, "{target}: 700 KB of events of 10 KB");
    }
    let groups: Vec<String> = (0..300).map(|n| format!("\"{n}\":[\"a\",\"b\"]")).collect();
    let event = format!(
        r#"{{"event_type":"$groupidentify","device_id":"d","groups":{{{}}},"group_properties":{{"a":"{}"}}}}"#,
        groups.join(","),
        "x".repeat(20_000)
    );
    let body = format!(r#"{{"events":[{}]}}"#, vec![event; 15].join(","));
    check(alone, "amplitude groups", "/amplitude/2/httpapi", "", body.as_bytes());
    let item = r#"{"e":"ti","ti_id":"1","ti_sk":"s"}"#;
    let items = vec![item; alone.limits.batch_events - 1].join(",");
    let body = format!(r#"{{"data":[{{"e":"tr","tr_id":"1"}},{items}]}}"#);
    check(alone, "snowplow items", BEACONS[10].target, "", body.as_bytes());
    let query =
        format!("/ga4/g/collect?v=2&tid=G-A1&cid=1&dl=https://a.example/{}", "x".repeat(8000));
    check(alone, "ga4 query", &query, "", "en=page_view\n".repeat(25).as_bytes());
    let agent = "x".repeat(1000);
    let events = format!("[{}]", vec![SPEC_EVENT; 200].join(","));
    let request = Request::builder().method("POST").uri("/e").header("host", "t.shop.example");
    let request = request.header("origin", "https://shop.example").header("user-agent", agent);
    let cookies: Vec<String> = (0..20).map(|n| format!("_ga_{n}={}", "x".repeat(500))).collect();
    let request = request.header("cookie", cookies.join("; ")).body(Bytes::from(events)).unwrap();
    let before = alone.accepted();
    assert_eq!(alone.request(request), StatusCode::PAYLOAD_TOO_LARGE, "observed 200 times");
    assert_eq!(alone.accepted(), before);
}

const SPEC_EVENT: &str = r#"{"type":"track","event":"x","anonymousId":"a"}"#;

/// Whole requests from the fuzzing corpus (`fuzz/src/lib.rs`).
fn requests_of_the_corpus_are_bounded(alone: &Alone) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/request");
    let Ok(entries) = fs::read_dir(corpus) else { return };
    let formats: Vec<&Format> = ROUTES.iter().chain(BEACONS).collect();
    for entry in entries {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        let [format, encoding, body @ ..] = data.as_slice() else { continue };
        let format = formats[usize::from(*format) % formats.len()];
        let encoding = ENCODINGS[usize::from(*encoding) % ENCODINGS.len()];
        check(alone, &path.display().to_string(), format.target, encoding, body);
    }
}

/// Queries of images, as long as a head may be.
fn pixels_are_bounded(alone: &Alone) {
    let json = format!(r#"{{"event":"x","anonymousId":"a","p":{}}}"#, VALUES[0].1(15_000));
    for target in
        ["/px.gif", "/segment/v1/pixel/track", "/rudderstack/pixel/v1/track", "/matomo/matomo.php"]
    {
        for query in [
            format!("data={}", STANDARD.encode(&json).replace('+', "%2B")),
            "a.b.c.d.e.f.g.h.i=1&".repeat(1500),
            "a=1&".repeat(7000),
        ] {
            let uri = format!("{target}?{query}");
            let request = Request::builder().uri(&uri).header("host", "t.shop.example");
            let request = request.header("origin", "https://shop.example").body(Bytes::new());
            ALLOCATOR.reset_peak_usage();
            let before = ALLOCATOR.current_usage();
            alone.request(request.unwrap());
            let taken = ALLOCATOR.peak_usage().saturating_sub(before);
            let limits = &alone.limits;
            let most = TIMES * uri.len()
                + EVENT_BYTES
                + limits.made_bytes
                + EVENT_TIMES * limits.event_bytes;
            assert!(taken <= most, "{target}: {taken} bytes of memory for {}", uri.len());
        }
    }
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let alone = Arc::new(Alone::start(LIMITS, ""));
    let forwarding: String = VENDORS
        .iter()
        .filter(|vendor| vendor.beacon.is_some())
        .map(|vendor| {
            format!(
                "[sites.vendors.{}]\nbeacons = \"both\"\nupstream = \"https://vendor.example\"\n",
                vendor.name
            )
        })
        .collect();
    let passing = Arc::new(Alone::start(LIMITS, &forwarding));
    let mut trials = Vec::new();
    let mut add = |name: String, run: Box<dyn FnOnce() + Send>| {
        trials.push(Trial::test(name, move || {
            run();
            Ok::<_, Failed>(())
        }));
    };
    let beacons = VENDORS.iter().filter(|vendor| vendor.beacon.is_some()).map(|vendor| {
        let format = BEACONS.iter().find(|format| format.name == vendor.name);
        *format.unwrap_or_else(|| panic!("there are no shapes of beacons of {}", vendor.name))
    });
    for format in ROUTES.iter().copied().chain(beacons) {
        let gateway = alone.clone();
        let run = move || memory_is_bounded(&gateway, &format);
        add(format!("memory_is_bounded::{}", format.name), Box::new(run));
        if !format.is_single {
            let gateway = alone.clone();
            let run = move || batches_end_at_their_limit(&gateway, &format);
            add(format!("batches_end_at_their_limit::{}", format.name), Box::new(run));
        }
        if !ROUTES.iter().any(|route| route.name == format.name) {
            let gateway = passing.clone();
            let run = move || {
                let full = format.body(&vec![format.event(&VALUES[7].1(2000)); SIZES[0] / 2500]);
                for encoding in ENCODINGS {
                    let what = format!("{} passed on", format.name);
                    check(&gateway, &what, format.target, encoding, full.as_bytes());
                }
            };
            add(format!("a_beacon_that_is_passed_on_is_kept_once::{}", format.name), Box::new(run));
        }
    }
    let gateway = alone.clone();
    add(
        "repeated_parts_are_bounded".to_owned(),
        Box::new(move || repeated_parts_are_bounded(&gateway)),
    );
    let gateway = alone.clone();
    let run = move || requests_of_the_corpus_are_bounded(&gateway);
    add("requests_of_the_corpus_are_bounded".to_owned(), Box::new(run));
    add("pixels_are_bounded".to_owned(), Box::new(move || pixels_are_bounded(&alone)));
    libtest_mimic::run(&arguments, trials).exit();
}
