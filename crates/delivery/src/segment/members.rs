//! A set of profiles, one bit each: its size depends on the number of all profiles, not on the number in
//! the set.

use std::collections::BTreeMap;

/// The number of profiles in one block.
const BLOCK: i64 = 1 << 16;
const WORDS: usize = 1 << 10;

/// A set of profiles' numbers, as bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileBitSet {
    blocks: BTreeMap<i64, Box<[u64]>>,
    len: u64,
}

impl ProfileBitSet {
    /// Adds a profile.
    pub fn insert(&mut self, profile: i64) {
        let (word, bit) = place(profile);
        let new = || vec![0; WORDS].into_boxed_slice();
        let block = self.blocks.entry(profile.div_euclid(BLOCK)).or_insert_with(new);
        if let Some(word) = block.get_mut(word) {
            self.len += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Returns true if a profile is in the set.
    pub fn contains(&self, profile: i64) -> bool {
        let (word, bit) = place(profile);
        let block = self.blocks.get(&profile.div_euclid(BLOCK));
        block.and_then(|block| block.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// Returns the number of profiles in the set.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns true if the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the profiles behind `after`, in order.
    pub fn after(&self, after: i64) -> impl Iterator<Item = i64> + '_ {
        let blocks = self.blocks.range(after.div_euclid(BLOCK)..);
        blocks.flat_map(|(block, words)| of_block(*block, words)).filter(move |it| *it > after)
    }
}

/// Returns the profile's word in its block, and its bit in that.
fn place(profile: i64) -> (usize, u64) {
    let offset = profile.rem_euclid(BLOCK);
    (usize::try_from(offset / 64).unwrap_or_default(), 1 << (offset % 64))
}

fn of_block(block: i64, words: &[u64]) -> impl Iterator<Item = i64> + '_ {
    let start = block.saturating_mul(BLOCK);
    let words = (0_i64..).zip(words).filter(|(_, word)| **word != 0);
    words.flat_map(move |(index, word)| {
        (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| start + index * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_returns_inserted_profiles_in_order() {
        let mut members = ProfileBitSet::default();
        let numbers = [-70_000, -1, 0, 1, 63, 64, 65_535, 65_536, 1 << 40];
        for number in numbers.iter().rev().chain(&numbers) {
            members.insert(*number);
        }
        assert_eq!(members.len(), 9);
        assert_eq!(members.after(i64::MIN).collect::<Vec<_>>(), numbers);
        assert_eq!(members.after(63).collect::<Vec<_>>(), numbers[5..]);
        assert!(members.contains(64) && !members.contains(2) && !members.contains(1 << 41));
    }
}
