//! What a visitor agreed to, from whatever the page says it in.

use std::collections::BTreeMap;

use serde_json::Value;

use super::google::Google;
use super::tcf::TcString;
use super::us::{self, Gpp};
use crate::event::Object;

/// Categories that are read from one record: consent tools have about ten.
const MAX_CATEGORIES: usize = 64;

/// The categories that signals of the field speak of. Sites may use any others besides.
pub const ADVERTISING: &str = "advertising";
/// See [`ADVERTISING`].
pub const ANALYTICS: &str = "analytics";
/// That data of the person goes to Google's advertising services.
pub const AD_USER_DATA: &str = "ad_user_data";
/// That advertisements are chosen by what is known of the person.
pub const AD_PERSONALIZATION: &str = "ad_personalization";

/// What a visitor agreed to, by category.
///
/// The page's own record counts first: Segment's `context.consent.categoryPreferences`. Of what it
/// leaves open, one refusal among the other signals is enough: Google's (`google.gcs`, `google.gcd`),
/// an IAB TCF string (`tcf`), a GPP string (`gpp`), `us_privacy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent(BTreeMap<String, bool>);

impl Consent {
    /// Reads the record in an event's context. `None` if there is none, which is neither yes nor
    /// no. Only `true` and `false` are answers.
    pub fn read(context: &Object) -> Option<Self> {
        Self::of(context.get("consent")?)
    }

    /// Reads the text of a record: what stands in the context under `consent`.
    pub fn parse(record: &str) -> Option<Self> {
        Self::of(&serde_json::from_str(record).ok()?)
    }

    fn of(record: &Value) -> Option<Self> {
        let record = record.as_object()?;
        let said = record.get("categoryPreferences").and_then(Value::as_object);
        let mut answers = BTreeMap::new();
        let said_all = || said.into_iter().flatten();
        let refusals = said_all().filter(|(_, answer)| **answer == Value::Bool(false));
        // Where there are too many to be read, those that count for the visitor are.
        let others = said_all().filter(|(_, answer)| **answer != Value::Bool(false));
        for (category, answer) in refusals.chain(others).take(MAX_CATEGORIES) {
            if let Some(answer) = answer.as_bool() {
                // Of two spellings a refusal counts.
                *answers.entry(category.to_lowercase()).or_insert(true) &= answer;
            }
        }
        let mut signals = BTreeMap::new();
        for (category, answer) in signalled(record) {
            *signals.entry(category).or_insert(true) &= answer;
        }
        let speaks = said.is_some() || !signals.is_empty();
        for (category, answer) in signals {
            answers.entry(category.to_owned()).or_insert(answer);
        }
        speaks.then_some(Self(answers))
    }

    /// Of somebody who said nothing.
    pub fn unsaid() -> Self {
        Self(BTreeMap::new())
    }

    /// What holds for several who are treated as one: what all agree to, and what anybody refuses.
    pub fn of_all<'c>(all: impl IntoIterator<Item = Option<&'c Self>>) -> Option<Self> {
        let mut all = all.into_iter();
        let mut shared = all.next()?.cloned().unwrap_or_else(Self::unsaid).0;
        for other in all {
            let empty = Self::unsaid();
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

    /// Notes a refusal, whatever was said before: that of a signal which has the force of law.
    pub fn refuse(&mut self, category: &str) {
        self.0.insert(category.to_lowercase(), false);
    }

    /// The visitor's answer for a category, without regard to case.
    pub fn answer(&self, category: &str) -> Option<bool> {
        self.0.get(&category.to_lowercase()).copied()
    }

    /// All answers, by category.
    pub fn answers(&self) -> impl Iterator<Item = (&str, bool)> {
        self.0.iter().map(|(category, answer)| (category.as_str(), *answer))
    }

    /// Whether the visitor refused one of these categories, or everything that was asked.
    pub fn refuses(&self, categories: &[String]) -> bool {
        let refuses_all = !self.0.is_empty() && self.0.values().all(|is_yes| !is_yes);
        refuses_all || categories.iter().any(|category| self.answer(category) == Some(false))
    }
}

/// The answers of everything but the page's own record.
fn signalled(record: &Object) -> Vec<(&'static str, bool)> {
    let mut answers = Vec::new();
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    if let Some(google) = record.get("google").and_then(Value::as_object) {
        let text = |name: &str| google.get(name).and_then(Value::as_str).unwrap_or_default();
        let google = Google::from_gcd(text("gcd")).or(Google::from_gcs(text("gcs")));
        let said = [
            (ADVERTISING, google.ad_storage),
            (ANALYTICS, google.analytics_storage),
            (AD_USER_DATA, google.ad_user_data),
            (AD_PERSONALIZATION, google.ad_personalization),
        ];
        answers.extend(said.into_iter().filter_map(|(name, answer)| Some((name, answer?))));
    }
    if let Some(string) = text("tcf").and_then(TcString::read) {
        answers.extend(of_tcf(&string));
    }
    if let Some(gpp) = text("gpp").map(Gpp::read) {
        answers.extend(gpp.tcf.as_ref().map(of_tcf).into_iter().flatten());
        answers.extend(gpp.opts_out.then_some((ADVERTISING, false)));
    }
    if text("us_privacy").is_some_and(us::opts_out) {
        answers.push((ADVERTISING, false));
    }
    answers
}

/// What a TCF string's purposes are for a gateway (`contracts/beacons.md` 12.5): any id needs purpose 1;
/// conversions 2 and 7; audiences 3 and 4, for which there is no legitimate interest; analytics 8 or 9.
fn of_tcf(string: &TcString) -> [(&'static str, bool); 4] {
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
    use serde_json::json;

    use super::*;

    fn answers(record: &Value) -> Vec<(String, bool)> {
        let consent = Consent::parse(&record.to_string()).unwrap_or_else(Consent::unsaid);
        consent.answers().map(|(name, answer)| (name.to_owned(), answer)).collect()
    }

    fn expected(pairs: &[(&str, bool)]) -> Vec<(String, bool)> {
        pairs.iter().map(|(name, answer)| ((*name).to_owned(), *answer)).collect()
    }

    #[test]
    fn a_category_is_refused_by_its_name_or_with_all_others() {
        let refuses = |record: &str, category: &str| {
            Consent::parse(record).is_some_and(|record| record.refuses(&[category.to_owned()]))
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
    fn the_pages_own_record_counts_before_any_signal() {
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
    fn a_tcf_string_answers_for_every_category() {
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
    fn several_agree_to_what_all_do_and_refuse_what_one_does() {
        let of = |record: &str| Consent::parse(&format!("{{\"categoryPreferences\":{record}}}"));
        let (one, two) =
            (of(r#"{"a":true,"b":true,"c":true}"#), of(r#"{"a":true,"b":false,"d":false}"#));
        let all = Consent::of_all([one.as_ref(), two.as_ref()]).unwrap();
        let answers: Vec<_> = all.answers().collect();
        assert_eq!(answers, [("a", true), ("b", false), ("d", false)]);
        let silent = Consent::of_all([one.as_ref(), None]).unwrap();
        assert_eq!(silent.answers().count(), 0, "one of them did not say");
        assert_eq!(Consent::of_all([]), None);
    }

    #[test]
    fn a_signal_with_the_force_of_law_refuses_whatever_was_said() {
        let mut consent =
            Consent::parse(r#"{"categoryPreferences":{"advertising":true}}"#).unwrap();
        consent.refuse("Advertising");
        assert_eq!(consent.answer("advertising"), Some(false));
    }
}
