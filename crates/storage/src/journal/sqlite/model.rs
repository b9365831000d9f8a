//! A model test of the account of a reader, under every mix of settling, replay, retention and eviction.
//!
//! The model's reader has a memory of its own, as a destination's worker does: it notices evicted
//! events only when it reads on.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{JournalTestBench, dead, settings};
use super::*;
use crate::journal::{DeadLetterSelection, EndedEvent, Ending, OutcomeCause, ParkRequest};
use tagway_core::clock::Clock;
use tagway_core::event::SenderRank;

#[derive(Clone, Copy, Debug)]
enum ModelOutcome {
    Delivered,
    Skipped,
    Dead,
    Parked,
}

#[derive(Clone, Debug)]
enum ModelStep {
    Append(u64, SenderRank),
    Read(u64),
    End(prop::sample::Index, ModelOutcome),
    Settle,
    TakeUp,
    EndParked(prop::sample::Index, ModelOutcome),
    Retry,
    DropLetters,
    Replay,
    Age,
    EvictRank(SenderRank),
    EvictSome(u64, prop::sample::Index),
    EvictSettled,
    MakeRoom,
    Restart,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<ModelStep>> {
    let end = prop::sample::select(vec![
        ModelOutcome::Delivered,
        ModelOutcome::Skipped,
        ModelOutcome::Dead,
        ModelOutcome::Parked,
    ]);
    let index = any::<prop::sample::Index>;
    let rank = prop::sample::select(SenderRank::ALL.to_vec());
    let lower = prop::sample::select(vec![SenderRank::Claimed, SenderRank::Proven]);
    let step = prop_oneof![
        4 => (1..6_u64, rank).prop_map(|(count, rank)| ModelStep::Append(count, rank)),
        4 => (1..6_u64).prop_map(ModelStep::Read),
        8 => (index(), end.clone()).prop_map(|(index, end)| ModelStep::End(index, end)),
        5 => Just(ModelStep::Settle),
        2 => Just(ModelStep::TakeUp),
        3 => (index(), end).prop_map(|(index, end)| ModelStep::EndParked(index, end)),
        1 => Just(ModelStep::Retry),
        1 => Just(ModelStep::DropLetters),
        1 => Just(ModelStep::Replay),
        1 => Just(ModelStep::Age),
        1 => lower.prop_map(ModelStep::EvictRank),
        4 => (1..5_u64, index()).prop_map(|(count, index)| ModelStep::EvictSome(count, index)),
        1 => Just(ModelStep::EvictSettled),
        1 => Just(ModelStep::MakeRoom),
        1 => Just(ModelStep::Restart),
        1 => Just(ModelStep::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

/// The position that a reader remembers.
#[derive(Default)]
struct ModelReaderState {
    cursor: u64,
    done: BTreeSet<u64>,
    read_to: u64,
    in_hand: Vec<u64>,
    taken_up: Vec<u64>,
    settlement: ReaderSettlement,
}

impl ModelReaderState {
    async fn load(b: &JournalTestBench) -> Self {
        let ReaderPosition { cursor, ahead } = b.journal.position(b.reader).await.unwrap();
        let done = ahead.iter().flat_map(|(first, last)| *first..=*last).collect();
        Self { cursor, done, read_to: cursor, ..Self::default() }
    }

    fn complete(&mut self, seq: u64) {
        self.done.insert(seq);
        while self.done.remove(&(self.cursor + 1)) {
            self.cursor += 1;
        }
    }

    fn position(&self) -> ReaderPosition {
        let mut ahead: Vec<(u64, u64)> = Vec::new();
        for seq in self.done.iter().filter(|seq| **seq > self.cursor) {
            match ahead.last_mut() {
                Some((_, last)) if *last + 1 == *seq => *last = *seq,
                _ => ahead.push((*seq, *seq)),
            }
        }
        ReaderPosition { cursor: self.cursor, ahead }
    }

    async fn read(&mut self, b: &JournalTestBench, count: u64) {
        let head = b.journal.head(b.site).borrow().seq;
        let upto = head.min(self.read_to + count);
        let limit = JournalReadLimits { events: 1000, bytes: usize::MAX };
        let records = b.journal.read(b.site, self.read_to, upto, limit).await.unwrap();
        let held: BTreeSet<u64> = records.iter().map(|record| record.seq).collect();
        for seq in self.read_to + 1..=upto {
            if !held.contains(&seq) {
                self.complete(seq);
            } else if seq > self.cursor && !self.done.contains(&seq) {
                self.in_hand.push(seq);
            }
        }
        self.read_to = upto.max(self.read_to);
    }

    fn end(&mut self, seq: u64, was_parked: bool, end: ModelOutcome, now: Timestamp) {
        let ending = match end {
            ModelOutcome::Delivered => Ending::Delivered,
            ModelOutcome::Skipped => Ending::Skipped(OutcomeCause::new("unwanted")),
            ModelOutcome::Dead => dead(),
            ModelOutcome::Parked => {
                self.settlement.park.push(ParkRequest { seq, due_at: now, attempt: 1 });
                return if was_parked {
                } else {
                    self.complete(seq)
                };
            }
        };
        self.settlement.ended.push(EndedEvent { seq, was_parked, attempts: 1, ending });
        if !was_parked {
            self.complete(seq);
        }
    }

    async fn settle(&mut self, b: &JournalTestBench) {
        let settlement =
            ReaderSettlement { position: self.position(), ..std::mem::take(&mut self.settlement) };
        b.journal.settle(b.reader, settlement).await.unwrap();
    }
}

fn pick(from: &mut Vec<u64>, index: prop::sample::Index) -> Option<u64> {
    (!from.is_empty()).then(|| from.remove(index.index(from.len())))
}

async fn take(b: &mut JournalTestBench, memory: &mut ModelReaderState, step: ModelStep) {
    let (site, reader, now) = (b.site, b.reader, b.clock.now());
    match step {
        ModelStep::Append(count, rank) => {
            let appended = b.append_as(count, rank).await;
            for appended in appended {
                let AppendOutcome::New { seq } = appended else { panic!("every message is new") };
                if rank == SenderRank::Server {
                    b.promised.insert(seq);
                }
            }
        }
        ModelStep::Read(count) => memory.read(b, count).await,
        ModelStep::End(index, end) => {
            if let Some(seq) = pick(&mut memory.in_hand, index) {
                memory.end(seq, false, end, now);
            }
        }
        ModelStep::Settle => memory.settle(b).await,
        ModelStep::TakeUp => {
            memory.settle(b).await;
            let due = b.journal.due(reader, now, 1000).await.unwrap();
            memory.taken_up = due.iter().map(|due| due.record.seq).collect();
        }
        ModelStep::EndParked(index, end) => {
            if let Some(seq) = pick(&mut memory.taken_up, index) {
                memory.end(seq, true, end, now);
            }
        }
        ModelStep::Retry => {
            b.journal.retry_dead(DeadLetterSelection::Reader(reader)).await.unwrap();
        }
        ModelStep::DropLetters => {
            b.journal.drop_dead(DeadLetterSelection::Reader(reader)).await.unwrap();
        }
        ModelStep::Replay => {
            b.journal.replay(reader, Timestamp::UNIX_EPOCH, Timestamp::MAX).await.unwrap();
        }
        ModelStep::Age => {
            b.clock.advance(3_700_000);
            b.journal.retain(b.clock.now()).await.unwrap();
        }
        ModelStep::EvictRank(rank) => {
            let evict = move |c: &Connection| {
                let found = evict::of_rank(c, site, 0, rank)?.seqs;
                evict::evict(c, site, &found)
            };
            b.journal.write_db(evict).await.unwrap();
        }
        ModelStep::EvictSome(count, index) => {
            let mut held = b.seqs().await;
            held.retain(|seq| !b.promised.contains(seq));
            if held.is_empty() {
                return;
            }
            let mut some: Vec<u64> = held.split_off(index.index(held.len()));
            some.truncate(usize::try_from(count).unwrap());
            b.journal.write_db(move |c| evict::evict(c, site, &some)).await.unwrap();
        }
        ModelStep::EvictSettled => {
            let evict = move |c: &Connection| evict::evict_settled(c, site, trimmed_to(c, site)?);
            b.journal.write_db(evict).await.unwrap();
        }
        ModelStep::MakeRoom => drop(b.journal.make_room().await.unwrap()),
        ModelStep::Restart => {
            b.reopen().await;
            *memory = ModelReaderState::load(b).await;
        }
        ModelStep::Crash => {
            b.crash().await;
            *memory = ModelReaderState::load(b).await;
        }
    }
}

/// Counts the pending events one by one, and compares them with the account.
async fn check(b: &JournalTestBench) {
    let ledger = b.ledger().await;
    let ReaderPosition { cursor, ahead } = b.journal.position(b.reader).await.unwrap();
    let mut end = cursor;
    for (first, last) in &ahead {
        assert!(end + 1 < *first && first <= last, "{cursor} {ahead:?}");
        end = *last;
    }
    let (site, reader) = (b.site, b.reader);
    let (trimmed, parked) = b
        .journal
        .read_db(move |c| {
            let parked: u64 =
                c.query_row("SELECT count(*) FROM parked WHERE reader = ?", [reader.0], |row| {
                    row.get(0)
                })?;
            Ok((trimmed_to(c, site)?, parked))
        })
        .await
        .unwrap();
    assert!(trimmed <= cursor, "what has left is not pending");
    let due = b.journal.due(b.reader, Timestamp::MAX, 1000).await.unwrap();
    assert_eq!(due.len() as u64, parked, "every parked event has its body");
    let is_ahead = |seq: &u64| ahead.iter().any(|(first, last)| (first..=last).contains(&seq));
    let held: BTreeSet<u64> = b.seqs().await.into_iter().collect();
    let is_open = |seq: &u64| *seq > cursor && !is_ahead(seq);
    let waiting = held.iter().filter(|seq| is_open(seq)).count() as u64;
    assert_eq!(ledger.pending, waiting + parked);
    let lost: Vec<_> =
        b.promised.iter().filter(|seq| is_open(seq) && !held.contains(seq)).collect();
    assert!(lost.is_empty(), "servers' events left before they were settled: {lost:?}");
    assert_eq!(b.journal.usage().await.unwrap().events, held.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn account_adds_up_after_any_steps(steps in steps(), is_full in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let max_bytes = if is_full { 0 } else { u64::MAX };
            let mut b = JournalTestBench::new(JournalSettings { max_bytes, ..settings() }).await;
            let mut memory = ModelReaderState::load(&b).await;
            for step in steps {
                take(&mut b, &mut memory, step).await;
                check(&b).await;
            }
        });
    }
}
