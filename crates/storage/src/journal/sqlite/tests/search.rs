//! Searches for operators: pages of events, dead letters by filter, and their groups.

use super::*;
use crate::journal::{DeadLetterGroup, LastVendorCall};

/// A dead letter to be.
struct Death<'d> {
    event: &'d str,
    reason: &'static str,
    reply: &'d str,
    status: u16,
}

impl JournalTestBench {
    /// Appends an event for each death and settles it, one second after the other.
    async fn kill(&mut self, deaths: &[Death<'_>]) {
        for Death { event, reason, reply, status } in deaths {
            let mut record = self.record(self.next);
            let name = format!("{{\"type\":\"track\",\"event\":\"{event}\",\"n\":{}}}", self.next);
            record.body = name.into_bytes();
            self.next += 1;
            let appended = self.journal.append(vec![record]).await.unwrap();
            let AppendOutcome::New { seq } = appended[0] else { panic!("a duplicate") };
            let call = LastVendorCall {
                at: self.clock.now(),
                request: "POST /".to_owned(),
                status: Some(*status),
                reply: (*reply).to_owned(),
            };
            let cause = OutcomeCause { code: reason, detail: "".into() };
            let ending = Ending::Dead(cause, Some(Arc::new(call)));
            self.settle(super::at(seq), vec![ended(seq, ending)], vec![]).await;
            self.clock.advance(1000);
        }
    }

    async fn seqs_of(&self, filter: DeadLetterFilter) -> Vec<u64> {
        let letters = self.journal.list_dead_letters(filter, None, 10).await.unwrap();
        letters.iter().map(|letter| letter.seq).collect()
    }
}

const REFUSED: Death<'_> =
    Death { event: "Order Completed", reason: "refused", reply: "bad value 1", status: 400 };

fn deaths() -> Vec<Death<'static>> {
    vec![
        REFUSED,
        Death { event: "Clicked", ..REFUSED },
        Death { reply: "bad value 22", ..REFUSED },
        Death { reason: "too_old", reply: "", status: 200, ..REFUSED },
    ]
}

#[tokio::test]
async fn dead_letters_are_selected_by_each_member_of_the_filter() {
    let mut b = JournalTestBench::new(settings()).await;
    let start = b.clock.now();
    b.kill(&deaths()).await;
    let all = DeadLetterFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (all(), vec![4, 3, 2, 1]),
        (DeadLetterFilter::of(b.reader), vec![4, 3, 2, 1]),
        (DeadLetterFilter::of(ReaderId(99)), vec![]),
        (DeadLetterFilter { readers: Some(vec![]), ..all() }, vec![]),
        (DeadLetterFilter { reason: text("too_old"), ..all() }, vec![4]),
        (DeadLetterFilter { event: text("Clicked"), ..all() }, vec![2]),
        (DeadLetterFilter { failure: text("bad value #"), ..all() }, vec![3, 2, 1]),
        (DeadLetterFilter { text: text("CLICK"), ..all() }, vec![2]),
        (DeadLetterFilter { text: text("value #"), ..all() }, vec![3, 2, 1]),
        (DeadLetterFilter { text: text("'; DROP TABLE dead; --"), ..all() }, vec![]),
        (DeadLetterFilter { from: Some(start + Duration::from_secs(2)), ..all() }, vec![4, 3]),
        (DeadLetterFilter { to: Some(start + Duration::from_secs(1)), ..all() }, vec![1]),
        (
            DeadLetterFilter {
                event: text("Order Completed"),
                reason: text("refused"),
                ..DeadLetterFilter::of(b.reader)
            },
            vec![3, 1],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(b.seqs_of(filter.clone()).await, expected, "{filter:?}");
        let which = DeadLetterSelection::Matching { filter, until_id: i64::MAX };
        let count = b.journal.count_dead_letters(which).await.unwrap();
        assert_eq!(count, expected.len() as u64);
    }
    let page = b.journal.list_dead_letters(DeadLetterFilter::of(b.reader), Some(4), 2);
    let page: Vec<i64> = page.await.unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(page, [3, 2]);
}

#[tokio::test]
async fn act_on_a_filter_touches_no_later_letter() {
    let mut b = JournalTestBench::new(settings()).await;
    b.kill(&deaths()).await;
    let filter = DeadLetterFilter { reason: Some("refused".to_owned()), ..Default::default() };
    let which = DeadLetterSelection::Matching { filter: filter.clone(), until_id: 2 };
    assert_eq!(b.journal.count_dead_letters(which.clone()).await.unwrap(), 2);
    assert_eq!(b.journal.retry_dead(which).await.unwrap(), 2);
    assert_eq!(b.seqs_of(DeadLetterFilter::default()).await, [4, 3]);
    assert_eq!((b.ledger().await.dead, b.ledger().await.pending), (2, 2));
    let which = DeadLetterSelection::Matching { filter, until_id: i64::MAX };
    assert_eq!(b.journal.drop_dead(which).await.unwrap(), 1);
    assert_eq!(b.seqs_of(DeadLetterFilter::default()).await, [4]);
}

#[tokio::test]
async fn groups_join_replies_that_differ_in_values() {
    let mut b = JournalTestBench::new(settings()).await;
    let start = b.clock.now();
    b.kill(&deaths()).await;
    let found = b.journal.dead_letter_groups(DeadLetterFilter::default(), 10).await.unwrap();
    let first = DeadLetterGroup {
        reader: b.reader,
        reason: "refused".into(),
        failure: "bad value #".into(),
        status: Some(400),
        count: 3,
        first_at: start,
        last_at: start + Duration::from_secs(2),
        last_id: 3,
    };
    assert_eq!((found.groups.len(), found.total, found.is_bounded), (2, 4, false));
    assert_eq!(found.groups[0], first);
    let few = b.journal.dead_letter_groups(DeadLetterFilter::default(), 1).await.unwrap();
    assert_eq!((few.groups, few.total, few.is_bounded), (vec![first], 4, true));
    let filter = DeadLetterFilter { event: Some("Clicked".into()), ..DeadLetterFilter::default() };
    let clicked = b.journal.dead_letter_groups(filter, 10).await.unwrap();
    assert_eq!((clicked.groups.len(), clicked.total), (1, 1));
}

#[tokio::test]
async fn events_are_paged_backwards_within_the_limits() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(5).await;
    let limit = |events, bytes| JournalReadLimits { events, bytes };
    let page = async |before, limit| {
        let records = b.journal.events_before(b.site, before, limit).await.unwrap();
        records.iter().map(|record| record.seq).collect::<Vec<_>>()
    };
    assert_eq!(page(None, limit(2, 1000)).await, [5, 4]);
    assert_eq!(page(Some(4), limit(10, 1000)).await, [3, 2, 1]);
    assert_eq!(page(None, limit(10, 1)).await, [5], "at least one");
    assert!(page(Some(1), ALL).await.is_empty() && page(Some(0), ALL).await.is_empty());
    let other = b.journal.site("other").await.unwrap();
    assert!(b.journal.events_before(other, None, ALL).await.unwrap().is_empty());
}

/// The measure of pages and groups of many letters. The bound is ten times the usual time, for slow machines.
#[tokio::test]
async fn hundred_thousand_letters_page_and_group_quickly() {
    let b = JournalTestBench::new(settings()).await;
    let reader = b.reader.0;
    b.journal
        .write_db(move |c| {
            c.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
                INSERT INTO dead (reader, seq, reason, detail, at, received_at, body, event, failure, status)
                SELECT ?, i, 'refused', 'HTTP 400', i, i, printf('%01000d', i), 'Event ' || (i % 50),
                    'failure ' || (i % 1000), 400 FROM n",
                [reader],
            )
        })
        .await
        .unwrap();
    let selective =
        DeadLetterFilter { event: Some("Event 49".into()), ..DeadLetterFilter::default() };
    let rare = DeadLetterFilter { text: Some("failure 999".into()), ..DeadLetterFilter::default() };
    for filter in [DeadLetterFilter::of(b.reader), selective, rare] {
        let started = tokio::time::Instant::now();
        let letters = b.journal.list_dead_letters(filter.clone(), Some(60_000), 100).await.unwrap();
        let elapsed = started.elapsed();
        assert!(!letters.is_empty() && elapsed < Duration::from_secs(1), "{elapsed:?} {filter:?}");
        println!("page in {elapsed:?}: {filter:?}");
    }
    let started = tokio::time::Instant::now();
    let found = b.journal.dead_letter_groups(DeadLetterFilter::default(), 200).await.unwrap();
    println!("groups in {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!((found.groups.len(), found.total, found.is_bounded), (200, 100_000, true));
    assert_eq!(found.groups[0].count, 100);
}
