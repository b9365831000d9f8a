//! Requests that mean harm, or that somebody's bug made harmful.

use std::io::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::tests::{NOON, house, limits, page, track};
use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn what_a_batch_says_of_all_messages_counts_for_each() {
    let house = house().await;
    // Small for one message, large for ten.
    let batch = |padding: usize, messages: usize| {
        let messages: Vec<_> = (0..messages).map(|n| track(&n.to_string())).collect();
        json!({ "context": { "x": "y".repeat(padding) }, "batch": messages }).to_string()
    };
    assert_eq!(house.ask(page("/e"), batch(20_000, 10)).await.status, 204);
    let answer = house.ask(page("/e"), batch(32 * 1024, 2)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["rejected"][1]["reason"], "too_large");
    let answer = house.ask(page("/e"), gzip(batch(500_000, 10).as_bytes())).await;
    assert_eq!(answer.status, 413, "refused before anything is copied");
    assert_eq!(house.events().await.len(), 10);
}

#[tokio::test]
async fn a_list_without_end_is_not_read_to_its_end() {
    let house = house().await;
    let items = format!("[{}1", "1,".repeat(500_000));
    for body in [items.clone(), format!("{{\"batch\":{items}]}}")] {
        let answer = house.ask(page("/e"), gzip(body.as_bytes())).await;
        assert_eq!(answer.status, 413, "{:?}", answer.json());
        assert_eq!(answer.json()["code"], "too_many_events");
    }
}

#[tokio::test]
async fn no_timestamp_does_harm() {
    let house = house().await;
    for (n, time) in [i64::MIN, i64::MAX, 0, -1].into_iter().enumerate() {
        let mut message = track(&n.to_string());
        message["timestamp"] = json!(time.to_string());
        message["sentAt"] = json!(time);
        assert_eq!(house.ask(page("/e"), message.to_string()).await.status, 204, "{time}");
    }
}

proptest! {
    #[test]
    fn no_body_does_harm(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let limits = limits();
        let terms = decode::Terms { limits: &limits, kind: None, received_at: NOON.parse().unwrap() };
        if let Ok(envelope) = decode::open(&body, &terms) {
            let length = envelope.len();
            let (drafts, rejected) = envelope.judge(&terms);
            prop_assert_eq!(drafts.len() + rejected.len(), length);
        }
    }

    #[test]
    fn whatever_a_message_says_it_keeps_the_bounds(
        kind in "[a-z]{0,8}", name in ".{0,20}", id in ".{0,2000}", time in ".{0,30}",
    ) {
        let limits = limits();
        let received_at = NOON.parse().unwrap();
        let terms = decode::Terms { limits: &limits, kind: None, received_at };
        let message = json!({
            "type": kind, "event": name, "messageId": id, "anonymousId": id, "timestamp": time,
            "sentAt": time, "userId": name,
        });
        let text = message.to_string();
        let (drafts, _) = decode::open(text.as_bytes(), &terms).unwrap().judge(&terms);
        for draft in drafts {
            prop_assert!(draft.event.timestamp <= received_at);
            prop_assert!(!draft.event.message_id.is_empty());
            prop_assert!(draft.event.message_id.len() <= limits.field_bytes);
        }
    }

    #[test]
    fn no_query_does_harm(query in ".{0,300}") {
        drop(decode::from_query(&query));
    }
}
