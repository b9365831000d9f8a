//! A rule evaluated for one person, in plain Rust. The compiled statements must give the same answers: this
//! code defines the meaning, they make it fast.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Number, Value};

use super::rule::{
    AmountCondition, ComparisonOperator, DAY_MS, EventCondition, ProfilePart, PropertyFilter,
    RuleLiteral, RuleMoment, RuleTimeSpan, RuleValueTest, SegmentRule, milliseconds,
};
use tagway_core::event::JsonObject;

/// A person in the form that rules test. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuleProfile {
    /// The person's traits.
    pub traits: JsonObject,
    /// The names of the kinds of the person's identities.
    pub identities: BTreeSet<String>,
    /// The person's consent, by category.
    pub consent: JsonObject,
    /// The person's device.
    pub device: JsonObject,
    /// The person's approximate location.
    pub place: JsonObject,
    /// The person's first and last touch.
    pub touches: JsonObject,
    /// The time when the person was seen first.
    pub first_seen: Option<i64>,
    /// The time when the person was seen last.
    pub last_seen: Option<i64>,
    /// The person's events, by the counter's key and the day since 1970.
    pub activity: BTreeMap<String, BTreeMap<i64, DailyTally>>,
}

/// The tally of one person's events on one day, of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DailyTally {
    /// The number of events.
    pub count: i64,
    /// The time of the first event.
    pub first: i64,
    /// The time of the last event.
    pub last: i64,
    /// The sum of the events' values.
    pub sum: f64,
}

impl SegmentRule {
    /// Returns true if the rule selects the person at this time.
    pub fn holds(&self, person: &RuleProfile, now_ms: i64) -> bool {
        match self {
            Self::All(rules) => rules.iter().all(|rule| rule.holds(person, now_ms)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(person, now_ms)),
            Self::Not(rule) => !rule.holds(person, now_ms),
            Self::Known { place, path, tests } => {
                let value = lookup(person.part(*place), path);
                tests.iter().all(|test| test.holds(value, now_ms))
            }
            Self::Identity { kind, exists } => person.identities.contains(kind) == *exists,
            Self::Seen { first, when } => {
                let seen = if *first { person.first_seen } else { person.last_seen };
                seen.is_some_and(|seen| when.contains(seen, now_ms))
            }
            Self::Event(event) => event.holds(person, now_ms),
        }
    }
}

impl RuleProfile {
    fn part(&self, place: ProfilePart) -> &JsonObject {
        match place {
            ProfilePart::Traits => &self.traits,
            ProfilePart::Consent => &self.consent,
            ProfilePart::Device => &self.device,
            ProfilePart::Place => &self.place,
            ProfilePart::Touches => &self.touches,
        }
    }
}

impl EventCondition {
    fn holds(&self, person: &RuleProfile, now_ms: i64) -> bool {
        let (mut count, mut sum) = (0_i64, 0.0);
        let (mut first, mut last) = (None::<i64>, None::<i64>);
        let (day, since) = self.window(now_ms);
        for (_, tally) in
            person.activity.get(&self.key()).into_iter().flat_map(|days| days.range(day..))
        {
            if tally.last < since {
                continue;
            }
            count = count.saturating_add(tally.count);
            sum += tally.sum;
            first = Some(first.map_or(tally.first, |known| known.min(tally.first)));
            last = Some(last.map_or(tally.last, |known| known.max(tally.last)));
        }
        if count == 0 {
            return self.holds_of_none();
        }
        let within = |span: RuleTimeSpan, at: Option<i64>| {
            span.is_open() || at.is_some_and(|at| span.contains(at, now_ms))
        };
        #[expect(clippy::cast_precision_loss, reason = "nobody does anything 2^52 times")]
        let times = count as f64;
        self.count.is_none_or(|amount| amount.holds(times))
            && self.sum.is_none_or(|amount| amount.holds(sum))
            && within(self.first, first)
            && within(self.last, last)
    }

    /// Returns the first day that counts, and the earliest last time on a day that does: a window that is not
    /// a whole number of days begins at a moment, the others with a day.
    pub(super) fn window(&self, now_ms: i64) -> (i64, i64) {
        let Some(within) = self.within.map(milliseconds) else { return (i64::MIN, i64::MIN) };
        let since = now_ms.saturating_sub(within);
        let is_of_days = within % DAY_MS == 0;
        (since.div_euclid(DAY_MS), if is_of_days { i64::MIN } else { since })
    }
}

impl AmountCondition {
    /// Returns true if a number is in this relation to the rule's.
    pub(super) fn holds(self, number: f64) -> bool {
        number.partial_cmp(&self.number).is_some_and(|order| self.comparison.allows(order))
    }
}

impl RuleTimeSpan {
    fn contains(self, at: i64, now_ms: i64) -> bool {
        self.after.is_none_or(|moment| at >= moment.milliseconds(now_ms))
            && self.before.is_none_or(|moment| at < moment.milliseconds(now_ms))
    }
}

impl ComparisonOperator {
    fn allows(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Unequal => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl RuleValueTest {
    /// Returns true if a value, or its absence, passes.
    pub(super) fn holds(&self, value: Option<&Value>, now_ms: i64) -> bool {
        let value = value.filter(|value| !value.is_null());
        let Some(value) = value else { return *self == Self::Exists(false) };
        match self {
            Self::Exists(exists) => *exists,
            Self::Compare(ComparisonOperator::Unequal, literal) => {
                literal.order_of(value).is_none_or(Ordering::is_ne)
            }
            Self::Compare(comparison, literal) => {
                literal.order_of(value).is_some_and(|order| comparison.allows(order))
            }
            Self::In(literals) => literals.iter().any(|literal| literal.equals(value)),
            Self::Contains(literal) => match (value, literal) {
                (Value::String(text), RuleLiteral::Text(part)) => text.contains(part.as_str()),
                (Value::Array(items), literal) => items.iter().any(|item| literal.equals(item)),
                _ => false,
            },
            Self::StartsWith(part) => value.as_str().is_some_and(|text| text.starts_with(part)),
            Self::EndsWith(part) => value.as_str().is_some_and(|text| text.ends_with(part)),
            Self::Before(moment) => order_of_time(value, *moment, now_ms) == Some(Ordering::Less),
            Self::After(moment) => {
                order_of_time(value, *moment, now_ms).is_some_and(Ordering::is_ge)
            }
        }
    }
}

impl RuleLiteral {
    fn equals(&self, value: &Value) -> bool {
        self.order_of(value).is_some_and(Ordering::is_eq)
    }

    /// Compares a value with this one; `None` if they are not of one type.
    fn order_of(&self, value: &Value) -> Option<Ordering> {
        match (self, value) {
            (Self::Text(text), Value::String(value)) => Some(value.as_str().cmp(text)),
            (Self::Boolean(own), Value::Bool(value)) => Some(value.cmp(own)),
            (Self::Integer(own), Value::Number(number)) => match number.as_i64() {
                Some(number) => Some(number.cmp(own)),
                None => number.as_f64().map(|number| order(*own, number).reverse()),
            },
            (Self::Real(own), Value::Number(number)) => match number.as_i64() {
                Some(number) => Some(order(number, *own)),
                None => number.as_f64().and_then(|number| number.partial_cmp(own)),
            },
            _ => None,
        }
    }
}

/// Compares a whole number and another exactly, without rounding the first.
fn order(whole: i64, real: f64) -> Ordering {
    const I64_BOUND: f64 = 9_223_372_036_854_775_808.0;
    if real >= I64_BOUND {
        return Ordering::Less;
    }
    if real < -I64_BOUND {
        return Ordering::Greater;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is within the range and has no fraction"
    )]
    let floor = real.floor() as i64;
    whole.cmp(&floor).then(if real.fract() == 0.0 { Ordering::Equal } else { Ordering::Less })
}

/// Numbers below are seconds since 1970, others milliseconds: until the year 5138, and from 1973 on.
pub(super) const MILLISECONDS_FROM: i64 = 100_000_000_000;

/// Compares a value with a moment, by whole seconds; `None` if it is not a time.
fn order_of_time(value: &Value, moment: RuleMoment, now_ms: i64) -> Option<Ordering> {
    let seconds = moment.milliseconds(now_ms).div_euclid(1000);
    match value {
        Value::Number(number) => Some(order_of_number(number, seconds)),
        Value::String(text) => Some(text_of_time(text)?.as_str().cmp(&time_text(seconds))),
        _ => None,
    }
}

fn order_of_number(number: &Number, seconds: i64) -> Ordering {
    let threshold = RuleLiteral::Integer(MILLISECONDS_FROM);
    let value = Value::Number(number.clone());
    let is_seconds = threshold.order_of(&value).is_some_and(Ordering::is_lt);
    let own = if is_seconds { seconds } else { seconds.saturating_mul(1000) };
    RuleLiteral::Integer(own).order_of(&value).unwrap_or(Ordering::Less)
}

/// Formats a moment as the beginning of a time in RFC 3339, in UTC, to the second.
pub(super) fn time_text(seconds: i64) -> String {
    let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Does the same for a text that is a date, or a time in RFC 3339 that ends with `Z`.
fn text_of_time(text: &str) -> Option<String> {
    const DATE: &[u8] = b"dddd-dd-dd";
    const TIME: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let is_like = |bytes: &[u8], form: &[u8]| {
        let like = |(byte, form): (&u8, &u8)| match form {
            b'd' => byte.is_ascii_digit(),
            other => byte == other,
        };
        bytes.len() == form.len() && bytes.iter().zip(form).all(like)
    };
    if is_like(text.as_bytes(), DATE) {
        return Some(format!("{text}T00:00:00"));
    }
    let head = text.get(..TIME.len())?;
    (is_like(head.as_bytes(), TIME) && text.ends_with('Z')).then(|| head.to_owned())
}

/// Returns the value under these keys.
pub(super) fn lookup<'v>(object: &'v JsonObject, path: &[String]) -> Option<&'v Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(first)?, |value, key| value.as_object()?.get(key))
}

/// Returns true if an event's properties pass.
pub(super) fn passes(
    filter: &PropertyFilter,
    properties: Option<&JsonObject>,
    now_ms: i64,
) -> bool {
    filter.iter().all(|(path, tests)| {
        let value = properties.and_then(|properties| lookup(properties, path));
        tests.iter().all(|test| test.holds(value, now_ms))
    })
}
