//! Tests of eviction: which rank is evicted, which is refused, and that accounts hold.

use super::tests::{ALL, JournalTestBench, at, dead, ended, settings};
use super::*;
use crate::journal::{DeadLetterFilter, Ending, JournalSearch, NewJournalRecord, ParkRequest};
use tagway_core::clock::Clock;
use tagway_core::event::SenderRank;

#[tokio::test]
async fn lower_ranks_are_evicted_first_and_servers_events_never() {
    let mut b = JournalTestBench::new(JournalSettings { max_bytes: 0, ..settings() }).await;
    use SenderRank::{Claimed, Proven, Server};
    for rank in [Server, Claimed, Proven, Server, Claimed, Proven, Proven] {
        b.append_as(1, rank).await;
    }
    let victims = |rank| {
        let site = b.site;
        b.journal.write_db(move |c| {
            let found = evict::of_rank(c, site, 0, rank)?.seqs;
            evict::evict(c, site, &found)
        })
    };
    assert_eq!(victims(Claimed).await.unwrap().events, 2);
    assert_eq!(b.seqs().await, [1, 3, 4, 6, 7]);
    assert_eq!(b.journal.make_room().await.unwrap(), 2, "the newest stays");
    assert_eq!(b.seqs().await, [1, 4, 7]);
    b.append_as(1, Claimed).await;
    assert_eq!(b.journal.make_room().await.unwrap(), 1);
    assert_eq!(b.seqs().await, [1, 4, 8]);
    assert_eq!((b.lost("proven"), b.lost("server")), (3, 0));
    let ledger = b.ledger().await;
    assert_eq!((ledger.accepted, ledger.dead, ledger.pending), (8, 5, 3));
    assert_eq!(b.journal.usage().await.unwrap().events, 3);
    b.reopen().await;
    assert_eq!(b.append_as(1, Server).await, [AppendOutcome::New { seq: 9 }]);
    // The reader reads what is left; nothing of it was counted before.
    let ends = [1, 4, 8, 9].map(|seq| ended(seq, Ending::Delivered)).to_vec();
    b.settle(at(9), ends, vec![]).await;
    let ledger = b.ledger().await;
    assert_eq!((ledger.delivered, ledger.dead, ledger.pending), (4, 5, 0));
}

#[tokio::test]
async fn settled_events_behind_an_unsettled_one_are_evicted_before_unsettled_ones() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append_as(1, SenderRank::Server).await;
    b.append(600).await;
    let park = ParkRequest { seq: 1, due_at: b.clock.now(), attempt: 7 };
    let ends = (2..=590).map(|seq| ended(seq, Ending::Delivered)).collect();
    b.settle(at(590), ends, vec![park]).await;
    b.reopen_with(JournalSettings { max_bytes: 0, ..settings() }).await;
    let mut evictor = evict::EvictionProgress::default();
    let first = b.journal.evict_some(&mut evictor).await.unwrap();
    assert_eq!(first, Some(499), "event 1 is looked at and stays");
    assert_eq!(b.journal.evict_some(&mut evictor).await.unwrap(), Some(90));
    assert_eq!(b.journal.usage().await.unwrap().evicted, 0);
    assert_eq!(b.seqs().await.len(), 12);
    assert_eq!(b.due().await, [1]);
    assert_eq!(b.ledger().await.pending, 12);
}

#[tokio::test]
async fn replay_skips_evicted_events() {
    let mut b = JournalTestBench::new(settings()).await;
    let from = b.clock.now();
    for _ in 0..8 {
        b.append_as(1, SenderRank::Server).await;
        b.append(1).await;
        b.clock.advance(60_000);
    }
    let ends = (1..=16).map(|seq| ended(seq, Ending::Delivered)).collect();
    b.settle(at(16), ends, vec![]).await;
    let site = b.site;
    let evict = move |c: &Connection| evict::evict(c, site, &[2, 4, 5, 6, 8, 10, 14]);
    assert_eq!(b.journal.write_db(evict).await.unwrap().lost, 0);
    let to = b.clock.now();
    assert_eq!(b.journal.replay(b.reader, from, to).await.unwrap(), 9);
    assert_eq!(b.due().await, [1, 3, 7, 9, 11, 12, 13, 15, 16]);
    b.ledger().await;
}

/// Appends one event of this size, and returns whether it was accepted.
async fn append_sized(
    b: &JournalTestBench,
    (site, id, bytes): (SiteId, u64, usize),
    rank: SenderRank,
) -> Result<(), AppendError> {
    let body = format!("\"{}\"", "x".repeat(bytes)).into_bytes();
    b.journal.append(vec![NewJournalRecord { site, body, rank, ..b.record(id) }]).await.map(drop)
}

#[tokio::test]
async fn full_journal_refuses_strangers_before_servers_and_takes_all_again() {
    let (max_bytes, spare_bytes) = (1 << 20, 24 << 20);
    let b = JournalTestBench::new(JournalSettings { max_bytes, spare_bytes, ..settings() }).await;
    let mut ids = 0..;
    let mut append =
        async |rank| append_sized(&b, (b.site, ids.next().unwrap(), 100_000), rank).await;
    for rank in [SenderRank::Claimed, SenderRank::Proven] {
        while append(rank).await.is_ok() {
            // Servers' events, which stay, take up the room.
            append(SenderRank::Server).await.unwrap();
            b.journal.make_room().await.unwrap();
        }
        assert!(matches!(append(rank).await, Err(AppendError::Full)));
        assert!(*b.journal.has_room().borrow(), "servers have more");
    }
    while append(SenderRank::Server).await.is_ok() {}
    assert!(!*b.journal.has_room().borrow());
    for rank in SenderRank::ALL {
        assert!(matches!(append(rank).await, Err(AppendError::Full)));
        let labels = tagway_core::metrics::SenderRankLabels { rank: disk_budget::label(rank) };
        assert!(b.journal.metrics.journal_refused.get_or_create(&labels).get() > 0);
    }
    let disk = b.journal.disk_use().await.unwrap();
    assert!(disk.total() <= max_bytes + spare_bytes + (1 << 19), "{disk:?}");
    let head = b.journal.head(b.site).borrow().seq;
    let ends = (1..=head).map(|seq| ended(seq, Ending::Delivered)).collect();
    b.settle(at(head), ends, vec![]).await;
    let mut has_room = b.journal.has_room();
    while !*has_room.borrow_and_update() {
        // The log is moved on a thread of its own.
        b.journal.make_room().await.unwrap();
    }
    for rank in SenderRank::ALL {
        append(rank).await.unwrap();
    }
}

#[tokio::test]
async fn eviction_orders_sites_by_age_and_ignores_other_tables() {
    let b = JournalTestBench::new(JournalSettings { max_bytes: 220_000, ..settings() }).await;
    let other = b.journal.site("other").await.unwrap();
    b.journal.reader(other, "ga4").await.unwrap();
    let others = "CREATE TABLE others (t); INSERT INTO others VALUES (zeroblob(5000000))";
    b.journal.write_db(|c| c.execute_batch(others)).await.unwrap();
    b.journal.make_room().await.unwrap();
    append_sized(&b, (b.site, 1, 100_000), SenderRank::Claimed).await.unwrap();
    b.clock.advance(1000);
    append_sized(&b, (other, 2, 150_000), SenderRank::Claimed).await.unwrap();
    assert_eq!(b.journal.make_room().await.unwrap(), 1);
    assert!(b.seqs().await.is_empty());
    assert_eq!(b.journal.read(other, 0, 10, ALL).await.unwrap().len(), 1);
}

#[tokio::test]
async fn dead_letters_are_counted_but_not_kept_when_the_journal_is_full() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append_as(2, SenderRank::Server).await;
    b.settle(at(1), vec![ended(1, dead())], vec![]).await;
    b.reopen_with(JournalSettings { max_bytes: 0, spare_bytes: 0, ..settings() }).await;
    b.settle(at(2), vec![ended(2, dead())], vec![]).await;
    assert_eq!(
        b.journal.list_dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().len(),
        1
    );
    assert_eq!(b.journal.metrics.dead_evicted.get(), 1);
    assert_eq!((b.ledger().await.dead, b.ledger().await.pending), (2, 0));
}

#[tokio::test]
async fn eviction_takes_settled_events_then_letters_then_unsettled_events() {
    let b = JournalTestBench::new(JournalSettings { max_bytes: 400_000, ..settings() }).await;
    let append = async |id: u64| {
        let body = format!("\"{}\"", "x".repeat(100_000)).into_bytes();
        b.journal.append(vec![NewJournalRecord { body, ..b.record(id) }]).await.unwrap();
    };
    for id in 0..4 {
        append(id).await;
    }
    // Another table in the same file, which does not count as the journal's.
    let others = "CREATE TABLE others (t); INSERT INTO others VALUES (zeroblob(5000000))";
    b.journal.write_db(|c| c.execute_batch(others)).await.unwrap();
    let ends = vec![ended(1, dead()), ended(2, Ending::Delivered)];
    b.settle(at(2), ends, vec![]).await;
    let held = async || {
        b.journal.retain(b.clock.now()).await.unwrap();
        (
            b.seqs().await,
            b.journal.list_dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().len(),
        )
    };
    assert_eq!(held().await, (vec![3, 4], 1), "two events and a letter fit");
    append(4).await;
    assert_eq!(held().await, (vec![3, 4, 5], 0), "a letter before what is to be delivered");
    assert_eq!(b.journal.metrics.dead_evicted.get(), 1);
    append(5).await;
    assert_eq!(held().await.1, 0);
    assert!(b.journal.usage().await.unwrap().evicted > 0, "and then that");
    b.ledger().await;
}
