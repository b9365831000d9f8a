//! What a rule is made of: a tree of conditions. How it is written is in `parse.rs`; what it means,
//! in the module's own documentation and, executable, in `evaluate.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Conditions and what joins them, nested at most this deep: deeper is a program that wrote it.
pub(super) const MAX_DEPTH: usize = 16;

/// Conditions of one rule: far more than a person reads, and within what SQLite takes in one
/// statement (an expression may be 1000 deep).
pub(super) const MAX_CONDITIONS: usize = 200;

/// Values of one rule, those of its lists included: each is a parameter of the statement, of which
/// SQLite takes 32,766.
pub(super) const MAX_VALUES: usize = 5000;

/// Bytes of one name or value.
pub(super) const MAX_TEXT_BYTES: usize = 1000;

/// Selects people.
#[derive(Clone, Debug, PartialEq)]
pub enum SegmentRule {
    /// All of these hold.
    All(Vec<SegmentRule>),
    /// At least one of these holds.
    Any(Vec<SegmentRule>),
    /// This does not hold.
    Not(Box<SegmentRule>),
    /// Something that is known of the person holds.
    Known {
        /// Where it is kept.
        place: ProfilePart,
        /// The keys to it, from the outermost.
        path: Vec<String>,
        /// All of these hold of the value.
        tests: Vec<RuleValueTest>,
    },
    /// The person is known by an identity of this kind, or is not.
    Identity {
        /// The kind's name, as the profiles keep it.
        kind: String,
        /// Whether there must be one.
        exists: bool,
    },
    /// When the person was seen.
    Seen {
        /// For the first time, rather than the last.
        first: bool,
        /// When.
        when: RuleTimeSpan,
    },
    /// What the person did.
    Event(EventCondition),
}

/// The parts of a profile that hold values under names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfilePart {
    /// What is said of the person.
    Traits,
    /// Categories of consent: true or false.
    Consent,
    /// The device last seen.
    Device,
    /// Where the person seems to be.
    Place,
    /// The first and the last touch.
    Touches,
}

/// What a value must be like.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleValueTest {
    /// In this relation to a value.
    Compare(ComparisonOperator, RuleLiteral),
    /// Equal to one of these.
    In(Vec<RuleLiteral>),
    /// A text that contains this text, or a list with such an element.
    Contains(RuleLiteral),
    /// A text that begins so.
    StartsWith(String),
    /// A text that ends so.
    EndsWith(String),
    /// There is a value, or there is none.
    Exists(bool),
    /// A time before this.
    Before(RuleMoment),
    /// This time or a later one.
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
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// True or false.
    Boolean(bool),
}

/// A moment, perhaps relative to when the rule is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleMoment {
    /// This long ago.
    Ago(Duration),
    /// Always the same.
    At(Timestamp),
}

/// Between two moments, either of which may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleTimeSpan {
    /// At this moment or later.
    pub after: Option<RuleMoment>,
    /// Before this moment.
    pub before: Option<RuleMoment>,
}

/// A number of times, or an amount, and how it must relate to one of the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AmountCondition {
    /// The relation.
    pub comparison: ComparisonOperator,
    /// The rule's number.
    pub number: f64,
}

/// What of an event's properties must hold for it to count: by path.
pub(super) type PropertyFilter = BTreeMap<Vec<String>, Vec<RuleValueTest>>;

/// What a person did, and how often.
#[derive(Clone, Debug, PartialEq)]
pub struct EventCondition {
    /// The event's name: a track's, or the kind of the others.
    pub event: String,
    /// Only events of which this holds.
    pub filter: PropertyFilter,
    /// Only events of this long until now.
    pub within: Option<Duration>,
    /// How often it happened.
    pub count: Option<AmountCondition>,
    /// What their values add up to.
    pub sum: Option<AmountCondition>,
    /// When it happened first.
    pub first: RuleTimeSpan,
    /// When it happened last.
    pub last: RuleTimeSpan,
}

impl ComparisonOperator {
    /// Every relation as it is written.
    pub const ALL: [(&str, Self); 6] = [
        ("=", Self::Equal),
        ("!=", Self::Unequal),
        ("<", Self::Less),
        ("<=", Self::LessOrEqual),
        (">", Self::Greater),
        (">=", Self::GreaterOrEqual),
    ];

    /// As it is written, in a rule and in SQL alike.
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
    /// The moment in milliseconds since 1970, for who asks at `now_ms`.
    pub fn milliseconds(self, now_ms: i64) -> i64 {
        match self {
            Self::Ago(time) => now_ms.saturating_sub(milliseconds(time)),
            Self::At(time) => time.as_millisecond(),
        }
    }
}

impl RuleTimeSpan {
    /// Whether it says nothing.
    pub fn is_open(self) -> bool {
        self.after.is_none() && self.before.is_none()
    }
}

/// A time in milliseconds, as far as they go.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A day in milliseconds.
pub(super) const DAY_MS: i64 = 86_400_000;

impl EventCondition {
    /// The name under which such events are counted: the event's own, or one that stands for it and
    /// the filter. It is the same for equal filters, at any time and in any version.
    pub fn key(&self) -> String {
        if self.filter.is_empty() {
            return self.event.clone();
        }
        counter_key(&self.event, &self.filter)
    }

    /// Whether a person who never did it satisfies the rule.
    pub(super) fn holds_of_none(&self) -> bool {
        self.first.is_open()
            && self.last.is_open()
            && self.count.is_none_or(|count| count.holds(0.0))
            && self.sum.is_none_or(|sum| sum.holds(0.0))
            && (self.count.is_some() || self.sum.is_some())
    }

    /// Whether only this matters: that it happened at all.
    pub(super) fn is_presence(&self) -> bool {
        let once = AmountCondition { comparison: ComparisonOperator::GreaterOrEqual, number: 1.0 };
        let is_bare = self.sum.is_none() && self.first.is_open() && self.last.is_open();
        is_bare && self.count.is_none_or(|count| count == once)
    }

    /// Whether only this matters: that it did not happen.
    pub(super) fn is_absence(&self) -> bool {
        let never = AmountCondition { comparison: ComparisonOperator::Equal, number: 0.0 };
        let is_bare = self.sum.is_none() && self.first.is_open() && self.last.is_open();
        is_bare && self.count == Some(never)
    }
}

/// The name for events of this name that pass the filter. U+001F stands in no name that a person
/// gives, and the digest is long enough that nobody finds a second filter for it.
fn counter_key(event: &str, filter: &PropertyFilter) -> String {
    let mut digest = Sha256::new();
    for (path, tests) in filter {
        let tests: Vec<Value> = tests.iter().map(RuleValueTest::canonical).collect();
        digest.update(Value::from(path.clone()).to_string());
        digest.update(Value::from(tests).to_string());
    }
    let digest = digest.finalize();
    let short: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{event}\u{1f}{short}")
}

impl RuleValueTest {
    /// One form for one meaning, from which the names of counters are made.
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
    /// Whether it asks for anything but who a person is and what is said of them.
    pub fn needs_activity(&self) -> bool {
        match self {
            Self::All(rules) | Self::Any(rules) => rules.iter().any(Self::needs_activity),
            Self::Not(rule) => rule.needs_activity(),
            Self::Known { place, .. } => *place != ProfilePart::Traits,
            Self::Identity { .. } => false,
            Self::Seen { .. } | Self::Event(_) => true,
        }
    }

    /// The traits and the properties of events that it looks up, from the outermost name.
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

    /// The names of events whose counts the rule asks for, whatever they say.
    pub(super) fn counted_events(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.each_event(&mut |event| {
            if event.filter.is_empty() {
                names.insert(event.event.clone());
            }
        });
        names
    }

    /// Calls `look` with every event that the rule asks for.
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
