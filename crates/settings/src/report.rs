//! The mistakes of one load, in the order of their positions in the files.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use super::headers::{is_within, without_places};

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name, or its replacement (`embedded default`).
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The key's path (`sites[0].hosts`), empty for the file as a whole.
    pub key: String,
    /// The problem, with the value found and the nearest valid name if there is one.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The message for a key that its table does not have.
pub(super) const NO_SETTING: &str = "unknown setting";

/// Collects the mistakes of one load. Reading continues after each.
#[derive(Debug, Default)]
pub struct ConfigErrorReport {
    mistakes: RefCell<Vec<ConfigError>>,
    /// Settings that are read but should be changed.
    warnings: RefCell<Vec<ConfigError>>,
    /// Unreadable tables: further mistakes in them are consequences of one that is noted.
    unread: RefCell<Vec<String>>,
    /// The settings that each table has, by the table's path.
    settings: RefCell<Vec<(String, BTreeSet<String>)>>,
}

impl ConfigErrorReport {
    /// Notes a mistake.
    pub fn add(&self, mistake: ConfigError) {
        let name = without_places(&mistake.key);
        if self.unread.borrow().iter().any(|table| is_within(&name, table)) {
            return;
        }
        let mut mistakes = self.mistakes.borrow_mut();
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }

    /// Notes a warning, once.
    pub(super) fn add_warning(&self, warning: ConfigError) {
        let mut warnings = self.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// The warnings so far, in the order in which they were found.
    pub fn warnings(&self) -> Vec<ConfigError> {
        self.warnings.borrow().clone()
    }

    /// Ignores mistakes in this table from now on.
    pub(super) fn stop_reading(&self, table: String) {
        self.unread.borrow_mut().push(table);
    }

    /// Records the settings that the table at this path has.
    pub(super) fn add_settings(&self, path: &str, names: &BTreeSet<String>) {
        self.settings.borrow_mut().push((path.to_owned(), names.clone()));
    }

    /// The path of the table within, or around, the one at `path` that has this setting. A report that the
    /// setting is missing there is removed.
    pub(super) fn owner_of(&self, name: &str, path: &str) -> Option<String> {
        let settings = self.settings.borrow();
        let within = |(owner, names): &&(String, BTreeSet<String>)| {
            let is_near = owner.rsplit_once('.').is_some_and(|(around, _)| around == path);
            is_near && names.contains(name)
        };
        let owner = settings.iter().find(within).map(|(owner, _)| owner.clone())?;
        let key = format!("{owner}.{name}");
        self.mistakes.borrow_mut().retain(|it| it.key != key || it.message != "is required");
        Some(owner)
    }

    /// Returns true if there are no mistakes.
    pub fn is_empty(&self) -> bool {
        self.mistakes.borrow().is_empty()
    }

    /// The mistakes, by file and line.
    pub fn into_errors(self) -> Vec<ConfigError> {
        let mut mistakes = self.mistakes.into_inner();
        let settings = self.settings.into_inner();
        for mistake in mistakes.iter_mut().filter(|it| it.message == NO_SETTING) {
            let (table, name) = mistake.key.rsplit_once('.').unwrap_or(("", &mistake.key));
            let around = |(owner, names): &&(String, BTreeSet<String>)| {
                names.contains(name)
                    && owner != table
                    && (owner.is_empty() || is_within(table, owner))
            };
            // The nearest enclosing table.
            let owner = settings.iter().filter(around).max_by_key(|(owner, _)| owner.len());
            match owner.map(|(owner, _)| owner.as_str()) {
                Some("") => mistake
                    .message
                    .push_str("; it belongs at the top of the file, before all tables"),
                Some(owner) => {
                    let header = without_places(owner);
                    let header = match owner.ends_with(']') {
                        true => format!("[[{header}]]"),
                        false => format!("[{header}]"),
                    };
                    mistake
                        .message
                        .push_str(&format!("; it belongs in {header}, before the tables in it"));
                }
                None => {}
            }
        }
        mistakes.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        mistakes
    }
}

/// The candidate nearest to the written word, if it is near enough to be a slip.
pub fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(written, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns true if a terminal would obey or hide the character: controls, direction marks, characters
/// without a width.
pub fn can_fool(c: char) -> bool {
    let is_invisible = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    c.is_control() || is_invisible
}

/// A value as a message shows it: one line, cut to a readable length.
pub fn shown(value: &str) -> String {
    const MAX_CHARS: usize = 60;
    let mut text: String = value.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if value.chars().nth(MAX_CHARS).is_some() {
        text.push('…');
    }
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_only() {
        let names = ["hosts", "origins", "cookie_domain"];
        assert_eq!(nearest("host", names), Some("hosts"));
        assert_eq!(nearest("orgins", names), Some("origins"));
        assert_eq!(nearest("cookie-domain", names), Some("cookie_domain"));
        assert_eq!(nearest("zzz", names), None);
    }

    #[test]
    fn shown_values_are_one_bounded_line() {
        assert_eq!(shown("a\nb"), "\"a\\nb\"");
        assert!(shown(&"x".repeat(1000)).chars().count() < 70);
    }
}
