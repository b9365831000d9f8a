//! Gaps: ranges of evicted events between events that are still in the journal.
//!
//! ```text
//! gaps (site, first, last)   inclusive, beyond sites.trimmed_to, never touching each other
//! sites.missing              the events in the site's gaps
//! readers.missed             of these, the events that the reader's position leaves unsettled
//! ```
//!
//! An evicted event was counted as dead, when it left, for each reader that had not settled it. A
//! reader notices when it reads on and finds it missing; until then its position has the event as
//! unsettled, which `readers.missed` corrects. There are never more gaps than events in the journal.

use rusqlite::{Connection, OptionalExtension};

use super::super::{ReaderPosition, SiteId};

/// A range of events, both ends included.
pub(super) type SequenceRange = (u64, u64);

/// Returns the number of events in the site's gaps.
pub(super) fn missing(connection: &Connection, site: SiteId) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT missing FROM sites WHERE id = ?")?
        .query_row([site.0], |row| row.get(0))
}

/// Adds events, in order, none of which is in a gap.
pub(super) fn add(connection: &Connection, site: SiteId, seqs: &[u64]) -> rusqlite::Result<()> {
    let mut ranges: Vec<SequenceRange> = Vec::new();
    for seq in seqs {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *seq => *last = *seq,
            _ => ranges.push((*seq, *seq)),
        }
    }
    for range in ranges {
        join(connection, site, range)?;
    }
    connection
        .prepare_cached("UPDATE sites SET missing = missing + ? WHERE id = ?")?
        .execute((seqs.len(), site.0))
        .map(drop)
}

/// Adds one range, and joins it with its neighbours.
fn join(
    connection: &Connection,
    site: SiteId,
    (mut first, mut last): SequenceRange,
) -> rusqlite::Result<()> {
    let before: Option<u64> = connection
        .prepare_cached("SELECT first FROM gaps WHERE site = ?1 AND first < ?2 AND last = ?2 - 1")?
        .query_row((site.0, first), |row| row.get(0))
        .optional()?;
    let after: Option<u64> = connection
        .prepare_cached("SELECT last FROM gaps WHERE site = ?1 AND first = ?2 + 1")?
        .query_row((site.0, last), |row| row.get(0))
        .optional()?;
    if let Some(end) = after {
        connection
            .prepare_cached("DELETE FROM gaps WHERE site = ?1 AND first = ?2 + 1")?
            .execute((site.0, last))?;
        last = end;
    }
    first = before.unwrap_or(first);
    let sql = "INSERT INTO gaps (site, first, last) VALUES (?, ?, ?)
        ON CONFLICT DO UPDATE SET last = excluded.last";
    connection.prepare_cached(sql)?.execute((site.0, first, last)).map(drop)
}

/// Returns the end of the gap that `upto` is in or that begins behind it; otherwise `upto`.
pub(super) fn gap_end_after(
    connection: &Connection,
    site: SiteId,
    upto: u64,
) -> rusqlite::Result<u64> {
    let sql = "SELECT last FROM gaps WHERE site = ?1 AND first <= ?2 + 1
        ORDER BY first DESC LIMIT 1";
    let end: Option<u64> =
        connection.prepare_cached(sql)?.query_row((site.0, upto), |row| row.get(0)).optional()?;
    Ok(end.map_or(upto, |end| end.max(upto)))
}

/// Removes the gaps that end at `upto` or before. None lies across it.
pub(super) fn forget(connection: &Connection, site: SiteId, upto: u64) -> rusqlite::Result<()> {
    let sql = "SELECT coalesce(sum(last - first + 1), 0) FROM gaps WHERE site = ? AND first <= ?";
    let left: u64 = connection.prepare_cached(sql)?.query_row((site.0, upto), |row| row.get(0))?;
    if left == 0 {
        return Ok(());
    }
    connection
        .prepare_cached("DELETE FROM gaps WHERE site = ? AND first <= ?")?
        .execute((site.0, upto))?;
    connection
        .prepare_cached("UPDATE sites SET missing = missing - ? WHERE id = ?")?
        .execute((left, site.0))
        .map(drop)
}

/// Counts the events of these ranges that are in gaps. The cost grows with the gaps it meets.
pub(super) fn overlap(
    connection: &Connection,
    site: SiteId,
    ranges: &[SequenceRange],
) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(min(last, ?3) - max(first, ?2) + 1), 0) FROM gaps
        WHERE site = ?1 AND last >= ?2 AND first <= ?3 AND first >= coalesce(
            (SELECT max(first) FROM gaps WHERE site = ?1 AND first <= ?2), 0)";
    let mut overlaps = connection.prepare_cached(sql)?;
    let of_range = |(first, last): &SequenceRange| {
        overlaps.query_row((site.0, first, last), |row| row.get::<_, u64>(0))
    };
    ranges.iter().map(of_range).sum()
}

/// Returns the ranges up to and including `upto` that the position leaves unsettled.
pub(super) fn open_ranges(position: &ReaderPosition, upto: u64) -> Vec<SequenceRange> {
    let (mut open, mut next) = (Vec::new(), position.cursor + 1);
    for (first, last) in position.ahead.iter().filter(|(first, _)| *first <= upto) {
        if next < *first {
            open.push((next, first - 1));
        }
        next = last + 1;
    }
    if next <= upto {
        open.push((next, upto));
    }
    open
}

/// Returns the parts of `from` that are in none of `without`; both are in order.
pub(super) fn difference(from: &[SequenceRange], without: &[SequenceRange]) -> Vec<SequenceRange> {
    let mut left = Vec::new();
    let mut without = without.iter().peekable();
    for (first, last) in from {
        let mut next = *first;
        while next <= *last {
            match without.peek() {
                Some((_, end)) if *end < next => drop(without.next()),
                Some((start, _)) if *start > *last => {
                    left.push((next, *last));
                    break;
                }
                Some((start, end)) => {
                    if next < *start {
                        left.push((next, start - 1));
                    }
                    next = end + 1;
                }
                None => {
                    left.push((next, *last));
                    break;
                }
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(set: &BTreeSet<u64>) -> Vec<SequenceRange> {
        let mut ranges: Vec<SequenceRange> = Vec::new();
        for seq in set {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *seq => *last = *seq,
                _ => ranges.push((*seq, *seq)),
            }
        }
        ranges
    }

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for step in super::super::MIGRATIONS.steps {
            connection.execute_batch(step).unwrap();
        }
        connection.execute("INSERT INTO sites (id, name) VALUES (1, 'shop')", []).unwrap();
        connection
    }

    proptest! {
        #[test]
        fn range_arithmetic_agrees_with_plain_sets(
            a in prop::collection::btree_set(1..40_u64, 0..30),
            b in prop::collection::btree_set(1..40_u64, 0..30),
        ) {
            let expected: BTreeSet<u64> = a.difference(&b).copied().collect();
            prop_assert_eq!(difference(&ranges(&a), &ranges(&b)), ranges(&expected));
        }

        #[test]
        fn gaps_agree_with_a_plain_set(
            parts in prop::collection::vec(prop::collection::btree_set(1..60_u64, 0..12), 1..6),
            looked in prop::collection::btree_set(1..60_u64, 0..30),
            upto in 1..60_u64,
        ) {
            let (c, site) = (database(), SiteId(1));
            let mut all = BTreeSet::new();
            for part in parts {
                let new: Vec<u64> = part.difference(&all).copied().collect();
                add(&c, site, &new).unwrap();
                all.extend(new);
            }
            let stored = |c: &Connection| -> Vec<SequenceRange> {
                let mut rows = c.prepare("SELECT first, last FROM gaps ORDER BY first").unwrap();
                rows.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
            };
            prop_assert_eq!(stored(&c), ranges(&all));
            prop_assert_eq!(missing(&c, site).unwrap(), all.len() as u64);
            let met = all.intersection(&looked).count() as u64;
            prop_assert_eq!(overlap(&c, site, &ranges(&looked)).unwrap(), met);
            let end = gap_end_after(&c, site, upto).unwrap();
            prop_assert_eq!(end, (upto + 1..).find(|seq| !all.contains(seq)).unwrap() - 1);
            forget(&c, site, end).unwrap();
            all.retain(|seq| *seq > end);
            prop_assert_eq!(stored(&c), ranges(&all));
            prop_assert_eq!(missing(&c, site).unwrap(), all.len() as u64);
        }
    }
}
