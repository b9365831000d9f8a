//! Arbitrary input decodes without a panic, and its messages stay within a multiple of the bytes sent.

use http::Method;
use proptest::prelude::*;

use super::beacon::MatomoBeacon;
use crate::beacon_format::test_support::{TestBeaconRequest, broken};

/// The paths that the beacons are sent to.
const PATHS: &[&str] = &["/matomo.php"];

/// Beacons as the library sends them.
const GOOD: &[&str] = &[
    r#"idsite=7&rec=1&r=071575&url=https%3A%2F%2Fs.example%2F&_id=a275e1309ec7ea27&pv_id=KyGGpp&idgoal=0&ec_id=O1&revenue=9.5&ec_items=%5B%5B%22S%22%2C%22N%22%2C%5B%22C%22%5D%2C1.5%2C2%5D%5D&cvar=%7B%221%22%3A%5B%22a%22%2C%22b%22%5D%7D&dimension1=x"#,
    r#"{"requests":["?idsite=1&rec=1&action_name=T&_pks=S&_pkp=2&_pkc=%5B%22A%22%5D","?idsite=1&rec=1&e_c=c&e_a=a"],"send_image":0}"#,
];

/// Message bytes allowed per byte sent: even the short hits of a list each get a context.
const TIMES: usize = 40;

fn read(path: &str, query: &str, body: &[u8]) {
    TestBeaconRequest::new(Method::POST, &format!("{path}?{query}"), body)
        .check(&MatomoBeacon, TIMES);
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
