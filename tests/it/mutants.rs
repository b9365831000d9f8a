//! Recorded and mutated vendors' beacons against the gateway: it answers every one of them like the
//! vendor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Gateway, NO_RATES, SITE, send};
use crate::recorded::Recorded;

/// The number of requests.
const REQUESTS: usize = 10_000;

/// The seed: the requests are always the same.
const SEED: u64 = 4;

/// The cases of every vendor that has beacons.
fn cases() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vendors");
    let folders = |parent: PathBuf| {
        let mut found: Vec<PathBuf> = fs::read_dir(parent)
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        found.sort();
        found
    };
    let mut cases = Vec::new();
    for vendor in folders(root) {
        let name = vendor.file_name().unwrap().to_string_lossy().into_owned();
        cases.extend(folders(vendor.join("beacon")).into_iter().map(|case| (name.clone(), case)));
    }
    assert!(!cases.is_empty());
    cases
}

fn expected_status(case: &Path) -> u16 {
    let answer = fs::read_to_string(case.join("expected.answer.http")).unwrap();
    answer.lines().next().unwrap().parse().unwrap()
}

/// Sends a beacon from a page of the shop; returns the status.
fn replay(gateway: &Gateway, vendor: &str, beacon: &Recorded) -> u16 {
    let mut path = format!("/{vendor}{}", beacon.path);
    if !beacon.query.is_empty() {
        path = format!("{path}?{}", beacon.query);
    }
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let mut fields: Vec<(String, String)> =
        beacon.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    fields.retain(|(name, _)| !matches!(name.as_str(), "host" | "content-length" | "origin"));
    fields.push(("origin".to_owned(), "https://shop.example".to_owned()));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let answer = send(gateway.http, (beacon.method.as_str(), &path), &fields, &beacon.body);
    answer.unwrap().status
}

/// A few random changes to a beacon's query and body.
fn mutate(beacon: &mut Recorded, random: &mut fastrand::Rng, others: &[Recorded]) {
    let mut query = std::mem::take(&mut beacon.query).into_bytes();
    for _ in 0..=random.usize(..4) {
        let is_query = beacon.body.is_empty() || (!query.is_empty() && random.u8(..4) == 0);
        let bytes = if is_query { &mut query } else { &mut beacon.body };
        if bytes.is_empty() {
            continue;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..6) {
            0 => bytes[at] = random.u8(..),
            1 => bytes.truncate(at),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, *random.choice(b"{}[]\"\\,:&=%+~;\0\xff").unwrap()),
            4 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            _ => {
                let other = &random.choice(others).unwrap().body;
                let from = random.usize(..=other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
        }
        bytes.truncate(32 * 1024);
    }
    // Bytes that a browser would not send in a URL never reach the vendor's code.
    query.retain(|byte| byte.is_ascii_graphic() && !b"\"<>#".contains(byte));
    query.truncate(4096);
    beacon.query = String::from_utf8(query).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutated_beacons_are_answered_like_by_their_vendors() {
    let gateway = Gateway::start(&format!("{NO_RATES}{SITE}")).await;
    let cases = cases();
    let beacons: Vec<Recorded> = cases.iter().map(|(_, case)| Recorded::read(case)).collect();
    // The statuses of each endpoint for its library.
    let mut expected: BTreeMap<(&str, &str), BTreeSet<u16>> = BTreeMap::new();
    for ((vendor, case), beacon) in cases.iter().zip(&beacons) {
        expected.entry((vendor, &beacon.path)).or_default().insert(expected_status(case));
    }
    tokio::task::block_in_place(|| {
        for ((vendor, case), beacon) in cases.iter().zip(&beacons) {
            let status = replay(&gateway, vendor, beacon);
            assert_eq!(status, expected_status(case), "{}", case.display());
        }
        let mut random = fastrand::Rng::with_seed(SEED);
        for _ in cases.len()..REQUESTS {
            let at = random.usize(..cases.len());
            let (mut mutant, vendor) = (beacons[at].clone(), cases[at].0.as_str());
            mutate(&mut mutant, &mut random, &beacons);
            let status = replay(&gateway, vendor, &mutant);
            let known = &expected[&(vendor, beacons[at].path.as_str())];
            let is_known = known.contains(&status) || matches!(status, 200 | 202 | 204);
            assert!(is_known, "{vendor}: {status} for {mutant:?}");
        }
    });
    let health = gateway.post("/e", &[], br#"{"type":"track","event":"x","anonymousId":"a"}"#);
    assert_eq!(health.await.status, 204, "and it goes on");
}
