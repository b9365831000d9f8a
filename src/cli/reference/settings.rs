//! The page of all settings, and the default file itself. Names, values, defaults and meanings come from the described
//! settings; the default file has their order, and the prose between them. It is written for people, and tests check its
//! form: a setting is `name = value # meaning`, an indented comment continues the meaning, `# name = value` is a setting
//! without a default.

use std::fmt::Write as _;

use crate::config::{EMBEDDED_SETTINGS, described_settings};
use tagway_settings::{Setting, SettingKind};

/// A comment at or beyond this column belongs to the setting above it.
const MEANING_COLUMN: usize = 20;

/// The column at which meanings are written.
const COMMENT_COLUMN: usize = 33;

/// The longest line of the file, in characters.
const MAX_COLUMNS: usize = 118;

/// One setting of the file.
struct SettingRow<'t> {
    name: &'t str,
    value: &'t str,
    /// False for a setting that the default file only mentions.
    has_default: bool,
    meaning: String,
    /// The description, for a setting of a table; a file also mentions some in the midst of prose.
    described: Option<&'static Setting>,
    lines: Vec<&'t str>,
}

/// One part of the file.
enum FilePart<'t> {
    Setting(SettingRow<'t>),
    /// The header of a table, without the mark of a comment.
    Header(&'t str, &'t str),
    /// A comment.
    Prose(&'t str, &'t str),
    /// A line that separates parts of the file, or an empty one, or one that continues a value.
    Other(&'t str),
}

/// Returns the parts of `name = value # meaning`, if the line has this form.
fn setting(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once(" = ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '"' | '-');
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    // The first mark of a comment that is not within a string.
    let mut is_text = false;
    let mark = rest.char_indices().find(|(_, c)| {
        is_text ^= *c == '"';
        *c == '#' && !is_text
    });
    let (value, meaning) = match mark {
        Some((at, _)) => rest.split_at(at),
        None => (rest, ""),
    };
    Some((name, value.trim(), meaning.trim_start_matches('#').trim()))
}

/// Reads the parts of the file.
fn parts(text: &str) -> Vec<FilePart<'_>> {
    let mut parts = Vec::new();
    let mut table = described_settings("", None);
    for line in text.lines() {
        let comment = line.trim_start().strip_prefix('#').map(str::trim);
        let indent = line.len() - line.trim_start().len();
        if let (Some(more), Some(FilePart::Setting(row))) = (comment, parts.last_mut())
            && indent >= MEANING_COLUMN
        {
            row.meaning.push(' ');
            row.meaning.push_str(more);
            row.lines.push(line);
            continue;
        }
        let content = comment.unwrap_or(line);
        if content.starts_with('[') && content.contains(']') {
            let (header, _) = content.split_once('#').unwrap_or((content, ""));
            table = described_settings(header.trim().trim_matches(['[', ']']), None);
            parts.push(FilePart::Header(content, line));
        } else if let Some(vendor) = vendor_header(content) {
            table = described_settings("sites.destinations.settings", Some(vendor));
            parts.push(FilePart::Prose(content, line));
        } else if let Some((name, value, meaning)) = setting(content) {
            let described = table.iter().find(|it| it.name == name).copied();
            let (has_default, meaning) = (comment.is_none(), meaning.to_owned());
            let lines = vec![line];
            parts.push(FilePart::Setting(SettingRow {
                name,
                value,
                has_default,
                meaning,
                described,
                lines,
            }));
        } else if let Some(prose) = comment.filter(|prose| !prose.starts_with("---")) {
            parts.push(FilePart::Prose(prose, line));
        } else {
            parts.push(FilePart::Other(line));
        }
    }
    parts
}

/// Returns the vendor's name in the header of its settings: `vendor = "ga4": Google Analytics 4`.
fn vendor_header(content: &str) -> Option<&str> {
    content.strip_prefix("vendor = \"")?.split_once("\":").map(|(name, _)| name)
}

/// Returns the default file with each setting as it is described.
pub(super) fn file() -> String {
    let mut out = String::new();
    for part in parts(EMBEDDED_SETTINGS) {
        match part {
            FilePart::Setting(row) => write_setting(&mut out, &row),
            FilePart::Header(_, line) | FilePart::Prose(_, line) | FilePart::Other(line) => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

fn write_setting(out: &mut String, row: &SettingRow<'_>) {
    // A value of several lines, and a setting within prose, are kept as they are.
    let is_open = row.value.ends_with(['[', '{']);
    // So is the one site of the file, whose values are no defaults.
    let is_own = |it: &Setting| row.has_default && it.default.is_none();
    let described = row.described.filter(|it| !is_open && !is_own(it));
    let value = described.and_then(Setting::toml_value);
    let (Some(described), Some(value)) = (described, value) else {
        for line in &row.lines {
            out.push_str(line);
            out.push('\n');
        }
        return;
    };
    let mark = if row.has_default { "" } else { "# " };
    let mut line = format!("{mark}{} = {value}", row.name);
    if described.doc.is_empty() {
        let _infallible = writeln!(out, "{line}");
        return;
    }
    line = format!("{line:<width$}#", width = COMMENT_COLUMN.max(line.chars().count() + 1));
    for word in described.doc.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > MAX_COLUMNS {
            let _infallible = writeln!(out, "{line}");
            line = format!("{:COMMENT_COLUMN$}#", "");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _infallible = writeln!(out, "{line}");
}

/// The page under construction.
#[derive(Default)]
struct SettingsPage<'t> {
    text: String,
    prose: Vec<&'t str>,
    rows: Vec<SettingRow<'t>>,
}

pub(super) fn page() -> String {
    let mut page = SettingsPage {
        text: "# Settings\n\n\
               Generated by `tagway reference settings` from the default configuration, `config/tagway.toml`. \
               A setting without a default is shown with an example. `tagway schema` prints the same as a JSON Schema, \
               with which editors complete and check the file.\n"
            .to_owned(),
        ..SettingsPage::default()
    };
    for part in parts(EMBEDDED_SETTINGS) {
        match part {
            FilePart::Header(header, _) => page.start_table(header),
            FilePart::Prose(prose, _) => {
                if !page.rows.is_empty() {
                    page.end_block();
                }
                page.prose.push(prose);
            }
            FilePart::Setting(row) => {
                if page.rows.is_empty() {
                    page.end_prose();
                }
                page.rows.push(row);
            }
            FilePart::Other(_) => page.end_block(),
        }
    }
    page.end_block();
    page.text
}

impl SettingsPage<'_> {
    fn start_table(&mut self, header: &str) {
        // Prose directly above a header is about its table.
        let prose = std::mem::take(&mut self.prose);
        self.end_block();
        let (name, meaning) = header.split_once('#').unwrap_or((header, ""));
        let _infallible = write!(self.text, "\n## `{}`\n", name.trim());
        self.prose = prose;
        self.end_prose();
        if !meaning.trim().is_empty() {
            let _infallible = write!(self.text, "\n{}\n", escaped(meaning.trim()));
        }
    }

    /// Ends a paragraph, or a table.
    fn end_block(&mut self) {
        self.end_prose();
        if self.rows.is_empty() {
            return;
        }
        self.text.push_str("\n| setting | values | default | meaning |\n|---|---|---|---|\n");
        for row in self.rows.drain(..) {
            let value =
                match row.has_default || row.described.is_some_and(|it| it.default.is_some()) {
                    true => format!("`{}`", row.value),
                    false => format!("none; e.g. `{}`", row.value),
                };
            let values = row.described.map(values).unwrap_or_default();
            let _infallible = writeln!(
                self.text,
                "| `{}` | {} | {} | {} |",
                row.name,
                escaped(&values),
                escaped(&value),
                escaped(&row.meaning)
            );
        }
    }

    fn end_prose(&mut self) {
        let prose = std::mem::take(&mut self.prose).join(" ");
        if !prose.trim().is_empty() {
            let _infallible = write!(self.text, "\n{}\n", escaped(prose.trim()));
        }
    }
}

/// Returns the values that a setting takes, in words.
fn values(setting: &Setting) -> String {
    match setting.kind {
        SettingKind::Text => "text".to_owned(),
        SettingKind::Secret => "secret text".to_owned(),
        SettingKind::Path => "path".to_owned(),
        SettingKind::Form(form) => form.to_owned(),
        SettingKind::Word(words) => words.join(", "),
        SettingKind::Boolean => "true, false".to_owned(),
        SettingKind::Integer(min, i64::MAX) => format!("number from {min}"),
        SettingKind::Integer(min, max) => format!("{min} to {max}"),
        SettingKind::Number(min, max) => format!("{min} to {max}"),
        SettingKind::Duration => "duration".to_owned(),
        SettingKind::PositiveDuration => "duration above zero".to_owned(),
        SettingKind::Size => "size".to_owned(),
        SettingKind::Texts => "texts".to_owned(),
        SettingKind::Secrets => "secret texts".to_owned(),
        SettingKind::TextTable | SettingKind::HeaderTable => "table of texts".to_owned(),
        SettingKind::Tree => "see below".to_owned(),
        SettingKind::Table(_) | SettingKind::TableBy(..) | SettingKind::NamedTables(_) => {
            "table".to_owned()
        }
        SettingKind::Tables(_) => "list of tables".to_owned(),
    }
}

/// A text within Markdown: bars would end a cell, and angle brackets would be tags.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::each_described_table;

    #[test]
    fn every_setting_of_the_default_file_is_on_the_page() {
        let page = page();
        for line in EMBEDDED_SETTINGS.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, value, _)) = setting(line) {
                assert!(page.contains(&format!("| `{name}` | ")), "{name}");
                assert!(page.contains(&format!(" | `{}` |", escaped(value))), "{value}");
            }
        }
    }

    #[test]
    fn default_file_has_each_described_setting_as_it_is_described() {
        assert!(file() == EMBEDDED_SETTINGS, "run: tagway reference config > config/tagway.toml");
        let key = |it: &Setting| (it.name, it.doc);
        let shown: BTreeSet<(&str, &str)> = parts(EMBEDDED_SETTINGS)
            .iter()
            .filter_map(|part| match part {
                FilePart::Setting(row) => row.described.map(key),
                _ => None,
            })
            .collect();
        let mut missing = Vec::new();
        each_described_table(&mut |path, settings| {
            for setting in settings.iter().filter(|it| it.toml_value().is_some()) {
                if !shown.contains(&key(setting)) {
                    missing.push(format!("{path}.{}", setting.name));
                }
            }
        });
        assert!(missing.is_empty(), "not in config/tagway.toml: {missing:?}");
    }

    #[test]
    fn a_line_is_a_setting_only_in_the_form_of_one() {
        assert_eq!(setting("a = \"#1\"   # says"), Some(("a", "\"#1\"", "says")));
        assert_eq!(
            setting("profile.activity = { x = 1 }"),
            Some(("profile.activity", "{ x = 1 }", ""))
        );
        assert_eq!(setting("Here a = 1 is prose"), None);
        assert_eq!(setting("no value"), None);
    }
}
