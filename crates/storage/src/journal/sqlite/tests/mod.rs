//! Tests of the journal's guarantees on a real database file.

mod replay;
mod search;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::journal::{
    AppendDurability, DeadLetterFilter, DeadLetterSelection, EndedEvent, Ending, JournalSearch,
    MessageKey, MessageScope, OutcomeCause, PROJECTION, ParkRequest, ReaderLedger,
};
use crate::store::{CommitSyncMode, SqliteMigrations};
use tagway_core::clock::{Clock, ManualClock};
use tagway_core::event::SenderRank;

/// The scope of records from unproven senders.
const STRANGER: MessageScope<'_> = MessageScope::Stranger { name: "s", cookie: None };

pub(super) const ALL: JournalReadLimits = JournalReadLimits { events: 10_000, bytes: usize::MAX };

pub(super) struct JournalTestBench {
    folder: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) journal: SqliteJournal,
    pub(super) site: SiteId,
    pub(super) reader: ReaderId,
    /// The numbers of servers' events, in the model.
    pub(super) promised: std::collections::BTreeSet<u64>,
    next: u64,
}

pub(super) fn settings() -> JournalSettings {
    JournalSettings {
        durability: AppendDurability::Os,
        retain: Duration::from_secs(3600),
        max_bytes: u64::MAX,
        spare_bytes: 1 << 30,
        retain_dead: Duration::from_secs(7200),
        dedupe_window: Duration::from_secs(600),
        dedupe_entries: 1000,
        poison_starts: 3,
        letter_chars: 100,
        detail_chars: 100,
        queue_bytes: 1 << 20,
    }
}

async fn open(
    folder: &std::path::Path,
    clock: Arc<ManualClock>,
    settings: JournalSettings,
) -> SqliteJournal {
    let metrics = Arc::new(Metrics::new());
    let store =
        SqliteStore::open(folder, CommitSyncMode::Os, &[MIGRATIONS], metrics.clone()).unwrap();
    SqliteJournal::open(Arc::new(store), settings, clock, metrics).await.unwrap()
}

impl JournalTestBench {
    pub(super) async fn new(settings: JournalSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
        let journal = open(folder.path(), clock.clone(), settings).await;
        let site = journal.site("shop").await.unwrap();
        let reader = journal.reader(site, "ga4").await.unwrap();
        Self { folder, clock, journal, site, reader, promised: Default::default(), next: 0 }
    }

    pub(super) async fn reopen(&mut self) {
        self.reopen_with(self.journal.settings.clone()).await;
    }

    pub(super) async fn reopen_with(&mut self, settings: JournalSettings) {
        self.journal.close().await;
        self.journal = open(self.folder.path(), self.clock.clone(), settings).await;
        self.site = self.journal.site("shop").await.unwrap();
    }

    pub(super) fn record(&self, id: u64) -> NewJournalRecord {
        NewJournalRecord {
            site: self.site,
            message: MessageKey::in_scope("shop", STRANGER, &id.to_string()),
            rank: SenderRank::Claimed,
            received_at: self.clock.now(),
            identifies: id.is_multiple_of(2),
            body: format!("{{\"n\":{id}}}").into_bytes(),
        }
    }

    /// Reopens what a power cut now would leave.
    pub(super) async fn crash(&mut self) {
        let folder = tempfile::tempdir().unwrap();
        // The log first: nothing is written now, but its content may be moved.
        for name in ["tagway.db-wal", "tagway.db"] {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        self.journal.close().await;
        let settings = self.journal.settings.clone();
        self.journal = open(folder.path(), self.clock.clone(), settings).await;
        self.site = self.journal.site("shop").await.unwrap();
        self.folder = folder;
    }

    pub(super) async fn append(&mut self, count: u64) -> Vec<AppendOutcome> {
        self.append_as(count, SenderRank::Claimed).await
    }

    pub(super) async fn append_as(&mut self, count: u64, rank: SenderRank) -> Vec<AppendOutcome> {
        let record = |id| NewJournalRecord { rank, ..self.record(id) };
        let records = (self.next..self.next + count).map(record).collect();
        self.next += count;
        self.journal.append(records).await.unwrap()
    }

    pub(super) fn lost(&self, rank: &'static str) -> u64 {
        let labels = tagway_core::metrics::SenderRankLabels { rank };
        self.journal.metrics.journal_evicted.get_or_create(&labels).get()
    }

    pub(super) async fn settle(
        &self,
        position: ReaderPosition,
        ended: Vec<EndedEvent>,
        park: Vec<ParkRequest>,
    ) {
        let settlement = ReaderSettlement { position, ended, park };
        self.journal.settle(self.reader, settlement).await.unwrap();
    }

    pub(super) async fn account(&self, reader: ReaderId) -> ReaderAccount {
        self.journal.accounts(vec![reader]).await.unwrap().remove(0)
    }

    pub(super) async fn ledger(&self) -> ReaderLedger {
        let ledger = self.account(self.reader).await.ledger;
        assert_eq!(
            ledger.accepted,
            ledger.delivered + ledger.skipped + ledger.dead + ledger.pending + ledger.held,
            "{ledger:?}"
        );
        ledger
    }

    pub(super) async fn seqs(&self) -> Vec<u64> {
        let records = self.journal.read(self.site, 0, i64::MAX as u64, ALL).await.unwrap();
        records.iter().map(|record| record.seq).collect()
    }

    pub(super) async fn due(&self) -> Vec<u64> {
        let due = self.journal.due(self.reader, self.clock.now(), 1000).await.unwrap();
        due.iter().map(|due| due.record.seq).collect()
    }
}

pub(super) fn at(cursor: u64) -> ReaderPosition {
    ReaderPosition { cursor, ahead: Vec::new() }
}

pub(super) fn ended(seq: u64, ending: Ending) -> EndedEvent {
    EndedEvent { seq, was_parked: false, attempts: 1, ending }
}

pub(super) fn dead() -> Ending {
    Ending::Dead(OutcomeCause { code: "refused", detail: "HTTP 400".into() }, None)
}

#[tokio::test]
async fn append_is_counted_when_durable_even_if_the_caller_has_gone() {
    let b = JournalTestBench::new(settings()).await;
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    let count = Box::new(move |appended: &[AppendOutcome]| {
        count.fetch_add(appended.len() as u64, Ordering::Relaxed);
    });
    let mut append = b.journal.append_counted(vec![b.record(1), b.record(2)], count);
    // The append may have come any distance: no task waits for the answer.
    let _first = futures_util::poll!(&mut append);
    drop(append);
    let mut head = b.journal.head(b.site);
    head.wait_for(|head| head.seq == 2).await.unwrap();
    assert_eq!(counted.load(Ordering::Relaxed), 2, "before any reader sees them");
}

#[tokio::test]
async fn events_are_numbered_from_one_and_read_back_in_order() {
    let mut b = JournalTestBench::new(settings()).await;
    assert_eq!(b.append(2).await, [AppendOutcome::New { seq: 1 }, AppendOutcome::New { seq: 2 }]);
    b.append(3).await;
    assert_eq!(b.journal.head(b.site).borrow().seq, 5);
    let limit = JournalReadLimits { events: 2, bytes: 1000 };
    let records = b.journal.read(b.site, 1, 4, limit).await.unwrap();
    assert_eq!(records.iter().map(|r| r.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(records[0].body, "{\"n\":1}");
    assert_eq!(records[0].received_at, b.clock.now());
    assert!(!records[0].identifies && records[1].identifies);
    let one = JournalReadLimits { events: 10, bytes: 1 };
    assert_eq!(b.journal.read(b.site, 0, 9, one).await.unwrap().len(), 1, "at least one");
}

#[tokio::test]
async fn a_restart_keeps_message_ids_of_servers_browsers_and_strangers_apart() {
    let mut b = JournalTestBench::new(settings()).await;
    let senders = [
        (STRANGER, SenderRank::Claimed),
        (MessageScope::Browser("v1"), SenderRank::Proven),
        (MessageScope::Servers, SenderRank::Server),
    ];
    for (place, (scope, rank)) in senders.into_iter().enumerate() {
        let record = |b: &JournalTestBench| {
            let message = MessageKey::in_scope("shop", scope, "order-1");
            NewJournalRecord { message, rank, ..b.record(9) }
        };
        let seq = place as u64 + 1;
        let first = b.journal.append(vec![record(&b)]).await.unwrap();
        assert_eq!(first, [AppendOutcome::New { seq }], "{scope:?}");
        b.reopen().await;
        let again = b.journal.append(vec![record(&b)]).await.unwrap();
        assert_eq!(again, [AppendOutcome::Duplicate], "{scope:?}");
    }
}

#[tokio::test]
async fn the_same_message_is_accepted_once_even_across_a_restart() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(2).await;
    let again = || b.journal.append(vec![b.record(0), b.record(7), b.record(7)]);
    let expected =
        [AppendOutcome::Duplicate, AppendOutcome::New { seq: 3 }, AppendOutcome::Duplicate];
    assert_eq!(again().await.unwrap(), expected);
    b.reopen().await;
    assert_eq!(b.journal.append(vec![b.record(7)]).await.unwrap(), [AppendOutcome::Duplicate]);
    assert_eq!(b.seqs().await, [1, 2, 3]);
    b.clock.advance(1_300_000);
    let late = b.journal.append(vec![b.record(7)]).await.unwrap();
    assert_eq!(late, [AppendOutcome::New { seq: 4 }], "outside the window it is another event");
}

#[tokio::test]
async fn new_reader_starts_at_the_end_and_keeps_its_position() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(3).await;
    let late = b.journal.reader(b.site, "meta").await.unwrap();
    assert_eq!(b.journal.position(late).await.unwrap(), at(3));
    let ahead = ReaderPosition { cursor: 1, ahead: vec![(3, 3)] };
    b.settle(
        ahead.clone(),
        vec![ended(1, Ending::Delivered), ended(3, Ending::Skipped(OutcomeCause::new("unwanted")))],
        vec![],
    )
    .await;
    b.reopen().await;
    assert_eq!(b.journal.reader(b.site, "ga4").await.unwrap(), b.reader);
    assert_eq!(b.journal.position(b.reader).await.unwrap(), ahead);
    let ledger = b.ledger().await;
    assert_eq!((ledger.delivered, ledger.skipped, ledger.pending), (1, 1, 1));
}

#[tokio::test]
async fn a_refused_append_leaves_nothing_and_numbers_go_on() {
    let mut b = JournalTestBench::new(JournalSettings { queue_bytes: 100, ..settings() }).await;
    b.append(1).await;
    let mut record = b.record(50);
    record.body = vec![b' '; 200];
    assert!(matches!(b.journal.append(vec![record]).await, Err(AppendError::QueueFull)));
    // A group that the disk refuses: the table is renamed, so that inserts fail.
    b.journal.write_db(|c| c.execute_batch("ALTER TABLE events RENAME TO gone")).await.unwrap();
    let refused = b.journal.append(vec![b.record(60)]).await;
    assert!(matches!(refused, Err(AppendError::Unwritable(_))), "{refused:?}");
    b.journal.write_db(|c| c.execute_batch("ALTER TABLE gone RENAME TO events")).await.unwrap();
    b.journal.append(vec![b.record(61)]).await.unwrap();
    let head = JournalHead { seq: 2, identified: 1 };
    assert_eq!(*b.journal.head(b.site).borrow(), head, "the refused one has left no trace");
    let retried = b.journal.append(vec![b.record(60)]).await.unwrap();
    assert_eq!(retried, [AppendOutcome::New { seq: 3 }], "neither a gap nor a false duplicate");
}

#[tokio::test]
async fn parked_events_come_due_and_end_once() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(2).await;
    let due_at = b.clock.now() + Duration::from_secs(5);
    let parking = ParkRequest { seq: 1, due_at, attempt: 3 };
    b.settle(at(2), vec![ended(2, Ending::Delivered)], vec![parking]).await;
    assert_eq!(b.ledger().await.pending, 1);
    assert_eq!(b.journal.next_due(b.reader, b.clock.now()).await.unwrap(), Some(due_at));
    assert!(b.due().await.is_empty());
    b.clock.advance(5000);
    let due = b.journal.due(b.reader, b.clock.now(), 10).await.unwrap();
    assert_eq!((due[0].record.seq, due[0].attempt, due.len()), (1, 3, 1));
    assert_eq!(due[0].due_at, due_at);
    let end = EndedEvent { seq: 1, was_parked: true, attempts: 1, ending: Ending::Delivered };
    b.settle(at(2), vec![end.clone()], vec![]).await;
    b.settle(at(2), vec![end], vec![]).await;
    assert_eq!(b.ledger().await.delivered, 2);
    assert_eq!(b.journal.next_due(b.reader, b.clock.now()).await.unwrap(), None);
}

#[tokio::test]
async fn dead_letters_are_kept_shown_retried_and_dropped() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(3).await;
    let ends = vec![ended(1, dead()), ended(2, dead()), ended(3, Ending::Delivered)];
    b.settle(at(3), ends, vec![]).await;
    let letters =
        b.journal.list_dead_letters(DeadLetterFilter::of(b.reader), None, 10).await.unwrap();
    assert_eq!(letters.iter().map(|l| l.seq).collect::<Vec<_>>(), [2, 1], "newest first");
    assert_eq!((letters[0].reason.as_str(), letters[0].detail.as_str()), ("refused", "HTTP 400"));
    // The events leave; the letters keep their bodies.
    b.clock.advance(3_700_000);
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 3);
    let first = DeadLetterSelection::Ids(vec![letters[1].id, 12345]);
    assert_eq!(b.journal.retry_dead(first).await.unwrap(), 1);
    let due = b.journal.due(b.reader, b.clock.now(), 10).await.unwrap();
    assert_eq!(due[0].record.body, "{\"n\":0}");
    assert_eq!(b.ledger().await.pending, 1);
    let end = EndedEvent { seq: 1, was_parked: true, attempts: 1, ending: dead() };
    b.settle(at(3), vec![end], vec![]).await;
    assert_eq!(
        b.journal.list_dead_letters(DeadLetterFilter::default(), None, 10).await.unwrap().len(),
        2,
        "dead again, body and all"
    );
    assert_eq!(b.journal.drop_dead(DeadLetterSelection::Reader(b.reader)).await.unwrap(), 2);
    assert!(b.journal.dead_letter(letters[0].id).await.unwrap().is_none());
    assert_eq!(b.ledger().await.dead, 2, "dropped letters stay counted");
}

#[tokio::test]
async fn retention_keeps_what_a_reader_has_not_settled() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(4).await;
    let park = ParkRequest { seq: 2, due_at: b.clock.now(), attempt: 1 };
    b.settle(at(3), vec![ended(1, Ending::Delivered), ended(3, Ending::Delivered)], vec![park])
        .await;
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 0, "too young");
    b.clock.advance(3_700_000);
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 1);
    assert_eq!(b.seqs().await, [2, 3, 4], "2 is parked");
    b.settle(at(4), vec![ended(4, Ending::Delivered)], vec![]).await;
    let end = EndedEvent { seq: 2, was_parked: true, attempts: 1, ending: Ending::Delivered };
    b.settle(at(4), vec![end], vec![]).await;
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 3);
    b.reopen().await;
    assert_eq!(b.append(1).await, [AppendOutcome::New { seq: 5 }], "numbers are never used again");
}

#[tokio::test]
async fn retired_reader_keeps_no_events_and_its_account_still_adds_up() {
    let mut b = JournalTestBench::new(settings()).await;
    let other = b.journal.reader(b.site, "meta").await.unwrap();
    b.append(3).await;
    b.settle(at(3), (1..=3).map(|seq| ended(seq, Ending::Delivered)).collect(), vec![]).await;
    b.clock.advance(3_700_000);
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 0);
    b.journal.retire(vec![b.reader]).await.unwrap();
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 3);
    let ledger = b.account(other).await.ledger;
    assert_eq!((ledger.accepted, ledger.dead, ledger.pending), (3, 3, 0));
    assert_eq!(b.journal.usage().await.unwrap().evicted, 0, "nobody wanted them");
}

#[tokio::test]
async fn max_bytes_evicts_the_oldest_and_counts_them() {
    let mut b = JournalTestBench::new(JournalSettings { max_bytes: 0, ..settings() }).await;
    b.append(3).await;
    b.settle(
        ReaderPosition { cursor: 0, ahead: vec![(2, 2)] },
        vec![ended(2, Ending::Delivered)],
        vec![],
    )
    .await;
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 3);
    let ledger = b.ledger().await;
    assert_eq!((ledger.delivered, ledger.dead, ledger.pending), (1, 2, 0));
    assert_eq!(b.journal.usage().await.unwrap().evicted, 2);
    // A reader that was working on them meanwhile is not counted twice.
    b.settle(at(3), vec![ended(1, Ending::Delivered), ended(3, dead())], vec![]).await;
    assert_eq!(b.ledger().await, ledger);
    assert_eq!(b.journal.position(b.reader).await.unwrap(), at(3));
}

#[tokio::test]
async fn settlement_by_a_reader_unaware_of_evictions_keeps_the_account() {
    let mut b = JournalTestBench::new(JournalSettings { max_bytes: 0, ..settings() }).await;
    b.append(6).await;
    let ends = (2..=6).map(|seq| ended(seq, Ending::Delivered)).collect();
    b.settle(ReaderPosition { cursor: 0, ahead: vec![(2, 6)] }, ends, vec![]).await;
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 6);
    b.append(2).await;
    // Event 1 is still in flight at the reader, which reports its position from memory.
    let behind = ReaderPosition { cursor: 0, ahead: vec![(2, 7)] };
    b.settle(behind, vec![ended(7, Ending::Delivered)], vec![]).await;
    assert_eq!(b.journal.position(b.reader).await.unwrap(), at(7));
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 2);
    let ledger = b.ledger().await;
    assert_eq!((ledger.delivered, ledger.dead, ledger.pending), (6, 2, 0));
}

#[tokio::test]
async fn retention_runs_every_part_even_if_one_fails() {
    let mut b = JournalTestBench::new(settings()).await;
    b.append(1).await;
    b.settle(at(1), vec![ended(1, dead())], vec![]).await;
    b.clock.advance(7_300_000);
    b.journal.write_db(|c| c.execute_batch("ALTER TABLE events RENAME TO gone")).await.unwrap();
    b.journal.retain(b.clock.now()).await.unwrap_err();
    b.journal.write_db(|c| c.execute_batch("ALTER TABLE gone RENAME TO events")).await.unwrap();
    assert!(
        b.journal
            .list_dead_letters(DeadLetterFilter::default(), None, 10)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn site_without_active_readers_loses_its_events_until_it_returns() {
    let mut b = JournalTestBench::new(settings()).await;
    let other = b.journal.site("closed").await.unwrap();
    let readers = [
        b.journal.reader(other, "ga4").await.unwrap(),
        b.journal.reader(other, PROJECTION).await.unwrap(),
    ];
    let append = async |id: u64| {
        let record = NewJournalRecord { site: other, ..b.record(id) };
        b.journal.append(vec![record]).await.unwrap();
        b.clock.advance(3_700_000);
        b.journal.retain(b.clock.now()).await.unwrap()
    };
    assert_eq!(append(100).await, 0);
    b.journal.retire(vec![b.reader]).await.unwrap();
    assert_eq!(append(101).await, 2);
    b.journal.retire(vec![b.reader, readers[0], readers[1]]).await.unwrap();
    assert_eq!(append(102).await, 0);
    b.append(1).await;
}

#[tokio::test]
async fn events_missed_by_the_projection_are_no_lost_deliveries() {
    let mut b = JournalTestBench::new(JournalSettings { max_bytes: 0, ..settings() }).await;
    let projection = b.journal.reader(b.site, PROJECTION).await.unwrap();
    b.append(3).await;
    b.settle(at(3), (1..=3).map(|seq| ended(seq, Ending::Delivered)).collect(), vec![]).await;
    assert_eq!(b.journal.retain(b.clock.now()).await.unwrap(), 3);
    assert_eq!(b.journal.usage().await.unwrap().evicted, 0);
    assert_eq!(b.journal.position(projection).await.unwrap(), at(3));
}

#[tokio::test]
async fn projection_keeps_its_position_when_its_reader_is_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Arc::new(Metrics::new());
    let steps = MIGRATIONS.steps.split_at(1).0;
    let before = SqliteMigrations { steps, ..MIGRATIONS };
    let store =
        SqliteStore::open(folder.path(), CommitSyncMode::Os, &[before], metrics.clone()).unwrap();
    let rows = "INSERT INTO sites VALUES (1, 'shop', 0);
        INSERT INTO readers (id, site, name, start_seq, cursor) VALUES (7, 1, 'profiles', 0, 5);
        INSERT INTO events VALUES ((1 << 46) + 6, 0, 0, x'00', '{}');
        INSERT INTO parked (reader, seq, due_at, attempt) VALUES (7, 2, 0, 0)";
    store.write(|c| c.execute_batch(rows)).await.unwrap();
    store.close().await;
    drop(store);
    let clock = Arc::new(ManualClock::new("2026-11-23T10:00:00Z".parse().unwrap()));
    let journal = open(folder.path(), clock, settings()).await;
    let site = journal.site("shop").await.unwrap();
    let projection = journal.reader(site, PROJECTION).await.unwrap();
    assert_eq!((projection, journal.position(projection).await.unwrap()), (ReaderId(7), at(5)));
    assert_eq!(
        journal.accounts(vec![projection]).await.unwrap()[0].ledger.pending,
        1,
        "nothing is parked there"
    );
    let destination = journal.reader(site, "profiles").await.unwrap();
    assert_ne!(destination, projection);
    assert_eq!(journal.position(destination).await.unwrap(), at(6), "it starts afresh");
}
