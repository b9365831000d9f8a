//! Whatever is sent is read without harm, and bounded by what was sent.

use http::{HeaderMap, Method};
use jiff::Timestamp;
use proptest::prelude::*;

use super::beacon::Umami;
use crate::vendors::beacon::{Beacon, Inbound, Verdict};

/// Where they are sent.
const PATHS: &[&str] = &["/api/send", "/api/batch"];

/// Beacons as the library sends them.
const GOOD: &[&str] = &[
    r#"{"type":"event","payload":{"website":"w","screen":"1280x720","url":"/a?b=c","hostname":"h.example","name":"n","data":{"revenue":1},"id":"u"}}"#,
    r#"[{"type":"identify","payload":{"website":"w","id":"u","data":{"email":"a@b.co"}}}]"#,
];

/// The most bytes of messages that one byte sent may become, beyond what each message has anyway.
const TIMES: usize = 12;

fn read(path: &str, query: &str, body: &[u8]) {
    let inbound = Inbound {
        method: &Method::POST,
        path,
        query,
        headers: &HeaderMap::new(),
        body,
        received_at: Timestamp::UNIX_EPOCH,
        secure: true,
        authority: "t.example",
        mount: "/umami",
        daily_id: "daily1",
        max_bytes: 100_000,
    };
    if let Ok(messages) = Umami.decode(&inbound) {
        let bytes = serde_json::to_vec(&messages).unwrap().len();
        let most = TIMES * (query.len() + body.len()) + 1000 * messages.len();
        assert!(bytes <= most, "{bytes} bytes of {most}");
        assert!(messages.len() <= 1 + query.len() + body.len());
    }
    let _ = Umami.answer(&inbound, Verdict::Taken { events: 1 });
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
    fn good_beacons_that_were_spoilt_are_read_without_harm(
        path in prop::sample::select(PATHS),
        good in prop::sample::select(GOOD),
        at in any::<prop::sample::Index>(),
        end in any::<prop::sample::Index>(),
        with in prop::sample::select(&["", "{", "}", "[", "]", "\"", "null", "-1", "1e999", "%", "&", "=", "ü"][..]),
    ) {
        let (at, end) = (at.index(good.len()), end.index(good.len()));
        let (at, end) = (at.min(end), at.max(end));
        let mut spoilt = good.as_bytes().to_vec();
        spoilt.splice(at..end, with.bytes());
        read(path, "", &spoilt);
        read(path, &String::from_utf8_lossy(&spoilt), b"");
    }
}
