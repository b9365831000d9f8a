//! The parts of a rule: a tree of conditions. Their syntax is in `parse.rs`; their meaning, in the module's
//! own documentation and, executable, in `evaluate.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The deepest nesting of conditions: a deeper rule was written by a program.
pub(super) const MAX_DEPTH: usize = 16;

/// The most conditions of one rule: far more than a person reads, and within SQLite's limit for one
/// statement (an expression may be 1000 deep).
pub(super) const MAX_CONDITIONS: usize = 200;

/// The most values of one rule, including those of its lists: each is a parameter of the statement, and
/// SQLite accepts 32,766.
pub(super) const MAX_VALUES: usize = 5000;

/// The most bytes of one name or value.
pub(super) const MAX_TEXT_BYTES: usize = 1000;

/// A rule that selects people.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentRule {
    /// All of these are true.
    All(Vec<SegmentRule>),
    /// At least one of these is true.
    Any(Vec<SegmentRule>),
    /// This is false.
    Not(Box<SegmentRule>),
    /// A value in the profile passes tests.
    Known {
        /// The part of the profile.
        place: ProfilePart,
        /// The keys to the value, from the outermost.
        path: Vec<String>,
        /// The tests, all of which must pass.
        tests: Vec<RuleValueTest>,
    },
    /// The person has an identity of this kind, or has none.
    Identity {
        /// The kind's name, as the profiles store it.
        kind: String,
        /// True if there must be one.
        exists: bool,
    },
    /// The time when the person was seen.
    Seen {
        /// True for the first time, false for the last.
        first: bool,
        /// The allowed times.
        when: RuleTimeSpan,
    },
    /// The person's events pass a condition.
    Event(EventCondition),
}

/// The parts of a profile that contain named values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfilePart {
    /// The person's traits.
    Traits,
    /// The consent by category: true or false.
    Consent,
    /// The device last seen.
    Device,
    /// The person's approximate location.
    Place,
    /// The first and the last touch.
    Touches,
}

/// A test of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleValueTest {
    /// It is in this relation to a value.
    Compare(ComparisonOperator, RuleLiteral),
    /// It is equal to one of these.
    In(Vec<RuleLiteral>),
    /// It is a text that contains this text, or a list with such an element.
    Contains(RuleLiteral),
    /// It is a text that begins with this.
    StartsWith(String),
    /// It is a text that ends with this.
    EndsWith(String),
    /// There is a value, or there is none.
    Exists(bool),
    /// It is a time before this.
    Before(RuleMoment),
    /// It is this time or a later one.
    After(RuleMoment),
}

/// A relation of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonOperator {
    /// `=`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A value written in a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleLiteral {
    /// A text; comparisons are exact.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// True or false.
    Boolean(bool),
}

/// A moment, absolute or relative to the time of the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleMoment {
    /// This long ago.
    Ago(Duration),
    /// A fixed moment.
    At(Timestamp),
}

/// The time between two moments, either of which may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTimeSpan {
    /// At this moment or later.
    pub after: Option<RuleMoment>,
    /// Before this moment.
    pub before: Option<RuleMoment>,
}

/// A relation that a count or a sum must have to the rule's number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmountCondition {
    /// The relation to the rule's number.
    pub comparison: ComparisonOperator,
    /// The number in the rule.
    pub number: f64,
}

/// The tests that an event's properties must pass for it to count, by path.
pub(super) type PropertyFilter = BTreeMap<Vec<String>, Vec<RuleValueTest>>;

/// A condition on a person's events of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct EventCondition {
    /// The event's name: a track's, or the kind of the others.
    pub event: String,
    /// Only events that pass these tests count.
    pub filter: PropertyFilter,
    /// Only events of this long until now count.
    pub within: Option<Duration>,
    /// The condition on their number.
    pub count: Option<AmountCondition>,
    /// The condition on the sum of their values.
    pub sum: Option<AmountCondition>,
    /// The allowed times of the first event.
    pub first: RuleTimeSpan,
    /// The allowed times of the last event.
    pub last: RuleTimeSpan,
}

impl ComparisonOperator {
    /// Every relation with its sign in rules.
    pub const ALL: [(&str, Self); 6] = [
        ("=", Self::Equal),
        ("!=", Self::Unequal),
        ("<", Self::Less),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        (">=", Self::GreaterOrEqual),
    ];

    /// Returns the sign, the same in a rule and in SQL.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

impl RuleMoment {
    /// Returns the moment in milliseconds since 1970, for an evaluation at `now_ms`.
    pub fn milliseconds(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(time) => now_ms.saturating_sub(milliseconds(time)),
            Self::At(time) => time.as_millisecond(),
        }
    }
}

impl RuleTimeSpan {
    /// Returns true if it has no bound.
    pub fn is_open(self) -> bool {
        self.after.is_none() && self.before.is_none()
    }
}

/// Converts a duration into milliseconds, saturating at the largest.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// The length of a day in milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;

impl EventCondition {
    /// Returns the name under which such events are counted: the event's own, or one derived from the name and
    /// the filter. It is the same for equal filters, at any time and in any version.
    pub fn key(&self) -> String {
        if self.filter.is_empty() {
            return self.event.clone();
        }
        counter_key(&self.event, &self.filter)
    }

    /// Returns true if a person without such an event satisfies the condition.
    pub(super) fn holds_of_none(&self) -> bool {
        self.first.is_open()
            && self.last.is_open()
            && self.count.is_none_or(|count| count.holds(0.0))
            && self.sum.is_none_or(|sum| sum.holds(0.0))
            && (self.count.is_some() || self.sum.is_some())
    }

    /// Returns true if the only condition is that it happened at all.
    pub(super) fn is_presence(&self) -> bool {
        let once = AmountCondition { comparison: ComparisonOperator::GreaterOrEqual, number: 1.0 };
        let is_bare = self.sum.is_none() && self.first.is_open() && self.last.is_open();
        is_bare && self.count.is_none_or(|count| count == once)
    }

    /// Returns true if the only condition is that it did not happen.
    pub(super) fn is_absence(&self) -> bool {
        let never = AmountCondition { comparison: ComparisonOperator::Equal, number: 0.0 };
        let is_bare = self.sum.is_none() && self.first.is_open() && self.last.is_open();
        is_bare && self.count == Some(never)
    }
}

/// Returns the counter's name for events of this name that pass the filter. U+001F occurs in no name that
/// a person gives, and the digest is too long for a search for a colliding filter.
fn counter_key(event: &str, filter: &PropertyFilter) -> String {
    let mut digest = Sha256::new();
    for (path, tests) in filter {
        let tests: Vec<Value> = tests.iter().map(RuleValueTest::canonical).collect();
        digest.update(Value::from(path.clone()).to_string());
        digest.update(Value::from(tests).to_string());
    }
    let digest = digest.finalize();
    let short: String = hex::encode(digest.get(..16).unwrap_or_default());
    format!("{event}\u{1f}{short}")
}

impl RuleValueTest {
    /// Returns a normal form, equal for equal meanings, from which the names of counters are derived.
    fn canonical(&self) -> Value {
        let moment = |moment: &RuleMoment| match moment {
            RuleMoment::Ago(time) => Value::from(milliseconds(*time)),
            RuleMoment::At(time) => Value::from(time.as_millisecond()),
        };
        let (name, value) = match self {
            Self::Compare(comparison, literal) => (comparison.sign(), literal.value()),
            Self::In(literals) => ("in", literals.iter().map(RuleLiteral::value).collect()),
            Self::Contains(literal) => ("contains", literal.value()),
            Self::StartsWith(text) => ("starts_with", text.clone().into()),
            Self::EndsWith(text) => ("ends_with", text.clone().into()),
            Self::Exists(exists) => ("exists", (*exists).into()),
            Self::Before(time) => ("before", moment(time)),
            Self::After(time) => ("after", moment(time)),
        };
        Value::from(vec![Value::from(name), value])
    }
}

impl RuleLiteral {
    fn value(&self) -> Value {
        match self {
            Self::Text(text) => text.clone().into(),
            Self::Integer(number) => (*number).into(),
            Self::Real(number) => (*number).into(),
            Self::Boolean(value) => (*value).into(),
        }
    }
}

impl SegmentRule {
    /// Returns true if it tests more than a person's identities and traits.
    pub fn needs_activity(&self) -> bool {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().any(Self::needs_activity),
            Self::Not(rule) => rule.needs_activity(),
            Self::Known { place, .. } => *place != ProfilePart::Traits,
            Self::Identity { .. } => false,
            Self::Seen { .. } | Self::Event(_) => true,
        }
    }

    /// Returns the traits and the properties of events that it looks up, from the outermost name.
    pub fn lookups(&self) -> Vec<Vec<String>> {
        let within = |root: &str, path: &[String]| {
            [root.to_owned()].into_iter().chain(path.iter().cloned()).collect()
        };
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().flat_map(Self::lookups).collect(),
            Self::Not(rule) => rule.lookups(),
            Self::Known { place: ProfilePart::Traits, path, .. } => vec![within("traits", path)],
            Self::Event(event) => {
                event.filter.keys().map(|path| within("properties", path)).collect()
            }
            Self::Known { .. } | Self::Identity { .. } | Self::Seen { .. } => Vec::new(),
        }
    }

    /// Returns the names of events whose counts the rule uses, with or without a filter.
    pub(super) fn counted_events(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.each_event(&mut |event| {
            if event.filter.is_empty() {
                names.insert(event.event.clone());
            }
        });
        names
    }

    /// Calls `look` with every event condition of the rule.
    pub fn each_event<'r>(&'r self, look: &mut impl FnMut(&'r EventCondition)) {
        match self {
            Self::All(rules) | Self::Any(rules) => {
                for rule in rules {
                    rule.each_event(look);
                }
            }
            Self::Not(rule) => rule.each_event(look),
            Self::Event(event) => look(event),
            Self::Known { .. } | Self::Identity { .. } | Self::Seen { .. } => {}
        }
    }
}
