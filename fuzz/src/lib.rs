//! One beacon per input: a line with method and target below the vendor's mount, then the body. Or one
//! request per input: a byte for the format, one for the encoding, then the body, not yet compressed.

#[path = "../../tests/bounds/alone.rs"]
mod alone;
#[path = "../../tests/bounds/shapes.rs"]
mod shapes;

use std::alloc::System;
use std::io::Write as _;
use std::sync::OnceLock;

use alone::Alone;
use bytes::Bytes;
use shapes::{BEACONS, ROUTES};

use http::{HeaderMap, HeaderValue, Method, Request};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tagway_vendors::beacon::{BeaconLimits, BeaconOutcome, BeaconRequest};
use tagway_vendors::find;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The fixed memory of a beacon: the window and the buffers of an inflater, for those that are compressed
/// within a form.
const BASE_BYTES: usize = 256 * 1024;

/// The memory of a beacon for each of its bytes.
const BYTES_PER_BYTE: usize = 256;

/// Reads one input as a beacon of the vendor, and answers it.
pub fn beacon(vendor: &str, data: &[u8]) {
    let beacon = find(vendor).and_then(|vendor| vendor.beacon).expect("a vendor with beacons");
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = data.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let Some((method, target)) = line.split_once(' ') else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(method) = method.parse::<Method>() else { return };
    if !beacon.endpoint(path).is_some_and(|methods| methods.accepts(&method)) {
        return;
    }
    let mut headers = HeaderMap::new();
    if body.starts_with(b"--") {
        let multipart = "multipart/form-data; boundary=X";
        headers.insert("content-type", HeaderValue::from_static(multipart));
    }
    let inbound = BeaconRequest {
        method: &method,
        path,
        query,
        headers: &headers,
        body,
        received_at: "2026-11-23T12:00:00Z".parse().expect("a time"),
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
    let before = Region::new(ALLOCATOR);
    let verdict = match beacon.decode(&inbound) {
        Ok(messages) => BeaconOutcome::Taken { events: messages.len() },
        Err(_) => BeaconOutcome::Ignored,
    };
    let taken = before.change().bytes_allocated;
    let most = BASE_BYTES + BYTES_PER_BYTE * data.len();
    assert!(taken <= most, "{taken} bytes for {} of input", data.len());
    beacon.answer(&inbound, verdict);
}

/// The fixed memory of a request: inflaters and the journal.
const REQUEST_BASE_BYTES: usize = 2 * 1024 * 1024;

/// The memory of a request in total, freed or not, for each byte of its body: the shortest event of 9
/// bytes becomes a message, a draft and a record.
const REQUEST_BYTES_PER_BYTE: usize = 1024;

/// Sends one input to a gateway as a request.
pub fn request(data: &[u8]) {
    static GATEWAY: OnceLock<Alone> = OnceLock::new();
    // Without quotas, which would refuse all but the first requests unread.
    const LIMITS: &str = "[limits]\nclient_per_second = 0\nclient_events_per_second = 0\n\
                          client_bytes_per_second = \"0B\"\n";
    let gateway = GATEWAY.get_or_init(|| Alone::start(LIMITS, ""));
    let [format, encoding, body @ ..] = data else { return };
    let formats: Vec<_> = ROUTES.iter().chain(BEACONS).collect();
    let format = formats[usize::from(*format) % formats.len()];
    let request =
        Request::builder().method("POST").uri(format.target).header("host", "t.shop.example");
    let request = request.header("origin", "https://shop.example");
    let form = "application/x-www-form-urlencoded";
    let content_type =
        if body.starts_with(b"--") { "multipart/form-data; boundary=X" } else { form };
    let request = request.header("content-type", content_type);
    let fast = flate2::Compression::fast();
    let (name, sent) = match encoding % 5 {
        1 => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), fast);
            out.write_all(body).expect("memory");
            ("gzip", out.finish().expect("memory"))
        }
        2 => {
            let mut out = flate2::write::ZlibEncoder::new(Vec::new(), fast);
            out.write_all(body).expect("memory");
            ("deflate", out.finish().expect("memory"))
        }
        3 => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 1, 16).write_all(body).expect("memory");
            ("br", out)
        }
        4 => ("zstd", zstd::encode_all(body, 1).expect("memory")),
        _ => ("identity", body.to_vec()),
    };
    let request = request.header("content-encoding", name).body(Bytes::from(sent));
    let request = request.expect("a request");
    let most = REQUEST_BASE_BYTES + REQUEST_BYTES_PER_BYTE * body.len();
    let measure = || {
        let before = Region::new(ALLOCATOR);
        gateway.ask(request.clone());
        before.change().bytes_allocated
    };
    // The journal makes new windows of message ids at every 500,000th, 18 MB: no work of the request that meets it,
    // and not repeated by it.
    let taken = Some(measure()).filter(|taken| *taken <= most).unwrap_or_else(measure);
    assert!(taken <= most, "{taken} bytes for {} of input of {}", body.len(), format.name);
}
