//! What is said of a person: every trait with the time of its newest statement.
//!
//! Of two statements the later one holds, in whatever order they arrive. A trait that was taken back
//! is remembered as such, so that an older statement does not bring it back.

use std::collections::BTreeMap;

use serde_json::Value;

use super::SEEN_EVERY_MS;
use crate::event::Object;

/// Traits taken back that are remembered as such: the oldest are forgotten first. More than a person
/// has taken back within the time that statements arrive late.
const MAX_TAKEN_BACK: usize = 64;

/// A person's traits. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Traits {
    /// The values, as the client wrote them.
    pub(super) values: Object,
    /// When each was last said, or taken back. What is not here was said before times were kept.
    pub(super) times: BTreeMap<String, i64>,
    /// The length of the values as text.
    bytes: usize,
}

/// What statements changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The values are others than before.
    pub(super) is_changed: bool,
    /// The times are others than before.
    pub(super) is_retimed: bool,
    /// Values that were not taken because there was no room.
    pub(super) refused: u64,
}

impl Traits {
    /// Traits whose values are `bytes` long as text. What is beyond `limit`, because that was higher,
    /// is left out.
    pub(super) fn new(
        mut values: Object,
        times: BTreeMap<String, i64>,
        mut bytes: usize,
        limit: usize,
    ) -> (Self, Said) {
        let mut said = Said::default();
        if bytes > limit {
            let mut kept = "{}".len();
            values.retain(|key, value| {
                let longer = kept + text_bytes(key, value);
                let fits = longer <= limit;
                if fits {
                    kept = longer;
                }
                fits
            });
            (bytes, said.is_changed) = (kept, true);
        }
        (Self { values, times, bytes }, said)
    }

    /// Takes statements made at one time; `null` takes back. Of those made at the same time the one
    /// that comes later holds. What would make the traits longer than `limit` is refused; what was
    /// known stays.
    pub(super) fn say(&mut self, said: &Object, at: i64, limit: usize) -> Said {
        let mut result = Said::default();
        for (key, value) in said {
            let known = self.times.get(key).copied();
            if known.is_none_or(|known| known <= at) {
                self.set(key, value, at, limit, &mut result);
            }
        }
        self.forget(&mut result);
        result
    }

    /// Takes in what another profile knew of the same person. Of statements of the same time the own
    /// stays.
    pub(super) fn merge(&mut self, other: &Self, limit: usize) -> Said {
        let mut result = Said::default();
        let time = |traits: &Self, key: &str| traits.times.get(key).copied();
        let taken_back = other.times.keys().filter(|key| !other.values.contains_key(*key));
        let taken_back = taken_back.map(|key| (key, &Value::Null));
        for (key, value) in other.values.iter().chain(taken_back) {
            let (own, theirs) = (time(self, key), time(other, key));
            let is_own = self.values.contains_key(key) || own.is_some();
            if !is_own || theirs > own {
                self.set(key, value, theirs.unwrap_or_default(), limit, &mut result);
            }
        }
        self.forget(&mut result);
        result
    }

    fn set(&mut self, key: &str, value: &Value, at: i64, limit: usize, result: &mut Said) {
        let old = self.values.get(key);
        let old_bytes = old.map_or(0, |old| text_bytes(key, old));
        let mut is_other = false;
        if value.is_null() {
            if self.values.shift_remove(key).is_some() {
                self.bytes = self.bytes.saturating_sub(old_bytes);
                is_other = true;
            }
        } else if old != Some(value) {
            let grown = self.bytes.saturating_sub(old_bytes) + text_bytes(key, value);
            if grown > limit {
                result.refused += 1;
                return;
            }
            self.values.insert(key.to_owned(), value.clone());
            self.bytes = grown;
            is_other = true;
        }
        result.is_changed |= is_other;
        let is_new = match self.times.get(key) {
            Some(known) => is_other || at.saturating_sub(*known) >= SEEN_EVERY_MS,
            None => true,
        };
        if is_new && self.times.insert(key.to_owned(), at) != Some(at) {
            result.is_retimed = true;
        }
    }

    fn forget(&mut self, result: &mut Said) {
        let is_gone = |key: &&String| !self.values.contains_key(key.as_str());
        let excess = self.times.keys().filter(is_gone).count().saturating_sub(MAX_TAKEN_BACK);
        if excess == 0 {
            return;
        }
        let mut gone: Vec<(i64, String)> = self
            .times
            .iter()
            .filter(|(key, _)| is_gone(key))
            .map(|(key, at)| (*at, key.clone()))
            .collect();
        gone.sort();
        for (_, key) in gone.into_iter().take(excess) {
            self.times.remove(&key);
        }
        result.is_retimed = true;
    }
}

impl Said {
    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            is_changed: self.is_changed || other.is_changed,
            is_retimed: self.is_retimed || other.is_retimed,
            refused: self.refused + other.refused,
        }
    }
}

/// The length of one trait as text: key, value and what is around them.
fn text_bytes(key: &str, value: &Value) -> usize {
    Value::from(key).to_string().len() + ":,".len() + value.to_string().len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    fn said(statements: &[(i64, Value)]) -> Traits {
        let mut traits = Traits { bytes: "{}".len(), ..Traits::default() };
        for (at, said) in statements {
            traits.say(&object(said.clone()), *at, 1000);
        }
        traits
    }

    #[test]
    fn traits_never_grow_beyond_the_limit() {
        let mut traits = Traits { bytes: "{}".len(), ..Traits::default() };
        for n in 0..1000 {
            let said = json!({ format!("\"k{}", n % 50): "\u{e9}\n".repeat(n % 9) });
            traits.say(&object(said), 1, 300);
            assert!(serde_json::to_string(&traits.values).unwrap().len() <= 300);
        }
        assert!(traits.values.len() > 5);
    }

    #[test]
    fn what_was_taken_back_does_not_come_back_by_an_older_statement() {
        let mut traits = said(&[(1, json!({"plan": "pro"})), (3, json!({"plan": null}))]);
        assert_eq!(traits.say(&object(json!({"plan": "free"})), 2, 1000), Said::default());
        assert_eq!(traits.values, Object::new());
        for n in 0..100 {
            traits.say(&object(json!({ format!("k{n}"): null })), 10 + n, 1000);
        }
        assert_eq!(traits.times.len(), MAX_TAKEN_BACK);
        assert!(traits.times.contains_key("k99") && !traits.times.contains_key("plan"));
    }

    #[test]
    fn what_is_said_again_is_written_down_only_now_and_then() {
        let mut traits = said(&[(1, json!({"plan": "pro", "town": null}))]);
        let again = object(json!({"plan": "pro", "town": null}));
        assert_eq!(traits.say(&again, 1000, 1000), Said::default());
        let later = traits.say(&again, 1 + SEEN_EVERY_MS, 1000);
        assert_eq!(later, Said { is_retimed: true, ..Said::default() });
    }

    fn statements() -> impl Strategy<Value = Vec<(i64, Value)>> {
        let value = prop_oneof![3 => (0..4_u8).prop_map(Value::from), 1 => Just(Value::Null)];
        let statement = (0..4_u8, value).prop_map(|(key, value)| json!({ key.to_string(): value }));
        prop::collection::vec(statement, 1..12).prop_map(|statements| {
            // Each at a time of its own, far enough apart to be written down.
            let times = (1..).map(|n| n * SEEN_EVERY_MS);
            times.zip(statements).collect()
        })
    }

    proptest! {
        #[test]
        fn neither_the_order_of_statements_nor_that_of_merges_matters(
            statements in statements(),
            order in prop::collection::vec(any::<u16>(), 12),
            split in any::<prop::sample::Index>(),
        ) {
            let in_time = said(&statements);
            let mut shuffled: Vec<_> = order.into_iter().zip(statements).collect();
            shuffled.sort_by_key(|(place, _)| *place);
            let shuffled: Vec<_> = shuffled.into_iter().map(|(_, statement)| statement).collect();
            let sorted = |traits: &Traits| {
                let values: BTreeMap<_, _> = traits.values.clone().into_iter().collect();
                (values, traits.times.clone(), traits.bytes)
            };
            prop_assert_eq!(sorted(&said(&shuffled)), sorted(&in_time));
            let (first, second) = shuffled.split_at(split.index(shuffled.len()));
            let (first, second) = (said(first), said(second));
            let (mut one, mut other) = (first.clone(), second.clone());
            one.merge(&second, 1000);
            other.merge(&first, 1000);
            prop_assert_eq!(sorted(&one), sorted(&in_time));
            prop_assert_eq!(sorted(&other), sorted(&in_time));
            let again = one.clone();
            prop_assert_eq!(one.merge(&again, 1000), Said::default());
        }
    }
}
