//! One beacon per input: a line with method and target below the vendor's mount, then the body.

use std::alloc::System;

use http::{HeaderMap, HeaderValue, Method};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tagway::vendors::beacon::{Inbound, Verdict};
use tagway::vendors::find;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a beacon may take however little it says: the window and the buffers of an inflater, for those
/// that are compressed within a form.
const BASE_BYTES: usize = 256 * 1024;

/// What it may take for each byte that it has.
const BYTES_PER_BYTE: usize = 256;

/// Reads one input as a beacon of the vendor's, and answers it.
pub fn beacon(vendor: &str, data: &[u8]) {
    let beacon = find(vendor).and_then(|vendor| vendor.beacon).expect("a vendor with beacons");
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (line, body) = data.split_at(end);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let Some((method, target)) = line.split_once(' ') else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Ok(method) = method.parse::<Method>() else { return };
    if !beacon.endpoint(path).is_some_and(|methods| methods.take(&method)) {
        return;
    }
    let mut headers = HeaderMap::new();
    if body.starts_with(b"--") {
        let multipart = "multipart/form-data; boundary=X";
        headers.insert("content-type", HeaderValue::from_static(multipart));
    }
    let inbound = Inbound {
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
        max_bytes: 1 << 20,
    };
    let before = Region::new(ALLOCATOR);
    let verdict = match beacon.decode(&inbound) {
        Ok(messages) => Verdict::Taken { events: messages.len() },
        Err(_) => Verdict::Ignored,
    };
    let taken = before.change().bytes_allocated;
    let most = BASE_BYTES + BYTES_PER_BYTE * data.len();
    assert!(taken <= most, "{taken} bytes for {} of input", data.len());
    beacon.answer(&inbound, verdict);
}
