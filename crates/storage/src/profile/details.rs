//! The details that activity leaves of one person: touches, device, place, consent and group, each with
//! the time and the rank of its statement.
//!
//! A statement of a higher rank wins over those of lower ones, whatever their times; of two of the same
//! rank the later wins. For the data that a browser shows of itself (touches, device, place) a proven
//! browser is as sure as a server.
//!
//! Consent is easier to withdraw than to give. A refusal wins over every earlier answer of its own rank
//! and, if it is proven, of any. A refused category is granted again by a higher rank, later by a
//! proven sender of the same rank, or, if all answers were claims, by the browser that refused.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Activity;
use tagway_core::event::{ComputedAttributes, JsonObject, SenderRank};

/// The most categories of consent that are kept.
const MAX_CATEGORIES: usize = 64;

/// The members of `stated` that are not times.
const RANKS: &str = "ranks";
const ANSWERS: &str = "answers";

/// The source of an activity, and its time in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct ActivityProvenance<'w> {
    pub(super) at: i64,
    pub(super) rank: SenderRank,
    /// The id in the browser's cookie, if there is one.
    pub(super) browser: Option<&'w str>,
}

/// The details of one person. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProfileDetails {
    pub(super) touches: JsonObject,
    pub(super) device: JsonObject,
    pub(super) place: JsonObject,
    pub(super) consent: JsonObject,
    pub(super) group: Option<String>,
    /// The time at which each but the touches was last stated; under `ranks` the rank of the statement, if it is not
    /// claimed, that of the touches as well; under `answers` the provenance of each category's consent.
    pub(super) stated: JsonObject,
}

/// The source of an answer about a category of consent.
#[derive(Clone, Debug, PartialEq)]
struct ConsentProvenance {
    at: i64,
    rank: SenderRank,
    /// The fingerprint of the browser.
    browser: Option<String>,
}

impl ProfileDetails {
    /// Returns the computed attributes of a person who was seen at these times, without their activity.
    pub(super) fn into_computed(
        self,
        first_seen: Option<i64>,
        last_seen: Option<i64>,
    ) -> ComputedAttributes {
        let Self { touches, device, place, consent, group: group_id, stated: _ } = self;
        let times = ComputedAttributes { first_seen, last_seen, ..ComputedAttributes::default() };
        ComputedAttributes { touches, device, place, consent, group_id, ..times }
    }

    /// Applies an activity. Returns true if it changed anything but times.
    pub(super) fn apply_activity(
        &mut self,
        seen: &Activity,
        witness: ActivityProvenance<'_>,
    ) -> bool {
        let ActivityProvenance { at, rank, browser } = witness;
        let shown = rank.min(SenderRank::Proven);
        let mut first = seen.touch.clone().unwrap_or_default();
        first.insert("at".into(), at.into());
        let mut is_news = self.touch_first(&first, shown);
        if seen.touch.is_some() {
            is_news |= self.touch_last(&first, shown);
        }
        let object = |object: &JsonObject| (!object.is_empty()).then(|| object.clone());
        is_news |= self.state("device", object(&seen.device), at, shown);
        is_news |= self.state("place", object(&seen.place), at, shown);
        for (category, answer) in &seen.consent {
            let by = ConsentProvenance { at, rank, browser: browser.map(browser_fingerprint) };
            is_news |= self.answer(category, answer, by);
        }
        // A later time alone is not worth a write.
        is_news | self.state_group(seen.group.as_ref(), at, rank)
    }

    /// Merges the details of the same person's other profile; `by` is the rank that joins the two.
    pub(super) fn absorb(&mut self, mut other: Self, by: SenderRank) -> bool {
        let before = self.clone();
        if by > SenderRank::Claimed {
            other.raise_to_proven();
        }
        let object = |name: &str| other.touches.get(name).and_then(Value::as_object);
        if let Some(first) = object("first") {
            self.touch_first(first, other.rank("first"));
        }
        if let Some(last) = object("last") {
            self.touch_last(last, other.rank("last"));
        }
        for (key, value) in [("device", &other.device), ("place", &other.place)] {
            if let Some(at) = other.stated_at(key) {
                self.state(key, Some(value.clone()), at, other.rank(key));
            }
        }
        for (category, answer) in &other.consent {
            self.answer(category, answer, other.consent_provenance(category));
        }
        if let Some(at) = other.stated_at("group") {
            self.state_group(other.group.as_ref(), at, other.rank("group"));
        }
        *self != before
    }

    /// Raises the touches, the device, the place and the refusals of a browser to proven: its user is
    /// known from now on.
    pub(super) fn raise_to_proven(&mut self) {
        for key in ["first", "last", "device", "place"] {
            let is_there = self.touches.contains_key(key) || self.stated.contains_key(key);
            if is_there && self.rank(key) == SenderRank::Claimed {
                self.set_rank(key, SenderRank::Proven);
            }
        }
        let refused = self.consent.iter().filter(|(_, answer)| **answer == Value::Bool(false));
        let refused: Vec<String> = refused.map(|(category, _)| category.clone()).collect();
        for category in refused {
            let mut answered = self.consent_provenance(&category);
            answered.rank = answered.rank.max(SenderRank::Proven);
            self.record_provenance(&category, &answered);
        }
    }

    fn stated_at(&self, key: &str) -> Option<i64> {
        self.stated.get(key).and_then(Value::as_i64)
    }

    fn rank(&self, key: &str) -> SenderRank {
        let rank = self.stated.get(RANKS).and_then(|ranks| ranks.get(key)).and_then(Value::as_i64);
        SenderRank::from_number(rank.unwrap_or_default())
    }

    /// Sets a rank, unless it is already set.
    fn set_rank(&mut self, key: &str, rank: SenderRank) {
        if self.rank(key) != rank {
            put(&mut self.stated, RANKS, key, rank.number().into());
        }
    }

    /// Sets the first touch. Of the same rank the earlier wins. One of a higher rank wins if it is
    /// earlier or has any campaign data.
    fn touch_first(&mut self, first: &JsonObject, rank: SenderRank) -> bool {
        let known = self.touches.get("first").and_then(Value::as_object);
        let is_taken = known.is_none_or(|known| {
            let is_earlier = at(first) < at(known);
            let is_surer = rank > self.rank("first") && first.len() > 1;
            (is_earlier && rank >= self.rank("first")) || is_surer
        });
        if is_taken {
            self.touches.insert("first".into(), Value::Object(first.clone()));
            self.set_rank("first", rank);
        }
        is_taken
    }

    /// Sets the last touch. Of the same rank the later wins, unless it repeats the known one.
    fn touch_last(&mut self, last: &JsonObject, rank: SenderRank) -> bool {
        let known = self.touches.get("last").and_then(Value::as_object);
        let is_taken = known.is_none_or(|known| {
            let is_later = at(last) > at(known) && !is_same(last, known);
            rank > self.rank("last") || (rank == self.rank("last") && is_later)
        });
        if is_taken {
            self.touches.insert("last".into(), Value::Object(last.clone()));
            self.set_rank("last", rank);
        }
        is_taken
    }

    /// Returns true if a statement of this time and rank wins over the stored one.
    fn outranks_stored(&self, key: &str, at: i64, rank: SenderRank) -> bool {
        let (known_at, known) = (self.stated_at(key), self.rank(key));
        rank > known || (rank == known && known_at.is_none_or(|known| known <= at))
    }

    fn state(
        &mut self,
        key: &'static str,
        statement: Option<JsonObject>,
        at: i64,
        rank: SenderRank,
    ) -> bool {
        let Some(statement) = statement.filter(|_| self.outranks_stored(key, at, rank)) else {
            return false;
        };
        let own = if key == "device" { &mut self.device } else { &mut self.place };
        let is_other = *own != statement;
        *own = statement;
        self.state_at(key, at, rank) || is_other
    }

    fn state_group(&mut self, group: Option<&String>, at: i64, rank: SenderRank) -> bool {
        let Some(group) = group.filter(|_| self.outranks_stored("group", at, rank)) else {
            return false;
        };
        let is_other = self.group.as_ref() != Some(group);
        self.group = Some(group.clone());
        self.state_at("group", at, rank) || is_other
    }

    /// Records the time and the rank of a statement. Returns true if the rank changed.
    fn state_at(&mut self, key: &'static str, at: i64, rank: SenderRank) -> bool {
        self.stated.insert(key.into(), at.into());
        let is_other = self.rank(key) != rank;
        self.set_rank(key, rank);
        is_other
    }

    fn consent_provenance(&self, category: &str) -> ConsentProvenance {
        let known = self.stated.get(ANSWERS).and_then(|answers| answers.get(category));
        let number = |key: &str| known.and_then(|known| known.get(key)).and_then(Value::as_i64);
        let browser = known.and_then(|known| known.get("browser")).and_then(Value::as_str);
        ConsentProvenance {
            // Older versions stored one time for all answers.
            at: number("at").or_else(|| self.stated_at("consent")).unwrap_or_default(),
            rank: SenderRank::from_number(number("rank").unwrap_or_default()),
            browser: browser.map(str::to_owned),
        }
    }

    fn record_provenance(&mut self, category: &str, answered: &ConsentProvenance) {
        let ConsentProvenance { at, rank, browser } = answered;
        let mut noted = json!({ "at": at });
        if let Some(noted) = noted.as_object_mut() {
            if *rank > SenderRank::Claimed {
                noted.insert("rank".to_owned(), rank.number().into());
            }
            if let Some(browser) = browser {
                noted.insert("browser".to_owned(), browser.as_str().into());
            }
        }
        put(&mut self.stated, ANSWERS, category, noted);
        let latest = self.stated_at("consent").map_or(*at, |known| known.max(*at));
        self.stated.insert("consent".to_owned(), latest.into());
    }

    /// Applies an answer. Returns true if it changed anything but the time.
    fn answer(&mut self, category: &str, answer: &Value, by: ConsentProvenance) -> bool {
        let Some(known) = self.consent.get(category) else {
            if !self.has_room(by.rank) {
                return false;
            }
            self.consent.insert(category.to_owned(), answer.clone());
            self.record_provenance(category, &by);
            return true;
        };
        let is_same = known == answer;
        let before = self.consent_provenance(category);
        if !before.is_replaced_by(&by, is_same, *answer == Value::Bool(false)) {
            return false;
        }
        let is_news = !is_same || before.rank != by.rank || before.browser != by.browser;
        self.consent.insert(category.to_owned(), answer.clone());
        self.record_provenance(category, &by);
        is_news
    }

    /// Returns true if one more category may be kept. One of a lower rank is removed for it.
    fn has_room(&mut self, rank: SenderRank) -> bool {
        if self.consent.len() < MAX_CATEGORIES {
            return true;
        }
        let categories = self.consent.keys();
        let lowest =
            categories.map(|it| (self.consent_provenance(it).rank, it)).min_by_key(|(it, _)| *it);
        let Some(lowest) = lowest.filter(|(it, _)| *it < rank).map(|(_, it)| it.clone()) else {
            return false;
        };
        self.consent.shift_remove(&lowest);
        if let Some(answers) = self.stated.get_mut(ANSWERS).and_then(Value::as_object_mut) {
            answers.shift_remove(&lowest);
        }
        true
    }
}

impl ConsentProvenance {
    /// Returns true if the answer `by` replaces this one.
    fn is_replaced_by(&self, by: &Self, is_same: bool, is_refusal: bool) -> bool {
        let is_newer = self.at <= by.at;
        let are_claims = self.rank == SenderRank::Claimed && by.rank == SenderRank::Claimed;
        let is_same_browser = by.browser.is_some() && self.browser == by.browser;
        if by.rank > self.rank && (is_same || self.rank == SenderRank::Claimed) {
            return true;
        }
        if is_same {
            return by.rank == self.rank && is_newer;
        }
        if is_refusal {
            let is_heard = by.rank >= self.rank || by.rank > SenderRank::Claimed;
            return (is_newer && is_heard) || (are_claims && !is_same_browser);
        }
        is_newer && by.rank >= self.rank && (!are_claims || is_same_browser)
    }
}

/// Returns a fingerprint that tells a browser from others and does not show its id.
fn browser_fingerprint(browser: &str) -> String {
    let digest = Sha256::digest(browser.as_bytes());
    hex::encode(digest.get(..8).unwrap_or_default())
}

fn at(touch: &JsonObject) -> Option<i64> {
    touch.get("at").and_then(Value::as_i64)
}

/// Sets a member of the object's inner object `name`.
fn put(object: &mut JsonObject, name: &str, key: &str, value: Value) {
    let inner = object.entry(name.to_owned()).or_insert_with(|| Value::Object(JsonObject::new()));
    if let Some(inner) = inner.as_object_mut() {
        inner.insert(key.to_owned(), value);
    }
}

/// Returns true if two touches are the same but for their times.
fn is_same(a: &JsonObject, b: &JsonObject) -> bool {
    let others = |touch: &JsonObject| touch.iter().filter(|(key, _)| *key != "at").count();
    others(a) == others(b) && a.iter().all(|(key, value)| key == "at" || b.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the details after these statements: time, rank, browser and activity of each.
    fn details_after(all: &[(i64, SenderRank, Option<&str>, Activity)]) -> ProfileDetails {
        let mut details = ProfileDetails::default();
        for (at, rank, browser, seen) in all {
            details.apply_activity(
                seen,
                ActivityProvenance { at: *at, rank: *rank, browser: *browser },
            );
        }
        details
    }

    fn object(value: Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    fn landing(name: &str) -> Activity {
        Activity {
            touch: Some(object(json!({ "campaign": { "name": name } }))),
            place: object(json!({ "country": name })),
            consent: object(json!({ name: true, "ads": name == "b" })),
            group: Some(name.to_owned()),
            ..Activity::default()
        }
    }

    #[test]
    fn newest_statement_wins_in_any_order() {
        for rank in SenderRank::ALL {
            let all = [(1, "a"), (2, "b"), (3, "c")]
                .map(|(at, name)| (at, rank, Some("v"), landing(name)));
            let result = |order: [usize; 3]| details_after(&order.map(|n| all[n].clone()));
            let expected = result([0, 1, 2]);
            assert_eq!(expected.group.as_deref(), Some("c"));
            assert_eq!(expected.place["country"], "c");
            assert_eq!(expected.touches["first"]["campaign"]["name"], "a");
            let last = json!({ "at": 3, "campaign": { "name": "c" } });
            assert_eq!(expected.touches["last"], last);
            assert_eq!(expected.consent["ads"], false);
            for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                assert_eq!(result(order), expected, "{order:?}");
                let (mut a, mut b) = (ProfileDetails::default(), ProfileDetails::default());
                let witness = |at| ActivityProvenance { at, rank, browser: Some("v") };
                a.apply_activity(&all[order[0]].3, witness(all[order[0]].0));
                b.apply_activity(&all[order[1]].3, witness(all[order[1]].0));
                b.apply_activity(&all[order[2]].3, witness(all[order[2]].0));
                a.absorb(b, SenderRank::Claimed);
                assert_eq!(a, expected, "joined {order:?}");
            }
            let mut again = expected.clone();
            let witness = ActivityProvenance { at: 9, rank, browser: Some("v") };
            assert!(!again.apply_activity(&all[2].3, witness), "the same again is nothing new");
        }
    }

    /// Returns an answer on advertisements.
    fn ads(answer: bool) -> Activity {
        Activity { consent: object(json!({ "ads": answer })), ..Activity::default() }
    }

    #[test]
    fn refused_consent_is_not_granted_by_a_lower_rank() {
        use SenderRank::{Claimed, Proven, Server};
        let after = |rank, browser, by: SenderRank, who| {
            let all = [(1, rank, browser, ads(false)), (2, by, who, ads(true))];
            details_after(&all).consent["ads"] == true
        };
        let (own, other) = (Some("v"), Some("x"));
        for (is_granted, rank, browser, by, who) in [
            (true, Claimed, own, Claimed, own),
            (false, Claimed, own, Claimed, other),
            (false, Claimed, own, Claimed, None),
            (false, Claimed, None, Claimed, None),
            (true, Claimed, own, Proven, other),
            (true, Claimed, own, Server, None),
            (false, Proven, own, Claimed, own),
            (true, Proven, own, Proven, other),
            (true, Proven, own, Server, None),
            (false, Server, None, Claimed, own),
            (false, Server, None, Proven, own),
            (true, Server, None, Server, None),
        ] {
            assert_eq!(after(rank, browser, by, who), is_granted, "{rank:?} {by:?} {who:?}");
        }
    }

    #[test]
    fn own_refusal_wins_over_every_earlier_answer() {
        use SenderRank::{Claimed, Proven, Server};
        let after = |rank: SenderRank, by: SenderRank, order: [usize; 2]| {
            let all = [(1, rank, None, ads(true)), (2, by, Some("v"), ads(false))];
            details_after(&order.map(|n| all[n].clone())).consent["ads"] == false
        };
        for order in [[0, 1], [1, 0]] {
            for (is_refused, rank, by) in [
                (true, Claimed, Claimed),
                (false, Proven, Claimed),
                (false, Server, Claimed),
                (true, Server, Proven),
                (true, Server, Server),
            ] {
                assert_eq!(after(rank, by, order), is_refused, "{rank:?} {by:?} {order:?}");
            }
        }
        // A refusal of an unknown visitor stays after they are identified.
        let mut known = details_after(&[(1, Server, None, ads(true))]);
        known.absorb(details_after(&[(2, Claimed, Some("v"), ads(false))]), Proven);
        assert_eq!(known.consent["ads"], false);
        known.absorb(details_after(&[(3, Claimed, Some("x"), ads(true))]), Claimed);
        assert_eq!(known.consent["ads"], false, "nor does a claim undo it");
    }

    #[test]
    fn claim_changes_no_proven_details() {
        use SenderRank::{Claimed, Proven, Server};
        for rank in [Proven, Server] {
            let mut known = details_after(&[(5, rank, None, landing("a"))]);
            let before = known.clone();
            for at in [1, 9] {
                let mut claim = landing("x");
                claim.consent.clear();
                let witness = ActivityProvenance { at, rank: Claimed, browser: Some("x") };
                assert!(!known.apply_activity(&claim, witness));
                known.absorb(details_after(&[(at, Claimed, Some("x"), claim)]), Claimed);
            }
            assert_eq!(known, before);
        }
        let mut known = details_after(&[(5, Claimed, None, landing("x"))]);
        known.apply_activity(
            &landing("a"),
            ActivityProvenance { at: 4, rank: Server, browser: None },
        );
        assert_eq!((known.group.as_deref(), &known.place["country"]), (Some("a"), &json!("a")));
        assert_eq!(known.touches["last"]["campaign"]["name"], "a");
        // Categories that claims made up are removed for a server's.
        let junk = |n: usize| (format!("c{n}"), Value::Bool(false));
        let consent: JsonObject = (0..MAX_CATEGORIES + 9).map(junk).collect();
        let mut known =
            details_after(&[(1, Claimed, None, Activity { consent, ..Activity::default() })]);
        known.apply_activity(&ads(true), ActivityProvenance { at: 1, rank: Server, browser: None });
        assert_eq!((known.consent.len(), &known.consent["ads"]), (MAX_CATEGORIES, &json!(true)));
    }
}
