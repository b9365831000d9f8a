//! The traits of a person: each with the time and the rank of its statement.
//!
//! A statement of a higher rank wins over those of lower ones, whatever their times. Of two of the same
//! rank the later one wins, in whatever order they arrive. A removed trait is remembered as removed, so
//! that an older statement, or one of a lower rank, does not restore it.
//!
//! Claimed traits are removed to make room for proven ones.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{LAST_SEEN_LAG_MS, ProfileLimits};
use tagway_core::event::{JsonObject, SenderRank};

/// The most removed traits that are remembered: those of the lowest rank, and of these the oldest, are
/// forgotten first. More than a person removes within the time that statements arrive late.
const MAX_TAKEN_BACK: usize = 64;

/// The traits of a person. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProfileTraits {
    /// The values, as the client wrote them.
    pub(super) values: JsonObject,
    /// The time of the last statement or removal of each. A missing one is from before times were stored.
    pub(super) times: BTreeMap<String, i64>,
    /// The rank of the last statement or removal of each. A missing one is claimed.
    pub(super) ranks: BTreeMap<String, SenderRank>,
    /// The length of the values as text, and the claimed part of it.
    bytes: usize,
    claimed_bytes: usize,
}

/// The most bytes of the values, in total and of claims.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraitByteLimits {
    total: usize,
    claimed: usize,
}

/// The time and the rank of a statement.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraitProvenance {
    pub(super) at: i64,
    pub(super) rank: SenderRank,
}

/// The changes that statements made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TraitChanges {
    /// True if values changed.
    pub(super) is_changed: bool,
    /// True if times or ranks changed.
    pub(super) is_retimed: bool,
    /// Values that were refused because there was no room.
    pub(super) refused: u64,
}

impl From<ProfileLimits> for TraitByteLimits {
    fn from(limits: ProfileLimits) -> Self {
        Self { total: limits.traits_bytes, claimed: limits.claimed_traits_bytes }
    }
}

impl ProfileTraits {
    /// Creates traits whose values are `bytes` long as text. Values beyond the limits, because those
    /// were larger, are left out, the claimed ones first.
    pub(super) fn new(
        values: JsonObject,
        times: BTreeMap<String, i64>,
        ranks: BTreeMap<String, SenderRank>,
        bytes: usize,
        room: TraitByteLimits,
    ) -> (Self, TraitChanges) {
        let mut changes = TraitChanges::default();
        let mut traits = Self { values, times, ranks, bytes, claimed_bytes: 0 };
        traits.claimed_bytes = if traits.ranks.is_empty() {
            bytes.saturating_sub("{}".len())
        } else {
            let claimed = |(key, _): &(&String, &Value)| traits.rank(key) == SenderRank::Claimed;
            let values = traits.values.iter().filter(claimed);
            values.map(|(key, value)| text_bytes(key, value)).sum()
        };
        if bytes > room.total {
            traits.truncate_values(room.total);
            changes.is_changed = true;
        }
        (traits, changes)
    }

    /// Removes values that do not fit.
    fn truncate_values(&mut self, total: usize) {
        let before = std::mem::take(&mut self.values);
        let (mut used, mut fitting, mut claimed) = ("{}".len(), BTreeSet::new(), 0);
        for rank in SenderRank::ALL.into_iter().rev() {
            for (key, value) in before.iter().filter(|(key, _)| self.rank(key) == rank) {
                let bytes = text_bytes(key, value);
                let fits = used + bytes <= total;
                if fits {
                    used += bytes;
                    claimed += if rank == SenderRank::Claimed { bytes } else { 0 };
                    fitting.insert(key.clone());
                }
            }
        }
        self.values = before.into_iter().filter(|(key, _)| fitting.contains(key)).collect();
        self.claimed_bytes = claimed;
        self.bytes = used;
    }

    /// Returns the rank of the trait's last statement.
    pub(super) fn rank(&self, key: &str) -> SenderRank {
        self.ranks.get(key).copied().unwrap_or_default()
    }

    /// Returns only the proven values.
    pub(super) fn proven(
        mut values: JsonObject,
        ranks: &BTreeMap<String, SenderRank>,
    ) -> JsonObject {
        let is_proven = |key: &String| ranks.get(key).is_some_and(|it| *it > SenderRank::Claimed);
        values.retain(|key, _| is_proven(key));
        values
    }

    /// Applies statements made at one time; `null` removes a trait. Of those made at the same time the
    /// one applied later wins. A value without room is refused; the known one stays.
    pub(super) fn apply_statements(
        &mut self,
        stated: &JsonObject,
        word: TraitProvenance,
        room: TraitByteLimits,
    ) -> TraitChanges {
        let mut result = TraitChanges::default();
        for (key, value) in stated {
            let is_new = match self.rank(key).cmp(&word.rank) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => self.times.get(key).is_none_or(|at| *at <= word.at),
                std::cmp::Ordering::Greater => false,
            };
            if is_new {
                self.set(key, value, word, room, &mut result);
            }
        }
        self.forget(&mut result);
        result
    }

    /// Merges the traits of another profile of the same person. Of statements of the same time and rank
    /// the own stays.
    pub(super) fn merge(&mut self, other: &Self, room: TraitByteLimits) -> TraitChanges {
        let mut result = TraitChanges::default();
        let stands = |traits: &Self, key: &str| (traits.rank(key), traits.times.get(key).copied());
        let taken_back = other.times.keys().filter(|key| !other.values.contains_key(*key));
        let taken_back = taken_back.map(|key| (key, &Value::Null));
        for (key, value) in other.values.iter().chain(taken_back) {
            let (own, theirs) = (stands(self, key), stands(other, key));
            let is_own = self.values.contains_key(key) || own.1.is_some();
            if !is_own || theirs > own {
                let word = TraitProvenance { rank: theirs.0, at: theirs.1.unwrap_or_default() };
                self.set(key, value, word, room, &mut result);
            }
        }
        self.forget(&mut result);
        result
    }

    fn set(
        &mut self,
        key: &str,
        value: &Value,
        word: TraitProvenance,
        room: TraitByteLimits,
        result: &mut TraitChanges,
    ) {
        let old_rank = self.rank(key);
        let is_other = if value.is_null() {
            self.take_out(key)
        } else if self.values.get(key) == Some(value) {
            self.raise_bytes(key, value, word.rank);
            false
        } else {
            if !self.put(key, value, word.rank, room) {
                result.refused += 1;
                return;
            }
            true
        };
        result.is_changed |= is_other;
        if word.rank != old_rank {
            self.ranks.insert(key.to_owned(), word.rank);
            result.is_retimed = true;
        }
        let is_new = match self.times.get(key) {
            Some(known) => {
                is_other
                    || word.rank != old_rank
                    || word.at.saturating_sub(*known) >= LAST_SEEN_LAG_MS
            }
            None => true,
        };
        if is_new && self.times.insert(key.to_owned(), word.at) != Some(word.at) {
            result.is_retimed = true;
        }
    }

    /// Counts a value as no longer claimed, if a higher rank states it.
    fn raise_bytes(&mut self, key: &str, value: &Value, rank: SenderRank) {
        if self.rank(key) == SenderRank::Claimed && rank > SenderRank::Claimed {
            self.claimed_bytes = self.claimed_bytes.saturating_sub(text_bytes(key, value));
        }
    }

    fn take_out(&mut self, key: &str) -> bool {
        let Some(old) = self.values.shift_remove(key) else { return false };
        let bytes = text_bytes(key, &old);
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.rank(key) == SenderRank::Claimed {
            self.claimed_bytes = self.claimed_bytes.saturating_sub(bytes);
        }
        true
    }

    /// Inserts a value, if there is room, or room can be made by removing values of a lower rank.
    fn put(&mut self, key: &str, value: &Value, rank: SenderRank, room: TraitByteLimits) -> bool {
        let old_bytes = self.values.get(key).map_or(0, |old| text_bytes(key, old));
        let bytes = text_bytes(key, value);
        let is_claimed = rank == SenderRank::Claimed;
        let was_claimed = self.rank(key) == SenderRank::Claimed;
        let claimed = self.claimed_bytes.saturating_sub(if was_claimed { old_bytes } else { 0 });
        let claimed = if is_claimed { claimed + bytes } else { claimed };
        // The braces around the values count too.
        if is_claimed && claimed + "{}".len() > room.claimed {
            return false;
        }
        let grown = self.bytes.saturating_sub(old_bytes) + bytes;
        let excess = grown.saturating_sub(room.total);
        if excess > 0 {
            let Some(lower) = self.find_lower_ranked(key, rank, excess) else { return false };
            self.take_out(key);
            for key in lower {
                self.take_out(&key);
                self.times.remove(&key);
                self.ranks.remove(&key);
            }
        } else {
            // Replaced in place, if it is there: the order of the values stays.
            self.bytes = self.bytes.saturating_sub(old_bytes);
            if was_claimed {
                self.claimed_bytes = self.claimed_bytes.saturating_sub(old_bytes);
            }
        }
        self.values.insert(key.to_owned(), value.clone());
        self.bytes += bytes;
        if is_claimed {
            self.claimed_bytes += bytes;
        }
        true
    }

    /// Returns values besides this one that have `bytes` together and a lower rank: the lowest first,
    /// of these the oldest. `None` if there are not so many.
    fn find_lower_ranked(&self, but: &str, rank: SenderRank, bytes: usize) -> Option<Vec<String>> {
        if rank == SenderRank::Claimed {
            return None;
        }
        let keys = self.values.keys().filter(|key| *key != but && self.rank(key) < rank);
        let mut lower: Vec<_> =
            keys.map(|key| (self.rank(key), self.times.get(key).copied(), key)).collect();
        lower.sort();
        let (mut found, mut sum) = (Vec::new(), 0);
        for (_, _, key) in lower {
            if sum >= bytes {
                break;
            }
            sum += self.values.get(key).map_or(0, |value| text_bytes(key, value));
            found.push(key.clone());
        }
        (sum >= bytes).then_some(found)
    }

    fn forget(&mut self, result: &mut TraitChanges) {
        let is_gone = |key: &&String| !self.values.contains_key(key.as_str());
        let excess = self.times.keys().filter(is_gone).count().saturating_sub(MAX_TAKEN_BACK);
        if excess == 0 {
            return;
        }
        let mut gone: Vec<(SenderRank, i64, String)> = self
            .times
            .iter()
            .filter(|(key, _)| is_gone(key))
            .map(|(key, at)| (self.rank(key), *at, key.clone()))
            .collect();
        gone.sort();
        for (_, _, key) in gone.into_iter().take(excess) {
            self.times.remove(&key);
            self.ranks.remove(&key);
        }
        result.is_retimed = true;
    }
}

impl TraitChanges {
    /// Returns the union of both changes.
    pub(super) fn union(self, other: Self) -> Self {
        Self {
            is_changed: self.is_changed || other.is_changed,
            is_retimed: self.is_retimed || other.is_retimed,
            refused: self.refused + other.refused,
        }
    }
}

/// Returns ranks as they are stored: a number each.
pub(super) fn written(ranks: &BTreeMap<String, SenderRank>) -> String {
    let ranks: BTreeMap<&String, u8> = ranks.iter().map(|(key, it)| (key, it.number())).collect();
    serde_json::to_string(&ranks).unwrap_or_else(|_| "{}".to_owned())
}

/// Parses stored ranks.
pub(super) fn read_ranks(text: &str) -> BTreeMap<String, SenderRank> {
    let ranks: BTreeMap<String, i64> = serde_json::from_str(text).unwrap_or_default();
    ranks.into_iter().map(|(key, it)| (key, SenderRank::from_number(it))).collect()
}

/// Returns the length of one trait as text: key, value and punctuation.
fn text_bytes(key: &str, value: &Value) -> usize {
    Value::from(key).to_string().len() + ":,".len() + value.to_string().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    fn traits_after(statements: &[(i64, Value)]) -> ProfileTraits {
        let mut traits = empty();
        for (at, stated) in statements {
            traits.apply_statements(&object(stated.clone()), claimed(*at), room(1000));
        }
        traits
    }

    fn empty() -> ProfileTraits {
        ProfileTraits { bytes: "{}".len(), ..ProfileTraits::default() }
    }

    fn claimed(at: i64) -> TraitProvenance {
        TraitProvenance { at, rank: SenderRank::Claimed }
    }

    fn room(bytes: usize) -> TraitByteLimits {
        ProfileLimits::new(bytes, 1, 1).into()
    }

    #[test]
    fn traits_never_grow_beyond_the_limit() {
        let mut traits = empty();
        for n in 0..1000 {
            let stated = json!({ format!("\"k{}", n % 50): "\u{e9}\n".repeat(n % 9) });
            let word = TraitProvenance { at: 1, rank: SenderRank::ALL[n / 7 % 3] };
            traits.apply_statements(&object(stated), word, room(300));
            let (again, _) = ProfileTraits::new(
                traits.values.clone(),
                traits.times.clone(),
                traits.ranks.clone(),
                traits.bytes,
                room(300),
            );
            if !traits.ranks.is_empty() {
                assert_eq!(again, traits, "it is counted as it is read");
            }
            assert!(serde_json::to_string(&traits.values).unwrap().len() <= 300);
        }
        assert!(traits.values.len() > 5);
    }

    #[test]
    fn removed_trait_is_not_restored_by_an_older_statement() {
        let mut traits = traits_after(&[(1, json!({"plan": "pro"})), (3, json!({"plan": null}))]);
        assert_eq!(
            traits.apply_statements(&object(json!({"plan": "free"})), claimed(2), room(1000)),
            TraitChanges::default()
        );
        assert_eq!(traits.values, JsonObject::new());
        for n in 0..100 {
            traits.apply_statements(
                &object(json!({ format!("k{n}"): null })),
                claimed(10 + n),
                room(1000),
            );
        }
        assert_eq!(traits.times.len(), MAX_TAKEN_BACK);
        assert!(traits.times.contains_key("k99") && !traits.times.contains_key("plan"));
    }

    #[test]
    fn repeated_statement_is_written_once_an_hour() {
        let mut traits = traits_after(&[(1, json!({"plan": "pro", "town": null}))]);
        let again = object(json!({"plan": "pro", "town": null}));
        assert_eq!(
            traits.apply_statements(&again, claimed(1000), room(1000)),
            TraitChanges::default()
        );
        let later = traits.apply_statements(&again, claimed(1 + LAST_SEEN_LAG_MS), room(1000));
        assert_eq!(later, TraitChanges { is_retimed: true, ..TraitChanges::default() });
    }

    #[test]
    fn higher_rank_wins_over_lower_ones_at_any_time() {
        let [claimed, proven, server] =
            SenderRank::ALL.map(|rank| move |at| TraitProvenance { at, rank });
        let plan = |plan: Value| object(json!({ "plan": plan }));
        let mut traits = empty();
        let mut state = |stated: Value, word: TraitProvenance| {
            let changes = traits.apply_statements(&plan(stated), word, room(1000));
            (changes.is_changed, traits.values.get("plan").cloned())
        };
        state(json!("free"), claimed(9));
        assert_eq!(state(json!("pro"), proven(2)), (true, Some(json!("pro"))));
        assert_eq!(state(json!("max"), claimed(10)), (false, Some(json!("pro"))));
        assert_eq!(state(Value::Null, claimed(11)), (false, Some(json!("pro"))));
        assert_eq!(state(Value::Null, server(1)), (true, None), "taken back");
        assert_eq!(state(json!("pro"), proven(12)), (false, None), "it stays so");
        assert_eq!(state(json!("vip"), server(3)), (true, Some(json!("vip"))));
    }

    #[test]
    fn claimed_traits_are_removed_for_proven_ones() {
        let word = |at, rank| TraitProvenance { at, rank };
        let mut traits = empty();
        let junk = |n: i64| object(json!({ format!("junk{n}"): "x".repeat(20) }));
        let limits = ProfileLimits { claimed_traits_bytes: 200, ..ProfileLimits::new(300, 1, 1) };
        let mut refused = 0;
        for n in 0..20 {
            refused += traits
                .apply_statements(&junk(n), word(n, SenderRank::Claimed), limits.into())
                .refused;
        }
        assert!(refused > 10 && traits.bytes <= 200, "claims have their share");
        let servers = object(json!({ "plan": "p".repeat(200) }));
        let changes = traits.apply_statements(&servers, word(1, SenderRank::Server), limits.into());
        assert_eq!((changes.refused, changes.is_changed), (0, true));
        assert!(!traits.values.contains_key("junk0") && traits.bytes <= 300, "the oldest go");
        let changes =
            traits.apply_statements(&junk(30), word(30, SenderRank::Claimed), limits.into());
        assert_eq!(traits.values["plan"], servers["plan"], "{changes:?}");
        let more = object(json!({ "more": "m".repeat(120) }));
        let changes = traits.apply_statements(&more, word(40, SenderRank::Proven), limits.into());
        assert_eq!(changes.refused, 1, "what a server said makes no room");
        for n in 0..100 {
            traits.apply_statements(
                &object(json!({ "plan2": null })),
                word(0, SenderRank::Server),
                room(300),
            );
            let null = object(json!({ format!("k{n}"): null }));
            traits.apply_statements(&null, word(50 + n, SenderRank::Claimed), limits.into());
        }
        assert!(traits.times.contains_key("plan2"), "what claims take back has no room of its");
    }

    fn statements() -> impl Strategy<Value = Vec<(i64, Value)>> {
        let value = prop_oneof![3 => (0..4_u8).prop_map(Value::from), 1 => Just(Value::Null)];
        let statement = (0..4_u8, value).prop_map(|(key, value)| json!({ key.to_string(): value }));
        prop::collection::vec(statement, 1..12).prop_map(|statements| {
            // Each at a time of its own, far enough apart to be written.
            let times = (1..).map(|n| n * LAST_SEEN_LAG_MS);
            times.zip(statements).collect()
        })
    }

    proptest! {
        #[test]
        fn order_of_statements_and_merges_does_not_matter(
            statements in statements(),
            order in prop::collection::vec(any::<u16>(), 12),
            split in any::<prop::sample::Index>(),
        ) {
            let in_time = traits_after(&statements);
            let mut shuffled: Vec<_> = order.into_iter().zip(statements).collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let shuffled: Vec<_> = shuffled.into_iter().map(|(_, statement)| statement).collect();
            let sorted = |traits: &ProfileTraits| {
                let values: BTreeMap<_, _> = traits.values.clone().into_iter().collect();
                (values, traits.times.clone(), traits.bytes)
            };
            prop_assert_eq!(sorted(&traits_after(&shuffled)), sorted(&in_time));
            let (first, second) = shuffled.split_at(split.index(shuffled.len()));
            let (first, second) = (traits_after(first), traits_after(second));
            let (mut one, mut other) = (first.clone(), second.clone());
            one.merge(&second, room(1000));
            other.merge(&first, room(1000));
            prop_assert_eq!(sorted(&one), sorted(&in_time));
            prop_assert_eq!(sorted(&other), sorted(&in_time));
            let again = one.clone();
            prop_assert_eq!(one.merge(&again, room(1000)), TraitChanges::default());
        }
    }
}
