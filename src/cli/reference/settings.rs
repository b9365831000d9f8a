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
    /// The value; that of several lines in one.
    value: String,
    /// True for a value of several lines.
    is_open: bool,
    /// False for a setting that the default file only mentions.
    has_default: bool,
    meaning: String,
    /// The description, for a setting of a table; a file also mentions some in the midst of prose.
    described: Option<&'static Setting>,
    lines: Vec<&'t str>,
}

/// One form of a rule, `{ .. }`, and its meaning.
struct RuleForm<'t> {
    form: String,
    meaning: String,
    lines: Vec<&'t str>,
}

/// One part of the file.
enum FilePart<'t> {
    Setting(SettingRow<'t>),
    /// The header of a table, without the mark of a comment.
    Header(&'t str, &'t str),
    /// The header of a vendor's settings: its name, and the description.
    Vendor(&'t str, &'t str, &'t str),
    Rule(RuleForm<'t>),
    /// A comment.
    Prose(&'t str, &'t str),
    /// A line that separates parts of the file, or an empty one.
    Other(&'t str),
}

/// Returns the parts of `name = value # meaning`, if the line has this form.
fn setting(line: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = line.split_once(" = ")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let is_quoted = name.len() > 2 && name.starts_with('"') && name.ends_with('"');
    if name.is_empty() || !(is_quoted || name.chars().all(is_name)) {
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

/// Returns the end of the value that begins the text: its closing bracket, or the end of the text for a value without
/// brackets. `None` if a bracket is still open.
fn end_of_value(text: &str) -> Option<usize> {
    let (mut depth, mut is_text) = (0_usize, false);
    for (at, c) in text.char_indices() {
        is_text ^= c == '"';
        match c {
            '[' | '{' if !is_text => depth += 1,
            ']' | '}' if !is_text => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + c.len_utf8());
                }
            }
            _ => {}
        }
    }
    (depth == 0).then_some(text.len())
}

/// Returns true if the line is the header of a table. Prose may begin with a table's name as well.
fn is_header(content: &str) -> bool {
    let header = content.split(" #").next().unwrap_or_default();
    content.starts_with('[') && header.trim_end().ends_with(']')
}

/// Reads the parts of the file.
fn parts(text: &str) -> Vec<FilePart<'_>> {
    let mut parts = Vec::new();
    let mut table = described_settings("", None);
    for line in text.lines() {
        if parts.last_mut().is_some_and(|last| continues(last, line)) {
            continue;
        }
        let comment = line.trim_start().strip_prefix('#').map(str::trim);
        let content = comment.unwrap_or(line);
        if is_header(content) {
            let (header, _) = content.split_once('#').unwrap_or((content, ""));
            table = described_settings(header.trim().trim_matches(['[', ']']), None);
            parts.push(FilePart::Header(content, line));
        } else if let Some((vendor, about)) = vendor_header(content) {
            table = described_settings("sites.destinations.settings", Some(vendor));
            parts.push(FilePart::Vendor(vendor, about, line));
        } else if let Some((name, value, meaning)) = setting(content) {
            let described = table.iter().find(|it| it.name == name).copied();
            parts.push(FilePart::Setting(SettingRow {
                name,
                is_open: end_of_value(value).is_none(),
                value: value.to_owned(),
                has_default: comment.is_none(),
                meaning: meaning.to_owned(),
                described,
                lines: vec![line],
            }));
        } else if let Some(form) = comment.filter(|prose| prose.starts_with("{ ")) {
            let mut rule =
                RuleForm { form: String::new(), meaning: String::new(), lines: Vec::new() };
            rule.add(form, line);
            parts.push(FilePart::Rule(rule));
        } else if let Some(prose) = comment.filter(|prose| !prose.starts_with("---")) {
            parts.push(FilePart::Prose(prose, line));
        } else {
            parts.push(FilePart::Other(line));
        }
    }
    parts
}

/// Adds the line to the part before it, if it continues that part's value or meaning.
fn continues<'t>(last: &mut FilePart<'t>, line: &'t str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix('#') else { return false };
    let indent = line.len() - line.trim_start().len();
    let inner_indent = comment.len() - comment.trim_start().len();
    match last {
        FilePart::Setting(row) if end_of_value(&row.value).is_none() => {
            row.value.push(' ');
            row.value.push_str(comment.trim());
            row.lines.push(line);
        }
        FilePart::Setting(row) if indent >= MEANING_COLUMN => {
            row.meaning.push(' ');
            row.meaning.push_str(comment.trim());
            row.lines.push(line);
        }
        FilePart::Rule(rule)
            if end_of_value(&rule.form).is_none() || inner_indent >= MEANING_COLUMN =>
        {
            rule.add(comment.trim(), line);
        }
        _ => return false,
    }
    true
}

impl<'t> RuleForm<'t> {
    /// Adds a line: to the form until that ends, then to the meaning.
    fn add(&mut self, text: &str, line: &'t str) {
        self.lines.push(line);
        let is_open = self.form.is_empty() || end_of_value(&self.form).is_none();
        let part = if is_open { &mut self.form } else { &mut self.meaning };
        if !part.is_empty() {
            part.push(' ');
        }
        part.push_str(text);
        if let Some(end) = end_of_value(&self.form).filter(|_| is_open) {
            let meaning = self.form.split_off(end);
            meaning.trim().clone_into(&mut self.meaning);
        }
    }
}

/// Returns name and description in the header of a vendor's settings: `vendor = "ga4": Google Analytics 4`.
fn vendor_header(content: &str) -> Option<(&str, &str)> {
    content.strip_prefix("vendor = \"")?.split_once("\":")
}

/// Returns the default file with each setting as it is described.
pub(super) fn file() -> String {
    let mut out = String::new();
    for part in parts(EMBEDDED_SETTINGS) {
        match part {
            FilePart::Setting(row) => write_setting(&mut out, &row),
            FilePart::Rule(rule) => write_lines(&mut out, &rule.lines),
            FilePart::Header(_, line)
            | FilePart::Vendor(_, _, line)
            | FilePart::Prose(_, line)
            | FilePart::Other(line) => write_lines(&mut out, &[line]),
        }
    }
    out
}

fn write_lines(out: &mut String, lines: &[&str]) {
    for line in lines {
        out.push_str(line);
        out.push('\n');
    }
}

fn write_setting(out: &mut String, row: &SettingRow<'_>) {
    // A value of several lines, and a setting within prose, are kept as they are; so is the one site of the file, whose values are no defaults.
    let is_own = |it: &Setting| row.has_default && it.default.is_none();
    let described = row.described.filter(|it| !row.is_open && !is_own(it));
    let value = described.and_then(Setting::toml_value);
    let (Some(described), Some(value)) = (described, value) else {
        write_lines(out, &row.lines);
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
    /// The forms of rules, as items of a list.
    rules: Vec<RuleForm<'t>>,
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
            FilePart::Vendor(name, about, _) => {
                page.end_block();
                let _infallible = write!(page.text, "\n### `{name}`\n");
                page.prose.push(about.trim());
            }
            FilePart::Rule(rule) => {
                page.end_prose();
                page.rules.push(rule);
            }
            FilePart::Prose(prose, _) => {
                if !page.rows.is_empty() || !page.rules.is_empty() {
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

    /// Ends a paragraph, a list or a table.
    fn end_block(&mut self) {
        self.end_prose();
        self.end_list();
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
            let doc = row.described.map(|it| it.doc).unwrap_or_default();
            let meaning = if row.meaning.is_empty() { doc } else { &row.meaning };
            let values = row.described.map(values).unwrap_or_default();
            let _infallible = writeln!(
                self.text,
                "| `{}` | {} | {} | {} |",
                row.name,
                escaped(&values),
                escaped(&value),
                escaped(meaning)
            );
        }
    }

    fn end_list(&mut self) {
        if !self.rules.is_empty() {
            self.text.push('\n');
        }
        for RuleForm { form, meaning, .. } in self.rules.drain(..) {
            let _infallible = writeln!(self.text, "- `{form}`: {}", escaped(&meaning));
        }
    }

    /// Writes the prose so far; an empty comment separates paragraphs.
    fn end_prose(&mut self) {
        let lines = std::mem::take(&mut self.prose);
        for paragraph in lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty()) {
            let _infallible = write!(self.text, "\n{}\n", escaped(paragraph.join(" ").trim()));
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
        SettingKind::Tree
        | SettingKind::Table(_)
        | SettingKind::TableBy(..)
        | SettingKind::NamedTables(_) => "table".to_owned(),
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

    /// Tables whose rows the file writes for its one site or as free names: nothing describes them.
    const UNDESCRIBED: &[&str] = &["[[sites]]", "[[sites.destinations]]", "pin]"];

    #[test]
    fn each_row_of_the_page_is_described_and_has_a_meaning() {
        let mut header = "";
        for part in parts(EMBEDDED_SETTINGS) {
            match part {
                FilePart::Header(content, _) => header = content,
                FilePart::Setting(row) => {
                    let is_exempt = UNDESCRIBED.iter().any(|it| header.contains(it));
                    assert!(row.described.is_some() || is_exempt, "{header} {}", row.name);
                    let doc = row.described.map(|it| it.doc).unwrap_or_default();
                    let has_meaning = !row.meaning.is_empty() || !doc.is_empty();
                    assert!(has_meaning || is_exempt, "{header} {}", row.name);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn headings_of_the_page_are_names() {
        let page = page();
        for heading in page.lines().filter(|line| line.starts_with('#')) {
            let name = heading.trim_start_matches('#').trim();
            assert!(!name.contains(' '), "{heading}");
        }
        let mut vendors = 0;
        each_described_table(&mut |path, _| {
            if let Some((_, vendor)) = path.split_once(".settings of ") {
                assert!(page.contains(&format!("\n### `{vendor}`\n")), "{vendor}");
                vendors += 1;
            }
        });
        assert!(vendors > 9, "only {vendors} vendors");
    }

    #[test]
    fn value_of_several_lines_is_one_row_and_forms_of_rules_are_a_list() {
        let page = page();
        let rule = "`{ all = [ { event = \"Product Added\", count = \">= 1\", within = \"7d\" },";
        assert!(page.contains(&format!("| `where` | table | none; e.g. {rule}")));
        assert!(page.contains("\n- `{ identity = \"email\" }`: has such an id: user, email,"));
        assert!(!page.contains("| `last` |"));
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
