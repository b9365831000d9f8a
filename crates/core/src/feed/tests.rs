//! Tests of the feed: what it renders, keeps, and follows.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::event::Event;

fn event(message_id: &str, user: &str) -> Event {
    let event = json!({
        "type": "track", "event": "Order Completed", "messageId": message_id, "userId": user,
        "timestamp": "2026-11-23T10:00:00Z", "receivedAt": "2026-11-23T10:00:00Z",
        "facts": {"format": "sdk"},
    });
    serde_json::from_value(event).unwrap()
}

fn settled(seq: u64, detail: &str) -> FeedEvent {
    FeedEvent::Settled {
        at: Timestamp::UNIX_EPOCH,
        site: "shop".into(),
        destination: "ga4".into(),
        seq,
        subject: EventSubject::of(&event("m1", "user-1")),
        outcome: "dead",
        reason: "refused",
        detail: Some(detail.to_owned()),
        attempt: 1,
        milliseconds: None,
        dropped: Vec::new(),
    }
}

/// Publishes a happening to event 1 of `shop`. Returns true if it was rendered.
fn is_rendered(feed: &LiveFeed) -> bool {
    let mut is_rendered = false;
    feed.publish("shop", &[1], || {
        is_rendered = true;
        settled(1, "")
    });
    is_rendered
}

#[test]
fn nothing_is_rendered_without_watchers_and_traces() {
    let feed = LiveFeed::default();
    assert!(!is_rendered(&feed) && !feed.wants("shop", &[1]));
    let traces = feed.traces();
    let now = Timestamp::UNIX_EPOCH;
    traces.start("t1", "shop", Some("user-1".to_owned()), now).unwrap();
    assert!(!is_rendered(&feed), "the trace does not follow this event yet");
    let of_event = traces.of_event("shop", &EventSubject::of(&event("m1", "user-1")), None, now);
    traces.follow(&of_event, 1);
    assert!(is_rendered(&feed));
    let mut other = false;
    feed.publish("shop", &[2], || {
        other = true;
        settled(2, "")
    });
    assert!(!other && !feed.wants("other", &[1]));
    assert!(traces.end("t1") && !is_rendered(&feed) && !traces.is_active());
}

#[tokio::test(start_paused = true)]
async fn recent_happenings_are_kept_until_ten_minutes_after_the_last_watcher() {
    let feed = LiveFeed::default();
    let (first, second) = (feed.watch(), feed.watch());
    for seq in 0..600 {
        feed.publish("shop", &[seq], || settled(seq, ""));
    }
    drop(first);
    drop(second);
    tokio::time::advance(Duration::from_secs(599)).await;
    assert!(is_rendered(&feed));
    let (watcher, recent) = feed.watch_with_recent();
    assert_eq!((recent.len(), recent[0].seqs()), (BACKLOG, &[101][..]));
    assert_eq!(recent.last().unwrap().seqs(), [1]);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert!(is_rendered(&feed), "a watcher that says nothing still watches");
    drop(watcher);
    tokio::time::advance(Duration::from_secs(601)).await;
    assert!(!is_rendered(&feed));
    assert!(feed.watch_with_recent().1.is_empty());
}

#[tokio::test]
async fn each_happening_is_recent_or_still_to_come() {
    let feed = LiveFeed::default();
    let _first = feed.watch();
    feed.publish("shop", &[1], || settled(1, ""));
    let (mut watcher, recent) = feed.watch_with_recent();
    feed.publish("shop", &[2], || settled(2, ""));
    assert_eq!((recent.len(), recent[0].seqs()), (1, &[1][..]));
    assert_eq!(watcher.recv().await.unwrap().seqs(), [2]);
}

#[test]
fn secrets_are_hidden_in_traces_too() {
    let redaction = SecretRedactor::default();
    redaction.add(&tagway_settings::SecretString::new("top-secret-value"));
    let feed = LiveFeed::new(redaction);
    let now = Timestamp::UNIX_EPOCH;
    feed.traces().start("t1", "shop", None, now).unwrap();
    feed.traces().follow(&["t1".into()], 1);
    feed.publish("shop", &[1], || settled(1, "it says top-secret-value"));
    let (_, happenings) = feed.traces().read("t1", now).unwrap();
    let shown = serde_json::to_string(&*happenings[0]).unwrap();
    assert!(!shown.contains("top-secret-value"), "{shown}");
}

#[test]
fn trace_of_a_link_follows_the_browser_that_opened_it() {
    let traces = TraceRegistry::default();
    let now = Timestamp::UNIX_EPOCH;
    let subject = |user| EventSubject::of(&event("m1", user));
    traces.start("t1", "shop", None, now).unwrap();
    assert!(traces.of_event("shop", &subject("user-1"), None, now).is_empty());
    assert!(traces.of_event("other", &subject("user-1"), Some("t1"), now).is_empty());
    let opened = traces.of_event("shop", &subject("user-1"), Some("t1"), now);
    assert_eq!(opened, [Arc::<str>::from("t1")]);
    assert_eq!(traces.of_event("shop", &subject("user-1"), None, now), opened);
    assert!(traces.of_event("shop", &subject("user-2"), None, now).is_empty());
    let over = now + TRACE_TIME;
    assert!(traces.of_event("shop", &subject("user-1"), None, over).is_empty());
    assert!(!traces.is_active() && traces.read("t1", over).is_none());
}

#[test]
fn link_of_a_visitors_trace_follows_nobody_else() {
    let traces = TraceRegistry::default();
    let now = Timestamp::UNIX_EPOCH;
    traces.start("t1", "shop", Some("user-1".to_owned()), now).unwrap();
    let other = EventSubject::of(&event("m1", "user-2"));
    assert!(traces.of_event("shop", &other, Some("t1"), now).is_empty());
}

#[test]
fn traces_are_bounded_in_number_and_size() {
    let feed = LiveFeed::default();
    let now = Timestamp::UNIX_EPOCH;
    for number in 0..MAX_TRACES {
        feed.traces().start(&format!("t{number}"), "shop", None, now).unwrap();
    }
    assert_eq!(feed.traces().start("more", "shop", None, now), Err(TooManyTraces));
    feed.traces().follow(&["t0".into()], 1);
    let text = "x".repeat(100_000);
    for _ in 0..20 {
        feed.publish("shop", &[1], || settled(1, &text));
    }
    let (summary, happenings) = feed.traces().read("t0", now).unwrap();
    assert_eq!((happenings.len(), summary.missed, summary.events), (10, 10, 1));
    let later = now + TRACE_TIME + SignedDuration::from_secs(1);
    assert!(feed.traces().start("more", "shop", None, later).is_ok());
    assert_eq!(feed.traces().list(later).len(), 1);
}

#[test]
fn visitor_is_found_by_a_complete_id_or_its_beginning() {
    let subject = EventSubject::of(&event("m1", "user-12345678-secret"));
    assert_eq!(subject.visitor.as_deref(), Some("user-123…"));
    for known in ["user-12345678-secret", "user", "user-123", "user-123…"] {
        assert!(subject.is_of_visitor(known), "{known}");
    }
    for other in ["user-2", "…", "", "user-1234", "user-12345678-secre"] {
        assert!(!subject.is_of_visitor(other), "{other}");
    }
    let shown = serde_json::to_string(&subject).unwrap();
    assert!(!shown.contains("secret") && shown.contains("\"source\":\"sdk\""), "{shown}");
}
