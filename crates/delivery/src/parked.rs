//! The events parked after failed tries, with their visitors, so that these visitors' later events stay behind
//! them. The events themselves are parked in the journal.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;

use super::schedule::VisitorOrderKey;

/// The parked events of one destination, by visitor.
#[derive(Debug, Default)]
pub(super) struct ParkedAfterRetry {
    visitors: HashMap<VisitorOrderKey, ParkedVisitor>,
    len: usize,
}

#[derive(Debug)]
struct ParkedVisitor {
    seqs: BTreeSet<u64>,
    /// The time when the last of them is due.
    due_at: Timestamp,
}

impl ParkedAfterRetry {
    /// Returns the number of parked events.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Records that an event is parked, or is to wait longer.
    pub(super) fn insert(&mut self, visitor: VisitorOrderKey, seq: u64, due_at: Timestamp) {
        let parked = self.visitors.entry(visitor);
        let parked = parked.or_insert_with(|| ParkedVisitor { seqs: BTreeSet::new(), due_at });
        parked.due_at = parked.due_at.max(due_at);
        self.len += usize::from(parked.seqs.insert(seq));
    }

    /// Records that an event is admitted again, or has ended.
    pub(super) fn remove(&mut self, visitor: VisitorOrderKey, seq: u64) {
        let Some(parked) = self.visitors.get_mut(&visitor) else { return };
        self.len -= usize::from(parked.seqs.remove(&seq));
        if parked.seqs.is_empty() {
            self.visitors.remove(&visitor);
        }
    }

    /// Records that an event of an unknown visitor is admitted again. Searches all visitors, which is rare.
    pub(super) fn forget(&mut self, seq: u64) {
        let mut visitors = self.visitors.iter();
        let visitor = visitors.find(|(_, parked)| parked.seqs.contains(&seq)).map(|(key, _)| *key);
        if let Some(visitor) = visitor {
            self.remove(visitor, seq);
        }
    }

    /// Returns the time when the visitor's earlier parked events are due, if it has any before this
    /// one.
    pub(super) fn earlier_due_at(&self, visitor: VisitorOrderKey, seq: u64) -> Option<Timestamp> {
        let parked = self.visitors.get(&visitor)?;
        (*parked.seqs.first()? < seq).then_some(parked.due_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitors_later_events_are_behind_its_earlier_ones_alone() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut aside = ParkedAfterRetry::default();
        aside.insert(7, 3, at(10));
        aside.insert(7, 5, at(10));
        assert_eq!(
            (aside.earlier_due_at(7, 4), aside.earlier_due_at(7, 2), aside.earlier_due_at(8, 4)),
            (Some(at(10)), None, None)
        );
        aside.insert(7, 3, at(20));
        assert_eq!((aside.earlier_due_at(7, 5), aside.len()), (Some(at(20)), 2));
        aside.remove(7, 3);
        assert_eq!((aside.earlier_due_at(7, 5), aside.len()), (None, 1));
        aside.remove(7, 3);
        aside.remove(7, 5);
        assert_eq!((aside.earlier_due_at(7, 9), aside.len()), (None, 0));
        aside.insert(7, 3, at(10));
        aside.forget(4);
        assert_eq!(aside.len(), 1);
        aside.forget(3);
        assert_eq!((aside.earlier_due_at(7, 9), aside.len()), (None, 0));
    }
}
