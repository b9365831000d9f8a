//! The visitor's consent, from every form in which pages send it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::google::GoogleConsent;
use super::tcf::TcfConsentString;
use super::us::{self, GppConsentString};
use crate::event::JsonObject;

/// The most categories that are read from one record: consent tools have about ten.
const MAX_CATEGORIES: usize = 64;

/// The categories of the standard consent signals. Sites may define others.
pub const ADVERTISING: &str = "advertising";
/// The category of analytics; see [`ADVERTISING`].
pub const ANALYTICS: &str = "analytics";
/// The sharing of personal data with Google's advertising services.
pub const AD_USER_DATA: &str = "ad_user_data";
/// The personalisation of advertisements.
pub const AD_PERSONALIZATION: &str = "ad_personalization";

/// The key for a refusal of all categories.
const EVERYTHING: &str = "*";

/// Words that mean yes, in lower case.
const GRANTED: [&str; 19] = [
    "true", "1", "yes", "y", "on", "ok", "grant", "granted", "allow", "allowed", "accept",
    "accepted", "agree", "agreed", "opt-in", "opt_in", "optin", "opted-in", "opted_in",
];

/// Returns a visitor's choice as a page writes it; `None` for null. Every value that is not a known yes is a no: a
/// yes that is not understood costs the site an event, a no that is not understood would cost the visitor's choice.
fn answer_of(value: &Value) -> Option<bool> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(answer) => *answer,
        Value::Number(number) => number.as_f64() == Some(1.0),
        Value::String(text) => {
            let text = text.trim().trim_matches(['"', '\'']);
            GRANTED.iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        Value::Array(_) | Value::Object(_) => false,
    })
}

/// A visitor's consent, by category.
///
/// The page's own record counts first: Segment's `context.consent.categoryPreferences`. For categories that it
/// leaves open, one refusal among the other signals is enough: Google's (`google.gcs`, `google.gcd`), an IAB TCF
/// string (`tcf`), a GPP string (`gpp`), `us_privacy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRecord(BTreeMap<String, bool>);

impl ConsentRecord {
    /// Reads the record in an event's context. `None` if there is none, which is neither yes nor no. A value that
    /// is neither null nor a known yes is a no, of whatever type or word.
    pub fn read(context: &JsonObject) -> Option<Self> {
        Self::of(context.get("consent")?)
    }

    /// Reads the JSON text of a record: the context's value under `consent`.
    pub fn parse(record: &str) -> Option<Self> {
        Self::of(&serde_json::from_str(record).ok()?)
    }

    fn of(record: &Value) -> Option<Self> {
        let Some(record) = record.as_object() else { return Self::of_one_answer(record) };
        let stated = record.get("categoryPreferences");
        let by_category = stated.and_then(Value::as_object);
        let mut answers = BTreeMap::new();
        if let Some(Self(all)) = stated.and_then(Self::of_one_answer) {
            answers = all;
        }
        let said_all = || by_category.into_iter().flatten();
        let refusals = said_all().filter(|(_, answer)| answer_of(answer) == Some(false));
        // Refusals come first, so that they are read even beyond the bound.
        let others = said_all().filter(|(_, answer)| answer_of(answer) == Some(true));
        for (category, answer) in refusals.chain(others).take(MAX_CATEGORIES) {
            if let Some(answer) = answer_of(answer) {
                // Of two spellings, a refusal counts.
                *answers.entry(category.trim().to_lowercase()).or_insert(true) &= answer;
            }
        }
        let mut signals = BTreeMap::new();
        for (category, answer) in signalled(record) {
            *signals.entry(category).or_insert(true) &= answer;
        }
        let speaks = by_category.is_some() || !answers.is_empty() || !signals.is_empty();
        for (category, answer) in signals {
            answers.entry(category.to_owned()).or_insert(answer);
        }
        speaks.then_some(Self(answers))
    }

    /// Reads a refusal of everything in one word: `"consent": "denied"`. A yes in one word names no category and
    /// has no effect; nor has an empty list, which is how PHP writes an empty object.
    fn of_one_answer(answer: &Value) -> Option<Self> {
        let is_scalar = answer.is_boolean() || answer.is_number() || answer.is_string();
        let refuses = is_scalar && *answer != "" && answer_of(answer) == Some(false);
        refuses.then(|| Self(BTreeMap::from([(EVERYTHING.to_owned(), false)])))
    }

    /// Returns the empty record of a visitor who made no choice.
    pub fn undecided() -> Self {
        Self(BTreeMap::new())
    }

    /// Combines the records of several visitors who are treated as one: what all agree to, and what any of them
    /// refuses.
    pub fn of_all<'c>(all: impl IntoIterator<Item = Option<&'c Self>>) -> Option<Self> {
        let mut all = all.into_iter();
        let mut shared = all.next()?.cloned().unwrap_or_else(Self::undecided).0;
        for other in all {
            let empty = Self::undecided();
            let other = other.unwrap_or(&empty);
            shared.retain(|category, answer| !*answer || other.0.contains_key(category));
            for (category, answer) in &other.0 {
                match shared.get_mut(category) {
                    Some(known) => *known &= answer,
                    None if !answer => drop(shared.insert(category.clone(), false)),
                    None => {}
                }
            }
        }
        Some(Self(shared))
    }

    /// Records a refusal, whatever the record has for the category: a signal with legal force overrides it.
    pub fn refuse(&mut self, category: &str) {
        self.0.insert(category.to_lowercase(), false);
    }

    /// Returns the visitor's choice for a category, without regard to case.
    pub fn answer(&self, category: &str) -> Option<bool> {
        let own = self.0.get(&category.to_lowercase()).copied();
        own.or_else(|| self.0.get(EVERYTHING).copied())
    }

    /// Returns all choices, by category.
    pub fn answers(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(category, answer)| (category.as_str(), *answer))
    }

    /// Returns true if the visitor refused one of these categories, or everything.
    pub fn refuses(&self, categories: &[String]) -> bool {
        let refuses_all = !self.0.is_empty() && self.0.values().all(|is_yes| !is_yes);
        refuses_all || categories.iter().any(|category| self.answer(category) == Some(false))
    }
}

/// Returns the choices of all signals but the page's own record.
fn signalled(record: &JsonObject) -> Vec<(&'static str, bool)> {
    let mut answers = Vec::new();
    let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::trim);
    if let Some(google) = record.get("google").and_then(Value::as_object) {
        let text = |name: &str| google.get(name).and_then(Value::as_str).unwrap_or_default().trim();
        let by_name = |name: &str| google.get(name).and_then(answer_of);
        // The page may repeat gtag's consent state, by its names.
        let named = GoogleConsent {
            ad_storage: by_name("ad_storage"),
            analytics_storage: by_name("analytics_storage"),
            ad_user_data: by_name("ad_user_data"),
            ad_personalization: by_name("ad_personalization"),
        };
        let google =
            named.or(GoogleConsent::from_gcd(text("gcd")).or(GoogleConsent::from_gcs(text("gcs"))));
        let stated = [
            (ADVERTISING, google.ad_storage),
            (ANALYTICS, google.analytics_storage),
            (AD_USER_DATA, google.ad_user_data),
            (AD_PERSONALIZATION, google.ad_personalization),
        ];
        answers.extend(stated.into_iter().filter_map(|(name, answer)| Some((name, answer?))));
    }
    if let Some(string) = text("tcf").and_then(TcfConsentString::read) {
        answers.extend(of_tcf(&string));
    }
    if let Some(gpp) = text("gpp").map(GppConsentString::read) {
        answers.extend(gpp.tcf.as_ref().map(of_tcf).into_iter().flatten());
        answers.extend(gpp.opts_out.then_some((ADVERTISING, false)));
    }
    if text("us_privacy").is_some_and(us::opts_out) {
        answers.push((ADVERTISING, false));
    }
    answers
}

/// Maps a TCF string's purposes to categories (`docs/contracts/beacons.md` 12.5): any id needs purpose 1; conversions 2
/// and 7; audiences 3 and 4, for which there is no legitimate interest; analytics 8 or 9.
fn of_tcf(string: &TcfConsentString) -> [(&'static str, bool); 4] {
    let stores = string.consents(1);
    [
        (ADVERTISING, stores && string.allows(2) && string.allows(7)),
        (ANALYTICS, stores && (string.allows(8) || string.allows(9))),
        (AD_USER_DATA, stores && string.allows(7)),
        (AD_PERSONALIZATION, stores && string.consents(3) && string.consents(4)),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn answers(record: &Value) -> Vec<(String, bool)> {
        let consent =
            ConsentRecord::parse(&record.to_string()).unwrap_or_else(ConsentRecord::undecided);
        consent.answers().map(|(name, answer)| (name.to_owned(), answer)).collect()
    }

    fn expected(pairs: &[(&str, bool)]) -> Vec<(String, bool)> {
        pairs.iter().map(|(name, answer)| ((*name).to_owned(), *answer)).collect()
    }

    #[test]
    fn category_is_refused_by_its_name_or_with_all_others() {
        let refuses = |record: &str, category: &str| {
            ConsentRecord::parse(record)
                .is_some_and(|record| record.refuses(&[category.to_owned()]))
        };
        let some = r#"{"categoryPreferences":{"Analytics":true,"advertising":false}}"#;
        assert!(refuses(some, "Advertising"));
        assert!(!refuses(some, "analytics") && !refuses(some, "other"));
        assert!(refuses(r#"{"categoryPreferences":{"C0002":false,"C0004":false}}"#, "analytics"));
        for nothing in [r#"{"categoryPreferences":{}}"#, r#"{"categoryPreferences":{"a":1}}"#, "1"]
        {
            assert!(!refuses(nothing, "analytics"), "{nothing}");
        }
    }

    #[test]
    fn only_known_words_are_a_yes() {
        let answer = |value: Value| {
            let record = json!({ "categoryPreferences": { "Ads": value, "x": true } });
            ConsentRecord::parse(&record.to_string()).unwrap().answer("ads")
        };
        for yes in [
            json!(true),
            json!(1),
            json!(1.0),
            json!("true"),
            json!("1"),
            json!("yes"),
            json!("Granted"),
            json!(" ALLOW "),
            json!("opt-in"),
            json!("OPT_IN"),
            json!("accepted"),
            json!("on"),
        ] {
            assert_eq!(answer(yes.clone()), Some(true), "{yes}");
        }
        for no in [
            json!(false),
            json!(0),
            json!(2),
            json!("false"),
            json!("0"),
            json!("no"),
            json!("DENIED"),
            json!("opt-out"),
            json!("declined"),
            json!("off"),
            json!(""),
            json!("unknown"),
            json!([]),
            json!({}),
            json!("nicht erteilt"),
            json!("not granted"),
        ] {
            assert_eq!(answer(no.clone()), Some(false), "{no}");
        }
        assert_eq!(answer(json!(null)), None);
    }

    #[test]
    fn refusal_of_everything_may_be_one_word() {
        let required = ["marketing".to_owned()];
        for record in [
            json!(false),
            json!("denied"),
            json!(0),
            json!("no"),
            json!({ "categoryPreferences": false }),
            json!({ "categoryPreferences": "denied" }),
        ] {
            let consent = ConsentRecord::parse(&record.to_string()).unwrap();
            assert!(consent.refuses(&required), "{record}");
            assert_eq!(consent.answer("Analytics"), Some(false), "{record}");
        }
        for record in [json!(true), json!("granted"), json!([]), json!(""), json!({}), json!(null)]
        {
            assert_eq!(ConsentRecord::parse(&record.to_string()), None, "{record}");
        }
        let google =
            json!({ "google": { "ad_storage": "denied", "analytics_storage": "granted" } });
        assert_eq!(answers(&google), expected(&[("advertising", false), ("analytics", true)]));
    }

    proptest! {
        #[test]
        fn unknown_word_is_a_no(word in "[a-zA-Z0-9 _-]{0,12}") {
            let record = json!({ "categoryPreferences": { "Advertising": word } });
            let consent = ConsentRecord::parse(&record.to_string()).unwrap();
            let is_yes = GRANTED.contains(&word.trim().to_lowercase().as_str());
            prop_assert_eq!(consent.answer("ADVERTISING"), Some(is_yes));
        }
    }

    #[test]
    fn page_record_counts_before_any_signal() {
        let record = json!({
            "categoryPreferences": { "advertising": true },
            "google": { "gcs": "G101" },
            "us_privacy": "1YYN",
        });
        assert_eq!(answers(&record), expected(&[("advertising", true), ("analytics", true)]));
    }

    #[test]
    fn one_refusal_among_the_signals_is_enough() {
        let google = json!({ "google": { "gcd": "13t3t3t2t5l1", "gcs": "G100" } });
        let all = [
            ("ad_personalization", true),
            ("ad_user_data", true),
            ("advertising", true),
            ("analytics", true),
        ];
        assert_eq!(answers(&google), expected(&all), "gcd says more than gcs");
        let both = json!({ "google": { "gcs": "G111" }, "us_privacy": "1YYN" });
        assert_eq!(answers(&both), expected(&[("advertising", false), ("analytics", true)]));
        assert_eq!(answers(&json!({ "us_privacy": "1YNN" })), []);
    }

    #[test]
    fn tcf_string_decides_every_category() {
        // Purposes 1 to 3 only.
        let string = "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA";
        let none = [
            ("ad_personalization", false),
            ("ad_user_data", false),
            ("advertising", false),
            ("analytics", false),
        ];
        assert_eq!(answers(&json!({ "tcf": string })), expected(&none));
        assert_eq!(answers(&json!({ "tcf": "nonsense" })), []);
    }

    #[test]
    fn combined_record_agrees_to_what_all_do_and_refuses_what_one_does() {
        let of =
            |record: &str| ConsentRecord::parse(&format!("{{\"categoryPreferences\":{record}}}"));
        let (one, two) =
            (of(r#"{"a":true,"b":true,"c":true}"#), of(r#"{"a":true,"b":false,"d":false}"#));
        let all = ConsentRecord::of_all([one.as_ref(), two.as_ref()]).unwrap();
        let answers: Vec<_> = all.answers().collect();
        assert_eq!(answers, [("a", true), ("b", false), ("d", false)]);
        let silent = ConsentRecord::of_all([one.as_ref(), None]).unwrap();
        assert_eq!(silent.answers().count(), 0, "one of them did not say");
        assert_eq!(ConsentRecord::of_all([]), None);
    }

    #[test]
    fn signal_with_legal_force_overrides_the_record() {
        let mut consent =
            ConsentRecord::parse(r#"{"categoryPreferences":{"advertising":true}}"#).unwrap();
        consent.refuse("Advertising");
        assert_eq!(consent.answer("advertising"), Some(false));
    }
}
