//! Arbitrary input decodes without a panic, and its messages stay within a multiple of the bytes sent.

use http::Method;
use proptest::prelude::*;

use super::beacon::UmamiBeacon;
use crate::beacon_format::test_support::{TestBeaconRequest, broken};

/// The paths that the beacons are sent to.
const PATHS: &[&str] = &["/api/send", "/api/batch"];

/// Beacons as the library sends them.
const GOOD: &[&str] = &[
    r#"{"type":"event","payload":{"website":"w","screen":"1280x720","url":"/a?b=c","hostname":"h.example","name":"n","data":{"revenue":1},"id":"u"}}"#,
    r#"[{"type":"identify","payload":{"website":"w","id":"u","data":{"email":"a@b.co"}}}]"#,
];

/// Message bytes allowed per byte sent: even the short events of a list each get a context.
const TIMES: usize = 40;

fn read(path: &str, query: &str, body: &[u8]) {
    TestBeaconRequest::new(Method::POST, &format!("{path}?{query}"), body)
        .check(&UmamiBeacon, TIMES);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(
        path in prop::sample::select(PATHS),
        query in ".*",
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        read(path, &query, &body);
    }

    #[test]
    fn good_beacons_that_were_broken_are_read_without_harm(
        path in prop::sample::select(PATHS),
        body in prop::sample::select(GOOD).prop_flat_map(broken),
    ) {
        read(path, "", &body);
        read(path, &String::from_utf8_lossy(&body), b"");
    }
}
