//! The outcomes of events, kept for as long as the events are, so that the history of one can be looked
//! up later.
//!
//! ```text
//! outcomes (reader, bucket, part, at, causes, runs)     bucket = seq >> 8
//! ```
//!
//! A settlement writes one row for each bucket of 256 events that it touches, not one for each event:
//! most settlements are of neighbours. `runs` has four bytes for each run of neighbours with the same
//! outcome: first and last within the bucket, the cause's number, the tries. Cause 0 is the delivery;
//! the others are in `causes`, as JSON: `[["skipped","not_selected",""]]`. If an event ended twice,
//! since it was replayed, the higher part is the later.
//!
//! Rows leave with their events, and a person's outcomes are erased with the person's events.

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::super::{EndedEvent, ReaderId, SiteId, StoredOutcome};
use super::{place, time};

/// The bits of an event's number within its bucket.
const BUCKET_BITS: u32 = 8;

/// The most causes of one row besides the delivery: their numbers are bytes.
const MAX_CAUSES: usize = 255;

/// The highest number of tries that is recorded.
const MAX_ATTEMPTS: u32 = 255;

/// A cause as it is stored: the outcome, the reason's code, its detail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct StoredCause(String, String, String);

/// A run of neighbours in a bucket with the same outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OutcomeRun {
    first: u8,
    last: u8,
    cause: u8,
    attempts: u8,
}

/// The outcomes of one row.
#[derive(Debug, Default, PartialEq, Eq)]
struct PackedOutcomes {
    causes: Vec<StoredCause>,
    runs: Vec<OutcomeRun>,
}

fn bucket(seq: u64) -> u64 {
    seq >> BUCKET_BITS
}

fn offset(seq: u64) -> u8 {
    let [.., low] = seq.to_be_bytes();
    low
}

impl PackedOutcomes {
    /// Adds an event behind the ones already added.
    fn push(&mut self, ended: &EndedEvent, detail_chars: usize) {
        let cause = ended.ending.cause().map_or(0, |cause| {
            let detail = cause.detail.chars().take(detail_chars).collect();
            self.cause(StoredCause(ended.ending.name().to_owned(), cause.code.to_owned(), detail))
        });
        let attempts = u8::try_from(ended.attempts.min(MAX_ATTEMPTS)).unwrap_or(u8::MAX);
        let at = offset(ended.seq);
        self.add(OutcomeRun { first: at, last: at, cause, attempts });
    }

    /// Returns the number of a cause; adds it if it is new.
    fn cause(&mut self, cause: StoredCause) -> u8 {
        let found = self.causes.iter().position(|known| *known == cause);
        let index = found.unwrap_or_else(|| {
            if self.causes.len() < MAX_CAUSES {
                self.causes.push(cause);
            }
            self.causes.len() - 1
        });
        u8::try_from(index + 1).unwrap_or(u8::MAX)
    }

    /// Keeps the events that `keeps` selects. Returns true if others were there.
    fn retain(&mut self, keeps: impl Fn(u8) -> bool) -> bool {
        let before = std::mem::take(&mut self.runs);
        for run in &before {
            for at in (run.first..=run.last).filter(|at| keeps(*at)) {
                self.add(OutcomeRun { first: at, last: at, ..*run });
            }
        }
        // A detail may quote the event: a cause that no other event has is removed with it.
        let is_used = |number: usize| self.runs.iter().any(|run| usize::from(run.cause) == number);
        let unused: Vec<usize> =
            (1..=self.causes.len()).filter(|number| !is_used(*number)).collect();
        for number in unused {
            if let Some(cause) = self.causes.get_mut(number - 1) {
                *cause = StoredCause::default();
            }
        }
        self.runs != before
    }

    /// Adds a run behind the ones already added.
    fn add(&mut self, run: OutcomeRun) {
        match self.runs.last_mut() {
            Some(last)
                if last.last.checked_add(1) == Some(run.first)
                    && (last.cause, last.attempts) == (run.cause, run.attempts) =>
            {
                last.last = run.last;
            }
            _ => self.runs.push(run),
        }
    }

    fn get(&self, at: u8) -> Option<(&'static str, &str, &str, u32)> {
        let run = self.runs.iter().find(|run| (run.first..=run.last).contains(&at))?;
        let attempts = u32::from(run.attempts);
        let Some(index) = usize::from(run.cause).checked_sub(1) else {
            return Some(("delivered", "", "", attempts));
        };
        let StoredCause(outcome, code, detail) = self.causes.get(index)?;
        let outcome = if outcome == "dead" { "dead" } else { "skipped" };
        Some((outcome, code, detail, attempts))
    }

    fn decode(causes: &str, runs: &[u8]) -> Self {
        let (runs, _) = runs.as_chunks::<4>();
        let run = |[first, last, cause, attempts]: &[u8; 4]| OutcomeRun {
            first: *first,
            last: *last,
            cause: *cause,
            attempts: *attempts,
        };
        // This program alone writes the table; a damaged row reads as empty.
        let causes = serde_json::from_str(causes).unwrap_or_default();
        Self { causes, runs: runs.iter().map(run).collect() }
    }

    fn encode(&self) -> (String, Vec<u8>) {
        let causes = match self.causes.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&self.causes).unwrap_or_default(),
        };
        let bytes = |run: &OutcomeRun| [run.first, run.last, run.cause, run.attempts];
        (causes, self.runs.iter().flat_map(bytes).collect())
    }
}

/// Stores the outcomes of these events of a reader.
pub(super) fn store_outcomes(
    connection: &Connection,
    reader: ReaderId,
    ended: &mut [&EndedEvent],
    now: i64,
    detail_chars: usize,
) -> rusqlite::Result<()> {
    ended.sort_unstable_by_key(|ended| ended.seq);
    let sql = "INSERT INTO outcomes (reader, bucket, part, at, causes, runs)
        SELECT ?1, ?2, coalesce(max(part), 0) + 1, ?3, ?4, ?5 FROM outcomes
        WHERE reader = ?1 AND bucket = ?2";
    let mut insert = connection.prepare_cached(sql)?;
    for of_bucket in ended.chunk_by(|one, next| bucket(one.seq) == bucket(next.seq)) {
        let Some(first) = of_bucket.first() else { continue };
        let mut packed = PackedOutcomes::default();
        of_bucket.iter().for_each(|ended| packed.push(ended, detail_chars));
        let (causes, runs) = packed.encode();
        insert.execute((reader.0, bucket(first.seq), now, causes, runs))?;
    }
    Ok(())
}

/// Returns the event's last outcome at a reader, if it is kept.
pub(super) fn last(
    connection: &Connection,
    reader: ReaderId,
    seq: u64,
) -> rusqlite::Result<Option<StoredOutcome>> {
    let mut parts = connection.prepare_cached(
        "SELECT at, causes, runs FROM outcomes WHERE reader = ? AND bucket = ? ORDER BY part DESC",
    )?;
    let mut rows = parts.query((reader.0, bucket(seq)))?;
    while let Some(row) = rows.next()? {
        let packed = PackedOutcomes::decode(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_blob()?);
        if let Some((outcome, reason, detail, attempts)) = packed.get(offset(seq)) {
            return Ok(Some(StoredOutcome {
                outcome,
                reason: reason.to_owned(),
                detail: detail.to_owned(),
                attempts,
                at: time(row.get(0)?),
            }));
        }
    }
    Ok(None)
}

/// Removes the outcomes of a reader's events up to `upto`.
pub(super) fn trim(connection: &Connection, reader: ReaderId, upto: u64) -> rusqlite::Result<()> {
    let first = upto + 1;
    connection
        .prepare_cached("DELETE FROM outcomes WHERE reader = ? AND bucket < ?")?
        .execute((reader.0, bucket(first)))?;
    if offset(first) == 0 {
        return Ok(());
    }
    retain(connection, reader, bucket(first), |at| at >= offset(first))
}

/// Removes the outcomes of these events, in order, at all readers of their site.
pub(super) fn remove(connection: &Connection, site: SiteId, seqs: &[u64]) -> rusqlite::Result<()> {
    let readers: Vec<ReaderId> = connection
        .prepare_cached("SELECT id FROM readers WHERE site = ?")?
        .query_map([site.0], |row| row.get(0).map(ReaderId))?
        .collect::<rusqlite::Result<_>>()?;
    for of_bucket in seqs.chunk_by(|one, next| bucket(*one) == bucket(*next)) {
        let Some(bucket) = of_bucket.first().map(|seq| bucket(*seq)) else { continue };
        let mut is_gone = [false; 1 << BUCKET_BITS];
        for seq in of_bucket {
            if let Some(is_gone) = is_gone.get_mut(usize::from(offset(*seq))) {
                *is_gone = true;
            }
        }
        let keeps = |at: u8| !is_gone.get(usize::from(at)).copied().unwrap_or_default();
        for reader in &readers {
            retain(connection, *reader, bucket, keeps)?;
        }
    }
    Ok(())
}

/// Keeps the selected outcomes of a bucket, and removes the others.
fn retain(
    connection: &Connection,
    reader: ReaderId,
    bucket: u64,
    keeps: impl Fn(u8) -> bool,
) -> rusqlite::Result<()> {
    let sql = "SELECT part, causes, runs FROM outcomes WHERE reader = ? AND bucket = ?";
    let mut parts = connection.prepare_cached(sql)?;
    let mut changed: Vec<(u64, PackedOutcomes)> = Vec::new();
    let mut rows = parts.query((reader.0, bucket))?;
    while let Some(row) = rows.next()? {
        let mut packed =
            PackedOutcomes::decode(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_blob()?);
        if packed.retain(&keeps) {
            changed.push((row.get(0)?, packed));
        }
    }
    drop(rows);
    for (part, packed) in changed {
        let place = (reader.0, bucket, part);
        if packed.runs.is_empty() {
            let sql = "DELETE FROM outcomes WHERE reader = ? AND bucket = ? AND part = ?";
            connection.prepare_cached(sql)?.execute(place)?;
            continue;
        }
        let (causes, runs) = packed.encode();
        let sql = "UPDATE outcomes SET causes = ?4, runs = ?5
            WHERE reader = ?1 AND bucket = ?2 AND part = ?3";
        connection.prepare_cached(sql)?.execute((place.0, place.1, place.2, causes, runs))?;
    }
    Ok(())
}

/// Returns true if the event is in the journal and its person was not erased.
pub(super) fn has_body(connection: &Connection, site: SiteId, seq: u64) -> rusqlite::Result<bool> {
    let found: Option<bool> = connection
        .prepare_cached("SELECT body <> '' FROM events WHERE place = ?")?
        .query_row([place(site, seq)], |row| row.get(0))
        .optional()?;
    Ok(found.unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::tests::{JournalTestBench, settings};
    use super::*;
    use crate::journal::{Ending, Journal as _, OutcomeCause, ReaderEventState, ReaderPosition};

    const CODES: [&str; 3] = ["not_selected", "no_consent", "refused"];

    fn ended(seq: u64, kind: usize, detail: &str) -> EndedEvent {
        let cause = |code| OutcomeCause { code, detail: detail.into() };
        let ending = match kind {
            0 => Ending::Delivered,
            1 | 2 => Ending::Skipped(cause(CODES[kind - 1])),
            _ => Ending::Dead(cause(CODES[2]), None),
        };
        EndedEvent { seq, was_parked: false, attempts: 1, ending }
    }

    proptest! {
        #[test]
        fn packed_outcomes_agree_with_a_plain_map(
            ends in prop::collection::btree_map(0..256_u64, (0..4_usize, "[ab]{0,2}"), 0..80),
            erased in prop::collection::vec(0..256_u64, 0..20),
        ) {
            let mut packed = PackedOutcomes::default();
            let mut plain: BTreeMap<u64, EndedEvent> = BTreeMap::new();
            for (seq, (kind, detail)) in ends {
                let ended = ended(seq, kind, &detail);
                packed.push(&ended, 100);
                plain.insert(seq, ended);
            }
            for seq in erased {
                let was_there = packed.retain(|at| at != offset(seq));
                prop_assert_eq!(was_there, plain.remove(&seq).is_some());
            }
            let (causes, runs) = packed.encode();
            let packed = PackedOutcomes::decode(&causes, &runs);
            for seq in 0..256 {
                let expected = plain.get(&seq).map(|ended| {
                    let cause = ended.ending.cause();
                    let (code, detail) = cause.map_or(("", ""), |it| (it.code, &*it.detail));
                    (ended.ending.name(), code, detail, 1)
                });
                prop_assert_eq!(packed.get(offset(seq)), expected);
            }
            let kept = |cause: &StoredCause| plain.values().any(|it| it.ending.cause().is_some_and(|of| *of.detail == *cause.2));
            prop_assert!(packed.causes.iter().all(|cause| cause.2.is_empty() || kept(cause)));
        }
    }

    #[test]
    fn more_causes_than_a_byte_numbers_share_the_last() {
        let mut packed = PackedOutcomes::default();
        (0..256).for_each(|seq| packed.push(&ended(seq, 1, &seq.to_string()), 100));
        let of = |at| packed.get(at).map(|(outcome, code, detail, _)| (outcome, code, detail));
        assert_eq!(of(254), Some(("skipped", "not_selected", "254")));
        assert_eq!(of(255), Some(("skipped", "not_selected", "254")));
    }

    #[tokio::test]
    async fn outcome_is_kept_while_the_event_is_and_no_longer() {
        let mut b = JournalTestBench::new(settings()).await;
        b.append(600).await;
        let position = |cursor| ReaderPosition { cursor, ahead: Vec::new() };
        let ends = (1..=600).map(|seq| ended(seq, usize::from(seq == 300) * 3, "HTTP 400"));
        b.settle(position(600), ends.collect(), Vec::new()).await;
        let of = |seq| b.journal.event(b.site, seq, vec![b.reader]);
        let event = of(300).await.unwrap().unwrap();
        let at = &event.readers[0];
        let kept = at.outcome.clone().unwrap();
        assert_eq!(
            (at.state, kept.outcome, &*kept.reason, &*kept.detail, kept.attempts),
            (ReaderEventState::Settled, "dead", "refused", "HTTP 400", 1)
        );
        assert!(at.letter.is_some());
        assert_eq!(rows(&b).await, 3, "one row for each bucket of one settlement");
        b.clock.advance(3_700_000);
        b.append(1).await;
        b.journal.retain(tagway_core::clock::Clock::now(&*b.clock)).await.unwrap();
        assert!(b.journal.event(b.site, 300, vec![b.reader]).await.unwrap().is_none());
        assert_eq!(rows(&b).await, 0, "they leave with their events");
    }

    async fn rows(b: &JournalTestBench) -> u64 {
        let count =
            |c: &Connection| c.query_row("SELECT count(*) FROM outcomes", [], |row| row.get(0));
        b.journal.read_db(count).await.unwrap()
    }
}
