//! Tests of the replay of a window of time.

use std::time::Duration;

use super::super::super::*;
use super::{JournalTestBench, at, ended, settings};
use tagway_core::clock::Clock as _;

#[tokio::test]
async fn replay_sends_only_ended_events_of_the_window_and_once() {
    let mut b = JournalTestBench::new(settings()).await;
    let from = b.clock.now();
    b.append(2).await;
    b.clock.advance(60_000);
    b.append(2).await;
    let to = b.clock.now();
    b.clock.advance(60_000);
    b.append(2).await;
    let ends = (1..=4).map(|seq| ended(seq, Ending::Delivered)).collect();
    b.settle(at(4), ends, vec![]).await;
    let plan = |count, pending| ReplayPlan { count, dead: 0, pending };
    assert_eq!(b.journal.replay_plan(b.reader, from, to).await.unwrap(), plan(2, 0));
    let late = to + Duration::from_secs(600);
    assert_eq!(b.journal.replay_plan(b.reader, from, late).await.unwrap(), plan(4, 2));
    assert_eq!(b.due().await, [0; 0], "a plan changes nothing");
    let replayed = b.journal.replay(b.reader, from, to).await.unwrap();
    assert_eq!((replayed, b.due().await), (2, vec![1, 2]), "`to` is exclusive");
    assert_eq!(b.journal.replay_plan(b.reader, from, to).await.unwrap(), plan(0, 2));
    assert_eq!(b.journal.replay(b.reader, from, to).await.unwrap(), 0, "already under way");
    let everything = b.journal.replay(b.reader, from, to + Duration::from_secs(600)).await.unwrap();
    assert_eq!((everything, b.due().await), (2, vec![1, 2, 3, 4]), "5 and 6 are still to come");
    assert_eq!(b.ledger().await.accepted, 10);
}
