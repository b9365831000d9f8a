//! The position of a reader: events end in any order, the cursor moves past complete ones.

use std::collections::BTreeMap;

use tagway_storage::journal::ReaderPosition;

/// The cursor, and the ranges beyond it that are complete already.
#[derive(Debug, Default)]
pub(super) struct ReaderProgress {
    cursor: u64,
    // First to last of each range; never touching each other or the cursor.
    ahead: BTreeMap<u64, u64>,
}

impl ReaderProgress {
    pub(super) fn new(position: ReaderPosition) -> Self {
        let mut progress = Self { cursor: position.cursor, ahead: BTreeMap::new() };
        for (first, last) in position.ahead {
            progress.complete(first, last);
        }
        progress
    }

    /// Records that the events `first..=last` are settled or parked.
    pub(super) fn complete(&mut self, first: u64, last: u64) {
        let mut first = first.max(self.cursor + 1);
        let mut last = last;
        if last < first {
            return;
        }
        if let Some((&start, &end)) = self.ahead.range(..=first).next_back()
            && end + 1 >= first
        {
            first = start;
            last = last.max(end);
        }
        while let Some((&start, &end)) = self.ahead.range(first..=last.saturating_add(1)).next() {
            last = last.max(end);
            self.ahead.remove(&start);
        }
        if first == self.cursor + 1 {
            self.cursor = last;
        } else {
            self.ahead.insert(first, last);
        }
    }

    /// Returns true if the event is complete.
    pub(super) fn contains(&self, seq: u64) -> bool {
        seq <= self.cursor
            || self.ahead.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }

    pub(super) fn position(&self) -> ReaderPosition {
        let ahead = self.ahead.iter().map(|(first, last)| (*first, *last)).collect();
        ReaderPosition { cursor: self.cursor, ahead }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cursor_moves_past_complete_events() {
        let mut progress = ReaderProgress::new(ReaderPosition { cursor: 4, ahead: vec![(7, 8)] });
        progress.complete(6, 6);
        assert_eq!(progress.position(), ReaderPosition { cursor: 4, ahead: vec![(6, 8)] });
        progress.complete(5, 5);
        assert_eq!(progress.position(), ReaderPosition { cursor: 8, ahead: vec![] });
    }

    proptest! {
        #[test]
        fn progress_agrees_with_a_plain_set(ranges in prop::collection::vec((1..60_u64, 0..6_u64), 0..40)) {
            let mut progress = ReaderProgress::default();
            let mut set = BTreeSet::new();
            for (first, length) in ranges {
                progress.complete(first, first + length);
                set.extend(first..=first + length);
                let cursor = (1..).take_while(|seq| set.contains(seq)).last().unwrap_or(0);
                prop_assert_eq!(progress.position().cursor, cursor);
                for seq in 1..70 {
                    prop_assert_eq!(progress.contains(seq), set.contains(&seq));
                }
                let again = ReaderProgress::new(progress.position());
                prop_assert_eq!(again.position(), progress.position());
                let held: u64 =
                    progress.position().ahead.iter().map(|(first, last)| last - first + 1).sum();
                prop_assert_eq!(held + cursor, set.len() as u64);
            }
        }
    }
}
