//! The reader of a single condition.

use serde_json::Value;

use super::parse::{RuleParser, kind_of};
use super::rule::{
    AmountCondition, ComparisonOperator, DAY_MS, EventCondition, ProfilePart, PropertyFilter,
    RuleLiteral, RuleMoment, RuleTimeSpan, RuleValueTest, SegmentRule, milliseconds,
};
use tagway_core::event::JsonObject;
use tagway_settings::{nearest, parse_duration, shown};
use tagway_storage::profile::IdentityKind;

/// The tests that a value can have.
const TESTS: [&str; 13] = [
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "in",
    "contains",
    "starts_with",
    "ends_with",
    "exists",
    "before",
    "after",
];

/// The known members of a device.
const DEVICE_PARTS: [&str; 5] = ["type", "os", "os_version", "browser", "browser_version"];

/// The known members of a place.
const PLACE_PARTS: [&str; 3] = ["country", "region", "city"];

/// The longest name under which the profiles count an event.
const MAX_EVENT_BYTES: usize = 128;

/// The names of a touch's members in a rule, with their paths in the profile; besides these, the click ids.
const TOUCH_PARTS: [(&str, &[&str]); 8] = [
    ("name", &["campaign", "name"]),
    ("source", &["campaign", "source"]),
    ("medium", &["campaign", "medium"]),
    ("term", &["campaign", "term"]),
    ("content", &["campaign", "content"]),
    ("id", &["campaign", "id"]),
    ("referrer", &["referrer"]),
    ("at", &["at"]),
];

/// The prefix of a click id's name.
const CLICK_ID: &str = "click_ids.";

/// Reads a condition of this kind. Returns `None` if it has an error.
pub(super) fn read(reader: &mut RuleParser, kind: &str, table: &JsonObject) -> Option<SegmentRule> {
    let named = table.get(kind)?;
    match kind {
        "identity" => identity(reader, named, table),
        "seen" => seen(reader, named, table),
        "event" => event(reader, named, table),
        _ => known(reader, kind, named, table),
    }
}

fn known(
    reader: &mut RuleParser,
    kind: &str,
    named: &Value,
    table: &JsonObject,
) -> Option<SegmentRule> {
    let mut names = TESTS.to_vec();
    names.push(kind);
    if kind == "campaign" {
        names.push("touch");
    }
    reader.report_unknown_keys(table, &names);
    let (place, path) = match kind {
        "campaign" => (ProfilePart::Touches, touch(reader, named, table)),
        "consent" => (
            ProfilePart::Consent,
            reader.at(kind, |it| it.text(named).and_then(|text| it.key(text))),
        ),
        "device" => (ProfilePart::Device, part(reader, kind, named, &DEVICE_PARTS)),
        "place" => (ProfilePart::Place, part(reader, kind, named, &PLACE_PARTS)),
        _ => {
            let path = reader.at(kind, |it| {
                let text = it.text(named)?;
                if let Some(within) = within_root(text, "traits") {
                    let message = "is relative to the person's traits";
                    it.report_text_error(text, message, Some(within));
                }
                it.keys(text)
            });
            (ProfilePart::Traits, path)
        }
    };
    let mut tests = tests(reader, table, true);
    if tests.is_empty() {
        tests.push(match place {
            ProfilePart::Consent => {
                RuleValueTest::Compare(ComparisonOperator::Equal, RuleLiteral::Boolean(true))
            }
            _ => RuleValueTest::Exists(true),
        });
    }
    Some(SegmentRule::Known { place, path: path?, tests })
}

fn part(reader: &mut RuleParser, kind: &str, named: &Value, parts: &[&str]) -> Option<Vec<String>> {
    reader.at(kind, |reader| Some(vec![reader.word(named, parts)?.to_owned()]))
}

fn touch(reader: &mut RuleParser, named: &Value, table: &JsonObject) -> Option<Vec<String>> {
    let touch = match table.get("touch") {
        Some(touch) => reader.at("touch", |reader| reader.word(touch, &["first", "last"]))?,
        None => "last",
    };
    let click_id = named.as_str().and_then(|text| text.strip_prefix(CLICK_ID));
    if let Some(name) = click_id {
        let name = reader.at("campaign", |reader| reader.key(name))?;
        return Some([touch, "click_ids"].map(str::to_owned).into_iter().chain(name).collect());
    }
    let words = TOUCH_PARTS.map(|(name, _)| name);
    let part = reader.at("campaign", |reader| reader.word(named, &words))?;
    let (_, keys) = TOUCH_PARTS.into_iter().find(|(name, _)| *name == part)?;
    Some([touch].iter().chain(keys).map(|key| (*key).to_owned()).collect())
}

fn identity(reader: &mut RuleParser, named: &Value, table: &JsonObject) -> Option<SegmentRule> {
    reader.report_unknown_keys(table, &["identity", "exists"]);
    let exists = table.get("exists").map(|value| reader.at("exists", |it| it.boolean(value)));
    let kind = reader.at("identity", |reader| {
        let text = reader.text(named)?;
        if IdentityKind::from_name(text).is_some() {
            return Some(text.to_owned());
        }
        let kinds = ["user", "email", "anonymous", "visitor", "ga", "fbp", "device:VENDOR"];
        let message = format!("is not one of {}", kinds.join(", "));
        reader.report_text_error(text, &message, nearest(text, kinds));
        None
    });
    Some(SegmentRule::Identity { kind: kind?, exists: exists.unwrap_or(Some(true))? })
}

fn seen(reader: &mut RuleParser, named: &Value, table: &JsonObject) -> Option<SegmentRule> {
    reader.report_unknown_keys(table, &["seen", "before", "after"]);
    let which = reader.at("seen", |reader| reader.word(named, &["first", "last"]));
    let when = span(reader, table);
    Some(SegmentRule::Seen { first: which? == "first", when })
}

fn span(reader: &mut RuleParser, table: &JsonObject) -> RuleTimeSpan {
    let mut moment =
        |key: &str| table.get(key).and_then(|value| reader.at(key, |it| it.moment(value)));
    RuleTimeSpan { after: moment("after"), before: moment("before") }
}

fn event(reader: &mut RuleParser, named: &Value, table: &JsonObject) -> Option<SegmentRule> {
    let names = ["event", "where", "within", "count", "sum", "first", "last", "never"];
    reader.report_unknown_keys(table, &names);
    let name = reader.at("event", |reader| {
        let name = reader.text(named)?;
        if name.len() > MAX_EVENT_BYTES {
            let message =
                format!("must have {MAX_EVENT_BYTES} bytes at most, as names of events do");
            reader.report_error(message);
        }
        Some(name.to_owned())
    });
    let filter = table.get("where").map(|value| reader.at("where", |it| filter(it, value)));
    let within = table.get("within").map(|value| reader.at("within", |it| window(it, value)));
    let mut amount = |key: &str| {
        let value = table.get(key)?;
        reader.at(key, |reader| amount(reader, value, key == "count"))
    };
    let (mut count, sum) = (amount("count"), amount("sum"));
    let mut when = |key: &str| {
        let Some(value) = table.get(key) else { return RuleTimeSpan::default() };
        reader.at(key, |reader| bounds(reader, value))
    };
    let (first, last) = (when("first"), when("last"));
    if let Some(value) = table.get("never") {
        let others = ["count", "sum", "first", "last"];
        match reader.at("never", |reader| reader.boolean(value)) {
            _ if others.iter().any(|key| table.contains_key(*key)) => {
                reader.at("never", |it| {
                    it.report_error(
                        "must not be combined with count, sum, first or last".to_owned(),
                    )
                });
            }
            Some(true) => {
                count = Some(AmountCondition { comparison: ComparisonOperator::Equal, number: 0.0 })
            }
            Some(false) => {
                reader
                    .at("never", |it| it.report_error("can only be true; leave it out".to_owned()));
            }
            None => {}
        }
    }
    let rule = EventCondition {
        event: name?,
        filter: filter.unwrap_or_default(),
        within: within.flatten(),
        count,
        sum,
        first,
        last,
    };
    let is_of_days = rule.within.is_none_or(|time| milliseconds(time) % DAY_MS == 0);
    if !is_of_days && !rule.is_presence() && !rule.is_absence() {
        let message = "must be whole days, such as \"7d\": counts are kept by the day";
        reader.at("within", |reader| reader.report_error(message.to_owned()));
    }
    Some(SegmentRule::Event(rule))
}

fn window(reader: &mut RuleParser, value: &Value) -> Option<std::time::Duration> {
    let text = reader.text(value)?;
    let time =
        parse_duration(text).filter(|time| !time.is_zero() && time.as_secs() < 3_155_760_000);
    if time.is_none() {
        reader.report_text_error(text, "is not a duration such as \"7d\" or \"12h\"", None);
    }
    time
}

/// Reads `first` or `last` of an event: a table of `before` and `after`.
fn bounds(reader: &mut RuleParser, value: &Value) -> RuleTimeSpan {
    let Some(table) = value.as_object() else {
        let example = "{ after = \"30d\" }";
        reader
            .report_error(format!("expected a table such as {example}, found {}", kind_of(value)));
        return RuleTimeSpan::default();
    };
    reader.report_unknown_keys(table, &["before", "after"]);
    if table.is_empty() {
        reader.report_error("needs before or after".to_owned());
    }
    span(reader, table)
}

/// Reads `">= 2"`, or a number, which means `=`.
fn amount(reader: &mut RuleParser, value: &Value, is_count: bool) -> Option<AmountCondition> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        value => reader.text(value)?.to_owned(),
    };
    reader.count_value();
    let digits = text.trim_start_matches(['=', '!', '<', '>']);
    let sign = text.strip_suffix(digits).unwrap_or_default();
    let comparison = match sign {
        "" => Some(ComparisonOperator::Equal),
        sign => ComparisonOperator::ALL.into_iter().find(|(own, _)| *own == sign).map(|(_, it)| it),
    };
    let number: Option<f64> = digits.trim().parse().ok().filter(|number: &f64| number.is_finite());
    let number = number.filter(|number| !is_count || (*number >= 0.0 && number.fract() == 0.0));
    if let (Some(comparison), Some(number)) = (comparison, number) {
        return Some(AmountCondition { comparison, number });
    }
    let kind = if is_count { "a whole number" } else { "a number" };
    let message = format!("is not a comparison with {kind}, such as \">= 2\"");
    reader.report_text_error(&text, &message, None);
    None
}

/// Reads property filters: a value to be equal to, or a table of tests, by path.
fn filter(reader: &mut RuleParser, value: &Value) -> PropertyFilter {
    let mut filter = PropertyFilter::new();
    let Some(table) = value.as_object() else {
        reader.report_error(format!("expected a table of properties, found {}", kind_of(value)));
        return filter;
    };
    for (key, value) in table {
        reader.at(key, |reader| {
            let path = reader.keys(key);
            if let Some(within) = within_root(key, "properties") {
                let (key, within) = (shown(key), shown(within));
                let message = format!("{key} must be a property of the event: write {within}");
                reader.report_error(message);
            }
            let mut found = match value {
                Value::Object(table) => {
                    reader.report_unknown_keys(table, &TESTS);
                    tests(reader, table, false)
                }
                value => {
                    let literal = literal(reader, value);
                    literal
                        .into_iter()
                        .map(|it| RuleValueTest::Compare(ComparisonOperator::Equal, it))
                        .collect()
                }
            };
            // The same order for the same meaning: the counter's name is derived from it.
            found.sort_by_key(|test| format!("{test:?}"));
            filter.extend(path.map(|path| (path, found)));
        });
    }
    if filter.is_empty() {
        reader.report_error("must name a property".to_owned());
    }
    filter
}

/// Returns the rest of a path that begins with the name of a part of an event or a person, or with a typo of
/// `root`. Paths are looked up within `root` alone, so that such a path would never find anything.
fn within_root<'t>(path: &'t str, root: &str) -> Option<&'t str> {
    const PARTS: [&str; 5] = ["properties", "traits", "context", "facts", "profile"];
    let (first, rest) = path.split_once('.')?;
    // "property" and "train" may well be names of the site's own.
    let most = if root.len() < 8 { 1 } else { 2 };
    let is_slip = strsim::damerau_levenshtein(first, root) <= most;
    (PARTS.contains(&first) || is_slip).then_some(rest)
}

/// Reads the tests of a table. Those of events run when an event is counted, so that a relative time would
/// be another each day.
fn tests(reader: &mut RuleParser, table: &JsonObject, may_be_relative: bool) -> Vec<RuleValueTest> {
    let mut tests = Vec::new();
    for name in TESTS {
        let Some(value) = table.get(name) else { continue };
        tests.extend(reader.at(name, |reader| test(reader, name, value)));
        if let Some(
            RuleValueTest::Before(RuleMoment::Ago(_)) | RuleValueTest::After(RuleMoment::Ago(_)),
        ) = tests.last()
            && !may_be_relative
        {
            reader.at(name, |it| {
                it.report_error("must be a date: events are counted once".to_owned())
            });
        }
    }
    tests
}

fn test(reader: &mut RuleParser, name: &str, value: &Value) -> Option<RuleValueTest> {
    if let Some((_, comparison)) =
        ComparisonOperator::ALL.into_iter().find(|(sign, _)| *sign == name)
    {
        let literal = literal(reader, value)?;
        let is_ordered =
            !matches!(comparison, ComparisonOperator::Equal | ComparisonOperator::Unequal);
        if is_ordered && matches!(literal, RuleLiteral::Boolean(_)) {
            reader.report_error(
                "true and false have no order: compare them with \"=\" or \"!=\"".to_owned(),
            );
            return None;
        }
        return Some(RuleValueTest::Compare(comparison, literal));
    }
    let text = |reader: &mut RuleParser| {
        reader.count_value();
        reader.text(value).map(str::to_owned)
    };
    Some(match name {
        "in" => RuleValueTest::In(list(reader, value)?),
        "contains" => RuleValueTest::Contains(literal(reader, value)?),
        "starts_with" => RuleValueTest::StartsWith(text(reader)?),
        "ends_with" => RuleValueTest::EndsWith(text(reader)?),
        "exists" => RuleValueTest::Exists(reader.boolean(value)?),
        "before" => RuleValueTest::Before(reader.moment(value)?),
        _ => RuleValueTest::After(reader.moment(value)?),
    })
}

fn list(reader: &mut RuleParser, value: &Value) -> Option<Vec<RuleLiteral>> {
    match value.as_array() {
        Some(items) if !items.is_empty() => {
            let items = items.iter().enumerate();
            let read = items.map(|(i, item)| reader.within(i, |it| literal(it, item)));
            read.collect::<Vec<_>>().into_iter().collect()
        }
        Some(_) => {
            reader.report_error("must not be empty".to_owned());
            None
        }
        None => {
            reader.report_error(format!("expected a list of values, found {}", kind_of(value)));
            None
        }
    }
}

fn literal(reader: &mut RuleParser, value: &Value) -> Option<RuleLiteral> {
    reader.count_value();
    match value {
        Value::String(_) => reader.text(value).map(|text| RuleLiteral::Text(text.to_owned())),
        Value::Bool(value) => Some(RuleLiteral::Boolean(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Some(RuleLiteral::Integer(number)),
            None => number.as_f64().map(RuleLiteral::Real),
        },
        other => {
            reader.report_error(format!(
                "expected a text, a number, true or false, found {}",
                kind_of(other)
            ));
            None
        }
    }
}
