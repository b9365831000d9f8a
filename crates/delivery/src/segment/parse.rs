//! The syntax of rules, in TOML and in JSON alike. Reading goes on after an error, so that all errors are
//! reported together, each with the path to it.

use std::fmt::{self, Display};

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;

use super::condition;
use super::rule::{MAX_CONDITIONS, MAX_DEPTH, MAX_TEXT_BYTES, MAX_VALUES, RuleMoment, SegmentRule};
use tagway_core::event::JsonObject;
use tagway_settings::{SettingStep, nearest, parse_duration, shown};

/// The keys that determine the kind of a rule's part.
const KINDS: [&str; 11] = [
    "all", "any", "not", "trait", "identity", "consent", "device", "place", "campaign", "seen",
    "event",
];

/// The longest time back in a rule. With it, dates stay within four digits of a year.
const MAX_AGO_DAYS: u64 = 36_525;

/// One error in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleParseError {
    /// The path to it in the rule.
    pub path: Vec<SettingStep>,
    /// The error message.
    pub message: String,
    /// The wrong value, as a message shows it. A configuration shows its file's text instead: a completed
    /// text may be a secret.
    pub seen: Option<String>,
    /// The value that was probably meant.
    pub suggestion: Option<String>,
}

impl Display for RuleParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", SettingStep::join("where", &self.path))?;
        if let Some(seen) = &self.seen {
            write!(f, "{seen} ")?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(better) => write!(f, "; did you mean \"{better}\"?"),
            None => Ok(()),
        }
    }
}

impl SegmentRule {
    /// Reads a rule.
    ///
    /// # Errors
    ///
    /// Returns all errors in the rule.
    pub fn parse(value: &Value) -> Result<Self, Vec<RuleParseError>> {
        let mut reader = RuleParser::default();
        let rule = reader.rule(value, 1);
        if reader.mistakes.is_empty() { Ok(rule) } else { Err(reader.mistakes) }
    }
}

/// Reads a rule and collects its errors.
#[derive(Debug, Default)]
pub(super) struct RuleParser {
    mistakes: Vec<RuleParseError>,
    path: Vec<SettingStep>,
    conditions: usize,
    values: usize,
}

/// The placeholder for a part with an error; it is never evaluated.
const PLACEHOLDER_RULE: SegmentRule = SegmentRule::All(Vec::new());

impl RuleParser {
    fn rule(&mut self, value: &Value, depth: usize) -> SegmentRule {
        if depth > MAX_DEPTH {
            self.report_error(format!("is nested deeper than {MAX_DEPTH}"));
            return PLACEHOLDER_RULE;
        }
        let Some(table) = value.as_object() else {
            self.report_error(format!("expected a table, found {}", kind_of(value)));
            return PLACEHOLDER_RULE;
        };
        let mut kinds = table.iter().filter(|(key, _)| KINDS.contains(&key.as_str()));
        let (kind, inner) = match (kinds.next(), kinds.next()) {
            (Some(kind), None) => kind,
            (Some((first, _)), Some((second, _))) => {
                let advice = "use all or any to join conditions";
                self.report_error(format!("has both \"{first}\" and \"{second}\": {advice}"));
                return PLACEHOLDER_RULE;
            }
            (None, _) => {
                self.report_no_kind(table);
                return PLACEHOLDER_RULE;
            }
        };
        match kind.as_str() {
            "all" | "any" => {
                self.report_unknown_keys(table, &[kind]);
                let rules = self.at(kind, |reader| reader.list(inner, depth));
                if kind == "all" { SegmentRule::All(rules) } else { SegmentRule::Any(rules) }
            }
            "not" => {
                self.report_unknown_keys(table, &[kind]);
                SegmentRule::Not(Box::new(self.at(kind, |reader| reader.rule(inner, depth + 1))))
            }
            _ => {
                self.conditions += 1;
                if self.conditions == MAX_CONDITIONS + 1 {
                    self.report_error(format!(
                        "the rule has more than {MAX_CONDITIONS} conditions"
                    ));
                }
                if self.conditions > MAX_CONDITIONS {
                    return PLACEHOLDER_RULE;
                }
                condition::read(self, kind, table).unwrap_or(PLACEHOLDER_RULE)
            }
        }
    }

    fn list(&mut self, value: &Value, depth: usize) -> Vec<SegmentRule> {
        match value.as_array() {
            Some(items) if !items.is_empty() => {
                let items = items.iter().enumerate();
                items.map(|(i, item)| self.within(i, |it| it.rule(item, depth + 1))).collect()
            }
            Some(_) => {
                self.report_error("must not be empty".to_owned());
                Vec::new()
            }
            None => {
                self.report_error(format!(
                    "expected a list of conditions, found {}",
                    kind_of(value)
                ));
                Vec::new()
            }
        }
    }

    fn report_no_kind(&mut self, table: &JsonObject) {
        let slip = table.keys().find_map(|key| Some((key, nearest(key, KINDS)?)));
        match slip {
            Some((key, better)) => {
                let message = format!("unknown condition; did you mean \"{better}\"?");
                self.at(key, |reader| reader.report_error(message));
            }
            None => self.report_error(format!("a condition has one of {}", KINDS.join(", "))),
        }
    }

    /// Reports keys that the table does not have.
    pub(super) fn report_unknown_keys(&mut self, table: &JsonObject, names: &[&str]) {
        for key in table.keys().filter(|key| !names.contains(&key.as_str())) {
            let hint = nearest(key, names.iter().copied());
            let hint = hint.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
            self.at(key, |reader| reader.report_error(format!("unknown key{hint}")));
        }
    }

    /// Reads the value under a key.
    pub(super) fn at<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.step(SettingStep::Key(key.to_owned()), read)
    }

    /// Reads the value at a place of a list.
    pub(super) fn within<T>(&mut self, index: usize, read: impl FnOnce(&mut Self) -> T) -> T {
        self.step(SettingStep::Index(index), read)
    }

    fn step<T>(&mut self, step: SettingStep, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(step);
        let result = read(self);
        self.path.pop();
        result
    }

    /// Reports an error here.
    pub(super) fn report_error(&mut self, message: String) {
        let path = self.path.clone();
        self.mistakes.push(RuleParseError { path, message, seen: None, suggestion: None });
    }

    /// Reports an error about the text here.
    pub(super) fn report_text_error(&mut self, text: &str, message: &str, better: Option<&str>) {
        self.mistakes.push(RuleParseError {
            path: self.path.clone(),
            message: message.to_owned(),
            seen: Some(shown(text)),
            suggestion: better.map(str::to_owned),
        });
    }

    /// Reads a text that is neither empty nor too long.
    pub(super) fn text<'v>(&mut self, value: &'v Value) -> Option<&'v str> {
        let Some(text) = value.as_str() else {
            self.report_error(format!("expected a string, found {}", kind_of(value)));
            return None;
        };
        if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.contains('\0') {
            self.report_error(format!("must be 1 to {MAX_TEXT_BYTES} bytes, without NUL bytes"));
            return None;
        }
        Some(text)
    }

    /// Reads a text out of a closed list.
    pub(super) fn word<'v>(&mut self, value: &'v Value, words: &[&str]) -> Option<&'v str> {
        let text = self.text(value)?;
        if words.contains(&text) {
            return Some(text);
        }
        let message = format!("is not one of {}", words.join(", "));
        self.report_text_error(text, &message, nearest(text, words.iter().copied()));
        None
    }

    /// Reads true or false.
    pub(super) fn boolean(&mut self, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.report_error(format!("expected true or false, found {}", kind_of(value)));
        }
        value.as_bool()
    }

    /// Splits a path with dots into its keys.
    pub(super) fn keys(&mut self, text: &str) -> Option<Vec<String>> {
        // These would need escapes in the paths of SQL's JSON functions, which databases read
        // differently.
        let is_plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\');
        let keys: Vec<String> = text.split('.').map(str::to_owned).collect();
        if keys.iter().any(String::is_empty)
            || keys.len() > MAX_DEPTH
            || !text.chars().all(is_plain)
        {
            let message =
                "is not a path: a path is names joined by dots, without quotes and backslashes";
            self.report_text_error(text, message, None);
            return None;
        }
        Some(keys)
    }

    /// Reads a path without dots as one key.
    pub(super) fn key(&mut self, text: &str) -> Option<Vec<String>> {
        let is_plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\');
        if text.is_empty() || !text.chars().all(is_plain) {
            self.report_text_error(
                text,
                "is not a name: it has quotes or backslashes, or is empty",
                None,
            );
            return None;
        }
        Some(vec![text.to_owned()])
    }

    /// Reads a moment: a time ago, a date, or a time of RFC 3339.
    pub(super) fn moment(&mut self, value: &Value) -> Option<RuleMoment> {
        let text = self.text(value)?;
        let is_near = |time: &std::time::Duration| time.as_secs() / 86_400 <= MAX_AGO_DAYS;
        let date = || text.parse::<Date>().ok().filter(|_| text.len() == "YYYY-MM-DD".len());
        let midnight = |date: Date| date.at(0, 0, 0, 0).in_tz("UTC").ok().map(|at| at.timestamp());
        let time = || text.parse::<Timestamp>().ok().filter(|_| !text.starts_with(['-', '+']));
        let moment = match parse_duration(text).filter(is_near) {
            Some(time) => Some(RuleMoment::Ago(time)),
            None => date().and_then(midnight).or_else(time).map(RuleMoment::At),
        };
        if moment.is_none() {
            let message = "must be a time ago such as \"30d\" (36525d at most), a date such as \
            \"2026-01-31\", or a time such as \"2026-01-31T09:00:00Z\"";
            self.report_text_error(text, message, None);
        }
        moment
    }

    /// Counts a value of the rule.
    pub(super) fn count_value(&mut self) {
        self.values += 1;
        if self.values == MAX_VALUES + 1 {
            self.report_error(format!("the rule has more than {MAX_VALUES} values"));
        }
    }
}

/// Returns the name of a value's type for messages: the value itself may be a secret.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}
